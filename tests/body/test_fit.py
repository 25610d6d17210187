"""The fitter on bodies whose truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from rtpose.body.fit import LIMITED, LIMITS, Points, Pose, Prior, Seen, fit, limit, place, translate
from rtpose.body.model import JOINT_NAMES, BodyModel, load_body
from rtpose.body.rotations import to_axis_angle, to_matrix
from rtpose.types import F64

CAMERA_TO_BODY = np.array([np.pi, 0, 0])


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


def posed(body: BodyModel, seed: int) -> tuple[F64, F64, F64, F64]:
    """A standing body with bent limbs: rotations (22, 3), world rotations, betas, translation."""
    random = np.random.default_rng(seed)
    rotations = random.normal(0, 0.1, (22, 3))
    rotations[0] = to_axis_angle(to_matrix(CAMERA_TO_BODY) @ to_matrix([0, random.uniform(-1, 1), 0]))
    rotations[[4, 5], 0] = random.uniform(0.2, 1, 2)
    rotations[18, 1], rotations[19, 1] = -0.9, 0.7
    rotations[[7, 8, 10, 11, 20, 21]] = 0
    betas, translation = random.normal(0, 0.5, body.betas), np.array([0.2, -0.1, 3.5])
    return rotations, body.pose(rotations, betas, translation)[0], betas, translation


def solve(
    body: BodyModel, world: F64, translation: F64, rays: F64, *, robust: float = 1e6, steps: int = 10, **known: Any
) -> Pose:
    """Fit from `world` and `translation` with little else `known`; returns what came out."""
    pose = Pose(world.copy(), translation.copy(), np.zeros(body.betas))
    prior = Prior(
        said=world.copy(),
        said_weights=np.full(22, 1 / 0.5**2),
        expected=world.copy(),
        expected_weights=np.zeros(22),
        translation=translation.copy(),
        translation_weights=np.full(3, 1e-4),
        limit_weight=100.0,
    )
    fit(Points.of(body), pose, Seen(rays, np.full(17, 1 / 0.003**2), robust), prior._replace(**known), steps)
    return pose


def project(places: F64) -> F64:
    return places[:17, :2] / places[:17, 2:]


def test_points_are_the_body_s(body: BodyModel) -> None:
    points = Points.of(body)
    for seed in range(3):
        rotations, world, betas, translation = posed(body, seed)
        out = np.empty((39, 3))
        place(points.at(betas), world, translation, out)
        np.testing.assert_allclose(out[:17], body.keypoints3d(rotations, betas, translation)[:17], atol=2e-6)
        np.testing.assert_allclose(out[17:], body.pose(rotations, betas, translation)[1], atol=1e-9)


def test_translation_is_recovered_exactly_from_exact_rays(body: BodyModel) -> None:
    rotations, _, betas, translation = posed(body, 1)
    about_pelvis = body.keypoints3d(rotations, betas, np.zeros(3))[:17]
    out = np.empty(3)
    translate(about_pelvis, project(about_pelvis + translation), np.ones(17), out)
    np.testing.assert_allclose(out, translation, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_perturbed_pose_comes_back_to_its_keypoints(body: BodyModel, seed: int) -> None:
    _, truth, _, translation = posed(body, seed)
    random = np.random.default_rng(seed)
    start = to_matrix(random.normal(0, 0.15, (22, 3))) @ truth
    for joint in (7, 8, 10, 11, 20, 21):
        start[joint] = start[body.parents[joint]] @ truth[body.parents[joint]].T @ truth[joint]
    out = np.empty((39, 3))
    place(Points.of(body).vectors, truth, translation, out)
    world, there, _ = solve(body, start, translation + np.array([0.1, 0.05, 0.2]), project(out), said=truth)
    fitted = np.empty((39, 3))
    place(Points.of(body).vectors, world, there, fitted)
    assert np.abs(project(fitted) - project(out)).max() < 0.002
    assert np.linalg.norm(fitted - out, axis=1).mean() < 0.06
    np.testing.assert_allclose(world @ np.swapaxes(world, 1, 2), np.tile(np.eye(3), (22, 1, 1)), atol=1e-9)


def test_steps_go_downhill_as_finite_differences_do(body: BodyModel) -> None:
    """One undamped step on the keypoints alone halves the distance at least; a wrong derivative would not."""
    _, truth, betas, translation = posed(body, 7)
    out, before, after = (np.empty((39, 3)) for _ in range(3))
    points = Points.of(body)
    place(points.at(betas), truth, translation, out)
    start = to_matrix(np.random.default_rng(1).normal(0, 0.05, (22, 3))) @ truth
    place(points.vectors, start, translation, before)
    world, there, shape = solve(body, start, translation, project(out), steps=1, shape_weight=1.0)
    place(points.at(shape), world, there, after)
    assert np.abs(project(after) - project(out)).mean() < 0.3 * np.abs(project(before) - project(out)).mean()


def test_an_outlier_is_not_followed(body: BodyModel) -> None:
    _, truth, _, translation = posed(body, 2)
    out, fitted = np.empty((39, 3)), np.empty((39, 3))
    place(Points.of(body).vectors, truth, translation, out)
    rays = project(out)
    rays[9] += [0.3, 0.1]
    world, there, _ = solve(body, truth, translation, rays, robust=16.0)
    place(Points.of(body).vectors, world, there, fitted)
    assert np.linalg.norm(fitted - out, axis=1).max() < 0.03


def test_knees_do_not_bend_backwards(body: BodyModel) -> None:
    rotations, _, _, translation = posed(body, 3)
    rotations[4] = [-0.6, 0, 0]
    wrong = body.pose(rotations, np.zeros(10), translation)[0]
    out = np.empty((39, 3))
    place(Points.of(body).vectors, wrong, translation, out)
    weak = np.full(22, 1 / 3.0**2)
    free, _, _ = solve(body, wrong, translation, project(out), said_weights=weak, limit_weight=0.0)
    bound, _, _ = solve(body, wrong, translation, project(out), said_weights=weak, limit_weight=400.0)
    knee = JOINT_NAMES.index("left_knee")
    above = int(body.parents[knee])
    assert to_axis_angle(free[above].T @ free[knee])[0] < -0.4
    assert to_axis_angle(bound[above].T @ bound[knee])[0] > -0.2


def test_joints_are_kept_within_their_limits(body: BodyModel) -> None:
    knee, elbow, neck, foot = (JOINT_NAMES.index(name) for name in ("left_knee", "right_elbow", "neck", "left_foot"))
    rotations, _, _, translation = posed(body, 3)
    allowed = rotations.copy()
    for (joint, axis), (low, high) in zip(LIMITED.tolist(), LIMITS.tolist(), strict=True):
        allowed[joint, axis] = np.clip(allowed[joint, axis], low + 1e-6, high - 1e-6)
    world = body.pose(allowed, np.zeros(10), translation)[0]
    kept = world.copy()
    limit(body.parents, kept)
    assert np.abs(kept - world).max() < 1e-6
    bent = allowed.copy()
    bent[knee], bent[elbow], bent[neck] = [-1.0, 0, 0], [0.2, 1.0, 0.1], [2.0, -1.5, 0]
    world = body.pose(bent, np.zeros(10), translation)[0]
    limit(body.parents, world)
    found = to_axis_angle(body.local_rotations(world[None]))[0]
    angles = found[LIMITED[:, 0], LIMITED[:, 1]]
    assert (angles >= LIMITS[:, 0] - 1e-6).all()
    assert (angles <= LIMITS[:, 1] + 1e-6).all()
    np.testing.assert_allclose(found[foot], allowed[foot], atol=1e-6)
    # A knee bent by 200 degrees is one that is bent too far, not one that is bent backwards.
    bent = allowed.copy()
    bent[knee] = [math.radians(200), 0, 0]
    world = body.pose(bent, np.zeros(10), translation)[0]
    limit(body.parents, world)
    assert to_axis_angle(world[int(body.parents[knee])].T @ world[knee])[0] == pytest.approx(2.7, abs=1e-6)


def test_a_foot_that_stands_stays(body: BodyModel) -> None:
    _, truth, _, translation = posed(body, 4)
    out, fitted = np.empty((39, 3)), np.empty((39, 3))
    points = Points.of(body)
    place(points.vectors, truth, translation, out)
    start = translation + np.array([0, 0, 0.15])
    for weight, nearest in ((0.0, 0.05), (1 / 0.0005**2, 0.0)):
        world, there, _ = solve(
            body, truth, start, project(out), translation_weights=np.full(3, 1e5), steps=3,
            anchors=out[15:17].copy(), anchor_weights=np.array([weight, weight]),
        )  # fmt: skip
        place(points.vectors, world, there, fitted)
        moved = np.linalg.norm(fitted[15:17] - out[15:17], axis=1).max()
        assert moved > nearest if weight == 0 else moved < 0.02


def test_shape_moves_only_where_it_may(body: BodyModel) -> None:
    _, truth, betas, translation = posed(body, 5)
    out = np.empty((39, 3))
    place(Points.of(body).at(betas), truth, translation, out)
    assert not solve(body, truth, translation, project(out))[2].any()
    assert np.abs(solve(body, truth, translation, project(out), shape_weight=1.0)[2]).max() > 0.05
