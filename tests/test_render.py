"""What is drawn into pictures, and what must never be able to break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rtpose.body.camera import Camera
from rtpose.body.model import Lifted
from rtpose.errors import InputError
from rtpose.render import LEFT, OPACITY, RIGHT, colour_of, draw
from rtpose.settings import parts_named
from rtpose.types import Frame, People, Result, Status

from .bodies import Walkers

# A person who stands upright, arms away from the body, in a picture of 300 x 200.
STANDING = np.array(
    [(100, 40), (104, 36), (96, 36), (108, 40), (92, 40), (120, 70), (80, 70), (140, 100), (60, 100), (150, 130), (50, 130),
     (115, 150), (85, 150), (120, 200), (80, 200), (125, 250), (75, 250)], np.float32,
)  # fmt: skip


def standing(score: float = 0.9, status: int = Status.MEASURED, identity: int = 1, **more: Any) -> Result:
    keypoints = np.concatenate([STANDING, np.full((17, 1), score, np.float32)], 1)[None]
    people = People([identity], [[40, 20, 160, 260]], [0.9], keypoints, np.full((1, 17), status), keypoints)
    return Result(Frame(0, 0.0, np.full((300, 200, 3), 128, np.uint8), 0), None, people)


def change(a: Any, b: Any) -> Any:
    """How much each pixel differs, (h, w)."""
    return np.abs(a.astype(int) - b).sum(-1)


def test_nobody_means_a_copy() -> None:
    frame = standing().frame
    drawn = draw(Result(frame), parts=("mesh", "boxes", "ids", "skeleton"))
    assert np.array_equal(drawn, frame.image)
    assert drawn.flags.writeable
    assert not np.shares_memory(drawn, frame.image)


def test_the_frame_itself_stays_as_it_was() -> None:
    result = standing()
    assert change(draw(result), result.frame.image).any()
    assert (result.frame.image == 128).all()


def test_people_have_colours_of_their_own_that_stay() -> None:
    assert len({colour_of(i) for i in range(1, 11)}) == 10
    for identity in (1, 2, 12345678901):
        drawn = draw(standing(identity=identity))
        assert (drawn == colour_of(identity)).all(-1).sum() > 100
        assert np.array_equal(drawn, draw(standing(identity=identity)))


def test_left_and_right_have_colours_of_their_own_on_every_picture_and_mesh(walkers: Walkers) -> None:
    for identity in range(1, 11):
        drawn = draw(standing(identity=identity))
        for joint, colour in ((13, LEFT), (7, LEFT), (14, RIGHT), (8, RIGHT)):
            x, y = STANDING[joint].astype(int)
            assert np.array_equal(drawn[y, x], colour)
    result = walkers.result(0)
    meshed = draw(result, walkers.lifted, parts=("mesh", "skeleton"))
    body = change(draw(result, walkers.lifted, parts=("mesh",)), result.frame.image) > 0
    for colour in (LEFT, RIGHT):
        assert ((meshed == colour).all(-1) & body).sum() > 20


def test_what_is_asked_for_is_drawn() -> None:
    result = standing()
    result = replace(result, frame=replace(result.frame, image=np.full((300, 600, 3), 128, np.uint8)))
    clear = result.frame.image
    drawn = {part: change(draw(result, parts=(part,)), clear) > 0 for part in ("boxes", "ids", "skeleton", "legend")}
    assert all(change.any() for change in drawn.values())
    assert not drawn["legend"][:150].any(), "in the lower left corner"
    assert not drawn["legend"][:, 200:].any()
    small = replace(result, frame=replace(result.frame, image=clear[:, :200]))
    assert np.array_equal(draw(small, parts=("legend",)), small.frame.image), "it would cover too much of this"
    assert not (drawn["skeleton"] & drawn["ids"]).any()
    assert parts_named("mesh, ids") == {"mesh", "ids"}
    for names, said in (("mesh,bones", "no 'bones'; choose some of mesh"), (" ,", "names nothing")):
        with pytest.raises(InputError, match=said):
            parts_named(names)


def test_in_a_mirror_the_picture_is_flipped_and_the_text_is_not() -> None:
    result = standing()
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    result = replace(result, frame=replace(result.frame, image=noise))
    plain, mirrored = (draw(result, parts=("skeleton",), mirror=m) for m in (False, True))
    assert np.mean(change(plain[:, ::-1], mirrored) > 0) < 0.01, "but for rounding at the edges of lines"
    x, y = STANDING[13].astype(int)
    assert np.array_equal(mirrored[y, 199 - x], LEFT), "the person's own left"
    for part in ("ids", "legend"):
        grey = replace(standing(), frame=replace(standing().frame, image=np.full((300, 600, 3), 128, np.uint8)))
        straight, shown = (draw(grey, parts=(part,), mirror=m) for m in (False, True))
        assert change(straight[:, ::-1], shown).any()
        crops = [picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                 for picture in (straight, shown)
                 for rows, columns in [np.nonzero(change(picture, grey.frame.image))]]  # fmt: skip
        assert np.array_equal(*crops), "the same text"


def test_less_confidence_draws_less() -> None:
    clear = standing().frame.image
    knees = [tuple(STANDING[j].astype(int)[::-1]) for j in (13, 14)]
    strength = [sum(change(draw(standing(score=s)), clear)[k] for k in knees) for s in (0.9, 0.2, 0.01)]
    assert strength[0] > 1.5 * strength[1] > 0
    assert strength[2] == 0


def test_what_nobody_measured_is_marked() -> None:
    pictures = [draw(standing(status=s)) for s in Status]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert change(pictures[a], pictures[b]).any()


@pytest.mark.parametrize("scale", [2, 7])
def test_lines_grow_with_the_picture(scale: float) -> None:
    result = standing()
    h, w = round(300 * scale), round(200 * scale)
    keypoints = result.people.keypoints * (scale, scale, 1)
    boxes = result.people.boxes * scale
    people = People([1], boxes, [0.9], keypoints, result.people.status, keypoints)
    drawn = draw(Result(Frame(0, 0.0, np.full((h, w, 3), 128, np.uint8), 0), None, people), parts=("boxes", "ids", "skeleton"))
    # A share of the picture that does not depend on how many pixels it has.
    assert 0.015 < (drawn != 128).any(-1).mean() < 0.05


@given(
    keypoints=arrays(np.float32, (2, 17, 3), elements=st.floats(-1e9, 1e9, width=32) | st.sampled_from([np.nan, np.inf])),
    boxes=arrays(np.float32, (2, 4), elements=st.floats(-1e9, 1e9, width=32) | st.sampled_from([np.nan, -np.inf])),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_nothing_that_is_found_can_break_the_drawing(keypoints: Any, boxes: Any, size: tuple[int, int]) -> None:
    people = People([1, 2], boxes, [0.1, 0.9], keypoints, np.arange(34).reshape(2, 17) % 3, keypoints)
    frame = Frame(0, 0.0, np.zeros((*size, 3), np.uint8), 0)
    assert draw(Result(frame, None, people)).shape == (*size, 3)


@pytest.fixture(scope="module")
def walkers() -> Walkers:
    return Walkers(320, 240)


def test_bodies_shine_through_in_the_colour_of_the_person(walkers: Walkers) -> None:
    result = walkers.result(0, (1,))
    light = replace(result, frame=replace(result.frame, image=np.full((240, 320, 3), 250, np.uint8)))
    dark = replace(result, frame=replace(result.frame, image=np.full((240, 320, 3), 10, np.uint8)))
    on_light, on_dark = draw(light, walkers.lifted), draw(dark, walkers.lifted)
    x, y = walkers.camera.project(result.bodies.joints3d[0, 5:13].mean(0)).round().astype(int)  # the middle of the trunk
    assert (np.abs(on_light[y, x] - on_dark[y, x].astype(int) - (1 - OPACITY) * 240) < 4).all(), "so much of the picture is seen"
    red, _, blue = on_dark[y, x].astype(int)
    assert blue > red + 40, f"{colour_of(1)} is bluish"
    body = np.abs(on_light.astype(int) - draw(light)).sum(-1) > 30
    assert 0.02 < body.mean() < 0.3
    assert np.array_equal(draw(replace(light, bodies=None), walkers.lifted), draw(light))


def test_the_nearer_body_hides_the_farther_one(walkers: Walkers) -> None:
    result = walkers.result(0, (1, 2))
    places = np.array([[0, 0.25, 5], [0, 0.25, 3]], np.float32)
    x, y = walkers.camera.project([0, 0.1, 3]).round().astype(int)
    pictures = []
    for order in ([0, 1], [1, 0]):
        people = replace(
            result.people, ids=result.people.ids[order], keypoints=np.zeros((2, 17, 3)), boxes=np.full((2, 4), np.nan)
        )
        bodies = replace(result.bodies, translation=places[order])
        pictures.append(draw(replace(result, people=people, bodies=bodies), walkers.lifted)[y, x].astype(int))
        red, _, blue = pictures[-1]
        assert red > blue + 40, f"the nearer one is {colour_of(2)}"


@given(place=arrays(np.float32, (2, 3), elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, 0.1, 1e-30])))
def test_no_body_can_break_the_drawing(walkers: Walkers, place: Any) -> None:
    result = walkers.result(0)
    for lifted in (walkers.lifted, Lifted(walkers.body, lambda w, h: Camera(1e5, 1e-3, -1e4, 1e4))):
        assert draw(replace(result, bodies=replace(result.bodies, translation=place)), lifted).shape == (240, 320, 3)
