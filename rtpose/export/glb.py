"""GLB (binary glTF 2.0): the skinned mesh of a person and how its bones turn, at the true times. Metres, y up.

The body's betas are part of the mesh. What an SMPL body adds to its vertices for each pose becomes morph targets, so that the
animated mesh is the body's own, vertex by vertex. While the person is away, the node above the skeleton has the scale 0.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .. import __version__
from ..body.model import BodyModel, Mesh
from ..render import colour_of
from ..runs import Person, Run
from ..types import F32, F64
from .motion import Motion, run_gaps

_FLOAT, _BYTE, _INT = 5126, 5121, 5125
_ARRAY, _ELEMENTS = 34962, 34963
_KINDS = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


def write(file: BinaryIO, *, run: Run, person: Person, motion: Motion, body: BodyModel) -> None:
    """Write one person's mesh, skeleton and movement."""
    buffer = _Buffer()
    mesh = body.meshes["full"]
    scene = {
        "asset": {"version": "2.0", "generator": f"rtpose {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": _nodes(body, motion, f"person-{person.id}"),
        "meshes": [_mesh(buffer, mesh, motion.betas, f"person-{person.id}")],
        "materials": [_material(person.id)],
        "skins": [_skin(buffer, body, motion.betas)],
        "animations": [_animation(buffer, run, person, motion, mesh)],
    }
    scene |= {"accessors": buffer.accessors, "bufferViews": buffer.views, "buffers": [{"byteLength": len(buffer.data)}]}
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(buffer.data)))
    file.write(struct.pack("<I4s", len(text), b"JSON") + text)
    file.write(struct.pack("<I4s", len(buffer.data), b"BIN\0"))
    file.write(buffer.data)


