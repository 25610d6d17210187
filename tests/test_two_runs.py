"""Runs that go on where others were cut off, or meet at one output: with exports, with damaged journals, with two of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rtpose.locks import locked
from rtpose.sinks import replacing

from .conftest import REPOSITORY
from .test_cli import refused, rtpose_command

QUICK = ("--lifter", "none")


def killed(clip: Path, *options: object) -> None:
    command = [sys.executable, "-m", "tests.faulty", "smooth", "kill", "17", str(clip), *map(str, options)]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -9


def test_resume_with_export_replaces_its_own_files_alone(person_clip: Path, tmp_path: Path) -> None:
    save, folder = tmp_path / "x.jsonl", tmp_path / "out"
    options = ["--save", save, *QUICK, "--export", "csv", "--out-dir", folder]
    killed(person_clip, *options)
    (folder / "people.csv").write_text("half")  # as if it had been cut off a little later
    other = tmp_path / "other"
    other.mkdir()
    (other / "people.csv").write_text("precious")
    refused(rtpose_command(person_clip, *options[:-1], other, "--resume"), "people.csv exists")
    done = rtpose_command(person_clip, *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert (folder / "people.csv").read_text().startswith("frame,time")
    assert (other / "people.csv").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out", "x.jsonl"]


@pytest.mark.parametrize("mode", ["refined", "causal"])
@pytest.mark.parametrize("left", ["zeros", "empty", "tail", "foreign"])
def test_resume_with_a_damaged_journal(mode: str, left: str, person_clip: Path, tmp_path: Path) -> None:
    whole, save, journal = tmp_path / "whole.jsonl", tmp_path / "x.jsonl", tmp_path / "x.jsonl.journal"
    options = [*QUICK, *(["--causal"] if mode == "causal" else [])]
    assert rtpose_command(person_clip, "--save", whole, *options).returncode == 0
    killed(person_clip, "--save", save, *options)
    data = journal.read_bytes()
    half = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    journal.write_bytes({"zeros": bytes(len(data)), "empty": b"", "tail": half, "foreign": b"precious\n"}[left])
    done = rtpose_command(person_clip, "--save", save, *options, "--resume")
    if left == "foreign":
        refused(done, "x.jsonl.journal", "not made by rtpose")
        assert journal.read_text() == "precious\n"
        return
    assert done.returncode == 0, done.stderr
    assert save.read_bytes() == whole.read_bytes()
    assert ("computed again" in done.stderr) == (left == "tail")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.jsonl", "x.jsonl"]


def test_of_two_runs_on_one_output_the_second_is_refused(person_clip: Path, tmp_path: Path) -> None:
    save, results = tmp_path / "x.jsonl", tmp_path / "results"
    results.mkdir()
    with locked(save, results / "person.jsonl"):
        for options in ([], ["--overwrite"], ["--resume"]):
            refused(
                rtpose_command(person_clip, "--save", save, *QUICK, *options), "x.jsonl is being written by another run", "since"
            )
        done = rtpose_command("batch", person_clip, "--out-dir", results, *QUICK)
        refused(done, "another run", code=1)
        assert "0 of 1 files done" in done.stderr
        assert not save.exists()
        assert [path.name for path in results.iterdir()] == [".person.jsonl.lock"]
    assert not list(results.iterdir())


def test_no_unfinished_file_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("precious")
    (tmp_path / "x.csv.unfinished").symlink_to(tmp_path / "own")
    with pytest.raises(OSError, match="is a link"), replacing(tmp_path / "x.csv") as file:
        file.write(b"no")
    assert (tmp_path / "own").read_text() == "precious"
