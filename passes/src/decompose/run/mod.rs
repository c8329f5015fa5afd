//! From a graph and a wish to a plan.

mod baseline;
mod inputs;
mod int8;
mod price;
mod settle;

use super::allocate::{Wish, float_bytes, pareto};
use super::calibrate::{Samples, Walk, measured, one_layer};
use super::evaluate::Evaluator;
use super::layers::{Layer, layers};
use super::metric::Metric;
use super::moments::{MAX_FULL, MAX_POSITIONS};
use super::synthetic::Synthetic;
use super::{Choice, DecomposeError, Options, Plan, Progress, Solver, Totals};
use sdc_interp::EvalError;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, Op, Value};
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
/// Multiplications the layer-by-layer measurement may cost, and bytes its states may take; with fewer than `LEAST_SAMPLES` affordable,
/// one pass has to do.
const MEASURE_BUDGET: f64 = 0.2e12;
const MEASURE_BYTES: usize = 512 << 20;
const LEAST_SAMPLES: usize = 8;
/// Multiplications that the trials of single layers may cost, and the samples they take at least.
const PROBE_BUDGET: f64 = 0.08e12;
const LEAST_PROBES: usize = 6;

/// Decomposes the weights of a graph after fusion. Where `progress` says false, the work ends.
///
/// # Errors
/// See [`DecomposeError`]; among them a wish that cannot be met.
pub fn run(graph: &Graph, options: &Options<'_>, progress: &mut Told<'_>) -> Result<Plan, DecomposeError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build();
    let pool = pool.map_err(|e| DecomposeError::Threads(e.to_string()))?;
    pool.install(|| Run::new(graph, options)?.plan(progress))
}

/// Hears of progress; false ends the work.
type Told<'a> = dyn FnMut(Progress<'_>) -> bool + Send + 'a;

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

/// What the error of a layer does to the outputs is measured with it: samples on their way, stopped before the layer.
struct Probe {
    walk: Walk,
    /// Outputs of the float network.
    exact: Vec<Vec<Vec<f32>>>,
    wanted: Vec<Value>,
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
        let (untouched, layers): (Vec<Layer>, Vec<Layer>) = layers(graph)
            .into_iter()
            .partition(|l| l.users.iter().any(|n| options.excluded.contains(n)));
        if layers.is_empty() {
            return Err(DecomposeError::NoLayers);
        }
        for (name, &share) in &options.densities {
            let wrong = if !matches!(options.wish, Wish::Density(_)) {
                "the wish for the other layers must be a density too"
            } else if !(share > 0.0 && share <= 1.0) {
                "must be above 0 and at most 1"
            } else if layers.iter().all(|l| l.name() != *name) {
                "no layer with weights to compress has this name"
            } else {
                continue;
            };
            return Err(DecomposeError::LayerDensity(name.clone(), share, wrong));
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
                if is_gates(graph, &uses, user) {
                    return None;
                }
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
                let packed = untouched.iter().find(|l| l.weight == value);
                let bytes = packed.map_or(ty.bytes().unwrap_or(0), |l| float_bytes(&l.geometry, l.groups));
                fixed += bytes.next_multiple_of(options.alignment.max(1));
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

    fn plan(&self, progress: &mut Told<'_>) -> Result<Plan, DecomposeError> {
        let report = |progress: &mut Told<'_>, stage, done: usize| {
            let name = self.layers.get(done).map(Layer::name).unwrap_or_default();
            let (total, layer) = (self.layers.len(), name.as_str());
            let on = progress(Progress {
                stage,
                done,
                total,
                layer,
            });
            on.then_some(()).ok_or(DecomposeError::Stopped)
        };
        if let Solver::Released(options) = &self.options.solver {
            return self.released(options, progress);
        }
        report(progress, "measure", 0)?;
        let float = Evaluator::new(self.graph);
        let inputs = self.inputs(&float)?;
        let kept = self.patterns(&inputs);
        let mut offers = Vec::with_capacity(self.layers.len());
        let wanted = measured(self.graph);
        let mut probe = Probe {
            walk: Walk::new(&float, self.samples(), self.probed_samples(&float))?,
            exact: Vec::new(),
            wanted,
        };
        let exact = probe.walk.outputs(&float, &probe.wanted)?;
        probe.exact = exact
            .into_iter()
            .map(|all| all.into_iter().flatten().collect())
            .collect();
        for (l, layer) in self.layers.iter().enumerate() {
            report(progress, "price", l)?;
            probe.walk.advance(&float, None, layer.users[0])?;
            let kept = kept.as_ref().map(|k| k[l].as_slice());
            offers.push(self.offers(l, &inputs, &float, &probe, kept)?);
        }
        drop(probe);
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
        let affordable = self.affordable_samples(&float);
        let mut walk = match self.options.solver {
            Solver::Feedback | Solver::RowSearch if affordable >= LEAST_SAMPLES => {
                Some(Walk::new(&float, self.samples(), affordable)?)
            }
            _ => None,
        };
        for (l, layer) in self.layers.iter().enumerate() {
            report(progress, "solve", l)?;
            let offer = &offers[l][chosen[l]];
            let moments = match &mut walk {
                Some(walk) => {
                    walk.advance(&float, Some(&compressed), layer.users[0])?;
                    let networks = (&float, &compressed);
                    Some(one_layer(self.graph, networks, layer, &self.rows[l], walk)?)
                }
                None => None,
            };
            let pattern = kept.as_ref().map(|k| k[l].as_slice());
            let result = self.settle(l, offer, &offers[l], &inputs, moments.as_ref(), pattern)?;
            if let Choice::Stored(stored) = &result.choice {
                compressed.replace(layer.weight, stored.dequantised()?);
            }
            if let Some((value, bias)) = &result.bias {
                let shape = self.graph.ty(*value).sizes().to_vec();
                let tensor = Tensor::from_elements(shape, bias.clone()).map_err(EvalError::from)?;
                compressed.replace(*value, tensor);
            }
            plan.layers.push(result);
        }
        plan.totals.bytes = self.fixed + plan.layers.iter().map(|l| self.aligned(l.bytes)).sum::<usize>();
        Ok(plan)
    }

