//! Convolutions: kernels on channels-last data, loops for what they do not cover.

use super::cut::{self, Layer, MACS_PER_TASK};
use super::{Choice, Chooser, sparse, winograd};
use crate::tile::conv::{is_depthwise, operands};
use crate::tile::conv_transpose::phase_rows;
use crate::tile::quantised_conv::planes;
use crate::tile::{conv, quantised_weights, rebuild};
use sdc_ir::DType;
use sdc_ir::graph::op::{Conv, ConvTranspose, QLinearConv};
use sdc_ir::graph::{Node, Value};
use sdc_ir::registry::conv2d_i8::BLOCK;
use sdc_ir::schedule::{Form, Run, Tasks};

/// What a product costs where channels are not summed, in multiply-accumulates of a matrix product.
const DEPTHWISE_COST: usize = 4;

pub fn choose(cx: &mut Chooser<'_>, node: Node, op: &Conv) -> Run {
    if let Some(&tile) = cx.winograd.get(&node) {
        return winograd::run(cx, node, tile);
    }
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.scene.place(o.x), cx.scene.place(data.outputs[0]));
    let depthwise = is_depthwise(op, &x, &y);
    if let Some(run) = sparse::conv(cx, node, op) {
        return run;
    }
    let form = form(cx, o.w, op.group, depthwise, y.shape[1]);
    let (Some(form), 4, Some(1)) = (form, x.shape.len(), y.strides.get(1)) else {
        return Choice::LOOPS.parts(node, cx.spatial(node, |_| Tasks::One));
    };
    let window: usize = cx.graph.ty(o.w).sizes()[2..].iter().product();
    if depthwise {
        // Of all rows, whichever are computed here.
        let macs = DEPTHWISE_COST * y.shape[1..].iter().product::<usize>() * window;
        let parts = cx.spatial(node, |rows| cut::by_rows(x.shape[0], rows, macs));
        return Choice::kernel("depthwise2d_f32").with(form).parts(node, parts);
    }
    let parts = cx.spatial(node, |rows| {
        if form == Form::Blocks {
            return Tasks::One;
        }
        let layer = Layer {
            rows: rows.len(),
            columns: y.shape[3],
            reduction: x.shape[1] / op.group * window,
            channels: y.shape[1] / op.group,
            groups: op.group,
            block: cx.options.block,
            input: x.shape[1..].iter().product(),
            entry: 0,
            per_task: MACS_PER_TASK,
        };
        cut::tasks(x.shape[0], layer.grid())
    });
    Choice::kernel("conv2d_f32").with(form).parts(node, parts)
}

/// The form of weights `[M, C/group, kh, kw]` that the kernels read, if they can.
fn form(cx: &Chooser<'_>, w: Value, group: usize, depthwise: bool, channels: usize) -> Option<Form> {
    if let Some(tensor) = cx.graph.constant(w) {
        return (tensor.dtype() == DType::F32).then_some(Form::Constant);
    }
    if rebuild::Weights::any(cx.graph, w).is_none() {
        return (cx.graph.ty(w).dtype == DType::F32).then_some(Form::AtRun);
    }
    let widths = cx.options.widths();
    let shape = cx.graph.ty(w).sizes();
    conv::compressed(cx.graph, &widths, w, shape, group, depthwise)?;
    Some(match cx.options.streamed {
        false => Form::Resident,
        true if group == 1 && channels > widths.block => Form::Blocks,
        true => Form::Streamed,
    })
}

pub fn transposed(cx: &mut Chooser<'_>, node: Node, op: &ConvTranspose) -> Run {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, false);
    let (x, y) = (cx.scene.place(o.x), cx.scene.place(data.outputs[0]));
    let form = match cx.graph.constant(o.w) {
        Some(tensor) if tensor.dtype() == DType::F32 => Form::Constant,
        _ if rebuild::Weights::any(cx.graph, o.w).is_some() => Form::Resident,
        None if cx.graph.ty(o.w).dtype == DType::F32 => Form::AtRun,
        _ => return Choice::LOOPS.parts(node, cx.spatial(node, |_| Tasks::One)),
    };
    if x.shape.len() != 4 {
        return Choice::LOOPS.parts(node, cx.spatial(node, |_| Tasks::One));
    }
    let weights: usize = cx.graph.ty(o.w).sizes().iter().product();
    let parts = cx.spatial(node, |rows| {
        // The phases' rows differ by one at most, and each task computes the same of all phases.
        let count = phase_rows(op, rows, y.shape[2]);
        let macs = weights * x.shape[2] * x.shape[3] / y.shape[2].max(1) * rows.len();
        cut::by_rows(x.shape[0], &(0..count), macs)
    });
    Choice::kernel("conv2d_f32").with(form).parts(node, parts)
}

pub fn quantised(cx: &mut Chooser<'_>, node: Node, op: &QLinearConv) -> Run {
    let data = &cx.graph.nodes()[node];
    let (x, y) = (cx.scene.place(data.inputs[0]), cx.scene.place(data.outputs[0]));
    let &[m, c, kh, kw] = cx.graph.ty(data.inputs[1]).sizes() else {
        return Choice::LOOPS.parts(node, cx.spatial(node, |_| Tasks::One));
    };
    let taps = kh * kw;
    if op.group > 1 && op.group == x.shape[1] && op.group == y.shape[1] {
        let macs = DEPTHWISE_COST * y.shape[1..].iter().product::<usize>() * taps;
        let parts = cx.spatial(node, |rows| cut::by_rows(x.shape[0], rows, macs));
        return Choice::kernel("depthwise2d_i8")
            .with(Form::Constant)
            .parts(node, parts);
    }
    if let Some(run) = sparse::quantised(cx, node, op) {
        return run;
    }
    let shape = [m, c, kh, kw];
    let form = match quantised_weights::fits(cx.graph, data.inputs[1], shape) {
        false => Form::Constant,
        true if cx.options.streamed => Form::Streamed,
        true => Form::Resident,
    };
    let planes = planes(cx.graph, data.inputs[1]);
    let parts = cx.spatial(node, |rows| {
        // Four products of bytes take the time, and their weights the room, of one of f32.
        let layer = Layer {
            rows: rows.len(),
            columns: y.shape[3],
            reduction: c.div_ceil(4) * taps * planes,
            per_task: MACS_PER_TASK / 4,
            channels: m / op.group,
            groups: op.group,
            block: BLOCK,
            input: x.shape[1..].iter().product::<usize>() / 4,
            entry: 0,
        };
        cut::tasks(x.shape[0], layer.grid())
    });
    Choice::kernel("conv2d_i8").with(form).parts(node, parts)
}
