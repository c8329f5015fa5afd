//! Pooling, and reductions that are pooling: how their work is cut.

use super::cut::{self, MACS_PER_TASK};
use super::{Choice, Chooser};
use crate::tile::pool::Pool;
use crate::tile::pool_calls::Pooling;
use crate::tile::reduce::Reduced;
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::Reduce;
use sdc_ir::schedule::{Grid, Run, Tasks};

/// What reading an element of a window costs in a kernel and in a loop, in multiply-accumulates of a kernel.
const COST: usize = 8;
const LOOP_COST: usize = 16;

/// Most tasks of one function.
const MOST: usize = 8;

/// Channels of a part are a multiple of this: whole vectors of every instruction set.
const CHANNELS: usize = 16;

pub fn pool(cx: &mut Chooser<'_>, node: Node) -> Run {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.graph.ty(data.inputs[0]).dtype;
    let (x, y) = (cx.scene.place(data.inputs[0]), cx.scene.place(data.outputs[0]));
    let pool = Pool::of(&data.op).filter(|_| x.shape.len() == 4);
    let Some(pool) = pool else {
        return Choice::LOOPS.parts(node, cx.spatial(node, |_| Tasks::One));
    };
    let shape = |rows: usize| Pooling {
        images: x.shape[0],
        rows,
        columns: y.shape[3],
        channels: y.shape[1],
        taps: pool.taps(),
    };
    if let Some(kernel) = pool.kernel(dtype, &x, &y) {
        let parts = cx.spatial(node, |rows| tasks(&shape(rows.len()), dtype));
        return Choice::kernel(kernel).parts(node, parts);
    }
    // All rows, whichever are computed here.
    let macs = LOOP_COST * y.shape[1..].iter().product::<usize>() * pool.taps();
    let parts = cx.spatial(node, |rows| cut::by_rows(x.shape[0], rows, macs));
    Choice::LOOPS.parts(node, parts)
}

pub fn reduce(cx: &mut Chooser<'_>, node: Node, op: &Reduce) -> Run {
    let x = cx.graph.nodes()[node].inputs[0];
    let pooled = Reduced::of(&cx.scene, node, op).pooled(op.kind);
    match pooled.filter(|_| cx.graph.ty(x).dtype == DType::F32) {
        Some(pooled) => Choice::kernel("pool2d_f32").whole(node, tasks(&pooled.shape(), DType::F32)),
        None => Choice::LOOPS.whole(node, cut::pieces(super::elements(cx.graph, x), 1)),
    }
}

fn tasks(of: &Pooling, dtype: DType) -> Tasks {
    let elements = of.rows * of.columns * of.channels * of.taps;
    // A byte takes a fourth of the time of four.
    let cost = COST * elements / (4 / dtype.size().clamp(1, 4));
    cut::tasks(of.images, grid(of.rows, of.channels, cost))
}

/// Tasks of rows; where there are fewer rows than tasks that are worth it, of channels too.
fn grid(rows: usize, channels: usize, cost: usize) -> Grid {
    let rows = rows.max(1);
    let wanted = (cost / MACS_PER_TASK).clamp(1, MOST);
    let per_part = rows.div_ceil(wanted);
    let row_parts = rows.div_ceil(per_part);
    let whole = |parts: &usize| channels.is_multiple_of(parts * CHANNELS);
    Grid {
        rows: per_part,
        row_parts,
        channel_parts: (1..=wanted / row_parts).rev().find(whole).unwrap_or(1),
        rows_inside: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_cut_by_channels_into_whole_vectors() {
        let tasks = |rows, channels, cost| {
            let split = grid(rows, channels, cost * MACS_PER_TASK);
            assert!(split.rows * split.row_parts >= rows && split.rows * (split.row_parts - 1) < rows);
            assert_eq!(channels % split.channel_parts, 0);
            (split.row_parts, split.channel_parts)
        };
        assert_eq!(tasks(1, 2048, 5), (1, 4));
        assert_eq!(tasks(3, 96, 8), (3, 2));
        assert_eq!(tasks(56, 64, 100), (8, 1));
        // Neither is there work for two, nor can 24 channels be halved.
        assert_eq!(tasks(1, 2048, 1), (1, 1));
        assert_eq!(tasks(1, 24, 100), (1, 1));
    }
}
