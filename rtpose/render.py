"""Results drawn into their pictures."""

from __future__ import annotations

import cv2
import numpy as np

from .body.model import Lifted
from .body.raster import depth_buffer, draw_mesh
from .types import F32, SKELETON, U8, Bodies, People, Result, Status

SURE = 0.3
"""Joints below this confidence are drawn faintly."""

HIDDEN = 0.05
"""Joints below this confidence are not drawn."""

OPACITY = 0.55
"""Of bodies: the picture is seen through them."""

_COLOURS: tuple[tuple[int, int, int], ...] = (
    (0, 200, 255), (255, 160, 0), (120, 220, 60), (255, 90, 160), (170, 130, 255),
    (255, 230, 60), (60, 230, 190), (255, 120, 80), (110, 170, 255), (220, 120, 230),
)  # fmt: skip
"""RGB colours of people, in turn."""

_DARK = (20, 20, 20)
_SHIFT = 4
"""cv2 reads coordinates with this many binary digits after the point."""


def colour_of(identity: int) -> tuple[int, int, int]:
    """The RGB colour of a person in every picture and viewer."""
    return _COLOURS[(identity - 1) % len(_COLOURS)]


def draw(result: Result, lifted: Lifted | None = None) -> U8:
    """A copy of the frame with each person's box, number and skeleton; (h, w, 3) RGB. lifted: draw the bodies' meshes below them.

    The person's left side is drawn light, the right side dark. Faint: joints of little confidence. A ring marks a joint that was
    corrected, a cross one that was predicted: nobody saw those there. Lines grow with the picture.
    """
    canvas = np.array(result.frame.image)
    people = result.people
    height, width = canvas.shape[:2]
    pen = max(1.0, min(height, width) / 300)
    if lifted is not None and result.bodies is not None:
        _draw_bodies(canvas, result.bodies, people, lifted)
    for i in np.argsort(people.scores, kind="stable").tolist():
        colour = colour_of(int(people.ids[i]))
        _draw_label(canvas, people.boxes[i], str(people.ids[i]), colour, pen)
        _draw_skeleton(canvas, people.keypoints[i], people.status[i], colour, pen)
    return canvas


def _draw_bodies(canvas: U8, bodies: Bodies, people: People, lifted: Lifted) -> None:
    camera, depth = lifted.camera(canvas.shape[1], canvas.shape[0]), depth_buffer(canvas)
    faces = lifted.body.meshes["light"].faces
    for i, identity in enumerate(people.ids.tolist()):
        vertices = lifted.vertices(bodies, i)
        if vertices is not None:
            draw_mesh(canvas, vertices, faces, camera, colour_of(identity), depth, OPACITY)


def _draw_label(canvas: U8, box: F32, text: str, colour: tuple[int, int, int], pen: float) -> None:
    height, width = canvas.shape[:2]
    if not np.isfinite(box).all():
        return
    x0, y0, x1, y1 = np.clip(box, -1, [width, height, width, height]).astype(int).tolist()
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, max(1, round(pen / 2)))
    scale, weight = 0.25 + 0.17 * pen, max(1, round(pen / 1.8))
    (w, h), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    pad = max(2, round(pen))
    # Above the box, but never outside the picture.
    x = min(max(x0, 0), max(0, width - w - 2 * pad))
    y = min(max(y0 - h - below - pad, 0), max(0, height - h - below - pad))
    cv2.rectangle(canvas, (x, y), (x + w + 2 * pad, y + h + below + pad), colour, cv2.FILLED)
    cv2.putText(canvas, text, (x + pad, y + h + pad), cv2.FONT_HERSHEY_SIMPLEX, scale, _DARK, weight, cv2.LINE_AA)


def _draw_skeleton(canvas: U8, keypoints: F32, status: U8, colour: tuple[int, int, int], pen: float) -> None:
    known = np.isfinite(keypoints).all(1) & (np.abs(keypoints[:, :2]) < 1e6).all(1) & (keypoints[:, 2] >= HIDDEN)
    if not known.any():
        return
    sure = known & (keypoints[:, 2] >= SURE)
    points = np.zeros((17, 2), int)
    points[known] = np.round(keypoints[known, :2] * (1 << _SHIFT))
    # The faint part is drawn first and then mixed with the picture below it.
    if (known & ~sure).any():
        height, width = canvas.shape[:2]
        margin = 4 * pen
        x0, y0 = np.clip(keypoints[known, :2].min(0) - margin, 0, (width, height)).astype(int)
        x1, y1 = np.clip(keypoints[known, :2].max(0) + margin + 1, 0, (width, height)).astype(int)
        part = canvas[y0:y1, x0:x1]
        before = part.copy()
        _draw_joints(canvas, points, status, known & ~sure, known, colour, pen)
        if part.size:
            cv2.addWeighted(part, 0.45, before, 0.55, 0, dst=part)
    _draw_joints(canvas, points, status, sure, sure, colour, pen)


def _draw_joints(
    canvas: U8, points: np.ndarray, status: U8, wanted: np.ndarray, known: np.ndarray, colour: tuple[int, int, int], pen: float
) -> None:
    """Draw the `wanted` joints, and the limbs between known joints of which one at least is wanted."""
    limbs = [(a, b) for a, b in SKELETON if known[a] and known[b] and (wanted[a] or wanted[b])]
    thick = max(1, round(pen))
    lines = [(tuple(points[a].tolist()), tuple(points[b].tolist()), _shade(colour, a, b)) for a, b in limbs]
    for start, end, _ in lines:  # a dark rim, so that the lines stand out from any picture
        cv2.line(canvas, start, end, _DARK, thick + (1 if pen < 2 else 2), cv2.LINE_AA, _SHIFT)
    for start, end, shade in lines:
        cv2.line(canvas, start, end, shade, thick, cv2.LINE_AA, _SHIFT)
    radius = round(1.4 * pen * (1 << _SHIFT))
    for j in np.flatnonzero(wanted).tolist():
        x, y = points[j].tolist()
        if status[j] == Status.PREDICTED:
            for sign in (-1, 1):
                ends = (x - 2 * radius, y - sign * 2 * radius), (x + 2 * radius, y + sign * 2 * radius)
                cv2.line(canvas, *ends, _shade(colour, j), max(1, thick // 2), cv2.LINE_AA, _SHIFT)
            continue
        cv2.circle(canvas, (x, y), radius, _shade(colour, j), cv2.FILLED, cv2.LINE_AA, _SHIFT)
        if status[j] == Status.CORRECTED:
            cv2.circle(canvas, (x, y), 2 * radius, (255, 255, 255), max(1, thick // 2), cv2.LINE_AA, _SHIFT)


def _shade(colour: tuple[int, int, int], *joints: int) -> tuple[int, int, int]:
    """Lighter for the left side, darker for the right, plain for what joins both. In COCO's order left joints are odd."""
    left = sum(j > 0 and j % 2 == 1 for j in joints)
    right = sum(j > 0 and j % 2 == 0 for j in joints)
    if left and not right:
        r, g, b = ((c + 255) // 2 for c in colour)
    elif right and not left:
        r, g, b = (c * 11 // 20 for c in colour)
    else:
        r, g, b = colour
    return r, g, b
