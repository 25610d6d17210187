"""What happens to one file, one sound track or one fork stays there, and is told in a line."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
from av.bitstream import BitStreamFilterContext

import rtpose
from rtpose import app, batch
from rtpose.batch import Job, track_file
from rtpose.reference import CLIP
from rtpose.settings import Outputs, Settings
from rtpose.sinks.video import open_overlay
from rtpose.source import FileSource, LiveSource, open_source
from rtpose.stages.keypoints import REACH, cut
from rtpose.types import Result

from .conftest import REPOSITORY
from .media import make_clip, times_of
from .test_cli import rtpose_command

TITLE = "a title that is no UTF-8"


def latin1(path: Path) -> Path:
    """A clip whose title is in Latin-1."""
    make_clip(path, 6, tags={"title": TITLE}, audio="aac")
    path.write_bytes(path.read_bytes().replace(TITLE.encode(), TITLE.replace("U", "Ü").encode("latin-1")))
    return path


def test_a_title_in_latin1_is_no_error(tmp_path: Path) -> None:
    source = open_source(latin1(tmp_path / "old.mp4"))
    sink = open_overlay(tmp_path / "out.mp4", source.info, overwrite=False)
    for frame in source.frames():
        sink.write(Result(frame))
    sink.close()
    video, sound = times_of(tmp_path / "out.mp4")
    assert len(video) == 6
    assert sound


def test_a_batch_goes_on_after_whatever_happens_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def process(*arguments: Any, **more: Any) -> int:
        raise error

    monkeypatch.setattr(app, "process", process)
    job = Job(tmp_path / "x.mp4", Settings(), Outputs(save=str(tmp_path / "x.jsonl")))
    for error in (ValueError("odd\nodder"), MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")):
        outcome = track_file(job)
        assert type(error).__name__ in outcome.wrong
        assert "\n" not in outcome.wrong
    error = KeyboardInterrupt()
    assert track_file(job).wrong == batch.BROKEN_OFF


def batch_at_work(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A batch of two files that is in the middle of the first, first.mp4, and the folder of its results."""
    first = folder / "first.mp4"
    make_clip(first, 300, size=(640, 480))
    make_clip(folder / "next.mp4", 3)
    out = folder / "out"
    words = ["batch", str(first), str(folder / "next.mp4"), "--out-dir", str(out), "--lifter", "none"]
    running = subprocess.Popen([sys.executable, "-m", "rtpose", *words], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while not (out / "first.jsonl.journal").exists():
        assert running.poll() is None
        time.sleep(0.01)
    return running, out


def test_a_batch_outlives_the_process_of_a_file(tmp_path: Path) -> None:
    """Killed at work as by a crash in a library: the file is reported, and the next one is run."""
    running, out = batch_at_work(tmp_path)
    for child in psutil.Process(running.pid).children():
        if "spawn_main" in " ".join(child.cmdline()):
            child.send_signal(signal.SIGSEGV)
    _, said = running.communicate()
    assert running.returncode == 1
    assert "1 of 2 files done" in said
    assert "its run ended without a word (SIGSEGV)" in said
    assert (out / "next.jsonl").exists()


def test_an_interrupt_ends_a_batch(tmp_path: Path) -> None:
    running, out = batch_at_work(tmp_path)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "0 of 2 files done" in said
    assert "Traceback" not in said
    assert not (out / "next.jsonl").exists()


def test_an_address_in_a_batch_is_a_line(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, 3)
    done = rtpose_command("batch", "rtsp://me:ge/heim@127.0.0.1/live", clip, "--out-dir", tmp_path / "out", "--lifter", "none")
    assert done.returncode == 1
    assert "1 of 2 files done" in done.stderr
    assert "heim" not in done.stderr


@pytest.mark.parametrize("place", [(40_000, 60, 80), (5, 50, 90), (20_000, 50, 45_000), (-900, -900, 50)])
def test_pictures_wider_than_opencv_warps(place: tuple[int, int, int]) -> None:
    """A crop is that of a part of the picture that is small enough."""
    x, y, side = place
    wide = np.full((120, 50_000, 3), 30, np.uint8)
    ramp = np.arange(wide.shape[1]) // 40 % 200
    wide[20:100] = ramp[None, :, None]
    found = np.zeros((64, 64, 3), np.uint8)
    cut(wide, np.array(place, np.float32), found)
    begin, end = (max(0, x - side), x + side) if side < REACH else (0, wide.shape[1])
    if end <= 0:
        assert not found.any()
        return
    step = 1 if side < REACH else 2
    narrow = np.zeros((64, 64, 3), np.uint8)
    cut(wide[::step, begin:end:step], np.array([(x - begin) / step, y / step, side / step], np.float32), narrow)
    assert np.abs(found.astype(int) - narrow).max() <= 1


def test_damaged_sound_stops_no_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fault that a library can find in a packet leaves out that packet."""
    clip = tmp_path / "clip.ts"
    make_clip(clip, 40, audio="aac")
    calls = 0

    class Filter:
        def __init__(self, *arguments: Any) -> None:
            self._filter = BitStreamFilterContext(*arguments)

        def filter(self, packet: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls in (3, 4, 9):
                raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input")
            return self._filter.filter(packet)

    monkeypatch.setattr("rtpose.sinks.video.BitStreamFilterContext", Filter)
    source = open_source(clip)
    sink = open_overlay(tmp_path / "out.mp4", source.info, overwrite=False)
    with caplog.at_level(logging.WARNING):
        for frame in source.frames():
            sink.write(Result(frame))
        sink.close()
    video, sound = times_of(tmp_path / "out.mp4")
    assert len(video) == 40
    assert len(sound) == calls - 3
    assert [record.message for record in caplog.records if "sound" in record.message]


def test_sound_that_begins_in_mid_stream(tmp_path: Path) -> None:
    """Two recordings in one file, as a sender makes it that switches its sound on: every picture counts."""
    silent, loud = tmp_path / "silent.ts", tmp_path / "loud.ts"
    make_clip(silent, 400, size=(64, 48))
    make_clip(loud, 20, size=(64, 48), audio="mp2")
    clip = tmp_path / "both.ts"
    clip.write_bytes(silent.read_bytes() + loud.read_bytes())
    source = open_source(clip)
    assert isinstance(source, FileSource)
    assert sum(1 for _ in source.frames()) == 420


@pytest.mark.parametrize(
    "fault", [ValueError("odd"), IndexError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), OSError(5, "I/O error")]
)
def test_every_error_of_a_stream_is_a_reconnect(fault: Exception, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, 5)
    from rtpose import source as module

    opened = 0

    def connect() -> Any:
        nonlocal opened
        opened += 1
        if opened == 2:
            raise fault
        stream = module._Stream("http://camera/live", "camera", av.open(str(clip)), "auto")
        if opened == 1:

            def broken() -> Any:
                yield from stream._video.__class__.pictures(stream._video)
                raise fault

            stream._video.pictures = broken  # type: ignore[method-assign]
        return stream

    source = LiveSource("camera", connect)
    frames = list(source.frames())
    assert opened == 3
    assert frames
    assert any("vanished and was reopened, times: 1" in note for note in source.notes)


def in_child(send: Callable[[Any], None]) -> None:
    try:
        next(rtpose.track(CLIP, lifter="none"))
        send("a result")
    except rtpose.errors.InputError as error:
        send(str(error))


def test_a_forked_process_is_told_so() -> None:
    results = rtpose.track(CLIP, lifter="none")
    next(results)
    for method, said in (("fork", "spawn"), ("spawn", "a result")):
        context = multiprocessing.get_context(method)
        here, there = context.Pipe()
        child = context.Process(target=in_child, args=(there.send,))
        child.start()
        there.close()
        assert said in here.recv()
        child.join()
    results.close()


def test_a_wide_picture_is_run(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((40, 33_000, 3), np.uint8))
    done = rtpose_command(tmp_path / "wide.png", "--save", tmp_path / "wide.jsonl", "--lifter", "none")
    assert done.returncode == 0, done.stderr
