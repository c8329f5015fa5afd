"""Networks in ONNX Runtime: what they put out, how near two of them are, and integer versions of one."""

from pathlib import Path
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    # Constants that only sdc reads are not worth a warning each.
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def folded(path):
    """The model with batch norm folded into the layers before it."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(scratch) / "folded.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def logits(model):
    """A copy that puts out what its last Softmax reads, if it ends in one."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    output = model.graph.output[0]
    for node in model.graph.node:
        if node.op_type == "Softmax" and node.output[0] == output.name:
            output.name = node.input[0]
            model.graph.node.remove(node)
            break
    return model


def outputs(model, inputs):
    """First output for each input, `[count, values]`."""
    run = session(logits(model))
    name = run.get_inputs()[0].name
    return np.stack([run.run(None, {name: x[None]})[0].reshape(-1) for x in inputs])


def sqnr(exact, actual):
    """Variance of the exact values over the squared error, in dB."""
    exact, actual = exact.astype(np.float64), actual.astype(np.float64)
    centred = exact - exact.mean(axis=1, keepdims=True)
    return 10 * np.log10((centred**2).sum() / max(((exact - actual) ** 2).sum(), 1e-30))


def weights(model):
    """Names of the constants that layers multiply with, with the axis of their filters."""
    names = {t.name for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in names:
            continue
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        found[node.input[1]] = 0 if node.op_type == "Conv" or turned else 1
    return found


def float_bytes(model):
    return sum(
        numpy_helper.to_array(t).nbytes for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
    )


def integers(model, bits):
    """Weights rounded to integers of so many bits, a scale per filter chosen for the least squared error; and the bytes of that:
    integers, f16 scales, everything else as it was."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    axes, size = weights(model), 0
    for tensor in model.graph.initializer:
        dense = numpy_helper.to_array(tensor)
        if tensor.name not in axes:
            size += dense.nbytes if dense.dtype == np.float32 else 0
            continue
        rows = np.moveaxis(dense, axes[tensor.name], 0)
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        rounded = nearest(flat, bits).reshape(rows.shape)
        size += (dense.size * bits + 7) // 8 + 2 * len(rows)
        back = np.moveaxis(rounded, 0, axes[tensor.name]).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(back), tensor.name))
    return model, size


def nearest(flat, bits):
    top = 2 ** (bits - 1) - 1
    peak = np.maximum(np.abs(flat).max(axis=1, keepdims=True), 1e-30)
    best, least = np.zeros_like(flat), np.full((len(flat), 1), np.inf)
    for clip in np.linspace(0.3, 1.05, 76) if bits < 8 else [1.0]:
        scale = peak * clip / top
        trial = np.clip(np.round(flat / scale), -top - 1, top) * scale
        error = ((trial - flat) ** 2).sum(axis=1, keepdims=True)
        best = np.where(error < least, trial, best)
        least = np.minimum(error, least)
    return best


def golden(folder):
    """First inputs of the recorded sets in a folder."""
    found = []
    for path in sorted(Path(folder).glob("test_data_set_*/input_0.pb")):
        found.append(numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))[0])
    return found


def generated(like, count, seed=20):
    """Inputs with the mean and deviation of others: pictures of noise whose power falls with the frequency as in photographs."""
    like = np.stack(like).astype(np.float64)
    random = np.random.default_rng(seed)
    if like.ndim != 4:
        return [(like.mean() + like.std() * random.standard_normal(like.shape[1:])).astype(np.float32) for _ in range(count)]
    channels, height, width = like.shape[1:]
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :]
    falling = 1 / np.maximum(np.hypot(y, x), 1 / max(height, width))
    made = []
    for _ in range(count):
        noise = random.standard_normal((channels + 1, height, width))
        fields = np.fft.ifft2(np.fft.fft2(noise) * falling).real
        fields /= fields.std(axis=(1, 2), keepdims=True)
        # Light is common to the channels, colour is not.
        picture = 0.9 * fields[0] + 0.45 * fields[1:]
        mean = like.mean(axis=(0, 2, 3))[:, None, None] + 0.3 * like.std() * random.standard_normal((channels, 1, 1))
        picture = np.clip(mean + like.std() * picture, like.min(), like.max())
        made.append(picture.astype(np.float32))
    return made
