//! Moments of layer inputs without any input: mean and variance per channel carried through the graph.
//!
//! Normal distributions are assumed before activations, independence of channels and of the operands of a sum. Where batch norm
//! is still a node, its own shift and scale are taken; where it has been folded, the weights and biases of the layers give
//! the same, with errors that grow with depth. Operators not known here pass on what they got, averaged where the number of channels changes.

use super::layers::Layer;
use super::metric::{Form, Metric};
use nalgebra::DMatrix;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::op::{Activation, Clip, MaxPool, ReduceKind};
use sdc_ir::graph::{BinaryOp, Graph, Node, Op, UnaryOp, Value};

/// Correlation of neighbouring positions of a channel, as in photographs some layers in.
const NEIGHBOURS: f64 = 0.6;
/// Filter vectors longer than this get a diagonal only.
const MAX_FULL: usize = 4608;

/// Mean and variance per channel (dimension 1; the last of matrices) of a value.
#[derive(Clone, Debug)]
struct Stats {
    mean: Vec<f64>,
    var: Vec<f64>,
}

/// Derived moments of what a layer's weights are multiplied by.
#[derive(Clone, Debug)]
pub struct Derived {
    /// `[groups * V]`.
    pub means: Vec<f64>,
    /// `[groups * V]`.
    pub variances: Vec<f64>,
    groups: usize,
    /// Kernel positions of one input channel, with their coordinates; entries of a vector are `[channel, position]`.
    window: Vec<(f64, f64)>,
}

impl Derived {
    /// The metric of these moments, `diag(var) (x) Rho + share * mean^T mean`.
    pub fn metric(&self, share: f64, filters: usize) -> Metric {
        let length = self.means.len() / self.groups;
        let taps = self.window.len();
        let forms = (0..self.groups).map(|g| {
            let (mean, var) = (
                &self.means[g * length..][..length],
                &self.variances[g * length..][..length],
            );
            if length > MAX_FULL {
                return Form::Diagonal(mean.iter().zip(var).map(|(m, v)| v + share * m * m).collect());
            }
            Form::Full(DMatrix::from_fn(length, length, |i, j| {
                let near = if i / taps == j / taps {
                    let (a, b) = (self.window[i % taps], self.window[j % taps]);
                    (var[i] * var[j]).sqrt() * NEIGHBOURS.powf((a.0 - b.0).abs() + (a.1 - b.1).abs())
                } else {
                    0.0
                };
                near + share * mean[i] * mean[j]
            }))
        });
        Metric {
            filters: (filters / self.groups).max(1),
            forms: forms.collect(),
        }
    }
}

/// Moments for each layer, from inputs of the given mean and deviation; `None` where a layer's input is not understood.
pub fn moments(graph: &Graph, layers: &[Layer], mean: f64, deviation: f64) -> Vec<Option<Derived>> {
    let mut stats: Vec<Option<Stats>> = vec![None; graph.values().len()];
    for port in &graph.inputs {
        let n = channels(graph, port.value);
        stats[port.value.index()] = Some(Stats {
            mean: vec![mean; n],
            var: vec![deviation * deviation; n],
        });
    }
    let live = graph.live_nodes();
    let mut found: Vec<Option<Derived>> = vec![None; layers.len()];
    for (node, data) in graph.nodes().iter().filter(|(n, _)| live[n.index()]) {
        if matches!(data.op, Op::Constant(_)) {
            continue;
        }
        let input = data.inputs.first().and_then(|v| stats[v.index()].clone());
        let derived = input.as_ref().and_then(|s| derive(graph, node, s));
        if let Some(l) = layers.iter().position(|l| l.users.contains(&node)) {
            found[l] = derived.clone();
        }
        for &out in &data.outputs {
            stats[out.index()] = Some(propagate(graph, node, out, &stats, derived.as_ref()));
        }
    }
    found
}

/// Channels of a value: its dimension 1, or the last of a matrix or vector.
fn channels(graph: &Graph, v: Value) -> usize {
    let shape = graph.ty(v).sizes();
    shape.get(1).or(shape.last()).copied().unwrap_or(1)
}

