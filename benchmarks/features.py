"""What coordinates cannot tell: do frozen features of the keypoint network know which limb is nearer, and which way the trunk faces?

    python benchmarks/features.py --data ../shared/data --json benchmarks/results/features.json

People are drawn from mocap that trains (`rtpose.train.renders`) and seen by MoveNet Thunder, whose inner tensors are laid open and read at
the keypoints that it finds and at the trunk's middle. Two small heads learn to correct what the lifter says of the depth differences
along `LINES` and of the facing: A from what the lifter knows and says (coordinates and confidences of now, and its body); B is A and a
linear layer on the features, whose strength is chosen on people of the same mocap who do not train. They are asked about drawn people of
the `TUNING` mocap and about real pictures:

- the four annotated ones (`single_frame_3d`);
- `LABELS`: people from the side or aslant, of whom somebody who looked at the picture, not at any answer, was sure which is nearer;
- foreshortening in the 13 clips: how deep a limb goes by its length in the picture and the longest that it is seen in that clip, of the two
  largest people, where all its keypoints and the trunk's are sure (.5) and the trunk is upright. It knows no sign, and no lifter is in it.

Errors are in shares of the trunk's length (some .5 m); signs count where the truth is .2 and more. Intervals are of B minus A: 95 %, people
(in clips: clips) drawn anew 4000 times.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import lifting
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from rtpose.app import track
from rtpose.backends import Arrays, Session, open_session
from rtpose.bench import about
from rtpose.body.camera import Camera, camera_for
from rtpose.body.initial import features_into
from rtpose.body.model import BodyModel, load_body
from rtpose.body.rotations import to_axis_angle
from rtpose.models import find
from rtpose.stages.keypoints import CROP, DECODERS, cut, square_crops
from rtpose.stages.lift import Lifter, trusted
from rtpose.train.mocap import DUPLICATES, FPS, HELD_OUT, TUNING, read_mocap
from rtpose.train.renders import EVERY, MOMENTS, Studio
from rtpose.train.samples import Bank, KeypointErrors, Sampler
from rtpose.types import F32, F64, I64, U8, Result

MODEL = find("movenet-thunder", "keypoints")
TENSORS = {"Add_92": 280, "Add_102": 64, "Relu_115": 24}
"""The last block of its backbone (1/32 of the crop), the coarsest sum of its pyramid (1/16), what all its heads read (1/4): channels."""
CHANNELS, POINTS = sum(TENSORS.values()), 18
LINES = np.array([*lifting.BONES, (0, 1), (6, 7), (8, 9)])
"""From one limb joint (`lifting.JOINTS`) to another: eight bones, and from left to right shoulder, hip and knee."""
NAMES = ["left upper arm", "left forearm", "right upper arm", "right forearm"]
NAMES += ["left thigh", "left shin", "right thigh", "right shin", "shoulders", "hips", "knees"]
BONE, PAIRS = slice(0, 8), {"shoulders": 8, "knees": 10}
LATE = slice(8, MOMENTS, 2)
"""The moments of a drawn sequence that are looked at: what the lifter looks back at has been drawn, too."""
SIDE = 2000
"""Of the picture that drawn people are lifted in, px."""
CLEAR = 0.2
BLOCKS = {1: ("test", 80, MOMENTS), 2: ("train", 200, MOMENTS), 3: ("train", 200, MOMENTS), 11: ("test", 800, 1)}
BLOCKS |= dict.fromkeys((12, 13), ("train", 2000, 1))
"""What is drawn: seed, split, people, moments of each."""
STEP = 5
"""Frames of a clip from one look to the next."""

LABELS: tuple[tuple[str, int, int, int, str, str], ...] = (
    ("images/hmr_coco1.png", 0, 112, 106, "r", "-"),
    ("images/hmr_coco2.png", 0, 115, 94, "r", "-"),
    ("images/hmr_coco6.png", 0, 107, 120, "r", "r"),
    ("images/romp_3dpw_sit_on_street.jpg", 0, 652, 678, "r", "-"),
    ("images/romp_Cristiano_Ronaldo.jpg", 0, 1044, 341, "r", "-"),
    ("coco_images/val2017/000000000139.jpg", 0, 440, 230, "l", "-"),
    ("coco_images/val2017/000000001268.jpg", 0, 435, 250, "r", "-"),
    ("coco_images/val2017/000000001268.jpg", 0, 567, 255, "l", "-"),
    ("coco_images/val2017/000000002153.jpg", 0, 404, 277, "l", "l"),
    ("coco_images/val2017/000000002685.jpg", 0, 74, 313, "r", "-"),
    ("coco_images/val2017/000000003156.jpg", 0, 198, 326, "r", "r"),
    ("coco_images/val2017/000000003934.jpg", 0, 182, 157, "l", "-"),
    ("coco_images/val2017/000000003934.jpg", 0, 159, 227, "r", "-"),
    ("coco_images/val2017/000000003934.jpg", 0, 77, 142, "r", "-"),
    ("coco_images/val2017/000000004134.jpg", 0, 38, 188, "l", "-"),
    ("coco_images/val2017/000000007816.jpg", 0, 363, 188, "l", "l"),
    ("coco_images/val2017/000000007977.jpg", 0, 189, 286, "l", "-"),
    ("coco_images/val2017/000000009590.jpg", 0, 88, 223, "r", "-"),
    ("coco_images/val2017/000000009891.jpg", 0, 275, 259, "l", "-"),
    ("coco_images/val2017/000000009891.jpg", 0, 141, 195, "l", "-"),
    ("coco_images/val2017/000000010764.jpg", 0, 332, 238, "r", "r"),
    ("coco_images/val2017/000000011051.jpg", 0, 443, 308, "l", "-"),
    ("coco_images/val2017/000000011197.jpg", 0, 336, 181, "r", "-"),
    ("coco_images/val2017/000000040083.jpg", 0, 336, 221, "l", "-"),
    ("coco_images/val2017/000000040083.jpg", 0, 126, 206, "r", "-"),
    ("coco_images/val2017/000000061747.jpg", 0, 333, 275, "l", "-"),
    ("coco_images/val2017/000000166918.jpg", 0, 440, 367, "l", "-"),
    ("coco_images/val2017/000000329219.jpg", 0, 257, 169, "l", "-"),
    ("coco_images/val2017/000000338905.jpg", 0, 143, 278, "r", "-"),
    ("coco_images/val2017/000000343803.jpg", 0, 175, 371, "r", "-"),
    ("coco_images/val2017/000000350679.jpg", 0, 217, 252, "r", "-"),
    ("coco_images/train2017/000000000431.jpg", 0, 227, 196, "r", "-"),
    ("coco_images/train2017/000000000446.jpg", 0, 225, 386, "r", "-"),
    ("coco_images/train2017/000000000474.jpg", 0, 175, 250, "l", "-"),
    ("coco_images/train2017/000000000488.jpg", 0, 78, 284, "r", "-"),
    ("coco_images/train2017/000000000488.jpg", 0, 157, 302, "r", "r"),
    ("coco_images/train2017/000000000529.jpg", 0, 253, 275, "r", "r"),
    ("coco_images/train2017/000000000790.jpg", 0, 537, 275, "l", "-"),
    ("coco_images/train2017/000000000790.jpg", 0, 398, 192, "l", "-"),
    ("coco_images/train2017/000000000790.jpg", 0, 109, 257, "r", "-"),
    ("coco_images/train2017/000000037666.jpg", 0, 375, 197, "l", "-"),
    ("coco_images/train2017/000000106499.jpg", 0, 355, 387, "l", "-"),
    ("coco_images/train2017/000000106499.jpg", 0, 148, 388, "r", "-"),
    ("coco_images/train2017/000000370162.jpg", 0, 124, 230, "r", "-"),
    ("coco_images/train2017/000000401411.jpg", 0, 240, 244, "l", "-"),
    ("coco_images/train2017/000000401416.jpg", 0, 257, 334, "l", "-"),
    ("coco_images/train2017/000000433998.jpg", 0, 351, 263, "l", "-"),
    ("videos/tfjs_pose_squats.mp4", 30, 375, 668, "r", "r"),
    ("videos/tfjs_pose_squats.mp4", 40, 376, 616, "r", "-"),
    ("videos/sports2d_demo.mp4", 110, 679, 261, "r", "r"),
    ("videos/sports2d_demo.mp4", 130, 766, 199, "r", "-"),
    ("videos/sports2d_demo.mp4", 140, 800, 168, "r", "-"),
    ("videos/sports2d_demo.mp4", 140, 621, 724, "l", "l"),
    ("videos/sports2d_demo.mp4", 150, 510, 730, "l", "l"),
    ("videos/sports2d_demo.mp4", 160, 417, 730, "l", "l"),
    ("videos/sports2d_demo.mp4", 190, 94, 739, "l", "l"),
    ("videos/gast_apart.avi", 60, 1231, 629, "r", "-"),
    ("videos/gast_apart.avi", 70, 1307, 594, "r", "-"),
    ("videos/gast_apart.avi", 80, 386, 567, "l", "-"),
    ("videos/gast_apart.avi", 80, 1391, 589, "r", "-"),
    ("videos/tennistracking_3.mp4", 0, 1637, 290, "l", "l"),
    ("videos/tennistracking_3.mp4", 10, 1636, 449, "l", "l"),
    ("videos/tennistracking_3.mp4", 80, 1638, 444, "l", "l"),
)
"""File, frame, the middle of the person's box in px, and whether the left (l) or the right (r) shoulder and knee is nearer; -: not sure."""


