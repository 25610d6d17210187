"""Do tiles pay: the two players of the three tennis clips, found and named in refined runs, and what it costs to look for them.

    python benchmarks/tiles.py [--clips NAME,...] [--json FILE]

Each clip is run as it is and at half its size in the middle of a grey picture, as a wider shot would show it: plainly, with tiles, and
as a match is best run: tiles, the court as the region, the main people. `identities.json` says where the players' trunks are every
ten frames or so; in between a straight line does, so that a trunk may be off by half the height of the box. Bodies are left out.
The cost is the processor time of the whole run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from identities import CLIPS, HERE, Track, paired
from rich.console import Console
from rich.table import Table

from rtpose import track
from rtpose.bench import about

TENNIS = ("tennistracking_3.mp4", "tennistracking_4.mp4", "tennistracking_6.mp4")
REACH = 0.5
WAYS: dict[str, dict[str, str]] = {
    "plain": {},
    "tiles": {"tiles": "auto"},
    "match": {"tiles": "auto", "region": "10%,10%,90%,100%", "track": "main"},
}
WIDE: dict[str, dict[str, str]] = {
    "plain": {},
    "tiles": {"tiles": "auto"},
    "match": {"tiles": "auto", "region": "30%,30%,70%,75%", "track": "main"},
}


def place(labels: Track, frame: int) -> tuple[float, float]:
    """Where somebody's trunk is, on the way from label to label."""
    at, x, y = np.array(labels, np.float64).T
    return float(np.interp(frame, at, x)), float(np.interp(frame, at, y))


def widened(clip: Path, folder: Path) -> Path:
    """The clip at half its size in the middle of a grey picture."""
    path = folder / clip.name
    with av.open(f"file:{clip}") as source, av.open(f"file:{path}", "w") as target:
        stream = source.streams.video[0]
        coded = target.add_stream("libx264", rate=stream.average_rate, options={"crf": "16", "preset": "veryfast"})
        coded.width, coded.height, coded.pix_fmt = stream.width, stream.height, "yuv420p"
        picture = np.full((stream.height, stream.width, 3), 90, np.uint8)
        h, w = stream.height // 2, stream.width // 2
        for frame in source.decode(stream):
            small = cv2.resize(frame.to_ndarray(format="rgb24"), (w, h), interpolation=cv2.INTER_AREA)
            picture[h // 2 : h // 2 + h, w // 2 : w // 2 + w] = small
            target.mux(coded.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(coded.encode())
    return path


def halved(labels: Track, width: int = 1920, height: int = 1080) -> Track:
    """The labels of the widened clip."""
    return [(frame, x / 2 + width / 4, y / 2 + height / 4) for frame, x, y in labels]


def measure(clip: Path, players: dict[str, Track], **settings: Any) -> dict[str, Any]:
    """Share of the frames in which each player is found, with which numbers; people a frame; processor ms a frame."""
    begin = time.process_time()
    found: dict[str, list[int]] = {name: [] for name in players}
    frames = people = 0
    for result in track(clip, refine=True, lifter="none", **settings):
        frames += 1
        people += len(result.people)
        points = {name: place(labels, result.frame.index) for name, labels in players.items()}
        for name, who in paired(result.people, points, REACH).items():
            found[name].append(who)
    spent = time.process_time() - begin
    return {
        "players": {name: {"found": len(ids) / frames, "ids": dict(Counter(ids))} for name, ids in found.items()},
        "people": people / frames,
        "cpu_ms": 1e3 * spent / frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default=",".join(TENNIS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    known: dict[str, dict[str, Track]] = json.loads((HERE / "identities.json").read_text())
    next(track(CLIPS / TENNIS[0], lifter="none"))  # what is compiled at first use is no cost of the first row
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.clips.split(","):
            wide = {player: halved(labels) for player, labels in known[name].items()}
            for shot, clip, labels, ways in (
                ("as it is", CLIPS / name, known[name], WAYS),
                ("half as large", widened(CLIPS / name, Path(folder)), wide, WIDE),
            ):
                for way, settings in ways.items():
                    rows.append({"clip": name, "shot": shot, "way": way, **settings, **measure(clip, labels, **settings)})
                    print(rows[-1], flush=True)
    table = Table(title="players of the tennis clips, refined")
    for column in ("clip", "shot", "way", "player", "found", "ids (frames)", "people a frame", "cpu ms a frame"):
        table.add_column(column)
    for row in rows:
        for player, one in row["players"].items():
            ids = ", ".join(f"{i} ({n})" for i, n in one["ids"].items())
            figures = f"{one['found']:.3f}", ids, f"{row['people']:.1f}", f"{row['cpu_ms']:.0f}"
            table.add_row(row["clip"], row["shot"], row["way"], player, *figures)
    Console(width=160).print(table)
    if given.json:
        given.json.write_text(json.dumps({**about(), "reach": REACH, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
