"""Ankles: every way to correct them, on the outputs of the keypoint networks for labelled pictures.

    python benchmarks/ankles.py                        # headline: val2017 pictures, labelled boxes
    python benchmarks/ankles.py --detector nanodet     # on detected boxes
    python benchmarks/ankles.py --split train2017      # pictures that trained the default weights: no result, for comparison only

Ways: none; extrapolated (2 x knee - hip); linear (least squares from hip and knee, on labels of train2017); paper; default; oracle (the
better of the measured place and the default network's own best place, which nobody can know); informed (default, told where all
other joints are labelled: what is lost because hips and knees are wrong, too). Only ankles below the gate change. "gap" is the
share of the way from none to the oracle that a row goes, on low-confidence ankles, PCK@.1; its interval is bootstrapped over pictures.

"gates" tries other gates for `default`: right ankles (PCK@.1) gained and lost by each, and, in ten parts of the pictures, what the gate
that is best on the other nine gains on the tenth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rtpose.backends import open_session
from rtpose.bench import about
from rtpose.evaluate import (
    LEAST_HEIGHT,
    LEAST_JOINTS,
    Found,
    Picture,
    Rows,
    ankle_groups,
    average_recall,
    compare,
    look,
    match,
    pck,
)
from rtpose.models import find
from rtpose.source import read_picture
from rtpose.stages import ankles as stage
from rtpose.stages.detect import Detector
from rtpose.stages.keypoints import KeypointEstimator
from rtpose.train.people import Labels, read_people, read_pictures

DATA = Path(__file__).resolve().parent.parent.parent / "shared/data"
A = stage.ANKLES
GATES = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)
PARTS = 10
Way = Callable[[NDArray[np.float32], int, int], NDArray[np.float32]]
"""measured (17, 3), width and height of the picture -> ankles (2, 2)."""


def pictures(split: str) -> list[Picture]:
    """The labelled pictures of a split."""
    people = read_people(DATA / f"coco_keypoints/{split}_people.npz")
    found = []
    for number, path in read_pictures(DATA / "coco_images", split).items():
        rows = people[people.images == number]
        boxes = np.concatenate([rows.boxes[:, :2], rows.boxes[:, :2] + rows.boxes[:, 2:]], 1)
        scored = ((rows.keypoints[:, :, 2] > 0).sum(1) >= LEAST_JOINTS) & (rows.boxes[:, 3] >= LEAST_HEIGHT)
        found.append(Picture(number, path, rows.keypoints, boxes, scored))
    return found


def linear() -> Way:
    """Least squares: ankle from knee, hip and the shin and thigh of both legs, on labels of pictures that are never scored."""
    people = read_people(DATA / "coco_keypoints/train2017_people.npz", without=read_pictures(DATA / "coco_images"))
    people = people[(people.keypoints[:, 11:, 2] > 0).all(1)]

    def inputs(points: NDArray[np.float32], side: int) -> NDArray[np.float32]:
        knee, others = points[:, 13 + side], points[:, [11 + side, 12 - side, 14 - side]]
        return np.concatenate([(others - knee[:, None]).reshape(len(points), -1)], 1)

    def solve(people: Labels, side: int) -> NDArray[np.float32]:
        points = people.keypoints[:, :, :2]
        scale = people.boxes[:, 3:]
        wanted = (points[:, A + side] - points[:, 13 + side]) / scale
        return np.linalg.lstsq(inputs(points, side) / scale, wanted, rcond=None)[0]

    matrices = [solve(people, side) for side in range(2)]

    def way(measured: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
        points = measured[None, :, :2]
        return np.concatenate([points[:, 13 + side] + inputs(points, side) @ matrices[side] for side in range(2)])

    return way


def extrapolated(measured: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    return 2 * measured[13:15, :2] - measured[11:13, :2]


def own_place(weights: stage.Weights, measured: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Where the default network would put the ankles (2, 2) if the measured places did not count."""
    seen, x, y, spread = stage.features(measured, width, height)
    outputs = stage.forward(weights.layers, seen)
    best = []
    for side in range(2):
        w, s, m = (part[2:] for part in stage.places(outputs, seen, side))
        k = max(range(stage.FREE), key=lambda k: stage.chance(m[k, 0], m[k, 1], w, s, m, weights.reach)[0])
        best.append(m[k] * spread + np.array([x, y]))
    return np.array(best, np.float32)


def apply(found: list[Found], sizes: list[tuple[int, int]], gate: float, way: Way) -> list[Found]:
    """The reports with the ankles below the gate where `way` puts them."""
    changed = []
    for report, (width, height) in zip(found, sizes, strict=True):
        corrected = report.measured.copy()
        moved = report.measured[:, A:, 2] < gate
        for row in np.flatnonzero(moved.any(1)):
            places = way(report.measured[row], width, height)
            corrected[row, A:, :2] = np.where(moved[row][:, None], places, corrected[row, A:, :2])
        changed.append(Found(report.boxes, report.scores, report.measured, corrected, moved))
    return changed


