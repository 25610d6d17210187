"""Times and rates of files that state them wrongly: ticks for rates, jitter, doubled stamps, tracks that outlast the picture."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtpose.errors import EndedEarly, InputError
from rtpose.export.motion import points_at, steady_times
from rtpose.frame_rate import nominal_rate, plausible_rate
from rtpose.refine import refine
from rtpose.runs import read_run
from rtpose.sinks.data import JsonLinesSink, Provenance, read_results
from rtpose.sinks.spool import SpoolSink
from rtpose.sinks.video import VideoSink
from rtpose.source import _Clock, _LiveClock, open_source
from rtpose.types import KEYPOINT_NAMES, Frame, Result

from .media import make_clip, number_of, times_of

NTSC_FILM, NTSC, NTSC_FAST = Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)
RATES = [Fraction(3, 2), Fraction(5), Fraction(12), NTSC_FILM, Fraction(24), Fraction(25), NTSC, Fraction(30), Fraction(50), NTSC_FAST,
         Fraction(60), Fraction(120)]  # fmt: skip


def ticks_at(rate: Fraction | int, count: int, tick: Fraction, jitter: float = 0.0) -> list[int]:
    """When frames come, in ticks; jitter: seconds by which each may be late."""
    late = np.random.default_rng(0).uniform(0, jitter, count)
    return [round((k / float(rate) + late[k]) / float(tick)) for k in range(count)]


def read(path: Path) -> tuple[list[Frame], EndedEarly | None]:
    frames: list[Frame] = []
    try:
        frames.extend(open_source(path).frames())
    except EndedEarly as early:
        return frames, early
    return frames, None


# --- rates ---


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("tick", [Fraction(1, 1000), Fraction(1, 600), Fraction(1, 90_000), Fraction(1, 10_000_000)])
def test_rounded_times_have_the_rate_that_was_rounded(rate: Fraction, tick: Fraction) -> None:
    times = [k * float(tick) for k in ticks_at(rate, 150, tick)]
    assert nominal_rate(times) == rate
    assert nominal_rate([time + 95443.7 for time in times]) == rate
    assert nominal_rate([*times[:40], times[39] + 11e-6, *times[40:]]) == rate, "a pair close together"
    assert nominal_rate([time for k, time in enumerate(times) if k % 37]) == rate, "frames are missing"
    assert nominal_rate(times, [2 * rate]) == rate, "a container that counts fields"


@pytest.mark.parametrize("rate", [15, 24, 25, 30, 50])
def test_jitter_averages_out(rate: int) -> None:
    times = [k / 1000 for k in ticks_at(rate, 300, Fraction(1, 1000), 0.009)]
    assert float(nominal_rate(times) or 0) == pytest.approx(rate, rel=0.005)


def test_times_without_a_rate() -> None:
    assert nominal_rate([]) is None
    assert nominal_rate([1.5, 1.5]) is None
    assert nominal_rate([0, 0.04]) == 25
    slow = nominal_rate([0, 3600, 9000])
    assert slow is not None
    assert 0 < slow < Fraction(1, 500)
    varying = nominal_rate(np.cumsum([0.02, 0.05, 0.03] * 40))
    assert varying is not None
    assert 20 < varying < 45


def test_a_rate_that_is_that_of_the_ticks_is_not_believed() -> None:
    assert plausible_rate(Fraction(90_000), Fraction(1000), Fraction(240)) == 240
    assert plausible_rate(Fraction(90_000), None, Fraction(0)) is None


@pytest.mark.parametrize(
    ("name", "tick", "stated"),
    [("clip.mkv", Fraction(1, 1000), 1000), ("clip.mkv", Fraction(1, 90_000), 90_000), ("clip.ts", Fraction(1, 90_000), 90_000)],
)
@pytest.mark.parametrize("jitter", [0.0, 0.009])
def test_a_file_has_the_rate_of_its_frames(tmp_path: Path, name: str, tick: Fraction, stated: int, jitter: float) -> None:
    make_clip(tmp_path / name, ticks_at(24, 100, tick, jitter), time_base=tick, rate=stated)
    source = open_source(tmp_path / name)
    assert source.info.rate == pytest.approx(24, rel=0.01 if jitter else 1e-9)
    frames = list(source.frames())
    assert [number_of(frame.image) for frame in frames] == list(range(100))
    assert source.info.frames == pytest.approx(100, abs=3)


def test_a_file_that_counts_as_60_and_has_30(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", ticks_at(30, 60, Fraction(1, 1000)), time_base=Fraction(1, 1000), rate=60)
    assert open_source(tmp_path / "clip.mkv").info.rate == 30


def write_run(path: Path, times: Sequence[float], ids: Sequence[int] = (), **header: Any) -> None:
    """A results file without pictures: person 1 in the records `ids`."""
    first = {"rtpose": 1, "source": "none.mkv", "width": 64, "height": 48, "keypoint_names": KEYPOINT_NAMES, "models": {},
             "mode": "offline", **header}  # fmt: skip
    person = {"id": 1, "box": [0, 0, 9, 9], "score": 1, "keypoints": [[1, 2, 1]] * 17, "status": ["measured"] * 17}
    lines = [first, *({"frame": k, "time": t, "people": [person] if k in ids else []} for k, t in enumerate(times))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("rate", [NTSC_FILM, Fraction(24), Fraction(25), Fraction(30), Fraction(60)])
@pytest.mark.parametrize("header", [{}, {"rate": 90.0}])
def test_a_run_in_milliseconds_has_the_rate_of_all_its_times(tmp_path: Path, rate: Fraction, header: dict[str, float]) -> None:
    times = [tick / 1000 for tick in ticks_at(rate, 97, Fraction(1, 1000))]
    write_run(tmp_path / "run.jsonl", times, range(10, 20), **header)
    run = read_run(tmp_path / "run.jsonl")
    assert run.rate == float(rate)
    steady = steady_times(run, run.rate)
    assert len(steady) == len(times)
    assert steady == pytest.approx(times, abs=1e-3)
    there = np.isfinite(points_at(run, run.people[1], np.ones((10, 1, 3)), steady)[:, 0, 0])
    assert np.flatnonzero(there).tolist() == list(range(10, 20)), "rounding makes nobody come later or leave sooner"


def test_a_run_without_times_that_show_a_rate_has_that_of_its_header(tmp_path: Path) -> None:
    write_run(tmp_path / "run.jsonl", [0.5], rate=50)
    assert read_run(tmp_path / "run.jsonl").rate == 50
    write_run(tmp_path / "bad.jsonl", [0.5], rate=-50)
    with pytest.raises(InputError, match="line 1"):
        read_run(tmp_path / "bad.jsonl")


def test_the_header_has_the_rate_of_the_frames_and_of_refined_results_that_of_all(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", ticks_at(24, 60, Fraction(1, 1000)), time_base=Fraction(1, 1000), rate=1000)
    source = open_source(tmp_path / "clip.mkv")
    guessed = dataclasses.replace(source.info, rate=Fraction(60))
    for info in (source.info, guessed):
        sink = SpoolSink(tmp_path / "run.jsonl.partial", info, Provenance(), overwrite=True)
        for frame in open_source(tmp_path / "clip.mkv").frames():
            sink.write(Result(frame))
        sink.close()
        assert read_results(tmp_path / "run.jsonl.partial")[0].rate == float(info.rate)
        refine(tmp_path / "run.jsonl.partial", tmp_path / "run.jsonl")
        assert read_results(tmp_path / "run.jsonl")[0].rate == 24
    live = JsonLinesSink(tmp_path / "live.jsonl", dataclasses.replace(guessed, live=True), Provenance())
    live.write(Result(next(source.frames())))
    live.close()
    assert read_results(tmp_path / "live.jsonl")[0].rate is None, "a stream's is a guess"


# --- time stamps ---


def clocked(stamps: Sequence[int | None], rate: int = 25) -> tuple[list[float], _Clock]:
    clock = _Clock(Fraction(1, 1000), Fraction(rate))
    given = list(clock.times(enumerate(stamps)))
    assert [item for item, _ in given] == list(range(len(stamps)))
    times = [1000 * time for _, time in given]
    assert all(a < b for a, b in itertools.pairwise(times))
    return times, clock


def test_true_stamps_are_kept() -> None:
    times, clock = clocked([5, 40, 90, 2000, 2001])
    assert times == [5, 40, 90, 2000, 2001]
    assert clock.mended == 0


@pytest.mark.parametrize(
    ("stamps", "times"),
    [
        ([0, 40, 40, 80, 120], [0, 40, 60, 80, 120]),  # a frame more
        ([0, 40, 40, 120, 160], [0, 40, 80, 120, 160]),  # a wrong stamp
        ([0, 40, 40, 40, 160, 200], [0, 40, 80, 120, 160, 200]),
        ([0, 40, 40, 5000, 5040], [0, 40, 80, 5000, 5040]),  # not in the middle of a pause
        ([0, 40, None, None, 160], [0, 40, 80, 120, 160]),
        ([0, 40, 20, 120], [0, 40, 80, 120]),
        ([0, 40, 9000, 120, 160], [0, 40, 80, 120, 160]),  # leapt ahead alone
        ([None, None, 80, 120], [0, 40, 80, 120]),
        ([None] * 20, [40 * k for k in range(20)]),
        ([0, 40, 80, 80], [0, 40, 80, 120]),
        ([7], [7]),
        ([], []),
    ],
)
def test_a_wrong_stamp_is_put_right_and_those_that_follow_are_kept(stamps: list[int | None], times: list[float]) -> None:
    assert clocked(stamps)[0] == pytest.approx(times)


def test_stamps_that_go_back_for_good_are_carried_on() -> None:
    times, clock = clocked([1000 + 40 * k for k in range(20)] + [50 * k for k in range(60)])
    assert times == pytest.approx([1000 + 40 * k for k in range(20)] + [1800 + 50 * k for k in range(60)])
    assert clock.mended == 60


def test_a_doubled_stamp_moves_no_later_frame(tmp_path: Path) -> None:
    true = [40 * k for k in range(100)]
    doubled = sorted([*range(100), *range(6, 100, 13)])
    clip = tmp_path / "clip.mkv"
    _restamped(clip, [true[k] for k in doubled])
    frames, early = read(clip)
    assert early is None
    assert len(frames) == len(doubled)
    times = [frame.time for frame in frames]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert max(abs(time - true[k] / 1000) for time, k in zip(times, doubled, strict=True)) < 0.04
    assert times[-1] == true[-1] / 1000


def _restamped(path: Path, stamps: list[int], *, rate: int = 30, codec: str = "libx264") -> None:
    """A clip whose packets carry these stamps, ms, and last 33 ms each: the muxer takes what no encoder makes."""
    whole = path.with_name("plain.mkv")
    make_clip(whole, len(stamps), gop=1, rate=rate, codec=codec)
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        copy.time_base = Fraction(1, 1000)
        packets = [packet for packet in source.demux(stream) if packet.size]
        # Matroska's muxer refuses decoding times that go back, not those that stay.
        for packet, stamp in zip(packets, stamps, strict=True):
            packet.stream, packet.time_base = copy, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = stamp, stamp, 33
            out.mux(packet)


def test_true_live_times_win_after_doubled_ones() -> None:
    clock = _LiveClock()
    true = sorted([*range(200), *range(6, 200, 13)])
    times = [clock(k / 25, int(k / 25 * 1e9), 1 / 25) for k in true]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert max(abs(time - k / 25) for time, k in zip(times, true, strict=True)) < 0.04


def test_missing_live_times_follow_the_pace_of_the_stream() -> None:
    clock = _LiveClock()
    times = [clock(None if k % 5 == 4 else k / 12, int(k / 12 * 1e9), 1 / 90_000) for k in range(100)]
    assert times == pytest.approx([k / 12 for k in range(100)], abs=1e-6)


# --- whole or cut ---


def join(path: Path, *parts: Path, options: dict[str, str] | None = None) -> None:
    """Put the streams of the parts side by side, as they are."""
    with av.open(str(path), "w", options=options or {}) as out:
        packets: list[Any] = []
        for part in parts:
            with av.open(str(part)) as source:
                for stream in source.streams:
                    copy = out.add_stream_from_template(stream)
                    for packet in source.demux(stream):
                        if packet.size:
                            packet.stream = copy
                            packets.append(packet)
        packets.sort(key=lambda packet: float((packet.dts if packet.dts is not None else packet.pts) * packet.time_base))
        for packet in packets:
            out.mux(packet)


@pytest.fixture
def subtitles(tmp_path: Path) -> Path:
    path = tmp_path / "words.srt"
    path.write_text("1\n00:00:00,500 --> 00:00:01,000\nfirst\n\n2\n00:00:01,900 --> 00:00:09,000\nlast\n\n")
    return path


@pytest.mark.parametrize(
    ("other", "ending"),
    [
        ("subtitles", ".mkv"),  # the others take no SubRip
        *itertools.product(["video", "video of unknown rate", "sound"], [".mkv", ".webm", ".mp4"]),
    ],
)
def test_a_track_that_outlasts_the_picture_is_no_cut(tmp_path: Path, subtitles: Path, other: str, ending: str) -> None:
    codec, sound = ("libvpx", "libopus") if ending == ".webm" else ("libx264", "aac")
    picture, second = tmp_path / f"picture{ending}", tmp_path / f"second{ending}"
    make_clip(picture, 60, codec=codec, audio=sound if other == "sound" else None, audio_seconds=5.0)
    if other == "subtitles":
        join(tmp_path / f"clip{ending}", picture, subtitles)
    elif other == "sound":
        picture.rename(tmp_path / f"clip{ending}")
    else:
        rate, tick = (30, None) if other == "video" else (1000, Fraction(1, 1000))
        make_clip(second, ticks_at(30, 150, tick) if tick else 150, time_base=tick, rate=rate, codec=codec)
        join(tmp_path / f"clip{ending}", picture, second)
    frames, early = read(tmp_path / f"clip{ending}")
    assert (len(frames), early) == (60, None)


@pytest.mark.parametrize("other", ["subtitles", "video", "sound"])
def test_a_cut_file_is_told_whatever_else_is_in_it(tmp_path: Path, subtitles: Path, other: str) -> None:
    make_clip(tmp_path / "picture.mkv", 90, audio="aac" if other == "sound" else None, audio_seconds=6.0)
    make_clip(tmp_path / "second.mkv", 150)
    extra = {"subtitles": [subtitles], "video": [tmp_path / "second.mkv"], "sound": []}[other]
    join(tmp_path / "clip.mkv", tmp_path / "picture.mkv", *extra)
    data = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    frames, early = read(tmp_path / "cut.mkv")
    assert 10 < len(frames) < 90
    assert early is not None
    assert "cut short" in str(early)
    assert early.exit_code == 3


@pytest.mark.parametrize("jitter", [0.0, 0.009])
@pytest.mark.parametrize("name", ["clip.webm", "clip.mkv"])
def test_a_file_in_milliseconds_with_jitter_is_whole(tmp_path: Path, name: str, jitter: float) -> None:
    stamps = ticks_at(30, 60, Fraction(1, 1000), jitter)
    _restamped(tmp_path / name, stamps, rate=1000, codec="libvpx" if name.endswith("webm") else "libx264")
    frames, early = read(tmp_path / name)
    assert early is None
    assert [frame.time for frame in frames] == pytest.approx([stamp / 1000 for stamp in stamps])


# --- sound ---


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("clip.mp4", {}),
        ("clip.mkv", {}),
        ("clip.flv", {}),
        ("fragmented.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("varying.mkv", {"times": [0, 30, 90, 400, 420, 1400, 2500, 2970], "time_base": Fraction(1, 1000), "rate": 1000}),
        ("varying.mp4", {"times": [0, 30, 90, 400, 420, 1400, 2500, 2970], "time_base": Fraction(1, 1000), "rate": 1000}),
    ],
)
@pytest.mark.parametrize("out", ["out.mp4", "out.mkv"])
def test_sound_after_the_last_picture_is_kept(tmp_path: Path, name: str, more: dict[str, Any], out: str) -> None:
    more = {"times": 90, **more}
    make_clip(tmp_path / name, audio="aac", audio_seconds=8.0, **more)
    source = open_source(tmp_path / name)
    sink = VideoSink(tmp_path / out, source.info)
    for frame in source.frames():
        sink.write(Result(frame))
    sink.close()
    (_, sound), (_, kept) = times_of(tmp_path / name), times_of(tmp_path / out)
    lost = sum(time < 0 for time in sound) if out.endswith("mkv") else 0  # for which Matroska has no place
    assert len(kept) == len(sound) - lost > 370
    assert kept[-1] == pytest.approx(sound[-1], abs=2e-3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv"])
@pytest.mark.parametrize("stop", [30, 89])
def test_a_run_that_stops_before_the_last_picture_keeps_no_sound_behind_it(tmp_path: Path, name: str, stop: int) -> None:
    make_clip(tmp_path / name, 90, audio="aac", audio_seconds=8.0)
    source = open_source(tmp_path / name)
    sink = VideoSink(tmp_path / "out.mp4", source.info)
    for frame in itertools.islice(source.frames(), stop):
        sink.write(Result(frame))
    sink.close()
    _, kept = times_of(tmp_path / "out.mp4")
    assert stop / 30 - 0.06 < kept[-1] < stop / 30 + 0.03


@pytest.mark.shared
def test_the_times_of_the_development_case(shared: Path) -> None:
    off = []
    for frame in open_source(shared / "cases/double_stamps.mkv").frames():
        columns = frame.image.mean(axis=(0, 2))
        off.append(frame.time - int(np.flatnonzero(columns > 0.7 * columns.max())[0]) / 100)  # the bar moves 100 px a second
    assert np.abs(off).max() < 0.04
    assert off[-1] == pytest.approx(0, abs=1e-6)
