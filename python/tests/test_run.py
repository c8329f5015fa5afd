"""Arrays in, arrays out: right results, and exceptions that say what was expected and what came."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import classifier, elementwise, image, model_of, sequence
from onnx import TensorProto, helper

import sdc

TYPES = ["FLOAT", "DOUBLE", "FLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]


@pytest.fixture(scope="module")
def program():
    return sdc.compile(classifier())


@pytest.mark.parametrize("name", TYPES)
def test_element_types(name):
    compiled = sdc.compile(elementwise(getattr(TensorProto, name)))
    x = np.arange(6).reshape(2, 3).astype(compiled.inputs[0].dtype)
    y = compiled.run({"x": x})["y"]
    assert y.dtype == x.dtype and (y == x + x).all()


def test_truth_values_are_taken_as_truth_values():
    compiled = sdc.compile(elementwise(TensorProto.BOOL, op="Xor"))
    compiled_not = sdc.compile(model_of([helper.make_node("Not", ["x"], ["y"])], [("x", TensorProto.BOOL, [4])], [("y", TensorProto.BOOL, [4])]))
    assert compiled.run({"x": np.ones((2, 3), bool)})["y"].dtype == bool
    odd = np.array([0, 1, 2, 255], np.uint8).view(bool)
    assert compiled_not.run({"x": odd})["y"].tolist() == [True, False, False, False]
    with pytest.raises(sdc.UsageError, match="uint8"):
        compiled_not.run({"x": np.zeros(4, np.uint8)})


def test_scalars_and_empty_tensors():
    scalar = sdc.compile(elementwise(TensorProto.FLOAT, ()))
    assert scalar.run({"x": np.float32(1.5)})["y"] == 3 and scalar.run({"x": np.array(1.5, "f4")})["y"].shape == ()


def test_ports_and_sizes(program):
    assert program.inputs == [("image", "float32", (1, 3, 16, 16))]
    assert [(t.name, t.dtype, t.shape) for t in program.outputs] == [("scores", "float32", (1, 10)), ("class", "int64", (1,))]
    assert program.inputs[0].nbytes == 3072
    assert program.sizes["arena"] > 0 and program.sizes["weights"] > 0 and program.sizes["manifest.json"] > 0
    assert "image: float32[1,3,16,16]" in repr(program)


def layouts(x):
    """Arrays of the same elements that lie otherwise."""
    read_only = x.copy()
    read_only.flags.writeable = False
    gaps = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    gaps[..., ::2] = x
    odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    return {
        "read-only": read_only,
        "column-major": np.asfortranarray(x),
        "gaps": gaps[..., ::2],
        "backwards": x[..., ::-1].copy()[..., ::-1],
        "other byte order": x.astype(x.dtype.newbyteorder(">")),
        "not aligned": odd,
        "broadcast": np.broadcast_to(x, x.shape),
        "subclass": x.view(type("Mine", (np.ndarray,), {})),
    }


def test_layouts_do_not_matter(program):
    x = image(1, 3, 16, 16)
    wanted = program.run({"image": x})["scores"]
    for name, array in layouts(x).items():
        assert (program.run({"image": array})["scores"] == wanted).all(), name


def test_dlpack_is_taken_and_given(program):
    class Other:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = image(1, 3, 16, 16)
    scores = program.run({"image": Other(x)})["scores"]
    assert (np.from_dlpack(scores) == program.run({"image": x})["scores"]).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (image(1, 3, 16, 16).astype("float64"), ["float64[1,3,16,16] was given", "float32[1,3,16,16]", "astype(numpy.float32)"]),
        (image(3, 16, 16), ["float32[3,16,16] was given", "numpy.newaxis"]),
        (image(1, 3, 16), ["float32[1,3,16] was given", "3 dimensions"]),
        (image(1, 3, 16, 17), ["dimension 3 is 17, the model takes 16"]),
        (image(1, 3, 16, 16).astype("complex64"), ["complex64"]),
        (np.zeros((1, 3, 16, 16), "U4"), ["str"]),
        (np.zeros((1, 3, 16, 16), object), ["object"]),
        (np.zeros((1, 3, 16, 16), [("a", "f4")]), ["void"]),
        ([1.0, 2.0], ["a value of type list was given", "float32[1,3,16,16]"]),
        (None, ["NoneType"]),
        (np.zeros((0, 3, 16, 16), "f4"), ["dimension 0 is 0"]),
        (np.broadcast_to(np.float32(0), (1 << 40, 3, 16, 16)), ["dimension 0 is 1099511627776"]),
    ],
)
def test_what_does_not_fit_is_said(program, value, words):
    with pytest.raises(sdc.UsageError) as caught:
        program.run({"image": value})
    assert "input `image`" in str(caught.value) and caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_missing_and_unknown_inputs_are_named():
    program = sdc.compile(sequence(3))
    with pytest.raises(sdc.UsageError, match=r"2 of 3 inputs are missing: `h` float32\[1,1,16\], `c`.*no input `state`"):
        program.run({"x": image(3, 1, 8), "state": 0})
    with pytest.raises(sdc.UsageError, match="no input `more`"):
        program.run({"x": image(3, 1, 8), "h": image(1, 1, 16), "c": image(1, 1, 16), "more": 1})
    for wrong in ([], None, image(3, 1, 8)):
        with pytest.raises(TypeError):
            program.run(wrong)


def test_results_are_fresh(program):
    x = image(1, 3, 16, 16)
    first, second = program.run({"image": x})["scores"], program.run({"image": x})["scores"]
    first[:] = 0
    assert second.any()


def test_random_arrays_never_crash(program):
    """Whatever array comes, it is taken or refused by an exception of ours."""
    random = np.random.default_rng(1)
    types = ["f4", ">f4", "f8", "f2", "i8", "u1", "?", "c8", "S3", "U2", "O", "M8[s]", "i4,f4"]
    fitting = 0
    for _ in range(3000):
        shape = [1, 3, 16, 16] if random.random() < 0.6 else random.integers(0, 5, random.integers(0, 7)).tolist()
        dtype = "f4" if random.random() < 0.5 else str(random.choice(types))
        array = np.zeros(np.array(shape) * 2 if random.random() < 0.5 else shape, dtype)
        if list(array.shape) != list(shape):
            cut = [slice(None, None, 2) if random.random() < 0.5 else slice(0, n) for n in shape]
            array = array[tuple(cut)]
        if random.random() < 0.3:
            array = array.transpose(random.permutation(array.ndim))
        if random.random() < 0.2:
            array.flags.writeable = False
        try:
            scores = program.run({"image": array})["scores"]
            fitting += 1
            assert scores.shape == (1, 10) and array.shape == (1, 3, 16, 16)
        except sdc.UsageError as error:
            assert "was given" in str(error)
    assert fitting > 300


@pytest.mark.parametrize("threads", [1, 2])
def test_one_program_serves_many_threads(threads):
    program = sdc.compile(classifier(), threads=threads)
    images = [image(1, 3, 16, 16, seed=k) for k in range(16)]
    wanted = [program.run({"image": x})["scores"] for x in images]

    def work(k):
        return all((program.run({"image": images[j % 16]})["scores"] == wanted[j % 16]).all() for j in range(k, k + 50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


def test_other_threads_go_on_while_a_model_runs():
    """A thread that runs a model holds no lock that others need: they get most of their time meanwhile."""
    import threading

    program = sdc.compile(elementwise(TensorProto.FLOAT, (4096, 4096)))
    x = np.zeros((4096, 4096), "f4")
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # only a thread that gives the lock away lets others go on
    try:
        thread.start()
        before = ticks[0]
        for _ in range(20):
            program.run({"x": x})
        assert ticks[0] - before > 5
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
