"""HMR's price for each backend and precision: ms per crop, and how far the joints are from f32.

    python benchmarks/hmr.py                                   # random weights: times are those of any weights, distances are not
    python benchmarks/hmr.py --checkpoint spin.pt --body-model SMPL_NEUTRAL.pkl --pictures FOLDER

A time is of one call on one crop, from arrays to arrays. Distances are of 22 joints about the pelvis, between a precision and ONNX
Runtime in f32, over crops of the people that the detector finds in the pictures. With random weights the crops are noise, the body is
the bundled one, and the regressor's corrections are of a size that turns bones by some tenths of a radian, as real ones do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtpose.app import processors
from rtpose.backends import Session, open_session
from rtpose.bench import about
from rtpose.body.model import BodyModel, load_body
from rtpose.body.rotations import from_six, to_axis_angle
from rtpose.models import find, graph, hmr
from rtpose.source import read_picture
from rtpose.stages.detect import Detector
from rtpose.stages.hmr import CROP, smpl_body
from rtpose.stages.keypoints import cut, square_crops

FORMS = (("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16"))


def random_network(path: Path) -> Path:
    """HMR with random weights: features near one, corrections of some tenths of a radian."""
    random = np.random.default_rng(0)
    weights = {}
    for key, shape in hmr.expected():
        kind = key.rsplit(".", 1)[-1]
        if len(shape) > 1:
            weights[key] = random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        else:
            weights[key] = np.ones(shape) if kind in ("running_var", "weight") else np.zeros(shape)
        if ".bn3.weight" in key:
            weights[key] = np.full(shape, 0.2)
    weights["decpose.weight"] *= 0.3
    weights["init_pose"] = np.tile([1.0, 0, 0, 1, 0, 0], (1, 24))
    graph.save(hmr.convert({key: np.float32(value) for key, value in weights.items()}), path)
    return path


def crops_of(pictures: Path) -> NDArray[np.uint8]:
    """Crops of the people whom the detector finds."""
    model = find("nanodet", "detector")
    detector, found = Detector(open_session(model.path), model.decoder), []
    for path in sorted(pictures.rglob("*.jpg")):
        image = read_picture(path)
        for square in square_crops(detector.detect(image).xyxy, CROP):
            found.append(np.empty((hmr.SIDE, hmr.SIDE, 3), np.uint8))
            cut(image, square, found[-1])
    return np.stack(found)


def joints(session: Session, crops: NDArray[np.uint8], body: BodyModel) -> NDArray[np.float64]:
    """Joints (n, 22, 3) about the pelvis."""
    said = session({"image": crops})
    places = [
        body.pose(to_axis_angle(from_six(six[:22])), betas[: body.betas], np.zeros(3))[1]
        for six, betas in zip(said["six"], said["betas"], strict=True)
    ]
    return np.stack(places) - np.stack(places)[:, :1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--body-model", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = hmr.network_of(given.checkpoint).path if given.checkpoint else random_network(Path(scratch) / "hmr.onnx")
        body = smpl_body(given.body_model) if given.body_model else load_body()
        noise = np.random.default_rng(0).integers(0, 256, (16, hmr.SIDE, hmr.SIDE, 3), np.uint8)
        crops = crops_of(given.pictures) if given.pictures else noise
        truth = None
        for threads in sorted({1, processors()}):
            sessions = [open_session(path, backend=backend, precision=precision, threads=threads) for backend, precision in FORMS]
            places = [joints(session, crops, body) for session in sessions]
            truth = places[0] if truth is None else truth
            spent: list[list[float]] = [[] for _ in sessions]
            for k in range(given.calls):  # in turns, so that whatever else the machine does meets all of them
                for session, seconds in zip(sessions, spent, strict=True):
                    begin = time.perf_counter()
                    session({"image": crops[k % len(crops)][None]})
                    seconds.append(time.perf_counter() - begin)
            for (backend, precision), place, seconds in zip(FORMS, places, spent, strict=True):
                off = 1000 * np.linalg.norm(place - truth, axis=-1)
                rows.append({"backend": backend, "precision": precision, "threads": threads})
                rows[-1] |= {"p50 ms": 1000 * float(np.median(seconds)), "p95 ms": 1000 * float(np.quantile(seconds, 0.95))}
                rows[-1] |= {"mean mm": float(off.mean()), "p99 mm": float(np.quantile(off, 0.99))}
    table = Table(*rows[0], title=f"HMR, {'random weights' if given.checkpoint is None else given.checkpoint.name}")
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)
    if given.json:
        said = {**about(), "checkpoint": str(given.checkpoint), "crops": len(crops), "rows": rows}
        given.json.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
