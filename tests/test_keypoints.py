"""The keypoint stage with the bundled networks on a public-domain photograph: geometry, batches, identities, odd input."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from rtpose.backends import Arrays, Session, open_session
from rtpose.backends.openvino import OpenVinoSession
from rtpose.errors import InputError
from rtpose.models import find
from rtpose.stages.detect import INTERVAL, Detector
from rtpose.stages.keypoints import (
    CALIBRATIONS,
    MIRRORED,
    KeypointEstimator,
    Seen,
    agree,
    calibrate,
    clothes,
    nobody,
    predicted,
    square_crops,
)
from rtpose.types import Boxes, Frame, People, Result, Status

Image = NDArray[np.uint8]
NOSE, EYES, SHOULDERS = (223, 123), ((247, 101), (203, 100)), ((325, 270), (95, 258))
"""Where they are in the photograph, looked up by eye."""

BOX = np.array([[20, 0, 420, 511]], np.float32)


@pytest.fixture(scope="module")
def make() -> Callable[..., KeypointEstimator]:
    session = open_session(find("movenet-thunder", "keypoints").path, precision="f32")
    return lambda **changed: KeypointEstimator(session, **changed)


@pytest.fixture(scope="module")
def look() -> Callable[[int], Detector]:
    session = open_session(find("nanodet", "detector").path, precision="f32")
    return lambda every: Detector(session, every=every)


@pytest.fixture(scope="module")
def astronaut() -> Image:
    return np.asarray(data.astronaut())


def run(
    stages: tuple[Detector, KeypointEstimator], images: list[Image], rate: float = 30.0, independent: bool = False
) -> list[People]:
    found = []
    for k, image in enumerate(images):
        found.append(stages[1](stages[0](Result(Frame(k, k / rate, image, 0, independent=independent)))).people)
    return found


def test_keypoints_are_where_they_are_seen(make: Callable[..., KeypointEstimator], astronaut: Image) -> None:
    for again in (nobody, lambda _: np.zeros(1, np.int64)):
        pose = make().estimate(astronaut, BOX, new=1, again=again)[0]
        assert np.hypot(*(pose[0, :2] - NOSE)) < 12
        for joint, place in ((1, EYES[0]), (2, EYES[1]), (5, SHOULDERS[0]), (6, SHOULDERS[1])):
            assert np.hypot(*(pose[joint, :2] - place)) < (12 if joint < 5 else 35)


def test_a_moved_and_scaled_picture_gives_moved_and_scaled_keypoints(
    make: Callable[..., KeypointEstimator], astronaut: Image
) -> None:
    pose = make().estimate(astronaut, BOX)[0]
    wide = np.zeros((700, 900, 3), np.uint8)
    wide[100:612, 300:812] = astronaut
    moved = make().estimate(wide, BOX + np.array([300, 100, 300, 100], np.float32))[0]
    seen = pose[:, 2] > 0.3
    np.testing.assert_allclose(moved[seen, :2], pose[seen, :2] + [300, 100], atol=0.5)
    doubled = np.repeat(np.repeat(astronaut, 2, 0), 2, 1)
    scaled = make().estimate(doubled, BOX * 2 + 0.5)[0]
    face = np.arange(5)
    np.testing.assert_allclose(scaled[face, :2], pose[face, :2] * 2 + 0.5, atol=4)


def test_a_slender_box_costs_fewer_columns_and_shows_the_same_joints(
    make: Callable[..., KeypointEstimator], astronaut: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = BOX + np.array([100, 0, -100, 0], np.float32)  # half as wide, in much the same square
    narrow = make().estimate(astronaut, aside)[0]
    monkeypatch.setattr("rtpose.stages.keypoints.NARROW", (1.0,))
    whole = make().estimate(astronaut, aside)[0]
    face = np.arange(5)
    assert (narrow != whole).any()
    np.testing.assert_allclose(narrow[face, :2], whole[face, :2], atol=8)
    assert whole[face, 2].min() > 0.3 < narrow[face, 2].min()


def test_people_in_a_batch_are_as_if_alone(make: Callable[..., KeypointEstimator], astronaut: Image) -> None:
    boxes = np.concatenate([BOX, BOX + 15, BOX - 15])
    together = make().estimate(astronaut, boxes, new=1, again=lambda _: np.array([2]))
    alone = [make().estimate(astronaut, box[None]) for box in boxes[:2]]
    alone.append(make().estimate(astronaut, boxes[2:], new=1, again=lambda _: np.array([0])))
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-3)
    assert make().estimate(astronaut, np.zeros((0, 4), np.float32)).shape == (0, 17, 3)


class Counted:
    """A session that remembers the shapes of what it was shown."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.shown: list[tuple[int, int]] = []
        self.begun: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)

    def __call__(self, feeds: Mapping[str, Image]) -> Arrays:
        self.shown.append((len(feeds["image"]), feeds["image"].shape[2]))
        return self._session(feeds)

    def begin(self, feeds: Mapping[str, Image]) -> Callable[[], Arrays] | None:
        wait = cast(OpenVinoSession, self._session).begin(feeds)
        if wait is not None:
            self.begun.append((len(feeds["image"]), feeds["image"].shape[2]))
        return wait


