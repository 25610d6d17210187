"""The fault matrix: whatever fails, wherever, in a real process: no hang, nothing written lost, the stage named, the exit code right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from .conftest import REPOSITORY

FRAMES, AT = 30, 17
PLACES = ("source", "detect", "keypoints", "ankles", "smooth", "lift", "save", "out")
KINDS = ("raises", "ends", "interrupt", "slow", "kill")
MATRIX = [(place, kind, mode) for place in PLACES for kind in KINDS for mode in ("--offline", "--live")]
EVERY_RUN = {
    ("source", "raises", "--offline"),
    ("detect", "kill", "--offline"),
    ("keypoints", "raises", "--offline"),
    ("keypoints", "ends", "--live"),
    ("smooth", "interrupt", "--live"),
    ("lift", "slow", "--live"),
    ("save", "raises", "--live"),
    ("out", "kill", "--offline"),
    ("out", "interrupt", "--offline"),
}


def written_frames(path: Path) -> list[int]:
    """Frame numbers of a JSON Lines file, every line of which must be whole."""
    text = path.read_text() if path.exists() else ""
    assert text == "" or text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    if lines:
        assert lines[0]["rtpose"] == 1
    return [line["frame"] for line in lines[1:]]


def video_frames(path: Path) -> int:
    """How many frames of the video decode; it must open, if it is there."""
    if not path.exists() or path.stat().st_size == 0:
        return 0
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("place", "kind", "mode"), [pytest.param(*row, marks=() if row in EVERY_RUN else pytest.mark.slow) for row in MATRIX]
)
def test_fault(place: str, kind: str, mode: str, person_clip: Path, tmp_path: Path) -> None:
    save, out = tmp_path / "people.jsonl", tmp_path / "overlay.mp4"
    command = [sys.executable, "-m", "tests.faulty", place, kind, str(AT)]
    command += [str(person_clip), mode, "--save", str(save), "--out", str(out), "--no-view"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    frames = written_frames(save)
    # The encoder holds the last frames; a process killed before it gave any leaves no video.
    shown = 0 if kind == "kill" and len(frames) <= 5 else video_frames(out)
    offline = mode == "--offline"
    stage_broke = place not in ("save", "out")
    assert frames == sorted(set(frames))
    if offline:
        assert frames == list(range(len(frames)))
    assert "Traceback" not in done.stderr

    if kind == "kill":
        assert done.returncode == -9
        if stage_broke and offline:
            # Frames that other threads had in hand when the process died were not written yet.
            assert len(frames) <= AT
        return
    if kind == "slow":
        assert done.returncode == 0, done.stderr
        assert len(frames) == shown
        assert frames == list(range(FRAMES)) if offline else FRAMES - 1 in frames
        return
    if kind == "interrupt":
        assert done.returncode == 130, done.stderr
        assert len(frames) == shown > 0
        return
    if kind == "ends" and place == "source":
        assert done.returncode == 0, done.stderr
        assert (frames == list(range(AT))) if offline else (max(frames) <= AT)
        assert len(frames) == shown
        return
    if kind == "ends" and not stage_broke:
        # A sink that wants no more ends the run well, and the other one has all that was read.
        assert done.returncode == 0, done.stderr
        return
    if not offline and done.returncode == 0:
        assert AT not in frames  # the frame at which it would have struck was dropped at the entrance
        return
    assert done.returncode == 1, done.stderr
    assert f"rtpose: {place}: " in done.stderr
    if stage_broke:
        assert len(frames) == shown
        assert not offline or frames == list(range(AT))
    elif place == "save":
        assert AT not in frames
        assert not offline or frames == list(range(AT))
    else:
        assert not offline or shown == AT