class Moments(NamedTuple):
    """n people at a moment: who they are (n,), what is known of them without features (n, k), what the lifter says (n, 13), the features
    (n, 18, c), and the truth (n, 13), as `answers` gives them, NaN: not known."""

    who: I64
    known: F32
    said: F32
    features: NDArray[np.float16]
    truth: F32

    @staticmethod
    def of(parts: list[tuple[Any, ...]]) -> Moments:
        kinds = (np.int64, np.float32, np.float32, np.float16, np.float32)
        return Moments(*(np.array(column, kind) for column, kind in zip(zip(*parts, strict=True), kinds, strict=True)))

    def only(self, rows: NDArray[np.bool_] | slice) -> Moments:
        return Moments(*(array[rows] for array in self))


class Eye:
    """The keypoint network with its inner tensors laid open. It is a session, and keeps the features at the keypoints it found."""

    def __init__(self, threads: int = 1) -> None:
        self.decode = DECODERS[MODEL.decoder]
        self.features: list[NDArray[np.float16]] = []
        with tempfile.TemporaryDirectory() as folder:
            model, path = onnx.load(MODEL.path), Path(folder) / "open.onnx"
            model.graph.output.extend(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, None, None])
                for name, channels in TENSORS.items()
            )
            onnx.save(model, path)
            self._session: Session = open_session(path, threads=threads)
            self.inputs, self.outputs = self._session.inputs, self._session.outputs
            self({"image": np.zeros((1, 256, 256, 3), np.uint8)})  # it is compiled on first use, from the file

    def __call__(self, feeds: Any) -> Arrays:
        outputs = self._session(feeds)
        self.features.append(at_keypoints(outputs, self.decode(outputs)[..., :2]))
        return outputs

    def look(self, image: U8, box: F32) -> NDArray[np.float16]:
        """The features (18, c) of the person in a box (4,) px of the picture."""
        crop = np.empty((1, 256, 256, 3), np.uint8)
        cut(image, square_crops(box[None], CROP)[0], crop[0])
        self({"image": crop})
        return self.features.pop()[0]


