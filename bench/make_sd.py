#!/usr/bin/env python3
"""Networks with compressed weights of a given form and random codes, from any ONNX network with float weights: for measuring speed, which
does not depend on what the codes are. (What they are worth is measured by bench/compression.)

    python bench/make_sd.py MODEL.onnx OUT.onnx --form FORM [--density 0.3 --group 32] [--seed N]

FORM is `released` (rows of a kernel's width, or of three, as nibbles, a basis per filter), `int8`, or a form of the ladder: `S,r,a,b,c,...`
for rows of S weights from r codes of the magnitudes a, b, c, ..., bases shared by the layer. With a density, such a share of the rows is
kept, the same ones for `group` filters. The result is what `sdc compress` writes (docs/compression.md), so any runtime can run it. Rebuilt
weights have about the variance of the network's own. Needs numpy and onnx.
"""
import argparse

import numpy as np
import onnx
from onnx import helper, numpy_helper

RELEASED = [1, 2, 4, 8, 16, 32, 64]
# Rows of a slice, at most so many times S.
SLICE = 64


def number(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def bit_fields(values, width):
    """Fields of `width` bits, lowest bit first, filled up to whole bytes."""
    bits = values.reshape(-1, 1).astype(np.uint64) >> np.arange(width, dtype=np.uint64) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


class Form:
    def __init__(self, text, density, group):
        self.released = text == "released"
        if not self.released:
            self.s, self.r, *self.alphabet = map(int, text.split(","))
        else:
            self.alphabet = RELEASED
        self.density, self.group = density, group

    def for_shape(self, shape):
        """S, r, rows of a slice, and filters that share a basis."""
        filters, vector = shape[0], int(np.prod(shape[1:]))
        if self.released:
            s = shape[3] if len(shape) == 4 and shape[3] > 1 else 3
            s = min(s, 8)
            return s, s, min(64 * s, -(-vector // s)), 1
        return self.s, self.r, min(SLICE * self.s, -(-vector // self.s)), filters


def compress(weight, form, rng):
    """Payload, int8 copy and scales of a weight whose first dimension numbers filters."""
    shape = weight.shape
    filters, vector = shape[0], int(np.prod(shape[1:]))
    s, r, slice_rows, shared = form.for_shape(shape)
    rows = -(-vector // s)
    slices, n = -(-rows // slice_rows), len(form.alphabet)
    codes = rng.integers(-n, n + 1, (filters, rows, r))
    kept = np.ones((1, rows), bool)
    group = 0
    if form.density < 1:
        group = min(form.group, filters)
        kept = rng.random((-(-filters // group), rows)) < form.density
        codes *= np.repeat(kept, group, 0)[:filters, :, None]
    bases = rng.integers(-127, 128, (-(-filters // shared), slices, r, s))
    values = np.concatenate([[0], form.alphabet])[abs(codes)] * np.sign(codes)
    # Sums spread over about the range of a byte.
    spread = 73 * np.sqrt(r * np.mean(np.square(form.alphabet)) * 2 * n / (2 * n + 1))
    shift = int(np.clip(np.ceil(np.log2(spread / 40)), 0, 15))
    dense = np.empty((filters, rows, s), np.int8)
    for i in range(slices):
        part = slice(i * slice_rows, (i + 1) * slice_rows)
        basis = np.repeat(bases[:, i], shared, 0)[:filters].astype(np.float32)
        sums = np.matmul(values[:, part].astype(np.float32), basis).astype(np.int64)
        dense[:, part] = np.clip((sums + (1 << shift >> 1)) >> shift, -128, 127)
    dense = dense.reshape(filters, -1)[:, :vector]
    # Codes of the padding of the last row stay; what they rebuild to is dropped.
    scale = np.sqrt(np.mean(np.square(weight)) / max(np.mean(np.square(dense.astype(np.float32))), 1e-9))
    scales = np.full(filters, np.float16(scale), np.float16)
    header = bytearray(b"SDP\1")
    header += bytes([s - 1 | (r - 1) << 3 | (0 if form.released else 1) << 6])
    header += bytes([1 | bool(group) << 1 | (n - 1) << 2 | (len(shape) - 1) << 5])
    header += bytes(form.alphabet) + bytes([1]) + bytes(range(len(shape)))
    for d in [*shape, slice_rows, shared] + ([group] if group else []):
        header += number(d)
    stored = np.repeat(kept, group or filters, 0)[:filters]
    if form.released:
        nibbles = np.where(codes < 0, 8 - codes, codes)[stored]
        packed = bit_fields(nibbles, 4)
    else:
        levels = 2 * n + 1
        words = np.zeros(codes.shape[:2], np.int64)
        for k in range(r):
            words = words * levels + codes[:, :, k] + n
        packed = bit_fields(words[stored], (levels**r - 1).bit_length())
    payload = bytes(header) + (bit_fields(kept.ravel(), 1) if group else b"") + packed
    payload += bases.astype(np.int8).tobytes() + bit_fields(np.full(bases.shape[0] * slices, shift), 4)
    payload += scales.tobytes()
    return np.frombuffer(payload, np.uint8), dense.reshape(shape), scales.astype(np.float32)


def int8(weight):
    scales = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float16).astype(np.float32) / 127
    return None, np.clip(np.round(weight / scales.reshape(-1, *[1] * (weight.ndim - 1))), -127, 127).astype(np.int8), scales


def rewrite(model, form, rng):
    graph = model.graph
    weights = {t.name: t for t in graph.initializer}
    nodes, bits, count = [], 0, 0
    for node in graph.node:
        name = node.input[1] if node.op_type in ("Conv", "Gemm", "MatMul") else None
        weight = numpy_helper.to_array(weights[name]) if name in weights else None
        transposed = node.op_type == "MatMul" or any(a.name == "transB" and a.i == 0 for a in node.attribute)
        depthwise = weight is not None and node.op_type == "Conv" and weight.shape[1] == 1
        if weight is not None and not transposed and not depthwise and (node.op_type != "Gemm" or "transB" in [a.name for a in node.attribute]):
            payload, dense, scales = int8(weight) if form is None else compress(weight, form, rng)
            graph.initializer.remove(weights.pop(name))
            graph.initializer.append(numpy_helper.from_array(dense, name))
            graph.initializer.append(numpy_helper.from_array(scales, name + "/scale"))
            if payload is not None:
                graph.initializer.append(numpy_helper.from_array(payload, "sdc.sd/" + name))
                bits, count = bits + 8 * len(payload), count + weight.size
            result = name + "/dequantised"
            if weight.ndim == 2:
                # As sdc's export: behind a Reshape, ONNX Runtime computes in float.
                shape = np.array(weight.shape, np.int64)
                graph.initializer.append(numpy_helper.from_array(shape, name + "/shape"))
                nodes.append(helper.make_node("DequantizeLinear", [name, name + "/scale"], [name + "/flat"], axis=0))
                nodes.append(helper.make_node("Reshape", [name + "/flat", name + "/shape"], [result]))
            else:
                nodes.append(helper.make_node("DequantizeLinear", [name, name + "/scale"], [result], axis=0))
            node.input[1] = result
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    model.metadata_props.add(key="sdc.sd.version", value="1")
    return bits / max(count, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--form", default="released")
    parser.add_argument("--density", type=float, default=1.0)
    parser.add_argument("--group", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = onnx.load(args.model)
    form = None if args.form == "int8" else Form(args.form, args.density, args.group)
    bits = rewrite(model, form, np.random.default_rng(args.seed))
    onnx.save(model, args.out)
    print(f"{args.out}: {bits:.2f} bits a weight")


if __name__ == "__main__":
    main()
