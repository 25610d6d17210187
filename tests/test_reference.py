"""The defaults on the reference clip, whose truth is known exactly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

import rtpose
from rtpose.body.camera import Camera
from rtpose.body.model import load_body
from rtpose.doctor import BOUNDS
from rtpose.reference import CLIP, compare, truth
from rtpose.types import Result


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return list(rtpose.track(CLIP, focal=float(truth().camera[0])))


def test_the_truth_is_of_one_piece() -> None:
    known, body = truth(), load_body()
    camera = Camera(*known.camera.tolist(), origin="truth")
    assert camera.project(known.keypoints3d) == pytest.approx(known.keypoints, abs=0.01)
    posed = body.keypoints3d(known.rotations[40, 1], known.betas[40, 1], known.translation[40, 1])[:17]
    assert posed == pytest.approx(known.keypoints3d[40, 1], abs=1e-4)
    card = json.loads((CLIP.parent / "card.json").read_text())
    for name, checksum in card["sha256"].items():
        assert hashlib.sha256((CLIP.parent / name).read_bytes()).hexdigest() == checksum


def test_the_defaults_see_both_bodies_and_keep_them_apart(results: list[Result]) -> None:
    figures = compare(results)
    assert figures.frames == 90
    assert figures.found >= BOUNDS["found"]
    assert figures.extra <= BOUNDS["extra"]
    assert figures.keypoint_px <= BOUNDS["keypoint_px"]
    assert figures.joint_mm <= BOUNDS["joint_mm"]
    # One walks right through in front of the other, who is hidden for half a second.
    assert figures.misnamed <= BOUNDS["misnamed"]


def test_wrong_results_are_seen_to_be_wrong(results: list[Result]) -> None:
    def shifted(result: Result) -> Result:
        keypoints = result.people.keypoints + np.array([100, 0, 0], np.float32)
        return replace(result, people=replace(result.people, keypoints=keypoints))

    assert compare(map(shifted, results)).found < 0.5
    bodies = (replace(r, bodies=replace(r.bodies, joints3d=r.bodies.joints3d[:, ::-1])) for r in results if r.bodies)
    assert compare(bodies).joint_mm > BOUNDS["joint_mm"]
