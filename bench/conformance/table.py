"""The coverage table, in Markdown, from the results of conformance.py."""

import collections
import pathlib
import re

OUTCOMES = ["passed", "passed at ONNX's", "passed fixed", "refused", "limit", "malformed", "on purpose", "wrong", "crash"]


def general(reason: str) -> str:
    """A reason without the numbers and names of its case."""
    reason = re.sub(r"`[^`]*\.onnx`|\S+/model\.onnx:?", "", reason)
    reason = re.sub(r"\[[\d, ]*\]", "[..]", reason)
    reason = re.sub(r"^error:?\s*", "", reason)
    # The node's own name, and operators fused into it.
    reason = re.sub(r"^(E\d{4} )?(\S+ \(\w+ #\d+\)( \+ )?(and \d+ more)?)+: ", r"\1", reason)
    reason = re.sub(r"`[^`]*`", "`..`", reason) if "input `" in reason else reason
    return re.sub(r"\s+", " ", reason).strip()


def table(results: list[dict]) -> str:
    by_operator = collections.defaultdict(collections.Counter)
    errors = collections.defaultdict(float)
    opsets = collections.defaultdict(set)
    histogram = collections.Counter()
    for r in results:
        by_operator[r["subject"]][r["outcome"]] += 1
        opsets[r["subject"]].add(r["opset"])
        errors[r["subject"]] = max(errors[r["subject"]], r["error"])
        if not r["outcome"].startswith("passed"):
            histogram[general(r["reasons"][0])] += 1
    total = collections.Counter(r["outcome"] for r in results)
    tally = lambda some: collections.Counter(r["outcome"] for r in some)
    passed = lambda some: sum(tally(some)[o] for o in OUTCOMES[:3])
    constant = lambda some: sum(r["outcome"] == OUTCOMES[2] and r["nothing_left"] for r in some)
    lines = [
        "# Coverage of ONNX's official cases",
        "",
        "Made by `bench/conformance/conformance.py` from the cases of the `onnx` package, each run as native code and on the reference",
        "interpreter, and compared with its recorded results by `sdc check` at its default comparison. *Passed fixed*: the shapes",
        "depend on the values of some inputs, which `sdc check` therefore took from the recorded data as constants, and said so;",
        "`sdc compile` wants them with `--fix`, and refuses the model without. *Passed at ONNX's*: at the tolerance that ONNX's own",
        "runner applies to the case, not at sdc's default. *Refused* means exit code 4 and a reason; *wrong* and *crash* must be 0.",
        "*On purpose*: sdc follows ONNX Runtime where it and ONNX's reference differ: it aligns the corners of a Resize by the number of",
        "samples, not by the exact product of size and scale.",
        "The worst error is relative to the largest magnitude of its output.",
        "",
        "| | cases | passed | with no input fixed | with inputs fixed | all of its inputs fixed |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {len(some)} | **{passed(some)}** | {passed(some) - tally(some)[OUTCOMES[2]]} | {tally(some)[OUTCOMES[2]]} | {constant(some)} |"
            for name, some in [("node", [r for r in results if r["suite"] == "node"]), ("all", results)]
        ),
        "",
        "A case with all of its inputs fixed is computed at compile time; what runs only holds the result. "
        + f"{total[OUTCOMES[1]]} passed at ONNX's tolerance, "
        + ", ".join(f"{total[o]} {o}" for o in OUTCOMES[3:])
        + ".",
        "",
        "## By operator",
        "",
        "The last rows are the cases of whole models.",
        "",
        "| operator | opset | " + " | ".join(OUTCOMES) + " | worst error |",
        "|---|---|" + "---|" * (len(OUTCOMES) + 1),
    ]
    suites = {r["subject"] for r in results if r["suite"] != "node"}
    for name in sorted(by_operator, key=lambda name: (name in suites, name.lower())):
        versions = sorted(opsets[name])
        span = str(versions[0]) if len(versions) == 1 else f"{versions[0]}-{versions[-1]}"
        counts = " | ".join(str(by_operator[name][o] or "") for o in OUTCOMES)
        error = f"{errors[name]:.1e}" if errors[name] else "0"
        lines.append(f"| {name} | {span} | {counts} | {error} |")
    lines += ["", "## Reasons", "", "| cases | reason (the first given) |", "|---|---|"]
    for reason, n in sorted(histogram.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"| {n} | {reason.replace('|', '/')} |")
    return "\n".join(lines) + "\n" + (pathlib.Path(__file__).parent / "machine.md").read_text()
