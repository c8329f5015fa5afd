//! Codes, bases and scales for one weight tensor: exact row search, curvature-weighted bases, error feedback, descent.
//!
//! The loss is the sum over filters of `(w - v) H (w - v)^T` with the rebuilt vector `v` and a [`Metric`] `H`. Steps:
//!
//! 1. rows are searched exactly in the metric's diagonal blocks, bases and scales refitted, from several starts;
//! 2. bases are rounded to integers, and from then on every row is what the normative integer rebuild makes of it;
//! 3. with a full metric, rows are chosen one after another and each row's error is fed to those still open (as
//!    GPTQ does, at row granularity), then revisited in turn, each chosen exactly with all others fixed, which can only lower the loss;
//! 4. scales are rounded to what is stored, and the rows searched once more.

use super::codebook::{Codebook, Table};
use super::linalg;
use super::metric::{Form, Metric};
use nalgebra::DMatrix;
use rayon::prelude::*;
use sdc_ir::DType;
use sdc_ir::sd::{Decomposed, Format, Geometry, Index};
use std::ops::Range;

/// How much work goes into one tensor, and which steps are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// Starts of the basis.
    pub starts: usize,
    /// Alternations of search and refit.
    pub alternations: usize,
    /// Feed errors forward before revisiting. Needs believable off-diagonal moments.
    pub feedback: bool,
    /// Passes of revisiting per round.
    pub descents: usize,
    /// Rounds of feedback, descent and refit.
    pub rounds: usize,
    /// Seed of the random starts.
    pub seed: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            starts: 4,
            alternations: 8,
            feedback: true,
            descents: 2,
            rounds: 2,
            seed: 0,
        }
    }
}

/// What to decompose.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// How the tensor is read.
    pub geometry: &'a Geometry,
    /// Rows of all filters, padded: `[M, Q, S]` of the format that is tried.
    pub rows: &'a [f64],
    /// The metric, prepared for the padded length.
    pub metric: &'a Metric,
    /// Rows that may be stored, `[ceil(M/G), Q]` as the format's index says; all if absent.
    pub kept: Option<&'a [bool]>,
}

/// A decomposition and its loss in the problem's metric.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The stored form.
    pub weight: Decomposed,
    /// Sum over filters of the squared error in the metric.
    pub loss: f64,
    /// The same for all-zero weights.
    pub energy: f64,
}

/// Filters a task works on at least: tables are built once per task.
const FILTERS_PER_TASK: usize = 16;
/// Rows that decide the starts.
const START_ROWS: usize = 768;
/// Filters a shared basis is fitted on.
const FIT_FILTERS: usize = 64;
/// Filter vectors longer than this are descended without feedback, whose factorisation is cubic.
const MAX_FEEDBACK: usize = 1536;

/// Decomposes one tensor in one format. `None` if the format's codes are too many to search.
pub fn solve(problem: &Problem<'_>, format: &Format, effort: &Effort) -> Option<Solved> {
    let book = Codebook::new(format)?;
    let mut run = Run::new(problem, format, &book);
    run.start(effort);
    run.pick_scales();
    for _ in 0..effort.alternations {
        run.assign();
        run.rescale();
        run.refit();
    }
    run.quantise();
    run.assign();
    run.rescale();
    let mut best = run.state.clone();
    let mut least = run.loss();
    let full = problem.metric.forms.iter().any(|f| matches!(f, Form::Full(_)));
    if full {
        let feedback = (effort.feedback && run.length() <= MAX_FEEDBACK)
            .then(|| Feedback::all(problem.metric, format.s));
        for round in 0..effort.rounds.max(1) {
            if let Some(feedback) = &feedback {
                run.feed(feedback);
                run.rescale();
            }
            for _ in 0..effort.descents {
                run.descend();
                run.rescale();
            }
            let loss = run.loss();
            if loss < least {
                (least, best) = (loss, run.state.clone());
            }
            if round + 1 < effort.rounds {
                run.refit();
                run.quantise();
            }
        }
    }
    run.state = best;
    run.store_scales();
    if full {
        run.descend();
    } else {
        run.assign();
    }
    Some(run.finish())
}

