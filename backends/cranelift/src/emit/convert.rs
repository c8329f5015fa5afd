//! Conversions between element types. `f16` and `bf16` go through `f32`, by integer arithmetic.

use super::{Body, Emitted, Value, is_half};
use crate::types;
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F64, I8X16, I16, I32, I32X4, I64};
use sdc_ir::DType;
use sdc_ir::tile::Ty;

/// `f32` bits of 2^112, by which a widened `f16`'s exponent must be moved.
const TWO_TO_112: u32 = (127 + 112) << 23;

impl Body<'_> {
    pub(super) fn convert_value(&mut self, from: Ty, to: Ty, x: Value) -> Emitted {
        if from == to {
            return Ok(x);
        }
        if to.lanes == 1 {
            return Ok(self.convert_scalar(from.dtype, to.dtype, x));
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
            (a, b) => self.lanewise([from], to, [x], |this, [x]| Ok(this.convert_scalar(a, b, x))),
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

    fn convert_scalar(&mut self, from: DType, to: DType, x: Value) -> Value {
        if from == to {
            return x;
        }
        if is_half(from) {
            let x = self.widen(from, x);
            return self.convert_scalar(DType::F32, to, x);
        }
        if is_half(to) {
            let x = self.convert_scalar(from, DType::F32, x);
            return self.narrow(to, x);
        }
        match (from.is_float(), to.is_float()) {
            (true, true) if to == DType::F64 => self.b.ins().fpromote(F64, x),
            (true, true) => self.b.ins().fdemote(F32, x),
            (true, false) => self.float_to_int(to, x),
            (false, true) => self.int_to_float(from, to, x),
            (false, false) => self.int_to_int(from, to, x),
        }
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
    pub(super) fn widen(&mut self, dtype: DType, x: Value) -> Value {
        let bits = self.b.ins().uextend(I32, x);
        if dtype == DType::BF16 {
            let bits = self.shift_left(bits, 16);
            return self.reinterpret(F32, bits);
        }
        let sign = self.and32(bits, 0x8000);
        let sign = self.shift_left(sign, 16);
        let magnitude = self.and32(bits, 0x7fff);
        let aligned = self.shift_left(magnitude, 13);
        // Multiplying by a power of two adjusts the exponent of normal and subnormal numbers alike.
        let scale = self.int32(TWO_TO_112 as i32);
        let (small, scale) = (self.reinterpret(F32, aligned), self.reinterpret(F32, scale));
        let finite = self.b.ins().fmul(small, scale);
        let finite = self.reinterpret(I32, finite);
        let top = self.int32(0x7f80_0000);
        let special = self.b.ins().bor(aligned, top);
        let infinity = self.int32(0x7c00);
        let is_special = self
            .b
            .ins()
            .icmp(IntCC::UnsignedGreaterThanOrEqual, magnitude, infinity);
        let magnitude = self.b.ins().select(is_special, special, finite);
        let bits = self.b.ins().bor(magnitude, sign);
        self.reinterpret(F32, bits)
    }

    /// An `f32` rounded half to even to a half float's bits. A NaN stays one, and becomes quiet.
    pub(super) fn narrow(&mut self, dtype: DType, x: Value) -> Value {
        let bits = self.reinterpret(I32, x);
        let result = if dtype == DType::BF16 {
            self.bf16_bits(bits)
        } else {
            self.f16_bits(bits)
        };
        self.b.ins().ireduce(I16, result)
    }

    fn bf16_bits(&mut self, bits: Value) -> Value {
        let rounded = self.round_off(bits, 16);
        let quiet = self.shift_right(bits, 16);
        let quiet = self.or32(quiet, 0x40);
        let magnitude = self.and32(bits, 0x7fff_ffff);
        self.if_above(magnitude, 0x7f80_0000, quiet, rounded)
    }

    fn f16_bits(&mut self, bits: Value) -> Value {
        let sign = self.shift_right(bits, 16);
        let sign = self.and32(sign, 0x8000);
        let magnitude = self.and32(bits, 0x7fff_ffff);

        let rebiased = self.add32(magnitude, -(112 << 23));
        let normal = self.round_off(rebiased, 13);

        // Below 2^-14 the unit is 2^-24, which is also the unit of numbers from 0.5 on: adding 0.5 rounds.
        let half = self.int32(0x3f00_0000);
        let (a, b) = (self.reinterpret(F32, magnitude), self.reinterpret(F32, half));
        let sum = self.b.ins().fadd(a, b);
        let sum = self.reinterpret(I32, sum);
        let subnormal = self.b.ins().isub(sum, half);

        let payload = self.shift_right(magnitude, 13);
        let payload = self.and32(payload, 0x3ff);
        let nan = self.or32(payload, 0x7e00);
        let infinity = self.int32(0x7c00);

        let result = self.if_above(magnitude, 0x387f_ffff, normal, subnormal);
        let result = self.if_above(magnitude, 0x477f_ffff, infinity, result);
        let result = self.if_above(magnitude, 0x7f80_0000, nan, result);
        self.b.ins().bor(result, sign)
    }

    /// Drops `count` low bits, rounding half to even.
    fn round_off(&mut self, bits: Value, count: u32) -> Value {
        let last = self.shift_right(bits, count);
        let last = self.and32(last, 1);
        let almost_half = self.add32(bits, (1 << (count - 1)) - 1);
        let rounded = self.b.ins().iadd(almost_half, last);
        self.shift_right(rounded, count)
    }

    fn if_above(&mut self, x: Value, limit: i32, yes: Value, no: Value) -> Value {
        let limit = self.int32(limit);
        let above = self.b.ins().icmp(IntCC::UnsignedGreaterThan, x, limit);
        self.b.ins().select(above, yes, no)
    }

    fn int32(&mut self, x: i32) -> Value {
        self.b.ins().iconst(I32, i64::from(x as u32))
    }
    fn and32(&mut self, x: Value, mask: i32) -> Value {
        let mask = self.int32(mask);
        self.b.ins().band(x, mask)
    }
    fn or32(&mut self, x: Value, bits: i32) -> Value {
        let bits = self.int32(bits);
        self.b.ins().bor(x, bits)
    }
    fn add32(&mut self, x: Value, y: i32) -> Value {
        let y = self.int32(y);
        self.b.ins().iadd(x, y)
    }
    fn shift_left(&mut self, x: Value, count: u32) -> Value {
        let count = self.b.ins().iconst(I64, i64::from(count));
        self.b.ins().ishl(x, count)
    }
    fn shift_right(&mut self, x: Value, count: u32) -> Value {
        let count = self.b.ins().iconst(I64, i64::from(count));
        self.b.ins().ushr(x, count)
    }
}
