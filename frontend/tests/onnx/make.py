"""Records single-node models with ONNX Runtime's results into cases.bin, for ../operators.rs.

Run as `python3 make.py` with onnx, onnxruntime and numpy; the output depends on the seeds below only.
Each case is a list of byte strings, each after its length as a little-endian u32: description, model, the number of
inputs (one byte), input tensors, output tensors; and before the list, its length.
Operators whose results ONNX Runtime and the ONNX text disagree on (SAME padding of dilated pooling, VALID with
ceil_mode) are left out.
"""

import random
import struct

import numpy as np
import onnxruntime as ort
from onnx import helper, numpy_helper

rng = np.random.default_rng(7)
random.seed(7)
pick = random.choice
cases = []


def case(op, opset, inputs, constant=(), outputs=1, **attributes):
    """Adds a case; `inputs` are arrays or None, those at positions in `constant` become initialisers."""
    names = ["" if a is None else f"i{k}" for k, a in enumerate(inputs)]
    fed = [(n, a) for k, (n, a) in enumerate(zip(names, inputs)) if a is not None and k not in constant]
    fixed = [numpy_helper.from_array(a, n) for k, (n, a) in enumerate(zip(names, inputs)) if a is not None and k in constant]
    attributes = {k: v for k, v in attributes.items() if v is not None}
    results = [f"o{k}" for k in range(outputs)]
    kind = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)],
        "g",
        [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in fed],
        [helper.make_empty_tensor_value_info(n) for n in results],
        fixed,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        got = session.run(None, dict(fed))
    except Exception:  # A random combination that the runtime refuses is no case.
        return
    if any(value.size == 0 for value in got):  # A window larger than the image, which sdc refuses.
        return
    for info, value in zip(graph.output, got):
        info.type.CopyFrom(helper.make_tensor_type_proto(kind(value.dtype), value.shape))
    model.graph.CopyFrom(graph)
    shapes = [None if a is None else list(a.shape) for a in inputs]
    parts = [f"{op}-{opset} {attributes} {shapes}".encode(), model.SerializeToString(), bytes([len(fed)])]
    parts += [numpy_helper.from_array(a).SerializeToString() for _, a in fed]
    parts += [numpy_helper.from_array(np.asarray(a)).SerializeToString() for a in got]
    cases.append(parts)


