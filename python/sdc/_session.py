"""The calls of ONNX Runtime that people's scripts make, so that changing the import is enough."""

from __future__ import annotations

import os
import threading
import warnings
from collections import OrderedDict
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from . import _arrays, _sdc
from ._compiled import Compiled, compile, count
from ._errors import Error, UnsupportedError, usage
from ._model import Model, given

#: Programs that a session keeps, one for each set of shapes.
_KEPT = 32

#: ONNX's element types by ONNX Runtime's names, and numpy's.
_TYPES = {
    "FLOAT": ("float", "float32"),
    "DOUBLE": ("double", "float64"),
    "FLOAT16": ("float16", "float16"),
    "BFLOAT16": ("bfloat16", "uint16"),
    "INT8": ("int8", "int8"),
    "INT16": ("int16", "int16"),
    "INT32": ("int32", "int32"),
    "INT64": ("int64", "int64"),
    "UINT8": ("uint8", "uint8"),
    "UINT16": ("uint16", "uint16"),
    "UINT32": ("uint32", "uint32"),
    "UINT64": ("uint64", "uint64"),
    "BOOL": ("bool", "bool"),
}


def numpy_name(onnx_name: str) -> str:
    """numpy's name of an element type of ONNX's."""
    if onnx_name not in _TYPES:
        raise usage(f"elements of type {onnx_name} are not supported")
    return _TYPES[onnx_name][1]


def _unsupported(what: str, help: str | None = None) -> Error:
    problem = {"code": None, "message": what, "notes": [], "help": help, "fix": [], "nodes": None}
    return UnsupportedError(f"{what}\nhelp: {help}" if help else what, [problem])


class NodeArg:
    """An input or output of a session: `name`, `type` such as ``tensor(float)``, and `shape`, whose symbolic dimensions are texts."""

    def __init__(self, name: str, dtype: str, shape: Sequence[int | str | None]) -> None:
        self.name = name
        self.type = f"tensor({_TYPES[dtype][0]})" if dtype in _TYPES else dtype
        self.shape = list(shape)

    def __repr__(self) -> str:
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"


class ModelMetadata:
    """What a model says of itself."""

    def __init__(self, inspection: Mapping[str, Any]) -> None:
        self.producer_name: str = inspection["producer"]
        self.graph_name: str = inspection["file"]
        self.custom_metadata_map: dict[str, str] = {}
        self.description = ""
        self.domain = ""
        self.version = 0


class GraphOptimizationLevel:
    """Accepted for scripts' sake: sdc always optimises."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode:
    """Accepted for scripts' sake: operators run one after another."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class SessionOptions:
    """Options of a session. `intra_op_num_threads` counts (0 is one thread per core); what says how ONNX Runtime optimises, logs or allocates is
    accepted and means nothing here; what would change results or files raises `UnsupportedError`."""

    _FREE = {
        "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
        "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
        "inter_op_num_threads": 0,
        "log_severity_level": 2,
        "log_verbosity_level": 0,
        "logid": "",
        "enable_cpu_mem_arena": True,
        "enable_mem_pattern": True,
        "enable_mem_reuse": True,
        "use_deterministic_compute": False,
    }

    def __init__(self) -> None:
        self.__dict__.update(self._FREE, intra_op_num_threads=0)
        self._dims: dict[str, int] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in self._FREE:
            self.__dict__[name] = value
        elif name == "intra_op_num_threads":
            self.__dict__[name] = count(value, name)
        elif value:
            raise _unsupported(f"the session option `{name}` is not supported")

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Gives a symbolic dimension its size."""
        self._dims[name] = size

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Accepted for scripts' sake: these entries tune ONNX Runtime."""

    def register_custom_ops_library(self, path: str) -> None:
        """Operators of other people's libraries do not exist here."""
        raise _unsupported(f"custom operators ({path}) are not supported")


class RunOptions:
    """Accepted for scripts' sake; `terminate` is not supported."""

    log_severity_level = 2
    logid = ""


