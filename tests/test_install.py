"""What the base install needs is to be had for other machines than this one."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import requires

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.10", "3.12"])
def test_the_base_install_resolves_for_a_jetson(python: str) -> None:
    """JetPack 6 and 7: aarch64 with Python 3.10 and 3.12."""
    base = [need for need in requires("rtpose") or [] if "extra ==" not in need]
    assert any(need.startswith("openvino") for need in base)
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 26, 27, 28, 31, 34, 35)] + [
        "--platform=manylinux2014_aarch64"
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--only-binary=:all:",
        "--target=unused",
    ]
    done = subprocess.run([*command, f"--python-version={python}", *platforms, *base], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
