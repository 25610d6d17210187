"""The whole command on real clips: every frame a line and a picture, with the file's own times and sound, as ffprobe tells them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import REPOSITORY

CLIPS = (
    "gast_apart.avi",
    "mmaction2_demo_skeleton.mp4",
    "mmhuman3d_multi_person_demo.mp4",
    "mmpose_body3d_demo.mp4",
    "mmpose_demo.mp4",
    "openpose_video.avi",
    "pymaf_dancer.mp4",
    "sports2d_demo.mp4",
    "tennistracking_3.mp4",
    "tennistracking_4.mp4",
    "tennistracking_6.mp4",
    "tfjs_pose_1.mp4",
    "tfjs_pose_squats.mp4",
)


def probe(path: Path, *arguments: str) -> str:
    command = ["ffprobe", "-v", "error", *arguments, "-of", "csv=p=0", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def frame_times(path: Path) -> list[float]:
    lines = probe(path, "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time").split()
    return [float(line.strip(",")) for line in lines]


def audio_seconds(path: Path) -> float | None:
    """Where the last packet of sound ends, None without sound."""
    lines = probe(path, "-select_streams", "a:0", "-show_entries", "packet=pts_time,duration_time").splitlines()
    rows = [line.strip(",").split(",") for line in lines if line]
    # A last packet that was cut has no duration.
    return max(float(start) + (0.0 if length == "N/A" else float(length)) for start, length in rows) if rows else None


@pytest.mark.shared
@pytest.mark.parametrize("name", CLIPS)
def test_clip(name: str, shared: Path, tmp_path: Path) -> None:
    clip, save, out = shared / "data" / "videos" / name, tmp_path / "people.jsonl", tmp_path / "overlay.mp4"
    command = [sys.executable, "-m", "rtpose", str(clip), "--save", str(save), "--out", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    times = frame_times(clip)
    lines = [json.loads(line) for line in save.read_text().splitlines()]
    assert [line["frame"] for line in lines[1:]] == list(range(len(times)))
    assert [line["time"] for line in lines[1:]] == pytest.approx(times, abs=2e-6)  # ffprobe prints microseconds
    assert frame_times(out) == pytest.approx(times, abs=2e-6)
    sound, copied = audio_seconds(clip), audio_seconds(out)
    assert (sound is None) == (copied is None)
    if sound is not None and copied is not None:
        assert copied == pytest.approx(sound, abs=0.05)
    assert sum(bool(line["people"]) for line in lines[1:]) > 0.8 * len(times)
