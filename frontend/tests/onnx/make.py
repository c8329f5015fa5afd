"""Records single-node models with ONNX Runtime's results into cases.bin, for ../operators.rs.

Run as `python3 make.py` with onnx, onnxruntime and numpy; the output depends on the seeds below only.
Each case is a list of byte strings, each after its length as a little-endian u32: description, model, the number of
inputs (one byte), input tensors, output tensors; and before the list, its length.
Operators whose results ONNX Runtime and the ONNX text disagree on (SAME padding of dilated pooling, VALID with
ceil_mode) are left out. The operators that ONNX Runtime lacks (BitCast, CumProd, TensorScatter, CausalConvWithState,
LinearAttention, outputs of Attention) get the answers of ONNX's own reference evaluator, as does a case marked REFERENCE.
"""

import random
import struct

import fused
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(7)
random.seed(7)
pick = random.choice
cases = []


def runtime(model, fed):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, fed)


RUNTIME, REFERENCE = runtime, lambda model, fed: ReferenceEvaluator(model).run(None, fed)


def case(op, opset, inputs, constant=(), outputs=1, by=RUNTIME, domain="", **attributes):
    """Adds a case; `inputs` are arrays or None, those at positions in `constant` become initialisers; `by` answers it."""
    names = ["" if a is None else f"i{k}" for k, a in enumerate(inputs)]
    fed = [(n, a) for k, (n, a) in enumerate(zip(names, inputs)) if a is not None and k not in constant]
    fixed = [numpy_helper.from_array(a, n) for k, (n, a) in enumerate(zip(names, inputs)) if a is not None and k in constant]
    attributes = {k: v for k, v in attributes.items() if v is not None}
    results = [f"o{k}" for k in range(outputs)] if isinstance(outputs, int) else outputs
    kind = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        [helper.make_node(op, names, results, domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in fed],
        [helper.make_empty_tensor_value_info(n) for n in results if n],
        fixed,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, opset if d == "" else 1) for d in sorted({"", domain})], ir_version=8, producer_name="")
    try:
        got = by(model, {n: np.asarray(a) for n, a in fed})
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


def elementary():
    x = np.array([-0.95, -0.5, -1e-4, 0, 0.3, 0.99], np.float32)
    for op, opset in [("Acos", 7), ("Asin", 22), ("Atan", 7), ("Atanh", 9), ("Sinh", 9), ("Cosh", 22), ("Tan", 7), ("Asinh", 9)]:
        case(op, opset, [x])
    case("Acosh", 9, [np.array([1, 1.0001, 1.5, 20], np.float32)])
    for op in ["Sinh", "Cosh", "Tan", "Atan", "Asinh"]:
        case(op, 22, [real(6) * 4])
    small = lambda kind: rng.integers(0, 200, (2, 3)).astype(kind)
    for kind in [np.uint8, np.int32, np.int64]:
        for op in ["BitwiseAnd", "BitwiseOr", "BitwiseXor"]:
            case(op, 18, [small(kind), small(kind)[:1]])
        case("BitwiseNot", 18, [small(kind)])
    for kind in [np.uint8, np.uint32]:
        for direction in ["LEFT", "RIGHT"]:
            case("BitShift", 11, [small(kind), np.array([0, 1, 3], kind)], direction=direction)
    case("BitCast", 26, [real(4)], by=REFERENCE, to=TensorProto.INT32)
    case("BitCast", 26, [small(np.int16)], by=REFERENCE, to=TensorProto.UINT16)


