"""Rotations as axis-angle vectors, matrices and six numbers, and how the body's arithmetic is compiled.

The leading axes of every public function are free. Six numbers are the first two *columns* of the matrix, one after the other
(Zhou et al., On the Continuity of Rotation Representations); other projects interleave them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..jit import jit
from ..types import F64

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile with numba; the machine code is kept on disk, and other threads run meanwhile."""
    return jit(function, nogil=True, fastmath={"contract", "reassoc", "nsz", "arcp"})


@compiled
def exp_into(w: F64, r: F64) -> None:
    """Write the matrix of the axis-angle vector w (3,) into r (3, 3): Rodrigues' formula."""
    square = w[0] * w[0] + w[1] * w[1] + w[2] * w[2]
    if square < 1e-12:
        a = 1.0 - square / 6
        b = 0.5 - square / 24
    else:
        angle = math.sqrt(square)
        a = math.sin(angle) / angle
        b = (1 - math.cos(angle)) / square
    x, y, z = w[0], w[1], w[2]
    r[0, 0] = 1 - b * (y * y + z * z)
    r[0, 1] = b * x * y - a * z
    r[0, 2] = b * x * z + a * y
    r[1, 0] = b * x * y + a * z
    r[1, 1] = 1 - b * (x * x + z * z)
    r[1, 2] = b * y * z - a * x
    r[2, 0] = b * x * z - a * y
    r[2, 1] = b * y * z + a * x
    r[2, 2] = 1 - b * (x * x + y * y)


@compiled
def log_into(r: F64, w: F64) -> None:
    """Write the axis-angle vector of the rotation matrix r (3, 3), at most pi long, into w (3,)."""
    x = r[2, 1] - r[1, 2]
    y = r[0, 2] - r[2, 0]
    z = r[1, 0] - r[0, 1]
    sine = 0.5 * math.sqrt(x * x + y * y + z * z)
    cosine = 0.5 * (r[0, 0] + r[1, 1] + r[2, 2] - 1)
    angle = math.atan2(sine, cosine)
    if cosine > -0.99:
        factor = 0.5 if angle < 1e-6 else 0.5 * angle / sine
        w[0] = factor * x
        w[1] = factor * y
        w[2] = factor * z
        return
    # Near half a turn the antisymmetric part vanishes: take the axis from the symmetric part, its sign from what is left.
    i = 0
    if r[1, 1] > r[i, i]:
        i = 1
    if r[2, 2] > r[i, i]:
        i = 2
    for k in range(3):
        w[k] = 0.5 * (r[k, i] + r[i, k])
    w[i] -= cosine
    length = math.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    if w[0] * x + w[1] * y + w[2] * z < 0:
        length = -length
    for k in range(3):
        w[k] *= angle / length


@compiled
def _exp_all(w: F64, r: F64) -> None:
    for i in range(len(w)):
        exp_into(w[i], r[i])


@compiled
def _log_all(r: F64, w: F64) -> None:
    for i in range(len(r)):
        log_into(r[i], w[i])


@compiled
def _from_six_all(six: F64, r: F64) -> None:
    for i in range(len(six)):
        a, b = six[i, :3], six[i, 3:]
        length = math.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2])
        x, y, z = a[0] / length, a[1] / length, a[2] / length
        along = x * b[0] + y * b[1] + z * b[2]
        u, v, w = b[0] - along * x, b[1] - along * y, b[2] - along * z
        length = math.sqrt(u * u + v * v + w * w)
        u, v, w = u / length, v / length, w / length
        r[i, 0, 0], r[i, 1, 0], r[i, 2, 0] = x, y, z
        r[i, 0, 1], r[i, 1, 1], r[i, 2, 1] = u, v, w
        r[i, 0, 2], r[i, 1, 2], r[i, 2, 2] = y * w - z * v, z * u - x * w, x * v - y * u


def to_matrix(axis_angle: Any) -> F64:
    """Axis-angle (..., 3) in radians -> matrices (..., 3, 3)."""
    w = np.ascontiguousarray(axis_angle, np.float64)
    matrices = np.empty((*w.shape[:-1], 3, 3))
    _exp_all(w.reshape(-1, 3), matrices.reshape(-1, 3, 3))
    return matrices


def to_axis_angle(matrices: Any) -> F64:
    """Matrices (..., 3, 3) -> axis-angle (..., 3) in radians, at most pi long."""
    r = np.ascontiguousarray(matrices, np.float64)
    axis_angle = np.empty(r.shape[:-1])
    _log_all(r.reshape(-1, 3, 3), axis_angle.reshape(-1, 3))
    return axis_angle


def to_six(matrices: Any) -> F64:
    """Matrices (..., 3, 3) -> their first two columns (..., 6)."""
    r = np.asarray(matrices, np.float64)
    return np.concatenate([r[..., 0], r[..., 1]], -1)


def from_six(six: Any) -> F64:
    """Six numbers (..., 6), not nearly parallel halves -> the nearest matrices (..., 3, 3) by Gram and Schmidt."""
    numbers = np.ascontiguousarray(six, np.float64)
    matrices = np.empty((*numbers.shape[:-1], 3, 3))
    _from_six_all(numbers.reshape(-1, 6), matrices.reshape(-1, 3, 3))
    return matrices
