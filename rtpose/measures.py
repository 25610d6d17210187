"""Measures for sport out of a saved run: joint angles, speeds, foot contacts, cadence, symmetry, each with its uncertainty.

Angles follow the recommendations of the International Society of Biomechanics: Wu et al., J. Biomech. 35 (2002) 543-548 (hip, knee,
ankle, spine; the joint coordinate system of Grood and Suntay, J. Biomech. Eng. 105 (1983) 136-144) and 38 (2005) 981-992 (shoulder,
elbow). All are 0 where a person stands upright with the arms hanging. docs/measures.md has the table and what the figures are worth.

All uncertainties are one standard deviation.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .body.model import JOINT_NAMES, BodyModel
from .body.rotations import to_matrix
from .errors import InputError, RtposeError
from .runs import Person, Run, fitted_body
from .sinks import check_output, make_folder, replacing
from .types import F64

WINDOW = 0.1
"""Seconds before and after an instant from which its speed is taken; at least `_NEIGHBOURS` frames."""
_NEIGHBOURS = 2
STANDS = 0.3
"""A foot stands whose ankle or toes are slower than so many body heights a second..."""
LIFTED = 0.1
"""...and that is no more than so many body heights above the other."""
BRIEF = 0.08
"""Seconds: shorter contacts and shorter losses of one do not count."""
QUICK, PAUSE = 0.15, 2.0
"""Seconds: feet that come down sooner after each other jump (sprinters need .2 for a step); what comes later is another walk's."""
CALIBRATED_SD, HEIGHT_SD = 0.05, 0.01
"""Relative deviation of lengths where only the camera is known (people's heights vary so much about what their build lets expect), and
where the person's height is (shoes, posture)."""

_J = {name: number for number, name in enumerate(JOINT_NAMES)}


@dataclass(frozen=True)
class Series:
    """A measure over time: values and sd (n,), in `unit`; NaN where it cannot be known."""

    unit: str
    values: F64
    sd: F64


@dataclass(frozen=True)
class Figure:
    """A number about the whole run: what it is, how sure, from how many events."""

    value: float
    sd: float
    unit: str
    count: int


@dataclass(frozen=True)
class Contact:
    """A foot on the ground: seconds, and how sure each is; NaN: that was not seen. stretch: which unbroken part of the run it is in."""

    begin: float
    end: float
    sd: tuple[float, float]
    stretch: int

    @property
    def whole(self) -> bool:
        """Whether its beginning and its end were seen."""
        return bool(np.isfinite(self.sd).all())


@dataclass(frozen=True)
class Measures:
    """All about one person. rows, times (n,): of the run's records with a body. unit: of lengths, m or heights; scale_sd: relative."""

    id: int
    rows: NDArray[np.int64]
    times: F64
    unit: str
    scale_sd: float
    series: dict[str, Series]
    contacts: dict[str, list[Contact]]
    figures: dict[str, Figure]


def measure(run: Run, person: Person, body: BodyModel, height: float | None = None) -> Measures:
    """Measure one person, whose every row has a body. height: the person's, metres, if known.

    Lengths are in metres where the height or the camera is known, else in body heights.
    """
    names = run.header.joints3d_names or ()
    if missing := [name for name in JOINT_NAMES if f"body_{name}" not in names]:
        raise InputError(
            f"{run.path} does not hold the joints of the body ({missing[0]} ...): measures need a run of this version"
        )
    if person.betas.shape[1] != body.betas:
        raise InputError(f"{run.path} has bodies of {person.betas.shape[1]} shape numbers, {body.name} has {body.betas}")
    columns = [names.index(f"body_{name}") for name in JOINT_NAMES]
    points, deviations = np.float64(person.joints3d[:, columns]), np.float64(person.uncertainty[:, columns])
    stature = _stature(body, np.median(np.float64(person.betas), 0))
    unit, scale, scale_sd = _scale(run, stature, height)
    velocity, velocity_sd = slopes(person.rows, person.times, points, in_space(points, deviations))
    speed = np.linalg.norm(velocity, axis=-1)
    # A velocity's length is as sure as its parts, each by its share; where it is lost in them, all have one.
    shares = velocity**2 + velocity_sd**2
    speed_sd = np.sqrt((shares * velocity_sd**2).sum(-1) / shares.sum(-1))
    series = angles(person, body, points, deviations)
    for name, joint in _SPEEDS.items():
        pace, sd = scale * speed[:, _J[joint]], scale * speed_sd[:, _J[joint]]
        series[name] = Series(f"{unit}/s", pace, np.hypot(sd, scale_sd * pace))
    contacts = {side: _contacts(side, person, points, speed, speed_sd, stature) for side in ("left", "right")}
    figures = _figures(series, contacts)
    return Measures(person.id, person.rows, person.times, unit, scale_sd, series, contacts, figures)


