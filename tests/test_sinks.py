"""What the sinks write: read back by PyAV, and after a violent end by whoever opens the file."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpose.errors import EndedEarly, InputError, RtposeError, Stop
from rtpose.pipeline import Sink, run_inline
from rtpose.sinks.data import JsonLinesSink, Provenance, Records, read_results
from rtpose.sinks.video import PictureSink, VideoSink, open_overlay
from rtpose.sinks.window import WindowSink
from rtpose.source import SourceInfo, open_source
from rtpose.types import KEYPOINT_NAMES, Bodies, Frame, People, Result

from .media import make_clip, number_of, numbered, playable, times_of

INFO = SourceInfo("made up", 160, 120, Fraction(30), Fraction(1, 30))
NAMES = tuple(f"joint{i}" for i in range(22))


def people(n: int, seed: int = 0) -> People:
    random = np.random.default_rng(seed)
    keypoints = random.uniform(0, 1, (n, 17, 3)).astype(np.float32) * (160, 120, 1)
    raw = keypoints.copy()
    raw[: n // 2, 3] += 1.5
    status = random.integers(0, 3, (n, 17))
    return People(np.arange(1, n + 1), random.uniform(0, 120, (n, 4)), random.uniform(0, 1, n), keypoints, status, raw)


def bodies(n: int, seed: int = 0) -> Bodies:
    random = np.random.default_rng(seed)
    shapes = ((n, 22, 3), (n, 10), (n, 3), (n, 22, 3), (n, 22))
    arrays = [random.normal(size=s) for s in shapes]
    for array in arrays:
        array[n // 2 : n // 2 + 1] = np.nan  # somebody of whom too little was seen
    return Bodies(*arrays, NAMES)


def result(index: int = 0, n: int = 1, *, time: float | None = None, size: tuple[int, int] = (160, 120), **more: Any) -> Result:
    frame = Frame(index, index / 30 if time is None else time, numbered(index, *size), 0, **more)
    return Result(frame, None, people(n, index))


def fill(sink: Sink, results: list[Result]) -> None:
    for r in results:
        sink.write(r)
    sink.close()


def json_sink(path: Path | None, **more: Any) -> JsonLinesSink:
    return JsonLinesSink(path, INFO, Provenance({"keypoints": "thunder"}), **more)


# --- JSON Lines ---


def test_the_lines_are_those_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    fill(json_sink(path), [result(0, 2), result(1, 0, file="b.png")])
    header, first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert header == {
        "rtpose": 1,
        "source": "made up",
        "width": 160,
        "height": 120,
        "rate": 30.0,
        "skeleton": "coco17",
        "keypoint_names": list(KEYPOINT_NAMES),
        "models": {"keypoints": "thunder"},
        "mode": "offline",
    }
    assert (first["frame"], first["time"]) == (0, 0.0)
    changed, same = first["people"]
    assert set(same) == {"id", "box", "score", "keypoints", "status"}
    assert set(changed) == {*same, "raw_keypoints"}
    assert set(itertools.chain(changed["status"], same["status"])) <= {"measured", "corrected", "predicted"}
    assert all(round(x, 2) == x and round(y, 2) == y and round(s, 4) == s for x, y, s in same["keypoints"])
    assert second == {"frame": 1, "time": 1 / 30, "file": "b.png", "people": []}


@settings(max_examples=25)
@given(st.integers(0, 4), st.integers(0, 1000), st.booleans(), st.floats(-1e6, 1e6))
def test_what_is_read_is_what_was_written(tmp_path_factory: Any, n: int, seed: int, lifted: bool, seconds: float) -> None:
    path = tmp_path_factory.mktemp("x") / "x.jsonl"
    frame = Frame(3, seconds, np.zeros((120, 160, 3)), 0)
    written = Result(frame, None, people(n, seed), bodies(n, seed) if lifted else None)
    fill(json_sink(path), [written])
    header, records = read_results(path)
    (record,) = records
    assert (header.source, header.width, header.height, header.mode) == ("made up", 160, 120, "offline")
    assert (record.frame, record.time, record.file) == (3, seconds, None)
    for name, tolerance in (("ids", 0), ("status", 0), ("boxes", 0.006), ("scores", 6e-5), ("keypoints", 0.006), ("raw", 0.006)):
        np.testing.assert_allclose(getattr(record.people, name), getattr(written.people, name), rtol=0, atol=tolerance)
    assert (record.bodies is None) == (not lifted)
    if written.bodies is not None and record.bodies is not None:
        assert header.joints3d_names == record.bodies.joint_names == NAMES
        for name in ("rotations", "translation", "joints3d", "uncertainty"):
            np.testing.assert_allclose(getattr(record.bodies, name), getattr(written.bodies, name), rtol=0, atol=6e-5)


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        fill(json_sink(tmp_path / name), [result(i, 3) for i in range(5)])
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    fill(json_sink(None), [result(i) for i in range(3)])
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line).get("frame") for line in lines] == [None, 0, 1, 2]


def test_a_closed_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(InputError, match="standard output is closed"):
        json_sink(None)


def test_a_reader_of_standard_output_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = json_sink(None)
    with os.fdopen(writing, "wb") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(Stop):
            sink.write(result())


def test_a_cut_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    fill(json_sink(path), [result(i) for i in range(3)])
    path.write_bytes(path.read_bytes()[:-20])
    records: Records = read_results(path)[1]
    assert not records.partial
    assert [r.frame for r in records] == [0, 1]
    assert records.partial


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no results"),
        (["hello"], "no results"),
        (['{"some": "json"}'], "no results"),
        (['{"rtpose": 2}'], "no results"),
        (['{"rtpose": 1}'], "line 1"),
        (["HEADER", '{"frame": 0, "time": 0, "people": []}', "nonsense"], "line 3"),
        (["HEADER", "[]"], "line 2"),
        (["HEADER", '{"frame": 0}'], "line 2"),
        (["HEADER", '{"frame": 0, "time": 0, "people": [{"id": 1}]}'], "line 2"),
        (["HEADER", '{"frame": 0, "time": 0, "people": 7}'], "line 2"),
    ],
)
def test_foreign_and_corrupt_files_name_the_line(tmp_path: Path, lines: list[str], said: str) -> None:
    fill(json_sink(tmp_path / "good.jsonl"), [result()])
    header = (tmp_path / "good.jsonl").read_text().splitlines()[0]
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(line.replace("HEADER", header) + "\n" for line in lines))
    with pytest.raises(InputError, match=said) as caught:
        list(read_results(path)[1])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_results(tmp_path / "x.jsonl")


# --- outputs that cannot be ---


@pytest.mark.parametrize("make", [json_sink, lambda path, **more: VideoSink(path, INFO, **more)])
def test_outputs_are_refused_before_anything_is_touched(tmp_path: Path, make: Any) -> None:
    good = tmp_path / ("x.jsonl" if make is json_sink else "x.mp4")
    good.write_text("dear to me")
    for path, said in (
        (good, "exists"),
        (tmp_path / "x.txt", "should end in"),
        (tmp_path / "nowhere" / good.name, "no such folder"),
        (Path("/proc") / good.name, "cannot write"),
        (good / good.name, "no such folder"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            make(path)
        assert str(path) in str(caught.value) or said != "exists"
        assert "\n" not in str(caught.value)
    sink = make(good, overwrite=True)
    sink.close()
    assert good.read_text() == "dear to me"  # a run that shows nothing loses nothing
    sink = make(good, overwrite=True)
    fill(sink, [result(i) for i in range(3)])
    assert good.read_bytes()[:4] != b"dear"


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 3)
    info = open_source(tmp_path / "clip.mp4").info
    (tmp_path / "same.mp4").symlink_to(tmp_path / "clip.mp4")
    for name in ("clip.mp4", "same.mp4"):
        with pytest.raises(InputError, match="the source itself"):
            open_overlay(tmp_path / name, info, overwrite=True)


# --- video ---


def overlay(clip: Path, out: Path) -> None:
    source = open_source(clip)
    run_inline(source, [], [open_overlay(out, source.info, overwrite=False)])


CLIPS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "sound.mp4": {"b_frames": 2, "audio": "aac", "audio_seconds": 1.5},
    "varying.mp4": {"times": [990, 1023, 1040, 1500, 1501, 2600, 9000, 9033], "time_base": Fraction(1, 1000), "audio": "aac"},
    "film.mp4": {"times": 30, "rate": 24, "time_base": Fraction(1001, 24000)},
    "fine.mp4": {"times": [5, 7, 12345, 12346, 99999], "time_base": Fraction(1, 90000)},
    "turned.mp4": {"times": 5, "rotation": 90, "pixel_aspect": Fraction(4, 3)},
    "coarse.avi": {"audio": "mp3"},
    "broadcast.ts": {"audio": "aac", "b_frames": 2},
    "matroska.mkv": {"audio": "flac"},
}


@pytest.mark.parametrize("name", CLIPS)
def test_the_overlay_has_the_frames_the_times_and_the_sound_of_the_source(tmp_path: Path, name: str) -> None:
    make_clip(tmp_path / name, **{"times": 40, **CLIPS[name]})
    turned = CLIPS[name].get("rotation", 0) // 90
    times, sound = times_of(tmp_path / name)
    overlay(tmp_path / name, tmp_path / "out.mp4")
    out_times, out_sound = times_of(tmp_path / "out.mp4")
    assert out_times == times
    assert out_sound == pytest.approx(sound, abs=1e-4)
    with av.open(str(tmp_path / "out.mp4")) as out:
        pictures = [np.rot90(f.to_ndarray(format="rgb24"), -turned) for f in out.decode(out.streams.video[0])]
        assert [number_of(p) for p in pictures] == list(range(len(times)))
        assert out.streams.video[0].codec_context.name == "h264"
        assert out.streams.video[0].sample_aspect_ratio in (None, CLIPS[name].get("pixel_aspect", 1) ** -1)


@pytest.mark.parametrize("ending", [".mov", ".m4v"])
def test_the_other_endings_are_the_same_inside(tmp_path: Path, ending: str) -> None:
    make_clip(tmp_path / "clip.mp4", 40, audio="aac", b_frames=2)
    overlay(tmp_path / "clip.mp4", tmp_path / f"out{ending}")
    for a, b in zip(times_of(tmp_path / "clip.mp4"), times_of(tmp_path / f"out{ending}"), strict=True):
        assert b == pytest.approx(a, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("clip.mp4", {"options": {"movflags": "faststart"}, "audio": "aac"}),
        ("clip.mkv", {"audio": "libopus"}),
        ("clip.mov", {"options": {"movflags": "faststart"}, "audio": "pcm_s16le"}),
        ("clip.avi", {"audio": "mp3"}),
        ("clip.ts", {"audio": "aac"}),
    ],
)
def test_the_overlay_of_a_broken_file_has_what_there_is(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    make_clip(tmp_path / name, 90, **more)
    data = bytearray((tmp_path / name).read_bytes())
    at = len(data) // 3
    data[at : at + 900] = bytes(i * 31 % 256 for i in range(900))
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    source = open_source(tmp_path / name)
    records: list[float] = []
    sink = open_overlay(tmp_path / "out.mp4", source.info, overwrite=False)
    with contextlib.suppress(EndedEarly):
        for frame in source.frames():
            sink.write(Result(frame))
            records.append(frame.time)
    sink.close()
    times, sound = times_of(tmp_path / "out.mp4")
    assert len(times) > 30
    assert times == pytest.approx(records, abs=1e-4)
    assert len(sound) > 20


def test_an_overlay_in_matroska_keeps_times_to_its_millisecond(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 40, audio="aac")
    overlay(tmp_path / "clip.mp4", tmp_path / "out.mkv")
    (times, sound), (out_times, out_sound) = times_of(tmp_path / "clip.mp4"), times_of(tmp_path / "out.mkv")
    assert out_times == pytest.approx(times, abs=0.00051)
    assert sound[0] < 0  # what the encoder needs to start; Matroska has no place for it
    assert out_sound == pytest.approx(sound[1:], abs=0.00051)


def _wave(path: Path) -> np.ndarray:
    """The sound as decoded, at 48 kHz, placed at its time."""
    wave = np.zeros(48000 * 3, np.float32)
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 48000)
        for frame in container.decode(container.streams.audio[0]):
            for ready in resampler.resample(frame):
                begin = round(ready.time * 48000)
                part = ready.to_ndarray()[0][max(0, -begin) :]
                wave[max(0, begin) : max(0, begin) + len(part)] = part
    return wave


@pytest.mark.parametrize(("name", "codec"), [("clip.mov", "pcm_s16le"), ("clip.mp4", "aac")])
def test_sound_stays_in_step_copied_or_coded_again(tmp_path: Path, name: str, codec: str) -> None:
    make_clip(tmp_path / name, 60, audio=codec)
    overlay(tmp_path / name, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.audio[0].codec_context.name == "aac"
    a, b = _wave(tmp_path / name), _wave(tmp_path / "out.mp4")
    spectrum = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)))
    shift = int(np.argmax(spectrum))
    assert min(shift, len(a) - shift) < 48  # a millisecond


@pytest.mark.parametrize("size", [(161, 121), (1, 1), (16384, 3)])
def test_odd_sizes_are_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    info = dataclasses.replace(INFO, width=size[0], height=size[1])
    image = np.full((size[1], size[0], 3), (250, 10, 10), np.uint8)
    fill(VideoSink(tmp_path / "out.mp4", info), [Result(Frame(i, i / 30, image, 0)) for i in range(3)])
    with av.open(str(tmp_path / "out.mp4")) as out:
        frames = [f.to_ndarray(format="rgb24") for f in out.decode(out.streams.video[0])]
    assert len(frames) == 3
    assert frames[0].shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    assert np.abs(frames[0].astype(int) - (250, 10, 10)).max() < 12  # the border too


def test_a_live_overlay_begins_at_zero(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, live=True, time_base=Fraction(1, 90000))
    fill(VideoSink(tmp_path / "out.mp4", info), [result(i, time=95443.7 + i * 0.05) for i in range(10)])
    assert times_of(tmp_path / "out.mp4")[0] == pytest.approx([i * 0.05 for i in range(10)], abs=1e-4)


def test_a_run_that_is_stopped_leaves_no_sound_behind_its_picture(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 90, audio="aac")
    source = open_source(tmp_path / "clip.mp4")
    sink = open_overlay(tmp_path / "out.mp4", source.info, overwrite=False)
    for frame in itertools.islice(source.frames(), 30):
        sink.write(Result(frame))
    sink.close()
    times, sound = times_of(tmp_path / "out.mp4")
    assert len(times) == 30
    assert 0.9 < sound[-1] < 1.05


def test_the_same_video_twice(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 30, audio="aac")
    for name in ("a.mp4", "b.mp4"):
        overlay(tmp_path / "clip.mp4", tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


# --- violent ends ---

WRITER = """
import os, sys, resource, signal
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from rtpose.source import open_source
from rtpose.sinks.video import open_overlay
from rtpose.sinks.data import JsonLinesSink, Provenance
from rtpose.pipeline import run_inline
from rtpose.errors import RtposeError
clip, video, data, limit, kill = sys.argv[1:]
if int(limit):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
def struck(result):
    if result.frame.index == int(kill):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
