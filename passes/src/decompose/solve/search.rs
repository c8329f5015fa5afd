//! Exact search of rows in the metric's diagonal blocks, and the first scales.

use super::Run;
use crate::decompose::codebook::Table;
use crate::decompose::linalg;
use rayon::prelude::*;
use std::ops::Range;

impl Run<'_> {
    /// Runs `work` on each cell's filters and tables, and stores the words it returns.
    pub(super) fn each_cell(&mut self, work: impl Fn(&Self, Range<usize>, &[Table]) -> Vec<u32> + Sync) {
        let this = &*self;
        let found: Vec<Vec<u32>> = this
            .cells
            .par_iter()
            .map(|cell| work(this, cell.clone(), &this.tables(cell.start)))
            .collect();
        self.state.words = found.concat();
    }

    /// Nearest words in the metric's diagonal blocks.
    pub(super) fn assign(&mut self) {
        self.each_cell(|run, cell, tables| {
            let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
            run.search_cell(cell, tables, &scales).0
        });
    }

    /// Words of a cell under given scales, `[filters, Q]`, and the loss of each filter in the diagonal blocks.
    pub(super) fn search_cell(
        &self,
        cell: Range<usize>,
        tables: &[Table],
        scales: &[f64],
    ) -> (Vec<u32>, Vec<f64>) {
        let (s, form) = (self.format.s, self.problem.metric.form(cell.start));
        let mut words = vec![0u32; cell.len() * self.q];
        let mut losses = vec![0.0; cell.len()];
        let (mut x, mut y) = ([0.0; 8], [0.0; 8]);
        let mut shaped: Option<(Vec<f64>, usize, Table)> = None;
        for q in 0..self.q {
            let block = form.block(q, s);
            let slice = q / self.format.slice_rows;
            if shaped.as_ref().is_none_or(|(b, t, _)| *t != slice || *b != block) {
                let root = linalg::small_cholesky(&block, s);
                shaped = Some((block.clone(), slice, tables[slice].times(&root)));
            }
            let root = linalg::small_cholesky(&block, s);
            let Some((_, _, table)) = &shaped else { continue };
            for (i, m) in cell.clone().enumerate() {
                let w = &self.target(m)[q * s..][..s];
                for (x, w) in x.iter_mut().zip(w) {
                    *x = w / scales[i];
                }
                linalg::times(&x, &root, s, &mut y);
                let word = if self.is_kept(m, q) {
                    table.nearest(&y[..s])
                } else {
                    0
                };
                words[i * self.q + q] = word;
                let gap: f64 = y[..s]
                    .iter()
                    .zip(table.row(word))
                    .map(|(a, b)| (a - b).powi(2))
                    .sum();
                losses[i] += gap * scales[i].powi(2);
            }
        }
        (words, losses)
    }

    /// The best of a few factors on each filter's scale.
    pub(super) fn pick_scales(&mut self) {
        let this = &*self;
        let found: Vec<Vec<f64>> = this
            .cells
            .par_iter()
            .map(|cell| {
                let tables = this.tables(cell.start);
                let base: Vec<f64> = cell.clone().map(|m| this.state.scales[m]).collect();
                let mut best = vec![(f64::INFINITY, 1.0); base.len()];
                for factor in [1.0, 0.72, 0.85, 1.17, 1.38] {
                    let scales: Vec<f64> = base.iter().map(|s| s * factor).collect();
                    let (_, losses) = this.search_cell(cell.clone(), &tables, &scales);
                    for (b, loss) in best.iter_mut().zip(losses) {
                        if loss < b.0 {
                            *b = (loss, factor);
                        }
                    }
                }
                base.iter().zip(best).map(|(s, b)| s * b.1).collect()
            })
            .collect();
        self.state.scales = found.concat();
    }
}
