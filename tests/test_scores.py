"""The two thresholds on confidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rtpose.stages.scores import Threshold
from rtpose.types import Frame, Result, Status

from .test_ankles import IMAGE, frame, person


def test_unsure_people_and_keypoints_go() -> None:
    mixed = person(0.6, j15=0.2, j9=0.1)
    result = frame(np.stack([person(0.9), person(0.3), mixed]))
    people = Threshold(0.4, 0.25)(result).people
    assert people.ids.tolist() == [1, 3]
    assert (people.keypoints[0, :, 2] == np.float32(0.9)).all()
    assert np.flatnonzero(people.keypoints[1, :, 2] == 0).tolist() == [9, 15]
    np.testing.assert_array_equal(people.keypoints[1, :, :2], mixed[:, :2])
    np.testing.assert_array_equal(people.raw[1], mixed)


def test_a_corrected_keypoint_stays() -> None:
    result = frame(person(0.9, j15=0.1)[None])
    status = result.people.status.copy()
    status[0, 15] = Status.CORRECTED
    people = Threshold(0, 0.5)(replace(result, people=replace(result.people, status=status))).people
    assert people.keypoints[0, 15, 2] == np.float32(0.1)


def test_what_is_at_the_threshold_stays_and_nobody_is_nobody() -> None:
    result = frame(person(0.5)[None])
    assert len(Threshold(0.5, 0.5)(result).people) == 1
    assert (Threshold(0.5, 0.5)(result).people.keypoints[0, :, 2] > 0).all()
    assert len(Threshold(0.51)(result).people) == 0
    nobody = Result(Frame(0, 0.0, IMAGE, 0))
    assert Threshold(0.5)(nobody) is nobody