source = open_source(clip)
sinks = []
if video != "-": sinks.append(open_overlay(Path(video), source.info, overwrite=False))
if data != "-": sinks.append(JsonLinesSink(Path(data), source.info, Provenance()))
try:
    run_inline(source, [struck], sinks)
except RtposeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def _write(clip: Path, video: Path | str, data: Path | str, *, limit: int = 0, kill: int = -1) -> subprocess.Popen[str]:
    """A process that makes an overlay and results of the clip: no file longer than `limit` bytes, killed at frame `kill`."""
    root = Path(__file__).resolve().parent.parent
    code = WRITER.format(tests=str(root / "tests"), root=str(root))
    arguments = [sys.executable, "-c", code, str(clip), str(video), str(data), str(limit), str(kill)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
@pytest.mark.parametrize("frames", [70, 200])
def test_a_killed_process_leaves_a_video_that_plays_and_whole_lines(tmp_path: Path, ending: str, frames: int) -> None:
    clip, video, data = tmp_path / "clip.mp4", tmp_path / f"out{ending}", tmp_path / "out.jsonl"
    make_clip(clip, 400, audio="aac", gop=50)
    process = _write(clip, video, data, kill=frames)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    times, sound = times_of(clip)
    records = read_results(data)[1]
    assert [r.time for r in records] == times[:frames]
    assert not records.partial
    out_times, out_sound = times_of(video)  # PyAV raises if any of it cannot be decoded
    assert out_times == pytest.approx(times[: len(out_times)], abs=0.00051)
    assert len(out_times) >= frames - 4  # what was still being coded
    sound = sound[1:] if ending == ".mkv" else sound
    assert out_sound == pytest.approx(sound[: len(out_sound)], abs=0.00051)
    assert out_sound[-1] > out_times[-1] - 0.2
    video.write_bytes(video.read_bytes()[:-50])  # as if killed in the middle of a write
    assert playable(video) >= len(out_times) - 2


@pytest.mark.parametrize("what", ["video", "data"])
def test_a_file_that_cannot_grow_is_one_clear_line(tmp_path: Path, what: str) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / ("out.mp4" if what == "video" else "out.jsonl")
    make_clip(clip, 400)
    limit = 60_000 if what == "video" else 5_000
    process = _write(clip, out if what == "video" else "-", out if what == "data" else "-", limit=limit)
    said, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "File too large" in said
    assert str(out) in said
    assert said.count("\n") == 1
    if what == "video":
        assert len(times_of(out)[0]) > 25
    else:
        records = read_results(out)[1]
        assert len(list(records)) > 3
        assert not records.partial


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").symlink_to("/dev/full")
    sink = json_sink(tmp_path / "x.jsonl", overwrite=True)
    with pytest.raises(RtposeError, match="No space left on device"):
        sink.write(result())
    sink.close()


# --- pictures ---


def pictures(folder: Path, sizes: list[tuple[int, int]]) -> None:
    folder.mkdir()
    for i, size in enumerate(sizes):
        cv2.imwrite(str(folder / f"p{i}.png"), numbered(i, *size)[..., ::-1])


def test_pictures_become_pictures_of_the_same_names(tmp_path: Path) -> None:
    pictures(tmp_path / "in", [(160, 120), (80, 120), (200, 50)])
    cv2.imwrite(str(tmp_path / "in" / "q.pgm"), numbered(9)[..., 0])
    source = open_source(tmp_path / "in")
    run_inline(source, [], [open_overlay(tmp_path / "out", source.info, overwrite=False)])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["p0.png", "p1.png", "p2.png", "q.png"]
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "p1.png")), cv2.imread(str(tmp_path / "in" / "p1.png")))
    with pytest.raises(InputError, match="files in it"):
        open_overlay(tmp_path / "out", source.info, overwrite=False)
    open_overlay(tmp_path / "out", source.info, overwrite=True)
    with pytest.raises(InputError, match="the source itself"):
        open_overlay(tmp_path / "in", source.info, overwrite=True)


