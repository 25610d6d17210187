"""Our ankles: `rtpose train ankles --recipe default`.

A network learns where the ankles are from all 17 joints as a keypoint network gives them, wrong as they may be, with their confidences
(`stages.ankles` says what it sees and what it answers). Labelled people are many (COCO's train2017), pictures are few, so:

1. `measure`: the keypoint network looks at the train2017 pictures many times: mirrored, with the crop shifted, and with legs hidden
   behind patches, blurred or coarse. What it answers beside the labels are its errors, whole people of them.
2. `Errors.apply`: a labelled person gets the errors of a similar one of those: the confidences, which joints were taken for those of
   the other side, and the deviations, partly of that person and partly drawn joint by joint for the same confidence.
3. The network learns by the likelihood of the labelled ankles, from those people and from the measured ones themselves.
4. `tune`: the margin comes from networks that have not seen the pictures they are judged on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..backends import open_session
from ..models import Model, find, register
from ..source import read_picture
from ..stages import ankles as stage
from ..stages.keypoints import MIRRORED, PAIRS, KeypointEstimator
from ..types import F32, F64, U8
from . import keep
from .people import Labels, read_people, read_pictures

FLIP = np.array([-1, 1], np.float32)

LEAST_JOINTS, LEAST_HEIGHT = 8, 60.0
"""Whom to learn from: so many joints labelled, a box of so many px. Those who are measured are 80 px high at least."""

NETWORKS = ("movenet-thunder", "posenet")
VIEWS = {"plain": 1, "mirrored": 1, "shifted": 4, "spoiled": 12}
HIDDEN = 192
DROPOUT = 0.15
"""The measured people are few: without it the network learns them by heart and is too sure of itself."""

EPOCHS, BATCH, RATE, DECAY = 8, 512, 2e-3, 1e-3
REAL = 15000
"""People drawn from the measured ones in each epoch, beside everybody labelled."""

FOLDS = 3
NEIGHBOURS = 24


@dataclass(frozen=True)
class Errors:
    """What a keypoint network made of labelled people, in units of their boxes' longer side about its middle, mirrored ones included.

    truth (n, 17, 2), with guesses for unlabelled joints; labelled (n, 17): COCO's v; found (n, v, 17, 3) in v views; borders (n, 4):
    left, top, right, bottom of the picture; pictures (n,): COCO's ids; sides (n,): px of a unit.
    """

    truth: F32
    labelled: F32
    found: F32
    borders: F32
    pictures: NDArray[np.int64]
    sides: F32

    def __getitem__(self, rows: NDArray[np.bool_]) -> Errors:
        return Errors(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def units(people: Labels) -> tuple[F32, F32, F32]:
    """Keypoints (n, 17, 2) in units of the box's longer side about its middle, the middles (n, 2) and the sides (n,) in px."""
    sides = people.boxes[:, 2:].max(1)
    middles = people.boxes[:, :2] + people.boxes[:, 2:] / 2
    points = (people.keypoints[:, :, :2] - middles[:, None]) / sides[:, None, None]
    return np.asarray(points, np.float32), np.asarray(middles, np.float32), np.asarray(sides, np.float32)


def mirrored(points: F32) -> F32:
    """Joints (..., 17, 2) about a middle, seen in a mirror: left is right, and the joints change their names."""
    return (points * FLIP)[..., MIRRORED, :]


def mirrored_borders(borders: F32) -> F32:
    """Left, top, right, bottom (n, 4) of the picture in a mirror."""
    return borders[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32)


