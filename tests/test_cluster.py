"""A batch on a Ray cluster: real clusters on this machine, in an environment of their own, and workers that die."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rtpose.batch import batch
from rtpose.errors import InputError
from rtpose.journal import SUFFIX
from rtpose.settings import Settings

from .conftest import REPOSITORY
from .environments import python_with
from .test_cli import refused, rtpose_command

RAY = "ray==2.60.0"
TOKEN = secrets.token_hex(32)
"""By which a cluster and who uses it know each other."""
QUICK = ("--lifter", "none", "--threads", "1")


def environment() -> dict[str, str]:
    """Ray's own environment sees what this one has, rtpose with it."""
    places = [str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return {**os.environ, **token, "PYTHONPATH": os.pathsep.join(dict.fromkeys(places))}


def batch_on_ray(*arguments: object) -> subprocess.Popen[str]:
    command = [python_with("ray", RAY), "-m", "rtpose", "batch", *map(str, arguments), "--on", "ray"]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=environment())


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    _, said = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, "", said)


@pytest.fixture
def cluster() -> Iterator[tuple[str, psutil.Process]]:
    """The address of a cluster of two workers, and the process all of whose children it is."""
    ray = Path(python_with("ray", RAY)).with_name("ray")
    command = [
        str(ray),
        "start",
        "--head",
        "--num-cpus=2",
        "--port=0",
        "--include-dashboard=false",
        "--disable-usage-stats",
        "--block",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()) as head:
        assert head.stdout is not None
        try:
            yield (
                next(found[1] for line in head.stdout if (found := re.search("--address='(.+)'", line))),
                psutil.Process(head.pid),
            )
        finally:
            head.terminate()


def kill_one_at_work(cluster: psutil.Process, folder: Path, batch: subprocess.Popen[str]) -> None:
    """Wait until a worker is in the middle of a file, and kill it there."""
    while batch.poll() is None:
        for worker in cluster.children(recursive=True):
            journal = next((path for path in _open_files(worker) if path.parent == folder and path.suffix == SUFFIX), None)
            if journal is not None:
                worker.suspend()
                if journal.exists():  # a run that is finished removes it
                    worker.kill()
                    return
                worker.resume()
        time.sleep(0.01)
    raise AssertionError(f"the batch ended before a worker was seen at work: {finished(batch).stderr}")


def _open_files(process: psutil.Process) -> list[Path]:
    try:
        return [Path(file.path) for file in process.open_files()]
    except psutil.NoSuchProcess:
        return []


def beginnings(videos: Path, folder: Path) -> list[Path]:
    """The first frames of every clip, coded as they are."""
    folder.mkdir()
    for video in videos.iterdir():
        command = ["ffmpeg", "-v", "error", "-i", str(video), "-t", "0.4", "-map", "0:v", "-c", "copy", str(folder / video.name)]
        subprocess.run(command, check=True)
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.shared
def test_a_killed_worker_changes_nothing(shared: Path, cluster: tuple[str, psutil.Process], tmp_path: Path) -> None:
    clips = beginnings(shared / "data" / "videos", tmp_path / "clips")
    assert len(clips) == 13
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    address, head = cluster
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    running = batch_on_ray(broken, *clips, "--out-dir", there, *QUICK, "--overlay", "--address", address)
    kill_one_at_work(head, there, running)
    done = finished(running)
    refused(done, "broken.mp4 is not a video", code=1)  # said once: who fails is not tried again
    assert "13 of 14 files done" in done.stderr
    alone = rtpose_command("batch", *clips, "--out-dir", here, *QUICK, "--overlay")
    assert alone.returncode == 0, alone.stderr
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 26
    assert sorted(path.name for path in there.iterdir()) == names
    for name in names:
        assert (there / name).read_bytes() == (here / name).read_bytes(), name


@pytest.mark.slow
def test_a_cluster_of_our_own(person_clip: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    done = finished(batch_on_ray(person_clip, "--out-dir", there, "--arrays"))
    assert done.returncode == 0, done.stderr
    assert "1 of 1 files done" in done.stderr
    assert rtpose_command("batch", person_clip, "--out-dir", here, "--arrays").returncode == 0
    assert (there / "person.npz").read_bytes() == (here / "person.npz").read_bytes()


@pytest.mark.slow
def test_a_cluster_of_our_own_listens_on_this_machine_alone(person_clip: Path, tmp_path: Path) -> None:
    running = batch_on_ray(person_clip, "--out-dir", tmp_path / "out", *QUICK)
    heard: dict[tuple[str, int], str] = {}
    while running.poll() is None:
        for process in _family(running.pid):
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("inet"):
                    if connection.status == psutil.CONN_LISTEN:
                        heard[connection.laddr.ip, connection.laddr.port] = process.name()
        time.sleep(0.05)
    assert finished(running).returncode == 0
    assert heard  # Ray's servers were seen
    assert {ip.removeprefix("::ffff:") for ip, _ in heard} <= {"127.0.0.1", "::1"}, heard


def _family(pid: int) -> list[psutil.Process]:
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("token", [None, "e7" * 32], ids=["none", "wrong"])
@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_a_wrong_token_is_said_to_be_one(
    token: str | None,
    mode: str,
    cluster: tuple[str, psutil.Process],
    person_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = environment() | {"RAY_AUTH_MODE": mode, "HOME": str(tmp_path)}
    theirs.pop("RAY_AUTH_TOKEN")
    monkeypatch.setattr(f"{__name__}.environment", lambda: theirs if token is None else theirs | {"RAY_AUTH_TOKEN": token})
    done = finished(batch_on_ray(person_clip, "--out-dir", tmp_path / "x", "--address", cluster[0]))
    refused(done, "does not accept this token", cluster[0], "RAY_AUTH_TOKEN")


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_cluster_answers(address: str, person_clip: Path, tmp_path: Path) -> None:
    done = finished(batch_on_ray(person_clip, "--out-dir", tmp_path / "x", "--address", address))
    refused(done, "no Ray cluster", address, "--address HOST:PORT")


def test_without_ray(person_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=re.escape("pip install 'rtpose[cluster]'")):
        batch([person_clip], tmp_path, Settings(), ray=True)


def test_an_address_is_for_a_cluster(person_clip: Path, tmp_path: Path) -> None:
    refused(rtpose_command("batch", person_clip, "--out-dir", tmp_path / "x", "--address", "127.0.0.1:1"), "--on ray")
