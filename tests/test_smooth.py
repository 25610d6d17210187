"""The One-Euro filter: what any such filter must satisfy, and that the stage keeps people apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtpose.stages.smooth import Smoother
from rtpose.types import Frame, People, Result

IMAGE = np.zeros((2, 2, 3), np.uint8)
steps = st.lists(st.floats(0.001, 0.4), min_size=2, max_size=12)
seeds = st.integers(0, 2**32 - 1)


def people(keypoints: NDArray[np.float32], ids: list[int], size: float = 100.0) -> People:
    n = len(ids)
    boxes = np.tile(np.array([0, 0, size, size], np.float32), (n, 1))
    return People(np.array(ids), boxes, np.ones(n), keypoints, np.zeros((n, 17)), keypoints)


def smoothed(
    poses: list[NDArray[np.float32]], times: list[float], size: float = 100.0, independent: bool = False
) -> list[People]:
    stage = Smoother()
    return [
        stage(Result(Frame(k, time, IMAGE, 0, independent=independent), people=people(pose[None], [7], size))).people
        for k, (pose, time) in enumerate(zip(poses, times, strict=True))
    ]


def walk(seed: int, count: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    poses = rng.uniform(0, 100, (17, 3)) + np.concatenate([[np.zeros((17, 3))], rng.normal(0, 5, (count - 1, 17, 3)).cumsum(0)])
    poses[:, :, 2] = rng.uniform(0, 1, (count, 17))
    return list(poses.astype(np.float32))


@given(steps, seeds)
def test_constant_stays_constant(intervals: list[float], seed: int) -> None:
    pose = walk(seed, 1)[0]
    for person in smoothed([pose] * len(intervals), np.cumsum(intervals).tolist()):
        np.testing.assert_allclose(person.keypoints[0], pose, rtol=1e-6)


@given(steps, seeds, st.floats(0.1, 10), st.floats(-1000, 1000))
def test_scaled_and_moved_input_gives_scaled_and_moved_output(
    intervals: list[float], seed: int, scale: float, shift: float
) -> None:
    times, poses = np.cumsum(intervals).tolist(), walk(seed, len(intervals))
    changed = [np.concatenate([pose[:, :2] * scale + shift, pose[:, 2:]], axis=1).astype(np.float32) for pose in poses]
    for plain, other in zip(smoothed(poses, times), smoothed(changed, times, 100 * scale), strict=True):
        np.testing.assert_allclose(
            other.keypoints[0, :, :2], plain.keypoints[0, :, :2] * scale + shift, rtol=1e-3, atol=1e-2 + 1e-3 * scale
        )


@given(steps, seeds)
def test_stays_within_what_was_seen_and_keeps_raw_and_confidence(intervals: list[float], seed: int) -> None:
    times, poses = np.cumsum(intervals).tolist(), walk(seed, len(intervals))
    for k, person in enumerate(smoothed(poses, times)):
        seen = np.stack(poses[: k + 1])[:, :, :2]
        assert (person.keypoints[0, :, :2] >= seen.min(0) - 1e-3).all()
        assert (person.keypoints[0, :, :2] <= seen.max(0) + 1e-3).all()
        np.testing.assert_array_equal(person.raw[0], poses[k])
        np.testing.assert_array_equal(person.keypoints[0, :, 2], poses[k][:, 2])


@given(seeds, st.floats(0.005, 0.1))
def test_a_step_twice_as_long_does_what_two_steps_do(seed: int, interval: float) -> None:
    """From rest, a jump seen once after 2 dt and a jump seen at dt and 2 dt end near each other: time counts, not frames."""
    first = walk(seed, 1)[0]
    jump = first.copy()
    jump[:, :2] += 0.01  # so small that the speed adds nothing to the cut-off
    jump[:, 2] = first[:, 2] = 0.8
    once = smoothed([first, jump], [0.0, 2 * interval])[-1].keypoints[0, :, :2]
    twice = smoothed([first, jump, jump], [0.0, interval, 2 * interval])[-1].keypoints[0, :, :2]
    np.testing.assert_allclose(once - first[:, :2], twice - first[:, :2], atol=2e-3)


def test_noise_is_calmed_and_a_steady_run_is_followed() -> None:
    rng = np.random.default_rng(0)
    times = (np.arange(90) / 30).tolist()
    still = [np.concatenate([50 + rng.normal(0, 1, (17, 2)), np.full((17, 1), 0.9)], 1).astype(np.float32) for _ in times]
    out = np.stack([p.keypoints[0, :, :2] for p in smoothed(still, times)])[30:]
    assert np.abs(np.diff(out, 2, axis=0)).mean() < 0.4 * np.abs(np.diff(np.stack(still)[30:, :, :2], 2, axis=0)).mean()
    run = [np.concatenate([np.full((17, 2), 200 * t), np.full((17, 1), 0.9)], 1).astype(np.float32) for t in times]
    behind = run[-1][0, 0] - smoothed(run, times)[-1].keypoints[0, 0, 0]
    assert 0 <= behind < 3  # px, at 2 sizes of the person a second


def test_doubtful_sights_move_the_estimate_less() -> None:
    rest, far = np.full((17, 3), 50, np.float32), np.full((17, 3), 60, np.float32)
    rest[:, 2] = far[:, 2] = 0.9
    doubtful = far.copy()
    doubtful[:, 2] = 0.1
    sure, unsure = (smoothed([rest, pose], [0.0, 0.03])[-1].keypoints[0, 0, 0] for pose in (far, doubtful))
    assert 50 < unsure < sure < 60


def test_independent_frames_are_left_as_they_are() -> None:
    poses = walk(3, 5)
    for pose, person in zip(poses, smoothed(poses, [0.0, 0.1, 0.2, 0.3, 0.4], independent=True), strict=True):
        np.testing.assert_array_equal(person.keypoints[0], pose)


def test_people_do_not_mix_and_a_long_absence_begins_anew() -> None:
    stage, poses = Smoother(), walk(4, 3)
    start = stage(Result(Frame(0, 0.0, IMAGE, 0), people=people(np.stack(poses[:2]), [1, 2])))
    swapped = stage(Result(Frame(1, 0.03, IMAGE, 0), people=people(np.stack([poses[1], poses[0]]), [2, 1])))
    np.testing.assert_allclose(swapped.people.keypoints[0], start.people.keypoints[1], rtol=1e-6)
    np.testing.assert_allclose(swapped.people.keypoints[1], start.people.keypoints[0], rtol=1e-6)
    nobody = stage(Result(Frame(2, 0.1, IMAGE, 0)))
    assert len(nobody.people) == 0
    back = stage(Result(Frame(3, 9.0, IMAGE, 0), people=people(poses[2][None], [1])))
    np.testing.assert_array_equal(back.people.keypoints[0], poses[2])


def test_the_stage_leaves_the_rest_of_the_result_alone() -> None:
    before = Result(Frame(0, 0.0, IMAGE, 0), people=people(walk(5, 1)[0][None], [3]))
    after = Smoother()(before)
    assert after.frame is before.frame
    np.testing.assert_array_equal(after.people.ids, before.people.ids)
