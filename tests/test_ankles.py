"""The ankle stage: parity with torch, what it may change, and legs that change sides in a video."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtpose.errors import InputError
from rtpose.models import find
from rtpose.stages import ankles as stage
from rtpose.types import Frame, People, Result, Status

IMAGE = np.zeros((480, 640, 3), np.uint8)
NETWORKS = ("movenet", "posenet")
STANDING = np.array(
    [
        (320, 60), (326, 54), (314, 54), (334, 58), (306, 58), (350, 110), (290, 110), (362, 170), (278, 170),
        (366, 225), (274, 225), (340, 230), (300, 230), (344, 320), (296, 320), (346, 410), (294, 410),
    ],
    np.float32,
)  # fmt: skip


@cache
def weights(name: str, network: str = "movenet") -> stage.Weights:
    model = find(name, "ankles")
    return stage.read_weights(model.path, model.decoder, network)


def person(confidence: float = 0.9, **changed: float) -> NDArray[np.float32]:
    keypoints = np.concatenate([STANDING, np.full((17, 1), confidence, np.float32)], 1)
    for joint, value in changed.items():
        keypoints[int(joint[1:]), 2] = value
    return keypoints


def frame(keypoints: NDArray[np.float32], index: int = 0, *, independent: bool = False) -> Result:
    people = People(
        np.arange(1, len(keypoints) + 1),
        np.tile(np.array([270, 40, 370, 420], np.float32), (len(keypoints), 1)),
        np.ones(len(keypoints), np.float32),
        keypoints,
        np.zeros(keypoints.shape[:2], np.uint8),
        keypoints,
    )
    return Result(Frame(index, index / 30, IMAGE, 0, independent=independent), people=people)


keypoint = st.tuples(st.floats(-200, 900), st.floats(-200, 700), st.floats(0, 1))
people = st.lists(keypoint, min_size=17, max_size=17).map(lambda rows: np.array(rows, np.float32))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["paper", "default"])
@given(measured=people)
@settings(max_examples=60)
def test_no_ankle_at_or_above_the_gate_moves(name: str, network: str, measured: NDArray[np.float32]) -> None:
    loaded = weights(name, network)
    found, moved = stage.correct(loaded, measured, 640, 480)
    sure = measured[15:, 2] >= loaded.gate
    assert not moved[sure].any()
    assert np.array_equal(found[~moved], measured[15:][~moved])
    assert np.isfinite(found).all()
    assert ((found[:, 2] >= 0) & (found[:, 2] <= 1)).all()


@given(scale=st.floats(0.2, 4), dx=st.floats(-100, 100), dy=st.floats(-100, 100), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_features_do_not_depend_on_size_and_place(scale: float, dx: float, dy: float, seed: int) -> None:
    measured = person(0.5)
    measured[:, :2] += np.random.default_rng(seed).normal(0, 10, (17, 2))
    seen, x, y, spread = stage.features(measured, 640, 480)
    moved = measured.copy()
    moved[:, :2] = moved[:, :2] * scale + (dx, dy)
    other, x2, y2, spread2 = stage.features(moved, 640 * scale, 480 * scale)
    np.testing.assert_allclose(other[:51], seen[:51], atol=1e-3)
    np.testing.assert_allclose((x2, y2, spread2), (scale * x + dx, scale * y + dy, scale * spread), rtol=1e-3, atol=1e-2)


def test_the_stage_keeps_what_was_measured_and_says_what_it_changed() -> None:
    lost = person(j15=0.05)
    lost[15, :2] = (400, 330)
    before = frame(lost[None])
    after = stage.Ankles(weights("default"))(before)
    assert after.people.status[0, 15] == Status.CORRECTED
    assert (after.people.status[0, np.arange(17) != 15] == Status.MEASURED).all()
    np.testing.assert_array_equal(after.people.raw, before.people.raw)
    np.testing.assert_array_equal(after.people.keypoints[0, :15], lost[:15])
    assert np.hypot(*(after.people.keypoints[0, 15, :2] - STANDING[15])) < 40
    assert 0 <= after.people.keypoints[0, 15, 2] <= 1


def test_sure_ankles_and_nobody_pass_through() -> None:
    run = stage.Ankles(weights("default"))
    sure = frame(person()[None])
    np.testing.assert_array_equal(run(sure).people.keypoints, sure.people.keypoints)
    assert (run(sure).people.status == Status.MEASURED).all()
    nobody = Result(Frame(1, 1.0, IMAGE, 0))
    assert run(nobody) is nobody


def test_the_paper_puts_lost_ankles_below_the_knees() -> None:
    lost = person(j15=0.1, j16=0.1)
    lost[15:, :2] = (10, 10)
    found, moved = stage.correct(weights("paper"), lost, 640, 480)
    assert moved.all()
    assert (np.hypot(*(found[:, :2] - STANDING[15:]).T) < 60).all()


def swapped(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    return keypoints[stage.EXCHANGED]


def walk(index: int) -> NDArray[np.float32]:
    keypoints = person()
    keypoints[[13, 15], 0] += 60
    keypoints[[14, 16], 0] -= 60
    keypoints[:, 0] += 2 * index
    return keypoints


def test_legs_that_change_sides_in_a_video_are_changed_back() -> None:
    run = stage.Ankles(weights("default"))
    for index in range(10):
        seen = swapped(walk(index)) if index in (4, 5, 6) else walk(index)
        people = run(frame(seen[None], index)).people
        np.testing.assert_array_equal(people.keypoints[0], walk(index))
        changed = people.status[0, 13:] == Status.CORRECTED
        assert changed.all() == (index in (4, 5, 6))
        np.testing.assert_array_equal(people.raw[0], seen)


def test_legs_of_another_person_are_not_taken_for_exchanged_ones() -> None:
    run = stage.Ankles(weights("default"))
    crossed = swapped(walk(0))  # someone whose legs were crossed, and then are not
    run(frame(crossed[None], 0))
    people = run(frame(walk(1)[None], 1)).people
    np.testing.assert_array_equal(people.keypoints[0], walk(1))


def test_a_network_that_insists_is_believed() -> None:
    run = stage.Ankles(weights("default"), forget=0.3)
    run(frame(walk(0)[None], 0))
    people = [run(frame(swapped(walk(i))[None], i)).people.keypoints[0] for i in range(1, 20)]
    np.testing.assert_array_equal(people[0], walk(1))
    np.testing.assert_array_equal(people[-1], swapped(walk(19)))


def test_pictures_that_have_nothing_to_do_with_each_other_have_no_past() -> None:
    run = stage.Ankles(weights("default"))
    run(frame(walk(0)[None], 0))
    seen = swapped(walk(1))
    people = run(frame(seen[None], 1, independent=True)).people
    np.testing.assert_array_equal(people.keypoints[0], seen)


def test_people_do_not_depend_on_each_other() -> None:
    lost = person(j15=0.05, j16=0.02)
    lost[15:, :2] = (400, 100)
    alone = stage.Ankles(weights("default"))(frame(lost[None])).people.keypoints[0]
    two = stage.Ankles(weights("default"))(frame(np.stack([person(), lost]))).people.keypoints
    np.testing.assert_array_equal(two[1], alone)


def test_weights_for_another_network_are_refused() -> None:
    model = find("default", "ankles")
    with pytest.raises(InputError, match=r"no ankle weights for the keypoints of eagle: there are for movenet, posenet"):
        stage.read_weights(model.path, model.decoder, "eagle")


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_equals_torch(network: str) -> None:
    import torch

    from rtpose.train.ankles import mixture

    loaded = weights("default", network)
    random = np.random.default_rng(3)
    rows = np.concatenate([STANDING + random.normal(0, 20, (200, 17, 2)), random.uniform(0.01, 0.99, (200, 17, 1))], 2).astype(
        np.float32
    )
    seen = np.stack([stage.features(row, 640, 480)[0] for row in rows])
    values = torch.from_numpy(seen)
    for k, (weight, bias) in enumerate(loaded.layers):
        values = torch.nn.functional.linear(values, torch.from_numpy(weight.T.copy()), torch.from_numpy(bias))
        values = values if k == len(loaded.layers) - 1 else torch.relu(values)
    logs, sigmas, means = mixture(values, torch.from_numpy(seen))
    for row in range(len(seen)):
        outputs = stage.forward(loaded.layers, seen[row])
        np.testing.assert_allclose(outputs, values[row].numpy(), atol=1e-5, rtol=1e-5)
        for side in range(2):
            w, s, m = stage.places(outputs, seen[row], side)
            np.testing.assert_allclose(w, logs[row, side].exp().numpy(), atol=1e-5)
            np.testing.assert_allclose(s, sigmas[row, side].exp().numpy(), atol=1e-5, rtol=1e-5)
            np.testing.assert_allclose(m, means[row, side].numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_paper_equals_torch() -> None:
    import torch

    loaded = weights("paper")
    for k in range(4):
        inputs = torch.linspace(0, 640, 50)[:, None].repeat(1, 1 if k % 2 == 0 else 2)
        values = inputs
        for i, (weight, bias) in enumerate(loaded.layers[3 * k : 3 * k + 3]):
            values = torch.nn.functional.linear(values, torch.from_numpy(weight.T.copy()), torch.from_numpy(bias))
            values = values if i == 2 else torch.relu(values)
        mine = [stage.forward(loaded.layers[3 * k : 3 * k + 3], row) for row in inputs.numpy()]
        np.testing.assert_allclose(np.stack(mine), values.numpy(), rtol=1e-5, atol=1e-5 * 640)


@pytest.mark.shared
@pytest.mark.parametrize("network", ["movenet-thunder", "posenet"])
def test_on_real_people_nothing_above_the_gate_moves(shared: Path, network: str) -> None:
    from rtpose.backends import open_session
    from rtpose.source import read_picture
    from rtpose.stages.keypoints import KeypointEstimator
    from rtpose.train.people import read_people, read_pictures

    model = find(network, "keypoints")
    estimator = KeypointEstimator(open_session(model.path, precision="f32"), model.decoder)
    loaded = [weights(name, model.decoder) for name in ("paper", "default")]
    labels = read_people(shared / "data/coco_keypoints/val2017_people.npz")
    below = above = 0
    for number, path in list(read_pictures(shared / "data/coco_images", "val2017").items())[:30]:
        image = read_picture(path)
        boxes = labels[labels.images == number].boxes
        for measured in estimator.estimate(image, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)):
            for ways in loaded:
                found, moved = stage.correct(ways, measured, image.shape[1], image.shape[0])
                sure = measured[15:, 2] >= ways.gate
                np.testing.assert_array_equal(found[sure], measured[15:][sure])
                below, above = below + int(moved.sum()), above + int(sure.sum())
    assert below > 10
    assert above > 30
