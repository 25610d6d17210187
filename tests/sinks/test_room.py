"""The ground under people's feet: found where feet show it, level where they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rtpose.sinks.room import Room


def court(
    pitch: float, roll: float, height: float, n: int, seed: int, depth: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Feet (n, 3) on the ground before a camera at `height`, pitched down and rolled by degrees; and the ground's down (3,)."""
    random = np.random.default_rng(seed)
    level = np.stack([random.uniform(-4, 4, n), np.full(n, height), random.uniform(*depth, n)], 1)
    turn = Rotation.from_euler("zx", [roll, pitch], degrees=True).as_matrix()
    return level @ turn.T, turn @ [0, 1, 0]


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.acos(min(1.0, float(a @ b))))


@pytest.mark.parametrize("pitch", [0, 12, 30])
def test_people_spread_over_a_court_show_how_the_camera_is_tilted(pitch: float) -> None:
    room = Room()
    for frame in range(60):
        feet, down = court(pitch, 0, 5, 8, frame, (10, 25))
        feet += np.random.default_rng(frame).normal(0, 0.15, feet.shape)
        room.see(feet, feet.mean(0), frame / 30)
    assert angle(room.down, down) < 2
    assert room.ground == pytest.approx(5, abs=0.3)


def test_one_person_who_stands_leaves_it_level_whatever_the_noise() -> None:
    random, room = np.random.default_rng(0), Room()
    for frame in range(300):
        room.see(np.array([[0.3, 1.4, 4.0]]) + random.normal(0, [0.01, 0.01, 0.1]), (0.3, 0.5, 4), frame / 30)
    assert angle(room.down, np.array([0, 1, 0])) < 4
    assert room.ground == pytest.approx(1.4, abs=0.15)


def test_one_person_who_walks_away_shows_the_slope() -> None:
    room = Room()
    turn = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    for frame in range(120):
        foot = turn @ [0.2, 2.5, 4 + frame / 30 * 1.4]
        room.see(foot, foot, frame / 30)
    assert angle(room.down, turn @ [0, 1, 0]) < 4


@given(st.integers(0, 50), st.floats(-60, 60), st.floats(-60, 60), st.floats(-10, 10), st.integers(1, 9))
def test_the_room_is_always_a_rotation_that_points_down(seed: int, pitch: float, roll: float, height: float, n: int) -> None:
    room = Room()
    for frame in range(5):
        feet, _ = court(pitch, roll, height, n, seed + frame, (0.5, 40))
        room.see(feet, feet.mean(0), frame / 30)
        assert np.allclose(room.turn @ room.turn.T, np.eye(3))
        assert np.linalg.det(room.turn) == pytest.approx(1)
        assert room.down[1] > 0, "down is down"
        assert np.isfinite([room.ground, *room.centre]).all()


def test_a_clock_that_stands_still_or_jumps_back_does_no_harm() -> None:
    room = Room()
    for time in (5.0, 5.0, 2.0, 1e6):
        room.see([[0, 1.5, 4]], (0, 0, 4), time)
    assert room.ground == pytest.approx(1.5, abs=1e-3)
