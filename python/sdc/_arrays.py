"""Arrays: what programs take of them, and what keeps them from taking one."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np

from ._errors import UsageError, usage

#: numpy's names of sdc's element types. bf16, which numpy lacks, goes as the 16 bits of its elements.
NUMPY = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "uint16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u64": "uint64",
    "u32": "uint32",
    "u16": "uint16",
    "u8": "uint8",
    "bool": "bool",
}
_OURS = {numpy: ours for ours, numpy in NUMPY.items() if ours != "bf16"}


def _text(dtype: str, shape: Sequence[int]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def array_of(value: Any, what: str, expected: str = "a numpy array") -> np.ndarray:
    """The array that a value is: numpy's own, or of whatever speaks DLPack or numpy's protocol."""
    if isinstance(value, np.ndarray):
        return value
    try:
        if isinstance(value, np.generic) or (hasattr(value, "__array__") and not hasattr(value, "__dlpack__")):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except Exception as error:
        raise usage(f"{what} cannot be read as an array: {error}", "give an array in the memory of the CPU") from error
    kind = type(value).__name__
    raise usage(f"{what} is {expected}, but a value of type {kind} was given", "make an array of it: numpy.asarray(x, dtype=...)")


def fitting(name: str, dtype: str, shape: Sequence[int], value: Any) -> np.ndarray:
    """A copy of an array that lies as programs read it.

    Raises UsageError if it is of another element type or shape than wanted.
    """
    wanted = NUMPY[dtype]
    shape = tuple(shape)
    expected = _text(wanted, shape)
    array = array_of(value, f"input `{name}`", expected)
    if dtype == "bf16" and array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    given = _text(array.dtype.name, array.shape)
    complaint = f"input `{name}` is {expected}, but {given} was given"
    if array.shape != shape:
        raise usage(complaint, _shape_help(array.shape, shape))
    if array.dtype.newbyteorder("=") != np.dtype(wanted):
        raise usage(complaint, f"convert the elements: x.astype(numpy.{wanted})")
    if dtype == "bool":
        return np.array(array.view(np.uint8) != 0, order="C").view(np.uint8)
    return np.array(array, dtype=wanted, order="C", copy=True, subok=False)


def _shape_help(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if len(given) + 1 == len(wanted) and given == wanted[1:]:
        return "one dimension is missing: x[numpy.newaxis] adds it"
    if len(given) != len(wanted):
        return f"the array has {len(given)} dimensions, the model takes {len(wanted)}"
    axis = next(k for k, (a, b) in enumerate(zip(given, wanted)) if a != b)
    return f"dimension {axis} is {given[axis]}, the model takes {wanted[axis]}: compiled code has fixed shapes"


def misnamed(ports: Sequence[tuple[str, str, Sequence[int]]], given: Mapping[str, Any]) -> UsageError:
    """The exception for inputs that are missing, or that the model does not have."""
    types = {name: _text(NUMPY[dtype], shape) for name, dtype, shape in ports}
    missing = [f"`{name}` {ty}" for name, ty in types.items() if name not in given]
    unknown = [f"`{name}`" for name in given if name not in types]
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(types)} inputs are missing: {', '.join(missing)}")
    if unknown:
        parts.append(f"the model has no input {', '.join(unknown)}")
    all_of_them = ", ".join(f"`{name}` {ty}" for name, ty in types.items())
    return usage("; ".join(parts), f"the inputs are {all_of_them}")


def raw(value: Any, what: str) -> tuple[str, list[int], bytes]:
    """An array taken apart: element type, shape, and its bytes in row-major order."""
    array = array_of(value, what)
    if array.dtype.name == "bfloat16":
        return "bf16", list(array.shape), array.tobytes()
    dtype = array.dtype.newbyteorder("=")
    if dtype.name not in _OURS:
        raise usage(f"{what} has elements of type {array.dtype}", f"there are {', '.join(_OURS)}")
    if dtype.name == "bool":
        array = array.view(np.uint8) != 0
    return _OURS[dtype.name], list(array.shape), array.astype(dtype, copy=False).tobytes()


def made(dtype: str, shape: Sequence[int], data: bytes) -> np.ndarray:
    """The array of a tensor that was taken apart."""
    return np.frombuffer(data, dtype=NUMPY[dtype]).reshape(shape).copy()
