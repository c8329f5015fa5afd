"""What is done with models beside compiling them."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from . import _arrays, _sdc
from ._compiled import Compiled, calibration, compile, count, fixed_inputs
from ._errors import usage
from ._model import Model, given
from ._progress import Progress, Teller


class Compressed:
    """A model with compressed weights: what `compress` returns."""

    def __init__(self, model: bytes, report: dict[str, Any]) -> None:
        #: The model, encoded: standard ONNX, which every runtime runs; `compile` finds the compressed form in it.
        self.model: bytes = model
        #: What was done: sizes in bytes, `ratio`, `outputs` with the error at each output in dB below the signal, and more.
        self.report: dict[str, Any] = report

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Layer by layer: `node`, `op`, `shape`, `form`, `density` (share of rows stored), `bits_per_weight`, `bytes`, `sqnr_db` (signal to error),
        `output_error` and `why` it got this form. ``pandas.DataFrame(compressed.layers)`` makes a table of it."""
        return self.report["layers"]

    @property
    def ratio(self) -> float:
        """How many times smaller the weights file is than four bytes per weight and bias."""
        return self.report["ratio"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model; the file is there completely or not at all."""
        temporary = f"{os.fspath(path)}.{os.getpid()}.sdc-part"
        try:
            with open(temporary, "xb") as file:
                file.write(self.model)
            os.replace(temporary, path)
        except OSError as error:
            raise usage(f"{os.fspath(path)}: {error.strerror}") from error
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    def _repr_html_(self) -> str:
        from html import escape

        columns = ["node", "op", "shape", "form", "bits_per_weight", "bytes", "sqnr_db"]
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(f'{row[c]:.2f}' if isinstance(row[c], float) else str(row[c]))}</td>" for c in columns) + "</tr>"
            for row in self.layers
        )
        return f"<p>{self!r}</p>".replace("<sdc", "&lt;sdc") + f"<table><tr>{head}</tr>{rows}</table>"

    def __repr__(self) -> str:
        return f"<sdc.Compressed {self.report['weights_bytes']} bytes of weights, {self.ratio:.2f} times smaller>"


def compress(
    model: Model,
    *,
    ratio: float | None = None,
    bits: float | None = None,
    density: float | None = None,
    budget: float | None = None,
    size: int | None = None,
    calib: Iterable[Any] | None = None,
    dims: Mapping[str, int] | None = None,
    fix: Mapping[str, Any] | None = None,
    solver: str = "feedback",
    layer_density: Mapping[str, float] | None = None,
    samples: int | None = None,
    seed: int | None = None,
    threads: int = 0,
    progress: Progress = False,
) -> Compressed:
    """Compresses a model's weights into the SmartDeal form: sparse powers of two times a little basis. No retraining is needed.

    model, dims, fix, progress: as for `compile`; a symbolic batch is 1.
    One of these wishes, by default ratio 7:
    ratio: make the weights file this many times smaller than four bytes per weight and bias.
    bits: store this many bits per weight and bias, everything counted.
    density: keep this share of the rows of weights.
    budget: allow this squared error at the outputs, relative to their variance.
    size: make the weights file no larger than this, in bytes.
    calib: representative inputs without labels: arrays of the only input (``float32[1,3,32,32]``, or without the batch of one), or dicts of arrays
        by the inputs' names. Without them inputs are made up.
    solver: ``feedback``, ``curvature``, ``row-search`` or ``released``, the solver that the authors of SmartDeal released.
    layer_density: with density, the share of rows to keep of single layers, by node.
    samples: calibration inputs used at most. seed: of everything random. threads: 0 is one per core; the result does not depend on it.

    Raises `LimitError` if a wish is beyond reach.
    """
    wishes = {"ratio": ratio, "bits": bits, "density": density, "budget": budget, "size": size}
    wished = [(wish, float(x)) for wish, x in wishes.items() if x is not None] or [("ratio", 7.0)]
    if len(wished) > 1:
        raise usage(f"only one of ratio, bits, density, budget and size can be given, not {' and '.join(w for w, _ in wished)}")
    sets = calibration(fixed_inputs(model, dims, fix, single_batch=True), calib) if calib is not None else []
    if calib is not None and not sets:
        raise usage("calib has not one sample")
    how = {
        "wish": wished[0],
        "solver": solver,
        "densities": [(node, float(share)) for node, share in (layer_density or {}).items()],
        "samples": samples,
        "seed": seed,
        "threads": count(threads, "threads"),
        "calib": sets,
    }
    with Teller(progress) as tell:
        return Compressed(*_sdc.compress(given(model, dims, fix, single_batch=True), how, tell))


def inspect(model: Model, *, dims: Mapping[str, int] | None = None, fix: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is in a model: inputs, outputs, operators, layers with parameters, bytes and multiply-accumulates; whether it is `supported`, and if not
    all `problems` at once. It is compiled for this machine to find out, but nothing is written."""
    return _sdc.inspect(given(model, dims, fix))


def evaluate(
    model: Model | Compiled,
    images: Any,
    labels: Any,
    *,
    scale: float = 1.0,
    mean: float | Sequence[float] = (),
    std: float | Sequence[float] = (),
    reverse_channels: bool = False,
    label_offset: int = 0,
    output: str | None = None,
    dims: Mapping[str, int] | None = None,
    threads: int = 0,
    progress: Progress = False,
) -> dict[str, Any]:
    """How many labelled images a classifier gets right: `images`, `classes`, `top1`, `top5` as counts, and `found`, the class found for each.

    model: a compiled one, or whatever `compile` takes.
    images: ``uint8[N,H,W,C]`` or ``uint8[N,H,W]``, or floats in any order that the model itself could take.
    labels: integers ``[N]``; `label_offset` is added to each to give the model's class.
    scale, mean, std: pixels become ``(x * scale - mean) / std``; one number, or one per channel in the model's order.
    reverse_channels: the model wants blue, green, red; images hold red, green, blue.
    output: the output that holds the scores, if there are several. threads: images at work at once; 0 is one per core.
    """
    program = model if isinstance(model, Compiled) else compile(model, dims=dims)
    how = {
        "scale": float(scale),
        "mean": np.atleast_1d(np.asarray(mean, "float32")).tolist(),
        "std": np.atleast_1d(np.asarray(std, "float32")).tolist(),
        "reverse_channels": reverse_channels,
        "label_offset": label_offset,
        "output": output,
        "threads": count(threads, "threads"),
    }
    with Teller(progress) as tell:
        counts, found = _sdc.evaluate(program, _arrays.raw(images, "images"), _arrays.raw(labels, "labels"), how, tell)
    return {**counts, "found": found}


def check(
    model: Model,
    against: str | Mapping[str, Any] = "onnxruntime",
    *,
    inputs: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    fix: Mapping[str, Any] | None = None,
    cpu: str = "native",
    rtol: float | None = None,
    atol: float | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Runs a model compiled and by another means, and compares: a dict per output with `output`, `passed`, `max_error`, `scale` (the largest
    magnitude expected), `allowed` and `detail`.

    against: ``onnxruntime``, whose package must be installed; ``interpreter``, sdc's own reference interpreter; or the arrays expected, by name.
    inputs: arrays by the inputs' names; normally distributed numbers, or small integers, from `seed` where they are not given.
    rtol, atol: differences of ``atol + rtol * |expected|`` pass, element by element. By default what the element type allows of an output as a whole.
    """
    program = compile(model, dims=dims, fix=fix, cpu=cpu)
    feeds = dict(inputs) if inputs is not None else made_up(program, seed)
    actual = program.run(feeds)
    if isinstance(against, Mapping):
        expected = dict(against)
    elif against == "onnxruntime":
        expected = _onnxruntime(model, {**feeds, **(fix or {})})
    elif against == "interpreter":
        raws = [_arrays.raw(feeds[t.name], f"input `{t.name}`") for t in program.inputs]
        found = _sdc.interpret(given(model, dims, fix), raws)
        expected = {name: _arrays.made(dtype, shape, data) for name, dtype, shape, data in found}
    else:
        raise usage(f"against is `onnxruntime`, `interpreter` or arrays by the outputs' names, but {against!r} was given")
    rows = []
    steps = program._steps()
    for position, tensor in enumerate(program.outputs):
        if tensor.name not in expected:
            raise usage(f"there is nothing to compare the output `{tensor.name}` with")
        pair = _arrays.raw(actual[tensor.name], "the output"), _arrays.raw(expected[tensor.name], f"expected `{tensor.name}`")
        rows.append(_sdc.compare(tensor.name, pair, (rtol, atol), steps[position]))
    return rows


def made_up(program: Compiled, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for all inputs: normally distributed numbers, small integers, or truth values."""
    random = np.random.default_rng(seed)
    feeds = {}
    for name, dtype, shape in program.inputs:
        kind = np.dtype(dtype).kind
        if kind == "f":
            feeds[name] = np.asarray(random.standard_normal(shape), dtype)
        elif kind == "b":
            feeds[name] = np.asarray(random.integers(0, 2, shape), dtype)
        else:
            feeds[name] = np.asarray(random.integers(0, 4, shape), dtype)
    return feeds


def _onnxruntime(model: Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    try:
        import onnxruntime
    except ImportError as error:
        raise usage("the package onnxruntime is not installed", "pip install onnxruntime, or against='interpreter'") from error
    source = given(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source["path"] or source["data"], options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    outputs = session.run(None, {name: np.asarray(x) for name, x in feeds.items() if name in names})
    return dict(zip([o.name for o in session.get_outputs()], outputs))
