//! The end of every integer kernel: from a 32-bit sum to 8 bits. `docs/integer.md` is the definition.

use super::call::Params;
use crate::DType;
use crate::tile::{Arith1, Arith2, FuncBuilder, Ty, Val};

/// The 8-bit type that a `signed` flag stands for.
pub(super) fn byte(signed: i64) -> DType {
    if signed == 0 { DType::U8 } else { DType::I8 }
}

/// Zero point, bounds and type of the results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requantise {
    zero: i64,
    min: i64,
    max: i64,
    to: DType,
    shift: i64,
}

impl Requantise {
    /// From the parameters `y_zero y_min y_max y_signed y_shift`.
    pub(super) fn of(p: &Params<'_>) -> Self {
        Self {
            zero: p.get("y_zero"),
            min: p.get("y_min"),
            max: p.get("y_max"),
            to: byte(p.get("y_signed")),
            shift: p.get("y_shift"),
        }
    }

    /// Element type of the multipliers: `f32`, or `i32` with a shift.
    pub(super) fn multiplier(&self) -> DType {
        if self.shift == 0 { DType::F32 } else { DType::I32 }
    }

    /// `clamp(round_half_even(f32(sum) * scale) + zero, min, max)`, or with a shift
    /// `clamp(zero + ((sum * scale + 2^(shift-1)) >> shift), min, max)` in 64 bits.
    pub(super) fn emit(&self, b: &mut FuncBuilder, sum: Val, scale: Val) -> Val {
        if self.shift != 0 {
            let (sum, scale) = (b.convert(DType::I64, sum), b.convert(DType::I64, scale));
            let product = b.mul(sum, scale);
            return shifted(b, product, self.shift, self.zero, (self.min, self.max), self.to);
        }
        let lanes = Ty::scalar(DType::F32).lanes;
        let y = b.convert(DType::F32, sum);
        let y = b.mul(y, scale);
        let y = b.arith1(Arith1::Nearest, y);
        let zero = b.f32(lanes, self.zero as f32);
        let y = b.add(y, zero);
        let (min, max) = (b.f32(lanes, self.min as f32), b.f32(lanes, self.max as f32));
        let y = b.max(min, y);
        let y = b.min(max, y);
        let y = b.convert(DType::I32, y);
        b.convert(self.to, y)
    }
}

/// `clamp(zero + ((product + 2^(shift-1)) >> shift), min, max)` of an `i64` product, as a value of type `to`: the one requantisation of
/// sdc's own integer graphs.
pub fn shifted(
    b: &mut FuncBuilder,
    product: Val,
    shift: i64,
    zero: i64,
    (min, max): (i64, i64),
    to: DType,
) -> Val {
    let ty = b.ty(product);
    let rounding = b.int(ty, 1 << (shift - 1));
    let sum = b.add(product, rounding);
    let by = b.int(ty, shift);
    let y = b.arith2(Arith2::Shr, sum, by);
    let zero = b.int(ty, zero);
    let y = b.add(y, zero);
    let (min, max) = (b.int(ty, min), b.int(ty, max));
    let y = b.max(min, y);
    let y = b.min(max, y);
    b.convert(to, y)
}
