"""Smoothing that knows the future: penalised least squares on real times.

What is found is the curve that minimises the integral of w |x - z|^2 plus (2 pi f)^-4 times the integral of |x''|^2: with even
weights a low-pass filter without lag, whose gain is one half at f Hz, and across gaps a cubic interpolation (Whittaker 1923; it
is what a Rauch-Tung-Striebel smoother of constant velocity computes). Samples far from the curve are believed less, by Geman
and McClure's weights.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import solveh_banded

from ..types import F64

ROUNDS = 3
"""Of re-weighting."""


def smooth(times: F64, values: F64, weights: F64, cutoff: float, *, robust: float = math.inf) -> F64:
    """The smoothed values (n, d). times (n,) s, increasing; weights (n,), of which 1 is a good sample and 0 none; cutoff in Hz.

    robust: the distance from the curve at which a sample counts a quarter. Fewer than three samples, or no weight, change nothing.
    """
    total = float(weights.sum())
    if len(times) < 3 or total <= 0:
        return np.array(values)
    shares = weights * np.gradient(times)
    rough = _roughness(times) / (2 * math.pi * cutoff) ** 4
    # What is sought is how the curve differs from a straight line, which costs nothing: else rounding bends long, slow motion.
    line = _straight(times, values, weights)
    values, curve = values - line, values - line
    for once in range(1 if math.isinf(robust) else ROUNDS):
        doubt = 1.0 if once == 0 else (1 + ((values - curve) ** 2).sum(1) / robust**2) ** -2.0
        matrix = rough.copy()
        matrix[2] += shares * doubt + 1e-9 * shares.mean()
        curve = solveh_banded(matrix, (shares * doubt)[:, None] * values, check_finite=False)
    return np.asarray(line + curve)


def _straight(times: F64, values: F64, weights: F64) -> F64:
    """The straight line (n, d) that lies nearest to the samples."""
    moments = np.stack([np.ones(len(times)), times - np.average(times, weights=weights)], 1)
    root = np.sqrt(weights)[:, None]
    return np.asarray(moments @ np.linalg.lstsq(root * moments, root * values, rcond=None)[0])


def _roughness(times: F64) -> F64:
    """The integral of the squared second derivative as a quadratic form of the samples: upper diagonals (3, n), as LAPACK wants them."""
    step = np.diff(times)
    before, after = step[:-1], step[1:]
    span = (before + after) / 2
    rows = np.stack([1 / before, -1 / before - 1 / after, 1 / after]) / np.sqrt(span)
    upper = np.zeros((3, len(times)))
    for low in range(3):
        for high in range(low, 3):
            upper[2 - high + low, high : high + len(span)] += rows[low] * rows[high]
    return upper
