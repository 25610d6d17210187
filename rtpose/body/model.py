"""A posable body as plain arrays: joints, keypoints and vertices from rotations, shape and translation.

The conventions are SMPL's: metres; x to the body's left, y up, z forward; 22 joints; rotations count from a T-pose, each relative
to the parent's, the pelvis' relative to the outside (the camera frame, x right, y down, z forward, for people that were
seen); the body is posed about its pelvis, then `translation` is added. An upright body that faces the camera has the
pelvis rotation diag(1, -1, -1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archives import read_arrays
from ..errors import InputError
from ..types import F32, F64, I64, Bodies
from .camera import Camera
from .rotations import compiled, to_matrix

BUNDLED = Path(__file__).with_name("body.npz")
FORMAT = 1
"""Version of the array file; `scripts/bake_body.py` writes it."""

JOINT_NAMES: tuple[str, ...] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3",
    "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
"""The first 22 joints of SMPL, in its order."""

_ARRAYS = {"joint_names", "parents", "joints", "joint_shapes", "bind", "keypoint_names", "keypoint_weights", "keypoints"}
_ARRAYS |= {"keypoint_shapes"}
_ARRAYS |= {f"{mesh}_{part}" for mesh in ("full", "light") for part in ("vertices", "shapes", "index", "weights", "faces")}


@dataclass(frozen=True)
class Mesh:
    """A skin over the joints.

    vertices (v, 3) metres in the pose it was modelled in; shapes (b, v, 3) what each beta adds; index and weights (v, 4) the
    joints that move a vertex, and how much; faces (f, 3) counter-clockwise seen from outside. pose_shapes (189, v, 3), where the
    body has them (SMPL's): what each element of the 21 rotation matrices after the pelvis', less identity, adds to the vertices.
    """

    vertices: F32
    shapes: F32
    index: NDArray[np.uint8]
    weights: F32
    faces: NDArray[np.int32]
    pose_shapes: F32 | None = None


@dataclass(frozen=True)
class BodyModel:
    """The arrays of a body.

    joints (22, 3) and joint_shapes (b, 22, 3): joint centres in the pose the meshes were modelled in. bind (22, 3, 3) turns each
    bone from that pose into the T-pose. Keypoint k lies at the sum over joints of `G_j (keypoints[k, j] + betas .
    keypoint_shapes[:, k, j]) + keypoint_weights[k, j] O_j`, with G and O the joints' world rotations and places. name and sha256
    are of the file that it was read from.
    """

    joint_names: tuple[str, ...]
    parents: I64
    joints: F64
    joint_shapes: F64
    bind: F64
    keypoint_names: tuple[str, ...]
    keypoint_weights: F64
    keypoints: F64
    keypoint_shapes: F64
    meshes: dict[str, Mesh]
    name: str
    sha256: str

    @property
    def betas(self) -> int:
        """How many shape numbers the body has."""
        return len(self.joint_shapes)

    def joints_at_rest(self, betas: Any) -> F64:
        """Joint centres (22, 3) in the pose the meshes were modelled in."""
        return np.asarray(self.joints + np.tensordot(np.asarray(betas, np.float64), self.joint_shapes, 1))

    def offsets(self, betas: Any) -> F64:
        """Where each joint stands seen from its parent, in the T-pose: (22, 3) metres; the pelvis: from the model's origin."""
        return _offsets(self.parents, self.joints_at_rest(betas), self.bind)

    def offset_shapes(self) -> F64:
        """What each beta adds to `offsets`: (b, 22, 3)."""
        return np.stack([_offsets(self.parents, shape, self.bind) for shape in self.joint_shapes])

    def pose(self, rotations: Any, betas: Any, translation: Any) -> tuple[F64, F64]:
        """World rotations (22, 3, 3) and places (22, 3) of the joints; rotations are axis-angle (22, 3)."""
        world, places = np.empty((22, 3, 3)), np.empty((22, 3))
        forward_kinematics(self.parents, self.offsets(betas), to_matrix(rotations), np.float64(translation), world, places)
        return world, places

    def local_rotations(self, world: F64) -> F64:
        """World rotations (..., 22, 3, 3) -> those relative to the parents', the pelvis' as it is."""
        local: F64 = world.copy()
        local[..., 1:, :, :] = np.swapaxes(world[..., self.parents[1:], :, :], -1, -2) @ world[..., 1:, :, :]
        return local

    def keypoints3d(self, rotations: Any, betas: Any, translation: Any) -> F64:
        """The keypoints (k, 3) named by `keypoint_names`; arguments as in `pose`."""
        world, places = self.pose(rotations, betas, translation)
        local = self.keypoints + np.tensordot(np.asarray(betas, np.float64), self.keypoint_shapes, 1)
        return np.asarray(np.einsum("jab,kjb->ka", world, local) + self.keypoint_weights @ places)

    def vertices(self, rotations: Any, betas: Any, translation: Any, mesh: str = "full") -> F32:
        """The vertices (v, 3) of the mesh `full` or `light`; arguments as in `pose`."""
        skin = self.meshes[mesh]
        world, places = self.pose(rotations, betas, translation)
        joints = self.joints_at_rest(betas)
        turned = world @ self.bind
        moves = np.concatenate([turned, places[..., None] - turned @ joints[..., None]], -1).astype(np.float32)
        shapes = skin.shapes.reshape(self.betas, -1)
        rest = skin.vertices.reshape(-1)
        if skin.pose_shapes is not None:
            bent = np.float32(to_matrix(np.asarray(rotations)[1:]) - np.eye(3)).reshape(-1)
            rest = rest + bent @ skin.pose_shapes.reshape(len(bent), -1)
        out = np.empty_like(rest)
        _skin(rest, shapes, np.float32(betas), skin.index, skin.weights, moves.reshape(-1, 12), out)
        return out.reshape(-1, 3)


@dataclass(frozen=True)
class Lifted:
    """What bodies are fitted with; who wants to show them needs it. camera: from the pictures' width and height."""

    body: BodyModel
    camera: Callable[[int, int], Camera]

    def vertices(self, bodies: Bodies, row: int, mesh: str = "light") -> F32 | None:
        """The vertices (v, 3) of the mesh `light` or `full` of one body, metres in the camera frame; None where there is no body."""
        pose = bodies.rotations[row], bodies.betas[row], bodies.translation[row]
        return self.body.vertices(*pose, mesh) if all(np.isfinite(part).all() for part in pose) else None


def load_body(path: Path = BUNDLED) -> BodyModel:
    """Read a baked body. Raises InputError for a file that is none, or of another version."""
    try:
        data = read_arrays(path)
    except OSError as error:
        raise InputError(f"cannot read the body file {path}: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"{path} is not a body file: expected the .npz that scripts/bake_body.py writes") from None
    version = int(data.get("version", np.int64(0)))
    if version != FORMAT:
        raise InputError(f"{path} is a body file of version {version}, this rtpose reads version {FORMAT}: bake it anew")
    if missing := sorted(_ARRAYS - set(data)):
        raise InputError(f"{path} is not a whole body file: it lacks {', '.join(missing)}")
    meshes = {
        name: Mesh(
            vertices=np.float32(data[f"{name}_vertices"]),
            shapes=np.float32(data[f"{name}_shapes"]),
            index=data[f"{name}_index"],
            weights=_normalised(data[f"{name}_weights"]),
            faces=np.int32(data[f"{name}_faces"]),
        )
        for name in ("full", "light")
    }
    return BodyModel(
        joint_names=tuple(map(str, data["joint_names"])),
        parents=np.int64(data["parents"]),
        joints=np.float64(data["joints"]),
        joint_shapes=np.float64(data["joint_shapes"]),
        bind=np.float64(data["bind"]),
        keypoint_names=tuple(map(str, data["keypoint_names"])),
        keypoint_weights=np.float64(data["keypoint_weights"]),
        keypoints=np.float64(data["keypoints"]),
        keypoint_shapes=np.float64(data["keypoint_shapes"]),
        meshes=meshes,
        name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _normalised(weights: NDArray[np.float16]) -> F32:
    """Half floats sum to one within a thousandth only, which is millimetres at four metres' distance."""
    whole = weights.astype(np.float32)
    return np.asarray(whole / whole.sum(1, keepdims=True))


def _offsets(parents: I64, joints: F64, bind: F64) -> F64:
    offsets: F64 = joints.copy()
    for joint in range(1, len(parents)):
        offsets[joint] = bind[parents[joint]] @ (joints[joint] - joints[parents[joint]])
    return offsets


@compiled
def forward_kinematics(parents: I64, offsets: F64, local: F64, translation: F64, world: F64, places: F64) -> None:
    """Write world rotations (j, 3, 3) and places (j, 3) from local rotations (j, 3, 3); parents come before children."""
    for j in range(len(parents)):
        p = parents[j]
        if p < 0:
            for a in range(3):
                places[j, a] = offsets[j, a] + translation[a]
                for b in range(3):
                    world[j, a, b] = local[j, a, b]
            continue
        for a in range(3):
            x, y, z = world[p, a, 0], world[p, a, 1], world[p, a, 2]
            places[j, a] = places[p, a] + x * offsets[j, 0] + y * offsets[j, 1] + z * offsets[j, 2]
            for b in range(3):
                world[j, a, b] = x * local[j, 0, b] + y * local[j, 1, b] + z * local[j, 2, b]


@compiled
def _skin(rest: F32, shapes: F32, betas: F32, index: NDArray[np.uint8], weights: F32, moves: F32, out: F32) -> None:
    """Linear blend skinning: rest and out (v * 3), shapes (b, v * 3); moves (j, 12) are the joints' 3x4 matrices, row by row."""
    for i in range(len(rest)):
        blended = rest[i]
        for b in range(len(betas)):
            blended += betas[b] * shapes[b, i]
        out[i] = blended
    for v in range(len(index)):
        x, y, z = out[3 * v], out[3 * v + 1], out[3 * v + 2]
        moved_x = moved_y = moved_z = np.float32(0)
        for k in range(4):
            w = weights[v, k]
            if w > 0:
                m = moves[index[v, k]]
                moved_x += w * (m[0] * x + m[1] * y + m[2] * z + m[3])
                moved_y += w * (m[4] * x + m[5] * y + m[6] * z + m[7])
                moved_z += w * (m[8] * x + m[9] * y + m[10] * z + m[11])
        out[3 * v], out[3 * v + 1], out[3 * v + 2] = moved_x, moved_y, moved_z
