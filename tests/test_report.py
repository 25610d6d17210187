"""The page of `rtpose report`: what is in it, and (slow) what a real browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from rtpose.body.model import load_body
from rtpose.errors import EndedEarly, InputError, RtposeError
from rtpose.report import _without_nan, report
from rtpose.runs import read_run

from .bodies import Walkers
from .conftest import REPOSITORY
from .environments import node_with
from .media import make_clip, number_of, times_of
from .saved import save_walk

FRAMES = 36
PUPPETEER = "puppeteer-core@24.10.0"
UP = np.array([1, -1, -1])


def read_page(path: Path) -> dict[str, Any]:
    """The data of a page."""
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of numbered frames at uneven times, and a run about it; another run of the same, without bodies."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(3)
    ticks = np.cumsum(random.integers(2000, 6000, FRAMES)) + 40_000
    times = make_clip(folder / "clip.mp4", ticks.tolist(), time_base=Fraction(1, 90_000))
    walkers = Walkers(160, 120)
    save_walk(
        folder / "run.jsonl",
        walkers,
        times,
        ids=lambda i: (1, 2) if 5 <= i < 30 else (1,),
        source=str(folder / "clip.mp4"),
        all_joints=True,
    )
    save_walk(folder / "flat.jsonl", walkers, times, source=str(folder / "clip.mp4"), lifted=False)
    return folder


def test_the_page_holds_the_run_and_asks_for_nothing(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report([folder / "run.jsonl"], page)
    (found,) = read_page(page)["runs"]
    run = read_run(folder / "run.jsonl")
    assert np.frombuffer(base64.b64decode(found["times"]), "<f8") == pytest.approx(run.times - run.times[0])
    assert [person["id"] for person in found["people"]] == [1, 2]
    keypoints = np.frombuffer(base64.b64decode(found["people"][1]["keypoints"]), "<f4").reshape(-1, 17, 3)
    assert np.array_equal(keypoints, run.people[2].keypoints)
    assert len(found["sheet"]) == 12
    assert found["note"] == ""
    (tmp_path / "video.mp4").write_bytes(base64.b64decode(found["video"]))
    assert times_of(tmp_path / "video.mp4")[0] == pytest.approx(run.times - run.times[0], abs=1e-4)
    with av.open(str(tmp_path / "video.mp4")) as container:
        numbers = [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert numbers == list(range(FRAMES))
    text = page.read_text()
    assert not re.findall(
        r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}/", re.sub(r"<script id=.data.*?</script>", "", text, flags=re.DOTALL)
    )
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    "name", ["<!--<script>", "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "]]>&lt;"]
)
def test_names_of_strangers_stay_data(name: str, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.jsonl"
    header, *records = (folder / "run.jsonl").read_text().splitlines()
    run.write_text("\n".join([json.dumps({**json.loads(header), "source": name}), *records]) + "\n")
    report([run], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert read_page(tmp_path / "page.html")["runs"][0]["source"] == name
    held = re.findall(r'<script id="data" type="application/json">(.*)</script>\n<script>', text, re.DOTALL)[0]
    assert "<" not in held


def test_numbers_that_json_lacks_are_null(folder: Path, tmp_path: Path) -> None:
    def fail(text: str) -> None:
        raise AssertionError(f"JSON has no {text}")

    report([folder / "run.jsonl"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    (held,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    json.loads(held, parse_constant=fail)
    assert _without_nan({"a": [1.5, float("nan")], "b": (float("inf"), None, "x")}) == {"a": [1.5, None], "b": [None, None, "x"]}


def test_the_policy_names_our_script_alone(folder: Path, tmp_path: Path) -> None:
    report([folder / "run.jsonl"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "unsafe" not in page.split("</head>")[0].split("<style>")[0]
    for kind, found in (
        ("script", re.findall(r"<script>(.*?)</script>", page, re.DOTALL)),
        ("style", re.findall("<style>(.*?)</style>", page, re.DOTALL)),
    ):
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page


def test_without_the_video_it_says_so(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.jsonl"
    alone.write_text((folder / "run.jsonl").read_text().replace(str(folder / "clip.mp4"), "rtsp://camera/</script>"))
    report([alone], tmp_path / "page.html")
    (found,) = read_page(tmp_path / "page.html")["runs"]
    assert found["video"] is None
    assert found["note"] == "No video: rtsp://camera/</script> is not there. Give it with --video."
    assert len(found["sheet"]) == 12
    report([alone], tmp_path / "given.html", videos=[folder / "clip.mp4"])
    assert read_page(tmp_path / "given.html")["runs"][0]["video"] is not None
    short = tmp_path / "short.mp4"
    make_clip(short, 10)
    report([alone], tmp_path / "short.html", videos=[short])
    assert read_page(tmp_path / "short.html")["runs"][0]["note"] == (
        "The video ends before the results do, after 10 of 36 frames."
    )


def test_a_run_without_bodies_and_two_runs(folder: Path, tmp_path: Path) -> None:
    report([folder / "run.jsonl", folder / "flat.jsonl"], tmp_path / "page.html", ids=[1])
    one, other = read_page(tmp_path / "page.html")["runs"]
    assert [p["id"] for p in one["people"]] == [p["id"] for p in other["people"]] == [1]
    assert "body" in one["people"][0]
    assert "body" not in other["people"][0]
    assert other["mesh"] is None


def test_what_cannot_be(folder: Path, tmp_path: Path) -> None:
    run, page = folder / "run.jsonl", tmp_path / "page.html"
    page.write_text("mine")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"files": []}, "one results file, or two"),
        ({"files": [run] * 3}, "one results file, or two"),
        ({"files": [run], "videos": [run, run]}, "give one for each results file, 1 in all"),
        ({"files": [run]}, "exists"),
        ({"files": [run], "out": tmp_path / "page.pdf"}, r"should end in \.html"),
        ({"files": [run], "ids": [9], "overwrite": True}, "has no person 9"),
        ({"files": [folder / "clip.mp4"], "overwrite": True}, "holds no results of rtpose"),
        ({"files": [run], "videos": [tmp_path / "none.mp4"], "overwrite": True}, "no such file"),
    )
    for arguments, said in cases:
        with pytest.raises(InputError, match=said):
            report(**{"out": page, **arguments})
    assert page.read_text() == "mine"
    (tmp_path / "page.html.unfinished").symlink_to("/dev/full")
    with pytest.raises(RtposeError, match=r"cannot write .*page\.html: No space left on device"):
        report([run], page, overwrite=True)
    assert page.read_text() == "mine"
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(run.read_bytes()[:-50])
    with pytest.raises(EndedEarly, match="cut off"):
        report([cut], tmp_path / "cut.html", videos=[folder / "clip.mp4"])
    assert len(read_page(tmp_path / "cut.html")["runs"]) == 1


def test_the_command(folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rtpose", "report", str(folder / "run.jsonl"), "--out", str(tmp_path / "page.html")]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "page.html")


# --- in a browser ---


def browse(page: Path, times: list[float], shots: Path) -> dict[str, Any]:
    home = node_with("browser", PUPPETEER)
    script = shutil.copy(Path(__file__).with_name("report_page.js"), home)
    shots.mkdir(exist_ok=True)
    words = ["node", str(script), str(page), str(shots), *map(str, times)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shots_folder(tmp_path: Path, name: str) -> Path:
    """Where screenshots go: RTPOSE_SCREENSHOTS keeps them for somebody to look at."""
    kept = os.environ.get("RTPOSE_SCREENSHOTS")
    return Path(kept) / name if kept else tmp_path / "shots"


def different(a: list[list[int]], b: list[list[int]]) -> float:
    return float(np.abs(np.array(a, float) - np.array(b, float)).mean())


@pytest.mark.slow
def test_a_browser_shows_it(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report([folder / "run.jsonl"], page)
    run, body = read_run(folder / "run.jsonl"), load_body()
    rows = [0, 7, 20, 33]
    found = browse(page, (run.times[rows] - run.times[0]).tolist(), shots_folder(tmp_path, "one"))
    assert found["errors"] == []
    assert found["requests"] == []
    assert found["notes"] == []
    assert found["webgl"] == [True]
    assert len(found["charts"]) == 9
    assert [cells[:4] for cells in found["table"]] == [
        ["1", "0.00 s", f"{run.times[-1] - run.times[0]:.2f} s", "36"],
        ["2", f"{run.times[5] - run.times[0]:.2f} s", f"{run.times[29] - run.times[0]:.2f} s", "25"],
    ]
    assert len(found["tiles"]) == 12
    assert all(width > 0 for width, _ in found["tiles"])
    for row, seen in zip(rows, found["seen"], strict=True):
        assert seen["rows"] == [row]
        assert seen["pictures"] == [row], "the video shows this record's picture"
        for who, got in zip((1, 2), seen["vertices"][0], strict=True):
            person = run.people[who]
            at = np.flatnonzero(person.rows == row)
            assert len(got) == (0 if not len(at) else 3 * len(body.meshes["light"].vertices))
            for i in at:
                pose = person.rotations[i], person.betas[i], person.translation[i]
                assert np.abs(np.reshape(got, (-1, 3)) - body.vertices(*pose, "light") * UP).max() < 1e-4
    first, later = found["seen"][0], found["seen"][2]
    assert different(first["spaces"], later["spaces"]) > 0.5, "the bodies move"
    assert different(first["charts"], later["charts"]) > 0.1, "the cursors move"
    assert different(found["seen"][-1]["spaces"], found["turned"]) > 1, "they turn under the mouse"
    assert different(found["turned"], found["closer"]) > 1
    assert found["played"]
    assert found["stepped"] == pytest.approx(run.times[1] - run.times[0], abs=1e-3)
    assert found["jumped"] == pytest.approx(run.times[round(35 * 3 / 11)] - run.times[0], abs=1e-3)


@pytest.mark.slow
def test_a_browser_shows_two_runs_and_what_is_missing(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "other.jsonl"
    save_walk(alone, Walkers(160, 120), read_run(folder / "run.jsonl").times.tolist(), ids=lambda i: (2,), all_joints=True)
    page = tmp_path / "page.html"
    report([folder / "run.jsonl", alone], page)
    found = browse(page, [0.5], shots_folder(tmp_path, "two"))
    assert found["errors"] == []
    assert found["requests"] == []
    assert found["notes"] == ["No video: nowhere.mp4 is not there. Give it with --video."]
    assert found["webgl"] == [True, True]
    assert [cells[0] for cells in found["table"]] == ["1", "2", "2"]
    assert len(found["tiles"]) == 24
    assert found["played"]
    flat = tmp_path / "flat.html"
    report([folder / "flat.jsonl"], flat)
    found = browse(flat, [0.2], shots_folder(tmp_path, "flat"))
    assert found["errors"] == []
    assert found["notes"] == ["No bodies: this run had no lifter."]
