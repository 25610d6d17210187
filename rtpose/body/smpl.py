"""SMPL files (`--body-model FILE`) as the same typed body as the bundled one, read without running what they contain.

The files that people have are pickles, some written by Python 2 with chumpy and scipy objects inside, or .npz with such pickles
in them. A pickle is a program: `smpl_reader` gives it stand-ins that build nothing, and refuses whatever else it asks for by name.

The body keeps SMPL's own parameters (`betas`, `transl`, axis-angle rotations), so what is fitted can be given to any software
that speaks SMPL. Left out are the two hand joints, which turn with the wrists, and betas beyond the tenth.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archives import DAMAGED
from ..errors import InputError
from ..types import F64, KEYPOINT_NAMES
from .model import JOINT_NAMES, BodyModel, Mesh, load_body
from .smpl_reader import NotSmpl, read_smpl

VERTICES, JOINTS, FACES, BETAS = 6890, 24, 13776, 10
FAMILY = {16: "MANO", 52: "SMPL+H", 55: "SMPL-X", 5: "FLAME", 35: "SMAL"}
"""Number of joints -> the relative of SMPL that has so many."""

WANTED = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")
"""The arrays of an SMPL file that make the body."""

FOOT_NAMES = ("left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe", "left_heel", "right_heel")

KEYPOINT_JOINTS = {
    "left_shoulder": 16, "right_shoulder": 17, "left_elbow": 18, "right_elbow": 19, "left_wrist": 20, "right_wrist": 21,
    "left_hip": 1, "right_hip": 2, "left_knee": 4, "right_knee": 5, "left_ankle": 7, "right_ankle": 8,
}  # fmt: skip
"""COCO's limb keypoints are taken for SMPL's joints (`J_regressor`), though COCO's annotators put hips higher and further out."""

KEYPOINT_VERTICES = {
    "nose": 332, "left_eye": 2800, "right_eye": 6260, "left_ear": 583, "right_ear": 4071, "left_big_toe": 3216,
    "right_big_toe": 6617, "left_small_toe": 3226, "right_small_toe": 6624, "left_heel": 3387, "right_heel": 6787,
}  # fmt: skip
"""Vertices of SMPL's mesh under COCO's face keypoints and OpenPose's feet: the numbers that smplx's `vertex_ids.py` publishes."""


