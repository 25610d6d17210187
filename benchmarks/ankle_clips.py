"""Ankles in clips: jitter before and after correction, and pictures of corrected frames.

    python benchmarks/ankle_clips.py --pictures FOLDER                        # tennis and walking; FOLDER outside the repository
    python benchmarks/ankle_clips.py --keypoints posenet --ankles paper       # the paper's

Jitter is the second difference of an ankle from frame to frame over the height of the person's box: its median and 95th percentile over
all people who are tracked in three frames in a row, without smoothing. Jumps are ankles that move by more than a fifth of the
height from one frame to the next.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtpose.backends import open_session
from rtpose.bench import about
from rtpose.models import find
from rtpose.source import open_source
from rtpose.stages.ankles import ANKLES, Ankles, read_weights
from rtpose.stages.detect import INTERVAL, Detector
from rtpose.stages.keypoints import KeypointEstimator
from rtpose.types import People, Result, Status

CLIPS = Path(__file__).resolve().parent.parent.parent / "shared/data/videos"
NAMES = ("tennistracking_3.mp4", "tennistracking_4.mp4", "tennistracking_6.mp4", "sports2d_demo.mp4", "mmpose_demo.mp4")
LEGS = ((11, 13), (13, 15), (12, 14), (14, 16))
TILE, TILES = 260, 12


def results(clip: str, detector: str, keypoints: str, frames: int) -> Iterator[Result]:
    """What detector and keypoint network report for the clip's first frames."""
    source = open_source(str(CLIPS / clip))
    seen, joints = find(detector, "detector"), find(keypoints, "keypoints")
    detect = Detector(open_session(seen.path, threads=1), seen.decoder, interval=INTERVAL)
    estimate = KeypointEstimator(open_session(joints.path, threads=1), joints.decoder)
    for frame in source.frames():
        if frame.index >= frames:
            break
        yield estimate(detect(Result(frame)))
    source.close()


def movement(tracks: list[People]) -> dict[str, float]:
    """Jitter and jumps of the ankles of people in consecutive frames."""
    second: list[NDArray[np.float32]] = []
    jumps = steps = 0
    rows = [{int(i): row for row, i in enumerate(people.ids)} for people in tracks]
    for t in range(1, len(tracks)):
        for person, row in rows[t].items():
            if person not in rows[t - 1]:
                continue
            tall = float(tracks[t].boxes[row, 3] - tracks[t].boxes[row, 1])
            now, before = tracks[t].keypoints[row, ANKLES:, :2], tracks[t - 1].keypoints[rows[t - 1][person], ANKLES:, :2]
            steps += 2
            jumps += int((np.hypot(*(now - before).T) > 0.2 * tall).sum())
            if t > 1 and person in rows[t - 2]:
                first = tracks[t - 2].keypoints[rows[t - 2][person], ANKLES:, :2]
                second.append(np.hypot(*(now - 2 * before + first).T) / tall)
    values = np.concatenate(second) if second else np.zeros(1)
    return {
        "p50": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "mean": float(values.mean()),
        "jumps": jumps / max(1, steps),
    }


def tile(
    image: NDArray[np.uint8], box: NDArray[np.float32], keypoints: NDArray[np.float32], moved: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """A person's picture with the legs drawn, corrected ankles in yellow."""
    side = float((box[2:] - box[:2]).max()) * 1.3
    corner = (box[:2] + box[2:]) / 2 - side / 2
    scale = TILE / side
    out = cv2.warpAffine(image, np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]]), (TILE, TILE))
    places = ((keypoints[:, :2] - corner) * scale).round().astype(int)
    for a, b in LEGS:
        cv2.line(out, places[a].tolist(), places[b].tolist(), (0, 230, 0) if a % 2 else (255, 90, 60), 2, cv2.LINE_AA)
    for side_of in range(2):
        colour = (255, 230, 0) if moved[side_of] else (255, 255, 255)
        cv2.circle(out, places[ANKLES + side_of].tolist(), 4, colour, -1, cv2.LINE_AA)
    return np.asarray(out, np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keypoints", default="movenet-thunder")
    parser.add_argument("--ankles", default="default")
    parser.add_argument("--detector", default="nanodet")
    parser.add_argument("--clips", default=",".join(NAMES))
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--pictures", type=Path, help="folder for before/after pictures, one a clip")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    model = find(given.ankles, "ankles")
    weights = read_weights(model.path, model.decoder, find(given.keypoints, "keypoints").decoder)
    table = Table(
        "clip", "frames", "ankles", "moved", "exchanged", "p50", "after", "p95", "after", "mean", "after", "jumps", "after"
    )
    report: dict[str, Any] = {}
    for clip in given.clips.split(","):
        stage = Ankles(weights)
        before: list[People] = []
        after: list[People] = []
        tiles: list[tuple[float, NDArray[np.uint8]]] = []
        moved = exchanged = 0
        for result in results(clip, given.detector, given.keypoints, given.frames):
            corrected = stage(result)
            before.append(result.people)
            after.append(corrected.people)
            changed = corrected.people.status == Status.CORRECTED
            moved += int(changed[:, ANKLES:].sum())
            exchanged += int(changed[:, 13].sum())
            for row in np.flatnonzero(changed.any(1)):
                far = float(
                    np.hypot(*(corrected.people.keypoints[row, ANKLES:, :2] - result.people.keypoints[row, ANKLES:, :2]).T).max()
                )
                box = result.people.boxes[row]
                pair = [
                    tile(result.frame.image, box, p.keypoints[row], changed[row, ANKLES:])
                    for p in (result.people, corrected.people)
                ]
                tiles.append((far / float(box[3] - box[1]), np.concatenate(pair)))
        a, b = movement(before), movement(after)
        ankles = 2 * sum(map(len, before))
        report[clip] = {"frames": len(before), "ankles": ankles, "moved": moved, "exchanged": exchanged, "before": a, "after": b}
        pairs = [f"{v:.4f}" for name in ("p50", "p95", "mean", "jumps") for v in (a[name], b[name])]
        table.add_row(clip, str(len(before)), str(ankles), str(moved), str(exchanged), *pairs)
        if given.pictures and tiles:
            given.pictures.mkdir(parents=True, exist_ok=True)
            step = max(1, len(tiles) // TILES)
            sheet = np.concatenate([picture for _, picture in tiles[::step][:TILES]], 1)
            cv2.imwrite(str(given.pictures / f"{Path(clip).stem}_{given.keypoints}_{given.ankles}.png"), sheet[:, :, ::-1])
    Console(width=150).print(table)
    if given.json:
        given.json.write_text(json.dumps({**about(), "clips": report}, indent=1) + "\n")


if __name__ == "__main__":
    main()