/// What a layer node multiplies its weights with.
fn derive(graph: &Graph, node: Node, input: &Stats) -> Option<Derived> {
    let data = &graph.nodes()[node];
    let shape = graph.ty(*data.inputs.get(1)?).sizes();
    let (groups, window): (usize, Vec<(f64, f64)>) = match &data.op {
        Op::Conv(conv) => {
            let inner = *shape.last()?;
            let taps = shape[2..].iter().product::<usize>();
            let at = |k: usize| {
                (
                    (k / inner * conv.dilations[0]) as f64,
                    (k % inner * conv.dilations.last().copied().unwrap_or(1)) as f64,
                )
            };
            (conv.group, (0..taps).map(at).collect())
        }
        Op::MatMul(_) if shape.len() == 2 && graph.ty(data.inputs[0]).rank() == 2 => (1, vec![(0.0, 0.0)]),
        _ => return None,
    };
    let each = |x: &[f64]| -> Vec<f64> { x.iter().flat_map(|&x| window.iter().map(move |_| x)).collect() };
    Some(Derived {
        means: each(&input.mean),
        variances: each(&input.var),
        groups,
        window,
    })
}

fn propagate(
    graph: &Graph,
    node: Node,
    out: Value,
    stats: &[Option<Stats>],
    derived: Option<&Derived>,
) -> Stats {
    let data = &graph.nodes()[node];
    let n = channels(graph, out);
    let of = |i: usize| data.inputs.get(i).and_then(|v| operand(graph, *v, stats));
    let first = || fit(of(0), n);
    let activated = |act| {
        let mut s = first();
        activate(&mut s, act);
        s
    };
    match &data.op {
        Op::Conv(conv) => {
            let mut s = linear(graph, data.inputs[1], derived, n, false).unwrap_or_else(first);
            add_operands(
                &mut s,
                &[
                    conv.bias.then(|| of(2)).flatten(),
                    conv.residual.then(|| of(data.inputs.len() - 1)).flatten(),
                ],
            );
            activate(&mut s, conv.act);
            s
        }
        Op::MatMul(m) => {
            let mut s = linear(graph, data.inputs[1], derived, n, true).unwrap_or_else(first);
            add_operands(
                &mut s,
                &[
                    m.bias.then(|| of(2)).flatten(),
                    m.residual.then(|| of(data.inputs.len() - 1)).flatten(),
                ],
            );
            activate(&mut s, m.act);
            s
        }
        Op::BatchNormalization(_) => {
            let (scale, mean) = (fit(of(1), n).mean, fit(of(2), n).mean);
            let var = scale.iter().map(|g| g * g).collect();
            Stats { mean, var }
        }
        Op::Unary(UnaryOp::Relu) => activated(Activation::Relu),
        &Op::Clip(Clip { min, max }) => activated(Activation::Clip { min, max }),
        Op::LeakyRelu(l) => activated(Activation::LeakyRelu { alpha: l.alpha }),
        Op::Unary(UnaryOp::Sigmoid) => {
            let mut s = first();
            for (m, v) in s.mean.iter_mut().zip(&mut s.var) {
                let y = 1.0 / (1.0 + (-*m / (1.0 + 0.39 * *v).sqrt()).exp());
                (*m, *v) = (y, (y * (1.0 - y)) * (*v / (*v + 4.0)));
            }
            s
        }
        Op::Binary(op) => {
            let (a, b) = (fit(of(0), n), fit(of(1), n));
            combine(*op, &a, &b)
        }
        Op::Concat(c) if c.axis == 1 => {
            let parts: Vec<Stats> = (0..data.inputs.len())
                .map(|i| fit(of(i), channels(graph, data.inputs[i])))
                .collect();
            Stats {
                mean: parts.iter().flat_map(|p| p.mean.clone()).collect(),
                var: parts.iter().flat_map(|p| p.var.clone()).collect(),
            }
        }
        Op::MaxPool(p) => largest(first(), p),
        Op::AveragePool(p) => averaged(first(), p.kernel.iter().product()),
        Op::Reduce(r) if r.kind == ReduceKind::Mean => {
            let shape = graph.ty(data.inputs[0]).sizes();
            averaged(first(), r.axes.iter().map(|&a| shape[a]).product())
        }
        _ => first(),
    }
}