class Bodies:
    """Guesses unlabelled joints: the mean and covariance of whole bodies, conditioned on the labelled joints."""

    def __init__(self, people: Labels) -> None:
        whole = units(people)[0][(people.keypoints[:, :, 2] > 0).all(1)]
        rows = np.concatenate([whole, mirrored(whole)]).reshape(-1, 34).astype(np.float64)
        self._mean, self._covariance = rows.mean(0), np.cov(rows.T) + 1e-5 * np.eye(34)

    def complete(self, points: F32, labelled: NDArray[np.bool_], chunk: int = 4000) -> F32:
        """The joints (n, 17, 2), those not labelled (n, 17) replaced by their conditional mean."""
        parts = []
        for i in range(0, len(points), chunk):
            known = np.repeat(labelled[i : i + chunk], 2, axis=1)
            given = points[i : i + chunk].reshape(-1, 34)
            # A joint that is not labelled is one measured with no precision at all.
            noise = np.eye(34) * np.where(known, 1e-6, 1e3)[:, None]
            off = np.where(known, given - self._mean, 0.0)[:, :, None]
            guess = self._mean + (self._covariance @ np.linalg.solve(self._covariance + noise, off))[:, :, 0]
            parts.append(np.where(known, given, guess).reshape(-1, 17, 2))
        return np.concatenate(parts).astype(np.float32)


def spoil(image: U8, person: F32, box: F32, random: Generator) -> U8:
    """A picture in which the legs of the person are harder to see: behind patches, coarse, blurred by motion, or dim.

    person (17, 3): labels in px; box (4,): x, y, width, height.
    """
    image = image.copy()
    side = float(box[2:].max())
    how = random.random()
    if how < 0.65:
        legs = [j for j in (13, 14, 15, 16) if person[j, 2] > 0]
        for j in random.permutation(legs)[: random.integers(1, 3)]:
            _patch(image, person[int(j), :2] + random.normal(0, 0.03 * side, 2), side * random.uniform(0.05, 0.22, 2), random)
    if how > 0.5:
        if random.random() < 0.5:
            factor = min(0.9, random.uniform(0.1, 0.5) * 256 / (1.2 * side))
            small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            image = np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        else:
            length = int(max(3, side * random.uniform(0.02, 0.12))) | 1
            streak = np.zeros((length, length), np.float32)
            streak[length // 2] = 1
            turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), random.uniform(0, 180), 1)
            streak = np.asarray(cv2.warpAffine(streak, turn, (length, length)), np.float32)
            image = np.asarray(cv2.filter2D(image, -1, streak / streak.sum()), np.uint8)
    if random.random() < 0.4:
        dim = (image.astype(np.float32) - 128) * random.uniform(0.35, 1) + 128 + random.uniform(-50, 30)
        image = np.clip(dim, 0, 255).astype(np.uint8)
    return image


def _patch(image: U8, centre: F64, half: F64, random: Generator) -> None:
    """Hide a rectangle or an ellipse of the picture behind another part of it, a plain colour, or a blur."""
    x0, y0 = np.maximum(centre - half, 0).astype(int)
    x1, y1 = np.minimum(centre + half, image.shape[1::-1]).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    h, w = y1 - y0, x1 - x0
    hole = image[y0:y1, x0:x1]
    kind = random.random()
    if kind < 0.6:
        y, x = random.integers(0, max(1, image.shape[0] - h)), random.integers(0, max(1, image.shape[1] - w))
        patch = image[y : y + h, x : x + w].copy()
    elif kind < 0.8:
        patch = np.full_like(hole, random.integers(0, 255, 3))
    else:
        patch = np.asarray(cv2.GaussianBlur(hole, (0, 0), max(1.0, 0.2 * float(half.max()))), np.uint8)
    if random.random() < 0.5:
        rows, columns = np.mgrid[:h, :w]
        inside = ((rows - h / 2) / (h / 2)) ** 2 + ((columns - w / 2) / (w / 2)) ** 2 < 1
        hole[inside] = patch[inside]
    else:
        hole[:] = patch