_SPEEDS = {
    "body_speed": "pelvis",
    "left_wrist_speed": "left_wrist",
    "right_wrist_speed": "right_wrist",
    "left_ankle_speed": "left_ankle",
    "right_ankle_speed": "right_ankle",
}


def heights_of(words: Sequence[str], people: Sequence[Person]) -> dict[int, float]:
    """What `--person-height` says: "1.80" for the only person, "2=1.65" for person 2. Raises InputError for what cannot be."""
    heights: dict[int, float] = {}
    for word in words:
        identity, _, metres = word.rpartition("=")
        try:
            who, height = int(identity) if identity else 0, float(metres)
        except ValueError:
            raise InputError(f"--person-height {word}: give metres, as 1.80, or 2=1.80 for person 2") from None
        if not 0.5 <= height <= 2.8:
            raise InputError(f"--person-height {word}: give metres, from 0.5 to 2.8")
        if not people:
            raise InputError(f"--person-height {word}: there is nobody with a body")
        if not identity:
            if len(people) > 1:
                raise InputError(f"--person-height {word}: there are {len(people)} people: say whose, as {people[0].id}={word}")
            who = people[0].id
        if who not in {person.id for person in people}:
            raise InputError(f"--person-height {word}: there is no person {who} with a body")
        heights[who] = height
    return heights


def _stature(body: BodyModel, betas: F64) -> float:
    """Metres from sole to crown in the T-pose."""
    upright = body.vertices(np.zeros((22, 3)), betas, np.zeros(3), "light")
    return float(np.ptp(upright[:, 1]))


def _scale(run: Run, stature: float, height: float | None) -> tuple[str, float, float]:
    """Unit of lengths, what the run's metres are multiplied with, its relative deviation."""
    if height is not None:
        return "m", height / stature, HEIGHT_SD
    if run.header.camera is not None and not run.header.camera.origin.startswith("a guess"):
        return "m", 1.0, CALIBRATED_SD
    return "heights", 1 / stature, 0.0


# --- angles ---


