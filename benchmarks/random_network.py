"""Write a network that costs what ResNet-18 does and knows nothing: what an embedder of that size makes of ingest.

    python benchmarks/random_network.py out/random.onnx

The convolutions are those of ResNet-18 (He et al. 2016) without the shortcuts, which cost next to nothing; the weights
are random. 1.8 GFLOP for 224 x 224 pixels, 512 dimensions.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 4), (128, 4), (256, 4), (512, 4))
"""Channels and convolutions of each stage; the first of all but the first one halves the image."""


def network() -> onnx.ModelProto:
    """Return the network."""
    draw = np.random.default_rng(0)
    layers = [(3, 64, 7, 2)]
    for (before, _), (channels, count) in pairwise(((64, 0), *STAGES)):
        layers += [(before, channels, 3, 1 if before == channels else 2)] + [(channels, channels, 3, 1)] * (count - 1)
    nodes, weights, last = [], [], "pixels"
    for i, (before, channels, side, stride) in enumerate(layers):
        kernel = draw.normal(scale=np.sqrt(2 / (before * side**2)), size=(channels, before, side, side))
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"weight{i}"))
        names = [last, f"weight{i}"]
        nodes.append(helper.make_node("Conv", names, [f"sum{i}"], strides=[stride] * 2, pads=[side // 2] * 4))
        nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"map{i}"]))
        last = f"map{i}"
        if i == 0:
            nodes.append(
                helper.make_node("MaxPool", [last], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
            )
            last = "pooled"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["vector"]))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 224, 224])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 512])
    graph = helper.make_graph(nodes, "random", [pixels], [vector], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    arguments.path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(network(), arguments.path)


if __name__ == "__main__":
    main()
