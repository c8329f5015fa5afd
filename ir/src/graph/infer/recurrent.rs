//! Recurrent layers.

use super::{Inferred, ensure, float, overflow, same_dtype};
use crate::graph::TensorType;
use crate::graph::UnaryOp;
use crate::graph::op::{Cell, Recurrent};
use crate::graph::types::shape_text;

pub(super) fn recurrent(op: &Recurrent, operands: &[&TensorType]) -> Inferred {
    let needed = if op.peephole { 5 } else { 4 };
    ensure(operands.len() == needed, || {
        format!("takes {needed} operand(s), got {}", operands.len())
    })?;
    float(operands[0])?;
    same_dtype(operands)?;
    ensure(!op.peephole || op.cell == Cell::Lstm, || {
        "only an LSTM has peepholes".to_owned()
    })?;
    for act in [op.f, op.g, op.h] {
        ensure(
            matches!(act, UnaryOp::Sigmoid | UnaryOp::Tanh | UnaryOp::Relu),
            || format!("{} is no activation of a recurrent layer", act.name()),
        )?;
    }
    let (gates, states) = (op.cell.gates(), op.cell.states());
    let (&[steps, batch, width], &[hidden, _]) = (operands[0].sizes(), operands[1].sizes()) else {
        return Err("the gates need rank 3, the recurrent weights rank 2".into());
    };
    let wide = hidden
        .checked_mul(gates)
        .ok_or_else(|| overflow("the hidden size overflows"))?;
    let expected: [&[usize]; 5] = [
        &[steps, batch, wide],
        &[hidden, wide],
        &[wide],
        &[states, batch, hidden],
        &[3, hidden],
    ];
    ensure(width == wide, || {
        format!("{width} gate values are not {gates} times the hidden size {hidden}")
    })?;
    for (i, (x, shape)) in operands.iter().zip(expected).enumerate() {
        ensure(x.sizes() == shape, || {
            let (has, needs) = (shape_text(x.sizes()), shape_text(shape));
            format!("operand {i} has shape {has} where {needs} is needed")
        })?;
    }
    Ok(TensorType::new(
        operands[0].dtype,
        vec![steps, states, batch, hidden],
    ))
}
