"""Cases of domain com.microsoft, of recurrent layers in their rarer forms, and of resizing that is not canonical; for make.py."""

import numpy as np


def add(case, rng):
    real = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    byte = lambda *shape: rng.integers(0, 256, shape).astype(np.uint8)
    signed = lambda *shape: rng.integers(-127, 128, shape).astype(np.int8)
    scale, u8, i8 = np.float32, np.uint8, np.int8

    def fused(op, inputs, constant=(), **attributes):
        case(op, 17, [None if a is None else np.asarray(a) for a in inputs], constant, domain="com.microsoft", **attributes)

    def layer(op, directions=1, initial=False, peephole=False, **attributes):
        gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 4
        inputs = [real(4, 2, 3), real(directions, gates * hidden, 3), real(directions, gates * hidden, hidden) / 2]
        inputs += [real(directions, 2 * gates * hidden), None]
        states = 2 if op == "LSTM" else 1
        inputs += [real(directions, 2, hidden) if initial else None for _ in range(states)]
        inputs += [real(directions, 3 * hidden)] if peephole else []
        while inputs[-1] is None:
            inputs.pop()
        case(op, 14, inputs, {1, 2, 3, 7}, outputs=1 + states, hidden_size=hidden, **attributes)

    for op in ["LSTM", "GRU", "RNN"]:
        layer(op, clip=0.3)
        layer(op, directions=2, direction="bidirectional", initial=True, clip=0.6)
    layer("GRU", clip=0.4, linear_before_reset=1)
    layer("GRU", activations=["HardSigmoid", "LeakyRelu"], activation_alpha=[0.3, 0.1], activation_beta=[0.4])
    layer("LSTM", input_forget=1, initial=True, peephole=True)
    layer("LSTM", clip=0.5, initial=True, peephole=True)
    acts = ["HardSigmoid", "ScaledTanh", "Softsign"]
    layer("LSTM", activations=acts, activation_alpha=[0.3, 1.2], activation_beta=[0.4, 0.8])
    both = ["Affine", "HardSigmoid", "ScaledTanh"]
    for name in ["Elu", "Softplus", "Softsign", "ThresholdedRelu", "LeakyRelu", *both]:
        alpha = None if name.startswith("Soft") else [0.6]
        layer("RNN", activations=[name], activation_alpha=alpha, activation_beta=[0.3] if name in both else None)

    x, w, b = real(1, 2, 5, 5), real(3, 2, 3, 3), real(3)
    for name, parameters in [
        ("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 1.5]), ("HardSigmoid", [0.3, 0.4]),
    ]:
        fused("FusedConv", [x, w, b], {1, 2}, activation=name, activation_params=parameters, pads=[1, 1, 1, 1])
    fused("FusedConv", [x, w, b, real(1, 3, 5, 5)], {1, 2}, activation="Relu", pads=[1, 1, 1, 1])
    for name, alpha, beta in [("Relu", None, None), ("LeakyRelu", 0.3, None), ("HardSigmoid", 0.3, 0.4)]:
        fused("FusedGemm", [real(3, 4), real(5, 4), real(5)], activation=name, transB=1, alpha=0.5, activation_alpha=alpha, activation_beta=beta)
    fused("FusedMatMul", [real(2, 4, 3), real(2, 5, 4)], transA=1, transB=1, alpha=0.125)
    fused("FusedMatMul", [real(2, 3, 4), real(4, 5)], alpha=2.0)
    fused("TransposeMatMul", [real(4, 3), real(4, 5)], transA=1)
    fused("Gelu", [real(3, 4)])
    for op in ["BiasGelu", "FastGelu"]:
        fused(op, [real(3, 4), real(4)])
    fused("FastGelu", [real(3, 4)])
    fused("QuickGelu", [real(3, 4)], alpha=1.3)
    fused("ExpandDims", [real(3, 4), np.int32(1)], {1})
    case("SimplifiedLayerNormalization", 17, [real(2, 3, 6), real(6)], axis=-1, epsilon=1e-5)
    skip = ["y", "", "", "sum"]
    fused("SkipLayerNormalization", [real(2, 3, 6), real(2, 3, 6), real(6), real(6), real(6)], outputs=skip, epsilon=1e-5)
    fused("SkipLayerNormalization", [real(2, 3, 6), real(2, 3, 6), real(6)], epsilon=1e-5)
    fused("SkipSimplifiedLayerNormalization", [real(2, 3, 6), real(2, 3, 6), real(6), real(6)], outputs=skip)

    for op, out in [("QLinearAdd", 0.0913), ("QLinearMul", 0.213)]:
        # Odd scales, so that no result lies halfway.
        fused(op, [byte(2, 3, 4), scale(0.0517), u8(128), byte(3, 4), scale(0.0311), u8(100), scale(out), u8(120)], {1, 2, 4, 5, 6, 7})
        fused(op, [signed(2, 4), scale(0.0517), i8(3), signed(2, 4), scale(0.0311), i8(-7), scale(out), i8(0)], {1, 2, 4, 5, 6, 7})
    one = [byte(4, 5), scale(0.0517), u8(128), scale(0.00391), u8(0)]
    fused("QLinearSigmoid", one, {1, 2, 3, 4})
    fused("QLinearLeakyRelu", [*one[:3], scale(0.0413), u8(90)], {1, 2, 3, 4}, alpha=0.1)
    for last, shape in [(0, (2, 3, 5, 4)), (1, (2, 5, 4, 3))]:
        pooled = [byte(*shape), scale(0.0517), u8(128), scale(0.0213), u8(110)]
        fused("QLinearGlobalAveragePool", pooled, {1, 2, 3, 4}, channels_last=last)
    parts = [scale(0.0517), u8(120), byte(2, 3), scale(0.0413), u8(128), byte(2, 4), scale(0.0611), u8(100)]
    fused("QLinearConcat", parts, {0, 1, 3, 4, 6, 7}, axis=1)
    left = [byte(4, 6), scale(0.0213), u8(128)]
    fused("QGemm", [*left, signed(6, 5), scale(0.0311), i8(0), rng.integers(-500, 500, 5).astype(np.int32), scale(0.0517), u8(128)], {1, 2, 3, 4, 5, 6, 7, 8})
    columns = [signed(5, 6), np.abs(real(5)) / 30, np.zeros(5, np.int8), rng.integers(-500, 500, 5).astype(np.int32), scale(0.0517), u8(128)]
    fused("QGemm", [*left, *columns], {1, 2, 3, 4, 5, 6, 7, 8}, transB=1)
    fused("QGemm", [*left, signed(6, 5), scale(0.0311), i8(0)], {1, 2, 3, 4, 5}, alpha=0.5)
    fused("MatMulIntegerToFloat", [byte(4, 6), signed(6, 5), scale(0.02), scale(0.03), u8(100), i8(2), real(5)], {1, 2, 3, 4, 5, 6})
    fused("MatMulIntegerToFloat", [byte(4, 6), byte(6, 5), scale(0.02), np.abs(real(5)), u8(100), byte(5)], {1, 2, 3, 4, 5})
    fused("DynamicQuantizeMatMul", [real(4, 6), signed(6, 5), scale(0.03), i8(0), real(5)], {1, 2, 3, 4})
    fused("DynamicQuantizeMatMul", [real(4, 6), signed(6, 5), np.abs(real(5))], {1, 2})
    for bits in [2, 4, 8]:
        for k, n, block in [(64, 4, 32), (40, 3, 16)]:
            blocks, each = -(-k // block), 8 // bits
            packed, scales = byte(n, blocks, block // each), np.abs(real(n * blocks)) / 10
            sizes = {"K": k, "N": n, "bits": bits, "block_size": block}
            fused("MatMulNBits", [real(3, k), packed, scales], {1, 2}, **sizes)
            fused("MatMulNBits", [real(2, 2, k), packed, scales, byte(n * -(-blocks // each))], {1, 2, 3}, **sizes)
    sizes = {"K": 64, "N": 4, "bits": 4, "block_size": 32}
    fused("MatMulNBits", [real(3, 64), byte(4, 2, 16), np.abs(real(8)), None, None, real(4)], {1, 2, 5}, **sizes)
    fused("MatMulNBits", [real(3, 64), byte(4, 2, 16), np.abs(real(8)), np.abs(real(8))], {1, 2, 3}, **sizes)
    fused("DequantizeLinear", [rng.integers(-3000, 3000, (3, 4)).astype(np.int16), scale(0.01), np.int16(5)], {1, 2})
    fused("QuantizeLinear", [real(3, 4), scale(0.00113), np.uint16(500)], {1, 2})

    image, roi = real(1, 1, 7, 9), np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.1], np.float32)
    for mode in ["linear", "cubic"]:
        for sizes in [[1, 1, 0.6, 0.6], [1, 1, 0.3, 0.77]]:
            for outside in [0, 1]:
                shrunk = [image, None, np.array(sizes, np.float32)]
                case("Resize", 18, shrunk, {2}, mode=mode, antialias=1, exclude_outside=outside)
    for mode in ["linear", "cubic", "nearest"]:
        cropped = [image, roi, None, np.array([1, 1, 5, 6])]
        case("Resize", 18, cropped, {1, 3}, mode=mode, coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)


def placed(case, rng):
    """Sampling at computed places, windows put back, and what else came with them."""
    real = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    ints = lambda *values: np.array(values, np.int64)
    windows = [
        ([2, 2], [1, 1], [1, 1, 1, 1], [1, 1], 0), ([3, 2], [2, 1], [1, 0, 1, 1], [1, 1], 1),
        ([2, 2], [2, 2], [1, 1, 1, 1], [2, 2], 0), ([3, 3], [1, 2], [2, 2, 2, 2], [2, 1], 0),
    ]
    for kernel, strides, pads, dilations, order in windows:
        window = {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations}
        case("MaxPool", 17, [real(2, 2, 5, 6)], outputs=2, storage_order=order, **window)
    case("MaxPool", 17, [real(2, 3, 9)], outputs=2, kernel_shape=[3], strides=[2], pads=[1, 1])
    case("MaxPool", 17, [real(1, 2, 4, 5, 4)], outputs=2, kernel_shape=[2, 2, 2], strides=[1, 2, 1])
    case("MaxUnpool", 17, [real(1, 1, 2, 2), ints(0, 3, 9, 15).reshape(1, 1, 2, 2)], kernel_shape=[2, 2], strides=[2, 2])
    regions = np.array([[0, 0, 7, 8], [-2, 1, 3.5, 12], [4, 4, 4.2, 4.1], [-9, -9, -5, -5]], np.float32)
    for mode in ["avg", "max"]:
        for pixel in ["half_pixel", "output_half_pixel"]:
            sizes = {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.9}
            case("RoiAlign", 16, [real(2, 2, 7, 6), regions, ints(0, 1, 1, 0)], mode=mode, coordinate_transformation_mode=pixel, **sizes)
    for group, offsets, strides, pads, dilations in [
        (1, 1, [1, 1], [0, 0, 0, 0], [1, 1]), (2, 2, [2, 1], [1, 1, 1, 1], [1, 2]), (1, 4, [1, 2], [1, 0, 1, 2], [1, 1]),
    ]:
        rows = (6 + pads[0] + pads[2] - 2 * dilations[0] - 1) // strides[0] + 1
        columns = (7 + pads[1] + pads[3] - dilations[1] - 1) // strides[1] + 1
        moved, mask = real(2, offsets * 12, rows, columns), rng.random((2, offsets * 6, rows, columns)).astype(np.float32)
        given = [real(2, 4, 6, 7), real(2, 4 // group, 3, 2), moved, real(2), mask]
        case("DeformConv", 19, given, group=group, offset_group=offsets, strides=strides, pads=pads, dilations=dilations)
    case("Col2Im", 18, [real(2, 18, 30), ints(6, 5), ints(2, 3)], {1, 2}, pads=[1, 1, 0, 1])
    case("Col2Im", 18, [real(1, 8, 9), ints(7, 7), ints(2, 2)], {1, 2}, strides=[2, 2], dilations=[2, 2])
    for size in range(1, 7):
        case("Det", 17, [real(2, size, size)])
    mel = [np.int64(8), np.int64(16), np.int64(8192), np.float32(0), np.float32(4096)]
    case("MelWeightMatrix", 17, mel, {0, 1, 2, 3, 4})
    for kind in [np.int32, np.int64]:
        bases = np.array([2, -3, 1, -1, 7, 0, 5], kind)
        case("Pow", 17, [bases, np.array([5, 3, 9, 7, 2, 4, 0], kind)])
        for exponent in [0, 3]:
            case("Pow", 17, [bases, np.array([exponent], kind)], {1})
    case("Conv", 17, [real(1, 4, 9, 9), real(4, 2, 3, 2)], dilations=[2, 3], group=2, pads=[1, 1, 1, 1])
