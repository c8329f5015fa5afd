//! Quantisation and dequantisation, element by element. Arithmetic: `docs/integer.md`.

use super::elementwise::constant;
use sdc_ir::DType;
use sdc_ir::graph::op::{QLinearAdd, QLinearMul};
use sdc_ir::registry::requantise::shifted;
use sdc_ir::tile::{Arith1, FuncBuilder, Ty, Val};

/// The value as `f32`, integers by way of `i32`.
fn single(b: &mut FuncBuilder, x: Val) -> Val {
    let dtype = b.ty(x).dtype;
    if dtype == DType::F32 {
        return x;
    }
    let x = word(b, x);
    b.convert(DType::F32, x)
}

/// An integer as `i32`.
fn word(b: &mut FuncBuilder, x: Val) -> Val {
    if b.ty(x).dtype == DType::I32 {
        x
    } else {
        b.convert(DType::I32, x)
    }
}

/// Smallest and largest element of a type of 8 or 16 bits.
pub fn range(dtype: DType) -> (i32, i32) {
    let bits = 8 * dtype.size() as u32;
    if dtype.is_signed_int() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// `saturate(round_half_even(x / scale) + zero)` in the type of `zero`.
pub fn quantize(b: &mut FuncBuilder, x: Val, scale: Val, zero: Val) -> Val {
    let to = b.ty(zero).dtype;
    let x = single(b, x);
    let y = b.div(x, scale);
    let zero = single(b, zero);
    saturate(b, y, zero, range(to), to)
}

/// `round_half_even(x) + zero` within a range, in an integer type.
pub fn saturate(b: &mut FuncBuilder, x: Val, zero: Val, (low, high): (i32, i32), to: DType) -> Val {
    let ty = Ty::vector(DType::F32, b.ty(x).lanes);
    let y = b.arith1(Arith1::Nearest, x);
    let y = b.add(y, zero);
    let (low, high) = (constant(b, ty, low.into()), constant(b, ty, high.into()));
    // In this order a NaN stays, and converts to zero.
    let y = b.max(low, y);
    let y = b.min(high, y);
    let y = b.convert(DType::I32, y);
    b.convert(to, y)
}

/// `(x - zero) * scale` in `f32`.
pub fn dequantize(b: &mut FuncBuilder, x: Val, scale: Val, zero: Val) -> Val {
    let (x, zero) = (word(b, x), word(b, zero));
    let x = b.sub(x, zero);
    let x = b.convert(DType::F32, x);
    b.mul(x, scale)
}

/// An integer less its zero point, as `i64`.
fn centred(b: &mut FuncBuilder, x: Val, zero: i64) -> Val {
    let x = b.convert(DType::I64, x);
    if zero == 0 {
        return x;
    }
    let zero = b.int(Ty::scalar(DType::I64), zero);
    b.sub(x, zero)
}

/// The weighted sum of QLinearAdd.
pub fn add(b: &mut FuncBuilder, op: &QLinearAdd, operands: &[Val]) -> Val {
    let wide = Ty::scalar(DType::I64);
    let mut sum = None;
    for ((&x, &zero), &multiplier) in operands.iter().zip(&op.zeros).zip(&op.multipliers) {
        let x = centred(b, x, zero);
        let multiplier = b.int(wide, multiplier);
        let product = b.mul(x, multiplier);
        sum = Some(match sum {
            Some(sum) => b.add(sum, product),
            None => product,
        });
    }
    let sum = sum.unwrap_or_else(|| b.int(wide, 0));
    shifted(b, sum, op.shift as i64, op.y_zero, (op.min, op.max), op.to)
}

/// The product of QLinearMul.
pub fn mul(b: &mut FuncBuilder, op: &QLinearMul, x: Val, y: Val) -> Val {
    let (x, y) = (centred(b, x, op.zeros[0]), centred(b, y, op.zeros[1]));
    let multiplier = b.int(Ty::scalar(DType::I64), op.multiplier);
    let product = b.mul(x, y);
    let product = b.mul(product, multiplier);
    shifted(b, product, op.shift as i64, op.y_zero, (op.min, op.max), op.to)
}

/// The bits of an integer of 8 bits as an index.
pub fn bits(b: &mut FuncBuilder, x: Val) -> Val {
    let x = if b.ty(x).dtype == DType::U8 {
        x
    } else {
        b.bitcast(DType::U8, x)
    };
    b.convert(DType::I64, x)
}
