"""Motion capture as rotations of our 22 joints: CMU's BVH files and exponential maps, and DeepMimic's clips.

Three skeletons, one way: a bone of ours turns as the bone of theirs does, after the smallest rotation that lays our bone at rest
along theirs at rest (arms and legs; the other joints stand alike in both). Fingers, wrists and toes stay straight: no keypoint
shows them. Everything is y up, z forward at rest, metres, 30 frames a second.
"""

from __future__ import annotations

import json
import lzma
import re
import tarfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from ..body.model import JOINT_NAMES, BodyModel
from ..errors import InputError
from ..types import F64

FPS = 30.0
ARCHIVES = ("cmu_bvh.tar.xz", "cmu_exp8.tar.xz", "deepmimic.tar.xz")
TUNING = {"cmu01", "cmu05", "cmu39", "soccer", "kick", "spinkick"}
"""Groups that train nothing, on which what is chosen by hand is chosen: the fit's weights, joint limits, the network's form."""
SCORED = {"cmu02", "cmu07", "cmu27", "cmu35", "cmu113", "cmu136", "walking", "basketball", "indian"}
"""Groups that neither train nor tune anything: CMU subjects, and whole classes of action where no subject is named."""
HELD_OUT = TUNING | SCORED
DUPLICATES = {"test/walking/walking_1": "CMU_walkcycles/35_01", "train/walking/walking_1": "CMU_walkcycles/02_01"}
DUPLICATES |= {"train/walking/walking_5": "CMU_walkcycles/07_02", "humanoid3d_zombie_walk": "long/humanoid3d_long_zombie"}
DUPLICATES |= {"humanoid3d_stealthy_walk": "long/humanoid3d_stealthy_walk1"}
"""Clips that lie in two archives, found by comparing every third of a second of every clip with every other clip. No duplicate of
a held-out clip is left in training; none is scored twice."""

MIRRORED = np.array(
    [JOINT_NAMES.index(n.replace("left", "other").replace("right", "left").replace("other", "right")) for n in JOINT_NAMES]
)
"""For each joint the one on the other side."""

_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
_LIMBS = ("hip", "knee", "ankle", "collar", "shoulder", "elbow", "wrist")
_BONE_END = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist"}
_BVH_SKELETONS = (  # their names for _TRUNK, for _LIMBS, and for left and right
    ("Hips lowerback Chest Chest2 lowerneck Head", "{}Hip {}Knee {}Ankle {}Collar {}Shoulder {}Elbow {}Wrist", "Left Right"),
    ("Hips LowerBack Spine Spine1 Neck Head", "{}UpLeg {}Leg {}Foot {}Shoulder {}Arm {}ForeArm {}Hand", "Left Right"),
    ("hip hip abdomen chest neck head", "{}Thigh {}Shin {}Foot {}Collar {}Shldr {}ForeArm {}Hand", "l r"),
    ("hip hip abdomen chest neck head", "{}hip {}knee {}foot {}collar {}shoulder {}elbow {}hand", "l r"),
)


@dataclass(frozen=True)
class Clip:
    """A motion: local rotations (n, 22, 3, 3), the pelvis' in a world with y up; root (n, 3) metres, where the pelvis goes."""

    name: str
    group: str
    rotations: F64
    root: F64

    def __len__(self) -> int:
        return len(self.root)


@dataclass(frozen=True)
class _Motion:
    """As it was captured: world rotations of joints by our names, bones at rest, times in s; leg: hip to ankle in its unit."""

    world: dict[str, F64]
    bones: dict[str, F64]
    root: F64
    times: F64
    leg: float


def mirrored(rotations: F64) -> F64:
    """The same pose (..., 22, 3, 3) in a mirror, left for right."""
    flip = np.diag([-1.0, 1, 1])
    return np.asarray((flip @ rotations @ flip)[..., MIRRORED, :, :])


def read_mocap(folder: Path, body: BodyModel, names: Collection[str] = ()) -> list[Clip]:
    """The clips of the three archives in `folder`, all or those named, for this body's rest pose.

    Raises InputError where an archive is missing or broken.
    """
    clips = []
    for archive in ARCHIVES:
        if not (folder / archive).is_file():
            raise InputError(f"no {archive} in {folder}: give the folder with the mocap archives {', '.join(ARCHIVES)}")
        try:
            clips += _read_archive(folder / archive, body, names)
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise InputError(f"{folder / archive} is not the mocap archive, or not whole: {error}") from None
    return clips


def _read_archive(path: Path, body: BodyModel, names: Collection[str]) -> list[Clip]:
    clips = []
    with tarfile.open(path) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            parts = Path(member.name).parts
            name = "/".join(parts[1:]).rsplit(".", 1)[0]
            stream = tar.extractfile(member) if not names or name in names else None
            if stream is not None and (motion := _parse(member.name, stream.read())):
                clips.append(_retarget(name, _group(parts), motion, body))
    return clips


