//! Vectors taken apart: reductions, and operations the CPU does not do on whole vectors.

use super::{Body, Emitted, Value};
use crate::types;
use cranelift_codegen::ir::{InstBuilder, Type};
use sdc_ir::tile::{Arith2, Ty};
use sdc_lower::FuncError;

impl Body<'_> {
    /// One lane of a vector, or the scalar itself.
    pub(super) fn extract(&mut self, ty: Ty, x: Value, lane: u8) -> Value {
        match self.splats.get(&x) {
            _ if ty.lanes == 1 => x,
            Some(&scalar) => scalar,
            None => self.b.ins().extractlane(x, lane),
        }
    }

    /// Applies a scalar operation to each lane of vectors that all have `from`'s lanes; the results are a `to`.
    pub(super) fn lanewise<const N: usize>(
        &mut self,
        from: [Ty; N],
        to: Ty,
        operands: [Value; N],
        mut scalar: impl FnMut(&mut Self, [Value; N]) -> Emitted,
    ) -> Emitted {
        let vector = types::value(to)?;
        let mut result = None;
        for lane in 0..to.lanes {
            let mut lanes = operands;
            for (x, ty) in lanes.iter_mut().zip(from) {
                *x = self.extract(ty, *x, lane);
            }
            let x = scalar(self, lanes)?;
            result = Some(match result {
                None => self.first_lane(vector, x),
                Some(so_far) => self.b.ins().insertlane(so_far, x, lane),
            });
        }
        result.ok_or_else(|| FuncError::Unsupported {
            what: format!("a value of type {to}"),
        })
    }

    /// A vector of which only the first lane matters. Cranelift moves no less than 32 bits between register files.
    fn first_lane(&mut self, vector: Type, x: Value) -> Value {
        if vector.lane_bits() >= 32 {
            return self.b.ins().scalar_to_vector(vector, x);
        }
        let zero = self
            .b
            .func
            .dfg
            .constants
            .insert(vec![0; vector.bytes() as usize].into());
        let zero = self.b.ins().vconst(vector, zero);
        self.b.ins().insertlane(zero, x, 0)
    }

    /// Halves until one lane is left.
    pub(super) fn fold_lanes(&mut self, op: Arith2, ty: Ty, x: Value) -> Emitted {
        let scalar = Ty::scalar(ty.dtype);
        let mut lanes: Vec<Value> = (0..ty.lanes).map(|lane| self.extract(ty, x, lane)).collect();
        while lanes.len() > 1 {
            let upper = lanes.split_off(lanes.len().div_ceil(2));
            for (low, high) in lanes.iter_mut().zip(upper) {
                *low = self.binary(op, scalar, *low, high)?;
            }
        }
        lanes.first().copied().ok_or_else(|| FuncError::Unsupported {
            what: format!("a value of type {ty}"),
        })
    }
}