def at_keypoints(outputs: Arrays, places: F32) -> NDArray[np.float16]:
    """The inner tensors (n, 18, c), read between their cells at places (n, 17, 2), shares of the crop, and at the trunk's middle."""
    points = np.concatenate([places, places[:, [5, 6, 11, 12]].mean(1, keepdims=True)], 1)
    parts = []
    for name in TENSORS:
        tensor = np.moveaxis(outputs[name], 1, -1)
        side, rows = tensor.shape[1], np.arange(len(tensor))[:, None]
        at = np.clip(points * side - 0.5, 0, side - 1)
        low = np.minimum(at.astype(int), side - 2)
        x, y = np.moveaxis(low, -1, 0)
        right, down = np.moveaxis((at - low)[..., None], -2, 0)
        upper = tensor[rows, y, x] * (1 - right) + tensor[rows, y, x + 1] * right
        lower = tensor[rows, y + 1, x] * (1 - right) + tensor[rows, y + 1, x + 1] * right
        parts.append(upper * (1 - down) + lower * down)
    return np.concatenate(parts, -1).astype(np.float16)


def answers(limbs: F64) -> F64:
    """What is asked, of limb joints (..., 12, 3) in metres: depth differences along `LINES` in lengths of the trunk, positive where the
    second end is farther, and cosine and sine of where the trunk faces, about the vertical, from the camera to the right: (..., 13)."""
    up = (limbs[..., 0, :] + limbs[..., 1, :] - limbs[..., 6, :] - limbs[..., 7, :]) / 2
    across = limbs[..., 0, :] - limbs[..., 1, :] + limbs[..., 6, :] - limbs[..., 7, :]
    forward = np.cross(across, up)[..., [2, 0]] * [-1, 1]
    depths = limbs[..., LINES[:, 1], 2] - limbs[..., LINES[:, 0], 2]
    facing = forward / np.maximum(np.linalg.norm(forward, axis=-1, keepdims=True), 1e-6)
    return np.concatenate([depths / np.linalg.norm(up, axis=-1, keepdims=True), facing], -1)


