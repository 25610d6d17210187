"""Detector and keypoints end to end, against labelled pictures and clips whose count of people is known.

    python benchmarks/keypoints.py                              # headline: the val2017 pictures, at the defaults of a video run
    python benchmarks/keypoints.py --crop 1.15,1.25 --threshold 0.25,0.35 --precision f32,bf16     # one row for each combination
    python benchmarks/keypoints.py --split train2017            # what variants are chosen on
    python benchmarks/keypoints.py --calibrate                  # fit CALIBRATIONS of rtpose/stages/keypoints.py and PRESENCE of
                                                                # rtpose/tracking.py, on train2017; legs cut off by the border
    python benchmarks/keypoints.py --missed FOLDER              # draw the people who were missed (never inside the repository)

Each picture is measured twice: as an independent picture, and held for .3 s as a clip of 10 frames, of which the last counts ("held"):
that is within what a video run has to report somebody who enters.

Labelled people with 8 joints or more and a box of 80 px or more count (val2017: 228 people, 291 ankles). Reported people are matched to
all labelled people one to one, best score first, at an IoU of .5 or more. OKS takes .53 of the box as the area; AR is the mean over
OKS .50:.05:.95 of the share of people at or above it. The price beside it: people reported beyond the one who is there, a frame,
on three clips that run as videos (causal, looking when something moves as a run does), with every one of their frames as an
independent picture, and, where nothing was chosen, as files run: refined. Rows are compared with the first one: the difference of AR,
bootstrapped over pictures, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ankles import pictures
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from rtpose import track
from rtpose.app import Networks
from rtpose.bench import about
from rtpose.evaluate import Picture, match, recalls, similarities
from rtpose.settings import Settings
from rtpose.source import SourceInfo, open_source, read_picture
from rtpose.stages.detect import INTERVAL, Detector
from rtpose.stages.keypoints import PAIRS, KeypointEstimator
from rtpose.stages.lift import trusted
from rtpose.tracking import distinct, fit, iou, traces
from rtpose.types import OKS_SIGMAS, SKELETON, Frame, People, Result

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

CLIPS = ("tfjs_pose_squats.mp4", "pymaf_dancer.mp4", "mmpose_body3d_demo.mp4")
"""Clips that show one person in every frame."""

ANKLES = [15, 16]


@dataclass
class Scores:
    """One row a measured person: OKS (0 where missed), whether matched, whether any reported box has an IoU of .5, the picture;
    ankles: whether each labelled ankle is within a tenth of the box's height. joints: one row for each joint of the matched people that
    was put inside the picture: number, confidence, the network's own confidence, similarity to the label (NaN: not labelled)."""

    oks: NDArray[np.float64]
    matched: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    picture: NDArray[np.int64]
    ankles: NDArray[np.bool_]
    joints: NDArray[np.float64]

    @property
    def recall(self) -> NDArray[np.float64]:
        """Each person's part in AR."""
        return recalls(self.oks)


def score(pairs: list[tuple[Picture, People]]) -> Scores:
    """Compare what was reported with what is labelled."""
    rows: list[tuple[float, bool, bool, int]] = []
    ankles: list[bool] = []
    joints: list[NDArray[np.float64]] = []
    for index, (picture, people) in enumerate(pairs):
        matched = match(people, picture)
        covered = iou(people.boxes, picture.boxes).max(axis=0, initial=0) >= 0.5
        for label in np.flatnonzero(picture.scored).tolist():
            truth, box, row = picture.keypoints[label], picture.boxes[label], matched.get(label)
            labelled = [joint for joint in ANKLES if truth[joint, 2] > 0]
            if row is None:
                rows.append((0.0, False, bool(covered[label]), index))
                ankles += [False] * len(labelled)
                continue
            mine = people.keypoints[row]
            close = similarities(mine, truth, box)
            rows.append((float(np.nanmean(close)), True, bool(covered[label]), index))
            away = np.hypot(*(mine[labelled, :2] - truth[labelled, :2]).T)
            ankles += (away < 0.1 * (box[3] - box[1])).tolist()
            table = np.stack([np.arange(17), mine[:, 2], people.raw[row, :, 2], close], axis=1)
            joints.append(table[mine[:, 2] > 0])
    oks, found, any_box, picture_rows = zip(*rows, strict=True)
    return Scores(
        np.array(oks),
        np.array(found),
        np.array(any_box),
        np.array(picture_rows),
        np.array(ankles),
        np.concatenate(joints) if joints else np.zeros((0, 4)),
    )


