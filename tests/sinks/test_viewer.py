"""The viewer, rendering for real without a display: what is drawn stands where its projection says."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpose.body.camera import Camera
from rtpose.body.raster import depth_buffer, draw_mesh
from rtpose.errors import InputError, RtposeError
from rtpose.pipeline import run
from rtpose.render import colour_of, draw
from rtpose.sinks.viewer import Orbit, Scene, ViewerSink
from rtpose.types import U8, Result

from ..bodies import Walkers
from ..fakes import FakeSource

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def walkers() -> Walkers:
    return Walkers()


@pytest.fixture
def viewer(walkers: Walkers) -> Iterator[ViewerSink]:
    sink = ViewerSink(walkers.lifted, window=False, size=(640, 480))
    yield sink
    sink.close()


def coloured(picture: U8, identity: int) -> np.ndarray:
    """Where the picture has the hue of this person's colour, whatever the light."""
    hues = []
    for image in (picture, np.array([[colour_of(identity)]], np.uint8)):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL).astype(int)
        hues.append(hsv)
    apart = np.abs((hues[0][..., 0] - hues[1][..., 0] + 128) % 256 - 128)
    return (apart < 6) & (hues[0][..., 1] > 150) & (hues[0][..., 2] > 30)


def silhouette(walkers: Walkers, result: Result, row: int, camera: Camera) -> np.ndarray:
    """Where the rasteriser draws this person's mesh alone."""
    assert result.bodies is not None
    picture = np.zeros((walkers.height, walkers.width, 3), np.uint8)
    b = result.bodies
    vertices = walkers.body.vertices(b.rotations[row], b.betas[row], b.translation[row], "light")
    draw_mesh(picture, vertices, walkers.body.meshes["light"].faces, camera, (255, 255, 255), depth_buffer(picture))
    return picture[..., 0] > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def bare(result: Result) -> Result:
    """Nobody's box and skeleton in the picture, so that every coloured pixel is of a mesh."""
    people = result.people
    keypoints = np.zeros_like(people.keypoints)
    return replace(result, people=replace(people, keypoints=keypoints, boxes=np.full_like(people.boxes, np.nan)))


def test_meshes_stand_where_their_projection_says(walkers: Walkers, viewer: ViewerSink) -> None:
    """From where the video's camera stands, but through the viewer's lens."""
    viewer.write(bare(walkers.result(0)))
    result = bare(walkers.result(40))  # a second later the first view has settled
    viewer.write(result)
    assert viewer.picture.any()
    viewer._room.turn = np.eye(3)
    viewer.view = Orbit(np.array([0, 0, 2.0]), 2.0)
    viewer.toggle()
    viewer.toggle()
    focal = 240 / math.tan(math.radians(21))
    for row, identity in enumerate((1, 2)):
        seen = coloured(viewer.picture, identity)
        wanted = silhouette(walkers, result, row, Camera(focal, focal, 319.5, 239.5))
        seen[:230, :205] = wanted[:230, :205] = False  # there is the picture
        assert wanted[:-28].sum() > 2000
        assert overlap(seen[:-28], wanted[:-28]) > 0.9


def test_the_camera_s_view_is_the_picture_with_the_bodies(walkers: Walkers, viewer: ViewerSink) -> None:
    result = bare(walkers.result(4))
    viewer.look_from_camera()
    viewer.write(result)
    wanted = draw(result, walkers.lifted)
    assert np.abs(viewer.picture[:-28].astype(int) - wanted[:-28]).max() <= 1
    viewer.toggle()
    assert np.abs(viewer.picture[:-28].astype(int) - draw(result)[:-28]).max() <= 1


def test_from_the_side_the_orbit_s_projection_holds(walkers: Walkers, viewer: ViewerSink) -> None:
    viewer.write(walkers.result(0))
    result = bare(walkers.result(40, (1,)))  # a second later the first view has settled
    viewer.write(result)
    assert result.bodies is not None
    b = result.bodies
    joints = walkers.body.pose(b.rotations[0], b.betas[0], b.translation[0])[1]
    for turn in (0.0, 0.8, 1.6):
        viewer.view.turn(turn, 0.1)
        viewer.write(result)
        seen = coloured(viewer.picture, 1)
        matrix = viewer._extrinsic()
        view = joints @ matrix[:3, :3].T + matrix[:3, 3]
        focal = 240 / math.tan(math.radians(21))
        x, y = np.round(Camera(focal, focal, 319.5, 239.5).project(view)).astype(int)[[0, 3, 4, 5, 9]].T
        assert seen[y, x].all(), f"pelvis, spine and knees are covered by the mesh, turned by {turn}"


