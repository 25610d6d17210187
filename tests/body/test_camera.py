"""Where the camera comes from, and calibration files in the forms people have them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtpose.body.camera import camera_for
from rtpose.errors import InputError

K = [[1000.0, 0, 639.5], [0, 1010.0, 359.5], [0, 0, 1]]


def test_focal_fov_and_guess_agree_about_the_middle() -> None:
    by_fov = camera_for(1280, 720, fov=90)
    assert by_fov.fx == pytest.approx(640)
    assert (by_fov.cx, by_fov.cy) == (639.5, 359.5)
    assert camera_for(720, 1280, fov=90).fx == pytest.approx(640), "across the longer side"
    assert camera_for(1280, 720, focal=1000).fx == 1000
    assert "guess" in camera_for(1280, 720).origin


def test_projection_and_rays_are_inverse() -> None:
    camera = camera_for(1280, 720, focal=900)
    points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 5], (50, 3))
    np.testing.assert_allclose(camera.rays(camera.project(points)), points[:, :2] / points[:, 2:], atol=1e-12)


@pytest.mark.parametrize("suffix", [".yml", ".yaml", ".xml"])
def test_opencv_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"camera{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 1280)
    storage.write("image_height", 720)
    storage.write("camera_matrix", np.array(K))
    storage.release()
    camera = camera_for(1280, 720, calibration=path)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (1000, 1010, 639.5, 359.5)


def test_json_files_and_scaling(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({"K": K, "image_size": [1280, 720]}))
    half = camera_for(640, 360, calibration=path)
    assert (half.fx, half.cx, half.cy) == (500, 319.5, 179.5)
    path.write_text(json.dumps({"fx": 800, "cx": 300, "cy": 200}))
    assert camera_for(640, 360, calibration=path).fy == 800


def test_ros_yaml_lists_its_matrix_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(
        "image_width: 1280\nimage_height: 720\ncamera_matrix:\n  rows: 3\n  cols: 3\n"
        "  data: [1000, 0, 639.5, 0, 1010, 359.5, 0, 0, 1]\n"
    )
    assert camera_for(1280, 720, calibration=path).fy == 1010


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"K": [[1, 2], [3, 4]]}', "no 3x3 camera_matrix"),
        ('{"fx": 800, "cy": 3}', "no 3x3 camera_matrix"),
        ('{"fx": -800, "cx": 300, "cy": 200}', "cannot be a camera's"),
        ('{"fx": 800, "cx": 300, "cy": 200, "width": 640, "height": 480}', "640x480 pictures, these are 640x360"),
        ('{"fx": 800, "cx": 960, "cy": 540}', "outside the 640x360"),
        ('{"fx": 800,', "not valid JSON"),
        ("nothing here", "neither JSON nor OpenCV"),
        ("%YAML:1.0\n---\nother: 3\n", "no 3x3 camera_matrix"),
    ],
)
def test_calibrations_that_do_not_fit(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "camera.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        camera_for(640, 360, calibration=path)


def test_values_that_cannot_be(tmp_path: Path) -> None:
    for given in ({"focal": -1.0}, {"focal": math.nan}, {"fov": 180.0}, {"fov": 0.0}, {"focal": 500.0, "fov": 60.0}):
        with pytest.raises(InputError):
            camera_for(640, 360, **given)
    with pytest.raises(InputError, match="cannot read the calibration"):
        camera_for(640, 360, calibration=tmp_path / "missing.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="not text"):
        camera_for(640, 360, calibration=tmp_path / "binary")
