"""Models: paths, bytes, `onnx.ModelProto`; and what is fixed of them."""

from __future__ import annotations

import os
from typing import Any, Mapping, Union

from . import _arrays
from ._errors import usage

#: What names a model: a path, an encoded model, or an `onnx.ModelProto`.
Model = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Any]


def given(
    model: Model,
    dims: Mapping[str, int] | None = None,
    fix: Mapping[str, Any] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    single_batch: bool = False,
) -> dict[str, Any]:
    """A model as the native module takes it."""
    path, data = None, None
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
    elif isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
    elif hasattr(model, "SerializeToString"):
        try:
            data = model.SerializeToString()
        except Exception as error:
            raise usage(f"the model cannot be encoded: {error}", "save it with external data and give its path") from error
    else:
        raise usage(f"a model is a path, bytes or an onnx.ModelProto, but a value of type {type(model).__name__} was given")
    for name, size in (dims or {}).items():
        if isinstance(size, bool) or not hasattr(size, "__index__") or int(size) < 0:
            raise usage(f"dimension `{name}` must be a whole number of elements, but {size!r} was given")
    return {
        "path": path,
        "data": data,
        "dims": {str(name): int(size) for name, size in (dims or {}).items()},
        "fix": [(name, _arrays.raw(value, f"fix `{name}`")) for name, value in (fix or {}).items()],
        "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
        "single_batch": single_batch,
    }