def angles(person: Person, body: BodyModel, points: F64, deviations: F64) -> dict[str, Series]:
    """The joint angles in degrees by name. points (n, 22, 3) metres and deviations (n, 22): of the body's joints."""
    local = to_matrix(person.rotations)
    world = np.empty_like(local)
    for joint, parent in enumerate(body.parents):
        world[:, joint] = local[:, joint] if parent < 0 else world[:, parent] @ local[:, joint]
    wobble = {name: _wobble(points, deviations, *ends) for name, ends in _SEGMENTS.items()}
    found: dict[str, Series] = {}

    def hinge(
        joint: str, proximal: str, distal: str, flexes: float, abducts: float, flexion: str, abduction: str | None = None
    ) -> None:
        turn = world[:, _BONES[proximal]].swapaxes(1, 2) @ world[:, _BONES[distal]]
        bend, aside = joint_angles(turn, person.rows, _RANGES[joint], flexes, abducts)
        if joint == "knee":  # a heel that is drawn beyond the thigh's far side opens the knee again
            bend = np.where(bend > 180, 360 - bend, bend)
        sd = np.degrees(np.hypot(wobble[proximal], wobble[distal]))
        # Near its pole, at 90 degrees of abduction, flexion and turn about the bone's length cannot be told apart.
        found[flexion] = Series("deg", bend, np.minimum(sd / np.maximum(np.abs(np.cos(np.radians(aside))), 1e-6), _UNKNOWN_SD))
        if abduction is not None:
            found[abduction] = Series("deg", aside, sd)

    for side, outward in (("left", 1.0), ("right", -1.0)):
        hinge("hip", "pelvis", f"{side}_thigh", -1, outward, f"{side}_hip_flexion", f"{side}_hip_abduction")
        hinge("knee", f"{side}_thigh", f"{side}_shank", 1, outward, f"{side}_knee_flexion")
        hinge("ankle", f"{side}_shank", f"{side}_foot", -1, outward, f"{side}_ankle_dorsiflexion")
        arm, forearm, trunk = f"{side}_upper_arm", f"{side}_forearm", world[:, _BONES["trunk"]]
        along = {bone: _along(points, *_SEGMENTS[bone]) for bone in (arm, forearm)}
        bend = np.degrees(_between(along[arm], along[forearm]))
        found[f"{side}_elbow_flexion"] = Series("deg", bend, np.degrees(np.hypot(wobble[arm], wobble[forearm])))
        x, y, z = np.moveaxis(np.einsum("nba,nb->na", trunk, along[arm]), -1, 0)
        sd = np.hypot(wobble["trunk"], wobble[arm])
        away = np.hypot(x, z)
        found[f"{side}_shoulder_elevation"] = Series("deg", np.degrees(np.arctan2(away, -y)), np.degrees(sd))
        # Where the arm hangs or is held straight up, no plane is the plane that it is lifted in.
        plane_sd = np.minimum(np.degrees(sd / np.maximum(away, 1e-6)), _UNKNOWN_SD)
        plane = _continued(np.degrees(np.arctan2(z, outward * x)), person.rows, away > _LIFTED_ARM)
        found[f"{side}_shoulder_plane"] = Series("deg", plane, plane_sd)
    hinge("trunk", "pelvis", "trunk", 1, 1, "trunk_flexion", "trunk_lean_right")
    return found


_UNKNOWN_SD = 180 / np.sqrt(3)
"""Degrees: of an angle of which nothing is known, even over a whole turn."""
_LIFTED_ARM = np.sin(np.radians(15))
"""Of the upper arm's length: an arm less than so far from hanging, or from straight up, may go over to any plane."""
_RANGES = {"hip": (-40, 150, -60, 130), "knee": (-20, 170, -40, 40), "ankle": (-70, 60, -60, 60), "trunk": (-70, 120, -70, 70)}
"""Degrees that a joint hardly leaves: flexion from, to, abduction from, to. They only choose between names of the same turn."""
_OUTSIDE = 0.05
"""A degree outside those counts as much, in each frame, as a step of so many degrees from one frame to the next."""