/// The bases: real ones while they are fitted, then stored ones.
#[derive(Clone, Debug)]
enum Bases {
    Real(Vec<Vec<f64>>),
    Stored(Vec<(Vec<i8>, u8)>),
}

#[derive(Clone, Debug)]
struct State {
    /// `[M]`.
    scales: Vec<f64>,
    /// `[M, Q]`.
    words: Vec<u32>,
    /// `[ceil(M/H), T]`.
    bases: Bases,
}

struct Run<'a> {
    problem: &'a Problem<'a>,
    format: &'a Format,
    book: &'a Codebook,
    q: usize,
    slices: usize,
    /// Runs of filters with one set of bases and one form.
    cells: Vec<Range<usize>>,
    state: State,
}

impl<'a> Run<'a> {
    fn new(problem: &'a Problem<'a>, format: &'a Format, book: &'a Codebook) -> Self {
        let (filters, q) = (problem.geometry.filters(), problem.geometry.rows(format.s));
        let mut cells: Vec<Range<usize>> = Vec::new();
        for m in 0..filters {
            match cells.last_mut() {
                Some(c)
                    if c.len() < FILTERS_PER_TASK
                        && c.start / format.basis_filters == m / format.basis_filters
                        && problem.metric.group(c.start) == problem.metric.group(m) =>
                {
                    c.end = m + 1;
                }
                _ => cells.push(m..m + 1),
            }
        }
        let slices = problem.geometry.slices(format);
        let length = q * format.s;
        let scales = (0..filters)
            .map(|m| {
                let diagonal = problem.metric.form(m).diagonal();
                let w = &problem.rows[m * length..][..length];
                let energy: f64 = w.iter().zip(&diagonal).map(|(w, h)| w * w * h).sum();
                let weight: f64 = diagonal.iter().sum();
                (energy / weight).sqrt().max(1e-12)
            })
            .collect();
        let state = State {
            scales,
            words: vec![0; filters * q],
            bases: Bases::Real(Vec::new()),
        };
        Self {
            problem,
            format,
            book,
            q,
            slices,
            cells,
            state,
        }
    }

