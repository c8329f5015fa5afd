//! How much an error of a filter's vector matters: the second moments of what it is multiplied by.

use nalgebra::{DMatrix, DMatrixView};

/// A quadratic form per group of filters over a filter's vector, padded to whole rows.
///
/// The loss of a filter `w` rebuilt as `v` is `(w - v) H (w - v)^T`.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Consecutive filters that share a form.
    pub filters: usize,
    /// Forms.
    pub forms: Vec<Form>,
}

/// One quadratic form.
#[derive(Clone, Debug)]
pub enum Form {
    /// Only the diagonal is known.
    Diagonal(Vec<f64>),
    /// Symmetric, positive definite.
    Full(DMatrix<f64>),
}

impl Form {
    /// The `s` by `s` block of row `q`, row-major.
    pub fn block(&self, q: usize, s: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| match self {
            Form::Diagonal(d) if i == j => d[i],
            Form::Diagonal(_) => 0.0,
            Form::Full(h) => h[(i, j)],
        };
        (0..s * s).map(|k| at(q * s + k / s, q * s + k % s)).collect()
    }

    /// The diagonal.
    pub fn diagonal(&self) -> Vec<f64> {
        match self {
            Form::Diagonal(d) => d.clone(),
            Form::Full(h) => h.diagonal().iter().copied().collect(),
        }
    }

    /// `x H` for each of several vectors of `length`, one after another.
    pub fn apply_all(&self, x: &[f64], length: usize) -> Vec<f64> {
        match self {
            Form::Diagonal(d) => {
                let each = x.chunks_exact(length).flat_map(|x| x.iter().zip(d));
                each.map(|(x, d)| x * d).collect()
            }
            Form::Full(h) => {
                let x = DMatrixView::from_slice(x, length, x.len() / length);
                (h * x).as_slice().to_vec()
            }
        }
    }

    /// The sum of `x H x^T` over several vectors of `length`, one after another.
    pub fn squares(&self, x: &[f64], length: usize) -> f64 {
        let shaped = self.apply_all(x, length);
        shaped.iter().zip(x).map(|(a, b)| a * b).sum()
    }

    /// Padded with a small weight on the new entries, and with `damping` times the mean of the diagonal added to it.
    fn prepared(self, length: usize, damping: f64) -> Form {
        let diagonal = self.diagonal();
        let mean = diagonal.iter().sum::<f64>() / diagonal.len().max(1) as f64;
        // A layer whose input never moves still needs some answer.
        let extra = if mean > 0.0 { mean * damping.max(1e-9) } else { 1.0 };
        match self {
            Form::Diagonal(mut d) => {
                d.resize(length, 0.0);
                d.iter_mut().for_each(|x| *x += extra);
                Form::Diagonal(d)
            }
            Form::Full(h) => {
                let mut h = h.resize(length, length, 0.0);
                for i in 0..length {
                    h[(i, i)] += extra;
                }
                Form::Full(h)
            }
        }
    }
}

impl Metric {
    /// Plain squared error on vectors of this (padded) length.
    pub fn identity(filters: usize, length: usize) -> Self {
        Self {
            filters: filters.max(1),
            forms: vec![Form::Diagonal(vec![1.0; length])],
        }
    }

    /// Forms made ready for vectors padded to `length`: `damping` is a share of the mean of the diagonal.
    pub fn prepared(self, length: usize, damping: f64) -> Self {
        let forms = self
            .forms
            .into_iter()
            .map(|f| f.prepared(length, damping))
            .collect();
        Self {
            filters: self.filters,
            forms,
        }
    }

    /// Index of the form of a filter.
    pub fn group(&self, filter: usize) -> usize {
        (filter / self.filters).min(self.forms.len() - 1)
    }

    /// The form of a filter.
    pub fn form(&self, filter: usize) -> &Form {
        &self.forms[self.group(filter)]
    }
}
impl Metric {
    /// The metric of some of the filters, as if they were all.
    pub fn chosen(&self, filters: &[usize]) -> Self {
        if self.forms.len() == 1 {
            return Self {
                filters: filters.len().max(1),
                forms: self.forms.clone(),
            };
        }
        Self {
            filters: 1,
            forms: filters.iter().map(|&m| self.form(m).clone()).collect(),
        }
    }

    /// The metric of some positions of the vectors, all others exact.
    pub fn restricted(&self, positions: &[usize]) -> Self {
        let restrict = |form: &Form| match form {
            Form::Diagonal(d) => Form::Diagonal(positions.iter().map(|&i| d[i]).collect()),
            Form::Full(h) => Form::Full(DMatrix::from_fn(positions.len(), positions.len(), |i, j| {
                h[(positions[i], positions[j])]
            })),
        };
        Self {
            filters: self.filters,
            forms: self.forms.iter().map(restrict).collect(),
        }
    }

    /// Diagonal forms, levelled over the whole vector: what a first look needs, with one table for all rows.
    pub fn flat(&self) -> Self {
        let level = |form: &Form| {
            let d = form.diagonal();
            let mean = d.iter().sum::<f64>() / d.len().max(1) as f64;
            Form::Diagonal(vec![mean; d.len()])
        };
        Self {
            filters: self.filters,
            forms: self.forms.iter().map(level).collect(),
        }
    }
}
