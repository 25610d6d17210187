"""A person's movement for programs that animate: one shape, y up, at any times.

Animation has x right, y up, z out of the picture, towards the camera, which stays at the origin: the camera frame turned by half
a turn about x. A person who stands upright and faces the camera then looks along +z, unrotated.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..body.model import BodyModel
from ..body.rotations import to_matrix
from ..errors import InputError
from ..runs import Person, Run
from ..types import F64

TO_Y_UP: F64 = np.diag([1.0, -1.0, -1.0])
"""Camera frame -> y up."""
_SAME = 1e-3
"""A time within this share of a frame of another is taken for it."""
_ROUNDED = 0.1
"""Share of a frame by which a container may have rounded a time (to a millisecond): so near, a person is there as in that frame."""
LONG_GAP = 5.0
"""Seconds without a record after which nobody knows how people moved: exports leave the gap out."""


@dataclass(frozen=True)
class Motion:
    """times (n,) seconds; turns (n, 22, 4) quaternions x, y, z, w of each joint relative to its parent, neighbours in time on the same
    side; pelvis (n, 3) its place, metres; betas: the one shape. Y up."""

    times: F64
    turns: F64
    pelvis: F64
    betas: F64

    def at(self, times: F64) -> Motion:
        """The movement at other times: bones turn evenly (slerp) from one known time to the next, and hold before and after all."""
        if len(self.times) == 1:
            still = np.zeros(len(times), np.int64)
            return Motion(times, self.turns[still], self.pelvis[still], self.betas)
        before, share = _between(self.times, times)
        first = Rotation.from_quat(self.turns[before].reshape(-1, 4))
        second = Rotation.from_quat(self.turns[before + 1].reshape(-1, 4))
        turned = first * Rotation.from_rotvec(np.repeat(share, 22)[:, None] * (first.inv() * second).as_rotvec())
        pelvis = self.pelvis[before] + share[:, None] * (self.pelvis[before + 1] - self.pelvis[before])
        return Motion(times, turned.as_quat().reshape(-1, 22, 4), pelvis, self.betas)


def motion_of(person: Person, body: BodyModel, run: Run) -> Motion:
    """How a person moves, whose every row has a body. The shape is the median over the rows: skeletons have bones of one length.

    The pelvis is where each frame has it. Raises InputError for results of another kind of body.
    """
    if person.betas.shape[1] != body.betas:
        raise InputError(f"{run.path} has bodies of {person.betas.shape[1]} shape numbers, {body.name} has {body.betas}")
    local = to_matrix(person.rotations)
    local[:, 0] = TO_Y_UP @ local[:, 0]
    turns = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_quat().reshape(-1, 22, 4)
    flips = np.where((turns[1:] * turns[:-1]).sum(-1) < 0, -1.0, 1.0)
    turns[1:] *= np.cumprod(flips, 0)[..., None]
    shapes = np.float64(person.betas)
    origin = body.offsets(np.zeros(body.betas))[0] + shapes @ body.offset_shapes()[:, 0]
    return Motion(person.times, turns, (person.translation + origin) @ TO_Y_UP, np.median(shapes, 0))


def steady_times(run: Run, rate: float) -> F64:
    """Times from the first to the last record of each section of the run, `rate` a second: none in a gap between two."""
    begins = [0, *(run_gaps(run.times) + 1), len(run.times)]
    return np.concatenate([_steady(run.times[begin:end], rate) for begin, end in itertools.pairwise(begins)])


def _steady(times: F64, rate: float) -> F64:
    frames = int((times[-1] - times[0]) * rate + _ROUNDED) + 1
    return np.asarray(times[0] + np.arange(frames) / rate)


def run_gaps(times: F64) -> NDArray[np.int64]:
    """The records after which a run has a gap: nothing is known for `LONG_GAP` seconds, or ten times the usual interval if that is more."""
    steps = np.diff(times)
    return np.flatnonzero(steps > max(LONG_GAP, 10 * float(np.median(steps)))) if len(steps) else np.zeros(0, np.int64)


def run_gaps_told(run: Run) -> str:
    """The gaps in words; empty where there are none."""
    after = run_gaps(run.times)
    if not len(after):
        return ""
    longest = int(after[np.argmax(run.times[after + 1] - run.times[after])])
    return (
        f"the run has {len(after)} gaps of more than {LONG_GAP:g} s" if len(after) > 1 else "the run has a gap"
    ) + f" ({'the longest ' if len(after) > 1 else ''}from {run.times[longest]:.2f} to {run.times[longest + 1]:.2f} s)"


def points_at(run: Run, person: Person, points: F64, times: F64) -> F64:
    """Points (n, k, 3), one row for each of the person's, at other times (t, k, 3): NaN where the person was not there.

    Between two records of the run that both show the person they move in a straight line.
    """
    known = np.full((len(run.times), *points.shape[1:]), np.nan)
    known[person.rows] = points
    if len(known) == 1:
        return np.repeat(known, len(times), 0)
    before, share = _between(run.times, times)
    absent = np.ones(len(run.times), np.bool_)
    absent[person.rows] = False
    share = np.where(absent[before + 1] & (share < _ROUNDED), 0.0, share)
    share = np.where(absent[before] & (share > 1 - _ROUNDED), 1.0, share)
    weight = share[:, None, None]
    return np.where(
        weight == 0,
        known[before],
        np.where(weight == 1, known[before + 1], (1 - weight) * known[before] + weight * known[before + 1]),
    )


def gaps(run: Run, person: Person) -> str:
    """Where the person has no body, in words; empty where there is one in every record."""
    absent = len(run.times) - len(person.rows)
    if not absent:
        return ""
    holes = int((np.diff(person.rows) > 1).sum())
    return (
        f"has a body in {len(person.rows)} of {len(run.times)} frames, from {person.times[0]:.2f} to {person.times[-1]:.2f} s"
        + (f" with {holes} gaps" if holes > 1 else " with a gap" if holes else "")
    )


def _between(known: F64, times: F64) -> tuple[NDArray[np.int64], F64]:
    """For each time the known one before it (but the last), and the share of the way to the next: 0..1, held outside."""
    before = np.clip(np.searchsorted(known, times, "right") - 1, 0, len(known) - 2)
    share = np.clip((times - known[before]) / (known[before + 1] - known[before]), 0, 1)
    share = np.where(share < _SAME, 0.0, np.where(share > 1 - _SAME, 1.0, share))
    return before, share
