//! Rounding to integers, with and without SSE4.1.

use super::{Body, Value};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::F32;
use cranelift_codegen::ir::{InstBuilder, Type};
use sdc_ir::tile::Arith1;

impl Body<'_> {
    /// Rounds `f32` or `f64`, scalars or vectors. Exact for all values, including zeros' signs.
    pub(super) fn round(&mut self, op: Arith1, ty: Type, x: Value) -> Value {
        if self.target.sse41 {
            return match op {
                Arith1::Floor => self.b.ins().floor(x),
                Arith1::Ceil => self.b.ins().ceil(x),
                _ => self.b.ins().nearest(x),
            };
        }
        // Adding 2^23 (2^52) to a smaller magnitude pushes the fraction out, rounding half to even; larger ones are
        // integers already, and a NaN compares false, so both pass unchanged.
        let (unit, limit) = if ty.lane_type() == F32 {
            (self.float(ty, 1.0), self.float(ty, 8_388_608.0))
        } else {
            (self.float(ty, 1.0), self.float(ty, 4_503_599_627_370_496.0))
        };
        let magnitude = self.b.ins().fabs(x);
        let shifted = self.b.ins().fadd(magnitude, limit);
        let nearest = self.b.ins().fsub(shifted, limit);
        let nearest = self.with_sign_of(ty, nearest, x);
        let rounded = match op {
            Arith1::Floor => {
                let lower = self.b.ins().fsub(nearest, unit);
                self.if_less(ty, x, nearest, lower, nearest)
            }
            Arith1::Ceil => {
                let higher = self.b.ins().fadd(nearest, unit);
                self.if_less(ty, nearest, x, higher, nearest)
            }
            _ => nearest,
        };
        let rounded = self.with_sign_of(ty, rounded, x);
        self.if_less(ty, magnitude, limit, rounded, x)
    }

    /// `a < b ? yes : no`, for floats.
    pub(super) fn if_less(&mut self, ty: Type, a: Value, b: Value, yes: Value, no: Value) -> Value {
        let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
        if ty.is_vector() {
            let mask = self.reinterpret(ty, less);
            self.b.ins().bitselect(mask, yes, no)
        } else {
            self.b.ins().select(less, yes, no)
        }
    }

    fn with_sign_of(&mut self, ty: Type, magnitude: Value, sign: Value) -> Value {
        if ty.is_vector() {
            let zero = self.float(ty, -0.0);
            self.b.ins().bitselect(zero, sign, magnitude)
        } else {
            self.b.ins().fcopysign(magnitude, sign)
        }
    }

    /// A constant in every lane.
    pub(super) fn float(&mut self, ty: Type, x: f64) -> Value {
        let (scalar, bytes) = if ty.lane_type() == F32 {
            (self.b.ins().f32const(x as f32), (x as f32).to_le_bytes().to_vec())
        } else {
            (self.b.ins().f64const(x), x.to_le_bytes().to_vec())
        };
        if !ty.is_vector() {
            return scalar;
        }
        let bytes = bytes.repeat(ty.lane_count() as usize);
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(ty, constant)
    }
}