def _group(parts: tuple[str, ...]) -> str:
    """The CMU subject where the name carries one, else the class of action."""
    stem = Path(parts[-1]).stem
    if subject := re.search(r"(?:^|_)(\d+)_\d+$", stem):
        return f"cmu{subject[1]}"
    if stem.startswith("humanoid3d_"):
        return stem.removeprefix("humanoid3d_").rstrip("0123456789")
    return parts[-2]


def _parse(name: str, content: bytes) -> _Motion | None:
    if name.endswith(".bvh") and b"sinusoidal" not in name.encode() and not name.endswith("standard.bvh"):
        return _read_bvh(content.decode(), fps=60.0 if "/salsa/" in name else None)
    if "cmu_exp8" in name and name.endswith(".txt"):
        return _read_exponential_maps(content.decode())
    if "humanoid3d_" in name and name.endswith(".txt"):
        return _read_deepmimic(content)
    return None


def _read_bvh(text: str, fps: float | None) -> _Motion:
    """fps: in place of the file's own (the salsa clips were recorded at 60 and say 120)."""
    head, _, body = text.partition("MOTION")
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    open_joints: list[int] = []
    for line in head.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] in ("ROOT", "JOINT", "End"):
            names.append(words[1])
            parents.append(open_joints[-1] if open_joints else -1)
            channels.append([])
        elif words[0] == "{":
            open_joints.append(len(names) - 1)
        elif words[0] == "}":
            open_joints.pop()
        elif words[0] == "OFFSET":
            offsets.append([float(w) for w in words[1:4]])
        elif words[0] == "CHANNELS":
            channels[-1] = words[2:]
    lines = body.split("\n", 3)
    frame_time = float(lines[2].split(":")[1])
    values = np.array(lines[3].split(), float).reshape(-1, sum(map(len, channels)))
    world: list[F64] = []
    root = np.zeros((len(values), 3))
    at = 0
    for joint, has in enumerate(channels):
        turn = Rotation.identity(len(values))
        for channel in has:
            if channel.endswith("position"):
                root[:, "XYZ".index(channel[0])] = values[:, at]
            else:
                turn = turn * Rotation.from_euler(channel[0].lower(), values[:, at, None], degrees=True)
            at += 1
        above = parents[joint]
        world.append(turn.as_matrix() if above < 0 else world[above] @ turn.as_matrix())

    index = next(i for i in (_find(skeleton, names) for skeleton in _BVH_SKELETONS) if i)
    return _Motion(
        world={ours: world[i] for ours, i in index.items() if not ours.endswith("wrist")},
        bones={
            f"{side}_{start}": np.array(offsets[index[f"{side}_{end}"]])
            for side in ("left", "right")
            for start, end in _BONE_END.items()
        },
        root=root,
        times=np.arange(len(values), dtype=np.float64) * (1 / fps if fps else frame_time),
        leg=float(sum(np.linalg.norm(offsets[index[n]]) for n in ("left_knee", "left_ankle"))),
    )


def _find(skeleton: tuple[str, str, str], names: list[str]) -> dict[str, int]:
    """Our joint names -> the file's joints; empty where it is another skeleton."""
    trunk, limbs, sides = skeleton
    theirs = dict(zip(_TRUNK, trunk.split(), strict=True))
    for ours, prefix in zip(("left", "right"), sides.split(), strict=True):
        theirs |= {f"{ours}_{limb}": n.format(prefix) for limb, n in zip(_LIMBS, limbs.split(), strict=True)}
    return {ours: names.index(name) for ours, name in theirs.items()} if set(theirs.values()) <= set(names) else {}


_EXP8_PARENTS = [-1, 0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 0, 13, 14, 15, 16, 17, 18, 15, 20, 21, 22, 23, 24, 25, 23, 27, 15, 29]
_EXP8_PARENTS += [30, 31, 32, 33, 34, 32, 36]
_EXP8_JOINTS = {"pelvis": 0, "spine1": 13, "spine2": 14, "spine3": 15, "neck": 16, "head": 18}
_EXP8_JOINTS |= {"left_hip": 2, "left_knee": 3, "left_ankle": 4, "right_hip": 8, "right_knee": 9, "right_ankle": 10}
_EXP8_JOINTS |= {"left_collar": 20, "left_shoulder": 21, "left_elbow": 22}
_EXP8_JOINTS |= {"right_collar": 29, "right_shoulder": 30, "right_elbow": 31}


