"""The nominal frame rate that a list of frame times stands for.

Containers round times to their ticks (a millisecond in Matroska and WebM), leave frames out, double stamps and state rates that are
those of their ticks. So a rate is believed if all times lie on its grid, to the tick; else it is the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .types import F64

MAX_STATED_RATE = 480
"""Frames a second above which a rate that a container states, without times that show it, is taken for the rate of its ticks."""
TICKS = (1e-3, 1 / 600)
"""Seconds of the coarse ticks that times may be rounded to. All others are at most `FINE`."""
FINE = 1 / 90_000
_NTSC = [Fraction(1000 * whole, 1001) for whole in (15, 24, 30, 48, 60, 120, 240)]
_HALVES = [Fraction(15, 2), Fraction(25, 2)]
_NEAR = 0.07
"""Relative distance from the rate of the median interval, which may be rounded, in which rates are tried."""
_SNAP = 0.003
"""Relative distance from an average at which a usual rate is taken for it."""
_PAUSE = 3.0
"""Intervals longer than so many median ones are pauses: shorter ones may be jitter."""
_DOUBLE = 0.1
"""Intervals shorter than this share of the median one are of one frame that is there twice."""


def nominal_rate(times: Sequence[float] | F64, stated: Sequence[Fraction] = ()) -> Fraction | None:
    """Frames a second of frames at `times` (n,), seconds in any order; None for fewer than two different ones.

    stated: rates that the container states: preferred to others that fit as well.
    """
    when = np.unique(np.asarray(times, np.float64))
    if len(when) < 2:
        return None
    when = when - when[0]
    steps = np.diff(when)
    interval = float(np.median(steps))
    simple = Fraction(1 / interval).limit_denominator(10)
    candidates = [rate for rate in dict.fromkeys([*stated, *_usual_rates(1 / interval), simple]) if rate > 0]
    tick = next((tick for tick in TICKS if np.mean(np.abs(when / tick - np.rint(when / tick)) < 1e-4) > 0.9), FINE)
    single = when[np.concatenate([[True], steps > _DOUBLE * interval])]
    misfits = [_misfit(single, float(rate), interval, tick) for rate in candidates]
    if candidates and min(misfits) < np.inf:
        # Hundredths of a tick are rounding: of rates that fit equally well the first counts.
        return candidates[int(np.argmin(np.round(np.array(misfits) / tick, 2)))]
    index = np.concatenate([[0], np.cumsum(np.where(steps > _PAUSE * interval, np.rint(steps / interval), 1.0))])
    average = 1 / float(np.polyfit(index, when, 1)[0])
    nearest = min(candidates, key=lambda rate: abs(float(rate) - average), default=None)
    if nearest is not None and abs(float(nearest) - average) < _SNAP * average:
        return nearest
    return max(Fraction(average).limit_denominator(1001), Fraction(1, 1001))


def plausible_rate(*stated: Fraction | None) -> Fraction | None:
    """The first of the rates that a container states which can be one of frames."""
    return next((rate for rate in stated if rate is not None and 0 < rate <= MAX_STATED_RATE), None)


def _usual_rates(about: float) -> list[Fraction]:
    """Whole rates and those of television near `about` frames a second."""
    low, high = about * (1 - _NEAR), about * (1 + _NEAR)
    whole = [Fraction(rate) for rate in range(max(1, int(np.ceil(low))), int(high) + 1)] if high < 2 * MAX_STATED_RATE else []
    return [*whole, *(rate for rate in (*_NTSC, *_HALVES) if low <= rate <= high)]


def _misfit(when: F64, rate: float, interval: float, tick: float) -> float:
    """Root of the mean square distance, seconds, of the times from a grid of this rate; infinite if they do not lie on it, a frame each."""
    if round(interval * rate) != 1:
        return np.inf
    place: NDArray[np.float64] = np.rint(when * rate)
    off = when - place / rate
    if np.ptp(off) > tick + 1e-6 or (np.diff(place) < 1).any():
        return np.inf
    return float(np.std(off))