def turned_to(camera: Camera, size: tuple[int, int], keypoints: F32) -> tuple[F32, F64]:
    """The coordinates (52,) of keypoints (17, 3) as the lifter sees them, and the turn (3, 3) of the camera towards the person."""
    seen, turn = np.empty(52, np.float32), np.empty((3, 3))
    confidences = trusted(keypoints[:, :2], keypoints[:, 2], size)
    features_into(camera.rays(keypoints[:, :2])[None], confidences[None], seen, turn)
    return seen, turn


def know(camera: Camera, size: tuple[int, int], keypoints: F32, limbs: F64) -> tuple[F32, F64, F64]:
    """What is known of a person without features: the coordinates as the lifter sees them and the depths of its joints; what the lifter
    says; and the turn (3, 3) of the camera towards the person. keypoints (17, 3), limbs (12, 3): the lifter's."""
    seen, turn = turned_to(camera, size, keypoints)
    turned = limbs @ turn.T
    depths = turned[:, 2] - turned[6:8, 2].mean()
    return np.float32(np.concatenate([seen, depths / 0.5])), answers(turned), turn


def draw(eye: Eye, body: BodyModel, bank: Bank, people: int, moments: int, seed: int) -> Moments:
    """Drawn people. At one moment each, or at `MOMENTS` of which `LATE` are looked at, each with what was before it and without."""
    rng = np.random.default_rng([23, seed])
    studio = Studio(Sampler(body, bank, KeypointErrors.load(), rng), eye, MODEL.decoder, moments)
    network = open_session(find("lifter", "lifter").path, precision="f32", threads=1)
    camera = Camera(lifting.FOCAL, lifting.FOCAL, (SIDE - 1) / 2, (SIDE - 1) / 2)
    parts: list[tuple[Any, ...]] = []
    for who in range(people):
        k = who % 10
        if k == 0:
            eye.features.clear()
            seen = studio.sequences(10)
            features = np.stack(eye.features, 1)
        guess = np.exp(0.25 * rng.normal()) if rng.random() < 0.5 else 1.0  # the focal length
        pixels = seen.rays[k] * guess * camera.fx + camera.cx
        keypoints = np.float32(np.concatenate([pixels, seen.confidences[k, ..., None]], -1))
        rotations = to_axis_angle(body.local_rotations(np.float64(seen.world[k])))
        # So far apart, every moment begins anew.
        for apart in (EVERY / FPS, 2 * Lifter.MEMORY)[moments == 1 :]:
            lifter = Lifter(body, network, lambda width, height: camera)
            lifted = lifting.lift(lifter, keypoints, np.arange(moments) * apart, (SIDE, SIDE))[0][:, lifting.JOINTS]
            for t in range(moments)[LATE if moments > 1 else slice(1)]:
                known, said, turn = know(camera, (SIDE, SIDE), keypoints[t], lifted[t])
                truth = body.pose(rotations[t], seen.betas[k], np.zeros(3))[1][np.array(lifting.JOINTS) - 17]
                parts.append((who, known, said, features[k, t], answers(truth @ turn.T)))
    made = Moments.of(parts)
    return made.only(np.isfinite(made.said).all(1))


