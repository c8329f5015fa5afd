//! Codes, bases and scales for one weight tensor: exact row search, curvature-weighted bases, error feedback, descent.
//!
//! The loss is the sum over filters of `(w - v) H (w - v)^T` with the rebuilt vector `v` and a [`Metric`] `H`. Steps:
//!
//! 1. rows are searched exactly in the metric's diagonal blocks, bases and scales refitted, from several starts;
//! 2. bases are rounded to integers, and from then on every row is what the normative integer rebuild makes of it;
//! 3. with a full metric, rows are chosen one after another and each row's error is fed to those still open (as
//!    GPTQ does, at row granularity), then revisited in turn, each chosen exactly with all others fixed, which can only lower the loss;
//! 4. scales are rounded to what is stored, and the rows searched once more.

mod bases;
mod descent;
mod feedback;
mod finish;
mod search;
mod start;
#[cfg(test)]
mod tests;

use super::codebook::{Codebook, Table};
use super::metric::{Form, Metric};
use feedback::Feedback;
use pulp::Arch;
use rayon::prelude::*;
use sdc_ir::sd::{Decomposed, Format, Geometry};
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
            starts: 8,
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

/// Filters a task works on: what a metric does to a table is worked out once per row and task, and a product with the metric reads all
/// of it once per task. Tensors of many filters are cut into about [`TASKS`].
const FILTERS_PER_TASK: std::ops::RangeInclusive<usize> = 32..=128;
const TASKS: usize = 32;
/// Rows that shared bases are first fitted on, about.
const FIT_ROWS: usize = 8192;
/// Rows of a filter that its first scale is chosen by, about.
const SCALE_ROWS: usize = 24;
/// Rows that decide the starts.
const START_ROWS: usize = 768;
/// Sets of bases whose tables are kept side by side.
const MAX_TABLES: usize = 4;
/// Filters a shared basis is fitted on.
const FIT_FILTERS: usize = 64;
/// Rows whose errors the rows after them hear of together: products of blocks, for which memory is read once.
const TOGETHER: usize = 32;
/// Filter vectors longer than this are descended without feedback, whose factorisation is cubic.
const MAX_FEEDBACK: usize = 1536;

