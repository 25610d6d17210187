"""Checkpoints of HMR: the network that they become says what PyTorch says; whatever else they are is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from rtpose import engines
from rtpose.backends import open_session
from rtpose.body.rotations import from_six, to_six
from rtpose.errors import InputError
from rtpose.models import exported_folder, hmr, models
from rtpose.models.hmr import convert, expected, interleaved, network_of, regressor

from .body.smpl_files import PARENTS, human_arrays

needs_torch = pytest.mark.slow  # PyTorch comes with the extra `train`


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RTPOSE_DATA", str(tmp_path / "data"))


def turns(n: int, seed: int = 0) -> Any:
    from scipy.spatial.transform import Rotation

    return Rotation.random(n, random_state=seed).as_matrix()


def weights(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    made = {key: random.normal(0, 1 / max(np.prod(shape[1:]), 1) ** 0.5, shape) for key, shape in expected()}
    made |= {key: random.uniform(0.5, 1.5, value.shape) for key, value in made.items() if key.endswith("running_var")}
    made["init_pose"] = turns(24)[:, :, :2].reshape(1, 144)
    return {key: np.float32(value) for key, value in made.items()}


def test_both_ways_to_lay_out_six_numbers_are_told_apart() -> None:
    mean = turns(24)
    spin, in_a_row = mean[:, :, :2].reshape(24, 6), to_six(mean)
    assert interleaved(spin)
    assert not interleaved(in_a_row)
    assert interleaved(np.random.default_rng(0).normal(size=(24, 6)))  # says nothing: SPIN's, whose architecture it is
    assert interleaved(np.tile([1.0, 0, 0, 1, 0, 0], (24, 1)))
    assert not interleaved(np.tile([1.0, 0, 0, 0, 1, 0], (24, 1)))


def test_three_rounds_of_corrections_are_one_map() -> None:
    made = weights()
    features = np.random.default_rng(1).normal(size=2048)
    state = np.concatenate([made[key][0] for key in ("init_pose", "init_shape", "init_cam")]).astype(float)
    for _ in range(3):
        hidden = made["fc1.weight"] @ np.concatenate([features, state]) + made["fc1.bias"]
        hidden = made["fc2.weight"] @ hidden + made["fc2.bias"]
        state = state + np.concatenate(
            [made[f"{k}.weight"] @ hidden + made[f"{k}.bias"] for k in ("decpose", "decshape", "deccam")]
        )
    matrix, offset = regressor(made)
    np.testing.assert_allclose(matrix @ features + offset, state, atol=1e-5)


def test_the_network_on_both_processors_backends(tmp_path: Path) -> None:
    model = convert(weights())
    onnx.checker.check_model(model, full_check=True)
    assert not {"NonMaxSuppression", "NonZero", "Shape", "If", "Loop"} & {node.op_type for node in model.graph.node}
    onnx.save(model, tmp_path / "hmr.onnx")
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    one, two = (
        open_session(tmp_path / "hmr.onnx", backend=name, precision="f32")({"image": crops})
        for name in ("openvino", "onnxruntime")
    )
    assert {name: array.shape for name, array in one.items()} == {"six": (2, 24, 6), "betas": (2, 10), "camera": (2, 3)}
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-4)


def test_the_graph_for_engines_in_f16() -> None:
    """The ResNet in f16, pixels before it and the regressor after it in f32."""
    recipe = engines.recipes()["hmr"]
    graph = onnx.load_from_string(engines.halved(convert(weights()).SerializeToString(), *recipe.half)).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    kernels = {
        op: {kinds[name] for node in graph.node if node.op_type == op for name in node.input[1:]} for op in ("Conv", "Gemm")
    }
    assert kernels == {"Conv": {onnx.TensorProto.FLOAT16}, "Gemm": {onnx.TensorProto.FLOAT}}


def joints(rotations: Any, betas: Any) -> Any:
    """SMPL's 24 joints, metres about its origin, by the formulas of its paper."""
    arrays = human_arrays()
    rest = arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ betas)
    turned, places = np.array(rotations, np.float64), rest.copy()
    for j in range(1, 24):
        above = PARENTS[j]
        places[j] = places[above] + turned[above] @ (rest[j] - rest[above])
        turned[j] = turned[above] @ turned[j]
    return places


