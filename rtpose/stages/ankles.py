"""Ankles that the keypoint network has lost: found again from the other joints, weighed with what was measured.

Two kinds of weights, chosen by their card's `decoder`:

- `paper`: four small networks give each ankle from the knee and hip of its side; they take the place of what is unsure.
- `mixture`: one network sees all joints with their confidences and says, for each ankle, where it may be: at the measured place, at the
  other ankle's measured place (the legs were mistaken for each other) or at three places of its own, each with its weight and its own
  uncertainty. The ankle goes where most of that lies within reach, if that is clearly more than lies around the measured place.

An ankle whose confidence is at the gate or above is left alone by both. In a video, legs that change sides from one frame to
the next are changed back first, whatever their confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..jit import jit
from ..types import F32, Result, Status

ANKLES = 15
FEATURES, OUTPUTS = 17 * 3 + 4, 32
COMPONENTS, FREE = 5, 3
"""Places for each ankle: as measured, as the other one was measured, and three of the network's own."""

SIGMA = np.array([-2.5, -2.0, -1.0, -1.0, -0.5], np.float32)
"""Logarithms of the places' uncertainties around which the network's are centred, in units of the person's spread."""

LEAST_LOG, MOST_LOG = -5.0, 2.0
GATES = {"movenet": 0.3, "posenet": 0.3}
"""Confidence (the keypoint network's own) from which an ankle is left alone, by the decoder in the network's card."""

PAPER_SIDE = 640.0
"""The paper's networks work in px of a picture whose longer side is this; see `train.paper`."""


@dataclass(frozen=True)
class Weights:
    """What a weight file holds for one keypoint network.

    layers: (weight (inputs, outputs), bias) from the first on; for `paper` four networks one after the other (left x, left y, right x,
    right y). gate: confidence (the keypoint network's own) from which an ankle is left alone. reach and margin, of `mixture`: how
    near a place counts as right, in units of the person's spread, and by how much of probability a place must be better.
    """

    kind: str
    layers: tuple[tuple[F32, F32], ...]
    gate: float
    reach: float
    margin: float


def read_weights(path: Path, kind: str, network: str) -> Weights:
    """The weights in `path` of a kind (`paper`, `mixture`) for the outputs of a keypoint network (its card's decoder: `movenet`...).

    Raises InputError where the file has none for that network.
    """
    with np.load(path) as file:
        if f"{network}_gate" not in file:
            known = sorted(name.removesuffix("_gate") for name in file if name.endswith("_gate"))
            raise InputError(f"there are no ankle weights for the keypoints of {network}: there are for {', '.join(known)}")
        gate = float(file[f"{network}_gate"])
        if kind == "paper":
            names = [f"{side}_{axis}_" for side in ("left", "right") for axis in "xy"]
            return Weights(kind, _layers(file, names, 3, transpose=True), gate, 0.0, 0.0)
        if kind != "mixture":
            raise InputError(f"unknown kind of ankle weights {kind!r}: choose one of paper, mixture")
        layers = _layers(file, [f"{network}_"], 4, transpose=False)
        return Weights(kind, layers, gate, float(file[f"{network}_reach"]), float(file[f"{network}_margin"]))


def _layers(file: np.lib.npyio.NpzFile, prefixes: list[str], count: int, *, transpose: bool) -> tuple[tuple[F32, F32], ...]:
    pairs = []
    for prefix in prefixes:
        for k in range(count):
            weight, bias = file[f"{prefix}w{k}"], file[f"{prefix}b{k}"]
            pairs.append((np.ascontiguousarray(weight.T if transpose else weight, np.float32), bias.astype(np.float32)))
    return tuple(pairs)


class Ankles:
    """The stage: corrects the ankles of a frame's people; runs after the keypoints and before smoothing."""

    name = "ankles"

    def __init__(self, weights: Weights, *, forget: float = 0.5) -> None:
        """forget: seconds after which a person's legs of an earlier frame no longer say which is left and which is right; also how
        long the network may go on seeing them the other way round before it is believed."""
        self._weights = weights
        self._forget = forget
        self._legs: dict[int, _Legs] = {}

    def __call__(self, result: Result) -> Result:
        """Set the coordinates, confidence and status of ankles that are better known from the other joints."""
        frame, people = result.frame, result.people
        if frame.independent:
            self._legs.clear()
        self._legs = {i: legs for i, legs in self._legs.items() if frame.time - legs.time <= self._forget}
        if len(people) == 0:
            return result
        keypoints, status = people.keypoints.copy(), people.status.copy()
        for row, person in enumerate(people.ids.tolist()):
            measured = people.raw[row]
            legs = None if frame.independent else self._legs.get(person)
            if legs is not None and legs.crossed(measured, frame.time, self._forget):
                measured = measured[EXCHANGED]
                keypoints[row] = keypoints[row][EXCHANGED]
                status[row, LEGS] = Status.CORRECTED
            found, moved = correct(self._weights, measured, frame.width, frame.height)
            for side in np.flatnonzero(moved):
                keypoints[row, ANKLES + side] = found[side]
                status[row, ANKLES + side] = Status.CORRECTED
            if not frame.independent:
                since = frame.time if legs is None or measured is people.raw[row] else legs.agreed
                self._legs[person] = _Legs(frame.time, since, measured[LEGS].copy())
        return replace(result, people=replace(people, keypoints=keypoints, status=status))