def orders():
    x, tied = real(2, 3, 4), rng.integers(0, 3, (3, 5)).astype(np.float32)
    for op in ["ArgMax", "ArgMin"]:
        for opset in [7, 11, 13]:
            case(op, opset, [x], axis=pick([0, 1, 2]), keepdims=pick([0, 1]))
        case(op, 13, [tied], axis=-1)
        case(op, 13, [tied], axis=1, select_last_index=1)
    case("TopK", 7, [x], k=2, axis=1, outputs=2)
    case("TopK", 10, [x, ints(3)], {1}, outputs=2)
    for largest in [0, 1]:
        case("TopK", 11, [x, ints(2)], {1}, axis=pick([0, 1, 2]), largest=largest, outputs=2)
        case("TopK", 11, [tied, ints(4)], {1}, largest=largest, outputs=2)
    for opset, axis in [(11, 1), (11, 2), (13, 0), (13, -1)]:
        case("Hardmax", opset, [x], axis=axis)
    for exclusive in [0, 1]:
        for reverse in [0, 1]:
            axis = np.int64(pick([0, 1, -1]))
            case("CumSum", 14, [x, axis], {1}, exclusive=exclusive, reverse=reverse)
            case("CumProd", 26, [x, axis], {1}, by=REFERENCE, exclusive=exclusive, reverse=reverse)
    case("CumSum", 11, [rng.integers(-9, 9, 6), np.int64(0)], {1})


def places():
    x = real(3, 4)
    for k in [None, 1, -2]:
        case("EyeLike", 9, [x], k=k)
    case("EyeLike", 22, [x], dtype=TensorProto.INT32)
    at = rng.integers(-3, 3, (2, 4))
    case("GatherElements", 11, [x, at])
    case("GatherElements", 13, [x, rng.integers(0, 4, (3, 2))], {1}, axis=1)
    case("GatherND", 11, [real(3, 2, 4), ints([2, 1], [0, -1])], {1})
    case("GatherND", 13, [real(2, 3, 4), ints([1], [-3])], batch_dims=1)
    distinct = np.array([[0, 2, 1, -3], [2, 1, 0, 1]])
    case("Scatter", 9, [x, distinct, real(2, 4)])
    for opset in [11, 13, 18]:
        case("ScatterElements", opset, [x, distinct, real(2, 4)])
        case("ScatterND", opset, [real(4, 2), ints([3], [1]), real(2, 2)])
    case("ScatterElements", 18, [x, ints([1, 0], [3, -1], [2, 0]), real(3, 2)], {1}, axis=1)
    repeated = ints([1, 1, 1, 0], [1, 2, 1, 0])
    for reduction in ["add", "mul", "min", "max"]:
        case("ScatterElements", 18, [x, repeated, real(2, 4)], reduction=reduction)
        case("ScatterND", 18, [real(4, 2), ints([3], [1], [3]), real(3, 2)], reduction=reduction)
    case("ScatterND", 16, [x, ints([0, 1], [2, -1]), real(2)], reduction="add")
    for mode in ["linear", "circular"]:
        case("TensorScatter", 24, [real(2, 5, 3), real(2, 2, 3), ints(1, 3)], by=REFERENCE, mode=mode)
    case("TensorScatter", 24, [real(2, 5, 3), real(2, 2, 3)], by=REFERENCE)
    on_off = np.array([-1, 5], np.float32)
    case("OneHot", 9, [ints(0, 2, -1), np.int64(3), on_off], {1})
    case("OneHot", 11, [ints([0, 9], [-4, 1]), ints(4), on_off], {1}, axis=1)
    case("ReverseSequence", 10, [real(4, 3, 2), ints(4, 1, 2)])
    case("ReverseSequence", 10, [real(3, 4), ints(3, 1, 4)], batch_axis=0, time_axis=1)
    for upper in [0, 1]:
        for k in [None, np.int64(-1), np.int64(2)]:
            case("Trilu", 14, [real(2, 3, 4), k], {1}, upper=upper)