class InferenceSession:
    """ONNX Runtime's session on sdc: `run`, `get_inputs` and `get_outputs` mean what they mean there.

    The model is compiled when the session is made or, where it has symbolic dimensions, when it first meets inputs of other shapes; the last 32
    programs are kept. So the first run of a shape takes as long as compiling does. Inputs whose values decide shapes are compiled into
    the program, and another value is another program.
    """

    def __init__(
        self,
        path_or_bytes: Model,
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        **others: Any,
    ) -> None:
        for name, value in others.items():
            if value:
                raise _unsupported(f"the argument `{name}` of InferenceSession is not supported")
        if sess_options is not None and not isinstance(sess_options, SessionOptions):
            raise usage(f"sess_options is an sdc.SessionOptions, but a {type(sess_options).__module__}.{type(sess_options).__name__} was given")
        _check_providers(providers)
        self._model = path_or_bytes
        self._threads = sess_options.intra_op_num_threads if sess_options else 0
        self._dims = dict(sess_options._dims) if sess_options else {}
        inputs, outputs = _sdc.declared(given(path_or_bytes, self._dims))
        self._inputs = [NodeArg(*port) for port in inputs]
        self._outputs = [NodeArg(*port) for port in outputs]
        self._output_names = [o.name for o in self._outputs]
        self._open = any(not isinstance(dim, int) and dim not in self._dims for i in self._inputs for dim in i.shape)
        #: Inputs whose values are compiled into programs, as shapes depend on them.
        self._needed: list[str] = []
        self._programs: OrderedDict[Any, Compiled] = OrderedDict()
        self._only: Compiled | None = None
        self._lock = threading.Lock()
        if not self._open:
            try:
                self._only = compile(self._model, dims=self._dims, threads=self._threads)
            except Error as error:
                # Inputs that would help if their values were known are known when the session runs.
                if not any(problem["fix"] for problem in error.problems):
                    raise

    def get_inputs(self) -> list[NodeArg]:
        """The inputs as the model declares them."""
        return self._inputs

    def get_outputs(self) -> list[NodeArg]:
        """The outputs as the model declares them."""
        return self._outputs

    def get_overridable_initializers(self) -> list[NodeArg]:
        """None: inputs with a default value are constants."""
        return []

    def get_providers(self) -> list[str]:
        """What the session runs on."""
        return get_available_providers()

    def set_providers(self, providers: Sequence[str], provider_options: Any = None) -> None:
        """Accepted if the CPU is among them."""
        _check_providers(providers)

    def get_modelmeta(self) -> ModelMetadata:
        """What the model says of itself."""
        return ModelMetadata(_sdc.inspect(given(self._model, self._dims)))

    def run(
        self,
        output_names: Sequence[str] | str | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[np.ndarray]:
        """The outputs of these names, or all in order if that is None or empty, for arrays by the inputs' names.

        Raises `UsageError` that says what was expected and what came.
        """
        program = self._only
        if program is not None:
            results = program.run(dict(input_feed) if type(input_feed) is not dict else input_feed)
        else:
            program, feeds = self._of(input_feed)
            results = program.run(feeds)
        names = [output_names] if isinstance(output_names, str) else output_names
        if not names:
            return [results[name] for name in self._output_names]
        try:
            return [results[name] for name in names]
        except KeyError as error:
            raise usage(f"the model has no output {error.args[0]!r}", f"the outputs are {', '.join(self._output_names)}") from None

    def run_with_iobinding(self, *_: Any) -> None:
        """Not supported: `run` reads arrays where they lie."""
        raise _unsupported("bindings of inputs and outputs are not supported", "call run(), which reads arrays without copying them")

    io_binding = run_with_iobinding

    def _of(self, feed: Mapping[str, Any]) -> tuple[Compiled, dict[str, np.ndarray]]:
        """The program for these inputs, compiled if it is the first of its kind, and the inputs that it takes."""
        names = [i.name for i in self._inputs]
        feeds = {name: _arrays.array_of(value, f"input `{name}`") for name, value in feed.items()}
        if set(feeds) != set(names):
            absent, unknown = [n for n in names if n not in feeds], [n for n in feeds if n not in names]
            raise usage(f"inputs missing: {absent or 'none'}; inputs the model does not have: {unknown or 'none'}", f"the inputs are {names}")
        self._check_ranks(feeds)
        with self._lock:
            while True:
                fixed = {name: feeds[name] for name in self._needed}
                key = (
                    tuple(feeds[name].shape for name in names) if self._open else (),
                    tuple(array.tobytes() for array in fixed.values()),
                )
                if key not in self._programs:
                    try:
                        shapes = {name: feeds[name].shape for name in names if name not in fixed}
                        self._programs[key] = self._compiled(fixed, shapes)
                    except Error as error:
                        asked = [name for p in error.problems for name in p["fix"] if name in names and name not in self._needed]
                        if not asked:
                            raise
                        self._needed += list(dict.fromkeys(asked))
                        continue
                    if len(self._programs) > _KEPT:
                        self._programs.popitem(last=False)
                self._programs.move_to_end(key)
                return self._programs[key], {name: array for name, array in feeds.items() if name not in fixed}

    def _compiled(self, fixed: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> Compiled:
        dims = dict(self._dims)
        for node in self._inputs:
            for position, (dim, extent) in enumerate(zip(node.shape, shapes.get(node.name, ()))):
                if not isinstance(dim, int):
                    dims.setdefault(dim if dim is not None else f"{node.name}.{position}", extent)
        return compile(self._model, dims=dims, fix=fixed, threads=self._threads)

    def _check_ranks(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Sizes that contradict the model are found here, before it is compiled for them."""
        for node in self._inputs:
            given_shape = feeds[node.name].shape
            fits = len(given_shape) == len(node.shape) and all(
                given == dim or not isinstance(dim, int) for given, dim in zip(given_shape, node.shape)
            )
            if not fits:
                raise usage(f"input `{node.name}` is {node.type} of shape {node.shape}, but {feeds[node.name].dtype}{list(given_shape)} was given")


def _check_providers(providers: Iterable[Any] | None) -> None:
    names = [p if isinstance(p, str) else p[0] for p in providers or ()]
    if names and "CPUExecutionProvider" not in names:
        raise _unsupported(f"the providers {', '.join(names)} are not supported", "sdc runs on the CPU: CPUExecutionProvider")
    others = [name for name in names if name != "CPUExecutionProvider"]
    if others:
        warnings.warn(f"sdc runs on the CPU; not available: {', '.join(others)}", stacklevel=3)


def get_available_providers() -> list[str]:
    """What sessions run on: the CPU."""
    return ["CPUExecutionProvider"]


def get_all_providers() -> list[str]:
    """What sessions run on: the CPU."""
    return get_available_providers()


def get_device() -> str:
    """What sessions run on: the CPU."""
    return "CPU"


def set_default_logger_severity(severity: int) -> None:
    """Accepted for scripts' sake: sdc does not log."""


def set_seed(seed: int) -> None:
    """Accepted for scripts' sake: nothing in a compiled model is random."""
