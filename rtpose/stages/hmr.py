"""HMR as the lifter: a network that looks at the picture of each person and says SMPL's rotations, shape and a weak camera.

At every frame, or at every n-th with the fitter between: then what HMR said last is what the body is held to while it follows the
keypoints. The network is what `models.hmr` makes of a checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..body.camera import Camera
from ..body.fit import ACTIVE, Points, Pose, Prior, Seen, fit, place, translate
from ..body.model import BodyModel
from ..body.rotations import from_six, to_axis_angle
from ..body.smpl import BETAS, open_body
from ..errors import InputError
from ..types import F32, F64, U8, Bodies, Result
from .keypoints import cut, square_crops
from .lift import NAMES, SEEN, Lifter, Weights, no_bodies

CROP = 1.2
"""Side of the crop over the longer side of the person's box, as in SPIN's demo."""
UNCERTAINTY = 0.056
"""Metres along an axis: SPIN's published mean error on 3DPW, 97 mm in three dimensions, over the square root of three. HMR says none."""
FARTHEST = 1000.0
"""Metres."""
LOOSE = np.setdiff1d(np.arange(1, 22), ACTIVE)
"""Bones that the fitter does not turn."""
HELD, LOOSER = 0.15, 0.5
"""Radians by which a bone may differ from what HMR says when it looks, and by how many more with every second after that."""

FOLLOW = Weights(keypoint=0.008, doubt=0.1, turn=0.07, agility=0.7)
"""Between looks the keypoints alone say how somebody moves, so they are followed more closely than by the lifter."""


def smpl_body(path: Path) -> BodyModel:
    """The body whose rotations and betas HMR says. Raises InputError for a file that is no SMPL file with ten betas."""
    body = open_body(path)
    if body.meshes["full"].pose_shapes is None:
        raise InputError(f"{path} is rtpose's own body: HMR says SMPL's rotations and shape, give it an SMPL file")
    if body.betas != BETAS:
        raise InputError(f"{path} has {body.betas} betas, HMR says {BETAS}: give it another SMPL file")
    return body


@dataclass
class _Said:
    """One person's body as HMR said it: local rotations (22, 3, 3), betas (10,), translation (3,) of the model's origin."""

    rotations: F64
    betas: F64
    translation: F64


@dataclass
class _State:
    """What is known about one person: what HMR said last, after how many looks, and when; where bones (world rotations (22, 3, 3))
    and pelvis (3,) were last."""

    said: _Said
    looks: int
    looked: int
    looked_at: float
    time: float
    world: F64
    pelvis: F64


