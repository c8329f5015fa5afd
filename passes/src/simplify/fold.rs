//! Constant folding, by the reference interpreter.

use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::Tensor;
use sdc_ir::graph::{Op, TensorType};
use sdc_ir::tensor::element_count;

/// Results above this size are kept as nodes when they are larger than their operands: an `Expand` or `Pad` of a
/// constant costs the weights file more than it saves at run time.
const MAX_GROWN_BYTES: usize = 1 << 20;

/// A node whose operands are all constants becomes a constant.
pub fn fold(site: &mut Site<'_>) -> Outcome {
    let folded = match folded(site) {
        Ok(Some(folded)) => folded,
        Ok(None) => return Outcome::NoMatch,
        Err(reason) => return Outcome::Declined(reason),
    };
    let mut origins = site.origins.to_vec();
    for i in 0..site.inputs.len() {
        origins = merge_origins(&origins, site.producer(i).map_or(&[], |p| &p.origins));
    }
    Outcome::value(site.graph.add_constant(folded, origins))
}

/// The constant that a node of constants amounts to; `None` for other nodes.
///
/// # Errors
/// Why it is left to run time.
pub fn folded(site: &mut Site<'_>) -> Result<Option<Tensor>, String> {
    // Dequantised weights stay in eight bits: the pass `quantise` decides which become floating point. Decomposed weights stay packed.
    let weight = match site.op {
        Op::DequantizeLinear(_) => site.ty.rank() > 0,
        Op::Rebuild(_) => true,
        _ => false,
    };
    if weight || matches!(site.op, Op::Constant(_)) || site.inputs.is_empty() {
        return Ok(None);
    }
    if site.inputs.iter().any(|&v| site.graph.constant(v).is_none()) {
        return Ok(None);
    }
    let types: Vec<&TensorType> = site.inputs.iter().map(|&v| site.graph.ty(v)).collect();
    let operand_bytes: usize = types.iter().filter_map(|t| t.bytes()).sum();
    let bytes = match site.ty.bytes() {
        Some(n) if n <= operand_bytes.max(MAX_GROWN_BYTES) => n,
        _ => return Err(format!("the constant {} would be larger than its parts", site.ty)),
    };
    let steps = steps(site.op, &types, site.ty).unwrap_or(usize::MAX);
    site.spend(bytes, steps)?;
    let constants: Vec<_> = site
        .inputs
        .iter()
        .filter_map(|&v| site.graph.constant(v))
        .collect();
    match sdc_interp::eval_op(site.op, &constants) {
        Ok(mut results) if results.len() == 1 => Ok(results.pop()),
        Ok(_) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Elementary steps the interpreter needs, roughly; `None` on overflow.
fn steps(op: &Op, operands: &[&TensorType], result: &TensorType) -> Option<usize> {
    let n = result.elements()?;
    let read = operands
        .iter()
        .try_fold(0usize, |sum, t| sum.checked_add(t.elements()?))?;
    let inner = match op {
        Op::Conv(_) => element_count(&operands[1].sizes()[1..])?,
        // Scattering: each result element meets at most all input channels times the kernel.
        Op::ConvTranspose(_) => {
            operands[0].sizes()[1].checked_mul(element_count(&operands[1].sizes()[2..])?)?
        }
        Op::MatMul(_) => operands[0].sizes().last().copied().unwrap_or(1),
        Op::MaxPool(p) => element_count(&p.kernel)?,
        Op::AveragePool(p) => element_count(&p.kernel)?,
        _ => 1,
    };
    n.checked_mul(inner)?.checked_add(read)
}
