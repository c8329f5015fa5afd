//! Coordinate descent: rows revisited in turn, each chosen exactly with all others fixed.

use super::Run;
use crate::decompose::linalg;
use crate::decompose::metric::Form;

impl Run<'_> {
    /// Every row once more, exactly, with all others as they are.
    pub(super) fn descend(&mut self) {
        self.each_cell(|run, cell, tables| {
            let form = run.problem.metric.form(cell.start);
            let Form::Full(h) = form else {
                let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
                return run.search_cell(cell, tables, &scales).0;
            };
            let (s, length) = (run.format.s, run.length());
            let mut words = run.state.words[cell.start * run.q..cell.end * run.q].to_vec();
            // Gradients (w - v) H.
            let mut gradients: Vec<Vec<f64>> = cell
                .clone()
                .map(|m| {
                    let scale = run.state.scales[m];
                    let v = run.rebuilt(m, tables);
                    let gap: Vec<f64> = run.target(m).iter().zip(&v).map(|(w, v)| w - scale * v).collect();
                    form.apply(&gap)
                })
                .collect();
            let (mut back, mut x) = ([0.0; 8], [0.0; 8]);
            for q in 0..run.q {
                let plain = &tables[q / run.format.slice_rows];
                let root = linalg::small_cholesky(&form.block(q, s), s);
                let table = plain.times(&root);
                for (i, m) in cell.clone().enumerate().filter(|&(_, m)| run.is_kept(m, q)) {
                    let scale = run.state.scales[m];
                    let gradient = &mut gradients[i];
                    let word = &mut words[i * run.q + q];
                    // The unconstrained best row is the present one plus g H^-1; with H = L L^T, times L: v L + g L^-T.
                    // Solve y L^T = g forwards.
                    for j in 0..s {
                        let done: f64 = (0..j).map(|k| back[k] * root[j * s + k]).sum();
                        back[j] = (gradient[q * s + j] - done) / root[j * s + j];
                    }
                    for ((x, b), v) in x.iter_mut().zip(&back[..s]).zip(table.row(*word)) {
                        *x = v + b / scale;
                    }
                    let next = table.nearest(&x[..s]);
                    if next == *word {
                        continue;
                    }
                    for (j, (new, old)) in plain.row(next).zip(plain.row(*word)).enumerate() {
                        let delta = scale * (new - old);
                        if delta != 0.0 {
                            let column = h.column(q * s + j);
                            for (g, h) in gradient[..length].iter_mut().zip(column.iter()) {
                                *g -= delta * h;
                            }
                        }
                    }
                    *word = next;
                }
            }
            words
        });
    }
}
