"""Poses learned from 2D labels: people of COCO stand as they do in the picture, and are then shown to the lifter from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtpose.body.camera import camera_for
from rtpose.body.model import load_body
from rtpose.body.rotations import to_axis_angle
from rtpose.train import poses
from rtpose.train.mocap import read_mocap
from rtpose.train.people import read_people
from rtpose.train.samples import Bank, KeypointErrors, Sampler

pytestmark = pytest.mark.shared


def test_labelled_people_become_poses_that_nobody_has_captured(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poses, "SMALLEST", 560)
    body = load_body()
    clips = read_mocap(shared / "data" / "mocap", body, ("CMU_walkcycles/02_01",))
    labels = read_people(shared / "data" / "coco_keypoints" / "train2017_people.npz")
    labels = labels[(labels.keypoints[:, poses.LIMBS, 2] > 0).all(1) & (labels.boxes[:, 3] >= 560)]
    path = tmp_path / "poses.npz"
    poses.make_poses(path, labels, body, Bank.of(clips))
    made = poses.read_poses(path)
    assert len(labels) / 3 < len(made) <= len(labels)
    np.testing.assert_allclose(made @ np.swapaxes(made, -1, -2), np.broadcast_to(np.eye(3), made.shape), atol=4e-3)
    # Each is upright or lies, but somebody's limbs fall where they were labelled: seen by the same camera, some labelled person fits.
    pose = made[0].astype(float)
    pose[0] = np.diag([1.0, -1, -1]) @ pose[0]
    places = body.keypoints3d(to_axis_angle(pose), np.zeros(body.betas), np.array([0, 0, 6.0]))[poses.LIMBS]
    seen = camera_for(1000, 1000).project(places)
    wanted = labels.keypoints[:, poses.LIMBS, :2]
    seen, wanted = (p - p.mean(-2, keepdims=True) for p in (seen, wanted))
    seen, wanted = (p / np.linalg.norm(p, axis=(-2, -1), keepdims=True) for p in (seen, wanted))
    assert np.linalg.norm(seen - wanted, axis=(-2, -1)).min() < 0.15
    shown = Sampler(body, Bank.of(clips).with_poses(made), KeypointErrors.load(), np.random.default_rng(0))(200)
    assert np.isfinite(shown.x).all()
    np.testing.assert_allclose(
        shown.world @ np.swapaxes(shown.world, -1, -2), np.broadcast_to(np.eye(3), shown.world.shape), atol=5e-3
    )
