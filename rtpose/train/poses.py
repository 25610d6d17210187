"""Poses that no motion capture holds, learned from 2D annotations alone: people of COCO as the lifter makes them out.

A network that has learned to re-project labelled people gives them bodies; where a body falls on its labels it is a pose that somebody
has really stood in, or nearly: depth is a guess, but within joints' limits. Seen from another side, by another camera, its
keypoints are new, and their truth is known.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..archives import read_arrays
from ..backends import open_session
from ..body.camera import camera_for
from ..body.model import JOINT_NAMES, BodyModel, forward_kinematics
from ..body.rotations import to_matrix
from ..errors import InputError
from ..models import find
from ..stages.lift import Lifter
from ..types import F32, F64, Frame, People, Result, Status
from .people import Labels
from .samples import Bank

LIMBS = slice(5, 17)
_JOINTS = [i for i, name in enumerate(JOINT_NAMES) if name.endswith(("hip", "knee", "ankle", "shoulder", "elbow", "wrist"))]
SMALLEST = 80.0
"""px of height, of a person."""
NEAR = 0.025
"""Sizes of the person, by which the body's limbs may miss the labels in the mean."""
NEW = 0.12
"""Metres by which the limbs must differ, root of the mean square, from every pose of the mocap: those who merely stand come out with bent
knees, since errors of labels can bend a straight leg and straighten none."""


def make_poses(path: Path, labels: Labels, body: BodyModel, bank: Bank) -> None:
    """Write the new poses of labelled people all of whose limbs are labelled, unless the file is there. Raises InputError for none."""
    if path.exists():
        return
    labels = labels[(labels.keypoints[:, LIMBS, 2] > 0).all(1) & (labels.boxes[:, 3] >= SMALLEST)]
    lifter = Lifter(body, open_session(find("lifter", "lifter").path, precision="f32", threads=1))
    poses = []
    for row, (keypoints, size) in enumerate(zip(labels.keypoints, labels.sizes, strict=True)):
        width, height = (int(side) for side in size)
        frame = Frame(row, float(row), np.broadcast_to(np.uint8(0), (height, width, 3)), 0, independent=True)
        shown = keypoints.copy()
        shown[:, 2] = keypoints[:, 2] > 0
        x, y, w, h = labels.boxes[row].tolist()
        everybody = People(
            np.ones(1, np.int64), np.array([[x, y, x + w, y + h]], np.float32), np.ones(1, np.float32), shown[None],
            np.full((1, 17), Status.MEASURED, np.uint8), shown[None],
        )  # fmt: skip
        bodies = lifter(Result(frame, people=everybody)).bodies
        if bodies is None or not np.isfinite(bodies.joints3d).all():
            continue
        off = camera_for(width, height).project(bodies.joints3d[0, LIMBS].astype(np.float64)) - keypoints[LIMBS, :2]
        if np.linalg.norm(off, axis=-1).mean() < NEAR * np.ptp(keypoints[LIMBS, :2], axis=0).max():
            pose = to_matrix(bodies.rotations[0].astype(np.float64))
            pose[0] = np.diag([1.0, -1, -1]) @ pose[0]  # as seen by a level camera
            poses.append(np.float16(pose))
    if not poses:
        raise InputError("of none of the labelled people a pose can be made out: give COCO's train2017, or train without poses")
    known = cKDTree(_places(bank.rotations[::3], body))
    away, _ = known.query(_places(np.stack(poses), body))
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, poses=np.stack(poses)[away / math.sqrt(len(_JOINTS)) > NEW])
    partial.replace(path)


def _places(rotations: NDArray[np.floating[Any]], body: BodyModel) -> F64:
    """Where the limbs are, about the pelvis (n, 36), in poses (n, 22, 3, 3) of a body of mean shape."""
    offsets, world, joints = body.offsets(np.zeros(body.betas)), np.empty((22, 3, 3)), np.empty((len(rotations), 22, 3))
    for pose, out in zip(rotations.astype(np.float64), joints, strict=True):
        pose[0] = np.eye(3)
        forward_kinematics(body.parents, offsets, pose, np.zeros(3), world, out)
    return joints[:, _JOINTS].reshape(len(joints), -1)


def read_poses(path: Path) -> F32:
    """What `make_poses` has written: local rotations (n, 22, 3, 3), the pelvis' in a world with y up. Raises InputError for a broken
    file."""
    try:
        return read_arrays(path)["poses"].astype(np.float32)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no poses ({error}): delete it, and it is made again") from None
