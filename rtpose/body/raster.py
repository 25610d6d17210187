"""Shaded meshes drawn into pictures, with a depth buffer and without a GPU."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import F32, U8
from .camera import Camera
from .rotations import compiled

NEAREST = 0.1
"""Faces with a corner nearer than this, in metres, are not drawn."""

_LIGHT = np.array([-0.25, -0.55, -0.8], np.float32) / np.float32(math.sqrt(0.25**2 + 0.55**2 + 0.8**2))
"""Towards the lamp: above the camera, a little to its left."""


def depth_buffer(picture: U8) -> F32:
    """An empty buffer (h, w) of depths in metres; meshes that share it hide each other as they stand."""
    return np.full(picture.shape[:2], np.inf, np.float32)


def draw_mesh(
    picture: U8,
    vertices: F32,
    faces: NDArray[np.int32],
    camera: Camera,
    colour: tuple[int, int, int],
    depth: F32,
    opacity: float = 1.0,
) -> None:
    """Draw a mesh into the picture (h, w, 3), in place.

    vertices: (v, 3) metres, camera frame. faces: (f, 3) counter-clockwise seen from outside; those that look away are left out.
    colour: RGB. depth: from `depth_buffer`. opacity: below 1 the picture shines through, but no hidden side of the mesh.
    """
    points = np.ascontiguousarray(vertices, np.float32)
    rays = np.empty((len(points), 2), np.float32)
    visible = points[:, 2] >= NEAREST
    rays[visible] = camera.project(points[visible])
    rays[~visible] = np.nan
    if not visible.any():
        return
    low = np.clip(np.floor(np.nanmin(rays, 0)), 0, None).astype(int)
    high = np.clip(np.ceil(np.nanmax(rays, 0)) + 1, None, (picture.shape[1], picture.shape[0])).astype(int)
    if (low >= high).any():
        return
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    target = picture[window] if opacity >= 1 else picture[window].copy()
    shade = np.empty(len(points), np.float32)
    _shade(points, faces, _LIGHT, shade)
    _draw(target, points, rays - low.astype(np.float32), faces, shade, np.array(colour, np.float32), depth[window])
    if opacity < 1:
        cv2.addWeighted(target, opacity, picture[window], 1 - opacity, 0, dst=picture[window])


@compiled
def _shade(points: F32, faces: NDArray[np.int32], light: F32, shade: F32) -> None:
    """Brightness 0..1 of every vertex from its normal, the mean of its faces' normals weighted by their areas."""
    normals = np.zeros_like(points)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            normals[faces[f, k], 0] += nx
            normals[faces[f, k], 1] += ny
            normals[faces[f, k], 2] += nz
    for v in range(len(points)):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        length = math.sqrt(x * x + y * y + z * z) + 1e-12
        lit = (x * light[0] + y * light[1] + z * light[2]) / length
        shade[v] = 0.3 + 0.7 * max(lit, 0.0)


@compiled
def _draw(target: U8, points: F32, rays: F32, faces: NDArray[np.int32], shade: F32, colour: F32, depth: F32) -> None:
    height, width = depth.shape
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if points[a, 2] < NEAREST or points[b, 2] < NEAREST or points[c, 2] < NEAREST:
            continue
        x0, y0 = rays[a, 0], rays[a, 1]
        x1, y1 = rays[b, 0], rays[b, 1]
        x2, y2 = rays[c, 0], rays[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= 0:  # y points down: what is counter-clockwise outside is clockwise in the picture
            continue
        inverse = 1 / area
        # Weights of the corners a and b at pixel (0, 0), and what a step to the right and down adds; that of c is the rest to 1.
        across0, across1 = (y1 - y2) * inverse, (y2 - y0) * inverse
        down0, down1 = (x2 - x1) * inverse, (x0 - x2) * inverse
        start0 = (x1 * y2 - x2 * y1) * inverse
        start1 = (x2 * y0 - x0 * y2) * inverse
        i0, i1, i2 = 1 / points[a, 2], 1 / points[b, 2], 1 / points[c, 2]
        left = max(0, math.ceil(min(x0, x1, x2)))
        right = min(width - 1, math.floor(max(x0, x1, x2)))
        top = max(0, math.ceil(min(y0, y1, y2)))
        bottom = min(height - 1, math.floor(max(y0, y1, y2)))
        along = across0 * i0 + across1 * i1 - (across0 + across1) * i2
        brighten = across0 * shade[a] + across1 * shade[b] - (across0 + across1) * shade[c]
        for y in range(top, bottom + 1):
            row0, row1 = start0 + y * down0, start1 + y * down1
            first, last = _span(row0, across0, left, right)
            first, last = _span(row1, across1, first, last)
            first, last = _span(1 - row0 - row1, -across0 - across1, first, last)
            if first > last:
                continue
            w0, w1 = row0 + first * across0, row1 + first * across1
            w2 = 1 - w0 - w1
            near = w0 * i0 + w1 * i1 + w2 * i2  # 1/z, not z, is linear in the picture
            bright = w0 * shade[a] + w1 * shade[b] + w2 * shade[c]
            for x in range(first, last + 1):
                z = 1 / near
                if z < depth[y, x]:
                    depth[y, x] = z
                    target[y, x, 0] = np.uint8(bright * colour[0])
                    target[y, x, 1] = np.uint8(bright * colour[1])
                    target[y, x, 2] = np.uint8(bright * colour[2])
                near += along
                bright += brighten


@compiled
def _span(start: float, step: float, first: int, last: int) -> tuple[int, int]:
    """The part of the pixels first..last at which start + x step is not negative."""
    if step > 0:
        return max(first, math.ceil(-start / step)), last
    if step < 0:
        return first, min(last, math.floor(-start / step))
    return (first, last) if start >= 0 else (first, first - 1)
