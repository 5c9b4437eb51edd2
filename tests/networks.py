"""Tiny networks in ONNX files: what their output is can be told by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PX = 32
OUTPUTS = {"rows": ["N", "D"], "tokens": ["N", "T", "D"], "map": ["N", "D", "H", "W"]}


def write_colours(
    path: Path,
    *,
    shape: tuple[str | int, ...] = ("N", 3, PX, PX),
    kind: int = TensorProto.FLOAT,
    channels_last: bool = False,
) -> Path:
    """Write a network whose output "rows" is the mean of each channel of what it is fed, plus one."""
    nodes = [helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT)]
    axes = [1, 2] if channels_last else [2, 3]
    nodes.append(helper.make_node("ReduceMean", ["numbers", "axes"], ["means"], keepdims=0))
    nodes.append(helper.make_node("Add", ["means", "one"], ["rows"]))
    constants = {"axes": np.array(axes, np.int64), "one": np.float32(1)}
    return _write(path, nodes, constants, shape, kind, ["rows"])


def write_blocks(path: Path, outputs: list[str], *, dimensions: int = 8, seed: int = 0) -> Path:
    """Write a network of one layer over blocks of 4 x 4 pixels; outputs are "map", "tokens" and "rows", their mean."""
    weights = np.random.default_rng(seed).normal(0, 1, (dimensions, 3, 4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["edges"], strides=[4, 4]),
        helper.make_node("Relu", ["edges"], ["map"]),
        helper.make_node("Reshape", ["map", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["columns", "last"], ["rows"], keepdims=0),
    ]
    constants = {"weights": weights, "flat": np.array([0, 0, -1], np.int64), "last": np.array([2], np.int64)}
    return _write(path, nodes, constants, ("N", 3, PX, PX), TensorProto.FLOAT, outputs)


def write_sum(path: Path) -> Path:
    """Write a network that takes two images."""
    nodes = [helper.make_node("Add", ["image", "other"], ["rows"])]
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 3, PX, PX])
    return _write(path, nodes, {}, ("N", 3, PX, PX), TensorProto.FLOAT, ["rows"], [other])


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[str | int, ...],
    kind: int,
    outputs: list[str],
    more: list[onnx.ValueInfoProto] | None = None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", kind, shape), *(more or [])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, OUTPUTS[name]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def move_weights_out(path: Path, folder: Path) -> Path:
    """Write a network with its weights in a file beside it, as exporters do with large ones."""
    moved = folder / path.name
    onnx.save(onnx.load(path), moved, save_as_external_data=True, location="weights.bin", size_threshold=100)
    return moved
