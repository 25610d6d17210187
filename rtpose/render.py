"""Results drawn into their pictures."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import cv2
import numpy as np

from .body.model import Lifted
from .body.raster import depth_buffer, draw_mesh
from .settings import PARTS
from .types import F32, SKELETON, U8, Bodies, People, Result, Status

SURE = 0.3
"""Joints below this confidence are drawn faintly."""

HIDDEN = 0.05
"""Joints below this confidence are not drawn."""

OPACITY = 0.55
"""Of bodies: the picture is seen through them."""

LEFT: tuple[int, int, int] = (86, 200, 255)
RIGHT: tuple[int, int, int] = (255, 150, 0)
MIDDLE: tuple[int, int, int] = (240, 240, 240)
"""RGB of the person's left and right limbs and of what joins them: blue and orange are told apart by colour-blind people too
(Okabe and Ito, Color Universal Design), and by their dark rim from every picture and mesh."""

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


def draw(result: Result, lifted: Lifted | None = None, *, parts: Collection[str] = PARTS, mirror: bool = False) -> U8:
    """A copy of the frame with its people drawn in; (h, w, 3) RGB.

    lifted: what the bodies' meshes are made with; without it there are none. parts: which of `PARTS`. mirror: as in a mirror, but for the
    text; left and right stay the person's own.

    Boxes, IDs and meshes have the person's colour, limbs that of their side. Faint: joints of little confidence. A ring marks a joint that
    was corrected, a cross one that was predicted: nobody saw those there. Lines grow with the picture.
    """
    canvas = np.array(result.frame.image)
    people = result.people
    height, width = canvas.shape[:2]
    pen = max(1.0, min(height, width) / 300)
    if "mesh" in parts and lifted is not None and result.bodies is not None:
        _draw_bodies(canvas, result.bodies, people, lifted)
    boxes, keypoints = people.boxes, people.keypoints
    if mirror:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
        boxes = np.stack([width - 1 - boxes[:, 2], boxes[:, 1], width - 1 - boxes[:, 0], boxes[:, 3]], 1)
        keypoints = keypoints * np.array((-1, 1, 1), np.float32) + np.array((width - 1, 0, 0), np.float32)
    for i in np.argsort(people.scores, kind="stable").tolist():
        colour = colour_of(int(people.ids[i]))
        _draw_label(canvas, boxes[i], str(people.ids[i]), colour, pen, parts)
        if "skeleton" in parts:
            _draw_skeleton(canvas, keypoints[i], people.status[i], pen)
    if "legend" in parts:
        _draw_legend(canvas, pen)
    return canvas


def _draw_bodies(canvas: U8, bodies: Bodies, people: People, lifted: Lifted) -> None:
    camera, depth = lifted.camera(canvas.shape[1], canvas.shape[0]), depth_buffer(canvas)
    faces = lifted.body.meshes["light"].faces
    for i, identity in enumerate(people.ids.tolist()):
        vertices = lifted.vertices(bodies, i)
        if vertices is not None:
            draw_mesh(canvas, vertices, faces, camera, colour_of(identity), depth, OPACITY)


def _draw_label(canvas: U8, box: F32, text: str, colour: tuple[int, int, int], pen: float, parts: Collection[str]) -> None:
    height, width = canvas.shape[:2]
    if not np.isfinite(box).all():
        return
    x0, y0, x1, y1 = np.clip(box, -1, [width, height, width, height]).astype(int).tolist()
    if "boxes" in parts:
        cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, max(1, round(pen / 2)))
    if "ids" not in parts:
        return
    scale, weight = 0.25 + 0.17 * pen, max(1, round(pen / 1.8))
    (w, h), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    pad = max(2, round(pen))
    # Above the box, but never outside the picture.
    x = min(max(x0, 0), max(0, width - w - 2 * pad))
    y = min(max(y0 - h - below - pad, 0), max(0, height - h - below - pad))
    cv2.rectangle(canvas, (x, y), (x + w + 2 * pad, y + h + below + pad), colour, cv2.FILLED)
    cv2.putText(canvas, text, (x + pad, y + h + pad), cv2.FONT_HERSHEY_SIMPLEX, scale, _DARK, weight, cv2.LINE_AA)


def _draw_skeleton(canvas: U8, keypoints: F32, status: U8, pen: float) -> None:
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
        _draw_joints(canvas, points, status, known & ~sure, known, pen)
        if part.size:
            cv2.addWeighted(part, 0.45, before, 0.55, 0, dst=part)
    _draw_joints(canvas, points, status, sure, sure, pen)


def _draw_joints(canvas: U8, points: np.ndarray, status: U8, wanted: np.ndarray, known: np.ndarray, pen: float) -> None:
    """Draw the `wanted` joints, and the limbs between known joints of which one at least is wanted."""
    limbs = [(a, b) for a, b in SKELETON if known[a] and known[b] and (wanted[a] or wanted[b])]
    thick = max(1, round(pen))
    lines = [(tuple(points[a].tolist()), tuple(points[b].tolist()), _side(a, b)) for a, b in limbs]
    for start, end, _ in lines:  # a dark rim, so that the lines stand out from any picture
        cv2.line(canvas, start, end, _DARK, thick + (1 if pen < 2 else 2), cv2.LINE_AA, _SHIFT)
    for start, end, shade in lines:
        cv2.line(canvas, start, end, shade, thick, cv2.LINE_AA, _SHIFT)
    for j in np.flatnonzero(wanted).tolist():
        _draw_joint(canvas, tuple(points[j].tolist()), int(status[j]), _side(j), pen)


def _draw_joint(canvas: U8, point: tuple[int, int], status: int, colour: tuple[int, int, int], pen: float) -> None:
    """point: px, with `_SHIFT` binary digits after the point. status: a `Status`, as a number, since this is done 17 times a person."""
    x, y = point
    radius, thin = round(1.4 * pen * (1 << _SHIFT)), max(1, max(1, round(pen)) // 2)
    if status == Status.PREDICTED:
        for sign in (-1, 1):
            ends = (x - 2 * radius, y - sign * 2 * radius), (x + 2 * radius, y + sign * 2 * radius)
            cv2.line(canvas, *ends, colour, thin, cv2.LINE_AA, _SHIFT)
        return
    cv2.circle(canvas, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    if status == Status.CORRECTED:
        cv2.circle(canvas, (x, y), 2 * radius, (255, 255, 255), thin, cv2.LINE_AA, _SHIFT)


def _side(*joints: int) -> tuple[int, int, int]:
    """The colour of a joint, or of the limb between two. In COCO's order left joints are odd, and 0 is the nose."""
    left = sum(j > 0 and j % 2 == 1 for j in joints)
    right = sum(j > 0 and j % 2 == 0 for j in joints)
    if bool(left) == bool(right):
        return MIDDLE
    return LEFT if left else RIGHT


