"""People who walk on the spot before a camera: bodies, their keypoints and a picture of them, all exactly known."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from rtpose.body.camera import Camera, camera_for
from rtpose.body.model import BodyModel, Lifted, load_body
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.types import KEYPOINT_NAMES, Bodies, Frame, People, Result

PLACES = ((-0.8, 0.25, 4.0, 0.3), (0.9, 0.25, 4.6, -0.6), (0.0, 0.25, 6.0, 2.0))
"""x, y, z in metres and heading in radians of each."""


@dataclass
class Walkers:
    """Makes results with `ids` in them at any time."""

    width: int = 640
    height: int = 480

    def __post_init__(self) -> None:
        self.body: BodyModel = load_body()
        self.camera: Camera = camera_for(self.width, self.height)
        self.lifted = Lifted(self.body, camera_for)

    def result(self, index: int, ids: tuple[int, ...] = (1, 2), rate: float = 30.0, at: float | None = None) -> Result:
        """The frame `index`, at its time or `at`; person `i` stands at the place `i - 1`, whoever else is there."""
        n, t = len(ids), index / rate if at is None else at
        rotations, betas = np.zeros((n, 22, 3), np.float32), np.zeros((n, self.body.betas), np.float32)
        places = np.zeros((n, 3), np.float32)
        for row, identity in enumerate(ids):
            *places[row], heading = PLACES[(identity - 1) % len(PLACES)]
            swing = 0.4 * np.sin(5 * t + identity)
            facing = Rotation.from_euler("y", heading) * Rotation.from_matrix(np.diag([1.0, -1, -1]))
            rotations[row, 0] = facing.as_rotvec()
            rotations[row, 16] = Rotation.from_euler("zx", [-1.2, swing]).as_rotvec()
            rotations[row, 17] = Rotation.from_euler("zx", [1.2, -swing]).as_rotvec()
            rotations[row, 1, 0], rotations[row, 2, 0] = swing, -swing
            betas[row, 0] = 0.3 * identity
        image = np.full((self.height, self.width, 3), 128, np.uint8)
        depth, mesh = depth_buffer(image), self.body.meshes["light"]
        joints = np.zeros((n, 17, 3))
        for row in range(n):
            pose = rotations[row], betas[row], places[row]
            joints[row] = self.body.keypoints3d(*pose)[:17]
            draw_mesh(image, self.body.vertices(*pose, "light"), mesh.faces, self.camera, (190, 170, 150), depth)
        keypoints = np.concatenate([self.camera.project(joints), np.full((n, 17, 1), 0.9)], -1).astype(np.float32)
        boxes = np.concatenate([keypoints[..., :2].min(1), keypoints[..., :2].max(1)], 1)
        people = People(np.array(ids, int), boxes, np.full(n, 0.9), keypoints, np.zeros((n, 17)), keypoints)
        bodies = Bodies(rotations, betas, places, joints, np.full((n, 17), 0.03), KEYPOINT_NAMES)
        return Result(Frame(index, t, image, time.monotonic_ns()), None, people, bodies)
