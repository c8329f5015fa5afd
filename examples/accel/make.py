#!/usr/bin/env python3
"""Make conv.onnx and x.npy: a convolution with eight filters of three rows and columns, and one input. Needs onnx."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(13)
weights = rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)
bias = rng.normal(0, 0.1, 8).astype(np.float32)
graph = helper.make_graph(
    [
        helper.make_node("Conv", ["x", "w", "b"], ["s"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["s"], ["y"], name="relu"),
    ],
    "conv",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 8, 8])],
    [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, "conv.onnx")
np.save("x.npy", rng.uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32))