class Head(nn.Module):
    """Corrects what the lifter says by what is known without features."""

    def __init__(self, known: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(known, 192), nn.ReLU(), nn.Dropout(0.3), nn.Linear(192, 96), nn.ReLU())
        self.last = nn.Linear(96, len(LINES) + 2)

    def forward(self, known: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        return said + self.last(self.layers(known))


class Scale(NamedTuple):
    """Middle and spread of numbers, learned from those that train."""

    middle: F32
    spread: F32

    @staticmethod
    def of(numbers: F32) -> Scale:
        return Scale(numbers.mean(0), numbers.std(0) + 1e-3)

    def __call__(self, numbers: NDArray[Any]) -> F32:
        """Numbers (n, ...) -> (n, k), about 0 and no farther from it than 4."""
        return np.clip((np.float32(numbers) - self.middle) / self.spread, -4, 4).reshape(len(numbers), -1)


class Coordinates:
    """A: three heads that began differently, and their mean."""

    def __init__(self, people: Moments, epochs: int = 12) -> None:
        self._scale = Scale.of(people.known)
        kept = people.who % 10 == 0
        self._heads = [
            self._train(self._tensors(people.only(~kept)), self._tensors(people.only(kept)), epochs, seed) for seed in range(3)
        ]

    def _tensors(self, people: Moments) -> list[torch.Tensor]:
        return [torch.from_numpy(array) for array in (self._scale(people.known), people.said, people.truth)]

    @staticmethod
    def _train(train: list[torch.Tensor], check: list[torch.Tensor], epochs: int, seed: int) -> Head:
        torch.manual_seed(seed)
        head = Head(train[0].shape[1])
        optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        loss = nn.SmoothL1Loss(beta=0.05)  # near the median, not the mean: its sign is the likelier one
        best, state = np.inf, head.state_dict()
        for _ in range(epochs):
            head.train()
            for rows in torch.randperm(len(train[0])).split(128):
                known, said, truth = (tensor[rows] for tensor in train)
                optimizer.zero_grad()
                loss(head(known, said), truth).backward()
                optimizer.step()
            schedule.step()
            head.eval()
            with torch.no_grad():
                now = loss(head(*check[:2]), check[2]).item()
            if now < best:
                best, state = now, {name: tensor.clone() for name, tensor in head.state_dict().items()}
        head.load_state_dict(state)
        return head

    def __call__(self, people: Moments) -> F64:
        known, said, _ = self._tensors(people)
        with torch.no_grad():
            return np.float64(torch.stack([head(known, said) for head in self._heads]).mean(0).numpy())


class Features:
    """B: A, and a linear layer that says from the features what A leaves over (ridge regression)."""

    def __init__(self, people: Moments, coordinates: Coordinates) -> None:
        self._coordinates, self._scale = coordinates, Scale.of(np.float32(people.features))
        left = np.float32(people.truth - coordinates(people)).clip(-1, 1)
        kept, shown = people.who % 10 == 0, self._scale(people.features)
        gram = shown[~kept] @ shown[~kept].T
        self.checked = {np.inf: float(np.square(left[kept]).mean())}
        """Mean square of what is left over with people that do not train, for each ridge: a share of the mean square of features."""
        self._weights = np.zeros((shown.shape[1], left.shape[1]), np.float32)
        for ridge in (30.0, 10.0, 3.0, 1.0):
            diagonal = np.float32(ridge * shown.shape[1]) * np.eye(len(gram), dtype=np.float32)
            weights = shown[~kept].T @ np.linalg.solve(gram + diagonal, left[~kept])
            self.checked[ridge] = float(np.square(left[kept] - shown[kept] @ weights).mean())
            if self.checked[ridge] == min(self.checked.values()):
                self._weights = weights

    def correction(self, features: NDArray[np.float16]) -> F32:
        """What features (n, 18, c) add: (n, 13)."""
        return np.asarray(self._scale(features) @ self._weights)

    def __call__(self, people: Moments) -> F64:
        return np.float64(self._coordinates(people) + self.correction(people.features))


def interval(better: F64, who: I64) -> tuple[float, float, float]:
    """Mean of values (n,), NaN: none, and its 95 % interval, people drawn anew."""
    known = np.isfinite(better)
    _, row = np.unique(who[known], return_inverse=True)
    sums, counts = np.bincount(row, better[known]), np.bincount(row)
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), 4000)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return float(sums.sum() / counts.sum()), float(low), float(high)


