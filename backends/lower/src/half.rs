//! `f16` and `bf16` to `f32` and back, by integer arithmetic of an [`Emitter`]: few CPUs convert them.

use crate::Emitter;
use sdc_ir::DType;
use sdc_ir::tile::{Arith2, CompareOp, Ty};

/// `f32` bits of 2^112, by which a widened `f16`'s exponent must be moved.
const TWO_TO_112: u32 = (127 + 112) << 23;

/// `f32` bits of 0.5.
const HALF: u32 = 0x3f00_0000;

/// True for the types whose values are bits that must be widened to be computed with.
pub fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// A half float, or a vector of them, as `f32`.
///
/// # Errors
/// The emitter's.
pub fn widen<E: Emitter>(e: &mut E, from: Ty, x: E::Value) -> Result<E::Value, E::Error> {
    let bits = Bits::new(from);
    let x = e.bitcast(from, bits.narrow, x)?;
    let x = e.convert(bits.narrow, bits.int, x)?;
    if from.dtype == DType::BF16 {
        let x = bits.with(e, Arith2::Shl, x, 16)?;
        return e.bitcast(bits.int, bits.float, x);
    }
    let sign = bits.with(e, Arith2::And, x, 0x8000)?;
    let sign = bits.with(e, Arith2::Shl, sign, 16)?;
    let magnitude = bits.with(e, Arith2::And, x, 0x7fff)?;
    let aligned = bits.with(e, Arith2::Shl, magnitude, 13)?;
    // Multiplying by a power of two adjusts the exponent of normal and subnormal numbers alike.
    let scale = e.constant(bits.float, TWO_TO_112.into())?;
    let small = e.bitcast(bits.int, bits.float, aligned)?;
    let finite = e.arith2(Arith2::Mul, bits.float, small, scale)?;
    let finite = e.bitcast(bits.float, bits.int, finite)?;
    let special = bits.with(e, Arith2::Or, aligned, 0x7f80_0000)?;
    let infinity = e.constant(bits.int, 0x7c00)?;
    let is_special = e.compare(CompareOp::Ge, bits.int, magnitude, infinity)?;
    let magnitude = e.select(bits.int, is_special, special, finite)?;
    let x = e.arith2(Arith2::Or, bits.int, magnitude, sign)?;
    e.bitcast(bits.int, bits.float, x)
}

/// An `f32`, or a vector of them, rounded half to even to a half float. A NaN stays one, and becomes quiet.
///
/// # Errors
/// The emitter's.
pub fn narrow<E: Emitter>(e: &mut E, to: Ty, x: E::Value) -> Result<E::Value, E::Error> {
    let bits = Bits::new(to);
    let x = e.bitcast(bits.float, bits.int, x)?;
    let x = if to.dtype == DType::BF16 {
        bits.bf16(e, x)?
    } else {
        bits.f16(e, x)?
    };
    let x = e.convert(bits.int, bits.narrow, x)?;
    e.bitcast(bits.narrow, to, x)
}

/// Types of one number of lanes.
struct Bits {
    float: Ty,
    int: Ty,
    narrow: Ty,
}

impl Bits {
    fn new(ty: Ty) -> Self {
        let of = |dtype| Ty { dtype, ..ty };
        Self {
            float: of(DType::F32),
            int: of(DType::U32),
            narrow: of(DType::U16),
        }
    }

    fn bf16<E: Emitter>(&self, e: &mut E, x: E::Value) -> Result<E::Value, E::Error> {
        let rounded = self.round_off(e, x, 16)?;
        let quiet = self.with(e, Arith2::Shr, x, 16)?;
        let quiet = self.with(e, Arith2::Or, quiet, 0x40)?;
        let magnitude = self.with(e, Arith2::And, x, 0x7fff_ffff)?;
        self.if_above(e, magnitude, 0x7f80_0000, quiet, rounded)
    }

    fn f16<E: Emitter>(&self, e: &mut E, x: E::Value) -> Result<E::Value, E::Error> {
        let sign = self.with(e, Arith2::Shr, x, 16)?;
        let sign = self.with(e, Arith2::And, sign, 0x8000)?;
        let magnitude = self.with(e, Arith2::And, x, 0x7fff_ffff)?;

        let rebiased = self.with(e, Arith2::Add, magnitude, (112u32 << 23).wrapping_neg())?;
        let normal = self.round_off(e, rebiased, 13)?;

        // Below 2^-14 the unit is 2^-24, which is also the unit of numbers from 0.5 on: adding 0.5 rounds.
        let half = e.constant(self.float, HALF.into())?;
        let small = e.bitcast(self.int, self.float, magnitude)?;
        let sum = e.arith2(Arith2::Add, self.float, small, half)?;
        let sum = e.bitcast(self.float, self.int, sum)?;
        let subnormal = self.with(e, Arith2::Sub, sum, HALF)?;

        let payload = self.with(e, Arith2::Shr, magnitude, 13)?;
        let payload = self.with(e, Arith2::And, payload, 0x3ff)?;
        let nan = self.with(e, Arith2::Or, payload, 0x7e00)?;
        let infinity = e.constant(self.int, 0x7c00)?;

        let x = self.if_above(e, magnitude, 0x387f_ffff, normal, subnormal)?;
        let x = self.if_above(e, magnitude, 0x477f_ffff, infinity, x)?;
        let x = self.if_above(e, magnitude, 0x7f80_0000, nan, x)?;
        e.arith2(Arith2::Or, self.int, x, sign)
    }

    /// Drops `count` low bits, rounding half to even.
    fn round_off<E: Emitter>(&self, e: &mut E, x: E::Value, count: u32) -> Result<E::Value, E::Error> {
        let last = self.with(e, Arith2::Shr, x, count)?;
        let last = self.with(e, Arith2::And, last, 1)?;
        let almost_half = self.with(e, Arith2::Add, x, (1 << (count - 1)) - 1)?;
        let rounded = e.arith2(Arith2::Add, self.int, almost_half, last)?;
        self.with(e, Arith2::Shr, rounded, count)
    }

    fn if_above<E: Emitter>(
        &self,
        e: &mut E,
        x: E::Value,
        limit: u32,
        yes: E::Value,
        no: E::Value,
    ) -> Result<E::Value, E::Error> {
        let limit = e.constant(self.int, limit.into())?;
        let above = e.compare(CompareOp::Gt, self.int, x, limit)?;
        e.select(self.int, above, yes, no)
    }

    /// An operation with a constant.
    fn with<E: Emitter>(&self, e: &mut E, op: Arith2, x: E::Value, y: u32) -> Result<E::Value, E::Error> {
        let y = e.constant(self.int, y.into())?;
        e.arith2(op, self.int, x, y)
    }
}
