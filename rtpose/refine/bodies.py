"""Bodies of a person over a whole stretch of frames: what the network says of the past and of the future, one shape, feet that stand.

The network that the causal pass asks about the last half second is asked four times: forwards and backwards in time, as it is
and mirrored. The mean, smoothed over time, starts the same fit that the causal pass makes; the bodies fitted are smoothed, and
fitted again with feet held where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..body.camera import Camera
from ..body.fit import Points, Pose, Prior, Seen, fit, limit, place, translate
from ..body.initial import MOMENTS
from ..body.model import BodyModel
from ..body.rotations import from_six, to_axis_angle, to_six
from ..stages.lift import ABOVE, SAID, Lifter, Network, Said, Weights, ask, no_bodies
from ..types import F32, F64, I64
from .smooth import smooth

REVERSED = 0.5
"""What the network's answer is worth that sees the motion backwards, from the future, against that from the past: it was trained on motion
as it goes."""
FIT = Weights(keypoint=0.007, network=0.9, steps=4)
"""For keypoints that are smoothed with the future known; chosen on the `tuning` split, as those of the causal pass."""


@dataclass(frozen=True)
class Strengths:
    """How firmly the refined bodies are held; see `Weights` for what the causal fit shares.

    said: Hz, cut-off of what the network says; pose: of the fitted rotations and of where the body is seen; depth: of how far away it is.
    near: metres, across the view (three times that along it), by which the fit may move a body from the smoothed way. hold: rad by
    which the last fit may turn a bone, stay: metres by which it may move the body, so that feet stand within `stand` metres.
    """

    said: float = 2.5
    pose: float = 3.5
    depth: float = 1.5
    near: float = 0.2
    hold: float = 0.05
    stay: float = 0.03
    stand: float = 0.01


@dataclass(frozen=True)
class Stretch:
    """One person in consecutive frames: times (n,) s, rays (n, 17, 2) of the keypoints, confidences (n, 17), 0: not seen."""

    times: F64
    rays: F64
    confidences: F64


class BodyRefiner:
    """Fits a body to every frame of a stretch. network and body: those of the causal `Lifter`."""

    STILL = 0.15
    """A foot stands that moves less than so many sizes of the person a second in the picture ..."""
    STEP = 0.15
    """... for so many seconds."""

    def __init__(self, body: BodyModel, network: Network, strengths: Strengths | None = None) -> None:
        self._body, self._network = body, network
        self._points = Points.of(body)
        self._weights, self._strengths = FIT, strengths or Strengths()

    def __call__(self, stretch: Stretch, betas: F64 | None, camera: Camera) -> dict[str, F32]:
        """The arrays of `Bodies`, a row a frame; NaN where nothing was seen for `Lifter.GAP` seconds before or after.

        betas: the person's shape, None where the causal pass found none: then there are no bodies either.
        """
        seen = (stretch.confidences > 0).sum(1) >= Lifter.ENOUGH
        arrays = no_bodies(len(stretch.times), self._body.betas)
        if betas is None or not seen.any():
            return arrays
        said = self._ask(stretch)
        trust = seen.astype(np.float64)
        guess = self._guess(stretch.times, said, trust)
        vectors = self._points.at(betas)
        # Limits are weighed in the fit from nearby; from beyond half a turn they would pull the wrong way round.
        world = self._limited(guess)
        translation = self._begin(stretch, said, world, vectors, trust, camera)
        self._fit(stretch, said, guess, world, translation, betas, vectors, camera, near=self._strengths.near)
        world, translation = self._smoothed(stretch.times, world, translation, trust)
        world = self._limited(world)  # bones are smoothed one by one, and know nothing of the joints between them
        anchors, standing = self._feet(stretch, said.sizes, world, translation, vectors)
        if standing.any():
            self._fit(stretch, said, guess, world, translation, betas, vectors, camera, anchors=anchors, standing=standing)
            world = self._limited(world)
        near = np.flatnonzero(np.abs(stretch.times[:, None] - stretch.times[seen]).min(1) <= Lifter.GAP)
        self._write(near, world, translation, betas, vectors, said.doubts, arrays)
        return arrays

    def none(self) -> dict[str, F32]:
        """The arrays of nobody's body."""
        return no_bodies(0, self._body.betas)

    def _ask(self, stretch: Stretch) -> Said:
        """Ask about every frame, with its past and with its future."""
        before, after = (ask(self._network, *_moments(stretch, direction)) for direction in (-1, 1))
        # The two err together, so they are no surer than one.
        share = REVERSED * after.sureness / (before.sureness + REVERSED * after.sureness)
        return before._replace(
            six=before.six + share[..., None] * (after.six - before.six),
            sureness=(before.sureness + REVERSED * after.sureness) / (1 + REVERSED),
            doubts=(before.doubts * after.doubts**REVERSED) ** (1 / (1 + REVERSED)),
        )

    def _guess(self, times: F64, said: Said, trust: F64) -> F64:
        """World rotations (n, 22, 3, 3) as the network says, smoothed."""
        six = said.six.copy()
        for joint in range(six.shape[1]):
            sure = said.sureness[:, joint] * trust
            six[:, joint] = smooth(times, six[:, joint], sure / np.median(sure[trust > 0]), self._strengths.said)
        guess = from_six(six)[:, SAID]
        for joint, above in ABOVE.items():
            guess[:, joint] = guess[:, above]
        return np.ascontiguousarray(guess)

    def _limited(self, world: F64) -> F64:
        """World rotations (n, 22, 3, 3) in which no joint is bent beyond its limits."""
        world = world.copy()
        for pose in world:
            limit(self._body.parents, pose)
        return world

    def _sharpness(self, stretch: Stretch, said: Said, camera: Camera) -> F64:
        return self._weights.sharpness(stretch.confidences, said.sizes, camera)

    def _begin(self, stretch: Stretch, said: Said, world: F64, vectors: F64, trust: F64, camera: Camera) -> F64:
        """Where the body must be (n, 3) for its keypoints to be seen where they are."""
        about_pelvis, translation = np.empty((17, 3)), np.zeros((len(trust), 3))
        sharpness = self._sharpness(stretch, said, camera)
        for i in np.flatnonzero(trust):
            place(vectors, world[i], np.zeros(3), about_pelvis)
            translate(about_pelvis, stretch.rays[i], sharpness[i], translation[i])
        return self._way(stretch.times, translation, trust)

    def _way(self, times: F64, translation: F64, trust: F64) -> F64:
        """The translations (n, 3) smoothed, where they are seen and how far away apart; what was not trusted is bridged."""
        depth = np.where(trust > 0, translation[:, 2], 1.0)[:, None]
        rays = smooth(times, translation[:, :2] / depth, trust, self._strengths.pose)
        away = np.exp(smooth(times, np.log(depth), trust, self._strengths.depth, robust=0.2))
        return np.concatenate([rays * away, away], 1)

    def _smoothed(self, times: F64, world: F64, translation: F64, trust: F64) -> tuple[F64, F64]:
        six = smooth(times, to_six(world).reshape(len(times), -1), trust, self._strengths.pose)
        return np.ascontiguousarray(from_six(six.reshape(len(times), 22, 6))), self._way(times, translation, trust)

    def _fit(
        self,
        stretch: Stretch,
        said: Said,
        guess: F64,
        world: F64,
        translation: F64,
        betas: F64,
        vectors: F64,
        camera: Camera,
        *,
        near: float | None = None,
        anchors: F64 | None = None,
        standing: F64 | None = None,
    ) -> None:
        """Improve world (n, 22, 3, 3) and translation (n, 3) in place, frame by frame.

        near: how far the body may move from where it is. anchors (n, 2, 3), standing (n, 2) in 0..1: hold those feet, and the pose.
        """
        weights, strengths = self._weights, self._strengths
        sharpness = self._sharpness(stretch, said, camera)
        sureness = said.sureness[:, SAID] / weights.network**2
        if near is not None:
            turn_weights, move_weights = np.zeros(22), np.array([1, 1, 1 / 9]) / near**2
        else:
            turn_weights, move_weights = np.full(22, strengths.hold**-2.0), np.full(3, strengths.stay**-2.0)
        for i in range(len(world)):
            if standing is not None and not standing[i].any():
                continue
            prior = Prior(
                said=guess[i],
                said_weights=sureness[i],
                expected=world[i].copy(),
                expected_weights=turn_weights,
                translation=translation[i].copy(),
                translation_weights=move_weights,
                limit_weight=1 / weights.limit**2,
            )
            if anchors is not None and standing is not None:
                prior = prior._replace(anchors=anchors[i], anchor_weights=standing[i] / strengths.stand**2)
            seen = Seen(stretch.rays[i], sharpness[i], weights.robust**2)
            fit(self._points._replace(vectors=vectors), Pose(world[i], translation[i], betas), seen, prior, weights.steps)

    def _feet(self, stretch: Stretch, sizes: F64, world: F64, translation: F64, vectors: F64) -> tuple[F64, F64]:
        """Where each ankle stands (n, 2, 3), and how surely (n, 2) in 0..1: it fades in and out over `STEP`."""
        n, times = len(stretch.times), stretch.times
        anchors, standing = np.zeros((n, 2, 3)), np.zeros((n, 2))
        if n < 3:
            return anchors, standing
        places = np.empty((n, 39, 3))
        for i in range(n):
            place(vectors, world[i], translation[i], places[i])
        size = np.maximum(sizes, 1e-6)
        lowest = np.where(stretch.confidences[:, 15:17] > 0, stretch.rays[:, 15:17, 1], -np.inf).max(1)
        for foot, k in enumerate((15, 16)):
            speed = np.linalg.norm(np.gradient(stretch.rays[:, k], times, axis=0), axis=1) / size
            low = stretch.rays[:, k, 1] > lowest - 0.2 * size
            still = (speed < self.STILL) & low & (stretch.confidences[:, k] > 0.3)
            for begin, end in _runs(still):
                if times[end - 1] - times[begin] < self.STEP:
                    continue
                mine = slice(begin, end)
                anchors[mine, foot] = np.median(places[mine, k], axis=0)
                edge = np.minimum(
                    times[mine] - times[begin] if begin > 0 else np.inf, times[end - 1] - times[mine] if end < n else np.inf
                )
                standing[mine, foot] = np.clip(edge / self.STEP, 0.02, 1.0)
        return anchors, standing

    def _write(
        self, rows: I64, world: F64, translation: F64, betas: F64, vectors: F64, doubts: F64, arrays: dict[str, F32]
    ) -> None:
        arrays["rotations"][rows] = to_axis_angle(self._body.local_rotations(world[rows]))
        arrays["betas"][rows] = betas
        arrays["translation"][rows] = translation[rows] - self._body.offsets(betas)[0]
        arrays["uncertainty"][rows] = doubts[rows]
        joints = np.empty((39, 3))
        for i in rows.tolist():
            place(vectors, world[i], translation[i], joints)
            arrays["joints3d"][i] = joints


def _moments(stretch: Stretch, direction: int) -> tuple[F64, F64]:
    """Rays (n, m, 17, 2) and confidences (n, m, 17) at `MOMENTS` before (-1) or after (1) each frame, between the frames that there are."""
    times, n = stretch.times, len(stretch.times)
    rays, confidences = np.empty((n, len(MOMENTS), 17, 2)), np.empty((n, len(MOMENTS), 17))
    for m, away in enumerate(MOMENTS):
        then = times + direction * away
        later = np.clip(np.searchsorted(times, then - 1e-6), 0, n - 1)
        earlier = np.where(times[later] - then < 1e-6, later, np.maximum(later - 1, 0))
        span = times[later] - times[earlier]
        share = np.where(span > 0, (then - times[earlier]) / np.where(span > 0, span, 1.0), 0.0)[:, None]
        rays[:, m] = (1 - share)[..., None] * stretch.rays[earlier] + share[..., None] * stretch.rays[later]
        inside = ((then >= times[0] - 1e-6) & (then <= times[-1] + 1e-6))[:, None]
        confidences[:, m] = inside * np.minimum(stretch.confidences[earlier], stretch.confidences[later])
    return rays, confidences


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
