"""ONNX graphs put together node by node: what turns a user's weights into a network has this in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

OPSET, IR_VERSION = 13, 8


class Graph:
    """Nodes and weights of a graph that grows from its input, pictures as uint8 RGB (n, height, width, 3), called `image`.

    Raises InputError where the package onnx is missing; `purpose` says what needs it.
    """

    def __init__(self, name: str, size: tuple[int, int], purpose: str) -> None:
        try:
            import_module("onnx.numpy_helper")
            self.onnx = import_module("onnx")
        except ModuleNotFoundError:
            raise InputError(f"{purpose} needs the package onnx: pip install onnx") from None
        self.name, self.size = name, size
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.node("Cast", ["image"], "shade", to=1)
        self.node("Transpose", ["shade"], "planes", perm=[0, 3, 1, 2])

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, which is its name, too."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add an array."""
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def model(self, outputs: Mapping[str, tuple[int, ...]]) -> Any:
        """The model with these outputs, all f32: name -> shape after the batch."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        image = helper.make_tensor_value_info("image", kinds.UINT8, ["n", *self.size, 3])
        ends = [helper.make_tensor_value_info(name, kinds.FLOAT, ["n", *shape]) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, self.name, [image], ends, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtpose")
        model.ir_version = IR_VERSION
        return model


def save(model: Any, path: Path) -> None:
    """Write the model atomically; the folder is made where it is not there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(model.SerializeToString())
    partial.replace(path)
