//! Rows chosen one after another, each one's error fed to those still open (GPTQ's scheme, at row granularity).

use super::{Run, TOGETHER};
use crate::decompose::linalg;
use crate::decompose::metric::{Form, Metric};
use nalgebra::DMatrix;
use rayon::prelude::*;

impl Run<'_> {
    /// Rows one after another, the error of each fed to those still open.
    pub(super) fn feed(&mut self, feedback: &[Option<Feedback>]) {
        self.each_word(|run, cell, tables| {
            let Some(Some(feedback)) = feedback.get(run.problem.metric.group(cell.start)) else {
                let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
                return run.search_cell(cell, tables, &scales, 1).0;
            };
            let (s, length) = (run.format.s, run.length());
            let mut words = vec![0u32; cell.len() * run.q];
            // Working copies in the order of the walk, one after another.
            let mut open: Vec<f64> = Vec::with_capacity(cell.len() * length);
            for m in cell.clone() {
                let w = run.target(m);
                open.extend(feedback.order.iter().flat_map(|&q| w[q * s..][..s].iter()));
            }
            let mut moves = DMatrix::zeros(TOGETHER * s, cell.len());
            let (mut x, mut y, mut e) = ([0.0; 8], [0.0; 8], [0.0; 8]);
            for (p, &q) in feedback.order.iter().enumerate() {
                let table = &tables[q / run.format.slice_rows];
                let (shape, block) = (&feedback.shapes[p], &feedback.blocks[p]);
                let norms = table.norms(block);
                // Errors are fed to the rows of a block at once, and to the rows after it all together.
                let first = p / TOGETHER * TOGETHER;
                let block_end = (first + TOGETHER).min(run.q) * s;
                for (i, m) in cell.clone().enumerate() {
                    let scale = run.state.scales[m];
                    let w = &mut open[i * length..][..length];
                    for j in 0..s {
                        x[j] = w[p * s + j] / scale;
                    }
                    linalg::times(&x, block, s, &mut y);
                    let word = if run.is_kept(m, q) {
                        table.nearest(&norms, &y[..s])
                    } else {
                        0
                    };
                    words[i * run.q + q] = word;
                    x.iter_mut()
                        .zip(table.row(word))
                        .for_each(|(x, t)| *x = (*x - t) * scale);
                    linalg::times(&x, shape, s, &mut e);
                    for (j, &e) in e[..s].iter().enumerate() {
                        // Row p*s+j of the upper factor is column p*s+j of the lower one, which is contiguous.
                        let factor = &feedback.lower.as_slice()[(p * s + j) * length..][..length];
                        moves[((p - first) * s + j, i)] = e;
                        let own = (p + 1) * s..block_end;
                        linalg::add_times(run.arch, &mut w[own.clone()], -e, &factor[own]);
                    }
                }
                if (p + 1) * s == block_end {
                    let width = block_end - first * s;
                    linalg::take_from_later(&mut open, &feedback.lower, first * s, width, &moves);
                    moves.fill(0.0);
                }
            }
            words
        });
    }
}

/// What the feedback of one form needs.
pub(super) struct Feedback {
    /// Rows in the order of the walk: the weightiest first.
    order: Vec<usize>,
    /// Inverses of the diagonal blocks of the upper factor, `[s, s]` each, in walking order.
    shapes: Vec<Vec<f64>>,
    /// Their products with their transposes: the metric each row is searched in.
    blocks: Vec<Vec<f64>>,
    /// Lower factor of the inverse of the permuted form; its transpose is the upper factor.
    lower: DMatrix<f64>,
}

impl Feedback {
    pub(super) fn all(metric: &Metric, s: usize) -> Vec<Option<Feedback>> {
        metric
            .forms
            .par_iter()
            .map(|form| match form {
                Form::Full(h) => Some(Self::new(h, s)),
                Form::Diagonal(_) => None,
            })
            .collect()
    }

    fn new(h: &DMatrix<f64>, s: usize) -> Self {
        let rows = h.nrows() / s;
        let trace = |q: usize| (0..s).map(|j| h[(q * s + j, q * s + j)]).sum::<f64>();
        let mut order: Vec<usize> = (0..rows).collect();
        order.sort_by(|&a, &b| trace(b).total_cmp(&trace(a)).then(a.cmp(&b)));
        let at: Vec<usize> = order.iter().flat_map(|q| q * s..(q + 1) * s).collect();
        let permuted = DMatrix::from_fn(h.nrows(), h.nrows(), |i, j| h[(at[i], at[j])]);
        let inverse = linalg::factor(&permuted).inverse();
        let lower = linalg::factor(&inverse).unpack();
        let shapes: Vec<Vec<f64>> = (0..rows)
            .map(|p| {
                // U_pp is the transpose of the lower block; its inverse, row by row of the identity.
                let block: Vec<f64> = (0..s * s)
                    .map(|k| lower[(p * s + k / s, p * s + k % s)])
                    .collect();
                let mut inverse = vec![0.0; s * s];
                let (mut unit, mut out) = (vec![0.0; s], vec![0.0; s]);
                for i in 0..s {
                    unit.fill(0.0);
                    unit[i] = 1.0;
                    linalg::divide_lower(&unit, &block, s, &mut out);
                    // Row i of L^-1 is column i of U^-1.
                    for j in 0..s {
                        inverse[j * s + i] = out[j];
                    }
                }
                inverse
            })
            .collect();
        let square = |u: &Vec<f64>| {
            let at = |k: usize| (0..s).map(|i| u[k / s * s + i] * u[k % s * s + i]).sum();
            (0..s * s).map(at).collect()
        };
        Self {
            order,
            blocks: shapes.iter().map(square).collect(),
            shapes,
            lower,
        }
    }
}
