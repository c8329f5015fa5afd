//! First and second moments of what a layer's weights are multiplied by, accumulated in constant memory.

use super::evaluate::{is_planar, unfold};
use super::layers::Layer;
use super::metric::{Form, Metric};
use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use sdc_ir::graph::{Graph, Node, Op};
use sdc_ir::{DType, Tensor};

/// Filter vectors longer than this get a diagonal only: the full moments would not fit.
pub const MAX_FULL: usize = 4608;
/// Output positions taken of one input, at most.
pub const MAX_POSITIONS: usize = 512;

/// Positions whose moments are added together.
const TOGETHER: usize = 256;
/// Columns of a product of moments at a time.
const COLUMNS: usize = 256;

/// Sums over patches: count, `x`, `x^T x`, and if targets were given `t` and `x^T t`.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Groups of filters with inputs of their own.
    pub groups: usize,
    /// Length of a filter's vector.
    pub length: usize,
    /// Patches seen.
    pub count: f64,
    /// `[groups * length]`.
    pub sum: Vec<f64>,
    /// One per group: `[length, length]`, or `[length, 1]` with the diagonal only.
    pub squares: Vec<DMatrix<f64>>,
    /// `[M]`.
    pub target_sum: Vec<f64>,
    /// `[length, M]`, empty if there are no targets.
    pub cross: DMatrix<f64>,
    /// Patches and targets to be added together.
    waiting: Vec<(Patches, Option<Vec<f32>>)>,
}

/// Patches of one input: `[positions, length]` column-major, for each group.
#[derive(Clone, Debug, Default)]
pub struct Patches {
    /// Number of positions.
    pub positions: usize,
    /// One per group.
    pub groups: Vec<Vec<f32>>,
    /// Distance of the positions taken from all output positions.
    pub step: usize,
}

impl Moments {
    /// Nothing seen yet.
    pub fn new(layer: &Layer, targets: bool) -> Self {
        let (groups, length) = (layer.groups, layer.geometry.vector_len());
        let columns = if length <= MAX_FULL { length } else { 1 };
        let filters = layer.geometry.filters();
        Self {
            groups,
            length,
            count: 0.0,
            sum: vec![0.0; groups * length],
            squares: vec![DMatrix::zeros(length, columns); groups],
            target_sum: vec![0.0; filters],
            cross: if targets {
                DMatrix::zeros(length, filters)
            } else {
                DMatrix::zeros(0, 0)
            },
            waiting: Vec::new(),
        }
    }

    /// Adds patches, and the targets at their positions (`[positions, M]` column-major) if there are any. They count once
    /// [`Moments::settle`] is called.
    pub fn add(&mut self, patches: Patches, targets: Option<Vec<f32>>) {
        self.waiting.push((patches, targets));
        let positions: usize = self.waiting.iter().map(|w| w.0.positions).sum();
        if positions >= TOGETHER {
            self.settle();
        }
    }

    /// Adds what waits. A product of few positions costs as much as one of many, as all sums are read and written.
    pub fn settle(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let n: usize = waiting.iter().map(|w| w.0.positions).sum();
        if n == 0 {
            return;
        }
        let length = self.length;
        self.count += n as f64;
        let per_group = self.target_sum.len() / self.groups;
        for g in 0..self.groups {
            let data = joined(
                n,
                length,
                waiting.iter().map(|(p, _)| (&p.groups[g][..], p.positions)),
            );
            for (sum, column) in self.sum[g * length..].iter_mut().zip(data.chunks_exact(n)) {
                *sum += column.iter().map(|&x| f64::from(x)).sum::<f64>();
            }
            let squares = &mut self.squares[g];
            if squares.ncols() != length {
                for (s, column) in squares.iter_mut().zip(data.chunks_exact(n)) {
                    *s += column.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
                }
                // Nobody asks for products with targets where these do not fit.
                continue;
            }
            let x = DMatrixView::from_slice(&data, n, length);
            // Transposed first: the product of a transpose is not blocked.
            let turned = x.transpose();
            add_products(squares.as_mut_slice(), &turned, &x);
            if self.cross.nrows() > 0 {
                let targets = waiting.iter().filter_map(|(p, t)| {
                    let own = &t.as_ref()?[g * per_group * p.positions..][..per_group * p.positions];
                    Some((own, p.positions))
                });
                let targets = joined(n, per_group, targets);
                let own = g * per_group * length..(g + 1) * per_group * length;
                let t = DMatrixView::from_slice(&targets, n, per_group);
                add_products(&mut self.cross.as_mut_slice()[own], &turned, &t);
                let sums = self.target_sum[g * per_group..].iter_mut();
                for (sum, column) in sums.zip(targets.chunks_exact(n)) {
                    *sum += column.iter().map(|&x| f64::from(x)).sum::<f64>();
                }
            }
        }
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        let add = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.sum, &other.sum);
        add(&mut self.target_sum, &other.target_sum);
        for (a, b) in self.squares.iter_mut().zip(&other.squares) {
            *a += b;
        }
        self.cross += &other.cross;
    }

    /// Mean input of each group, `[groups * length]`.
    pub fn means(&self) -> Vec<f64> {
        self.sum.iter().map(|x| x / self.count.max(1.0)).collect()
    }

    /// The metric `cov + share * mean^T mean`: with a free bias correction only the covariance counts; a share of the mean keeps
    /// errors of the mean itself from counting for nothing.
    pub fn metric(&self, share: f64) -> Metric {
        let (n, length, means) = (self.count.max(1.0), self.length, self.means());
        let forms = self.squares.iter().enumerate().map(|(g, squares)| {
            let mean = &means[g * length..][..length];
            if squares.ncols() == length && length > 1 {
                let at = |i: usize, j: usize| squares[(i, j)] / n - (1.0 - share) * mean[i] * mean[j];
                Form::Full(DMatrix::from_fn(length, length, at))
            } else {
                let entries = squares
                    .iter()
                    .zip(mean)
                    .map(|(s, m)| (s / n - (1.0 - share) * m * m).max(0.0));
                Form::Diagonal(entries.collect())
            }
        });
        Metric {
            filters: self.target_sum.len() / self.groups,
            forms: forms.collect(),
        }
    }
}

