//! LSTM, GRU, RNN: the input's part of the gates is one product over all steps, the rest a Recurrent per direction (or, in rarer
//! forms, what `recurrent_steps` writes out).

use super::index::{iota, join, reverse_along, take_along};
use super::recurrent_steps::{Act, Operands, Parameters, Special, unrolled};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::op::{Activation, Cell, MatMul, Recurrent, Slice, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// What all directions share.
pub(super) struct Layer {
    pub cell: Cell,
    pub steps: usize,
    pub batch: usize,
    pub hidden: usize,
    /// `[T,N,I]`.
    x: Value,
    lengths: Option<Value>,
    special: Special,
}

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

pub(super) fn layer(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let lstm = c.op_type() == "LSTM";
    let cell = match c.op_type() {
        "LSTM" => Cell::Lstm,
        "GRU" if c.flag("linear_before_reset", false)? => Cell::GruLinear,
        "GRU" => Cell::Gru,
        "RNN" => Cell::Rnn,
        _ => return Err(super::unknown(c)),
    };
    let clip = c.opt_float("clip")?;
    if clip.is_some_and(|bound| bound.is_nan() || bound < 0.0) {
        return Err(c.bad_attr("clip", "is no bound"));
    }
    let special = Special {
        clip,
        input_forget: lstm && c.flag("input_forget", false)?,
    };
    let (reverse, directions): (&[bool], usize) = match c.string("direction", "forward")? {
        "forward" => (&[false], 1),
        "reverse" => (&[true], 1),
        "bidirectional" => (&[false, true], 2),
        other => return Err(c.bad_attr("direction", format!("is `{other}`"))),
    };
    let batch_first = c.opset >= 14 && c.flag("layout", false)?;
    let acts = activations(c, cell, directions)?;

    let (x, w, r) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let x = if batch_first { swapped(c, x)? } else { x };
    let (&[steps, batch, width], &[_, _, hidden]) = (&c.shape(x)[..], &c.shape(r)[..]) else {
        return Err(bad("the input and the weights need rank 3"));
    };
    let declared = c.opt_int("hidden_size")?.unwrap_or(hidden as i64);
    let wide = hidden.saturating_mul(cell.gates());
    let fits = declared == hidden as i64
        && c.shape(w) == [directions, wide, width]
        && c.shape(r) == [directions, wide, hidden];
    if !fits || steps == 0 {
        return Err(bad(format!(
            "weights do not fit {directions} direction(s), {width} inputs, hidden size {declared}"
        )));
    }
    let layer = Layer {
        cell,
        steps,
        batch,
        hidden,
        x,
        lengths: c.opt_input(4),
        special,
    };
    let states = (0..directions)
        .map(|d| layer.direction(c, d, reverse[d], acts[d], batch_first))
        .collect::<Result<Vec<_>, _>>()?;
    layer.outputs(c, &states, reverse, batch_first)
}

/// Activations f, g, h of each direction.
fn activations(c: &NodeCtx, cell: Cell, directions: usize) -> Result<Vec<[Act; 3]>, Fault> {
    let (mut alpha, mut beta) = (
        Parameters::of(c.floats("activation_alpha")?),
        Parameters::of(c.floats("activation_beta")?),
    );
    let (used, default) = match cell {
        Cell::Lstm => (3, [UnaryOp::Sigmoid, UnaryOp::Tanh, UnaryOp::Tanh]),
        Cell::Gru | Cell::GruLinear => (2, [UnaryOp::Sigmoid, UnaryOp::Tanh, UnaryOp::Tanh]),
        Cell::Rnn => (1, [UnaryOp::Tanh; 3]),
    };
    let default = default.map(Act::Plain);
    let names = c.strings("activations")?.filter(|n| !n.is_empty());
    let mut all = vec![default; directions];
    if let Some(names) = names {
        if names.len() != used * directions {
            return Err(c.bad_attr("activations", format!("has {} entries", names.len())));
        }
        for (acts, part) in all.iter_mut().zip(names.chunks_exact(used)) {
            for (act, name) in acts.iter_mut().zip(part) {
                let known = Act::named(name, &mut alpha, &mut beta);
                *act = known.ok_or_else(|| c.unsupported_attr("activations", name))?;
            }
        }
    }
    for (name, list) in [("activation_alpha", alpha), ("activation_beta", beta)] {
        if !list.all_used() {
            return Err(c.unsupported_attr(name, "more values than the activations take"));
        }
    }
    Ok(all)
}

/// The first two dimensions exchanged.
fn swapped(c: &mut NodeCtx, x: Value) -> Lowered {
    let mut perm: Vec<usize> = (0..c.rank(x)).collect();
    if perm.len() < 2 {
        return Err(bad("a sequence needs two dimensions"));
    }
    perm.swap(0, 1);
    c.transpose(x, perm)
}

impl Layer {
    /// Part `d` of an operand with a leading dimension of directions, without that dimension.
    fn part(&self, c: &mut NodeCtx, x: Value, d: usize) -> Lowered {
        // Compressed weights of two directions are put together from one each; apart they stay compressed.
        let part = match c.joined(x) {
            Some(parts) if d < parts.len() && parts.iter().all(|&p| c.shape(p)[0] == 1) => parts[d],
            _ => c.narrow(x, 0, d, d + 1)?,
        };
        let shape = c.shape(part)[1..].to_vec();
        c.reshape(part, shape)
    }

    /// Operand `i` of direction `d`, checked against a shape; zeros if left out.
    fn optional(&self, c: &mut NodeCtx, i: usize, d: usize, shape: &[usize], batch_first: bool) -> Lowered {
        let Some(mut x) = c.opt_input(i) else {
            let zero = c.scalar(c.dtype(self.x), 0.0)?;
            return c.expand(zero, shape.to_vec());
        };
        if batch_first {
            x = swapped(c, x)?;
        }
        if c.shape(x).len() != shape.len() + 1 || c.shape(x)[1..] != *shape || c.shape(x)[0] <= d {
            return Err(bad(format!("operand {i} has shape {:?}", c.shape(x))));
        }
        self.part(c, x, d)
    }

    /// The states after each step, `[T,S,N,H]`, in the order of time.
    fn direction(
        &self,
        c: &mut NodeCtx,
        d: usize,
        reverse: bool,
        acts: [Act; 3],
        batch_first: bool,
    ) -> Lowered {
        let (w, r) = (c.input(1)?, c.input(2)?);
        let (w, r) = (self.part(c, w, d)?, self.part(c, r, d)?);
        let (w, r) = (c.transpose(w, vec![1, 0])?, c.transpose(r, vec![1, 0])?);
        let wide = self.cell.gates() * self.hidden;
        let both = self.optional(c, 3, d, &[2 * wide], false)?;
        let (input_bias, bias) = (c.narrow(both, 0, 0, wide)?, c.narrow(both, 0, wide, 2 * wide)?);
        let x = if reverse { self.turned(c, self.x)? } else { self.x };
        let width = c.shape(x)[2];
        let rows = c.reshape(x, vec![self.steps * self.batch, width])?;
        let product = MatMul {
            bias: true,
            residual: false,
            act: Activation::None,
        };
        let gates = c.emit(product, &[rows, w, input_bias])?;
        let gates = c.reshape(gates, vec![self.steps, self.batch, wide])?;
        let mut initial = vec![self.optional(c, 5, d, &[self.batch, self.hidden], batch_first)?];
        if self.cell == Cell::Lstm {
            initial.push(self.optional(c, 6, d, &[self.batch, self.hidden], batch_first)?);
        }
        for state in &mut initial {
            *state = c.reshape(*state, vec![1, self.batch, self.hidden])?;
        }
        let initial = join(c, &initial, 0)?;
        let peephole = match self.cell {
            Cell::Lstm if c.opt_input(7).is_some() => {
                let p = self.optional(c, 7, d, &[3 * self.hidden], false)?;
                Some(c.reshape(p, vec![3, self.hidden])?)
            }
            _ => None,
        };
        let operands = Operands {
            gates,
            r,
            bias,
            initial,
            peephole,
        };
        let plain = Special {
            clip: None,
            input_forget: false,
        };
        let canonical = acts.map(Act::canonical);
        let ([Some(f), Some(g), Some(h)], true) = (canonical, self.special == plain) else {
            return unrolled(c, self, &operands, acts, self.special);
        };
        let op = Recurrent {
            cell: self.cell,
            f,
            g,
            h,
            peephole: peephole.is_some(),
        };
        let all: Vec<Value> = [gates, r, bias, initial].into_iter().chain(peephole).collect();
        c.emit(op, &all)
    }

    /// Time reversed: within each sequence's length, where lengths are given.
    fn turned(&self, c: &mut NodeCtx, x: Value) -> Lowered {
        let rank = c.rank(x);
        if let Some(lengths) = self.lengths {
            return reverse_along(c, x, lengths, 0, rank - 2);
        }
        let sizes = c.shape(x);
        let (mut starts, mut steps) = (vec![0; rank], vec![1; rank]);
        (starts[0], steps[0]) = (self.steps - 1, -1);
        c.emit(Slice { starts, sizes, steps }, &[x])
    }

    /// Y `[T,D,N,H]`, then the last state of each kind `[D,N,H]`; batch first if asked for.
    fn outputs(
        &self,
        c: &mut NodeCtx,
        states: &[Value],
        reverse: &[bool],
        batch_first: bool,
    ) -> Result<Vec<Value>, Fault> {
        let mut all = Vec::new();
        let mut last = vec![Vec::new(); self.cell.states()];
        for (&state, &reverse) in states.iter().zip(reverse) {
            for (s, list) in last.iter_mut().enumerate() {
                let one = c.narrow(state, 1, s, s + 1)?;
                list.push(self.last(c, one)?);
            }
            let h = c.narrow(state, 1, 0, 1)?;
            let h = self.masked(c, h)?;
            all.push(if reverse { self.turned(c, h)? } else { h });
        }
        let mut y = join(c, &all, 1)?;
        if batch_first {
            y = c.transpose(y, vec![2, 0, 1, 3])?;
        }
        let mut outputs = vec![y];
        for list in last {
            let mut state = join(c, &list, 0)?;
            if batch_first {
                state = swapped(c, state)?;
            }
            outputs.push(state);
        }
        Ok(outputs)
    }

    /// The last valid step of `[T,1,N,H]`, as `[1,N,H]`.
    fn last(&self, c: &mut NodeCtx, state: Value) -> Lowered {
        let shape = vec![1, self.batch, self.hidden];
        let Some(lengths) = self.lengths else {
            let last = c.narrow(state, 0, self.steps - 1, self.steps)?;
            return c.reshape(last, shape);
        };
        let lengths = c.cast(lengths, DType::I64)?;
        let at = c.with_scalar(BinaryOp::Sub, lengths, 1.0)?;
        let at = c.reshape(at, vec![1, 1, self.batch, 1])?;
        let at = c.expand(at, vec![1, 1, self.batch, self.hidden])?;
        let last = take_along(c, state, at, 0)?;
        c.reshape(last, shape)
    }

    /// Zeros after the end of each sequence.
    fn masked(&self, c: &mut NodeCtx, h: Value) -> Lowered {
        let Some(lengths) = self.lengths else {
            return Ok(h);
        };
        let lengths = c.cast(lengths, DType::I64)?;
        let lengths = c.reshape(lengths, vec![1, 1, self.batch, 1])?;
        let step = iota(c, self.steps, (0, 1), 0, 4)?;
        let inside = c.binary(BinaryOp::Less, step, lengths)?;
        let zero = c.scalar(c.dtype(h), 0.0)?;
        c.emit(Where {}, &[inside, h, zero])
    }
}