def measure(network: str, people: Labels, pictures: dict[int, Path], bodies: Bodies, seed: int = 0) -> Errors:
    """What a keypoint network answers for the labelled people of the pictures, in all `VIEWS`."""
    model = find(network, "keypoints")
    estimator = KeypointEstimator(open_session(model.path, precision="f32", threads=1), model.decoder)
    random = np.random.default_rng(seed)
    seen = (people.keypoints[:, :, 2] > 0).sum(1) >= LEAST_JOINTS
    people = people[np.isin(people.images, list(pictures)) & seen & (people.boxes[:, 3] >= 80)]
    found = np.empty((len(people), sum(VIEWS.values()), 17, 3), np.float32)
    for i in range(len(people)):
        image = read_picture(pictures[int(people.images[i])])
        x, y, w, h = people.boxes[i]
        near = int(max(w, h) * 0.7)
        left, top = max(0, int(x + w / 2) - near), max(0, int(y + h / 2) - near)
        image = image[top : int(y + h / 2) + near, left : int(x + w / 2) + near]
        person, box = (
            people.keypoints[i] - np.array([left, top, 0], np.float32),
            people.boxes[i] - np.array([left, top, 0, 0], np.float32),
        )
        views = (view for view, count in VIEWS.items() for _ in range(count))
        for k, view in enumerate(views):
            found[i, k] = _look(estimator, image, person, box, view, random) + np.array([left, top, 0], np.float32)
    truth, middles, sides = units(people)
    labelled = people.keypoints[:, :, 2]
    truth = bodies.complete(truth, labelled > 0)
    found[..., :2] = (found[..., :2] - middles[:, None, None]) / sides[:, None, None, None]
    both = np.concatenate([found, np.concatenate([mirrored(found[..., :2]), found[..., MIRRORED, 2:]], -1)])
    borders = picture_borders(people)
    return Errors(
        np.concatenate([truth, mirrored(truth)]),
        np.concatenate([labelled, labelled[:, MIRRORED]]),
        both,
        np.concatenate([borders, mirrored_borders(borders)]),
        np.tile(people.images, 2),
        np.tile(sides, 2),
    )


def _look(estimator: KeypointEstimator, image: U8, person: F32, box: F32, view: str, random: Generator) -> F32:
    if view in ("shifted", "spoiled"):
        w, h = box[2:]
        box = box + np.array([w * random.normal(0, 0.05), h * random.normal(0, 0.04), 0, 0], np.float32)
        box = box * np.array([1, 1, np.exp(random.normal(0, 0.07)), np.exp(random.normal(0, 0.06))], np.float32)
    mirror = view == "mirrored" or (view == "spoiled" and random.random() < 0.5)
    if view == "spoiled":
        image = spoil(image, person, box, random)
    xyxy = np.concatenate([box[:2], box[:2] + box[2:]])[None].astype(np.float32)
    if mirror:
        width = image.shape[1] - 1
        image, xyxy = (
            np.ascontiguousarray(image[:, ::-1]),
            np.array([[width - xyxy[0, 2], xyxy[0, 1], width - xyxy[0, 0], xyxy[0, 3]]], np.float32),
        )
    found = estimator.estimate(np.ascontiguousarray(image), xyxy)[0]
    if mirror:
        found = (found * np.array([-1, 1, 1], np.float32) + np.array([width, 0, 0], np.float32))[MIRRORED]
    return np.asarray(found, np.float32)


def picture_borders(people: Labels) -> F32:
    """Left, top, right, bottom (n, 4) of the picture in units of the box's longer side about its middle."""
    _, middles, sides = units(people)
    return np.asarray(np.concatenate([-middles, people.sizes - middles], 1) / sides[:, None], np.float32)


