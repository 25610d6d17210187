"""BVH (Biovision hierarchy): the skeleton in its T-pose, and how every joint turns, at a steady rate. Metres and degrees, y up."""

from __future__ import annotations

import warnings
from typing import BinaryIO

import numpy as np
from scipy.spatial.transform import Rotation

from ..body.model import BodyModel
from ..types import F64
from .motion import Motion

_ENDS = {
    "head": (0, 0.18, 0), "left_foot": (0, 0, 0.08), "right_foot": (0, 0, 0.08), "left_wrist": (0.16, 0, 0), "right_wrist": (-0.16, 0, 0),
}  # fmt: skip
"""Where the last bones end, seen from their joint, metres: something to draw, nothing that was measured."""


def write(file: BinaryIO, *, motion: Motion, body: BodyModel, times: F64, rate: float) -> None:
    """Write the movement at `times`, which are `rate` a second; where there is none it is bridged, before and after all it is held."""
    order, hierarchy = _hierarchy(body, body.offsets(motion.betas))
    sampled = motion.at(times)
    file.write(f"HIERARCHY\n{hierarchy}MOTION\nFrames: {len(times)}\nFrame Time: {1 / rate:.9f}\n".encode())
    angles = _angles(sampled.turns[:, order])
    np.savetxt(file, np.concatenate([sampled.pelvis, angles.reshape(len(times), -1)], 1), "%.6f")


def _angles(turns: F64) -> F64:
    """Quaternions (n, j, 4) -> degrees (n, j, 3) about z, then x, then y, each axis moved by the turn before; without jumps in time.

    Each turn is made by (z, x, y) and by (z + 180, 180 - x, y + 180), and by whole turns more: of these the nearest to the frame before.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # any of the angles that then make the same turn will do
        angles = Rotation.from_quat(turns.reshape(-1, 4)).as_euler("ZXY", degrees=True).reshape(*turns.shape[:2], 3)
    for i in range(1, len(angles)):
        before, one = angles[i - 1], angles[i]
        other = one * [1, -1, 1] + 180
        one, other = (found + 360 * np.round((before - found) / 360) for found in (one, other))
        nearer = np.abs(other - before).sum(1) < np.abs(one - before).sum(1)
        angles[i] = np.where(nearer[:, None], other, one)
    return np.asarray(angles)


def _hierarchy(body: BodyModel, offsets: F64) -> tuple[list[int], str]:
    """The joints in the order of the file, and its text. The root stands at the origin; its channels place it."""
    order: list[int] = []
    lines: list[str] = []

    def add(joint: int, depth: int) -> None:
        order.append(joint)
        name = body.joint_names[joint]
        indent = "\t" * depth
        offset = offsets[joint] if depth else np.zeros(3)
        place = "" if depth else "Xposition Yposition Zposition "
        lines.extend([f"{indent}{'JOINT' if depth else 'ROOT'} {name}", f"{indent}{{", f"{indent}\t{_offset(offset)}"])
        lines.append(f"{indent}\tCHANNELS {3 if depth else 6} {place}Zrotation Xrotation Yrotation")
        children = np.flatnonzero(body.parents == joint).tolist()
        for child in children:
            add(child, depth + 1)
        if not children:
            lines.extend([f"{indent}\tEnd Site", f"{indent}\t{{", f"{indent}\t\t{_offset(_ENDS[name])}", f"{indent}\t}}"])
        lines.append(f"{indent}}}")

    add(0, 0)
    return order, "\n".join(lines) + "\n"


def _offset(metres: F64 | tuple[float, ...]) -> str:
    return "OFFSET " + " ".join(f"{v:.6f}" for v in metres)
