"""Saved results played again: with their video, without it, and those that cannot be."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from rtpose.body.camera import camera_for
from rtpose.body.model import Lifted
from rtpose.errors import InputError, Stop
from rtpose.render import draw
from rtpose.replay import Player, replay
from rtpose.sinks.data import Provenance, open_data, read_results
from rtpose.sinks.video import open_overlay
from rtpose.sinks.window import WindowSink
from rtpose.source import SourceInfo, open_source
from rtpose.types import Result

from .bodies import Walkers
from .fakes import wait_until

FRAMES = 12


@pytest.fixture(scope="module")
def walkers() -> Walkers:
    return Walkers(320, 240)


@pytest.fixture(scope="module")
def folder(walkers: Walkers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, and its results as .npz and .jsonl, with and without bodies."""
    folder = tmp_path_factory.mktemp("replay")
    nothing = SourceInfo("walk.mp4", walkers.width, walkers.height, Fraction(30), Fraction(1, 90000))
    clip = open_overlay(folder / "walk.mp4", nothing, overwrite=False, parts=())
    results = [walkers.result(i) for i in range(FRAMES)]
    for result in results:
        people = replace(result.people, keypoints=0 * result.people.keypoints, boxes=np.nan * result.people.boxes)
        clip.write(replace(result, people=people))
    clip.close()
    info = replace(nothing, name=str(folder / "walk.mp4"))
    for name, lifted in (("walk.npz", walkers.lifted), ("walk.jsonl", walkers.lifted), ("flat.jsonl", None)):
        data = open_data(folder / name, info, Provenance(lifted=lifted))
        for result in results:
            data.write(result if lifted else replace(result, bodies=None))
        data.close()
    return folder


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


@pytest.mark.parametrize("name", ["walk.npz", "walk.jsonl"])
def test_the_overlay_is_drawn_again_with_its_meshes(name: str, folder: Path, walkers: Walkers, tmp_path: Path) -> None:
    report = replay(folder / name, out=tmp_path / "out.mp4")
    assert report.frames == FRAMES
    got = pictures(tmp_path / "out.mp4")
    assert len(got) == FRAMES
    for i in (0, FRAMES - 1):
        # Blurred, so that what the video's compression does to thin lines does not count.
        smooth, meshes, none = (
            cv2.blur(picture, (9, 9)).astype(float)
            for picture in (got[i], draw(walkers.result(i), walkers.lifted), draw(walkers.result(i)))
        )
        assert np.abs(smooth - meshes).mean() < 0.4 * np.abs(smooth - none).mean()


def test_keypoints_alone_can_be_x(folder: Path, walkers: Walkers, tmp_path: Path) -> None:
    replay(folder / "flat.jsonl", out=tmp_path / "out.mp4")
    wanted = draw(replace(walkers.result(3), bodies=None))
    assert np.abs(pictures(tmp_path / "out.mp4")[3].astype(float) - wanted).mean() < 4


