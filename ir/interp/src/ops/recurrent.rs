//! The sequential part of recurrent layers.

use super::elementwise::float_unary;
use crate::EvalError;
use crate::values::{filled, from_floats, no_such_type, read_floats};
use sdc_ir::Tensor;
use sdc_ir::graph::UnaryOp;
use sdc_ir::graph::op::{Cell, Recurrent};

pub(super) fn recurrent(op: &Recurrent, inputs: &[&Tensor], shape: &[usize]) -> Result<Tensor, EvalError> {
    let name = "Recurrent";
    let (x, r) = (read_floats(name, inputs[0])?, read_floats(name, inputs[1])?);
    let (bias, mut state) = (read_floats(name, inputs[2])?, read_floats(name, inputs[3])?);
    let peephole = match inputs.get(4) {
        Some(p) => read_floats(name, p)?,
        None => filled(3 * shape[3], 0.0)?,
    };
    let act = |op: UnaryOp| float_unary(op).ok_or_else(|| no_such_type(name, inputs[0].dtype()));
    let (f, g, h) = (act(op.f)?, act(op.g)?, act(op.h)?);
    let (batch, hidden) = (shape[2], shape[3]);
    let wide = op.cell.gates() * hidden;
    let mut out = Vec::new();
    for step in x.chunks_exact(batch * wide) {
        let before = state.clone();
        for n in 0..batch {
            let x = &step[n * wide..(n + 1) * wide];
            let past = &before[n * hidden..(n + 1) * hidden];
            // The recurrent part of one gate's element, of any vector in place of the hidden state.
            let dot = |v: &dyn Fn(usize) -> f64, at: usize| {
                bias[at] + (0..hidden).map(|k| v(k) * r[k * wide + at]).sum::<f64>()
            };
            let recurrence = |at: usize| dot(&|k| past[k], at);
            let gate = |at: usize| x[at] + recurrence(at);
            for j in 0..hidden {
                let at = n * hidden + j;
                match op.cell {
                    Cell::Rnn => state[at] = f(gate(j)),
                    Cell::Lstm => {
                        let cell = batch * hidden + at;
                        let c = before[cell];
                        let i = f(gate(j) + peephole[j] * c);
                        let forget = f(gate(2 * hidden + j) + peephole[2 * hidden + j] * c);
                        let c = forget * c + i * g(gate(3 * hidden + j));
                        let o = f(gate(hidden + j) + peephole[hidden + j] * c);
                        state[cell] = c;
                        state[at] = o * h(c);
                    }
                    Cell::Gru | Cell::GruLinear => {
                        let z = f(gate(j));
                        let reset = |k: usize| f(gate(hidden + k));
                        let last = 2 * hidden + j;
                        let part = if op.cell == Cell::Gru {
                            dot(&|k| reset(k) * past[k], last)
                        } else {
                            reset(j) * recurrence(last)
                        };
                        let candidate = g(x[last] + part);
                        state[at] = (1.0 - z) * candidate + z * past[j];
                    }
                }
            }
        }
        out.extend_from_slice(&state);
    }
    from_floats(inputs[0].dtype(), shape.to_vec(), &out)
}