@given(st.floats(-7, 7), st.floats(-0.08, 1.5), st.floats(0.5, 60), st.tuples(*[st.floats(-9, 9)] * 3))
def test_the_orbit_is_a_rotation_that_looks_at_its_target(a: float, e: float, d: float, target: tuple[float, ...]) -> None:
    matrix = Orbit(np.array(target), d, a, e).extrinsic()
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3))
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert np.allclose(matrix[:3, :3] @ np.array(target) + matrix[:3, 3], [0, 0, d])
    level = matrix[:3, :3] @ [0, -1, 0]
    assert level[1] < 1e-9, "up is up"
    assert level[0] == pytest.approx(0)


def test_an_orbit_without_turns_is_the_camera() -> None:
    assert np.allclose(Orbit(np.array([0, 0, 2.0]), 2.0).extrinsic(), np.eye(4))


def test_people_enter_and_leave(walkers: Walkers, viewer: ViewerSink) -> None:
    for index, ids in enumerate([(), (1,), (1, 2), (2,), (2, 3), (), (4,)]):
        viewer.write(bare(walkers.result(index, ids)))
        assert viewer.picture.any()
        assert viewer._scene is not None
        assert {n for n in viewer._scene.names if n.startswith("person")} == {f"person {i}" for i in ids}
        for identity in (1, 2):
            assert (coloured(viewer.picture, identity).sum() > 100) == (identity in ids)


def test_comings_and_goings_keep_no_memory(walkers: Walkers, viewer: ViewerSink) -> None:
    results = [walkers.result(i, ids) for i, ids in enumerate([(1, 2, 3), (), (4, 5, 6), (2,)])]

    def resident() -> float:
        for i in range(80):
            viewer.write(results[i % 4])
            assert viewer.picture.any()
            if i % 10 == 0:
                viewer.toggle()
        return psutil.Process().memory_info().rss / 2**20

    resident()
    rounds = [resident() for _ in range(4)]
    # What is kept is kept every time; what a library takes for itself, now and then.
    assert min(np.diff(rounds)) < 15, "MiB more after eighty comings and goings than before them"


def test_a_person_without_a_body_is_in_the_picture_alone(walkers: Walkers, viewer: ViewerSink) -> None:
    result = walkers.result(0)
    assert result.bodies is not None
    places = result.bodies.translation.copy()
    places[1] = np.nan
    result = replace(result, bodies=replace(result.bodies, translation=places))
    viewer.write(result)
    corner, rest = viewer.picture[:230, :205], viewer.picture.copy()
    rest[:230, :205] = 0
    assert coloured(corner, 2).any()
    assert not coloured(rest, 2).any()
    assert coloured(rest, 1).sum() > 500


def test_without_bodies_the_picture_fills_the_view(walkers: Walkers, viewer: ViewerSink) -> None:
    result = replace(walkers.result(0), bodies=None)
    viewer.write(result)
    assert np.abs(viewer.picture[5:100, 5:100].astype(int) - result.frame.image[5:100, 5:100]).max() < 2
    for identity in (1, 2):
        assert coloured(viewer.picture, identity).any()


def test_the_ground_lies_under_the_feet_and_shadows_on_it(walkers: Walkers, viewer: ViewerSink) -> None:
    for index in range(60):
        result = walkers.result(index)
        viewer.write(result)
    b = result.bodies
    assert b is not None
    feet = [walkers.body.vertices(b.rotations[i], b.betas[i], b.translation[i])[:, 1].max() for i in range(2)]
    assert viewer._room.ground == pytest.approx(max(feet), abs=0.1)


