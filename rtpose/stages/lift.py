"""Lifting: from the 2D keypoints of each tracked person to a body, frame by frame, causally.

A small network looks at the last half second and says how the bones are turned and how sure it is; the fitter moves that to where
the keypoints are and the last frames let expect. Each identity has a state of its own: its body as last seen and how it moves,
its shape, and where its feet stand.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends import Session
from ..body.camera import Camera, camera_for
from ..body.fit import Points, Pose, Prior, Seen, cost, fit, place, translate
from ..body.initial import FEATURES, MOMENTS, PREDICTED, features_into
from ..body.model import BUNDLED, JOINT_NAMES, BodyModel
from ..body.rotations import from_six, to_axis_angle, to_matrix, to_six
from ..errors import InputError
from ..types import F32, F64, KEYPOINT_NAMES, Bodies, Result
from .keypoints import MIRRORED

NAMES: tuple[str, ...] = KEYPOINT_NAMES + tuple(f"body_{name}" for name in JOINT_NAMES)
"""What `Bodies.joints3d` holds: the keypoints of COCO, then the joints of the body."""

Network = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""The initialiser: `keypoints` (n, FEATURES) -> six (n, 18, 6), betas (n, b), turn_error (n, 18), place_error (n, 39)."""

_PORTS = {"keypoints": FEATURES, "six": len(PREDICTED), "turn_error": len(PREDICTED), "place_error": 39}
"""The second axis of its tensors."""
DIFFICULTY = np.array([0.8, 0.8, 0.8, 0.9, 0.9, 0.9, 0.9, 1.0, 1.0, 1.1, 1.1, 1.3, 1.3, 1.0, 1.0, 1.1, 1.1])
"""By how much each keypoint is misplaced, relative to others: hips are a matter of taste."""
SAID = np.array([PREDICTED.index(j) if j in PREDICTED else -1 for j in range(22)])
_OPPOSITE = [JOINT_NAMES.index(name.replace("left", "@").replace("right", "left").replace("@", "right")) for name in JOINT_NAMES]
_SAID_MIRRORED = [PREDICTED.index(_OPPOSITE[joint]) for joint in PREDICTED]
_MIRROR_SIX = np.array([1.0, -1, -1, -1, 1, 1])
"""What mirroring x does to the first two columns of a rotation."""
ABOVE = {10: 7, 11: 8, 20: 18, 21: 19}
_FEET = ((7, 4), (8, 5))
SEEN = 0.15
"""Confidence from which a keypoint counts for a body."""
EDGE, CUT = 0.04, 0.4
"""Knees and ankles that are put so near the picture's border, in sizes of the person, are mostly cut off by it: .32 of them are right, and
.78 of those inside (train2017, `benchmarks/keypoints.py --calibrate`). So they are believed by so much less."""
_LEGS = slice(13, 17)


def check_network(session: Session, path: Path) -> None:
    """Raise InputError where the network read from `path` is not one that `rtpose train lifter` of this version makes."""
    ports = session.inputs | session.outputs
    for name, wanted in _PORTS.items():
        shape = ports[name][0] if name in ports else ()
        if len(shape) < 2 or shape[1] not in (wanted, None):
            said = f"{name} {shape}" if name in ports else f"no {name}"
            raise InputError(
                f"{path} is no lifter of this rtpose: it has {said}, wanted {name} (n, {wanted}, ...); train it anew"
            )


class Said(NamedTuple):
    """What the network says of n people: world rotations of `PREDICTED` in the camera's frame as six numbers (n, 18, 6), how sure it is
    of them (n, 18), one over variances, betas (n, b), the errors it expects of keypoints and joints (n, 39) in metres, and the
    people's sizes (n,) as tangents of angles, 0 where nothing is seen now."""

    six: F64
    sureness: F64
    betas: F64
    doubts: F64
    sizes: F64


