"""Identities, on poses made up here: crossings, gaps, twins, strangers. What the network really sees is measured by the benchmarks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtpose.tracking import Tracker, assign, carry, distinct, extent, iou, likeness, oks, presence
from rtpose.types import Boxes

SIZE = (1000, 2000)
HALF = [(3, -98), (7, -95), (18, -75), (25, -45), (27, -15), (12, -5), (13, 45), (14, 90)]
STANDING = np.array([(0, -95), *((side * x, y) for x, y in HALF for side in (1, -1))], np.float32)
"""Joints of somebody who stands, upright, about 190 px high."""

RED, BLUE = (np.tile(np.array(c, np.float32), (3, 1)) for c in ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8)))


def pose(x: float, y: float, size: float = 2.0, sure: float = 0.7) -> NDArray[np.float32]:
    return np.concatenate([STANDING * size + [x, y], np.full((17, 1), sure)], axis=1).astype(np.float32)


def box(p: NDArray[np.float32]) -> NDArray[np.float32]:
    return extent(p, np.zeros(4, np.float32))


class World:
    """People (x, y, size, colours) as a detector and a keypoint network would see them: each box shows the person nearest its middle."""

    def __init__(self, tracker: Tracker | None = None) -> None:
        self.tracker = tracker or Tracker()

    def step(
        self, time: float, people: list[tuple[float, float, NDArray[np.float32]]], look: bool = True, sure: float = 0.7
    ) -> dict[int, float]:
        """Show the people (x, y, colours) at a time; return id -> x of everybody reported."""
        poses = [pose(x, y, sure=sure) for x, y, _ in people]
        seen = np.stack([box(p) for p in poses]) if poses else np.zeros((0, 4), np.float32)
        detections = Boxes(seen, np.full(len(poses), sure)) if look else None
        boxes, _ = self.tracker.look(time, detections)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        found, clothes = [], []
        for middle in middles:
            away = [float(np.hypot(x - middle[0], y - middle[1])) for x, y, _ in people]
            k = int(np.argmin(away)) if away and min(away) < 300 else -1
            found.append(poses[k] if k >= 0 else pose(*middle, sure=0.02))
            clothes.append(people[k][2] if k >= 0 else np.zeros((3, 3), np.float32))
        keypoints = np.stack(found) if found else np.zeros((0, 17, 3), np.float32)
        colours = np.stack(clothes) if clothes else np.zeros((0, 3, 3), np.float32)
        who = self.tracker.update(time, keypoints, colours, SIZE)
        return {int(i): float(pose[:, 0].mean()) for i, pose in zip(who.ids, who.poses, strict=True)}


def test_people_keep_their_ids_between_looks() -> None:
    world = World()
    for k in range(30):
        got = world.step(k / 30, [(300 + 4 * k, 500, RED), (1500 - 4 * k, 500, BLUE)], look=k % 6 == 0)
        if k == 0:
            left, right = sorted(got, key=lambda i: got[i])
        assert got == {left: pytest.approx(300 + 4 * k, abs=2), right: pytest.approx(1500 - 4 * k, abs=2)}


def test_people_who_cross_keep_their_ids() -> None:
    world = World()
    for k in range(61):
        hidden = 26 <= k <= 34  # the one behind cannot be seen
        walkers = [(400 + 20.0 * k, 500, RED)] + ([] if hidden else [(1600 - 20.0 * k, 505, BLUE)])
        got = world.step(k / 30, walkers, look=k % 6 == 0)
        if k == 0:
            left, right = sorted(got, key=lambda i: got[i])
    assert got == {left: pytest.approx(1600, abs=2), right: pytest.approx(400, abs=2)}


@pytest.mark.parametrize("gap", [0.7, 3.0])
def test_a_gap_in_time_keeps_the_ids(gap: float) -> None:
    world = World()
    for k in range(10):
        before = world.step(k / 30, [(500, 500, RED), (900, 500, BLUE)], look=k % 6 == 0)
    after = world.step(0.3 + gap, [(540, 500, RED), (870, 500, BLUE)])
    assert {i: {500: 540, 900: 870}[round(x)] for i, x in before.items()} == {i: round(x) for i, x in after.items()}


def test_who_comes_back_soon_is_known_and_who_comes_back_late_is_new() -> None:
    world = World(Tracker(memory=5.0))
    world.step(0.0, [(500, 500, RED)])
    assert world.step(0.2, []) == {}
    assert list(world.step(2.0, [(560, 500, RED)])) == [1]
    assert world.step(2.2, []) == {}
    assert list(world.step(20.0, [(560, 500, RED)])) == [2]


def test_somebody_else_in_the_same_place_is_somebody_else() -> None:
    world = World()
    world.step(0.0, [(500, 500, RED)])
    world.step(0.2, [])
    assert list(world.step(1.0, [(500, 500, BLUE)])) == [2]


@pytest.mark.parametrize("dark", [[10], [12], [10, 11, 12, 13], [11, 12, 13]])
def test_a_dark_picture_loses_nobody(dark: list[int]) -> None:
    """Whether or not the detector looks just then (at every sixth frame)."""
    world = World()
    for k in range(20):
        people = [(500 + 4.0 * k, 500, RED), (900, 500, BLUE)]
        got = world.step(k / 30, [] if k in dark else people, look=k % 6 == 0)
        assert list(got) == ([] if k in dark else [1, 2])


def test_who_leaves_is_gone_at_once() -> None:
    world = World()
    for k in range(40):
        got = world.step(k / 30, [(1800 + 20.0 * k, 500, RED)], look=k % 6 == 0)
    assert got == {}


def test_who_stands_still_is_reported_as_soon_as_who_walks_and_a_faint_thing_on_the_wall_never() -> None:
    faint, still, walker = World(), World(), World()
    for k in range(60):
        assert faint.step(k / 30, [(500, 500, RED)], look=k % 6 == 0, sure=0.2) == {}
        assert list(still.step(k / 30, [(500, 500, RED)], look=k % 6 == 0, sure=0.3)) == [1]
        assert list(walker.step(k / 30, [(400 + 10.0 * k, 500, RED)], look=k % 6 == 0, sure=0.3)) == [1]


def test_who_enters_between_two_looks_is_reported_within_three_tenths_of_a_second() -> None:
    world = World()
    for k in range(10):
        entered = [(500, 500, RED)] if k >= 1 else []  # the detector has just looked
        got = world.step(k / 30, entered, look=k % 6 == 0, sure=0.3)
    assert list(got) == [1]


def test_a_second_look_is_for_who_may_be_somebody() -> None:
    tracker = Tracker()
    poses = np.stack([pose(500, 500), pose(1500, 500, sure=0.05)])
    _, new = tracker.look(0.0, Boxes(np.stack([box(poses[0]), box(pose(1500, 500))]), np.array([0.8, 0.16], np.float32)))
    assert new == 2
    assert tracker.promising(poses, max(SIZE)).tolist() == [0]
    tracker.update(0.0, poses, np.stack([RED, BLUE]), SIZE)
    tracker.look(0.1, None)
    assert len(tracker.promising(poses[:1], max(SIZE))) == 0, "who is known is no newcomer"
    part = box(poses[0]) * np.array([1, 1, 1, 0.6], np.float32)
    _, new = tracker.look(0.2, Boxes(np.stack([box(poses[0]), part]), np.array([0.8, 0.3], np.float32)))
    assert new == 1
    assert len(tracker.promising(poses[[0, 0]], max(SIZE))) == 0, "nor is a part of them"


def test_who_is_not_reported_waits_for_the_detector() -> None:
    """The network is not asked frame after frame about a small thing on the wall; somebody else is followed all the while."""
    tracker, looked = Tracker(), []
    wall, person = pose(1500, 500, size=0.5, sure=0.3), pose(500, 500)
    for k in range(18):
        seen = Boxes(np.stack([box(person), box(wall)]), np.array([0.8, 0.28], np.float32)) if k % 9 == 0 else None
        boxes, _ = tracker.look(k / 30, seen)
        poses = np.stack([person, wall])[: len(boxes)]
        who = tracker.update(k / 30, poses, np.stack([RED, BLUE])[: len(boxes)], SIZE)
        assert who.ids.tolist() == [1]
        looked.append(len(boxes))
    assert looked == [2] * 6 + [1] * 3 + [2] + [1] * 8


def test_a_place_where_nobody_was_is_looked_at_again_when_the_detector_is_surer() -> None:
    tracker = Tracker()
    wall = box(pose(1500, 500))[None]

    def new(time: float, score: float) -> int:
        _, count = tracker.look(time, Boxes(wall, np.array([score], np.float32)))
        tracker.update(time, np.stack([pose(1500, 500, sure=0.02)])[:count], RED[None][:count], SIZE)
        return count

    assert [new(0.0, 0.3), new(0.5, 0.35), new(1.0, 0.6), new(1.5, 0.6)] == [1, 0, 1, 0]
    tracker.look(3.4, None)
    tracker.update(3.4, np.zeros((0, 17, 3), np.float32), np.zeros((0, 3, 3), np.float32), SIZE)
    assert new(3.5, 0.6) == 1


def test_ids_are_never_used_twice() -> None:
    world = World()
    for k in range(5):
        world.tracker.forget()
        assert list(world.step(float(k), [(500, 500, RED)])) == [k + 1]


def test_one_person_in_two_boxes_is_one() -> None:
    tracker = Tracker()
    one = pose(500, 500)
    whole = box(one)
    half = whole.copy()
    half[3] = (whole[1] + whole[3]) / 2
    boxes, new = tracker.look(0.0, Boxes(np.stack([whole, half]), np.array([0.9, 0.8])))
    assert new == 2
    who = tracker.update(0.0, np.stack([one, one]), np.zeros((2, 3, 3), np.float32), SIZE)
    assert who.ids.tolist() == [1]
    np.testing.assert_allclose(who.boxes[0], boxes[0])


def shown(seen: Boxes, poses: NDArray[np.float32], independent: bool) -> list[int]:
    """How many people are reported at each of three looks at the same thing."""
    tracker, counts = Tracker(), []
    for k in range(3):
        looks, _ = tracker.look(k / 5, seen, independent=independent)
        found = poses[np.minimum(np.arange(len(looks)), len(poses) - 1)]
        counts.append(
            len(tracker.update(k / 5, found, np.zeros((len(looks), 3, 3), np.float32), SIZE, independent=independent).ids)
        )
        if independent:
            tracker.forget()
    return counts


@pytest.mark.parametrize("independent", [True, False])
def test_a_doubtful_sight_is_shown_and_hardly_anything_is_not(independent: bool) -> None:
    for sure, count in ((0.25, 1), (0.15, 0)):
        doubtful = pose(500, 500, sure=sure)[None]
        seen = Boxes(box(doubtful[0])[None], np.array([sure]))
        assert shown(seen, doubtful, independent) == [count] * 3


@pytest.mark.parametrize("independent", [True, False])
def test_who_has_no_pose_of_their_own_is_shown(independent: bool) -> None:
    front = pose(500, 500)
    beside = box(front) + np.array([110, 0, 110, 0], np.float32)  # the detector sees two people, the network one pose twice
    seen = Boxes(np.stack([box(front), beside]), np.array([0.9, 0.8]))
    assert shown(seen, np.stack([front, front]), independent) == [2, 2, 2]


def test_who_comes_out_from_behind_somebody_keeps_a_number_and_takes_nobodys_pose() -> None:
    tracker = Tracker()
    front, behind = pose(500, 500), pose(610, 500)
    seen = Boxes(np.stack([box(front), box(behind)]), np.array([0.9, 0.8]))
    worth = []
    for k, poses in enumerate([[front, front]] * 4 + [[front, behind]] * 4):
        looks, _ = tracker.look(k / 10, seen)
        assert len(looks) == 2
        who = tracker.update(k / 10, np.stack(poses), np.zeros((2, 3, 3), np.float32), SIZE)
        assert who.ids.tolist() == [1, 2]
        np.testing.assert_allclose(who.boxes, seen.xyxy)
        np.testing.assert_allclose(who.poses[0], front)
        worth.append(who.worth.tolist())
    assert worth == [[1.0, np.float32(0.1)]] * 4 + [[1.0, 1.0]] * 4
    np.testing.assert_allclose(who.poses[1], behind)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0, 1), st.floats(20, 600), st.floats(0.2, 5))
def test_presence_is_a_chance_that_grows_with_what_speaks_for_it(
    score: float, sight: float, snug: float, side: float, scale: float
) -> None:
    around = np.array([0, 0, side / 3, side], np.float32)
    chance = presence(score, sight, snug, around, 640)
    assert 0 < chance < 1
    assert presence(min(score + 0.005, 1), sight, snug, around, 640) > chance
    assert presence(score, min(sight + 0.005, 1), snug, around, 640) > chance
    assert presence(score, sight, snug + 0.1, around, 640) > chance
    assert presence(score, sight, snug, around * np.float32(scale), round(640 * scale)) == pytest.approx(chance, abs=0.01)


def test_a_small_person_who_is_clearly_seen_is_shown_in_a_video_whatever_the_chance() -> None:
    small = pose(500, 500, size=0.2, sure=0.45)[None]
    around = box(small[0])
    assert presence(0.45, 0.45, 1.0, around, SIZE[1]) < Tracker().enter
    assert shown(Boxes(around[None], np.array([0.45])), small, independent=False) == [1, 1, 1]


people = st.lists(st.tuples(st.floats(100, 1900), st.floats(300, 700), st.floats(0.5, 2)), min_size=1, max_size=5)


def stack(drawn: list[tuple[float, float, float]]) -> NDArray[np.float32]:
    return np.stack([pose(x, y, size) for x, y, size in drawn])


@given(people, st.floats(-300, 300), st.floats(0.2, 5))
def test_similarities_do_not_depend_on_place_and_scale(
    drawn: list[tuple[float, float, float]], shift: float, scale: float
) -> None:
    poses = stack(drawn)
    changed = np.concatenate([poses[:, :, :2] * scale + shift, poses[:, :, 2:]], axis=2).astype(np.float32)
    spread = np.full(len(poses), 0.1)
    np.testing.assert_allclose(likeness(changed, changed, spread), likeness(poses, poses, spread), atol=1e-3)
    np.testing.assert_allclose(oks(changed[0], changed[-1]), oks(poses[0], poses[-1]), atol=1e-3)
    assert oks(poses[0], poses[-1]) == pytest.approx(oks(poses[-1], poses[0]))
    np.testing.assert_allclose(np.diag(likeness(poses, poses, spread)), 1, atol=1e-6)
    way, moved = carry(box(poses[0]), poses[0], np.concatenate([poses[0][:, :2] + np.float32(shift), poses[0][:, 2:]], axis=1))
    np.testing.assert_allclose(way, [shift, shift], atol=1e-2)
    np.testing.assert_allclose(moved, box(poses[0]) + shift, atol=0.1)


@given(people)
def test_whoever_is_dropped_is_like_somebody_better_who_is_kept(drawn: list[tuple[float, float, float]]) -> None:
    poses = stack([*drawn, drawn[0]])
    boxes = np.stack([box(p) for p in poses])
    rows, borrowed = distinct(poses, boxes, np.arange(len(poses)))
    assert 0 in rows
    assert len(poses) - 1 not in rows
    assert borrowed[-1]
    for m in set(range(len(poses))) - set(rows.tolist()):
        assert any(k < m and oks(poses[m], poses[k]) > 0.6 for k in rows)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=4), st.floats(0.01, 1))
def test_assignment_is_one_to_one_and_never_below_the_least(rows: list[list[float]], least: float) -> None:
    value = np.array(rows, float).reshape(-1, 3)
    pairs = assign(value, least)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(value[i, j] >= least for i, j in pairs)


@given(people)
def test_iou_of_boxes(drawn: list[tuple[float, float, float]]) -> None:
    boxes = np.stack([box(p) for p in stack(drawn)])
    value = iou(boxes, boxes)
    np.testing.assert_allclose(np.diag(value), 1, atol=1e-6)
    np.testing.assert_allclose(value, value.T, atol=1e-6)
    assert iou(boxes[:1], boxes[:1] + 5000)[0, 0] == 0


def test_frames_in_which_somebody_was_left_out_are_counted() -> None:
    people = [(200.0 + 300 * k, 500.0, RED) for k in range(5)]
    enough, few = World(Tracker(people=5)), World(Tracker(people=3))
    for k in range(10):
        enough.step(k / 30, people, look=k % 5 == 0)
        assert len(few.step(k / 30, people, look=k % 5 == 0)) <= 3
    assert enough.tracker.crowded == 0
    assert few.tracker.crowded == 2, "in the frames in which the detector saw more"
