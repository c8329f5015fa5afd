//! Loads and stores.

use super::{Body, Emitted, Value};
use crate::types;
use cranelift_codegen::ir::types::I64;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData};
use sdc_ir::tile::Ty;
use sdc_lower::{Address, FuncError};

/// No access can trap: the verifier has bounded the affine ones. Vectors need not be aligned, which matters to SSE.
fn flags(ty: Ty, readonly: bool) -> MemFlagsData {
    let mut flags = MemFlagsData::new().with_notrap();
    if ty.lanes == 1 {
        flags = flags.with_aligned();
    }
    if readonly {
        flags = flags.with_readonly().with_can_move();
    }
    flags
}

impl Body<'_> {
    pub(super) fn load_value(&mut self, ty: Ty, at: Address<Value>) -> Emitted {
        let value = types::value(ty)?;
        let flags = flags(ty, at.readonly);
        Ok(self.b.ins().load(value, flags, at.base, at.displacement))
    }

    pub(super) fn store_value(&mut self, ty: Ty, at: Address<Value>, value: Value) -> Result<(), FuncError> {
        let flags = flags(ty, false);
        self.b.ins().store(flags, value, at.base, at.displacement);
        Ok(())
    }

    pub(super) fn pointer(&mut self, at: Address<Value>) -> Value {
        if at.displacement == 0 {
            return at.base;
        }
        let displacement = self.b.ins().iconst(I64, i64::from(at.displacement));
        self.b.ins().iadd(at.base, displacement)
    }
}
