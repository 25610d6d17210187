"""Long files: parts of them, and runs that were cut off and go on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

from rtpose.errors import InputError
from rtpose.source import open_source, seconds_of

from .conftest import REPOSITORY
from .test_cli import refused, rtpose_command

QUICK = ("--lifter", "none")


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize(("text", "seconds"), [("75.5", 75.5), ("1:15.5", 75.5), ("0:01:15.5", 75.5), ("2:00:00", 7200)])
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["soon", "1:2:3:4", "-1", "nan", "1:", ""])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InputError, match="h:mm:ss"):
        seconds_of(text)


def test_a_part_keeps_numbers_and_times(person_clip: Path) -> None:
    whole = list(open_source(person_clip).frames())
    begin = whole[0].time
    source = open_source(person_clip, start=0.3, end=0.7)
    part = list(source.frames())
    wanted = [f for f in whole if 0.3 <= f.time - begin < 0.7]
    assert [(f.index, f.time) for f in part] == [(f.index, f.time) for f in wanted]
    assert (part[0].image == wanted[0].image).all()
    assert source.info.part
    assert source.info.frames == len(part)
    assert list(open_source(person_clip, start=0.3).frames())[-1].index == 29


def test_parts_that_cannot_be(person_clip: Path, tmp_path: Path) -> None:
    for arguments, words in (
        (("--start", "0:02:00"), ("--start", "after the end", "person.mp4")),
        (("--start", "0.6", "--end", "0.5"), ("--start", "before --end")),
        (("--start", "late"), ("late", "h:mm:ss")),
    ):
        refused(rtpose_command(person_clip, "--save", tmp_path / "x.jsonl", *arguments), *words)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    refused(rtpose_command(picture, "--start", 1), "--start", "video file")


def test_a_part_is_drawn_with_its_own_times(person_clip: Path, tmp_path: Path) -> None:
    save, out = tmp_path / "x.jsonl", tmp_path / "x.mp4"
    done = rtpose_command(person_clip, *QUICK, "--start", "0.3", "--end", "0:00:00.7", "--save", save, "--out", out)
    assert done.returncode == 0, done.stderr
    times = [json.loads(line)["time"] for line in save.read_text().splitlines()[1:]]
    assert frame_times(out) == pytest.approx(times, abs=1e-6)
    assert times == pytest.approx([t for t in frame_times(person_clip) if 0.3 <= t < 0.7])


@pytest.mark.parametrize("mode", ["refined", "causal"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(mode: str, person_clip: Path, tmp_path: Path) -> None:
    options = [*QUICK, *(["--causal"] if mode == "causal" else [])]
    whole, save, out = tmp_path / "whole.jsonl", tmp_path / "x.jsonl", tmp_path / "x.mp4"
    assert rtpose_command(person_clip, "--save", whole, *options, "--resume").returncode == 0  # nothing to resume: it starts
    files = ["--save", str(save), "--out", str(out)]
    killed = [sys.executable, "-m", "tests.faulty", "smooth", "kill", "17", str(person_clip), *files, *options]
    assert subprocess.run(killed, cwd=REPOSITORY).returncode == -9
    refused(rtpose_command(person_clip, *files, *options), "--overwrite")
    refused(rtpose_command(person_clip, *files, *options, "--max-people", 3, "--resume"), "x.jsonl", "other settings")
    resumed = rtpose_command(person_clip, *files, *options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert save.read_bytes() == whole.read_bytes()
    assert frame_times(out) == pytest.approx(frame_times(person_clip), abs=1e-6)
    before = save.stat().st_mtime_ns, out.stat().st_mtime_ns
    again = rtpose_command(person_clip, *files, *options, "--resume")
    assert again.returncode == 0
    assert "finished" in again.stderr
    assert (save.stat().st_mtime_ns, out.stat().st_mtime_ns) == before
    drawn = out.read_bytes()
    out.unlink()
    exports = ["--export", "csv", "--out-dir", str(tmp_path / "tables")]
    for _ in range(2):  # what is there is left
        missing = rtpose_command(person_clip, *files, *options, *exports, "--resume")
        assert missing.returncode == 0, missing.stderr
    assert "nothing left to do" in missing.stderr
    assert (mode == "causal" and frame_times(out) == frame_times(person_clip)) or out.read_bytes() == drawn
    assert (tmp_path / "tables" / "people.csv").read_text().startswith("frame,")
    shutil.rmtree(tmp_path / "tables")
    refused(rtpose_command(person_clip, *files, *options, "--start", "0.2", "--resume"), "x.jsonl", "other settings")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.jsonl", "x.jsonl", "x.mp4"]


def test_what_cannot_be_resumed(person_clip: Path, tmp_path: Path) -> None:
    refused(rtpose_command(person_clip, "--resume"), "--resume", "--save")
    foreign = tmp_path / "x.jsonl"
    foreign.write_text("precious\n")
    refused(rtpose_command(person_clip, "--save", foreign, "--resume"), "x.jsonl")
    assert foreign.read_text() == "precious\n"


def test_a_batch_reports_what_fails_and_does_the_rest(person_clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    folder = tmp_path / "results"
    done = rtpose_command("batch", broken, person_clip, "--out-dir", folder, *QUICK, "--overlay")
    assert done.returncode == 1
    for word in ("1 of 2 files done", "broken.mp4 is not a video", "person.mp4", "30"):
        assert word in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["person.jsonl", "person.mp4"]
    before = (folder / "person.jsonl").stat().st_mtime_ns
    again = rtpose_command("batch", person_clip, "--out-dir", folder, *QUICK, "--overlay", "--resume")
    assert again.returncode == 0, again.stderr
    assert (folder / "person.jsonl").stat().st_mtime_ns == before
    refused(rtpose_command("batch", person_clip, folder / "person.mp4", "--out-dir", folder), "person", "one name")


def test_a_batch_leaves_alone_what_is_in_its_way(person_clip: Path, tmp_path: Path) -> None:
    other, folder = tmp_path / "other.mp4", tmp_path / "results"
    other.symlink_to(person_clip)
    folder.mkdir()
    (folder / "person.jsonl").write_text("precious\n")
    done = rtpose_command("batch", person_clip, other, "--out-dir", folder, *QUICK, "--causal")
    refused(done, "person.jsonl exists", code=1)
    assert "1 of 2 files done" in done.stderr
    assert (folder / "person.jsonl").read_text() == "precious\n"
    assert len((folder / "other.jsonl").read_text().splitlines()) == 31


def test_a_batch_takes_globs(person_clip: Path, tmp_path: Path) -> None:
    videos, folder = tmp_path / "videos", tmp_path / "results"
    videos.mkdir()
    for name in ("a.mp4", "[b].mp4"):
        (videos / name).symlink_to(person_clip)
    refused(rtpose_command("batch", person_clip, videos / "*.avi", "--out-dir", folder), "no file matches", "*.avi")
    refused(rtpose_command("batch", videos / "*.mp4", videos / "a.mp4", "--out-dir", folder), "a", "one name")
    assert not folder.exists()
    done = rtpose_command("batch", videos / "a*", videos / "[b].mp4", "--out-dir", folder, *QUICK, "--causal")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 files done" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["[b].jsonl", "a.jsonl"]


def test_a_batch_takes_folders_and_what_a_run_takes(person_clip: Path, tmp_path: Path) -> None:
    videos, folder = tmp_path / "videos", tmp_path / "results"
    videos.mkdir()
    refused(rtpose_command("batch", videos, "--out-dir", folder), "holds no videos", ".mp4")
    (videos / "a.mp4").symlink_to(person_clip)
    (videos / "notes.txt").write_text("no video")
    run = [
        *QUICK,
        "--causal",
        "--start",
        "0.2",
        "--end",
        "0.5",
        "--people",
        "main",
        "--region",
        "0%,0%,100%,90%",
        "--detect-every",
        3,
    ]
    done = rtpose_command("batch", videos, "--out-dir", folder, *run, "--export", "csv", "coco")
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["a", "a.jsonl", "a/coco.json", "a/people.csv"]
    alone = tmp_path / "alone.jsonl"
    assert rtpose_command(videos / "a.mp4", *run, "--save", alone).returncode == 0
    assert (folder / "a.jsonl").read_bytes() == alone.read_bytes()
