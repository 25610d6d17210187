"""Evaluation against labels: known errors give known figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from rtpose.errors import InputError
from rtpose.evaluate import evaluate, pck, print_tables, read_annotations
from rtpose.models import find
from rtpose.stages.ankles import read_weights
from rtpose.types import KEYPOINT_NAMES, Boxes

from .test_ankles import STANDING


def person(number: int, image: int, dx: float = 0.0, visible: int = 2) -> dict[str, Any]:
    keypoints = np.concatenate([STANDING + np.array([dx, 0]), np.full((17, 1), visible)], 1)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": 17,
        "bbox": [260 + dx, 40, 120, 380],
        "area": 24000,
        "keypoints": keypoints.ravel().tolist(),
    }


@pytest.fixture
def labels(tmp_path: Path) -> tuple[Path, Path]:
    """Two pictures with three people, a third whose file is not there, a fourth without people."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in (1, 2, 4):
        cv2.imwrite(str(pictures / f"{number}.png"), np.full((480, 640, 3), number, np.uint8))
    images = [{"id": k, "file_name": f"{k}.png", "width": 640, "height": 480} for k in (1, 2, 3, 4)]
    people = [person(1, 1), person(2, 2, -150), person(3, 2, 150), person(4, 3)]
    said = {
        "images": images,
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(KEYPOINT_NAMES)}],
    }
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(said))
    return file, pictures


def perfect(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keypoints as labelled, whose confidence is .9."""
    points = STANDING[None] + (boxes[:, None, :2] - np.array([260, 40]))
    return np.concatenate([points, np.full((len(boxes), 17, 1), 0.9)], 2).astype(np.float32)


def off(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The left ankle 30 px (.079 of the height) off and unsure."""
    keypoints = perfect(image, boxes)
    keypoints[:, 15] += np.array([30, 0, -0.85], np.float32)
    return keypoints


def test_what_is_right_scores_one(labels: tuple[Path, Path], tmp_path: Path) -> None:
    figures = evaluate(*labels, perfect, sheet=tmp_path / "sheet.png")
    assert figures["pictures"] == 2
    assert figures["people"] == 3
    assert figures["AR of scored people"] == 1
    assert figures["COCO"]["AP"] == pytest.approx(1, abs=1e-3)
    assert figures["COCO"]["AR"] == 1
    assert figures["ankles"]["all"] == {
        "ankles": 6,
        "measured PCK@0.05": 1,
        "corrected PCK@0.05": 1,
        "measured PCK@0.1": 1,
        "corrected PCK@0.1": 1,
    }
    assert cv2.imread(str(tmp_path / "sheet.png")).any()
    print_tables(figures, Console(width=200))


def test_an_error_is_found_where_it_is(labels: tuple[Path, Path]) -> None:
    figures = evaluate(*labels, off)
    assert figures["joints"]["left_ankle"] == {"joints": 3, "PCK@0.05": 0, "PCK@0.1": 1}
    assert figures["joints"]["right_ankle"] == {"joints": 3, "PCK@0.05": 1, "PCK@0.1": 1}
    assert figures["ankles"]["confidence < 0.3"]["ankles"] == 3
    assert figures["ankles"]["confidence < 0.3"]["measured PCK@0.05"] == 0
    assert figures["ankles"]["confidence >= 0.3"]["measured PCK@0.05"] == 1


def test_who_is_missed_counts_as_wrong(labels: tuple[Path, Path]) -> None:
    def find_left(image: NDArray[np.uint8]) -> Boxes:
        return Boxes(np.array([[110, 40, 230, 420]], np.float32), np.ones(1, np.float32))

    figures = evaluate(*labels, perfect, find=find_left)
    assert figures["people"] == 3
    assert figures["AR of scored people"] == pytest.approx(1 / 3)
    assert figures["joints"]["nose"]["PCK@0.1"] == pytest.approx(1 / 3)


def test_corrected_ankles_are_scored_beside_measured_ones(labels: tuple[Path, Path]) -> None:
    model = find("default", "ankles")
    always = replace(read_weights(model.path, model.decoder, "movenet"), margin=-1.0)

    def far(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        keypoints = off(image, boxes)
        keypoints[:, 15, 0] += 60
        return keypoints

    group = evaluate(*labels, far, ankles=always)["ankles"]["confidence < 0.3"]
    assert group["measured PCK@0.1"] == 0
    assert group["corrected PCK@0.1"] == 1


def test_nobody_reported_is_no_crash(labels: tuple[Path, Path]) -> None:
    figures = evaluate(*labels, perfect, find=lambda image: Boxes.none())
    assert figures["COCO"]["AP"] == 0
    assert figures["AR of scored people"] == 0


def test_hidden_joints_and_ties_of_pck() -> None:
    assert pck(np.array([0.01, 0.2, np.nan, np.inf]), 0.05) == pytest.approx(1 / 3)
    assert np.isnan(pck(np.array([np.nan]), 0.05))


def test_files_that_do_not_fit_are_refused(labels: tuple[Path, Path], tmp_path: Path) -> None:
    file, pictures = labels
    with pytest.raises(InputError, match=r"none of the 4 pictures that .* names is in"):
        read_annotations(file, tmp_path / "nowhere")
    file.write_text("{}")
    with pytest.raises(InputError, match="is no COCO keypoint file"):
        read_annotations(file, pictures)
    with pytest.raises(InputError, match="is no COCO keypoint file"):
        read_annotations(tmp_path / "missing.json", pictures)