def judge(said: dict[str, F64], truth: F64, who: I64) -> dict[str, dict[str, Any]]:
    """Rows of what is said by each against the truth, both (n, 13): of bones, pairs and the facing, and B minus A."""
    angle = np.arctan2(truth[:, 12], truth[:, 11])
    measured: dict[str, dict[str, F64]] = defaultdict(dict)
    for name, theirs in said.items():
        off = np.abs(theirs - truth)[:, : len(LINES)]
        right = np.where(np.abs(truth) >= CLEAR, np.sign(theirs) == np.sign(truth), np.nan)[:, : len(LINES)]
        turned = np.degrees(np.abs(np.angle(np.exp(1j * (np.arctan2(theirs[:, 12], theirs[:, 11]) - angle)))))
        for part, lines in {"bones": range(8), "pairs": range(8, 11), **{n: [i] for i, n in enumerate(NAMES)}}.items():
            measured[f"{part}: sign right, %"][name] = 100 * right[:, lines]
            measured[f"{part}: off, % of the trunk"][name] = 100 * off[:, lines]
            measured[f"{part}: off squared, (% of the trunk)^2"][name] = 1e4 * off[:, lines] ** 2
        measured["facing: off, degrees"][name] = turned[:, None]
    return {name: row(values, who) for name, values in measured.items()}


def row(values: dict[str, F64], who: I64) -> dict[str, Any]:
    """Means of values (n, k) for each name, and B minus A."""
    better = values["B"] - values["A"]
    people = np.repeat(who, better.shape[1])
    means = {name: float(np.nanmean(array)) for name, array in values.items()}
    return {**means, "B minus A": interval(better.ravel(), people), "n": int(np.isfinite(better).sum())}


class Person(NamedTuple):
    """Somebody in a frame: the middle of the box (2,), keypoints (17, 3), what is known and said of them, and the features (18, c)."""

    middle: F32
    keypoints: F32
    known: F32
    said: F64
    features: NDArray[np.float16]


def moments(people: list[Person], truth: Any, who: list[int]) -> Moments:
    """The people with their truth (n, 13)."""
    return Moments.of([(w, p.known, p.said, p.features, t) for p, t, w in zip(people, truth, who, strict=True)])


class Viewer:
    """Looks at the people of pictures and clips as a run does, and at their features."""

    def __init__(self, eye: Eye) -> None:
        self._eye, self._body = eye, load_body()
        self._network = open_session(find("lifter", "lifter").path, precision="f32", threads=1)

    def lifter(self, camera: Camera | None = None) -> Lifter:
        return Lifter(self._body, self._network, lambda w, h: camera or camera_for(w, h))

    def people(self, result: Result, camera: Camera | None = None) -> dict[int, Person]:
        """The people of a lifted result by their numbers."""
        size = result.frame.width, result.frame.height
        assert result.bodies is not None
        found = {}
        for i, identity in enumerate(result.people.ids.tolist()):
            limbs, keypoints, box = result.bodies.joints3d[i, lifting.JOINTS], result.people.keypoints[i], result.people.boxes[i]
            if np.isfinite(limbs).all():
                known, said, _ = know(camera or camera_for(*size), size, keypoints, np.float64(limbs))
                found[identity] = Person((box[:2] + box[2:]) / 2, keypoints, known, said, self._eye.look(result.frame.image, box))
        return found

    def picture(self, path: Path, camera: Camera | None = None) -> list[Person]:
        """The people of a picture."""
        return list(
            self.people(self.lifter(camera)(next(iter(track(path, live=False, lifter="none", threads=1)))), camera).values()
        )

    def clip(self, path: Path) -> tuple[list[dict[int, Person]], dict[int, list[F32]]]:
        """The people of every `STEP`-th frame, and everybody's keypoints (17, 3) in all frames."""
        lifter, looks, keypoints = self.lifter(), [], defaultdict(list)
        for result in track(path, live=False, lifter="none", threads=1):
            lifted = lifter(result)
            for identity, points in zip(result.people.ids.tolist(), result.people.keypoints, strict=True):
                keypoints[identity].append(points)
            if result.frame.index % STEP == 0:
                looks.append(self.people(lifted))
        return looks, keypoints


