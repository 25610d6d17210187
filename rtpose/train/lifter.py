"""Training of the lifter's initialiser: motion capture seen by random cameras and by keypoint networks that err.

Nothing is rendered: a pose of the mocap, perhaps with the legs of another one, a random shape and camera give keypoints, which
are then missed, misplaced, swapped and doubted as keypoint networks do. The network learns the world rotations of the bones,
the shape, and how far off it may be.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..body.camera import GUESSED_FOV
from ..body.initial import FEATURES, MOMENTS, PREDICTED, features_into
from ..body.model import JOINT_NAMES, BodyModel, forward_kinematics, load_body
from ..body.rotations import compiled, exp_into
from ..models import register
from ..types import F32, F64, I64
from .mocap import FPS, HELD_OUT, Clip, mirrored, read_mocap
from .people import Labels, read_people, read_pictures

LOWER = np.array([n in ("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle") for n in JOINT_NAMES])
STIFF = np.array(
    [0.15 if n.endswith(("foot", "ankle", "wrist")) or n == "pelvis" else 0.5 if "collar" in n else 1.0 for n in JOINT_NAMES]
)
"""How much of the random change of a pose each joint gets."""
KEEP_EVERY = 500
"""Steps after which state and curve are kept."""
ERRORS = Path(__file__).with_name("keypoint_errors.npz")
DIFFICULTY = np.array([0.6, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 1.0, 1.0, 1.2, 1.2, 1.2, 1.2, 1.0, 1.0, 1.3, 1.3])
"""Of the 17 keypoints, by how far keypoint networks miss them on average."""


@dataclass(frozen=True)
class Bank:
    """Poses in a row: rotations (n, 22, 3, 3), root (n, 3) and the first frame of the clip that each belongs to."""

    rotations: F32
    root: F64
    first: I64

    @staticmethod
    def of(clips: list[Clip]) -> Bank:
        """The clips and their mirror images."""
        rotations = [c.rotations for c in clips] + [mirrored(c.rotations) for c in clips]
        root = [c.root for c in clips] + [c.root * [-1, 1, 1] for c in clips]
        starts = np.cumsum([0] + [len(r) for r in root])[:-1]
        first = np.concatenate([np.full(len(r), s) for r, s in zip(root, starts, strict=True)])
        return Bank(np.float32(np.concatenate(rotations)), np.concatenate(root), first)


@dataclass(frozen=True)
class KeypointErrors:
    """What `scripts/measure_keypoint_errors.py` found: offsets (n, 17, 2) in sizes of the person, NaN unknown; confidences (n, 17)."""

    offsets: F32
    confidences: F32

    @staticmethod
    def load() -> KeypointErrors:
        with np.load(ERRORS) as file:
            return KeypointErrors(np.float32(file["offsets"]), np.float32(file["confidences"]))


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
def _sample(
    rng: np.random.Generator,
    rotations: F32,
    root: F64,
    first: I64,
    steps: I64,
    lower: Any,
    stiff: F64,
    difficulty: F64,
    off: F32,
    doubt: F32,
    parents: I64,
    offsets: F64,
    offset_shapes: F64,
    keypoint_weights: F64,
    keypoints: F64,
    keypoint_shapes: F64,
    x: F32,
    world: F32,
    betas: F32,
    seen: F32,
) -> None:
    """Fill a batch: inputs x (n, FEATURES), the truth world (n, 22, 3, 3) in the turned camera, betas (n, b), seen (n, 17)."""
    moments = len(steps)
    shapes = betas.shape[1]
    noise = np.empty((22, 3, 3))
    local = np.empty((22, 3, 3))
    g = np.empty((22, 3, 3))
    g_now = np.empty((22, 3, 3))
    o = np.empty((22, 3))
    c = np.empty((3, 3))
    q = np.empty(3)
    w = np.empty(3)
    here = np.empty(3)
    turn = np.empty((3, 3))
    own = np.empty((22, 3))
    rays = np.empty((moments, 17, 2))
    confidences = np.empty((moments, 17))
    for n in range(len(x)):
        i = rng.integers(0, len(root))
        legs = rng.integers(0, len(root)) if rng.random() < 0.35 else i
        speed = 1.0 if rng.random() < 0.5 else 0.6 + 1.2 * rng.random()
        strength = 0.35 * rng.random() ** 2
        for j in range(22):
            for a in range(3):
                w[a] = rng.normal() * strength * stiff[j]
            exp_into(w, noise[j])
        for b in range(shapes):
            betas[n, b] = rng.normal()
        for j in range(22):
            for a in range(3):
                own[j, a] = offsets[j, a]
                for b in range(shapes):
                    own[j, a] += betas[n, b] * offset_shapes[b, j, a]
        _camera_rotation(rng, c)
        distance = math.exp(0.55 + 2.0 * rng.random()) if rng.random() < 0.85 else math.exp(2.5 + 1.6 * rng.random())
        aside_x, aside_y = 0.05 * rng.normal(), 0.05 * rng.normal()
        for m in range(moments):
            back = round(steps[m] * speed)
            frame, frame_legs = i - back, legs - back
            gone = frame < first[i] or frame_legs < first[legs]
            frame, frame_legs = max(frame, first[i]), max(frame_legs, first[legs])
            for j in range(22):
                source = frame_legs if lower[j] else frame
                for a in range(3):
                    for b in range(3):
                        s = 0.0
                        for d in range(3):
                            s += rotations[source, j, a, d] * noise[j, d, b]
                        local[j, a, b] = s
            for a in range(3):
                for b in range(3):
                    s = 0.0
                    for d in range(3):
                        s += c[a, d] * local[0, d, b]
                    g[0, a, b] = s
            for a in range(3):
                for b in range(3):
                    local[0, a, b] = g[0, a, b]
            for a in range(3):
                here[a] = 0.0
                for d in range(3):
                    here[a] += c[a, d] * (root[frame, d] - root[i, d])
            here[0] += aside_x
            here[1] += aside_y
            here[2] += distance
            forward_kinematics(parents, own, local, here, g, o)
            if m == 0:
                g_now[:] = g
            for k in range(17):
                here[0] = here[1] = here[2] = 0.0
                for j in range(22):
                    weight = keypoint_weights[k, j]
                    if weight == 0.0:
                        continue
                    for a in range(3):
                        q[a] = keypoints[k, j, a]
                        for b in range(shapes):
                            q[a] += betas[n, b] * keypoint_shapes[b, k, j, a]
                    for a in range(3):
                        here[a] += g[j, a, 0] * q[0] + g[j, a, 1] * q[1] + g[j, a, 2] * q[2] + weight * o[j, a]
                confidences[m, k] = 0.0 if gone or here[2] < 0.3 else 1.0
                rays[m, k, 0] = here[0] / max(here[2], 0.3)
                rays[m, k, 1] = here[1] / max(here[2], 0.3)
        _err(rng, rays, confidences, difficulty, off, doubt)
        if rng.random() < 0.5:  # the focal length is a guess
            rays *= math.exp(0.25 * rng.normal())
        features_into(rays, confidences, x[n], turn)
        for k in range(17):
            seen[n, k] = confidences[0, k]
        for j in range(22):
            for a in range(3):
                for b in range(3):
                    world[n, j, a, b] = turn[a, 0] * g_now[j, 0, b] + turn[a, 1] * g_now[j, 1, b] + turn[a, 2] * g_now[j, 2, b]


@compiled
def _err_as_measured(rng: np.random.Generator, rays: F64, confidences: F64, off: F32, doubt: F32, size: float) -> None:
    """Misplace keypoints (m, 17), in place, as the keypoint network did with somebody of `off` (n, 17, 2), `doubt` (n, 17).

    It errs the same way for a while: before some moment it erred as with somebody else.
    """
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
def _err(rng: np.random.Generator, rays: F64, confidences: F64, difficulty: F64, off: F32, doubt: F32) -> None:
    """Misplace, swap, doubt and miss keypoints (m, 17), in place, as keypoint networks do: some for a moment, some for long."""
    moments = len(rays)
    size = max(rays[0, :, 0].max() - rays[0, :, 0].min(), rays[0, :, 1].max() - rays[0, :, 1].min())
    if rng.random() < 0.35:
        _err_as_measured(rng, rays, confidences, off, doubt, size)
        return
    sigma = size * math.exp(math.log(0.002) + (math.log(0.03) - math.log(0.002)) * rng.random())
    lasting = rng.random()
    sure = rng.random() < 0.3
    missed = 0.25 * rng.random() ** 2
    wild = 0.06 * rng.random() ** 2
    cut = rng.random()
    for k in range(17):
        own = sigma * difficulty[k] * (0.5 + rng.random())
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
            gone |= cut < 0.10
        elif k >= 11:
            gone |= 0.07 < cut < 0.10
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
        self.bank, self.rng, self.body, self.errors = bank, rng, body, errors
        self._offsets, self._offset_shapes = body.offsets(np.zeros(body.betas)), body.offset_shapes()
        self._steps = np.rint(np.array(MOMENTS) * FPS).astype(np.int64)

    def __call__(self, n: int) -> tuple[torch.Tensor, ...]:
        """x (n, FEATURES), world rotations (n, 22, 3, 3), betas (n, b), confidences of now (n, 17)."""
        body = self.body
        x, world = np.empty((n, FEATURES), np.float32), np.empty((n, 22, 3, 3), np.float32)
        betas, seen = np.empty((n, body.betas), np.float32), np.empty((n, 17), np.float32)
        _sample(
            self.rng, self.bank.rotations, self.bank.root, self.bank.first, self._steps, LOWER, STIFF, DIFFICULTY,
            self.errors.offsets, self.errors.confidences, body.parents, self._offsets, self._offset_shapes,
            body.keypoint_weights[:17], body.keypoints[:17], body.keypoint_shapes[:, :17],
            x, world, betas, seen,
        )  # fmt: skip
        return tuple(torch.from_numpy(a) for a in (x, world, betas, seen))


@compiled
def _sample_wild(
    rng: np.random.Generator,
    people: F32,
    focal: F32,
    difficulty: F64,
    off: F32,
    doubt: F32,
    x: F32,
    target: F32,
    labelled: F32,
    sizes: F32,
) -> None:
    """Fill a batch of labelled people: inputs x, the labels as rays of the turned camera (n, 17, 2), their weights, the sizes (n,).

    people (p, 17, 3): px about the picture's middle, and COCO's v; focal (p,): px, guessed from the picture's size.
    """
    rays = np.empty((len(MOMENTS), 17, 2))
    confidences = np.empty((len(MOMENTS), 17))
    turn = np.empty((3, 3))
    for n in range(len(x)):
        i = rng.integers(0, len(people))
        f = focal[i] * math.exp(0.3 * rng.normal())
        mirror = rng.random() < 0.5
        alone = rng.random() < 0.5
        for k in range(17):
            j = k if k == 0 or not mirror else (k - 1 if k % 2 == 0 else k + 1)
            u, v = people[i, j, 0] / f, people[i, j, 1] / f
            target[n, k, 0], target[n, k, 1] = -u if mirror else u, v
            labelled[n, k] = 1.0 if people[i, j, 2] > 0 else 0.0
            for m in range(len(rays)):
                rays[m, k, 0], rays[m, k, 1] = target[n, k, 0], target[n, k, 1]
                confidences[m, k] = labelled[n, k] if m == 0 or not alone else 0.0
        for k in range(17):  # what is not labelled must not count for the size
            if labelled[n, k] == 0:
                for m in range(len(rays)):
                    for a in range(2):
                        rays[m, k, a] = rays[m, 5, a] if labelled[n, 5] > 0 else rays[m, 12, a]
        _err(rng, rays, confidences, difficulty, off, doubt)
        sizes[n] = max(features_into(rays, confidences, x[n], turn), 1e-3)
        for k in range(17):
            u, v = target[n, k, 0], target[n, k, 1]
            z = max(turn[2, 0] * u + turn[2, 1] * v + turn[2, 2], 0.05)
            target[n, k, 0] = (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]) / z
            target[n, k, 1] = (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]) / z


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

    def __call__(self, n: int) -> tuple[torch.Tensor, ...]:
        """x (n, FEATURES), labels (n, 17, 2) as rays of the turned camera, their weights (n, 17), sizes (n,)."""
        x, target = np.empty((n, FEATURES), np.float32), np.empty((n, 17, 2), np.float32)
        labelled, sizes = np.empty((n, 17), np.float32), np.empty(n, np.float32)
        _sample_wild(
            self.rng, self.people, self.focal, DIFFICULTY, self.errors.offsets, self.errors.confidences,
            x, target, labelled, sizes,
        )  # fmt: skip
        return tuple(torch.from_numpy(a) for a in (x, target, labelled, sizes))


class PosePrior:
    """How far local rotations are from those of the mocap: the share by which their Mahalanobis distances exceed the usual."""

    def __init__(self, body: BodyModel, bank: Bank) -> None:
        self.above = [int(p) for p in body.parents[list(PREDICTED[1:])]]
        local = bank.rotations[::3, list(PREDICTED[1:])].reshape(-1, len(PREDICTED) - 1, 9).astype(np.float64)
        mean = local.mean(0)
        off = local - mean
        covariance = np.einsum("nja,njb->jab", off, off) / len(off) + 0.03 * np.eye(9)
        self.mean, self.whiten = _tensor(mean), _tensor(np.linalg.inv(np.linalg.cholesky(covariance)))

    def __call__(self, world: torch.Tensor) -> torch.Tensor:
        local = world[:, self.above].transpose(-1, -2) @ world[:, list(PREDICTED[1:])]
        off = torch.einsum("jab,njb->nja", self.whiten, local.flatten(-2) - self.mean)
        return torch.relu(off.square().mean(-1) - 1.0).mean()


def reprojection(world: torch.Tensor, betas: torch.Tensor, wild: tuple[torch.Tensor, ...], places: Places) -> torch.Tensor:
    """How far the body's keypoints fall from the labels, in sizes of the person, wherever the body had best stand."""
    _, target, labelled, sizes = wild
    points = places(world, betas)[:, :17]
    u, v = target.unbind(-1)
    ru, rv = u * points[..., 2] - points[..., 0], v * points[..., 2] - points[..., 1]
    count = labelled.sum(1)
    su, sv = (labelled * u).sum(1) / count, (labelled * v).sum(1) / count
    du, dv = u - su[:, None], v - sv[:, None]
    # The least squares of `rtpose.body.fit.translate`, x and y eliminated.
    spread = (labelled * (du * du + dv * dv)).sum(1).clamp_min(1e-6)
    z = (-(labelled * (du * ru + dv * rv)).sum(1) / spread).clamp(0.8, 200)
    x, y = (labelled * ru).sum(1) / count + su * z, (labelled * rv).sum(1) / count + sv * z
    depth = (points[..., 2] + z[:, None]).clamp_min(0.3)
    off = torch.stack([(points[..., 0] + x[:, None]) / depth, (points[..., 1] + y[:, None]) / depth], -1) - target
    distance = (off.square().sum(-1) + 1e-8).sqrt() / sizes[:, None]
    return (labelled * distance.clamp(max=0.3)).sum() / labelled.sum()


