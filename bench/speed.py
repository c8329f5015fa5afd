#!/usr/bin/env python3
"""Compile models, time them against other runtimes, and print the table of docs/performance.md.

    python bench/speed.py MODELS_DIR --harness PEERS.PY [--sdc PATH] [--threads 1,2]
                          [--models a,b] [--rounds 5] [--seconds 0.3] [--peers ort,openvino]
                          [--rt] [--cpu native] [--json FILE]

The harness times every runtime in a process of its own, in turns (A, B, A, B, ...), and takes medians: the machine's other
load and its drift then hit all alike. It writes JSON: for each model and thread count the rounds of each runtime. Here the models
are compiled first (the time it takes, and the size of the code, are in the table too) and the ratios summed up.
"""
import argparse
import datetime
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time


def median(values):
    values = sorted(values)
    n = len(values)
    return values[n // 2] if n % 2 else (values[n // 2 - 1] + values[n // 2]) / 2


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def section_bytes(path):
    """Bytes of code, from `size`."""
    out = subprocess.run(["size", "-A", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"^\.text\s+(\d+)", out, re.M)
    return int(found[1]) if found else 0


def compile_models(args, models, out):
    """Compiles each model; its time in seconds and the bytes of its code."""
    facts = {}
    for name in models:
        start = time.perf_counter()
        command = [args.sdc, "compile", os.path.join(args.dir, name + ".onnx"), "--cpu", args.cpu]
        done = subprocess.run(command + ["-o", os.path.join(out, name)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{name}: {done.stderr}")
        seconds = time.perf_counter() - start
        objects = [f for f in os.listdir(os.path.join(out, name)) if f.endswith(".o")]
        facts[name] = (seconds, section_bytes(os.path.join(out, name, objects[0])))
    return facts


def cpu_name():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    return found[1] if found else platform.processor()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("dir")
    ap.add_argument("--harness", required=True)
    ap.add_argument("--sdc", default="sdc")
    ap.add_argument("--cpu", default="native")
    ap.add_argument("--models")
    ap.add_argument("--threads", default="1,2")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=0.3)
    ap.add_argument("--peers", default="ort,openvino")
    ap.add_argument("--rt", action="store_true")
    ap.add_argument("--json", metavar="FILE")
    args = ap.parse_args()
    models = args.models.split(",") if args.models else sorted(
        f[:-5] for f in os.listdir(args.dir) if f.endswith(".onnx")
    )
    with tempfile.TemporaryDirectory() as out:
        facts = compile_models(args, models, out)
        result = args.json or os.path.join(out, "rounds.json")
        # The harness names the model's file; the artifact has the file's name.
        ours = f"{shlex.quote(args.sdc)} bench {shlex.quote(out)}/$(basename {{model}} .onnx)"
        ours += f" --threads {{threads}} --seconds {args.seconds}"
        command = [sys.executable, args.harness, args.dir, "--models", ",".join(models)]
        command += ["--threads", args.threads, "--rounds", str(args.rounds), "--seconds", str(args.seconds)]
        command += ["--peers", args.peers, "--ours", ours, "--json", result] + ["--rt"] * args.rt
        subprocess.run(command, check=True, stdout=sys.stderr)
        with open(result) as f:
            measured = json.load(f)
    report(measured, facts, args.peers.split(","))


def rows_of(measured):
    """(model, threads, {runtime: [rounds]}) of what the harness wrote."""
    rows = measured["rows"] if isinstance(measured, dict) and "rows" in measured else measured
    for row in rows:
        yield row["model"], row["threads"], row["rounds"]


def report(measured, facts, peers):
    print(f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores\n")
    columns = ["model", "threads", "sdc us"] + [f"/ {p}" for p in peers]
    columns += ["sdc MiB"] + [f"{p} MiB" for p in peers] + ["compile s", "code KiB"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    ratios = {}
    for model, threads, rounds in rows_of(measured):
        us = {who: median([r["us"] for r in rs]) for who, rs in rounds.items()}
        net = {who: max(r["net_kib"] or 0 for r in rs) / 1024 for who, rs in rounds.items()}
        cells = [model, str(threads), f"{us['ours']:.1f}"]
        for peer in peers:
            ratio = us["ours"] / us[peer] if peer in us else float("nan")
            ratios.setdefault((threads, peer), []).append(ratio)
            cells.append(f"{ratio:.2f}")
        cells += [f"{net['ours']:.1f}"] + [f"{net.get(p, float('nan')):.1f}" for p in peers]
        seconds, code = facts[model]
        print("| " + " | ".join(cells + [f"{seconds:.1f}", f"{code / 1024:.0f}"]) + " |")
    print()
    for (threads, peer), values in sorted(ratios.items()):
        values = [v for v in values if not math.isnan(v)]
        print(f"- {threads} threads, sdc / {peer}: geometric mean {geometric_mean(values):.2f}, worst {max(values):.2f}")


if __name__ == "__main__":
    main()
