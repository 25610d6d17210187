"""Every command of docs/tutorial.md, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from rtpose.reference import truth

from .conftest import REPOSITORY
from .test_export_readers import BLENDER, OPENSIM

TUTORIAL = REPOSITORY / "docs" / "tutorial.md"


@pytest.mark.slow
def test_every_command_of_the_tutorial(tmp_path: Path) -> None:
    commands = re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert len(commands) == 7
    for package in (BLENDER, OPENSIM):
        assert f"install --quiet {package}" in "".join(commands)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    (tools / "rtpose").write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m rtpose "$@"\n')
    (tools / "rtpose").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    said = ""
    for command in commands:
        python = {"PYTHONPATH": str(REPOSITORY)} if command.startswith("python -c") else {}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=tmp_path,
            env={**environment, **python},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        said += done.stdout
    assert "('person-1-mesh', 'MESH')" in said
    assert said.count("'ARMATURE'") == 2, "the GLB's and the BVH's"
    assert "90 frames, 39 markers in m" in said
    for name in ("person-1.bvh", "person-1.glb", "person-1.trc", "people.csv", "person-1.blend", "measures.json"):
        assert (tmp_path / "walk" / name).stat().st_size > 1000, name
    for name in ("overlay.mp4", "walk.html", "both.html"):
        assert (tmp_path / name).stat().st_size > 50_000, name
    # What Blender renders through a camera like the real one covers the person in the clip.
    rendered = cv2.imread(str(tmp_path / "walk" / "blender.png"))
    assert rendered.shape == (360, 480, 3)
    kept = os.environ.get("RTPOSE_SCREENSHOTS")
    if kept:
        cv2.imwrite(str(Path(kept) / "blender.png"), rendered)
    colour = rendered.astype(int)
    rows, columns = (abs(colour - colour[0, 0]).sum(2) > 60).nonzero()
    want = truth().keypoints[30, 0] * 0.75
    assert columns.min() == pytest.approx(want[:, 0].min(), abs=40)
    assert columns.max() == pytest.approx(want[:, 0].max(), abs=40)
    assert rows.min() == pytest.approx(want[:, 1].min(), abs=40)
    assert rows.max() == pytest.approx(want[:, 1].max(), abs=40)
