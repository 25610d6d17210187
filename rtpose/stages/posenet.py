"""PoseNet's two decoders: from heatmaps, offsets and displacements to keypoints.

After tensorflow/tfjs-models, `posenet/src/single_pose` and `posenet/src/multi_pose` (Papandreou et al., "PersonLab", ECCV 2018).
All arrays are (rows, columns, channels) of one picture; coordinates are pixels of the network's input, x right, y down. Channel
k of `offsets` is y of keypoint k and channel k + 17 its x; channel e of a displacement is y along edge e and e + 16 its x.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import F32

KEYPOINTS = 17
STRIDE = 16
"""Px of the input per cell of the bundled network."""

EDGES: tuple[tuple[int, int], ...] = (
    (0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11),
    (11, 13), (13, 15), (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
)  # fmt: skip
"""The tree along which a pose grows from its root keypoint: (parent, child), in the order of the displacement channels."""

MAX_POSES = 5
ROOT_SCORE = 0.5
NMS_RADIUS = 20.0
REFINEMENTS = 2
"""The defaults of tfjs-models: at most so many poses, started from keypoints of at least this score and this many px apart."""

MIDDLE, EXTENT = 0.15, (0.1, 0.8)
"""Of the poses in a person's crop: how far from the crop's middle that person's may be, and how much of the crop it fills; as
shares of the crop's side. The crop is some 1.15 times as large as the person."""

Maps = NDArray[np.floating[Any]]


def sigmoid(x: Maps) -> F32:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, np.float32))), np.float32)


def decode_single(scores: Maps, offsets: Maps, stride: int) -> F32:
    """The best place of every keypoint on its own.

    scores (h, w, 17) in 0..1, offsets (h, w, 34) px. Returns (17, 3): x, y in px of the input, score. The score of the whole pose
    is the mean of its keypoints' scores.
    """
    rows, columns = np.unravel_index(scores.reshape(-1, KEYPOINTS).argmax(0), scores.shape[:2])
    k = np.arange(KEYPOINTS)
    x = columns * stride + offsets[rows, columns, k + KEYPOINTS]
    y = rows * stride + offsets[rows, columns, k]
    return np.stack([x, y, scores[rows, columns, k]], 1).astype(np.float32)


def decode_multi(
    scores: Maps,
    offsets: Maps,
    forward: Maps,
    backward: Maps,
    stride: int,
    *,
    max_poses: int = MAX_POSES,
    root_score: float = ROOT_SCORE,
    nms_radius: float = NMS_RADIUS,
) -> tuple[F32, F32]:
    """Several people: each grows along `EDGES` from the best keypoint that nobody has claimed yet.

    scores (h, w, 17) in 0..1, offsets (h, w, 34), forward and backward displacements (h, w, 32) px. Returns keypoints (n, 17, 3)
    as x, y px and score, and the poses' scores (n,), in the order of their roots' scores. A pose's score is the mean of its keypoints'
    scores, where those within `nms_radius` of an earlier pose's same keypoint count as nothing.
    """
    found: list[F32] = []
    totals: list[float] = []
    for row, column, k in _roots(scores, root_score):
        if len(found) == max_poses:
            break
        root = np.array(
            [
                column * stride + offsets[row, column, k + KEYPOINTS],
                row * stride + offsets[row, column, k],
                scores[row, column, k],
            ]
        )
        if any(_near(pose[k], root, nms_radius) for pose in found):
            continue
        pose = _grow(k, root, scores, offsets, forward, backward, stride)
        free = [not any(_near(other[j], pose[j], nms_radius) for other in found) for j in range(KEYPOINTS)]
        totals.append(float(pose[free, 2].sum()) / KEYPOINTS)
        found.append(pose)
    return np.array(found, np.float32).reshape(-1, KEYPOINTS, 3), np.array(totals, np.float32)


def decode_person(scores: Maps, offsets: Maps, forward: Maps, backward: Maps, stride: int) -> F32:
    """The person (17, 3) that a crop was cut around: x, y in px of the input, score.

    Of the poses found, the one whose keypoints are sure, whose middle is near the crop's and which fills it; where there is none, the
    best place of every keypoint. (On people of COCO this beats the single-pose decoder, which mixes people, by far.)
    """
    poses, _ = decode_multi(scores, offsets, forward, backward, stride)
    if len(poses) == 0:
        return decode_single(scores, offsets, stride)
    side = (scores.shape[0] - 1) * stride
    points, weights = poses[:, :, :2], poses[:, :, 2:]
    middle = (points * weights).sum(1) / weights.sum(1)
    away = np.abs(middle - side / 2).max(1) / side
    extent = (points.max(1) - points.min(1)).max(1) / side
    fit = weights.mean((1, 2)) * np.exp(-((away / MIDDLE) ** 2)) * np.clip(extent, *EXTENT)
    return np.asarray(poses[int(fit.argmax())], np.float32)


def _roots(scores: Maps, least: float) -> list[tuple[int, int, int]]:
    """(row, column, keypoint) of every score of at least `least` that none of its eight neighbours beats, best first."""
    h, w, _ = scores.shape
    padded = np.pad(scores, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    best = np.max([padded[i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=0)
    where = np.argwhere((scores >= least) & (scores >= best))
    order = np.argsort(-scores[tuple(where.T)], kind="stable")
    return [(int(r), int(c), int(k)) for r, c, k in where[order]]


def _near(a: NDArray[Any], b: NDArray[Any], radius: float) -> bool:
    return bool((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 <= radius * radius)


def _grow(k: int, root: NDArray[Any], scores: Maps, offsets: Maps, forward: Maps, backward: Maps, stride: int) -> F32:
    """The pose (17, 3) whose keypoint `k` is `root`: first up the tree to the nose, then down to every leaf."""
    pose = np.zeros((KEYPOINTS, 3))
    pose[k] = root
    known = {k}
    steps = [(child, parent, e, backward) for e, (parent, child) in reversed(list(enumerate(EDGES)))]
    steps += [(parent, child, e, forward) for e, (parent, child) in enumerate(EDGES)]
    for source, target, edge, displacements in steps:
        if source in known and target not in known:
            pose[target] = _step(pose[source, :2], target, edge, scores, offsets, displacements, stride)
            known.add(target)
    return pose.astype(np.float32)


def _step(start: NDArray[Any], target: int, edge: int, scores: Maps, offsets: Maps, moves: Maps, stride: int) -> NDArray[Any]:
    """Follow the displacement of `edge` from `start` (x, y), then let the offsets there refine the place."""
    rows, columns = scores.shape[:2]

    def cell(point: NDArray[Any]) -> tuple[int, int]:
        column, row = np.floor(point / stride + 0.5).astype(int)  # rounds halves up, as JavaScript does
        return min(max(int(row), 0), rows - 1), min(max(int(column), 0), columns - 1)

    r, c = cell(start)
    point = start + np.array([moves[r, c, len(EDGES) + edge], moves[r, c, edge]])
    for _ in range(REFINEMENTS):
        r, c = cell(point)
        point = np.array([c * stride + offsets[r, c, target + KEYPOINTS], r * stride + offsets[r, c, target]])
    r, c = cell(point)
    return np.array([point[0], point[1], scores[r, c, target]])
