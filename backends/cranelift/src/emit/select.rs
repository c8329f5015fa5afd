//! Comparisons, masks and selection.

use super::{Body, Emitted, Value};
use crate::types;
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::I64X2;
use sdc_ir::DType;
use sdc_ir::tile::build::mask_type;
use sdc_ir::tile::{CompareOp, Ty};
use sdc_lower::FuncError;
use sdc_lower::half::is_half;

impl Body<'_> {
    /// All ones or all zeros, as an integer of the operands' width.
    pub(super) fn mask(&mut self, op: CompareOp, ty: Ty, a: Value, b: Value) -> Emitted {
        if ty.lanes > 1 && !self.compares_vectors(ty)? {
            let scalar = Ty::scalar(ty.dtype);
            return self.lanewise([ty, ty], mask_type(ty), [a, b], |this, [a, b]| {
                this.mask(op, scalar, a, b)
            });
        }
        let condition = if is_half(ty.dtype) {
            let (a, b) = (self.widen(ty.dtype, a)?, self.widen(ty.dtype, b)?);
            self.b.ins().fcmp(float_condition(op), a, b)
        } else if ty.dtype.is_float() {
            self.b.ins().fcmp(float_condition(op), a, b)
        } else {
            let condition = int_condition(op, ty.dtype.is_signed_int());
            self.b.ins().icmp(condition, a, b)
        };
        if ty.lanes > 1 {
            return Ok(condition);
        }
        let mask = self.b.ins().bmask(types::element(mask_type(ty).dtype), condition);
        self.conditions.insert(mask, condition);
        Ok(mask)
    }

    /// Half floats are not compared as the integers they are kept in, and 64-bit comparison came with SSE4.2.
    fn compares_vectors(&self, ty: Ty) -> Result<bool, FuncError> {
        Ok(!is_half(ty.dtype) && (self.target.sse41 || types::value(ty)? != I64X2))
    }

    /// `mask ? a : b` per lane.
    pub(super) fn choose(&mut self, ty: Ty, mask: Value, a: Value, b: Value) -> Emitted {
        let value = types::value(ty)?;
        if ty.lanes > 1 {
            let mask = self.reinterpret(value, mask);
            return Ok(self.b.ins().bitselect(mask, a, b));
        }
        let condition = match self.conditions.get(&mask) {
            Some(&condition) => condition,
            None => {
                let int = self.b.func.dfg.value_type(mask);
                let zero = self.b.ins().iconst(int, 0);
                self.b.ins().icmp(IntCC::NotEqual, mask, zero)
            }
        };
        Ok(self.b.ins().select(condition, a, b))
    }

    /// `a op b ? yes : no` on scalars.
    pub(super) fn if_compare(
        &mut self,
        op: CompareOp,
        dtype: DType,
        [a, b]: [Value; 2],
        yes: Value,
        no: Value,
    ) -> Emitted {
        let ty = Ty::scalar(dtype);
        let mask = self.mask(op, ty, a, b)?;
        self.choose(ty, mask, yes, no)
    }
}

fn float_condition(op: CompareOp) -> FloatCC {
    match op {
        CompareOp::Eq => FloatCC::Equal,
        CompareOp::Ne => FloatCC::NotEqual,
        CompareOp::Lt => FloatCC::LessThan,
        CompareOp::Le => FloatCC::LessThanOrEqual,
        CompareOp::Gt => FloatCC::GreaterThan,
        CompareOp::Ge => FloatCC::GreaterThanOrEqual,
    }
}

fn int_condition(op: CompareOp, signed: bool) -> IntCC {
    match (op, signed) {
        (CompareOp::Eq, _) => IntCC::Equal,
        (CompareOp::Ne, _) => IntCC::NotEqual,
        (CompareOp::Lt, true) => IntCC::SignedLessThan,
        (CompareOp::Le, true) => IntCC::SignedLessThanOrEqual,
        (CompareOp::Gt, true) => IntCC::SignedGreaterThan,
        (CompareOp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
        (CompareOp::Lt, false) => IntCC::UnsignedLessThan,
        (CompareOp::Le, false) => IntCC::UnsignedLessThanOrEqual,
        (CompareOp::Gt, false) => IntCC::UnsignedGreaterThan,
        (CompareOp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
    }
}
