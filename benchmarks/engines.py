"""What lower precision costs in accuracy, found on a processor.

    python benchmarks/engines.py                           # everything below, some minutes; needs ../shared
    python benchmarks/engines.py --labelled-boxes          # the keypoint networks alone, on the labelled people's boxes
    python benchmarks/engines.py --rows "movenet-thunder f32,movenet-thunder bf16"      # other rows of the second table

The first table has every recipe's network in every precision on offer, against f32, by the measures of the self-check and on its
inputs. YOLOv3 and HMR have random weights there, which users replace by their own. Of these the largest number in any f16 tensor
stands beside f16's limit.

The second has detector and keypoints on the val2017 pictures: AR, people found and ankle PCK, matched and scored as in
benchmarks/keypoints.py, each row against the first of the same keypoint network. The people whom both rows found are lifted, too, each
as an independent picture: `joints` is the mean distance in mm, and that of the worst twentieth of the people, between the 17 joints
about the hips from this row's keypoints and from the first row's. `lifter` is the lifter of lower precision on the first row's keypoints.

For f16, the very graphs that TensorRT compiles are run, with every tensor that they hold in f16 rounded to f16's eleven bits after each
operation. (Runtimes for processors leave such casts out, so that an f16 graph run on them says nothing.) Sums inside one operation
are kept in f32, as tensor cores keep them. int8 is what `--precision int8` computes on a processor: the keypoint network's own form,
and the detector in f32.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import hmr as hmr_benchmark
import keypoints
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rtpose import __version__, engines
from rtpose.backends import Session, open_session
from rtpose.body.model import load_body
from rtpose.models import Model, find, models
from rtpose.models.darknet import import_darknet
from rtpose.source import read_picture
from rtpose.stages.detect import INTERVAL, Detector
from rtpose.stages.keypoints import KeypointEstimator
from rtpose.stages.lift import Lifter
from rtpose.types import Frame, People, Result
from tests.test_darknet import random_weights, yolov3
from tests.test_engines_ahead import yolov3_tiny

ROWS = "movenet-thunder f32,movenet-thunder f16,movenet-thunder int8,posenet f32,posenet f16"
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
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float32)))
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


def computing(model: Model, recipe: engines.Recipe, precision: str, folder: Path) -> tuple[Session, float]:
    """The network on a processor as an engine of that precision computes it, and the largest number in an f16 tensor."""
    if precision != "f16":
        return open_session(model.path, backend="openvino", precision=precision, threads=1), 0.0
    graph = rounded(recipe.graph(model, precision))
    path = folder / f"{model.name}.onnx"
    onnx.save(graph, path)
    return open_session(path, backend="openvino", precision="f32", threads=1), largest(graph, recipe, folder)


def brought(recipe: engines.Recipe, folder: Path) -> Model:
    """The recipe's network; random weights where it is one that users bring."""
    if recipe.network in models():
        return models()[recipe.network]
    if recipe.network == "hmr":
        path = hmr_benchmark.random_network(folder / "hmr.onnx")
        return Model("hmr", "hmr", path, "", 0, "", "", "", "", "hmr")
    cfg, weights = folder / f"{recipe.network}.cfg", folder / f"{recipe.network}.weights"
    cfg.write_text(yolov3(416) if recipe.network == "yolov3" else yolov3_tiny(416))
    random_weights(cfg, weights)
    return import_darknet(cfg, weights, folder=folder)


def against_f32(folder: Path) -> list[dict[str, Any]]:
    """Each recipe's network in each lower precision, on the inputs of the self-check."""
    rows = []
    for recipe in engines.recipes().values():
        model = brought(recipe, folder)
        fitted = recipe.fitted(model)
        feeds = engines.reference_feeds(fitted)
        exact = computing(model, fitted, "f32", folder)[0](feeds)
        lower = [precision for precision in recipe.precisions if precision != "f32"]
        for precision in [*lower, *(["int8"] if model.path.with_name(f"{model.path.stem}.int8.xml").exists() else [])]:
            session, top = computing(model, fitted, precision, folder)
            figures = engines.deviation(model.decoder, feeds, session(feeds), exact)
            rows.append({"network": recipe.network, "precision": precision, "figures": figures, "largest f16 number": top})
            rows[-1] |= {"bounds": recipe.bounds, "holds": not engines.excess(figures, recipe.bounds)}
    return rows


def stages_of(network: str, precision: str, folder: Path) -> tuple[Detector, KeypointEstimator]:
    """NanoDet and the keypoint network in that precision; for int8, of which NanoDet has no form, NanoDet in f32."""
    seen, joints = find("nanodet", "detector"), find(network, "keypoints")
    recipes = engines.recipes()
    detector, _ = computing(seen, recipes["nanodet"], "f32" if precision == "int8" else precision, folder)
    estimator, _ = computing(joints, recipes[network], precision, folder)
    return Detector(detector, seen.decoder, interval=INTERVAL), KeypointEstimator(estimator, joints.decoder)