def real(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def windows():
    for _ in range(170):
        op = pick(["Conv", "Conv", "ConvTranspose", "ConvTranspose", "MaxPool", "AveragePool"])
        opset = pick([7, 10, 11, 13, 19, 22])
        rank = pick([1, 2, 2, 3] if op != "ConvTranspose" else [1, 2, 2])
        kernel = [random.randint(1, 3) for _ in range(rank)]
        strides = [random.randint(1, 3) for _ in range(rank)]
        size = [random.randint(3, 6 if rank < 3 else 4) for _ in range(rank)]
        attributes = {"strides": strides if pick([0, 1, 1]) else None}
        auto = None
        if pick([0, 1]):
            attributes["pads"] = [random.randint(0, 1) for _ in range(2 * rank)]
        elif pick([0, 1, 1]):
            auto = attributes["auto_pad"] = pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        if op in ("Conv", "ConvTranspose"):
            attributes["dilations"] = [random.randint(1, 2) for _ in range(rank)] if pick([0, 1]) else None
            group = attributes["group"] = pick([1, 2])
            attributes["kernel_shape"] = kernel if pick([0, 1]) else None
            weight = real(4, 2 // group, *kernel) if op == "Conv" else real(2, 4 // group, *kernel)
            if op == "ConvTranspose":
                if pick([0, 1]) and attributes["strides"]:
                    attributes["output_padding"] = [random.randint(0, s - 1) for s in strides]
                if pick([0, 0, 1]):
                    attributes["output_shape"] = [random.randint(n, 3 * n) for n in size]
                    attributes.pop("pads", None)
            inputs = [real(1, 2, *size), weight] + ([real(4)] if pick([0, 1]) else [])
            case(op, opset, inputs, {1, 2}, **attributes)
            continue
        attributes["kernel_shape"] = kernel
        if op == "AveragePool":
            attributes["count_include_pad"] = pick([0, 1])
        if opset >= 10 and auto is None and pick([0, 1]):
            attributes["ceil_mode"] = 1
        if opset >= (10 if op == "MaxPool" else 19) and auto is None and pick([0, 1]):
            attributes["dilations"] = [random.randint(1, 2) for _ in range(rank)]
        case(op, opset, [real(1, 2, *size)], **attributes)


def shapes_and_parts(opset):
    x = real(1, 2, 3, 4)
    case("Flatten", opset, [x], axis=pick([0, 1, 2, 3]))
    pads = [[0, 0, 1, 2, 0, 0, 1, 0], [0, 0, -1, 2, 0, 0, 1, -2], [0, 0, -1, -1, 0, 0, 0, 0]]
    for mode in ["constant", "reflect", "edge"]:
        p = pick(pads)
        if opset < 11:
            case("Pad", opset, [x], mode=mode, pads=p, value=0.5)
        elif opset < 18:
            case("Pad", opset, [x, ints(*p), np.float32(0.5)], {1, 2}, mode=mode)
        else:
            case("Pad", opset, [x, ints(1, 0, 0, 2), None, ints(-1, 2)], {1, 3}, mode=mode)
    if opset < 10:
        case("Slice", opset, [x], starts=[0, -3], ends=[-1, 99], axes=[2, 3])
    else:
        case("Slice", opset, [x, ints(1, -1), ints(2, -99), ints(1, 3), ints(1, -2)], {1, 2, 3, 4})
        case("Slice", opset, [x, ints(2**62), ints(-(2**62)), ints(3), ints(-1)], {1, 2, 3, 4})
    y = real(1, 3, 4, 1)
    if opset < 13:
        case("Squeeze", opset, [y], axes=[0, 3])
        case("Unsqueeze", opset, [real(3)], axes=[0, 2])
        case("Split", opset, [x], axis=3, split=[1, 3], outputs=2)
    else:
        case("Squeeze", opset, [y, ints(0, 3)], {1})
        case("Unsqueeze", opset, [real(3), ints(0, 2)], {1})
        case("Split", opset, [x, ints(1, 3)], {1}, axis=-1, outputs=2)
    if opset < 18:
        case("Split", opset, [x], axis=3, outputs=2)
    else:
        case("Split", opset, [x], axis=3, num_outputs=3, outputs=3)
    for op in ["DepthToSpace", "SpaceToDepth"]:
        mode = pick(["DCR", "CRD"]) if op == "DepthToSpace" and opset >= 11 else None
        case(op, opset, [real(1, 8, 2, 4)], blocksize=2, mode=mode)
    case("Tile", opset, [real(2, 3), ints(2, 2)], {1})
    case("Reshape", opset, [x, ints(0, -1, 4)], {1})
    case("Gather", opset, [x, ints(1, 0)], {1}, axis=1)
    case("Transpose", opset, [x], perm=[2, 0, 3, 1])
    case("Dropout", opset, [x])
    if opset >= 8:
        case("Expand", opset, [real(3, 1), ints(2, 1, 2)], {1})


def arithmetic(opset):
    x = real(2, 3, 4)
    for op in ["Softmax", "LogSoftmax"]:
        case(op, opset, [x])
        case(op, opset, [x], axis=pick([0, 1, 2]))
    if opset < 11:
        case("Clip", opset, [x], min=-0.5, max=0.3)
        case("Clip", opset, [x], max=0.3)
    else:
        case("Clip", opset, [x, np.float32(-0.5), np.float32(0.3)], {1, 2})
        case("Clip", opset, [x, None, np.float32(0.3)], pick([{2}, set()]))
    for op in ["Sum", "Mean", "Max", "Min", "ProdL1", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"]:
        op = "Reduce" + op.replace("ProdL1", "Prod")
        axes, keep = pick([None, [1], [0, -1]]), pick([0, 1])
        data = np.abs(x) if op == "ReduceLogSum" else x
        if opset >= 18 or (op == "ReduceSum" and opset >= 13):
            case(op, opset, [data] + ([ints(*axes)] if axes else []), {1}, keepdims=keep)
        else:
            if opset < 11 and axes == [0, -1]:
                axes = [0, 2]
            case(op, opset, [data], axes=axes, keepdims=keep)
    case("BatchNormalization", opset, [x, real(3), real(3), real(3), np.abs(real(3))], {1, 2, 3, 4}, epsilon=0.01)
    case("InstanceNormalization", opset, [x, real(3), real(3)], {1, 2})
    case("LRN", opset, [real(1, 5, 2, 2)], size=pick([1, 2, 3, 5]), alpha=0.3, beta=0.6, bias=1.5)
    case("PRelu", opset, [x, real(3, 1)], {1})
    case("PRelu", opset, [x, real(1)], {1})
    for a, b in [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 1, 3), (2, 3, 2)), ((3,), (2, 3, 2))]:
        case("MatMul", opset, [real(*a), real(*b)])
    for _ in range(3):
        ta, tb = pick([0, 1]), pick([0, 1])
        a, b = real(*((3, 2) if ta else (2, 3))), real(*((4, 3) if tb else (3, 4)))
        c = real(*pick([(4,), (1, 4), (2, 4), (2, 1), (1,)]))
        scale = pick([{}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
        case("Gemm", opset, [a, b, c], pick([{1, 2}, set()]), transA=ta, transB=tb, **scale)
    op = ["Max", "Min", "Sum", "Mean"][opset % 4]
    case(op, opset, [real(3, 1), real(4) if opset >= 8 else real(3, 1), real(1) if opset >= 8 else real(3, 1)])
    case(pick(["GlobalAveragePool", "GlobalMaxPool"]), opset, [real(1, 2, 3, 3)])
    if opset >= 12:
        case("Pow", opset, [rng.integers(1, 5, 4).astype(np.int64), np.array([1.5, 2, 3, 0.5], np.float32)])
        case("Pow", opset, [real(4), ints(1, 2, 3, 0)])


def resizing(opset):
    x = real(1, 1, 3, 4)
    scales = np.array([1, 1, pick([2, 1.5]), pick([1, 2])], np.float32)
    for mode in ["nearest", "linear"]:
        if opset < 9:
            case("Upsample", opset, [x], mode=mode, scales=[float(s) for s in scales])
        elif opset == 9:
            case("Upsample", opset, [x, scales], {1}, mode=mode)
        elif opset == 10:
            case("Resize", opset, [x, scales], {1}, mode=mode)
    if opset < 11:
        return
    for _ in range(6):
        mode = pick(["nearest", "linear", "cubic"])
        coordinates = pick(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
        nearest = pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]) if mode == "nearest" else None
        roi = np.array([], np.float32) if opset < 13 else None
        common = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
        if pick([0, 1]):
            scales = np.array([1, 1, pick([0.5, 1.5, 2]), pick([0.5, 1, 2])], np.float32)
            case("Resize", opset, [x, roi, scales], {1, 2}, **common)
        else:
            sizes = ints(1, 1, random.randint(1, 6), random.randint(1, 6))
            policy = pick(["stretch", "not_larger", "not_smaller"]) if opset >= 18 else None
            empty = np.array([], np.float32) if opset < 13 else None
            case("Resize", opset, [x, roi, empty, sizes], {1, 2, 3}, keep_aspect_ratio_policy=policy, **common)


def activations():
    x = real(24) * 3
    for op in ["HardSwish", "Gelu", "Softplus", "Softsign", "Mish", "Erf", "Sign", "Round", "IsNaN", "Reciprocal"]:
        case(op, 20, [x])
    for op in ["Elu", "Selu", "Celu", "HardSigmoid", "ThresholdedRelu", "LeakyRelu"]:
        case(op, 20, [x], alpha=0.7)
    case("Gelu", 20, [x], approximate="tanh")
    case("Shrink", 20, [x], lambd=0.6, bias=0.2)
    for fmod in [0, 1]:
        case("Mod", 13, [rng.integers(-9, 9, 12).astype(np.int64), ints(*[3, -3, 2, -5] * 3)], fmod=fmod)
    case("LayerNormalization", 17, [real(2, 3), real(3)], {1}, outputs=3)
    case("LayerNormalization", 17, [real(2, 3, 2), real(3, 2), real(3, 2)], {1, 2}, axis=1)
    case("GroupNormalization", 18, [real(1, 4, 3), real(2), real(2)], {1, 2}, num_groups=2)
    case("GroupNormalization", 21, [real(1, 4, 3), real(4), real(4)], {1, 2}, num_groups=2)
    for values in [(0, 10, 3), (10, 0, -3), (5, 1, 1)]:
        case("Range", 11, [np.int64(v) for v in values], {0, 1, 2})
        case("Range", 11, [np.float32(v) for v in values], {0, 1, 2})


windows()
for version in [7, 9, 10, 11, 13, 18]:
    shapes_and_parts(version)
    arithmetic(version)
    resizing(version)
activations()
with open("cases.bin", "wb") as out:
    for parts in cases:
        out.write(struct.pack("<I", len(parts)))
        for part in parts:
            out.write(struct.pack("<I", len(part)) + part)
print(len(cases), "cases")
