"""What a call from Python costs beyond the C entry point."""

from __future__ import annotations

import ctypes
import mmap
import time

import numpy as np
from conftest import F32, image, model_of
from onnx import helper

import sdc

#: The promise, in seconds.
BAR = 3e-6
CALLS = 2000


def aligned(size, alignment=64):
    """Zeroed bytes, and where they begin."""
    memory = np.zeros(size + alignment, np.uint8)
    return memory, memory.ctypes.data + -memory.ctypes.data % alignment


def entry_point(program, folder, x, y):
    """A call of `NAME_run` on arrays, as little as Python can make of it."""
    program.save(folder)
    library = ctypes.CDLL(str(folder / "libnet.so"))
    weights_data = (folder / "net.weights").read_bytes()
    weights = mmap.mmap(-1, max(len(weights_data), 1))
    weights[: len(weights_data)] = weights_data
    weights_at = ctypes.addressof(ctypes.c_char.from_buffer(weights))
    arena, arena_at = aligned(program.sizes["arena"])
    prepared, prepared_at = aligned(program.sizes["prepared"])
    assert library.net_prepare(ctypes.c_void_p(weights_at), ctypes.c_void_p(prepared_at)) == 0
    inputs, outputs = (ctypes.c_void_p * 1)(x.ctypes.data), (ctypes.c_void_p * 1)(y.ctypes.data)
    arguments = [inputs, outputs, *map(ctypes.c_void_p, (arena_at, weights_at, prepared_at, None))]
    run = library.net_run
    return lambda keep=(arena, prepared, weights): run(*arguments)


def fastest(call, rounds=30):
    """Seconds of a call, the fastest of some rounds: what others do on the machine only adds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best


def test_overhead_of_a_call(tmp_path):
    weights = {"starts": np.zeros(4, "i8"), "ends": np.array([1, 1, 1, 8])}
    nodes = [helper.make_node("Slice", ["x", "starts", "ends"], ["y"], "corner")]
    model = model_of(nodes, [("x", F32, [1, 3, 224, 224])], [("y", F32, [1, 1, 1, 8])], weights)
    program = sdc.compile(model, name="net")
    x, y = image(1, 3, 224, 224), np.zeros((1, 1, 1, 8), "f4")
    direct = entry_point(program, tmp_path / "out", x, y)
    feeds = {"x": x}
    assert direct() == 0 and (program.run(feeds)["y"] == y).all()
    whole, through_c = fastest(lambda: program.run(feeds)), fastest(direct)
    print(f"\nCompiled.run takes {whole * 1e6:.2f} us, the C entry point {through_c * 1e6:.2f} us through ctypes")
    # The whole call, the model's own time included, so that what ctypes takes does not flatter.
    assert whole < BAR, f"{whole * 1e6:.2f} us"
