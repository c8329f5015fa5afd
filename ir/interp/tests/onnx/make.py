#!/usr/bin/env python3
"""Writes cases.json: single operators with operands and the results of ONNX Runtime.

Run by hand (needs numpy, onnx, onnxruntime) when operators are added; the test suite reads the file only.
Each case gives the ONNX form that produced it, and the canonical operator with its attributes that must agree.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

RNG = np.random.default_rng(7)
CASES = []
NAMES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64", np.dtype(np.float16): "f16",
         np.dtype(np.int64): "i64", np.dtype(np.int32): "i32", np.dtype(np.int16): "i16", np.dtype(np.int8): "i8",
         np.dtype(np.uint64): "u64", np.dtype(np.uint32): "u32", np.dtype(np.uint16): "u16",
         np.dtype(np.uint8): "u8", np.dtype(np.bool_): "bool"}


def number(x):
    if isinstance(x, (np.floating, float)):
        # JSON has no NaN or infinities. By way of the text: the shortest number that reads back as the same element.
        return float(str(x)) if np.isfinite(x) else str(x)
    return int(x)


def tensor(a):
    return {"dtype": NAMES[a.dtype], "shape": list(a.shape), "data": [number(x) for x in a.ravel()]}


def case(onnx_op, onnx_attrs, arrays, attrs, op=None, operands=None, opset=20):
    """`arrays` are the ONNX operands (None where absent); `operands` those of the canonical operator."""
    arrays = [None if a is None else np.asarray(a) for a in arrays]
    present = [(f"x{i}", a) for i, a in enumerate(arrays) if a is not None]
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    node = helper.make_node(onnx_op, names, ["y"], **onnx_attrs)
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in present]
    graph = helper.make_graph([node], "case", inputs, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    (result,) = session.run(None, dict(present))
    CASES.append({"op": op or onnx_op, "attrs": attrs,
                  "inputs": [tensor(a) for a in (arrays if operands is None else operands)],
                  "output": tensor(result)})


def randn(*shape):
    return RNG.standard_normal(shape).astype(np.float32).round(3)


def unary():
    x = np.array([-3.5, -2.5, -1.5, -0.5, -0.0, 0.0, 0.3, 0.5, 1.5, 2.5, 80.0, -80.0, np.inf, -np.inf, np.nan], np.float32)
    for op in ["Abs", "Neg", "Exp", "Floor", "Ceil", "Round", "Tanh", "Sigmoid", "Erf", "Relu", "Sqrt", "Log", "Reciprocal"]:
        # Runtimes disagree about a NaN in Relu; the canonical operator propagates it.
        case(op, {}, [x[:-1] if op == "Relu" else x], {})
    case("Softplus", {}, [x[:-1]], {})
    case("Sin", {}, [x[:-5]], {})
    case("Cos", {}, [x[:-5]], {})
    case("Sign", {}, [x[:-1]], {})
    case("Sign", {}, [np.array([-128, -1, 0, 5], np.int8)], {})
    case("Abs", {}, [np.array([-5, 0, 7], np.int32)], {})
    case("Neg", {}, [np.array([-5, 0, 7], np.int64)], {})
    case("Not", {}, [np.array([True, False])], {})
    x = x[:-1]
    case("LeakyRelu", {"alpha": 0.25}, [x], {"alpha": 0.25})
    case("Elu", {"alpha": 1.5}, [x], {"alpha": 1.5})
    case("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, [x], {"alpha": 0.2, "beta": 0.5})
    case("Clip", {}, [x, np.float32(-1.5), np.float32(2)], {"min": -1.5, "max": 2.0}, operands=[x])


def binary():
    a, b = randn(2, 1, 3), randn(4, 1)
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]:
        case(op, {}, [a, b], {})
    case("Pow", {}, [np.abs(a), b], {})
    case("Pow", {}, [np.array([-2.0, -2.0, 0.0, 0.0], np.float32), np.array([3.0, 0.5, 0.0, -1.0], np.float32)], {})
    nan = np.float32("nan")
    for op in ["Max", "Min"]:
        case(op, {}, [np.array([nan, 1, nan, -0.5], np.float32), np.array([1, nan, nan, 2], np.float32)], {})
    for op in ["Equal", "Less", "GreaterOrEqual"]:
        case(op, {}, [np.array([nan, 1, nan], np.float32), np.array([nan, 1, 2], np.float32)], {})
    i, j = np.array([7, -7, 7, -7, 100], np.int32), np.array([2, 2, -2, -2, 7], np.int32)
    for op in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Less", "Equal"]:
        case(op, {}, [i, j], {})
    case("Pow", {}, [i, np.array([0, 1, 2, 3, 2], np.int32)], {})
    case("Mul", {}, [np.array([2**62, 3], np.int64), np.array([4, -5], np.int64)], {})
    case("Max", {}, [np.array([2**63 + 1, 3], np.uint64), np.array([4, 5], np.uint64)], {})
    case("Less", {}, [np.array([2**63 + 1, 3], np.uint64), np.array([4, 5], np.uint64)], {})
    p, q = np.array([[True], [False]]), np.array([True, False])
    for op in ["And", "Or", "Xor", "Equal"]:
        case(op, {}, [p, q], {})
    case("Where", {}, [p, randn(2, 2), randn(1, 2)], {})
    case("Where", {}, [q, np.array([[1], [2]], np.int64), np.array(9, np.int64)], {})


def casts():
    f = np.array([-3.7, -1.0, -0.5, 0.0, 0.5, 1.0, 2.9, 100.6], np.float32)
    i = np.array([-129, -1, 0, 1, 127, 128, 255, 256, 16777217, 2**40 + 3], np.int64)
    for x in [f, f.astype(np.float16), f.astype(np.float64), i]:
        for to in NAMES:
            # Out of range from a float is undefined in ONNX.
            if x.dtype != np.int64 and to.kind == "u":
                x = np.abs(x)
            case("Cast", {"to": helper.np_dtype_to_tensor_dtype(to)}, [x], {"to": NAMES[to]})
    case("Cast", {"to": 1}, [np.array([True, False])], {"to": "f32"})
    big = np.array([2**53 + 1, 2**63 - 1, 2**24 + 1], np.int64)
    case("Cast", {"to": 1}, [big], {"to": "f32"})
    case("Cast", {"to": 10}, [np.array([65504, 65519, 1e-7, 6e-8, 2049, 2051], np.float32)], {"to": "f16"})


def conv(shape, w_shape, **kw):
    n = len(shape) - 2
    kw = {"strides": [1] * n, "pads": [0] * 2 * n, "dilations": [1] * n, "group": 1, **kw}
    x, w, b = randn(*shape), randn(*w_shape), randn(w_shape[0])
    for operands in ([x, w], [x, w, b]):
        sdc = {**kw, "bias": len(operands) == 3, "residual": False, "act": "none"}
        case("Conv", kw, operands, sdc)


def conv_transpose(shape, w_shape, **kw):
    n = len(shape) - 2
    kw = {"strides": [1] * n, "pads": [0] * 2 * n, "dilations": [1] * n, "output_padding": [0] * n, "group": 1, **kw}
    x, w, b = randn(*shape), randn(*w_shape), randn(w_shape[1] * kw["group"])
    case("ConvTranspose", kw, [x, w, b], {**kw, "bias": True, "act": "none"})


def products():
    conv([1, 2, 5], [3, 2, 3], strides=[2], pads=[1, 0])
    conv([2, 3, 4, 5], [4, 3, 3, 2], strides=[2, 1], pads=[1, 0, 2, 1])
    conv([1, 4, 6, 6], [6, 2, 3, 3], group=2, dilations=[2, 1], pads=[2, 1, 2, 1])
    conv([1, 3, 5, 5], [3, 1, 3, 3], group=3, strides=[2, 2], pads=[1, 1, 1, 1])
    conv([2, 4, 3, 3], [2, 4, 1, 1])
    conv([1, 2, 3, 4, 3], [2, 2, 2, 2, 2], strides=[1, 2, 1], pads=[0, 1, 1, 1, 0, 0])
    conv([1, 1, 2, 2], [1, 1, 3, 3], pads=[3, 3, 3, 3])
    conv_transpose([1, 2, 4], [2, 3, 3], strides=[2], output_padding=[1], pads=[1, 0])
    conv_transpose([1, 3, 3, 4], [3, 2, 3, 3], strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 2])
    conv_transpose([2, 4, 3, 3], [4, 3, 2, 3], group=2, dilations=[2, 1], strides=[1, 2])
    conv_transpose([1, 2, 2, 2, 2], [2, 1, 2, 2, 2], strides=[2, 1, 2])
    flags = {"bias": False, "residual": False, "act": "none"}
    case("MatMul", {}, [randn(3, 4), randn(4, 2)], flags)
    case("MatMul", {}, [randn(2, 1, 3, 4), randn(5, 4, 2)], flags)
    case("MatMul", {}, [randn(1, 6), randn(6, 5)], flags)
    case("MatMul", {}, [RNG.integers(-9, 9, (2, 3, 4)).astype(np.int64), RNG.integers(-9, 9, (4, 2)).astype(np.int64)], flags)
    a, b, c = randn(3, 4), randn(4, 2), randn(2)
    case("Gemm", {}, [a, b, c], {**flags, "bias": True}, op="MatMul")


def pools():
    for shape, kw in [([1, 2, 5], {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
                      ([1, 2, 5, 6], {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 0, 0, 2]}),
                      ([2, 1, 6, 5], {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [0, 1, 1, 0]}),
                      ([1, 1, 3, 4, 3], {"kernel_shape": [2, 2, 2], "strides": [1, 2, 1]})]:
        n = len(shape) - 2
        sdc = {"kernel": kw["kernel_shape"], "strides": kw.get("strides", [1] * n), "pads": kw.get("pads", [0] * 2 * n),
               "dilations": kw.get("dilations", [1] * n)}
        x = randn(*shape)
        case("MaxPool", kw, [x], sdc)
        case("AveragePool", {**kw, "count_include_pad": 0}, [x], {**sdc, "counted": [0] * 2 * n})
        case("AveragePool", {**kw, "count_include_pad": 1}, [x], {**sdc, "counted": sdc["pads"]})
    case("MaxPool", {"kernel_shape": [2]}, [np.array([[[-100, -128, 3, -4]]], np.int8)],
         {"kernel": [2], "strides": [1], "pads": [0, 0], "dilations": [1]})
    # ceil_mode: the canonical form has the extra end padding in `pads`.
    x = randn(1, 2, 6, 7)
    kw = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 0], "ceil_mode": 1}
    sdc = {"kernel": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "dilations": [1, 1]}
    case("MaxPool", kw, [x], sdc)
    case("AveragePool", {**kw, "count_include_pad": 0}, [x], {**sdc, "counted": [0, 0, 0, 0]})
    case("AveragePool", {**kw, "count_include_pad": 1}, [x], {**sdc, "counted": [1, 0, 0, 0]})
    case("GlobalAveragePool", {}, [randn(2, 3, 4, 5)], {"kind": "mean", "axes": [2, 3], "keepdims": True}, op="Reduce",
         operands=None)


def normalizations():
    x, c = randn(2, 3, 4, 2), [randn(3) for _ in range(3)]
    var = np.abs(randn(3))
    case("BatchNormalization", {"epsilon": 0.01}, [x, *c, var], {"epsilon": 0.01})
    case("BatchNormalization", {"epsilon": 0.01}, [randn(4, 3), *c, var], {"epsilon": 0.01})
    case("InstanceNormalization", {"epsilon": 0.001}, [x, *c[:2]], {"epsilon": 0.001})
    case("LayerNormalization", {"epsilon": 0.001, "axis": 2}, [x, randn(4, 2), randn(4, 2)], {"epsilon": 0.001, "axis": 2})
    case("LayerNormalization", {"epsilon": 0.001, "axis": -1}, [x, randn(2), randn(2)], {"epsilon": 0.001, "axis": 3})
    for axis in range(3):
        for op, log in (("Softmax", False), ("LogSoftmax", True)):
            case(op, {"axis": axis}, [randn(2, 3, 4) * 30], {"axis": axis, "log": log}, op="Softmax")


def reductions():
    x = randn(2, 3, 4)
    for kind in ["Sum", "Mean", "Max", "Min", "Prod"]:
        for axes, keep in [([0], 1), ([1, 2], 0), ([0, 2], 1), ([0, 1, 2], 0)]:
            sdc = {"kind": kind.lower(), "axes": axes, "keepdims": bool(keep)}
            case("Reduce" + kind, {"keepdims": keep}, [x, np.array(axes, np.int64)], sdc, op="Reduce", operands=[x])
        i = RNG.integers(-9, 9, (3, 4)).astype(np.int32)
        if kind != "Mean":
            sdc = {"kind": kind.lower(), "axes": [1], "keepdims": False}
            case("Reduce" + kind, {"keepdims": 0}, [i, np.array([1], np.int64)], sdc, op="Reduce", operands=[i])


def movements():
    x = randn(2, 3, 4)
    case("Transpose", {"perm": [2, 0, 1]}, [x], {"perm": [2, 0, 1]})
    case("Transpose", {"perm": [1, 0]}, [np.array([[True, False, True]])], {"perm": [1, 0]})
    case("Reshape", {}, [x, np.array([4, -1], np.int64)], {"shape": [4, 6]}, operands=[x])
    y = randn(3, 1)
    case("Expand", {}, [y, np.array([2, 1, 4], np.int64)], {"shape": [2, 3, 4]}, operands=[y])
    case("Concat", {"axis": 1}, [x, randn(2, 1, 4), randn(2, 0, 4)], {"axis": 1})
    starts, ends, axes, steps = (np.array(v, np.int64) for v in ([-1, 1], [-100, 4], [1, 2], [-2, 2]))
    case("Slice", {}, [x, starts, ends, axes, steps], {"starts": [0, 2, 1], "sizes": [2, 2, 2], "steps": [1, -2, 2]},
         operands=[x])
    for indices in (np.array([[0, -1], [2, 1]], np.int64), np.array(-3, np.int32)):
        case("Gather", {"axis": 1}, [x, indices], {"axis": 1})
    for mode in ["constant", "reflect", "edge", "wrap"]:
        sdc = {"mode": mode, "before": [0, 2, 3], "after": [1, 1, 2], "value": 1.5 if mode == "constant" else 0.0}
        value = np.float32(1.5) if mode == "constant" else None
        operands = [x, np.array([0, 2, 3, 1, 1, 2], np.int64)] + ([value] if value is not None else [])
        case("Pad", {"mode": mode}, operands, sdc, operands=[x])


def resize(x, mode, coordinates, nearest="round_prefer_floor", scales=None, sizes=None, a=-0.75, exclude=0):
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates, "cubic_coeff_a": a, "exclude_outside": exclude}
    if mode == "nearest":
        attrs["nearest_mode"] = nearest
    if scales:
        operands = [x, None, np.array(scales, np.float32)]
        result = [int(np.floor(n * np.float32(s))) for n, s in zip(x.shape, scales)]
    else:
        operands = [x, None, None, np.array(sizes, np.int64)]
        result, scales = sizes, [float(np.float32(o) / np.float32(i)) for o, i in zip(sizes, x.shape)]
    case("Resize", attrs, operands,
         {"sizes": result, "scales": [float(s) for s in scales], "mode": mode, "coordinates": coordinates,
          "nearest": nearest, "cubic_coeff_a": float(a), "exclude_outside": bool(exclude)}, operands=[x])


def resizes():
    x = randn(1, 2, 3, 4)
    for coordinates in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]:
        for extent in ({"scales": [1, 1, 2, 1.5]}, {"scales": [1, 1, 0.6, 0.8]}, {"sizes": [1, 2, 1, 7]}):
            for nearest in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
                resize(x, "nearest", coordinates, nearest, **extent)
            resize(x, "linear", coordinates, **extent)
            resize(x, "cubic", coordinates, **extent)
            resize(x, "cubic", coordinates, a=-0.5, exclude=1, **extent)
    resize(randn(1, 1, 10), "nearest", "asymmetric", "floor", scales=[1, 1, 0.6])
    resize(np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3), "nearest", "asymmetric", "floor", scales=[1, 1, 2, 2])


def main():
    for family in (unary, binary, casts, products, pools, normalizations, reductions, movements, resizes):
        family()
    text = "[\n" + ",\n".join(json.dumps(c) for c in CASES) + "\n]\n"
    pathlib.Path(__file__).with_name("cases.json").write_text(text)
    print(len(CASES), "cases,", len(text), "bytes")


main()