def test_one_picture_becomes_one_picture(tmp_path: Path) -> None:
    pictures(tmp_path / "in", [(160, 120)])
    source = open_source(tmp_path / "in" / "p0.png")
    run_inline(source, [], [open_overlay(tmp_path / "out.jpg", source.info, overwrite=False)])
    assert cv2.imread(str(tmp_path / "out.jpg")).shape == (120, 160, 3)
    with pytest.raises(InputError, match="exists"):
        open_overlay(tmp_path / "out.jpg", source.info, overwrite=False)


def test_pictures_of_the_same_name_do_not_replace_each_other(tmp_path: Path) -> None:
    pictures(tmp_path / "a", [(160, 120)])
    pictures(tmp_path / "b", [(160, 120)])
    source = open_source(tmp_path / "*" / "*.png")
    run_inline(source, [], [open_overlay(tmp_path / "out", source.info, overwrite=False)])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["p0-2.png", "p0.png"]


def test_pictures_of_one_size_make_a_video_and_of_several_do_not(tmp_path: Path) -> None:
    pictures(tmp_path / "same", [(160, 120)] * 5)
    source = open_source(tmp_path / "same", sequence=True, rate=25)
    run_inline(source, [], [open_overlay(tmp_path / "out.mp4", source.info, overwrite=False)])
    assert times_of(tmp_path / "out.mp4")[0] == [0, 0.04, 0.08, 0.12, 0.16]
    pictures(tmp_path / "mixed", [(160, 120), (80, 120)])
    source = open_source(tmp_path / "mixed")
    sink = open_overlay(tmp_path / "mixed.mp4", source.info, overwrite=False)
    with pytest.raises(RtposeError, match=r"different sizes.*folder"):
        run_inline(source, [], [sink])