def ask(network: Network, rays: F64, confidences: F64) -> Said:
    """Show the network people by rays (n, m, 17, 2) and confidences (n, m, 17) at `MOMENTS`, as they are and mirrored; what it says is
    the mean of both, weighed by how sure it is of each."""
    n = len(rays)
    inputs, turns, sizes = np.empty((2, n, FEATURES), np.float32), np.empty((2, n, 3, 3)), np.empty(n)
    for side, (shown, seen) in enumerate(
        ((rays, confidences), (rays[:, :, MIRRORED] * [-1.0, 1.0], confidences[:, :, MIRRORED]))
    ):
        shown, seen = np.ascontiguousarray(shown), np.ascontiguousarray(seen)
        for i in range(n):
            sizes[i] = features_into(shown[i], seen[i], inputs[side, i], turns[side, i])
    said = {
        name: array.reshape(2, n, *array.shape[1:]).astype(np.float64)
        for name, array in network({"keypoints": inputs.reshape(2 * n, FEATURES)}).items()
    }
    six, sure = to_six(np.swapaxes(turns, 2, 3)[:, :, None] @ from_six(said["six"])), np.exp(-2 * said["turn_error"])
    six[1], sure[1] = six[1][:, _SAID_MIRRORED] * _MIRROR_SIX, sure[1][:, _SAID_MIRRORED]
    # The two err together, so they are no surer than one.
    mean = (sure[..., None] * six).sum(0) / sure.sum(0)[..., None]
    return Said(mean, sure.mean(0), said["betas"].mean(0), np.exp(said["place_error"].mean(0)), sizes)


@dataclass(frozen=True)
class Weights:
    """How the fitter weighs things against each other. What is said for a frame is for one 1/30 s after the last.

    keypoint: standard deviation of a keypoint that is surely seen, as a share of the person's size, at least `pixel` px; doubt: what is
    added to it, in the same shares, for the chance that it is not there. robust: distance in those deviations at which a keypoint counts a
    quarter. network: factor on the deviations that the network says. turn: rad a frame by which a bone differs from what the
    last frames let expect, and agility: the same for every rad a frame that the network sees it turn. move: metres a frame, of
    the pelvis. damping: share of its speed that a bone keeps for a frame; follow: share of a new speed that is believed.
    shape: deviation of the betas from one frame to the next, until after `settle` seconds they stay. limit: rad beyond the
    joints' limits. stand: metres, of a foot that stands. steps of Gauss and Newton a frame, and at the first one.
    """

    keypoint: float = 0.006
    pixel: float = 1.5
    doubt: float = 1.0
    robust: float = 7.0
    network: float = 0.8
    turn: float = 0.035
    agility: float = 0.5
    move: float = 0.08
    damping: float = 0.7
    follow: float = 0.7
    shape: float = 0.1
    settle: float = 1.5
    limit: float = 0.1
    stand: float = 0.015
    steps: int = 2
    first_steps: int = 4

    def sharpness(self, confidences: F64, sizes: F64 | float, camera: Camera) -> F64:
        """One over the variances of keypoints (..., 17) of people of these sizes (...), tangents of angles; of those not seen 0."""
        size = np.asarray(sizes)[..., None]
        surely = np.maximum(self.keypoint * size, self.pixel / math.sqrt(camera.fx * camera.fy))
        deviation = (surely + self.doubt * size * (1 - confidences)) * DIFFICULTY
        return np.asarray(np.where(confidences > 0, deviation**-2.0, 0.0))


@dataclass
class _Shape:
    """What somebody is like. It outlives their going out of sight, as long as they may be recognised."""

    time: float
    betas: F64
    vectors: F64
    age: float = 0.0
    """Seconds for which it has been learned."""


@dataclass
class _State:
    """How somebody moves."""

    time: float
    world: F64
    translation: F64
    said: F64
    swaying: F64 = field(default_factory=lambda: np.zeros((22, 3)))
    turning: F64 = field(default_factory=lambda: np.zeros((22, 3)))
    moving: F64 = field(default_factory=lambda: np.zeros(3))
    anchors: F64 = field(default_factory=lambda: np.zeros((2, 3)))
    standing: F64 = field(default_factory=lambda: np.zeros(2))
    """Seconds for which left and right ankle have stood on their anchors."""
    stuck: bool = False
    """Whether what the network says was better as it is than what was made of it."""

    def move(self, now: float, pose: Pose, elapsed: float, follow: float) -> None:
        """Go on to the pose of now. follow: share of a new speed that is believed, a frame of 1/30 s."""
        if elapsed:
            share = 1 - (1 - follow) ** (30 * elapsed)
            turning = to_axis_angle(pose.world @ np.swapaxes(self.world, 1, 2)) / elapsed
            self.turning += share * (turning - self.turning)
            self.moving += share * ((pose.translation - self.translation) / elapsed - self.moving)
        self.time, self.world, self.translation = now, pose.world, pose.translation


