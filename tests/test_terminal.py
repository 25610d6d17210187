"""What the command says: no secret by any way, no control character, and work that goes on where nobody can read it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from rtpose import cli
from rtpose.safe_text import safe
from rtpose.terminal import Console, for_messages, unexpected

from .bodies import Walkers
from .conftest import REPOSITORY
from .media import make_clip
from .saved import save_walk

SECRET = "geheim"
PASSWORDS = st.tuples(
    st.text(st.sampled_from("!\"' #?%[]\\a\x1bé"), max_size=4), st.text(st.sampled_from("@/:!'\" b"), max_size=3)
).map(lambda ends: f"{ends[0]}{SECRET}{ends[1]}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("results") / "run.jsonl"
    save_walk(path, Walkers(), [0.0, 0.04, 0.08], lifted=False)
    return path


COMMANDS = (
    ("{url}", "--save", "{folder}/x.jsonl"),
    ("{url}", "--start", "1", "--save", "{folder}/x.jsonl"),
    ("{url}", "--resume", "--save", "{folder}/x.npz"),
    ("{url}", "--out", "{folder}/x.mp4", "--offline"),
    ("clip.mp4", "--out", "{url}"),
    ("clip.mp4", "--save", "{url}.jsonl"),
    ("clip.mp4", "{url}"),
    ("batch", "{url}", "--out-dir", "{folder}/out"),
    ("batch", "{url}", "{url}", "--out-dir", "{folder}/out"),
    ("batch", "clip.mp4", "--out-dir", "{url}"),
    ("report", "{results}", "--video", "{url}", "--out", "{folder}/x.html"),
    ("replay", "{results}", "--video", "{url}", "--out", "{folder}/x.mp4"),
    ("replay", "{url}", "--out", "{folder}/x.mp4"),
    ("export", "{url}", "--to", "csv", "--out-dir", "{folder}/x"),
    ("measure", "{url}"),
    ("bench", "{url}"),
    ("evaluate", "{url}", "{folder}"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(password=PASSWORDS, scheme=st.sampled_from(("rtsp://", "rtsp:/", "http://", "gopher://")))
def test_no_password_leaves_by_any_way(
    command: tuple[str, ...],
    password: str,
    scheme: str,
    results: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"{scheme}viewer:{password}@127.0.0.1:1/live"
    words = [word.format(url=url, folder=tmp_path, results=results) for word in command]
    monkeypatch.setattr(sys, "argv", ["rtpose", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = "".join(capfd.readouterr())
    assert ended.value.code != 0, said
    assert SECRET not in said
    assert "viewer:" not in said
    for path in tmp_path.rglob("*"):
        assert SECRET not in str(path.relative_to(tmp_path))
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_strings_tables_and_styled_text_are_safe(capfd: pytest.CaptureFixture[str]) -> None:
    bad = "rtsp://me:geheim!'@camera/1\x1b[2J"
    table = Table("file", title=bad)
    table.add_row(bad)
    table.add_row(Text(bad, "bold"))
    console = for_messages()
    console.print(bad, markup=False)
    console.print(table)
    with console.status(bad):
        console.print(Text(bad))
    said = capfd.readouterr().err
    assert SECRET not in said
    assert "\x1b" not in said
    assert "camera" in said


def test_a_word_in_colons_stays(capfd: pytest.CaptureFixture[str]) -> None:
    for_messages().print("clips/a:cat:b.mp4")
    assert "a:cat:b.mp4" in capfd.readouterr().err


def test_warnings_of_libraries_are_notes(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(sys, "argv", ["rtpose", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    logging.getLogger("somebody").warning("lost %s", "rtsp://me:geheim@camera/1")
    assert "note: lost rtsp://camera/1" in capfd.readouterr().err


def test_an_unforeseen_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fails(*arguments: object, **more: object) -> int:
        raise RuntimeError("no way to\nrtsp://me:geheim@camera/1")

    monkeypatch.setattr(cli, "app", fails)
    for debug, lines in (("", 1), ("1", 8)):
        monkeypatch.setenv("RTPOSE_DEBUG", debug)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr().err
        assert ended.value.code == 1
        assert SECRET not in said
        assert "RuntimeError" in said
        assert len(said.splitlines()) >= lines
        assert ("Traceback" in said) == bool(debug)
        assert debug or len(said.splitlines()) == 1


def test_an_error_of_the_disk_names_the_file() -> None:
    assert unexpected(OSError(28, "No space left on device", "figures.json")).startswith("figures.json: No space left on device")


def command(*words: object, redirected: str) -> subprocess.CompletedProcess[str]:
    """rtpose in a shell, with its streams redirected as the shell has it."""
    shell = ["bash", "-c", f'"$0" -m rtpose "$@" {redirected}', sys.executable, *map(str, words)]
    return subprocess.run(shell, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words", [("models",), ("doctor",), ("--help",), ("engines", "list"), ("simulate", "--stages", "source=1,detect=2")]
)
def test_a_full_disk_behind_the_standard_output(words: tuple[str, ...]) -> None:
    done = command(*words, redirected=">/dev/full")
    if words == ("engines", "list") and not done.stderr.startswith("rtpose: "):
        assert "no engines" in done.stderr  # nothing was to be written
        return
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("rtpose: ")]
    assert lines == ["rtpose: cannot write to standard output: No space left on device"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_nobody_reads_the_messages(redirected: str, tmp_path: Path) -> None:
    """The second pass takes place all the same, and the exit code is that of the run."""
    clip = tmp_path / "clip.mp4"
    make_clip(clip, 8)
    save = tmp_path / "run.jsonl"
    done = command(clip, "--save", save, "--lifter", "none", redirected=redirected)
    assert done.returncode == 0, done.stderr
    first, *frames = save.read_text().splitlines()
    assert json.loads(first)["mode"] == "refined"
    assert len(frames) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "run.jsonl"]
    assert command(tmp_path / "none.mp4", redirected=redirected).returncode == 2


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller")
    make_clip(tmp_path / "clip.mp4", 4)
    clip = (tmp_path / "clip.mp4").rename(tmp_path / f"{name}.mp4")
    done = command("batch", clip, "--out-dir", tmp_path / name, "--lifter", "none", "--overlay", redirected="")
    assert done.returncode == 0, done.stderr
    assert r"M\udcfcller" in done.stderr
    results = tmp_path / name / f"{name}.jsonl"
    assert json.loads(results.read_text(encoding="utf-8").splitlines()[0])["source"] == str(clip)
    assert (tmp_path / name / f"{name}.mp4").exists()
    page = tmp_path / f"{name}.html"
    done = command("report", results, "--out", page, redirected="")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{safe(str(page))}\n"
    assert page.exists()


def test_a_console_that_is_not_for_a_terminal() -> None:
    assert isinstance(for_messages(), Console)
    assert not for_messages().is_terminal
