"""Labelled people of COCO, as the arrays of `coco_keypoints/*_people.npz` hold them."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..archives import read_arrays
from ..errors import InputError
from ..types import F32, I64


@dataclass(frozen=True)
class Labels:
    """keypoints (n, 17, 3): x, y px, v (0 unlabelled, 1 hidden, 2 seen). boxes (n, 4): x, y, width, height px. images (n,): COCO's
    ids. sizes (n, 2): width and height px of the picture."""

    keypoints: F32
    boxes: F32
    images: I64
    sizes: F32

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: NDArray[np.bool_] | I64) -> Labels:
        return Labels(self.keypoints[rows], self.boxes[rows], self.images[rows], self.sizes[rows])


def read_people(path: Path, without: Collection[int] = ()) -> Labels:
    """The people of an .npz file, less those in the pictures `without`. Raises InputError where it is not such a file."""
    try:
        file = read_arrays(path)
        keypoints, boxes = file["keypoints"].astype(np.float32), file["bbox_xywh"].astype(np.float32)
        images, sizes = file["image_id"].astype(np.int64), file["size_wh"].astype(np.float32)
        for array, shape in ((keypoints, (17, 3)), (boxes, (4,)), (images, ()), (sizes, (2,))):
            if array.shape != (len(images), *shape):
                raise ValueError(f"an array is {array.shape}, not {(len(images), *shape)}")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no labelled people (keypoints, bbox_xywh, image_id, size_wh): {error}") from None
    everybody = Labels(keypoints, boxes, images, sizes)
    return everybody[~np.isin(images, list(without))] if without else everybody


def read_pictures(folder: Path, split: str | None = None) -> dict[int, Path]:
    """COCO's id -> file of the pictures that `folder`/index.json lists, of one split ("train2017") or of all."""
    index = folder / "index.json"
    try:
        rows = json.loads(index.read_text())
        return {int(row["image_id"]): folder / row["file"] for row in rows if split in (None, row["split"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{index} is no list of pictures (file, image_id, split): {error}") from None


def read_tags(path: Path) -> dict[int, str]:
    """COCO's id -> the sports in the picture. Raises InputError where the file is not such a list."""
    try:
        with path.open(newline="") as file:
            return {int(row["image_id"]): row["tags"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no list of tagged pictures (image_id, tags): {error}") from None
