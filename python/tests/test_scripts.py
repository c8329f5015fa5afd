"""Scripts as people write them for ONNX Runtime, run with `import onnxruntime as ort` and with `import sdc as ort`: each returns what it would print."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from conftest import classifier, detector, embedding, image, model_of, sequence
from onnx import TensorProto, helper

import sdc

onnxruntime = pytest.importorskip("onnxruntime")


def classify_one(ort, folder):
    session = ort.InferenceSession(str(folder / "classifier.onnx"))
    name = session.get_inputs()[0].name
    scores = session.run(None, {name: image(1, 3, 16, 16)})[0]
    return int(np.argmax(scores)), scores


def classify_with_options(ort, folder):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    session = ort.InferenceSession(folder / "classifier.onnx", sess_options=options, providers=["CPUExecutionProvider"])
    return session.run(["class", "scores"], {"image": image(1, 3, 16, 16)})


def preprocessed_picture(ort, folder):
    picture = np.random.default_rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    x = (picture.astype(np.float32) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = np.expand_dims(x.transpose(2, 0, 1), 0).astype(np.float32)
    session = ort.InferenceSession(str(folder / "classifier.onnx"), providers=ort.get_available_providers()[-1:])
    logits = session.run([session.get_outputs()[0].name], {session.get_inputs()[0].name: x})[0][0]
    softmax = np.exp(logits - logits.max())
    return softmax / softmax.sum(), np.argsort(logits)[::-1][:5]


def model_from_bytes(ort, folder):
    session = ort.InferenceSession((folder / "classifier.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"image": image(1, 3, 16, 16)})


def model_from_proto(ort, folder):
    model = onnx.load(folder / "detector.onnx")
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {"input": image(1, 3, 32, 32)})


def detect(ort, folder):
    session = ort.InferenceSession(str(folder / "detector.onnx"))
    height, width = session.get_inputs()[0].shape[2:]
    boxes, scores = session.run(["boxes", "scores"], {"input": image(1, 3, height, width)})
    keep = scores[0, :, 1:].max(axis=1) > 0.4
    return boxes[0][keep], scores[0][keep].argmax(axis=1)


def describe(ort, folder):
    session = ort.InferenceSession(str(folder / "embedding.onnx"))
    inputs = [(i.name, i.type, i.shape) for i in session.get_inputs()]
    return inputs, [(o.name, o.type, o.shape) for o in session.get_outputs()], session.get_providers()


def sentence_vectors(ort, folder):
    session = ort.InferenceSession(str(folder / "embedding.onnx"))
    vectors = []
    for ids in ([[1, 2, 3]], [[4, 5, 6], [7, 8, 0]], [[9, 10]]):
        ids = np.array(ids, dtype=np.int64)
        mask = (ids > 0).astype(np.int64)
        vectors.append(session.run(None, dict(input_ids=ids, attention_mask=mask))[0])
    return vectors


def batches(ort, folder):
    session = ort.InferenceSession(str(folder / "batches.onnx"))
    data = image(20, 3, 16, 16)
    found = [session.run(["scores"], {"image": data[k : k + 8]})[0] for k in range(0, len(data), 8)]
    return np.concatenate(found)


def audio_stream(ort, folder):
    session = ort.InferenceSession(str(folder / "stream.onnx"))
    state = {"h": np.zeros((1, 1, 16), np.float32), "c": np.zeros((1, 1, 16), np.float32)}
    signal, heard = image(40, 1, 8), []
    for start in range(0, 40, 4):
        y, state["h"], state["c"] = session.run(None, {"x": signal[start : start + 4], **state})
        heard.append(y)
    return np.concatenate(heard), state


def sequence_of_any_length(ort, folder):
    session = ort.InferenceSession(str(folder / "sequence.onnx"))
    zero = np.zeros((1, 1, 16), dtype=np.float32)
    return [session.run(["h_out"], {"x": image(n, 1, 8), "h": zero, "c": zero})[0] for n in (3, 7, 3)]


def by_name_of_output(ort, folder):
    session = ort.InferenceSession(str(folder / "classifier.onnx"))
    names = [o.name for o in session.get_outputs()]
    results = session.run(names, {i.name: image(*i.shape) for i in session.get_inputs()})
    return dict(zip(names, results))


def free_dimension(ort, folder):
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("time", 6)
    session = ort.InferenceSession(str(folder / "sequence.onnx"), options)
    zero = np.zeros((1, 1, 16), dtype=np.float32)
    return session.run(None, {"x": image(6, 1, 8), "h": zero, "c": zero})


def shape_from_an_input(ort, folder):
    session = ort.InferenceSession(str(folder / "reshape.onnx"))
    x = image(2, 6)
    return [session.run(None, {"x": x, "shape": np.array(s, np.int64)})[0] for s in ([3, 4], [12, 1], [3, 4])]


def threads(ort, folder):
    from concurrent.futures import ThreadPoolExecutor

    session = ort.InferenceSession(str(folder / "classifier.onnx"))
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda k: session.run(["scores"], {"image": image(1, 3, 16, 16, seed=k)})[0], range(8)))


SCRIPTS = [
    classify_one,
    classify_with_options,
    preprocessed_picture,
    model_from_bytes,
    model_from_proto,
    detect,
    describe,
    sentence_vectors,
    batches,
    audio_stream,
    sequence_of_any_length,
    by_name_of_output,
    free_dimension,
    shape_from_an_input,
    threads,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    reshape = [("x", TensorProto.FLOAT, [2, 6]), ("shape", TensorProto.INT64, [2])]
    models = {
        "classifier": classifier(),
        "batches": classifier("batch"),
        "detector": detector(),
        "embedding": embedding(),
        "sequence": sequence(),
        "stream": sequence(4),
        "reshape": model_of([helper.make_node("Reshape", ["x", "shape"], ["y"])], reshape, [("y", TensorProto.FLOAT, ["a", "b"])]),
    }
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")
    return folder


def same(ours, theirs):
    """Equal in structure, and in numbers but for rounding."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs):
            same(a, b)
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.__name__)
def test_only_the_import_changes(script, folder):
    same(script(sdc, folder), script(onnxruntime, folder))


def test_what_is_not_supported_says_so(folder):
    path = folder / "classifier.onnx"
    with pytest.raises(sdc.UnsupportedError, match="CUDAExecutionProvider.*not supported"):
        sdc.InferenceSession(path, providers=["CUDAExecutionProvider"])
    with pytest.warns(UserWarning, match="not available: CUDAExecutionProvider"):
        sdc.InferenceSession(path, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    options = sdc.SessionOptions()
    with pytest.raises(sdc.UnsupportedError, match="`enable_profiling`"):
        options.enable_profiling = True
    with pytest.raises(sdc.UnsupportedError, match="custom operators"):
        options.register_custom_ops_library("lib.so")
    with pytest.raises(sdc.UsageError, match="onnxruntime"):
        sdc.InferenceSession(path, onnxruntime.SessionOptions())
    session = sdc.InferenceSession(path)
    with pytest.raises(sdc.UnsupportedError, match="bindings"):
        session.io_binding()
    with pytest.raises(sdc.UsageError, match="no output 'nothing'"):
        session.run(["nothing"], {"image": image(1, 3, 16, 16)})
    with pytest.raises(sdc.UsageError, match="is tensor.float. of shape"):
        sdc.InferenceSession(folder / "batches.onnx").run(None, {"image": image(2, 3, 16, 15)})
    with pytest.raises(sdc.UsageError, match="missing: .'image'.*does not have: .'picture'"):
        sdc.InferenceSession(folder / "batches.onnx").run(None, {"picture": image(2, 3, 16, 16)})
