"""Networks that the tests build themselves, and the real ones beside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
F32 = TensorProto.FLOAT


def model_of(nodes, inputs, outputs, weights=None, opset=17):
    """A model of nodes; inputs and outputs are (name, type, shape), weights are arrays by name."""
    values = [[helper.make_tensor_value_info(*port) for port in ports] for ports in (inputs, outputs)]
    initialisers = [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()]
    graph = helper.make_graph(nodes, "net", *values, initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def weights_of(**shapes):
    """Random f32 weights of shapes by name."""
    random = np.random.default_rng(7)
    return {name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype("float32") for name, shape in shapes.items()}


def classifier(batch=1, classes=10, size=16):
    """Convolutions, pooling and a dense layer: image f32[batch,3,size,size] to scores and their classes."""
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"], "mean"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], "dense", transB=1),
        helper.make_node("ArgMax", ["scores"], ["class"], "argmax", axis=1, keepdims=0),
    ]
    weights = weights_of(w1=(16, 3, 3, 3), b1=(16,), w2=(32, 16, 3, 3), w3=(classes, 32), b3=(classes,))
    outputs = [("scores", F32, [batch, classes]), ("class", TensorProto.INT64, [batch])]
    return model_of(nodes, [("image", F32, [batch, 3, size, size])], outputs, weights)


def detector():
    """Boxes and scores of a 32x32 image, from two convolutions."""
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["c"], "backbone", kernel_shape=[3, 3], strides=[4, 4], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["c"], ["a"], "act", alpha=0.1),
        helper.make_node("Conv", ["a", "w2"], ["h"], "head", kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["h"], ["t"], "order", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "shape"], ["all"], "rows"),
        helper.make_node("Split", ["all", "parts"], ["boxes", "logits"], "split", axis=2),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=2),
    ]
    weights = weights_of(w1=(8, 3, 3, 3), w2=(7, 8, 1, 1)) | {"shape": np.array([1, 64, 7]), "parts": np.array([4, 3])}
    outputs = [("boxes", F32, [1, 64, 4]), ("scores", F32, [1, 64, 3])]
    return model_of(nodes, [("input", F32, [1, 3, 32, 32])], outputs, weights)


def sequence(length="time"):
    """An LSTM over f32[time,1,8], with its states in and out."""
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y", "h_out", "c_out"], "lstm", hidden_size=16)
    weights = weights_of(w=(1, 64, 8), r=(1, 64, 16), b=(1, 128))
    state = [1, 1, 16]
    inputs = [("x", F32, [length, 1, 8]), ("h", F32, state), ("c", F32, state)]
    return model_of([node], inputs, [("y", F32, [length, 1, 1, 16]), ("h_out", F32, state), ("c_out", F32, state)], weights)


def embedding():
    """Token numbers i64[batch,time] to vectors, masked and averaged."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["e"], "embed"),
        helper.make_node("Cast", ["attention_mask"], ["m"], "cast", to=F32),
        helper.make_node("Unsqueeze", ["m", "last"], ["m3"], "widen"),
        helper.make_node("Mul", ["e", "m3"], ["em"], "mask"),
        helper.make_node("ReduceMean", ["em"], ["mean"], "mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["vector"], "project"),
    ]
    weights = weights_of(table=(100, 12), w=(12, 6)) | {"last": np.array([2])}
    ids = [("input_ids", TensorProto.INT64, ["batch", "time"]), ("attention_mask", TensorProto.INT64, ["batch", "time"])]
    return model_of(nodes, ids, [("vector", F32, ["batch", 6])], weights)


def elementwise(onnx_type, shape=(2, 3), op="Add"):
    """`y = x + x` (or another operator) of some element type."""
    return model_of([helper.make_node(op, ["x", "x"], ["y"], "op")], [("x", onnx_type, shape)], [("y", onnx_type, shape)])


def image(*shape, seed=0):
    """Normally distributed f32."""
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """The classifier as a file."""
    path = tmp_path_factory.mktemp("models") / "classifier.onnx"
    onnx.save(classifier(), path)
    return path
