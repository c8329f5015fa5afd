"""Outputs against ONNX Runtime's: on networks built here, and on the real ones beside the repository where they are."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import F32, SHARED, classifier, detector, embedding, model_of, sequence, weights_of
from onnx import helper

import sdc

pytest.importorskip("onnxruntime")


def attention():
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "x"], ["o"]),
        helper.make_node("Add", ["o", "x"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "g"], ["y"], axis=-1),
    ]
    weights = weights_of(wq=(16, 16), wk=(16, 16), g=(16,))
    return model_of(nodes, [("x", F32, [2, 9, 16])], [("y", F32, [2, 9, 16])], weights)


@pytest.mark.parametrize(
    ("model", "dims"),
    [(classifier(3), {}), (detector(), {}), (sequence(), {"time": 5}), (embedding(), {"batch": 2, "time": 7}), (attention(), {})],
    ids=["classifier", "detector", "sequence", "embedding", "attention"],
)
def test_networks(model, dims):
    for against in ("onnxruntime", "interpreter"):
        rows = sdc.check(model, against, dims=dims)
        assert rows and all(row["passed"] for row in rows), rows


REAL = sorted(SHARED.glob("*/*.onnx")) if SHARED.is_dir() else []


@pytest.mark.skipif(not REAL, reason="no ../shared/models")
@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_real_models(path):
    """sdc's session and ONNX Runtime's, as a script would use either."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    results = []
    for module in (onnxruntime, sdc):
        session = module.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        random = np.random.default_rng(3)
        feeds = {}
        for node in session.get_inputs():
            shape = [dim if isinstance(dim, int) else 1 for dim in node.shape]
            floats = node.type in ("tensor(float)", "tensor(double)")
            data = random.uniform(0, 1, shape) if floats else random.integers(0, 100, shape)
            names = {"tensor(float)": "float32", "tensor(double)": "float64"}
            feeds[node.name] = data.astype(names.get(node.type, node.type[7:-1]))
        results.append(session.run(None, feeds))
    for theirs, ours in zip(*results):
        assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
        if theirs.dtype.kind == "f":
            scale = max(abs(theirs).max(), 1e-6)
            # Networks in integers round here and there to the next step.
            assert np.percentile(abs(theirs - ours), 99) <= 2e-2 * scale
        else:
            assert np.percentile(abs(theirs.astype("f8") - ours.astype("f8")), 99) <= 1
