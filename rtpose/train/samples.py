"""What the lifter is trained on, as arrays: people who move by motion capture before random cameras, seen by keypoint networks
that err; and people of COCO, of whom 2D labels alone are known.

A pose of the mocap, perhaps with arms or legs of another one, or of somebody of COCO (`rtpose.train.poses`), a random shape and
camera give keypoints, which are then missed, misplaced, swapped and doubted as keypoint networks do. `rtpose.train.renders` makes
samples whose errors are a network's own.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..body.camera import GUESSED_FOV
from ..body.initial import FEATURES, MOMENTS, features_into
from ..body.model import JOINT_NAMES, BodyModel, forward_kinematics
from ..body.rotations import compiled, exp_into
from ..stages.keypoints import CALIBRATIONS
from ..types import F32, F64, I64
from .mocap import FPS, MIRRORED, Clip, mirrored
from .people import Labels

_LIMBS = ("left_hip", "left_knee", "left_ankle", "left_foot"), ("left_collar", "left_shoulder", "left_elbow", "left_wrist")
PART = np.array(
    [
        next((2 * i + 1 + n.startswith("right") for i, limb in enumerate(_LIMBS) if n.replace("right", "left") in limb), 0)
        for n in JOINT_NAMES
    ]
)
"""The part of the body that a joint belongs to: trunk, left leg, right leg, left arm, right arm. A person can have each from another
pose."""
BOTH, ONE, ALIKE = np.array([0.3, 0.2]), 0.15, 0.1
"""Share of people whose legs, and whose arms, are of another pose; one of them is; or whose right one mirrors the left one."""
STIFF = np.array(
    [0.15 if n.endswith(("foot", "ankle", "wrist")) or n == "pelvis" else 0.5 if "collar" in n else 1.0 for n in JOINT_NAMES]
)
"""How much of the random change of a pose each joint gets."""
ERRORS = Path(__file__).with_name("keypoint_errors.npz")
DIFFICULTY = np.array([0.6, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 1.0, 1.0, 1.2, 1.2, 1.2, 1.2, 1.0, 1.0, 1.3, 1.3])
"""Of the 17 keypoints, by how far keypoint networks miss them on average."""
STEPS = np.rint(np.array(MOMENTS) * FPS).astype(np.int64)
"""`MOMENTS` in frames of the mocap."""
AS_SEEN = 0.2
"""Share of the drawn people who are shown to the lifter as they were drawn."""
POSED = 0.25
"""Share of people who stand as somebody of COCO does, where such poses are known, and move about that as the mocap does."""
STANDING = 0.08
"""Share of people whose legs are out of the picture. They stand straight: what is not seen shall not be made up."""


class Bank(NamedTuple):
    """Poses in a row: rotations (n, 22, 3, 3), root (n, 3), the first frame of the clip that each belongs to, and frames to draw from;
    single poses (p, 22, 3, 3) of people of COCO. The second half of either are the mirror images of the first.

    Of a group of clips as many frames are drawn as the square root of its length says: a few long walks shall not be all.
    """

    rotations: F32
    root: F64
    first: I64
    drawn: I64
    poses: F32

    @staticmethod
    def of(clips: list[Clip], draws: int = 200_000) -> Bank:
        """The clips and their mirror images, no single poses."""
        rotations = [c.rotations for c in clips] + [mirrored(c.rotations) for c in clips]
        root = [c.root for c in clips] + [c.root * [-1, 1, 1] for c in clips]
        starts = np.cumsum([0] + [len(r) for r in root])[:-1]
        first = np.concatenate([np.full(len(r), s) for r, s in zip(root, starts, strict=True)])
        frames = Counter[str]()
        for clip in clips:
            frames[clip.group] += len(clip)
        chance = np.concatenate([np.full(len(c), frames[c.group] ** -0.5) for c in clips + clips])
        drawn = np.searchsorted(np.cumsum(chance) / chance.sum(), (np.arange(draws) + 0.5) / draws)
        return Bank(
            np.float32(np.concatenate(rotations)), np.concatenate(root), first, drawn, np.empty((0, 22, 3, 3), np.float32)
        )

    def with_poses(self, poses: F32) -> Bank:
        """The same with single poses (p, 22, 3, 3) and their mirror images."""
        return self._replace(poses=np.concatenate([poses, np.float32(mirrored(poses.astype(np.float64)))]))


class KeypointErrors(NamedTuple):
    """What `scripts/measure_keypoint_errors.py` found: offsets (n, 17, 2) in sizes of the person, NaN unknown; confidences (n, 17),
    calibrated as a run calibrates them."""

    offsets: F32
    confidences: F32

    @staticmethod
    def load() -> KeypointErrors:
        with np.load(ERRORS) as file:
            said = np.clip(np.float64(file["confidences"]), 1e-4, 1 - 1e-4)
            a, b = CALIBRATIONS["movenet"].T
            return KeypointErrors(np.float32(file["offsets"]), np.float32(1 / (1 + np.exp(-a - b * np.log(said / (1 - said))))))


class Posable(NamedTuple):
    """The arrays of the body that samples need, for compiled code."""

    parents: I64
    offsets: F64
    offset_shapes: F64
    weights: F64
    keypoints: F64
    keypoint_shapes: F64

    @staticmethod
    def of(body: BodyModel) -> Posable:
        return Posable(
            body.parents, body.offsets(np.zeros(body.betas)), body.offset_shapes(), body.keypoint_weights[:17],
            body.keypoints[:17], np.ascontiguousarray(body.keypoint_shapes[:, :17]),
        )  # fmt: skip


class People(NamedTuple):
    """Somebody at a row of moments, newest first: betas (b,), world rotations (m, 22, 3, 3) and pelvis (m, 3) in the camera's frame,
    keypoints (m, 17, 3), and whether the clip held the moment (m,)."""

    betas: F32
    world: F64
    pelvis: F64
    places: F64
    there: NDArray[np.bool_]


class Batch(NamedTuple):
    """People whose bodies are known: inputs x (n, FEATURES); the truth in the turned camera: world rotations (n, 22, 3, 3), betas (n, b);
    and confidences of now (n, 17)."""

    x: F32
    world: F32
    betas: F32
    seen: F32

    @staticmethod
    def empty(n: int, betas: int) -> Batch:
        return Batch(
            np.empty((n, FEATURES), np.float32), np.empty((n, 22, 3, 3), np.float32),
            np.empty((n, betas), np.float32), np.empty((n, 17), np.float32),
        )  # fmt: skip


class WildBatch(NamedTuple):
    """People of whom labels alone are known: inputs x (n, FEATURES), the labels as rays of the turned camera (n, 17, 2), their weights
    (n, 17), the sizes (n,)."""

    x: F32
    target: F32
    labelled: F32
    sizes: F32


@compiled
def _camera_rotation(rng: np.random.Generator, c: F64) -> None:
    """A random view of a world with y up: any azimuth, the camera mostly level, a little above and a little tilted."""
    azimuth = 2 * math.pi * rng.random()
    elevation = rng.normal(0.08, 0.2)
    if rng.random() < 0.06:
        elevation = -0.5 + 1.4 * rng.random()
    roll = rng.normal(0.0, 0.06)
    sa, ca = math.sin(azimuth), math.cos(azimuth)
    se, ce = math.sin(elevation), math.cos(elevation)
    sr, cr = math.sin(roll), math.cos(roll)
    # Rz(roll) Rx(elevation) diag(1, -1, -1) Ry(azimuth)
    m = np.array([[ca, 0.0, sa], [-se * sa, -ce, se * ca], [ce * sa, -se, -ce * ca]])
    for b in range(3):
        c[0, b] = cr * m[0, b] - sr * m[1, b]
        c[1, b] = sr * m[0, b] + cr * m[1, b]
        c[2, b] = m[2, b]


@compiled
def _person(rng: np.random.Generator, bank: Bank, body: Posable, steps: I64, standing: bool, out: People) -> None:
    """Draw somebody, `steps` (m,) frames before some moment. standing: with straight legs."""
    betas, pelvis = out.betas, out.pelvis
    local = np.empty((22, 3, 3))
    noise = np.empty((22, 3, 3))
    since = np.empty((3, 3))
    joints = np.empty((22, 3))
    own = np.empty((22, 3))
    c = np.empty((3, 3))
    w = np.empty(3)
    posed = rng.integers(0, len(bank.poses)) if len(bank.poses) > 0 and rng.random() < POSED else -1
    i = bank.drawn[rng.integers(0, len(bank.drawn))]
    sources, stands = np.full(5, i), np.full(5, posed)
    for pair in range(2):
        left, right = 1 + 2 * pair, 2 + 2 * pair
        if rng.random() < BOTH[pair]:
            sources[left] = sources[right] = bank.drawn[rng.integers(0, len(bank.drawn))]
        chance = rng.random()
        if chance < ONE:
            limb = left + rng.integers(0, 2)
            sources[limb] = bank.drawn[rng.integers(0, len(bank.drawn))]
            if posed >= 0:
                stands[limb] = rng.integers(0, len(bank.poses))
        elif chance < ONE + ALIKE:
            sources[right] = (sources[left] + len(bank.root) // 2) % len(bank.root)
            if posed >= 0:
                stands[right] = (posed + len(bank.poses) // 2) % len(bank.poses)
    frames = np.empty(5, np.int64)
    speed = 1.0 if rng.random() < 0.5 else 0.6 + 1.2 * rng.random()
    strength = 0.5 * rng.random() ** 2
    for j in range(22):
        for a in range(3):
            w[a] = rng.normal() * strength * STIFF[j]
        exp_into(w, noise[j])
    for b in range(len(betas)):
        betas[b] = rng.normal()
    _offsets(body, betas, own)
    _camera_rotation(rng, c)
    distance = math.exp(0.55 + 2.0 * rng.random()) if rng.random() < 0.85 else math.exp(2.5 + 1.6 * rng.random())
    aside_x, aside_y = 0.05 * rng.normal(), 0.05 * rng.normal()
    for m in range(len(steps)):
        back = round(steps[m] * speed)
        out.there[m] = True
        for part in range(5):
            begin = bank.first[sources[part]]
            out.there[m] &= sources[part] - back >= begin
            frames[part] = max(sources[part] - back, begin)
        for j in range(22):
            if standing and 1 <= PART[j] <= 2:
                local[j] = noise[j]
                continue
            _times(bank.rotations[frames[PART[j]], j], noise[j], local[j])
            if posed >= 0:
                _times(bank.rotations[sources[PART[j]], j].T, local[j], since)
                _times(bank.poses[stands[PART[j]], j], since, local[j])
        _times(c, local[0], since)
        local[0] = since
        for a in range(3):
            pelvis[m, a] = 0.0
            for d in range(3):
                pelvis[m, a] += c[a, d] * (bank.root[frames[0], d] - bank.root[i, d])
        pelvis[m, 0] += aside_x
        pelvis[m, 1] += aside_y
        pelvis[m, 2] += distance
        forward_kinematics(body.parents, own, local, pelvis[m] - own[0], out.world[m], joints)
        _place(body, betas, out.world[m], joints, out.places[m])


@compiled
def _times(left: NDArray[np.floating[Any]], right: F64, out: F64) -> None:
    """Write the product of two (3, 3)."""
    for a in range(3):
        for b in range(3):
            out[a, b] = left[a, 0] * right[0, b] + left[a, 1] * right[1, b] + left[a, 2] * right[2, b]


@compiled
def _offsets(body: Posable, betas: F32, own: F64) -> None:
    """Write the offsets (22, 3) of the joints from their parents in a body of this shape."""
    for j in range(22):
        for a in range(3):
            own[j, a] = body.offsets[j, a]
            for b in range(len(betas)):
                own[j, a] += betas[b] * body.offset_shapes[b, j, a]


@compiled
def _place(body: Posable, betas: F32, world: F64, joints: F64, places: F64) -> None:
    """Write where the keypoints (17, 3) of a posed body are."""
    for k in range(17):
        places[k] = 0.0
        for j in range(22):
            weight = body.weights[k, j]
            if weight == 0.0:
                continue
            x, y, z = body.keypoints[k, j]
            for b in range(len(betas)):
                x += betas[b] * body.keypoint_shapes[b, k, j, 0]
                y += betas[b] * body.keypoint_shapes[b, k, j, 1]
                z += betas[b] * body.keypoint_shapes[b, k, j, 2]
            for a in range(3):
                places[k, a] += world[j, a, 0] * x + world[j, a, 1] * y + world[j, a, 2] * z + weight * joints[j, a]


@compiled
def _turned(turn: F64, world: F64, out: F32) -> None:
    """Write the world rotations (22, 3, 3) as the turned camera sees them."""
    for j in range(22):
        _times(turn, world[j], out[j])


@compiled
def _sample(rng: np.random.Generator, bank: Bank, body: Posable, errors: KeypointErrors, batch: Batch) -> None:
    """Fill a batch."""
    moments = len(STEPS)
    turn = np.empty((3, 3))
    bones = np.empty((moments, 22, 3, 3))
    pelvis = np.empty((moments, 3))
    places = np.empty((moments, 17, 3))
    there = np.empty(moments, np.bool_)
    rays = np.empty((moments, 17, 2))
    confidences = np.empty((moments, 17))
    for n in range(len(batch.x)):
        standing = rng.random() < STANDING
        _person(rng, bank, body, STEPS, standing, People(batch.betas[n], bones, pelvis, places, there))
        for m in range(moments):
            for k in range(17):
                z = places[m, k, 2]
                confidences[m, k] = 1.0 if there[m] and z >= 0.3 else 0.0
                rays[m, k, 0], rays[m, k, 1] = places[m, k, 0] / max(z, 0.3), places[m, k, 1] / max(z, 0.3)
        _err(rng, rays, confidences, errors)
        if standing:
            confidences[:, 13:] = 0.0
            if rng.random() < 0.3:
                confidences[:, 11:13] = 0.0
        if rng.random() < 0.5:  # the focal length is a guess
            rays *= math.exp(0.25 * rng.normal())
        features_into(rays, confidences, batch.x[n], turn)
        for k in range(17):
            batch.seen[n, k] = confidences[0, k]
        _turned(turn, bones[0], batch.world[n])


@compiled
def _err_as_measured(rng: np.random.Generator, rays: F64, confidences: F64, errors: KeypointErrors, size: float) -> None:
    """Misplace keypoints (m, 17), in place, as the keypoint network did with somebody.

    It errs the same way for a while: before some moment it erred as with somebody else.
    """
    off, doubt = errors.offsets, errors.confidences
    now, before = rng.integers(0, len(off)), rng.integers(0, len(off))
    change = rng.integers(1, 2 * len(rays))
    share = 1.0 if rng.random() < 0.5 else rng.random()
    for m in range(len(rays)):
        row = now if m < change else before
        for k in range(17):
            for a in range(2):
                by = off[row, k, a]
                if math.isnan(by):
                    by = 0.02 * rng.normal()
                rays[m, k, a] += size * (1.1 * share * by + 0.005 * rng.normal())
            if confidences[m, k] > 0:
                sure = 1 - share * (1 - doubt[row, k]) + 0.03 * rng.normal()
                confidences[m, k] = min(sure, 1) if sure > 0.15 else 0.0


@compiled
def _err(rng: np.random.Generator, rays: F64, confidences: F64, errors: KeypointErrors) -> None:
    """Misplace, swap, doubt and miss keypoints (m, 17), in place, as keypoint networks do: some for a moment, some for long."""
    moments = len(rays)
    size = max(rays[0, :, 0].max() - rays[0, :, 0].min(), rays[0, :, 1].max() - rays[0, :, 1].min())
    if len(errors.offsets) > 0 and rng.random() < 0.35:
        _err_as_measured(rng, rays, confidences, errors, size)
        return
    sigma = size * math.exp(math.log(0.002) + (math.log(0.03) - math.log(0.002)) * rng.random())
    lasting = rng.random()
    sure = rng.random() < 0.3
    missed = 0.25 * rng.random() ** 2
    wild = 0.06 * rng.random() ** 2
    cut = rng.random()
    for k in range(17):
        own = sigma * DIFFICULTY[k] * (0.5 + rng.random())
        hidden = rng.random() < 0.08
        if hidden:
            own *= 3
        stray = rng.random() < wild
        reach = 0.2 * size
        bias_x = lasting * own * rng.normal() + 0.004 * size * rng.normal()
        bias_y = lasting * own * rng.normal() + 0.004 * size * rng.normal()
        if stray:
            bias_x, bias_y = bias_x + reach * rng.normal(), bias_y + reach * rng.normal()
        trust = 1.0 - 5 * own / size
        if hidden or stray:
            trust = 0.1 + 0.6 * rng.random()
        gone = rng.random() < 0.5 * missed
        if k >= 13:
            gone |= cut < 0.04
        elif k >= 11:
            gone |= 0.03 < cut < 0.04
        elif k < 5:
            gone |= 0.10 < cut < 0.13
        if k >= 5 and k % 2 == 1:
            gone |= 0.13 < cut < 0.16
        for m in range(moments):
            fresh = own * (1 - 0.7 * lasting)
            rays[m, k, 0] += bias_x + fresh * rng.normal()
            rays[m, k, 1] += bias_y + fresh * rng.normal()
            if confidences[m, k] == 0:
                continue
            if rng.random() < 0.3 * wild:
                rays[m, k, 0] += reach * rng.normal()
                rays[m, k, 1] += reach * rng.normal()
            if gone or rng.random() < missed:
                confidences[m, k] = 0
            elif not sure:
                confidences[m, k] = min(max(trust + 0.08 * rng.normal(), 0.05), 1)
    if rng.random() < 0.08:  # a pair is taken for each other: knees with ankles, elbows with wrists, or all
        which = rng.integers(0, 3)
        always = rng.random() < 0.5
        for m in range(moments):
            if not always and rng.random() < 0.6:
                continue
            for p in range(3):
                left = (7, 13, 5)[which] + 2 * p
                if (which < 2 and p == 2) or left > 15:
                    continue
                for a in range(2):
                    rays[m, left, a], rays[m, left + 1, a] = rays[m, left + 1, a], rays[m, left, a]
                confidences[m, left], confidences[m, left + 1] = confidences[m, left + 1], confidences[m, left]


class Sampler:
    """Batches of inputs and truth, drawn from a bank of poses."""

    def __init__(self, body: BodyModel, bank: Bank, errors: KeypointErrors, rng: np.random.Generator) -> None:
        self.rng, self.body, self.errors = rng, body, errors
        self._bank, self._posable = bank, Posable.of(body)

    def __call__(self, n: int) -> Batch:
        batch = Batch.empty(n, self.body.betas)
        _sample(self.rng, self._bank, self._posable, self.errors, batch)
        return batch

    def person(self, steps: I64) -> People:
        """Somebody, `steps` (m,) frames of 1/30 s before some moment."""
        m = len(steps)
        drawn = People(
            np.empty(self.body.betas, np.float32), np.empty((m, 22, 3, 3)), np.empty((m, 3)), np.empty((m, 17, 3)), np.empty(m, np.bool_)
        )  # fmt: skip
        _person(self.rng, self._bank, self._posable, steps, False, drawn)
        return drawn


class Seen(NamedTuple):
    """Sequences of people as a keypoint network saw them, with the truth: rays (s, t, 17, 2), confidences (s, t, 17), world rotations
    (s, t, 22, 3, 3) and pelvis (s, t, 3) in the camera's frame, betas (s, b); frames apart by `every` of 1/30 s, oldest first."""

    rays: F32
    confidences: F32
    world: F32
    pelvis: F32
    betas: F32
    every: int


