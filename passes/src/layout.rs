//! Chooses the physical layout of every value.
//!
//! Spatial operators (convolution, pooling, instance normalisation) produce channels-last data, which is what their
//! kernels vectorise over; everything else follows its operands. Every lowering reads and writes through strides, so no
//! conversion is *needed* between layouts: a Transpose becomes a relabelling of the same bytes, and a [`Relayout`] copy
//! is inserted in only three places: a Reshape whose result cannot be a view of its operand, an operand of an operator
//! that wants its rows contiguous, and a graph output that is not row-major.

use crate::pass::{Class, Ctx, Pass, PassError};
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::op::Relayout;
use sdc_ir::graph::{Graph, Layout, Node, Op, TensorType, Value};

/// The layout pass. It has no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct AssignLayouts;

impl Pass for AssignLayouts {
    fn name(&self) -> &'static str {
        "layout"
    }
    fn summary(&self) -> &'static str {
        "choose the physical order of each tensor's dimensions; insert copies where a view is impossible"
    }
    fn class(&self) -> Class {
        Class::Exact
    }
    fn run(&self, graph: &Graph, ctx: &mut Ctx) -> Result<Graph, PassError> {
        let mut rewrite = Rewrite::new(graph);
        for node in graph.nodes().ids() {
            assign(&mut rewrite, node, ctx)?;
        }
        let src = rewrite.src;
        for port in &src.outputs {
            let value = rewrite.get(port.value);
            let wanted = Layout::row_major(rewrite.dst.ty(value).rank());
            let value = relayout(&mut rewrite.dst, value, wanted);
            rewrite.set(port.value, value);
        }
        Ok(rewrite.finish())
    }
}

