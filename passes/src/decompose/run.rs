//! From a graph and a wish to a plan.

use super::allocate::{Candidate, Offer, Wish, bytes, formats, within_bytes, within_loss};
use super::analytic;
use super::calibrate::{Samples, all_layers, measured, one_layer, outputs, relative_error};
use super::evaluate::Evaluator;
use super::layers::{Layer, layers};
use super::metric::{Form, Metric};
use super::moments::Moments;
use super::solve::{Effort, Problem, Solved, solve};
use super::synthetic::Synthetic;
use super::{
    Choice, DecomposeError, LayerResult, Options, Plan, Progress, Solver, Totals, linalg, prune, released,
};
use nalgebra::DMatrix;
use rayon::prelude::*;
use sdc_interp::EvalError;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Op, Value};
use sdc_ir::sd::{Format, Geometry, Index, Int8, Stored};
use sdc_ir::{DType, Tensor};

/// Samples that prices and sensitivities are measured on.
const PRICE_SAMPLES: usize = 48;
const OUTPUT_SAMPLES: usize = 24;
/// Filters that prices are measured on.
const PRICE_FILTERS: usize = 32;
/// Stretches of a filter's vector that prices are measured on, and entries of one: whole rows of most widths.
const PRICE_CHUNKS: usize = 4;
const PRICE_CHUNK: usize = 24;
/// Share of the mean's square in a layer's metric when its bias is free to make up for the mean.
const MEAN_SHARE: f64 = 0.02;
/// Ridge on metrics, as a share of the mean of the diagonal: measured on real inputs, on made-up ones, derived.
const DAMPING: f64 = 0.01;
const DAMPING_MADE_UP: f64 = 0.05;
/// Multiplications the layer-by-layer measurement may cost; with fewer than `LEAST_SAMPLES` affordable, one pass has to do.
const MEASURE_BUDGET: f64 = 0.6e12;
const LEAST_SAMPLES: usize = 8;

/// Decomposes the weights of a graph after fusion.
///
/// # Errors
/// See [`DecomposeError`]; among them a wish that cannot be met.
pub fn run(
    graph: &Graph,
    options: &Options<'_>,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Plan, DecomposeError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build();
    let pool = pool.map_err(|e| DecomposeError::Threads(e.to_string()))?;
    pool.install(|| Run::new(graph, options)?.plan(progress))
}

struct Run<'a> {
    graph: &'a Graph,
    options: &'a Options<'a>,
    layers: Vec<Layer>,
    /// Float weights, `[M, V]`.
    rows: Vec<Vec<f32>>,
    /// Each layer's bias constant, if it has one of its own.
    biases: Vec<Option<Value>>,
    made_up: Synthetic,
    sizes: Totals,
    /// Bytes that are not layers' weights.
    fixed: usize,
}

/// What the layers' inputs look like, before the layers before them have changed.
struct Inputs {
    metrics: Vec<Option<Metric>>,
    means: Vec<Option<Vec<f64>>>,
}

