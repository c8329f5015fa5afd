//! Conversions between element types. `f16` and `bf16` go through `f32`.

use super::{Body, Emitted};
use crate::unit::Value;
use inkwell::values::InstructionOpcode;
use inkwell::{FloatPredicate, IntPredicate};
use sdc_ir::DType;
use sdc_ir::tile::Ty;
use sdc_lower::half::{self, is_half};

impl<'c> Body<'_, 'c> {
    pub(super) fn convert_value(&mut self, from: Ty, to: Ty, x: Value<'c>) -> Emitted<'c> {
        let float = |ty: Ty| Ty {
            dtype: DType::F32,
            ..ty
        };
        if from.dtype == to.dtype {
            return Ok(x);
        }
        if is_half(from.dtype) {
            let x = half::widen(self, from, x)?;
            return self.convert_value(float(from), to, x);
        }
        if is_half(to.dtype) {
            let x = self.convert_value(from, float(from), x)?;
            return half::narrow(self, to, x);
        }
        let target = self.unit.ty(to);
        Ok(match (from.dtype.is_float(), to.dtype.is_float()) {
            (true, true) if to.dtype == DType::F64 => self.unit.cast(InstructionOpcode::FPExt, x, target),
            (true, true) => self.unit.cast(InstructionOpcode::FPTrunc, x, target),
            (true, false) => self.float_to_int(from, to, x),
            (false, true) if from.dtype.is_signed_int() => {
                self.unit.cast(InstructionOpcode::SIToFP, x, target)
            }
            (false, true) => self.unit.cast(InstructionOpcode::UIToFP, x, target),
            (false, false) => self.int_to_int(from, to, x),
        })
    }

    fn float_to_int(&mut self, from: Ty, to: Ty, x: Value<'c>) -> Value<'c> {
        let (source, target) = (self.unit.ty(from), self.unit.ty(to));
        if to.dtype == DType::Bool {
            let zero = self.unit.constant(from, 0);
            let bits = self.unit.compare_floats(FloatPredicate::UNE, x, zero);
            return self.unit.cast(InstructionOpcode::ZExt, bits, target);
        }
        let name = if to.dtype.is_signed_int() {
            "llvm.fptosi.sat"
        } else {
            "llvm.fptoui.sat"
        };
        self.unit.intrinsic(name, &[target, source], &[x])
    }

    fn int_to_int(&mut self, from: Ty, to: Ty, x: Value<'c>) -> Value<'c> {
        let target = self.unit.ty(to);
        let (old, new) = (from.dtype.size(), to.dtype.size());
        if to.dtype == DType::Bool {
            let zero = self.unit.constant(from, 0);
            let bits = self.unit.compare_ints(IntPredicate::NE, x, zero);
            self.unit.cast(InstructionOpcode::ZExt, bits, target)
        } else if new < old {
            self.unit.cast(InstructionOpcode::Trunc, x, target)
        } else if new == old {
            x
        } else if from.dtype.is_signed_int() {
            self.unit.cast(InstructionOpcode::SExt, x, target)
        } else {
            self.unit.cast(InstructionOpcode::ZExt, x, target)
        }
    }
}
