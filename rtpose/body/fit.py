"""Fitting the body to the keypoints of one person in one frame, by a few Gauss-Newton steps.

Unknown are the world rotations of the bones that keypoints show, the pelvis' place, and the shape. What is weighed: the
distance of projected keypoints from those seen, with a robust scale; what the learned initialiser says, as sure as it is;
what the last frames let expect; joint limits; feet that stand; the shape so far.

Rotations are world rotations, so that every prior on them is diagonal, and a point of the body is linear in them:
P = t + sum over joints of G_j m_j, with vectors m_j in the bones' frames that depend on shape alone (`Points`). A step turns
bone j by a small vector d_j of the camera frame, G_j <- exp(d_j) G_j, so that dP / dd_j = -[G_j m_j]x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..types import F64, I64
from .model import JOINT_NAMES, BodyModel
from .rotations import compiled, exp_into, log_into

ACTIVE: I64 = np.array([i for i, n in enumerate(JOINT_NAMES) if not n.endswith(("wrist", "foot", "ankle"))])
"""Bones that the keypoints show and the fit turns; the others keep their rotation relative to the one above."""

_LIMITS = (
    # joint (of the left side, and of the right one mirrored), part of the axis-angle vector, lowest and highest value in radians:
    # a little wider than what 998 of 1000 frames of the mocap hold
    ("left_knee", 0, -0.05, 2.7),
    ("left_knee", 1, -0.5, 0.5),
    ("left_knee", 2, -0.3, 0.3),
    ("left_elbow", 1, -2.7, 0.05),
    ("left_elbow", 2, -0.3, 1.4),
    ("left_hip", 0, -2.5, 0.8),
    ("left_hip", 1, -1.0, 1.3),
    ("left_hip", 2, -0.8, 1.4),
    ("left_collar", 0, -0.5, 0.5),
    ("left_collar", 1, -0.6, 0.6),
    ("left_collar", 2, -0.5, 0.7),
    *((joint, 0, -0.6, 0.8) for joint in ("spine1", "spine2", "spine3")),
    *((joint, axis, -0.6, 0.6) for joint in ("spine1", "spine2", "spine3") for axis in (1, 2)),
    *(("neck", axis, -0.7, 0.7) for axis in range(3)),
    ("head", 0, -0.8, 1.2),
    ("head", 1, -1.0, 1.0),
    ("head", 2, -1.0, 1.0),
)


def _limit_table() -> tuple[I64, F64]:
    joints, ranges = [], []
    for name, axis, low, high in _LIMITS:
        joints.append((JOINT_NAMES.index(name), axis))
        ranges.append((low, high))
        if name.startswith("left"):
            joints.append((JOINT_NAMES.index(name.replace("left", "right")), axis))
            ranges.append((low, high) if axis == 0 else (-high, -low))
    return np.array(joints), np.array(ranges)


LIMITED, LIMITS = _limit_table()


@dataclass(frozen=True)
class Points:
    """Points of the body as vectors in its bones: vectors (p, 22, 3) and shapes (b, p, 22, 3) what each beta adds.

    The first 17 points are the keypoints, the next 22 the joints.
    """

    vectors: F64
    shapes: F64

    @staticmethod
    def of(body: BodyModel) -> Points:
        keypoints = body.keypoint_weights[:17]
        weights = np.concatenate([keypoints, np.eye(22)])
        below = np.eye(22)  # below[i, j]: joint j hangs on joint i
        for j in range(21, 0, -1):
            below[int(body.parents[j])] += below[j]
        carried = weights @ below.T  # (p, 22): how much of the point hangs on the joint

        def vectors(local: F64, offsets: F64) -> F64:
            m = np.zeros((39, 22, 3))
            m[:17] = local
            for j in range(1, 22):
                m[:, int(body.parents[j])] += carried[:, j, None] * offsets[j]
            return m

        offset_shapes = body.offset_shapes()
        return Points(
            vectors(body.keypoints[:17], body.offsets(np.zeros(body.betas))),
            np.stack([vectors(s, o) for s, o in zip(body.keypoint_shapes[:, :17], offset_shapes, strict=True)]),
        )

    def at(self, betas: F64) -> F64:
        """The vectors (p, 22, 3) of a body of this shape."""
        return np.asarray(self.vectors + np.tensordot(betas, self.shapes, 1))


@compiled
def place(vectors: F64, world: F64, translation: F64, out: F64) -> None:
    """Write the points (p, 3) of a body posed by world rotations (22, 3, 3), pelvis at `translation`."""
    for p in range(len(out)):
        for a in range(3):
            out[p, a] = translation[a]
        for j in range(22):
            x, y, z = vectors[p, j, 0], vectors[p, j, 1], vectors[p, j, 2]
            if x != 0 or y != 0 or z != 0:
                for a in range(3):
                    out[p, a] += world[j, a, 0] * x + world[j, a, 1] * y + world[j, a, 2] * z


@compiled
def translate(places: F64, rays: F64, weights: F64, out: F64) -> None:
    """The translation (3,) that brings keypoints (17, 3) about the pelvis nearest to their rays (17, 2): linear least squares."""
    a00 = a02 = a12 = a22 = b0 = b1 = b2 = 0.0
    for k in range(17):
        w = weights[k]
        u, v = rays[k, 0], rays[k, 1]
        ru = u * places[k, 2] - places[k, 0]
        rv = v * places[k, 2] - places[k, 1]
        a00 += w
        a02 -= w * u
        a12 -= w * v
        a22 += w * (u * u + v * v)
        b0 += w * ru
        b1 += w * rv
        b2 -= w * (u * ru + v * rv)
    # Eliminate x and y.
    z = (b2 - (a02 * b0 + a12 * b1) / a00) / max(a22 - (a02 * a02 + a12 * a12) / a00, 1e-9)
    out[2] = max(z, 0.5)
    out[0] = (b0 - a02 * out[2]) / a00
    out[1] = (b1 - a12 * out[2]) / a00


@compiled
def fit(
    parents: I64,
    active: I64,
    vectors: F64,
    shapes: F64,
    world: F64,
    translation: F64,
    betas: F64,
    rays: F64,
    weights: F64,
    robust: float,
    said: F64,
    said_weights: F64,
    expected: F64,
    expected_weights: F64,
    expected_translation: F64,
    translation_weights: F64,
    shape_weight: float,
    anchors: F64,
    anchor_weights: F64,
    limited: I64,
    limits: F64,
    limit_weight: float,
    steps: int,
) -> None:
    """Improve world (22, 3, 3), translation (3,) and betas (b,) in place.

    vectors, shapes: of `Points`. rays (17, 2) of the keypoints, weights (17,) one over their variances, 0 where unseen; robust:
    the squared residual, times its weight, at which a keypoint counts a quarter (Geman and McClure). said (22, 3, 3) and
    said_weights (22,): the initialiser's rotations and one over their variances. expected and its weights: the same from the
    last frames. shape_weight: how firmly betas stay; infinite: they are not fitted. anchors (2, 3), anchor_weights (2,): where left and
    right ankle stand, 0: they do not. limited (l, 2) joint and axis, limits (l, 2) radians.
    """
    count = len(active)
    fixed = math.isinf(shape_weight)
    shape_count = 0 if fixed else len(betas)
    size = 3 * count + 3 + shape_count
    at_translation = 3 * count
    mover = np.empty(22, np.int64)
    for j in range(22):
        mover[j] = -1
    for i in range(count):
        mover[active[i]] = i
    for j in range(22):
        if mover[j] < 0:
            mover[j] = mover[parents[j]]
    m = vectors.copy()
    old_betas = betas.copy()
    hessian = np.empty((size, size))
    gradient = np.empty(size)
    lever = np.empty((count, 3))
    touched = np.empty(count, np.bool_)
    row = np.empty((3, size))
    ju = np.empty(size)
    jv = np.empty(size)
    index = np.empty(size, np.int64)
    point = np.empty(3)
    w = np.empty(3)
    d = np.empty((3, 3))
    r = np.empty((3, 3))
    loose = np.empty((22, 3, 3))
    for j in range(22):  # bones that are not fitted keep their rotation relative to the one above
        p = parents[j]
        if p >= 0:
            for a in range(3):
                for b in range(3):
                    loose[j, a, b] = (
                        world[p, 0, a] * world[j, 0, b] + world[p, 1, a] * world[j, 1, b] + world[p, 2, a] * world[j, 2, b]
                    )
    for _ in range(steps):
        if not fixed:
            for p in range(len(m)):
                for j in range(22):
                    for a in range(3):
                        s = vectors[p, j, a]
                        for b in range(shape_count):
                            s += betas[b] * shapes[b, p, j, a]
                        m[p, j, a] = s
        hessian[:] = 0
        gradient[:] = 0
        for p in range(17 + 2):
            foot = p - 17
            k = p if foot < 0 else 15 + foot  # an anchored ankle is a point seen in three dimensions
            if (foot < 0 and weights[k] <= 0) or (foot >= 0 and anchor_weights[foot] <= 0):
                continue
            for i in range(count):
                touched[i] = False
                lever[i, 0] = lever[i, 1] = lever[i, 2] = 0
            for a in range(3):
                point[a] = translation[a]
            for j in range(22):
                x, y, z = m[k, j, 0], m[k, j, 1], m[k, j, 2]
                if x != 0 or y != 0 or z != 0:
                    i = mover[j]
                    touched[i] = True
                    for a in range(3):
                        s = world[j, a, 0] * x + world[j, a, 1] * y + world[j, a, 2] * z
                        lever[i, a] += s
                        point[a] += s
            entries = 0
            for i in range(count):
                if touched[i]:
                    x, y, z = lever[i, 0], lever[i, 1], lever[i, 2]
                    row[0, entries], row[0, entries + 1], row[0, entries + 2] = 0.0, z, -y
                    row[1, entries], row[1, entries + 1], row[1, entries + 2] = -z, 0.0, x
                    row[2, entries], row[2, entries + 1], row[2, entries + 2] = y, -x, 0.0
                    for a in range(3):
                        index[entries + a] = 3 * i + a
                    entries += 3
            for a in range(3):
                for b in range(3):
                    row[b, entries + a] = 1.0 if a == b else 0.0
                index[entries + a] = at_translation + a
            entries += 3
            for b in range(shape_count):
                for a in range(3):
                    row[a, entries] = 0.0
                for j in range(22):
                    x, y, z = shapes[b, k, j, 0], shapes[b, k, j, 1], shapes[b, k, j, 2]
                    if x != 0 or y != 0 or z != 0:
                        for a in range(3):
                            row[a, entries] += world[j, a, 0] * x + world[j, a, 1] * y + world[j, a, 2] * z
                index[entries] = at_translation + 3 + b
                entries += 1
            if foot >= 0:
                weight = anchor_weights[foot]
                for a in range(3):
                    off = point[a] - anchors[foot, a]
                    for e in range(entries):
                        gradient[index[e]] += weight * row[a, e] * off
                        for g in range(e + 1):
                            hessian[index[e], index[g]] += weight * row[a, e] * row[a, g]
                continue
            z = max(point[2], 0.1)
            u, v = point[0] / z, point[1] / z
            off_u, off_v = u - rays[k, 0], v - rays[k, 1]
            weight = weights[k]
            doubt = 1 + weight * (off_u * off_u + off_v * off_v) / robust
            weight /= doubt * doubt
            for e in range(entries):
                ju[e] = (row[0, e] - u * row[2, e]) / z
                jv[e] = (row[1, e] - v * row[2, e]) / z
            for e in range(entries):
                x, y = weight * ju[e], weight * jv[e]
                gradient[index[e]] += x * off_u + y * off_v
                for g in range(e + 1):
                    hessian[index[e], index[g]] += x * ju[g] + y * jv[g]
        for i in range(count):
            j = active[i]
            for prior in range(2):
                weight = said_weights[j] if prior == 0 else expected_weights[j]
                if weight <= 0:
                    continue
                for a in range(3):
                    for b in range(3):
                        s = 0.0
                        for c in range(3):
                            s += world[j, a, c] * (said[j, b, c] if prior == 0 else expected[j, b, c])
                        r[a, b] = s
                log_into(r, w)
                for a in range(3):
                    gradient[3 * i + a] += weight * w[a]
                    hessian[3 * i + a, 3 * i + a] += weight
        for a in range(3):
            gradient[at_translation + a] += translation_weights[a] * (translation[a] - expected_translation[a])
            hessian[at_translation + a, at_translation + a] += translation_weights[a]
        for b in range(shape_count):
            e = at_translation + 3 + b
            gradient[e] += shape_weight * (betas[b] - old_betas[b])
            hessian[e, e] += shape_weight
        last = -1
        for limit in range(len(limited)):
            j, axis = limited[limit, 0], limited[limit, 1]
            p = parents[j]
            if j != last:
                for a in range(3):
                    for b in range(3):
                        r[a, b] = (
                            world[p, 0, a] * world[j, 0, b] + world[p, 1, a] * world[j, 1, b] + world[p, 2, a] * world[j, 2, b]
                        )
                log_into(r, w)
                last = j
            over = min(w[axis] - limits[limit, 0], 0.0) + max(w[axis] - limits[limit, 1], 0.0)
            if over == 0:
                continue
            # The local angle turns with the difference of the two bones' turns, seen along the parent's axis.
            i, h = 3 * mover[j], 3 * mover[p]
            for a in range(3):
                x = world[p, a, axis]
                gradient[i + a] += limit_weight * over * x
                gradient[h + a] -= limit_weight * over * x
                for b in range(3):
                    q = limit_weight * x * world[p, b, axis]
                    if b <= a:
                        hessian[i + a, i + b] += q
                        hessian[h + a, h + b] += q
                    hessian[max(i, h) + a, min(i, h) + b] -= q
        for e in range(size):
            hessian[e, e] += 1e-6
        _solve(hessian, gradient)
        for j in range(22):
            i = mover[j]
            if active[i] == j:
                length = 0.0
                for a in range(3):
                    w[a] = -gradient[3 * i + a]
                    length += w[a] * w[a]
                if length > 0.64:
                    for a in range(3):
                        w[a] *= 0.8 / math.sqrt(length)
                exp_into(w, d)
                for a in range(3):
                    for b in range(3):
                        r[a, b] = d[a, 0] * world[j, 0, b] + d[a, 1] * world[j, 1, b] + d[a, 2] * world[j, 2, b]
                for a in range(3):
                    for b in range(3):
                        world[j, a, b] = r[a, b]
            else:
                p = parents[j]
                for a in range(3):
                    for b in range(3):
                        world[j, a, b] = (
                            world[p, a, 0] * loose[j, 0, b] + world[p, a, 1] * loose[j, 1, b] + world[p, a, 2] * loose[j, 2, b]
                        )
        for a in range(3):
            translation[a] -= gradient[at_translation + a]
        translation[2] = max(translation[2], 0.3)
        for b in range(shape_count):
            betas[b] = min(max(betas[b] - gradient[at_translation + 3 + b], -4.0), 4.0)


@compiled
def _relative(above: F64, below: F64, out: F64) -> None:
    """Write above^T below (3, 3)."""
    for a in range(3):
        for b in range(3):
            out[a, b] = above[0, a] * below[0, b] + above[1, a] * below[1, b] + above[2, a] * below[2, b]


@compiled
def _solve(a: F64, b: F64) -> None:
    """Solve a x = b by Cholesky; a (n, n) is positive, its lower triangle alone is read and overwritten; x replaces b."""
    n = len(b)
    for i in range(n):
        for j in range(i + 1):
            s = a[i, j]
            for k in range(j):
                s -= a[i, k] * a[j, k]
            if i == j:
                a[i, i] = math.sqrt(max(s, 1e-12))
            else:
                a[i, j] = s / a[j, j]
        s = b[i]
        for k in range(i):
            s -= a[i, k] * b[k]
        b[i] = s / a[i, i]
    for i in range(n - 1, -1, -1):
        s = b[i]
        for k in range(i + 1, n):
            s -= a[k, i] * b[k]
        b[i] = s / a[i, i]