impl<'a> Run<'a> {
    fn new(graph: &'a Graph, options: &'a Options<'a>) -> Result<Self, DecomposeError> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let sane = match options.wish {
            Wish::Ratio(x) | Wish::Bits(x) | Wish::Budget(x) => positive(x),
            Wish::Density(x) => positive(x) && x <= 1.0,
            Wish::Size(x) => x > 0,
        };
        if !sane {
            return Err(DecomposeError::Wish(options.wish));
        }
        let layers = layers(graph);
        if layers.is_empty() {
            return Err(DecomposeError::NoLayers);
        }
        let mut rows = Vec::with_capacity(layers.len());
        for layer in &layers {
            let tensor = graph.constant(layer.weight).expect("layers are constants");
            let dense = tensor.elements::<f32>().map_err(EvalError::from)?;
            if dense.iter().any(|x| !x.is_finite()) {
                return Err(DecomposeError::NotFinite(layer.name()));
            }
            rows.push(layer.geometry.gather(&dense, 1));
        }
        let uses = graph.uses();
        let biases = layers
            .iter()
            .map(|layer| {
                let [user] = layer.users[..] else { return None };
                let data = &graph.nodes()[user];
                let has = match &data.op {
                    Op::Conv(c) => c.bias,
                    Op::ConvTranspose(c) => c.bias,
                    Op::MatMul(m) => m.bias,
                    _ => false,
                };
                let value = *data.inputs.get(2).filter(|_| has)?;
                let own = uses[value.index()].len() == 1 && !graph.is_output(value);
                let fits = graph.ty(value).elements() == Some(layer.geometry.filters());
                (own && fits && graph.constant(value).is_some()).then_some(value)
            })
            .collect();
        let (mut all, mut fixed) = (0, options.header_bytes);
        let live = graph.live_nodes();
        for (n, data) in graph.nodes().iter().filter(|(n, _)| live[n.index()]) {
            let (Op::Constant(_), &[value]) = (&graph.nodes()[n].op, &data.outputs[..]) else {
                continue;
            };
            let ty = graph.ty(value);
            if ty.dtype == DType::F32 {
                all += ty.bytes().unwrap_or(0);
            }
            if layers.iter().all(|l| l.weight != value) {
                fixed += ty.bytes().unwrap_or(0).next_multiple_of(options.alignment.max(1));
            }
        }
        let samples = options.samples.clamp(1, 64);
        let made_up = Synthetic::new(
            graph,
            samples,
            options.input_mean,
            options.input_deviation,
            options.seed,
        );
        let sizes = Totals {
            float_bytes: all,
            bytes: 0,
        };
        Ok(Self {
            graph,
            options,
            layers,
            rows,
            biases,
            made_up,
            sizes,
            fixed,
        })
    }

    fn samples(&self) -> &dyn Samples {
        self.options.calibration.unwrap_or(&self.made_up)
    }
    fn aligned(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.options.alignment.max(1))
    }

    fn plan(&self, progress: &mut (dyn FnMut(Progress<'_>) + Send)) -> Result<Plan, DecomposeError> {
        let report = |progress: &mut (dyn FnMut(Progress<'_>) + Send), stage, done: usize| {
            let name = self.layers.get(done).map(Layer::name).unwrap_or_default();
            progress(Progress {
                stage,
                done,
                total: self.layers.len(),
                layer: &name,
            });
        };
        if let Solver::Released(options) = &self.options.solver {
            return self.released(options, progress);
        }
        report(progress, "measure", 0);
        let float = Evaluator::new(self.graph);
        let inputs = self.inputs(&float)?;
        let kept = self.patterns(&inputs);
        let mut offers = Vec::with_capacity(self.layers.len());
        let wanted = measured(self.graph);
        let exact = outputs(&float, &wanted, self.samples(), OUTPUT_SAMPLES)?;
        for l in 0..self.layers.len() {
            report(progress, "price", l);
            offers.push(self.offers(
                l,
                &inputs,
                &float,
                &exact,
                &wanted,
                kept.as_ref().map(|k| k[l].as_slice()),
            )?);
        }
        let chosen = self.choose(&offers)?;
        let mut compressed = float.clone();
        let mut plan = Plan {
            layers: Vec::new(),
            totals: self.sizes,
        };
        let affordable = self.affordable_samples();
        for (l, layer) in self.layers.iter().enumerate() {
            report(progress, "solve", l);
            let offer = &offers[l][chosen[l]];
            let moments = match self.options.solver {
                Solver::Feedback | Solver::RowSearch if affordable >= LEAST_SAMPLES => Some(one_layer(
                    self.graph,
                    (&float, &compressed),
                    layer,
                    &self.rows[l],
                    self.samples(),
                    affordable,
                )?),
                _ => None,
            };
            let pattern = kept.as_ref().map(|k| k[l].as_slice());
            let result = self.settle(l, offer, &offers[l], &inputs, moments.as_ref(), pattern)?;
            if let Choice::Stored(stored) = &result.choice {
                compressed.replace(layer.weight, stored.dequantised()?);
            }
            if let Some((value, bias)) = &result.bias {
                let shape = self.graph.ty(*value).shape.clone();
                let tensor = Tensor::from_elements(shape, bias.clone()).map_err(EvalError::from)?;
                compressed.replace(*value, tensor);
            }
            plan.layers.push(result);
        }
        plan.totals.bytes = self.fixed + plan.layers.iter().map(|l| self.aligned(l.bytes)).sum::<usize>();
        Ok(plan)
    }

    /// Moments of all layers in the float network, as the solver wants them.
    fn inputs(&self, float: &Evaluator<'_>) -> Result<Inputs, DecomposeError> {
        if self.options.solver == Solver::Curvature {
            let derived = analytic::moments(
                self.graph,
                &self.layers,
                self.options.input_mean,
                self.options.input_deviation,
            );
            let (mut metrics, mut means) = (Vec::new(), Vec::new());
            for (l, found) in derived.into_iter().enumerate() {
                let share = if self.biases[l].is_some() { 0.1 } else { 1.0 };
                metrics.push(
                    found
                        .as_ref()
                        .map(|m| m.metric(share, self.layers[l].geometry.filters())),
                );
                means.push(found.map(|m| m.means));
            }
            return Ok(Inputs { metrics, means });
        }
        let limit = self.options.samples.min(PRICE_SAMPLES);
        let found = all_layers(self.graph, float, &self.layers, self.samples(), limit)?;
        let (mut metrics, mut means) = (Vec::new(), Vec::new());
        for (l, m) in found.iter().enumerate() {
            let seen = m.count > 0.0;
            metrics.push(
                (seen && self.options.solver == Solver::Feedback).then(|| m.metric(self.mean_share(l))),
            );
            means.push(seen.then(|| m.means()));
        }
        Ok(Inputs { metrics, means })
    }

    fn mean_share(&self, l: usize) -> f64 {
        if self.biases[l].is_some() { MEAN_SHARE } else { 1.0 }
    }

    fn damping(&self) -> f64 {
        if self.options.calibration.is_some() {
            DAMPING
        } else {
            DAMPING_MADE_UP
        }
    }

    /// A metric for rows of `s`, ready to use.
    fn metric(&self, l: usize, raw: Option<&Metric>, s: usize) -> Metric {
        let geometry = &self.layers[l].geometry;
        let length = geometry.rows(s) * s;
        match raw {
            Some(m) => m.clone().prepared(length, self.damping()),
            None => Metric::identity(geometry.filters(), length),
        }
    }

    /// Rows kept per layer, if the wish is about density.
    fn patterns(&self, inputs: &Inputs) -> Option<Vec<Vec<bool>>> {
        let Wish::Density(density) = self.options.wish else {
            return None;
        };
        let shared = self.options.pattern_filters.max(1);
        let costs: Vec<Vec<f64>> = (0..self.layers.len())
            .map(|l| {
                let s = PRUNED_ROW;
                let geometry = &self.layers[l].geometry;
                let metric = self.metric(l, inputs.metrics[l].as_ref(), s);
                let rows = padded(&self.rows[l], geometry, s);
                let mut costs = prune::costs(geometry, &rows, s, &metric, shared);
                // Relative to the layer's own signal: a layer's error matters in proportion to what it drowns.
                let energy: f64 = costs.iter().sum::<f64>().max(f64::MIN_POSITIVE);
                costs.iter_mut().for_each(|c| *c /= energy);
                costs
            })
            .collect();
        let kept = match &self.options.densities {
            None => prune::global(&costs, density),
            Some(each) => costs
                .iter()
                .enumerate()
                .map(|(l, c)| {
                    prune::global(std::slice::from_ref(c), each.get(l).copied().unwrap_or(1.0)).concat()
                })
                .collect(),
        };
        Some(kept)
    }

    /// What each form of a layer costs, in bytes and in error at the outputs.
    fn offers(
        &self,
        l: usize,
        inputs: &Inputs,
        float: &Evaluator<'_>,
        exact: &[Vec<Vec<f32>>],
        wanted: &[Value],
        kept: Option<&[bool]>,
    ) -> Result<Vec<Offer>, DecomposeError> {
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
        if kept.is_some() {
            list.retain(|f| f.s == PRUNED_ROW);
        }
        let raw = inputs.metrics[l]
            .as_ref()
            .map(|m| m.chosen(&sample.filters).restricted(&sample.positions));
        let picked = sample.pick(&self.rows[l], geometry.vector_len());
        let prices: Vec<(Format, f64)> = list
            .into_par_iter()
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
            .collect();
        // How an error of this layer reaches the outputs: a middling form is tried on the whole network, the others scale with it.
        let eight = Stored::Int8(int8(geometry, &self.rows[l], scale));
        let eight_loss = self.relative_loss(l, inputs, &eight)?;
        let middle = prices
            .iter()
            .find(|(f, _)| f.s == 3 && f.r == 3)
            .or(prices.last());
        let mut offers: Vec<(Candidate, f64)> = Vec::new();
        let tried = match middle {
            Some((format, price)) => {
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
                solve(&problem, &plain, &effort).map(|solved| (Stored::Sd(solved.weight), *price))
            }
            None => None,
        };
        match tried {
            Some((stored, price)) => {
                let error = self.output_error(l, inputs, float, exact, wanted, &stored)?;
                let loss = self.relative_loss(l, inputs, &stored)?.max(1e-12);
                let each = prices
                    .into_iter()
                    .map(|(f, p)| (Candidate::Sd(f), error * p / price.max(1e-12)));
                offers.extend(each);
                offers.push((Candidate::Int8, error * eight_loss / loss));
            }
            None => offers.push((
                Candidate::Int8,
                self.output_error(l, inputs, float, exact, wanted, &eight)?,
            )),
        }
        offers.push((Candidate::Float, 0.0));
        let offers = offers.into_iter().map(|(candidate, loss)| Offer {
            bytes: self.aligned(bytes(geometry, &candidate, scale)),
            loss,
            candidate,
        });
        Ok(offers.collect())
    }

    /// Squared error of a stored form over the energy of the weights, in the layer's metric.
    fn relative_loss(&self, l: usize, inputs: &Inputs, stored: &Stored) -> Result<f64, DecomposeError> {
        let geometry = &self.layers[l].geometry;
        let metric = self.metric(l, inputs.metrics[l].as_ref(), 1);
        let dense = stored.dequantised()?;
        let rebuilt = geometry.gather(&dense.elements::<f32>().map_err(EvalError::from)?, 1);
        let length = geometry.vector_len();
        let sums: Vec<(f64, f64)> = self.rows[l]
            .par_chunks(length)
            .zip(rebuilt.par_chunks(length))
            .enumerate()
            .map(|(m, (w, v))| {
                let w: Vec<f64> = w.iter().map(|&x| f64::from(x)).collect();
                let gap: Vec<f64> = w.iter().zip(v).map(|(w, &v)| w - f64::from(v)).collect();
                (metric.form(m).square(&gap), metric.form(m).square(&w))
            })
            .collect();
        let (loss, energy) = sums.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        Ok(loss / f64::max(energy, f64::MIN_POSITIVE))
    }

    /// Measured error at the outputs when this layer alone is replaced, its bias corrected for the mean.
    fn output_error(
        &self,
        l: usize,
        inputs: &Inputs,
        float: &Evaluator<'_>,
        exact: &[Vec<Vec<f32>>],
        wanted: &[Value],
        stored: &Stored,
    ) -> Result<f64, DecomposeError> {
        let mut trial = float.clone();
        let dense = stored.dequantised()?;
        if let (Some(value), Some(means)) = (self.biases[l], &inputs.means[l]) {
            let rebuilt = self.layers[l]
                .geometry
                .gather(&dense.elements::<f32>().map_err(EvalError::from)?, 1);
            let bias = self.shifted_bias(l, value, &rebuilt, means)?;
            let shape = self.graph.ty(value).shape.clone();
            trial.replace(
                value,
                Tensor::from_elements(shape, bias).map_err(EvalError::from)?,
            );
        }
        trial.replace(self.layers[l].weight, dense);
        Ok(relative_error(
            exact,
            &outputs(&trial, wanted, self.samples(), OUTPUT_SAMPLES)?,
        ))
    }

    /// `b + (W - V) mu`.
    fn shifted_bias(
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

    fn choose(&self, offers: &[Vec<Offer>]) -> Result<Vec<usize>, DecomposeError> {
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

    /// Samples the layer-by-layer measurement can use.
    fn affordable_samples(&self) -> usize {
        let one: f64 = self
            .layers
            .iter()
            .map(|l| l.len() as f64 * l.positions as f64 / l.groups.max(1) as f64 * l.groups as f64)
            .sum();
        // Two networks, half of each on average, once per layer.
        let all = (MEASURE_BUDGET / (one * self.layers.len() as f64).max(1.0)) as usize;
        all.min(self.options.samples).min(self.samples().count())
    }

    /// Solves a layer in the form chosen.
    fn settle(
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
                let effort = Effort {
                    feedback: weighted,
                    seed: self.options.seed,
                    ..Effort::default()
                };
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
                Choice::Float => layer.len() * 4,
            },
            choice,
            bias,
            sqnr_db: sqnr,
            output_error: Some(offer.loss),
            density,
            why: explain(layer, offer, offers),
        })
    }

    /// The bias that makes the layer's mean sums those wanted: `b + mean(t) - V mean(x)`.
    fn measured_bias(&self, value: Value, rebuilt: &[f32], m: &Moments) -> Result<Vec<f32>, DecomposeError> {
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
    fn retarget(&self, l: usize, m: &Moments, raw: &Metric, share: f64) -> Vec<f32> {
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
                    .solve(&right)
                    .iter()
                    .map(|&x| x as f32)
                    .collect()
            })
            .collect();
        solved.concat()
    }

    /// The baseline: every layer by the released solver, in the published form.
    fn released(
        &self,
        options: &released::ReleasedOptions,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Plan, DecomposeError> {
        let mut plan = Plan {
            layers: Vec::new(),
            totals: self.sizes,
        };
        for (l, layer) in self.layers.iter().enumerate() {
            let name = layer.name();
            progress(Progress {
                stage: "solve",
                done: l,
                total: self.layers.len(),
                layer: &name,
            });
            let weight = released::decompose(&layer.geometry, &self.rows[l], options);
            let stored = Stored::Sd(weight);
            let inputs = Inputs {
                metrics: vec![None; self.layers.len()],
                means: vec![None; self.layers.len()],
            };
            let loss = self.relative_loss(l, &inputs, &stored)?;
            plan.layers.push(LayerResult {
                node: layer.users[0],
                weight: layer.weight,
                origins: layer.origins.clone(),
                shape: layer.geometry.shape.clone(),
                bytes: stored.packed_len(),
                choice: Choice::Stored(stored),
                bias: None,
                sqnr_db: -10.0 * loss.max(1e-20).log10(),
                output_error: None,
                density: 1.0,
                why: "released solver: every layer in the published form".to_owned(),
            });
        }
        plan.totals.bytes = self.fixed + plan.layers.iter().map(|l| self.aligned(l.bytes)).sum::<usize>();
        Ok(plan)
    }
}

/// Entries of a row where rows are dropped.
const PRUNED_ROW: usize = 3;

/// Rows `[M, V]` as `[M, Q, s]`.
fn padded(rows: &[f32], geometry: &Geometry, s: usize) -> Vec<f64> {
    let (length, pitch) = (geometry.vector_len(), geometry.rows(s) * s);
    let mut out = vec![0.0; geometry.filters() * pitch];
    for (to, from) in out.chunks_exact_mut(pitch).zip(rows.chunks_exact(length)) {
        to.iter_mut().zip(from).for_each(|(t, &f)| *t = f64::from(f));
    }
    out
}

/// Stored type of a tensor's scales: `f16`, unless some filter is so small that its scale would lose too much in it.
fn scale_type(geometry: &Geometry, rows: &[f32]) -> DType {
    let filters = rows.chunks(geometry.vector_len());
    let peaks: Vec<f32> = filters
        .map(|w| w.iter().fold(0f32, |a, x| a.max(x.abs())))
        .collect();
    let largest = peaks.iter().fold(0f32, |a, &p| a.max(p));
    // Scales are about peak / 127; below 1e-5 an f16 has fewer than seven bits left. Filters of no weight do not matter.
    let fits = |p: f32| (127.0 * 1e-5..1e5).contains(&p) || p < 1e-4 * largest;
    if peaks.into_iter().all(fits) {
        DType::F16
    } else {
        DType::F32
    }
}

/// Eight-bit integers with a scale per filter.
fn int8(geometry: &Geometry, rows: &[f32], dtype: DType) -> Int8 {
    let (mut values, mut scales) = (Vec::with_capacity(rows.len()), Vec::new());
    for w in rows.chunks(geometry.vector_len()) {
        let exact = w.iter().fold(0f32, |a, x| a.max(x.abs())) / 127.0;
        // A scale rounded down clips the peak by less than a step.
        let scale = if dtype == DType::F16 {
            half::f16::from_f32(exact).to_f32()
        } else {
            exact
        };
        scales.push(scale);
        values.extend(w.iter().map(|x| {
            if scale > 0.0 {
                (x / scale).round().clamp(-127.0, 127.0) as i8
            } else {
                0
            }
        }));
    }
    Int8 {
        geometry: geometry.clone(),
        values,
        scale: dtype,
        scales,
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

/// Why a layer got its form, for people.
fn explain(layer: &Layer, offer: &Offer, offers: &[Offer]) -> String {
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