def joint_angles(
    turns: F64, rows: NDArray[np.int64], limits: tuple[float, float, float, float], flexes: float = 1.0, abducts: float = 1.0
) -> tuple[F64, F64]:
    """Flexion and abduction (n,) in degrees, continuous over time, of turns (n, 3, 3) from the upper bone's frame to the lower one's.

    The joint coordinate system of Grood and Suntay: flexion about the upper bone's side axis x, abduction about the floating axis,
    the rest about the lower bone's length y. Each turn has two such decompositions, (a, b, c) and (a + 180, 180 - b, c + 180), which
    meet at b = 90, and each a may be whole turns more. Of all these the sequence is taken that moves least, flexion by as much as it
    moves the bone, and lies least outside of `limits` (flexion from, to, abduction from, to). flexes, abducts: 1 or -1, the signs of
    both. rows: of the run; what was absent in between begins anew.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # flexion is then taken from the frames around
        flexion, abduction, _ = Rotation.from_matrix(turns).as_euler("XZY", degrees=True).T
    flexion, abduction = flexes * flexion, abducts * abduction
    flexion = _bridged(flexion, np.abs(abduction) < 90 - _POLE)
    shifts = np.array([-360.0, 0.0, 360.0])
    bends = np.concatenate([flexion[:, None] + shifts, flexion[:, None] % 360 - 180 + shifts], 1)
    asides = np.repeat(np.stack([abduction, np.where(abduction < 0, -180.0, 180.0) - abduction], 1), 3, 1)
    low, high, inner, outer = limits
    cost = _OUTSIDE * (_beyond(bends, low, high) + _beyond(asides, inner, outer))
    weight = np.abs(np.cos(np.radians(abduction)))
    weight = (weight[1:] + weight[:-1]) / 2
    together = np.diff(rows) == 1
    # Where the usual decomposition lies within the limits and does not jump, it is the one.
    jumps = weight * np.abs(np.diff(flexion)) + np.abs(np.diff(abduction))
    if not cost[:, 1].any() and (jumps[together] < _JUMP).all():
        return flexion, abduction
    n, each = len(flexion), np.arange(6)
    best, before = cost[0], np.zeros((n, 6), np.int64)
    for i in range(1, n):
        step = weight[i - 1] * np.abs(bends[i] - bends[i - 1][:, None]) + np.abs(asides[i] - asides[i - 1][:, None])
        total = best[:, None] + (step if together[i - 1] else np.zeros((6, 6)))
        before[i] = total.argmin(0)
        best = total[before[i], each] + cost[i]
    chosen = np.zeros(n, np.int64)
    chosen[-1] = best.argmin()
    for i in range(n - 1, 0, -1):
        chosen[i - 1] = before[i, chosen[i]]
    every = np.arange(n)
    return bends[every, chosen], asides[every, chosen]


_POLE = 0.05
"""Degrees from 90 of abduction within which flexion is not looked for."""
_JUMP = 60.0
"""Degrees: no bone turns so far from one frame to the next but by a change of decomposition."""


def _beyond(values: F64, low: float, high: float) -> F64:
    return np.maximum(0.0, np.maximum(low - values, values - high))


def _bridged(values: F64, known: NDArray[np.bool_]) -> F64:
    """Angles (n,) in degrees where they are known, between them the last known one."""
    if known.all() or not known.any():
        return values
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return np.asarray(values[np.where(last < 0, int(known.argmax()), last)])


def _continued(values: F64, rows: NDArray[np.int64], known: NDArray[np.bool_]) -> F64:
    """Angles (n,) in degrees without steps of 360 from one frame to the next where both are known; else within half a turn of 0."""
    joined = (np.diff(rows) == 1) & known[1:] & known[:-1]
    turns = np.where(joined, -np.round(np.diff(values) / 360), 0.0)
    total = np.concatenate([[0.0], np.cumsum(turns)])
    begins = np.concatenate([[True], ~joined])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(values)), 0))
    return np.asarray(values + 360 * (total - total[first]))


_BONES = {
    "pelvis": _J["pelvis"], "trunk": _J["spine3"],
    **{f"{s}_{bone}": _J[f"{s}_{joint}"] for s in ("left", "right") for bone, joint in (
        ("thigh", "hip"), ("shank", "knee"), ("foot", "ankle"), ("upper_arm", "shoulder"), ("forearm", "elbow"))},
}  # fmt: skip
"""The joint that turns a bone."""
_SEGMENTS = {
    "pelvis": (_J["pelvis"], _J["spine3"]), "trunk": (_J["spine1"], _J["neck"]),
    **{f"{s}_{bone}": (_J[f"{s}_{a}"], _J[f"{s}_{b}"]) for s in ("left", "right") for bone, a, b in (
        ("thigh", "hip", "knee"), ("shank", "knee", "ankle"), ("foot", "ankle", "foot"),
        ("upper_arm", "shoulder", "elbow"), ("forearm", "elbow", "wrist"))},
}  # fmt: skip
"""The joints at its ends, which show where it points."""


def _along(points: F64, start: int, end: int) -> F64:
    """Unit vectors (n, 3) from one joint to another."""
    way = points[:, end] - points[:, start]
    return np.asarray(way / np.linalg.norm(way, axis=1, keepdims=True))


def _wobble(points: F64, deviations: F64, start: int, end: int) -> F64:
    """Deviation of a bone's direction, rad about each axis across it: that of its ends, seen over its length."""
    length = np.linalg.norm(points[:, end] - points[:, start], axis=1)
    return np.asarray(np.hypot(deviations[:, start], deviations[:, end]) / length)