/// Adds `a b`, some columns at a time.
fn add_products(sums: &mut [f64], a: &DMatrix<f32>, b: &DMatrixView<'_, f32>) {
    let rows = a.nrows();
    sums.par_chunks_mut(COLUMNS * rows)
        .enumerate()
        .for_each(|(i, sums)| {
            let product = a * b.columns(i * COLUMNS, sums.len() / rows);
            sums.iter_mut()
                .zip(product.iter())
                .for_each(|(s, &p)| *s += f64::from(p));
        });
}

/// Matrices `[positions, columns]` (column-major), one below the other: `n` positions in all.
fn joined<'a>(n: usize, columns: usize, parts: impl Iterator<Item = (&'a [f32], usize)>) -> Vec<f32> {
    let mut out = vec![0f32; n * columns];
    let mut at = 0;
    for (part, positions) in parts {
        for (to, from) in out.chunks_exact_mut(n).zip(part.chunks_exact(positions.max(1))) {
            to[at..at + positions].copy_from_slice(from);
        }
        at += positions;
    }
    out
}

/// The patches a node of a layer multiplies its weights with, or `None` if this kind of node is not unfolded.
pub fn patches(graph: &Graph, node: Node, operands: &[&Tensor]) -> Option<Patches> {
    let data = &graph.nodes()[node];
    let x = operands[0].elements::<f32>().ok()?;
    match &data.op {
        Op::Conv(conv) if is_planar(operands) => {
            let (xs, ws, out) = (
                operands[0].shape(),
                operands[1].shape(),
                graph.ty(data.outputs[0]).sizes(),
            );
            let plane = out[2] * out[3];
            let step = (plane * out[0]).div_ceil(MAX_POSITIONS).max(1);
            let image = ws[1] * xs[2] * xs[3];
            let mut groups = Vec::with_capacity(conv.group);
            let mut unfolded = Vec::new();
            let positions = (0..out[0]).map(|_| plane.div_ceil(step)).sum();
            for g in 0..conv.group {
                let depth = ws[1] * ws[2] * ws[3];
                let mut columns = vec![0f32; positions * depth];
                for n in 0..out[0] {
                    let x = &x[(n * conv.group + g) * image..][..image];
                    unfold(conv, x, &xs[2..], &ws[2..], &out[2..], &mut unfolded);
                    let taken = plane.div_ceil(step);
                    for (d, plane) in unfolded.chunks_exact(plane).enumerate() {
                        let to = &mut columns[d * positions + n * taken..][..taken];
                        to.iter_mut()
                            .zip(plane.iter().step_by(step))
                            .for_each(|(t, p)| *t = *p);
                    }
                }
                groups.push(columns);
            }
            Some(Patches {
                positions,
                groups,
                step,
            })
        }
        Op::MatMul(_) if operands[0].dtype() == DType::F32 => {
            let depth = *operands[0].shape().last()?;
            let rows = x.len().checked_div(depth)?;
            let step = rows.div_ceil(MAX_POSITIONS).max(1);
            let positions = rows.div_ceil(step);
            let mut columns = vec![0f32; positions * depth];
            for (p, row) in x.chunks_exact(depth).step_by(step).enumerate() {
                for (d, &v) in row.iter().enumerate() {
                    columns[d * positions + p] = v;
                }
            }
            Some(Patches {
                positions,
                groups: vec![columns],
                step,
            })
        }
        _ => None,
    }
}
