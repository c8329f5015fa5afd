//! Bases: least squares in the whole metric, and rounding to what is stored.

use super::{Bases, FIT_FILTERS, Run};
use crate::decompose::codebook::Table;
use crate::decompose::linalg;
use crate::decompose::metric::Form;
use nalgebra::DMatrix;
use rayon::prelude::*;
use std::ops::Range;

impl Run<'_> {
    /// The best real bases for words and scales, in the whole metric.
    pub(super) fn refit(&mut self) {
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

    pub(super) fn real_bases(&self) -> Vec<Vec<f64>> {
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
    pub(super) fn fit_bases(&self, members: Range<usize>, old: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (s, r, length) = (self.format.s, self.format.r, self.length());
        let unknowns = self.slices * r * s;
        let active = self.active.iter().flat_map(|cell| cell.clone());
        let active: Vec<usize> = active.filter(|m| members.contains(m)).collect();
        let step = active.len().div_ceil(FIT_FILTERS).max(1);
        let chosen: Vec<usize> = active.into_iter().step_by(step).collect();
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
    pub(super) fn add_normal_equations(
        &self,
        m: usize,
        gram: &mut DMatrix<f64>,
        right: &mut [f64],
        length: usize,
    ) {
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
                let column = &mut shaped.as_mut_slice()[(unknown + j) * length..][..length];
                match form {
                    Form::Diagonal(d) => column[at + j] += v * d[at + j],
                    Form::Full(h) => {
                        let from = &h.as_slice()[(at + j) * length..][..length];
                        linalg::add_times(self.arch, column, v, from);
                    }
                }
            }
        }
        let unknowns = gram.nrows();
        // By position, so that each is read in one piece.
        let turned = shaped.transpose();
        for &(at, unknown, v) in &entries {
            for j in 0..s {
                let column = &mut gram.as_mut_slice()[(unknown + j) * unknowns..][..unknowns];
                linalg::add_times(
                    self.arch,
                    column,
                    v,
                    &turned.as_slice()[(at + j) * unknowns..][..unknowns],
                );
            }
        }
        for (b, column) in right.iter_mut().zip(shaped.column_iter()) {
            *b += column.iter().zip(w).map(|(a, b)| a * b).sum::<f64>();
        }
    }

    /// Rounds the bases to what is stored, moving the units so that the largest rebuilt weight fills an `i8`.
    pub(super) fn quantise(&mut self) {
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
}
