"""Holds kept random networks against ONNX Runtime: python3 bench/random.py DIR

DIR is what the tests left with SDC_RANDOM_KEEP=DIR (see snapshots/tests/stages/random/mod.rs). Exit code 1 if any differs, 0 also
where onnxruntime is not installed.
"""

import pathlib
import sys

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import numpy_helper
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(0)


def tensors(folder, what):
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.load_tensor(f)) for f in files]


def difference(ours, theirs):
    """What is wrong with a result, or None."""
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}"
    if ours.dtype.kind != "f":
        return None if (ours == theirs).all() else f"{(ours != theirs).sum()} of {ours.size} differ"
    if (np.isfinite(ours) != np.isfinite(theirs)).any():
        return "not finite in one only"
    ours, theirs, half = ours.astype(np.float64), theirs.astype(np.float64), ours.dtype == np.float16
    finite = np.isfinite(theirs)
    scale = np.abs(theirs[finite]).max(initial=1e-3)
    worst = np.abs(ours - theirs)[finite].max(initial=0.0)
    return f"{worst:.3g} of {scale:.3g}" if worst > (1e-2 if half else 2e-4) * scale else None


def main(folder):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    agree, refused, wrong = 0, 0, 0
    for case in sorted(folder.iterdir()):
        data = case / "test_data_set_0"
        try:
            session = onnxruntime.InferenceSession(case / "model.onnx", options, ["CPUExecutionProvider"])
            names = [i.name for i in session.get_inputs()]
            theirs = session.run(None, dict(zip(names, tensors(data, "input"))))
        except Exception as error:
            refused += 1
            print(f"{case.name}: ONNX Runtime: {str(error).splitlines()[0][:200]}")
            continue
        found = [difference(o, t) for o, t in zip(tensors(data, "output"), theirs)]
        if any(found):
            wrong += 1
            print(f"{case.name}: differs: {[f for f in found if f]}")
        else:
            agree += 1
    print(f"{agree} agree, {refused} that ONNX Runtime refuses, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
