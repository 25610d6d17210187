"""The paper's figures 4 and 5 on our pictures: the mesh from the crop of the person, and from the whole picture.

    python benchmarks/paper_meshes.py OUT.png                 # OUT.png outside the repository: it shows COCO's pictures
    python benchmarks/paper_meshes.py OUT.png --checkpoint spin.pt --body-model SMPL_NEUTRAL.pkl      # HMR, as in the paper

The paper gives HMR the crop of the person, and then the whole picture. Without a checkpoint of HMR the default lifter stands in for it,
on the keypoints that the network finds in the crop, and in the whole picture. One row a picture: as it is, with the crop, without.
Pictures: val2017, those with tennis first, one person each, the largest that is labelled. Printed are the mean distances between the
body's keypoints and the labels, in shares of the box's height.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtpose.backends import open_session
from rtpose.bench import about
from rtpose.body.camera import camera_for
from rtpose.body.model import Lifted, load_body
from rtpose.evaluate import Picture, read_annotations
from rtpose.models import find
from rtpose.models.hmr import network_of
from rtpose.render import draw
from rtpose.source import read_picture
from rtpose.stages.hmr import HmrLifter, smpl_body
from rtpose.stages.keypoints import KeypointEstimator, calibrate
from rtpose.stages.lift import Lifter
from rtpose.train.people import read_tags
from rtpose.types import F32, U8, Frame, People, Result

DATA = Path(__file__).resolve().parent.parent.parent / "shared/data"
HEIGHT = 300


def chosen(count: int) -> list[tuple[Picture, int]]:
    """Pictures of sports, tennis first, and the row of the largest scored person in each."""
    tags = read_tags(DATA / "coco_keypoints/val2017_sport_tags.csv")
    labelled = read_annotations(DATA / "coco_keypoints/person_keypoints_val2017_dev.json", DATA / "coco_images/val2017")
    sports = [p for p in labelled if p.id in tags and p.scored.any()]
    sports.sort(key=lambda p: ("tennis" not in tags[p.id], p.id))
    return [(p, int(np.argmax(np.where(p.scored, p.boxes[:, 3] - p.boxes[:, 1], 0)))) for p in sports[:count]]


def looked_at(image: U8, box: F32, estimator: KeypointEstimator) -> Result:
    """One person, whom the keypoint network looks for in the square around that box."""
    keypoints = estimator.estimate(image, box[None])
    sure = keypoints.copy()
    calibrate(sure, *image.shape[:2], estimator._calibration)
    people = People(np.ones(1, np.int64), box[None], np.ones(1), sure, np.zeros((1, 17)), keypoints)
    return Result(Frame(0, 0.0, image, 0, independent=True), people=people)


def tile(image: U8) -> U8:
    scale = HEIGHT / image.shape[0]
    return np.asarray(cv2.resize(image, (round(image.shape[1] * scale), HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def joined(rows: list[list[U8]]) -> NDArray[np.uint8]:
    """The tiles as one picture, rows one below the other."""
    strips = [np.hstack(row) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    return np.vstack([np.pad(strip, ((0, 4), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--body-model", type=Path)
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    joints = find("movenet-thunder", "keypoints")
    estimator = KeypointEstimator(open_session(joints.path, precision="f32"), joints.decoder)
    stage: Callable[[Result], Result]
    if given.checkpoint:
        body, name = smpl_body(given.body_model), "HMR"
        stage = HmrLifter(body, open_session(network_of(given.checkpoint).path, precision="f32"), camera_for)
    else:
        body, name = load_body(), "the default lifter"
        stage = Lifter(body, open_session(find("lifter", "lifter").path, precision="f32"), camera_for)
    lifted = Lifted(body, camera_for)
    rows: list[list[U8]] = []
    errors: dict[str, list[float]] = {"crop": [], "whole picture": []}
    for picture, person in chosen(given.count):
        image, truth = read_picture(picture.path), picture.keypoints[person]
        height, width = image.shape[:2]
        tiles = [tile(image)]
        for way, box in (("crop", picture.boxes[person]), ("whole picture", np.float32([0, 0, width - 1, height - 1]))):
            result = stage(looked_at(image, box, estimator))
            tiles.append(tile(draw(result, lifted)))
            if result.bodies is not None and np.isfinite(result.bodies.joints3d[0]).all():
                at = camera_for(width, height).project(result.bodies.joints3d[0, :17])
                off = np.linalg.norm(at - truth[:, :2], axis=1)[truth[:, 2] > 0]
                errors[way].append(float(off.mean() / (picture.boxes[person, 3] - picture.boxes[person, 1])))
        rows.append(tiles)
    cv2.imwrite(str(given.out), joined(rows)[..., ::-1])
    figures = {
        way: {"bodies": len(off), "median": float(np.median(off)), "mean": float(np.mean(off))} for way, off in errors.items()
    }
    print(f"{name}, {len(rows)} pictures: distance of the body's keypoints from the labels, shares of the box's height")
    for way, said in figures.items():
        print(f"  {way:14s} {said['bodies']} bodies, median {said['median']:.3f}, mean {said['mean']:.3f}")
    if given.json:
        given.json.write_text(json.dumps({**about(), "lifter": name, "pictures": len(rows), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
