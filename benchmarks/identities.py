"""Do people keep their numbers: ids against the main people of seven clips, labelled by eye.

    python benchmarks/identities.py [--refine] [--clips NAME,...] [--json FILE]

`identities.json` says where the trunk of each main person is, in px of the picture as shown, every few frames where it can be seen.
In those frames people are paired one to one with the labels nearest to the middle of their shoulders and hips, at most a quarter
of the box's height away. A switch is another id than the one that this person had when last found. First is the first frame, labelled
or not, that shows an id which was this person's. With --refine the ids are those of the second pass, which knows the future.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rtpose import track
from rtpose.bench import about
from rtpose.tracking import assign
from rtpose.types import People

HERE = Path(__file__).resolve().parent
CLIPS = HERE.parent.parent / "shared/data/videos"
REACH = 0.25
"""Of the height of the box: how far a trunk may be from its label."""
TRUNK = [5, 6, 11, 12]

Track = list[tuple[int, float, float]]
"""Labels of a person: frame, x, y."""


def paired(people: People, points: dict[str, tuple[float, float]], reach: float = REACH) -> dict[str, int]:
    """The id of each labelled person who was found: whose trunk is within `reach` heights of the box."""
    names = list(points)
    trunks = people.keypoints[:, TRUNK, :2].mean(axis=1)
    far = np.linalg.norm(np.array([points[name] for name in names])[:, None] - trunks[None], axis=2)
    near = 1 - far / (reach * (people.boxes[:, 3] - people.boxes[:, 1]))
    return {names[row]: int(people.ids[column]) for row, column in assign(near, 1e-6)}


def score(clip: Path, tracks: dict[str, Track], *, refine: bool = False) -> dict[str, dict[str, Any]]:
    """What became of each labelled person of a clip."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in tracks}
    appeared: dict[int, int] = {}
    for result in track(clip, lifter="none", refine=refine):
        frame = result.frame.index
        for identity in result.people.ids.tolist():
            appeared.setdefault(identity, frame)
        points = {name: (x, y) for name, labels in tracks.items() for at, x, y in labels if at == frame}
        if points:
            for name, identity in paired(result.people, points).items():
                found[name].append((frame, identity))
    return {name: _judged(tracks[name], found[name], appeared) for name in tracks}


def _judged(labels: Track, found: list[tuple[int, int]], appeared: dict[int, int]) -> dict[str, Any]:
    ids = [identity for _, identity in found]
    return {
        "labelled": len(labels),
        "found": len(found),
        "ids": dict(Counter(ids)),
        "switches": [(frame, a, b) for a, (frame, b) in zip(ids, found[1:], strict=False) if a != b],
        "missed": sorted({frame for frame, _, _ in labels} - {frame for frame, _ in found}),
        "first": min((appeared[identity] for identity in ids), default=None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", help="only these")
    parser.add_argument("--refine", action="store_true", help="score the refined results")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    labels: dict[str, dict[str, Track]] = json.loads((HERE / "identities.json").read_text())
    names = given.clips.split(",") if given.clips else list(labels)
    scores = {name: score(CLIPS / name, labels[name], refine=given.refine) for name in names}
    table = Table(title="identities of the main people" + (", refined" if given.refine else ""))
    for column in ("clip", "person", "labelled", "found", "ids (frames)", "switches (frame: from > to)", "first", "missed"):
        table.add_column(column)
    for clip, people in scores.items():
        for person, row in people.items():
            ids = ", ".join(f"{i} ({n})" for i, n in row["ids"].items())
            switches = ", ".join(f"{frame}: {a} > {b}" for frame, a, b in row["switches"]) or "0"
            missed = " ".join(map(str, row["missed"]))
            table.add_row(clip, person, str(row["labelled"]), str(row["found"]), ids, switches, str(row["first"]), missed)
    Console(width=170).print(table)
    total = {key: sum(row[key] for rows in scores.values() for row in rows.values()) for key in ("labelled", "found")}
    switches = sum(len(row["switches"]) for rows in scores.values() for row in rows.values())
    print(f"found {total['found']} of {total['labelled']} labels; {switches} switches")
    if given.json:
        given.json.write_text(
            json.dumps({**about(), "refined": given.refine, **total, "switches": switches, "clips": scores}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
