//! `sparse2d_i8`: integer convolution of one image and one group by the weights that are there, channels-last, requantised to 8 bits.
//!
//! Tables, blocks and the copy in the scratch operand (of i32) are those of `sparse2d_f32`, the rest is as in `conv2d_i8`, with
//! `acc = bias[oc] + sum over e, j of (x - x_zero) * w[e][oc % 16][j]`. An entry is a unit of `bytes` inputs: byte `j` of unit `u` at a row
//! and column is channel `u * jump + j * jc` at `j * jh` rows and `j * jw` columns from there. Units of a pixel are `units`; what lies outside
//! the input, channels too, counts as `x_zero`. Weights are packed as `[entry][16][4]`, missing ones zero.

use super::call::{Params, Plane};
use super::requantise::{self, Requantise};
use super::sparse2d::{BLOCK, Copied, I64, Window, entries, entry, inside, scaled, wide};
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, Arith2, FuncBuilder, KernelCall, Ty, Val, View};

pub(super) const KERNEL: Kernel = Kernel {
    name: "sparse2d_i8",
    operands: &[
        Operand::read("x"),
        Operand::read("w"),
        Operand::read("places"),
        Operand::read("starts"),
        Operand::read("bias"),
        Operand::read("wsum"),
        Operand::read("scale"),
        Operand::write("scratch"),
        Operand::write("y"),
    ],
    params: &[
        "in_h", "in_w", "in_c", "out_w", "out_c", "sh", "sw", "pt", "pl", "xs_h", "xs_w", "x_row0", "ys_h",
        "ys_w", "y_row0", "band", "copied", "phases", "width", "most", "units", "jump", "bytes", "jh", "jw",
        "jc", "x_signed", "x_zero", "y_signed", "y_zero", "y_min", "y_max", "y_shift",
    ],
    range: "output rows, absolute",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, w, places, starts, bias, _, scale, _, y] = operands.as_slice() else {
        return;
    };
    let conv = Conv {
        p: &p,
        x,
        w,
        places,
        bias,
        scale,
        y: Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0")),
        requantise: Requantise::of(&p),
    };
    let (filters, block) = (p.get("out_c"), BLOCK as i64);
    let (full, rest) = (filters / block, filters % block);
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, oy| {
        b.for_range(0, p.get("out_w"), 1, |b, ox| {
            for (lo, hi, count) in [(0, full, block), (full, full + i64::from(rest > 0), rest)] {
                b.for_range(lo, hi, 1, |b, at| {
                    let entries = entries(b, starts, &at);
                    b.for_range(0, count, 1, |b, filter| {
                        conv.result(b, [&oy, &ox], (&at, filter), entries)
                    });
                });
            }
        });
    });
}

struct Conv<'a> {
    p: &'a Params<'a>,
    x: &'a View,
    w: &'a View,
    places: &'a View,
    bias: &'a View,
    scale: &'a View,
    y: Plane,
    requantise: Requantise,
}

impl Conv<'_> {
    fn result(
        &self,
        b: &mut FuncBuilder,
        [oy, ox]: [&Affine; 2],
        (block, filter): (&Affine, Affine),
        entries: [Val; 2],
    ) {
        let word = Ty::scalar(DType::I32);
        let channel = block.clone() * BLOCK as i64 + filter.clone();
        let start = b.load(word, self.bias.buffer, self.bias.offset.clone() + channel.clone());
        let sums = b.for_carried(0, self.p.get("most"), 1, &[start], |b, e, sums| {
            let (entry, live) = entry(b, &e, entries);
            let place = b.load_at(word, self.places.buffer, self.places.offset.clone(), entry);
            let place = b.convert(DType::I64, place);
            let unit = self.unit(b, [oy, ox], place);
            let at = scaled(b, entry, 4 * BLOCK as i64);
            let next = b.for_carried(0, self.p.get("bytes"), 1, sums, |b, j, sums| {
                let x = self.input(b, unit, &j);
                let from = self.w.offset.clone() + filter.clone() * 4 + j;
                let w = b.load_at(Ty::scalar(DType::I8), self.w.buffer, from, at);
                let w = b.convert(DType::I32, w);
                let product = b.mul(x, w);
                vec![b.add(sums[0], product)]
            });
            let live = wide(b, live, word);
            vec![b.select(live, next[0], sums[0])]
        });
        let scale = self.scale.offset.clone() + channel.clone();
        let scale = b.load(Ty::scalar(self.requantise.multiplier()), self.scale.buffer, scale);
        let y = self.requantise.emit(b, sums[0], scale);
        self.y.lane(oy, ox, 1, &channel).store(b, 0, 0, y);
    }

    /// First channel, row and column of a place.
    fn unit(&self, b: &mut FuncBuilder, [oy, ox]: [&Affine; 2], place: Val) -> [Val; 3] {
        let get = |name| self.p.get(name);
        let window = Window {
            copied: Copied {
                units: get("units") as usize,
                rows: get("copied") as usize,
                phases: get("phases") as usize,
                width: get("width") as usize,
            },
            stride: get("sw"),
        };
        let [unit, row, column] = window.parts(b, place);
        let from = [
            oy.clone() * get("sh") - get("pt"),
            ox.clone() * get("sw") - get("pl"),
        ];
        let [first_row, first_column] = from.map(|at| b.affine(at));
        [
            scaled(b, unit, get("jump")),
            b.add(row, first_row),
            b.add(column, first_column),
        ]
    }

    /// Byte `j` of a unit, less the zero point; zero outside the input.
    fn input(&self, b: &mut FuncBuilder, unit: [Val; 3], j: &Affine) -> Val {
        let get = |name| self.p.get(name);
        let axes = [
            (unit[0], get("jc"), (0, get("in_c")), 1),
            (unit[1], get("jh"), (get("x_row0"), get("in_h")), get("xs_h")),
            (unit[2], get("jw"), (0, get("in_w")), get("xs_w")),
        ];
        let mut at = b.int(I64, -get("x_row0") * get("xs_h"));
        let mut there = None;
        for (first, step, range, stride) in axes {
            let by = b.affine(j.clone() * step);
            let place = b.add(first, by);
            let (place, within) = inside(b, place, range);
            let part = scaled(b, place, stride);
            at = b.add(at, part);
            there = Some(match there {
                Some(there) => b.arith2(Arith2::And, there, within),
                None => within,
            });
        }
        let word = Ty::scalar(DType::I32);
        let x = Ty::scalar(requantise::byte(get("x_signed")));
        let x = b.load_at(x, self.x.buffer, self.x.offset.clone(), at);
        let x = b.convert(DType::I32, x);
        let zero = b.int(word, get("x_zero"));
        let x = b.sub(x, zero);
        let nothing = b.int(word, 0);
        match there {
            Some(there) => {
                let there = wide(b, there, word);
                b.select(there, x, nothing)
            }
            None => x,
        }
    }
}