def difference(a: Scores, b: Scores, draws: int = 2000) -> tuple[float, float, float]:
    """AR of `b` less that of `a`, and its 95 % interval, from one bootstrap over pictures for both."""
    count = int(a.picture.max()) + 1
    people = np.bincount(a.picture, minlength=count)
    gain = np.bincount(a.picture, b.recall - a.recall, minlength=count)
    drawn = np.random.default_rng(0).integers(0, count, (draws, count))
    means = gain[drawn].sum(1) / people[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(gain.sum() / people.sum()), float(low), float(high)


def calibration(joints: NDArray[np.float64], bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean confidence, share of joints that are there (similarity of .5 or more), and number, for equal bins of confidence."""
    which = np.minimum((joints[:, 1] * bins).astype(int), bins - 1)
    there = joints[:, 3] >= 0.5
    return [
        (float(joints[which == k, 1].mean()), float(there[which == k].mean()), int((which == k).sum()))
        for k in range(bins)
        if (which == k).any()
    ]


def fit_calibration(joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (9, 2) of `CALIBRATIONS` in rtpose/stages/keypoints.py by logistic regression on labelled joints, drawn a little together."""
    joints = joints[~np.isnan(joints[:, 3])]
    kind, there = PAIRS[joints[:, 0].astype(int)], joints[:, 3] >= 0.5
    chance = np.clip(joints[:, 2], 1e-4, 1 - 1e-4)
    logit = np.log(chance / (1 - chance))

    def loss(values: NDArray[np.float64]) -> float:
        a, b = values[:9], values[9:]
        z = a[kind] + b[kind] * logit
        spread = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
        return float(np.logaddexp(0, np.where(there, -z, z)).sum() + 4 * spread)

    return minimize(loss, np.concatenate([np.full(9, 1.5), np.full(9, 1.0)])).x.reshape(2, 9).T


def fit_presence(detector: Detector, estimator: KeypointEstimator, split: str) -> NDArray[np.float64]:
    """`PRESENCE` (6,) of rtpose/tracking.py by logistic regression: whether what the detector finds is a labelled person.

    COCO labels nobody's joints who is much less than 50 px high, so what is smaller than 40 px says nothing here.
    """
    rows, there = [], []
    for picture in pictures(split):
        image = read_picture(picture.path)
        found = detector.detect(image)
        poses = estimator.estimate(image, found.xyxy, new=len(found), again=lambda poses: np.arange(len(poses)))
        snug, sights = fit(found.xyxy, poses), poses[:, :, 2].mean(axis=1)
        kept, _ = distinct(poses, found.xyxy, np.argsort(-(snug + sights + found.scores / 2), kind="stable"))
        for k in kept.tolist():
            box = found.xyxy[k]
            if (box[2:] - box[:2]).max() >= 40:
                rows.append(traces(float(found.scores[k]), float(sights[k]), float(snug[k]), box, max(image.shape[:2])))
                there.append(iou(box[None], picture.boxes).max(initial=0) >= 0.5)
    values, truth = np.array(rows), np.array(there)

    def loss(weights: NDArray[np.float64]) -> float:
        z = values @ weights
        return float(np.logaddexp(0, np.where(truth, -z, z)).sum() + 0.05 * (weights[1:] ** 2).sum())

    return minimize(loss, np.zeros(values.shape[1])).x


def make(
    precision: str, threshold: float | None, crop: float | None, size: int | None, *, calm: bool = False
) -> tuple[Detector, KeypointEstimator]:
    """The stages as a video run has them, with what is not None changed."""
    networks = Networks(
        Settings(precision=precision, threads=1, lifter="none"), SourceInfo("", 0, 0, Fraction(30), Fraction(1, 30))
    )
    detector = Detector(
        networks.detector,
        networks.models["detector"].decoder,
        interval=INTERVAL,
        calm=calm,
        **_chosen(threshold=threshold, size=size),
    )
    joints = networks.models["keypoints"].decoder
    return detector, KeypointEstimator(networks.keypoints, joints, light=networks.light, **_chosen(crop=crop))


def _chosen(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def on_pictures(stages: tuple[Detector, KeypointEstimator], split: str) -> tuple[list[tuple[Picture, People]], float]:
    """What the stages report on independent pictures, and seconds a picture."""
    found, seconds = [], 0.0
    for index, picture in enumerate(pictures(split)):
        frame = Frame(index, float(index), read_picture(picture.path), 0, independent=True)
        begin = time.perf_counter()
        result = stages[1](stages[0](Result(frame)))
        seconds += time.perf_counter() - begin
        found.append((picture, result.people))
    return found, seconds / len(found)


def on_held_pictures(stages: tuple[Detector, KeypointEstimator], split: str) -> list[tuple[Picture, People]]:
    """What the stages report at the end of a clip of .3 s, at 30 frames a second, that shows nothing but the picture."""
    found = []
    for number, picture in enumerate(pictures(split)):
        image = read_picture(picture.path)
        stages[1].tracker.forget()
        for k in range(10):  # the clips are minutes apart, so the detector looks at the first frame of each
            people = stages[1](stages[0](Result(Frame(1000 * number + k, 1000 * number + k / 30, image, 0)))).people
        found.append((picture, people))
    return found


def false_people(settings: dict[str, Any], independent: bool) -> dict[str, float]:
    """People a frame beyond the one who is there, on each of the clips, at the defaults of a run, as videos or as single pictures."""
    beyond = {}
    for clip in CLIPS:
        source = open_source(SHARED / "data/videos" / clip)
        detector, estimator = make(**settings, calm=True)
        frames = (replace(frame, independent=independent) for frame in source.frames())
        beyond |= _beyond_one(clip, [len(estimator(detector(Result(frame))).people) for frame in frames])
    return beyond


def false_people_refined() -> dict[str, float]:
    """The same for the clips as files run, refined."""
    beyond = {}
    for clip in CLIPS:
        results = track(SHARED / "data/videos" / clip, lifter="none", refine=True)
        beyond |= _beyond_one(clip, [len(result.people) for result in results])
    return beyond


def _beyond_one(clip: str, counts: list[int]) -> dict[str, float]:
    """People a frame beyond the one who is there, and the share of frames with nobody."""
    return {
        clip: float(np.mean([max(0, count - 1) for count in counts])),
        f"{clip}: nobody": float(np.mean([count == 0 for count in counts])),
    }


def draw_missed(pairs: list[tuple[Picture, People]], folder: Path) -> None:
    """Write a picture for each one in which somebody was missed: labels green, reports blue, missed people red."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, people in pairs:
        matched = match(people, picture)
        missed = [label for label in np.flatnonzero(picture.scored).tolist() if label not in matched]
        if not missed:
            continue
        canvas = read_picture(picture.path).copy()
        for box, keypoints in zip(people.boxes, people.keypoints, strict=True):
            cv2.rectangle(canvas, box[:2].astype(int).tolist(), box[2:].astype(int).tolist(), (80, 120, 255), 1)
            for a, b in SKELETON:
                cv2.line(canvas, keypoints[a, :2].astype(int).tolist(), keypoints[b, :2].astype(int).tolist(), (80, 120, 255), 1)
        for label, box in enumerate(picture.boxes.astype(int).tolist()):
            cv2.rectangle(canvas, box[:2], box[2:], (255, 0, 0) if label in missed else (0, 200, 0), 2)
        cv2.imwrite(str(folder / f"{picture.id:012d}.png"), cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))


def legs_at_border(pairs: list[tuple[Picture, People]]) -> dict[str, tuple[int, float]]:
    """Knees and ankles of the measured people, by whether `rtpose.stages.lift` takes them for cut off: how many, and the share that is
    where the label is (a similarity of .5 or more); those without a label are not there."""
    right: dict[str, list[bool]] = {"at the border": [], "inside": []}
    for picture, people in pairs:
        height, width = read_picture(picture.path).shape[:2]
        overlaps = iou(people.boxes, picture.boxes)
        for row, who in enumerate(overlaps.argmax(axis=1) if len(picture.boxes) else []):
            if overlaps[row, who] < 0.5 or not picture.counts[who]:
                continue
            points, sure = people.keypoints[row, :, :2], people.keypoints[row, :, 2]
            cut = trusted(points, sure, (width, height)) < sure
            labels = picture.keypoints[who]
            area = 0.53 * float(np.prod(picture.boxes[who, 2:] - picture.boxes[who, :2]))
            off = ((points - labels[:, :2]) ** 2).sum(axis=1) / (2 * area * (2 * OKS_SIGMAS) ** 2)
            there = (labels[:, 2] > 0) & (np.exp(-off) >= 0.5)
            for joint in range(13, 17):
                if sure[joint] >= 0.3:
                    right["at the border" if cut[joint] else "inside"].append(bool(there[joint]))
    return {where: (len(flags), float(np.mean(flags))) for where, flags in right.items()}


def calibrate() -> None:
    """Print what the confidences of joints and people are worth, on train2017."""
    pairs, _ = on_pictures(make("f32", None, None, None), "train2017")
    print("CALIBRATIONS", np.array2string(fit_calibration(score(pairs).joints), precision=2, separator=", "))
    print("legs, number and share that is there:", legs_at_border(pairs))
    stages = make("auto", None, None, None)
    print("PRESENCE", np.array2string(fit_presence(*stages, "train2017"), precision=2, separator=", "))


def _cell(value: Any) -> str:
    if value is None:
        return "default"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("val2017", "train2017"), default="val2017")
    parser.add_argument("--precision", default="auto", help="one or more of auto, f32, bf16, f16, int8; with commas")
    parser.add_argument("--threshold", default="", help="least scores of the detector, with commas")
    parser.add_argument("--crop", default="", help="sides of the crop over those of the box, with commas")
    parser.add_argument("--size", default="", help="longer sides of the detector's input in px, with commas")
    parser.add_argument("--no-clips", action="store_true", help="leave out the count of false people")
    parser.add_argument("--missed", type=Path, help="folder for pictures of the missed people")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--calibrate", action="store_true", help="print the calibration of the confidences, fitted on train2017")
    given = parser.parse_args()
    if given.calibrate:
        calibrate()
        return

    def listed(text: str, kind: type) -> list[Any]:
        return [kind(part) for part in text.split(",")] if text else [None]

    first: Scores | None = None
    rows: list[dict[str, Any]] = []
    choices = itertools.product(
        given.precision.split(","), listed(given.threshold, float), listed(given.crop, float), listed(given.size, int)
    )
    for precision, threshold, crop, size in choices:
        settings = {"precision": precision, "threshold": threshold, "crop": crop, "size": size}
        stages = make(**settings)
        pairs, seconds = on_pictures(stages, given.split)
        scores = score(pairs)
        row: dict[str, Any] = {**settings, "precision": stages[1].session.precision}
        row |= {"people": len(scores.oks), "AR": scores.recall.mean(), "mean OKS": scores.oks[scores.matched].mean()}
        row |= {"found": scores.covered.mean(), "one to one": scores.matched.mean(), "ankle PCK@.1": scores.ankles.mean()}
        row |= {
            "ankles": len(scores.ankles),
            "reported": np.mean([len(people) for _, people in pairs]),
            "ms/picture": 1e3 * seconds,
        }
        if first is None:
            first = scores
        else:
            gain, low, high = difference(first, scores)
            row["AR gain"] = f"{gain:+.4f} [{low:+.4f}, {high:+.4f}]"
        held = on_held_pictures(stages, given.split)
        last = score(held)
        row |= {"held: AR": last.recall.mean(), "held: found": last.covered.mean()}
        row |= {"held: reported": np.mean([len(people) for _, people in held])}
        if not given.no_clips:
            ways = {"false/frame": false_people(settings, False), "false/picture": false_people(settings, True)}
            if (precision, threshold, crop, size) == ("auto", None, None, None):
                ways["false/frame, refined"] = false_people_refined()
            for name, beyond in ways.items():
                row[name] = np.mean([beyond[clip] for clip in CLIPS])
                row.setdefault("clips", {})[name] = beyond
        labelled = ~np.isnan(scores.joints[:, 3])
        row["calibration"] = {"labelled joints": calibration(scores.joints[labelled]), "all joints": calibration(scores.joints)}
        rows.append(row)
        if given.missed:
            draw_missed(pairs, given.missed)
    table = Table("", *(str(k + 1) for k in range(len(rows))))
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in ("clips", "calibration"):
            table.add_row(name, *(_cell(row.get(name)) for row in rows))
    Console(width=40 + 26 * len(rows)).print(table)
    for which, bins in rows[0]["calibration"].items():
        print(f"\n{which}, first column: mean confidence, share that is there, number")
        for confidence, right, number in bins:
            print(f"  {confidence:.3f}  {right:.3f}  {number}")
    for name, clips in rows[0].get("clips", {}).items():
        for clip, beyond in clips.items():
            print(f"  {name} {clip}: {beyond:.4f}")
    if given.json:
        given.json.write_text(json.dumps({**about(), "split": given.split, "rows": rows}, indent=2, default=float) + "\n")


if __name__ == "__main__":
    main()