def test_what_the_keys_do(walkers: Walkers, viewer: ViewerSink) -> None:
    viewer.write(bare(walkers.result(0)))
    mesh = viewer.picture.copy()
    viewer.toggle()
    assert 50 < coloured(viewer.picture, 1).sum() < coloured(mesh, 1).sum() / 2, "a skeleton is thinner than a mesh"
    viewer.toggle()
    assert np.array_equal(viewer.picture[:-28], mesh[:-28])

    followed = []
    for _ in range(4):
        viewer.follow()
        followed.append(viewer.followed)
    assert followed == [1, 2, None, 1]
    for index in range(90):  # long enough for the view to settle on the person
        viewer.write(bare(walkers.result(index)))
    ys, xs = np.nonzero(coloured(viewer.picture, 1))
    assert np.abs(np.mean([xs.min(), xs.max()]) - 319.5) < 25
    assert np.abs(np.mean([ys.min(), ys.max()]) - 239.5) < 60

    viewer.reset()
    assert (viewer.followed, viewer.from_camera) == (None, False)

    viewer.pause()
    held = viewer.picture.copy()
    viewer.write(bare(walkers.result(5, (3,))))
    assert np.array_equal(viewer.picture, held)
    viewer.pause()
    viewer.write(bare(walkers.result(6, (3,))))
    assert coloured(viewer.picture, 3).any()


def test_in_a_run_the_newest_wins_and_a_screenshot_is_left(walkers: Walkers, tmp_path: Path) -> None:
    results = [walkers.result(i) for i in range(10)]
    shot = tmp_path / "last.png"
    sink = ViewerSink(walkers.lifted, window=False, screenshot=shot)
    threads = []

    def stage(result: Result) -> Result:
        threads.append(threading.current_thread())
        return replace(results[result.frame.index % 10], frame=replace(result.frame, image=results[0].frame.image))

    report = run(FakeSource(200), [stage], [sink])
    assert report.read == 200
    assert report.skipped["view"] + len(report.display) == 200
    picture = cv2.cvtColor(cv2.imread(str(shot)), cv2.COLOR_BGR2RGB)
    assert picture.shape == (640, 1120, 3)
    assert all(coloured(picture, i).sum() > 1000 for i in (1, 2))
    assert threading.current_thread() not in threads


def test_screenshots_that_cannot_be(walkers: Walkers, viewer: ViewerSink, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _ = viewer.picture
    viewer.write(walkers.result(0))
    with pytest.raises(InputError, match=r"end its name with \.png"):
        viewer.screenshot(tmp_path / "shot.psd2")
    with pytest.raises(RtposeError, match=r"nowhere/shot\.png: No such"):
        viewer.screenshot(tmp_path / "nowhere" / "shot.png")
    (tmp_path / "mine.png").write_bytes(b"")
    for name, said in (("shot.psd", "should end in"), ("nowhere/shot.png", "no such folder"), ("mine.png", "exists")):
        with pytest.raises(InputError, match=said):
            ViewerSink(walkers.lifted, window=False, screenshot=tmp_path / name)


def test_without_open3d_it_says_how_to_get_it(walkers: Walkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(InputError, match=r"pip install 'rtpose\[viewer\]'"):
        ViewerSink(walkers.lifted, window=False)


def test_two_scenes_follow_each_other() -> None:
    for _ in range(2):
        scene = Scene(64, 48)
        scene.lines("line", np.array([[-1.0, 0, 2], [1, 0, 2]]), np.array([[0, 1]], np.int32), np.ones((1, 3)))
        assert scene.render(np.eye(4), Camera(50, 50, 31.5, 23.5)).max() > 200
        scene.close()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["q", "close"])
def test_a_window_under_a_virtual_display(ending: str, tmp_path: Path) -> None:
    """Real keys, mouse and closing (needs the Debian packages xvfb and xdotool)."""
    command = ["xvfb-run", "-a", "-s", "-screen 0 1280x800x24", sys.executable, "-m", "tests.sinks.viewer_session", ending]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "SHOTS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], env=environment)
    assert done.stdout.splitlines()[-1:] == ["stopped True"], done.stdout + done.stderr
    assert "follow 1\nskeleton\ncamera\nreset\npaused\nturned\nzoomed\n" in done.stdout
    assert len(list(tmp_path.glob("rtpose-000.png"))) == 1