@dataclass
class _Buffer:
    """The binary part, and what describes it."""

    data: bytearray = field(default_factory=bytearray)
    views: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, array: NDArray[Any], target: int | None = None, *, bounds: bool = False) -> int:
        """Append an array, one element a row, as floats unless it is of integers; return its accessor. bounds: say least and most."""
        kinds = {np.dtype(np.uint8): _BYTE, np.dtype(np.uint32): _INT}
        values = array if array.dtype in kinds else array.astype(np.float32)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes}
        if target is not None:
            view["target"] = target
        self.data += values.tobytes() + bytes(-values.nbytes % 4)
        self.views.append(view)
        accessor = {
            "bufferView": len(self.views) - 1,
            "componentType": kinds.get(values.dtype, _FLOAT),
            "count": len(values),
            "type": _KINDS[values.shape[1:]],
        }
        if bounds:
            accessor |= {"min": np.atleast_1d(values.min(0)).tolist(), "max": np.atleast_1d(values.max(0)).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


_FIRST_JOINT = 2
"""Nodes: the person, the mesh, then the joints."""


def _nodes(body: BodyModel, motion: Motion, name: str) -> list[dict[str, Any]]:
    offsets = body.offsets(motion.betas)
    offsets[0] = motion.pelvis[0]
    nodes: list[dict[str, Any]] = [{"name": name, "children": [_FIRST_JOINT]}, {"name": f"{name}-mesh", "mesh": 0, "skin": 0}]
    for joint, joint_name in enumerate(body.joint_names):
        node: dict[str, Any] = {"name": joint_name, "translation": offsets[joint].tolist()}
        if children := (np.flatnonzero(body.parents == joint) + _FIRST_JOINT).tolist():
            node["children"] = children
        nodes.append(node)
    return nodes


def _mesh(buffer: _Buffer, mesh: Mesh, betas: F64, name: str) -> dict[str, Any]:
    vertices = np.float64(mesh.vertices) + np.tensordot(betas, np.float64(mesh.shapes), 1)
    used = mesh.weights > 0
    primitive: dict[str, Any] = {
        "attributes": {
            "POSITION": buffer.add(vertices, _ARRAY, bounds=True),
            "NORMAL": buffer.add(_normals(vertices, mesh.faces), _ARRAY),
            "JOINTS_0": buffer.add(np.where(used, mesh.index, 0).astype(np.uint8), _ARRAY),
            "WEIGHTS_0": buffer.add(mesh.weights, _ARRAY),
        },
        "indices": buffer.add(mesh.faces.reshape(-1).astype(np.uint32), _ELEMENTS),
        "material": 0,
    }
    described: dict[str, Any] = {"name": name, "primitives": [primitive]}
    if mesh.pose_shapes is not None:
        primitive["targets"] = [{"POSITION": buffer.add(shape, _ARRAY, bounds=True)} for shape in mesh.pose_shapes]
        described["weights"] = [0.0] * len(mesh.pose_shapes)
    return described


def _normals(vertices: F64, faces: NDArray[np.int32]) -> F64:
    """Unit normals (v, 3): the mean of the faces about a vertex, by their areas."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], np.cross(b - a, c - a))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(np.where(length > 0, normals / np.maximum(length, 1e-30), [0.0, 0, 1]))


def _material(identity: int) -> dict[str, Any]:
    colour = [round((c / 255) ** 2.2, 4) for c in colour_of(identity)]  # glTF's factors are linear
    return {
        "name": "skin",
        "pbrMetallicRoughness": {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0, "roughnessFactor": 0.8},
    }


def _skin(buffer: _Buffer, body: BodyModel, betas: F64) -> dict[str, Any]:
    """The inverse bind matrices take the mesh from the pose it was modelled in to each joint's own frame in the T-pose."""
    inverse = np.tile(np.eye(4), (22, 1, 1))
    inverse[:, :3, :3] = body.bind
    inverse[:, :3, 3] = -np.einsum("jab,jb->ja", body.bind, body.joints_at_rest(betas))
    joints = list(range(_FIRST_JOINT, _FIRST_JOINT + 22))
    matrices = buffer.add(np.ascontiguousarray(inverse.transpose(0, 2, 1)))  # column by column
    return {"joints": joints, "skeleton": _FIRST_JOINT, "inverseBindMatrices": matrices}


def _animation(buffer: _Buffer, run: Run, person: Person, motion: Motion, mesh: Mesh) -> dict[str, Any]:
    origin = _origin(run)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def channel(node: int, path: str, times: int, values: NDArray[Any], how: str = "LINEAR") -> None:
        samplers.append({"input": times, "output": buffer.add(values), "interpolation": how})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    times = buffer.add(motion.times - origin, bounds=True)
    channel(_FIRST_JOINT, "translation", times, motion.pelvis)
    for joint in range(22):
        channel(_FIRST_JOINT + joint, "rotation", times, motion.turns[:, joint])
    if mesh.pose_shapes is not None:
        bent = Rotation.from_quat(motion.turns[:, 1:].reshape(-1, 4)).as_matrix() - np.eye(3)
        channel(1, "weights", times, bent.reshape(-1))
    if len(person.rows) < len(run.times) or len(run_gaps(run.times)):
        changed, scale = _presence(run, person)
        channel(0, "scale", buffer.add(changed - origin, bounds=True), scale, "STEP")
    return {"name": "movement", "samplers": samplers, "channels": channels, "extras": {"source_time_of_0": origin}}


def _origin(run: Run) -> float:
    """The source's time that glTF's 0 stands for: 0, unless its times begin before it or are too large for float32."""
    short = run.times.astype(np.float32)
    return 0.0 if run.times[0] >= 0 and (np.diff(short) > 0).all() and run.times[-1] < 1e5 else float(run.times[0])


def _presence(run: Run, person: Person) -> tuple[F64, F32]:
    """When the person comes and goes, and the scale from then on: 1 or 0."""
    there = np.zeros(len(run.times), np.float32)
    there[person.rows] = 1
    after = run_gaps(run.times)
    times = np.insert(run.times, after + 1, run.times[after] + 1 / run.rate)
    there = np.insert(there, after + 1, 0)
    changes = np.flatnonzero(np.diff(there, prepend=-1))
    return times[changes], np.repeat(there[changes, None], 3, 1)