def quantised():
    x = real(2, 3, 4) * 4
    per_axis = np.array([0.1, 0.02, 0.5], np.float32)
    for kind, zero in [(np.uint8, 130), (np.int8, -3)]:
        case("QuantizeLinear", 10, [x, np.float32(0.05), kind(zero)], {1, 2})
        case("QuantizeLinear", 13, [x, per_axis, np.array([1, 7, 0], kind)], {1, 2}, axis=1)
        q = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (2, 3, 4)).astype(kind)
        case("DequantizeLinear", 10, [q, np.float32(0.05), kind(zero)], {1, 2})
        case("DequantizeLinear", 13, [q, per_axis, np.array([1, 7, 0], kind)], {1, 2}, axis=-2)
    case("QuantizeLinear", 13, [x, np.float32(0.05)], {1})
    case("QuantizeLinear", 21, [x, np.float32(0.001), np.int16(11)], {1, 2})
    case("DequantizeLinear", 13, [rng.integers(-999, 999, 5).astype(np.int32), np.float32(0.25)], {1})
    # Halves round to even.
    case("QuantizeLinear", 13, [np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 1e9, -1e9], np.float32), np.float32(1), np.int8(0)], {1, 2})


def layers():
    steps, batch, width, hidden = 3, 2, 3, 2
    x, lengths = real(steps, batch, width), np.array([3, 1], np.int32)
    for op, gates in [("RNN", 1), ("GRU", 3), ("LSTM", 4)]:
        for direction, d in [("forward", 1), ("reverse", 1), ("bidirectional", 2)]:
            w, r = real(d, gates * hidden, width), real(d, gates * hidden, hidden)
            b, h = real(d, 2 * gates * hidden), real(d, batch, hidden)
            common = {"hidden_size": hidden, "direction": direction, "outputs": 3 if op == "LSTM" else 2}
            if op == "GRU":
                common["linear_before_reset"] = pick([0, 1])
            case(op, pick([7, 14]), [x, w, r], {1, 2}, **common)
            case(op, 14, [x, w, r, b], {1, 2, 3}, **common)
            fed = [x, w, r, b, lengths, h]
            if op == "LSTM":
                fed += [real(d, batch, hidden), real(d, 3 * hidden)]
            case(op, 14, fed, {1, 2, 3, 4, 7}, **common)
    w, r, b = real(1, 6, 3), real(1, 6, 2), real(1, 12)
    for before in [0, 1]:
        case("GRU", 14, [x, w, r, b], {1, 2, 3}, hidden_size=2, linear_before_reset=before, outputs=2)
    case("RNN", 14, [x, real(1, 2, 3), real(1, 2, 2)], {1, 2}, hidden_size=2, activations=["Relu"], outputs=2)


def losses():
    scores, target, weight = real(3, 4), ints(2, 0, 3), np.abs(real(4))
    deep, deep_target = real(2, 4, 3), rng.integers(0, 4, (2, 3))
    for op in ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"]:
        outputs = 1 if op[0] == "N" else 2
        for reduction in ["none", "sum", "mean"]:
            case(op, 13, [scores, target, weight], {2}, reduction=reduction, outputs=outputs)
            case(op, 12, [deep, deep_target], reduction=reduction, outputs=outputs)
            case(op, 13, [deep, deep_target, weight], {2}, reduction=reduction, ignore_index=1, outputs=outputs)
        # ONNX Runtime knows the first without an ignored class only.
        case(op, 13, [scores, target, weight], {2}, by=REFERENCE, ignore_index=3, outputs=outputs)


