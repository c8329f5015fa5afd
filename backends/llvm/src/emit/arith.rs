//! Arithmetic and comparisons. Which operations a type has was checked by the tile verifier.

use super::{Body, Emitted};
use crate::unit::{Value, built};
use inkwell::values::InstructionOpcode;
use inkwell::{FloatPredicate, IntPredicate};
use sdc_ir::DType;
use sdc_ir::tile::{Arith1, Arith2, CompareOp, Ty};
use sdc_lower::half::{self, is_half};

/// Half floats are computed with as these.
fn wide(ty: Ty) -> Ty {
    Ty {
        dtype: DType::F32,
        ..ty
    }
}

impl<'c> Body<'_, 'c> {
    pub(super) fn unary(&mut self, op: Arith1, ty: Ty, x: Value<'c>) -> Emitted<'c> {
        if is_half(ty.dtype) {
            let x = half::widen(self, ty, x)?;
            let x = self.unary(op, wide(ty), x)?;
            return half::narrow(self, ty, x);
        }
        if ty.dtype.is_float() {
            return Ok(match op {
                Arith1::Neg => self.negate(x),
                Arith1::Abs => self.float_intrinsic("llvm.fabs", ty, &[x]),
                Arith1::Sqrt => self.float_intrinsic("llvm.sqrt", ty, &[x]),
                _ => self.round(op, ty, x),
            });
        }
        let zero = self.unit.constant(ty, 0);
        Ok(match op {
            Arith1::Abs if !ty.dtype.is_signed_int() => x,
            Arith1::Abs => {
                let negative = self.unit.binary(InstructionOpcode::Sub, zero, x);
                let below = self.unit.compare_ints(IntPredicate::SLT, x, zero);
                self.unit.choose(below, negative, x)
            }
            Arith1::Neg => self.unit.binary(InstructionOpcode::Sub, zero, x),
            _ if ty.dtype == DType::Bool => {
                let is_zero = self.unit.compare_ints(IntPredicate::EQ, x, zero);
                self.unit.cast(InstructionOpcode::ZExt, is_zero, self.unit.ty(ty))
            }
            _ => {
                let ones = self.unit.constant(ty, u64::MAX);
                self.unit.binary(InstructionOpcode::Xor, x, ones)
            }
        })
    }

    fn negate(&self, x: Value<'c>) -> Value<'c> {
        match x {
            Value::VectorValue(x) => built(self.unit.builder.build_float_neg(x, "")).into(),
            x => built(self.unit.builder.build_float_neg(x.into_float_value(), "")).into(),
        }
    }

    fn float_intrinsic(&self, name: &str, ty: Ty, args: &[Value<'c>]) -> Value<'c> {
        self.unit.intrinsic(name, &[self.unit.ty(ty)], args)
    }

    /// Rounds `f32` or `f64` to an integer. Exact for all values, including zeros' signs.
    fn round(&mut self, op: Arith1, ty: Ty, x: Value<'c>) -> Value<'c> {
        if self.unit.rounds {
            let name = match op {
                Arith1::Floor => "llvm.floor",
                Arith1::Ceil => "llvm.ceil",
                _ => "llvm.roundeven",
            };
            return self.float_intrinsic(name, ty, &[x]);
        }
        // Adding 2^23 (2^52) to a smaller magnitude pushes the fraction out, rounding half to even; larger ones are
        // integers already, and a NaN compares false, so both pass unchanged.
        let (unit, limit) = if ty.dtype == DType::F32 {
            (1f32.to_bits().into(), 8_388_608f32.to_bits().into())
        } else {
            (1f64.to_bits(), 4_503_599_627_370_496f64.to_bits())
        };
        let (unit, limit) = (self.unit.constant(ty, unit), self.unit.constant(ty, limit));
        let magnitude = self.float_intrinsic("llvm.fabs", ty, &[x]);
        let shifted = self.unit.binary(InstructionOpcode::FAdd, magnitude, limit);
        let nearest = self.unit.binary(InstructionOpcode::FSub, shifted, limit);
        let nearest = self.float_intrinsic("llvm.copysign", ty, &[nearest, x]);
        let rounded = match op {
            Arith1::Floor => {
                let lower = self.unit.binary(InstructionOpcode::FSub, nearest, unit);
                let below = self.unit.compare_floats(FloatPredicate::OLT, x, nearest);
                self.unit.choose(below, lower, nearest)
            }
            Arith1::Ceil => {
                let higher = self.unit.binary(InstructionOpcode::FAdd, nearest, unit);
                let above = self.unit.compare_floats(FloatPredicate::OLT, nearest, x);
                self.unit.choose(above, higher, nearest)
            }
            _ => nearest,
        };
        let rounded = self.float_intrinsic("llvm.copysign", ty, &[rounded, x]);
        let small = self.unit.compare_floats(FloatPredicate::OLT, magnitude, limit);
        self.unit.choose(small, rounded, x)
    }

    pub(super) fn binary(&mut self, op: Arith2, ty: Ty, a: Value<'c>, b: Value<'c>) -> Emitted<'c> {
        match op {
            Arith2::Min => {
                let less = self.condition(CompareOp::Lt, ty, a, b)?;
                return Ok(self.unit.choose(less, a, b));
            }
            Arith2::Max => {
                let more = self.condition(CompareOp::Gt, ty, a, b)?;
                return Ok(self.unit.choose(more, a, b));
            }
            _ => {}
        }
        if is_half(ty.dtype) {
            let (a, b) = (half::widen(self, ty, a)?, half::widen(self, ty, b)?);
            let x = self.binary(op, wide(ty), a, b)?;
            return half::narrow(self, ty, x);
        }
        let (float, signed) = (ty.dtype.is_float(), ty.dtype.is_signed_int());
        let op = match op {
            Arith2::Add if float => InstructionOpcode::FAdd,
            Arith2::Sub if float => InstructionOpcode::FSub,
            Arith2::Mul if float => InstructionOpcode::FMul,
            Arith2::Div if float => InstructionOpcode::FDiv,
            Arith2::Add => InstructionOpcode::Add,
            Arith2::Sub => InstructionOpcode::Sub,
            Arith2::Mul => InstructionOpcode::Mul,
            Arith2::Div => return Ok(self.divide(ty, a, b)),
            Arith2::And => InstructionOpcode::And,
            Arith2::Or => InstructionOpcode::Or,
            Arith2::Xor => InstructionOpcode::Xor,
            Arith2::Shl | Arith2::Shr => {
                // LLVM leaves a count beyond the width undefined.
                let mask = self.unit.constant(ty, 8 * ty.dtype.size() as u64 - 1);
                let count = self.unit.binary(InstructionOpcode::And, b, mask);
                let op = match op {
                    Arith2::Shl => InstructionOpcode::Shl,
                    _ if signed => InstructionOpcode::AShr,
                    _ => InstructionOpcode::LShr,
                };
                return Ok(self.unit.binary(op, a, count));
            }
            Arith2::Min | Arith2::Max => unreachable!("these have been done above"),
        };
        Ok(self.unit.binary(op, a, b))
    }

    /// The two divisions that would trap are done with the divisor 1, which is right for the second.
    fn divide(&mut self, ty: Ty, a: Value<'c>, b: Value<'c>) -> Value<'c> {
        let (zero, one) = (self.unit.constant(ty, 0), self.unit.constant(ty, 1));
        let by_zero = self.unit.compare_ints(IntPredicate::EQ, b, zero);
        let mut traps = by_zero;
        let mut op = InstructionOpcode::UDiv;
        if ty.dtype.is_signed_int() {
            op = InstructionOpcode::SDiv;
            let lowest = self.unit.constant(ty, 1 << (8 * ty.dtype.size() - 1));
            let minus_one = self.unit.constant(ty, u64::MAX);
            let is_lowest = self.unit.compare_ints(IntPredicate::EQ, a, lowest);
            let is_minus_one = self.unit.compare_ints(IntPredicate::EQ, b, minus_one);
            let overflows = self.unit.binary(InstructionOpcode::And, is_lowest, is_minus_one);
            traps = self.unit.binary(InstructionOpcode::Or, traps, overflows);
        }
        let divisor = self.unit.choose(traps, one, b);
        let quotient = self.unit.binary(op, a, divisor);
        self.unit.choose(by_zero, zero, quotient)
    }

    pub(super) fn multiply_add(&mut self, ty: Ty, a: Value<'c>, b: Value<'c>, c: Value<'c>) -> Emitted<'c> {
        if is_half(ty.dtype) {
            let (a, b) = (half::widen(self, ty, a)?, half::widen(self, ty, b)?);
            let c = half::widen(self, ty, c)?;
            let x = self.multiply_add(wide(ty), a, b, c)?;
            return half::narrow(self, ty, x);
        }
        if ty.dtype.is_float() && self.unit.fma {
            return Ok(self.float_intrinsic("llvm.fma", ty, &[a, b, c]));
        }
        let product = self.binary(Arith2::Mul, ty, a, b)?;
        self.binary(Arith2::Add, ty, product, c)
    }

    /// One bit per lane.
    pub(super) fn condition(&mut self, op: CompareOp, ty: Ty, a: Value<'c>, b: Value<'c>) -> Emitted<'c> {
        if is_half(ty.dtype) {
            let (a, b) = (half::widen(self, ty, a)?, half::widen(self, ty, b)?);
            return self.condition(op, wide(ty), a, b);
        }
        if ty.dtype.is_float() {
            let predicate = match op {
                CompareOp::Eq => FloatPredicate::OEQ,
                CompareOp::Ne => FloatPredicate::UNE,
                CompareOp::Lt => FloatPredicate::OLT,
                CompareOp::Le => FloatPredicate::OLE,
                CompareOp::Gt => FloatPredicate::OGT,
                CompareOp::Ge => FloatPredicate::OGE,
            };
            return Ok(self.unit.compare_floats(predicate, a, b));
        }
        let predicate = match (op, ty.dtype.is_signed_int()) {
            (CompareOp::Eq, _) => IntPredicate::EQ,
            (CompareOp::Ne, _) => IntPredicate::NE,
            (CompareOp::Lt, true) => IntPredicate::SLT,
            (CompareOp::Le, true) => IntPredicate::SLE,
            (CompareOp::Gt, true) => IntPredicate::SGT,
            (CompareOp::Ge, true) => IntPredicate::SGE,
            (CompareOp::Lt, false) => IntPredicate::ULT,
            (CompareOp::Le, false) => IntPredicate::ULE,
            (CompareOp::Gt, false) => IntPredicate::UGT,
            (CompareOp::Ge, false) => IntPredicate::UGE,
        };
        Ok(self.unit.compare_ints(predicate, a, b))
    }
}
