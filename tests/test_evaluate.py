"""Evaluation against labels: known errors give known figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from rtpose.errors import InputError
from rtpose.evaluate import evaluate, pck, print_tables, read_annotations, read_labels, save_figures
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
    assert figures["pictures"] == 3, "also the one without people"
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


Content = dict[str, Any]


def numbered_from_zero(said: Content) -> None:
    for number, one in enumerate(said["annotations"]):
        one["id"] = number


def another_category(said: Content) -> None:
    said["categories"].append({"id": 7, "name": "dog"})
    dog = {"id": 90, "image_id": 1, "category_id": 7, "bbox": [0, 0, 50, 50], "area": 900, "iscrowd": 0}
    said["annotations"].append(dog)


def category_seven(said: Content) -> None:
    for one in (*said["annotations"], *said["categories"]):
        one["category_id" if "image_id" in one else "id"] = 7


def with_a_crowd(said: Content) -> None:
    crowd = person(50, 4) | {"iscrowd": 1, "num_keypoints": 0, "keypoints": [0] * 51, "bbox": [0, 0, 640, 480]}
    said["annotations"] += [crowd | {"segmentation": {"size": [480, 640], "counts": [0, 307200]}}]


def somebody_without_joints(said: Content) -> None:
    said["annotations"].append(person(60, 1, -150) | {"num_keypoints": 0, "keypoints": [0] * 51})


def numbers_far_apart(said: Content) -> None:
    for number, one in enumerate(reversed(said["annotations"])):
        one["id"] = 10**9 + 37 * number


def without(*names: str) -> Callable[[Content], None]:
    def leave_out(said: Content) -> None:
        for one in said["annotations"]:
            for name in names:
                del one[name]

    return leave_out


def no_categories(said: Content) -> None:
    del said["categories"]


VALID = [lambda said: None, another_category, category_seven, with_a_crowd, somebody_without_joints, numbers_far_apart]
LACKING = [numbered_from_zero, no_categories, without("num_keypoints"), without("area"), without("iscrowd")]


def labelled_boxes(image: NDArray[np.uint8]) -> Boxes:
    """The boxes of the people of the picture, which is as grey as its number says."""
    left = {1: [260], 2: [110, 410]}.get(int(image[0, 0, 0]), [])
    return Boxes(np.array([[x, 40, x + 120, 420] for x in left], np.float32).reshape(-1, 4), np.ones(len(left), np.float32))


@pytest.mark.parametrize("change", [*VALID, *LACKING, without("num_keypoints", "area", "iscrowd")])
def test_perfect_results_score_one_whatever_the_shape_of_the_labels(
    labels: tuple[Path, Path], change: Callable[[Content], None]
) -> None:
    said = json.loads(labels[0].read_text())
    change(said)
    labels[0].write_text(json.dumps(said))
    for find_people in (labelled_boxes, None):
        figures = evaluate(*labels, perfect, find=find_people)
        assert figures["people"] == 3
        assert figures["COCO"]["AP"] == pytest.approx(1, abs=1e-9)
        assert figures["COCO"]["AR"] == 1


def imperfect(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every person wrong by another amount, and as sure."""
    keypoints = perfect(image, boxes)
    keypoints[:, :, 0] += boxes[:, :1] / 12
    keypoints[:, :, 2] = 0.5 + boxes[:, :1] / 1000
    return keypoints


def with_a_stranger(image: NDArray[np.uint8]) -> Boxes:
    """The people, and somebody in every picture who is not there."""
    known = labelled_boxes(image).xyxy
    boxes = np.concatenate([known, np.array([[450, 0, 570, 380]], np.float32)])
    return Boxes(boxes, np.ones(len(boxes), np.float32))


