"""The room that people stand in: which way is down, and where the ground is, from their feet alone.

Nothing else tells how a camera is tilted. The ground is the plane through the lowest foot of everybody, fitted by least squares
over the last seconds. One person who stands still shows no slope, so the plane is held level (for the camera) as long as feet do
not say otherwise: it follows them when people are spread in depth, as on a court, or walk through it.

The room's frame is level: x right, y down, z forward, metres; its origin is the camera.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..types import F64

MEMORY = 4.0
"""Seconds for which feet count."""
SETTLE = 0.7
"""Seconds in which the ground's height and the people's centre are smoothed."""
_ROLL, _PITCH = 0.05, 0.35
"""Standard deviations of the slopes of a ground of which nothing is known, to the side and away: cameras are pitched, seldom rolled."""
_RATE = 2.0
"""So many times a second a foot counts as a new one."""
_STEEPEST = 1.5


class Room:
    """Estimates that follow what `see` is told. turn: (3, 3), camera frame -> room. ground: the ground's y in the room."""

    def __init__(self) -> None:
        self.turn: F64 = np.eye(3)
        self.ground = 1.5
        self.centre: F64 = np.array([0.0, 0.0, 3.0])
        self.begun: float | None = None
        self.time = 0.0
        self._normal, self._right = np.zeros((3, 3)), np.zeros(3)
        self._below, self._centre = 0.0, self.centre

    @property
    def down(self) -> F64:
        """(3,) in the camera frame."""
        return np.asarray(self.turn[1])

    def see(self, feet: Any, centre: Any, time: float) -> None:
        """feet: (n, 3), the lowest point of each person; centre: (3,) what is looked at; both in the camera frame. time: seconds."""
        at = np.asarray(feet, np.float64).reshape(-1, 3)
        elapsed = 0.0 if self.begun is None else min(max(time - self.time, 0.0), MEMORY)
        plane = self._fit(at, elapsed)
        # Raised feet pull the plane up: stand it under most of them.
        step = 1.0 if self.begun is None else 1 - math.exp(-elapsed / SETTLE)
        self._below += step * (float(np.quantile(at @ self.down, 0.7)) - plane - self._below)
        self.ground = plane + self._below
        self._centre = self._centre + step * (np.asarray(centre, np.float64) - self._centre)
        self.centre = self.turn @ self._centre
        self.begun = time if self.begun is None else self.begun
        self.time = time

    def _fit(self, feet: F64, elapsed: float) -> float:
        """Fit y = slope_x x + slope_z z + height to the feet, with a prior on the slopes; turn with it and return the plane's height."""
        rows = np.stack([feet[:, 0], feet[:, 2], np.ones(len(feet))], 1)
        weights = (1.0 if self.begun is None else _RATE * elapsed) / (0.05 + 0.03 * np.abs(feet[:, 2])) ** 2
        fade = math.exp(-elapsed / MEMORY)
        self._normal = fade * self._normal + rows.T @ (rows * weights[:, None])
        self._right = fade * self._right + rows.T @ (weights * feet[:, 1])
        prior = np.diag([_ROLL**-2, _PITCH**-2, 1e-6])
        slopes = np.linalg.solve(self._normal + prior, self._right)[:2]
        across, away = np.clip(slopes, -_STEEPEST, _STEEPEST)
        down = np.array([-across, 1.0, -away])
        down /= np.linalg.norm(down)
        right = np.array([1.0, 0, 0]) - down[0] * down
        right /= np.linalg.norm(right)
        self.turn = np.stack([right, down, np.cross(right, down)])
        # The plane of these slopes through the weighted mean of the feet.
        mean = np.array([self._normal[0, 2], self._right[2], self._normal[1, 2]]) / self._normal[2, 2]
        return float(mean @ down)
