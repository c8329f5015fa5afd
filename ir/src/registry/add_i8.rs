//! `add_i8`: sums of one or two integer tensors, row by row, on a grid of their own.
//!
//! Real arithmetic (`y_shift` = 0, scales are `f32` bits): `y = clamp(round_half_even((f32(a - a_zero) * a_scale + f32(b - b_zero) * b_scale)
//! / y_scale) + y_zero, y_min, y_max)`, which is what ONNX computes between DequantizeLinear and QuantizeLinear. With a
//! `y_shift` n, scales are integers: `y = clamp(y_zero + (((a - a_zero) * a_scale + (b - b_zero) * b_scale + 2^(n-1)) >> n), y_min, y_max)`
//! in 64 bits, and `y_scale` is not used. Without `has_b` there is but the first term.
//!
//! Elements are u8, or i8 where `*_signed`. Rows of `columns` elements that follow one another begin `*s_r` apart. Real scales
//! are within [`SCALES`], so that nothing overflows or becomes subnormal.

use super::call::Params;
use super::requantise::{byte, shifted};
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, Arith1, FuncBuilder, KernelCall, Ty, Val, View};
use std::ops::RangeInclusive;

/// What real scales may be.
pub const SCALES: RangeInclusive<f32> = 1e-18..=1e18;

/// Lanes of the body.
const LANES: u8 = 4;

pub(super) const KERNEL: Kernel = Kernel {
    name: "add_i8",
    operands: &[Operand::read("a"), Operand::optional("b"), Operand::write("y")],
    params: &[
        "columns", "as_r", "bs_r", "ys_r", "has_b", "a_signed", "a_zero", "a_scale", "b_signed", "b_zero",
        "b_scale", "y_signed", "y_zero", "y_min", "y_max", "y_shift", "y_scale",
    ],
    range: "rows",
    body,
};

/// One operand: its elements from some place on, and what they stand for.
struct Term<'a> {
    view: &'a View,
    row: i64,
    dtype: DType,
    zero: i64,
    scale: i64,
}

impl Term<'_> {
    fn load(&self, b: &mut FuncBuilder, lanes: u8, at: [&Affine; 2]) -> Val {
        let index = self.view.offset.clone() + at[0].clone() * self.row + at[1].clone();
        b.load(Ty::vector(self.dtype, lanes), self.view.buffer, index)
    }

    /// `f32(x - zero) * scale`
    fn real(&self, b: &mut FuncBuilder, lanes: u8, at: [&Affine; 2]) -> Val {
        let x = self.load(b, lanes, at);
        let x = b.convert(DType::I32, x);
        let zero = b.int(Ty::vector(DType::I32, lanes), self.zero);
        let x = b.sub(x, zero);
        let x = b.convert(DType::F32, x);
        let scale = b.f32(lanes, f32::from_bits(self.scale as u32));
        b.mul(x, scale)
    }

    /// `(x - zero) * scale` in 64 bits.
    fn integer(&self, b: &mut FuncBuilder, at: [&Affine; 2]) -> Val {
        let x = centred(b, self, at);
        let scale = b.int(Ty::scalar(DType::I64), self.scale);
        b.mul(x, scale)
    }
}

