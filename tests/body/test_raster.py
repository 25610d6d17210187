"""The rasteriser against geometry that can be worked out, and against OpenCV's polygon filling."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtpose.body.camera import Camera
from rtpose.body.model import load_body
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.types import F32

CAMERA = Camera(500, 500, 159.5, 119.5)
SQUARE = np.array([[-0.2, -0.2, 2], [-0.2, 0.2, 2], [0.2, 0.2, 2], [0.2, -0.2, 2]], np.float32)
FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
"""Counter-clockwise for the camera, which sees y downward."""


def blank() -> np.ndarray:
    return np.zeros((240, 320, 3), np.uint8)


def test_a_square_covers_its_projection_and_its_back_nothing() -> None:
    picture = blank()
    depth = depth_buffer(picture)
    draw_mesh(picture, SQUARE, FACES, CAMERA, (255, 0, 0), depth)
    covered = picture[..., 0] > 0
    assert covered[70:170, 110:210].all()
    assert covered.sum() == 100 * 100
    assert depth[covered] == pytest.approx(2)
    back = blank()
    draw_mesh(back, SQUARE, FACES[:, ::-1], CAMERA, (255, 0, 0), depth_buffer(back))
    assert not back.any()


def test_the_nearer_one_is_seen_whatever_the_order() -> None:
    near = (SQUARE * 0.5).astype(np.float32)
    pictures = []
    for order in ((0, 1), (1, 0)):
        picture = blank()
        depth = depth_buffer(picture)
        for which in order:
            draw_mesh(picture, (SQUARE, near)[which], FACES, CAMERA, ((255, 0, 0), (0, 255, 0))[which], depth)
        pictures.append(picture)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert pictures[0][119, 159, 1] > 0 == pictures[0][119, 159, 0]


def test_depth_is_right_across_a_slanted_face() -> None:
    slanted = SQUARE.copy()
    slanted[2:, 2] = 4
    picture = blank()
    depth = depth_buffer(picture)
    draw_mesh(picture, slanted, FACES, CAMERA, (255, 255, 255), depth)
    y, x = np.nonzero(np.isfinite(depth))
    ray = np.stack([(x - CAMERA.cx) / 500, (y - CAMERA.cy) / 500, np.ones(len(x))], 1)
    normal = np.cross(slanted[1] - slanted[0], slanted[2] - slanted[0])
    assert len(x) > 1000
    np.testing.assert_allclose(depth[y, x], (normal @ slanted[0]) / (ray @ normal), rtol=1e-5)


def body_vertices() -> F32:
    return load_body().vertices(np.eye(22, 3) * [np.pi, 0, 0], np.zeros(10), [0.1, 0.1, 2.4], "light")


def test_a_body_s_outline_is_opencv_s() -> None:
    vertices, faces = body_vertices(), load_body().meshes["light"].faces
    picture, outline = blank(), np.zeros((240, 320), np.uint8)
    draw_mesh(picture, vertices, faces, CAMERA, (255, 255, 255), depth_buffer(picture))
    for face in CAMERA.project(vertices)[faces]:
        cv2.fillConvexPoly(outline, np.rint(face * 16).astype(np.int32), 255, shift=4)
    ours, theirs = picture[..., 0] > 0, outline > 0
    assert ours.sum() > 2000
    assert not (ours & ~cv2.dilate(outline, np.ones((3, 3)))).any()
    assert (ours & theirs).sum() > 0.9 * theirs.sum()


def test_what_lies_behind_or_beside_the_camera_is_not_drawn() -> None:
    faces = load_body().meshes["light"].faces
    for shift in ([0, 0, -6], [9, 0, 0], [0, -9, 0], [0, 0, -2.4]):
        picture = blank()
        draw_mesh(picture, body_vertices() + np.float32(shift), faces, CAMERA, (255, 255, 255), depth_buffer(picture))
        assert shift == [0, 0, -2.4] or not picture.any()


def test_opacity_mixes_picture_and_mesh() -> None:
    faces = load_body().meshes["light"].faces
    solid, glass = np.full((240, 320, 3), 100, np.uint8), np.full((240, 320, 3), 100, np.uint8)
    draw_mesh(solid, body_vertices(), faces, CAMERA, (255, 200, 150), depth_buffer(solid))
    draw_mesh(glass, body_vertices(), faces, CAMERA, (255, 200, 150), depth_buffer(glass), opacity=0.6)
    np.testing.assert_allclose(glass.astype(float), 40 + 0.6 * solid, atol=0.51)
