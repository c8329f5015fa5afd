//! One layer solved in the form chosen for it, its bias corrected.

use super::inputs::padded;
use super::int8::int8;
use super::int8::scale_type;
use super::{Inputs, Run};
use crate::decompose::allocate::{Candidate, Offer, float_bytes};
use crate::decompose::layers::Layer;
use crate::decompose::metric::{Form, Metric};
use crate::decompose::moments::Moments;
use crate::decompose::solve::{Effort, Problem, Solved, solve};
use crate::decompose::{Choice, DecomposeError, LayerResult, Solver, linalg};
use nalgebra::DMatrix;
use rayon::prelude::*;
use sdc_interp::EvalError;
use sdc_ir::graph::Value;
use sdc_ir::sd::{Format, Geometry, Stored};

/// Tensors that take more products than this for a look at all rows and words get one round of the solver.
const LARGE_PASS: f64 = 1.5e9;

impl Run<'_> {
    /// Solves a layer in the form chosen.
    pub(super) fn settle(
        &self,
        l: usize,
        offer: &Offer,
        offers: &[Offer],
        inputs: &Inputs,
        moments: Option<&Moments>,
        kept: Option<&[bool]>,
    ) -> Result<LayerResult, DecomposeError> {
        let layer = &self.layers[l];
        let geometry = &layer.geometry;
        let share = self.mean_share(l);
        let measured = moments.filter(|m| m.count > 0.0);
        let weighted = self.options.solver == Solver::Feedback;
        let raw = measured.filter(|_| weighted).map(|m| m.metric(share));
        let raw = raw.as_ref().or(inputs.metrics[l].as_ref());
        let target = match (measured, raw) {
            (Some(m), Some(raw)) if weighted && m.cross.nrows() > 0 => self.retarget(l, m, raw, share),
            _ => self.rows[l].clone(),
        };
        if target.iter().any(|x| !x.is_finite()) {
            return Err(DecomposeError::NotFinite(layer.name()));
        }
        let (choice, sqnr, density) = match &offer.candidate {
            Candidate::Float => (Choice::Float, f64::INFINITY, 1.0),
            Candidate::Int8 => {
                let stored = Stored::Int8(int8(geometry, &target, scale_type(geometry, &self.rows[l])));
                let loss = self.relative_loss(l, inputs, &stored)?;
                (Choice::Stored(stored), -10.0 * loss.max(1e-20).log10(), 1.0)
            }
            Candidate::Sd(format) => {
                let metric = self.metric(l, raw, format.s);
                let rows = padded(&target, geometry, format.s);
                let problem = Problem {
                    geometry,
                    rows: &rows,
                    metric: &metric,
                    kept,
                };
                let mut effort = Effort {
                    feedback: weighted,
                    seed: self.options.seed,
                    ..Effort::default()
                };
                if pass(geometry, format) > LARGE_PASS {
                    effort.rounds = 1;
                }
                let Solved { weight, loss, energy } =
                    solve(&problem, format, &effort).expect("only searchable formats are offered");
                let stored_rows = sdc_ir::sd::stored_rows(&weight) as f64;
                let density = stored_rows / (geometry.filters() * geometry.rows(format.s)) as f64;
                let db = 10.0 * (energy / loss.max(f64::MIN_POSITIVE)).log10();
                (Choice::Stored(Stored::Sd(weight)), db, density)
            }
        };
        let bias = match (&choice, self.biases[l]) {
            (Choice::Stored(stored), Some(value)) => {
                let dense = stored.dequantised()?;
                let rebuilt = geometry.gather(&dense.elements::<f32>().map_err(EvalError::from)?, 1);
                match (measured, &inputs.means[l]) {
                    (Some(m), _) if m.cross.nrows() > 0 => {
                        Some((value, self.measured_bias(value, &rebuilt, m)?))
                    }
                    (_, Some(means)) => Some((value, self.shifted_bias(l, value, &rebuilt, means)?)),
                    _ => None,
                }
            }
            _ => None,
        };
        Ok(LayerResult {
            node: layer.users[0],
            weight: layer.weight,
            origins: layer.origins.clone(),
            shape: geometry.shape.clone(),
            bytes: match &choice {
                Choice::Stored(stored) => stored.packed_len(),
                Choice::Float => float_bytes(geometry, layer.groups),
            },
            choice,
            bias,
            sqnr_db: sqnr,
            output_error: Some(offer.loss),
            density,
            why: explain(layer, offer, offers),
        })
    }

    /// `b + (W - V) mu`.
    pub(super) fn shifted_bias(
        &self,
        l: usize,
        value: Value,
        rebuilt: &[f32],
        means: &[f64],
    ) -> Result<Vec<f32>, DecomposeError> {
        let bias = self
            .graph
            .constant(value)
            .expect("biases are constants")
            .elements::<f32>()
            .map_err(EvalError::from)?;
        let (length, per_group) = (
            self.layers[l].geometry.vector_len(),
            self.layers[l].geometry.filters() / self.layers[l].groups,
        );
        let filters = self.rows[l]
            .chunks(length)
            .zip(rebuilt.chunks(length))
            .enumerate();
        let shifts = filters.map(|(m, (w, v))| {
            let mean = &means[m / per_group * length..][..length];
            w.iter()
                .zip(v)
                .zip(mean)
                .map(|((w, v), mu)| f64::from(w - v) * mu)
                .sum::<f64>()
        });
        Ok(bias
            .iter()
            .zip(shifts)
            .map(|(&b, s)| (f64::from(b) + s) as f32)
            .collect())
    }

    /// The bias that makes the layer's mean sums those wanted: `b + mean(t) - V mean(x)`.
    pub(super) fn measured_bias(
        &self,
        value: Value,
        rebuilt: &[f32],
        m: &Moments,
    ) -> Result<Vec<f32>, DecomposeError> {
        let bias = self
            .graph
            .constant(value)
            .expect("biases are constants")
            .elements::<f32>()
            .map_err(EvalError::from)?;
        let (length, means) = (m.length, m.means());
        let per_group = m.target_sum.len() / m.groups;
        let filters = rebuilt.chunks(length).zip(&m.target_sum).enumerate();
        let shifts = filters.map(|(i, (v, t))| {
            let mean = &means[i / per_group * length..][..length];
            t / m.count - v.iter().zip(mean).map(|(&v, mu)| f64::from(v) * mu).sum::<f64>()
        });
        Ok(bias
            .iter()
            .zip(shifts)
            .map(|(&b, s)| (f64::from(b) + s) as f32)
            .collect())
    }

    /// The weights that would best produce the wanted sums from the inputs as they are now, drawn to the original ones where
    /// the inputs say little: `(C + ridge w)(H + ridge)^-1`.
    pub(super) fn retarget(&self, l: usize, m: &Moments, raw: &Metric, share: f64) -> Vec<f32> {
        let (length, filters, means) = (m.length, m.target_sum.len(), m.means());
        let per_group = filters / m.groups;
        let solved: Vec<Vec<f32>> = raw
            .forms
            .par_iter()
            .enumerate()
            .map(|(g, form)| {
                let own = &self.rows[l][g * per_group * length..][..per_group * length];
                let Form::Full(h) = form else { return own.to_vec() };
                let ridge = (h.trace() / length as f64 * self.damping()).max(1e-12);
                let system = h + DMatrix::identity(length, length) * ridge;
                let mean = &means[g * length..][..length];
                let right = DMatrix::from_fn(length, per_group, |i, j| {
                    let f = g * per_group + j;
                    let cross =
                        m.cross[(i, f)] / m.count - (1.0 - share) * mean[i] * m.target_sum[f] / m.count;
                    cross + ridge * f64::from(own[j * length + i])
                });
                linalg::factor(&system)
                    .solve(right)
                    .iter()
                    .map(|&x| x as f32)
                    .collect()
            })
            .collect();
        solved.concat()
    }
}

