//! Arithmetic. Which operations a type has was checked by the tile verifier.

use super::{Body, Emitted, Value};
use crate::types;
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8X16, I64X2};
use sdc_ir::DType;
use sdc_ir::tile::{Arith1, Arith2, CompareOp, Ty};
use sdc_lower::FuncError;
use sdc_lower::half::is_half;

impl Body<'_> {
    pub(super) fn unary(&mut self, op: Arith1, ty: Ty, x: Value) -> Emitted {
        let value = types::value(ty)?;
        if is_half(ty.dtype) {
            if ty.lanes > 1 {
                let scalar = Ty::scalar(ty.dtype);
                return self.lanewise([ty], ty, [x], |this, [x]| this.unary(op, scalar, x));
            }
            let x = self.widen(ty.dtype, x)?;
            let x = self.unary(op, Ty::scalar(DType::F32), x)?;
            return self.narrow(ty.dtype, x);
        }
        if ty.dtype.is_float() {
            return Ok(match op {
                Arith1::Neg => self.b.ins().fneg(x),
                Arith1::Abs => self.b.ins().fabs(x),
                Arith1::Sqrt => self.b.ins().sqrt(x),
                _ => self.round(op, value, x),
            });
        }
        match op {
            Arith1::Abs if !ty.dtype.is_signed_int() => Ok(x),
            Arith1::Abs => {
                let negative = self.b.ins().ineg(x);
                self.binary(Arith2::Max, ty, x, negative)
            }
            Arith1::Neg => Ok(self.b.ins().ineg(x)),
            _ if ty.dtype == DType::Bool => {
                let zero = self.constant_int(ty, 0)?;
                let one = self.constant_int(ty, 1)?;
                let mask = self.mask(CompareOp::Eq, ty, x, zero)?;
                Ok(self.b.ins().band(mask, one))
            }
            _ => Ok(self.b.ins().bnot(x)),
        }
    }

    pub(super) fn binary(&mut self, op: Arith2, ty: Ty, a: Value, b: Value) -> Emitted {
        if is_half(ty.dtype) {
            self.half_binary(op, ty, a, b)
        } else if ty.dtype.is_float() {
            self.float_binary(op, ty, a, b)
        } else {
            self.int_binary(op, ty, a, b)
        }
    }

    fn half_binary(&mut self, op: Arith2, ty: Ty, a: Value, b: Value) -> Emitted {
        let scalar = Ty::scalar(ty.dtype);
        if ty.lanes > 1 {
            return self.lanewise([ty, ty], ty, [a, b], |this, [a, b]| this.binary(op, scalar, a, b));
        }
        match op {
            Arith2::Min => self.if_compare(CompareOp::Lt, ty.dtype, [a, b], a, b),
            Arith2::Max => self.if_compare(CompareOp::Gt, ty.dtype, [a, b], a, b),
            _ => {
                let (a, b) = (self.widen(ty.dtype, a)?, self.widen(ty.dtype, b)?);
                let x = self.float_binary(op, Ty::scalar(DType::F32), a, b)?;
                self.narrow(ty.dtype, x)
            }
        }
    }

    fn float_binary(&mut self, op: Arith2, ty: Ty, a: Value, b: Value) -> Emitted {
        let value = types::value(ty)?;
        Ok(match op {
            Arith2::Add => self.b.ins().fadd(a, b),
            Arith2::Sub => self.b.ins().fsub(a, b),
            Arith2::Mul => self.b.ins().fmul(a, b),
            Arith2::Div => self.b.ins().fdiv(a, b),
            // These are the forms that Cranelift makes `minps` and `maxps` of.
            Arith2::Min => self.if_less(value, a, b, a, b),
            _ => self.if_less(value, b, a, a, b),
        })
    }

    fn int_binary(&mut self, op: Arith2, ty: Ty, a: Value, b: Value) -> Emitted {
        let signed = ty.dtype.is_signed_int();
        if ty.lanes > 1 && !self.has_vector_instruction(op, ty)? {
            if let (Arith2::Shl | Arith2::Shr, Some(&count)) = (op, self.splats.get(&b)) {
                return Ok(self.shift(op, signed, a, count));
            }
            if let Arith2::Min | Arith2::Max = op {
                let compare = if op == Arith2::Min {
                    CompareOp::Lt
                } else {
                    CompareOp::Gt
                };
                let mask = self.mask(compare, ty, a, b)?;
                return self.choose(ty, mask, a, b);
            }
            let scalar = Ty::scalar(ty.dtype);
            return self.lanewise([ty, ty], ty, [a, b], |this, [a, b]| this.binary(op, scalar, a, b));
        }
        Ok(match op {
            Arith2::Add => self.b.ins().iadd(a, b),
            Arith2::Sub => self.b.ins().isub(a, b),
            Arith2::Mul => self.b.ins().imul(a, b),
            Arith2::Div => return self.divide(ty, a, b),
            Arith2::Min if signed => self.b.ins().smin(a, b),
            Arith2::Min => self.b.ins().umin(a, b),
            Arith2::Max if signed => self.b.ins().smax(a, b),
            Arith2::Max => self.b.ins().umax(a, b),
            Arith2::And => self.b.ins().band(a, b),
            Arith2::Or => self.b.ins().bor(a, b),
            Arith2::Xor => self.b.ins().bxor(a, b),
            Arith2::Shl | Arith2::Shr => self.shift(op, signed, a, b),
        })
    }

    /// Whether Cranelift does an integer operation on whole vectors; shifts by one count for all lanes apart.
    fn has_vector_instruction(&self, op: Arith2, ty: Ty) -> Result<bool, FuncError> {
        let value = types::value(ty)?;
        Ok(match op {
            Arith2::Add | Arith2::Sub | Arith2::And | Arith2::Or | Arith2::Xor => true,
            Arith2::Mul => value != I8X16 && (self.target.sse41 || value.lane_bits() == 16),
            Arith2::Min | Arith2::Max => value != I64X2 && self.target.sse41,
            Arith2::Div | Arith2::Shl | Arith2::Shr => false,
        })
    }

    /// Cranelift, too, takes the count modulo the width.
    fn shift(&mut self, op: Arith2, signed: bool, x: Value, count: Value) -> Value {
        match op {
            Arith2::Shl => self.b.ins().ishl(x, count),
            _ if signed => self.b.ins().sshr(x, count),
            _ => self.b.ins().ushr(x, count),
        }
    }

    /// Scalars. The two divisions that would trap are done with the divisor 1, which is right for the second.
    fn divide(&mut self, ty: Ty, a: Value, b: Value) -> Emitted {
        let zero = self.constant_int(ty, 0)?;
        let one = self.constant_int(ty, 1)?;
        let by_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        let mut traps = by_zero;
        if ty.dtype.is_signed_int() {
            let bits = 8 * ty.dtype.size() as u32;
            let lowest = self.constant_int(ty, 1 << (bits - 1))?;
            let minus_one = self.constant_int(ty, u64::MAX)?;
            let is_lowest = self.b.ins().icmp(IntCC::Equal, a, lowest);
            let is_minus_one = self.b.ins().icmp(IntCC::Equal, b, minus_one);
            let overflows = self.b.ins().band(is_lowest, is_minus_one);
            traps = self.b.ins().bor(traps, overflows);
        }
        let divisor = self.b.ins().select(traps, one, b);
        let quotient = if ty.dtype.is_signed_int() {
            self.b.ins().sdiv(a, divisor)
        } else {
            self.b.ins().udiv(a, divisor)
        };
        Ok(self.b.ins().select(by_zero, zero, quotient))
    }

    pub(super) fn multiply_add(&mut self, ty: Ty, a: Value, b: Value, c: Value) -> Emitted {
        if is_half(ty.dtype) {
            if ty.lanes > 1 {
                let scalar = Ty::scalar(ty.dtype);
                return self.lanewise([ty; 3], ty, [a, b, c], |this, [a, b, c]| {
                    this.multiply_add(scalar, a, b, c)
                });
            }
            let (a, b) = (self.widen(ty.dtype, a)?, self.widen(ty.dtype, b)?);
            let c = self.widen(ty.dtype, c)?;
            let x = self.multiply_add(Ty::scalar(DType::F32), a, b, c)?;
            return self.narrow(ty.dtype, x);
        }
        if ty.dtype.is_float() && self.target.fma {
            types::value(ty)?;
            return Ok(self.b.ins().fma(a, b, c));
        }
        let product = self.binary(Arith2::Mul, ty, a, b)?;
        self.binary(Arith2::Add, ty, product, c)
    }

    fn constant_int(&mut self, ty: Ty, bits: u64) -> Emitted {
        sdc_lower::Emitter::constant(self, ty, bits)
    }
}