class _Change(NamedTuple):
    """How somebody who was seen is to stand differently: betas (b,); each bone is bent by `bend` (22, 3, 3), the body turned by `turn`
    (3, 3) before the camera, and farther away by a factor (1,)."""

    betas: F32
    bend: F64
    turn: F64
    farther: F64


@compiled
def _look(body: Posable, people: Seen, s: int, t: int, change: _Change, world: F64, rays: F64) -> None:
    """Write the world rotations (22, 3, 3) of person s at moment t, changed, and where the network would have seen their keypoints
    (17, 2), had it erred as it did."""
    local, bones, joints = np.empty((22, 3, 3)), np.empty((22, 3, 3)), np.empty((22, 3))
    before, after = np.empty((17, 3)), np.empty((17, 3))
    own, pelvis = np.empty((22, 3)), np.empty(3)
    for a in range(3):
        pelvis[a] = people.pelvis[s, t, a]
    for j in range(22):
        for a in range(3):
            for b in range(3):
                if j == 0:
                    local[j, a, b] = people.world[s, t, j, a, b]
                    continue
                local[j, a, b] = 0.0
                for d in range(3):
                    local[j, a, b] += people.world[s, t, body.parents[j], d, a] * people.world[s, t, j, d, b]
    for side in range(2):
        betas = people.betas[s] if side == 0 else change.betas
        _offsets(body, betas, own)
        if side == 1:
            for j in range(22):
                local[j] = local[j] @ change.bend[j]
            local[0] = change.turn @ local[0]
            pelvis *= change.farther[0]
        forward_kinematics(body.parents, own, local, pelvis - own[0], bones if side == 0 else world, joints)
        _place(body, betas, bones if side == 0 else world, joints, before if side == 0 else after)
    for k in range(17):
        for a in range(2):
            erred = people.rays[s, t, k, a] - before[k, a] / max(before[k, 2], 0.3)
            rays[k, a] = after[k, a] / max(after[k, 2], 0.3) + erred / change.farther[0]


