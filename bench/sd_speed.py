#!/usr/bin/env python3
"""Time compressed networks against ONNX Runtime on the dense ones: the table of docs/performance.md.

    python bench/sd_speed.py DENSE.onnx [...] [--sdc SDC] [--form released] [--density 0.3 --group 16] [--rounds 8] [-- OPTIONS]

Each network's weights are compressed by bench/make_sd.py, the result is compiled with OPTIONS (by default `--cpu native`; with
`--activations int8` for random samples), and both run in this process in turns, on one thread. A ratio is the median, over the rounds, of
sdc's median time over that of ONNX Runtime on the float network. Below 1 sdc is faster. Needs numpy, onnx and onnxruntime.
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime

import turns

HERE = pathlib.Path(__file__).parent


class Peer:
    """ONNX Runtime on one thread."""

    def __init__(self, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        spec = self.session.get_inputs()[0]
        self.shape = [d if isinstance(d, int) else 1 for d in spec.shape]
        self.feed = {spec.name: np.random.default_rng(1).standard_normal(self.shape).astype(np.float32)}

    def time(self):
        self.session.run(None, self.feed)
        times, end = [], time.perf_counter() + turns.SECONDS
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            self.session.run(None, self.feed)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def compete(model, args, options, out):
    name, out = pathlib.Path(model).stem, pathlib.Path(out)
    compressed = out / f"{name}.onnx"
    form = ["--form", args.form, "--density", str(args.density), "--group", str(args.group)]
    subprocess.run([sys.executable, HERE / "make_sd.py", model, compressed, *form], check=True, stdout=subprocess.DEVNULL)
    peer = Peer(model)
    if "int8" in options:
        samples = np.random.default_rng(2).standard_normal([4, *peer.shape[1:]]).astype(np.float32)
        np.save(out / "samples.npy", samples)
        options = [*options, "--calib", out / "samples.npy"]
    subprocess.run([args.sdc, "compile", compressed, "-o", out / name, *options], check=True, stdout=subprocess.DEVNULL)
    artifact = turns.Artifact(out / name)
    rounds = [(artifact.time(), peer.time()) for _ in range(args.rounds)]
    ours, theirs = (statistics.median(times) * 1e6 for times in zip(*rounds))
    ratio = statistics.median(a / b for a, b in rounds)
    print(f"| {name} | {ours:.0f} | {theirs:.0f} | {ratio:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sdc", default="sdc")
    parser.add_argument("--form", default="released")
    parser.add_argument("--density", type=float, default=1.0)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    mine, options = sys.argv[1:], ["--cpu", "native"]
    if "--" in mine:
        cut = mine.index("--")
        mine, options = mine[:cut], mine[cut + 1 :]
    args = parser.parse_args(mine)
    turns.SECONDS = 0.15
    print("| network | sdc us | ONNX Runtime us | ratio |\n|---|---|---|---|")
    for model in args.models:
        with tempfile.TemporaryDirectory() as out:
            compete(model, args, options, out)


if __name__ == "__main__":
    main()
