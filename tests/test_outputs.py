"""Whether outputs can be written is known before the work starts, and any name that a file may have is one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtpose.errors import InputError
from rtpose.locks import locked
from rtpose.sinks import check_distinct, check_output
from rtpose.sinks.video import VideoSink, open_overlay
from rtpose.source import SourceInfo, open_source
from rtpose.types import Frame, Result


def info(width: int = 64, height: int = 48, *, pictures: bool = False) -> SourceInfo:
    return SourceInfo("nowhere.mp4", width, height, Fraction(25), Fraction(1, 90000), pictures=pictures, frames=1)


def write_video(path: Path) -> None:
    sink = VideoSink(path, info())
    for index in range(3):
        sink.write(Result(Frame(index, index / 25, np.full((48, 64, 3), 80 * index, np.uint8), time.monotonic_ns())))
    sink.close()


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mkv", "12:30 match.mov", "file:x.mp4", "50% #1?.mp4", "-y.mp4"])
def test_a_relative_name_may_hold_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path(name))
    assert os.listdir() == [name]
    with av.open(str(tmp_path / name)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
    assert [frame.index for frame in open_source(name).frames()] == [0, 1, 2], "and it can be read again"


def test_a_refined_run_draws_into_a_name_with_a_colon(person_clip: Path, tmp_path: Path) -> None:
    words = [person_clip, "--end", "0.3", "--lifter", "none", "--out", "a:b.mp4", "--save", "c:d.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "rtpose", *map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a:b.mp4", "c:d.jsonl"]


@pytest.mark.parametrize("size", [(16386, 64), (64, 20000), (16384, 16384)])
def test_pictures_too_large_for_the_encoder_are_refused_at_once(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"no H.264 video holds pictures of {size[0]}x{size[1]} px: leave out --out"):
        VideoSink(tmp_path / "x.mp4", info(*size))
    with pytest.raises(InputError, match="give a folder for pictures"):
        open_overlay(tmp_path / "x.mp4", info(*size, pictures=True), overwrite=False)
    assert not list(tmp_path.iterdir())


def test_pictures_too_large_for_their_kind_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.webp holds 16384x10 px; give a name that ends in \.png"):
        open_overlay(tmp_path / "x.webp", info(16384, 10, pictures=True), overwrite=False)
    open_overlay(tmp_path / "x.png", info(16384, 10, pictures=True), overwrite=False)


def test_names_and_files_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="File name too long"):
        check_output(tmp_path / ("x" * 245 + ".mp4"), (".mp4",), overwrite=False)
    check_output(tmp_path / ("x" * 200 + ".mp4"), (".mp4",), overwrite=False)
    (tmp_path / "old.mp4").touch()
    check_output(tmp_path / "old.mp4", (".mp4",), overwrite=True)
    monkeypatch.setattr(os, "access", lambda *_: False)  # whoever may do everything cannot try it
    with pytest.raises(InputError, match="it is write-protected"):
        check_output(tmp_path / "old.mp4", (".mp4",), overwrite=True)


def test_two_outputs_of_one_name_and_an_output_that_is_read(tmp_path: Path) -> None:
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    one.touch()
    other.symlink_to(one)
    check_distinct([one, tmp_path / "two.npz"])
    for paths in ([one, one], [one, tmp_path / "." / "one.npz"], [one, other]):
        with pytest.raises(InputError, match="is to hold two outputs"):
            check_distinct(paths)
    with pytest.raises(InputError, match="is read by this run"):
        check_distinct([tmp_path / "new.npz", other], [one])


def test_outputs_are_checked_before_a_run(person_clip: Path, tmp_path: Path) -> None:
    body = tmp_path / "smpl.npz"
    body.touch()
    for words, message in (
        (["--save", "people.npz", "--export", "npz", "--out-dir", "."], "is to hold two outputs"),
        (["--save", "smpl.npz", "--body-model", "smpl.npz", "--overwrite"], "is read by this run"),
        (["--out", "none/x.mp4"], "no such folder"),
        (["--out", "x.webm"], "its name should end in .mp4"),
        (["--min-duration", "1"], "say --export FORMAT"),
        (["--export", "csv", "--out-dir", ".", "--min-duration", "-1"], "give seconds"),
    ):
        line = [sys.executable, "-m", "rtpose", str(person_clip), *words]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert message in " ".join(done.stderr.split())
        assert [p.name for p in tmp_path.iterdir()] == ["smpl.npz"]


def test_whoever_only_looks_at_a_name_that_is_too_long_leaves_it_to_the_check(tmp_path: Path) -> None:
    name = tmp_path / f"{300 * 'a'}.jsonl"
    with locked(name):
        check_distinct([name], [name.with_suffix(".mp4")])
        with pytest.raises(InputError, match=r"cannot write .*: File name too long"):
            check_output(name, (".jsonl",), overwrite=True)
