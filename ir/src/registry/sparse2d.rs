//! `sparse2d_f32`: convolution of one image and one group by the weights that are there, channels-last.
//!
//! `y[oy][ox][oc] = act(bias[oc] + residual[oy][ox][oc] + sum over e of x[iy][ix][ic] * w[e][oc % 16])`, `e` from `starts[b]` to
//! `starts[b + 1]` for the block `b = oc / 16` of filters, at most `most` of them, in this order. `places[e]` (i32, as `starts`) says where
//! in the input an entry is, as a place in what [`Copied`] describes: a copy of `copied` rows of the padded input, which begins with the row
//! `oy*sh - pt` and, in the line of an output column `ox`, with the column `ox*sw - pl`. What lies outside the input is zero.
//!
//! Weights are packed as `[entry][16]`, those of filters that do not exist zero. Rows that operands point at are as in `conv2d_f32`. The
//! scratch operand has [`Copied::len`] elements; nothing in it lasts. Kernels compute `band` output rows from one copy.

use super::call::{Lane, Params, Plane, Tile};
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::build::mask_type;
use crate::tile::{Affine, Arith2, CompareOp, FuncBuilder, KernelCall, Ty, Val, View};

/// Filters of a block, and channels that lie side by side in a copy.
pub const BLOCK: usize = 16;

pub(super) const KERNEL: Kernel = Kernel {
    name: "sparse2d_f32",
    operands: &[
        Operand::read("x"),
        Operand::read("w"),
        Operand::read("places"),
        Operand::read("starts"),
        Operand::optional("bias"),
        Operand::optional("residual"),
        Operand::write("scratch"),
        Operand::write("y"),
    ],
    params: &[
        "in_h",
        "in_w",
        "in_c",
        "out_w",
        "out_c",
        "sh",
        "sw",
        "pt",
        "pl",
        "xs_h",
        "xs_w",
        "xs_c",
        "x_row0",
        "ys_h",
        "ys_w",
        "y_row0",
        "rs_h",
        "rs_w",
        "r_row0",
        "band",
        "copied",
        "phases",
        "width",
        "most",
        "has_bias",
        "has_residual",
        "act",
        "act_a",
        "act_b",
    ],
    range: "output rows, absolute",
    body,
};

/// The shape of a copy of the input: `[unit / 16][row][phase][column][unit % 16]`. A unit is what an entry reads of a pixel: a channel, or
/// of `sparse2d_i8` four bytes.
/// Column `i` of a phase is column `i * sw + phase` of the padded input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Copied {
    /// Units of a pixel.
    pub units: usize,
    /// Rows.
    pub rows: usize,
    /// Phases of the columns: the stride, or 1 where windows have one column.
    pub phases: usize,
    /// Columns of a phase.
    pub width: usize,
}

impl Copied {
    /// Elements.
    pub fn len(&self) -> usize {
        self.units.div_ceil(BLOCK) * self.rows * self.phases * self.width * BLOCK
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Distances that make up the place of a unit at a row and column of a window: of blocks of units, of rows, of phases and of columns.
    pub fn steps(&self) -> [usize; 4] {
        let row = self.phases * self.width * BLOCK;
        [self.rows * row, row, self.width * BLOCK, BLOCK]
    }
}

pub(super) const I64: Ty = Ty::scalar(DType::I64);

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let at = |i: usize| call.operands.get(i).and_then(Option::as_ref);
    let (Some(x), Some(w), Some(places), Some(starts), Some(y)) = (at(0), at(1), at(2), at(3), at(7)) else {
        return;
    };
    let conv = Conv {
        p: &p,
        x,
        w,
        places,
        starts,
        y: Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0")),
        bias: p.optional(4, "has_bias"),
        residual: p
            .optional(5, "has_residual")
            .map(|r| Plane::new(&r, p.get("rs_h"), p.get("rs_w"), p.get("r_row0"))),
    };
    let (filters, block) = (p.get("out_c"), BLOCK as i64);
    let (full, rest) = (filters / block, filters % block);
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, oy| {
        b.for_range(0, p.get("out_w"), 1, |b, ox| {
            b.for_range(0, full, 1, |b, at| conv.pixel(b, [&oy, &ox], &at, block));
            b.for_range(full, full + i64::from(rest > 0), 1, |b, at| {
                conv.pixel(b, [&oy, &ox], &at, rest);
            });
        });
    });
}

struct Conv<'a> {
    p: &'a Params<'a>,
    x: &'a View,
    w: &'a View,
    places: &'a View,
    starts: &'a View,
    bias: Option<View>,
    residual: Option<Plane>,
    y: Plane,
}

