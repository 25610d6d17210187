"""Make the int8 form of MoveNet Thunder for OpenVINO, NAME.int8.xml and .bin beside NAME.onnx, and note it on its card.

    python scripts/quantise.py ../shared

NanoDet gets none: in int8 it costs .007 of AR end to end, where .005 is allowed; what Thunder costs: `benchmarks/keypoints.py --precision
auto,f32,int8`.
Ranges are found on the train2017 pictures of ../shared/data, through the very stages that feed the networks; no picture that is
scored is among them. The convolutions that end the network, and all that comes after them, stay as they are: distances, square
roots and offsets do not survive eight bits. So do the first three, through which everything goes. Biases are corrected layer by
layer: the fast way moved confidences so far that fewer people were reported. Needs the package nncf, which rtpose itself does not.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import nncf
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino._offline_transformations import apply_moc_transformations

from rtpose.backends import Session, open_session
from rtpose.models import Model, find, register
from rtpose.source import read_picture
from rtpose.stages.detect import Detector
from rtpose.stages.keypoints import KeypointEstimator
from rtpose.types import Frame, Result

HEADS = ("heatmap", "center", "regress", "offset")
FIRST = 3
"""Convolutions at the network's beginning that stay as they are."""
SAMPLES = 150


class Recorder:
    """A session that keeps what it is fed, row by row."""

    def __init__(self, model: Model) -> None:
        self.session = open_session(model.path, backend="openvino", precision="f32")
        self.inputs, self.outputs, self.threads = self.session.inputs, self.session.outputs, self.session.threads
        self.fed: list[NDArray[Any]] = []

    def __call__(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.fed.extend(row[None].copy() for row in feeds["image"])
        return self.session(feeds)


def recorded(data: Path, joints: Model) -> list[NDArray[Any]]:
    """What the keypoint network is fed on the train2017 pictures."""
    seen, estimator = find("nanodet", "detector"), Recorder(joints)
    detector = open_session(seen.path, backend="openvino", precision="f32")
    stages = Detector(detector, seen.decoder), KeypointEstimator(cast(Session, estimator), joints.decoder)
    for entry in json.loads((data / "coco_images/index.json").read_text()):
        if entry["split"] == "train2017":
            picture = read_picture(data / "coco_images" / entry["file"])
            stages[1](stages[0](Result(Frame(0, 0.0, picture, 0, independent=True))))
    shuffled = np.random.default_rng(0).permutation(len(estimator.fed))[:SAMPLES]
    return [estimator.fed[k] for k in shuffled]


def quantise(model: Model, samples: list[NDArray[Any]]) -> None:
    """Write the int8 form of the network and its card."""
    graph = ov.Core().read_model(model.path)
    apply_moc_transformations(graph, True)
    kinds = {node.get_friendly_name(): node.get_type_name() for node in graph.get_ordered_ops()}
    convolutions = [name for name, kind in kinds.items() if kind in ("Convolution", "GroupConvolution")]
    begin = list(kinds)[: list(kinds).index(convolutions[FIRST])]
    kept: set[str] = set()
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        sources = (node.input_value(k).get_node().get_friendly_name() for k in range(node.get_input_size()))
        if name.split("/")[0] in HEADS or any(source in kept for source in sources):
            kept.add(name)
    ignored = [name for name in (*begin, *kept) if kinds[name] not in ("Constant", "Parameter", "Result")]
    small = nncf.quantize(
        graph,
        nncf.Dataset([{"image": sample} for sample in samples]),
        subset_size=len(samples),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=ignored, validate=False),
        fast_bias_correction=False,
    )
    ov.save_model(small, model.path.with_suffix(".int8.xml"), compress_to_fp16=True)
    register(model.path, **{key: value for key, value in asdict(model).items() if key not in ("path", "sha256", "size", "also")})
    print(f"{model.name}: {len(samples)} samples, {len(ignored)} operations left as they are")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    given = parser.parse_args()
    model = find("movenet-thunder", "keypoints")
    quantise(model, recorded(given.shared / "data", model))


if __name__ == "__main__":
    main()
