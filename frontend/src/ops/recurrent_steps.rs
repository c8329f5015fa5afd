//! Recurrent layers in forms that the canonical Recurrent does not have (clipped gates, coupled forget gates, other activations):
//! step after step, written out.

use super::index::join;
use super::recurrent::Layer;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Activation, Cell, Elu, HardSigmoid, LeakyRelu, MatMul, Where};
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};

/// Most steps that are written out.
const MAX_STEPS: usize = 256;

/// An activation function with its parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Act {
    Plain(UnaryOp),
    Affine(f32, f32),
    LeakyRelu(f32),
    ThresholdedRelu(f32),
    ScaledTanh(f32, f32),
    HardSigmoid(f32, f32),
    Elu(f32),
    Softsign,
}

impl Act {
    /// The function of this name, and how many parameters (alpha, then beta) it takes from the attributes' lists.
    pub fn named(name: &str, alpha: &mut Parameters, beta: &mut Parameters) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Self::Plain(UnaryOp::Sigmoid),
            "tanh" => Self::Plain(UnaryOp::Tanh),
            "relu" => Self::Plain(UnaryOp::Relu),
            "softplus" => Self::Plain(UnaryOp::Softplus),
            "softsign" => Self::Softsign,
            "affine" => Self::Affine(alpha.next(1.0), beta.next(0.0)),
            "leakyrelu" => Self::LeakyRelu(alpha.next(0.01)),
            "thresholdedrelu" => Self::ThresholdedRelu(alpha.next(1.0)),
            "scaledtanh" => Self::ScaledTanh(alpha.next(1.0), beta.next(1.0)),
            "hardsigmoid" => Self::HardSigmoid(alpha.next(0.2), beta.next(0.5)),
            "elu" => Self::Elu(alpha.next(1.0)),
            _ => return None,
        })
    }

    /// The canonical operator's function, if it is one of those it has.
    pub fn canonical(self) -> Option<UnaryOp> {
        match self {
            Self::Plain(op @ (UnaryOp::Sigmoid | UnaryOp::Tanh | UnaryOp::Relu)) => Some(op),
            _ => None,
        }
    }

    fn apply(self, c: &mut NodeCtx, x: Value) -> Lowered {
        match self {
            Self::Plain(op) => c.unary(op, x),
            Self::Affine(alpha, beta) => {
                let scaled = c.with_scalar(BinaryOp::Mul, x, alpha.into())?;
                c.with_scalar(BinaryOp::Add, scaled, beta.into())
            }
            Self::LeakyRelu(alpha) => c.emit(LeakyRelu { alpha }, &[x]),
            Self::ThresholdedRelu(alpha) => {
                let above = c.with_scalar(BinaryOp::GreaterOrEqual, x, alpha.into())?;
                let zero = c.scalar(c.dtype(x), 0.0)?;
                c.emit(Where {}, &[above, x, zero])
            }
            Self::ScaledTanh(alpha, beta) => {
                let scaled = c.with_scalar(BinaryOp::Mul, x, beta.into())?;
                let y = c.unary(UnaryOp::Tanh, scaled)?;
                c.with_scalar(BinaryOp::Mul, y, alpha.into())
            }
            Self::HardSigmoid(alpha, beta) => c.emit(HardSigmoid { alpha, beta }, &[x]),
            Self::Elu(alpha) => c.emit(Elu { alpha }, &[x]),
            Self::Softsign => {
                let magnitude = c.unary(UnaryOp::Abs, x)?;
                let divisor = c.with_scalar(BinaryOp::Add, magnitude, 1.0)?;
                c.binary(BinaryOp::Div, x, divisor)
            }
        }
    }
}

/// `activation_alpha` or `activation_beta`: values for the functions that take one, in their order.
pub(super) struct Parameters {
    list: Vec<f32>,
    used: usize,
}

impl Parameters {
    pub fn of(list: Option<Vec<f32>>) -> Self {
        Self {
            list: list.unwrap_or_default(),
            used: 0,
        }
    }
    fn next(&mut self, default: f32) -> f32 {
        self.used += 1;
        self.list.get(self.used - 1).copied().unwrap_or(default)
    }
    /// True unless the list has more values than were asked for.
    pub fn all_used(&self) -> bool {
        self.list.len() <= self.used
    }
}

/// What of a layer makes it one of this module's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Special {
    /// Bound of the gates' sums before their activations.
    pub clip: Option<f32>,
    /// The forget gate is what the input gate leaves.
    pub input_forget: bool,
}

/// One direction's operands, as the canonical Recurrent takes them.
pub(super) struct Operands {
    /// `[T,N,G*H]`, with the input's biases.
    pub gates: Value,
    /// `[H,G*H]`.
    pub r: Value,
    /// `[G*H]`.
    pub bias: Value,
    /// `[S,N,H]`.
    pub initial: Value,
    /// `[3,H]`: i, o, f.
    pub peephole: Option<Value>,
}

