//! Transposed convolutions. `passes/integer` makes of one a convolution of stride 1 over its input with zero points put between the elements; the
//! machine computes each phase of the result from the elements themselves, without the zeros.

use crate::net::Phase;
use sdc_ir::graph::op::{PadMode, QLinearConv};
use sdc_ir::graph::{Graph, Node, Op, Value};

/// Most taps of a phase step, and columns of a row in DRAM, that instructions hold.
const STEPS: usize = 4;
const COLUMNS: usize = 4096;

/// The input of a convolution before it was spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The input.
    pub x: Value,
    /// One of how many elements is the input's, in rows and columns.
    pub steps: [usize; 2],
    /// The nodes that spread it.
    pub nodes: [Node; 3],
}

impl Spread {
    /// The spread input of a convolution whose phases the machine can compute.
    pub fn of(graph: &Graph, conv: Node) -> Option<Self> {
        let data = &graph.nodes()[conv];
        let Op::QLinearConv(op) = &data.op else {
            return None;
        };
        let single = |v: Value| {
            let node = graph.def_node(v)?;
            let users = graph.nodes().values().filter(|n| n.inputs.contains(&v)).count();
            (users == 1 && !graph.is_output(v)).then_some(node)
        };
        let together = single(data.inputs[0])?;
        let Op::Reshape(_) = graph.nodes()[together].op else {
            return None;
        };
        let padded = single(graph.nodes()[together].inputs[0])?;
        let Op::Pad(pad) = &graph.nodes()[padded].op else {
            return None;
        };
        let apart = single(graph.nodes()[padded].inputs[0])?;
        let Op::Reshape(_) = graph.nodes()[apart].op else {
            return None;
        };
        let x = graph.nodes()[apart].inputs[0];
        let &[_, c, h, w] = graph.ty(x).sizes() else {
            return None;
        };
        let steps = [*pad.after.get(3)? + 1, *pad.after.get(5)? + 1];
        let zeros = pad.mode == PadMode::Constant
            && pad.value as i64 == op.x_zero
            && pad.before.iter().all(|&n| n == 0)
            && pad.after == [0, 0, 0, steps[0] - 1, 0, steps[1] - 1];
        let shapes = graph.ty(data.inputs[0]).sizes() == [1, c, h * steps[0], w * steps[1]]
            && graph.ty(graph.nodes()[apart].outputs[0]).sizes() == [1, c, h, 1, w, 1];
        let kernel = &graph.ty(data.inputs[1]).sizes()[2..];
        let wide = graph.ty(data.outputs[0]).sizes()[3] * steps[0];
        let able =
            steps.iter().all(|s| (1..=STEPS).contains(s)) && wide < COLUMNS && kernel[0] * kernel[1] <= 64;
        let plain = op.strides == [1, 1] && (0..2).all(|d| gcd(op.dilations[d], steps[d]) == 1);
        (zeros && shapes && able && plain && op.group == 1).then_some(Self {
            x,
            steps,
            nodes: [together, padded, apart],
        })
    }

    /// The phases of a result of `size`. Element `o` reads tap `k` at `o + k*dilation - pad` of the spread input, where only every `step`-th
    /// is an element; so the taps of `o` are every `step`-th.
    pub fn phases(&self, op: &QLinearConv, size: [usize; 2]) -> Vec<Phase> {
        let along = |d: usize, first: usize| {
            let (step, dilation, pad) = (self.steps[d] as i64, op.dilations[d] as i64, op.pads[d] as i64);
            let at = |k: i64| first as i64 + k * dilation - pad;
            let tap = (0..step).find(|&k| at(k).rem_euclid(step) == 0).unwrap_or(0);
            (tap as usize, -at(tap).div_euclid(step))
        };
        let mut phases = Vec::new();
        for i in 0..self.steps[0].min(size[0]) {
            for j in 0..self.steps[1].min(size[1]) {
                let ((y, before_y), (x, before_x)) = (along(0, i), along(1, j));
                phases.push(Phase {
                    tap_step: self.steps,
                    tap_first: [y, x],
                    before: [before_y, before_x],
                    size: [
                        (size[0] - i).div_ceil(self.steps[0]),
                        (size[1] - j).div_ceil(self.steps[1]),
                    ],
                    start: [i, j],
                });
            }
        }
        phases
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