def _between(a: F64, b: F64) -> F64:
    """Angles (n,) between unit vectors, rad."""
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


# --- speeds ---


def in_space(points: F64, deviations: F64) -> F64:
    """Deviations (n, j, 3) of places in the camera frame, from those (n, j) about the middle of the hips.

    How far away somebody is shows in their size: its relative deviation is that of a fit of the points' size to points that are each
    so unsure, and it moves the whole person along the line of sight.
    """
    spread = ((points - points.mean(1, keepdims=True)) ** 2)[..., :2].sum((1, 2))
    size_sd = np.sqrt((deviations**2).mean(1) / spread)
    sds = np.repeat(deviations[..., None], 3, -1)
    sds[..., 2] = np.hypot(sds[..., 2], points[..., 2] * size_sd[:, None])
    return sds


def slopes(rows: NDArray[np.int64], times: F64, points: F64, deviations: F64) -> tuple[F64, F64]:
    """Velocities (n, j, 3) of points (n, j, 3) by least squares of a parabola over `WINDOW` (Savitzky and Golay, on real times), and
    their deviations, both (n, j, 3), from those of the points taken for independent. NaN with fewer than three frames.

    rows: which records of the run those are: a person's absence is not bridged.
    """
    n = len(times)
    here = np.arange(n)
    interval = float(np.median(np.diff(times))) if n > 1 else 1.0
    reach = max(WINDOW, (_NEIGHBOURS + 0.5) * interval)
    # Only frames that are there are gone through: how many there might be, were all as near as the two nearest, has no bound.
    before = here - np.searchsorted(times, times - 1.001 * reach, "left")
    after = np.searchsorted(times, times + 1.001 * reach, "right") - 1 - here
    windows = []
    for offset in range(-int(before.max(initial=0)), int(after.max(initial=0)) + 1):
        mine = np.flatnonzero((-before <= offset) & (offset <= after))
        mine = mine[rows[mine + offset] - rows[mine] == offset]
        apart = (times[mine + offset] - times[mine]) / reach
        windows.append((mine, mine + offset, np.stack([np.ones(len(mine)), apart, apart * apart], 1)))
    moments = np.zeros((n, 3, 3))
    for mine, _, basis in windows:
        moments[mine] += basis[:, :, None] * basis[:, None, :]
    enough = moments[:, 0, 0] >= 3
    moments[~enough] = np.eye(3)
    pick = np.linalg.solve(moments, np.broadcast_to(np.array([0.0, 1, 0])[:, None], (n, 3, 1)))[..., 0] / reach
    velocity, variance = np.zeros_like(points), np.zeros_like(deviations)
    for mine, there, basis in windows:
        share = (pick[mine] * basis).sum(1)
        velocity[mine] += share[:, None, None] * points[there]
        variance[mine] += share[:, None, None] ** 2 * deviations[there] ** 2
    velocity[~enough], variance[~enough] = np.nan, np.nan
    return velocity, np.sqrt(variance)


# --- feet ---


def _contacts(side: str, person: Person, points: F64, speed: F64, speed_sd: F64, stature: float) -> list[Contact]:
    """When a foot stands. Speeds are interpolated in time to find when they cross the bound."""
    other = {"left": "right", "right": "left"}[side]
    ankle, toes = _J[f"{side}_ankle"], _J[f"{side}_foot"]
    slower = np.where(speed[:, ankle] <= speed[:, toes], ankle, toes)
    each = np.arange(len(slower))
    pace, sd = speed[each, slower] / stature, speed_sd[each, slower] / stature
    low = points[:, _J[f"{side}_ankle"], 1] > points[:, _J[f"{other}_ankle"], 1] - LIFTED * stature
    return contacts(person.rows, person.times, np.where(low, pace, np.inf), sd)