LEGS = np.array([13, 14, 15, 16])
EXCHANGED = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 13, 16, 15])
"""All keypoints with knees and ankles changing sides."""


@dataclass(frozen=True)
class _Legs:
    """Knees and ankles (4, 3) of a person's last frame, its time, and when the network last agreed with their sides."""

    time: float
    agreed: float
    points: F32

    def crossed(self, measured: F32, time: float, patience: float) -> bool:
        """Whether the legs `measured` (17, 3) lie where the others were: both would have jumped, and exchanged they stay near."""
        now = measured[LEGS]
        if time - self.agreed > patience or min(now[:, 2].min(), self.points[:, 2].min()) < SURE_OF_LEGS:
            return False
        stay = np.hypot(*(now[:, :2] - self.points[:, :2]).T).sum()
        swap = np.hypot(*(now[[1, 0, 3, 2], :2] - self.points[:, :2]).T).sum()
        size = np.ptp(measured[:, :2], axis=0).max()
        # The hips, which do not change sides with them, must not be further from the knees then.
        hips, knees = measured[[11, 12], :2], now[:2, :2]
        thighs, exchanged = (np.hypot(*(k - hips).T).sum() for k in (knees, knees[::-1]))
        return bool(stay > JUMP * size and swap < 0.5 * stay and exchanged <= thighs)


SURE_OF_LEGS = 0.15
JUMP = 0.25
"""Legs that change sides move, all four joints together, by this share of the person's size from one frame to the next."""


def correct(weights: Weights, measured: F32, width: float, height: float) -> tuple[F32, NDArray[np.bool_]]:
    """The ankles of one person in a picture of that size.

    measured (17, 3): x, y px and the keypoint network's own confidence. Returns left and right ankle (2, 3), with the chance that
    they are right in place of the confidence, and which of them moved (2,); one that did not is as measured.
    """
    measured = np.ascontiguousarray(measured, np.float32)
    found = measured[ANKLES:].copy()
    moved = np.zeros(2, np.bool_)
    if (found[:, 2] >= weights.gate).all():
        return found, moved
    if weights.kind == "paper":
        _paper(weights.layers, measured, PAPER_SIDE / max(width, height), weights.gate, found, moved)
    else:
        _mixture(weights.layers, measured, width, height, weights.gate, weights.reach, weights.margin, found, moved)
    return found, moved


def expected(weights: Weights, measured: F32, place: F32, side: int, width: float, height: float) -> tuple[float, float]:
    """How far (px) from a place (x, y) the `mixture` expects an ankle to be (side 0: left), and the chance that it is right there."""
    seen, x, y, spread = features(np.ascontiguousarray(measured, np.float32), width, height)
    chances, sigmas, means = places(forward(weights.layers, seen), seen, side)
    at = (np.asarray(place, np.float64) - (x, y)) / spread
    # The mean distance from the middle of a bivariate t with 3 degrees of freedom is the square root of 3 times its sigma.
    error = float((chances * np.sqrt(((means - at) ** 2).sum(1) + 3 * sigmas**2)).sum())
    return error * spread, float(chance(at[0], at[1], chances, sigmas, means, weights.reach)[0])


def _paper(
    layers: tuple[tuple[F32, F32], ...], measured: F32, scale: float, gate: float, found: F32, moved: NDArray[np.bool_]
) -> None:
    for side in np.flatnonzero(measured[ANKLES:, 2] < gate):
        hip, knee = measured[11 + side], measured[13 + side]
        for axis, inputs in enumerate((knee[:1] * scale, np.array([knee[1], hip[1]], np.float32) * scale)):
            first = 3 * (2 * side + axis)
            found[side, axis] = forward(layers[first : first + 3], inputs.astype(np.float32))[0] / scale
        # Its uncertainty is not known; it is no surer than what it is computed from.
        found[side, 2] = min(hip[2], knee[2])
        moved[side] = True


@jit
def forward(layers: tuple[tuple[F32, F32], ...], inputs: F32) -> F32:
    """A network of dense layers with ReLU between them."""
    values = inputs
    for k in range(len(layers)):
        values = np.dot(values, layers[k][0]) + layers[k][1]
        if k < len(layers) - 1:
            values = np.maximum(values, np.float32(0))
    return values


