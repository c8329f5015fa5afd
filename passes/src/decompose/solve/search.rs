//! Exact search of rows in the metric's diagonal blocks, and the first scales.

use super::{Run, SCALE_ROWS};
use crate::decompose::codebook::{Norms, Table};
use crate::decompose::linalg;
use std::ops::Range;

impl Run<'_> {
    /// Nearest words in the metric's diagonal blocks.
    pub(super) fn assign(&mut self) {
        self.each_word(|run, cell, tables| {
            let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
            run.search_cell(cell, tables, &scales, 1).0
        });
    }

    /// Words of a cell under given scales, `[filters, Q]`, and the loss of each filter in the diagonal blocks, looking at every `step`-th
    /// row only.
    pub(super) fn search_cell(
        &self,
        cell: Range<usize>,
        tables: &[Table],
        scales: &[f64],
        step: usize,
    ) -> (Vec<u32>, Vec<f64>) {
        let (s, form) = (self.format.s, self.problem.metric.form(cell.start));
        let mut words = vec![0u32; cell.len() * self.q];
        let mut losses = vec![0.0; cell.len()];
        let (mut x, mut y) = ([0.0; 8], [0.0; 8]);
        // Norms serve as long as the block and the slice stay the same.
        let mut shaped: Option<(Vec<f64>, usize, Norms)> = None;
        for q in (0..self.q).step_by(step) {
            let block = form.block(q, s);
            let slice = q / self.format.slice_rows;
            let table = &tables[slice];
            let (_, _, norms) = match shaped.take() {
                Some(last) if last.0 == block && last.1 == slice => shaped.insert(last),
                _ => {
                    let norms = table.norms(&block);
                    shaped.insert((block.clone(), slice, norms))
                }
            };
            for (i, m) in cell.clone().enumerate() {
                let w = &self.target(m)[q * s..][..s];
                for (x, w) in x.iter_mut().zip(w) {
                    *x = w / scales[i];
                }
                linalg::times(&x, &block, s, &mut y);
                let word = if self.is_kept(m, q) {
                    table.nearest(norms, &y[..s])
                } else {
                    0
                };
                words[i * self.q + q] = word;
                x.iter_mut().zip(table.row(word)).for_each(|(x, t)| *x -= t);
                linalg::times(&x, &block, s, &mut y);
                let gap: f64 = x[..s].iter().zip(&y).map(|(a, b)| a * b).sum();
                losses[i] += gap * scales[i].powi(2);
            }
        }
        (words, losses)
    }

    /// The best of a few factors on each filter's scale.
    pub(super) fn pick_scales(&mut self) {
        let step = self.q.div_ceil(SCALE_ROWS).max(1);
        let found = self.each_cell(|cell, tables| {
            let base: Vec<f64> = cell.clone().map(|m| self.state.scales[m]).collect();
            let mut best = vec![(f64::INFINITY, 1.0); base.len()];
            for factor in [1.0, 0.72, 0.85, 1.17, 1.38] {
                let scales: Vec<f64> = base.iter().map(|s| s * factor).collect();
                let (_, losses) = self.search_cell(cell.clone(), tables, &scales, step);
                for (b, loss) in best.iter_mut().zip(losses) {
                    if loss < b.0 {
                        *b = (loss, factor);
                    }
                }
            }
            base.iter().zip(best).map(|(s, b)| s * b.1).collect::<Vec<f64>>()
        });
        for (cell, scales) in self.active.iter().zip(found) {
            self.state.scales[cell.clone()].copy_from_slice(&scales);
        }
    }
}
