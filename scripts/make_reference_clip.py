"""Render the reference clip: two bodies moving by mocap before a fixed camera, with the exact truth of every frame.

    python scripts/make_reference_clip.py MOCAP_FOLDER      # writes rtpose/reference/{clip.mp4,truth.npz,card.json}

The motions are CMU's (free for all uses), the bodies the bundled one with two shapes. truth.npz holds, for each frame and person,
keypoints (n, 2, 17, 2) px, joints3d (n, 2, 22, 3) and keypoints3d (n, 2, 17, 3) metres in the camera frame, rotations, betas,
translation, and the camera (fx, fy, cx, cy).
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from rtpose.body.camera import Camera, camera_for
from rtpose.body.model import BodyModel, load_body
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.models import file_sha256
from rtpose.train.mocap import read_mocap

FOLDER = Path(__file__).parent.parent / "rtpose" / "reference"
WIDTH, HEIGHT, RATE, FRAMES, FOCAL = 640, 480, 30, 90, 620.0
CAMERA_HEIGHT = 1.35
"""Metres above the floor; the camera looks level."""

PEOPLE = (
    # clip, first frame, turn about the vertical in degrees, where the pelvis begins (x, z) in metres, betas, colour
    ("train/walking/walking_3", 12, 105, (-1.45, 3.9), (0.6, -0.4), (176, 120, 96)),
    ("autocond/salsa/13", 300, 180, (0.9, 4.6), (-0.8, 0.5), (110, 122, 150)),
)


def backdrop() -> np.ndarray:
    """A wall with a soft light and a floor with boards."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    wall = 205 - 40 * np.hypot(x / WIDTH - 0.4, y / HEIGHT - 0.2)
    horizon = HEIGHT / 2 + 14
    depth = CAMERA_HEIGHT * FOCAL / np.maximum(y - HEIGHT / 2, 1)
    board = ((x - WIDTH / 2) / FOCAL * depth / 0.14) % 1 < 0.06
    floor = np.clip(150 - 6 * depth, 60, 150) - 18 * board
    grey = np.where(y < horizon, wall, floor)
    return np.clip(np.stack([grey, grey * 0.97, grey * 0.9], -1), 0, 255).astype(np.uint8)


def main(mocap: Path) -> None:
    body, camera = load_body(), camera_for(WIDTH, HEIGHT, focal=FOCAL)
    clips = {clip.name: clip for clip in read_mocap(mocap, body)}
    down = np.diag([1.0, -1, -1])
    grounds: dict[str, float] = {}
    truth: dict[str, list] = {name: [] for name in ("rotations", "betas", "translation", "joints3d", "keypoints3d", "keypoints")}
    shapes = [np.pad(np.array(betas), (0, body.betas - len(betas))) for *_, betas, _ in PEOPLE]
    for index in range(FRAMES):
        row: dict[str, list] = {name: [] for name in truth}
        for (name, first, turn, (x, z), _, _), betas in zip(PEOPLE, shapes, strict=True):
            clip = clips[name]
            view = down @ Rotation.from_euler("y", turn, degrees=True).as_matrix()
            local = clip.rotations[first + index].copy()
            local[0] = view @ local[0]
            vectors = Rotation.from_matrix(local).as_rotvec()
            moved = view @ (clip.root[first + index] - clip.root[first])
            # The lowest point of the first pose stands on the floor.
            _, places = body.pose(vectors, betas, np.zeros(3))
            if index == 0:
                sole = body.vertices(vectors, betas, np.zeros(3), "light")[:, 1].max() - places[0, 1]
                grounds[name] = CAMERA_HEIGHT - sole
            pelvis = np.array([x + moved[0], grounds[name] + moved[1], z + moved[2]])
            translation = pelvis - places[0]
            joints = places + translation
            keypoints = body.keypoints3d(vectors, betas, translation)[:17]
            for key, value in zip(
                truth, (vectors, betas, translation, joints, keypoints, camera.project(keypoints)), strict=True
            ):
                row[key].append(value)
        for key in truth:
            truth[key].append(row[key])
    arrays = {key: np.array(value, np.float32) for key, value in truth.items()}
    FOLDER.mkdir(exist_ok=True)
    write_clip(FOLDER / "clip.mp4", body, camera, arrays)
    np.savez_compressed(FOLDER / "truth.npz", **arrays, camera=np.array([camera.fx, camera.fy, camera.cx, camera.cy]))
    card = {
        "name": "reference clip",
        "origin": "CMU mocap (free for all uses): " + ", ".join(name for name, *_ in PEOPLE) + "; the bundled body",
        "licence": "Apache-2.0",
        "made": "python scripts/make_reference_clip.py MOCAP_FOLDER",
        "sha256": {name: file_sha256(FOLDER / name) for name in ("clip.mp4", "truth.npz")},
    }
    (FOLDER / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def write_clip(path: Path, body: BodyModel, camera: Camera, arrays: dict[str, np.ndarray]) -> None:
    empty, faces = backdrop(), body.meshes["full"].faces
    with av.open(f"file:{path}", "w") as container:
        options = {"crf": "24", "preset": "slow", "threads": "1"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for index in range(FRAMES):
            picture = empty.copy()
            depth = depth_buffer(picture)
            for who, (*_, colour) in enumerate(PEOPLE):
                pose = [arrays[k][index, who] for k in ("rotations", "betas", "translation")]
                draw_mesh(picture, body.vertices(*pose), faces, camera, colour, depth)
            picture = cv2.GaussianBlur(picture, (0, 0), 0.6)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