@pytest.mark.parametrize("name", ["walk.jsonl", "flat.jsonl"])
def test_the_plain_window_shows_bodies_over_and_over(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []

    def write(sink: WindowSink, result: Result) -> None:
        shown.append(sink.picture(result))
        if len(shown) > 2 * FRAMES:
            raise Stop

    monkeypatch.setattr("rtpose.replay.find_spec", lambda name: None)  # as where Open3D is not installed
    for module in ("rtpose.replay", "rtpose.sinks.window"):
        monkeypatch.setattr(f"{module}.check_display", lambda *said: None)
    monkeypatch.setattr(WindowSink, "write", write)
    replay(folder / name, view=True, loop=True, parts=frozenset({"mesh"}))
    assert len(shown) == 2 * FRAMES + 1
    assert (np.abs(shown[0].astype(int) - shown[FRAMES // 2]).sum(-1) > 30).any(), "it moves"
    with pytest.raises(InputError, match="--loop is for a window"):
        replay(folder / name, view=True, loop=True, out=folder / "loop.mp4")


def test_without_the_video_the_ground_is_grey(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "walk.npz"
    lines = (folder / "walk.jsonl").read_text().replace(str(folder / "walk.mp4"), "rtsp://camera/stream")
    alone = tmp_path / "walk.jsonl"
    alone.write_text(lines)
    replay(alone, out=tmp_path / "out.mp4")
    got = pictures(tmp_path / "out.mp4")
    assert len(got) == FRAMES
    assert abs(np.median(got[0]) - 70) < 3
    assert got[0].std() > 10, "people are drawn"


def test_the_viewer_shows_it_without_a_display(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    report = replay(folder / "walk.npz", screenshot=tmp_path / "shot.png")
    assert report.read == FRAMES
    replay(folder / "walk.npz", screenshot=tmp_path / "both.png", out=tmp_path / "out.mp4")
    for name in ("shot.png", "both.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 5


def test_its_pace_is_that_of_the_times_and_it_waits_while_held(folder: Path) -> None:
    header, records = read_results(folder / "walk.npz")
    player = Player(folder / "walk.npz", header, records, open_source(folder / "walk.mp4"), paced=True)
    held = threading.Event()
    player.held = held.is_set
    seen: list[float] = []

    def watch() -> None:
        for frame in player.frames():
            seen.append(frame.time)
            if frame.index == 3:
                held.set()

    thread = threading.Thread(target=watch)
    begun = time.monotonic()
    thread.start()
    held.wait()
    time.sleep(0.5)
    assert len(seen) == 4
    held.clear()
    wait_until(lambda: len(seen) == FRAMES)
    assert time.monotonic() - begun > 0.5 + (FRAMES - 5) / 30
    time.sleep(0.1)
    assert thread.is_alive(), "the last picture stays until somebody closes the window"
    player.close()
    thread.join(60)
    assert not thread.is_alive()


def test_files_that_do_not_fit(folder: Path, walkers: Walkers, tmp_path: Path) -> None:
    other = Walkers(160, 120)
    small = open_overlay(tmp_path / "small.mp4", SourceInfo("", 160, 120, Fraction(30), Fraction(1, 90000)), overwrite=False)
    for i in range(FRAMES - 3):
        small.write(other.result(i))
    small.close()
    with pytest.raises(InputError, match=r"small\.mp4 is 160x120, the results in .* are for 320x240"):
        replay(folder / "walk.npz", video=tmp_path / "small.mp4", out=tmp_path / "out.mp4")
    with pytest.raises(InputError, match="no such file"):
        replay(folder / "walk.npz", video=tmp_path / "nowhere.mp4", out=tmp_path / "out.mp4")
    with pytest.raises(InputError, match="holds no results of rtpose"):
        replay(folder / "walk.mp4")
    with pytest.raises(InputError, match="cannot read"):
        replay(tmp_path / "nowhere.npz")

    lifted = Lifted(replace(walkers.body, name="SMPL_NEUTRAL.pkl", sha256="0" * 64), camera_for)
    data = open_data(tmp_path / "smpl.jsonl", SourceInfo("", 320, 240, Fraction(30), Fraction(1)), Provenance(lifted=lifted))
    data.write(walkers.result(0))
    data.close()
    with pytest.raises(InputError, match=r"was made with the body SMPL_NEUTRAL\.pkl .*give --body-model"):
        replay(tmp_path / "smpl.jsonl", out=tmp_path / "out.mp4")


def test_a_damaged_run_replaces_no_video(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "walk.jsonl").read_text().splitlines(keepends=True)
    damaged, out = tmp_path / "damaged.jsonl", tmp_path / "out.mp4"
    damaged.write_text("".join([*lines[:3], lines[3][:-9] + "\n", *lines[4:]]))
    out.write_text("mine")
    with pytest.raises(InputError, match=r"damaged\.jsonl, line 4: not JSON"):
        replay(damaged, out=out, overwrite=True)
    assert out.read_text() == "mine"


def test_a_run_over_a_pipeline_of_any_length_can_be_replayed(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.jsonl"
    run.write_text((folder / "walk.jsonl").read_text().replace(str(folder / "walk.mp4"), "videotestsrc ! " * 30))
    replay(run, out=tmp_path / "out.mp4")
    assert len(pictures(tmp_path / "out.mp4")) == FRAMES


def test_a_video_that_is_shorter_than_its_results(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "walk.jsonl").read_text().splitlines(keepends=True)
    extra = lines[-1].replace(f'"frame":{FRAMES - 1}', f'"frame":{FRAMES}')
    (tmp_path / "long.jsonl").write_text("".join([*lines, extra, extra[:30]]))
    report = replay(tmp_path / "long.jsonl", video=folder / "walk.mp4", out=tmp_path / "out.mp4")
    assert report.frames == FRAMES
    assert report.ended_early is not None
    assert f"at frame {FRAMES}" in str(report.ended_early)
