//! From a graph and a wish to a plan.

mod baseline;
mod inputs;
mod int8;
mod price;
mod settle;

use super::allocate::{Wish, pareto};
use super::calibrate::{Samples, measured, one_layer, outputs};
use super::evaluate::Evaluator;
use super::layers::{Layer, layers};
use super::metric::Metric;
use super::synthetic::Synthetic;
use super::{Choice, DecomposeError, Options, Plan, Progress, Solver, Totals};
use sdc_interp::EvalError;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Op, Value};
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
        let mut layers = layers(graph);
        layers.retain(|l| !l.users.iter().any(|n| options.excluded.contains(n)));
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
            pareto: pareto(&offers)
                .into_iter()
                .map(|(b, e)| (self.fixed + b, e))
                .collect(),
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
}

/// Entries of a row where rows are dropped.
const PRUNED_ROW: usize = 3;
