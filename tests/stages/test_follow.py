"""Who is followed: the people who take part, or those with certain numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtpose.errors import InputError
from rtpose.stages.follow import Follow, Part, main_people
from rtpose.types import Frame, People, Result

IMAGE = np.zeros((480, 640, 3), np.uint8)
POSE = np.random.default_rng(0).uniform(-0.5, 0.5, (17, 2))


def result(index: int, *people_at: tuple[float, float]) -> Result:
    """People around x, of a size in px, whose joints tremble."""
    rng, n = np.random.default_rng(index), len(people_at)
    keypoints = np.zeros((n, 17, 3), np.float32)
    for row, (x, size) in enumerate(people_at):
        keypoints[row] = np.append([x, 240] + size * (POSE + rng.normal(0, 0.01, (17, 2))), np.full((17, 1), 0.9), 1)
    boxes = np.concatenate([keypoints[:, :, :2].min(1), keypoints[:, :, :2].max(1)], 1)
    people = People(np.arange(1, n + 1), boxes, np.ones(n), keypoints, np.zeros((n, 17), np.uint8), keypoints)
    return Result(Frame(index, index / 30, IMAGE, 0), people=people)


def rally(index: int) -> Result:
    """A near player (1) and a far one (2) who run, a judge (3) who stands, large, and a far one (4)."""
    sway = np.sin(index / 20)
    return result(index, (320 + 200 * sway, 220), (320 - 90 * sway, 70), (100, 200), (500, 70))


def test_numbers() -> None:
    seen = rally(0)
    assert Follow("2,4,9")(seen).people.ids.tolist() == [2, 4]
    only = Follow("3")(seen).people
    assert (only.keypoints == seen.people.keypoints[2:3]).all()
    assert (only.boxes == seen.people.boxes[2:3]).all()
    assert Follow("1,2,3,4")(seen) is seen
    assert len(Follow("5")(seen).people) == 0


def test_players_are_main_people_and_judges_are_not() -> None:
    parts = {who: Part() for who in (1, 2, 3, 4)}
    for index in range(300):
        people = rally(index).people
        for row, who in enumerate(people.ids.tolist()):
            parts[who].add(index / 30, people.boxes[row], people.keypoints[row])
    assert main_people({who: part.weight for who, part in parts.items()}) == {1, 2}


def test_who_is_seen_longer_takes_more_part() -> None:
    short, long = Part(), Part()
    for index in range(300):
        people = rally(index).people
        long.add(index / 30, people.boxes[0], people.keypoints[0])
        if index < 100:
            short.add(index / 30, people.boxes[0], people.keypoints[0])
    assert 2 * short.weight < long.weight


def test_a_jump_over_a_gap_is_no_way() -> None:
    part = Part()
    for index, x in ((0, 100), (1, 100), (120, 500), (121, 500)):
        people = result(index, (x, 100)).people
        part.add(index / 30, people.boxes[0], people.keypoints[0])
    assert part.weight < 0.1


def test_nobody_and_a_person_who_stands_alone() -> None:
    assert main_people({}) == frozenset()
    follow = Follow("main")
    assert len(follow(result(0)).people) == 0
    assert all(follow(result(index, (100, 200))).people.ids.tolist() == [1] for index in range(1, 60))


def test_without_the_future_it_is_known_after_a_while_and_forgotten_again() -> None:
    follow = Follow("main")
    shown = [follow(rally(index)).people.ids.tolist() for index in range(300)]
    assert shown[0] == [1, 2, 3, 4]
    assert all(ids == [1, 2] for ids in shown[60:])
    # The players sit down, and somebody else runs: ten seconds count.
    for index in range(300, 1500):
        sway = 200 * np.sin(index / 20)
        last = follow(result(index, (320, 220), (320, 70), (100, 200), (320 + sway, 150)))
    assert last.people.ids.tolist() == [4]


def test_pictures_of_their_own_have_no_main_people() -> None:
    alone = rally(0)
    with pytest.raises(InputError, match=r"--track main .* --sequence"):
        Follow("main")(replace(alone, frame=replace(alone.frame, independent=True)))