@needs_torch
@pytest.mark.parametrize("spin", [True, False], ids=["SPIN's layout", "HMR2's layout"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_joints_are_those_of_pytorch(backend: str, spin: bool, tmp_path: Path) -> None:
    import torch

    from .hmr_reference import random_hmr, save

    reference = random_hmr(5, spin=spin)
    model = network_of(save(reference, tmp_path / "checkpoint.pt"))
    crops = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8)
    crops[1:] = crops[1:] // np.array([2, 4, 8]).reshape(3, 1, 1, 1)  # pictures that differ from each other
    got = open_session(model.path, backend=backend, precision="f32")({"image": crops})
    with torch.no_grad():
        rotations, betas, camera = (part.double().numpy() for part in reference(crops))
    assert np.ptp(rotations, axis=0).max() > 0.01
    for row in range(4):
        ours = joints(from_six(got["six"][row]), got["betas"][row])
        assert np.abs(ours - joints(rotations[row], betas[row])).max() < 1e-4
    np.testing.assert_allclose(got["betas"], betas, atol=1e-4)
    np.testing.assert_allclose(got["camera"], camera, atol=1e-4)


@needs_torch
def test_a_checkpoint_is_exported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .hmr_reference import random_hmr, save

    path = save(random_hmr(), tmp_path / "checkpoint.pt")
    model = network_of(path)
    assert model.path.parent == exported_folder()
    assert models()[model.name] == model
    with monkeypatch.context() as patched:
        patched.setattr(hmr, "convert", None)
        patched.setitem(sys.modules, "torch", None)
        assert network_of(path) == model
    model.path.write_bytes(model.path.read_bytes()[:1000])
    assert network_of(path) == model
    assert model.path.stat().st_size == model.size
    other = network_of(save(random_hmr(1), tmp_path / "other.pt"))
    assert other.name != model.name
    assert not list(exported_folder().glob("*.partial"))


@needs_torch
@pytest.mark.parametrize("under", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_other_makes(under: str | None, prefix: str, tmp_path: Path) -> None:
    import torch

    state = {f"{prefix}{key}": torch.from_numpy(value) for key, value in weights().items()}
    torch.save(state if under is None else {under: state}, tmp_path / "c.pt")
    assert set(hmr.read_checkpoint(tmp_path / "c.pt")) == {key for key, _ in expected()}


def _drop(state: dict[str, Any]) -> None:
    for key in [key for key in state if key.startswith(("fc1", "layer4.2"))]:
        del state[key]


def _rename(state: dict[str, Any]) -> None:
    for key in list(state):
        state[f"backbone.blocks.{key}"] = state.pop(key)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (_drop, r"it lacks layer4\.2\.conv1\.weight, .* and \d+ more"),
    "extra": (lambda s: s.update({"fc3.weight": np.zeros(3)}), r"it has no use for fc3\.weight$"),
    "both": (lambda s: (_drop(s), s.update(a=np.zeros(1))), r"it lacks .*; it has no use for a$"),
    "misshapen": (
        lambda s: s.update({"decpose.weight": np.zeros((138, 1024))}),
        r"decpose\.weight has shape \(138, 1024\), HMR has \(144, 1024\)",
    ),
    "no array": (lambda s: s.update({"fc2.bias": 3.0}), r"fc2\.bias has shape \(\), HMR has \(1024,\)"),
    "not finite": (lambda s: s["fc2.bias"].fill(np.nan), r"fc2\.bias holds numbers that are not finite"),
    "transformer": (_rename, "is a checkpoint of a vision transformer: rtpose runs HMR with a ResNet-50"),
    "HMR2": (lambda s: s.update({"smpl_head.transformer.x": np.zeros(1)}), r"of HMR2 \(4DHumans\), a vision transformer"),
}


@needs_torch
@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_named(change: str, tmp_path: Path) -> None:
    import torch

    state = weights()
    alter, said = CHANGES[change]
    alter(state)
    tensors = {key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for key, value in state.items()}
    torch.save({"model": tensors}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=said) as caught:
        network_of(tmp_path / "c.pt")
    assert "\n" not in str(caught.value)
    assert not exported_folder().exists()


class Foreign:
    """Writes a file when it is unpickled."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trap),)


@needs_torch
@pytest.mark.parametrize("kind", ["torch", "old torch", "pickle 2", "pickle 4"])
def test_foreign_code_is_refused_and_not_run(kind: str, tmp_path: Path) -> None:
    import torch

    trap, path = tmp_path / "it ran", tmp_path / "c.pt"
    data = {"model": {}, "extra": Foreign(trap)}
    said = r"a pickle that wants to use \w+\.mkdir, .*refused, none of it was run"
    if kind.startswith("pickle"):
        path.write_bytes(pickle.dumps(data, protocol=int(kind[-1])))
    else:
        torch.save(data, path, _use_new_zipfile_serialization=kind == "torch")
    if kind == "pickle 4":  # which PyTorch never writes, and does not begin to read
        said = r"is no checkpoint of PyTorch, or is damaged: none of it was run"
    with pytest.raises(InputError, match=said) as caught:
        network_of(path)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


@needs_torch
def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "c.pt"
    with pytest.raises(InputError, match=r"cannot read the checkpoint .*No such file"):
        network_of(path)
    for content in (b"", b"garbage" * 300, pickle.dumps([1, 2]), b"PK\x03\x04 and no more"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"is no checkpoint"):
            network_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "there")
    with pytest.raises(InputError, match=r"is no checkpoint"):
        network_of(path)
    torch.save({"model": {key: torch.from_numpy(value) for key, value in weights().items()}}, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"is no checkpoint of PyTorch, or is damaged"):
        network_of(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(InputError, match=r"it holds a Tensor, not a network's arrays"):
        network_of(path)


def test_without_pytorch_what_to_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "c.pt").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"needs PyTorch, once: pip install 'rtpose\[train\]'"):
        network_of(tmp_path / "c.pt")


@needs_torch
@pytest.mark.parametrize("mode", ["--offline", "--live"])
@pytest.mark.parametrize("every", ["1", "4"])
def test_a_clip_end_to_end(mode: str, every: str, person_clip: Path, tmp_path: Path) -> None:
    from .hmr_reference import random_hmr, save

    checkpoint, body = save(random_hmr(3), tmp_path / "hmr.pt"), tmp_path / "smpl.pkl"
    body.write_bytes(pickle.dumps(human_arrays(), protocol=4))
    command = [sys.executable, "-m", "rtpose", str(person_clip), "--lifter", "hmr", "--checkpoint", str(checkpoint)]
    command += ["--body-model", str(body), "--lifter-every", every, mode, "--focal", "700"]
    command += ["--out", str(tmp_path / "o.mp4"), "--save", str(tmp_path / "p.jsonl"), "--screenshot", str(tmp_path / "view.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    header, *lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert header["models"]["lifter"].startswith("hmr")
    assert header["body"]["name"] == "smpl.pkl"
    people = [person for line in lines for person in line["people"]]
    assert len(lines) == 30 or mode == "--live"
    known = sum(person["joints3d"] is not None for person in people)
    # Live, a busy machine shows but a few of the thirty frames.
    assert known > (len(people) // 2 if mode == "--offline" else 0)
    assert len(people) > 20 or mode == "--live"
    again = [*command[:3], "replay", str(tmp_path / "p.jsonl"), "--body-model", str(body), "--out", str(tmp_path / "again.mp4")]
    assert subprocess.run(again, capture_output=True, check=False).returncode == 0
