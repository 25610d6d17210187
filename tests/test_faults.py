"""The fault matrix: whatever fails, wherever, in a real process: no hang, nothing written lost, the stage named, the exit code right."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from .conftest import REPOSITORY
from .media import playable

FRAMES, AT, LONG = 30, 17, 1500
KINDS = ("raises", "ends", "interrupt", "slow", "kill")
MODES = ("--causal", "--live")
SINKS = ("save", "out", "view")
PLACES = {
    # What a run writes and shows, and where it is struck. The first two need no display, the others a virtual one.
    "files": ("source", "detect", "keypoints", "ankles", "smooth", "lift", "save", "out"),
    "screenshot": ("view",),
    "viewer": ("source", "lift", "save", "out", "view"),
    "window": ("view",),
}
MATRIX = [
    (outfit, place, kind, mode) for outfit, places in PLACES.items() for place in places for kind in KINDS for mode in MODES
]
EVERY_RUN = {
    ("files", "source", "raises", "--causal"),
    ("files", "detect", "kill", "--causal"),
    ("files", "keypoints", "raises", "--causal"),
    ("files", "keypoints", "ends", "--live"),
    ("files", "smooth", "interrupt", "--live"),
    ("files", "lift", "slow", "--live"),
    ("files", "save", "raises", "--live"),
    ("files", "out", "kill", "--causal"),
    ("files", "out", "interrupt", "--causal"),
    ("screenshot", "view", "raises", "--causal"),
}


@pytest.fixture(scope="module")
def person_pictures(person_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of the clip, as a folder of pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    with av.open(str(person_clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            cv2.imwrite(str(folder / f"{number}.jpg"), frame.to_ndarray(format="bgr24"))
    return folder


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As long as nobody needs to close a window."""
    path = tmp_path_factory.mktemp("long") / "person.mp4"
    maker = REPOSITORY / "scripts" / "make_demo_clip.py"
    subprocess.run([sys.executable, str(maker), str(path), str(LONG)], check=True, cwd=REPOSITORY)
    return path


def lines_of(path: Path, *, killed: bool = False) -> list[int]:
    """Frame numbers of a JSON Lines file, every line of which must be whole. A line is handed to the system at once, but SIGKILL
    can end that between two pages of 4 KiB: then the line that was being written is cut off."""
    text = path.read_text() if path.exists() else ""
    assert text == "" or text.endswith("\n") or killed
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    if lines:
        assert lines[0]["rtpose"] == 1
    return [line["frame"] for line in lines[1:]]


def saved_frames(path: Path, *, killed: bool = False) -> list[int]:
    """Frame numbers of a data file, or of what a killed run has left in its place."""
    if path.suffix == ".jsonl":
        return lines_of(path, killed=killed)
    if not path.exists():
        return lines_of(path.with_name(path.name + ".partial"), killed=killed)
    with np.load(path) as arrays:
        assert len(arrays["id"]) == arrays["people"].sum()
        return [int(frame) for frame in arrays["frame"]]


def drawn_frames(path: Path, *, killed: bool = False) -> int:
    """How many frames of the video, or pictures in the folder, decode: all that are there must, but of a video that was being
    written when the run was killed."""
    if path.is_dir():
        pictures = list(path.glob("*.jpg"))
        assert all(cv2.imread(str(picture)) is not None for picture in pictures)
        return len(pictures)
    if not path.exists() or path.stat().st_size == 0:
        return 0
    if killed:
        return playable(path)
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("outfit", "place", "kind", "mode"),
    [pytest.param(*row, marks=() if row in EVERY_RUN else pytest.mark.slow) for row in MATRIX],
)
def test_fault(outfit: str, place: str, kind: str, mode: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pictures = outfit in ("screenshot", "viewer")
    source = request.getfixturevalue("person_pictures" if pictures else "person_clip")
    save = tmp_path / ("people.npz" if pictures else "people.jsonl")
    out = tmp_path / ("drawn" if pictures else "overlay.mp4")
    shot = tmp_path / "shot.png" if pictures else None
    command = [sys.executable, "-m", "tests.faulty", place, kind, str(AT)]
    command += [str(source), mode, *(["--sequence"] if pictures else []), "--save", str(save), "--out", str(out)]
    command += ["--view" if outfit in ("viewer", "window") else "--no-view"]
    command += ["--lifter", "none"] if outfit == "window" else []
    command += ["--screenshot", str(shot)] if shot else []
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if outfit in ("viewer", "window"):
        environment["DISPLAY"] = request.getfixturevalue("virtual_display")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    frames = saved_frames(save, killed=kind == "kill")
    shown = drawn_frames(out, killed=kind == "kill")
    offline = mode == "--causal"
    stage_broke = place not in SINKS
    assert frames == sorted(set(frames))
    if offline:
        assert frames == list(range(len(frames)))
    assert "Traceback" not in done.stderr

    if kind == "kill":
        assert done.returncode == -9
        # Three frames may wait before the video, one is being written, and the encoder holds the last ones.
        assert shown >= len(frames) - 8
        if stage_broke and offline:
            # Frames that other threads had in hand when the process died were not written yet.
            assert len(frames) <= AT
        return
    if shot:
        assert cv2.imread(str(shot)) is not None
        assert save.exists()
        assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob("*.unfinished"))
    if kind == "slow":
        assert done.returncode == 0, done.stderr
        assert len(frames) == shown
        assert frames == list(range(FRAMES)) if offline else FRAMES - 1 in frames
        return
    if kind == "interrupt":
        assert done.returncode == 130, done.stderr
        assert len(frames) == shown > 0
        return
    if kind == "ends" and place == "source":
        assert done.returncode == 0, done.stderr
        assert (frames == list(range(AT))) if offline else (max(frames) <= AT)
        assert len(frames) == shown
        return
    if kind == "ends" and not stage_broke:
        # A sink that wants no more ends the run well, and the others have all that was read.
        assert done.returncode == 0, done.stderr
        assert place != "view" or len(frames) == shown >= (AT if offline else 1)
        return
    if not offline and done.returncode == 0:
        assert place != "view"  # it sees the last frame in any case
        assert AT not in frames  # the frame at which it would have struck was dropped at the entrance
        return
    assert done.returncode == 1, done.stderr
    assert f"rtpose: {place}: " in done.stderr
    if place == "save":
        assert AT not in frames
        assert not offline or frames == list(range(AT))
    elif place == "out":
        assert not offline or shown == AT
    else:
        assert len(frames) == shown
        assert not (offline and stage_broke) or frames == list(range(AT))