@pytest.mark.parametrize(
    ("left", "width"), [((100,), 128), ((100, 300), 128), ((100, 120), 128), ((100, 300, 500), 160), ((100, 120, 140), 256)]
)
def test_crops_are_less_narrow_where_many_are_followed(astronaut: Image, left: tuple[int, ...], width: int) -> None:
    session = open_session(find("movenet-thunder", "keypoints").path, precision="f32")
    network = Counted(session)
    estimator = KeypointEstimator(cast(Session, network))
    network.shown.clear()
    boxes = np.array([[x, 100, x + 30, 200] for x in left], np.float32)
    estimator.estimate(np.tile(astronaut, (1, 2, 1)), boxes)
    assert network.shown == [(len(left), width)]


def test_each_crop_is_as_narrow_as_its_own_box(astronaut: Image) -> None:
    network = Counted(open_session(find("movenet-thunder", "keypoints").path, precision="f32"))
    estimator = KeypointEstimator(cast(Session, network))
    network.shown.clear()
    network.begun.clear()
    estimator.estimate(astronaut, np.array([[100, 100, 130, 200], [200, 100, 250, 200]], np.float32))
    assert sorted(network.shown + network.begun) == [(1, 128), (1, 160)]


@pytest.mark.parametrize("jump", [1, 90])
def test_what_comes_next_is_begun_ahead_and_nothing_depends_on_it(
    look: Callable[[int], Detector], astronaut: Image, jump: int
) -> None:
    """A photograph that slides on: where it does so steadily, what was begun is taken; where it jumps to and fro, that is of no use."""
    places = [4 * k + (jump if k % 2 else 0) for k in range(16)]
    pictures = [np.pad(astronaut, ((0, 0), (place, 200 - place), (0, 0))) for place in places]
    detector = look(5)
    results = [detector(Result(Frame(k, k / 30, picture, 0))) for k, picture in enumerate(pictures)]
    session = open_session(find("movenet-thunder", "keypoints").path, precision="f32", threads=2)
    others = set(threading.enumerate())
    for width in (128, 160, 192, 256):
        cast(OpenVinoSession, session).begin({"image": np.zeros((1, 256, width, 3), np.uint8)})
    for compiling in set(threading.enumerate()) - others:
        compiling.join()
    alone = KeypointEstimator(session)
    expected = [alone(result).people for result in results]
    network = Counted(session)
    ahead = KeypointEstimator(cast(Session, network))
    coming = iter([*results[1:], None])
    ahead.upcoming = lambda: next(coming)
    network.shown.clear()
    for result, people in zip(results, expected, strict=True):
        got = ahead(result).people
        np.testing.assert_array_equal(got.ids, people.ids)
        np.testing.assert_array_equal(got.raw, people.raw)
    assert network.begun
    if jump == 1:
        assert network.begun.count((1, 192)) == 15, "once for each frame but the first"
        assert (1, 192) not in network.shown


def test_beside_somebody_followed_newcomers_are_first_seen_narrowly_then_whole(astronaut: Image) -> None:
    session = open_session(find("movenet-thunder", "keypoints").path, precision="f32")
    network, cheaper = Counted(session), Counted(session)
    estimator = KeypointEstimator(cast(Session, network), light=cast(Session, cheaper))
    network.shown.clear()
    cheaper.shown.clear()
    boxes = np.array([[100, 100, 130, 200], [200, 100, 230, 200], [300, 100, 330, 200]], np.float32)
    estimator.estimate(astronaut, boxes, new=2, again=lambda _: np.array([2]))
    assert cheaper.shown == [(3, 128)]
    assert network.shown == [(2, 256)], "one of them, as they are and mirrored"