class Imitation:
    """Gives labelled people (units, mirrored ones not included) the errors of similar measured ones."""

    def __init__(self, errors: Errors, truth: F32, labelled: F32, sides: F32) -> None:
        self._errors = errors
        deviation = errors.found[..., :2] - errors.truth[:, None]
        across = errors.found[..., :2] - errors.truth[:, None, MIRRORED]
        known = errors.labelled[:, None] > 0
        far = np.linalg.norm(deviation, axis=-1)
        # Taken for the joint of the other side: far from its own place, near the other's.
        exchanged = known & known[:, :, MIRRORED] & (far > 0.04) & (np.linalg.norm(across, axis=-1) < 0.5 * far)
        self._exchanged = exchanged & (np.arange(17) != MIRRORED)
        deviation = np.where(self._exchanged[..., None], across, deviation)
        self._pools: list[tuple[F32, F32]] = []
        for kind in range(PAIRS.max() + 1):  # both wrists, both knees ... share their errors
            which = np.broadcast_to(known & (kind == PAIRS), exchanged.shape)
            order = np.argsort(errors.found[which][:, 2])
            self._pools.append((errors.found[which][order, 2], deviation[which][order]))
        self._half = len(errors.pictures) // 2
        tree = cKDTree(_likeness(errors.truth, errors.labelled, errors.sides))
        count = min(NEIGHBOURS, 2 * self._half)
        self._similar = tree.query(_likeness(truth, labelled, sides), k=count)[1].reshape(len(truth), -1)

    def __call__(self, truth: F32, mirror: NDArray[np.bool_], random: Generator) -> F32:
        """What the network might find (n, 17, 3) for these joints (n, 17, 2), of which those with `mirror` (n,) are mirrored."""
        n = len(truth)
        row = self._similar[np.arange(n), random.integers(0, self._similar.shape[1], n)]
        row = np.where(mirror, (row + self._half) % (2 * self._half), row)
        view = random.integers(0, self._errors.found.shape[1], n)
        theirs, found, exchanged = self._errors.truth[row], self._errors.found[row, view], self._exchanged[row, view]
        confidence = shake(found[..., 2], 0.5, random)
        deviation = found[..., :2] - np.where(exchanged[..., None], theirs[:, MIRRORED], theirs)
        drawn = np.empty_like(deviation)
        for j in range(17):
            confidences, deviations = self._pools[PAIRS[j]]
            near = np.searchsorted(confidences, confidence[:, j]) + random.integers(-60, 61, n)
            drawn[:, j] = deviations[np.clip(near, 0, len(deviations) - 1)]
        drawn *= np.exp(random.normal(0, 0.3, drawn.shape[:2]))[..., None]
        drawn[..., 0] *= random.choice([-1, 1], drawn.shape[:2])
        alone = (random.random(n) < 0.5)[:, None] | (self._errors.labelled[row] == 0)
        deviation = np.where(alone[..., None], drawn, deviation)
        places = np.where(exchanged[..., None], truth[:, MIRRORED], truth) + deviation + random.normal(0, 0.003, deviation.shape)
        return np.concatenate([places, confidence[..., None]], -1).astype(np.float32)


def shake(confidence: F32, by: float, random: Generator) -> F32:
    """Confidences whose logits have moved by a random amount."""
    c = np.clip(confidence, 1e-4, 1 - 1e-4)
    return np.asarray(1 / (1 + (1 / c - 1) * np.exp(random.normal(0, by, c.shape))), np.float32)


def _likeness(truth: F32, labelled: F32, sides: F32) -> F32:
    """Numbers whose distance says how unlike two people are: pose, size in px, which joints are seen, hidden and unlabelled."""
    weights = np.where(np.arange(17) < 5, 0.8, np.where(np.arange(17) < 11, 2.0, 4.0))
    legs = labelled[:, 11:] * np.array([0.1, 0.1, 0.25, 0.25, 0.5, 0.5])
    size = 0.25 * np.log(np.maximum(sides, 20))[:, None]
    pose = (truth * weights[None, :, None]).reshape(len(truth), -1)
    return np.concatenate([pose, size, legs, 0.15 * (labelled[:, :11] > 0)], 1).astype(np.float32)


@dataclass(frozen=True)
class Batch:
    """What the network sees (n, 55), where the ankles are (n, 2, 2) in its units, and which of them are labelled (n, 2)."""

    seen: F32
    ankles: F32
    labelled: F32


def batch(found: F32, truth: F32, labelled: F32, borders: F32) -> Batch:
    """The network's view of people found (n, 17, 3) whose joints are at `truth` (n, 17, 2), all in the same units.

    borders (n, 4): the picture's left, top, right, bottom in these units.
    """
    moved = found.copy()
    # Features are made for pictures that begin at 0, 0.
    moved[..., :2] -= borders[:, None, :2]
    rows = [stage.features(m, w, h) for m, (w, h) in zip(moved, borders[:, 2:] - borders[:, :2], strict=True)]
    middles = np.array([[x, y] for _, x, y, _ in rows], np.float32) + borders[:, :2]
    spreads = np.array([s for *_, s in rows], np.float32)
    ankles = np.asarray((truth[:, stage.ANKLES :] - middles[:, None]) / spreads[:, None, None], np.float32)
    return Batch(np.stack([f for f, *_ in rows]), ankles, (labelled[:, stage.ANKLES :] > 0).astype(np.float32))