    fn length(&self) -> usize {
        self.q * self.format.s
    }
    fn filters(&self) -> usize {
        self.state.scales.len()
    }
    fn target(&self, m: usize) -> &'a [f64] {
        &self.problem.rows[m * self.length()..][..self.length()]
    }
    fn is_kept(&self, m: usize, q: usize) -> bool {
        self.problem
            .kept
            .is_none_or(|k| k[m / self.format.index_filters() * self.q + q])
    }

    /// The tables of the slices of a filter's bases.
    fn tables(&self, filter: usize) -> Vec<Table> {
        let first = filter / self.format.basis_filters * self.slices;
        (first..first + self.slices)
            .map(|i| match &self.state.bases {
                Bases::Real(b) => self.book.table(&b[i]),
                Bases::Stored(b) => self.book.integer_table(&b[i].0, b[i].1),
            })
            .collect()
    }

    /// Bases from several starts on a sample of rows, the same for all filters to begin with.
    fn start(&mut self, effort: &Effort) {
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
            let mut basis = vec![0.0; r * s];
            for k in 0..r {
                if k < s {
                    basis[k * s + k] = gain;
                } else {
                    for b in &mut basis[k * s..][..s] {
                        *b = gain * (random.f64() * 2.0 - 1.0);
                    }
                }
                if start >= 4 || r > s {
                    for b in &mut basis[k * s..][..s] {
                        *b += 0.4 * gain * (random.f64() * 2.0 - 1.0);
                    }
                }
            }
            let mut error = f64::INFINITY;
            for _ in 0..12 {
                let (next, fitted) = self.alternate(&sample, &basis);
                if next > error * (1.0 - 1e-4) {
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
    fn alternate(&self, sample: &[(Vec<f64>, f64)], basis: &[f64]) -> (f64, Vec<f64>) {
        let (s, r) = (self.format.s, self.format.r);
        let table = self.book.table(basis);
        let mut gram = DMatrix::<f64>::zeros(r, r);
        let (mut cross, mut error) = (vec![vec![0.0; r]; s], 0.0);
        let words: Vec<u32> = sample.par_iter().map(|(row, _)| table.nearest(row)).collect();
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

    /// Runs `work` on each cell's filters and tables, and stores the words it returns.
    fn each_cell(&mut self, work: impl Fn(&Self, Range<usize>, &[Table]) -> Vec<u32> + Sync) {
        let this = &*self;
        let found: Vec<Vec<u32>> = this
            .cells
            .par_iter()
            .map(|cell| work(this, cell.clone(), &this.tables(cell.start)))
            .collect();
        self.state.words = found.concat();
    }

    /// Nearest words in the metric's diagonal blocks.
    fn assign(&mut self) {
        self.each_cell(|run, cell, tables| {
            let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
            run.search_cell(cell, tables, &scales).0
        });
    }

    /// Words of a cell under given scales, `[filters, Q]`, and the loss of each filter in the diagonal blocks.
    fn search_cell(&self, cell: Range<usize>, tables: &[Table], scales: &[f64]) -> (Vec<u32>, Vec<f64>) {
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
    fn pick_scales(&mut self) {
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

    /// A filter's rebuilt vector in units of its scale.
    fn rebuilt(&self, m: usize, tables: &[Table]) -> Vec<f64> {
        let words = &self.state.words[m * self.q..][..self.q];
        let rows = words.iter().enumerate();
        rows.flat_map(|(q, &word)| tables[q / self.format.slice_rows].row(word))
            .collect()
    }

    /// Per filter: energy of the rebuilt vector, its product with the target, loss.
    fn sums(&self) -> Vec<(f64, f64, f64)> {
        let cells = self.cells.par_iter().map(|cell| {
            let tables = self.tables(cell.start);
            let form = self.problem.metric.form(cell.start);
            cell.clone()
                .map(|m| {
                    let (w, v) = (self.target(m), self.rebuilt(m, &tables));
                    let hv = form.apply(&v);
                    let energy: f64 = hv.iter().zip(&v).map(|(a, b)| a * b).sum();
                    let cross: f64 = hv.iter().zip(w).map(|(a, b)| a * b).sum();
                    let scale = self.state.scales[m];
                    let gap: Vec<f64> = w.iter().zip(&v).map(|(w, v)| w - scale * v).collect();
                    (energy, cross, form.square(&gap))
                })
                .collect::<Vec<_>>()
        });
        cells.collect::<Vec<_>>().concat()
    }

    /// The best scale of each filter for its words.
    fn rescale(&mut self) {
        for (m, (energy, cross, _)) in self.sums().into_iter().enumerate() {
            if energy > 0.0 && cross > 0.0 {
                self.state.scales[m] = cross / energy;
            }
        }
    }

    fn loss(&self) -> f64 {
        self.sums().iter().map(|s| s.2).sum()
    }

    /// The best real bases for words and scales, in the whole metric.
    fn refit(&mut self) {
        let shared = self.format.basis_filters;
        let groups = self.problem.geometry.basis_groups(self.format);
        let this = &*self;
        let previous = this.real_bases();
        let fitted: Vec<Vec<Vec<f64>>> = (0..groups)
            .into_par_iter()
            .map(|g| {
                let members = g * shared..((g + 1) * shared).min(this.filters());
                let old = &previous[g * this.slices..][..this.slices];
                this.fit_bases(members, old)
            })
            .collect();
        self.state.bases = Bases::Real(fitted.concat());
    }

    fn real_bases(&self) -> Vec<Vec<f64>> {
        match &self.state.bases {
            Bases::Real(b) => b.clone(),
            Bases::Stored(b) => b
                .iter()
                .map(|(basis, shift)| {
                    basis
                        .iter()
                        .map(|&x| f64::from(x) / f64::from(1u32 << shift))
                        .collect()
                })
                .collect(),
        }
    }

    /// Least squares for the bases of the filters in `members`, `[T][r * s]`, drawn weakly to the previous ones.
    fn fit_bases(&self, members: Range<usize>, old: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (s, r, length) = (self.format.s, self.format.r, self.length());
        let unknowns = self.slices * r * s;
        let step = members.len().div_ceil(FIT_FILTERS).max(1);
        let chosen: Vec<usize> = members.step_by(step).collect();
        let parts: Vec<(DMatrix<f64>, Vec<f64>)> = chosen
            .par_chunks(4)
            .map(|chunk| {
                let mut gram = DMatrix::zeros(unknowns, unknowns);
                let mut right = vec![0.0; unknowns];
                for &m in chunk {
                    self.add_normal_equations(m, &mut gram, &mut right, length);
                }
                (gram, right)
            })
            .collect();
        let (mut gram, mut right) = (DMatrix::zeros(unknowns, unknowns), vec![0.0; unknowns]);
        for (g, b) in parts {
            gram += g;
            right.iter_mut().zip(b).for_each(|(x, y)| *x += y);
        }
        let ridge = 1e-6 * (gram.trace() / unknowns as f64).max(f64::MIN_POSITIVE);
        for (i, x) in old.iter().flatten().enumerate() {
            gram[(i, i)] += ridge;
            right[i] += ridge * x;
        }
        let flat = linalg::solve(&gram, &right);
        flat.chunks_exact(r * s).map(<[f64]>::to_vec).collect()
    }

    /// The rebuilt vector is linear in the bases: adds this filter's share of the normal equations.
    fn add_normal_equations(&self, m: usize, gram: &mut DMatrix<f64>, right: &mut [f64], length: usize) {
        let (s, r, scale) = (self.format.s, self.format.r, self.state.scales[m]);
        let (form, w) = (self.problem.metric.form(m), self.target(m));
        let entries: Vec<(usize, usize, f64)> = (0..self.q)
            .flat_map(|q| {
                let first = q / self.format.slice_rows * r * s;
                let values = self.book.values(self.state.words[m * self.q + q]).enumerate();
                values.map(move |(k, v)| (q * s, first + k * s, v * scale))
            })
            .filter(|e| e.2 != 0.0)
            .collect();
        let mut shaped = DMatrix::<f64>::zeros(length, gram.nrows());
        for &(at, unknown, v) in &entries {
            for j in 0..s {
                let mut column = shaped.column_mut(unknown + j);
                match form {
                    Form::Diagonal(d) => column[at + j] += v * d[at + j],
                    Form::Full(h) => column.axpy(v, &h.column(at + j), 1.0),
                }
            }
        }
        for &(at, unknown, v) in &entries {
            for j in 0..s {
                for (i, g) in gram.column_mut(unknown + j).iter_mut().enumerate() {
                    *g += v * shaped[(at + j, i)];
                }
            }
        }
        for (b, column) in right.iter_mut().zip(shaped.column_iter()) {
            *b += column.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
        }
    }

    /// Rounds the bases to what is stored, moving the units so that the largest rebuilt weight fills an `i8`.
    fn quantise(&mut self) {
        let bases = self.real_bases();
        let limit = f64::from((1i16 << (self.format.basis_bits - 1)) - 1);
        let groups = self.problem.geometry.basis_groups(self.format);
        let mut stored = Vec::with_capacity(bases.len());
        for g in 0..groups {
            let own = &bases[g * self.slices..][..self.slices];
            let members =
                g * self.format.basis_filters..((g + 1) * self.format.basis_filters).min(self.filters());
            let tables: Vec<Table> = own.iter().map(|b| self.book.table(b)).collect();
            let mut used = vec![vec![false; self.book.words()]; self.slices];
            for m in members.clone() {
                for q in 0..self.q {
                    used[q / self.format.slice_rows][self.state.words[m * self.q + q] as usize] = true;
                }
            }
            let mut most = 0f64;
            for (table, used) in tables.iter().zip(&used) {
                for (word, _) in used.iter().enumerate().filter(|(_, u)| **u) {
                    most = table.row(word as u32).fold(most, |a, x| a.max(x.abs()));
                }
            }
            let entry = own.iter().flatten().fold(0f64, |a, x| a.max(x.abs()));
            let mut gain = if most > 0.0 { 127.0 / most } else { 1.0 };
            if entry * gain > limit {
                gain = limit / entry;
            }
            for basis in own {
                let largest = basis.iter().fold(0f64, |a, x| a.max(x.abs())) * gain;
                let shift = (0..15u8)
                    .take_while(|&sh| largest > 0.0 && largest * f64::from(2u32 << sh) <= limit)
                    .count() as u8;
                let unit = gain * f64::from(1u32 << shift);
                let entries = basis
                    .iter()
                    .map(|b| (b * unit).round().clamp(-limit, limit) as i8);
                stored.push((entries.collect(), shift));
            }
            for m in members {
                self.state.scales[m] /= gain;
            }
        }
        self.state.bases = Bases::Stored(stored);
    }

    /// Rows one after another, the error of each fed to those still open.
    fn feed(&mut self, feedback: &[Option<Feedback>]) {
        self.each_cell(|run, cell, tables| {
            let Some(Some(feedback)) = feedback.get(run.problem.metric.group(cell.start)) else {
                let scales: Vec<f64> = cell.clone().map(|m| run.state.scales[m]).collect();
                return run.search_cell(cell, tables, &scales).0;
            };
            let (s, length) = (run.format.s, run.length());
            let mut words = vec![0u32; cell.len() * run.q];
            // Working copies in the order of the walk.
            let mut open: Vec<Vec<f64>> = cell
                .clone()
                .map(|m| {
                    let w = run.target(m);
                    feedback
                        .order
                        .iter()
                        .flat_map(|&q| w[q * s..][..s].iter().copied())
                        .collect()
                })
                .collect();
            let (mut x, mut y, mut e) = ([0.0; 8], [0.0; 8], [0.0; 8]);
            for (p, &q) in feedback.order.iter().enumerate() {
                let slice = q / run.format.slice_rows;
                let shape = &feedback.shapes[p];
                let table = tables[slice].times(shape);
                for (i, m) in cell.clone().enumerate() {
                    let scale = run.state.scales[m];
                    let w = &mut open[i];
                    for j in 0..s {
                        x[j] = w[p * s + j] / scale;
                    }
                    linalg::times(&x, shape, s, &mut y);
                    let word = if run.is_kept(m, q) {
                        table.nearest(&y[..s])
                    } else {
                        0
                    };
                    words[i * run.q + q] = word;
                    for ((e, y), t) in e.iter_mut().zip(&y[..s]).zip(table.row(word)) {
                        *e = (y - t) * scale;
                    }
                    for j in 0..s {
                        // Row p*s+j of the upper factor is column p*s+j of the lower one, which is contiguous.
                        let factor = feedback.lower.column(p * s + j);
                        let from = (p + 1) * s;
                        for (w, u) in w[from..length].iter_mut().zip(factor.iter().skip(from)) {
                            *w -= e[j] * u;
                        }
                    }
                }
            }
            words
        });
    }

    /// Every row once more, exactly, with all others as they are.
    fn descend(&mut self) {
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

    /// Rounds the scales to the stored type.
    fn store_scales(&mut self) {
        for x in &mut self.state.scales {
            *x = if self.format.scale == DType::F16 {
                half::f16::from_f64(*x).to_f64()
            } else {
                f64::from(*x as f32)
            };
        }
    }

    fn finish(self) -> Solved {
        let loss = self.loss();
        let energy = (0..self.filters())
            .map(|m| self.problem.metric.form(m).square(self.target(m)))
            .sum();
        let Bases::Stored(bases) = &self.state.bases else {
            unreachable!("bases are rounded before the scales are stored")
        };
        let format = self.format.clone();
        let groups = self.problem.geometry.index_groups(&format);
        let kept = match (format.index, self.problem.kept) {
            (Index::Rows(_), Some(kept)) => kept.to_vec(),
            _ => vec![true; groups * self.q],
        };
        let weight = Decomposed {
            geometry: self.problem.geometry.clone(),
            codes: self
                .state
                .words
                .iter()
                .flat_map(|&w| self.book.codes(w).iter().copied())
                .collect(),
            kept,
            bases: bases.iter().flat_map(|b| b.0.iter().copied()).collect(),
            shifts: bases.iter().map(|b| b.1).collect(),
            scales: self.state.scales.iter().map(|&x| x as f32).collect(),
            format,
        };
        Solved { weight, loss, energy }
    }
}

/// What the feedback of one form needs.
struct Feedback {
    /// Rows in the order of the walk: the weightiest first.
    order: Vec<usize>,
    /// Inverses of the diagonal blocks of the upper factor, `[s, s]` each, in walking order.
    shapes: Vec<Vec<f64>>,
    /// Lower factor of the inverse of the permuted form; its transpose is the upper factor.
    lower: DMatrix<f64>,
}

impl Feedback {
    fn all(metric: &Metric, s: usize) -> Vec<Option<Feedback>> {
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
        let shapes = (0..rows)
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
        Self { order, shapes, lower }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::sd::{Packing, dequantised, verify};

    fn normal(random: &mut fastrand::Rng) -> f64 {
        let (u, v) = (1.0 - random.f64(), random.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn format(s: usize, r: usize, alphabet: &[u8], filters: usize) -> Format {
        Format {
            s,
            r,
            slice_rows: 64 * s,
            alphabet: alphabet.to_vec(),
            packing: Packing::Row,
            basis_bits: 8,
            basis_filters: filters,
            scale: DType::F16,
            index: Index::None,
        }
    }

    /// SQNR in dB on Gaussian filters under plain squared error.
    fn plain(format: &Format) -> f64 {
        let mut random = fastrand::Rng::with_seed(3);
        let geometry = Geometry::conv(&[16, 64, 3, 3], sdc_ir::sd::Axis::X);
        let dense: Vec<f64> = (0..16 * 576).map(|_| 0.05 * normal(&mut random)).collect();
        let rows = geometry.gather(&dense, format.s);
        let metric = Metric::identity(16, rows.len() / 16);
        let problem = Problem {
            geometry: &geometry,
            rows: &rows,
            metric: &metric,
            kept: None,
        };
        let solved = solve(&problem, format, &Effort::default()).unwrap();
        assert!(verify(&solved.weight).is_empty(), "{:?}", verify(&solved.weight));
        let rebuilt = dequantised(&solved.weight).unwrap().to_f64_vec();
        let noise: f64 = rebuilt.iter().zip(&dense).map(|(a, b)| (a - b).powi(2)).sum();
        assert!(
            (noise / solved.loss - 1.0).abs() < 1e-3,
            "{noise} {}",
            solved.loss
        );
        10.0 * (solved.energy / noise).log10()
    }

    /// The table of section 7.2 of the reference, within what sharing a basis by 16 filters and integers cost.
    #[test]
    fn quality_of_alphabets() {
        for (r, alphabet, least) in [
            (3, &[1, 2, 4, 8, 16, 32, 64][..], 14.3),
            (3, &[1, 2, 4, 8], 14.2),
            (3, &[1, 2, 4], 13.3),
            (3, &[1, 2, 3, 4, 6, 8, 10], 19.3),
            (5, &[1, 2], 19.0),
            (8, &[1], 20.5),
        ] {
            let db = plain(&format(3, r, alphabet, 16));
            assert!(db > least, "r = {r}, {alphabet:?}: {db:.2} dB");
        }
    }
}