def _read_exponential_maps(text: str) -> _Motion:
    """Martinez et al.'s layout: root place, then 38 exponential maps of transposed rotations, of CMU's skeleton.

    120 frames a second (only then do jumps fall at 9.8 m/s^2). The first line is a T-pose, no part of the motion.
    """
    values = np.array([line.split(",") for line in text.split()], float)[1:]
    local = Rotation.from_rotvec(-values[:, 3:].reshape(-1, 3)).as_matrix().reshape(len(values), 38, 3, 3)
    world: list[F64] = []
    for joint, above in enumerate(_EXP8_PARENTS):
        world.append(local[:, joint] if above < 0 else world[above] @ local[:, joint])
    bones = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        bones[f"{side}_hip"] = np.array([sign * 2.597, -7.136, 0])
        bones[f"{side}_knee"] = np.array([sign * 2.492, -6.848, 0])
        bones[f"{side}_shoulder"] = bones[f"{side}_elbow"] = np.array([sign, 0.0, 0])
    leg = sum(float(np.linalg.norm(bones[f"left_{b}"])) for b in ("hip", "knee"))
    return _Motion({name: world[i] for name, i in _EXP8_JOINTS.items()}, bones, values[:, :3], np.arange(len(values)) / 120, leg)


def _read_deepmimic(content: bytes) -> _Motion:
    """DeepMimic's humanoid: x forward, y up, z right; quaternions w first; knees and elbows are hinges about z."""
    frames = np.array(json.loads(content)["Frames"], float)
    parts = ["root", "chest", "neck", "right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow"]
    parts += ["left_hip", "left_knee", "left_ankle", "left_shoulder", "left_elbow"]
    to_ours = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    local, at = {}, 4
    for part in parts:
        if part.endswith(("knee", "elbow")):
            turn = Rotation.from_rotvec(frames[:, at, None] * [0.0, 0, 1])
            at += 1
        else:
            turn = Rotation.from_quat(frames[:, [at + 1, at + 2, at + 3, at]])
            at += 4
        local[part] = to_ours @ turn.as_matrix() @ to_ours.T
    bend, nod = (_share(local["chest"], 3), _share(local["neck"], 2))
    world = {"pelvis": local["root"]}
    for name, above, turned in (
        ("spine1", "pelvis", bend),
        ("spine2", "spine1", bend),
        ("spine3", "spine2", bend),
        ("neck", "spine3", nod),
        ("head", "neck", nod),
    ):
        world[name] = world[above] @ turned
    bones: dict[str, F64] = {}
    for side in ("left", "right"):
        world[f"{side}_collar"] = world["spine3"]
        for start, above in (("hip", "pelvis"), ("knee", f"{side}_hip"), ("ankle", f"{side}_knee")):
            world[f"{side}_{start}"] = world[above] @ local[f"{side}_{start}"]
        for start, above in (("shoulder", "spine3"), ("elbow", f"{side}_shoulder")):
            world[f"{side}_{start}"] = world[above] @ local[f"{side}_{start}"]
        bones |= {f"{side}_{bone}": np.array([0.0, -1, 0]) for bone in _BONE_END}
    times = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    return _Motion(world, bones, frames[:, 1:4] @ to_ours.T, times, leg=0.4215 + 0.4099)


def _share(rotations: F64, parts: int) -> F64:
    return np.asarray(Rotation.from_rotvec(Rotation.from_matrix(rotations).as_rotvec() / parts).as_matrix())


def _retarget(name: str, group: str, motion: _Motion, body: BodyModel) -> Clip:
    world = dict(motion.world)
    offsets = body.offsets(np.zeros(body.betas))
    for bone, theirs in motion.bones.items():
        side, _, start = bone.partition("_")
        ours = offsets[JOINT_NAMES.index(f"{side}_{_BONE_END[start]}")]
        world[bone] = world[bone] @ _smallest_turn(ours, theirs)
    local = np.tile(np.eye(3), (len(motion.times), 22, 1, 1))
    for joint, joint_name in enumerate(JOINT_NAMES):
        if joint_name in world:
            above = body.parents[joint]
            local[:, joint] = world[joint_name] if above < 0 else np.swapaxes(world[JOINT_NAMES[above]], 1, 2) @ world[joint_name]
    leg = sum(float(np.linalg.norm(offsets[JOINT_NAMES.index(n)])) for n in ("left_knee", "left_ankle"))
    times = np.arange(0, motion.times[-1] + 1e-9, 1 / FPS)
    rotations = np.stack([Slerp(motion.times, Rotation.from_matrix(local[:, j]))(times).as_matrix() for j in range(22)], 1)
    root = np.stack([np.interp(times, motion.times, motion.root[:, a]) for a in range(3)], 1) * (leg / motion.leg)
    return Clip(name, group, rotations, root)


def _smallest_turn(a: F64, b: F64) -> F64:
    """The smallest rotation (3, 3) that turns direction a into direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    sine = float(np.linalg.norm(axis))
    return np.asarray(Rotation.from_rotvec(axis / max(sine, 1e-12) * np.arctan2(sine, a @ b)).as_matrix())