def informed(found: list[Found], labelled: list[Picture]) -> list[Found]:
    """The reports with all labelled joints but the ankles where they are labelled: no error is left but the ankles'."""
    told = []
    for picture, report in zip(labelled, found, strict=True):
        measured = report.measured.copy()
        for label, row in match(report, picture).items():
            known = np.flatnonzero(picture.keypoints[label, :A, 2] > 0)
            measured[row, known, :2] = picture.keypoints[label, known, :2]
            measured[row, known, 2] = 0.9
        told.append(Found(report.boxes, report.scores, measured, measured.copy(), report.moved))
    return told


def gap_interval(none: Rows, row: Rows, oracle: NDArray[np.float64], low: NDArray[np.bool_], draws: int = 2000) -> list[float]:
    """Gain in PCK@.1 over none on low-confidence ankles, with its 95 % interval over pictures, and the oracle's gain."""
    before, after = np.array(none.error)[:, A:] < 0.1, np.array(row.error)[:, A:] < 0.1
    best = before | (oracle < 0.1)
    picture = np.array(none.picture)
    count = picture.max() + 1

    def per_picture(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(picture, (values * low).sum(1), minlength=count)

    number, gain, most = per_picture(np.ones_like(low)), per_picture(after * 1.0 - before), per_picture(best * 1.0 - before)
    drawn = np.random.default_rng(0).integers(0, count, (draws, count))
    means = gain[drawn].sum(1) / np.maximum(number[drawn].sum(1), 1)
    share = float(gain.sum() / most.sum()) if most.sum() else float("nan")
    return [
        float(gain.sum() / number.sum()),
        *np.quantile(means, [0.025, 0.975]).tolist(),
        float(most.sum() / number.sum()),
        share,
    ]


def calibration(
    found: list[Found], labelled: list[Picture], sizes: list[tuple[int, int]], weights: stage.Weights
) -> list[dict[str, float]]:
    """Predicted against actual error of all scored ankles below the gate, in ten bins of the predicted one (shares of box height)."""
    rows = []
    for picture, report, (width, height) in zip(labelled, found, sizes, strict=True):
        for label, row in match(report, picture).items():
            if not picture.scored[label]:
                continue
            tall = picture.boxes[label, 3] - picture.boxes[label, 1]
            for side in range(2):
                truth = picture.keypoints[label, A + side]
                if truth[2] > 0 and report.measured[row, A + side, 2] < weights.gate:
                    place = report.corrected[row, A + side, :2]
                    error, sure = stage.expected(weights, report.measured[row], place, side, width, height)
                    actual = float(np.hypot(*(place - truth[:2])))
                    rows.append((error / tall, actual / tall, sure, actual < 0.1 * tall))
    table = np.array(rows, np.float64)
    bins = np.array_split(table[np.argsort(table[:, 0])], 10)
    return [
        {
            "ankles": len(b),
            "predicted error": b[:, 0].mean(),
            "actual error": b[:, 1].mean(),
            "chance": b[:, 2].mean(),
            "PCK@0.1": b[:, 3].mean(),
        }
        for b in bins
    ]


def gates(
    found: list[Found], labelled: list[Picture], sizes: list[tuple[int, int]], weights: stage.Weights, none: Rows
) -> dict[str, Any]:
    """What each gate would change, and what the choice of one is worth on pictures that did not take part in it."""
    before = np.array(none.error)[:, A:]
    part = np.random.default_rng(0).permutation(len(labelled))[np.array(none.picture)] % PARTS
    table, gains = {}, []
    for gate in GATES:
        shut = replace(weights, gate=gate)
        rows = compare(labelled, apply(found, sizes, gate, lambda m, w, h, shut=shut: stage.correct(shut, m, w, h)[0][:, :2]))
        after = np.array(rows.error)[:, A:]
        better, worse = (after < 0.1) & ~(before < 0.1), (before < 0.1) & ~(after < 0.1)
        table[f"{gate:g}"] = {"moved": int((after != before)[np.isfinite(before)].sum()), "gained": int(better.sum())}
        table[f"{gate:g}"] |= {"lost": int(worse.sum()), "AR": average_recall(rows.oks)}
        gains.append(np.bincount(part, (better * 1.0 - worse).sum(1), minlength=PARTS))
    gain = np.array(gains)  # (gates, parts)
    chosen = (gain.sum(1, keepdims=True) - gain).argmax(0)
    shipped = GATES.index(weights.gate)
    return {
        "gates": table,
        "chosen": [GATES[k] for k in chosen],
        "gain of the chosen": float(gain[chosen, np.arange(PARTS)].sum()),
        "gain of the shipped": float(gain[shipped].sum()),
    }


def measure(name: str, detector: Detector | None, labelled: list[Picture]) -> tuple[list[Found], list[tuple[int, int]]]:
    model = find(name, "keypoints")
    estimator = KeypointEstimator(open_session(model.path, precision="f32", threads=1), model.decoder)
    found = [look(picture, None if detector is None else detector.detect, estimator.estimate, None) for picture in labelled]
    sizes = [read_picture(picture.path).shape for picture in labelled]
    return found, [(width, height) for height, width, _ in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("val2017", "train2017"), default="val2017")
    parser.add_argument("--keypoints", default="movenet-thunder,posenet")
    parser.add_argument("--detector", help="a detector; without one the labelled boxes are taken")
    parser.add_argument("--default", type=Path, help="other weights for `default`, as rtpose train ankles wrote them")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    labelled = pictures(given.split)
    detector = None
    if given.detector:
        model = find(given.detector, "detector")
        detector = Detector(open_session(model.path, precision="f32", threads=1), model.decoder)
    fitted = linear()
    report = {**about(), "split": given.split, "detector": given.detector or "labels"}
    console = Console(width=170)
    for name in given.keypoints.split(","):
        decoder = find(name, "keypoints").decoder
        ours = stage.read_weights(given.default or find("default", "ankles").path, "mixture", decoder)
        paper = stage.read_weights(find("paper", "ankles").path, "paper", decoder)
        found, sizes = measure(name, detector, labelled)

        def corrected(weights: stage.Weights) -> Way:
            return lambda measured, width, height: stage.correct(weights, measured, width, height)[0][:, :2]

        ways: dict[str, Way] = {
            "none": lambda measured, width, height: measured[A:, :2],
            "extrapolated": extrapolated,
            "linear": fitted,
            "paper": corrected(paper),
            "default": corrected(ours),
        }
        reports = {way: apply(found, sizes, ours.gate, do) for way, do in ways.items()}
        rows = {way: compare(labelled, made) for way, made in reports.items()}
        own = compare(labelled, apply(found, sizes, 2.0, lambda m, w, h, ours=ours: own_place(ours, m, w, h)))
        groups = ankle_groups(rows["none"], ours.gate)
        low = groups[f"confidence < {ours.gate:g}"]
        knees_right = np.array(rows["none"].error)[:, 13:15] < 0.1
        groups |= {"low, its knee right": low & knees_right, "low, its knee wrong": low & ~knees_right}
        none = np.array(rows["none"].error)[:, A:]
        oracle = np.where(low, np.minimum(none, np.array(own.error)[:, A:]), none)
        knowing = compare(labelled, apply(informed(found, labelled), sizes, ours.gate, ways["default"]))
        columns = {way: np.array(r.error)[:, A:] for way, r in rows.items()}
        columns |= {"oracle": oracle, "informed": np.array(knowing.error)[:, A:]}
        table = Table(f"{name}, {given.split}, {report['detector']}: PCK@.05 / @.1", "ankles", *columns)
        said: dict[str, Any] = {}
        for group, which in groups.items():
            values = {way: [pck(e[which], 0.05), pck(e[which], 0.1)] for way, e in columns.items()}
            said[group] = {"ankles": int(which.sum()), **values}
            table.add_row(group, str(which.sum()), *(f"{a:.3f} / {b:.3f}" for a, b in values.values()))
        recalls = {way: average_recall(r.oks) for way, r in rows.items()}
        table.add_row("AR", str(len(rows["none"].oks)), *(f"{v:.4f}" for v in recalls.values()), "", "")
        gaps = {way: gap_interval(rows["none"], r, oracle, low) for way, r in rows.items()}
        table.add_row("gap closed", "", *(f"{g[4]:.2f}" for g in gaps.values()), "1.00", "")
        table.add_row(
            "gain PCK@.1, 95 %",
            "",
            *(f"{g[0]:+.3f} [{g[1]:+.3f}, {g[2]:+.3f}]" for g in gaps.values()),
            f"{gaps['none'][3]:+.3f}",
            "",
        )
        console.print(table)
        bins = calibration(reports["default"], labelled, sizes, ours)
        console.print("  ".join(bins[0]))
        for b in bins:
            console.print("  ".join(f"{v:.3f}" for v in b.values()))
        tried = gates(found, labelled, sizes, ours, rows["none"])
        console.print_json(json.dumps(tried))
        report[name] = {
            "groups": said,
            "gates": tried,
            "AR": recalls,
            "gaps": gaps,
            "calibration": bins,
            "us_a_person": timing(ours, found, sizes),
        }
        console.print(f"{report[name]['us_a_person']:.0f} microseconds a person with a low-confidence ankle")
    if given.json:
        given.json.write_text(json.dumps(report, indent=1, default=float) + "\n")


def timing(weights: stage.Weights, found: list[Found], sizes: list[tuple[int, int]]) -> float:
    """Median microseconds of `correct` for people with an ankle below the gate."""
    spent = []
    for report, (width, height) in zip(found, sizes, strict=True):
        for person in report.measured:
            if (person[A:, 2] < weights.gate).any():
                begin = time.perf_counter()
                stage.correct(weights, person, width, height)
                spent.append(time.perf_counter() - begin)
    return 1e6 * float(np.median(spent))


if __name__ == "__main__":
    main()