def open_body(path: Path) -> BodyModel:
    """Read a body from a file: one that `scripts/bake_body.py` wrote, or an SMPL .pkl or .npz. Raises InputError for any other."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            baked = "bind.npy" in archive.namelist()
    except (*DAMAGED, OSError):
        baked = False
    return load_body(path) if baked else load_smpl(path)


def load_smpl(path: Path) -> BodyModel:
    """Read an SMPL file (24 joints, 6890 vertices, 10 or more betas; .pkl or .npz), v1.0.0 and v1.1.0.

    The meshes `full` and `light` are the same. Raises InputError with one line that says what is wrong with the file.
    """
    path = Path(path)
    data = _read(path)
    if missing := [key for key in WANTED if key not in data]:
        raise InputError(f"{path} is not an SMPL file: it lacks {', '.join(missing)}")
    joints = _array(path, data, "kintree_table").shape[-1]
    if joints != JOINTS:
        kind = FAMILY.get(joints, "model")
        raise InputError(f"{path} is a {kind} file with {joints} joints: give an SMPL file ({JOINTS}), such as SMPL_NEUTRAL.pkl")

    template = _array(path, data, "v_template", VERTICES, 3)
    shapes = _array(path, data, "shapedirs", VERTICES, 3, None)[..., :BETAS].transpose(2, 0, 1)
    if len(shapes) < 1:
        raise InputError(f"{path}: shapedirs holds no shapes, SMPL has {BETAS} or more")
    pose_shapes = _array(path, data, "posedirs", VERTICES, 3, 9 * (JOINTS - 1))
    regressor = _array(path, data, "J_regressor", JOINTS, VERTICES)
    weights = _array(path, data, "weights", VERTICES, JOINTS)
    faces = _array(path, data, "f", None, 3).astype(np.int64)
    parents = _array(path, data, "kintree_table", 2, JOINTS)[0].astype(np.int64)
    parents[0] = -1  # stored as -1 or as 2**32 - 1
    if (parents[1:] < 0).any() or (parents[1:] >= np.arange(1, JOINTS)).any():
        raise InputError(f"{path}: kintree_table is no tree in which parents come before children")
    if len(faces) == 0 or faces.min() < 0 or faces.max() >= VERTICES:
        raise InputError(f"{path}: f names vertices that are not there")

    # With hands that do not turn, what hangs on a hand moves as the wrist does.
    kept = len(JOINT_NAMES)
    for hand in range(kept, JOINTS):
        weights[:, parents[hand]] += weights[:, hand]
    weights, parents = weights[:, :kept], parents[:kept]
    index, strongest = _strongest(path, weights)

    at = (regressor @ template)[:kept]
    at_shapes = np.einsum("jv,bvd->bjd", regressor, shapes, optimize=True)[:, :kept]
    names = KEYPOINT_NAMES + FOOT_NAMES
    keypoint_weights = np.zeros((len(names), kept))
    keypoints, keypoint_shapes = np.zeros((len(names), kept, 3)), np.zeros((len(shapes), len(names), kept, 3))
    for k, name in enumerate(names):
        if name in KEYPOINT_JOINTS:
            keypoint_weights[k, KEYPOINT_JOINTS[name]] = 1
            continue
        vertex = KEYPOINT_VERTICES[name]
        w = keypoint_weights[k] = weights[vertex]
        keypoints[k] = w[:, None] * (template[vertex] - at)
        keypoint_shapes[:, k] = w[:, None] * (shapes[:, vertex, None] - at_shapes)

    mesh = Mesh(
        vertices=np.float32(template),
        shapes=np.ascontiguousarray(shapes, np.float32),
        index=index,
        weights=strongest,
        faces=np.int32(faces),
        pose_shapes=np.ascontiguousarray(pose_shapes[..., : 9 * (kept - 1)].transpose(2, 0, 1), np.float32),
    )
    return BodyModel(
        joint_names=JOINT_NAMES,
        parents=parents,
        joints=at,
        joint_shapes=at_shapes,
        bind=np.tile(np.eye(3), (kept, 1, 1)),
        keypoint_names=names,
        keypoint_weights=keypoint_weights,
        keypoints=keypoints,
        keypoint_shapes=keypoint_shapes,
        meshes={"full": mesh, "light": mesh},
        name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _strongest(path: Path, weights: F64) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The four joints that move each vertex, and their weights, (v, 4) each."""
    index = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    strongest = np.take_along_axis(weights, index, 1)
    total = weights.sum(1)
    if not np.allclose(total, 1, atol=1e-3) or weights.min() < -1e-3:
        raise InputError(f"{path}: weights must be positive and sum to one for each vertex")
    if not np.allclose(strongest.sum(1), total, atol=1e-3):
        raise InputError(f"{path}: weights tie a vertex to more than four joints, which SMPL never does")
    return index.astype(np.uint8), np.float32(strongest)


def _array(path: Path, data: dict[str, NDArray[Any]], key: str, *shape: int | None) -> F64:
    """The array `key` in double precision, dense, of the given shape (None: any; none given: any rank)."""
    array = np.array(data[key], np.float64)
    if shape and (array.ndim != len(shape) or any(w not in (None, g) for w, g in zip(shape, array.shape, strict=True))):
        wanted = ", ".join("n" if s is None else str(s) for s in shape)
        raise InputError(f"{path}: {key} has shape {array.shape}, SMPL has ({wanted})")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {key} holds numbers that are not finite")
    return array


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        return read_smpl(path, WANTED)
    except OSError as error:
        raise InputError(f"cannot read the body model {path}: {error.strerror}") from None
    except NotSmpl as error:
        raise InputError(f"{path}{'' if str(error).startswith(':') else ' '}{error}") from None