/// Products of one look at all rows and words of a tensor.
fn pass(geometry: &Geometry, format: &Format) -> f64 {
    let words = (format.levels() as f64).powi(format.r as i32);
    (geometry.filters() * geometry.rows(format.s) * format.s) as f64 * words
}

/// Why a layer got its form, for people.
pub(super) fn explain(layer: &Layer, offer: &Offer, offers: &[Offer]) -> String {
    let smaller = offers
        .iter()
        .filter(|o| o.bytes < offer.bytes)
        .min_by(|a, b| a.loss.total_cmp(&b.loss));
    let larger = offers
        .iter()
        .filter(|o| o.bytes > offer.bytes && o.loss < offer.loss)
        .min_by_key(|o| o.bytes);
    let mut text = match &offer.candidate {
        Candidate::Float => "kept float".to_owned(),
        Candidate::Int8 => "kept int8".to_owned(),
        Candidate::Sd(_) => format!(
            "{} at {:.2} bits a weight",
            offer.candidate.describe(),
            8.0 * offer.bytes as f64 / layer.len() as f64
        ),
    };
    if let Some(s) = smaller {
        text += &format!(
            ": {} would save {} bytes and raise the predicted output error from {:.2e} to {:.2e}",
            s.candidate.describe(),
            offer.bytes - s.bytes,
            offer.loss,
            s.loss
        );
    } else {
        text += ": nothing offered is smaller";
    }
    if let Some(g) = larger {
        text += &format!(
            "; {} would take {} bytes more for {:.2e}",
            g.candidate.describe(),
            g.bytes - offer.bytes,
            g.loss
        );
    }
    text
}