@pytest.mark.parametrize("name", ["out.txt", "out.png"])
def test_an_overlay_nobody_can_write(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="should end in"):
        open_overlay(tmp_path / name, INFO, overwrite=False)
    with pytest.raises(InputError, match="give a folder"):
        open_overlay(tmp_path / name, dataclasses.replace(INFO, pictures=True, frames=2), overwrite=False)


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"of yesterday")
    (folder / "a.png.unfinished").symlink_to("/dev/full")
    sink = PictureSink(folder, dataclasses.replace(INFO, pictures=True), overwrite=True)
    with pytest.raises(RtposeError, match="cannot write"):
        sink.write(result(file="a.png"))
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("a.png", b"of yesterday")]


# --- window ---


def test_a_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="no display"):
        WindowSink(INFO)
    monkeypatch.setenv("DISPLAY", ":12345")  # where nobody answers, as after a broken ssh connection
    with pytest.raises(InputError, match="no display"):
        WindowSink(INFO)


# --- the clips of the development data ---


@pytest.mark.shared
def test_overlays_of_the_development_data(shared: Path, tmp_path: Path) -> None:
    for clip in sorted((shared / "data" / "videos").glob("*.*")):
        overlay(clip, tmp_path / f"{clip.stem}.mp4")
        times, sound = times_of(clip)
        out_times, out_sound = times_of(tmp_path / f"{clip.stem}.mp4")
        assert out_times == times
        assert out_sound == pytest.approx(sound, abs=1e-4)
