"""The reference clip: two rendered bodies whose truth is known exactly, and how results are compared with it.

Made by `scripts/make_reference_clip.py`. It serves `rtpose doctor --selfcheck`, the tests and the benchmarks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..types import F32, F64, Result

CLIP = Path(__file__).parent / "clip.mp4"
_TRUTH = Path(__file__).parent / "truth.npz"
LIMBS = np.arange(5, 17)
"""Shoulders to ankles: what both the labels of people and the body define alike."""


@dataclass(frozen=True)
class Truth:
    """What every frame of the clip shows, for both people.

    keypoints (f, 2, 17, 2) px; keypoints3d (f, 2, 17, 3) and joints3d (f, 2, 22, 3) metres in the camera frame; rotations
    (f, 2, 22, 3) axis-angle, betas (f, 2, b), translation (f, 2, 3) metres; camera: fx, fy, cx, cy in px.
    """

    keypoints: F32
    keypoints3d: F32
    joints3d: F32
    rotations: F32
    betas: F32
    translation: F32
    camera: F64


def truth() -> Truth:
    """The truth of the reference clip."""
    with np.load(_TRUTH) as arrays:
        return Truth(**{name: arrays[name] for name in Truth.__dataclass_fields__})


@dataclass(frozen=True)
class Figures:
    """How results differ from the truth.

    found: share of people and frames found, of all. extra: people a frame beyond the two. keypoint_px: mean distance of shoulders
    to ankles of those found. joint_mm: the same in 3D, relative to the middle of the hips; NaN without bodies. misnamed: share of those
    found under another number than the person mostly has.
    """

    frames: int
    found: float
    extra: float
    keypoint_px: float
    joint_mm: float
    misnamed: float


REACH = 40.0
"""A person is found where somebody's limbs lie, on average, within so many px of the truth."""


def compare(results: Iterable[Result]) -> Figures:
    """Compare the results of a run over the clip with its truth, frame by frame, people matched one to one."""
    known = truth()
    frames = extra = 0
    pixels: list[float] = []
    metres: list[float] = []
    names: tuple[list[int], list[int]] = ([], [])
    for result in results:
        people, index = result.people, result.frame.index
        frames += 1
        aims = known.keypoints[index][:, None, LIMBS]
        apart = np.linalg.norm(people.keypoints[None, :, LIMBS, :2] - aims, axis=-1).mean(-1)
        pairs = [(who, row) for who, row in zip(*linear_sum_assignment(apart), strict=True) if apart[who, row] <= REACH]
        for who, row in pairs:
            names[who].append(int(people.ids[row]))
            pixels.append(float(apart[who, row]))
            if result.bodies is not None and np.isfinite(result.bodies.joints3d[row]).all():
                got, wanted = result.bodies.joints3d[row, :17], known.keypoints3d[index, who]
                offset = (got - got[11:13].mean(0)) - (wanted - wanted[11:13].mean(0))
                metres.append(float(np.linalg.norm(offset[LIMBS], axis=-1).mean()))
        extra += len(people) - len(pairs)
    return Figures(
        frames=frames,
        found=len(pixels) / (2 * frames) if frames else 0.0,
        extra=extra / frames if frames else 0.0,
        keypoint_px=float(np.mean(pixels)) if pixels else float("nan"),
        joint_mm=1e3 * float(np.mean(metres)) if metres else float("nan"),
        misnamed=sum(len(n) - max(Counter(n).values(), default=0) for n in names) / len(pixels) if pixels else 0.0,
    )