def network() -> Any:
    """The torch network: 55 features to 32 answers."""
    import torch

    sizes = (stage.FEATURES, HIDDEN, HIDDEN, HIDDEN, stage.OUTPUTS)
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU(), torch.nn.Dropout(DROPOUT)]
    return torch.nn.Sequential(*layers[:-2])


def mixture(outputs: Any, seen: Any) -> tuple[Any, Any, Any]:
    """`stages.ankles.places` for both ankles in torch: log weights (n, 2, 5), log uncertainties (n, 2, 5), places (n, 2, 5, 2)."""
    import torch

    c = stage.COMPONENTS
    outputs, joints = outputs.reshape(-1, 2, 16), seen[:, :34].reshape(-1, 17, 2)
    sigmas = outputs[..., c : 2 * c].clamp(stage.LEAST_LOG, stage.MOST_LOG) + torch.from_numpy(stage.SIGMA)
    own = joints[:, [13, 14], None] + outputs[..., 2 * c :].reshape(-1, 2, stage.FREE, 2)
    places = torch.cat([joints[:, [15, 16], None], joints[:, [16, 15], None], own], 2)
    return torch.log_softmax(outputs[..., :c], -1), sigmas, places


def loss(outputs: Any, rows: Batch) -> Any:
    """Mean negative log likelihood of the labelled ankles, each place a bivariate Student's t with 3 degrees of freedom."""
    import torch

    seen, ankles, labelled = (torch.from_numpy(a) for a in (rows.seen, rows.ankles, rows.labelled))
    weights, sigmas, places = mixture(outputs, seen)
    squares = ((places - ankles[:, :, None]) ** 2).sum(-1) * torch.exp(-2 * sigmas)
    likelihood = torch.logsumexp(weights - 2 * sigmas - 2.5 * torch.log1p(squares / 3), -1)
    return -(likelihood * labelled).sum() / labelled.sum()


@dataclass(frozen=True)
class Task:
    """Everything one keypoint network's ankles are learnt from: labelled people in units, and the errors measured."""

    truth: F32
    labelled: F32
    borders: F32
    sides: F32
    errors: Errors

    def epoch(self, imitation: Imitation, errors: Errors, random: Generator) -> Batch:
        """Everybody labelled once with imitated errors, mirrored or not, and `REAL` of the measured ones; all turned and stretched."""
        mirror = random.random(len(self.truth)) < 0.5
        truth = np.where(mirror[:, None, None], mirrored(self.truth), self.truth)
        labelled = np.where(mirror[:, None], self.labelled[:, MIRRORED], self.labelled)
        borders = np.where(mirror[:, None], mirrored_borders(self.borders), self.borders)
        found = imitation(truth, mirror, random)
        row, view = random.integers(0, len(errors.truth), REAL), random.integers(0, errors.found.shape[1], REAL)
        real = errors.found[row, view].copy()
        real[..., :2] += random.normal(0, 0.008, (REAL, 17, 2))
        real[..., 2] = shake(real[..., 2], 0.3, random)
        found, truth = np.concatenate([found, real]), np.concatenate([truth, errors.truth[row]])
        labelled, borders = np.concatenate([labelled, errors.labelled[row]]), np.concatenate([borders, errors.borders[row]])
        angle = random.normal(0, 0.08, len(found))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32).transpose(2, 0, 1)
        turn = turn * np.exp(random.normal(0, 0.05, (len(found), 2, 1))).astype(np.float32)
        found[..., :2] = found[..., :2] @ turn.transpose(0, 2, 1)
        return batch(found, truth @ turn.transpose(0, 2, 1), labelled, borders.astype(np.float32))


