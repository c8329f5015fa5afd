"""sdc compiles ONNX models ahead of time to native code, and makes their weights small.

    program = sdc.compile("model.onnx")          # native code for this machine's CPU
    scores = program.run({"image": image})       # numpy arrays in, numpy arrays out
    program.save("out")                          # the same as a C library: .a, .h, .so, weights

    session = sdc.InferenceSession("model.onnx")     # the calls of ONNX Runtime, so that scripts need another import only
    small = sdc.compress("model.onnx", ratio=8)      # weights eight times smaller, as standard ONNX

`inspect` says what is in a model, `check` compares with ONNX Runtime, `evaluate` counts right classes. Errors are exceptions: `Error` and its classes.
"""

from ._compiled import Compiled, Plan, Tensor, compile, load
from ._errors import BugError, CancelledError, Error, LimitError, MalformedError, UnsupportedError, UsageError
from ._sdc import __version__
from ._session import (
    ExecutionMode,
    GraphOptimizationLevel,
    InferenceSession,
    ModelMetadata,
    NodeArg,
    RunOptions,
    SessionOptions,
    get_all_providers,
    get_available_providers,
    get_device,
    set_default_logger_severity,
    set_seed,
)
from ._tools import Compressed, check, compress, evaluate, inspect

__all__ = [
    "BugError",
    "CancelledError",
    "Compiled",
    "Compressed",
    "Error",
    "ExecutionMode",
    "GraphOptimizationLevel",
    "InferenceSession",
    "LimitError",
    "MalformedError",
    "ModelMetadata",
    "NodeArg",
    "Plan",
    "RunOptions",
    "SessionOptions",
    "Tensor",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "check",
    "compile",
    "compress",
    "evaluate",
    "get_all_providers",
    "get_available_providers",
    "get_device",
    "inspect",
    "load",
    "set_default_logger_severity",
    "set_seed",
]
