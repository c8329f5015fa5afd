#!/usr/bin/env python3
"""The eight networks as programs of the accelerator: the same bytes in four ways, and what a run costs.

    networks.py bits  [--sdc FILE] [--inputs 16] [--only NAMES] [--forms FORMS] [--set KEY=VALUE]...
    networks.py costs [--sdc FILE] [--only NAMES]

`bits` compiles each network in each form natively and for the accelerator, and asks that `sdc run` of the native code, `sdc sim` in both modes and
ref.py (on the dumped graph) agree in every byte of every output; --set makes it another machine. `costs` prints cycles and DRAM bytes beside what the networks may take, and holds a run
without skipping to golden.py's closed forms. Exit code 1 if anything differs or exceeds. Needs numpy, and ../shared/models: without it, it skips.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import ref

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parents[1] / ".." / "shared" / "models"
# Name: directory; total cycles at 64 B/cycle without skipping; PE cycles with fold; DRAM bytes beside the program.
NETWORKS = {
    "lenet": ("mnist_lenet_webnn", 15_700, 9_199, 435_934 * 1.02),
    "autoencoder": ("mlperftiny_ad_autoencoder", 5_250, 1_623, 278_848 * 1.02),
    "resnet8": ("mlperftiny_ic_resnet8", 11_200, 9_301, 83_210 * 1.02),
    "resnet20": ("cifar10_resnet20", 29_700, 27_034, 277_002 * 1.02),
    "vww": ("mlperftiny_vww_mobilenetv1", 23_200, 19_238, 257_666 * 1.02),
    "mobilenetv1": ("mobilenetv1_025_imagenet", 41_200, 31_754, 543_905 * 1.02),
    "mobilenetv2": ("mobilenetv2_imagenet", 481_000, 388_163, 11_700_000),
    "squeezenet": ("squeezenet1_1_imagenet", 385_600, 321_357, 3_200_000),
}
FORMS = {"int8": None, "ratio": "ratio=7", "published": "ratio=7,solver=released", "rows": "density=0.667"}


def tensor(path):
    """A float tensor of an ONNX .pb file, as the recorded inputs are: dimensions in field 1, bytes in field 9."""
    data, at, dims, raw = path.read_bytes(), 0, [], b""

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
            if key >> 3 == 1:
                dims.append(value)
            continue
        size = {1: 8, 2: None, 5: 4}[key & 7]
        size = varint() if size is None else size
        field, at = data[at : at + size], at + size
        if key >> 3 == 1:
            while field:
                n = next(i for i, b in enumerate(field) if b < 128) + 1
                dims.append(sum((b & 127) << 7 * i for i, b in enumerate(field[:n])))
                field = field[n:]
        if key >> 3 == 9:
            raw = field
    return np.frombuffer(raw, "<f4").reshape(dims)


def inputs(folder, count):
    """Recorded inputs, then the same with noise of seeded strength."""
    rng = np.random.default_rng(13)
    recorded = [tensor(p) for p in sorted((folder / "model_io").glob("test_data_set_*/input_0.pb"))]
    made = list(recorded[:count])
    while len(made) < count:
        x = recorded[len(made) % len(recorded)]
        noise = rng.normal(0, x.std() * rng.uniform(0.1, 2), x.shape)
        made.append((x * rng.uniform(-1, 1.5) + noise).astype(np.float32))
    return made


def run(*arguments, check=True):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def bits(args, name, form, work):
    """Number of outputs that differ in some way."""
    folder = MODELS / NETWORKS[name][0]
    options = ["--activations", "int8", "--calib", folder / "model_io"]
    if FORMS[form]:
        options += ["--sd", FORMS[form]]
    native, accel, model = work / "native", work / "accel", folder / "model.onnx"
    run(args.sdc, "compile", model, "-o", native, "--emit", "sharedlib", *options)
    machine = [a for key in args.set for a in ("--set", key)]
    run(args.sdc, "compile", model, "-o", accel, "--backend", "accel", "--emit", "ir", *options, *machine)
    port = json.loads(run(args.sdc, "inspect", model, "--json").stdout)["inputs"][0]["name"]
    faults = 0
    for k, x in enumerate(inputs(folder, args.inputs)):
        file, out = work / "x.npy", work / "out.npz"
        np.save(file, x)
        values = ["--input", f"{port}={file}"]
        run(args.sdc, "run", native, *values, "--output", out)
        ways = {mode: run(args.sdc, "sim", accel, *values, "--mode", mode, "--expect", out, check=False) for mode in ("func", "cycle")}
        wrong = [f"sim {mode}: {way.stdout[-200:]}{way.stderr}" for mode, way in ways.items() if way.returncode]
        with np.load(out) as archive:
            native_bytes = [archive[n].tobytes() for n in archive.files]
        if [y.tobytes() for y in ref.run(str(accel), x)] != native_bytes:
            wrong.append("ref.py differs")
        for text in wrong:
            print(f"{name} {form} input {k}: {text}")
        faults += len(wrong)
    print(f"{name} {form}: {args.inputs} inputs, {faults} differences", flush=True)
    return faults


def simulate(args, accel, file, port, work, *switches):
    report = work / "report.json"
    sets = [a for s in switches for a in ("--set", s)]
    run(args.sdc, "sim", accel, "--input", f"{port}={file}", "--report", report, *sets)
    return json.loads(report.read_text())


def bound(report):
    """The sum over layers of what the busiest of PE, VE and DRAM takes."""
    return sum(max(l["cycles"]["pe_busy"], l["cycles"]["ve_busy"], l["cycles"]["ld_busy"] + l["cycles"]["st_busy"]) for l in report["layers"])


def broken_laws(report):
    """Sums that do not come out: products, sums over the layers, and each engine's classes of cycles."""
    broken, total, layers = [], report["total"], report["layers"]
    rows = [("total", total), *((l["origin"], l) for l in layers)]
    for where, row in rows:
        if row["macs"] != row["executed"] + row["skipped_weight"] + row["skipped_activation"]:
            broken.append(f"{where}: asked is not executed and skipped")
    for group in ("bytes", "counts"):
        for key, value in total[group].items():
            if value != sum(l[group][key] for l in layers):
                broken.append(f"{group}.{key} is not the sum of the layers")
    for key in ("macs", "executed", "skipped_weight", "skipped_activation"):
        if total[key] != sum(l[key] for l in layers):
            broken.append(f"{key} is not the sum of the layers")
    if total["cycles"] != sum(l["cycles"]["total"] for l in layers):
        broken.append("cycles are not the sum of the layers")
    for engine, classes in report["engines"].items():
        if sum(classes.values()) != total["cycles"]:
            broken.append(f"the classes of {engine} are not the run")
    for layer in layers:
        if sum(layer["cycles"]["classes"].values()) != layer["cycles"]["total"]:
            broken.append(f"{layer['origin']}: the classes are not the layer")
    return broken


