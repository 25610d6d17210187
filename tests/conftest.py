"""Fixtures that many tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

# The same examples on every machine, however slow it is; `--hypothesis-profile search` looks for new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("search"), derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data and models beside the repository; only tests marked `shared` may ask for it."""
    folder = REPOSITORY.parent / "shared"
    assert folder.is_dir(), f"tests marked 'shared' need {folder}"
    return folder


@pytest.fixture(scope="session")
def person_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames, 640x480, of a camera that sways over a photograph of one person."""
    path = tmp_path_factory.mktemp("clip") / "person.mp4"
    maker = REPOSITORY / "scripts" / "make_demo_clip.py"
    subprocess.run([sys.executable, str(maker), str(path), "30"], check=True, cwd=REPOSITORY)
    return path


@pytest.fixture(scope="session")
def virtual_display() -> Iterator[str]:
    """The DISPLAY of an X server without a screen, for tests marked `slow` (needs the Debian package xvfb)."""
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield ":" + server.stdout.readline().strip()
        server.terminate()
