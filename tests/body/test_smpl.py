"""SMPL files: read without running them, the same body as smplx makes of them, and refused where they are something else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.transform import Rotation

from rtpose.backends import open_session
from rtpose.body.camera import camera_for
from rtpose.body.model import BUNDLED, BodyModel, Lifted
from rtpose.body.smpl import KEYPOINT_JOINTS, KEYPOINT_VERTICES, load_smpl, open_body
from rtpose.errors import InputError
from rtpose.models import find
from rtpose.sinks.viewer import ViewerSink
from rtpose.stages.lift import Lifter

from ..bodies import Walkers
from .smpl_files import human_arrays, smpl_arrays, write_python2

HERE = Path(__file__).parent
SMPL_PYTHON = os.environ.get("RTPOSE_SMPL_PYTHON", sys.executable)
"""An interpreter that has smplx, chumpy and torch, for the parity tests."""


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return smpl_arrays()


@pytest.fixture(scope="module")
def plain(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smpl") / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    return path


@pytest.fixture(scope="module")
def body(plain: Path) -> BodyModel:
    return load_smpl(plain)


def save_npz(path: Path, data: dict[str, Any]) -> None:
    np.savez(path, **{k: np.asarray(v, object) if sparse.issparse(v) else v for k, v in data.items()})


def same(a: BodyModel, b: BodyModel) -> bool:
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("parents", "joints", "joint_shapes", "keypoints", "keypoint_weights")]
    names = ("vertices", "shapes", "index", "weights", "faces", "pose_shapes")
    pairs += [(getattr(a.meshes["full"], n), getattr(b.meshes["full"], n)) for n in names]
    return all(np.array_equal(x, y) for x, y in pairs)


def reference(arrays: dict[str, Any], pose: Any, betas: Any, translation: Any) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and the 24 joints by the formulas of the SMPL paper (Loper et al. 2015), written down plainly."""
    turns = Rotation.from_rotvec(np.concatenate([pose, np.zeros((2, 3))])).as_matrix()
    shaped = arrays["v_template"] + arrays["shapedirs"][..., : len(betas)] @ betas
    joints = arrays["J_regressor"] @ shaped
    posed = shaped + arrays["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    parents = arrays["kintree_table"][0].astype(np.int64)
    world = np.zeros((24, 4, 4))
    for j in range(24):
        local = np.eye(4)
        local[:3, :3] = turns[j]
        local[:3, 3] = joints[j] - (joints[parents[j]] if j else 0)
        world[j] = world[parents[j]] @ local if j else local
    places = world[:, :3, 3].copy()
    world[:, :3, 3] -= np.einsum("jab,jb->ja", world[:, :3, :3], joints)
    blended = np.einsum("vj,jab->vab", arrays["weights"], world)
    vertices = np.einsum("vab,vb->va", blended[:, :3, :3], posed) + blended[:, :3, 3]
    return vertices + translation, places + translation


@pytest.mark.parametrize("seed", [1, 2])
def test_vertices_and_joints_follow_the_paper(arrays: dict[str, Any], body: BodyModel, seed: int) -> None:
    random = np.random.default_rng(seed)
    pose, betas, translation = random.normal(0, 0.4, (22, 3)), random.normal(size=10), random.normal(size=3)
    vertices, joints = reference(arrays, pose, betas, translation)
    assert np.abs(body.vertices(pose, betas, translation) - vertices).max() < 1e-5
    assert np.abs(body.pose(pose, betas, translation)[1] - joints[:22]).max() < 1e-9


def test_keypoints_are_joints_and_vertices(arrays: dict[str, Any], body: BodyModel) -> None:
    random = np.random.default_rng(3)
    pose, betas, translation = random.normal(0, 0.4, (22, 3)), random.normal(size=10), random.normal(size=3)
    vertices, joints = reference(arrays | {"posedirs": 0 * arrays["posedirs"]}, pose, betas, translation)
    keypoints = body.keypoints3d(pose, betas, translation)
    assert set(KEYPOINT_JOINTS) | set(KEYPOINT_VERTICES) == set(body.keypoint_names)
    for at, name in zip(keypoints, body.keypoint_names, strict=True):
        wanted = joints[KEYPOINT_JOINTS[name]] if name in KEYPOINT_JOINTS else vertices[KEYPOINT_VERTICES[name]]
        assert np.abs(at - wanted).max() < 1e-9, name


def test_every_spelling_gives_the_same_body(arrays: dict[str, Any], body: BodyModel, tmp_path: Path) -> None:
    """Protocols 2 to 5, Python 2 with chumpy and old scipy, .npz with a dense and with a pickled sparse regressor."""
    for protocol in (0, 2, 3, 5):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(arrays, protocol))
        assert same(open_body(tmp_path / "a.pkl"), body), protocol
    write_python2(tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", arrays)
    assert b"chumpy.reordering" in (tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl").read_bytes()
    assert same(open_body(tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"), body)
    save_npz(tmp_path / "sparse.npz", arrays)
    assert same(open_body(tmp_path / "sparse.npz"), body)
    save_npz(tmp_path / "dense.npz", arrays | {"J_regressor": arrays["J_regressor"].toarray()})
    assert same(open_body(tmp_path / "dense.npz"), body)


def test_version_1_1_has_more_betas_than_are_used(tmp_path: Path) -> None:
    (tmp_path / "SMPL_FEMALE.pkl").write_bytes(pickle.dumps(smpl_arrays(betas=300)))
    assert load_smpl(tmp_path / "SMPL_FEMALE.pkl").betas == 10


def test_the_bundled_format_is_recognised() -> None:
    assert len(open_body(BUNDLED).meshes["light"].vertices) == 1229


class Foreign:
    """A pickle of this runs `print(..., file=open(path, "w"))`-like code wherever it is loaded by `pickle`."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_foreign_code_is_named_refused_and_not_run(arrays: dict[str, Any], tmp_path: Path) -> None:
    trace, model = tmp_path / "trace", tmp_path / "SMPL_NEUTRAL.pkl"
    evil = {"v_template": Foreign(f"touch {trace}")} | arrays
    for name in ("SMPL_NEUTRAL.pkl", "SMPL_NEUTRAL.npz"):
        model = tmp_path / name
        if name.endswith(".pkl"):
            model.write_bytes(pickle.dumps(evil | {"extra": Foreign(f"touch {trace}")}))
        else:
            np.savez(model, extra=np.array(Foreign(f"touch {trace}"), object))
        with pytest.raises(InputError, match=r"wants to use (posix|nt)\.system, .*refused"):
            open_body(model)
        assert not trace.exists()
    pickle.loads((tmp_path / "SMPL_NEUTRAL.pkl").read_bytes())
    assert trace.exists(), "the same file does run under pickle, so the test could have seen it"


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(V1\ntR.",
        b"c__builtin__\ngetattr\n(c__builtin__\nobject\nV__subclasses__\ntR.",
        b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
        b"cnumpy.core.multiarray\nfromfile\n(V/etc/passwd\ntR.",
        b"cscipy.sparse.csc\nnp\n.",
        b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x15_reconstruct.__self__\x93.",
        b"c_codecs\nencode\n(V1\nVrot13\ntR.",
    ],
)
def test_streams_of_opcodes_that_reach_for_more(stream: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(stream)
    refused = r"m.pkl is (a pickle that wants to use .* refused|not an SMPL file: it holds an object of a foreign class)"
    with pytest.raises(InputError, match=refused):
        load_smpl(tmp_path / "m.pkl")


def test_damaged_files(plain: Path, arrays: dict[str, Any], tmp_path: Path) -> None:
    whole, path = plain.read_bytes(), tmp_path / "broken.pkl"
    for keep in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"broken.pkl is not an SMPL file"):
            load_smpl(path)
    save_npz(tmp_path / "whole.npz", arrays)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"broken.npz is not an SMPL file"):
        open_body(tmp_path / "broken.npz")
    path.write_text("a text")
    with pytest.raises(InputError, match="not an SMPL file"):
        open_body(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="holds a list"):
        open_body(path)
    with pytest.raises(InputError, match="cannot read the body model"):
        open_body(tmp_path / "nowhere.pkl")


def widen(joints: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda a: a | {"kintree_table": np.zeros((2, joints), np.uint32)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (widen(55), "is a SMPL-X file with 55 joints: give an SMPL file"),
        (widen(52), "SMPL\\+H file with 52 joints"),
        (widen(16), "MANO"),
        (lambda a: {k: v for k, v in a.items() if k not in ("posedirs", "f")}, "lacks posedirs, f"),
        (lambda a: a | {"v_template": a["v_template"][:5000]}, r"v_template has shape \(5000, 3\), SMPL has \(6890, 3\)"),
        (lambda a: a | {"posedirs": a["posedirs"][..., :100]}, "posedirs has shape"),
        (lambda a: a | {"v_template": "text"}, "v_template is not an array"),
        (lambda a: a | {"weights": 2 * a["weights"]}, "weights must be positive and sum to one"),
        (lambda a: a | {"weights": np.full((6890, 24), 1 / 24)}, "more than four joints"),
        (lambda a: a | {"f": a["f"] + 1000}, "f names vertices"),
        (lambda a: a | {"kintree_table": a["kintree_table"][:, ::-1]}, "kintree_table"),
        (lambda a: a | {"v_template": a["v_template"] * np.nan}, "not finite"),
        (lambda a: a | {"shapedirs": a["shapedirs"][..., :0]}, "no shapes"),
    ],
)
def test_files_of_another_kind(
    change: Callable[[dict[str, Any]], dict[str, Any]], said: str, arrays: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(change(arrays)))
    with pytest.raises(InputError, match=said):
        load_smpl(tmp_path / "m.pkl")


def test_a_sparse_matrix_whose_indices_lie_outside_is_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    regressor = arrays["J_regressor"].copy()
    regressor.indices[:3] = 10**6
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(arrays | {"J_regressor": regressor}))
    with pytest.raises(InputError, match="J_regressor is not an array"):
        load_smpl(tmp_path / "m.pkl")


@pytest.mark.slow
def test_parity_with_smplx(arrays: dict[str, Any], plain: Path, body: BodyModel, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    rotations = random.normal(0, 0.5, (6, 22, 3))
    rotations[0] = 0
    betas, translation = random.normal(0, 1.5, (6, 10)), random.normal(0, 2, (6, 3))
    np.savez(tmp_path / "poses.npz", rotations=rotations, betas=betas, translation=translation)
    command = [SMPL_PYTHON, HERE / "smplx_reference.py", plain, tmp_path / "poses.npz", tmp_path / "out.npz"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(tmp_path / "out.npz") as out:
        for i, arguments in enumerate(zip(rotations, betas, translation, strict=True)):
            assert np.abs(body.vertices(*arguments) - out["vertices"][i]).max() < 1e-5
            assert np.abs(body.pose(*arguments)[1] - out["joints"][i, :22]).max() < 1e-6
        assert np.array_equal(body.meshes["full"].faces, out["faces"])


@pytest.mark.slow
def test_what_the_real_chumpy_writes(arrays: dict[str, Any], body: BodyModel, tmp_path: Path) -> None:
    numbers = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray)} | {"J_regressor": arrays["J_regressor"].toarray()}
    np.savez(tmp_path / "arrays.npz", **numbers)
    subprocess.run([SMPL_PYTHON, HERE / "chumpy_writer.py", tmp_path / "arrays.npz", tmp_path / "ch.pkl"], check=True)
    assert b"chumpy.reordering" in (tmp_path / "ch.pkl").read_bytes()
    assert same(load_smpl(tmp_path / "ch.pkl"), body)


@pytest.mark.parametrize("shapes", [slice(None), slice(None, None, -1), slice(3)])
def test_the_lifter_fits_an_smpl_body_and_the_viewer_shows_it(shapes: slice, tmp_path: Path) -> None:
    """The same code as for the bundled body, on a file that holds a human being, whose betas mean something else."""
    path, arrays = tmp_path / "SMPL_NEUTRAL.npz", human_arrays()
    save_npz(path, arrays | {"shapedirs": arrays["shapedirs"][..., shapes]})
    body, walkers = open_body(path), Walkers()
    standing = body.vertices(np.zeros((22, 3)), np.zeros(body.betas), np.zeros(3))
    assert np.ptp(standing[:, 1]) == pytest.approx(1.7, abs=0.1)

    model = find("lifter", "lifter")
    lifted = Lifted(body, camera_for)
    lifter = Lifter(body, open_session(model.path, threads=1), camera_for)
    viewer = ViewerSink(lifted, window=False, size=(640, 480))
    for index in range(20):
        seen = walkers.result(index)
        result = lifter(replace(seen, bodies=None))
        viewer.write(result)
    bodies = result.bodies
    assert bodies is not None
    assert seen.bodies is not None
    assert np.isfinite(bodies.translation).all()
    projected = walkers.camera.project(bodies.joints3d[:, 5:17])
    assert np.linalg.norm(projected - seen.people.keypoints[:, 5:, :2], axis=-1).mean() < 12
    for row in range(2):
        vertices = lifted.vertices(bodies, row)
        assert vertices is not None
        assert np.abs(vertices.mean(0) - seen.bodies.joints3d[row].mean(0)).max() < 0.6
    pelvis = [body.pose(bodies.rotations[i], bodies.betas[i], bodies.translation[i])[1][0] for i in range(2)]
    at = bodies.joint_names.index("body_pelvis")
    assert np.abs(bodies.joints3d[:, at] - pelvis).max() < 1e-4, "the parameters rebuild the joints"
    assert viewer.picture.std() > 10
    viewer.close()
