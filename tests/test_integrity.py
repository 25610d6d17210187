"""Damaged journals, spools and caches, files that are not rtpose's, and two runs on one output: nothing is silently wrong or lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpose.errors import InputError, RtposeError
from rtpose.integrity import RESULTS, check_own, with_cache
from rtpose.jit import jit
from rtpose.journal import Journal, exports_of, run_of
from rtpose.locks import IN_FOLDER, locked
from rtpose.sinks.data import read_results
from rtpose.types import F32

from .conftest import REPOSITORY
from .test_journal import ask, same

FRAMES = 8


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[F32]]:
    """A journal, and the answers that are in it."""
    path = tmp_path_factory.mktemp("journal") / "x.journal"
    journal = Journal(path, "run", resume=False)
    answers, _ = ask(journal, FRAMES)
    journal.close(finished=False)
    return path.read_bytes(), answers


def damage(data: bytes, how: str, at: int, tail: bytes) -> bytes:
    if how == "cut":
        return data[:at]
    if how == "zeros":
        return data[:at] + bytes(len(data) - at)
    if how == "longer":
        return data + bytes(at)
    if how == "flip":
        return data[:at] + bytes([data[at] ^ (1 + tail[0] % 255)]) + data[at + 1 :]
    return data[:at] + tail


DAMAGE = (
    st.sampled_from(["cut", "zeros", "longer", "flip", "random"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=300),
)


@settings(max_examples=300)
@given(*DAMAGE)
def test_any_damage_to_a_journal_is_computed_again_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, whole: tuple[bytes, list[F32]], how: str, share: float, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "x.journal"
    data, wanted = whole
    broken = damage(data, how, int(share * len(data)), tail)
    path.write_bytes(broken)
    refused = ""
    try:
        if run_of(path) not in (None, "run"):
            return  # of another run: refused by its name
        journal = Journal(path, "run", resume=True)
    except InputError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        assert path.read_bytes() == broken
        return
    answers, _ = ask(journal, FRAMES)
    journal.close(finished=False)
    assert same(answers, wanted)
    assert path.read_bytes() == data


@pytest.mark.parametrize("tail", [bytes(13), bytes(100_000), b"\xff" * 64])
def test_what_is_cut_off_is_told(tmp_path: Path, whole: tuple[bytes, list[F32]], tail: bytes) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(whole[0] + tail)
    (note,) = Journal(path, "run", resume=True).notes
    assert f"its last {len(tail)} bytes are damaged" in note
    assert path.read_bytes() == whole[0]


def test_a_journal_of_another_version_is_begun_anew_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(json.dumps({"rtpose journal": 1, "run": "run"}).encode() + b"\n" + bytes(range(200)))
    journal = Journal(path, "run", resume=True)
    assert "another version" in journal.notes[0]
    _, asked = ask(journal, FRAMES)
    assert asked[0] == FRAMES


def test_entries_of_another_run_or_place_do_not_fit(tmp_path: Path, whole: tuple[bytes, list[F32]]) -> None:
    data = whole[0]
    head = data.index(b"\n") + 1
    path = tmp_path / "x.journal"
    path.write_bytes(data + data[head:])  # as if blocks had been written twice
    journal = Journal(path, "run", resume=True)
    assert len(journal.notes) == 1
    assert path.read_bytes() == data


def test_a_journal_knows_where_its_run_exports(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    assert exports_of(path) == set()
    journal = Journal(path, "run", resume=False)
    journal.exports(tmp_path / "größer")
    journal.close(finished=False)
    ask(Journal(path, "run", resume=False), 1)
    journal = Journal(path, "run", resume=False)
    journal.exports(tmp_path / "größer")
    wanted, _ = ask(journal, FRAMES)
    assert exports_of(path) == {str(tmp_path / "größer")}
    answers, asked = ask(Journal(path, "run", resume=True), FRAMES)
    assert asked == (0, 0)
    assert same(answers, wanted)


@pytest.mark.parametrize("name", ["x.jsonl.journal", "x.jsonl.partial"])
@pytest.mark.parametrize("kind", ["link", "dangling", "text", "folder"])
def test_only_what_rtpose_made_is_replaced(tmp_path: Path, name: str, kind: str) -> None:
    path, own = tmp_path / name, tmp_path / "precious"
    own.write_text("precious\n")
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("precious\n")
    else:
        path.symlink_to(own if kind == "link" else tmp_path / "nowhere")
    write = partial(Journal, path, "run", resume=False) if name.endswith(".journal") else partial(check_own, path, RESULTS)
    with pytest.raises(InputError, match=name):
        write()
    assert own.read_text() == "precious\n"
    assert not (tmp_path / "nowhere").exists()
    assert kind != "text" or path.read_text() == "precious\n"


@pytest.mark.parametrize("content", [b"", bytes(5000), b'{"rtp', b'{"rtpose":1}\n'])
def test_what_is_empty_or_rtposes_may_be_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    check_own(tmp_path / "x", RESULTS)


LINES = [
    {"rtpose": 1, "source": "x", "width": 8, "height": 8, "keypoint_names": [], "models": {}, "mode": "offline"},
    *({"frame": i, "time": i / 30, "people": []} for i in range(20)),
]


@settings(max_examples=200)
@given(share=st.floats(0, 1), tail=st.one_of(st.integers(1, 500).map(bytes), st.binary(min_size=1, max_size=500)))
def test_a_spool_with_a_damaged_end_is_read_up_to_there_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, share: float, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("spool") / "x.jsonl.partial"
    lines = [json.dumps(line).encode() + b"\n" for line in LINES]
    data = b"".join(lines)
    at = len(lines[0]) + int(share * (len(data) - len(lines[0])))
    path.write_bytes(data[:at] + tail)
    sound = data[:at].count(b"\n") - 1
    records = read_results(path)[1]
    refused, frames = "", []
    try:
        frames += [record.frame for record in records]
    except InputError as error:
        refused = str(error)
    if refused:
        assert "line" in refused
        assert tail.strip(b"\0")  # zeros are known for what they are
        return
    assert frames[:sound] == list(range(sound))
    assert len(frames) <= sound + 1
    assert records.partial or at == len(data) or len(frames) == sound + 1


def test_a_results_file_that_is_wrong_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [json.dumps(line).encode() for line in LINES]
    path.write_bytes(b"\n".join([*lines[:5], bytes(30), *lines[5:]]) + b"\n")
    with pytest.raises(InputError, match="line 6"):
        list(read_results(path)[1])


def test_a_cache_that_is_damaged_is_made_again_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, made = tmp_path / "cache", []

    def make(place: Path) -> bytes:
        file = place / "blob"
        if not file.exists():
            made.append(place)
            file.write_bytes(bytes(range(256)) * 40)
        return file.read_bytes()

    wanted = with_cache(folder, make)
    assert with_cache(folder, make) == wanted
    assert len(made) == 1
    assert not caplog.records
    data = (folder / "blob").read_bytes()
    broken = [data[:-1], data + b"\0", bytes(len(data)), b"", data[:5000] + b"\x01" + data[5001:]]
    for number, content in enumerate(broken, 2):
        (folder / "blob").write_bytes(content)
        assert with_cache(folder, make) == wanted
        assert len(made) == number
        assert "is damaged (blob)" in caplog.records[-1].getMessage()
    for content in (b"", b"[1", b"[]", b'{"blob": 3}', b"\xff"):
        (folder / "checksums.json").write_bytes(content)
        assert with_cache(folder, make) == wanted
    (folder / "other").write_bytes(b"left by a process that was killed")
    assert with_cache(folder, make) == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
    assert sorted(path.name for path in folder.iterdir()) == ["blob", "checksums.json"]


def test_what_a_cache_cannot_make_is_passed_on(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        (place / "half").touch()
        raise RtposeError("no")

    with pytest.raises(RtposeError):
        with_cache(tmp_path / "cache", fail)
    assert not list(tmp_path.iterdir())


def test_compiled_code_that_is_damaged_is_compiled_again(tmp_path: Path) -> None:
    code = (
        "import numpy as np; from rtpose.tracking import overlap as f; print(f(np.array([0., 0, 2, 2]), np.array([0., 0, 2, 1])));"
        "print(sum(f.stats.cache_hits.values()))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> tuple[list[str], str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), done.stderr

    assert run() == (["0.5", "0"], "")
    assert run() == (["0.5", "1"], "")
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for change in (
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
        lambda data: data[:-9] + b"x" + data[-8:],
        lambda data: b"",
    ):
        for ending in (".nbi", ".nbc"):
            for path in files:
                if path.suffix == ending:
                    path.write_bytes(change(path.read_bytes()))
            said, note = run()
            assert said == ["0.5", "0"]
            assert note.count("is damaged") == 1
            assert note.count("\n") == 1
            assert run() == (["0.5", "1"], "")


def test_every_compiled_function_has_a_checked_cache() -> None:
    """numba's own cache believes anything."""
    for path in (REPOSITORY / "rtpose").rglob("*.py"):
        if path.name != "jit.py":
            assert "cache=True" not in path.read_text(encoding="utf-8"), path