def contacts(rows: NDArray[np.int64], times: F64, pace: F64, sd: F64) -> list[Contact]:
    """The times for which `pace` (n,), with deviations sd (n,), is under `STANDS`; infinite: the foot does not stand.

    rows: which records of the run those are: where some are missing, contacts begin and end unseen.
    """
    stands = pace < STANDS
    stretch = np.cumsum(np.diff(rows, prepend=rows[0] - 1) != 1)
    edges = [0, *(np.flatnonzero(np.diff(stands.astype(int)) | np.diff(stretch)) + 1).tolist(), len(times)]
    found: list[Contact] = []
    for first, stop in itertools.pairwise(edges):
        if not stands[first]:
            continue
        begin, end = (float(times[first]), np.nan), (float(times[stop - 1]), np.nan)
        if first and stretch[first - 1] == stretch[first]:
            begin = _crossing(times, pace, sd, first - 1, first)
        if stop < len(times) and stretch[stop - 1] == stretch[stop]:
            end = _crossing(times, pace, sd, stop - 1, stop)
        before = found[-1] if found else None
        if before is not None and before.stretch == stretch[first] and begin[0] - before.end < BRIEF:
            found.pop()
            begin = before.begin, before.sd[0]
        found.append(Contact(begin[0], end[0], (begin[1], end[1]), int(stretch[first])))
    return [one for one in found if one.end - one.begin >= BRIEF]


def _crossing(times: F64, pace: F64, sd: F64, a: int, b: int) -> tuple[float, float]:
    """When between two frames the pace crosses the bound, and how sure: the frame's length, and the pace's deviation over its slope."""
    step = float(times[b] - times[a])
    rise = float(pace[b] - pace[a])
    if not np.isfinite(rise):
        return float(times[a]) + step / 2, step / np.sqrt(12)
    share = (STANDS - float(pace[a])) / rise
    return float(times[a]) + share * step, float(np.hypot(step / np.sqrt(12), float(max(sd[a], sd[b])) * step / abs(rise)))


# --- figures ---


