#!/usr/bin/env python3
"""Runs ONNX's own operator and model cases through `sdc check` and tabulates the outcome.

    conformance.py generate [--cases DIR]
    conformance.py run      [--cases DIR|TAR] [--sdc PATH] [--jobs N] [--only REGEX] [--results FILE] [--table FILE]
                            [--expected FILE]
    conformance.py pack     [--cases DIR] TAR         # the fixed sample that CI runs

`generate` needs the `onnx` package of PyPI; the rest needs only Python. Each case runs twice, as native code and on the reference
interpreter. It passes when the results agree with the recorded ones at sdc's default comparison. A case whose shapes depend on
the values of its inputs (a Reshape whose shape is an input) is *passed fixed*: `sdc check` fixed these inputs to what was
recorded, and said so. It is *passed at ONNX's* if it needs the wider tolerance that ONNX's own runner applies to the case.
`--results` lists the cases by outcome, which `--expected` reads: exit code 1 if a case became worse than it says.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

TIMEOUT_S = 300
OUTCOMES = ["passed", "passed at ONNX's", "passed fixed", "refused", "limit", "malformed", "on purpose", "wrong", "crash"]

# Cases whose recorded results sdc does not follow. ONNX's reference aligns the corners of a Resize by the exact product of size and scale;
# ONNX Runtime, and the frameworks that export such nodes, by the number of samples.
ON_PURPOSE = {
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}


# ONNX's own runner grants bfloat16 results two units in the last place.
BFLOAT16_RTOL = 2.0**-6
# Cases of the sample are no larger than this.
SAMPLE_BYTES = 6000
SAMPLE_SHARE = 5


def generate(cases: pathlib.Path) -> None:
    """Writes every official case as model.onnx, test_data_set_N/{input,output}_K.pb and case.json."""
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
        describe(folder, model, "node", case.rtol, case.atol, tensors)
    generate_files(cases)
    print(f"{sum(1 for _ in cases.iterdir())} cases in {cases}")


def describe(folder: pathlib.Path, model, suite: str, rtol: float, atol: float, tensors: bool) -> None:
    """Writes case.json."""
    from onnx import TensorProto

    # A case is filed under the operator it is named after, not under those that its model expands into.
    names = [node.op_type for node in model.graph.node]
    inits = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in inits]
    halves = any(port.type.tensor_type.elem_type == TensorProto.BFLOAT16 for port in model.graph.output)
    about = {
        "suite": suite,
        "rtol": max(rtol, BFLOAT16_RTOL) if halves else rtol,
        "atol": atol,
        "inputs": len(inputs),
        "opset": max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0),
        "subject": subject(folder.name, names) if suite == "node" else suite,
        "tensors": tensors,
    }
    (folder / "case.json").write_text(json.dumps(about, indent=1))


def generate_files(cases: pathlib.Path) -> None:
    """Copies the cases that the package holds as files; `light` networks get the input that ONNX's runner makes."""
    import numpy
    import onnx
    from onnx import numpy_helper

    data = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"
    for suite in ["simple", "pytorch-operator", "pytorch-converted"]:
        for source in sorted(f for f in (data / suite).iterdir() if f.is_dir()):
            folder = cases / source.name
            shutil.copytree(source, folder)
            model = onnx.load(folder / "model.onnx")
            ports = [*model.graph.input, *model.graph.output]
            tensors = all(port.type.WhichOneof("value") == "tensor_type" for port in ports)
            describe(folder, model, suite, 1e-3, 1e-7, tensors)
    for source in sorted((data / "light").glob("*.onnx")):
        folder = cases / source.stem
        target = folder / "test_data_set_0"
        target.mkdir(parents=True)
        shutil.copy(source, folder / "model.onnx")
        model = onnx.load(source)
        inits = {tensor.name for tensor in model.graph.initializer}
        for k, port in enumerate(p for p in model.graph.input if p.name not in inits):
            shape = [d.dim_value or 1 for d in port.type.tensor_type.shape.dim]
            n = int(numpy.prod(shape))
            value = (numpy.arange(n).reshape(shape) / n).astype(numpy.float32)
            (target / f"input_{k}.pb").write_bytes(numpy_helper.from_array(value).SerializeToString())
        shutil.copy(source.with_name(source.stem + "_output_0.pb"), target / "output_0.pb")
        describe(folder, model, "light", 1e-3, 1e-7, True)


