"""Do tiles pay: the two players of the three tennis clips, found and named, and what looking at tiles costs.

    python benchmarks/tiles.py [--tiles 1,auto,...] [--every N] [--json FILE]

Refined runs without bodies. `identities.json` says where the players' trunks are every ten frames or so; in between a straight line does.
A player is found in a frame where `identities.paired` says so. Main: how many people `--track main` leaves, the players among
them. The cost is the processor time of the whole run.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from identities import CLIPS, HERE, Track, paired
from rich.console import Console
from rich.table import Table

from rtpose import __version__, track

TENNIS = ("tennistracking_3.mp4", "tennistracking_4.mp4", "tennistracking_6.mp4")


def place(labels: Track, frame: int) -> tuple[float, float]:
    """Where somebody's trunk is, on the way from label to label."""
    at, x, y = np.array(labels, np.float64).T
    return float(np.interp(frame, at, x)), float(np.interp(frame, at, y))


def measure(clip: Path, players: dict[str, Track], **settings: Any) -> dict[str, Any]:
    """Share of the frames in which each player is found, with which numbers; people reported a frame; processor ms a frame."""
    begin = time.process_time()
    found: dict[str, list[int]] = {name: [] for name in players}
    frames = people = 0
    for result in track(clip, refine=True, lifter="none", **settings):
        frames += 1
        people += len(result.people)
        points = {name: place(labels, result.frame.index) for name, labels in players.items()}
        for name, who in paired(result.people, points).items():
            found[name].append(who)
    spent = time.process_time() - begin
    return {
        "players": {name: {"found": len(ids) / frames, "ids": dict(Counter(ids))} for name, ids in found.items()},
        "people": people / frames,
        "cpu_ms": 1e3 * spent / frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", default="1,auto", help="of rtpose, with commas")
    parser.add_argument("--every", type=int, help="--detect-every of rtpose")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    labels: dict[str, dict[str, Track]] = json.loads((HERE / "identities.json").read_text())
    next(track(CLIPS / TENNIS[0], lifter="none"))  # what is compiled at first use is not a cost of the first row
    rows = []
    for clip in TENNIS:
        for tiles in given.tiles.split(","):
            settings = {"tiles": tiles, "detect_every": given.every}
            everybody = measure(CLIPS / clip, labels[clip], **settings)
            chosen = measure(CLIPS / clip, labels[clip], track="main", **settings)
            rows.append(
                {"clip": clip, "tiles": tiles, **everybody, "main": {"players": chosen["players"], "people": chosen["people"]}}
            )
    table = Table(title="players of the tennis clips, refined")
    for column in (
        "clip",
        "tiles",
        "player",
        "found",
        "ids (frames)",
        "found by main",
        "people a frame",
        "by main",
        "cpu ms a frame",
    ):
        table.add_column(column)
    for row in rows:
        for name, player in row["players"].items():
            ids = ", ".join(f"{i} ({n})" for i, n in player["ids"].items())
            shares = f"{player['found']:.3f}", ids, f"{row['main']['players'][name]['found']:.3f}"
            rest = f"{row['people']:.1f}", f"{row['main']['people']:.1f}", f"{row['cpu_ms']:.1f}"
            table.add_row(row["clip"], row["tiles"], name, *shares, *rest)
    Console(width=160).print(table)
    if given.json:
        about = {"rtpose": __version__, "host": platform.processor() or platform.machine(), "date": str(date.today())}
        given.json.write_text(json.dumps({**about, "detect_every": given.every, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
