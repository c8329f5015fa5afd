//! First bases: from several starts, on a sample of rows.

use super::{Bases, Effort, Run, START_ROWS};
use crate::decompose::linalg;
use crate::decompose::synthetic::normal;
use nalgebra::DMatrix;
use rayon::prelude::*;

/// Starts whose axes are those of the rows.
const PLAIN_STARTS: usize = 4;
/// What unsettles over-complete starts, as a share of the length of a row.
const JITTER: f64 = 0.4;

impl Run<'_> {
    /// Bases from several starts on a sample of rows, the same for all filters to begin with.
    pub(super) fn start(&mut self, effort: &Effort) {
        let (s, r) = (self.format.s, self.format.r);
        let all = self.filters() * self.q;
        let step = all.div_ceil(START_ROWS).max(1);
        let sample: Vec<(Vec<f64>, f64)> = (0..all)
            .step_by(step)
            .map(|i| {
                let (m, q) = (i / self.q, i % self.q);
                let w = &self.target(m)[q * s..][..s];
                let diagonal = self.problem.metric.form(m).block(q, s);
                let weight: f64 = (0..s).map(|j| diagonal[j * s + j]).sum::<f64>() / s as f64;
                (
                    w.iter().map(|x| x / self.state.scales[m]).collect(),
                    weight * self.state.scales[m].powi(2),
                )
            })
            .collect();
        let top = f64::from(*self.format.alphabet.last().unwrap_or(&1));
        // A grid that ends near 2.5 standard deviations; an over-complete basis reaches further with less.
        let reach = 2.5 / top / (r as f64 / s as f64).sqrt();
        let mut random = fastrand::Rng::with_seed(effort.seed);
        let mut best: Option<(f64, Vec<f64>)> = None;
        for start in 0..effort.starts.max(1) {
            let gain = reach * [1.0, 0.8, 1.2, 0.65][start % 4];
            let mut basis: Vec<f64> = first_basis(r, s, start, &mut random);
            basis.iter_mut().for_each(|b| *b *= gain);
            let mut error = f64::INFINITY;
            for _ in 0..12 {
                let (next, fitted) = self.alternate(&sample, &basis);
                if next > error * (1.0 - 1e-3) {
                    break;
                }
                error = next;
                basis = fitted;
            }
            if best.as_ref().is_none_or(|b| error < b.0) {
                best = Some((error, basis));
            }
        }
        let basis = best.map(|b| b.1).unwrap_or_default();
        let sets = self.problem.geometry.basis_groups(self.format) * self.slices;
        self.state.bases = Bases::Real(vec![basis; sets]);
    }

    /// One search and refit on weighted rows: the error before the refit, and the refitted basis.
    pub(super) fn alternate(&self, sample: &[(Vec<f64>, f64)], basis: &[f64]) -> (f64, Vec<f64>) {
        let (s, r) = (self.format.s, self.format.r);
        let table = self.book.table(basis);
        let identity: Vec<f64> = (0..s * s)
            .map(|k| f64::from(u8::from(k % (s + 1) == 0)))
            .collect();
        let norms = table.norms(&identity);
        let mut gram = DMatrix::<f64>::zeros(r, r);
        let (mut cross, mut error) = (vec![vec![0.0; r]; s], 0.0);
        let words: Vec<u32> = sample
            .par_iter()
            .map(|(row, _)| table.nearest(&norms, row))
            .collect();
        for ((row, weight), &word) in sample.iter().zip(&words) {
            let values: Vec<f64> = self.book.values(word).collect();
            for (x, y) in row.iter().zip(table.row(word)) {
                error += weight * (x - y).powi(2);
            }
            for k in 0..r {
                for l in 0..r {
                    gram[(k, l)] += weight * values[k] * values[l];
                }
                for j in 0..s {
                    cross[j][k] += weight * values[k] * row[j];
                }
            }
        }
        let ridge = 1e-9 * gram.trace().max(f64::MIN_POSITIVE);
        for k in 0..r {
            gram[(k, k)] += ridge;
            for j in 0..s {
                cross[j][k] += ridge * basis[k * s + j];
            }
        }
        let columns: Vec<Vec<f64>> = cross.iter().map(|c| linalg::solve(&gram, c)).collect();
        let fitted = (0..r * s).map(|i| columns[i % s][i / s]).collect();
        (error, fitted)
    }
}

/// A basis to start from, `[r, s]`, of about unit rows: the axes in the first starts, as weights differ most along them; then
/// axes turned at random. Rows beyond the axes point anywhere.
fn first_basis(r: usize, s: usize, start: usize, random: &mut fastrand::Rng) -> Vec<f64> {
    let axes = r.min(s);
    let mut basis = vec![0.0; r * s];
    if start < PLAIN_STARTS {
        (0..axes).for_each(|k| basis[k * s + k] = 1.0);
    } else {
        for k in 0..axes {
            let (done, rest) = basis.split_at_mut(k * s);
            let row = &mut rest[..s];
            row.iter_mut().for_each(|b| *b = normal(random));
            for other in done.chunks_exact(s) {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let length = row.iter().map(|b| b * b).sum::<f64>().sqrt().max(1e-6);
            row.iter_mut().for_each(|b| *b /= length);
        }
    }
    if r > s {
        basis[axes * s..]
            .iter_mut()
            .for_each(|b| *b = random.f64() * 2.0 - 1.0);
        basis
            .iter_mut()
            .for_each(|b| *b += JITTER * (random.f64() * 2.0 - 1.0));
    }
    basis
}
