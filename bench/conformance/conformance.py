#!/usr/bin/env python3
"""Runs ONNX's own operator cases through `sdc check` and tabulates the outcome.

    conformance.py generate [--cases DIR]
    conformance.py run      [--cases DIR] [--sdc PATH] [--jobs N] [--only REGEX] [--json FILE] [--table FILE]
    conformance.py compare  OLD.json NEW.json       # exit 1 if a case that passed no longer does

`generate` needs the `onnx` package of PyPI; `run` and `compare` need only Python. A case passes when sdc compiles its model to
native code and the results agree with the recorded ones at sdc's default comparison, which is not ONNX's. A case whose shapes
depend on the values of its inputs (a Reshape whose shape is an input) is *passed fixed* if it passes with its small inputs given
at compile time (`--fix`), and *passed at ONNX's* if it needs the wider tolerance that ONNX states for the case.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

TIMEOUT_S = 60
OUTCOMES = ["passed", "passed at ONNX's", "passed fixed", "refused", "limit", "malformed", "wrong", "crash"]


def generate(cases: pathlib.Path) -> None:
    """Writes every official node case as model.onnx, test_data_set_N/{input,output}_K.pb and case.json."""
    import numpy
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases

    numpy.random.seed(0)
    shutil.rmtree(cases, ignore_errors=True)
    for case in collect_testcases():
        folder = cases / case.name
        folder.mkdir(parents=True)
        model = case.model
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        tensors = True
        for n, data in enumerate(case.data_sets):
            target = folder / f"test_data_set_{n}"
            target.mkdir()
            for kind, values, ports in (
                ("input", data[0], model.graph.input),
                ("output", data[1], model.graph.output),
            ):
                for k, (value, port) in enumerate(zip(values, ports)):
                    if isinstance(value, onnx.TensorProto):
                        proto = value
                    elif port.type.WhichOneof("value") == "tensor_type" and not isinstance(value, list):
                        proto = numpy_helper.from_array(numpy.asarray(value), port.name)
                    else:
                        tensors = False
                        continue
                    (target / f"{kind}_{k}.pb").write_bytes(proto.SerializeToString())
        # A case is filed under the operator it is named after, not under those that its model expands into.
        names = [node.op_type for node in model.graph.node]
        fixable = [port.name for port in model.graph.input if determines_shapes(port)]
        about = {
            "rtol": case.rtol,
            "atol": case.atol,
            "inputs": [port.name for port in model.graph.input],
            "fixable": fixable,
            "operators": sorted(set(names)),
            "opset": max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0),
            "domains": sorted({o.domain for o in model.opset_import}),
            "subject": subject(case.name, names),
            "tensors": tensors,
        }
        (folder / "case.json").write_text(json.dumps(about, indent=1))
    print(f"{sum(1 for _ in cases.iterdir())} cases in {cases}")


def determines_shapes(port) -> bool:
    """True for inputs that hold sizes, axes, pads, scales, flags...: small vectors and scalars."""
    dims = port.type.tensor_type.shape.dim
    return len(dims) <= 1 and all(0 <= d.dim_value <= 16 for d in dims)


def subject(name: str, operators: list[str]) -> str:
    """The operator a case is about: the one in its model, or, if expanded, the schema its name begins with."""
    if len(operators) == 1:
        return operators[0]
    from onnx import defs

    plain = name.removeprefix("test_").replace("_", "").lower()
    known = sorted({s.name for s in defs.get_all_schemas()}, key=len, reverse=True)
    found = next((s for s in known if plain.startswith(s.lower())), None)
    return found or operators[0]


def call(command: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return -9, f"no answer within {TIMEOUT_S} s"
    return done.returncode, done.stdout + done.stderr


def check(sdc: str, folder: pathlib.Path) -> dict:
    about = json.loads((folder / "case.json").read_text())
    code, text, fixed, loose = 2, "values that are no tensors", False, False
    if about["tensors"]:
        command = [sdc, "check", str(folder / "model.onnx"), "--data", str(folder)]
        code, text = call(command)
        if code == 4 and "E0206" in text:
            # Shapes depend on the inputs' values: once more with the small inputs known at compile time.
            data = folder / "test_data_set_0"
            for k, name in enumerate(about["inputs"]):
                if name in about["fixable"]:
                    command += ["--fix", f"{name}={data}/input_{k}.pb"]
            code, text = call(command)
            fixed = True
    if code == 1:
        # Half floats differ by their last bit where intermediate results are kept longer: the case's own tolerance decides.
        code, said = call(command + ["--rtol", str(about["rtol"]), "--atol", str(about["atol"])])
        text = said if code else text
        loose = code == 0
    if code == 2:
        # The data could not be read (strings, sequences...): what matters is what sdc says of the model.
        with tempfile.TemporaryDirectory() as scratch:
            compiled, said = call([sdc, "compile", str(folder / "model.onnx"), "-o", f"{scratch}/out"])
            # A model that compiles, but cannot be checked, is nobody's pass.
            code, text = (compiled, said) if compiled else (2, text)
    passed = "passed at ONNX's" if loose else "passed fixed" if fixed else "passed"
    outcome = {0: passed, 1: "wrong", 3: "malformed", 4: "refused", 5: "limit"}.get(code, "crash")
    return {"case": folder.name, **about, "outcome": outcome, "code": code, "reasons": reasons(text) if code else [],
            "text": text if code else ""}


def reasons(text: str) -> list[str]:
    """The first lines of the distinct problems in a diagnosis, each with its code."""
    found, code = [], ""
    for line in text.splitlines():
        line = line.strip()
        if re.fullmatch(r"E\d{4}", line):
            code = line + " "
        elif line.startswith("x "):
            found.append(code + line[2:])
            code = ""
    return found[:4] or text.splitlines()[:1] or ["(nothing said)"]


def run(args: argparse.Namespace) -> int:
    folders = sorted(f for f in args.cases.iterdir() if (f / "case.json").exists())
    if args.only:
        folders = [f for f in folders if re.search(args.only, f.name)]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda f: check(args.sdc, f), folders))
    count = collections.Counter(r["outcome"] for r in results)
    print(", ".join(f"{count[o]} {o}" for o in OUTCOMES), f"of {len(results)}")
    for r in results:
        if r["outcome"] in ("wrong", "crash"):
            print(f"{r['outcome']}: {r['case']}: {' | '.join(r['text'].split(chr(10)))[:300]}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    if args.table:
        args.table.write_text(table(results))
    return 1 if count["wrong"] or count["crash"] else 0


def compare(old: pathlib.Path, new: pathlib.Path) -> int:
    before = {r["case"]: r["outcome"] for r in json.loads(old.read_text())}
    lost = [
        f"{r['case']}: {before[r['case']]} -> {r['outcome']}"
        for r in json.loads(new.read_text())
        if r["outcome"] in ("wrong", "crash") or (before.get(r["case"], "").startswith("passed") and not r["outcome"].startswith("passed"))
    ]
    print("\n".join(lost) or "no case got worse")
    return 1 if lost else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["generate", "run", "compare"])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--cases", type=pathlib.Path, default=pathlib.Path("/tmp/onnx_cases"))
    parser.add_argument("--sdc", default="sdc")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="run the cases whose names match")
    parser.add_argument("--json", type=pathlib.Path, help="write all results here")
    parser.add_argument("--table", type=pathlib.Path, help="write the table (Markdown) here")
    args = parser.parse_args()
    if args.action == "generate":
        generate(args.cases)
        return 0
    if args.action == "compare":
        if len(args.files) != 2:
            parser.error("compare takes two files")
        return compare(*args.files)
    return run(args)


if __name__ == "__main__":
    from table import table

    sys.exit(main())
