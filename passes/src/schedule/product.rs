//! Matrix products: the GEMM kernel where the right operand is constant or worth packing, blocked loops otherwise; and the
//! products within recurrent layers.

use super::cut::{MACS_PER_TASK, MOST};
use super::{Choice, Chooser, sparse};
use crate::tile::matmul::{Batched, Rows, compressed};
use crate::tile::{matmul_packed, recurrent};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{MatMul, Recurrent};
use sdc_ir::schedule::{Form, Part, Run, Tasks};

/// Rows that could be computed in the time it takes to fetch the weights.
const ROWS_PER_STREAM: usize = 8;

/// Fewest rows that make packing a run-time operand worth its while.
const ROWS: usize = 4;

/// Multiply-accumulates that make a batch entry worth a task.
const MACS_PER_ENTRY: usize = 1 << 18;

pub fn choose(cx: &mut Chooser<'_>, node: Node, op: &MatMul) -> Run {
    let data = &cx.graph.nodes()[node];
    let w = data.inputs[1];
    let widths = cx.options.widths();
    let dense = cx.graph.constant(w).is_some_and(|t| t.dtype() == DType::F32);
    let constant = dense || compressed(cx.graph, &widths, w).is_some();
    if let Some(rows) = Rows::of(&cx.scene, node, op).filter(|_| constant) {
        if let Some(run) = sparse::product(cx, node, w, &rows) {
            return run;
        }
        let form = match (dense, cx.options.streamed) {
            (true, _) => Form::Constant,
            (false, false) => Form::Resident,
            (false, true) if rows.n > widths.block => Form::Blocks,
            (false, true) => Form::Streamed,
        };
        let tasks = match form {
            Form::Blocks => Tasks::One,
            _ => block_tasks(&rows, widths.block),
        };
        return Choice::kernel("gemm_f32").with(form).whole(node, tasks);
    }
    let batched = Batched::of(data, op, |v| cx.scene.place(v)).filter(|_| cx.graph.ty(w).dtype == DType::F32);
    let packed = batched.filter(|p| p.out.shape[p.out.shape.len() - 2] >= ROWS && matmul_packed::fits(p));
    match packed {
        Some(p) => {
            let rank = p.out.shape.len();
            let macs = p.out.shape[rank - 2] * p.out.shape[rank - 1] * p.a.shape[rank - 1];
            let batches = [matmul_packed::own_batch(&p), p.out.shape[..rank - 2].to_vec()];
            let parts = batches.map(|batch| Part {
                rows: None,
                tasks: batch_tasks(&batch, macs),
            });
            let choice = Choice::kernel("gemm_f32").with(Form::AtRun);
            choice.parts(node, parts.to_vec())
        }
        None => Choice::LOOPS.whole(node, Tasks::One),
    }
}

/// A block is the unit of sharing. With few rows the weights' bytes take the time, else the products. Equal tasks of a power of
/// two suit most numbers of threads.
fn block_tasks(rows: &Rows, block: usize) -> Tasks {
    let blocks = rows.n.div_ceil(block);
    let block_cost = (rows.k * block * (rows.m() + ROWS_PER_STREAM)).max(1);
    let most = (blocks * block_cost / MACS_PER_TASK).clamp(1, MOST.min(blocks).max(1));
    let tasks = 1usize << most.ilog2();
    let per_task = blocks.div_ceil(tasks);
    if blocks.div_ceil(per_task.max(1)) > 1 {
        Tasks::Every(per_task)
    } else {
        Tasks::One
    }
}

/// The first batch dimension with several entries is cut if an entry's work is worth a task.
fn batch_tasks(batch: &[usize], macs: usize) -> Tasks {
    let mut several = batch.iter().skip_while(|&&n| n == 1);
    let entries = several.next();
    let inner: usize = several.product();
    match entries {
        Some(_) if inner.saturating_mul(macs) >= MACS_PER_ENTRY => Tasks::Each {
            rounds: 1,
            channels: 1,
        },
        _ => Tasks::One,
    }
}

pub fn recurrent(cx: &mut Chooser<'_>, node: Node, op: &Recurrent) -> Run {
    let data = &cx.graph.nodes()[node];
    let state = cx.graph.ty(data.outputs[0]).sizes();
    let form = match cx.graph.constant(data.inputs[1]) {
        Some(_) => Form::Constant,
        None => Form::AtRun,
    };
    // Products with the rows of a step, as many as there are steps.
    let pays = form == Form::Constant || state[0] * state[2] >= ROWS;
    if pays && recurrent::fits(&cx.scene, node, op) {
        return Choice::kernel("gemm_f32").with(form).whole(node, Tasks::One);
    }
    Choice::LOOPS.whole(node, Tasks::One)
}
