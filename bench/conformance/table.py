"""The coverage table, in Markdown, from the results of conformance.py."""

import collections
import re

OUTCOMES = ["passed", "passed at ONNX's", "passed fixed", "refused", "limit", "malformed", "wrong", "crash"]


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
    node = collections.Counter(r["outcome"] for r in results if r["suite"] == "node")
    passed = lambda counts: sum(counts[o] for o in OUTCOMES[:3])
    lines = [
        "# Coverage of ONNX's official cases",
        "",
        "Made by `bench/conformance/conformance.py` from the cases of the `onnx` package, each run as native code and on the reference",
        "interpreter, and compared with its recorded results by `sdc check` at its default comparison. *Passed fixed*: shapes depend",
        "on the values of inputs, and it passes when those are given at compile time (`--fix`); without, it is refused. *Passed at",
        "ONNX's*: at the tolerance that ONNX's own runner applies to the case, not at sdc's default. *Refused* means exit code 4 and a",
        "reason; *wrong* and *crash* must be 0. The worst error is relative to the largest magnitude of its output.",
        "",
        f"**{passed(node)} of {sum(node.values())} node cases pass**, and {passed(total)} of all {len(results)}; of these {total[OUTCOMES[2]]} with "
        + f"fixed inputs and {total[OUTCOMES[1]]} at ONNX's tolerance. "
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
    return "\n".join(lines) + "\n"