@compiled
def _sample_seen(rng: np.random.Generator, people: Seen, body: Posable, batch: Batch) -> None:
    """Fill a batch, as `_sample` does, from sequences that a network has seen. Half are mirrored; most stand a little differently, so
    that the sequences are not learned by heart."""
    back = STEPS // people.every
    seen = np.zeros((17, 2))
    rays = np.zeros((len(back), 17, 2))
    confidences = np.zeros((len(back), 17))
    world, bones = np.empty((22, 3, 3)), np.empty((22, 3, 3))
    turn = np.empty((3, 3))
    w = np.empty(3)
    change = _Change(np.empty(people.betas.shape[1], np.float32), np.empty((22, 3, 3)), np.empty((3, 3)), np.ones(1))
    for n in range(len(batch.x)):
        s, now = rng.integers(0, len(people.rays)), rng.integers(0, people.rays.shape[1])
        mirror = rng.random() < 0.5
        jitter = 0.01 * rng.random() ** 2 * np.ptp(people.rays[s, now, :, 1])
        strength = 0.0 if rng.random() < AS_SEEN else rng.random()
        for b in range(len(change.betas)):
            change.betas[b] = math.sqrt(1 - 0.5 * strength) * people.betas[s, b] + math.sqrt(0.5 * strength) * rng.normal()
        for j in range(22):
            for a in range(3):
                w[a] = 0.25 * strength * STIFF[j] * rng.normal()
            exp_into(w, change.bend[j])
        for a in range(3):
            w[a] = 0.25 * strength * rng.normal()
        exp_into(w, change.turn)
        change.farther[0] = math.exp(0.3 * strength * rng.normal())
        for m in range(len(back) - 1, -1, -1):
            then = max(now - back[m], 0)
            _look(body, people, int(s), then, change, world, seen)
            for k in range(17):
                source = k if k == 0 or not mirror else (k - 1 if k % 2 == 0 else k + 1)
                u, v = seen[source, 0] + jitter * rng.normal(), seen[source, 1] + jitter * rng.normal()
                rays[m, k, 0], rays[m, k, 1] = -u if mirror else u, v
                sure = people.confidences[s, then, source]
                confidences[m, k] = sure if now >= back[m] and sure >= 0.15 else 0.0
        if rng.random() < 0.5:  # the focal length is a guess
            rays *= math.exp(0.25 * rng.normal())
        features_into(rays, confidences, batch.x[n], turn)
        for k in range(17):
            batch.seen[n, k] = confidences[0, k]
        batch.betas[n] = change.betas
        for j in range(22):
            source = MIRRORED[j] if mirror else j
            for a in range(3):
                for b in range(3):
                    bones[j, a, b] = world[source, a, b]
                    if mirror and (a == 0) != (b == 0):
                        bones[j, a, b] = -bones[j, a, b]
        _turned(turn, bones, batch.world[n])


