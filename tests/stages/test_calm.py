"""When the detector may skip a look, on a public-domain photograph."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from rtpose.backends import open_session
from rtpose.models import find
from rtpose.stages.calm import LONGEST, Calm, cells_of, halved
from rtpose.stages.detect import Detector
from rtpose.types import Frame, Result

BOX = np.array([[140, 100, 340, 460]], np.float32)


@pytest.fixture
def room() -> NDArray[np.uint8]:
    """A picture with noise of a camera's kind."""
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(110, 8, (480, 640, 3)), 0, 255).astype(np.uint8)


def settled(room: NDArray[np.uint8]) -> Calm:
    calm = Calm()
    for time in (0.0, 0.2):
        calm.looked(cells_of(room), time, BOX)
    return calm


def test_noise_and_who_is_known_disturb_nothing(room: NDArray[np.uint8]) -> None:
    later = np.clip(np.random.default_rng(1).normal(110, 8, room.shape), 0, 255).astype(np.uint8)
    later[120:440, 120:330] = 250  # the person moves within the box and a little beyond it
    assert settled(room).lasts(cells_of(later), 0.4)


@pytest.mark.parametrize("place", [(0, 0), (440, 600), (20, 500)])
def test_whoever_comes_is_noticed(room: NDArray[np.uint8], place: tuple[int, int]) -> None:
    later = room.copy()
    later[place[0] : place[0] + 40, place[1] : place[1] + 16] += 40
    assert not settled(room).lasts(cells_of(later), 0.4)


def test_it_does_not_last_and_begins_with_two_looks_alike(room: NDArray[np.uint8]) -> None:
    assert not settled(room).lasts(cells_of(room), 0.2 + LONGEST)
    once = Calm()
    once.looked(cells_of(room), 0.0, BOX)
    assert not once.lasts(cells_of(room), 0.1)
    for boxes in (BOX + 300, np.concatenate([BOX, BOX + 300]), BOX[:0]):
        calm = settled(room)
        calm.looked(cells_of(room), 0.3, boxes)
        assert not calm.lasts(cells_of(room), 0.4)
    assert not settled(room).lasts(cells_of(room[:400]), 0.4)


def test_the_detector_looks_less_often_at_what_does_not_move() -> None:
    session = open_session(find("nanodet", "detector").path, precision="f32")
    image = np.asarray(data.astronaut())
    looks = {}
    for calm in (False, True):
        detector = Detector(session, interval=0.1, patience=0.0, calm=calm)
        looks[calm] = [k for k in range(40) if detector(Result(Frame(k, k / 30, image, 0))).detections is not None]
    assert looks[False] == list(range(0, 40, 3))
    assert looks[True] == [0, 3, 21, 39]  # twice, then after `LONGEST`


def test_the_detector_is_patient_with_whom_it_knows_though_all_moves() -> None:
    session = open_session(find("nanodet", "detector").path, precision="f32")
    image = np.asarray(data.astronaut())
    detector = Detector(session, interval=0.1, patience=1 / 6, calm=True)
    looks = []
    for k in range(24):
        shown = np.roll(image, 7 * k, 1) if k < 18 else np.zeros_like(image)  # the camera turns, at last away
        if detector(Result(Frame(k, k / 30, shown, 0))).detections is not None:
            looks.append(k)
    assert looks == [0, 3, 8, 13, 18, 21]


@pytest.mark.parametrize("size", [(720, 1280), (1081, 1921), (96, 54), (3, 4000)])
def test_halved_pictures_keep_their_brightness_and_enough_pixels(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    small = halved(picture, 96)
    assert min(96, max(size)) <= max(small.shape[:2]) < max(192, 1 + min(96, max(size)))
    np.testing.assert_allclose(small.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=6)