def test_newcomers_are_seen_by_the_network_and_whoever_is_followed_by_its_cheaper_form(
    look: Callable[[int], Detector], astronaut: Image
) -> None:
    session = open_session(find("movenet-thunder", "keypoints").path, precision="f32")
    network, cheaper = Counted(session), Counted(session)
    estimator = KeypointEstimator(cast(Session, network), light=cast(Session, cheaper))
    network.shown.clear()
    cheaper.shown.clear()
    detections = Boxes(np.array([[20, 0, 420, 511], [0, 0, 38, 150]], np.float32), np.array([0.7, 0.05], np.float32))
    for k in range(3):
        seen = Result(Frame(k, k / 30, astronaut, 0), detections=detections if k == 0 else None)
        assert len(estimator(seen).people) == 1
    assert network.shown == [(2, 256), (1, 256)], "both once, who may be somebody twice"
    assert [n for n, _ in cheaper.shown] == [1, 1]


def test_twelve_people_at_once(make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image) -> None:
    framed = np.pad(astronaut[::2, ::2], ((20, 0), (40, 40), (0, 0)), constant_values=110)
    height, width = framed.shape[:2]
    people = run((look(1), make()), [np.tile(framed, (3, 4, 1))] * 2)[1]
    cells = {(int(x) // width, int(y) // height) for x, y in people.keypoints[:, 0, :2]}
    assert len(cells) == 12
    assert len(people) == len(set(people.ids.tolist())) == 12


def test_no_boxes_are_no_people(make: Callable[..., KeypointEstimator], astronaut: Image) -> None:
    frame = Frame(0, 0.0, astronaut, 0)
    for detections in (None, Boxes.none()):
        assert len(make()(Result(frame, detections)).people) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 16384), (16384, 1), (2, 2)])
def test_pictures_of_any_shape(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], shape: tuple[int, int]
) -> None:
    image = np.full((*shape, 3), 127, np.uint8)
    for person in run((look(1), make()), [image] * 2):
        assert np.isfinite(person.keypoints).all()
    whole = np.array([[-0.5, -0.5, shape[1] - 0.5, shape[0] - 0.5]], np.float32)
    assert np.isfinite(make().estimate(image, whole)).all()


