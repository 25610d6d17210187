"""Results with bodies as .npz and JSON Lines: vertices come back, crashes leave what was computed, foreign files are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtpose.errors import InputError, RtposeError
from rtpose.pipeline import Sink
from rtpose.runs import read_run
from rtpose.sinks.data import ENDINGS, NpzSink, Provenance, open_data, read_results, save_arrays
from rtpose.source import SourceInfo
from rtpose.types import Result

from ..bodies import Walkers

COMINGS: tuple[tuple[int, ...], ...] = ((), (1,), (1, 2), (2,), (), (2, 3, 4), (7,))


@pytest.fixture(scope="module")
def walkers() -> Walkers:
    return Walkers(320, 240)


def info(walkers: Walkers) -> SourceInfo:
    return SourceInfo("walk.mp4", walkers.width, walkers.height, Fraction(30), Fraction(1, 90000))


def sink(path: Path, walkers: Walkers, **more: bool) -> Sink:
    return open_data(path, info(walkers), Provenance({"lifter": "gauss"}, lifted=walkers.lifted), **more)


def results(walkers: Walkers) -> list[Result]:
    """People come and go, and the last one has no body."""
    made = [walkers.result(i, ids) for i, ids in enumerate(COMINGS)]
    last = made[-1].bodies
    assert last is not None
    arrays = ("rotations", "betas", "translation", "joints3d", "uncertainty")
    unknown = {name: np.full_like(getattr(last, name), np.nan) for name in arrays}
    return [*made[:-1], replace(made[-1], bodies=replace(last, **unknown))]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_vertices_come_back(ending: str, walkers: Walkers, tmp_path: Path) -> None:
    path, wrote = tmp_path / f"walk{ending}", results(walkers)
    writer = sink(path, walkers)
    for result in wrote:
        writer.write(result)
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "no spool is left"

    header, records = read_results(path)
    assert header.body == ("body.npz", walkers.body.sha256)
    assert header.camera == walkers.camera
    assert header.models == {"lifter": "gauss"}
    for result, record in zip(wrote, records, strict=True):
        assert (record.frame, record.time) == (result.frame.index, result.frame.time)
        assert record.people.ids.tolist() == result.people.ids.tolist()
        assert np.abs(record.people.keypoints - result.people.keypoints).max(initial=0) < 0.01
        assert record.bodies is not None
        assert result.bodies is not None
        assert record.bodies.joint_names == result.bodies.joint_names
        for row in range(len(result.people)):
            before, after = (walkers.lifted.vertices(b, row, "full") for b in (result.bodies, record.bodies))
            assert (before is None) == (after is None) == (result.frame.index == len(COMINGS) - 1)
            if before is not None and after is not None:
                assert np.abs(before - after).max() < 5e-4


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_names_of_pictures_come_back(ending: str, walkers: Walkers, tmp_path: Path) -> None:
    path, names = tmp_path / f"photographs{ending}", ["zoë.jpg", "b.png", "a b.png"]
    writer = sink(path, walkers)
    for index, name in enumerate(names):
        result = walkers.result(index)
        writer.write(replace(result, frame=replace(result.frame, file=name)))
    writer.close()
    assert [record.file for record in read_results(path)[1]] == names


def test_an_npz_is_plain_arrays_one_row_a_person(walkers: Walkers, tmp_path: Path) -> None:
    path = tmp_path / "walk.npz"
    writer = sink(path, walkers)
    for result in results(walkers):
        writer.write(result)
    writer.close()
    with np.load(path, allow_pickle=False) as data:
        assert data["people"].tolist() == [len(ids) for ids in COMINGS]
        assert data["id"].tolist() == [i for ids in COMINGS for i in ids]
        assert data["rotations"].shape == (9 - 1, 22, 3)
        assert data["betas"].shape == (8, 10)
        assert np.isnan(data["translation"][-1]).all()
        header = json.loads(str(data["header"]))
        assert header["camera"]["fx"] == walkers.camera.fx
        assert header["body"]["sha256"] == walkers.body.sha256


@pytest.mark.parametrize("bodies", [False, True])
def test_nobody_at_all(bodies: bool, walkers: Walkers, tmp_path: Path) -> None:
    path = tmp_path / "empty.npz"
    writer = sink(path, walkers)
    for i in range(2):
        result = walkers.result(i, ())
        writer.write(result if bodies else replace(result, bodies=None))
    writer.close()
    header, records = read_results(path)
    assert (header.joints3d_names is not None) == bodies
    assert [len(r.people) for r in records] == [0, 0]
    assert all((r.bodies is not None) == bodies for r in records)


def test_keypoints_alone_make_an_npz_too(walkers: Walkers, tmp_path: Path) -> None:
    path = tmp_path / "flat.npz"
    writer = open_data(path, info(walkers), Provenance())
    writer.write(replace(walkers.result(0), bodies=None))
    writer.close()
    header, records = read_results(path)
    assert (header.body, header.camera, header.joints3d_names) == (None, None, None)
    assert [r.people.ids.tolist() for r in records] == [[1, 2]]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.bodies import Walkers
from tests.sinks.test_arrays import sink
walkers = Walkers(320, 240)
writer = sink(Path(sys.argv[1]), walkers)
for i in range(5):
    writer.write(walkers.result(i))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_program_leaves_its_spool(walkers: Walkers, tmp_path: Path) -> None:
    path, root = tmp_path / "walk.npz", Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, path], cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    assert done.returncode == -signal.SIGKILL
    spool = tmp_path / "walk.npz.partial"
    assert [p.name for p in tmp_path.iterdir()] == [spool.name]
    assert [len(r.people) for r in read_results(spool)[1]] == [2] * 5
    with pytest.raises(InputError, match=r"walk\.npz\.partial is what a run left"):
        sink(path, walkers)
    with open(spool, "ab") as file:
        file.write(b'{"frame":5,"ti')  # the line that was being written
    save_arrays(spool, path)
    assert [r.frame for r in read_results(path)[1]] == list(range(5))


def test_a_disk_that_is_full_at_the_end_keeps_the_spool(walkers: Walkers, tmp_path: Path) -> None:
    writer = sink(tmp_path / "walk.npz", walkers)
    assert isinstance(writer, NpzSink)
    writer.write(walkers.result(0))
    (tmp_path / "walk.npz.unfinished").symlink_to("/dev/full")
    with pytest.raises(RtposeError, match=r"No space left on device; the results are kept in .*partial"):
        writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["walk.npz.partial"]


def test_outputs_that_cannot_be(walkers: Walkers, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its name should end in \.jsonl, \.npz"):
        sink(tmp_path / "walk.csv", walkers)
    (tmp_path / "walk.npz").write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        sink(tmp_path / "walk.npz", walkers)
    writer = sink(tmp_path / "walk.npz", walkers, overwrite=True)
    writer.close()
    assert (tmp_path / "walk.npz").read_bytes() == b"mine", "a run without frames replaces nothing"


def test_foreign_and_damaged_arrays(walkers: Walkers, tmp_path: Path) -> None:
    path = tmp_path / "walk.npz"
    writer = sink(path, walkers)
    writer.write(walkers.result(0))
    writer.close()
    with np.load(path) as data:
        arrays = dict(data)
    whole = path.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            read_results(path)

    path.write_bytes(whole[: len(whole) // 2])
    refused("damaged, or no .npz of rtpose")
    np.savez(path, poses=np.zeros((3, 72)), trans=np.zeros((3, 3)))
    refused("holds no results of rtpose")
    np.savez(path, **{k: v for k, v in arrays.items() if k != "betas"})
    refused("its arrays are not as rtpose writes them .*betas")
    np.savez(path, **arrays | {"people": np.array([5])})
    refused("people do not add up")
    np.savez(path, **arrays | {"keypoints": arrays["keypoints"][:, :9]})
    refused("shape")
    np.savez(path, **arrays | {"header": np.array("{}")})
    refused("holds no results of rtpose")
    np.savez(path, **arrays | {"id": np.array([{}], object)})
    refused("cannot read")


@pytest.fixture
def long_walk(walkers: Walkers, tmp_path: Path) -> Path:
    """400 frames of two people, in lines."""
    path = tmp_path / "walk.jsonl"
    writer = sink(path, walkers)
    for i in range(400):
        writer.write(walkers.result(i, (1, 2)))
    writer.close()
    return path


def test_turning_lines_into_arrays_needs_no_more_memory_for_more_frames(long_walk: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_bytes(b"".join(long_walk.read_bytes().splitlines(keepends=True)[:51]))
    more = _peak(lambda: save_arrays(long_walk, tmp_path / "many.npz")) - _peak(lambda: save_arrays(few, tmp_path / "few.npz"))
    assert more < 300_000
    assert len(list(read_results(tmp_path / "many.npz")[1])) == 400


def test_a_run_that_is_read_takes_little_more_memory_than_its_numbers(long_walk: Path) -> None:
    people = read_run(long_walk).people.values()
    numbers = sum(getattr(person, name.name).nbytes for person in people for name in fields(person) if name.name != "id")
    assert numbers > 600_000
    assert _peak(lambda: read_run(long_walk)) < 2 * numbers


def _peak(work: Callable[[], object]) -> int:
    """Bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
