"""SMPL files (`--body-model FILE`) as the same typed body as the bundled one, read without running what they contain.

The files that people have are pickles, some written by Python 2 with chumpy and scipy objects inside, or .npz with such pickles
in them. A pickle is a program: here it may only build plain arrays, and whatever else it asks for is refused by name.

The body keeps SMPL's own parameters (`betas`, `transl`, axis-angle rotations), so what is fitted can be given to any software
that speaks SMPL. Left out are the two hand joints, which turn with the wrists, and betas beyond the tenth.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archives import DAMAGED
from ..errors import InputError
from ..types import F64, KEYPOINT_NAMES
from .model import JOINT_NAMES, BodyModel, Mesh, load_body

VERTICES, JOINTS, FACES, BETAS = 6890, 24, 13776, 10
FAMILY = {16: "MANO", 52: "SMPL+H", 55: "SMPL-X", 5: "FLAME", 35: "SMAL"}
"""Number of joints -> the relative of SMPL that has so many."""

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
    wanted = ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f")
    if missing := [key for key in wanted if key not in data]:
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


def _array(path: Path, data: dict[str, Any], key: str, *shape: int | None) -> F64:
    """The array `key` in double precision, dense, of the given shape (None: any; none given: any rank)."""
    value = data[key]
    try:
        if isinstance(value, np.ndarray) and value.shape == ():
            value = value.item()  # an .npz wraps what is no array in an array without axes
        array = np.array(_value(value), np.float64)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: {key} is not an array of numbers ({error})") from None
    if shape and (array.ndim != len(shape) or any(w not in (None, g) for w, g in zip(shape, array.shape, strict=True))):
        wanted = ", ".join("n" if s is None else str(s) for s in shape)
        raise InputError(f"{path}: {key} has shape {array.shape}, SMPL has ({wanted})")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {key} holds numbers that are not finite")
    return array


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the body model {path}: {error.strerror}") from None
    try:
        if content[:2] != b"PK":
            data = _Plain(io.BytesIO(content)).load()
        else:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                data = {name.removesuffix(".npy"): _member(archive.read(name)) for name in archive.namelist()}
    except _Foreign as error:
        raise InputError(
            f"{path} is a pickle that wants to use {error}, which no SMPL file needs: it was refused, none of it was run"
        ) from None
    except MemoryError:
        raise InputError(f"{path} asks for more memory than there is: it is no SMPL file") from None
    except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
        raise InputError(f"{path} is not an SMPL file (.pkl or .npz), or is damaged ({error or type(error).__name__})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} is not an SMPL file: it holds a {type(data).__name__}, SMPL is a dictionary")
    return data


def _member(content: bytes) -> Any:
    """One array of an .npz; an array of objects is a pickle after the header."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read_header(file)
    if dtype.hasobject:
        return _Plain(file).load()
    return np.load(io.BytesIO(content), allow_pickle=False)


class _Foreign(Exception):
    """The pickle asks for a class or function that is not on the list."""


class _Stand(ABC):
    """Stands in for an object of a foreign class: keeps its state and does nothing."""

    def __init__(self, *args: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    @abstractmethod
    def value(self) -> Any:
        """The array that the object stood for."""


class _Ch(_Stand):
    """`chumpy.Ch`: an array that knew its derivatives."""

    def value(self) -> Any:
        return _value(self.state["x"])


class _Select(_Stand):
    """`chumpy.reordering.Select`: elements picked from another such array."""

    def value(self) -> Any:
        picked = np.ravel(_value(self.state["a"]))[self.state["idxs"]]
        return picked.reshape(self.state["preferred_shape"]) if "preferred_shape" in self.state else picked


class _Sparse(_Stand):
    """A compressed matrix of scipy; rebuilt by scipy's constructor, which checks its indices."""

    build: str

    def value(self) -> Any:
        from scipy import sparse  # a tenth of a second to import, for SMPL's own files alone

        s = self.state
        matrix = getattr(sparse, self.build)((s["data"], s["indices"], s["indptr"]), shape=s.get("_shape") or s["shape"])
        matrix.check_format(full_check=True)
        return matrix.toarray()


class _Csc(_Sparse):
    build = "csc_matrix"


class _Csr(_Sparse):
    build = "csr_matrix"


def _value(item: Any) -> Any:
    return item.value() if isinstance(item, _Stand) else item


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if encoding not in ("latin1", "latin-1"):
        raise _Foreign(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def _new(cls: type, base: type, state: Any) -> Any:
    """How Python 2 wrote objects: `copy_reg._reconstructor`."""
    if not issubclass(cls, _Stand):
        raise _Foreign(f"copy_reg._reconstructor of {cls.__name__}")
    return cls()


def _allowed() -> dict[tuple[str, str], Any]:
    """(module, name) as a pickle spells them -> what it gets."""
    multiarray = np.ndarray.__reduce__(np.zeros(0))[0]
    names: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "_reconstruct"] = multiarray
        names[f"{core}.multiarray", "scalar"] = np.float64(0).__reduce__()[0]
        names[f"{core}.numeric", "_frombuffer"] = np.zeros(1).__reduce_ex__(5)[0]
    for builtins in ("__builtin__", "builtins"):
        names[builtins, "set"] = set
        names[builtins, "object"] = object
    for registry in ("copy_reg", "copyreg"):
        names[registry, "_reconstructor"] = _new
    for module in ("chumpy.ch", "chumpy"):
        names[module, "Ch"] = _Ch
    names["chumpy.reordering", "Select"] = _Select
    for stand, form in ((_Csc, "csc"), (_Csr, "csr")):
        for module in (f"scipy.sparse.{form}", f"scipy.sparse._{form}"):
            for kind in ("matrix", "array"):
                names[module, f"{form}_{kind}"] = stand
    return names


class _Plain(pickle.Unpickler):
    """Builds arrays, strings, numbers and containers of them, and nothing else."""

    allowed = _allowed()

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, fix_imports=False, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise _Foreign(f"{module}.{name}") from None