    /// Multiplications of one run of the layers.
    fn run_cost(&self) -> f64 {
        let one = |l: &Layer| l.len() as f64 * l.positions as f64;
        self.layers.iter().map(one).sum()
    }

    /// Samples the layer-by-layer measurement can use.
    fn affordable_samples(&self, float: &Evaluator<'_>) -> usize {
        // Two networks, and the second moments.
        let moments = |l: &Layer| {
            let length = l.geometry.vector_len() as f64;
            let full = if l.geometry.vector_len() <= MAX_FULL {
                length
            } else {
                1.0
            };
            l.groups as f64 * length * full * l.positions.min(MAX_POSITIONS) as f64
        };
        let one = 2.0 * self.run_cost() + self.layers.iter().map(moments).sum::<f64>();
        let all = (MEASURE_BUDGET / one.max(1.0)) as usize;
        let most = Walk::capacity(float, &self.layers, MEASURE_BYTES);
        all.min(most)
            .min(self.options.samples)
            .min(self.samples().count())
    }

    /// Samples the trials of single layers use.
    fn probed_samples(&self, float: &Evaluator<'_>) -> usize {
        // Half of the network for each layer.
        let one = 0.5 * self.run_cost() * self.layers.len() as f64;
        let all = (PROBE_BUDGET / one.max(1.0)) as usize;
        all.clamp(LEAST_PROBES, OUTPUT_SAMPLES)
            .min(Walk::capacity(float, &self.layers, MEASURE_BYTES).max(1))
    }
}

/// True for the input part of a recurrent layer. ONNX keeps its bias in one tensor with that of the recurrence, so it stays.
fn is_gates(graph: &Graph, uses: &[Vec<Node>], user: Node) -> bool {
    let mut node = user;
    loop {
        let &[next] = uses[graph.nodes()[node].outputs[0].index()].as_slice() else {
            return false;
        };
        match graph.nodes()[next].op {
            Op::Recurrent(_) => return true,
            Op::Reshape(_) => node = next,
            _ => return false,
        }
    }
}

/// Vectors no longer than this are not decomposed where filters do not share inputs.
const SMALL_VECTOR: usize = 25;
/// Entries of a row where rows are dropped.
const PRUNED_ROW: usize = 3;