def attentions():
    q, k, v = real(1, 2, 3, 4), real(1, 2, 5, 4), real(1, 2, 5, 3)
    grouped = [real(1, 3, 16), real(1, 5, 8), real(1, 5, 8)]
    for by in [RUNTIME, REFERENCE]:
        case("Attention", 23, [q, k, v], by=by)
        case("Attention", 23, [q, k, v], by=by, is_causal=1, scale=0.3)
        case("Attention", 23, [q, k, v, real(3, 5)], by=by, softcap=1.5)
        case("Attention", 23, [q, k, v, rng.random((1, 1, 3, 5)) < 0.7], by=by)
        case("Attention", 23, grouped, by=by, q_num_heads=4, kv_num_heads=2)
    past = [q, k, v, real(3, 7), real(1, 2, 2, 4), real(1, 2, 2, 3)]
    case("Attention", 23, past, by=REFERENCE, outputs=4, qk_matmul_output_mode=2)
    angles = rng.random((6, 2)).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)
    positions = rng.integers(0, 6, (2, 3))
    for interleaved in [0, 1]:
        case("RotaryEmbedding", 23, [real(2, 2, 3, 4), cos, sin, positions], {1, 2}, interleaved=interleaved)
        case("RotaryEmbedding", 23, [real(2, 3, 12), cos, sin, positions], {1, 2}, interleaved=interleaved, num_heads=2, rotary_embedding_dim=4)
    case("RotaryEmbedding", 23, [real(2, 2, 3, 4), cos[positions], sin[positions]], {1, 2})
    for activation in ["none", "silu"]:
        fed = [real(2, 3, 5), real(3, 1, 4), real(3), real(2, 3, 3)]
        case("CausalConvWithState", 27, fed, {1, 2}, by=REFERENCE, activation=activation, outputs=2)
    case("CausalConvWithState", 27, [real(1, 3, 5), real(3, 1, 2)], {1}, by=REFERENCE, outputs=2)
    for rule in ["linear", "gated", "delta", "gated_delta"]:
        fed = [real(1, 3, 8), real(1, 3, 8), real(1, 3, 6), real(1, 2, 4, 3)]
        fed.append(-rng.random((1, 3, 2)).astype(np.float32) if "gated" in rule else None)
        fed.append(rng.random((1, 3, 2)).astype(np.float32) if "delta" in rule else None)
        while fed[-1] is None:
            fed.pop()
        case("LinearAttention", 27, fed, by=REFERENCE, update_rule=rule, q_num_heads=2, kv_num_heads=2, outputs=2)



