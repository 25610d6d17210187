"""The lifter on people whose truth is known: a body that walks about, seen through a camera."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from rtpose.backends import Session, open_session
from rtpose.body.camera import Camera
from rtpose.body.model import BodyModel, load_body
from rtpose.body.rotations import to_axis_angle, to_matrix
from rtpose.errors import InputError
from rtpose.models import find
from rtpose.stages.lift import NAMES, SEEN, Lifter, Network, check_network
from rtpose.types import F32, F64, KEYPOINT_NAMES, Bodies, Frame, People, Result

WIDTH, HEIGHT, FPS = 1280, 720, 30.0
CAMERA = Camera(1000, 1000, 639.5, 359.5)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def network() -> Network:
    return open_session(find("lifter", "lifter").path, precision="f32", threads=1)


def walk(body: BodyModel, n: int, *, yaw: float = 0.4) -> F64:
    """Somebody who swings arms and legs on the spot while drifting sideways: points (n, 39, 3)."""
    points = np.empty((n, 39, 3))
    for i in range(n):
        phase = 2 * np.pi * i / FPS
        pose = np.zeros((22, 3))
        pose[0] = to_axis_angle(np.diag([1.0, -1, -1]) @ to_matrix([0, yaw, 0]))
        pose[[16, 17], 2] = -1.25, 1.25
        pose[1, 0], pose[2, 0] = 0.4 * np.sin(phase), -0.4 * np.sin(phase)
        pose[4, 0], pose[5, 0] = 0.3 + 0.3 * np.sin(phase), 0.3 - 0.3 * np.sin(phase)
        there = [0.3 * i / FPS, 0.0, 3.8]
        points[i, :17] = body.keypoints3d(pose, np.zeros(10), there)[:17]
        points[i, 17:] = body.pose(pose, np.zeros(10), there)[1]
    return points


def seen(points: F64, noise: float = 1.0) -> F32:
    pixels = CAMERA.project(points[:, :17])
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape)
    return np.float32(np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 0.9)], -1))


def frame(i: int, time: float, keypoints: dict[int, F32], *, independent: bool = False) -> Result:
    n = len(keypoints)
    stacked = np.stack(list(keypoints.values())) if n else np.zeros((0, 17, 3), np.float32)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    people = People(
        np.array(list(keypoints), np.int64),
        np.zeros((n, 4), np.float32),
        np.ones(n, np.float32),
        stacked,
        np.zeros((n, 17), np.uint8),
        stacked.copy(),
    )
    return Result(Frame(i, time, image, 0, independent=independent), people=people)


def lifter(body: BodyModel, network: Network) -> Lifter:
    return Lifter(body, network, lambda width, height: CAMERA)


def bodies_of(result: Result) -> Bodies:
    assert result.bodies is not None
    return result.bodies


def about_hips(points: F64) -> F64:
    return points - 0.5 * (points[:, 11:12] + points[:, 12:13])


def test_a_walker_is_right_from_the_first_frame_on(body: BodyModel, network: Network) -> None:
    truth = walk(body, 60)
    keypoints = seen(truth)
    lift = lifter(body, network)
    got = [bodies_of(lift(frame(i, i / FPS, {3: keypoints[i]}))) for i in range(60)]
    places = np.array([b.joints3d[0] for b in got], np.float64)
    errors = np.linalg.norm(about_hips(places) - about_hips(truth), axis=-1).mean(1)
    assert errors[0] < 0.12
    assert errors.mean() < 0.07
    assert np.linalg.norm(CAMERA.project(places[:, :17]) - CAMERA.project(truth[:, :17]), axis=-1).mean() < 8
    assert (np.array([b.uncertainty for b in got]) > 0).all()


def test_what_is_reported_rebuilds_the_joints_and_the_mesh(body: BodyModel, network: Network) -> None:
    lift = lifter(body, network)
    for i, keypoints in enumerate(seen(walk(body, 5))):
        bodies = bodies_of(lift(frame(i, i / FPS, {1: keypoints})))
    assert bodies.joint_names == NAMES
    assert set(KEYPOINT_NAMES) < set(NAMES)
    arguments = bodies.rotations[0], bodies.betas[0], bodies.translation[0]
    np.testing.assert_allclose(body.keypoints3d(*arguments)[:17], bodies.joints3d[0, :17], atol=1e-4)
    np.testing.assert_allclose(body.pose(*arguments)[1], bodies.joints3d[0, 17:], atol=1e-4)
    assert np.linalg.norm(body.vertices(*arguments) - bodies.joints3d[0, 17], axis=1).max() < 1.3


def test_bones_keep_their_lengths_once_shape_has_settled(body: BodyModel, network: Network) -> None:
    lift = lifter(body, network)
    keypoints = seen(walk(body, 80))
    joints = np.array([bodies_of(lift(frame(i, i / FPS, {1: k}))).joints3d[0, 17:] for i, k in enumerate(keypoints)])
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, body.parents[1:]], axis=-1)
    assert lengths[-20:].std(0).max() < 1e-5


def test_a_shape_outlives_a_gap(body: BodyModel, network: Network) -> None:
    lift = lifter(body, network)
    keypoints = seen(walk(body, 100))
    times = np.arange(100) / FPS
    times[60:] += 3.0  # out of sight for three seconds
    joints = np.array([bodies_of(lift(frame(i, times[i], {1: keypoints[i]}))).joints3d[0, 17:] for i in range(100)])
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, body.parents[1:]], axis=-1)
    assert lengths[50:].std(0).max() < 1e-5


def test_a_network_of_another_form_is_refused(network: Network) -> None:
    session = cast(Session, network)
    check_network(session, Path("lifter.onnx"))
    other = SimpleNamespace(inputs={"keypoints": ((None, 77), np.dtype("f4"))}, outputs=session.outputs)
    with pytest.raises(InputError, match=r"other\.onnx is no lifter of this rtpose: it has keypoints \(None, 77\), wanted"):
        check_network(cast(Session, other), Path("other.onnx"))
    other = SimpleNamespace(inputs={}, outputs={})
    with pytest.raises(InputError, match="it has no keypoints"):
        check_network(cast(Session, other), Path("other.onnx"))


def test_same_input_same_bytes_and_people_do_not_mix(body: BodyModel, network: Network) -> None:
    one, two = seen(walk(body, 12)), seen(walk(body, 12, yaw=2.5))
    alone, both, again = lifter(body, network), lifter(body, network), lifter(body, network)
    for i in range(12):
        a = bodies_of(alone(frame(i, i / FPS, {1: one[i]})))
        b = bodies_of(both(frame(i, i / FPS, {2: two[i], 1: one[i]})))
        c = bodies_of(again(frame(i, i / FPS, {2: two[i], 1: one[i]})))
        np.testing.assert_array_equal(b.joints3d, c.joints3d)
        np.testing.assert_allclose(a.joints3d[0], b.joints3d[1], atol=1e-4)


def test_too_little_seen_gives_a_row_of_nan(body: BodyModel, network: Network) -> None:
    keypoints = seen(walk(body, 1))[0]
    little = keypoints.copy()
    little[3:, 2] = 0.01
    bodies = bodies_of(lifter(body, network)(frame(0, 0.0, {1: little, 2: keypoints})))
    assert np.isnan(bodies.joints3d[0]).all()
    assert np.isnan(bodies.rotations[0]).all()
    assert np.isfinite(bodies.joints3d[1]).all()
    nobody = bodies_of(lifter(body, network)(frame(0, 0.0, {})))
    assert len(nobody) == 0


def test_gaps_and_independent_pictures_begin_anew(body: BodyModel, network: Network) -> None:
    keypoints, other = seen(walk(body, 20)), seen(walk(body, 1, yaw=3.0))[0]
    fresh = bodies_of(lifter(body, network)(frame(0, 0.0, {1: other}))).joints3d
    for time, independent in ((20 / FPS + Lifter.MEMORY + 1, False), (20 / FPS, True)):
        lift = lifter(body, network)
        for i in range(20):
            lift(frame(i, i / FPS, {1: keypoints[i]}))
        np.testing.assert_array_equal(bodies_of(lift(frame(20, time, {1: other}, independent=independent))).joints3d, fresh)


def test_frame_rate_hardly_matters(body: BodyModel, network: Network) -> None:
    truth = walk(body, 61)
    keypoints = seen(truth)
    errors = []
    for every in (1, 2, 6):
        lift = lifter(body, network)
        places = np.array([bodies_of(lift(frame(i, i / FPS, {1: keypoints[i]}))).joints3d[0] for i in range(0, 61, every)])
        errors.append(np.linalg.norm(about_hips(places.astype(float)) - about_hips(truth[::every]), axis=-1).mean())
    assert max(errors) < 0.08


def test_wild_keypoints_do_no_harm(body: BodyModel, network: Network) -> None:
    random = np.random.default_rng(0)
    lift = lifter(body, network)
    for i in range(40):
        keypoints = np.float32(np.concatenate([random.uniform(-500, 2000, (17, 2)), random.random((17, 1))], 1))
        if i % 7 == 0:
            keypoints[:, :2] = 100.0
        bodies = bodies_of(lift(frame(i, i / FPS, {1: keypoints})))
        assert np.isfinite(bodies.joints3d).all() or (keypoints[:, 2] >= SEEN).sum() < Lifter.ENOUGH


def test_a_lifter_that_saves_gives_fewer_bodies_and_no_fewer_rows(body: BodyModel, network: Network) -> None:
    stage, poses = lifter(body, network), seen(walk(body, 6))
    for every, wanted in ((1, 6), (3, 2), (0, 0)):
        stage.every = every
        found = [bodies_of(stage(frame(i, i / 30, {1: poses[i]}))) for i in range(6)]
        assert [len(bodies) for bodies in found] == [1] * 6
        assert sum(bool(np.isfinite(bodies.translation).all()) for bodies in found) == wanted
