"""Feet that stand, on a body whose truth is known."""

from __future__ import annotations

import numpy as np

from rtpose.backends import open_session
from rtpose.body.model import load_body
from rtpose.body.rotations import to_axis_angle, to_matrix
from rtpose.models import find
from rtpose.refine.bodies import BodyRefiner, Stretch
from rtpose.refine.smooth import smooth
from rtpose.stages.lift import Lifter
from rtpose.types import F64

from ..stages.test_lift import CAMERA, FPS, frame

FRAMES = 90


def test_feet_stay_where_they_stand() -> None:
    body = load_body()
    network = open_session(find("lifter", "lifter").path, precision="f32", threads=1)
    points, times = np.empty((FRAMES, 17, 3)), np.arange(FRAMES) / FPS
    for i in range(FRAMES):  # the arms swing, the trunk bends a little, the feet stand
        phase, pose = np.pi * i / 30, np.zeros((22, 3))
        pose[0] = to_axis_angle(np.diag([1.0, -1, -1]) @ to_matrix([0, 0.4, 0]))
        pose[[16, 17], 2] = -1.25 + 0.5 * np.sin(phase), 1.25 - 0.5 * np.sin(phase)
        pose[3, 0] = 0.3 * np.sin(phase)
        points[i] = body.keypoints3d(pose, np.zeros(10), [0, 0, 4.0])[:17]
    pixels = CAMERA.project(points) + np.random.default_rng(0).normal(0, 3, (FRAMES, 17, 2))
    seen = np.float32(np.concatenate([pixels, np.full((FRAMES, 17, 1), 0.9)], -1))
    lifter = Lifter(body, network, lambda width, height: CAMERA)
    causal = [lifter(frame(i, times[i], {1: seen[i]})).bodies for i in range(FRAMES)]
    curves = np.stack([smooth(times, pixels[:, k], np.ones(FRAMES), 4.0) for k in range(17)], 1)
    stretch = Stretch(times, CAMERA.rays(curves), np.full((FRAMES, 17), 0.9))
    refined = BodyRefiner(body, network)(stretch, np.zeros(10), CAMERA)

    def skate(places: F64) -> float:
        return float(np.linalg.norm(np.diff(places[:, 15:17], axis=0), axis=-1).mean() * FPS)

    before = skate(np.array([bodies.joints3d[0] for bodies in causal if bodies is not None], np.float64))
    assert skate(refined["joints3d"].astype(np.float64)) < 0.25 * before
