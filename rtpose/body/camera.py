"""The pinhole camera: where the focal length comes from, and calibration files.

A point (x, y, z) in metres of the camera frame falls on the pixel (fx x / z + cx, fy y / z + cy); pixel (0, 0) is the centre of
the top left one, so a picture's middle is ((w - 1) / 2, (h - 1) / 2). fx and fy differ where pixels are not square: px are those of
the picture as it is stored. Lenses are taken for undistorted.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from ..types import F64

GUESSED_FOV = 55.0
"""Degrees across the longer side of the picture where nothing is known: between phones (65-75) and broadcast lenses (5-40)."""


@dataclass(frozen=True)
class Camera:
    """fx, fy focal lengths and cx, cy principal point, px; origin says where they come from."""

    fx: float
    fy: float
    cx: float
    cy: float
    origin: str = "given"

    def project(self, points: Any) -> F64:
        """Points (..., 3) in metres, before the camera -> pixels (..., 2)."""
        p = np.asarray(points, np.float64)
        return np.stack([self.fx * p[..., 0] / p[..., 2] + self.cx, self.fy * p[..., 1] / p[..., 2] + self.cy], -1)

    def rays(self, pixels: Any) -> F64:
        """Pixels (..., 2) -> where their rays meet the plane z = 1 (..., 2)."""
        uv = np.asarray(pixels, np.float64)
        return np.stack([(uv[..., 0] - self.cx) / self.fx, (uv[..., 1] - self.cy) / self.fy], -1)


def camera_for(
    width: int,
    height: int,
    *,
    focal: float | None = None,
    fov: float | None = None,
    calibration: Path | None = None,
    pixel_aspect: float = 1.0,
) -> Camera:
    """The camera of pictures of `width` x `height` px.

    focal: px along the picture's height (fy; fx is that over `pixel_aspect`). fov: degrees across the side that is longer as shown.
    calibration: see `read_calibration`, whose fx and fy are of stored pixels. At most one of them; with none, a guess.
    pixel_aspect: width of a pixel over its height. Raises InputError for more than one, and for values that cannot be.
    """
    if sum(given is not None for given in (focal, fov, calibration)) > 1:
        raise InputError("--focal, --fov and --calibration exclude each other: give one")
    if calibration is not None:
        return read_calibration(calibration, width, height)
    middle = (width - 1) / 2, (height - 1) / 2
    if focal is not None:
        if not (math.isfinite(focal) and focal > 0):
            raise InputError(f"--focal {focal:g} cannot be: give the focal length in pixels, such as {max(width, height)}")
        return Camera(focal if pixel_aspect == 1 else focal / pixel_aspect, focal, *middle, origin="--focal")
    if fov is not None and not 1 <= fov < 180:
        raise InputError(f"--fov {fov:g} cannot be: give degrees across the longer side, from 1 to 179")
    length = max(width * pixel_aspect, height) / 2 / math.tan(math.radians(GUESSED_FOV if fov is None else fov) / 2)
    origin = f"a guess ({GUESSED_FOV:g} degrees across the longer side)" if fov is None else "--fov"
    return Camera(length / pixel_aspect, length, *middle, origin=origin)


def read_calibration(path: Path, width: int, height: int) -> Camera:
    """The camera in a calibration file, checked against the pictures' size.

    JSON, or the YAML and XML that OpenCV and ROS write: a 3x3 `camera_matrix` (also `K`, `cameraMatrix`, `intrinsic_matrix`), or
    `fx fy cx cy`; and the size it was made for as `image_width` and `image_height` (or `width` and `height`, or `image_size`
    [w, h]). A file made for another size of the same shape is scaled. Raises InputError where it does not fit.
    """
    data = _read(path)
    numbers = _intrinsics(data, path)
    fx, fy, cx, cy = numbers
    if not (all(math.isfinite(v) for v in numbers) and fx > 0 and fy > 0):
        raise InputError(f"calibration {path}: fx, fy, cx, cy = {fx:g}, {fy:g}, {cx:g}, {cy:g} cannot be a camera's")
    try:
        size = _size(data)
    except (TypeError, ValueError, OverflowError):
        size = (math.nan, math.nan)
    if size is not None:
        w, h = size
        if not (1 <= w < math.inf and 1 <= h < math.inf):
            raise InputError(f"calibration {path}: its size should be two numbers of pixels, image_width and image_height")
        scale = width / w
        if abs(height - h * scale) > 2:
            raise InputError(
                f"calibration {path} is for {w:g}x{h:g} pictures, these are {width}x{height}: calibrate at their shape"
            )
        fx, fy = fx * scale, fy * scale
        cx, cy = (cx + 0.5) * scale - 0.5, (cy + 0.5) * scale - 0.5
    if not (0 <= cx <= width and 0 <= cy <= height):
        raise InputError(
            f"calibration {path}: its principal point ({cx:g}, {cy:g}) lies outside the {width}x{height} pictures; "
            "it was made for another size: give it image_width and image_height"
        )
    return Camera(fx, fy, cx, cy, origin=str(path))


MAX_BYTES = 1 << 20
"""Of a calibration file."""

_MATRIX_NAMES = ("camera_matrix", "K", "cameraMatrix", "intrinsic_matrix")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"calibration {path} is larger than {MAX_BYTES >> 20} MB, which no calibration is")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read the calibration {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"calibration {path} is not text: expected JSON, or YAML or XML as OpenCV writes them") from None
    if text.lstrip().startswith("{"):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"calibration {path} is not valid JSON: {error}") from None
        return dict(data)
    return _read_opencv(text, path)


def _read_opencv(text: str, path: Path) -> dict[str, Any]:
    if not text.lstrip().startswith(("%YAML", "<?xml")):
        text = "%YAML:1.0\n---\n" + text  # ROS leaves out the line by which OpenCV knows the format
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except (cv2.error, SystemError, ValueError):
        raise InputError(f"calibration {path} is neither JSON nor OpenCV's YAML or XML") from None
    data: dict[str, Any] = {}
    for name in (*_MATRIX_NAMES, "fx", "fy", "cx", "cy", "image_width", "image_height", "width", "height", "image_size"):
        node = storage.getNode(name)
        if node.isReal() or node.isInt():
            data[name] = node.real()
        elif node.isMap():
            values = node.getNode("data")
            data[name] = [values.at(i).real() for i in range(values.size())]
        elif node.isSeq():
            data[name] = [node.at(i).real() for i in range(node.size())]
    storage.release()
    return data


def _intrinsics(data: dict[str, Any], path: Path) -> tuple[float, float, float, float]:
    try:
        for name in _MATRIX_NAMES:
            if name in data:
                matrix = np.asarray(data[name], np.float64).reshape(3, 3)
                return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])
        return float(data["fx"]), float(data.get("fy", data["fx"])), float(data["cx"]), float(data["cy"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"calibration {path} has no 3x3 camera_matrix (or K), nor the numbers fx, fy, cx, cy") from None


def _size(data: dict[str, Any]) -> tuple[float, float] | None:
    for w, h in (("image_width", "image_height"), ("width", "height")):
        if w in data and h in data:
            return float(data[w]), float(data[h])
    if "image_size" in data and len(data["image_size"]) == 2:
        return float(data["image_size"][0]), float(data["image_size"][1])
    return None