class Lifter:
    """The stage. Raises nothing: people of whom too little is seen get a row of NaN.

    network: what `open_session` gave for `lifter.onnx`. camera: from the pictures' width and height. The uncertainty it reports
    is that of a point's place about the middle of the hips, along an axis; how far away a person is, is less sure than that.
    """

    name = "lift"

    ENOUGH = 5
    """Keypoints that must be seen for a body."""
    GAP = 0.7
    """Seconds unseen after which a person's motion begins anew."""
    MEMORY = 10.0
    """Seconds unseen after which a person's shape is forgotten; the tracker forgets an identity sooner."""
    STUCK = 0.05
    """Seconds in which a body that is stuck is drawn two thirds of the way to what the network says."""
    STEP, STILL = 0.1, 0.25
    """A foot stands that for so many seconds moves less than so many sizes of the person a second."""

    def __init__(
        self,
        body: BodyModel,
        network: Network,
        camera: Callable[[int, int], Camera] = camera_for,
        weights: Weights | None = None,
    ) -> None:
        self._body, self._network, self._camera = body, network, camera
        self._points = Points.of(body)
        self._own_body = body.name == BUNDLED.name
        """Whether the shape numbers of the network, which was trained with the bundled body, mean anything for this one."""
        self._weights = weights or Weights()
        self.every = 1
        """Only every so-many-th frame gets bodies, none if 0; the others get rows of NaN. May be changed from another thread."""
        self._frames = 0
        self._states: dict[int, _State] = {}
        self._shapes: dict[int, _Shape] = {}
        self._history: dict[int, deque[tuple[float, F64, F64]]] = {}

    def __call__(self, result: Result) -> Result:
        frame, people = result.frame, result.people
        if frame.independent:
            self._states.clear()
            self._shapes.clear()
            self._history.clear()
        n = len(people)
        self._frames += 1
        if self.every == 0 or self._frames % self.every:
            return dataclasses.replace(result, bodies=Bodies(**no_bodies(n, self._body.betas), joint_names=NAMES))
        camera = self._camera(frame.width, frame.height)
        self._forget(frame.time)
        rows, shown, seen = [], [], []
        for i, (identity, keypoints) in enumerate(zip(people.ids.tolist(), people.keypoints, strict=True)):
            confidences = trusted(keypoints[:, :2], keypoints[:, 2], (frame.width, frame.height))
            if (confidences > 0).sum() < self.ENOUGH:
                continue
            history = self._history.setdefault(identity, deque())
            history.appendleft((frame.time, camera.rays(keypoints[:, :2]), confidences))
            moments = _moments(history)
            rows.append(i)
            shown.append(moments[0])
            seen.append(moments[1])
        bodies = no_bodies(n, self._body.betas)
        if rows:
            said = ask(self._network, np.stack(shown), np.stack(seen))
            for i, mine in zip(rows, zip(*said, strict=True), strict=True):
                self._lift(int(people.ids[i]), camera, Said(*mine), bodies, i)
        return dataclasses.replace(result, bodies=Bodies(**bodies, joint_names=NAMES))

    def _forget(self, now: float) -> None:
        for identity in [i for i, history in self._history.items() if now - history[0][0] > self.GAP]:
            del self._history[identity]
            self._states.pop(identity, None)
        for identity in [i for i, shape in self._shapes.items() if now - shape.time > self.MEMORY]:
            del self._shapes[identity]

    def _lift(self, identity: int, camera: Camera, said: Said, bodies: dict[str, F32], row: int) -> None:
        """Give one person a body; said: the row of that person."""
        weights, size = self._weights, float(said.sizes)
        now, rays, confidences = self._history[identity][0]
        guess = from_six(said.six)[SAID]
        for joint, above in ABOVE.items():
            guess[joint] = guess[above]
        sureness = said.sureness[SAID] / weights.network**2

        shape = self._shapes.get(identity)
        if shape is None:
            betas = said.betas if self._own_body else np.zeros(self._body.betas)
            shape = self._shapes[identity] = _Shape(now, betas, self._points.at(betas))
        seen = Seen(rays, weights.sharpness(confidences, size, camera), weights.robust**2)
        start, elapsed = self._begin(guess, shape, seen), 0.0
        state = self._states.get(identity)
        if state is not None:
            elapsed = max(now - state.time, 1e-3)
            self._stand(state, shape, self._history[identity], size, elapsed)
            prior = self._expect(state, guess, sureness, elapsed)
            if state.stuck:
                prior = _drawn_to(prior, start, 1 - math.exp(-elapsed / self.STUCK))
            pose = self._fit(state, shape, seen, prior, elapsed)
            # In a wrong pose, far from what the network says, the keypoints can hold a body fast: small steps do not lead out of it.
            state.stuck = cost(shape.vectors, pose, seen, prior) > cost(shape.vectors, start, seen, prior)
        else:
            state, elapsed = _State(now, guess, start.translation, guess), 0.0
            self._states[identity] = state
            pose = self._fit(state, shape, seen, self._expect(state, guess, sureness, elapsed), elapsed)
        if shape.age < weights.settle:
            shape.betas, shape.vectors = pose.betas, self._points.at(pose.betas)
        state.move(now, pose, elapsed, weights.follow)
        shape.time, shape.age = now, shape.age + elapsed
        self._write(state, shape, said, bodies, row)

    def _fit(self, state: _State, shape: _Shape, seen: Seen, prior: Prior, elapsed: float) -> Pose:
        """The pose of now; with nothing `elapsed` since the last one, of somebody new."""
        weights = self._weights
        steps = weights.steps if elapsed else weights.first_steps
        pose = Pose(prior.expected.copy(), prior.translation.copy(), shape.betas.copy())
        _turn_ends(pose.world, state.world, prior.said, elapsed)
        if shape.age < weights.settle:
            prior = prior._replace(shape_weight=1 / (weights.shape**2 * max(30 * elapsed, 1)))
            fit(self._points, pose, seen, prior, steps)
        else:
            fit(self._points._replace(vectors=shape.vectors), pose, seen, prior, steps)
        return pose

    def _expect(self, state: _State, guess: F64, sureness: F64, elapsed: float) -> Prior:
        """What the network and the last frames let expect; with nothing `elapsed` since the last one, the network alone."""
        weights, frames = self._weights, 30 * elapsed
        if elapsed:
            lasting = weights.damping**frames * elapsed
            expected = to_matrix(state.turning * lasting) @ state.world
            translation = state.translation + state.moving * lasting
            swaying = to_axis_angle(guess @ np.swapaxes(state.said, 1, 2)) / elapsed
            state.swaying += (1 - math.exp(-elapsed / 0.1)) * (swaying - state.swaying)
            state.said = guess
            expected_weights = (weights.turn * frames + weights.agility * elapsed * np.linalg.norm(state.swaying, axis=1)) ** -2.0
            translation_weights = np.full(3, 1 / (weights.move * frames) ** 2)
        else:
            expected, expected_weights = guess, np.zeros(22)
            translation, translation_weights = state.translation, np.full(3, 1e-4)
        return Prior(
            said=guess,
            said_weights=sureness,
            expected=expected,
            expected_weights=expected_weights,
            translation=translation,
            translation_weights=translation_weights,
            limit_weight=1 / weights.limit**2,
            anchors=state.anchors,
            anchor_weights=np.where(state.standing >= self.STEP, 1 / weights.stand**2, 0.0),
        )

    def _stand(self, state: _State, shape: _Shape, history: deque[tuple[float, F64, F64]], size: float, elapsed: float) -> None:
        """Notice which feet stand: they hardly move in the picture, and are not lifted. Where one begins to, it is anchored."""
        now, rays, confidences = history[0]
        time, before, seen = next((h for h in history if h[0] <= now - self.STEP + 1e-6), history[-1])
        ankles = np.empty((39, 3))
        place(shape.vectors, state.world, state.translation, ankles)
        lowest = max((rays[k, 1] for k in (15, 16) if confidences[k] > 0), default=0.0)
        for foot, k in enumerate((15, 16)):
            sure = now > time and min(confidences[k], seen[k]) > 0.3
            moved = np.linalg.norm(rays[k] - before[k]) / size
            if sure and moved < self.STILL * max(now - time, self.STEP) and rays[k, 1] > lowest - 0.2 * size:
                if state.standing[foot] < self.STEP:
                    state.anchors[foot] = ankles[k]
                state.standing[foot] += elapsed
            else:
                state.standing[foot] = 0

    def _begin(self, guess: F64, shape: _Shape, seen: Seen) -> Pose:
        """Somebody as the network says, where the keypoints are."""
        about_pelvis, translation = np.empty((17, 3)), np.empty(3)
        place(shape.vectors, guess, np.zeros(3), about_pelvis)
        translate(about_pelvis, seen.rays, seen.weights, translation)
        return Pose(guess, translation, shape.betas)

    def _write(self, state: _State, shape: _Shape, said: Said, bodies: dict[str, F32], row: int) -> None:
        joints = np.empty((39, 3))
        place(shape.vectors, state.world, state.translation, joints)
        bodies["rotations"][row] = to_axis_angle(self._body.local_rotations(state.world))
        bodies["betas"][row] = shape.betas
        bodies["translation"][row] = state.translation - self._body.offsets(shape.betas)[0]
        bodies["joints3d"][row] = joints
        bodies["uncertainty"][row] = said.doubts