/// The states after each step, `[T,S,N,H]`.
pub(super) fn unrolled(
    c: &mut NodeCtx,
    layer: &Layer,
    operands: &Operands,
    acts: [Act; 3],
    special: Special,
) -> Lowered {
    if layer.steps > MAX_STEPS {
        let text = format!(
            "{} steps; in this form at most {MAX_STEPS} are written out",
            layer.steps
        );
        return Err(Fault::new(Code::Form, text));
    }
    let (n, h) = (layer.batch, layer.hidden);
    let all_gates = (operands.r, operands.bias);
    let steps = Steps {
        layer,
        all_gates,
        last_gate: match layer.cell {
            Cell::Gru => (
                c.narrow(operands.r, 1, 2 * h, 3 * h)?,
                c.narrow(operands.bias, 0, 2 * h, 3 * h)?,
            ),
            _ => all_gates,
        },
        peephole: match operands.peephole {
            Some(p) => (0..3)
                .map(|k| c.narrow(p, 0, k, k + 1))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        },
        acts,
        special,
    };
    let mut states = Vec::new();
    for s in 0..layer.cell.states() {
        let state = c.narrow(operands.initial, 0, s, s + 1)?;
        states.push(c.reshape(state, vec![n, h])?);
    }
    let mut all = Vec::new();
    for t in 0..layer.steps {
        let x = c.narrow(operands.gates, 0, t, t + 1)?;
        let x = c.reshape(x, vec![n, layer.cell.gates() * h])?;
        states = steps.step(c, x, &states)?;
        for &state in &states {
            all.push(c.reshape(state, vec![1, 1, n, h])?);
        }
    }
    let joined = join(c, &all, 0)?;
    c.reshape(joined, vec![layer.steps, layer.cell.states(), n, h])
}

/// Product of a state with recurrent weights, and their bias.
fn recurrence(c: &mut NodeCtx, state: Value, (r, bias): (Value, Value)) -> Lowered {
    let op = MatMul {
        bias: true,
        residual: false,
        act: Activation::None,
    };
    c.emit(op, &[state, r, bias])
}

struct Steps<'a> {
    layer: &'a Layer,
    /// Recurrent weights and bias, of all gates and of a GRU's last one.
    all_gates: (Value, Value),
    last_gate: (Value, Value),
    /// Weights of i, o and f, if there are any.
    peephole: Vec<Value>,
    acts: [Act; 3],
    special: Special,
}

impl Steps<'_> {
    fn step(&self, c: &mut NodeCtx, x: Value, states: &[Value]) -> Result<Vec<Value>, Fault> {
        let h = states[0];
        let product = recurrence(c, h, self.all_gates)?;
        let [f, g, _] = self.acts;
        Ok(match self.layer.cell {
            Cell::Rnn => {
                let sum = c.binary(BinaryOp::Add, x, product)?;
                vec![self.active(c, f, sum)?]
            }
            Cell::Lstm => self.lstm(c, x, product, states[1])?,
            Cell::Gru | Cell::GruLinear => {
                let sums = c.binary(BinaryOp::Add, x, product)?;
                let (z, r) = (self.gate(c, sums, 0)?, self.gate(c, sums, 1)?);
                let (z, r) = (self.active(c, f, z)?, self.active(c, f, r)?);
                let part = if self.layer.cell == Cell::Gru {
                    let reset = c.binary(BinaryOp::Mul, r, h)?;
                    recurrence(c, reset, self.last_gate)?
                } else {
                    let last = self.gate(c, product, 2)?;
                    c.binary(BinaryOp::Mul, r, last)?
                };
                let x = self.gate(c, x, 2)?;
                let sum = c.binary(BinaryOp::Add, x, part)?;
                let candidate = self.active(c, g, sum)?;
                // candidate + z (h - candidate)
                let difference = c.binary(BinaryOp::Sub, h, candidate)?;
                let moved = c.binary(BinaryOp::Mul, z, difference)?;
                vec![c.binary(BinaryOp::Add, candidate, moved)?]
            }
        })
    }

    fn lstm(&self, c: &mut NodeCtx, x: Value, product: Value, cell: Value) -> Result<Vec<Value>, Fault> {
        let sums = c.binary(BinaryOp::Add, x, product)?;
        let [f, g, h] = self.acts;
        let i = self.gate(c, sums, 0)?;
        let i = self.peep(c, i, 0, cell)?;
        let i = self.active(c, f, i)?;
        let forget = if self.special.input_forget {
            let one = c.scalar(c.dtype(i), 1.0)?;
            c.binary(BinaryOp::Sub, one, i)?
        } else {
            let forget = self.gate(c, sums, 2)?;
            let forget = self.peep(c, forget, 2, cell)?;
            self.active(c, f, forget)?
        };
        let candidate = self.gate(c, sums, 3)?;
        let candidate = self.active(c, g, candidate)?;
        let kept = c.binary(BinaryOp::Mul, forget, cell)?;
        let new = c.binary(BinaryOp::Mul, i, candidate)?;
        let cell = c.binary(BinaryOp::Add, kept, new)?;
        let o = self.gate(c, sums, 1)?;
        let o = self.peep(c, o, 1, cell)?;
        let o = self.active(c, f, o)?;
        // Of what goes into activations only the gates' sums are clipped, as ONNX Runtime has it.
        let shown = h.apply(c, cell)?;
        Ok(vec![c.binary(BinaryOp::Mul, o, shown)?, cell])
    }

    fn gate(&self, c: &mut NodeCtx, gates: Value, k: usize) -> Lowered {
        let h = self.layer.hidden;
        c.narrow(gates, 1, k * h, (k + 1) * h)
    }

    fn peep(&self, c: &mut NodeCtx, sum: Value, k: usize, cell: Value) -> Lowered {
        let Some(&weights) = self.peephole.get(k) else {
            return Ok(sum);
        };
        let part = c.binary(BinaryOp::Mul, weights, cell)?;
        c.binary(BinaryOp::Add, sum, part)
    }

    fn active(&self, c: &mut NodeCtx, act: Act, x: Value) -> Lowered {
        let x = match self.special.clip {
            Some(bound) => {
                let x = c.with_scalar(BinaryOp::Max, x, -f64::from(bound))?;
                c.with_scalar(BinaryOp::Min, x, bound.into())?
            }
            None => x,
        };
        act.apply(c, x)
    }
}
