"""The registry and the networks it ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from rtpose.backends import open_session
from rtpose.errors import InputError
from rtpose.models import TASKS, bundled_folder, find, models, register, user_folder, verify

REPOSITORY = Path(__file__).resolve().parent.parent
CARD = {"licence": "CC0-1.0", "origin": "nobody", "made": "by hand", "input": "nothing", "decoder": "none"}
BUNDLED = [json.loads(path.read_text())["name"] for path in sorted(bundled_folder().glob("*.json"))]


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPOSE_DATA", str(tmp_path))


@pytest.fixture
def weights() -> Path:
    user_folder().mkdir(parents=True)
    path = user_folder() / "mine.onnx"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_network_is_what_its_card_says(name: str) -> None:
    model = models()[name]
    verify(model)
    assert model.path.stat().st_size == model.size
    assert model.task in TASKS
    assert model.licence
    assert str(model.path.relative_to(REPOSITORY)) in (REPOSITORY / "NOTICE").read_text()


@pytest.mark.parametrize("path", sorted(bundled_folder().glob("*.onnx")), ids=lambda path: path.stem)
def test_a_bundled_graph_loads_on_old_runtimes_and_compilers(path: Path) -> None:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10  # onnxruntime 1.20
    assert [o.domain for o in model.opset_import] == [""]
    assert model.opset_import[0].version <= 17
    assert not {node.op_type for node in model.graph.node} & {"NonMaxSuppression", "NonZero", "Loop", "If", "Where", "TopK"}
    assert all(value.type.tensor_type.shape.dim[0].dim_param == "n" for value in (*model.graph.input, *model.graph.output))


def test_default_networks_are_found() -> None:
    assert find("nanodet", "detector").decoder == "nanodet"
    assert find("movenet-thunder", "keypoints").path == bundled_folder() / "movenet-thunder.onnx"


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no detector is called 'eagle': choose one of .*nanodet"):
        find("eagle", "detector")
    with pytest.raises(InputError, match="no detector is called 'movenet-thunder'"):
        find("movenet-thunder", "detector")


def test_a_card_in_the_users_folder_is_picked_up(weights: Path) -> None:
    registered = register(weights, name="mine", task="detector", **CARD)
    assert find("mine", "detector") == registered
    assert registered.path == weights
    assert registered.size == len(b"weights")
    verify(registered)


def test_the_users_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTPOSE_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert user_folder() == tmp_path / "xdg" / "rtpose" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert user_folder() == Path.home() / ".local/share/rtpose/models"


def test_two_networks_of_one_name_are_refused(weights: Path) -> None:
    register(weights, name="nanodet", task="detector", **CARD)
    with pytest.raises(InputError, match=r"two networks are called 'nanodet'.*mine\.onnx"):
        models()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '"card"', '{"name": "mine"}'])
def test_a_broken_card_is_named(weights: Path, content: str) -> None:
    weights.with_suffix(".json").write_text(content)
    with pytest.raises(InputError, match=r"mine\.json is no card"):
        models()


def test_a_card_of_an_unknown_task_is_named(weights: Path) -> None:
    card = register(weights, name="mine", task="detector", **CARD).path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), "task": "juggling"}))
    with pytest.raises(InputError, match=r"mine\.json: unknown task 'juggling': choose"):
        models()


def test_damaged_weights_are_told_with_both_checksums(weights: Path) -> None:
    model = register(weights, name="mine", task="detector", **CARD)
    weights.write_bytes(b"weightz")
    with pytest.raises(InputError, match=f"damaged.*sha256 [0-9a-f]{{64}}, its card says {model.sha256}"):
        verify(model)


def test_files_that_belong_to_a_network_are_verified_too(weights: Path) -> None:
    small = weights.with_name("mine.int8.bin")
    small.write_bytes(b"small")
    model = register(weights, name="mine", task="detector", **CARD)
    assert list(find("mine", "detector").also) == ["mine.int8.bin"]
    verify(model)
    small.write_bytes(b"smalk")
    with pytest.raises(InputError, match=r"damaged: .*mine\.int8\.bin"):
        verify(model)


def test_missing_weights_are_named(weights: Path) -> None:
    model = register(weights, name="mine", task="detector", **CARD)
    weights.unlink()
    with pytest.raises(InputError, match=r"cannot read the weights of mine: .*mine\.onnx: No such file"):
        verify(model)
    with pytest.raises(InputError, match="Is a directory"):
        verify(replace(model, path=weights.parent))


def source(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def pictures(shared: Path) -> list[NDArray[np.uint8]]:
    files = sorted((shared / "data/coco_images/val2017").glob("*.jpg"))[:24]
    return [np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1]) for file in files]


def square(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The picture's middle square, resized."""
    h, w = picture.shape[:2]
    s = min(h, w)
    middle = picture[(h - s) // 2 : (h + s) // 2, (w - s) // 2 : (w + s) // 2]
    return np.asarray(cv2.resize(middle, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.shared
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_thunder_gives_the_keypoints_of_the_published_network(
    shared: Path, pictures: list[NDArray[np.uint8]], backend: str
) -> None:
    published = source(shared / "models/movenet_thunder.onnx")
    crops = np.stack([square(picture, 256) for picture in pictures])
    expected = np.concatenate([published.run(None, {"input:0": crop[None].astype(np.int32)})[0][0] for crop in crops])
    got = open_session(find("movenet-thunder", "keypoints").path, backend=backend, precision="f32")({"image": crops})["keypoints"]
    assert np.abs(got - expected)[..., :2].max() * 256 < 0.5
    assert np.abs(got - expected)[..., 2].max() < 0.001


@pytest.mark.shared
def test_nanodet_gives_the_boxes_of_the_published_network(shared: Path, pictures: list[NDArray[np.uint8]]) -> None:
    published = source(shared / "models/nanodet_416.onnx")
    mean, deviation = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    images = np.stack([square(picture, 416) for picture in pictures])
    got = open_session(find("nanodet", "detector").path, backend="onnxruntime")({"image": images})
    for k, image in enumerate(images):
        normal = ((image[:, :, ::-1] - mean) / deviation).astype(np.float32).transpose(2, 0, 1)[None]
        outputs = sorted(published.run(None, {"input_1:0": normal}), key=lambda a: -a.shape[1])  # strides 8, 16, 32
        scores = np.concatenate([a[0, :, 0] for a in outputs if a.shape[2] == 80])
        distances = np.concatenate([a[0] for a in outputs if a.shape[2] == 44])
        np.testing.assert_allclose(got["scores"][k], scores, atol=1e-5)
        np.testing.assert_allclose(got["distances"][k], distances, atol=1e-4)


def export(out: Path, *options: str) -> dict[str, bytes]:
    """Run the script; what networks it has made, by file name."""
    command = [sys.executable, str(REPOSITORY / "scripts/export_models.py"), str(out), *options]
    subprocess.run(command, check=True, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    made = {path.name: path.read_bytes() for path in out.glob("*.onnx")}
    assert {"nanodet.onnx", "movenet-thunder.onnx"} <= set(made)
    return made


def bundled(names: Iterable[str]) -> dict[str, bytes]:
    return {name: (bundled_folder() / name).read_bytes() for name in names}


@pytest.mark.shared
def test_the_script_makes_the_bundled_networks_from_plain_ones(shared: Path, tmp_path: Path) -> None:
    made = export(tmp_path / "out", "--raw", str(shared / "models"))
    assert made == bundled(made)


@pytest.mark.slow
def test_the_script_makes_the_bundled_networks_from_the_published_packages(tmp_path: Path) -> None:
    made = export(tmp_path / "out")
    assert made == bundled(made)