def _tensor(array: F64) -> torch.Tensor:
    return torch.from_numpy(np.float32(array))


class Places:
    """World rotations (n, 22, 3, 3) and betas -> the 17 keypoints and 22 joints (n, 39, 3) about the middle of the hips."""

    def __init__(self, body: BodyModel) -> None:
        path = np.zeros((22, 22))  # path[j, i]: the bone that ends in i lies on the way to j
        for j in range(22):
            i = j
            while i > 0:
                path[j, i] = 1
                i = int(body.parents[i])
        of, by = np.nonzero(body.keypoint_weights[:17])
        self.above = [max(int(p), 0) for p in body.parents]
        self.of, self.by = torch.from_numpy(of), torch.from_numpy(by)
        self.path, self.weights = _tensor(path), _tensor(body.keypoint_weights[:17])
        self.offsets = _tensor(body.offsets(np.zeros(body.betas)))
        self.offset_shapes = _tensor(body.offset_shapes().reshape(body.betas, -1))
        self.local, self.local_shapes = (
            _tensor(body.keypoints[of, by]),
            _tensor(body.keypoint_shapes[:, of, by].reshape(body.betas, -1)),
        )

    def __call__(self, world: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        n = len(world)
        offsets = self.offsets + (betas @ self.offset_shapes).view(n, 22, 3)
        bones = (world[:, self.above] @ offsets[..., None])[..., 0]
        joints = torch.einsum("ji,nia->nja", self.path, bones)
        local = self.local + (betas @ self.local_shapes).view(n, -1, 3)
        parts = (world[:, self.by] @ local[..., None])[..., 0]
        keypoints = torch.einsum("kj,nja->nka", self.weights, joints).index_add(1, self.of, parts)
        places = torch.cat([keypoints, joints], 1)
        return places - 0.5 * (keypoints[:, 11:12] + keypoints[:, 12:13])


class Network(nn.Module):
    """Residual blocks over the flat input. Says six numbers a bone, betas, and the logarithms of the errors it expects:
    radians a bone, metres a keypoint and joint."""

    def __init__(self, betas: int, width: int = 384, blocks: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(FEATURES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.GELU())
        self.sizes = [len(PREDICTED) * 6, betas, len(PREDICTED), 39]
        self.say = nn.Linear(width, sum(self.sizes))
        with torch.no_grad():
            self.say.weight.mul_(0.1)
            self.say.bias.zero_()
            self.say.bias[: self.sizes[0]] = torch.tensor([1.0, 0, 0, 0, -1, 0]).repeat(len(PREDICTED))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        six, betas, turn_error, place_error = self.say(self.leave(h)).float().split(self.sizes, 1)
        return six.view(-1, len(PREDICTED), 6), betas, turn_error, place_error


def world_rotations(six: torch.Tensor, body: BodyModel) -> torch.Tensor:
    """What the network said (n, 18, 6) -> world rotations (n, 22, 3, 3); the bones it leaves out follow the ones above."""
    first = nn.functional.normalize(six[..., :3], dim=-1)
    second = nn.functional.normalize(six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first, dim=-1)
    said = torch.stack([first, second, torch.cross(first, second, dim=-1)], -1)
    index = [PREDICTED.index(j if j in PREDICTED else int(body.parents[j])) for j in range(22)]
    return said[:, index]


def losses(
    said: tuple[torch.Tensor, ...], truth: tuple[torch.Tensor, ...], places: Places, body: BodyModel
) -> dict[str, torch.Tensor]:
    """The parts of the loss; truth is what `Sampler` gives."""
    six, betas, turn_error, place_error = said
    _, world, true_betas, _ = truth
    guess = world_rotations(six, body)
    off = (places(guess, betas) - places(world, true_betas)).square().sum(-1)
    turned = (guess - world)[:, list(PREDICTED)].square().sum((-1, -2))  # 8 sin^2(angle / 2)
    return {
        "place": (off + 1e-6).sqrt().mean(),
        "turn": (turned + 1e-4).sqrt().mean(),
        "shape": (betas - true_betas).square().mean(),
        "turn_nll": (turned.detach() / 12 * torch.exp(-2 * turn_error) + turn_error).mean(),
        "place_nll": (off.detach() / 6 * torch.exp(-2 * place_error) + place_error).mean(),
    }


WEIGHTS = {"place": 10.0, "turn": 0.6, "shape": 0.02, "turn_nll": 0.05, "place_nll": 0.05, "wild": 5.0, "likely": 0.1}


def train_lifter(
    data: Path,
    folder: Path,
    *,
    steps: int = 24000,
    stop: int | None = None,
    batch: int = 224,
    wild: int = 96,
    rate: float = 1.5e-3,
    seed: int = 0,
) -> Path:
    """Train the initialiser and write `lifter.onnx` and its card into `folder`; continues what an earlier call left there.

    data: the folder with `mocap`, `coco_keypoints` and `coco_images` (whose people train nothing). steps: of the whole schedule;
    stop: after which to stop this time. batch: samples of the mocap in a step; wild: people of COCO, 0 for none. The state is
    kept in `state.pt`, the curve in `curve.jsonl`; a run that was killed and is started again gives the same curve. Returns the
    path of the ONNX file.
    """
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    body = load_body()
    clips = read_mocap(data / "mocap", body)
    rng = np.random.default_rng(seed)
    errors = KeypointErrors.load()
    bank = Bank.of([c for c in clips if c.group not in HELD_OUT])
    training = Sampler(body, bank, errors, rng)
    judged = list(read_pictures(data / "coco_images"))
    people = WildSampler(read_people(data / "coco_keypoints" / "train2017_people.npz", judged), errors, rng)
    check = Sampler(body, Bank.of([c for c in clips if c.group in HELD_OUT]), errors, np.random.default_rng(1))(4096)
    torch.manual_seed(seed)
    network, places, prior = Network(body.betas), Places(body), PosePrior(body, bank)
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-3, betas=(0.9, 0.98))
    state, curve, begin = folder / "state.pt", folder / "curve.jsonl", 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        begin = kept["step"]
        rng.bit_generator.state = json.loads(kept["rng"])
        lines = curve.read_text().splitlines()
        curve.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= begin))
    sums: dict[str, float] = dict.fromkeys(WEIGHTS, 0.0)
    started = time.process_time()
    for step in range(begin + 1, (stop or steps) + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 300) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-6
        truth, labels = training(batch), people(wild)
        with torch.autocast("cpu", torch.bfloat16):
            said = network(torch.cat([truth[0], labels[0]]))
        parts = losses(tuple(part[:batch] for part in said), truth, places, body)
        if wild:
            world = world_rotations(said[0][batch:], body)
            parts["wild"] = reprojection(world, said[1][batch:], labels, places)
            parts["likely"] = prior(world)
        optimiser.zero_grad()
        torch.autograd.backward(torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum())
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        for name, part in parts.items():
            sums[name] += float(part.detach())
        if step % KEEP_EVERY == 0:
            with torch.no_grad():
                unseen = losses(network(check[0]), check, places, body)
            row = {"step": step, "seconds": round(time.process_time() - started, 1)}
            row |= {name: round(total / KEEP_EVERY, 5) for name, total in sums.items()}
            row |= {f"held_out_{name}": round(float(value), 5) for name, value in unseen.items()}
            with curve.open("a") as out:
                out.write(json.dumps(row) + "\n")
            kept = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            torch.save(kept | {"rng": json.dumps(rng.bit_generator.state)}, state)
            sums = dict.fromkeys(WEIGHTS, 0.0)
    last = json.loads(curve.read_text().splitlines()[-1])
    figures = (
        f"{steps} steps, {last['seconds']:.0f} s, mean distance held out {1e3 * last['held_out_place']:.0f} mm with all noise"
    )
    return export(network.eval(), folder, figures)


def export(network: Network, folder: Path, figures: str) -> Path:
    """Write `lifter.onnx` and its card."""
    path = folder / "lifter.onnx"
    with warnings.catch_warnings():  # the exporter that is to replace this one needs another package
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network,
            (torch.zeros(1, FEATURES),),
            str(path),
            input_names=["keypoints"],
            output_names=["six", "betas", "turn_error", "place_error"],
            dynamic_axes={name: {0: "n"} for name in ("keypoints", "six", "betas", "turn_error", "place_error")},
            opset_version=17,
            dynamo=False,
        )
    register(
        path,
        name="lifter",
        task="lifter",
        licence="Apache-2.0",
        origin="trained by this project on CMU mocap (free for all uses), DeepMimic's clips (MIT) and COCO's keypoint labels (CC BY 4.0)",
        made=f"rtpose train lifter ({figures}); these trained nothing: {', '.join(sorted(HELD_OUT))}",
        input=f"keypoints: f32 (n, {FEATURES}), as rtpose.body.initial makes them",
        decoder="lifter",
    )
    return path
