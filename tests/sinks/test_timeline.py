"""What a container takes of a source's times: gaps are held, leaps are left out, everything else stays as it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpose.sinks.timeline import MOST_TICKS, Timeline, ticks_of
from rtpose.sinks.video import VideoSink
from rtpose.source import JUMP_SECONDS, FileSource, SourceInfo, open_source
from rtpose.types import Frame, People, Result

from ..media import make_clip, times_of

US = Fraction(1, 1_000_000)


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=30))
def test_ticks_always_increase_and_no_gap_is_too_long(steps: list[float]) -> None:
    timeline, time, last = Timeline(US, US, Fraction(1, 30)), 0.0, None
    for step in [0.0, *steps]:
        time += step
        again, ticks = timeline.place(time)
        assert len(again) <= JUMP_SECONDS / 1e-6 / MOST_TICKS + 1
        for tick in [*again, ticks]:
            assert last is None or 0 < tick - last <= MOST_TICKS
            last = tick


def test_plain_times_stay_as_they_are() -> None:
    base = Fraction(1, 30000)
    timeline = Timeline(ticks_of(base), base, Fraction(1001, 30000))
    assert [timeline.place(k * 1001 / 30000) for k in range(100)] == [([], k * 1001) for k in range(100)]
    assert timeline.left_out(1e9) == 0


def draw(path: Path, times: list[float]) -> list[float]:
    info = SourceInfo("x", 32, 32, Fraction(30), US, frames=len(times))
    sink = VideoSink(path, info)
    for index, time in enumerate(times):
        sink.write(Result(Frame(index, time, np.full((32, 32, 3), index, np.uint8), 0), people=People.none()))
    sink.close()
    return times_of(path)[0]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_an_hour_without_a_picture_of_a_camera_in_microseconds(ending: str, tmp_path: Path) -> None:
    times = [k / 30 for k in range(5)] + [3600 + k / 30 for k in range(5)]
    drawn = draw(tmp_path / f"x{ending}", times)
    precise = 1e-6 if ending == ".mp4" else 1e-3
    assert drawn[:5] == pytest.approx(times[:5], abs=precise)
    assert drawn[-5:] == pytest.approx(times[5:], abs=precise)
    assert all(times[4] < time < times[5] for time in drawn[5:-5])


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_leap_of_the_clock_is_left_out_and_told(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    times = [k / 30 for k in range(5)] + [1e9 + k / 30 for k in range(5)]
    assert draw(tmp_path / f"x{ending}", times) == pytest.approx([k / 30 for k in range(10)], abs=2e-3)
    assert "goes on after one frame" in caplog.text


def spliced(path: Path, seconds: int, *, sound: bool) -> None:
    """A clip whose second half is `seconds` later than it should be, in its pictures or in all."""
    plain = path.with_name("plain.mp4")
    make_clip(plain, 20, audio="aac")
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if float(packet.pts * packet.time_base) >= 0.33 and (sound or packet.stream.type == "video"):
                late = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
            packet.stream = copies[packet.stream.index]
            out.mux(packet)


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
@pytest.mark.parametrize("seconds", [600, 15 * 3600, 2 * 24 * 3600])
def test_files_put_together_whose_clock_leaps(seconds: int, ending: str, sound: bool, tmp_path: Path) -> None:
    """The sound counts faster than the pictures: of 15 hours it is that which is more than an mp4 holds."""
    clip, out = tmp_path / "spliced.mkv", tmp_path / f"x{ending}"
    spliced(clip, seconds, sound=sound)
    source = open_source(clip)
    assert isinstance(source, FileSource)
    sink = VideoSink(out, source.info)
    times = []
    for frame in source.frames():
        times.append(frame.time)
        sink.write(Result(frame, people=People.none()))
    sink.close()
    assert times[10] - times[9] == pytest.approx(seconds, abs=0.1)
    assert len([note for note in source.notes if "gaps without" in note or "leaps ahead" in note]) == 1
    drawn, heard = times_of(out)
    kept = seconds == 600 or (seconds < JUMP_SECONDS and ending == ".mkv")
    assert len(drawn) == 20
    assert drawn == pytest.approx(
        times if kept else [time if k < 10 else time - times[10] + times[9] + 1 / 30 for k, time in enumerate(times)], abs=3e-3
    )
    if sound:
        assert heard[-1] == pytest.approx(drawn[-1], abs=0.1)
