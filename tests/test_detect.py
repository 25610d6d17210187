"""The detector stage: NanoDet's format against a plain reading of it, suppression, when it looks, and pictures of any shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from rtpose.app import savings
from rtpose.backends import Session, open_session
from rtpose.errors import InputError
from rtpose.models import find
from rtpose.scope import parts_of
from rtpose.stages.detect import INTERVAL, PATIENCE, Detector, suppress
from rtpose.types import Frame, Result


class Scripted:
    """A session that sees `boxes` (edges x0, y0, x1, y1 in px of its input) with `scores`, in NanoDet's format, and keeps its input."""

    backend, device, precision = "scripted", "cpu", "f32"
    outputs: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        boxes: Sequence[tuple[float, ...]] = (),
        scores: Sequence[float] = (),
        size: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.boxes, self.scores = boxes, scores
        self.inputs = {"image": ((None, *size, 3), np.dtype(np.uint8))}
        self.seen: list[NDArray[np.uint8]] = []

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.seen.append(feeds["image"].copy())
        _, height, width, _ = feeds["image"].shape
        grids = [
            np.stack(np.meshgrid(np.arange(width // s), np.arange(height // s)), -1).reshape(-1, 2) * s + s / 2
            for s in (8, 16, 32)
        ]
        centres = np.concatenate(grids)
        strides = np.concatenate([np.full(len(g), s) for g, s in zip(grids, (8, 16, 32), strict=True)])
        scores = np.zeros(len(centres), np.float32)
        distances = np.zeros((len(centres), 4, 11), np.float32)
        for box, score in zip(self.boxes, self.scores, strict=True):
            reach = np.abs(np.array(box).reshape(2, 2) - centres[:, None]).reshape(-1, 4) / strides[:, None]
            inside = (centres > box[:2]).all(1) & (centres < box[2:]).all(1) & (reach.max(1) < 10) & (scores == 0)
            cell = int(np.flatnonzero(inside)[0])
            scores[cell] = score
            # A distribution over 0..10 with the wanted mean: all the weight on the two bins around it.
            for side, way in enumerate(reach[cell]):
                low = int(way)
                distances[cell, side] = -30
                distances[cell, side, low : low + 2] = np.log([1 - (way - low) + 1e-12, way - low + 1e-12])
        return {"scores": scores[None], "distances": distances.reshape(1, -1, 44)}

    def close(self) -> None: ...


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def nanodet() -> Session:
    return open_session(find("nanodet", "detector").path, precision="f32")


def test_boxes_come_back_in_pixels_of_the_picture() -> None:
    # 832 x 416 on 416 x 256 is halved and gets 24 rows of grey above and below.
    session = Scripted([(20, 64, 60, 164), (200, 40, 300, 140)], [0.6, 0.9])
    found = Detector(session).detect(picture(416, 832))
    np.testing.assert_allclose(found.scores, [0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, [[399.5, 31.5, 599.5, 231.5], [39.5, 79.5, 119.5, 279.5]], atol=0.01)
    seen = session.seen[0]
    assert seen.shape == (1, 256, 416, 3)
    assert (seen[0, :24] == 114).all()
    assert (seen[0, 232:] == 114).all()
    assert (seen[0, 24:232] == 200).all()


def test_the_input_is_as_the_network_fixes_it() -> None:
    session = Scripted(size=(416, 416))
    assert len(Detector(session).detect(picture(100, 400))) == 0
    assert session.seen[0].shape == (1, 416, 416, 3)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), max_size=12), st.floats(0.1, 0.9))
def test_suppression_keeps_a_box_unless_a_better_kept_one_overlaps(corners: list[tuple[int, ...]], overlap: float) -> None:
    boxes = np.array([(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners], np.float32).reshape(-1, 4)

    def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        grids = [np.zeros((32, 32), bool), np.zeros((32, 32), bool)]
        for grid, box in zip(grids, (a, b), strict=True):
            x0, y0, x1, y1 = box.astype(int)
            grid[y0:y1, x0:x1] = True
        return float((grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum())

    kept: list[int] = []
    for k in range(len(boxes)):
        if all(iou(boxes[k], boxes[j]) <= overlap + 1e-9 for j in kept):
            kept.append(k)
    assert suppress(boxes, overlap).tolist() == kept


def looks(stage: Detector, frames: list[Frame]) -> list[int]:
    return [frame.index for frame in frames if stage(Result(frame)).detections is not None]


def test_it_looks_at_every_kth_frame_by_index_and_after_a_gap() -> None:
    image = picture(32, 32)
    steady = [Frame(k, k / 30, image, 0) for k in range(10)]
    assert looks(Detector(Scripted(), every=4), steady) == [0, 4, 8]
    assert looks(Detector(Scripted(), every=4), [steady[k] for k in (0, 3, 5, 6, 9)]) == [0, 5, 9]
    gap = [Frame(k, k / 30 + (3 if k > 5 else 0), image, 0) for k in range(10)]
    assert looks(Detector(Scripted(), every=4), gap) == [0, 4, 6]
    assert looks(Detector(Scripted(), every=4), [Frame(k, k / 30, image, 0, independent=True) for k in range(3)]) == [0, 1, 2]


@pytest.mark.parametrize("seconds", [INTERVAL, PATIENCE])
@pytest.mark.parametrize("rate", [5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 120, *(1000 * rate / 1001 for rate in (24, 30, 60))])
@pytest.mark.parametrize("tick", [1e-3, 1 / 90_000, 1e-9])
def test_at_a_steady_rate_it_looks_at_every_kth_frame_whatever_the_ticks(rate: float, seconds: float, tick: float) -> None:
    image = picture(32, 32)
    frames = [Frame(k, round(k / rate / tick) * tick, image, 0) for k in range(200)]
    whole = round(rate)  # the rates of television count as whole ones
    every = max(1, int(whole * seconds + 1e-9))
    assert looks(Detector(Scripted(), interval=seconds), frames) == list(range(0, 200, every))


@given(st.lists(st.floats(0.001, 0.4), min_size=1, max_size=60), st.floats(0.05, 0.5))
def test_it_looks_as_soon_as_the_interval_is_over(steps: list[float], seconds: float) -> None:
    image = picture(32, 32)
    frames = [Frame(k, time, image, 0) for k, time in enumerate(np.cumsum(steps).tolist())]
    looked = frames[0].time
    at = set(looks(Detector(Scripted(), interval=seconds), frames))
    for frame in frames:
        assert frame.index in at or frame.time - looked <= seconds
        looked = frame.time if frame.index in at else looked


def test_jitter_and_ticks_that_are_no_rate_leave_the_interval_as_it_is() -> None:
    random = np.random.default_rng(0)
    times = np.round(np.arange(300) / 30 + random.uniform(-0.009, 0.009, 300), 3)
    at = looks(Detector(Scripted(), interval=INTERVAL), [Frame(k, t, picture(32, 32), 0) for k, t in enumerate(times.tolist())])
    assert np.diff(times[at]).max() < 0.24
    assert 45 < len(at) < 65  # 50 at a steady rate


def test_saving_doubles_what_it_waits_for() -> None:
    frames = [Frame(k, k / 30, picture(32, 32), 0) for k in range(40)]
    for stage, plain in ((Detector(Scripted(), interval=INTERVAL), 6), (Detector(Scripted(), every=4), 4)):
        (step,) = savings([stage])
        step.pull(True)
        assert looks(stage, frames) == list(range(0, 40, 2 * plain))
        step.pull(False)
        assert looks(
            stage, [dataclasses.replace(frame, time=frame.time + 9, index=frame.index + 40) for frame in frames]
        ) == list(range(40, 80, plain))


@pytest.mark.parametrize("shape", [(1, 1), (1, 16384), (16384, 1), (3, 700), (32, 32), (416, 416), (417, 1)])
def test_pictures_of_any_shape(nanodet: Session, shape: tuple[int, int]) -> None:
    found = Detector(nanodet).detect(picture(*shape))
    assert (found.xyxy[:, :2] <= found.xyxy[:, 2:]).all()


def test_it_finds_the_person_in_a_photograph_wherever_she_is(nanodet: Session) -> None:
    astronaut = data.astronaut()
    detector = Detector(nanodet)
    found = detector.detect(astronaut)
    assert found.scores[0] > 0.6
    x0, y0, x1, y1 = found.xyxy[0]
    assert x0 < 60
    assert 0 <= y0 + 0.5 < 40
    assert x1 > 350
    assert y1 > 480
    wide = np.full((512, 1200, 3), 90, np.uint8)
    wide[:, 600:1112] = astronaut
    moved = detector.detect(wide)
    np.testing.assert_allclose(moved.xyxy[0], found.xyxy[0] + [600, 0, 600, 0], atol=40)
    grey = np.repeat(astronaut.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    assert detector.detect(grey).scores[0] > 0.5


def small_astronaut(x: int, y: int, height: int) -> NDArray[np.uint8]:
    """A wide picture in which the astronaut is small."""
    wide = np.full((1080, 1920, 3), 90, np.uint8)
    wide[y : y + height, x : x + height] = cv2.resize(data.astronaut(), (height, height), interpolation=cv2.INTER_AREA)
    return wide


def test_tiles_find_who_is_too_small_in_the_whole_picture(nanodet: Session) -> None:
    picture = small_astronaut(1400, 600, 60)
    plain = Detector(nanodet).detect(picture)
    tiled = Detector(nanodet, parts=partial(parts_of, None, "4x3")).detect(picture)
    assert tiled.scores[0] > plain.scores.max(initial=0) + 0.2
    x0, y0, x1, y1 = tiled.xyxy[0]
    assert 1390 < x0 < x1 < 1470
    assert 590 < y0 < y1 < 670


def test_a_region_is_looked_at_alone_and_larger(nanodet: Session) -> None:
    picture = small_astronaut(1400, 600, 60)
    picture[200:712, 100:612] = data.astronaut()
    found = Detector(nanodet, parts=partial(parts_of, "1300,500,1600,700", "1")).detect(picture)
    assert found.scores[0] > 0.4
    assert (found.xyxy[:, :2] >= [1299.5, 499.5]).all()
    assert (found.xyxy[:, 2:] <= [1599.5, 699.5]).all()
    np.testing.assert_allclose(found.xyxy[0], [1402, 600, 1449, 660], atol=10)
    cropped = Detector(nanodet).detect(np.ascontiguousarray(picture[500:700, 1300:1600]))
    np.testing.assert_allclose(found.xyxy - np.array([1300, 500, 1300, 500]), cropped.xyxy, atol=1e-3)


def test_one_person_in_several_tiles_is_one_and_who_is_cut_by_a_tile_is_left_to_another() -> None:
    # The whole picture is seen first, then two tiles of 232 x 256 px, 1.625 times as large with 3 columns of grey at the left.
    class Looks(Scripted):
        def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            self.boxes, self.scores = scripts[len(self.seen)]
            return super().__call__(feeds)

    scripts = [
        ([(50, 70, 90, 190)], [0.5]),
        ([(90, 100, 155, 300), (300, 100, 416, 300)], [0.7, 0.9]),
        ([(0, 100, 83, 300), (150, 100, 200, 300)], [0.8, 0.6]),
    ]
    found = Detector(Looks(), parts=partial(parts_of, None, "2x1")).detect(picture(256, 416))
    # Of the whole picture's and the first tile's box of one person the better stays; those at the cut edges go.
    np.testing.assert_allclose(found.scores, [0.7, 0.6], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy[:, 0], [87 / 1.625 - 0.5, 184 + 147 / 1.625 - 0.5], atol=0.1)


def test_nobody_is_nobody(nanodet: Session) -> None:
    result = Detector(nanodet)(Result(Frame(0, 0.0, data.coffee(), 0)))
    assert result.detections is not None
    assert result.detections.xyxy.shape[1:] == (4,)
    empty = Detector(nanodet)(Result(Frame(0, 0.0, picture(480, 640), 0))).detections
    assert empty is not None
    assert len(empty) == 0


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(InputError, match="unknown detector format 'yolo9': choose one of nanodet"):
        Detector(Scripted(), "yolo9")
    with pytest.raises(InputError, match="every 0-th frame"):
        Detector(Scripted(), every=0)
