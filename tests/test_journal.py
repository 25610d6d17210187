"""The networks' answers on disk: read again as they were, whatever is left of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpose.errors import InputError
from rtpose.journal import Journal, fingerprint, run_of
from rtpose.types import F32, U8


class Network:
    """Answers with numbers that depend on the picture; counts how often it was asked."""

    def __init__(self, columns: int) -> None:
        self.columns, self.asked = columns, 0

    def __call__(self, pictures: U8) -> F32:
        self.asked += 1
        value = int(pictures[0, 0, 0])
        return np.random.default_rng(value).normal(size=(value % 4, self.columns)).astype(np.float32)


def ask(journal: Journal, frames: int) -> tuple[list[F32], tuple[int, int]]:
    """Ask two networks in turn, the second at every other frame."""
    networks = Network(5), Network(51)
    first, second = (journal.keep(network) for network in networks)
    answers = []
    for i in range(frames):
        picture = np.full((2, 2, 3), i % 256, np.uint8)
        answers.append(first(picture))
        if i % 2:
            answers.append(second(picture))
    return answers, (networks[0].asked, networks[1].asked)


def same(a: list[F32], b: list[F32]) -> bool:
    return len(a) == len(b) and all(x.size == y.size and (x.ravel() == y.ravel()).all() for x, y in zip(a, b, strict=True))


def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    journal = Journal(path, "run", resume=False)
    ask(journal, 20)
    journal.close(finished=False)
    assert run_of(path) == "run"
    journal = Journal(path, "run", resume=True)
    answers, asked = ask(journal, 30)
    assert asked == (10, 5)
    journal.close(finished=True)
    assert not path.exists()
    assert run_of(path) is None
    wanted, _ = ask(Journal(tmp_path / "y.journal", "run", resume=False), 30)
    assert same(answers, wanted)


@given(st.floats(0, 1))
def test_a_journal_that_was_cut_anywhere_is_good_up_to_there(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("journal") / "x.journal"
    journal = Journal(path, "run", resume=False)
    wanted, _ = ask(journal, 12)
    journal.close(finished=False)
    head = len(path.read_bytes().split(b"\n")[0]) + 1
    data = path.read_bytes()
    path.write_bytes(data[: head + int(share * (len(data) - head))])
    for _ in range(2):  # the second time nothing is left to be asked
        journal = Journal(path, "run", resume=True)
        answers, asked = ask(journal, 12)
        journal.close(finished=False)
        assert same(answers, wanted)
    assert asked == (0, 0)


def test_a_run_is_known_by_its_file_and_its_settings(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(bytes(3_000_000))
    name = fingerprint(clip, threads=2)
    assert name == fingerprint(clip, threads=2)
    assert name != fingerprint(clip, threads=1)
    clip.write_bytes(bytes(2_999_999) + b"x")
    assert name != fingerprint(clip, threads=2)
    (tmp_path / "x.journal").write_bytes(b"something else\n")
    with pytest.raises(InputError, match="not made by rtpose"):
        run_of(tmp_path / "x.journal")


def test_a_journal_that_says_nothing_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    path.touch()  # the disk was full
    assert run_of(path) is None
    Journal(path, "run", resume=True).close(finished=False)
    assert not path.exists()
