//! What each form of a layer costs, in bytes and in error at the outputs, and which is taken.

use super::inputs::padded;
use super::int8::int8;
use super::int8::scale_type;
use super::{Inputs, PRICE_CHUNK, PRICE_CHUNKS, PRICE_FILTERS, PRUNED_ROW, Probe, Run, SMALL_VECTOR};
use crate::decompose::DecomposeError;
use crate::decompose::allocate::{Candidate, Offer, Wish, bytes, formats, within_bytes, within_loss};
use crate::decompose::calibrate::relative_error;
use crate::decompose::evaluate::Evaluator;
use crate::decompose::metric::Metric;
use crate::decompose::solve::{Effort, Problem, solve};
use rayon::prelude::*;
use sdc_interp::EvalError;
use sdc_ir::Tensor;
use sdc_ir::sd::{Format, Geometry, Index, Stored};

/// Filters whose loss is summed together: a metric is read once for all of them.
const LOSS_FILTERS: usize = 256;

impl Run<'_> {
    /// What each form of a layer costs, in bytes and in error at the outputs.
    pub(super) fn offers(
        &self,
        l: usize,
        inputs: &Inputs,
        float: &Evaluator<'_>,
        probe: &Probe,
        kept: Option<&[bool]>,
    ) -> Result<Vec<Offer>, DecomposeError> {
        let geometry = &self.layers[l].geometry;
        let scale = scale_type(geometry, &self.rows[l]);
        let prices = self.sampled_losses(l, inputs, kept);
        // How an error of this layer reaches the outputs: a middling form is tried on the whole network, the others scale with it.
        let eight = Stored::Int8(int8(geometry, &self.rows[l], scale));
        let eight_loss = self.relative_loss(l, inputs, &eight)?;
        let middle = prices
            .iter()
            .find(|(f, _)| f.s == 3 && f.r == 3)
            .or(prices.last());
        let mut offers: Vec<(Candidate, f64)> = Vec::new();
        let tried = match middle {
            Some((format, price)) => self.middling(l, inputs, format).map(|stored| (stored, *price)),
            None => None,
        };
        match tried {
            Some((stored, price)) => {
                let error = self.output_error(l, inputs, float, probe, &stored)?;
                let loss = self.relative_loss(l, inputs, &stored)?.max(1e-12);
                let each = prices
                    .into_iter()
                    .map(|(f, p)| (Candidate::Sd(f), error * p / price.max(1e-12)));
                offers.extend(each);
                offers.push((Candidate::Int8, error * eight_loss / loss));
            }
            None => offers.push((
                Candidate::Int8,
                self.output_error(l, inputs, float, probe, &eight)?,
            )),
        }
        offers.push((Candidate::Float, 0.0));
        let offers = offers.into_iter().map(|(candidate, loss)| Offer {
            bytes: self.aligned(bytes(geometry, &candidate, scale, self.layers[l].groups)),
            loss,
            candidate,
        });
        Ok(offers.collect())
    }

    /// Relative loss of some filters of a layer in each form it may have.
    fn sampled_losses(&self, l: usize, inputs: &Inputs, kept: Option<&[bool]>) -> Vec<(Format, f64)> {
        let geometry = &self.layers[l].geometry;
        let scale = scale_type(geometry, &self.rows[l]);
        let index = kept.map_or(Index::None, |_| Index::Rows(self.options.pattern_filters.max(1)));
        let sample = sampled(geometry, self.layers[l].groups);
        let effort = Effort {
            starts: 2,
            alternations: 2,
            feedback: false,
            descents: 1,
            rounds: 1,
            seed: self.options.seed,
        };
        let mut list: Vec<Format> = formats(geometry, index, scale);
        // Filters with inputs of their own and a few weights each: a basis would cost more than it saves.
        if self.layers[l].groups > 1 && geometry.vector_len() <= SMALL_VECTOR {
            list.clear();
        }
        if kept.is_some() {
            list.retain(|f| f.s == PRUNED_ROW);
        }
        let raw = inputs.metrics[l]
            .as_ref()
            .map(|m| m.chosen(&sample.filters).restricted(&sample.positions));
        let picked = sample.pick(&self.rows[l], geometry.vector_len());
        list.into_par_iter()
            .filter_map(|format| {
                let length = sample.geometry.rows(format.s) * format.s;
                let metric = match &raw {
                    Some(m) => m.clone().prepared(length, self.damping()),
                    None => Metric::identity(sample.filters.len(), length),
                };
                let rows = padded(&picked, &sample.geometry, format.s);
                let trial = Format {
                    basis_filters: sample.filters.len(),
                    index: Index::None,
                    ..format.clone()
                };
                let problem = Problem {
                    geometry: &sample.geometry,
                    rows: &rows,
                    metric: &metric,
                    kept: None,
                };
                let solved = solve(&problem, &trial, &effort)?;
                Some((format, solved.loss / solved.energy.max(f64::MIN_POSITIVE)))
            })
            .collect()
    }

    /// A layer in a form, found with little effort.
    fn middling(&self, l: usize, inputs: &Inputs, format: &Format) -> Option<Stored> {
        let geometry = &self.layers[l].geometry;
        let effort = Effort {
            starts: 1,
            alternations: 1,
            feedback: false,
            descents: 0,
            rounds: 1,
            seed: self.options.seed,
        };
        let metric = self.metric(l, inputs.metrics[l].as_ref(), format.s).flat();
        let rows = padded(&self.rows[l], geometry, format.s);
        let plain = Format {
            index: Index::None,
            ..format.clone()
        };
        let problem = Problem {
            geometry,
            rows: &rows,
            metric: &metric,
            kept: None,
        };
        solve(&problem, &plain, &effort).map(|solved| Stored::Sd(solved.weight))
    }

    /// Squared error of a stored form over the energy of the weights, in the layer's metric.
    pub(super) fn relative_loss(
        &self,
        l: usize,
        inputs: &Inputs,
        stored: &Stored,
    ) -> Result<f64, DecomposeError> {
        let geometry = &self.layers[l].geometry;
        let metric = self.metric(l, inputs.metrics[l].as_ref(), 1);
        let dense = stored.dequantised()?;
        let rebuilt = geometry.gather(&dense.elements::<f32>().map_err(EvalError::from)?, 1);
        let length = geometry.vector_len();
        // Filters of one form at a time.
        let run = if metric.forms.len() == 1 {
            LOSS_FILTERS
        } else {
            metric.filters
        };
        let sums: Vec<(f64, f64)> = self.rows[l]
            .par_chunks(run * length)
            .zip(rebuilt.par_chunks(run * length))
            .enumerate()
            .map(|(i, (w, v))| {
                let form = metric.form(i * run);
                let w: Vec<f64> = w.iter().map(|&x| f64::from(x)).collect();
                let gap: Vec<f64> = w.iter().zip(v).map(|(w, &v)| w - f64::from(v)).collect();
                (form.squares(&gap, length), form.squares(&w, length))
            })
            .collect();
        let (loss, energy) = sums.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Ok(loss / f64::max(energy, f64::MIN_POSITIVE))
    }

    /// Measured error at the outputs when this layer alone is replaced, its bias corrected for the mean.
    pub(super) fn output_error(
        &self,
        l: usize,
        inputs: &Inputs,
        float: &Evaluator<'_>,
        probe: &Probe,
        stored: &Stored,
    ) -> Result<f64, DecomposeError> {
        let mut trial = float.clone();
        let dense = stored.dequantised()?;
        if let (Some(value), Some(means)) = (self.biases[l], &inputs.means[l]) {
            let rebuilt = self.layers[l]
                .geometry
                .gather(&dense.elements::<f32>().map_err(EvalError::from)?, 1);
            let bias = self.shifted_bias(l, value, &rebuilt, means)?;
            let shape = self.graph.ty(value).sizes().to_vec();
            trial.replace(
                value,
                Tensor::from_elements(shape, bias).map_err(EvalError::from)?,
            );
        }
        trial.replace(self.layers[l].weight, dense);
        let actual = probe.walk.outputs(&trial, &probe.wanted)?;
        Ok(relative_error(&probe.exact, &actual))
    }

    pub(super) fn choose(&self, offers: &[Vec<Offer>]) -> Result<Vec<usize>, DecomposeError> {
        let limit = match self.options.wish {
            Wish::Ratio(ratio) => self.sizes.float_bytes as f64 / ratio,
            Wish::Bits(bits) => self.sizes.float_bytes as f64 / 32.0 * bits,
            Wish::Size(bytes) => bytes as f64,
            Wish::Budget(budget) => return Ok(within_loss(offers, budget)),
            Wish::Density(_) => {
                // The quality of the published four bits: the best format whose rows take no more.
                let best = |own: &Vec<Offer>| {
                    let fits =
                        |o: &Offer| matches!(&o.candidate, Candidate::Sd(f) if f.row_bits() <= 4 * f.s);
                    let all = own.iter().enumerate().filter(|(_, o)| fits(o));
                    all.min_by(|a, b| a.1.loss.total_cmp(&b.1.loss))
                        .map_or(own.len() - 1, |b| b.0)
                };
                return Ok(offers.iter().map(best).collect());
            }
        } as usize;
        let chosen = limit
            .checked_sub(self.fixed)
            .and_then(|rest| within_bytes(offers, rest));
        chosen.ok_or_else(|| {
            let least: usize = offers
                .iter()
                .filter_map(|own| own.iter().map(|o| o.bytes).min())
                .sum();
            DecomposeError::TooSmall {
                wanted: limit,
                least: self.fixed + least,
                fixed: self.fixed,
            }
        })
    }
}

