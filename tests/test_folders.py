"""Where rtpose may not write: it starts all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtpose.folders import make_do

from .conftest import REPOSITORY


def test_neither_the_installation_nor_the_home_can_be_written(tmp_path: Path) -> None:
    """As for a container's bare user. Files in the place of folders stop even the superuser."""
    package, temporary = tmp_path / "rtpose", tmp_path / "temporary"
    package.mkdir()
    temporary.mkdir()
    for part in (REPOSITORY / "rtpose").iterdir():
        if part.name != "__pycache__":
            (package / part.name).symlink_to(part)
    (package / "__pycache__").touch()
    code = (
        "import numpy as np; from rtpose.tracking import overlap as f; print(f(np.array([0., 0, 2, 2]), np.array([0., 0, 2, 1])))"
    )
    hidden = {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "RTPOSE_CACHE"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HOME": "/dev/null", "PYTHONPATH": str(tmp_path), "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.stdout == "0.5\n", done.stderr
    assert (
        done.stderr == "code is compiled anew at every start: cannot write to /dev/null/.cache/rtpose/numba (Not a directory)\n"
    )
    assert not list(temporary.iterdir())


def test_a_user_whom_the_system_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setenv("HOME", "")
    make_do()
    assert os.environ["HOME"] == "/"