def _figures(series: Mapping[str, Series], feet: Mapping[str, list[Contact]]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for name, one in series.items():
        known = np.isfinite(one.values)
        count, values, sds = int(known.sum()), one.values[known], one.sd[known]
        if not count or "plane" in name:  # the plane of a hanging arm goes round in circles
            continue
        if one.unit == "deg":
            span = float(np.ptp(np.quantile(values, [0.025, 0.975])))
            found[f"{name}_range"] = Figure(span, float(np.sqrt(2) * np.median(sds)), "deg", count)
        else:
            found[f"{name}_mean"] = Figure(float(values.mean()), float(sds.mean()), one.unit, count)
            top = float(np.quantile(values, 0.95))
            found[f"{name}_top"] = Figure(top, float(sds[np.argmin(np.abs(values - top))]), one.unit, count)
    for side, stands in feet.items():
        if times := _mean([(c.end - c.begin, float(np.hypot(*c.sd))) for c in stands if c.whole]):
            found[f"{side}_contact_time"] = times
    pairs = _steps(feet)
    for side in feet:
        if times := _mean([(seconds, sd) for which, seconds, sd in pairs if which == side]):
            found[f"{side}_step_time"] = times
    if step := _mean([(seconds, sd) for _, seconds, sd in pairs]):
        found["cadence"] = Figure(60 / step.value, 60 * step.sd / step.value**2, "steps/min", step.count)
    return found | _symmetry(found)


def _steps(feet: Mapping[str, list[Contact]]) -> list[tuple[str, float, float]]:
    """Foot, seconds and their deviation of each step: from a foot's contact to the next one of the other, without pause or absence."""
    onsets = sorted(
        ((c.begin, side, c) for side, stands in feet.items() for c in stands if np.isfinite(c.sd[0])), key=itemgetter(0)
    )
    together = {at for a, b in itertools.pairwise(onsets) if b[0] - a[0] < QUICK for at in (a[0], b[0])}
    alone = [onset for onset in onsets if onset[0] not in together]
    return [
        (side, other.begin - one.begin, float(np.hypot(one.sd[0], other.sd[0])))
        for (_, before, one), (_, side, other) in itertools.pairwise(alone)
        if side != before and one.stretch == other.stretch and other.begin - one.begin < PAUSE
    ]


def _mean(values: list[tuple[float, float]]) -> Figure | None:
    """Mean of seconds. Its deviation: how much the events differ, but no less than what each is sure to, over the root of their number."""
    if not values:
        return None
    seconds, sds = np.array(values).T
    scatter = float(seconds.std(ddof=1)) if len(seconds) > 1 else 0.0
    return Figure(float(seconds.mean()), max(scatter, float(np.sqrt((sds**2).mean()))) / np.sqrt(len(seconds)), "s", len(seconds))


def _symmetry(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Left less right over their mean, in percent (Robinson et al., J. Manipulative Physiol. Ther. 10 (1987) 172-176)."""
    found: dict[str, Figure] = {}
    for name, left in figures.items():
        right = figures.get(name.replace("left_", "right_", 1))
        if not name.startswith("left_") or right is None:
            continue
        total = left.value + right.value
        if total <= 0:
            continue
        index = 200 * (left.value - right.value) / total
        sd = 400 * float(np.hypot(right.value * left.sd, left.value * right.sd)) / total**2
        found[name.replace("left_", "") + "_symmetry"] = Figure(index, sd, "%", min(left.count, right.count))
    return found


# --- a whole run ---


def measure_run(
    run: Run, *, ids: Sequence[int] | None = None, heights: Sequence[str] = (), body_model: Path | None = None
) -> list[Measures]:
    """Measure everybody with a body, or those with these ids: nobody where nobody was found. heights: see `heights_of`. body_model:
    the SMPL file that was fitted.

    Raises InputError for a run without a lifter, and where another body was fitted.
    """
    people = run.with_bodies(ids, "measuring")
    known = heights_of(heights, people)
    body = fitted_body(run.path, run.header, body_model)
    return [measure(run, person, body, known.get(person.id)) for person in people]


def save_measures(measured: Sequence[Measures], run: Run, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write measures.json, all figures and contacts, and person-N-measures.csv, the series; return the files. docs/measures.md
    describes them. Raises InputError for files that exist."""
    targets = [folder / "measures.json", *(folder / f"person-{one.id}-measures.csv" for one in measured)]
    make_folder(folder)
    for target in targets:
        check_output(target, (target.suffix,), overwrite=overwrite, source=run.path)
    texts = [_json(measured, run), *(_csv(one, run) for one in measured)]
    for target, text in zip(targets, texts, strict=True):
        try:
            with replacing(target) as file:
                file.write(text.encode())
        except OSError as error:
            raise RtposeError(f"cannot write {target}: {error.strerror}; the files before it are whole") from None
    return targets


def _json(measured: Sequence[Measures], run: Run) -> str:
    people = [
        {
            "id": one.id,
            "unit": one.unit,
            "scale_sd": one.scale_sd,
            "figures": {
                name: {"value": _round(f.value), "sd": _round(f.sd), "unit": f.unit, "count": f.count}
                for name, f in one.figures.items()
            },
            "contacts": {
                side: [{"begin": _round(c.begin), "end": _round(c.end), "sd": [_round(sd) for sd in c.sd]} for c in feet]
                for side, feet in one.contacts.items()
            },
        }
        for one in measured
    ]
    return json.dumps({"run": run.path.name, "source": run.header.source, "people": people}, indent=1) + "\n"


def _csv(one: Measures, run: Run) -> str:
    columns = [f"{name}{end} [{series.unit}]" for name, series in one.series.items() for end in ("", "_sd")]
    table = np.stack([array for series in one.series.values() for array in (series.values, series.sd)], 1)
    lines = [",".join(["frame", "time", *columns])]
    for row, time, values in zip(one.rows, one.times.tolist(), table.tolist(), strict=True):
        lines.append(",".join([str(run.frames[row]), repr(time), *("" if np.isnan(v) else f"{v:.3f}" for v in values)]))
    return "\n".join(lines) + "\n"


def _round(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
