"""HMR as the lifter, with a network that says what the test wants."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rtpose.body.camera import Camera
from rtpose.body.model import BUNDLED, BodyModel
from rtpose.body.rotations import to_matrix, to_six
from rtpose.errors import InputError
from rtpose.stages.hmr import CROP, HmrLifter, smpl_body, translation
from rtpose.types import F32, F64, Bodies, Frame, People, Result

from ..body.smpl_files import human_arrays, smpl_arrays

CAMERA = Camera(900, 900, 310.0, 250.0)
FPS = 30.0


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    path = tmp_path_factory.mktemp("smpl") / "human.pkl"
    path.write_bytes(pickle.dumps(human_arrays(), protocol=4))
    return smpl_body(path)


class Said:
    """A session that says `six`, `betas` and `camera` (one row, for everybody) and counts the crops that it was shown."""

    inputs = {"image": ((None, 224, 224, 3), np.dtype(np.uint8))}  # noqa: RUF012

    def __init__(self, rotations: Any, betas: Any = None, camera: Any = (0.9, 0.1, -0.05)) -> None:
        self.rotations, self.betas, self.camera = rotations, np.zeros(10) if betas is None else betas, camera
        self.shown: list[NDArray[np.uint8]] = []

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        n = len(feeds["image"])
        self.shown.append(feeds["image"])
        six = np.zeros((24, 6))
        six[:22], six[22:] = to_six(to_matrix(self.rotations)), to_six(np.eye(3))
        return {
            name: np.tile(np.float32(row), (n, *[1] * np.ndim(row)))
            for name, row in (("six", six), ("betas", self.betas), ("camera", self.camera))
        }


def pose(i: int) -> F64:
    """Somebody who waves and walks on the spot, facing the camera."""
    phase = 2 * np.pi * i / FPS
    rotations = np.zeros((22, 3))
    rotations[0] = (Rotation.from_euler("y", 0.3) * Rotation.from_matrix(np.diag([1.0, -1, -1]))).as_rotvec()
    rotations[[16, 17], 2] = -1.0, 1.0
    rotations[18, 1] = -0.5 - 0.4 * np.sin(phase)
    rotations[1, 0], rotations[2, 0] = 0.3 * np.sin(phase), -0.3 * np.sin(phase)
    rotations[4, 0], rotations[5, 0] = 0.4 + 0.3 * np.sin(phase), 0.4 - 0.3 * np.sin(phase)
    return rotations


def result(i: int, keypoints: dict[int, F32], **options: Any) -> Result:
    n = len(keypoints)
    points = np.stack(list(keypoints.values())) if n else np.zeros((0, 17, 3), np.float32)
    boxes = np.concatenate([points[..., :2].min(1), points[..., :2].max(1)], 1) if n else np.zeros((0, 4), np.float32)
    people = People(np.array(list(keypoints), np.int64), boxes, np.ones(n), points, np.zeros((n, 17)), points)
    return Result(Frame(i, i / FPS, np.full((480, 640, 3), 90, np.uint8), 0, **options), people=people)


def seen(body: BodyModel, rotations: F64, at: Any) -> F32:
    pixels = CAMERA.project(body.keypoints3d(rotations, np.zeros(10), at)[:17])
    return np.float32(np.concatenate([pixels, np.full((17, 1), 0.9)], -1))


def lifter(body: BodyModel, session: Any, every: int = 1) -> HmrLifter:
    return HmrLifter(body, session, lambda width, height: CAMERA, every)


def bodies_of(found: Result) -> Bodies:
    assert found.bodies is not None
    return found.bodies


def test_what_hmr_says_is_what_is_reported(body: BodyModel) -> None:
    random = np.random.default_rng(0)
    rotations, betas = random.normal(0, 0.4, (22, 3)), random.normal(0, 0.5, 10)
    keypoints = seen(body, pose(0), [0.1, 0.2, 4.0])
    session = Said(rotations, betas)
    found = bodies_of(lifter(body, session)(result(0, {7: keypoints, 9: keypoints})))
    assert session.shown[0].shape == (2, 224, 224, 3)
    np.testing.assert_allclose(found.rotations[0], rotations, atol=1e-5)
    np.testing.assert_allclose(found.betas[1], betas, atol=1e-6)
    arguments = found.rotations[0], found.betas[0], found.translation[0]
    np.testing.assert_allclose(found.joints3d[0, :17], body.keypoints3d(*arguments)[:17], atol=1e-5)
    np.testing.assert_allclose(found.joints3d[0, 17:], body.pose(*arguments)[1], atol=1e-5)
    assert (found.uncertainty > 0).all()


def test_the_weak_camera_and_the_real_one_show_the_body_at_the_same_place() -> None:
    """In the crop, a point (x, y) near SMPL's origin falls on scale * (x + tx) of its half width: so must it in the picture."""
    square, weak = np.float32([420, 130, 260]), np.array([0.8, 0.15, -0.3])
    at = translation(weak, square, CAMERA)
    for x, y in ((0.0, 0.0), (0.02, -0.01)):
        in_crop = square[:2] + square[2] / 2 * weak[0] * (np.array([x, y]) + weak[1:])
        np.testing.assert_allclose(CAMERA.project(at + np.array([x, y, 0.0])), in_crop, atol=1e-3)
    assert at[2] == pytest.approx(2 * 900 / (0.8 * 260))


