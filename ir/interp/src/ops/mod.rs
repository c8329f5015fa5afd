//! Graph operators, one file per family.

use crate::EvalError;
use sdc_ir::Tensor;
use sdc_ir::graph::Op;

/// Evaluates one operator on host tensors. Layouts do not matter here: tensors are logical, row-major.
///
/// `Relayout` is the identity. `Constant` has no data here (its weight belongs to a graph) and is an error.
///
/// # Errors
/// Operands that do not fit the operator, or an element type for which it is not defined.
pub fn eval_op(op: &Op, inputs: &[&Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let _ = inputs;
    Err(EvalError::Unsupported {
        op: op.name(),
        reason: "not written yet".into(),
    })
}