_LEGEND = ("left", "right", "uncertain", "measured", "corrected", "predicted")


def _draw_legend(canvas: U8, pen: float) -> None:
    """Into the lower left corner, where it takes no more than half of the picture's height and a third of its width."""
    panel = _legend(round(pen, 1))
    height, width = panel.shape[:2]
    if 2 * height > canvas.shape[0] or 3 * width > canvas.shape[1]:
        return
    place = canvas[canvas.shape[0] - height :, :width]
    cv2.addWeighted(panel, 0.75, place, 0.25, 0, dst=place)


@lru_cache(maxsize=4)
def _legend(pen: float) -> U8:
    """What the colours and marks mean, (h, w, 3) RGB; drawn once."""
    scale, weight, line = 0.22 + 0.13 * pen, max(1, round(pen / 2)), round(9 + 5.5 * pen)
    widest = max(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)[0][0] for text in _LEGEND)
    mark = round(14 * pen)
    panel = np.full((line * len(_LEGEND) + line // 2, mark + widest + round(5 * pen), 3), _DARK, np.uint8)
    for k, text in enumerate(_LEGEND):
        y = round(line * (k + 0.75))
        at, end = (round(3 * pen), y), (mark - round(3 * pen), y)
        if k < 3:
            faint: tuple[int, int, int] = (119, 119, 119)
            cv2.line(panel, at, end, (LEFT, RIGHT, faint)[k], max(1, round(pen)), cv2.LINE_AA)
        else:
            middle = (round(mark / 2) << _SHIFT, y << _SHIFT)
            _draw_joint(panel, middle, (Status.MEASURED, Status.CORRECTED, Status.PREDICTED)[k - 3], MIDDLE, pen)
        cv2.putText(panel, text, (mark, y + round(3 * scale * 3.5)), cv2.FONT_HERSHEY_SIMPLEX, scale, MIDDLE, weight, cv2.LINE_AA)
    panel.setflags(write=False)
    return panel