def newer_forms():
    for op, opset in [("MaxPool", 10), ("AveragePool", 10), ("LpPool", 11)]:
        case(op, opset, [real(1, 2, 5, 6, 4)], kernel_shape=[2, 3, 2], strides=[2, 1, 2], pads=[1, 1, 0, 0, 1, 1])
    case("AveragePool", 11, [real(1, 2, 5, 6, 4)], kernel_shape=[2, 3, 2], pads=[1, 1, 0, 0, 1, 1], count_include_pad=1)
    case("LpPool", 11, [real(1, 2, 5, 6)], kernel_shape=[2, 3], pads=[1, 1, 0, 1], p=3)
    case("LpPool", 11, [real(1, 2, 7)], kernel_shape=[3], strides=[2], p=1)
    for p in [1, 2, 3]:
        case("GlobalLpPool", 11, [real(1, 2, 3, 4)], p=p)
    for p, axis in [(1, 0), (2, -1), (2, 1)]:
        case("LpNormalization", 1, [real(2, 3, 4)], p=p, axis=axis)
    for size, axes in [((2, 7), [1, 2]), ((5, 2), [-1, 0])]:
        case("CenterCropPad", 18, [real(3, 4, 5), ints(*size)], {1}, by=REFERENCE, axes=axes)
    case("Conv", 11, [real(1, 2, 4, 5, 4), real(4, 1, 2, 3, 2), real(4)], {1, 2}, group=2, strides=[2, 1, 1], pads=[1, 0, 1, 0, 1, 0])
    case("ConvTranspose", 11, [real(1, 2, 3, 2, 3), real(2, 3, 2, 2, 2)], strides=[2, 1, 2], pads=[0, 1, 0, 1, 0, 0])
    for group, extra in [(1, {}), (2, {"output_padding": [1, 0]}), (1, {"pads": [1, 2, 0, 1], "dilations": [1, 2]})]:
        case("ConvTranspose", 11, [real(1, 2, 3, 4), real(2, 3, 3, 2), real(3 * group)], group=group, strides=[2, 1], **extra)
    bytes_of = lambda kind, *shape: rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape).astype(kind)
    u8, i8 = np.uint8, np.int8
    case("MatMulInteger", 10, [bytes_of(u8, 2, 3), bytes_of(i8, 3, 4), u8(3), i8(-2)], {1, 2, 3})
    case("MatMulInteger", 10, [bytes_of(u8, 2, 2, 3), bytes_of(u8, 3, 4), u8(200), bytes_of(u8, 4)], {2, 3})
    case("ConvInteger", 10, [bytes_of(u8, 1, 2, 4, 5), bytes_of(u8, 3, 2, 2, 3), u8(100), u8(17)], {1, 2, 3}, pads=[1, 0, 1, 0])
    x = bytes_of(u8, 1, 2, 5, 5)
    scale = lambda *values: np.array(values, np.float32) if len(values) > 1 else np.float32(values[0])
    w, bias = bytes_of(i8, 3, 2, 3, 3), rng.integers(-900, 900, 3).astype(np.int32)
    each = [scale(0.02, 0.01, 0.03), np.zeros(3, i8)]
    case("QLinearConv", 10, [x, scale(0.05), u8(120), w, *each, scale(0.2), u8(90), bias], {1, 2, 3, 4, 5, 6, 7, 8}, strides=[2, 1])
    case("QLinearConv", 10, [x, scale(0.05), u8(120), bytes_of(u8, 3, 2, 3, 3), scale(0.02), u8(99), scale(0.3), u8(90)], {1, 2, 3, 4, 5, 6, 7})
    case("QLinearMatMul", 10, [bytes_of(u8, 3, 4), scale(0.05), u8(99), bytes_of(i8, 4, 2), scale(0.02), i8(3), scale(0.1), u8(120)], {1, 2, 3, 4, 5, 6, 7})
    for x in [real(3, 4), np.abs(real(5)), -np.abs(real(2, 2))]:
        case("DynamicQuantizeLinear", 11, [x], outputs=3)
    for kind in [np.float32, np.float64]:
        a = np.array([5.5, -5.5, 5.5, -5.5, 6.0, 1e6, 0.3], kind)
        b = np.array([2.5, 2.5, -2.5, -2.5, 3.0, 0.7, -4.0], kind)
        case("Mod", 13, [a, b], fmod=1)
    q, blocks = bytes_of(i8, 4, 6), np.abs(real(4, 2)) + np.float32(0.1)
    case("DequantizeLinear", 21, [q, blocks, bytes_of(i8, 4, 2)], {1, 2}, axis=1, block_size=3)
    case("QuantizeLinear", 21, [real(4, 6), blocks, np.zeros((4, 2), i8)], {1, 2}, by=REFERENCE, axis=1, block_size=3)
    # Half types.
    h = lambda *shape: rng.standard_normal(shape).astype(np.float16)
    case("MatMul", 13, [h(3, 4), h(4, 2)])
    case("Softmax", 13, [h(3, 4)])
    case("ReduceSum", 13, [h(3, 4), ints(1)], {1})
    case("Conv", 11, [h(1, 2, 4, 4), h(3, 2, 3, 3)], {1})
    # Operator sets with broadcasting of their own.
    wide = real(2, 3, 4)
    for op in ["Add", "Sub", "Mul", "Div"]:
        case(op, 6, [wide, real(3)], broadcast=1, axis=1)
        case(op, 6, [wide, real(3, 4)], broadcast=1)
    case("Pow", 6, [np.abs(wide), real(2, 3)], broadcast=1, axis=0)
    case("PRelu", 6, [wide, real(3)], {1})
    case("Gemm", 6, [real(2, 3), real(3, 4), real(4)], broadcast=1)



