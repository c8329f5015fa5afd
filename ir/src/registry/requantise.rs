//! The end of every integer kernel: from a 32-bit sum to 8 bits. `docs/integer.md` is the definition.

use super::call::Params;
use crate::DType;
use crate::tile::{Arith1, FuncBuilder, Ty, Val};

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
}

impl Requantise {
    /// From the parameters `y_zero y_min y_max y_signed`.
    pub(super) fn of(p: &Params<'_>) -> Self {
        Self {
            zero: p.get("y_zero"),
            min: p.get("y_min"),
            max: p.get("y_max"),
            to: byte(p.get("y_signed")),
        }
    }

    /// `clamp(round_half_even(f32(sum) * scale) + zero, min, max)`.
    pub(super) fn emit(&self, b: &mut FuncBuilder, sum: Val, scale: Val) -> Val {
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
