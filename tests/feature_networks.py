"""Tiny stand-ins, in ONNX files, for networks that find and match local features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

COUNT = 300
"""Points of an image."""
CELL_PX = 4
"""Points lie in the middle of cells of so many pixels of what the network is fed."""
DIMENSIONS = 32
PATCH = 13
"""Cells a side that describe a point."""


def write_aliked(path: Path, side_px: int = 640) -> Path:
    """Write a network with the inputs and outputs of ALIKED: points from -1 to 1, descriptors and scores."""
    nodes = [
        *_points([]),
        helper.make_node("Cast", ["cells"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["numbers", "step"], ["steps"]),
        helper.make_node("Add", ["steps", "first"], ["keypoints"]),
    ]
    step = 2 * CELL_PX / side_px
    constants = {"step": np.float32(step), "first": np.float32(step / 2 - 1)}
    return _write(path, nodes, constants, [], side_px, TensorProto.FLOAT)


def write_disk(path: Path, side_px: int = 1024) -> Path:
    """Write a network with the inputs and outputs of DISK: points in whole pixels, descriptors and scores."""
    nodes = [*_points([1]), helper.make_node("Mul", ["cells", "step"], ["keypoints"])]
    return _write(path, nodes, {"step": np.int64(CELL_PX)}, [1], side_px, TensorProto.INT64)


def _points(batch: list[int]) -> list[NodeProto]:
    """Find the cells that differ most from their surroundings, and describe each by random filters on them."""
    return [
        helper.make_node("Conv", ["image", "grey"], ["cell"], strides=[CELL_PX, CELL_PX]),
        helper.make_node("Conv", ["cell", "centre"], ["contrast"], pads=[2] * 4),
        helper.make_node("Abs", ["contrast"], ["strength"]),
        helper.make_node("Mul", ["strength", "inside"], ["height"]),
        helper.make_node("Reshape", ["height", "flat"], ["heights"]),
        helper.make_node("TopK", ["heights", "count"], ["best", "index"], axis=1),
        helper.make_node("Reshape", ["best", "values"], ["scores"]),
        helper.make_node("Mod", ["index", "side"], ["column"]),
        helper.make_node("Div", ["index", "side"], ["row"]),
        helper.make_node("Reshape", ["column", "values"], ["x"]),
        helper.make_node("Reshape", ["row", "values"], ["y"]),
        helper.make_node("Concat", ["x", "y"], ["cells"], axis=len(batch) + 1),
        helper.make_node("Conv", ["cell", "filters"], ["map"], pads=[PATCH // 2] * 4),
        helper.make_node("Reshape", ["map", "columns"], ["all"]),
        helper.make_node("Transpose", ["all"], ["rows"], perm=[1, 0]),
        helper.make_node("Reshape", ["index", "line"], ["indices"]),
        helper.make_node("Gather", ["rows", "indices"], ["chosen"], axis=0),
        helper.make_node("LpNormalization", ["chosen"], ["unit"], axis=1),
        helper.make_node("Reshape", ["unit", "described"], ["descriptors"]),
    ]


def _write(
    path: Path, nodes: list[NodeProto], more: dict[str, np.generic], batch: list[int], side_px: int, kind: int
) -> Path:
    shapes = {
        "keypoints": (kind, [*batch, COUNT, 2]),
        "descriptors": (TensorProto.FLOAT, [*batch, COUNT, DIMENSIONS]),
        "scores": (TensorProto.FLOAT, [*batch, COUNT, 1]),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side_px, side_px])],
        [helper.make_tensor_value_info(name, *of) for name, of in shapes.items()],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in (more | _constants(batch, side_px // CELL_PX)).items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def _constants(batch: list[int], side: int) -> dict[str, np.ndarray]:
    filters = np.random.default_rng(0).normal(0, 1, (DIMENSIONS, 1, PATCH, PATCH)).astype(np.float32)
    centre = np.full((1, 1, 5, 5), -1 / 24, np.float32)
    centre[0, 0, 2, 2] = 1
    inside = np.zeros((1, 1, side, side), np.float32)
    inside[:, :, PATCH:-PATCH, PATCH:-PATCH] = 1
    return {
        "grey": np.full((1, 3, CELL_PX, CELL_PX), 1 / (3 * CELL_PX**2), np.float32),
        "centre": centre,
        "inside": inside,
        "filters": filters - filters.mean(axis=(2, 3), keepdims=True),  # brightness says nothing
        "flat": np.array([1, -1], np.int64),
        "columns": np.array([DIMENSIONS, -1], np.int64),
        "line": np.array([-1], np.int64),
        "count": np.array([COUNT], np.int64),
        "side": np.array([side], np.int64),
        "values": np.array([*batch, COUNT, 1], np.int64),
        "described": np.array([*batch, COUNT, DIMENSIONS], np.int64),
    }


def write_lightglue(path: Path) -> Path:
    """Write a network with the inputs and outputs of LightGlue for ALIKED: points match where descriptors agree."""
    nodes = [
        helper.make_node("Transpose", ["desc1"], ["across"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["desc0", "across"], ["likeness"]),
        helper.make_node("TopK", ["likeness", "one"], ["best", "there"], axis=2),
        helper.make_node("Reshape", ["there", "column"], ["second"]),
        helper.make_node("Reshape", ["best", "line"], ["mscores0"]),
        helper.make_node("Mul", ["second", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "numbers"], ["first"]),
        helper.make_node("Concat", ["first", "second"], ["matches0"], axis=1),
        # a matcher must know where points lie; this one does not use it
        helper.make_node("Add", ["kpts0", "kpts1"], ["unused"]),
    ]
    constants = {
        "one": np.array([1], np.int64),
        "zero": np.array([0], np.int64),
        "column": np.array([-1, 1], np.int64),
        "line": np.array([-1], np.int64),
        "numbers": np.arange(COUNT, dtype=np.int64)[:, None],
    }
    inputs = {"kpts0": 2, "kpts1": 2, "desc0": DIMENSIONS, "desc1": DIMENSIONS}
    outputs = {"matches0": (TensorProto.INT64, [COUNT, 2]), "mscores0": (TensorProto.FLOAT, [COUNT])}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, COUNT, n]) for name, n in inputs.items()],
        [helper.make_tensor_value_info(name, *of) for name, of in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