class HmrLifter:
    """The stage. People of whom HMR says nothing that can be (a body behind the camera) get a row of NaN.

    session takes `image` (n, 224, 224, 3) uint8 RGB. every: at which frames HMR looks at a person who is there already;
    may be changed from another thread.
    """

    name = "lift"

    def __init__(self, body: BodyModel, session: Session, camera: Callable[[int, int], Camera], every: int = 1) -> None:
        self._body, self._session, self._camera, self.every = body, session, camera, every
        self._side = int(session.inputs["image"][0][1] or 0)
        self._points, self._weights = Points.of(body), FOLLOW
        self._states: dict[int, _State] = {}

    def __call__(self, result: Result) -> Result:
        frame, people = result.frame, result.people
        if frame.independent:
            self._states.clear()
        self._forget(frame.time)
        camera, every = self._camera(frame.width, frame.height), self.every
        ids: list[int] = people.ids.tolist()
        due = [row for row, identity in enumerate(ids) if self._due(identity, frame.index, every)]
        said = dict(zip(due, self._look(frame.image, people.boxes[due], camera), strict=True))
        bodies = no_bodies(len(people), BETAS)
        for row, identity in enumerate(ids):
            new = said.get(row)
            if every > 1:
                if new is not None:
                    self._hear(identity, new, frame.index, frame.time)
                if (state := self._states.get(identity)) is not None:
                    self._follow(state, frame.time, people.keypoints[row], camera)
                    new = self._body_of(state)
            if new is not None:
                self._write(new, bodies, row)
        return dataclasses.replace(result, bodies=Bodies(**bodies, joint_names=NAMES))

    def _forget(self, now: float) -> None:
        for identity in [i for i, state in self._states.items() if now - state.time > Lifter.GAP]:
            del self._states[identity]

    def _due(self, identity: int, index: int, every: int) -> bool:
        state = self._states.get(identity)
        return state is None or index - state.looked >= every

    def _look(self, image: U8, boxes: F32, camera: Camera) -> list[_Said | None]:
        """What HMR says of the people in boxes (n, 4); None where no body can be like that."""
        squares = square_crops(boxes, CROP)
        crops = np.empty((len(boxes), self._side, self._side, 3), np.uint8)
        for square, crop in zip(squares, crops, strict=True):
            cut(image, square, crop)
        outputs = self._session({"image": crops})
        return [
            _as_said(six.astype(np.float64), betas.astype(np.float64), translation(weak, square, camera))
            for six, betas, weak, square in zip(outputs["six"], outputs["betas"], outputs["camera"], squares, strict=True)
        ]

    def _hear(self, identity: int, new: _Said, index: int, now: float) -> None:
        """Keep what HMR said of a person; its betas are averaged over all looks."""
        state = self._states.get(identity)
        if state is None:
            world, pelvis = self._placed(new)
            state = self._states[identity] = _State(new, 0, index, now, now, world, pelvis)
        betas = (state.looks * state.said.betas + new.betas) / (state.looks + 1)
        state.said = dataclasses.replace(new, betas=betas)
        state.looks, state.looked, state.looked_at = state.looks + 1, index, now

    def _follow(self, state: _State, now: float, keypoints: F32, camera: Camera) -> None:
        """Move the person's body to the keypoints (17, 3) of now; where too few are seen it stays as it was."""
        weights, fresh = self._weights, now == state.time
        confidences = np.where(keypoints[:, 2] >= SEEN, keypoints[:, 2], 0).astype(np.float64)
        elapsed, state.time = now - state.time, now
        if (confidences > 0).sum() < Lifter.ENOUGH:
            return
        rays = camera.rays(keypoints[:, :2])
        size = float(np.ptp(rays[confidences > 0], axis=0).max())
        sharpness = weights.sharpness(confidences, size, camera)
        vectors, guess = self._points.at(state.said.betas), self._placed(state.said)[0]
        held = np.full(22, (HELD + LOOSER * (now - state.looked_at)) ** -2)
        before, before_pelvis = state.world.copy(), state.pelvis.copy()
        for joint in LOOSE:  # those that no keypoint shows are as HMR said
            state.world[joint] = state.world[self._body.parents[joint]] @ state.said.rotations[joint]
        if fresh:  # nothing is known of the last frames, and the keypoints know better than HMR where somebody is
            turn = move = 0.0
            about_pelvis = np.empty((17, 3))
            place(vectors, guess, np.zeros(3), about_pelvis)
            translate(about_pelvis, rays, sharpness, state.pelvis)
        else:
            turn, move = (weights.turn * 30 * elapsed) ** -2, (weights.move * 30 * elapsed) ** -2
        prior = Prior(
            said=guess,
            said_weights=held,
            expected=before,
            expected_weights=np.full(22, turn),
            translation=before_pelvis,
            translation_weights=np.full(3, move),
            limit_weight=1 / weights.limit**2,
        )
        pose, seen = Pose(state.world, state.pelvis, state.said.betas.copy()), Seen(rays, sharpness, weights.robust**2)
        steps = weights.first_steps if fresh else weights.steps
        fit(self._points._replace(vectors=vectors), pose, seen, prior, steps)

    def _placed(self, said: _Said) -> tuple[F64, F64]:
        """World rotations (22, 3, 3) and the place of the pelvis (3,)."""
        world, places = self._body.pose(to_axis_angle(said.rotations), said.betas, said.translation)
        return world, places[0]

    def _body_of(self, state: _State) -> _Said:
        betas = state.said.betas
        return _Said(self._body.local_rotations(state.world), betas, state.pelvis - self._body.offsets(betas)[0])

    def _write(self, said: _Said, bodies: dict[str, F32], row: int) -> None:
        pose = to_axis_angle(said.rotations), said.betas, said.translation
        bodies["rotations"][row], bodies["betas"][row], bodies["translation"][row] = pose
        bodies["joints3d"][row] = np.concatenate([self._body.keypoints3d(*pose)[:17], self._body.pose(*pose)[1]])
        bodies["uncertainty"][row] = UNCERTAINTY


def translation(weak: NDArray[Any], square: F32, camera: Camera) -> F64:
    """Where SMPL's origin is, in metres (3,), by HMR's weak camera (scale, x, y) of a crop (centre x, y, side in px).

    SPIN's formula, [x, y, 2 f / (side scale)], with the focal length of the camera at hand instead of 5000 px, and moved from the middle
    of the crop to that of the picture, as CLIFF (Li et al. 2022) does.
    """
    scale, x, y = (float(value) for value in weak)
    depth = 2 * math.sqrt(camera.fx * camera.fy) / (float(square[2]) * scale + 1e-9)
    return np.array(
        [x + (float(square[0]) - camera.cx) * depth / camera.fx, y + (float(square[1]) - camera.cy) * depth / camera.fy, depth]
    )


def _as_said(six: F64, betas: F64, at: F64) -> _Said | None:
    """None for numbers that are not finite, rotations that cannot be made out, and a body behind the camera or beyond sight."""
    if not all(np.isfinite(part).all() for part in (six, betas, at)) or not 0 < at[2] < FARTHEST:
        return None
    if np.linalg.norm(np.cross(six[:, :3], six[:, 3:]), axis=-1).min() < 1e-6:
        return None
    return _Said(from_six(six[:22]), betas, at)
