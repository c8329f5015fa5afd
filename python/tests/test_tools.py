"""Compiling, saving, compressing, checking, evaluating, and errors."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import F32, classifier, image, model_of, sequence
from onnx import helper

import sdc


def test_a_model_is_a_path_bytes_or_a_proto(model_file):
    x = {"image": image(1, 3, 16, 16)}
    sources = [model_file, str(model_file), model_file.read_bytes(), bytearray(model_file.read_bytes()), onnx.load(model_file)]
    results = [sdc.compile(source).run(x)["scores"] for source in sources]
    assert all((r == results[0]).all() for r in results)
    with pytest.raises(sdc.UsageError, match="of type int"):
        sdc.compile(5)


def test_saved_artifacts_are_loaded(model_file, tmp_path):
    program = sdc.compile(model_file, cpu="x86-64-v3")
    program.save(tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"classifier.o", "classifier.h", "libclassifier.a", "libclassifier.so", "classifier.weights", "manifest.json"}
    loaded = sdc.load(tmp_path / "out", threads=2)
    x = {"image": image(1, 3, 16, 16)}
    assert (loaded.run(x)["scores"] == program.run(x)["scores"]).all()
    loaded.save(tmp_path / "again")
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    with pytest.raises(sdc.UsageError, match="not known"):
        loaded.plan()
    weights = tmp_path / "out" / "classifier.weights"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(sdc.MalformedError):
        sdc.load(tmp_path / "out")
    with pytest.raises(sdc.UsageError):
        sdc.load(tmp_path)
    with pytest.raises(sdc.UsageError):
        program.save(model_file / "under a file")


def test_plan_and_report(model_file):
    program = sdc.compile(model_file)
    plan, report = program.plan(), program.report()
    assert plan["arena_bytes"] == program.sizes["arena"] and "arena" in str(plan)
    assert plan._repr_html_().startswith("<svg") and plan.svg == plan._repr_html_()
    assert report["kernels"] and sum(f["macs"] for f in report["functions"]) > 100_000
    assert all({"pass", "reason", "done"} <= set(remark) for remark in report["remarks"])


def test_options_of_compiling(model_file):
    with pytest.raises(sdc.LimitError) as caught:
        sdc.compile(model_file, ram=100)
    assert caught.value.exit_code == 5 and "100" in str(caught.value)
    for wrong in ({"cpu": "z80"}, {"activations": "int4"}, {"weights": "gone"}, {"ram": -1}, {"threads": 1.5}, {"calib": []}):
        with pytest.raises(sdc.UsageError):
            sdc.compile(model_file, **wrong)
    exact, plain = sdc.compile(model_file), sdc.compile(model_file, winograd=False, kernels=False, cpu="x86-64", name="plain")
    x = {"image": image(1, 3, 16, 16)}
    np.testing.assert_allclose(exact.run(x)["scores"], plain.run(x)["scores"], rtol=1e-4, atol=1e-5)
    assert plain.report()["name"] == "plain" and "plain.o" in plain.sizes
    samples = [image(3, 16, 16, seed=k) for k in range(8)]
    integers = sdc.compile(model_file, activations="int8", calib=samples).run(x)["scores"]
    scores = exact.run(x)["scores"]
    assert 0 < abs(integers - scores).max() < 0.1 * abs(scores).max()
    with pytest.raises(sdc.UsageError, match="sample 0"):
        sdc.compile(model_file, activations="int8", calib=[image(5)])


def test_dimensions_and_fixed_inputs():
    program = sdc.compile(sequence(), dims={"time": 4}, fix={"h": np.zeros((1, 1, 16), "f4")})
    assert [t.name for t in program.inputs] == ["x", "c"] and program.inputs[0].shape == (4, 1, 8)
    with pytest.raises(sdc.Error, match="time"):
        sdc.compile(sequence())
    with pytest.raises(sdc.UsageError, match="whole number"):
        sdc.compile(sequence(), dims={"time": "4"})
    with pytest.raises(sdc.UsageError, match="no input `g`"):
        sdc.compile(sequence(), dims={"time": 4}, fix={"g": np.zeros(1, "f4")})


def test_errors_have_fields():
    nodes = [helper.make_node(op, ["x"], [op], f"the {op}") for op in ("StringNormalizer", "NonZero")]
    with pytest.raises(sdc.UnsupportedError) as caught:
        sdc.compile(model_of(nodes, [("x", F32, [2, 3])], [("NonZero", F32, None)]))
    error = caught.value
    assert isinstance(error, sdc.Error) and error.exit_code == 4 and len(error.problems) >= 2
    assert error.code.startswith("E") and error.node.startswith("the ") and "f32[2,3]" in error.shapes
    assert str(error).startswith(error.code) and f"{len(error.problems)} problems" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and again.problems == error.problems and str(again) == str(error)
    with pytest.raises(sdc.MalformedError):
        sdc.compile(b"no model at all")
    with pytest.raises(sdc.UsageError, match="nowhere.onnx"):
        sdc.compile("/nowhere.onnx")


def test_inspect(model_file):
    found = sdc.inspect(model_file)
    assert found["supported"] and not found["problems"] and found["operators"]["Conv"] == 2
    assert found["inputs"] == [{"name": "image", "type": "f32[1,3,16,16]"}] and found["macs"] > 100_000
    bad = model_of([helper.make_node("NonZero", ["x"], ["y"], "odd")], [("x", F32, [3])], [("y", F32, None)])
    assert not sdc.inspect(bad)["supported"] and sdc.inspect(bad)["problems"]


def test_compress(model_file, tmp_path):
    calls = []
    samples = [image(3, 16, 16, seed=k) for k in range(4)]
    small = sdc.compress(model_file, ratio=5, calib=iter(samples), progress=lambda *state: calls.append(state))
    assert 4.5 < small.ratio and small.report["calibration_inputs"] == 4
    assert {row["node"] for row in small.layers} == {"conv1", "conv2", "dense"} and small.layers[0]["bits_per_weight"] > 0
    small.save(tmp_path / "small.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "small.onnx"))
    assert sdc.compile(small.model).sizes["weights"] < sdc.compile(model_file, winograd=False).sizes["weights"] / 3
    assert "<table>" in small._repr_html_() and "times smaller" in repr(small)
    for wrong in ({"ratio": 5, "bits": 3}, {"solver": "best"}, {"calib": []}, {"calib": [image(4)]}, {"ratio": 0}):
        with pytest.raises(sdc.UsageError):
            sdc.compress(model_file, **wrong)
    with pytest.raises(sdc.LimitError):
        sdc.compress(model_file, size=10)
    with pytest.raises(sdc.UsageError, match="small"):
        small.save(tmp_path / "no folder" / "small.onnx")


def test_check(model_file):
    rows = sdc.check(model_file, "interpreter")
    assert [row["output"] for row in rows] == ["scores", "class"] and all(row["passed"] for row in rows)
    program, x = sdc.compile(model_file), {"image": image(1, 3, 16, 16)}
    wanted = program.run(x)
    wanted["scores"][0, 3] += 1
    wrong = sdc.check(model_file, wanted, inputs=x)
    assert not wrong[0]["passed"] and abs(wrong[0]["max_error"] - 1) < 1e-5 and wrong[1]["passed"]
    assert sdc.check(model_file, wanted, inputs=x, atol=2)[0]["passed"]
    with pytest.raises(sdc.UsageError, match="nothing to compare"):
        sdc.check(model_file, {})
    with pytest.raises(sdc.UsageError, match="against"):
        sdc.check(model_file, "tract")


def test_evaluate(model_file):
    pictures = np.random.default_rng(2).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    program = sdc.compile(model_file)
    found = [
        int(program.run({"image": (p.transpose(2, 0, 1)[None] / np.float32(255)).astype("f4")})["scores"].argmax()) for p in pictures
    ]
    for model in (program, model_file):
        counts = sdc.evaluate(model, pictures, np.array(found), scale=1 / 255, output="scores")
        assert counts["images"] == 30 and counts["top1"] == 30 and counts["found"] == found
    with pytest.raises(sdc.UsageError, match="label 99"):
        sdc.evaluate(program, pictures, np.full(30, 99), output="scores")


SLOW = """
    import sys, sdc
    sys.path.insert(0, sys.argv[1])
    from conftest import classifier
    print("begun", flush=True)
    while True:
        {work}
"""


@pytest.mark.parametrize("work", ["sdc.compile(classifier(size=96))", "sdc.compress(classifier(size=32), ratio=5)"])
def test_interrupts_are_heard(work, tmp_path):
    """Ctrl-C ends long work as it ends Python's own, and nothing is left behind."""
    for delay in (0.02, 0.11, 0.23):
        script = textwrap.dedent(SLOW.format(work=work))
        command = [sys.executable, "-c", script, str(Path(__file__).parent)]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as child:
            assert child.stdout.readline() == "begun\n"
            time.sleep(delay)
            child.send_signal(signal.SIGINT)
            _, error = child.communicate(timeout=60)
        assert "KeyboardInterrupt" in error and "panic" not in error
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_on_disk(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = sdc.compile(model_file)
    assert list(tmp_path.iterdir()) == []
    program.save(tmp_path / "out")


def test_everything_is_documented():
    for name in sdc.__all__:
        thing = getattr(sdc, name)
        if callable(thing):
            assert thing.__doc__, name
    assert "DLPack" in sdc.Compiled.run.__doc__ and "threads" in sdc.compile.__doc__