def _drawn_to(prior: Prior, start: Pose, share: float) -> Prior:
    """Expect the pose a share of the way nearer to `start`."""
    way = to_axis_angle(start.world @ np.swapaxes(prior.expected, 1, 2))
    return prior._replace(
        expected=to_matrix(share * way) @ prior.expected,
        translation=prior.translation + share * (start.translation - prior.translation),
    )


def _turn_ends(world: F64, before: F64, guess: F64, elapsed: float) -> None:
    """Turn the bones that no keypoint shows, in world rotations (22, 3, 3): ankles as the network says, evened out over a fifth of a
    second from those `before`; what hangs below an end follows it."""
    for ankle, knee in _FEET:
        flex = to_axis_angle(guess[knee].T @ guess[ankle])
        if elapsed:
            last = to_axis_angle(before[knee].T @ before[ankle])
            flex = last + (flex - last) * (1 - math.exp(-elapsed / 0.2))
        world[ankle] = world[knee] @ to_matrix(flex)
    for joint, above in ABOVE.items():
        world[joint] = world[above]


def trusted(points: NDArray[np.floating[Any]], confidences: NDArray[np.floating[Any]], picture: tuple[int, int]) -> F64:
    """What the confidences (..., 17) of keypoints at points (..., 17, 2) px are worth for a body, in a picture of (w, h) px."""
    worth = np.where(confidences >= SEEN, confidences, 0.0).astype(np.float64)
    size = np.ptp(points, axis=-2).max(-1)[..., None]
    inside = np.minimum(points, np.array(picture) - 1 - points).min(-1)
    worth[..., _LEGS] *= np.where(inside[..., _LEGS] < EDGE * size, CUT, 1.0)
    return worth