def on_labelled_boxes(estimator: KeypointEstimator, split: str) -> list[tuple[keypoints.Picture, People]]:
    """What the keypoint network says of the labelled people, cropped by their labelled boxes."""
    found = []
    for picture in keypoints.pictures(split):
        mine = estimator.estimate(read_picture(picture.path), picture.boxes)
        n = len(mine)
        people = People(np.arange(1, n + 1), picture.boxes, np.ones(n, np.float32), mine, np.zeros((n, 17), np.uint8), mine)
        found.append((picture, people))
    return found


Joints = dict[tuple[int, int], NDArray[np.float64]]
"""(17, 3), m, about the hips, by picture and labelled person."""


def lifted(pairs: list[tuple[keypoints.Picture, People]], network: Session) -> Joints:
    """The bodies of those of the labelled people who were found."""
    lifter, joints = Lifter(load_body(), network), {}
    for picture, people in pairs:
        image = read_picture(picture.path)
        bodies = lifter(Result(Frame(0, 0.0, image, 0, independent=True), people=people)).bodies
        assert bodies is not None
        for label, row in keypoints.match(people, picture.boxes).items():
            places = bodies.joints3d[row, :17].astype(np.float64)
            if picture.counts[label] and np.isfinite(places).all():
                joints[picture.number, label] = places - places[11:13].mean(0)
    return joints


def apart(a: Joints, b: Joints) -> dict[str, float]:
    """How far the joints of the people in both lie from each other, mm."""
    both = sorted(a.keys() & b.keys())
    each = 1000 * np.array([np.linalg.norm(a[who] - b[who], axis=-1).mean() for who in both])
    return {"lifted": len(both), "joints mm": float(each.mean()), "joints mm p95": float(np.quantile(each, 0.95))}


def end_to_end(names: list[str], split: str, labelled_boxes: bool, folder: Path) -> list[dict[str, Any]]:
    """The rows "NETWORK PRECISION", and for each keypoint network's first row the lifter in f16 on its keypoints."""
    model, recipe = find("lifter", "lifter"), engines.recipes()["lifter"]
    exact = computing(model, recipe, "f32", folder)[0]
    first: dict[str, tuple[keypoints.Scores, Joints]] = {}
    rows: list[dict[str, Any]] = []
    for name in names:
        network, precision = name.split()
        stages = stages_of(network, precision, folder)
        pairs = on_labelled_boxes(stages[1], split) if labelled_boxes else keypoints.on_pictures(stages, split)[0]
        scores, joints = keypoints.score(pairs), lifted(pairs, exact)
        begun = network in first
        before, there = first.setdefault(network, (scores, joints))
        gain, low, high = keypoints.difference(before, scores)
        row = {"network": network, "precision": precision, "people": len(scores.oks), "AR": float(scores.recall.mean())}
        row |= {"found": float(scores.covered.mean()), "ankle PCK@.1": float(scores.ankles.mean())}
        rows.append({**row, "AR gain": gain, "low": low, "high": high, **apart(there, joints)})
        if not begun:
            halved = lifted(pairs, computing(model, recipe, "f16", folder)[0])
            rows.append(
                {**row, "precision": f"{precision}, lifter f16", "AR gain": 0.0, "low": 0.0, "high": 0.0, **apart(joints, halved)}
            )
    return rows


def show(networks: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    table = Table("network", "precision", "from f32 (at most)", "largest f16 number", "")
    for row in networks:
        figures = ", ".join(f"{value:.3g} {name} ({row['bounds'].get(name, 0):g})" for name, value in row["figures"].items())
        size = f"{row['largest f16 number']:.0f} of {F16_LIMIT:.0f}" if row["precision"] == "f16" else ""
        table.add_row(row["network"], row["precision"], figures, size, "holds" if row["holds"] else "does not hold")
    Console(width=130).print(table)
    table = Table("keypoints", "precision", "AR", "found", "ankle PCK@.1", "AR gain", "joints, mm", "worst 5 %")
    for row in rows:
        cells = [f"{row[name]:.4f}" for name in ("AR", "found", "ankle PCK@.1")]
        cells += [f"{row['AR gain']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"]
        table.add_row(row["network"], row["precision"], *cells, f"{row['joints mm']:.2f}", f"{row['joints mm p95']:.2f}")
    Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("val2017", "train2017"), default="val2017")
    parser.add_argument("--rows", default=ROWS, help="rows of the second table: a keypoint network and f32, bf16, f16 or int8")
    parser.add_argument("--labelled-boxes", action="store_true", help="leave the detector out")
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        networks = against_f32(Path(scratch))
        rows = end_to_end(given.rows.split(","), given.split, given.labelled_boxes, Path(scratch))
    show(networks, rows)
    if given.json:
        about = {"rtpose": __version__, "machine": platform.processor() or platform.machine()}
        about |= {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "split": given.split}
        about |= {"boxes": "labelled" if given.labelled_boxes else "detected", "lifter": find("lifter", "lifter").sha256}
        given.json.write_text(json.dumps({**about, "networks": networks, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
