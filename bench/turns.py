#!/usr/bin/env python3
"""Time two or more builds of sdc against each other, or two sets of options: differences of a few per cent, on a noisy machine.

    python bench/turns.py MODEL.onnx [MODEL.onnx ...] --sdc OLD --sdc NEW [--rounds 20] [-- OPTIONS]
    python bench/turns.py MODEL.onnx --sdc SDC --also=--no-winograd [-- OPTIONS]

Each model is compiled by each contestant (OPTIONS, by default `--cpu native`, go to `sdc compile`; with --also the last binary takes
part once more, with these options in addition). All artifacts are then loaded into this one process and run in turns, one thread, so that
what the machine does otherwise, and what memory it has left, hits all alike. (Its loader is not sdc's: weights are never given back.) A ratio is the median, over the rounds, of a contestant's
median time over that of the first. Outputs are compared: `same` if they are the same bits. Needs numpy.
"""
import argparse
import ctypes
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

DTYPES = {"bool": "bool", "bf16": "uint16", "f16": "float16", "f32": "float32", "f64": "float64"}
# Of one contestant in one round.
SECONDS = 0.04


def aligned(size, align=4096):
    memory = np.zeros(size + align, np.uint8)
    start = -memory.ctypes.data % align
    return memory[start : start + size]


def pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])


def tensor(spec):
    """Memory for an input or output; floats have mean 0 and variance 1."""
    dtype = np.dtype(DTYPES.get(spec["dtype"]) or spec["dtype"].replace("i", "int").replace("u", "uint"))
    elements = int(np.prod(spec["shape"], dtype=np.int64))
    memory = aligned(elements * dtype.itemsize)
    if dtype.kind == "f":
        memory.view(dtype)[:] = np.random.default_rng(1).standard_normal(elements)
    return memory


class Artifact:
    def __init__(self, directory):
        interface = json.loads((directory / "manifest.json").read_text())["interface"]
        name = interface["name"]
        library = ctypes.CDLL(str(directory / f"lib{name}.so"))
        self.function = library[f"{name}_run"]
        self.inputs = [tensor(spec) for spec in interface["inputs"]]
        self.outputs = [tensor(spec) for spec in interface["outputs"]]
        weights = np.memmap(directory / f"{name}.weights", np.uint8, "r")
        arena, prepared = aligned(interface["arena_size"]), aligned(interface["prepared_size"])
        self.memory = [weights, arena, prepared]
        weights, arena, prepared = (ctypes.c_void_p(m.ctypes.data) for m in self.memory)
        if library[f"{name}_prepare"](weights, prepared) != 0:
            sys.exit(f"{directory}: this machine cannot run it")
        self.arguments = (pointers(self.inputs), pointers(self.outputs), arena, weights, prepared, None)

    def time(self):
        """Median of the runs of one round, after one that is not counted."""
        self.function(*self.arguments)
        times, end = [], time.perf_counter() + SECONDS
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            self.function(*self.arguments)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def compete(model, contestants, rounds, out):
    artifacts = []
    for i, command in enumerate(contestants):
        directory = pathlib.Path(out) / str(i) / pathlib.Path(model).stem
        subprocess.run([command[0], "compile", model, "-o", directory, *command[1:]], check=True, stdout=subprocess.DEVNULL)
        artifacts.append(Artifact(directory))
    times = [[] for _ in artifacts]
    for round in range(rounds):
        for i in range(len(artifacts)):
            i = (i + round) % len(artifacts)
            times[i].append(artifacts[i].time())
    row = f"{pathlib.Path(model).stem:20}"
    for i, own in enumerate(times):
        ratio = statistics.median(a / b for a, b in zip(own, times[0]))
        same = all((a == b).all() for a, b in zip(artifacts[i].outputs, artifacts[0].outputs))
        row += f"{statistics.median(own) * 1e6:12.1f} us {ratio:6.3f} {'same' if same else 'other':5}"
    print(row, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sdc", action="append", required=True)
    parser.add_argument("--also", type=shlex.split)
    parser.add_argument("--rounds", type=int, default=20)
    mine, theirs = sys.argv[1:], ["--cpu", "native"]
    if "--" in mine:
        cut = mine.index("--")
        mine, theirs = mine[:cut], mine[cut + 1 :]
    args = parser.parse_args(mine)
    contestants = [[sdc, *theirs] for sdc in args.sdc]
    if args.also:
        contestants.append([args.sdc[-1], *theirs, *args.also])
    for model in args.models:
        with tempfile.TemporaryDirectory() as out:
            compete(model, contestants, args.rounds, out)


if __name__ == "__main__":
    main()
