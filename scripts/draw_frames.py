"""Draw docs/frames.png: the coordinate frames of the results file and of each export, on the body and with the code's own matrices.

`draw_frames.py PATH`
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from rtpose.body.camera import Camera
from rtpose.body.model import load_body
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.export.motion import TO_Y_UP
from rtpose.export.trc import TO_OPENSIM
from rtpose.types import F64, U8

SIZE = 620
LENGTH = 0.62
COLOURS = ((220, 60, 60), (40, 160, 60), (50, 90, 230))
FRAMES = {
    "results file, CSV": (np.eye(3), "camera frame, metres: x right, y down, z away"),
    "BVH, GLB": (TO_Y_UP, "metres: x right, y up, z towards the camera"),
    "TRC (OpenSim)": (TO_OPENSIM, "metres: x towards the camera, y up, z to the left"),
}


def panel(title: str, turn: F64, text: str) -> U8:
    """A person who faces the camera (the cone at the origin), and the axes of a frame: `turn` takes the camera frame to it."""
    image = np.full((SIZE, SIZE, 3), 250, np.uint8)
    # Seen from above and behind the camera's right shoulder; the lens looks at the middle between camera and person.
    camera = Camera(760, 760, SIZE / 2, SIZE / 2 - 20)
    around, over = np.deg2rad(-38), np.deg2rad(20)
    yaw = np.array([[np.cos(around), 0, np.sin(around)], [0, 1, 0], [-np.sin(around), 0, np.cos(around)]])
    pitch = np.array([[1, 0, 0], [0, np.cos(over), -np.sin(over)], [0, np.sin(over), np.cos(over)]])

    def seen(points: F64) -> F64:
        return np.asarray((points - [0.15, 0.15, 1.35]) @ (pitch @ yaw).T + [0, 0, 4.6])

    def line(a: F64, b: F64, colour: tuple[int, int, int], thick: int = 2, arrow: bool = False) -> None:
        start, end = (tuple(np.round(camera.project(seen(np.asarray(p)))).astype(int).tolist()) for p in (a, b))
        if arrow:
            cv2.arrowedLine(image, start, end, colour, thick, cv2.LINE_AA, tipLength=0.12)
        else:
            cv2.line(image, start, end, colour, thick, cv2.LINE_AA)

    body = load_body()
    rotations = np.zeros((22, 3))
    rotations[0] = [np.pi, 0, 0]
    rotations[16], rotations[17] = [0, 0, -1.1], [0, 0, 1.1]
    vertices = seen(np.float64(body.vertices(rotations, np.zeros(body.betas), np.array([0, 0.1, 2.4])))).astype(np.float32)
    draw_mesh(image, vertices, body.meshes["full"].faces, camera, (190, 170, 150), depth_buffer(image))
    corners = [np.array([x, y, 0.45]) for x, y in ((-0.2, -0.13), (0.2, -0.13), (0.2, 0.13), (-0.2, 0.13))]
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        line(a, b, (90, 90, 90))
        line(np.zeros(3), a, (90, 90, 90))
    for axis, name, colour in zip(turn, "xyz", COLOURS, strict=True):
        line(np.zeros(3), LENGTH * axis, colour, 4, arrow=True)
        place = camera.project(seen(1.13 * LENGTH * axis)) - [8, -8]
        cv2.putText(image, name, place.astype(int).tolist(), cv2.FONT_HERSHEY_SIMPLEX, 0.9, colour, 2, cv2.LINE_AA)
    cv2.putText(image, title, (20, 38), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2, cv2.LINE_AA)
    cv2.putText(image, text, (20, SIZE - 20), cv2.FONT_HERSHEY_SIMPLEX, 0.58, (20, 20, 20), 1, cv2.LINE_AA)
    return image


if __name__ == "__main__":
    panels = [panel(title, *rest) for title, rest in FRAMES.items()]
    if not cv2.imwrite(sys.argv[1], np.concatenate(panels, 1)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        sys.exit(f"cannot write {sys.argv[1]}")