def annotated(viewer: Viewer, folder: Path) -> Moments:
    """The four annotated pictures, with the camera given."""
    people, truths = [], []
    for said in json.loads((folder / "index.json").read_text()):
        order = lifting.LIMBS_OF[said["joint_order"].split(":")[0]]
        camera = Camera(*said["fx_fy"], *said["cx_cy"])
        labels, joints = np.array(said["joints2d_px"])[order, :2], np.array(said["joints3d_camera_m"])[order]
        seen = viewer.picture(folder / said["file"], camera)
        mine = min(seen, key=lambda p: float(np.abs(p.keypoints[lifting.LIMBS, :2] - labels).mean()))
        _, turn = turned_to(camera, tuple(said["size_wh"]), mine.keypoints)
        people.append(mine)
        truths.append(answers(joints @ turn.T))
    return moments(people, truths, list(range(len(people))))


def foreshortened(keypoints: F32, longest: F64 | None = None) -> F64:
    """Lengths of the eight bones in the picture (n, 8), in lengths of the trunk, NaN where something is not sure or the trunk is not
    upright; keypoints (n, 17, 3). With the longest that they get (8,): how much of their lengths goes into depth."""
    limbs = keypoints[:, lifting.LIMBS].astype(np.float64)
    up = (limbs[:, 0] + limbs[:, 1] - limbs[:, 6] - limbs[:, 7])[:, :2] / 2
    trunk = np.linalg.norm(up, axis=-1)
    sure = (limbs[:, [0, 1, 6, 7], 2].min(1) >= 0.5) & (-up[:, 1] > np.cos(np.radians(20)) * trunk)
    ends = limbs[:, LINES[BONE]]
    lengths = np.linalg.norm(ends[:, :, 0, :2] - ends[:, :, 1, :2], axis=-1) / trunk[:, None]
    lengths = np.where(sure[:, None] & (ends[..., 2].min(-1) >= 0.5), lengths, np.nan)
    return lengths if longest is None else np.sqrt(np.maximum(longest**2 - lengths**2, 0))


def reach(keypoints: F32) -> F64:
    """The longest that the bones (8,) of somebody are seen, left and right together; keypoints (n, 17, 3)."""
    lengths = foreshortened(keypoints).reshape(-1, 2, 2, 2)  # arm and leg, left and right, upper and lower
    with np.errstate(all="ignore"):
        longest = np.nanquantile(lengths, 0.95, axis=(0, 2), keepdims=True)
    return np.broadcast_to(longest, (1, 2, 2, 2)).reshape(8)


def labelled(people: dict[tuple[str, int], list[Person]]) -> Moments:
    """Those of `LABELS`; of the truth the signs alone are known."""
    chosen, truths, who = [], [], []
    files = sorted({label[0] for label in LABELS})
    for file, frame, x, y, *nearer in LABELS:
        chosen.append(min(people[file, frame], key=lambda p: float(np.hypot(*(p.middle - [x, y])))))
        truth = np.full(len(LINES) + 2, np.nan)
        for line, side in zip(PAIRS.values(), nearer, strict=True):
            truth[line] = {"l": 1.0, "r": -1.0, "-": np.nan}[side]
        truths.append(truth)
        who.append(files.index(file))
    return moments(chosen, truths, who)


def real(viewer: Viewer, data: Path) -> list[Moments]:
    """The annotated pictures, those of `LABELS`, and the two largest people of each clip with their foreshortening as truth."""
    frames: dict[tuple[str, int], list[Person]] = {}
    people: list[Person] = []
    lengths: list[F64] = []
    who: list[int] = []
    for n, path in enumerate(sorted((data / "videos").iterdir())):
        looks, keypoints = viewer.clip(path)
        for i, look in enumerate(looks):
            frames[f"videos/{path.name}", STEP * i] = list(look.values())
        for identity in sorted(keypoints, key=lambda i: -sum(np.ptp(k[:, 1]) for k in keypoints[i]))[:2]:
            longest = reach(np.stack(keypoints[identity]))
            mine = [look[identity] for look in looks if identity in look]
            people += mine
            lengths += [foreshortened(person.keypoints[None], longest)[0] for person in mine]
            who += [n] * len(mine)
    for file in {label[0] for label in LABELS if not label[0].startswith("videos")}:
        frames[file, 0] = viewer.picture(data / file)
    truth = np.full((len(people), len(LINES) + 2), np.nan)
    truth[:, BONE] = lengths
    return [annotated(viewer, data / "single_frame_3d"), labelled(frames), moments(people, truth, who)]