/// `x - zero` in 64 bits.
fn centred(b: &mut FuncBuilder, term: &Term<'_>, at: [&Affine; 2]) -> Val {
    let x = term.load(b, 1, at);
    let x = b.convert(DType::I64, x);
    let zero = b.int(Ty::scalar(DType::I64), term.zero);
    b.sub(x, zero)
}

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let (Some(Some(a)), Some(Some(y))) = (call.operands.first(), call.operands.get(2)) else {
        return;
    };
    let second = p.optional(1, "has_b");
    let a = Term {
        view: a,
        row: p.get("as_r"),
        dtype: byte(p.get("a_signed")),
        zero: p.get("a_zero"),
        scale: p.get("a_scale"),
    };
    let second = second.as_ref().map(|view| Term {
        view,
        row: p.get("bs_r"),
        dtype: byte(p.get("b_signed")),
        zero: p.get("b_zero"),
        scale: p.get("b_scale"),
    });
    let (columns, shift) = (p.get("columns"), p.get("y_shift"));
    let (zero, bounds) = (p.get("y_zero"), (p.get("y_min"), p.get("y_max")));
    let to = byte(p.get("y_signed"));
    let element = |b: &mut FuncBuilder, lanes: u8, row: &Affine, column: &Affine| {
        let at = [row, column];
        let result = if shift == 0 {
            let mut sum = a.real(b, lanes, at);
            if let Some(second) = &second {
                let more = second.real(b, lanes, at);
                sum = b.add(sum, more);
            }
            let scale = b.f32(lanes, f32::from_bits(p.get("y_scale") as u32));
            let y = b.div(sum, scale);
            quantised(b, y, zero, bounds, to)
        } else {
            let mut sum = a.integer(b, at);
            if let Some(second) = &second {
                let more = second.integer(b, at);
                sum = b.add(sum, more);
            }
            shifted(b, sum, shift, zero, bounds, to)
        };
        let index = y.offset.clone() + row.clone() * p.get("ys_r") + column.clone();
        b.store(y.buffer, index, result);
    };
    let lanes = if shift == 0 { LANES } else { 1 };
    let main = columns - columns % i64::from(lanes);
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        b.for_range(0, main, lanes.into(), |b, c| element(b, lanes, &row, &c));
        b.for_range(main, columns, 1, |b, c| element(b, 1, &row, &c));
    });
}

/// `clamp(round_half_even(x) + zero, min, max)` as integers; NaN gives 0.
pub(super) fn quantised(b: &mut FuncBuilder, x: Val, zero: i64, (min, max): (i64, i64), to: DType) -> Val {
    let lanes = b.ty(x).lanes;
    let y = b.arith1(Arith1::Nearest, x);
    let zero = b.f32(lanes, zero as f32);
    let y = b.add(y, zero);
    let (min, max) = (b.f32(lanes, min as f32), b.f32(lanes, max as f32));
    // In this order a NaN stays, and converts to zero.
    let y = b.max(min, y);
    let y = b.min(max, y);
    let y = b.convert(DType::I32, y);
    b.convert(to, y)
}

/// `mul_i8`: `y = clamp(y_zero + (((a - a_zero) * (b - b_zero) * scale + 2^(n-1)) >> n), y_min, y_max)` in 64 bits with `n = y_shift`, at
/// least 1; operands as those of `add_i8`.
pub(super) const PRODUCT: Kernel = Kernel {
    name: "mul_i8",
    operands: &[Operand::read("a"), Operand::read("b"), Operand::write("y")],
    params: &[
        "columns", "as_r", "bs_r", "ys_r", "a_signed", "a_zero", "b_signed", "b_zero", "scale", "y_signed",
        "y_zero", "y_min", "y_max", "y_shift",
    ],
    range: "rows",
    body: product,
};

fn product(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&PRODUCT, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, z, y] = operands.as_slice() else {
        return;
    };
    let [x, z] = [(x, "a"), (z, "b")].map(|(view, name)| Term {
        view,
        row: p.get(&format!("{name}s_r")),
        dtype: byte(p.get(&format!("{name}_signed"))),
        zero: p.get(&format!("{name}_zero")),
        scale: 1,
    });
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        b.for_range(0, p.get("columns"), 1, |b, column| {
            let (left, right) = (centred(b, &x, [&row, &column]), centred(b, &z, [&row, &column]));
            let product = b.mul(left, right);
            let scale = b.int(Ty::scalar(DType::I64), p.get("scale"));
            let product = b.mul(product, scale);
            let bounds = (p.get("y_min"), p.get("y_max"));
            // A shift of nothing is no requantisation; the least there is stands for it.
            let shift = p.get("y_shift").max(1);
            let result = shifted(
                b,
                product,
                shift,
                p.get("y_zero"),
                bounds,
                byte(p.get("y_signed")),
            );
            let index = y.offset.clone() + row.clone() * p.get("ys_r") + column;
            b.store(y.buffer, index, result);
        });
    });
}