def test_options_reach_numba() -> None:
    @jit
    def twice(x: float) -> float:
        return 2 * x

    assert twice(3.0) == 6.0
    assert np.isclose(jit(lambda x: x + 1, fastmath=True)(1.5), 2.5)


def test_the_second_run_says_who_holds_the_output(tmp_path: Path) -> None:
    save, folder = tmp_path / "x.jsonl", tmp_path / "out"
    folder.mkdir()
    with locked(save, folder, None, "-"):
        for other in (save, folder, tmp_path / "out" / ".." / "x.jsonl"):
            with pytest.raises(InputError, match=f"process {os.getpid()} on .*, since 2"), locked(tmp_path / "y", other):
                pass
        with locked(tmp_path / "y"):
            pass
        link = tmp_path / "link"
        link.symlink_to(save)
        with pytest.raises(InputError, match="another run"), locked(link):
            pass
        link.unlink()
    with locked(save, folder):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_lock_ends_with_the_process(tmp_path: Path) -> None:
    save = tmp_path / "x.jsonl"
    code = f"import time; from rtpose.locks import locked\nwith locked({str(save)!r}): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {holder.pid} on"), locked(save):
            pass
        holder.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".x.jsonl.lock"]
    with locked(save):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_is_no_file_of_the_users(tmp_path: Path) -> None:
    (tmp_path / ".x.jsonl.lock").write_text("precious")
    with pytest.raises(InputError, match=r"\.x\.jsonl\.lock is in the way"), locked(tmp_path / "x.jsonl"):
        pass
    assert (tmp_path / ".x.jsonl.lock").read_text() == "precious"
    with locked(tmp_path / "missing" / "x.jsonl", "/dev/null", tmp_path / ("long" * 60)):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.jsonl.lock"]


def test_a_folder_in_one_that_cannot_be_written_has_its_lock_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with locked(folder):
        assert [path.name for path in folder.iterdir()] == [IN_FOLDER]
        with pytest.raises(InputError, match="another run"), locked(folder):
            pass
    assert not list(folder.iterdir())
