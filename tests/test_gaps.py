"""Exports of runs with a gap of hours, and folders that vanish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from rtpose.errors import RtposeError
from rtpose.export import export, tables
from rtpose.export.motion import steady_times
from rtpose.runs import read_run
from rtpose.sinks.video import PictureSink
from rtpose.source import open_source
from rtpose.types import People, Result

from .bodies import Walkers
from .media import astronaut
from .saved import save_walk


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "walk.jsonl"
    save_walk(path, Walkers(160, 120), [k / 25 for k in range(20)], ids=lambda i: (1, 2), bodiless=lambda i, who: False)
    return path


def test_a_gap_of_the_run_is_left_out_of_what_moves(saved: Path, tmp_path: Path) -> None:
    """Eight hours: what it costs and how much is written depends on the frames there are."""
    path = saved
    lines = path.read_text().splitlines()
    times = [json.loads(line)["time"] for line in lines[1:]]
    late = [
        json.dumps(json.loads(line) | {"time": time + (8 * 3600 if k >= 6 else 0)})
        for k, (line, time) in enumerate(zip(lines[1:], times, strict=True))
    ]
    gap, notes = tmp_path / "gap.jsonl", []
    gap.write_text("\n".join([lines[0], *late]) + "\n")
    for name, source in (("plain", path), ("gap", gap)):
        export(source, ["bvh", "glb", "trc"], tmp_path / name, note=notes.append)
    assert len([note for note in notes if "the run has a gap" in note]) == 1
    for file in (tmp_path / "plain").iterdir():
        assert (tmp_path / "gap" / file.name).stat().st_size < 2 * file.stat().st_size
    run = read_run(gap)
    steady = steady_times(run, run.rate)
    assert not ((steady > run.times[5] + 1e-6) & (steady < run.times[6] - 1e-6)).any()
    assert steady[-1] == pytest.approx(run.times[-1], abs=1 / run.rate)


def test_a_folder_that_vanishes_is_told(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    coco = tables.write_coco

    def vanish(file: Any, **more: Any) -> None:
        (folder / "people.csv").unlink()
        coco(file, **more)

    monkeypatch.setattr(tables, "write_coco", vanish)
    with pytest.raises(RtposeError, match=r"people\.csv was removed") as caught:
        export(saved, ["csv", "coco"], folder)
    assert caught.value.exit_code == 1


def test_a_folder_of_pictures_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    pictures, out = tmp_path / "in", tmp_path / "out"
    pictures.mkdir()
    for name in "abc":
        cv2.imwrite(str(pictures / f"{name}.png"), astronaut()[:64, :64])
    source = open_source(pictures)
    sink = PictureSink(out, source.info)
    first, second, _ = source.frames()
    sink.write(Result(first, people=People.none()))
    (out / "a.png").unlink()
    out.rmdir()
    with pytest.raises(RtposeError, match="cannot write"):
        sink.write(Result(second, people=People.none()))
    assert not out.exists()
