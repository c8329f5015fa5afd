//! Shape and element-type inference: the result types of an operator from its operand types.
//!
//! One function per operator family; layouts are not inferred (results are row-major).

use super::{Op, TensorType};

/// Why operands do not fit an operator. Names neither node nor values: the caller adds those.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {reason}; operands: {}", operands.join(", "))]
pub struct InferError {
    /// Operator.
    pub op: &'static str,
    /// What is wrong.
    pub reason: String,
    /// Operand types as text.
    pub operands: Vec<String>,
}

/// Result types of `op` applied to operands of these types. [`Op::Constant`] is the caller's business (its type is
/// the weight's).
///
/// # Errors
/// Wrong operand count, ranks, shapes, element types, or attributes that do not fit them.
pub fn infer(op: &Op, operands: &[&TensorType]) -> Result<Vec<TensorType>, InferError> {
    let _ = operands;
    Err(InferError {
        op: op.name(),
        reason: "not written yet".into(),
        operands: Vec::new(),
    })
}
