"""What was found, frame by frame at its true times: CSV, COCO's results, .npz."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..runs import Person, Run
from ..safe_text import csv_cell
from ..sinks import replacing
from ..sinks.data import METRE_DECIMALS, PIXEL_DECIMALS, SCORE_DECIMALS, STATUS_NAMES, save_arrays


def write_csv(file: BinaryIO, *, run: Run, people: list[Person]) -> None:
    """A row for every person of every frame; pixels, and metres in the camera frame, as in the results file; empty without a body."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    joints = run.header.joints3d_names or ()
    writer.writerow(
        ["frame", "time", "id", "score", "box_x0", "box_y0", "box_x1", "box_y1"]
        + [f"{csv_cell(name)}_{part}" for name in run.header.keypoint_names for part in ("x", "y", "score", "status")]
        + [f"{csv_cell(name)}_3d_{part}" for name in joints for part in ("x", "y", "z", "sd")]
    )
    for person, i in _by_frame(people):
        row: list[Any] = [run.frames[person.rows[i]], repr(float(person.times[i])), person.id]
        row += _numbers([person.scores[i]], SCORE_DECIMALS) + _numbers(person.boxes[i], PIXEL_DECIMALS)
        for (x, y, score), status in zip(person.keypoints[i], person.status[i], strict=True):
            row += _numbers((x, y), PIXEL_DECIMALS) + _numbers([score], SCORE_DECIMALS) + [STATUS_NAMES[status]]
        for place, deviation in zip(person.joints3d[i], person.uncertainty[i], strict=True):
            row += _numbers((*place, deviation), METRE_DECIMALS)
        writer.writerow(row)
    text.detach()


def write_coco(file: BinaryIO, *, run: Run, people: list[Person]) -> None:
    """COCO's results: a list of detections with keypoints, which `COCO.loadRes` reads.

    `image_id` is the number that a picture is called by where all are (000000000139.jpg), else the frame's index. `track_id` is the
    person's, which COCO does not know.
    """
    ids = _image_ids(run)
    found = []
    for person, i in _by_frame(people):
        x0, y0, x1, y1 = person.boxes[i].tolist()
        decimals = (PIXEL_DECIMALS, PIXEL_DECIMALS, SCORE_DECIMALS)
        found.append(
            {
                "image_id": ids[person.rows[i]],
                "category_id": 1,
                "keypoints": [round(v, d) for row in person.keypoints[i].tolist() for v, d in zip(row, decimals, strict=True)],
                "score": round(float(person.scores[i]), SCORE_DECIMALS),
                "bbox": [round(v, PIXEL_DECIMALS) for v in (x0, y0, x1 - x0, y1 - y0)],
                "track_id": person.id,
            }
        )
    file.write(json.dumps(found, separators=(",", ":")).encode())


def write_npz(run: Path, target: Path) -> None:
    """The arrays that docs/results.md describes."""
    with open(run, "rb") as file:
        arrays = file.read(2) == b"PK"
    if not arrays:
        save_arrays(run, target)
        return
    with replacing(target) as out, open(run, "rb") as file:
        shutil.copyfileobj(file, out)


def _by_frame(people: list[Person]) -> Iterator[tuple[Person, int]]:
    """Every row of everybody, in the order of the run."""
    rows = np.concatenate([np.zeros(0, np.int64), *(person.rows for person in people)])
    who = np.repeat(np.arange(len(people)), [len(person.rows) for person in people])
    place = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(person.rows)) for person in people)])
    for k in np.lexsort((who, rows)).tolist():
        yield people[who[k]], int(place[k])


def _numbers(values: Any, decimals: int) -> list[str]:
    return [f"{value:.{decimals}f}" if np.isfinite(value) else "" for value in values]


def _image_ids(run: Run) -> list[int]:
    stems = [Path(name or "").stem for name in run.files]
    if all(stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems):
        return [int(stem) for stem in stems]
    return [int(frame) for frame in run.frames]