def fit(task: Task, errors: Errors, checkpoint: Path, seed: int, say: Callable[[str], None]) -> tuple[Any, list[float]]:
    """Train a network on the task with these of its errors; returns it and the loss of each epoch. Goes on where `checkpoint` ends."""
    import torch

    torch.manual_seed(seed)
    net = network()
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    steps = EPOCHS * (-(-(len(task.truth) + REAL) // BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    curve: list[float] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        curve = saved["curve"]
    if len(curve) == EPOCHS:
        return net, curve
    imitation = Imitation(errors, task.truth, task.labelled, task.sides)
    for epoch in range(len(curve), EPOCHS):
        random = np.random.default_rng((seed, epoch))
        rows = task.epoch(imitation, errors, random)
        total = 0.0
        for pick in np.array_split(random.permutation(len(rows.seen)), steps // EPOCHS):
            value = loss(net(torch.from_numpy(rows.seen[pick])), Batch(rows.seen[pick], rows.ankles[pick], rows.labelled[pick]))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
            total += float(value.detach()) * len(pick) / len(rows.seen)
        curve.append(total)
        saved = {
            "network": net.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "curve": curve,
        }
        keep(saved, checkpoint)
        say(f"{checkpoint.stem}: epoch {epoch + 1} of {EPOCHS}, loss {total:.3f}")
    return net, curve


def layers_of(net: Any) -> tuple[tuple[F32, F32], ...]:
    """The torch network's layers as `stages.ankles` wants them."""
    dense = [layer for layer in net if hasattr(layer, "weight")]
    return tuple((np.ascontiguousarray(d.weight.detach().numpy().T), d.bias.detach().numpy().copy()) for d in dense)


@dataclass(frozen=True)
class Judged:
    """Held-out ankles: error as measured and as corrected (share of the box's height), confidence, gain said and whether moved."""

    measured: F64
    corrected: F64
    confidence: F64


def judge(weights: stage.Weights, errors: Errors, views: int) -> Judged:
    """What the weights do to the labelled ankles of these measured people, in the first `views` views."""
    rows = []
    half = len(errors.truth) // 2  # mirrored ones say the same again
    for i in range(half):
        borders = errors.borders[i]
        for found in errors.found[i, :views]:
            moved = found.copy()
            moved[:, :2] -= borders[:2]
            ankles, _ = stage.correct(weights, moved, float(borders[2] - borders[0]), float(borders[3] - borders[1]))
            for side in np.flatnonzero(errors.labelled[i, stage.ANKLES :] > 0):
                j = stage.ANKLES + side
                before = np.hypot(*(found[j, :2] - errors.truth[i, j]))
                after = np.hypot(*(ankles[side, :2] + borders[:2] - errors.truth[i, j]))
                rows.append((before, after, found[j, 2]))
    return Judged(*np.array(rows, np.float64).reshape(-1, 3).T)


def pck(errors: F64) -> float:
    """The mean of the shares of errors under .05 and .1."""
    return float(((errors < 0.05).mean() + (errors < 0.1).mean()) / 2)


def tune(folds: list[tuple[stage.Weights, Errors]], views: int) -> tuple[float, dict[str, Any]]:
    """The margin that does best on people whose pictures the weights have not seen, and the table it was read from."""
    table: dict[str, Any] = {}
    for margin in MARGINS:
        parts = [judge(stage.Weights(w.kind, w.layers, w.gate, w.reach, margin), held, views) for w, held in folds]
        both = Judged(*(np.concatenate([getattr(p, name) for p in parts]) for name in Judged.__dataclass_fields__))
        low = both.confidence < folds[0][0].gate
        table[f"{margin:g}"] = {
            "ankles": int(low.sum()),
            "measured": pck(both.measured[low]),
            "corrected": pck(both.corrected[low]),
        }
    return max(MARGINS, key=lambda m: table[f"{m:g}"]["corrected"]), table


MARGINS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)


def train_default(
    data: Path, out: Path, *, networks: tuple[str, ...] = NETWORKS, seed: int = 0, say: Callable[[str], None] = print
) -> Model:
    """Train for the outputs of these keypoint networks and write weights, card, curves and report to `out`, which also keeps what was
    done so far: called again, it goes on from there."""
    import torch

    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    pictures = read_pictures(data / "coco_images", "train2017")
    everybody = read_people(data / "coco_keypoints" / "train2017_people.npz")
    bodies = Bodies(everybody[~np.isin(everybody.images, list(pictures))])
    people = _teachers(everybody[~np.isin(everybody.images, list(read_pictures(data / "coco_images")))])
    truth, _, sides = units(people)
    truth = bodies.complete(truth, people.keypoints[:, :, 2] > 0)
    arrays: dict[str, Any] = {}
    report: dict[str, Any] = {"people": len(people)}
    for name in networks:
        decoder = find(name, "keypoints").decoder
        errors = _kept(out / f"errors-{name}.npz", partial(measure, name, everybody, pictures, bodies, seed))
        task = Task(truth, people.keypoints[:, :, 2], picture_borders(people), sides, errors)
        fold = np.random.default_rng(seed).permutation(int(errors.pictures.max()) + 1)[errors.pictures] % FOLDS
        held = []
        for k in range(FOLDS):
            net, _ = fit(task, errors[fold != k], out / f"{name}-fold{k}.pt", seed + 1 + k, say)
            held.append((stage.Weights("mixture", layers_of(net), stage.GATES[decoder], REACH, 0.0), errors[fold == k]))
        margin, table = tune(held, VIEWS["plain"] + VIEWS["mirrored"] + VIEWS["shifted"])
        net, curve = fit(task, errors, out / f"{name}.pt", seed, say)
        report[name] = {"measured_people": len(errors.truth) // 2, "margin": margin, "cross_validation": table, "curve": curve}
        arrays.update({f"{decoder}_gate": stage.GATES[decoder], f"{decoder}_reach": REACH, f"{decoder}_margin": margin})
        for k, (weight, bias) in enumerate(layers_of(net)):
            arrays[f"{decoder}_w{k}"], arrays[f"{decoder}_b{k}"] = weight, bias
    path = out / "ankles-default.npz"
    np.savez_compressed(path, **arrays)
    (out / "ankles-default.report.json").write_text(json.dumps(report, indent=1) + "\n")
    _draw({name: report[name]["curve"] for name in networks}, out / "ankles-default.png")
    return register(
        path,
        name="default",
        task="ankles",
        licence="Apache-2.0",
        origin="rtpose, trained on the annotations of COCO 2017 (CC BY 4.0)",
        made=f"rtpose train ankles --recipe default, seed {seed}: {len(people)} people of train2017 under the errors of "
        + ", ".join(networks)
        + " on other pictures of train2017",
        input="all 17 keypoints with the network's own confidences, for " + ", ".join(networks),
        decoder="mixture",
    )


REACH = 0.28
"""Width of the Gaussian that stands for a disc of a tenth of the person's height (it has the same area), in units of the spread of a
person's joints, which is about a quarter of the height."""


def _teachers(people: Labels) -> Labels:
    """Those with a leg labelled from hip to ankle, and enough else."""
    known = people.keypoints[:, :, 2] > 0
    leg = known[:, [11, 13, 15]].all(1) | known[:, [12, 14, 16]].all(1)
    return people[leg & (known.sum(1) >= LEAST_JOINTS) & (people.boxes[:, 3] >= LEAST_HEIGHT)]


def _kept(path: Path, make: Callable[[], Errors]) -> Errors:
    """The errors kept in a file, or made and kept there."""
    if not path.exists():
        errors = make()
        unfinished = path.with_suffix(".partial.npz")
        np.savez(unfinished, **{name: getattr(errors, name) for name in Errors.__dataclass_fields__})
        unfinished.replace(path)
    with np.load(path) as file:
        return Errors(*(file[name] for name in Errors.__dataclass_fields__))


def _draw(curves: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, label=name)
    axes.set(xlabel="epoch", ylabel="negative log likelihood of an ankle")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
