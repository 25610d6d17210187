"""The command as a user meets it: real processes, real files, one clear line for everything that is wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data

import rtpose
from rtpose.models import find

from .conftest import REPOSITORY

QUICK = ("--lifter", "none")


def rtpose_command(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rtpose", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, **(env or {})})


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """One line on the standard error that holds the words; the exit code; no traceback."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("rtpose: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word.lower() in lines[0].lower(), lines[0]


def test_a_video_becomes_lines_and_an_overlay(person_clip: Path, tmp_path: Path) -> None:
    save, out = tmp_path / "people.jsonl", tmp_path / "overlay.mp4"
    done = rtpose_command(person_clip, "--save", save, "--out", out, "--verbose")
    assert done.returncode == 0, done.stderr
    for path in (save, out):
        assert f"wrote {path}" in done.stderr
    lines = [json.loads(line) for line in save.read_text().splitlines()]
    with av.open(str(person_clip)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    with av.open(str(out)) as container:
        drawn = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert [line["frame"] for line in lines[1:]] == list(range(len(times)))
    assert [line["time"] for line in lines[1:]] == pytest.approx(times, abs=1e-9)
    assert drawn == pytest.approx(times, abs=1e-6)
    header = lines[0]
    assert (header["rtpose"], header["width"], header["height"], header["mode"]) == (1, 640, 480, "refined")
    people = lines[20]["people"]
    assert len(people) == 1
    assert len(people[0]["keypoints"]) == 17
    # The astronaut's face, by the eye of the writer: at (225, 110) of the photograph, whose centre the clip sways about.
    nose = people[0]["keypoints"][0]
    assert 200 < nose[0] < 420
    assert 40 < nose[1] < 200
    assert "fps" in done.stderr
    assert "p95" in done.stderr


def test_causal_results_are_those_of_every_frame_by_itself(person_clip: Path, tmp_path: Path) -> None:
    save = tmp_path / "people.jsonl"
    assert rtpose_command(person_clip, "--save", save, "--causal").returncode == 0
    header, *lines = (json.loads(line) for line in save.read_text().splitlines())
    assert header["mode"] == "offline"
    assert len(lines) == 30
    assert {status for line in lines for person in line["people"] for status in person["status"]} <= {"measured", "corrected"}


@pytest.fixture(scope="module")
def empty_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten grey frames."""
    path = tmp_path_factory.mktemp("empty") / "empty.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((240, 320, 3), 128, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("mode", ["refined", "causal"])
def test_that_nobody_was_found_is_said(mode: str, empty_clip: Path, tmp_path: Path) -> None:
    save = tmp_path / "people.jsonl"
    done = rtpose_command(empty_clip, "--save", save, *QUICK, *(["--causal"] if mode == "causal" else []))
    assert done.returncode == 0, done.stderr
    assert "nobody was found" in done.stderr.splitlines()
    assert f"wrote {save}" in done.stderr.splitlines()
    assert "p95" not in done.stderr


@pytest.mark.parametrize("mode", ["refined", "causal"])
def test_numbers_that_nobody_has(mode: str, person_clip: Path, tmp_path: Path) -> None:
    options = [*QUICK, "--end", "0.5", *(["--causal"] if mode == "causal" else [])]
    done = rtpose_command(person_clip, "--save", tmp_path / "a.jsonl", "--people", "99", *options)
    refused(done, "--people 99", "nobody has the number 99", "there is 1")
    both = rtpose_command(person_clip, "--save", tmp_path / "b.jsonl", "--track", "1,99", *options)
    assert both.returncode == 0, both.stderr
    assert "nobody has the number 99" in both.stderr
    assert all(json.loads(line)["people"] for line in (tmp_path / "b.jsonl").read_text().splitlines()[5:])


def test_a_window_without_frames_is_refused(person_clip: Path, tmp_path: Path) -> None:
    save = tmp_path / "people.jsonl"
    save.write_text("precious")
    done = rtpose_command(person_clip, "--save", save, "--overwrite", *QUICK, "--start", "0.501", "--end", "0.502")
    refused(done, "no frame", "--start 0.501", "--end 0.502")
    assert save.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["people.jsonl"]


def test_options_that_could_do_nothing_are_refused(person_clip: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((48, 64, 3), np.uint8))
    for arguments, words in (
        ((person_clip, "--region", "0.1,0.1,0.9,0.9"), ("percentages are written 10%,10%,90%,90%",)),
        ((person_clip, "--region", "0,0,20,480"), ("--region 0,0,20,480", "20x480 px")),
        ((person_clip, "--tiles", "60x1"), ("--tiles 60x1", "give fewer")),
        ((person_clip, "--target-fps", "30"), ("--target-fps", "--live")),
        ((person_clip, "--max-latency", "100"), ("--max-latency", "--live")),
        ((person_clip, "--sequence"), ("--sequence", "pictures")),
        ((person_clip, "--lifter", "none", "--focal", "900"), ("--focal", "--lifter none")),
        ((person_clip, "--resume", "--overwrite", "--save", tmp_path / "x.jsonl"), ("--resume", "--overwrite", "one of them")),
        ((picture, "--detect-every", "3"), ("--detect-every", "--sequence")),
        ((picture, "--keypoints-every", "3"), ("--keypoints-every", "--sequence")),
        ((picture, "--live"), ("--live", "--sequence")),
        ((picture, "--people", "main"), ("--people main", "--sequence")),
        (("--camera", "-1"), ("--camera -1", "from 0")),
        ((person_clip, picture), ("a.png", "rtpose batch")),
        (("replay", person_clip, picture), ("a.png", "rtpose replay --help")),
    ):
        refused(rtpose_command(*arguments), *words)


def test_a_screenshot_says_nothing_but_where_it_is(person_clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("open3d")
    environment = {"XDG_RUNTIME_DIR": "", "WAYLAND_DISPLAY": "", "DISPLAY": ""}
    shot = tmp_path / "view.png"
    done = rtpose_command(person_clip, "--end", "0.2", "--screenshot", shot, env=environment)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    assert f"wrote {shot}" in done.stderr
    assert cv2.imread(str(shot)) is not None


def test_refined_results_for_every_kind_of_output(person_clip: Path, tmp_path: Path) -> None:
    save, arrays, out = tmp_path / "a.jsonl", tmp_path / "b.npz", tmp_path / "c.mp4"
    assert rtpose_command(person_clip, "--save", save).returncode == 0
    assert rtpose_command(person_clip, "--save", arrays).returncode == 0
    printed = rtpose_command(person_clip, "--save", "-", "--out", out)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == save.read_text()
    header, records = rtpose.read_results(arrays)
    assert header.mode == "refined"
    assert [record.frame for record in records] == list(range(30))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.npz", "c.mp4"]


def test_existing_files_are_refused_and_kept(person_clip: Path, tmp_path: Path) -> None:
    for option, name in (("--save", "people.jsonl"), ("--out", "overlay.mp4")):
        path = tmp_path / name
        path.write_text("precious")
        refused(rtpose_command(person_clip, option, path), name, "--overwrite")
        assert path.read_text() == "precious"


def test_the_last_good_file_outlives_a_run_that_never_starts(tmp_path: Path) -> None:
    path, clip = tmp_path / "people.jsonl", tmp_path / "text.mp4"
    path.write_text("precious")
    clip.write_text("this is no video")
    refused(rtpose_command(clip, "--save", path, "--overwrite"), "text.mp4")
    assert path.read_text() == "precious"


def truncated(clip: Path, path: Path) -> Path:
    """A fragmented copy of the clip (so that its index is not at the end), cut at two thirds."""
    with av.open(str(clip)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data_ = path.read_bytes()
    path.write_bytes(data_[: len(data_) * 2 // 3])
    return path


def test_a_truncated_video_is_processed_as_far_as_it_goes(person_clip: Path, tmp_path: Path) -> None:
    save, out = tmp_path / "people.jsonl", tmp_path / "overlay.mp4"
    done = rtpose_command(truncated(person_clip, tmp_path / "cut.mp4"), "--save", save, "--out", out)
    refused(done, "cut.mp4", "frames", code=3)
    lines = save.read_text().splitlines()
    assert len(lines) > 5
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(lines) - 1


def test_bad_sources(tmp_path: Path) -> None:
    refused(rtpose_command(tmp_path / "nothing.mp4"), "nothing.mp4", "no such file")
    empty = tmp_path / "folder"
    empty.mkdir()
    refused(rtpose_command(empty), "folder", "picture")
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n")
    refused(rtpose_command(text), "text.mp4")
    hollow = tmp_path / "hollow.mp4"
    hollow.write_bytes(b"")
    refused(rtpose_command(hollow), "hollow.mp4")
    refused(rtpose_command(""), "source is empty")
    long = "filesrc location=" + 300 * "a"  # no file can have this name
    refused(rtpose_command(long), "no such file")
    refused(rtpose_command(f"{long} ! appsink"), "GStreamer")
    refused(rtpose_command("batch", long, "--out-dir", tmp_path / long), "cannot make", "too long")
    refused(rtpose_command("batch", long, "--out-dir", empty), "no such file", code=1)
    refused(rtpose_command("--camera", 93), "camera 93")
    refused(rtpose_command(), "--camera")
    refused(rtpose_command(text, "--camera", 0), "--camera")


def test_an_unreachable_stream_keeps_its_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = rtpose_command(f"rtsp://admin:s3cret@127.0.0.1:{port}/live")
    refused(done, "127.0.0.1")
    assert "s3cret" not in done.stderr + done.stdout


def test_bad_settings(person_clip: Path, tmp_path: Path) -> None:
    refused(rtpose_command(person_clip, "--save", tmp_path / f"{300 * 'a'}.jsonl"), "cannot write", "too long")
    refused(rtpose_command(person_clip, "--detector", "yolov99"), "yolov99", "nanodet")
    refused(rtpose_command(person_clip, "--keypoints", "nanodet"), "nanodet", "movenet-thunder")
    refused(rtpose_command(person_clip, "--backend", "cuda9"), "cuda9", "openvino")
    refused(rtpose_command(person_clip, "--precision", "f7"), "f7", "f32")
    refused(rtpose_command(person_clip, "--threads", -1), "threads")
    refused(rtpose_command(person_clip, "--detect-every", 0), "detect-every")
    refused(rtpose_command(person_clip, "--detect-every", "often"), "detect-every", "often")
    refused(rtpose_command(person_clip, "--speed", 3), "--speed")
    refused(rtpose_command(person_clip, "--save", tmp_path / "no" / "such" / "people.jsonl"), "no such folder", "no/such")
    refused(rtpose_command(person_clip, "--view", env={"DISPLAY": ":12345"}), "no display", "--view")
    refused(rtpose_command(person_clip, "--save", tmp_path / "people.xlsx"), "people.xlsx", ".jsonl")
    refused(rtpose_command(person_clip, "--out", tmp_path / "overlay.xyz"), "overlay.xyz", ".mp4")
    refused(rtpose_command(person_clip, "--lifter", "hmr", "--checkpoint", "spin.pt"), "--checkpoint FILE", "--body-model FILE")
    refused(rtpose_command(person_clip, "--checkpoint", "spin.pt"), "--checkpoint", "--lifter hmr")
    refused(rtpose_command(person_clip, "--lifter-every", "0"), "--lifter-every 0")
    refused(rtpose_command(person_clip, "--track", "players"), "--people players", "all, main")
    refused(rtpose_command(person_clip, "--region", "-5,0,100,100"), "--region -5,0,100,100", "640x480")
    refused(rtpose_command(person_clip, "--tiles", "many"), "--tiles many", "3x2")


def test_the_papers_preset_needs_the_users_own_yolo(person_clip: Path, tmp_path: Path) -> None:
    nothing = {"RTPOSE_DATA": str(tmp_path / "data")}
    refused(rtpose_command(person_clip, "--preset", "paper", env=nothing), "import-darknet")
    save = tmp_path / "people.jsonl"
    options = ("--detector", "nanodet", "--lifter", "none", "--min-keypoint-score", "0.5", "--save", save)
    done = rtpose_command(person_clip, "--preset", "paper", *options, env=nothing)
    assert done.returncode == 0, done.stderr
    head, *lines = [json.loads(line) for line in save.read_text().splitlines()]
    assert head["models"]["keypoints"] == "posenet"
    assert head["models"]["ankles"] == "paper"
    scores = {keypoint[2] for line in lines for one in line["people"] for keypoint in one["keypoints"]}
    assert 0 in scores


def test_corrupt_weights_are_named_and_not_used(person_clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    model = find("nanodet", "detector")
    card = json.loads(model.path.with_suffix(".json").read_text())
    card["name"] = "mine"
    (folder / "nanodet.json").write_text(json.dumps(card))
    shutil.copy(model.path, folder / "nanodet.onnx")
    with (folder / "nanodet.onnx").open("r+b") as file:
        file.seek(100_000)
        file.write(b"rust")
    env = {"RTPOSE_DATA": str(tmp_path)}
    refused(rtpose_command(person_clip, "--detector", "mine", env=env), "mine", "sha256")
    listed = rtpose_command("models", env=env)
    assert listed.returncode == 1
    assert "broken" in listed.stdout


def test_a_full_disk_is_said(person_clip: Path, tmp_path: Path) -> None:
    for option, name in (("--save", "people.jsonl"), ("--out", "overlay.mp4")):
        full = tmp_path / name
        full.symlink_to("/dev/full")
        refused(rtpose_command(person_clip, option, full, "--overwrite", "--causal"), name, "space", code=1)


@pytest.mark.parametrize("mode", ["refined", "causal"])
def test_a_full_standard_output_is_said(mode: str, person_clip: Path) -> None:
    command = [sys.executable, "-m", "rtpose", str(person_clip), "--save", "-", "--lifter", "none"]
    with open("/dev/full", "w") as full:
        words = [*command, *(["--causal"] if mode == "causal" else [])]
        done = subprocess.run(words, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True)
    refused(done, "standard output", "space", code=1)
    assert "results.partial" not in done.stderr  # it is gone


def test_refined_results_that_become_no_arrays_stay(person_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "people.npz.unfinished").symlink_to("/dev/full")
    done = rtpose_command(person_clip, "--save", tmp_path / "people.npz", "--lifter", "none")
    refused(done, "people.npz: No space", "kept in", "people.npz.refined", code=1)
    assert len((tmp_path / "people.npz.refined").read_text().splitlines()) == 31


@pytest.mark.parametrize("mode", ["refined", "causal"])
def test_what_was_written_before_the_disk_was_full_stays(mode: str, person_clip: Path, tmp_path: Path) -> None:
    save = tmp_path / "people.jsonl"
    limited = """
import resource
from rtpose import app, cli
made = app.make_stages
def limit(*arguments, **options):
    stages = made(*arguments, **options)  # compiled code is cached on disk: that is not what is to fail here
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
    return stages
app.make_stages = limit
cli.main()
"""
    command = [sys.executable, "-c", limited, str(person_clip), "--save", str(save), *(["--causal"] if mode == "causal" else [])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    refused(done, "people.jsonl", code=1)
    text = (save if mode == "causal" else tmp_path / "people.jsonl.partial").read_text()
    assert text.endswith("\n")
    frames = [json.loads(line)["frame"] for line in text.splitlines()[1:]]
    assert frames == list(range(len(frames)))
    assert len(frames) > 3


@pytest.mark.parametrize("kind", ["grey", "alpha", "sixteen", "tiny", "wide"])
def test_odd_pictures(kind: str, tmp_path: Path) -> None:
    photograph = data.astronaut()[..., ::-1]
    made = {
        "grey": photograph[..., 1],
        "alpha": np.dstack([photograph, np.full(photograph.shape[:2], 200, np.uint8)]),
        "sixteen": photograph.astype(np.uint16) * 257,
        "tiny": photograph[:1, :1],
        "wide": cv2.resize(photograph, (16384, 64)),
    }[kind]
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "picture.png"), made)
    save = tmp_path / "people.jsonl"
    done = rtpose_command(folder, "--save", save, "--out", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    line = json.loads(save.read_text().splitlines()[1])
    assert line["file"].endswith("picture.png")
    # What the flag, the helmet or the trunk alone look like has a lower score.
    assert sum(person["score"] > 0.5 for person in line["people"]) == (1 if kind in ("grey", "alpha", "sixteen") else 0)
    drawn = cv2.imread(str(tmp_path / "drawn" / "picture.png"))
    assert drawn.shape[:2] == made.shape[:2]


def test_ctrl_c_before_the_run_begins_is_no_traceback(person_clip: Path) -> None:
    early = """
import os, signal, time
from rtpose import app, cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a shell
def interrupted(*arguments, **options):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)  # the signal may reach another thread first
app.open_source = interrupted
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", early, str(person_clip)], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_help_is_for_people() -> None:
    done = rtpose_command("--help")
    assert done.returncode == 0
    for word in ("--camera", "--out", "--save", "--live", "--offline", "--precision", "--overwrite", "doctor", "models"):
        assert word in done.stdout
    exported = rtpose_command("export", "--help").stdout
    assert "--overwrite" in exported
    assert "--empty" not in exported
    assert "rtpose --camera 0" not in exported, "examples of runs do not belong there"
    assert rtpose_command("--version").stdout.strip() == rtpose.__version__


def test_models_and_doctor() -> None:
    listed = rtpose_command("models", env={"COLUMNS": "160"})
    assert listed.returncode == 0
    for word in ("nanodet", "movenet-thunder", "Apache-2.0", find("nanodet", "detector").sha256[:16]):
        assert word in listed.stdout
    examined = rtpose_command("doctor", env={"COLUMNS": "160"})
    assert examined.returncode == 0, examined.stderr
    for word in ("openvino", "f32", "libx264", "cameras", "display", "'rtpose[tensorrt]'"):
        assert word in examined.stdout