/// The largest of a window's elements, `k` correlated normals, lies about `sqrt(ln k)` deviations up, and varies less.
fn largest(mut s: Stats, pool: &MaxPool) -> Stats {
    let rise = (pool.kernel.iter().product::<usize>() as f64).ln().sqrt() * 0.6;
    for (m, v) in s.mean.iter_mut().zip(&mut s.var) {
        *m += rise * v.sqrt();
        *v *= 0.7;
    }
    s
}

/// Mean and variance of the sums of a linear layer.
fn linear(
    graph: &Graph,
    weight: Value,
    derived: Option<&Derived>,
    n: usize,
    transposed: bool,
) -> Option<Stats> {
    let (d, tensor) = (derived?, graph.constant(weight)?);
    let w = tensor.to_f64_vec();
    let length = d.means.len() / d.groups;
    let taps = d.window.len();
    let per_group = (n / d.groups).max(1);
    if w.len() != n * length {
        return None;
    }
    let mut s = Stats {
        mean: Vec::with_capacity(n),
        var: Vec::with_capacity(n),
    };
    for m in 0..n {
        let g = m / per_group * length;
        let at = |i: usize| {
            if transposed {
                w[i * n + m]
            } else {
                w[m * length + i]
            }
        };
        s.mean.push((0..length).map(|i| at(i) * d.means[g + i]).sum());
        let mut var = 0.0;
        for c in (0..length).step_by(taps) {
            for (i, a) in d.window.iter().enumerate() {
                for (j, b) in d.window.iter().enumerate() {
                    let rho = NEIGHBOURS.powf((a.0 - b.0).abs() + (a.1 - b.1).abs());
                    var += at(c + i) * at(c + j) * rho * d.variances[g + c];
                }
            }
        }
        s.var.push(var.max(0.0));
    }
    Some(s)
}

/// Statistics of an operand; a constant's are its values.
fn operand(graph: &Graph, v: Value, stats: &[Option<Stats>]) -> Option<Stats> {
    match graph.constant(v) {
        Some(t) if t.len() <= 1 << 20 => {
            let mean = t.to_f64_vec();
            Some(Stats {
                var: vec![0.0; mean.len()],
                mean,
            })
        }
        Some(_) => None,
        None => stats[v.index()].clone(),
    }
}

/// The same for `n` channels: repeated evenly if `n` is a multiple (flattening), else averaged.
fn fit(s: Option<Stats>, n: usize) -> Stats {
    let Some(s) = s.filter(|s| !s.mean.is_empty()) else {
        return Stats {
            mean: vec![0.0; n],
            var: vec![1.0; n],
        };
    };
    let have = s.mean.len();
    if have == n {
        return s;
    }
    if n.is_multiple_of(have) {
        let each = |x: &[f64]| x.iter().flat_map(|&x| std::iter::repeat_n(x, n / have)).collect();
        return Stats {
            mean: each(&s.mean),
            var: each(&s.var),
        };
    }
    let mean = s.mean.iter().sum::<f64>() / have as f64;
    let square = s.mean.iter().zip(&s.var).map(|(m, v)| m * m + v).sum::<f64>() / have as f64;
    Stats {
        mean: vec![mean; n],
        var: vec![(square - mean * mean).max(0.0); n],
    }
}

fn add_operands(s: &mut Stats, others: &[Option<Stats>]) {
    for other in others.iter().flatten() {
        let other = fit(Some(other.clone()), s.mean.len());
        s.mean.iter_mut().zip(other.mean).for_each(|(a, b)| *a += b);
        s.var.iter_mut().zip(other.var).for_each(|(a, b)| *a += b);
    }
}