/// Decomposes one tensor in one format. `None` if the format's codes are too many to search.
pub fn solve(problem: &Problem<'_>, format: &Format, effort: &Effort) -> Option<Solved> {
    let book = Codebook::new(format)?;
    let mut run = Run::new(problem, format, &book);
    run.start(effort);
    run.narrow();
    run.pick_scales();
    for _ in 0..effort.alternations {
        run.assign();
        run.rescale();
        run.refit();
    }
    if run.widen() {
        run.pick_scales();
    }
    run.assign();
    run.rescale();
    run.quantise();
    let mut least = run.rescale();
    let mut best = run.state.clone();
    let full = problem.metric.forms.iter().any(|f| matches!(f, Form::Full(_)));
    if full {
        let feedback = (effort.feedback && run.length() <= MAX_FEEDBACK)
            .then(|| Feedback::all(problem.metric, format.s));
        for round in 0..effort.rounds.max(1) {
            let mut loss = f64::INFINITY;
            if let Some(feedback) = &feedback {
                run.feed(feedback);
                loss = run.rescale();
            }
            for _ in 0..effort.descents {
                run.descend();
                loss = run.rescale();
            }
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
    arch: Arch,
    q: usize,
    slices: usize,
    /// Runs of filters with one set of bases and one form.
    cells: Vec<Range<usize>>,
    /// Those worked on: all, or some while shared bases are fitted.
    active: Vec<Range<usize>>,
    /// Per filter: the loss of rebuilding it as zero.
    energies: Vec<f64>,
    state: State,
}

impl<'a> Run<'a> {
    fn new(problem: &'a Problem<'a>, format: &'a Format, book: &'a Codebook) -> Self {
        let (filters, q) = (problem.geometry.filters(), problem.geometry.rows(format.s));
        let per_task = (filters / TASKS).clamp(*FILTERS_PER_TASK.start(), *FILTERS_PER_TASK.end());
        let mut cells: Vec<Range<usize>> = Vec::new();
        for m in 0..filters {
            match cells.last_mut() {
                Some(c)
                    if c.len() < per_task
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
        let energies = energies(problem, &cells, length);
        let state = State {
            scales,
            words: vec![0; filters * q],
            bases: Bases::Real(Vec::new()),
        };
        Self {
            problem,
            format,
            book,
            arch: Arch::new(),
            q,
            slices,
            active: cells.clone(),
            cells,
            energies,
            state,
        }
    }

    /// Leaves only some filters active, if all share their bases and there are more than it takes to fit these.
    fn narrow(&mut self) {
        let per_task = self.cells.first().map_or(1, Range::len).max(1);
        let wanted = (FIT_ROWS / self.q.max(1)).div_ceil(per_task).max(1);
        if self.format.basis_filters >= self.filters() {
            let step = (self.cells.len() / wanted).max(1);
            self.active = self.cells.iter().step_by(step).cloned().collect();
        }
    }

    /// Makes all filters active; true if some were not.
    fn widen(&mut self) -> bool {
        let some = self.active.len() < self.cells.len();
        self.active = self.cells.clone();
        some
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

    /// The tables of all bases, `[ceil(M/H), T]`, of the active filters; empty for others.
    fn tables(&self) -> Vec<Vec<Table>> {
        let mut wanted = vec![false; self.problem.geometry.basis_groups(self.format)];
        for cell in &self.active {
            wanted[cell.start / self.format.basis_filters] = true;
        }
        let groups = wanted.par_iter().enumerate();
        let own = |(g, &wanted): (usize, &bool)| if wanted { self.slice_tables(g) } else { Vec::new() };
        groups.map(own).collect()
    }

    /// The tables of the slices of a set of bases.
    fn slice_tables(&self, group: usize) -> Vec<Table> {
        let slices = group * self.slices..(group + 1) * self.slices;
        let table = |i: usize| match &self.state.bases {
            Bases::Real(b) => self.book.table(&b[i]),
            Bases::Stored(b) => self.book.integer_table(&b[i].0, b[i].1),
        };
        slices.map(table).collect()
    }

    /// Runs `work` on each active cell's filters and tables.
    fn each_cell<T: Send>(&self, work: impl Fn(Range<usize>, &[Table]) -> T + Sync) -> Vec<T> {
        // Many sets of bases: a cell makes its own tables, lest all be in memory at once.
        let few = self.problem.geometry.basis_groups(self.format) <= MAX_TABLES;
        let all = if few { self.tables() } else { Vec::new() };
        let cells = self.active.par_iter().map(|cell| {
            let group = cell.start / self.format.basis_filters;
            match all.get(group) {
                Some(tables) => work(cell.clone(), tables),
                None => work(cell.clone(), &self.slice_tables(group)),
            }
        });
        cells.collect()
    }

    /// The same for work that finds the words of a cell.
    fn each_word(&mut self, work: impl Fn(&Self, Range<usize>, &[Table]) -> Vec<u32> + Sync) {
        let found = self.each_cell(|cell, tables| work(self, cell, tables));
        for (cell, words) in self.active.iter().zip(found) {
            self.state.words[cell.start * self.q..cell.end * self.q].copy_from_slice(&words);
        }
    }

    /// A filter's rebuilt vector in units of its scale.
    fn rebuilt(&self, m: usize, tables: &[Table]) -> Vec<f64> {
        let words = &self.state.words[m * self.q..][..self.q];
        let rows = words.iter().enumerate();
        rows.flat_map(|(q, &word)| tables[q / self.format.slice_rows].row(word))
            .collect()
    }

    /// Per active filter: its number, energy of the rebuilt vector in units of the scale, its product with the target.
    fn sums(&self) -> Vec<(usize, f64, f64)> {
        let cells = self.each_cell(|cell, tables| {
            let rebuilt: Vec<f64> = cell.clone().flat_map(|m| self.rebuilt(m, tables)).collect();
            let shaped = self
                .problem
                .metric
                .form(cell.start)
                .apply_all(&rebuilt, self.length());
            let vectors = rebuilt
                .chunks_exact(self.length())
                .zip(shaped.chunks_exact(self.length()));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            cell.zip(vectors)
                .map(|(m, (v, hv))| (m, dot(v, hv), dot(self.target(m), hv)))
                .collect::<Vec<_>>()
        });
        cells.concat()
    }

    /// The best scale of each filter for its words, and the loss with them.
    fn rescale(&mut self) -> f64 {
        let mut loss = 0.0;
        for (m, energy, cross) in self.sums() {
            if energy > 0.0 && cross > 0.0 {
                self.state.scales[m] = cross / energy;
            }
            loss += self.loss_of(m, energy, cross);
        }
        loss.max(0.0)
    }

    fn loss_of(&self, m: usize, energy: f64, cross: f64) -> f64 {
        let scale = self.state.scales[m];
        self.energies[m] - 2.0 * scale * cross + scale * scale * energy
    }

    fn loss(&self) -> f64 {
        let each = self.sums().into_iter();
        each.map(|(m, energy, cross)| self.loss_of(m, energy, cross))
            .sum::<f64>()
            .max(0.0)
    }
}

/// Per filter: `w H w^T`.
fn energies(problem: &Problem<'_>, cells: &[Range<usize>], length: usize) -> Vec<f64> {
    let found = cells.par_iter().map(|cell| {
        let targets = &problem.rows[cell.start * length..cell.end * length];
        let shaped = problem.metric.form(cell.start).apply_all(targets, length);
        let both = targets.chunks_exact(length).zip(shaped.chunks_exact(length));
        both.map(|(w, hw)| w.iter().zip(hw).map(|(a, b)| a * b).sum())
            .collect::<Vec<f64>>()
    });
    found.collect::<Vec<_>>().concat()
}