def close_button(display: str, window: int) -> None:
    """Ask an X11 window to close, as a window manager does when its button is pressed."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    protocols, close = (x11.XInternAtom(connection, name, False) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    client_message, bits = 33, 32
    event = struct.pack("@iLiPLLi5l", client_message, 0, True, 0, window, protocols, bits, close, 0, 0, 0, 0).ljust(192, b"\0")
    x11.XSendEvent(connection, ctypes.c_ulong(window), False, ctypes.c_long(0), event)
    x11.XCloseDisplay(connection)


def press_until_it_ends(run: subprocess.Popen[str], window: str, environment: dict[str, str]) -> None:
    """Press q in the window, as somebody would: again, if the window was not ready for it."""
    for _ in range(30):
        subprocess.run(["xdotool", "windowfocus", window, "key", "q"], env=environment, capture_output=True)
        with suppress(subprocess.TimeoutExpired):
            run.wait(timeout=2)
            return


@pytest.mark.slow
@pytest.mark.parametrize("how", ["q", "button"])
@pytest.mark.parametrize("lifter", ["lifter", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_a_closed_window_ends_the_run_and_every_file_is_whole(
    lifter: str, how: str, mode: str, long_clip: Path, virtual_display: str, tmp_path: Path
) -> None:
    save, out = tmp_path / "people.npz", tmp_path / "overlay.mp4"
    command = [
        sys.executable,
        "-m",
        "rtpose",
        str(long_clip),
        mode,
        "--view",
        "--lifter",
        lifter,
        "--save",
        str(save),
        "--out",
        str(out),
    ]
    environment = os.environ | {"DISPLAY": virtual_display}
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=environment) as run:
        search = ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^rtpose"]
        try:
            window = subprocess.run(search, check=True, capture_output=True, text=True, env=environment).stdout.split()[0]
            if how == "q":
                press_until_it_ends(run, window, environment)
            else:
                close_button(virtual_display, int(window))
            said = run.communicate()[1]
        finally:
            run.kill()
    assert run.returncode == 0, said
    frames = saved_frames(save)
    assert 0 < len(frames) == drawn_frames(out) < LONG
    assert mode == "--live" or frames == list(range(len(frames)))
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("kind", ["interrupt", "raises", "kill"])
def test_a_refined_run_leaves_what_it_knew(kind: str, person_clip: Path, tmp_path: Path) -> None:
    save, spool = tmp_path / "people.jsonl", tmp_path / "people.jsonl.partial"
    command = [sys.executable, "-m", "tests.faulty", "keypoints", kind, str(AT), str(person_clip), "--save", str(save)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == {"interrupt": 130, "raises": 1, "kill": -9}[kind], done.stderr
    # Ctrl-C finishes the file with what was read; after a fault the causal results stay.
    left, gone = (save, spool) if kind == "interrupt" else (spool, save)
    assert not gone.exists()
    frames = lines_of(left, killed=kind == "kill")
    assert frames == list(range(len(frames)))
    assert len(frames) > 0
    if kind == "raises":
        assert len(frames) == AT
        assert "people.jsonl.partial" in done.stderr
