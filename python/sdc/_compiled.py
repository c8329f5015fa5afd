"""Compiled models."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

import numpy as np

from . import _arrays, _sdc
from ._errors import usage
from ._model import Model, given
from ._progress import Progress, Teller


class Tensor(NamedTuple):
    """An input or output of a compiled model."""

    #: Its name in the model.
    name: str
    #: numpy's name of its element type, such as ``float32``; ``bool`` is numpy's, and bf16 goes as ``uint16``, the bits of its elements.
    dtype: str
    #: Elements in each dimension.
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Plan(dict):  # type: ignore[type-arg]
    """The memory plan: which buffer lies where in the arena, and for how long.

    A dict with `arena_bytes`, `lower_bound_bytes`, `waste_percent`, `functions`, `buffers` and `in_place`. As text it is the table of `sdc plan`;
    a notebook shows its picture.
    """

    def __init__(self, numbers: Mapping[str, Any], text: str, picture: str) -> None:
        super().__init__(numbers)
        self._text = text
        #: The timeline of the arena as SVG.
        self.svg: str = picture

    def __str__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self.svg


class Compiled(_sdc.Program):
    """A model that is compiled and loaded: what `compile` and `load` return.

    One may be called from many threads at once: each call has an arena of its own, and the interpreter's lock is released while the model runs.
    """

    @property
    def inputs(self) -> list[Tensor]:
        """The inputs, in order."""
        return [Tensor(name, _arrays.NUMPY[dtype], tuple(shape)) for name, dtype, shape in self._ports()[0]]

    @property
    def outputs(self) -> list[Tensor]:
        """The outputs, in order."""
        return [Tensor(name, _arrays.NUMPY[dtype], tuple(shape)) for name, dtype, shape in self._ports()[1]]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes: the `arena` that a call works in, `prepared` memory (weights rebuilt when the model is loaded), the `weights`, and each of the
        artifact's files by its name."""
        report = self._report()
        sizes = {part: report[f"{part}_bytes"] for part in ("arena", "prepared", "weights")}
        return sizes | dict(self._files())

    def report(self) -> dict[str, Any]:
        """What the compiler did: sizes in bytes, the kernels linked in, the functions in the order they run with multiply-accumulates and bytes
        touched, remarks (what passes did, and what they left undone and why), and the seconds of each step.

        Of an artifact that was loaded, only what its manifest says.
        """
        return self._report()

    def plan(self) -> Plan:
        """The memory plan. Raises `UsageError` of an artifact that was loaded, which does not hold it."""
        plan = self._plan()
        if plan is None:
            raise usage("the plan of an artifact that was loaded is not known", "compile the model")
        return Plan(*plan)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the artifact into a directory: object, static and shared library, C header, weights, manifest. `load`, `sdc run DIR` and C programs
        use it. It runs on CPUs that have what `cpu` of `compile` says."""
        self._save(os.fspath(directory))

    def __repr__(self) -> str:
        def of(tensors: list[Tensor]) -> str:
            return ", ".join(f"{t.name}: {t.dtype}[{','.join(map(str, t.shape))}]" for t in tensors)

        return f"<sdc.Compiled {self._report()['name']} ({of(self.inputs)}) -> ({of(self.outputs)})>"


def calibration(inputs: Sequence[Tensor], calib: Iterable[Any] | None) -> list[list[Any]]:
    """Sets of inputs as the native module takes them: of each sample an array per input.

    A sample is a dict by the inputs' names or, of one input, an array of its shape, or of its shape without a batch of one.
    """
    sets = []
    for index, sample in enumerate(calib if calib is not None else ()):
        what = f"calibration sample {index}"
        if not isinstance(sample, Mapping):
            if len(inputs) != 1:
                raise usage(f"{what} is one array, the model has {len(inputs)} inputs", "give a dict by the inputs' names")
            sample = {inputs[0].name: sample}
        arrays = []
        for tensor in inputs:
            if tensor.name not in sample:
                raise usage(f"{what} has no input `{tensor.name}`")
            array = _arrays.array_of(sample[tensor.name], what)
            if array.shape == tensor.shape[1:] and tensor.shape[:1] == (1,):
                array = array[np.newaxis]
            if array.shape != tensor.shape or array.dtype != np.dtype(tensor.dtype):
                raise usage(f"{what}: `{tensor.name}` is {tensor.dtype}{list(tensor.shape)}, but {array.dtype}{list(array.shape)} was given")
            arrays.append(_arrays.raw(array, what))
        sets.append(arrays)
    return sets


def compile(  # noqa: A001, the command's name
    model: Model,
    *,
    dims: Mapping[str, int] | None = None,
    fix: Mapping[str, Any] | None = None,
    cpu: str = "native",
    threads: int = 1,
    name: str | None = None,
    activations: str = "f32",
    calib: Iterable[Any] | None = None,
    calib_samples: int = 256,
    weights: str = "resident",
    winograd: bool = True,
    kernels: bool = True,
    resident_weights: int | None = None,
    ram: int | None = None,
    flash: int | None = None,
    progress: Progress = False,
) -> Compiled:
    """Compiles a model to native code and loads it.

    model: a path, an encoded model as bytes, or an `onnx.ModelProto`. Shapes are fixed when it is compiled.
    dims: elements of symbolic dimensions by name, such as ``{"batch": 1}``; ``INPUT.K`` names dimension K of an input that has no name of its own.
    fix: arrays by name of inputs that become constants, since shapes may depend on their values; they are no inputs any more.
    cpu: what the code may use: ``native`` is this machine's CPU; ``x86-64-v3`` (AVX2) and ``x86-64`` make artifacts that run elsewhere too.
    threads: threads that a call uses; 0 is as many as the machine has cores. Results are the same bits for any number.
    name: what symbols and files are named after; by default the model's file.
    activations: ``f32``, or ``int8`` to compute in 8-bit integers, with ranges from `calib`, of which at most `calib_samples` are looked at.
    calib: representative inputs: arrays of the only input, or dicts of arrays by the inputs' names. Made-up ones serve where there are none.
    weights: of compressed weights, ``resident`` rebuilds them once when the model is loaded, ``streamed`` tile by tile at every run.
    winograd: whether convolutions may be filtered by Winograd's method, which rounds otherwise and takes more weights.
    kernels: whether sdc's own kernels are used; without them everything is compiled from loops, which is slow.
    resident_weights: bytes of weights that may be in memory at a time.
    ram, flash: bytes of working memory, and of code and weights, beyond which compiling fails with `LimitError` and says why.
    progress: True to show how far it is on standard error, or a function of what is done, steps done, and steps in all.

    Raises `MalformedError`, `UnsupportedError` (with all unsupported nodes at once), `LimitError` or `UsageError`.

    >>> import numpy, sdc
    >>> program = sdc.compile("model.onnx", dims={"batch": 1})        # doctest: +SKIP
    >>> program.run({"image": numpy.zeros((1, 3, 224, 224), "float32")})["scores"].shape        # doctest: +SKIP
    (1, 1000)
    """
    if activations not in ("f32", "int8"):
        raise usage(f"activations is `f32` or `int8`, but {activations!r} was given")
    if weights not in ("resident", "streamed"):
        raise usage(f"weights is `resident` or `streamed`, but {weights!r} was given")
    model_given = given(model, dims, fix)
    sets: list[list[Any]] = []
    if calib is not None:
        if activations != "int8":
            raise usage("calib serves activations='int8', which was not asked for")
        sets = calibration(fixed_inputs(model, dims, fix), calib)
    wanted = {
        "name": name,
        "cpu": cpu,
        "kernels": kernels,
        "winograd": winograd,
        "streamed": weights == "streamed",
        "resident_weights": size(resident_weights, "resident_weights"),
        "ram": size(ram, "ram"),
        "flash": size(flash, "flash"),
        "integers": activations == "int8",
        "calib": sets,
        "calib_samples": calib_samples,
    }
    with Teller(progress) as tell:
        return Compiled(model_given, wanted, None, count(threads, "threads"), tell)


def load(directory: str | os.PathLike[str], *, threads: int = 1) -> Compiled:
    """Loads an artifact: a directory that `Compiled.save` or the command `sdc compile` wrote. It is checked against its digests first.

    threads: as for `compile`.
    """
    return Compiled(None, None, os.fspath(directory), count(threads, "threads"), None)


def size(value: int | None, what: str) -> int | None:
    """A number of bytes, or nothing."""
    return None if value is None else count(value, what)


def count(value: int, what: str) -> int:
    """A number of things, zero included."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 0:
        raise usage(f"{what} must be a whole number, zero or more, but {value!r} was given")
    return int(value)


def fixed_inputs(model: Model, dims: Mapping[str, int] | None = None, fix: Mapping[str, Any] | None = None, single_batch: bool = False) -> list[Tensor]:
    """The inputs of a model, its symbolic dimensions replaced by their sizes as far as these are known."""
    from ._session import numpy_name

    tensors = []
    for name, dtype, shape in _sdc.declared(given(model, dims, fix))[0]:
        sizes = []
        for position, dim in enumerate(shape):
            known = dim if isinstance(dim, int) else (dims or {}).get(dim if dim is not None else f"{name}.{position}")
            if known is None and single_batch and position == 0:
                known = 1
            if known is None:
                raise usage(f"dimension {position} of input `{name}` has no size", "give it with dims={...}")
            sizes.append(known)
        tensors.append(Tensor(name, numpy_name(dtype), tuple(sizes)))
    return tensors