def subject(name: str, operators: list[str]) -> str:
    """The operator a case is about: the one in its model, or, if expanded, the schema its name begins with."""
    if len(operators) == 1:
        return operators[0]
    from onnx import defs

    plain = name.removeprefix("test_").replace("_", "").lower()
    known = sorted({s.name for s in defs.get_all_schemas()}, key=len, reverse=True)
    found = next((s for s in known if plain.startswith(s.lower())), None)
    return found or operators[0]


def call(command: list[str]) -> tuple[int, str, str]:
    """Exit code, results and messages."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return -9, "", f"no answer within {TIMEOUT_S} s"
    return done.returncode, done.stdout, done.stderr


def check(sdc: str, folder: pathlib.Path) -> dict:
    about = json.loads((folder / "case.json").read_text())
    native = attempt(sdc, folder, about, [])
    result = {"case": folder.name, **about, **native, "interpreter": native["outcome"]}
    imported = native["code"] != 4 or not re.search(r"E\d{4}", native["text"])
    if imported and about["suite"] != "light":
        # Whatever the importer accepts, the interpreter must get right too; large networks would take it minutes.
        interpreted = attempt(sdc, folder, about, ["--interpreter"])
        result["interpreter"] = interpreted["outcome"]
        if interpreted["outcome"] in ("wrong", "crash"):
            result.update(outcome=interpreted["outcome"], text=interpreted["text"])
    if result["outcome"] == "wrong" and folder.name in ON_PURPOSE:
        result.update(outcome="on purpose", reasons=["Resize aligns corners as ONNX Runtime does, where a scale gives no whole size"])
    return result


def attempt(sdc: str, folder: pathlib.Path, about: dict, options: list[str]) -> dict:
    code, rows, said, loose = 2, "", "values that are no tensors", False
    if about["tensors"]:
        command = [sdc, "check", str(folder / "model.onnx"), "--data", str(folder), "--json", *options]
        code, rows, said = call(command)
    if code == 1:
        # Half floats differ by their last bit where intermediate results are kept longer: ONNX's own tolerance decides.
        tolerant, at_tolerance, _ = call(command + ["--rtol", str(about["rtol"]), "--atol", str(about["atol"])])
        loose = tolerant == 0
        if loose:
            code, rows = tolerant, at_tolerance
    if code == 2:
        # The data could not be read (strings, sequences...): what matters is what sdc says of the model.
        with tempfile.TemporaryDirectory() as scratch:
            compiled, _, refused = call([sdc, "compile", str(folder / "model.onnx"), "-o", f"{scratch}/out"])
            # A model that compiles, but cannot be checked, is nobody's pass.
            code, said = (compiled, refused) if compiled else (2, said)
    try:
        results = json.loads(rows)
    except ValueError:
        results = []
    fixed = max((len(row["fixed"]) for row in results), default=0)
    passed = "passed at ONNX's" if loose else "passed fixed" if fixed else "passed"
    outcome = {0: passed, 1: "wrong", 3: "malformed", 4: "refused", 5: "limit"}.get(code, "crash")
    text = rows + said if code else ""
    return {"outcome": outcome, "code": code, "reasons": reasons(said) if code else [], "text": text, "error": worst(results),
            "nothing_left": fixed == about["inputs"] > 0}


def worst(rows: list[dict]) -> float:
    """The largest error of a check's outputs, relative to the largest magnitude of each."""
    error = lambda row: row["max_error"] / row["scale"] if row["scale"] else row["max_error"]
    return max((error(row) for row in rows if isinstance(row["max_error"], float)), default=0.0)


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
    with contextlib.ExitStack() as stack:
        cases = args.cases
        if cases.is_file():
            cases = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            with tarfile.open(args.cases) as tar:
                tar.extractall(cases, filter="data")
        folders = sorted(f for f in cases.iterdir() if (f / "case.json").exists())
        if args.only:
            folders = [f for f in folders if re.search(args.only, f.name)]
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            results = list(pool.map(lambda f: check(args.sdc, f), folders))
    count = collections.Counter(r["outcome"] for r in results)
    print(", ".join(f"{count[o]} {o}" for o in OUTCOMES), f"of {len(results)}")
    for r in results:
        if r["outcome"] in ("wrong", "crash"):
            print(f"{r['outcome']}: {r['case']}: {' | '.join(r['text'].split(chr(10)))[:1000]}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    if args.results:
        args.results.write_text(listing(results))
    if args.table:
        args.table.write_text(table(results))
    lost = worse(args.expected, results) if args.expected else []
    print("".join(line + "\n" for line in lost), end="")
    return 1 if count["wrong"] or count["crash"] or lost else 0


def listing(results: list[dict]) -> str:
    """Lines of an outcome and some of the cases it is the outcome of."""
    lines = []
    for outcome in OUTCOMES:
        cases = [r["case"] for r in results if r["outcome"] == outcome]
        lines += [f"{outcome}: {' '.join(cases[k : k + 4])}\n" for k in range(0, len(cases), 4)]
    return "".join(lines)


def worse(expected: pathlib.Path, results: list[dict]) -> list[str]:
    """The cases that once passed and do not now, or are not what they were in any other way that is worse."""
    before = {}
    for line in expected.read_text().splitlines():
        outcome, cases = line.split(": ", 1)
        before |= dict.fromkeys(cases.split(), outcome)
    rank = {outcome: n for n, outcome in enumerate(OUTCOMES)}
    return [
        f"worse: {r['case']}: {before[r['case']]} -> {r['outcome']}"
        for r in results
        if r["case"] in before and rank[r["outcome"]] > rank[before[r["case"]]]
    ]


def pack(cases: pathlib.Path, target: pathlib.Path) -> None:
    """Every fifth of the small cases, with fixed metadata: the same cases make the same file."""

    def size(folder: pathlib.Path) -> int:
        return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime = info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    small = [f for f in sorted(cases.iterdir()) if size(f) <= SAMPLE_BYTES][::SAMPLE_SHARE]
    with tarfile.open(target, "w:xz") as tar:
        for folder in small:
            for path in sorted([folder, *folder.rglob("*")]):
                tar.add(path, path.relative_to(cases), recursive=False, filter=plain)
    print(f"{len(small)} cases, {target.stat().st_size} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["generate", "run", "pack"])
    parser.add_argument("target", nargs="?", type=pathlib.Path, help="what `pack` writes")
    parser.add_argument("--cases", type=pathlib.Path, default=pathlib.Path("/tmp/onnx_cases"))
    parser.add_argument("--sdc", default="sdc")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="run the cases whose names match")
    parser.add_argument("--results", type=pathlib.Path, help="list the cases by outcome here")
    parser.add_argument("--expected", type=pathlib.Path, help="fail if a case is worse than this file says")
    parser.add_argument("--json", type=pathlib.Path, help="write everything known of each case here")
    parser.add_argument("--table", type=pathlib.Path, help="write the table (Markdown) here")
    args = parser.parse_args()
    if args.action == "generate":
        generate(args.cases)
        return 0
    if args.action == "pack":
        if args.target is None:
            parser.error("pack takes the file to write")
        pack(args.cases, args.target)
        return 0
    return run(args)


if __name__ == "__main__":
    from table import table

    sys.exit(main())