def test_the_crop_is_a_square_around_the_person(body: BodyModel) -> None:
    session = Said(pose(0))
    frame = result(0, {1: seen(body, pose(0), [0.0, 0.2, 4.0])})
    image = frame.frame.image.copy()
    x0, y0, x1, y1 = frame.people.boxes[0]
    side = CROP * max(x1 - x0, y1 - y0)
    inside = (np.arange(640) > (x0 + x1 - side) / 2) & (np.arange(640) < (x0 + x1 + side) / 2)
    image[:, inside] = 200
    lifter(body, session)(Result(Frame(0, 0.0, image, 0), people=frame.people))
    assert (session.shown[0][0, 100:120, 2:-2] == 200).all()


@pytest.mark.parametrize("camera", [(-0.5, 0, 0), (0, 0, 0), (np.nan, 0, 0), (0.9, np.inf, 0)])
def test_a_body_that_cannot_be_is_a_row_of_nan(body: BodyModel, camera: Any) -> None:
    for every in (1, 3):
        stage = lifter(body, Said(pose(0), camera=camera), every)
        for i in range(4):
            found = bodies_of(stage(result(i, {1: seen(body, pose(0), [0.0, 0.2, 4.0])})))
            assert np.isnan(found.joints3d).all()
            assert np.isnan(found.translation).all()
    assert len(bodies_of(stage(result(9, {})))) == 0


def test_hmr_looks_at_every_third_frame_and_at_newcomers_at_once(body: BodyModel) -> None:
    session = Said(pose(0))
    stage = lifter(body, session, 3)
    one, two = seen(body, pose(0), [-0.4, 0.2, 4.0]), seen(body, pose(0), [0.5, 0.2, 4.5])
    for i in range(6):
        stage(result(i, {1: one} | ({2: two} if i >= 2 else {})))
    assert [len(crops) for crops in session.shown] == [1, 0, 1, 1, 0, 1]
    stage(result(6, {1: one, 2: two}, independent=True))
    assert len(session.shown[-1]) == 2


def test_between_looks_the_body_follows_the_keypoints(body: BodyModel) -> None:
    """HMR errs by .15 rad a joint and looks five times a second: the fitted bodies are nearer to the truth than what it says."""
    random = np.random.default_rng(1)
    session = Said(pose(0))
    stage = lifter(body, session, 6)
    errors, alone = [], []
    for i in range(60):
        at = np.array([0.2 * np.sin(i / 20), 0.2, 4.0])
        keypoints = seen(body, pose(i), at)
        noise = random.normal(0, 0.15, (22, 3))
        noise[0] = 0.05 * noise[0]
        session.rotations = (Rotation.from_rotvec(pose(i)) * Rotation.from_rotvec(noise)).as_rotvec()
        found = bodies_of(stage(result(i, {1: keypoints})))
        truth = body.pose(pose(i), np.zeros(10), at)[1]
        said = body.pose(session.rotations, np.zeros(10), at)[1]
        errors.append(np.linalg.norm(found.joints3d[0, 17:] - found.joints3d[0, 17] - (truth - truth[0]), axis=-1).mean())
        alone.append(np.linalg.norm(said - said[0] - (truth - truth[0]), axis=-1).mean())
        projected = CAMERA.project(found.joints3d[0, 5:17])
        assert np.linalg.norm(projected - keypoints[5:, :2], axis=-1).mean() < 12
    assert np.mean(errors) < 0.9 * np.mean(alone)


def test_who_is_hidden_for_a_moment_stays_as_he_was(body: BodyModel) -> None:
    stage = lifter(body, Said(pose(0)), 10)
    keypoints = seen(body, pose(0), [0.0, 0.2, 4.0])
    before = bodies_of(stage(result(0, {1: keypoints}))).joints3d
    keypoints[4:, 2] = 0
    np.testing.assert_array_equal(bodies_of(stage(result(1, {1: keypoints}))).joints3d, before)


def test_a_wrong_body_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rtpose's own body: HMR says SMPL's"):
        smpl_body(BUNDLED)
    arrays = smpl_arrays(betas=6)
    path = tmp_path / "six.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    with pytest.raises(InputError, match="has 6 betas, HMR says 10"):
        smpl_body(path)
