"""Pixels that are not square: the same scene, squeezed, gives the same people, bodies and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtpose
from rtpose.app import process
from rtpose.backends import open_session
from rtpose.body.camera import Camera, camera_for, read_calibration
from rtpose.body.model import load_body
from rtpose.errors import InputError
from rtpose.measures import measure
from rtpose.models import find
from rtpose.pixels import PixelScale, ToSquare, ToStored, is_square
from rtpose.reference import CLIP, truth
from rtpose.replay import replay
from rtpose.report import report
from rtpose.runs import Run, read_run
from rtpose.scope import parts_of
from rtpose.settings import Outputs, Settings
from rtpose.sinks.data import Provenance, open_data, read_results
from rtpose.sinks.viewer import _small
from rtpose.source import SourceInfo, open_source
from rtpose.stages.lift import NAMES, Lifter
from rtpose.types import Boxes, Frame, Result

from .bodies import Walkers
from .media import make_clip

ASPECTS = [Fraction(4, 3), Fraction(64, 45), Fraction(2), Fraction(10, 11), Fraction(1, 2)]

lengths = st.floats(50, 5000)
middles = st.floats(0, 4000)


def cameras() -> st.SearchStrategy[Camera]:
    return st.builds(Camera, lengths, lengths, middles, middles)


@given(camera=cameras(), x=st.floats(-5, 5), y=st.floats(-5, 5), z=st.floats(0.2, 50))
def test_projecting_and_going_back_along_the_ray_are_inverse(camera: Camera, x: float, y: float, z: float) -> None:
    pixel = camera.project([x, y, z])
    assert pixel == pytest.approx([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy])
    assert camera.rays(pixel) * z == pytest.approx([x, y], abs=1e-6)


@given(camera=cameras(), aspect=st.fractions(Fraction(1, 4), 4), point=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_a_camera_and_its_points_scale_alike(camera: Camera, aspect: Fraction, point: tuple[float, float]) -> None:
    scale = PixelScale.of(aspect, 640, 480)
    if scale is None:
        assert is_square(aspect)
        return
    seen = np.float32([*camera.project([*point, 3.0]), 0.5])
    moved = scale.keypoints(seen)
    assert moved[:2] == pytest.approx(scale.camera(camera).project([*point, 3.0]), rel=1e-4, abs=1e-2)
    assert moved[2] == seen[2]
    assert scale.inverse.keypoints(moved) == pytest.approx(seen, rel=1e-4, abs=1e-2)
    assert min(scale.x, scale.y) == 1, "a picture only grows"


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("given", [{}, {"fov": 70.0}, {"focal": 600.0}])
def test_squeezed_pictures_have_the_same_rays(aspect: Fraction, given: dict[str, float]) -> None:
    width, height = 1280, 720
    plain, squeezed = (
        camera_for(width, height, **given),
        camera_for(round(width / aspect), height, pixel_aspect=float(aspect), **given),
    )
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    narrow = (corners + 0.5) / [float(aspect), 1] - 0.5
    assert squeezed.rays(narrow) == pytest.approx(plain.rays(corners), rel=2e-3)
    assert squeezed.fy == pytest.approx(squeezed.fx * float(aspect))


def test_a_calibration_is_of_stored_pixels(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_text('{"fx": 450, "fy": 600, "cx": 239.5, "cy": 239.5, "image_width": 480, "image_height": 480}')
    camera = camera_for(480, 480, calibration=path, pixel_aspect=4 / 3)
    assert camera == read_calibration(path, 480, 480)
    assert (camera.fx, camera.fy) == (450, 600)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_the_same_scene_in_squeezed_pixels_has_the_same_bodies(aspect: Fraction) -> None:
    walkers, network = Walkers(), open_session(find("lifter", "lifter").path, precision="f32", threads=1)
    narrow = PixelScale(float(1 / aspect), 1.0)
    stored = narrow.camera(walkers.camera)
    width, height = narrow.size(walkers.width, walkers.height)
    scale = PixelScale.of(aspect, width, height)
    assert scale is not None
    square = scale.camera(stored)
    plain, squeezed = (
        Lifter(walkers.body, network, lambda w, h: walkers.camera),
        Lifter(walkers.body, network, lambda w, h: square),
    )
    for index in range(6):
        result = walkers.result(index)
        blank = Frame(index, result.frame.time, np.zeros((height, width, 3), np.uint8), 0)
        one = plain(replace(result, bodies=None)).bodies
        people = narrow.people(result.people)
        other = ToStored(scale)(squeezed(replace(ToSquare(scale)(Result(blank)), people=scale.people(people))))
        assert one is not None
        assert other.bodies is not None
        assert other.frame is blank
        assert other.people.keypoints == pytest.approx(people.keypoints, abs=1e-3)
        assert other.bodies.joints3d == pytest.approx(one.joints3d, abs=0.02)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_what_is_found_in_square_pixels_is_given_in_stored_ones(aspect: Fraction) -> None:
    scale = PixelScale.of(aspect, 90, 60)
    assert scale is not None
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:40, 30:60] = 255
    result = Result(Frame(7, 0.5, image, 3, "a.png", True))
    square = ToSquare(scale)(result)
    frame = square.frame
    assert (frame.index, frame.time, frame.arrival, frame.file, frame.independent) == (7, 0.5, 3, "a.png", True)
    assert frame.width / frame.height == pytest.approx(float(aspect) * 90 / 60, rel=0.02)
    ys, xs = np.nonzero(frame.image[..., 0] > 127)
    box = np.array([[xs.min() - 0.5, ys.min() - 0.5, xs.max() + 0.5, ys.max() + 0.5]], np.float32)
    back = ToStored(scale)(replace(square, detections=Boxes(box, np.ones(1, np.float32))))
    assert back.frame is result.frame
    assert back.detections is not None
    assert back.detections.xyxy[0] == pytest.approx([29.5, 19.5, 59.5, 39.5], abs=0.6)


def test_the_viewer_shows_the_picture_with_its_own_shape() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[:, 45:] = 200
    result = Result(Frame(0, 0.0, image, 0))
    picture = _small(result, 360, 240, aspect=Fraction(2))
    assert picture.shape[:2] == (120, 360)
    assert picture[:, :176].max() == 0
    assert picture[:, 184:].min() == 200
    assert _small(result, 360, 240).shape[:2] == (240, 360)


@pytest.mark.parametrize("aspect", [1, Fraction(1280, 1281), Fraction(100, 101), 0.995])
def test_pixels_that_are_nearly_square_count_as_square(aspect: Fraction | float) -> None:
    assert PixelScale.of(aspect, 640, 480) is None


def test_a_region_is_given_in_stored_pixels() -> None:
    assert parts_of("100,50,300,400", "1", 960, 480, (2.0, 1.0)) == [(200, 50, 600, 400)]
    assert parts_of("50%,0%,100%,100%", "1", 960, 480, (2.0, 1.0)) == [(480, 0, 960, 480)]
    with pytest.raises(InputError, match="480x480"):
        parts_of("0,0,700,400", "1", 960, 480, (2.0, 1.0))


def test_a_file_with_an_impossible_aspect_is_taken_for_square(tmp_path: Path) -> None:
    make_clip(tmp_path / "odd.mp4", 2, pixel_aspect=Fraction(9))
    source = open_source(tmp_path / "odd.mp4")
    assert source.info.pixel_aspect == 1
    assert len(list(source.frames())) == 2
    assert any("taken for square" in note and "9 times" in note for note in source.notes)


def squeezed_walk(path: Path, aspect: Fraction, n: int = 6) -> tuple[int, int]:
    """Results of walkers in squeezed pixels, saved; returns their size."""
    walkers = Walkers()
    narrow = PixelScale(float(1 / aspect), 1.0)
    camera = narrow.camera(walkers.camera)
    width, height = narrow.size(walkers.width, walkers.height)
    info = SourceInfo("nowhere.mp4", width, height, Fraction(30), Fraction(1, 90000), pixel_aspect=aspect)
    sink = open_data(path, info, Provenance(lifted=replace(walkers.lifted, camera=lambda w, h: camera)))
    for index in range(n):
        result = walkers.result(index)
        found = result.bodies
        assert found is not None
        poses = zip(found.rotations, found.betas, found.translation, strict=True)
        points = np.array([np.concatenate([walkers.body.keypoints3d(*pose)[:17], walkers.body.pose(*pose)[1]]) for pose in poses])
        bodies = replace(found, joints3d=points, uncertainty=np.full(points.shape[:2], 0.03), joint_names=NAMES)
        sink.write(replace(result, people=narrow.people(result.people), bodies=bodies))
    sink.close()
    return width, height


@pytest.mark.parametrize("ending", ["jsonl", "npz"])
def test_results_say_what_their_pixels_are_and_replay_and_report_show_them_so(tmp_path: Path, ending: str) -> None:
    aspect = Fraction(2)
    path, drawn = tmp_path / f"walk.{ending}", tmp_path / "drawn.mp4"
    size = squeezed_walk(path, aspect)
    header, records = read_results(path)
    assert header.pixel_aspect == 2
    assert header.camera is not None
    assert header.camera.fy == pytest.approx(2 * header.camera.fx)
    for record in records:
        assert record.bodies is not None
        assert header.camera.project(record.bodies.joints3d[:, :17]) == pytest.approx(record.people.keypoints[..., :2], abs=0.05)
    replay(path, out=drawn, view=False)
    with av.open(str(drawn)) as file:
        video = file.streams.video[0]
        assert (video.width, video.height, video.sample_aspect_ratio) == (*size, aspect)
    report([path], tmp_path / "walk.html", videos=[drawn])
    page = (tmp_path / "walk.html").read_text()
    assert '"size":[640,480]' in page
    assert f'"stored":[{size[0]},{size[1]}]' in page


def test_square_pixels_leave_the_header_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "walk.jsonl"
    squeezed_walk(path, Fraction(1), 1)
    assert '"pixel_aspect"' not in path.read_text()
    assert read_results(path)[0].pixel_aspect == 1


# --- the reference clip, squeezed ---

SECONDS = 2.0


def squeeze(path: Path, aspect: Fraction) -> Path:
    """The beginning of the reference clip, its pictures narrowed, tagged with this aspect ratio."""
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=30, options={"crf": "12", "preset": "veryfast"})
        source = open_source(CLIP, end=SECONDS)
        for frame in source.frames():
            image = cv2.resize(frame.image, (round(frame.width / aspect), frame.height), interpolation=cv2.INTER_AREA)
            if frame.index == 0:
                video.height, video.width, video.pix_fmt = *image.shape[:2], "yuv420p"
                video.codec_context.sample_aspect_ratio = aspect
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(video.encode(None))
    return path


def run_over(folder: Path, aspect: Fraction, *, causal: bool) -> Run:
    name = f"{aspect.numerator}-{aspect.denominator}"
    clip, save, drawn = squeeze(folder / f"{name}.mp4", aspect), folder / f"{name}.jsonl", folder / f"{name}-drawn.mp4"
    focal = float(truth().camera[0])
    assert process(str(clip), Settings(focal=focal), Outputs(save=str(save), out=str(drawn), view=False), causal=causal) == 0
    with av.open(str(drawn)) as file:
        video = file.streams.video[0]
        assert (video.width, video.height) == (round(640 / aspect), 480)
        assert video.sample_aspect_ratio in (aspect, None if aspect == 1 else aspect)
    return read_run(save)


def shared_angles(one: Run, other: Run, pairs: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Mean difference of the knees' angles, degrees, and median ratio of the pelvis' distance."""
    body, apart, ratios = load_body(), [], []
    for a, b in pairs:
        first, second = one.people[a].with_body(), other.people[b].with_body()
        left, right = measure(one, first, body), measure(other, second, body)
        rows, mine, theirs = np.intersect1d(first.rows, second.rows, return_indices=True)
        assert len(rows) > 30  # one of the two is hidden for a while
        for side in ("left", "right"):
            name = f"{side}_knee_flexion"
            apart.append(np.abs(left.series[name].values[mine] - right.series[name].values[theirs]).mean())
        ratios.append(float(np.median(second.translation[theirs, 2] / first.translation[mine, 2])))
    return float(np.mean(apart)), float(np.median(ratios))


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_the_reference_clip_squeezed_has_the_same_people_angles_and_distances(tmp_path: Path, causal: bool) -> None:
    plain = run_over(tmp_path, Fraction(1), causal=causal)
    for aspect in (Fraction(4, 3), Fraction(2)):
        run = run_over(tmp_path, aspect, causal=causal)
        assert sorted(run.people) == sorted(plain.people)
        # Half the columns are gone at 2:1, which costs the network a little.
        apart, ratio = shared_angles(plain, run, [(who, who) for who in plain.people])
        assert apart < 8
        assert 0.96 < ratio < 1.04
        for who, person in run.people.items():
            _, mine, theirs = np.intersect1d(person.rows, plain.people[who].rows, return_indices=True)
            off = (person.keypoints[mine, :, 0] + 0.5) * float(aspect) - 0.5 - plain.people[who].keypoints[theirs, :, 0]
            assert np.median(np.abs(off)) < 3


@pytest.mark.slow
def test_the_api_gives_stored_frames_and_pixels(tmp_path: Path) -> None:
    clip = squeeze(tmp_path / "clip.mp4", Fraction(2))
    for result in rtpose.track(clip, lifter="none"):
        assert (result.frame.width, result.frame.height) == (320, 480)
        assert (result.people.boxes[:, 2] <= 319.5).all()