def test_between_looks_the_person_is_followed(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    """The photograph slides over a grey wall: the nose is where it was put, in every frame, under one id."""
    images = []
    for k in range(15):
        wall = np.full((512, 1000, 3), 110, np.uint8)
        wall[:, 40 + 20 * k : 552 + 20 * k] = astronaut
        images.append(wall)
    for k, people in enumerate(run((look(20), make()), images)):
        assert people.ids.tolist() == [1]
        assert np.hypot(*(people.keypoints[0, 0, :2] - (NOSE[0] + 40 + 20 * k, NOSE[1]))) < 15


def test_people_not_looked_at_move_on_as_they_moved(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    """The photograph slides by 10 px a frame: who would stay where they were seen last would be 10 or 20 px off."""
    images = [np.full((512, 800, 3), 110, np.uint8) for _ in range(12)]
    for k, wall in enumerate(images):
        wall[:, 40 + 10 * k : 552 + 10 * k] = astronaut
    every, third = (run((look(6), make(every=every)), images) for every in (1, 3))
    for k, (exact, guessed) in enumerate(zip(every, third, strict=True)):
        assert exact.ids.tolist() == guessed.ids.tolist() == [1]
        assert (guessed.status == Status.PREDICTED).all() == (k % 3 != 0)
        if k > 3:  # there is motion to go by
            assert np.linalg.norm(guessed.raw[0, :7, :2] - exact.raw[0, :7, :2], axis=-1).mean() < 8


def test_who_was_seen_once_stays_until_the_next_look() -> None:
    pose = np.ones((1, 17, 3), np.float32)
    once = People(np.ones(1), np.array([[0, 0, 9, 9]]), np.ones(1), pose, np.zeros((1, 17)), pose)
    people = predicted(1.5, Seen(0, 1.0, People.none()), Seen(1, 1.1, once))
    assert (people.keypoints == pose).all()
    assert (people.status == Status.PREDICTED).all()


def test_who_enters_is_reported_soon_and_who_left_is_gone(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    rate = 30.0
    wall = np.full((512, 800, 3), 110, np.uint8)
    there = wall.copy()
    there[:, 150:662] = astronaut
    counts = [len(p) for p in run((look(int(INTERVAL * rate)), make()), [wall] * 7 + [there] * 12 + [wall] * 6, rate)]
    assert counts[:7] == [0] * 7
    entered = next(k for k, count in enumerate(counts) if count)
    assert (entered - 7) / rate < 0.3
    assert counts[entered:19] == [1] * (19 - entered)
    assert counts[20:] == [0] * 5


def test_independent_pictures_begin_anew_and_ids_never_repeat(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    people = run((look(30), make()), [astronaut] * 3, independent=True)
    ids = [i for p in people for i in p.ids.tolist()]
    assert len(ids) == len(set(ids)) >= 3
    for a, b in itertools.pairwise(people):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_the_same_input_gives_the_same_people(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    images = [np.roll(astronaut, 6 * k, 1) for k in range(6)]
    for one, other in zip(run((look(3), make()), images), run((look(3), make()), images), strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_the_number_of_people_can_be_bounded(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    crowd = np.tile(astronaut[::2, ::2], (2, 2, 1))
    few, all_of_them = make(max_people=2), make(max_people=40)
    assert len(run((look(1), few), [crowd])[0]) == 2
    assert few.notes() == ["--max-people 2 was met in 1 frame: give more to follow everybody"]
    assert len(run((look(1), all_of_them), [crowd])[0]) > 2
    assert all_of_them.notes() == []
    with pytest.raises(InputError, match="at most 0 people"):
        make(max_people=0)
    with pytest.raises(InputError, match="unknown keypoint format 'hrnet': choose one of movenet"):
        make(decoder="hrnet")


poses = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).uniform(0.05, 0.95, (2, 17, 3)).astype(np.float32))


def mirror(pose: NDArray[np.float32]) -> NDArray[np.float32]:
    other = pose[:, MIRRORED].copy()
    other[:, :, 0] = 1 - other[:, :, 0]
    return other


@given(poses)
def test_a_mirrored_look_that_agrees_changes_nothing_and_one_that_does_not_lowers_confidence(pose: NDArray[np.float32]) -> None:
    same = pose.copy()
    agree(same, mirror(pose))
    np.testing.assert_allclose(same, pose, atol=1e-5)
    far = pose.copy()
    far[:, :, :2] += 3
    mixed = pose.copy()
    agree(mixed, mirror(far * np.array([1, 1, 0.5], np.float32)))
    np.testing.assert_allclose(mixed[:, :, :2], pose[:, :, :2])
    assert (mixed[:, :, 2] < pose[:, :, 2]).all()


@given(poses, st.floats(0.01, 0.4))
def test_more_confidence_of_the_network_is_more_chance_and_outside_is_none(pose: NDArray[np.float32], more: float) -> None:
    table = CALIBRATIONS["movenet"]
    low = pose * np.array([100, 100, 0.5], np.float32)
    high = low + np.array([0, 0, more], np.float32)
    calibrate(low, 100, 100, table)
    calibrate(high, 100, 100, table)
    assert (high[:, :, 2] > low[:, :, 2]).all()
    assert (low[:, :, 2] >= 0).all()
    assert (high[:, :, 2] <= 1).all()
    outside = pose + np.array([100, 0, 0], np.float32)
    calibrate(outside, 100, 100, table)
    assert (outside[:, :, 2] == 0).all()


def test_clothes_are_told_by_their_colours() -> None:
    crop = np.zeros((1, 100, 100, 3), np.uint8)
    crop[0, :50] = (200, 0, 0)
    crop[0, 50:] = (0, 0, 100)
    pose = np.zeros((1, 17, 3), np.float32)
    for joint, x, y in ((5, 0.7, 0.2), (6, 0.3, 0.2), (11, 0.6, 0.5), (12, 0.4, 0.5), (13, 0.6, 0.8), (14, 0.4, 0.8)):
        pose[0, joint, :2] = x, y
    chest, waist, thighs = clothes(crop, pose)[0]
    np.testing.assert_allclose(chest, [200 / 255, 0, 0], atol=1e-3)
    np.testing.assert_allclose(waist, [200 / 255, 0, 0], atol=1e-3)
    np.testing.assert_allclose(thighs, [0, 0, 100 / 255], atol=1e-3)


@given(st.lists(st.tuples(*[st.floats(-1000, 1000)] * 2, *[st.floats(0, 500)] * 2), min_size=1, max_size=5))
def test_crops_are_squares_that_hold_the_box(drawn: list[tuple[float, float, float, float]]) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in drawn], np.float32)
    squares = square_crops(boxes, 1.15)
    assert (squares[:, 0] - squares[:, 2] / 2 <= boxes[:, 0]).all()
    assert (squares[:, 1] + squares[:, 2] / 2 >= boxes[:, 3]).all()
    assert (squares[:, 2] >= 1).all()


def test_results_say_what_the_network_gave(
    make: Callable[..., KeypointEstimator], look: Callable[[int], Detector], astronaut: Image
) -> None:
    before = look(1)(Result(Frame(0, 0.0, astronaut, 0)))
    after = make()(before)
    assert replace(after, people=before.people) == before
    inside = after.people.keypoints[:, :, 2] > 0
    np.testing.assert_array_equal(after.people.raw[:, :, :2], after.people.keypoints[:, :, :2])
    assert (after.people.keypoints[:, :, 2] != after.people.raw[:, :, 2])[inside].all()
    assert (after.people.status == 0).all()
