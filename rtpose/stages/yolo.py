"""YOLOv3's raw maps to boxes of people.

After pjreddie/darknet, `src/yolo_layer.c`: the centre is the cell's corner plus the sigmoid of two numbers, the size is an anchor
times the exponential of two more, and a class counts with its sigmoid times that of the box's objectness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import F32
from .posenet import sigmoid

THRESHOLD = 0.25
NMS_IOU = 0.45
FILL = 127
"""Darknet's defaults: the least score, the overlap at which the worse of two boxes goes, the grey round a letterboxed picture."""

PERSON = 0
BOX = 5  # x, y, w, h, objectness; the classes follow

Anchors = dict[str, F32]


def parse_decoder(text: str) -> Anchors:
    """Output name -> anchors (a, 2) as width and height in px, from a card's `yolov3 yolo32:81x82,135x169 ...`."""
    kind, *heads = text.split()
    if kind != "yolov3" or not heads:
        raise ValueError(f"not the decoder of a YOLOv3: {text!r}")
    pairs = (head.split(":") for head in heads)
    return {name: np.array([a.split("x") for a in anchors.split(",")], np.float32) for name, anchors in pairs}


def decoder(card: str) -> Callable[[Mapping[str, NDArray[Any]], tuple[int, int], float], tuple[F32, F32]]:
    """The decoder of people for a network with this `decoder` in its card."""
    anchors = parse_decoder(card)
    return lambda outputs, size, threshold: decode(outputs, anchors, size, threshold)


def decode(
    outputs: Mapping[str, NDArray[Any]],
    anchors: Anchors,
    size: tuple[int, int],
    threshold: float = THRESHOLD,
    label: int = PERSON,
) -> tuple[F32, F32]:
    """Boxes of one class, before suppression, of the first picture in the batch.

    outputs: name -> (n, anchors * (5 + classes), rows, columns). size: (height, width) px of the input. Returns xyxy (n, 4) in px of
    the input, its left edge at 0 and its right one at the width, and scores (n,) above the threshold.
    """
    height, width = size
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for name, sizes in anchors.items():
        maps = outputs[name][0]
        _, rows, columns = maps.shape
        maps = maps.reshape(len(sizes), -1, rows, columns)
        score = sigmoid(maps[:, 4]) * sigmoid(maps[:, BOX + label])
        a, y, x = np.nonzero(score > threshold)
        raw = maps[a, :4, y, x]
        centre = (sigmoid(raw[:, :2]) + np.stack([x, y], 1)) * np.array([width / columns, height / rows], np.float32)
        half = np.exp(raw[:, 2:]) * sizes[a] / 2
        boxes.append(np.concatenate([centre - half, centre + half], 1))
        scores.append(score[a, y, x])
    return np.concatenate(boxes).astype(np.float32), np.concatenate(scores).astype(np.float32)
