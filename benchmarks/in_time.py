"""What a run loses in time by what it saves: the shipped defaults beside a run that looks at everything.

    python benchmarks/in_time.py clips [--videos ../shared/data/videos] [--json FILE]
    python benchmarks/in_time.py reference

The other run looks for people in every frame, in f32, and at all of every crop. clips: of the people whom it reports, the share that the
defaults report too (OKS of .5 or more), their OKS to each other, and how far its sure joints (confidence .5 or more) lie from ours, in
percent of the person's longer side, by the speed of the joint (sides a second). late: how much later, in seconds, the defaults report
those whom it reports for ten frames or more. reference: the share of people whom both find (OKS of .5 or more) in the clip of
`rtpose.reference`, and the OKS of those found to its truth, as the network saw them (raw) and smoothed. All runs are causal, and without
bodies.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from rtpose.app import Networks, make_stages
from rtpose.bench import about
from rtpose.evaluate import similarities
from rtpose.reference import CLIP, LIMBS, truth
from rtpose.settings import Settings
from rtpose.source import open_source
from rtpose.tracking import assign, extent
from rtpose.types import F32, F64, People, Result

VIDEOS = Path(__file__).resolve().parent.parent.parent / "shared/data/videos"
SPEEDS = {"slow": (0.0, 0.25), "medium": (0.25, 1.0), "fast": (1.0, np.inf)}
SURE = 0.5
"""Confidence from which a joint is compared."""
SAME = 0.5
"""OKS from which two poses are of one person."""
STAYS = 10
"""Frames for which somebody must be reported for it to count when that began."""


def run(path: Path, everything: bool) -> tuple[list[People], list[float]]:
    """The people of every frame, and the frames' times in s."""
    settings = Settings(lifter="none")
    if everything:
        settings = replace(settings, precision="f32", detect_every=1)
    source = open_source(path)
    people, times = [], []
    with patch("rtpose.stages.keypoints.NARROW", (1.0,)) if everything else nullcontext():
        stages = make_stages(Networks(settings, source.info), source.info)
        for frame in source.frames():
            result = Result(frame)
            for stage in stages:
                result = stage(result)
            people.append(result.people)
            times.append(frame.time)
    return people, times


def alike(ours: People, theirs: People) -> F64:
    """OKS (n, m) over their sure joints; 0 where none is."""
    value = np.zeros((len(ours), len(theirs)))
    for m in range(len(theirs)):
        aim = theirs.keypoints[m].copy()
        aim[:, 2] = aim[:, 2] >= SURE
        for n in range(len(ours) if aim[:, 2].any() else 0):
            value[n, m] = oks(aim, theirs.boxes[m], ours.keypoints[n])
    return value


def compare(path: Path) -> dict[str, Any]:
    ours, times = run(path, False)
    theirs, _ = run(path, True)
    close: list[float] = []
    distances: dict[str, list[float]] = defaultdict(list)
    begins: dict[int, list[int]] = defaultdict(list)
    met: dict[int, int] = {}
    last: dict[int, tuple[int, F64]] = {}
    wanted = 0
    for k, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        value = alike(mine, other)
        wanted += int((other.keypoints[:, :, 2].max(axis=1, initial=0) >= SURE).sum())
        for identity in other.ids.tolist():
            begins[identity].append(k)
        for n, m in assign(value, SAME):
            identity = int(other.ids[m])
            met.setdefault(identity, k)
            close.append(value[n, m])
            side = float((other.boxes[m, 2:] - other.boxes[m, :2]).max())
            joints = other.keypoints[m].astype(np.float64)
            before, then = last.get(identity, (-1, joints))
            last[identity] = k, joints
            if before != k - 1:
                continue
            speed = np.linalg.norm(joints[:, :2] - then[:, :2], axis=1) / side / (times[k] - times[k - 1])
            away = 100 * np.linalg.norm(mine.keypoints[n, :, :2] - joints[:, :2], axis=1) / side
            for name, (low, high) in SPEEDS.items():
                distances[name] += away[(joints[:, 2] >= SURE) & (low <= speed) & (speed < high)].tolist()
    stayed = {i: frames for i, frames in begins.items() if len(frames) >= STAYS}
    return {
        "frames": len(ours),
        "ours": sum(map(len, ours)) / len(ours),
        "theirs": sum(map(len, theirs)) / len(theirs),
        "share": len(close) / max(wanted, 1),
        "oks": close,
        "late": [times[met[i]] - times[frames[0]] if i in met else np.inf for i, frames in stayed.items()],
        **distances,
    }


def clips(videos: Path) -> dict[str, Any]:
    """A row for each clip, and one for all."""
    rows = {path.stem: compare(path) for path in sorted(videos.iterdir()) if path.suffix in (".mp4", ".avi")}
    whole: dict[str, Any] = {"frames": sum(row["frames"] for row in rows.values())}
    for name in ("oks", "late", *SPEEDS):
        whole[name] = [value for row in rows.values() for value in row.get(name, [])]
    reported = [len(row["oks"]) / row["share"] for row in rows.values() if row["share"]]
    whole["share"] = len(whole["oks"]) / sum(reported)
    for name in ("ours", "theirs"):
        whole[name] = sum(row[name] * row["frames"] for row in rows.values()) / whole["frames"]
    return {name: _summary(row) for name, row in {**rows, "all": whole}.items()}


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    late = np.array(row["late"])
    said = {name: row[name] for name in ("frames", "ours", "theirs", "share")}
    said |= {"oks": float(np.mean(row["oks"])), "stay": len(late), "within .3 s": int((late <= 0.3).sum())}
    for name in SPEEDS:
        found = row.get(name) or [np.nan]
        said |= {f"{name} p50": float(np.percentile(found, 50)), f"{name} p95": float(np.percentile(found, 95))}
    return said


def oks(labels: F32, box: F32, pose: F32) -> float:
    return float(np.nanmean(similarities(pose, labels, box)))


def reference() -> dict[str, Any]:
    """How well both find and place the people of the reference clip."""
    known = truth().keypoints
    rows = {}
    for name, everything in (("defaults", False), ("everything", True)):
        found: dict[str, list[float]] = {"raw": [], "smoothed": []}
        shown = 0
        for people, aims in zip(run(CLIP, everything)[0], known, strict=True):
            for aim in aims:
                joints = np.zeros((17, 3), np.float32)
                joints[LIMBS, :2], joints[LIMBS, 2] = aim[LIMBS], 1
                box = extent(joints, np.zeros(4, np.float32))
                shown += 1
                for kind, poses in (("raw", people.raw), ("smoothed", people.keypoints)):
                    found[kind] += [best for best in [max(map(partial(oks, joints, box), poses), default=0.0)] if best >= SAME]
        rows[name] = {"found": len(found["raw"]) / shown} | {kind: float(np.mean(values)) for kind, values in found.items()}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["clips", "reference"])
    parser.add_argument("--videos", type=Path, default=VIDEOS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = clips(options.videos) if options.what == "clips" else reference()
    table = Table("", *next(iter(rows.values())))
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=160).print(table)
    if options.json:
        options.json.write_text(json.dumps(about() | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