fn combine(op: BinaryOp, a: &Stats, b: &Stats) -> Stats {
    let each = |f: &dyn Fn(f64, f64, f64, f64) -> (f64, f64)| {
        let pairs = a.mean.iter().zip(&a.var).zip(b.mean.iter().zip(&b.var));
        let (mean, var) = pairs.map(|((&m, &v), (&n, &u))| f(m, v, n, u)).unzip();
        Stats { mean, var }
    };
    match op {
        BinaryOp::Add => each(&|m, v, n, u| (m + n, v + u)),
        BinaryOp::Sub => each(&|m, v, n, u| (m - n, v + u)),
        BinaryOp::Mul => each(&|m, v, n, u| (m * n, v * u + v * n * n + u * m * m)),
        BinaryOp::Div => each(&|m, v, n, _| if n == 0.0 { (m, v) } else { (m / n, v / (n * n)) }),
        _ => a.clone(),
    }
}

/// A mean over `k` positions: they are correlated, so the variance falls with the root of their number.
fn averaged(mut s: Stats, k: usize) -> Stats {
    s.var.iter_mut().for_each(|v| *v /= (k.max(1) as f64).sqrt());
    s
}

fn activate(s: &mut Stats, act: Activation) {
    for (m, v) in s.mean.iter_mut().zip(&mut s.var) {
        (*m, *v) = match act {
            Activation::None => (*m, *v),
            Activation::Relu => clipped(*m, *v, 0.0, f64::INFINITY),
            Activation::Clip { min, max } => clipped(*m, *v, f64::from(min), f64::from(max)),
            Activation::LeakyRelu { alpha } => {
                // alpha x + (1 - alpha) relu(x); the covariance of both parts is Phi(m/s) s^2.
                let (a, sd) = (f64::from(alpha), v.sqrt());
                let (rm, rv) = clipped(*m, *v, 0.0, f64::INFINITY);
                let share = if sd > 0.0 { cdf(*m / sd) } else { 1.0 };
                (
                    a * *m + (1.0 - a) * rm,
                    a * a * *v + (1.0 - a).powi(2) * rv + 2.0 * a * (1.0 - a) * share * *v,
                )
            }
        };
    }
}

fn pdf(x: f64) -> f64 {
    if x.is_finite() {
        (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
    } else {
        0.0
    }
}
fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// Mean and variance of a normal variable clipped to `[low, high]`.
fn clipped(mean: f64, var: f64, low: f64, high: f64) -> (f64, f64) {
    let sd = var.sqrt();
    if sd < 1e-30 {
        return (mean.max(low).min(high), 0.0);
    }
    let (l, u) = ((low - mean) / sd, (high - mean) / sd);
    let (inside, below, above) = (cdf(u) - cdf(l), cdf(l), 1.0 - cdf(u));
    let edge = |bound: f64, share: f64| {
        if bound.is_finite() {
            (bound * share, bound * bound * share)
        } else {
            (0.0, 0.0)
        }
    };
    let moment = |x: f64| if x.is_finite() { x * pdf(x) } else { 0.0 };
    let (a, b) = (edge(low, below), edge(high, above));
    let first = a.0 + b.0 + mean * inside + sd * (pdf(l) - pdf(u));
    let second = a.1
        + b.1
        + (mean * mean + var) * inside
        + 2.0 * mean * sd * (pdf(l) - pdf(u))
        + var * (moment(l) - moment(u));
    (first, (second - first * first).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipped_normal_against_sampling() {
        let mut random = fastrand::Rng::with_seed(5);
        for (mean, var, low, high) in [
            (0.3, 1.0, 0.0, f64::INFINITY),
            (2.0, 4.0, 0.0, 6.0),
            (-1.0, 0.5, -1.2, 0.4),
        ] {
            let n = 200_000;
            let (mut first, mut second) = (0.0, 0.0);
            for _ in 0..n {
                let x: f64 = mean + f64::sqrt(var) * super::super::synthetic::normal(&mut random);
                let y = x.max(low).min(high);
                first += y / f64::from(n);
                second += y * y / f64::from(n);
            }
            let (m, v) = clipped(mean, var, low, high);
            assert!((m - first).abs() < 0.01 * (1.0 + first.abs()), "{m} {first}");
            assert!((v - (second - first * first)).abs() < 0.02 * (1.0 + v), "{v}");
        }
    }
}
