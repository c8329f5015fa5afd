//! Conversions between element types. `f16` and `bf16` go through `f32`, by integer arithmetic.

use super::{Body, Emitted, Value};
use crate::types;
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F64, I8X16, I32, I32X4};
use sdc_ir::DType;
use sdc_ir::tile::Ty;
use sdc_lower::half::{self, is_half};

impl Body<'_> {
    pub(super) fn convert_value(&mut self, from: Ty, to: Ty, x: Value) -> Emitted {
        if from == to {
            return Ok(x);
        }
        if to.lanes == 1 {
            return self.convert_scalar(from.dtype, to.dtype, x);
        }
        types::value(from)?;
        let vector = types::value(to)?;
        match (types::is_bytes(from), types::is_bytes(to)) {
            (true, true) => return Ok(x),
            (true, false) => {
                let word = Ty::vector(DType::I32, 4);
                let x = self.widen_bytes(from.dtype, x);
                return self.convert_value(word, to, x);
            }
            (false, true) => {
                let x = self.convert_value(from, Ty::vector(DType::I32, 4), x)?;
                return Ok(self.narrow_words(x));
            }
            (false, false) => {}
        }
        match (from.dtype, to.dtype) {
            (DType::I32, DType::F32) => Ok(self.b.ins().fcvt_from_sint(vector, x)),
            (DType::F32, DType::I32) if self.target.sse41 => Ok(self.b.ins().fcvt_to_sint_sat(vector, x)),
            (a, b) if a.is_int() && b.is_int() => Ok(x),
            (a, b) => self.lanewise([from], to, [x], |this, [x]| this.convert_scalar(a, b, x)),
        }
    }

    /// Four bytes of a word as 32-bit integers.
    fn widen_bytes(&mut self, dtype: DType, x: Value) -> Value {
        if let Some(&byte) = self.bytes.get(&x) {
            let element = if dtype.is_signed_int() {
                i32::from(byte as i8)
            } else {
                i32::from(byte)
            };
            let constant = element.to_le_bytes().repeat(4);
            let constant = self.b.func.dfg.constants.insert(constant.into());
            return self.b.ins().vconst(I32X4, constant);
        }
        let x = self.b.ins().scalar_to_vector(I32X4, x);
        let x = self.reinterpret(I8X16, x);
        if dtype.is_signed_int() {
            let x = self.b.ins().swiden_low(x);
            self.b.ins().swiden_low(x)
        } else {
            let x = self.b.ins().uwiden_low(x);
            self.b.ins().uwiden_low(x)
        }
    }

    /// The low bytes of four 32-bit integers as a word.
    fn narrow_words(&mut self, x: Value) -> Value {
        let mask = self.b.func.dfg.constants.insert([0xff, 0, 0, 0].repeat(4).into());
        let mask = self.b.ins().vconst(I32X4, mask);
        // What is left fits both halves' saturating narrowings.
        let x = self.b.ins().band(x, mask);
        let x = self.b.ins().snarrow(x, x);
        let x = self.b.ins().unarrow(x, x);
        let x = self.reinterpret(I32X4, x);
        self.b.ins().extractlane(x, 0)
    }

    fn convert_scalar(&mut self, from: DType, to: DType, x: Value) -> Emitted {
        if from == to {
            return Ok(x);
        }
        if is_half(from) {
            let x = self.widen(from, x)?;
            return self.convert_scalar(DType::F32, to, x);
        }
        if is_half(to) {
            let x = self.convert_scalar(from, DType::F32, x)?;
            return self.narrow(to, x);
        }
        Ok(match (from.is_float(), to.is_float()) {
            (true, true) if to == DType::F64 => self.b.ins().fpromote(F64, x),
            (true, true) => self.b.ins().fdemote(F32, x),
            (true, false) => self.float_to_int(to, x),
            (false, true) => self.int_to_float(from, to, x),
            (false, false) => self.int_to_int(from, to, x),
        })
    }

    fn float_to_int(&mut self, to: DType, x: Value) -> Value {
        let int = types::element(to);
        let bits = int.bits();
        match to {
            DType::Bool => {
                let zero = self.float(self.b.func.dfg.value_type(x), 0.0);
                self.b.ins().fcmp(FloatCC::NotEqual, x, zero)
            }
            _ if bits < 32 => {
                let (low, high) = if to.is_signed_int() {
                    (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
                } else {
                    (0, (1 << bits) - 1)
                };
                let x = self.b.ins().fcvt_to_sint_sat(I32, x);
                let (low, high) = (self.int32(low), self.int32(high));
                let x = self.b.ins().smax(x, low);
                let x = self.b.ins().smin(x, high);
                self.b.ins().ireduce(int, x)
            }
            _ if to.is_signed_int() => self.b.ins().fcvt_to_sint_sat(int, x),
            _ => self.b.ins().fcvt_to_uint_sat(int, x),
        }
    }

    fn int_to_float(&mut self, from: DType, to: DType, x: Value) -> Value {
        let float = types::element(to);
        match from {
            DType::U64 => self.b.ins().fcvt_from_uint(float, x),
            DType::I64 | DType::I32 => self.b.ins().fcvt_from_sint(float, x),
            _ => {
                let x = self.int_to_int(from, DType::I64, x);
                self.b.ins().fcvt_from_sint(float, x)
            }
        }
    }

    fn int_to_int(&mut self, from: DType, to: DType, x: Value) -> Value {
        let (source, target) = (types::element(from), types::element(to));
        if to == DType::Bool {
            let zero = self.b.ins().iconst(source, 0);
            self.b.ins().icmp(IntCC::NotEqual, x, zero)
        } else if target.bits() < source.bits() {
            self.b.ins().ireduce(target, x)
        } else if target.bits() == source.bits() {
            x
        } else if from.is_signed_int() {
            self.b.ins().sextend(target, x)
        } else {
            self.b.ins().uextend(target, x)
        }
    }

    /// A half float's bits as `f32`.
    pub(super) fn widen(&mut self, dtype: DType, x: Value) -> Emitted {
        half::widen(self, Ty::scalar(dtype), x)
    }

    /// An `f32` rounded to a half float's bits.
    pub(super) fn narrow(&mut self, dtype: DType, x: Value) -> Emitted {
        half::narrow(self, Ty::scalar(dtype), x)
    }

    fn int32(&mut self, x: i32) -> Value {
        self.b.ins().iconst(I32, i64::from(x as u32))
    }
}
