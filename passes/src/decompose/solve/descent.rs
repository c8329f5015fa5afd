//! Coordinate descent: rows revisited in turn, each chosen exactly with all others fixed.

use super::{Run, TOGETHER};
use crate::decompose::linalg;
use crate::decompose::metric::Form;
use nalgebra::DMatrix;

impl Run<'_> {
    /// Every row once more, exactly, with all others as they are.
    pub(super) fn descend(&mut self) {
        self.each_word(|run, cell, tables| {
            let form = run.problem.metric.form(cell.start);
            let Form::Full(h) = form else {
                let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
                return run.search_cell(cell, tables, &scales, 1).0;
            };
            let (s, length) = (run.format.s, run.length());
            let mut words = run.state.words[cell.start * run.q..cell.end * run.q].to_vec();
            // Gradients (w - v) H, one after another.
            let gaps: Vec<f64> = cell
                .clone()
                .flat_map(|m| {
                    let (scale, v) = (run.state.scales[m], run.rebuilt(m, tables));
                    let both = run.target(m).iter().zip(v);
                    both.map(|(w, v)| w - scale * v).collect::<Vec<f64>>()
                })
                .collect();
            let mut gradients = form.apply_all(&gaps, length);
            let (mut old, mut y) = ([0.0; 8], [0.0; 8]);
            let mut moves = DMatrix::zeros(TOGETHER * s, cell.len());
            for q in 0..run.q {
                // Gradients are kept up for the rows of a block; the rows after it hear of them all at once.
                let first = q / TOGETHER * TOGETHER;
                let block_end = (first + TOGETHER).min(run.q) * s;
                let table = &tables[q / run.format.slice_rows];
                let block = form.block(q, s);
                let norms = table.norms(&block);
                for (i, m) in cell.clone().enumerate().filter(|&(_, m)| run.is_kept(m, q)) {
                    let scale = run.state.scales[m];
                    let gradient = &mut gradients[i * length..][..length];
                    let word = &mut words[i * run.q + q];
                    // The unconstrained best row is the present one plus g G^-1, with the block G; times G: v G + g.
                    old.iter_mut().zip(table.row(*word)).for_each(|(o, v)| *o = v);
                    linalg::times(&old, &block, s, &mut y);
                    for (y, g) in y[..s].iter_mut().zip(&gradient[q * s..]) {
                        *y += g / scale;
                    }
                    let next = table.nearest(&norms, &y[..s]);
                    if next == *word {
                        continue;
                    }
                    for (j, (new, old)) in table.row(next).zip(old).enumerate() {
                        let (at, delta) = (q * s + j, scale * (new - old));
                        moves[(at - first * s, i)] = delta;
                        let column = &h.as_slice()[at * length..][..length];
                        let own = q * s..block_end;
                        linalg::add_times(run.arch, &mut gradient[own.clone()], -delta, &column[own]);
                    }
                    *word = next;
                }
                if (q + 1) * s == block_end {
                    let width = block_end - first * s;
                    linalg::take_from_later(&mut gradients, h, first * s, width, &moves);
                    moves.fill(0.0);
                }
            }
            words
        });
    }
}
