#!/usr/bin/env python3
"""Accuracy, or agreement with the float network, against stored bytes: float, int8, int4, the released solver, ours.

    compare.py --sdc target/release/sdc --models ../shared/models --data ../shared/data -o docs

Needs numpy, onnx and onnxruntime. Writes a row per network and method into OUT/compression.md, between its marks, and
OUT/compression.svg. With --at-int4 and --at-released ours is asked for the same bytes as these two.
"""

import argparse
import json
from pathlib import Path
import re
import subprocess
import tempfile

import numpy as np
import onnx

import networks
import plot

CIFAR = ["--scale", "0.00392156862745098", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
# Name, folder, pictures with labels, pictures for calibration, preprocessing of both.
NETWORKS = [
    ("ResNet-20", "cifar10_resnet20", "cifar10_test1000", "cifar10_train4000", CIFAR),
    ("ResNet-8", "mlperftiny_ic_resnet8", "cifar10_test1000", "cifar10_train4000", []),
    ("LeNet-5", "mnist_lenet_webnn", "mnist_test", None, ["--scale", "0.00392156862745098"]),
    ("MobileNetV1 0.25", "mobilenetv1_025_imagenet", None, None, []),
    ("MobileNetV1 VWW", "mlperftiny_vww_mobilenetv1", None, None, []),
    ("SqueezeNet 1.1", "squeezenet1_1_imagenet", None, None, []),
    ("MobileNetV2", "mobilenetv2_imagenet", None, None, []),
]


# What the table stands between.
MARKS = ("<!-- measured -->", "<!-- end -->")


class Bench:
    def __init__(self, args, scratch):
        self.args, self.scratch, self.rows = args, Path(scratch), []

    def network(self, name, folder, tested, calibration, preprocessing):
        path = self.args.models / folder / "model.onnx"
        self.name, self.path = name, path
        self.tested, self.preprocessing = tested, preprocessing
        float_model = networks.folded(path)
        self.whole = networks.float_bytes(float_model)
        recorded = networks.golden(self.args.models / folder / "model_io")
        self.inputs = recorded + networks.generated(recorded, 64)
        self.exact = networks.outputs(float_model, self.inputs)
        self.add("float", float_model, self.whole)
        eight, eight_bytes = networks.integers(float_model, 8)
        self.add("int8", eight, eight_bytes)
        four, four_bytes = networks.integers(float_model, 4)
        self.add("int4", four, four_bytes)
        released = self.released()
        known = preprocessing if tested else []
        wishes = [["--ratio", str(r)] for r in self.args.ratio]
        wishes += [["--size", str(four_bytes)]] * self.args.at_int4
        wishes += [["--size", str(released)]] * self.args.at_released
        for wish in wishes:
            self.compress("ours, no data", wish + known)
            if calibration:
                images = self.args.data / f"{calibration}_x.npy"
                self.compress("ours, calibrated", wish + known + ["--calib", str(images)])

    def released(self):
        """The best of a few thresholds. Returns its bytes."""
        tries = []
        for theta in self.args.theta:
            tries.append(self.compressed(["--solver", "released", "--theta", str(theta)]))
        measured = [(networks.sqnr(self.exact, networks.outputs(m, self.inputs)), m, b) for m, b in tries]
        _, model, size = max(measured, key=lambda t: t[0])
        self.add("released", model, size)
        return size

    def compress(self, method, options):
        self.add(method, *self.compressed(options))

    def compressed(self, options):
        out = self.scratch / "out.onnx"
        command = [self.args.sdc, "compress", self.path, "-o", out, *options]
        done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
        size = int(re.search(r"weights_bytes: (\d+)", done.stdout).group(1))
        return onnx.load(out), size

    def add(self, method, model, size):
        actual = networks.outputs(model, self.inputs)
        row = {
            "network": self.name,
            "method": method,
            "bytes": size,
            "ratio": round(self.whole / size, 2),
            "sqnr_db": None if method == "float" else round(float(networks.sqnr(self.exact, actual)), 1),
            "agreement": round(100 * float((actual.argmax(axis=1) == self.exact.argmax(axis=1)).mean()), 1),
            "accuracy": self.accuracy(model) if self.tested else None,
        }
        print(json.dumps(row), flush=True)
        self.rows.append(row)

    def accuracy(self, model):
        images = np.load(self.args.data / f"{self.tested}_x.npy")[:1000]
        labels = np.load(self.args.data / f"{self.tested}_y.npy")[:1000]
        options = dict(zip(self.preprocessing[::2], self.preprocessing[1::2]))
        each = lambda key, default: np.array([float(v) for v in options.get(key, default).split(",")], np.float32)
        pixels = images.astype(np.float32) * each("--scale", "1")
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels
        pixels = (pixels - each("--mean", "0")) / each("--std", "1")
        found = networks.outputs(model, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        return round(100 * float((found.argmax(axis=1) == labels).mean()), 1)


def table(rows):
    lines = ["| network | method | bytes | ratio | accuracy % | same class % | SQNR dB |", "|---|---|---:|---:|---:|---:|---:|"]
    show = lambda x: "" if x is None else str(x)
    for r in rows:
        cells = [r["network"], r["method"], r["bytes"], r["ratio"], r["accuracy"], r["agreement"], r["sqnr_db"]]
        lines.append("| " + " | ".join(map(show, cells)) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sdc", required=True, type=Path)
    parser.add_argument("--models", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--only", action="append", help="name of a network; may be repeated")
    parser.add_argument("--ratio", type=float, nargs="*", default=[7.0, 9.0])
    parser.add_argument("--theta", type=float, nargs="*", default=[1e-3, 4e-3])
    parser.add_argument("--at-int4", action="store_true")
    parser.add_argument("--at-released", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args, scratch)
        for network in NETWORKS:
            if not args.only or network[0] in args.only:
                bench.network(*network)
    page = args.output / "compression.md"
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(f"{before}{MARKS[0]}\n{table(bench.rows)}{MARKS[1]}{after}")
    (args.output / "compression.svg").write_text(plot.page(bench.rows))


if __name__ == "__main__":
    main()
