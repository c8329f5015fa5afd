"""Fits how the cost of compiling grows with the number of nodes: python3 bench/cost.py SDC [KIND...] [--sizes 1000,5000]

Makes chains and fans of nodes, compiles each, and prints CPU time and peak memory with the exponent of their growth between the
smallest and the largest. Exit code 1 if a bar of docs/performance.md is missed. Needs onnx and numpy.
"""

import argparse
import math
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np
from onnx import TensorProto, helper, numpy_helper

EXPONENT = 1.2
# Nodes: seconds of CPU, MiB of memory.
BARS = {20_000: (5, 1024), 100_000: (30, None)}


def model(shape, nodes, weights, outputs):
    image = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "cost", [image("x")], [image(o) for o in outputs], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(operators, shape, weights=()):
    """One node after the other, operators in turns; each is a name and the inputs after the first."""

    def make(n):
        names = ["x"] + [f"t{i}" for i in range(n)]
        nodes = []
        for i in range(n):
            operator, others, attributes = operators[i % len(operators)]
            nodes.append(helper.make_node(operator, [names[i], *others], [names[i + 1]], f"n{i}", **attributes))
        return model(shape, nodes, dict(weights), [names[-1]])

    return make


def fan(n):
    """Half of the nodes read one tensor, each with a factor of its own; the others sum up what they make."""
    half = n // 2
    weights = {f"w{i}": np.full([16], i + 1, np.float32) for i in range(half)}
    nodes = [helper.make_node("MatMul" if i % 2 else "Mul", ["x", f"w{i}"], [f"a{i}"], f"n{i}") for i in range(half)]
    total = "a0"
    for i in range(1, half):
        nodes.append(helper.make_node("Add", [total, f"a{i}"], [f"s{i}"], f"m{i}"))
        total = f"s{i}"
    return model([1, 16], nodes, weights, [total])


def live(n):
    """A chain whose every tensor is read again at the end, the last first: half of them are alive at once."""
    half = n // 2
    nodes = [helper.make_node("Softmax", [f"t{i - 1}" if i else "x"], [f"t{i}"], f"n{i}") for i in range(half)]
    total = f"t{half - 1}"
    for i in reversed(range(half - 1)):
        nodes.append(helper.make_node("Add", [total, f"t{i}"], [f"s{i}"], f"m{i}"))
        nodes.append(helper.make_node("Softmax", [f"s{i}"], [f"r{i}"], f"q{i}"))
        total = f"r{i}"
    return model([1, 16], nodes, {}, [total])


small = lambda *shape: np.linspace(-0.4, 0.5, math.prod(shape), dtype=np.float32).reshape(shape)
KINDS = {
    "convolution": chain([("Conv", ["w"], {"pads": [1] * 4})], [1, 4, 8, 8], [("w", small(4, 4, 3, 3))]),
    "matmul": chain([("MatMul", ["w"], {})], [4, 8], [("w", small(8, 8))]),
    "softmax": chain([("Softmax", [], {})], [4, 8]),
    "elementwise": chain([("Sin", [], {}), ("Tanh", [], {}), ("Mul", ["w"], {})], [4, 8], [("w", small(8))]),
    "fan": fan,
    "live": live,
}


def measure(program, path):
    """CPU seconds and MiB of one compilation."""
    with tempfile.TemporaryDirectory() as out:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = ["/usr/bin/env", "python3", "-c", CHILD, program, "compile", str(path), "-o", out + "/out"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if said.returncode != 0:
        sys.exit(f"{path.name}: exit code {said.returncode}\n{said.stderr[-2000:]}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(said.stdout.split()[-1]) / 1024


# A process between, so that the peak is of this one compilation.
CHILD = """
import resource, subprocess, sys
said = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(said.returncode)
"""


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("program")
    parse.add_argument("kinds", nargs="*")
    parse.add_argument("--sizes", default="1000,5000,20000,100000")
    arguments = parse.parse_intermixed_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    missed = 0
    for kind in arguments.kinds or KINDS:
        points = []
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "model.onnx")
                path.write_bytes(KINDS[kind](size).SerializeToString())
                seconds, memory = measure(arguments.program, path)
            points.append((size, seconds))
            most, most_memory = BARS.get(size, (None, None))
            bad = (most and seconds > most) or (most_memory and memory > most_memory)
            missed += bool(bad)
            print(f"{kind:12} {size:7} {seconds:8.2f} s {memory:7.0f} MiB{'  MISSED' if bad else ''}", flush=True)
        logs = np.log(np.array(points))
        exponent = np.polyfit(logs[:, 0], logs[:, 1], 1)[0] if len(points) > 1 else 0.0
        missed += exponent > EXPONENT
        print(f"{kind:12} exponent {exponent:.2f}{'  MISSED' if exponent > EXPONENT else ''}", flush=True)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
