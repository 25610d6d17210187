"""People drawn and then seen by the keypoint network: its own errors, structured as they are, with exact truth in three dimensions.

The bundled body is dressed (skin, hair, shirt, trousers, shoes of random colours), posed by the mocap that trains, and drawn into
the very crop that the network is shown, before a made-up background; no picture that somebody took is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..archives import read_arrays
from ..backends import Session, open_session
from ..body.camera import Camera
from ..body.model import JOINT_NAMES, BodyModel
from ..body.raster import depth_buffer, draw_mesh
from ..body.rotations import to_axis_angle
from ..errors import InputError
from ..models import find
from ..stages.keypoints import CALIBRATIONS, CROP, DECODERS, calibrate
from ..types import F32, F64, U8
from .samples import Bank, KeypointErrors, People, Sampler, Seen

EVERY = 2
"""Frames of 1/30 s from one moment to the next."""
MOMENTS = 20
"""Of a sequence."""
BLOCKS, SEQUENCES = range(12, 44), 100
"""Sequences are made in so many blocks of so many."""
_ARRAYS = ("rays", "confidences", "world", "pelvis", "betas")
_CLOTHES = ("skin", "hair", "shirt", "trousers", "shoes")


@dataclass(frozen=True)
class Garment:
    """A part of the mesh: which vertices, the faces between them (f, 3), and its RGB colour."""

    vertices: NDArray[np.int64]
    faces: NDArray[np.int32]
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Wardrobe:
    """The mesh and which clothes each of its faces can belong to: the bone that carries a face most, and whether it is hair."""

    body: BodyModel
    bone: NDArray[np.int64]
    hair: NDArray[np.bool_]

    @staticmethod
    def of(body: BodyModel) -> Wardrobe:
        mesh = body.meshes["full"]
        carries = mesh.index[np.arange(len(mesh.index)), mesh.weights.argmax(1)].astype(np.int64)
        corner = mesh.faces[:, 0]
        head = mesh.vertices[carries == JOINT_NAMES.index("head")]
        low, high = head.min(0), head.max(0)
        at = (mesh.vertices[corner] - low) / (high - low)
        on_head = carries[corner] == JOINT_NAMES.index("head")
        return Wardrobe(body, carries[corner], on_head & ((at[:, 1] > 0.82) | ((at[:, 2] < 0.5) & (at[:, 1] > 0.35))))

    def dress(self, rng: np.random.Generator) -> list[Garment]:
        """Clothes of random colours, sleeves and trousers long or short."""
        names = np.array(JOINT_NAMES)[self.bone]
        long_sleeves, long_trousers = rng.random() < 0.5, rng.random() < 0.7
        cloth = np.full(len(names), _CLOTHES.index("skin"))
        cloth[np.isin(names, [n for n in JOINT_NAMES if n.startswith("spine") or "collar" in n or "shoulder" in n])] = 2
        if long_sleeves:
            cloth[np.char.endswith(names, "elbow")] = 2
        cloth[np.char.endswith(names, "hip") | (names == "pelvis")] = 3
        if long_trousers:
            cloth[np.char.endswith(names, "knee")] = 3
        cloth[np.char.endswith(names, "ankle") | np.char.endswith(names, "foot")] = 4
        cloth[self.hair] = 1
        tone = rng.random()
        colours = {
            "skin": np.array([235, 190, 160]) * (1 - 0.65 * tone),
            "hair": np.array([60, 45, 35]) * (0.3 + 2.5 * rng.random() ** 2),
            "shirt": rng.uniform(10, 250, 3),
            "trousers": rng.uniform(10, 160, 3) if rng.random() < 0.7 else rng.uniform(10, 250, 3),
            "shoes": rng.uniform(10, 230) * np.ones(3),
        }
        garments = []
        for i, name in enumerate(_CLOTHES):
            vertices, faces = np.unique(self.body.meshes["full"].faces[cloth == i], return_inverse=True)
            red, green, blue = np.minimum(colours[name], 255).astype(int).tolist()
            garments.append(Garment(vertices, np.int32(faces.reshape(-1, 3)), (red, green, blue)))
        return garments


def backdrop(rng: np.random.Generator, side: int = 512) -> U8:
    """A made-up background (side, side, 3): soft blotches of colour, edges, a floor."""
    picture = np.tile(np.float32(rng.uniform(30, 225, 3)), (side, side, 1))
    for cells in (2, 5, 16, 64):
        blotches = rng.normal(0, rng.uniform(5, 30), (cells, cells, 3)) + rng.normal(0, rng.uniform(5, 30), (cells, cells, 1))
        picture += cv2.resize(np.float32(blotches), (side, side), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.7:
        horizon = int(side * rng.uniform(0.5, 0.9))
        picture[horizon:] = picture[horizon:] * 0.5 + np.float32(rng.uniform(20, 120, 3))
    for _ in range(rng.integers(0, 12)):
        x, y, w, h = rng.integers(0, side, 4) // (1, 1, 3, 2)
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), rng.uniform(0, 255, 3).tolist(), -1)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


@dataclass
class _Scene:
    """One sequence in the making."""

    people: People
    clothes: list[Garment]
    backdrop: U8
    rays: F64
    border: F64
    grain: float
    blur: int


class Studio:
    """Draws sequences and has the network look at them."""

    def __init__(self, sampler: Sampler, session: Session, decoder: str, moments: int = MOMENTS) -> None:
        self._sampler, self._session, self._rng, self._moments = sampler, session, sampler.rng, moments
        self._decode, self._calibration = DECODERS[decoder], CALIBRATIONS[decoder]
        self._wardrobe = Wardrobe.of(sampler.body)
        self.side = int(session.inputs["image"][0][1] or 0)

    def sequences(self, n: int) -> Seen:
        """n people, at so many moments each, seen in crops as a run cuts them."""
        scenes = [self._scene() for _ in range(n)]
        moments = self._moments
        rays, confidences = np.empty((n, moments, 17, 2), np.float32), np.empty((n, moments, 17), np.float32)
        crops = np.empty((n, self.side, self.side, 3), np.uint8)
        for t in range(moments):
            squares = [self._square(scene, t) for scene in scenes]
            for i, (scene, square) in enumerate(zip(scenes, squares, strict=True)):
                crops[i] = self._draw(scene, t, square)
            found = self._decode(self._session({"image": crops})).copy()
            for i, (scene, (x, y, side)) in enumerate(zip(scenes, squares, strict=True)):
                found[i, :, :2] = np.array([x, y]) + (found[i, :, :2] - 0.5) * side
                outside = (found[i, :, :2] < scene.border[:2]).any(-1) | (found[i, :, :2] > scene.border[2:]).any(-1)
                pose = found[i : i + 1].copy()
                pose[0, :, :2] = 0  # calibration asks for pixels inside some picture
                calibrate(pose, 1, 1, self._calibration)
                rays[i, t], confidences[i, t] = found[i, :, :2], np.where(outside, 0, pose[0, :, 2])
        return Seen(
            rays,
            confidences,
            np.stack([np.float32(s.people.world) for s in scenes]),
            np.stack([np.float32(s.people.pelvis) for s in scenes]),
            np.stack([s.people.betas for s in scenes]),
            EVERY,
        )

    def _scene(self) -> _Scene:
        rng = self._rng
        while True:  # people who come too near, or of whom the mocap has too little, are left out
            people = self._sampler.person(np.arange((self._moments - 1) * EVERY, -1, -EVERY))
            if people.there.all() and people.places[..., 2].min() > 1.0:
                break
        rays = people.places[..., :2] / people.places[..., 2:]
        low, high = rays.min((0, 1)), rays.max((0, 1))
        size = float((high - low).max())
        border = np.concatenate([low - 2 * size, high + 2 * size])
        cut = rng.random()
        if cut < 0.12:  # the picture ends at the knees or so
            border[3] = low[1] + (high[1] - low[1]) * rng.uniform(0.5, 0.9)
        elif cut < 0.2:
            border[0 if cut < 0.16 else 2] = low[0] + (high[0] - low[0]) * rng.uniform(0.2, 0.8)
        return _Scene(
            people, self._wardrobe.dress(rng), backdrop(rng), rays, border,
            rng.uniform(0, 12), int(rng.choice([0, 0, 0, 3, 5])),
        )  # fmt: skip

    def _square(self, scene: _Scene, t: int) -> tuple[float, float, float]:
        """Middle and side of the crop, in rays: about the last frame's keypoints, loosely."""
        rays = scene.rays[max(t - 1, 0)]
        low = np.maximum(rays.min(0), scene.border[:2])
        high = np.minimum(rays.max(0), scene.border[2:])
        box = high - low
        middle = (low + high) / 2 + self._rng.normal(0, 0.02, 2) * box
        side = max(float(box.max()), 1e-3) * 1.12 * CROP * math.exp(self._rng.normal(0, 0.05))
        return float(middle[0]), float(middle[1]), side

    def _draw(self, scene: _Scene, t: int, square: tuple[float, float, float]) -> U8:
        x, y, side = square
        scale = self.side / side
        middle = (self.side - 1) / 2
        # The background stays where it is while the crop follows the person.
        whole = 3 * float(np.ptp(scene.rays, axis=(0, 1)).max())
        share = scale * whole / len(scene.backdrop)
        at = scene.rays.mean((0, 1)) - whole / 2
        shift = middle - (np.array([x, y]) - at) * scale
        matrix = np.array([[share, 0, shift[0]], [0, share, shift[1]]])
        picture: U8 = np.empty((self.side, self.side, 3), np.uint8)
        cv2.warpAffine(scene.backdrop, matrix, (self.side, self.side), dst=picture, borderMode=cv2.BORDER_REFLECT)
        camera = Camera(scale, scale, middle - x * scale, middle - y * scale)
        people, body = scene.people, self._sampler.body
        local = body.local_rotations(people.world[t])
        pelvis = people.pelvis[t] - body.offsets(people.betas)[0]
        vertices = body.vertices(to_axis_angle(local), people.betas, pelvis, "full")
        depth = depth_buffer(picture)
        for garment in scene.clothes:
            draw_mesh(picture, vertices[garment.vertices], garment.faces, camera, garment.colour, depth)
        if scene.blur:
            cv2.GaussianBlur(picture, (scene.blur, scene.blur), 0, dst=picture)
        grain = self._rng.normal(0, scene.grain + 0.1, (64, 64, 1))
        picture = np.clip(picture + np.kron(grain, np.ones((self.side // 64, self.side // 64, 1))), 0, 255).astype(np.uint8)
        left, top, right, bottom = np.rint((scene.border - [x, y, x, y]) * scale + self.side / 2).astype(int)
        picture[: max(top, 0)] = 0
        picture[max(bottom, 0) :] = 0
        picture[:, : max(left, 0)] = 0
        picture[:, max(right, 0) :] = 0
        return picture


def make_renders(folder: Path, body: BodyModel, bank: Bank) -> None:
    """Draw the blocks of sequences that are not in the folder yet, and let the default keypoint network see them.

    Each block has a seed of its own, so that it does not matter when or by how many calls they are made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = find("movenet-thunder", "keypoints")
    session = open_session(model.path, precision="bf16", threads=1)
    for block in BLOCKS:
        path = folder / f"{block:02d}.npz"
        if path.exists():
            continue
        sampler = Sampler(body, bank, KeypointErrors.load(), np.random.default_rng([17, block]))
        studio = Studio(sampler, session, model.decoder)
        parts = [studio.sequences(10) for _ in range(SEQUENCES // 10)]
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **arrays | {"world": np.float16(arrays["world"])})
        partial.replace(path)


def read_renders(folder: Path) -> Seen:
    """What `make_renders` has put into the folder. Raises InputError for a broken file."""
    blocks = [_read_block(folder / f"{block:02d}.npz") for block in BLOCKS]
    return Seen(**{name: np.concatenate([block[name] for block in blocks]) for name in _ARRAYS}, every=EVERY)


def _read_block(path: Path) -> dict[str, F32]:
    try:
        file = read_arrays(path)
        return {name: np.float32(file[name]) for name in _ARRAYS}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no drawn people ({error}): delete it, and it is made again") from None