def test_who_is_reported_in_a_picture_without_people_counts_as_wrong(labels: tuple[Path, Path]) -> None:
    def find_more(image: NDArray[np.uint8]) -> Boxes:
        return with_a_stranger(image) if image[0, 0, 0] == 4 else labelled_boxes(image)

    def sure_of_the_stranger(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        keypoints = perfect(image, boxes)
        keypoints[boxes[:, 0] == 450, :, 2] = 1
        return keypoints

    score = evaluate(*labels, sure_of_the_stranger, find=find_more)["COCO"]
    assert score["AP"] == pytest.approx(0.75, abs=1e-9), "precision is 3 of 4 at any recall"
    assert score["AR"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("change", VALID)
def test_pycocotools_gives_the_same_figures(labels: tuple[Path, Path], change: Callable[[Content], None], tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    said = json.loads(labels[0].read_text())
    change(said)
    labels[0].write_text(json.dumps(said))
    ours = evaluate(*labels, imperfect, find=with_a_stranger)["COCO"]
    truth = COCO(str(labels[0]))
    category = said["categories"][0]["id"]
    reports = []
    for number in (1, 2, 4):
        image = np.full((480, 640, 3), number, np.uint8)
        for keypoints in imperfect(image, with_a_stranger(image).xyxy):
            where = {"image_id": number, "category_id": category, "score": float(keypoints[:, 2].mean())}
            reports.append(where | {"keypoints": keypoints.ravel().tolist()})
    theirs = COCOeval(truth, truth.loadRes(reports), "keypoints")
    theirs.params.imgIds, theirs.params.catIds = [1, 2, 4], [category]
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    assert 0 < ours["AP"] < 1
    assert list(ours.values()) == pytest.approx([np.nan if v < 0 else v for v in theirs.stats], abs=1e-9, nan_ok=True)


def test_figures_that_there_are_not_are_shown_as_such(labels: tuple[Path, Path], tmp_path: Path) -> None:
    said = json.loads(labels[0].read_text())
    for one in said["annotations"]:
        one["bbox"][3] = 70  # too small for the tables
        one["area"] = 40**2
    labels[0].write_text(json.dumps(said))
    figures = evaluate(*labels, perfect)
    assert figures["people"] == 0
    assert np.isnan(figures["COCO"]["AP large"])
    console = Console(width=200, record=True)
    print_tables(figures, console)
    assert "nan" not in console.export_text()
    save_figures(tmp_path / "figures.json", figures)
    saved = json.loads((tmp_path / "figures.json").read_text(), parse_constant=pytest.fail)
    assert saved["COCO"]["AP large"] is None
    assert saved["COCO"]["AP"] == pytest.approx(1, abs=1e-9)


def broken(place: str, value: Any) -> Callable[[Content], None]:
    return lambda said: said["annotations"][1].update({place: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("keypoints", [1, 2, 2]), "annotation 2 has 3 numbers as keypoints: 51 are needed"),
        (broken("bbox", [1, 2]), "annotation 2 has no box: bbox should be x, y, width, height"),
        (broken("bbox", [1, 2, -3, 4]), "annotation 2 has no box"),
        (broken("area", -4), "annotation 2 has an area of -4"),
        (broken("image_id", 99), "somebody is in picture 99, which is not among its images"),
        (without("bbox"), "annotation 1 has no box"),
        (without("image_id"), "there is no 'image_id'"),
        (without("category_id"), "there is no 'category_id'"),
        (lambda said: said["images"].append(said["images"][0]), "two images have the id 1"),
        (lambda said: said["categories"][0].update(keypoints=["nose"]), "category person has 1 keypoints, not COCO's 17"),
        (lambda said: said["categories"][0]["keypoints"].reverse(), "keypoints in another order than COCO's: right_ankle"),
        (lambda said: said.update(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]), "give one that is called person"),
        (lambda said: said.update(annotations=[]), "labels the joints of nobody in the 3 pictures"),
    ],
)
def test_labels_that_cannot_be_are_one_clear_line(
    labels: tuple[Path, Path], change: Callable[[Content], None], message: str
) -> None:
    said = json.loads(labels[0].read_text())
    change(said)
    labels[0].write_text(json.dumps(said))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_labels(*labels)
    assert "\n" not in str(error.value)


def test_outputs_are_checked_before_the_work(labels: tuple[Path, Path], tmp_path: Path) -> None:
    for words, message in (
        (["--save", tmp_path / "none" / "x.json"], "no such folder"),
        (["--save", labels[0]], "is the source itself"),
        (["--save", tmp_path / "x.txt"], "its name should end in .json"),
        (["--sheet", tmp_path / "x.gif"], "its name should end in .png"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rtpose", "evaluate", *map(str, (*labels, *words))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert message in " ".join(done.stderr.split())


def test_files_that_do_not_fit_are_refused(labels: tuple[Path, Path], tmp_path: Path) -> None:
    file, pictures = labels
    with pytest.raises(InputError, match=r"none of the 4 pictures that .* names is in"):
        read_annotations(file, tmp_path / "nowhere")
    file.write_text("{}")
    with pytest.raises(InputError, match="is no COCO keypoint file"):
        read_annotations(file, pictures)
    with pytest.raises(InputError, match="is no COCO keypoint file"):
        read_annotations(tmp_path / "missing.json", pictures)