/// Some filters and some positions of a tensor, evenly chosen: enough to compare formats.
struct Sampled {
    filters: Vec<usize>,
    positions: Vec<usize>,
    geometry: Geometry,
}

fn sampled(geometry: &Geometry, groups: usize) -> Sampled {
    let (all, length) = (geometry.filters(), geometry.vector_len());
    let most = if groups > 1 {
        4 * PRICE_FILTERS
    } else {
        PRICE_FILTERS
    };
    let filters: Vec<usize> = (0..all).step_by(all.div_ceil(most).max(1)).collect();
    let chunks = length.div_ceil(PRICE_CHUNK);
    let step = chunks.div_ceil(PRICE_CHUNKS).max(1);
    let positions: Vec<usize> = (0..chunks)
        .step_by(step)
        .flat_map(|c| c * PRICE_CHUNK..((c + 1) * PRICE_CHUNK).min(length))
        .collect();
    let geometry = Geometry::leading(&[filters.len(), positions.len()], 1);
    Sampled {
        filters,
        positions,
        geometry,
    }
}

impl Sampled {
    fn pick(&self, rows: &[f32], length: usize) -> Vec<f32> {
        let filters = self.filters.iter();
        filters
            .flat_map(|&m| self.positions.iter().map(move |&i| rows[m * length + i]))
            .collect()
    }
}
