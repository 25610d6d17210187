"""Smoothing without lag: what a filter of that cut-off must do, at any times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpose.refine.smooth import smooth


def waves(times: np.ndarray, hertz: float) -> np.ndarray:
    return np.stack([np.sin(2 * np.pi * hertz * times), np.cos(2 * np.pi * hertz * times)], 1)


@pytest.mark.parametrize(("hertz", "gain"), [(0.5, 1.0), (4.0, 0.5), (12.0, 0.012)])
def test_its_gain_is_that_of_the_formula(hertz: float, gain: float) -> None:
    times = np.arange(0, 8, 1 / 120)
    curve = smooth(times, waves(times, hertz), np.ones(len(times)), 4.0)[240:-240]
    assert np.ptp(curve, axis=0) / 2 == pytest.approx([gain, gain], abs=0.01)


def test_it_does_not_lag() -> None:
    times = np.arange(0, 4, 1 / 30)
    step = (times >= 2).astype(float)[:, None]
    curve = smooth(times, step, np.ones(len(times)), 3.0)[:, 0]
    assert abs(np.interp(0.5, curve, times) - (2 - 0.5 / 30)) < 0.002


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.5, 8.0))
def test_straight_motion_stays_as_it_is_at_any_times(seed: int, cutoff: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.005, 0.3, 40))
    line = rng.normal(size=(1, 3)) + times[:, None] * rng.normal(size=(1, 3))
    assert smooth(times, line, rng.uniform(0.1, 1, 40), cutoff) == pytest.approx(line, abs=1e-6)


def test_a_gap_is_crossed_on_a_curve() -> None:
    times = np.arange(0, 4, 1 / 30)
    true = waves(times, 0.5)
    weights = np.where((times > 1.8) & (times < 2.2), 0.0, 1.0)
    curve = smooth(times, np.where(weights[:, None] > 0, true, 99.0), weights, 4.0)
    assert np.abs(curve - true).max() < 0.02


def test_an_outlier_is_not_believed() -> None:
    times = np.arange(0, 4, 1 / 30)
    true = waves(times, 0.5)
    seen = true.copy()
    seen[60:62] += 3.0
    plain, robust = (smooth(times, seen, np.ones(len(times)), 4.0, robust=r) for r in (np.inf, 0.3))
    assert np.abs(plain - true).max() > 0.5
    assert np.abs(robust - true).max() < 0.05


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_stay(n: int) -> None:
    values = np.arange(2.0 * n).reshape(n, 2)
    assert (smooth(np.arange(n) / 30.0, values, np.ones(n), 4.0) == values).all()