def no_bodies(n: int, betas: int) -> dict[str, F32]:
    """The arrays of `Bodies` for n people of whom nothing is known."""
    shapes = {"rotations": (n, 22, 3), "betas": (n, betas), "translation": (n, 3), "joints3d": (n, 39, 3), "uncertainty": (n, 39)}
    return {name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()}


def _moments(history: deque[tuple[float, F64, F64]]) -> tuple[F64, F64]:
    """Rays (m, 17, 2) and confidences (m, 17) at `MOMENTS` before now, between the frames that there are.

    What is older than the last moment needs is dropped from the history.
    """
    now = history[0][0]
    rays, confidences = np.zeros((len(MOMENTS), 17, 2)), np.zeros((len(MOMENTS), 17))
    newer = 0
    for m, ago in enumerate(MOMENTS):
        then = now - ago
        while newer + 1 < len(history) and history[newer + 1][0] > then - 1e-6:
            newer += 1
        time, at, seen = history[newer]
        if time <= then + 1e-6:
            rays[m], confidences[m] = at, seen
        elif newer + 1 < len(history):
            before, at_before, seen_before = history[newer + 1]
            share = (then - before) / (time - before)
            rays[m] = share * at + (1 - share) * at_before
            confidences[m] = np.where((seen > 0) & (seen_before > 0), np.minimum(seen, seen_before), 0)
    while len(history) > 2 and history[-2][0] < now - MOMENTS[-1]:
        history.pop()
    return rays, confidences
