"""Files shaped like SMPL's, with random bodies in them: the real ones may not be passed on."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from scipy import sparse

from rtpose.body.model import JOINT_NAMES, load_body
from rtpose.body.smpl import KEYPOINT_VERTICES

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def smpl_arrays(seed: int = 0, betas: int = 10) -> dict[str, Any]:
    """A dictionary as SMPL's files hold it: every shape as there, weights that sum to one over four joints at most."""
    random = np.random.default_rng(seed)
    v, j = 6890, 24
    weights, regressor = np.zeros((v, j)), np.zeros((j, v))
    for vertex in range(v):
        joints = random.choice(j, 4, replace=False)
        weights[vertex, joints] = random.dirichlet(np.ones(4))
    for joint in range(j):
        regressor[joint, random.choice(v, 12, replace=False)] = random.dirichlet(np.ones(12))
    parents = np.array(PARENTS, np.int64) % 2**32
    return {
        "v_template": random.normal(0, 0.4, (v, 3)),
        "shapedirs": random.normal(0, 0.02, (v, 3, betas)),
        "posedirs": random.normal(0, 0.003, (v, 3, 207)),
        "J_regressor": sparse.csc_matrix(regressor),
        "kintree_table": np.array([parents, np.arange(j)], np.uint32),
        "weights": weights,
        "f": random.integers(0, v, (13776, 3)).astype(np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "J": regressor @ np.zeros((v, 3)),
    }


def human_arrays() -> dict[str, Any]:
    """The bundled body as an SMPL file: its light mesh in the T-pose, its ten shapes and joints, SMPL's numbers of vertices."""
    body, zero = load_body(), np.zeros(10)
    still = np.zeros((22, 3))
    skin = body.meshes["light"]
    # The vertices by which SMPL's face and feet are known lie where the bundled body has those keypoints; what is over lies at vertex 0.
    special = list(KEYPOINT_VERTICES.values())
    free = np.setdiff1d(np.arange(6890), special)
    place = free[: len(skin.vertices)]

    def layout(beta: Any) -> tuple[Any, Any]:
        vertices, points = body.vertices(still, beta, np.zeros(3), "light"), body.keypoints3d(still, beta, np.zeros(3))
        everything = np.tile(vertices[:1].astype(float), (6890, 1))
        everything[place] = vertices
        everything[special] = points[[body.keypoint_names.index(name) for name in KEYPOINT_VERTICES]]
        joints = body.pose(still, beta, np.zeros(3))[1]
        hands = joints[20:] + np.array([[0.08, 0, 0], [-0.08, 0, 0]])
        return everything, np.concatenate([joints, hands])

    template, joints = layout(zero)
    moved = [layout(np.eye(10)[b]) for b in range(10)]
    shapes = np.stack([v - template for v, _ in moved], -1)
    # A regressor, of least norm, that finds the joints for every shape.
    known = np.concatenate([template, np.ones((6890, 1)), shapes.reshape(6890, -1)], 1)
    wanted = np.concatenate([joints, np.ones((24, 1)), np.stack([j - joints for _, j in moved], -1).reshape(24, -1)], 1)
    regressor = np.linalg.lstsq(known.T, wanted.T, rcond=None)[0].T
    weights = np.zeros((6890, 24))
    weights[:, 0] = 1
    weights[place] = 0
    for k in range(4):
        np.add.at(weights, (place, skin.index[:, k].astype(int)), skin.weights[:, k])
    for name, vertex in KEYPOINT_VERTICES.items():
        weights[vertex] = 0
        side = name.split("_")[0]
        weights[vertex, 15 if name.split("_")[-1] in ("nose", "eye", "ear") else JOINT_NAMES.index(f"{side}_foot")] = 1
    return {
        "v_template": template,
        "shapedirs": shapes,
        "posedirs": np.zeros((6890, 3, 207)),
        "J_regressor": sparse.csc_matrix(regressor),
        "kintree_table": np.array([np.array(PARENTS, np.int64) % 2**32, np.arange(24)], np.uint32),
        "weights": weights,
        "f": place[skin.faces].astype(np.uint32),
    }


class _Python2(pickle._Pickler):
    """Writes strings and bytes as Python 2 did: both as its `str`, without an encoding."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, obj: str | bytes) -> None:
        data = obj.encode("latin1") if isinstance(obj, str) else obj
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string


def write_python2(path: Path, data: dict[str, Any]) -> None:
    """Pickle as Python 2 with numpy 1, scipy 0.x and chumpy did: the names of their modules, latin1 strings, chumpy arrays."""
    ch, reordering, csc = ModuleType("chumpy.ch"), ModuleType("chumpy.reordering"), ModuleType("scipy.sparse.csc")

    class Ch:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

        def __reduce_ex__(self, protocol: int) -> Any:
            import copyreg

            return copyreg._reconstructor, (type(self), object, None), self.__dict__

    class Select(Ch):
        pass

    class csc_matrix(Ch):
        pass

    for module, cls in ((ch, Ch), (reordering, Select), (csc, csc_matrix)):
        cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
        setattr(module, cls.__name__, cls)
    hidden = {"_dirty_vars": set(), "_itr": None, "_depends_on_deps": {}, "_make_dense": False, "_make_sparse": False}
    data = dict(data)
    shapes, regressor = data["shapedirs"], data["J_regressor"]
    for key in ("v_template", "posedirs", "weights"):
        data[key] = Ch(x=data[key], **hidden)
    whole = np.concatenate([shapes, shapes + 9], -1)
    picked = np.arange(whole.size).reshape(whole.shape)[..., : shapes.shape[-1]]
    whole = Ch(x=whole, **hidden)
    data["shapedirs"] = Select(a=whole, idxs=picked.ravel(), preferred_shape=shapes.shape, **hidden)
    parts = {name: getattr(regressor, name) for name in ("data", "indices", "indptr")}
    data["J_regressor"] = csc_matrix(_shape=regressor.shape, maxprint=50, format="csc", **parts)
    modules = {m.__name__: m for m in (ch, reordering, csc)} | {"chumpy": ModuleType("chumpy")}
    with mock.patch.dict("sys.modules", modules), open(path, "wb") as file:
        pickler = _Python2(file, protocol=2)
        pickler.dump(data)
