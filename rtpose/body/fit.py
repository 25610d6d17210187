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
from typing import NamedTuple

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
"""Joint and axis (l, 2), and the lowest and highest angle (l, 2) in radians."""


class Points(NamedTuple):
    """Points of the body as vectors in its bones: vectors (p, 22, 3) and shapes (b, p, 22, 3) what each beta adds.

    The first 17 points are the keypoints, the next 22 the joints. parents (22,): the body's.
    """

    parents: I64
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
            body.parents,
            vectors(body.keypoints[:17], body.offsets(np.zeros(body.betas))),
            np.stack([vectors(s, o) for s, o in zip(body.keypoint_shapes[:, :17], offset_shapes, strict=True)]),
        )

    def at(self, betas: F64) -> F64:
        """The vectors (p, 22, 3) of a body of this shape."""
        return np.asarray(self.vectors + np.tensordot(betas, self.shapes, 1))


class Pose(NamedTuple):
    """A body in the camera frame: world rotations (22, 3, 3), the pelvis' place (3,) in metres, shape (b,)."""

    world: F64
    translation: F64
    betas: F64


class Seen(NamedTuple):
    """Keypoints: rays (17, 2), weights (17,) one over their variances, 0 where unseen; robust: the squared residual, times its weight,
    at which a keypoint counts a quarter (Geman and McClure)."""

    rays: F64
    weights: F64
    robust: float


class Prior(NamedTuple):
    """What is known of a pose without the keypoints of now; all weights are one over variances.

    said (22, 3, 3) and its weights (22,): the initialiser's world rotations. expected and its weights: the same from the last frames.
    translation (3,), translation_weights (3,): where the pelvis should be. limit_weight: of radians beyond the joints' limits.
    anchors (2, 3), anchor_weights (2,): where left and right ankle stand; 0: they do not. shape_weight: how firmly betas stay as they
    are; infinite: they are not fitted.
    """

    said: F64
    said_weights: F64
    expected: F64
    expected_weights: F64
    translation: F64
    translation_weights: F64
    limit_weight: float
    anchors: F64 = np.zeros((2, 3))
    anchor_weights: F64 = np.zeros(2)
    shape_weight: float = math.inf


class _Equations(NamedTuple):
    """Gauss and Newton's equations: the lower triangle of the Hessian (u, u) and the gradient (u,) of the u unknowns, which are
    three numbers a bone of `ACTIVE`, the translation, and the betas that are fitted."""

    hessian: F64
    gradient: F64


class _Point(NamedTuple):
    """Room for where a point is (3,), and how it moves: derivatives (3, u) by the unknowns (u,) on which it depends, first those."""

    place: F64
    derivatives: F64
    unknowns: I64


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
def fit(points: Points, pose: Pose, seen: Seen, prior: Prior, steps: int) -> None:
    """Improve the pose in place, by so many steps."""
    shape_count = 0 if math.isinf(prior.shape_weight) else len(pose.betas)
    size = 3 * len(ACTIVE) + 3 + shape_count
    equations = _Equations(np.empty((size, size)), np.empty(size))
    point = _Point(np.empty(3), np.empty((3, size)), np.empty(size, np.int64))
    mover, local = _movers(points.parents), _local_rotations(points.parents, pose.world)
    shaped = Points(points.parents, points.vectors.copy(), points.shapes[:shape_count])
    betas = pose.betas.copy()
    for _ in range(steps):
        if shape_count:
            _shape(points, pose.betas, shaped.vectors)
        equations.hessian[:] = 0
        equations.gradient[:] = 0
        for k in range(17):
            if seen.weights[k] > 0:
                count = _differentiate(shaped, k, pose, mover, point)
                _weigh_keypoint(equations, point, count, seen.rays[k], seen.weights[k], seen.robust)
        for foot in range(2):
            if prior.anchor_weights[foot] > 0:
                count = _differentiate(shaped, 15 + foot, pose, mover, point)
                _weigh_anchor(equations, point, count, prior.anchors[foot], prior.anchor_weights[foot])
        _weigh_rotations(equations, pose.world, prior.said, prior.said_weights)
        _weigh_rotations(equations, pose.world, prior.expected, prior.expected_weights)
        _weigh_limits(equations, pose.world, points.parents, mover, prior.limit_weight)
        first = 3 * len(ACTIVE)
        for a in range(3):
            off = pose.translation[a] - prior.translation[a]
            _weigh(equations, first + a, prior.translation_weights[a], off)
        for b in range(shape_count):
            _weigh(equations, first + 3 + b, prior.shape_weight, pose.betas[b] - betas[b])
        for e in range(size):
            equations.hessian[e, e] += 1e-6
        _solve(equations.hessian, equations.gradient)
        _step(pose, points.parents, mover, local, equations.gradient)