class SeenSampler:
    """Batches, as `Sampler` gives them, of people whom a keypoint network has really seen."""

    def __init__(self, people: Seen, body: BodyModel, rng: np.random.Generator) -> None:
        self.people, self.rng, self._posable = people, rng, Posable.of(body)

    def __call__(self, n: int) -> Batch:
        batch = Batch.empty(n, self.people.betas.shape[1])
        _sample_seen(self.rng, self.people, self._posable, batch)
        return batch


@compiled
def _sample_wild(rng: np.random.Generator, people: F32, focal: F32, errors: KeypointErrors, batch: WildBatch) -> None:
    """Fill a batch of labelled people.

    people (p, 17, 3): px about the picture's middle, and COCO's v; focal (p,): px, guessed from the picture's size.
    """
    rays = np.empty((len(MOMENTS), 17, 2))
    confidences = np.empty((len(MOMENTS), 17))
    turn = np.empty((3, 3))
    for n in range(len(batch.x)):
        target, labelled = batch.target[n], batch.labelled[n]
        i = rng.integers(0, len(people))
        f = focal[i] * math.exp(0.3 * rng.normal())
        mirror = rng.random() < 0.5
        alone = rng.random() < 0.5
        for k in range(17):
            j = k if k == 0 or not mirror else (k - 1 if k % 2 == 0 else k + 1)
            u, v = people[i, j, 0] / f, people[i, j, 1] / f
            target[k, 0], target[k, 1] = -u if mirror else u, v
            labelled[k] = 1.0 if people[i, j, 2] > 0 else 0.0
            for m in range(len(rays)):
                rays[m, k, 0], rays[m, k, 1] = target[k, 0], target[k, 1]
                confidences[m, k] = labelled[k] if m == 0 or not alone else 0.0
        for k in range(17):  # what is not labelled must not count for the size
            if labelled[k] == 0:
                for m in range(len(rays)):
                    for a in range(2):
                        rays[m, k, a] = rays[m, 5, a] if labelled[5] > 0 else rays[m, 12, a]
        _err(rng, rays, confidences, errors)
        batch.sizes[n] = max(features_into(rays, confidences, batch.x[n], turn), 1e-3)
        for k in range(17):
            u, v = target[k, 0], target[k, 1]
            z = max(turn[2, 0] * u + turn[2, 1] * v + turn[2, 2], 0.05)
            target[k, 0] = (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]) / z
            target[k, 1] = (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]) / z


class WildSampler:
    """Batches of people of COCO, of whom only 2D labels are known."""

    def __init__(self, labels: Labels, errors: KeypointErrors, rng: np.random.Generator) -> None:
        known = labels.keypoints[:, :, 2] > 0
        trunk = known[:, [5, 12]].all(1) | known[:, [6, 11]].all(1)
        labels = labels[trunk & (known.sum(1) >= 8) & (labels.boxes[:, 3] >= 60)]
        middle = np.concatenate([labels.sizes / 2, np.zeros((len(labels), 1), np.float32)], 1)
        self.people = np.float32(labels.keypoints - middle[:, None])
        self.focal = np.float32(labels.sizes.max(1) / 2 / math.tan(math.radians(GUESSED_FOV) / 2))
        self.errors, self.rng = errors, rng

    def __call__(self, n: int) -> WildBatch:
        batch = WildBatch(
            np.empty((n, FEATURES), np.float32), np.empty((n, 17, 2), np.float32),
            np.empty((n, 17), np.float32), np.empty(n, np.float32),
        )  # fmt: skip
        _sample_wild(self.rng, self.people, self.focal, self.errors, batch)
        return batch