def once(folder: Path | None, name: str, make: Callable[[], list[Moments]]) -> list[Moments]:
    """What is made, or what is kept of it in the folder."""
    path = folder / f"{name}.npz" if folder else None
    if path is None or not path.exists():
        made = make()
        if path is not None:
            np.savez(path, **{f"{i}_{field}": array for i, part in enumerate(made) for field, array in part._asdict().items()})
        return made
    with np.load(path) as file:
        return [
            Moments(*(file[f"{i}_{field}"] for field in Moments._fields)) for i in range(len(file.files) // len(Moments._fields))
        ]


def cost(eye: Eye, head: Features, people: Moments, rounds: int = 60) -> dict[str, float]:
    """Median ms for a crop: of the network as it is, with its tensors laid open and read, and of the linear layer; one thread, in turns."""
    plain, one = open_session(MODEL.path, threads=1), people.features[:1]
    crop = np.random.default_rng(0).integers(0, 255, (1, 256, 256, 3), np.uint8)
    ways: dict[str, Callable[[], Any]] = {
        "network": lambda: plain({"image": crop}),
        "network and features": lambda: eye({"image": crop}),
        "linear layer": lambda: head.correction(one),
    }
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            spent[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(values)) for name, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with mocap, single_frame_3d, videos, images and coco_images"
    )
    parser.add_argument("--keep", type=Path, help="a folder where what was seen is kept, and read from if it is there")
    parser.add_argument("--json", type=Path, help="write the table here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    eye, body = Eye(), load_body()

    sets: dict[str, list[Moments]] = defaultdict(list)

    @cache
    def bank(split: str) -> Bank:
        clips = [c for c in read_mocap(options.data / "mocap", body) if c.name not in DUPLICATES]
        return Bank.of([c for c in clips if (c.group in TUNING if split == "test" else c.group not in HELD_OUT)])

    for seed, (split, people, count) in BLOCKS.items():
        (block,) = once(
            options.keep, f"{seed}", lambda s=split, p=people, c=count, seed=seed: [draw(eye, body, bank(s), p, c, seed)]
        )
        name = split if split == "train" else f"drawn, {'half a second' if count > 1 else 'one moment'}"
        rows = block.only(slice(None, None, 3 if split == "train" and count > 1 else 1))  # moments of a sequence are alike
        sets[name].append(rows._replace(who=rows.who + 10_000 * seed))
    drawn = {name: Moments(*map(np.concatenate, zip(*blocks, strict=True))) for name, blocks in sets.items()}
    train = drawn.pop("train")
    pictures, judged, clips_seen = once(options.keep, "real", lambda: real(Viewer(eye), options.data))

    coordinates = Coordinates(train)
    features = Features(train, coordinates)
    heads: dict[str, Callable[[Moments], F64]] = {"A": coordinates, "B": features}

    def ask(people: Moments) -> dict[str, F64]:
        return {"lifter": np.float64(people.said)} | {name: head(people) for name, head in heads.items()}

    table: dict[str, Any] = {}
    for name, people in (drawn | {"annotated": pictures}).items():
        table |= {f"{name} | {key}": value for key, value in judge(ask(people), people.truth, people.who).items()}
    said = ask(judged)
    for name, line in PAIRS.items():
        known = np.isfinite(judged.truth[:, line])
        right = {by: 100.0 * (np.sign(a[:, [line]]) == judged.truth[:, [line]])[known] for by, a in said.items()}
        table[f"labelled | {name}: sign right, %"] = row(right, judged.who[known])
    off = {by: 100 * np.abs(np.abs(a) - clips_seen.truth)[:, BONE] for by, a in ask(clips_seen).items()}
    table["clips | bones: off from foreshortening, % of the trunk"] = row(off, clips_seen.who)
    table["ridge | mean square left over, people of the training mocap"] = {str(k): v for k, v in features.checked.items()}
    table["cost | ms"] = cost(eye, features, pictures)
    for name, values in table.items():
        print(f"{name:60s}", "  ".join(f"{k} {np.round(v, 1)}" for k, v in values.items()))
    if options.json is not None:
        host = about()
        host["versions"] |= {package: version(package) for package in ("torch", "onnx")}
        options.json.write_text(json.dumps(host | {"people": len(set(train.who.tolist())), "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