@jit
def features(measured: F32, width: float, height: float) -> tuple[F32, float, float, float]:
    """What the `mixture` network sees (55,) of keypoints (17, 3) px, and the person's middle x, y and spread in px.

    Middle and spread are the mean and the root mean square distance of all joints but the ankles, weighted by confidence. Then
    follow: x and y of all joints about the middle in units of the spread, the logits of their confidences over 3, and how far
    away the picture's left, top, right and bottom border are.
    """
    total = x = y = 0.0
    for j in range(ANKLES):
        weight = max(measured[j, 2], 0.02)
        total += weight
        x += weight * measured[j, 0]
        y += weight * measured[j, 1]
    x, y = x / total, y / total
    square = 0.0
    for j in range(ANKLES):
        square += max(measured[j, 2], 0.02) * ((measured[j, 0] - x) ** 2 + (measured[j, 1] - y) ** 2)
    spread = max(np.sqrt(square / total), 1e-3)
    out = np.empty(FEATURES, np.float32)
    for j in range(17):
        out[2 * j] = min(max((measured[j, 0] - x) / spread, -5.0), 5.0)
        out[2 * j + 1] = min(max((measured[j, 1] - y) / spread, -5.0), 5.0)
        sure = min(max(measured[j, 2], 1e-3), 0.999)
        out[34 + j] = np.log(sure / (1.0 - sure)) / 3.0
    out[51] = min(max(-x / spread, -4.0), 4.0)
    out[52] = min(max(-y / spread, -4.0), 4.0)
    out[53] = min(max((width - x) / spread, -4.0), 4.0)
    out[54] = min(max((height - y) / spread, -4.0), 4.0)
    return out, x, y, spread


@jit
def places(outputs: F32, seen: F32, side: int) -> tuple[F32, F32, F32]:
    """Where one ankle may be: weights (5,), uncertainties (5,) and places (5, 2), in units of the spread about the middle.

    outputs (32,) of the network for the features `seen` (55,): for each ankle five logits of the weights, five logarithms of
    uncertainties, three places from its knee.
    """
    mine = outputs[16 * side : 16 * side + 16]
    weights = np.exp(mine[:COMPONENTS] - mine[:COMPONENTS].max())
    weights /= weights.sum()
    sigmas = np.exp(
        np.minimum(np.maximum(mine[COMPONENTS : 2 * COMPONENTS], np.float32(LEAST_LOG)), np.float32(MOST_LOG)) + SIGMA
    )
    means = np.empty((COMPONENTS, 2), np.float32)
    for axis in range(2):
        means[0, axis] = seen[2 * (ANKLES + side) + axis]
        means[1, axis] = seen[2 * (ANKLES + 1 - side) + axis]
        for k in range(FREE):
            means[2 + k, axis] = seen[2 * (13 + side) + axis] + mine[2 * COMPONENTS + 2 * k + axis]
    return weights, sigmas, means


@jit
def chance(x: float, y: float, weights: F32, sigmas: F32, means: F32, reach: float) -> tuple[float, float, float]:
    """How much of the mixture lies within reach of a point, and the mean x, y of that part.

    Within reach is meant softly, with a Gaussian of that width, so that the product with each Gaussian of the mixture is known.
    """
    total = to_x = to_y = 0.0
    for k in range(len(weights)):
        variance = sigmas[k] ** 2 + reach**2
        share = weights[k] * reach**2 / variance * np.exp(-((x - means[k, 0]) ** 2 + (y - means[k, 1]) ** 2) / (2.0 * variance))
        total += share
        to_x += share / variance * means[k, 0]
        to_y += share / variance * means[k, 1]
    norm = 0.0
    for k in range(len(weights)):
        variance = sigmas[k] ** 2 + reach**2
        share = weights[k] * reach**2 / variance * np.exp(-((x - means[k, 0]) ** 2 + (y - means[k, 1]) ** 2) / (2.0 * variance))
        norm += share / variance
    return total, to_x / max(norm, 1e-30), to_y / max(norm, 1e-30)


@jit
def _mixture(
    layers: tuple[tuple[F32, F32], ...],
    measured: F32,
    width: float,
    height: float,
    gate: float,
    reach: float,
    margin: float,
    found: F32,
    moved: NDArray[np.bool_],
) -> None:
    seen, middle_x, middle_y, spread = features(measured, width, height)
    outputs = forward(layers, seen)
    for side in range(2):
        if measured[ANKLES + side, 2] >= gate:
            continue
        weights, sigmas, means = places(outputs, seen, side)
        before = chance(means[0, 0], means[0, 1], weights, sigmas, means, reach)[0]
        best, x, y = 0.0, 0.0, 0.0
        for k in range(COMPONENTS):
            there = chance(means[k, 0], means[k, 1], weights, sigmas, means, reach)[0]
            if there > best:
                best, x, y = there, means[k, 0], means[k, 1]
        # Climb to the mode: there each place pulls by its weight over its variance.
        for _ in range(CLIMBS):
            _, x, y = chance(x, y, weights, sigmas, means, reach)
        best = chance(x, y, weights, sigmas, means, reach)[0]
        if best > before + margin:
            found[side, 0] = middle_x + x * spread
            found[side, 1] = middle_y + y * spread
            found[side, 2] = best
            moved[side] = True


CLIMBS = 5
