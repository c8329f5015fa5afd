#!/usr/bin/env python3
"""Programs made as those of `micro` are, of other shapes and data: what `sdc sim` finds is what the independent machine and the closed forms find.

    others.py [--sdc FILE] [--count 200] [--seed 1]

Each program must have the words, outputs, DRAM bytes, PE cycles and total cycles that `micro.build` says. Exit code 1 if one has not. Needs numpy.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import micro
from golden import W

HERE = pathlib.Path(__file__).resolve().parent
# Numbers and bases of a row, alphabet, and bits of a row's word; none where the codes have four bits each.
FORMS = [(3, 3, (1, 2, 4, 8, 16, 32, 64), 0), (4, 6, (1, 2), 14), (3, 8, (1,), 13), (3, 3, (3, 6, 10, 16), 10)]


def layer(rng):
    """Weights, channels, rows and columns, and the other arguments of `micro.build`."""
    k, stride, dilation = int(rng.choice([1, 1, 2, 3, 3, 5])), int(rng.integers(1, 4)), int(rng.integers(1, 3))
    size, fold = int(rng.integers((k - 1) * dilation + 1, 21)), int(rng.choice([1, 1, 2, 4]))
    options = dict(stride=stride, dil=dilation, pad=int(rng.integers(0, k)), wskip=int(rng.integers(2)), askip=int(rng.integers(2)))
    if rng.random() < 0.2:
        c = int(rng.integers(1, 65))
        return W(c, 1, k, k), c, size, dict(stride=stride, pad=options["pad"], depthwise=True, dwmap=int(rng.integers(2)))
    c = int(rng.integers(1, min(120, 1900 // (k * k)) + 1))
    m = int(rng.integers(1, 64 // fold + 1)) if fold > 1 else int(rng.integers(1, 131))
    if rng.random() < 0.4:
        return W(m, c, k, k), c, size, dict(options, fold=fold)
    s, r, alpha, bits = FORMS[rng.integers(len(FORMS))]
    rows, kept, group = -(-c * k * k // s), None, 0
    if rng.random() < 0.5:
        # The closed form takes the worst index group of the layer; an instruction knows those of its own filters.
        m = min(m, 64)
        group = int(rng.choice([16, 32, 64]))
        kept = rng.random((-(-m // group), rows)) < 0.6
        kept[:, 0] = True
    t = 2 if any(bin(a).count("1") > 1 for a in alpha) else 1
    w = W(m, c, k, k, "sd", s, r, t, bits or None, kept=kept, G=group)
    return w, c, size, dict(options, fold=fold, alpha=alpha, row=int(bits > 0))


def faults(sdc, folder, name):
    """What `sdc` finds that is not in the file beside the program."""
    text, wanted = folder / f"{name}.sdas", json.loads((folder / f"{name}.json").read_text())
    words = subprocess.run([sdc, "asm", text, "--hex"], capture_output=True, text=True, check=True).stdout.split()
    report, out = folder / "report.json", folder / "out"
    subprocess.run([sdc, "sim", text, "--report", report, "--output-dir", out], capture_output=True, check=True)
    total = json.loads(report.read_text())["total"]
    found = {
        "words_sha256": hashlib.sha256(b"".join(int(w, 16).to_bytes(16, "little") for w in words)).hexdigest(),
        "output_sha256": hashlib.sha256(np.load(out / "output_0.npy").tobytes()).hexdigest(),
        "pe_busy": total["busy"]["pe_busy"],
        "total_cycles": total["cycles"],
        "dram_read": total["bytes"]["dram_read"],
        "dram_written": total["bytes"]["dram_written"],
        "program_bytes": total["bytes"]["program"],
    }
    return {key: (value, wanted[key]) for key, value in found.items() if value != wanted[key]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdc", default=HERE.parents[1] / "target/release/sdc")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, made, unfit, wrong = np.random.default_rng(args.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as work:
        micro.OUT = work
        while made < args.count:
            w, c, size, options = layer(rng)
            x = rng.integers(0, 256, (c, size, size)) * (rng.random((c, size, 1)) < 0.7)
            try:
                micro.build("other", w, c, size, x, bser=int(rng.integers(2)), seed=int(rng.integers(1 << 30)), **options)
            except (AssertionError, ValueError, ZeroDivisionError, OverflowError):
                # The generator makes one load of weights and one map, and asks for results that use their range.
                unfit += 1
                continue
            made += 1
            differs = faults(args.sdc, pathlib.Path(work), "other")
            if differs:
                wrong += 1
                print(f"program {made}: M {w.M} C {c} K {w.R} size {size} {w.kind} {options}: {differs}")
    print(f"{made} programs, {wrong} with faults ({unfit} layers that the generator has no program for)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
