//! Fused additions and LeakyRelu taken out of linear operators again: in integers they have operators of their own, and what is
//! between needs a grid.

use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::op::Activation;
use sdc_ir::graph::{BinaryOp, Graph, InferError, Op, Value};

/// The graph with residuals, and activations other than Relu and Clip, as nodes of their own.
///
/// # Errors
/// A node does not fit its operands: a bug.
pub fn unfuse(graph: &Graph) -> Result<Graph, InferError> {
    let graph = graph.compact();
    let mut rewrite = Rewrite::new(&graph);
    for (n, data) in graph.nodes().iter() {
        let mut op = data.op.clone();
        let mut none = false;
        let (residual, act) = match &mut op {
            Op::Conv(conv) => (&mut conv.residual, &mut conv.act),
            Op::MatMul(matmul) => (&mut matmul.residual, &mut matmul.act),
            Op::ConvTranspose(conv) => (&mut none, &mut conv.act),
            _ => {
                rewrite.copy(n);
                continue;
            }
        };
        let added = std::mem::replace(residual, false);
        let apart = added || matches!(act, Activation::LeakyRelu { .. });
        let act = if apart {
            std::mem::replace(act, Activation::None)
        } else {
            Activation::None
        };
        let mut inputs = rewrite.get_all(&data.inputs);
        let other: Option<Value> = if added { inputs.pop() } else { None };
        let origins = || data.origins.clone();
        let mut y = rewrite.dst.add1(op, &inputs, origins())?;
        if let Some(other) = other {
            y = rewrite.dst.add1(BinaryOp::Add, &[y, other], origins())?;
        }
        if let Some(act) = act.op() {
            y = rewrite.dst.add1(act, &[y], origins())?;
        }
        rewrite.set(data.outputs[0], y);
    }
    Ok(rewrite.finish())
}
