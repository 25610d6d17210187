"""The bundled body: parity with the package it was baked from, its conventions, and refused files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from rtpose.body.model import BUNDLED, JOINT_NAMES, BodyModel, load_body
from rtpose.body.rotations import to_axis_angle, to_matrix
from rtpose.errors import InputError
from rtpose.types import KEYPOINT_NAMES

GOLDEN = Path(__file__).parents[1] / "data" / "body_golden.npz"


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


def test_vertices_are_anny_s(body: BodyModel) -> None:
    with np.load(GOLDEN) as golden:
        for pose, betas, wanted in zip(golden["poses"], golden["betas"], golden["vertices"], strict=True):
            got = body.vertices(pose, betas, np.zeros(3))[::37]
            assert np.linalg.norm(got - wanted, axis=1).mean() < 1e-4


def test_the_light_mesh_follows_the_full_one(body: BodyModel) -> None:
    random = np.random.default_rng(3)
    pose, betas = random.normal(0, 0.3, (22, 3)), random.normal(size=10)
    full, light = (body.vertices(pose, betas, [0.1, 0.2, 3.0], mesh) for mesh in ("full", "light"))
    nearest = np.linalg.norm(light[:, None] - full[None], axis=-1).min(1)
    assert nearest.mean() < 0.008
    for mesh in body.meshes.values():
        assert mesh.faces.max() < len(mesh.vertices)
        a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
        assert (np.einsum("ij,ij->i", np.cross(a, b), c)).sum() / 6 > 0.03, "faces look outward: the volume is positive"


def test_conventions(body: BodyModel) -> None:
    assert body.joint_names == JOINT_NAMES
    assert body.keypoint_names[:17] == KEYPOINT_NAMES
    _, joints = body.pose(np.zeros((22, 3)), np.zeros(10), np.zeros(3))
    at = dict(zip(JOINT_NAMES, joints, strict=True))
    assert at["pelvis"] == pytest.approx([0, 0, 0])
    assert at["left_shoulder"][0] > 0.1 > -0.1 > at["right_shoulder"][0]
    assert at["left_wrist"][1:] == pytest.approx(at["left_shoulder"][1:], abs=1e-4), "a T-pose"
    assert at["left_ankle"][[0, 2]] == pytest.approx(at["left_hip"][[0, 2]], abs=1e-4)
    keypoints = dict(zip(body.keypoint_names, body.keypoints3d(np.zeros((22, 3)), np.zeros(10), np.zeros(3)), strict=True))
    assert keypoints["nose"][2] > 0.1, "faces z"
    assert keypoints["left_big_toe"][2] > 0.1
    for name in ("knee", "ankle", "elbow", "wrist"):
        assert np.linalg.norm(keypoints[f"left_{name}"] - at[f"left_{name}"]) < 0.04


def test_moving_the_whole_moves_all(body: BodyModel) -> None:
    random = np.random.default_rng(5)
    pose, betas, there = random.normal(0, 0.4, (22, 3)), random.normal(size=10), np.array([0.3, -0.2, 4])
    turn = to_matrix([0.5, -1, 0.2])
    turned = pose.copy()
    turned[0] = to_axis_angle(turn @ to_matrix(pose[0]))
    for what in (body.keypoints3d, body.vertices):
        np.testing.assert_allclose(what(turned, betas, there), what(pose, betas, np.zeros(3)) @ turn.T + there, atol=2e-6)


def test_the_card_tells_the_truth() -> None:
    card = json.loads(BUNDLED.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(BUNDLED.read_bytes()).hexdigest()
    assert card["size"] == BUNDLED.stat().st_size < 2_000_000


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with np.load(BUNDLED) as archive:
        arrays = {name: archive[name] for name in archive.files}
    other = tmp_path / "other.npz"
    np.savez(other, **{**arrays, "version": np.int64(7)})
    with pytest.raises(InputError, match="version 7"):
        load_body(other)
    np.savez(other, **{name: value for name, value in arrays.items() if name != "bind"})
    with pytest.raises(InputError, match="lacks bind"):
        load_body(other)
    other.write_text("nothing of the kind")
    with pytest.raises(InputError, match="not a body file"):
        load_body(other)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(InputError, match="not a body file"):
        load_body(tmp_path / "array.npy")
    with pytest.raises(InputError, match="cannot read"):
        load_body(tmp_path / "missing.npz")