def sampling():
    image, volume = real(2, 3, 4, 5), real(1, 2, 3, 4, 3)
    grid = (rng.random((2, 3, 2, 2)) * 3 - 1.5).astype(np.float32)
    for mode in ["nearest", "bilinear", "bicubic"]:
        for padding in ["zeros", "border", "reflection"]:
            for corners in [0, 1]:
                case("GridSample", 16, [image, grid], mode=mode, padding_mode=padding, align_corners=corners)
    for mode in ["nearest", "linear"]:
        space = (rng.random((1, 2, 1, 3, 3)) * 3 - 1.5).astype(np.float32)
        case("GridSample", 20, [volume, space], mode=mode, padding_mode=pick(["zeros", "border", "reflection"]))
    for corners in [0, 1]:
        case("AffineGrid", 20, [real(2, 2, 3), ints(2, 3, 4, 5)], {1}, align_corners=corners)
        case("AffineGrid", 20, [real(1, 3, 4), ints(1, 1, 2, 3, 4)], {1}, align_corners=corners)
    for op in ["HannWindow", "HammingWindow", "BlackmanWindow"]:
        for periodic in [0, 1]:
            case(op, 17, [np.int64(7)], {0}, periodic=periodic)
    for components in [1, 2]:
        signal = real(2, 6, components)
        case("DFT", 17, [signal], axis=1)
        case("DFT", 17, [signal, np.int64(5)], {1}, axis=1)
        case("DFT", 20, [signal, np.int64(8), np.int64(1)], {1, 2})
    case("DFT", 17, [real(2, 6, 3, 1)], axis=2, onesided=1)
    case("DFT", 17, [real(2, 6, 2)], axis=1, inverse=1)
    for length in [6, 7]:
        case("DFT", 20, [real(1, 4, 2), np.int64(length), np.int64(1)], {1, 2}, by=REFERENCE, inverse=1, onesided=1)
    case("STFT", 17, [real(1, 20, 1), np.int64(4), np.abs(real(8))], {1, 2})
    case("STFT", 17, [real(2, 20, 1), np.int64(3), None, np.int64(6)], {1, 3})
    case("STFT", 17, [real(1, 20, 1), np.int64(4), np.abs(real(8)), np.int64(8)], {1, 2, 3}, onesided=0)
    a, b, s = real(2, 3, 4), real(2, 4, 5), real(4, 4)
    for equation, fed in [
        ("bij,bjk->bik", [a, b]), ("bij, bjk", [a, b]), ("bij->jb", [a]), ("ij,ij->", [s, s]), ("ii->i", [s]), ("ii", [s]),
        ("bij,bjk,k->i", [a, b, real(5)]), ("...ij,jk->...ik", [a, real(4, 2)]), ("...ij->...", [a]), ("i,j->ij", [real(2), real(3)]),
        ("...i,...i->...", [real(3, 1, 4), real(2, 4)]), ("bii->bi", [real(2, 3, 3)]), ("bhqd,bhkd->bhqk", [real(1, 2, 3, 4), real(1, 2, 5, 4)]),
        ("bij,bij->bj", [a, a]),
    ]:
        case("Einsum", 12, fed, equation=equation)
    on = np.array([True, False, True])
    case("Compress", 11, [real(3, 2), on], {1}, axis=0)
    case("Compress", 11, [real(3, 2), np.array([False, True, True, False, True])], {1})
    case("NonZero", 13, [np.array([[1, 0, 2], [0, 0, 3]], np.float32)], {0})
    case("NonZero", 13, [on], {0})


windows()
for version in [7, 9, 10, 11, 13, 18]:
    shapes_and_parts(version)
    arithmetic(version)
    resizing(version)
activations()
for part in [elementary, orders, places, quantised, layers, losses, attentions, newer_forms, sampling]:
    part()
fused.add(case, rng)
fused.placed(case, rng)
with open("cases.bin", "wb") as out:
    for parts in cases:
        out.write(struct.pack("<I", len(parts)))
        for part in parts:
            out.write(struct.pack("<I", len(part)) + part)
print(len(cases), "cases")