impl Conv<'_> {
    /// The results of `count` filters of a block, four at a time and then one by one.
    fn pixel(&self, b: &mut FuncBuilder, [oy, ox]: [&Affine; 2], block: &Affine, count: i64) {
        let vectors = count / 4;
        let entries = entries(b, self.starts, block);
        b.for_range(0, vectors, 1, |b, v| {
            self.filters(b, [oy, ox], (block, v * 4), Ty::vector(DType::F32, 4), entries);
        });
        b.for_range(vectors * 4, count, 1, |b, f| {
            self.filters(b, [oy, ox], (block, f), Ty::scalar(DType::F32), entries);
        });
    }

    fn filters(
        &self,
        b: &mut FuncBuilder,
        [oy, ox]: [&Affine; 2],
        (block, filter): (&Affine, Affine),
        ty: Ty,
        entries: [Val; 2],
    ) {
        let channel = block.clone() * BLOCK as i64 + filter.clone();
        let tile = Tile {
            pixels: 1,
            vectors: 1,
            ty,
            bias: self.bias.as_ref().map(|view| Lane::new(view, channel.clone(), 0)),
            residual: self.residual.as_ref().map(|r| r.lane(oy, ox, 1, &channel)),
            y: self.y.lane(oy, ox, 1, &channel),
            activation: self.p.activation(),
        };
        tile.emit(b, |b, sums| {
            b.for_carried(0, self.p.get("most"), 1, &sums, |b, e, sums| {
                let (entry, live) = entry(b, &e, entries);
                let x = self.input(b, [oy, ox], entry);
                let at = scaled(b, entry, BLOCK as i64);
                let w = b.load_at(ty, self.w.buffer, self.w.offset.clone() + filter.clone(), at);
                let x = if ty.lanes > 1 { b.splat(ty.lanes, x) } else { x };
                let next = b.fma(x, w, sums[0]);
                let live = wide(b, live, ty);
                vec![b.select(live, next, sums[0])]
            })
        });
    }

    /// The input of an entry.
    fn input(&self, b: &mut FuncBuilder, [oy, ox]: [&Affine; 2], entry: Val) -> Val {
        let get = |name| self.p.get(name);
        let place = b.load_at(
            Ty::scalar(DType::I32),
            self.places.buffer,
            self.places.offset.clone(),
            entry,
        );
        let place = b.convert(DType::I64, place);
        let window = Window {
            copied: Copied {
                units: get("in_c") as usize,
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
        let (row, column) = (b.add(row, first_row), b.add(column, first_column));
        let (row, above) = inside(b, row, (get("x_row0"), get("in_h")));
        let (column, beside) = inside(b, column, (0, get("in_w")));
        let row = shifted(b, row, -get("x_row0"));
        let parts = [(row, get("xs_h")), (column, get("xs_w")), (unit, get("xs_c"))];
        let [row, column, unit] = parts.map(|(at, step)| scaled(b, at, step));
        let at = b.add(row, column);
        let at = b.add(at, unit);
        let x = b.load_at(Ty::scalar(DType::F32), self.x.buffer, self.x.offset.clone(), at);
        let there = b.arith2(Arith2::And, above, beside);
        let there = wide(b, there, Ty::scalar(DType::F32));
        let zero = b.f32(1, 0.0);
        b.select(there, x, zero)
    }
}

/// How places are read.
pub(super) struct Window {
    pub(super) copied: Copied,
    pub(super) stride: i64,
}

impl Window {
    /// Unit, row and column of a place.
    pub(super) fn parts(&self, b: &mut FuncBuilder, place: Val) -> [Val; 3] {
        let mut rest = place;
        let [_, row, phase, column] = self.copied.steps().map(|step| step as i64);
        let mut digit = |b: &mut FuncBuilder, unit: i64, count: Option<i64>| {
            let at = divided(b, rest, unit);
            let taken = scaled(b, at, unit);
            rest = b.sub(rest, taken);
            match count {
                Some(count) => {
                    let above = divided(b, at, count);
                    let below = scaled(b, above, count);
                    (above, b.sub(at, below))
                }
                None => (at, at),
            }
        };
        let (block, row) = digit(b, row, Some(self.copied.rows as i64));
        let (phase, _) = digit(b, phase, None);
        let (column, _) = digit(b, column, None);
        let unit = scaled(b, block, BLOCK as i64);
        let column = scaled(b, column, self.stride);
        [b.add(unit, rest), row, b.add(column, phase)]
    }
}

/// First entry of a block, and the one after its last.
pub(super) fn entries(b: &mut FuncBuilder, starts: &View, block: &Affine) -> [Val; 2] {
    [0, 1].map(|i| {
        let at = starts.offset.clone() + block.clone() + i;
        let start = b.load(Ty::scalar(DType::I32), starts.buffer, at);
        b.convert(DType::I64, start)
    })
}

/// The entry with a number in its block, or one that may be read; and whether it is one of the block's.
pub(super) fn entry(b: &mut FuncBuilder, number: &Affine, [first, end]: [Val; 2]) -> (Val, Val) {
    let number = b.affine(number.clone());
    let entry = b.add(first, number);
    let live = b.compare(CompareOp::Lt, entry, end);
    let zero = b.int(I64, 0);
    (b.select(live, entry, zero), live)
}

/// The position, or the nearest from `lo` to below `hi`; and whether it is one from 0 to there.
pub(super) fn inside(b: &mut FuncBuilder, at: Val, (lo, hi): (i64, i64)) -> (Val, Val) {
    let zero = b.int(I64, 0);
    let (lo, last) = (b.int(I64, lo), b.int(I64, hi - 1));
    let reached = b.compare(CompareOp::Ge, at, zero);
    let within = b.compare(CompareOp::Le, at, last);
    let near = b.min(at, last);
    let near = b.max(near, lo);
    (near, b.arith2(Arith2::And, reached, within))
}

/// A mask for values of a type.
pub(super) fn wide(b: &mut FuncBuilder, mask: Val, ty: Ty) -> Val {
    let mask = b.convert(mask_type(Ty::scalar(ty.dtype)).dtype, mask);
    if ty.lanes > 1 {
        b.splat(ty.lanes, mask)
    } else {
        mask
    }
}

pub(super) fn scaled(b: &mut FuncBuilder, x: Val, factor: i64) -> Val {
    let factor = b.int(I64, factor);
    b.mul(x, factor)
}

pub(super) fn shifted(b: &mut FuncBuilder, x: Val, by: i64) -> Val {
    let by = b.int(I64, by);
    b.add(x, by)
}

fn divided(b: &mut FuncBuilder, x: Val, by: i64) -> Val {
    let by = b.int(I64, by);
    b.div(x, by)
}