/// Copies one node, its operands converted where it needs them so, its result in the layout that suits it.
fn assign(rewrite: &mut Rewrite<'_>, node: Node, ctx: &mut Ctx) -> Result<(), PassError> {
    let data = &rewrite.src.nodes()[node];
    if matches!(data.op, Op::Constant(_)) {
        rewrite.copy(node);
        return Ok(());
    }
    let mut inputs = rewrite.get_all(&data.inputs);
    let out = rewrite.src.ty(data.outputs[0]).clone();
    let layout = match &data.op {
        Op::Conv(_)
        | Op::QLinearConv(_)
        | Op::ConvTranspose(_)
        | Op::MaxPool(_)
        | Op::AveragePool(_)
        | Op::QLinearAveragePool(_)
        | Op::InstanceNormalization(_)
        | Op::QLinearInstanceNormalization(_) => Layout::channels_last(out.rank()),
        // Integer convolutions read channels-last only; reordering an input on the way costs nothing.
        Op::QuantizeLinear(_) if rewrite.src.def_node(data.inputs[0]).is_none() => {
            Layout::channels_last(out.rank())
        }
        Op::Transpose(t) => {
            let input = rewrite.dst.ty(inputs[0]);
            transposed(&input.layout, &t.perm)
        }
        Op::Reshape(_) => {
            let input = rewrite.dst.ty(inputs[0]).clone();
            match reshaped_layout(&input, out.sizes()) {
                Some(layout) => layout,
                None => {
                    ctx.remark(
                        "copy-for-reshape",
                        &data.origins,
                        format!("{input} is not row-major: copied"),
                    );
                    inputs[0] = relayout(&mut rewrite.dst, inputs[0], Layout::row_major(input.rank()));
                    Layout::row_major(out.rank())
                }
            }
        }
        Op::MatMul(_)
        | Op::LayerNormalization(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::Expand(_)
        | Op::Recurrent(_) => Layout::row_major(out.rank()),
        Op::Reduce(r) if r.keepdims => rewrite.dst.ty(inputs[0]).layout.clone(),
        Op::Reduce(r) => without(&rewrite.dst.ty(inputs[0]).layout, &r.axes),
        // Element-wise lowering reads any layout, so an output needs no separate conversion.
        op if op.is_elementwise() && rewrite.src.is_output(data.outputs[0]) => Layout::row_major(out.rank()),
        _ => followed(&rewrite.dst, &inputs, &out),
    };
    convert_operands(rewrite, &data.op, &mut inputs);
    let types = data
        .outputs
        .iter()
        .map(|&v| rewrite.src.ty(v).clone().with_layout(layout.clone()))
        .collect();
    let outputs = rewrite
        .dst
        .push_node(data.op.clone(), inputs, types, data.origins.clone());
    for (&old, new) in data.outputs.iter().zip(outputs) {
        rewrite.set(old, new);
    }
    Ok(())
}

/// Converts the operands that the operator's kernels read in one layout only.
fn convert_operands(rewrite: &mut Rewrite<'_>, op: &Op, inputs: &mut [Value]) {
    if matches!(op, Op::LayerNormalization(_) | Op::Recurrent(_)) {
        let rank = rewrite.dst.ty(inputs[0]).rank();
        inputs[0] = relayout(&mut rewrite.dst, inputs[0], Layout::row_major(rank));
    }
    // The kernels add what lies as their result does.
    if let (Op::Conv(conv), Some(last)) = (op, inputs.last_mut())
        && conv.residual
    {
        let rank = rewrite.dst.ty(*last).rank();
        *last = relayout(&mut rewrite.dst, *last, Layout::channels_last(rank));
    }
    if matches!(op, Op::QLinearConv(_)) {
        let rank = rewrite.dst.ty(inputs[0]).rank();
        inputs[0] = relayout(&mut rewrite.dst, inputs[0], Layout::channels_last(rank));
    }
}

/// The value in the wanted layout: itself if its bytes already lie so, else a copy.
fn relayout(graph: &mut Graph, value: Value, wanted: Layout) -> Value {
    let ty = graph.ty(value).clone();
    if ty.layout == wanted {
        return value;
    }
    let origins = match graph.def_node(value) {
        Some(node) => graph.nodes()[node].origins.clone(),
        // Inputs are row-major and nobody asks for another layout of one; should that change, it is its own origin.
        None => vec![sdc_ir::graph::Origin {
            name: "input".to_owned(),
            op: "Relayout".to_owned(),
            index: 0,
        }],
    };
    graph.push_node(
        Relayout {}.into(),
        vec![value],
        vec![ty.with_layout(wanted)],
        origins,
    )[0]
}

/// Layout of the first non-constant operand of the result's shape, else of its rank, else row-major.
fn followed(graph: &Graph, inputs: &[Value], out: &TensorType) -> Layout {
    let dynamic = |v: &&Value| graph.constant(**v).is_none();
    let same_shape = inputs
        .iter()
        .filter(dynamic)
        .find(|&&v| graph.ty(v).sizes() == out.sizes());
    same_shape
        .or_else(|| {
            inputs
                .iter()
                .filter(dynamic)
                .find(|&&v| graph.ty(v).rank() == out.rank())
        })
        .map_or_else(|| Layout::row_major(out.rank()), |&v| graph.ty(v).layout.clone())
}

/// Layout under which a transposition moves no byte.
fn transposed(input: &Layout, perm: &[usize]) -> Layout {
    let mut position = vec![0; perm.len()];
    for (k, &d) in perm.iter().enumerate() {
        position[d] = k;
    }
    let order = input.order().iter().map(|&d| position[d]).collect();
    Layout::from_order(order).unwrap_or_else(|| Layout::row_major(perm.len()))
}

/// The layout that remains when some dimensions disappear.
fn without(input: &Layout, axes: &[usize]) -> Layout {
    let order = input
        .order()
        .iter()
        .filter(|d| !axes.contains(d))
        .map(|&d| d - axes.iter().filter(|&&a| a < d).count())
        .collect::<Vec<_>>();
    let rank = order.len();
    Layout::from_order(order).unwrap_or_else(|| Layout::row_major(rank))
}

/// Layout of the result of a Reshape that is a view of its operand's bytes, if there is one.
///
/// Operand and result dimensions are matched in runs of equal element count. Within a run of several operand
/// dimensions the bytes must already be in row-major order.
pub fn reshaped_layout(input: &TensorType, shape: &[usize]) -> Option<Layout> {
    if input.elements() == Some(0) {
        return Some(Layout::row_major(shape.len()));
    }
    let strides = input.strides();
    let source: Vec<(usize, usize)> = input
        .sizes()
        .iter()
        .copied()
        .zip(strides)
        .filter(|&(size, _)| size != 1)
        .collect();
    let mut stride_of = vec![0; shape.len()];
    let (mut i, mut j) = (0, 0);
    while i < source.len() {
        let (mut left, mut right) = (source[i].0, 1);
        let (first_i, first_j) = (i, j);
        i += 1;
        while left != right {
            if right < left {
                right *= *shape.get(j)?;
                j += 1;
            } else {
                left *= source.get(i)?.0;
                i += 1;
            }
        }
        let run = &source[first_i..i];
        if run.windows(2).any(|w| w[0].1 != w[1].0 * w[1].1) {
            return None;
        }
        let mut stride = run.last()?.1;
        for d in (first_j..j).rev() {
            stride_of[d] = stride;
            stride *= shape[d];
        }
    }
    // Dimensions of size 1 may stand anywhere: keep them beside their logical neighbour.
    for d in (0..shape.len()).rev().filter(|&d| shape[d] == 1) {
        stride_of[d] = stride_of.get(d + 1).map_or(1, |&s| s * shape[d + 1]);
    }
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&d| std::cmp::Reverse(stride_of[d] * shape[d]));
    let layout = Layout::from_order(order)?;
    let dense = layout.strides(shape);
    (0..shape.len())
        .all(|d| shape[d] == 1 || dense[d] == stride_of[d])
        .then_some(layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::DType;

    fn nhwc(shape: &[usize]) -> TensorType {
        TensorType::new(DType::F32, shape).with_layout(Layout::channels_last(shape.len()))
    }

    #[test]
    fn a_transpose_keeps_the_bytes_in_place() {
        let layout = transposed(&Layout::channels_last(4), &[0, 2, 3, 1]);
        assert!(layout.is_row_major());
        let back = transposed(&Layout::row_major(4), &[0, 3, 1, 2]);
        assert_eq!(back, Layout::channels_last(4));
    }

    #[test]
    fn reshape_is_a_view_where_runs_stay_whole() {
        // [N,C,H,W] channels-last to [N,C,H*W]: H and W are adjacent in memory.
        let layout = reshaped_layout(&nhwc(&[1, 8, 4, 5]), &[1, 8, 20]).unwrap();
        assert_eq!(layout.strides(&[1, 8, 20])[1..], [1, 8]);
        // Flattening channels with space is not.
        assert_eq!(reshaped_layout(&nhwc(&[1, 8, 4, 5]), &[1, 160]), None);
        // Unless space is a single point.
        assert!(
            reshaped_layout(&nhwc(&[1, 8, 1, 1]), &[1, 8])
                .unwrap()
                .is_row_major()
        );
    }

    #[test]
    fn reshape_of_row_major_is_always_a_row_major_view() {
        let ty = TensorType::new(DType::F32, [2, 3, 4]);
        for shape in [
            vec![24],
            vec![6, 4],
            vec![2, 12],
            vec![4, 6],
            vec![1, 2, 1, 12, 1],
            vec![8, 3],
        ] {
            let layout = reshaped_layout(&ty, &shape).unwrap();
            let strides = layout.strides(&shape);
            let dense = Layout::row_major(shape.len()).strides(&shape);
            assert!(
                (0..shape.len()).all(|d| shape[d] == 1 || strides[d] == dense[d]),
                "{shape:?}: {strides:?}"
            );
        }
    }

    #[test]
    fn removed_dimensions_leave_the_rest_in_order() {
        assert_eq!(without(&Layout::channels_last(4), &[2, 3]).order(), [0, 1]);
        assert_eq!(without(&Layout::channels_last(4), &[0]).order(), [1, 2, 0]);
    }
}
