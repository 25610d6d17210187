"""What lower precision costs in accuracy, found on a processor: AR and ankle PCK on the val2017 pictures.

    python benchmarks/engines.py                                     # f32 against f16 as engines compute it
    python benchmarks/engines.py --precision f32,bf16,int8           # what OpenVINO computes
    python benchmarks/engines.py --labelled-boxes                    # the keypoint network alone, on the labelled people's boxes

For f16, the very graphs that TensorRT compiles are run, with every tensor that they hold in f16 rounded to f16's eleven bits after each
operation. (Runtimes for processors leave such casts out, so that an f16 graph run on them says nothing.) Sums inside one operation
are kept in f32, as tensor cores keep them. The largest number in any f16 tensor is shown beside f16's limit.
Matching and scores are those of benchmarks/keypoints.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import keypoints
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from rtpose import __version__, engines
from rtpose.backends import Session, open_session
from rtpose.models import find
from rtpose.source import read_picture
from rtpose.stages.detect import Detector, frames_between
from rtpose.stages.keypoints import KeypointEstimator
from rtpose.types import People

F16_LIMIT = 65504.0


def rounded(graph_bytes: bytes) -> onnx.ModelProto:
    """The graph in f32 with each f16 tensor rounded to f16's precision, by the split of Veltkamp: c = (2^13 + 1) x; c - (c - x)."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph_bytes))
    half = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), "split"))
    nodes = []
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        outputs = [name for name in node.output if name in half]
        node.output[:] = [f"{name}_exact" if name in half else name for name in node.output]
        nodes.append(node)
        for name in outputs:
            nodes.append(helper.make_node("Mul", [f"{name}_exact", "split"], [f"{name}_c"]))
            nodes.append(helper.make_node("Sub", [f"{name}_c", f"{name}_exact"], [f"{name}_rest"]))
            nodes.append(helper.make_node("Sub", [f"{name}_c", f"{name}_rest"], [name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    for name in sorted(half):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def largest(model: onnx.ModelProto, recipe: engines.Recipe, folder: Path) -> float:
    """The largest number that any rounded tensor takes on the reference picture."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [value.name for value in model.graph.value_info]
    for name in names:
        probe.graph.node.append(helper.make_node("Abs", [name], [f"{name}_size"]))
        probe.graph.node.append(helper.make_node("ReduceMax", [f"{name}_size"], [f"{name}_top"], keepdims=0))
        probe.graph.output.append(helper.make_tensor_value_info(f"{name}_top", TensorProto.FLOAT, []))
    onnx.save(probe, folder / "probe.onnx")
    outputs = open_session(folder / "probe.onnx", backend="onnxruntime")(engines.reference_feeds(recipe))
    return max(float(outputs[f"{name}_top"]) for name in names)


def session(name: str, task: str, precision: str, folder: Path) -> tuple[Session, float]:
    """The network on a processor as an engine of that precision computes it, and the largest number in an f16 tensor."""
    model, recipe = find(name, task), engines.recipes()[name]
    if precision != "f16":
        return open_session(model.path, backend="openvino", precision=precision, threads=1), 0.0
    graph = rounded(recipe.graph(model, precision))
    path = folder / f"{name}.onnx"
    onnx.save(graph, path)
    return open_session(path, backend="openvino", precision="f32", threads=1), largest(graph, recipe, folder)


def on_labelled_boxes(estimator: KeypointEstimator, split: str) -> list[tuple[keypoints.Picture, People]]:
    """What the keypoint network says of the labelled people, cropped by their labelled boxes."""
    found = []
    for picture in keypoints.pictures(split):
        mine = estimator.estimate(read_picture(picture.path), picture.boxes)
        n = len(mine)
        people = People(np.arange(1, n + 1), picture.boxes, np.ones(n, np.float32), mine, np.zeros((n, 17), np.uint8), mine)
        found.append((picture, people))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("val2017", "train2017"), default="val2017")
    parser.add_argument("--precision", default="f32,f16", help="rows of the table; f16 as engines compute it")
    parser.add_argument("--labelled-boxes", action="store_true", help="leave the detector out")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    table = Table("networks", "people", "AR", "found", "ankle PCK@.1", "AR gain", "largest f16 number")
    first, rows = None, []
    with tempfile.TemporaryDirectory() as scratch:
        for precision in given.precision.split(","):
            detector, top = session("nanodet", "detector", precision, Path(scratch))
            estimator, other = session("movenet-thunder", "keypoints", precision, Path(scratch))
            stages = (
                Detector(detector, find("nanodet", "detector").decoder, every=frames_between(30.0)),
                KeypointEstimator(estimator, find("movenet-thunder", "keypoints").decoder),
            )
            if given.labelled_boxes:
                pairs = on_labelled_boxes(stages[1], given.split)
            else:
                pairs, _ = keypoints.on_pictures(stages, given.split)
            scores = keypoints.score(pairs)
            first = first or scores
            gain, low, high = keypoints.difference(first, scores)
            row = {"precision": precision, "people": len(scores.oks), "AR": float(scores.recall.mean())}
            row |= {"found": float(scores.covered.mean()), "ankle PCK@.1": float(scores.ankles.mean())}
            row |= {"AR gain": gain, "low": low, "high": high, "largest f16 number": max(top, other)}
            rows.append(row)
            cells = (f"{row['AR']:.4f}", f"{row['found']:.4f}", f"{row['ankle PCK@.1']:.4f}")
            size = f"{row['largest f16 number']:.0f} of {F16_LIMIT:.0f}" if precision == "f16" else ""
            table.add_row(precision, str(row["people"]), *cells, f"{gain:+.4f} [{low:+.4f}, {high:+.4f}]", size)
    Console().print(table)
    if given.json:
        about = {"rtpose": __version__, "machine": platform.processor() or platform.machine()}
        about |= {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "split": given.split}
        about["boxes"] = "labelled" if given.labelled_boxes else "detected"
        given.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
