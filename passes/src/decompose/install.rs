//! A plan's weights put into the graph.

use super::{Choice, DecomposeError, Plan};
use sdc_interp::EvalError;
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::op::Rebuild;
use sdc_ir::graph::{Graph, Op};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

/// The graph with the plan's weights as packed constants under [`Rebuild`], and its corrected biases.
///
/// # Errors
/// A stored weight breaks a law of its form.
pub fn install(graph: &Graph, plan: &Plan) -> Result<Graph, DecomposeError> {
    let mut weights = BTreeMap::new();
    let mut biases: BTreeMap<_, &[f32]> = BTreeMap::new();
    for layer in &plan.layers {
        if let Choice::Stored(stored) = &layer.choice {
            weights.insert(layer.weight, stored);
        }
        if let Some((value, bias)) = &layer.bias {
            biases.insert(*value, bias);
        }
    }
    let mut rewrite = Rewrite::new(graph);
    for (n, data) in graph.nodes().iter() {
        let (Op::Constant(_), &[constant]) = (&data.op, data.outputs.as_slice()) else {
            rewrite.copy(n);
            continue;
        };
        let origins = || data.origins.clone();
        let new = if let Some(stored) = weights.get(&constant) {
            let packed = stored.pack()?;
            let packed = Tensor::from_elements(vec![packed.len()], packed).map_err(EvalError::from)?;
            let packed = rewrite.dst.add_constant(packed, origins());
            let shape = stored.geometry().shape.clone();
            let added = rewrite.dst.add1(
                Op::Rebuild(Rebuild {
                    shape,
                    to: DType::F32,
                }),
                &[packed],
                origins(),
            );
            added?
        } else if let Some(bias) = biases.get(&constant) {
            let shape = graph.ty(constant).sizes().to_vec();
            let bias = Tensor::from_elements(shape, bias.to_vec()).map_err(EvalError::from)?;
            rewrite.dst.add_constant(bias, origins())
        } else {
            rewrite.copy(n);
            continue;
        };
        rewrite.set(constant, new);
    }
    Ok(rewrite.finish().compact())
}
