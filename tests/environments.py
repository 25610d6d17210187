"""Environments of their own for programs that read what rtpose writes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import venv
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

KEPT = "RTPOSE_TEST_ENVIRONMENTS"
"""Names a folder where environments stay from one run of the tests to the next."""


@lru_cache
def _home() -> Path:
    return Path(os.environ.get(KEPT) or tempfile.mkdtemp(prefix="rtpose-test-"))


def _alone(home: Path) -> FileLock:
    """Tests run side by side: one process makes an environment, the others wait for it."""
    home.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(home.with_name(f"{home.name}.lock"))


@lru_cache
def python_with(name: str, *packages: str, alone: tuple[str, ...] = ()) -> str:
    """The Python of a virtual environment called `name` with these packages; made where it is not there.

    alone: packages that are installed without what they depend on.
    """
    home = _home() / name
    interpreter, done = home / "bin" / "python", home / "made"
    with _alone(home):
        if not done.exists():
            venv.create(home, with_pip=True, clear=True)
            install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, *packages], check=True)
            if alone:
                subprocess.run([*install, "--no-deps", *alone], check=True)
            done.touch()
    return str(interpreter)


@lru_cache
def node_with(name: str, *packages: str) -> Path:
    """A folder in which Node finds these npm packages."""
    home = _home() / name
    with _alone(home):
        if not (home / "made").exists():
            home.mkdir(parents=True, exist_ok=True)
            words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix", str(home)]
            subprocess.run([*words, *packages], check=True)
            (home / "made").touch()
    return home
