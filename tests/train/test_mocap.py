"""The mocap readers: two recordings of one motion, read by two readers, are one motion; people stand on their feet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtpose.body.model import JOINT_NAMES, BodyModel, forward_kinematics, load_body
from rtpose.body.rotations import to_axis_angle
from rtpose.errors import InputError
from rtpose.train.mocap import ARCHIVES, DUPLICATES, HELD_OUT, MIRRORED, Clip, mirrored, read_mocap
from rtpose.types import F64

BVH, MAPS = "CMU_walkcycles/02_01", "train/walking/walking_1"
"""The same motion, as BVH with arms that hang at rest and as exponential maps with arms that are spread."""
OTHERS = ("autocond/salsa/24", "humanoid3d_walk", "CMU_walkcycles/16_16")

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def clips(shared: Path, body: BodyModel) -> dict[str, Clip]:
    return {clip.name: clip for clip in read_mocap(shared / "data" / "mocap", body, (BVH, MAPS, *OTHERS))}


def places(body: BodyModel, clip: Clip) -> F64:
    world, out = np.empty((22, 3, 3)), np.empty((len(clip), 22, 3))
    for i in range(len(clip)):
        forward_kinematics(body.parents, body.offsets(np.zeros(10)), clip.rotations[i], clip.root[i], world, out[i])
    return out


def test_two_readers_agree_about_one_motion(clips: dict[str, Clip]) -> None:
    a, b = clips[BVH], clips[MAPS]
    assert len(a) == len(b)
    apart = np.linalg.norm(to_axis_angle(np.swapaxes(a.rotations, -1, -2) @ b.rotations), axis=-1)
    assert np.degrees(apart).max(0)[[JOINT_NAMES.index(n) for n in ("left_hip", "right_knee", "left_shoulder", "head")]].max() < 1
    np.testing.assert_allclose(np.ptp(a.root, 0), np.ptp(b.root, 0), atol=0.02)


@pytest.mark.parametrize("name", [BVH, MAPS, *OTHERS])
def test_people_stand_upright_on_their_feet_and_bend_the_right_way(clips: dict[str, Clip], body: BodyModel, name: str) -> None:
    joints = places(body, clips[name])
    at = {joint: joints[:, i] for i, joint in enumerate(JOINT_NAMES)}
    assert (at["head"] - at["pelvis"])[:, 1].mean() > 0.5
    lowest = np.minimum(at["left_foot"][:, 1], at["right_foot"][:, 1])
    assert lowest.std() < 0.05, "some foot is always near the floor"
    angles = to_axis_angle(clips[name].rotations)
    assert angles[:, JOINT_NAMES.index("left_knee"), 0].mean() > 0.2
    assert angles[:, JOINT_NAMES.index("left_elbow"), 1].mean() < -0.2
    assert angles[:, JOINT_NAMES.index("right_elbow"), 1].mean() > 0.2


def test_walkers_walk_forwards(clips: dict[str, Clip], body: BodyModel) -> None:
    for name in (BVH, MAPS, "humanoid3d_walk", "CMU_walkcycles/16_16"):
        clip = clips[name]
        forward = clip.rotations[:, 0, :, 2]
        step = np.diff(clip.root, axis=0)
        assert (forward[1:] * step).sum(-1).mean() * 30 > 0.7, "metres a second along where they face"


def test_a_mirror_of_a_mirror(clips: dict[str, Clip]) -> None:
    rotations = clips[BVH].rotations
    np.testing.assert_allclose(mirrored(mirrored(rotations)), rotations, atol=1e-12)
    assert [JOINT_NAMES[MIRRORED[i]] for i in (0, 1, 20)] == ["pelvis", "right_hip", "right_wrist"]


def test_groups_are_subjects_or_classes(clips: dict[str, Clip]) -> None:
    assert {clips[BVH].group, clips["autocond/salsa/24"].group, clips[MAPS].group} == {"cmu02", "salsa", "walking"}
    assert clips[BVH].group in HELD_OUT


def test_a_folder_without_archives(tmp_path: Path, body: BodyModel) -> None:
    with pytest.raises(InputError, match=r"no cmu_bvh\.tar\.xz"):
        read_mocap(tmp_path, body)
    for name in ARCHIVES:
        (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"cmu_bvh\.tar\.xz is not the mocap archive"):
        read_mocap(tmp_path, body)


def test_duplicates_are_one_motion_and_none_is_left_in_training(shared: Path, body: BodyModel) -> None:
    pairs = {clip.name: clip for clip in read_mocap(shared / "data" / "mocap", body, {*DUPLICATES, *DUPLICATES.values()})}
    for copy, original in DUPLICATES.items():
        a, b = pairs[copy], pairs[original]
        assert (a.group in HELD_OUT) == (b.group in HELD_OUT)
        knee = JOINT_NAMES.index("left_knee")
        nearest = np.abs(a.rotations[:, None, knee] - b.rotations[None, :, knee]).max((-1, -2)).min(1)
        assert np.median(nearest) < 0.01