@compiled
def limit(parents: I64, world: F64) -> None:
    """Turn bones of world rotations (22, 3, 3), in place, so that no joint is bent beyond `LIMITS`.

    In the fit the limits are weighed against the keypoints, here they hold. A bone below one that turns keeps its own direction,
    as far as its own limits let it; those that are not in `ACTIVE` go along.
    """
    mover, local = _movers(parents), _local_rotations(parents, world)
    between, w, other = np.empty((3, 3)), np.empty(3), np.empty(3)
    for j in range(1, 22):
        p = parents[j]
        if ACTIVE[mover[j]] != j:
            _product(world[p], local[j], world[j])
            continue
        _relative(world[p], world[j], between)
        log_into(between, w)
        over = _clip(j, w, other)
        length = math.sqrt(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
        if over > 0 and length > 0.5 * math.pi:
            # The same rotation the other way round, of more than half a turn, may be nearer to what the joint can do.
            w *= 1 - 2 * math.pi / length
            if _clip(j, w, other) > over or other[0] ** 2 + other[1] ** 2 + other[2] ** 2 > math.pi**2:
                log_into(between, w)
                _clip(j, w, other)
        if over > 0:
            exp_into(other, between)
            _product(world[p], between, world[j])


@compiled
def _clip(joint: int, w: F64, out: F64) -> float:
    """Write the axis-angle vector w (3,) of a joint, kept in its limits; return by how much, rad, w is beyond them."""
    out[:] = w
    over = 0.0
    for row in range(len(LIMITED)):
        if LIMITED[row, 0] == joint:
            axis = LIMITED[row, 1]
            out[axis] = min(max(w[axis], LIMITS[row, 0]), LIMITS[row, 1])
            over = max(over, abs(out[axis] - w[axis]))
    return over


@compiled
def cost(vectors: F64, pose: Pose, seen: Seen, prior: Prior) -> float:
    """How badly a body of shape `vectors` (p, 22, 3) in this pose agrees with the keypoints and with what the initialiser says: the sum
    of squares that `fit` makes small, without that which comes from the last frames."""
    total, places = 0.0, np.empty((17, 3))
    off, w = np.empty((3, 3)), np.empty(3)
    place(vectors, pose.world, pose.translation, places)
    for k in range(17):
        if seen.weights[k] > 0:
            z = max(places[k, 2], 0.1)
            u, v = places[k, 0] / z - seen.rays[k, 0], places[k, 1] / z - seen.rays[k, 1]
            square = seen.weights[k] * (u * u + v * v)
            total += square / (1 + square / seen.robust)
    for j in ACTIVE:
        _product(pose.world[j], prior.said[j].T, off)
        log_into(off, w)
        total += prior.said_weights[j] * (w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    return total


@compiled
def _movers(parents: I64) -> I64:
    """Which of `ACTIVE` turns each joint (22,): itself or the next one above."""
    mover = np.full(22, -1)
    for i in range(len(ACTIVE)):
        mover[ACTIVE[i]] = i
    for j in range(22):
        if mover[j] < 0:
            mover[j] = mover[parents[j]]
    return mover


@compiled
def _local_rotations(parents: I64, world: F64) -> F64:
    """The rotations (22, 3, 3) relative to the parents'; of the pelvis nothing."""
    local = np.empty((22, 3, 3))
    for j in range(22):
        if parents[j] >= 0:
            _relative(world[parents[j]], world[j], local[j])
    return local


@compiled
def _relative(above: F64, below: F64, out: F64) -> None:
    """Write above^T below (3, 3)."""
    for a in range(3):
        for b in range(3):
            out[a, b] = above[0, a] * below[0, b] + above[1, a] * below[1, b] + above[2, a] * below[2, b]


@compiled
def _product(first: F64, second: F64, out: F64) -> None:
    """Write first second (3, 3)."""
    for a in range(3):
        for b in range(3):
            out[a, b] = first[a, 0] * second[0, b] + first[a, 1] * second[1, b] + first[a, 2] * second[2, b]


@compiled
def _shape(points: Points, betas: F64, out: F64) -> None:
    """Write the vectors (p, 22, 3) of a body of this shape."""
    for p in range(len(out)):
        for j in range(22):
            for a in range(3):
                s = points.vectors[p, j, a]
                for b in range(len(betas)):
                    s += betas[b] * points.shapes[b, p, j, a]
                out[p, j, a] = s


@compiled
def _differentiate(points: Points, k: int, pose: Pose, mover: I64, out: _Point) -> int:
    """Write where point k of the posed body is, and its derivatives by the bones that carry it, by the translation and by the betas
    of `points.shapes`; return how many unknowns those are."""
    count = len(ACTIVE)
    world, row = pose.world, out.derivatives
    touched = np.zeros(count, np.bool_)
    lever = np.zeros((count, 3))
    for a in range(3):
        out.place[a] = pose.translation[a]
    for j in range(22):
        x, y, z = points.vectors[k, j, 0], points.vectors[k, j, 1], points.vectors[k, j, 2]
        if x != 0 or y != 0 or z != 0:
            i = mover[j]
            touched[i] = True
            for a in range(3):
                s = world[j, a, 0] * x + world[j, a, 1] * y + world[j, a, 2] * z
                lever[i, a] += s
                out.place[a] += s
    e = 0
    for i in range(count):
        if touched[i]:
            x, y, z = lever[i, 0], lever[i, 1], lever[i, 2]
            row[0, e], row[0, e + 1], row[0, e + 2] = 0.0, z, -y
            row[1, e], row[1, e + 1], row[1, e + 2] = -z, 0.0, x
            row[2, e], row[2, e + 1], row[2, e + 2] = y, -x, 0.0
            for a in range(3):
                out.unknowns[e + a] = 3 * i + a
            e += 3
    for a in range(3):
        for b in range(3):
            row[b, e + a] = 1.0 if a == b else 0.0
        out.unknowns[e + a] = 3 * count + a
    e += 3
    for b in range(len(points.shapes)):
        for a in range(3):
            row[a, e] = 0.0
        for j in range(22):
            x, y, z = points.shapes[b, k, j, 0], points.shapes[b, k, j, 1], points.shapes[b, k, j, 2]
            if x != 0 or y != 0 or z != 0:
                for a in range(3):
                    row[a, e] += world[j, a, 0] * x + world[j, a, 1] * y + world[j, a, 2] * z
        out.unknowns[e] = 3 * count + 3 + b
        e += 1
    return e


@compiled
def _weigh_keypoint(equations: _Equations, point: _Point, count: int, ray: F64, weight: float, robust: float) -> None:
    """Add a keypoint that is seen along `ray` (2,)."""
    z = max(point.place[2], 0.1)
    u, v = point.place[0] / z, point.place[1] / z
    off_u, off_v = u - ray[0], v - ray[1]
    doubt = 1 + weight * (off_u * off_u + off_v * off_v) / robust
    weight /= doubt * doubt
    row, index = point.derivatives, point.unknowns
    for e in range(count):  # those of u and v take the place of those of x and y
        row[0, e] = (row[0, e] - u * row[2, e]) / z
        row[1, e] = (row[1, e] - v * row[2, e]) / z
    for e in range(count):
        x, y = weight * row[0, e], weight * row[1, e]
        equations.gradient[index[e]] += x * off_u + y * off_v
        for g in range(e + 1):
            equations.hessian[index[e], index[g]] += x * row[0, g] + y * row[1, g]


@compiled
def _weigh_anchor(equations: _Equations, point: _Point, count: int, anchor: F64, weight: float) -> None:
    """Add an ankle that stands: a point seen in three dimensions."""
    row, index = point.derivatives, point.unknowns
    for a in range(3):
        off = point.place[a] - anchor[a]
        for e in range(count):
            equations.gradient[index[e]] += weight * row[a, e] * off
            for g in range(e + 1):
                equations.hessian[index[e], index[g]] += weight * row[a, e] * row[a, g]


@compiled
def _weigh_rotations(equations: _Equations, world: F64, wanted: F64, weights: F64) -> None:
    """Add the turns of the bones against the world rotations that are wanted (22, 3, 3)."""
    off, w = np.empty((3, 3)), np.empty(3)
    for i in range(len(ACTIVE)):
        j = ACTIVE[i]
        if weights[j] <= 0:
            continue
        for a in range(3):
            for b in range(3):
                off[a, b] = world[j, a, 0] * wanted[j, b, 0] + world[j, a, 1] * wanted[j, b, 1] + world[j, a, 2] * wanted[j, b, 2]
        log_into(off, w)
        for a in range(3):
            _weigh(equations, 3 * i + a, weights[j], w[a])


@compiled
def _weigh(equations: _Equations, unknown: int, weight: float, off: float) -> None:
    """Add one unknown's own distance from where it should be."""
    equations.gradient[unknown] += weight * off
    equations.hessian[unknown, unknown] += weight


@compiled
def _weigh_limits(equations: _Equations, world: F64, parents: I64, mover: I64, weight: float) -> None:
    """Add the joints that are bent beyond their limits."""
    local, w = np.empty((3, 3)), np.empty(3)
    last = -1
    for limit in range(len(LIMITED)):
        j, axis = LIMITED[limit, 0], LIMITED[limit, 1]
        p = parents[j]
        if j != last:
            _relative(world[p], world[j], local)
            log_into(local, w)
            last = j
        over = min(w[axis] - LIMITS[limit, 0], 0.0) + max(w[axis] - LIMITS[limit, 1], 0.0)
        if over == 0:
            continue
        # The local angle turns with the difference of the two bones' turns, seen along the parent's axis.
        i, h = 3 * mover[j], 3 * mover[p]
        for a in range(3):
            x = world[p, a, axis]
            equations.gradient[i + a] += weight * over * x
            equations.gradient[h + a] -= weight * over * x
            for b in range(3):
                q = weight * x * world[p, b, axis]
                if b <= a:
                    equations.hessian[i + a, i + b] += q
                    equations.hessian[h + a, h + b] += q
                equations.hessian[max(i, h) + a, min(i, h) + b] -= q


@compiled
def _step(pose: Pose, parents: I64, mover: I64, local: F64, way: F64) -> None:
    """Move the pose against `way` (u,): no bone turns by more than .8 rad; bones that are not fitted go along with the one above."""
    world = pose.world
    w, turn, turned = np.empty(3), np.empty((3, 3)), np.empty((3, 3))
    for j in range(22):
        i = mover[j]
        if ACTIVE[i] != j:
            _product(world[parents[j]], local[j], world[j])
            continue
        length = 0.0
        for a in range(3):
            w[a] = -way[3 * i + a]
            length += w[a] * w[a]
        if length > 0.64:
            for a in range(3):
                w[a] *= 0.8 / math.sqrt(length)
        exp_into(w, turn)
        _product(turn, world[j], turned)
        world[j] = turned
    first = 3 * len(ACTIVE)
    for a in range(3):
        pose.translation[a] -= way[first + a]
    pose.translation[2] = max(pose.translation[2], 0.3)
    for e in range(first + 3, len(way)):
        b = e - first - 3
        pose.betas[b] = min(max(pose.betas[b] - way[e], -4.0), 4.0)


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
