"""What the learned initialiser is shown and what it says: from 2D keypoints of the last half second to world rotations.

The network sees rays, not pixels: the camera is turned in thought until the middle of the person lies on its axis, so that where
in the picture somebody stands makes no difference, and what is left of the perspective is the person's size as an angle. Its
rotations are those of the bones in that turned camera.
"""

from __future__ import annotations

import math

import numpy as np

from ..types import F32, F64
from .model import JOINT_NAMES
from .rotations import compiled

MOMENTS = (0.0, 2 / 30, 4 / 30, 8 / 30, 16 / 30)
"""Seconds before now at which the network is shown the keypoints; what lies before a person's first frame is missing."""
FEATURES = len(MOMENTS) * 17 * 3 + 1
PREDICTED = tuple(i for i, name in enumerate(JOINT_NAMES) if not name.endswith(("wrist", "foot")))
"""The joints whose rotations the network says; wrists and toes follow the bone above them."""


@compiled
def features_into(rays: F64, confidences: F64, out: F32, turn: F64) -> float:
    """Fill the network's input `out` (FEATURES,) from rays (m, 17, 2) and confidences (m, 17), missing: 0, newest first.

    Writes the rotation (3, 3) from the camera to the turned one into `turn`; returns the person's size as an angle (its tangent),
    or 0 where no keypoint of now is seen.
    """
    moments = len(rays)
    out[:] = 0
    low_x = low_y = 1e9
    high_x = high_y = -1e9
    for k in range(17):
        if confidences[0, k] > 0:
            low_x, high_x = min(low_x, rays[0, k, 0]), max(high_x, rays[0, k, 0])
            low_y, high_y = min(low_y, rays[0, k, 1]), max(high_y, rays[0, k, 1])
    if high_x < low_x:
        turn[:] = np.eye(3)
        return 0.0
    # The smallest turn of the middle's ray onto the axis, by Rodrigues' formula without the angle.
    x, y, z = 0.5 * (low_x + high_x), 0.5 * (low_y + high_y), 1.0
    length = math.sqrt(x * x + y * y + 1)
    x, y, z = x / length, y / length, z / length
    turn[0, 0], turn[0, 1], turn[0, 2] = 1 - x * x / (1 + z), -x * y / (1 + z), -x
    turn[1, 0], turn[1, 1], turn[1, 2] = -x * y / (1 + z), 1 - y * y / (1 + z), -y
    turn[2, 0], turn[2, 1], turn[2, 2] = x, y, z
    low_x = low_y = 1e9
    high_x = high_y = -1e9
    turned = np.zeros((moments, 17, 2))
    for m in range(moments):
        for k in range(17):
            if confidences[m, k] <= 0:
                continue
            u, v = rays[m, k, 0], rays[m, k, 1]
            depth = max(turn[2, 0] * u + turn[2, 1] * v + turn[2, 2], 0.05)
            a = (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]) / depth
            b = (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]) / depth
            turned[m, k, 0], turned[m, k, 1] = a, b
            if m == 0:
                low_x, high_x, low_y, high_y = min(low_x, a), max(high_x, a), min(low_y, b), max(high_y, b)
    size = max(high_x - low_x, high_y - low_y, 1e-4)
    middle_x, middle_y = 0.5 * (low_x + high_x), 0.5 * (low_y + high_y)
    for m in range(moments):
        for k in range(17):
            at = 51 * m + 3 * k
            if confidences[m, k] > 0:
                out[at] = min(max(2 * (turned[m, k, 0] - middle_x) / size, -6), 6)
                out[at + 1] = min(max(2 * (turned[m, k, 1] - middle_y) / size, -6), 6)
                out[at + 2] = confidences[m, k]
    out[51 * moments] = math.log(size)
    return size