def costs(args, name, work):
    folder, total, pe, dram = MODELS / NETWORKS[name][0], *NETWORKS[name][1:]
    accel, model, file = work / "accel", folder / "model.onnx", work / "x.npy"
    options = ["--backend", "accel", "--activations", "int8", "--calib", folder / "model_io"]
    run(args.sdc, "compile", model, "-o", accel, *options)
    port = json.loads(run(args.sdc, "inspect", model, "--json").stdout)["inputs"][0]["name"]
    np.save(file, inputs(folder, 1)[0])
    slow = simulate(args, accel, file, port, work, "bser=0", "askip=0")
    plain = run(sys.executable, HERE / "golden.py", "--check", work / "report.json", check=False)
    own = sum(l["cycles"]["pe_busy"] for l in slow["layers"] if l["op"] in ("conv", "dwconv"))
    moved = slow["total"]["bytes"]["dram_read"] + slow["total"]["bytes"]["dram_written"]
    fast = simulate(args, accel, file, port, work)
    rows = [
        ("PE cycles, bser=0", own, pe * 1.02),
        ("cycles, bser=0 askip=0", slow["total"]["cycles"], total),
        ("cycles, defaults", fast["total"]["cycles"], bound(fast) * (1.1 if name == "resnet20" else 1.2)),
        ("DRAM bytes", moved, dram),
    ]
    for what, found, limit in rows:
        print(f"{name:12} {what:24} {found:>10} of {limit:>12.0f}  {'ok' if found <= limit else 'TOO MANY'}")
    print(f"{name:12} golden.py --check       {plain.stdout.strip().splitlines()[-1]}", flush=True)
    broken = broken_laws(slow) + broken_laws(fast)
    print(f"{name:12} laws of conservation     {'; '.join(broken) or 'hold'}", flush=True)
    return sum(found > limit for _, found, limit in rows) + plain.returncode + len(broken)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bits", "costs"])
    parser.add_argument("--sdc", default=HERE.parents[1] / "target/release/sdc")
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    if not MODELS.is_dir():
        print(f"skipped: no {MODELS}")
        return 0
    faults = 0
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            if args.what == "costs":
                faults += costs(args, name, work)
            else:
                faults += sum(bits(args, name, form, work) for form in args.forms.split(","))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
