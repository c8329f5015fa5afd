//! Moments of layer inputs from runs of the network.

use super::DecomposeError;
use super::evaluate::{Evaluator, State};
use super::layers::Layer;
use super::moments::{Moments, Patches, patches};
use nalgebra::{DMatrixView, DMatrixViewMut};
use rayon::prelude::*;
use sdc_interp::EvalError;
use sdc_ir::Tensor;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{Graph, Node, Op, Value};

/// Sets of inputs of a graph, made or read one at a time.
pub trait Samples: Sync {
    /// Number of sets.
    fn count(&self) -> usize;
    /// A set, in the order of the graph's inputs.
    ///
    /// # Errors
    /// It could not be read or made.
    fn get(&self, index: usize) -> Result<Vec<Tensor>, DecomposeError>;
}

/// Sets of inputs held in memory.
impl Samples for Vec<Vec<Tensor>> {
    fn count(&self) -> usize {
        self.len()
    }
    fn get(&self, index: usize) -> Result<Vec<Tensor>, DecomposeError> {
        Ok(self[index].clone())
    }
}

/// Parts the samples are dealt to. A constant, so that sums do not depend on the number of threads; few, as each has moments of its own.
const PARTS: usize = 2;

/// Moments of all layers in one pass of the given network over up to `limit` samples; memory does not depend on their number.
///
/// # Errors
/// A sample does not fit the graph, or a node fails.
pub fn all_layers(
    graph: &Graph,
    network: &Evaluator<'_>,
    layers: &[Layer],
    samples: &dyn Samples,
    limit: usize,
) -> Result<Vec<Moments>, DecomposeError> {
    let mut owner = vec![None; graph.nodes().len()];
    for (i, layer) in layers.iter().enumerate() {
        for n in &layer.users {
            owner[n.index()] = Some(i);
        }
    }
    let count = samples.count().min(limit);
    let parts = (0..PARTS.min(count).max(1)).into_par_iter().map(|part| {
        let mut moments: Vec<Moments> = layers.iter().map(|l| Moments::new(l, false)).collect();
        for i in (part..count).step_by(PARTS) {
            network.run(&samples.get(i)?, &[], &mut |node, operands| {
                if let Some(layer) = owner[node.index()]
                    && let Some(found) = patches(graph, node, operands)
                {
                    moments[layer].add(found, None);
                }
            })?;
        }
        moments.iter_mut().for_each(Moments::settle);
        Ok::<_, DecomposeError>(moments)
    });
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        total.iter_mut().zip(&part).for_each(|(a, b)| a.merge(b));
    }
    Ok(total)
}

/// What one network feeds a layer, and the operand added to its result.
struct Seen {
    patches: Patches,
    residual: Option<Vec<f32>>,
}

/// What each use of a layer sees, from a state before its first use.
fn look(
    graph: &Graph,
    network: &Evaluator<'_>,
    layer: &Layer,
    state: &State,
) -> Result<Vec<Seen>, EvalError> {
    let mut seen = Vec::with_capacity(layer.users.len());
    let mut add = |node: Node, operands: &[&Tensor]| {
        if let Some(patches) = patches(graph, node, operands) {
            let residual = residual(graph, node, operands, &patches, layer.geometry.filters());
            seen.push(Seen { patches, residual });
        }
    };
    // Further uses lie behind the first, which is evaluated on a copy: the layer's weights are not settled yet.
    let mut copy = state.clone();
    for &user in &layer.users {
        network.advance(&mut copy, user, &mut |_, _| {})?;
        add(user, &network.operands(&copy, user)?);
    }
    Ok(seen)
}

/// Samples on their way through the network as it was and as it becomes, all stopped before the same node.
///
/// Each sample is read once and evaluated once. Memory is what is alive there, for as many samples as a limit allows.
pub struct Walk {
    /// By part, by sample: states in the float and in the compressed network.
    parts: Vec<Vec<(State, State)>>,
}

impl Walk {
    /// How many samples can be on their way at once if their states are to take no more than `bytes`.
    pub fn capacity(network: &Evaluator<'_>, layers: &[Layer], bytes: usize) -> usize {
        let stops: Vec<Node> = layers.iter().map(|l| l.users[0]).collect();
        bytes / (2 * network.most_alive(&stops)).max(1)
    }

    /// The first `limit` samples, before the first node.
    ///
    /// # Errors
    /// A sample cannot be had or does not fit.
    pub fn new(network: &Evaluator<'_>, samples: &dyn Samples, limit: usize) -> Result<Self, DecomposeError> {
        let count = samples.count().min(limit);
        let parts = (0..PARTS.min(count).max(1)).into_par_iter().map(|part| {
            let states = (part..count).step_by(PARTS).map(|i| {
                let state = network.begin(&samples.get(i)?)?;
                Ok((state.clone(), state))
            });
            states.collect::<Result<Vec<_>, DecomposeError>>()
        });
        Ok(Self {
            parts: parts.collect::<Result<_, _>>()?,
        })
    }

    /// Goes on to a node: the float network alone, or both.
    ///
    /// # Errors
    /// A node fails.
    pub fn advance(
        &mut self,
        float: &Evaluator<'_>,
        compressed: Option<&Evaluator<'_>>,
        until: Node,
    ) -> Result<(), DecomposeError> {
        self.parts.par_iter_mut().try_for_each(|part| {
            for (exact, actual) in part {
                float.advance(exact, until, &mut |_, _| {})?;
                if let Some(network) = compressed {
                    network.advance(actual, until, &mut |_, _| {})?;
                }
            }
            Ok(())
        })
    }

    /// Values of interest when a network other than the float one goes on from here to the end, per sample; `None` for those that are
    /// known here already.
    ///
    /// # Errors
    /// A node fails.
    pub fn outputs(
        &self,
        network: &Evaluator<'_>,
        wanted: &[Value],
    ) -> Result<Vec<Vec<Option<Vec<f32>>>>, DecomposeError> {
        let states: Vec<&State> = self.parts.iter().flatten().map(|s| &s.0).collect();
        let each = states.into_par_iter().map(|state| {
            let found = network.finish(&mut state.clone(), wanted, &mut |_, _| {})?;
            found.into_iter().map(|t| t.map(floats).transpose()).collect()
        });
        each.collect()
    }
}

fn floats(tensor: Tensor) -> Result<Vec<f32>, DecomposeError> {
    Ok(tensor.elements::<f32>().map_err(EvalError::from)?.into_owned())
}

/// The residual operand at the patches' positions, `[positions, M]` column-major.
fn residual(
    graph: &Graph,
    node: Node,
    operands: &[&Tensor],
    patches: &Patches,
    filters: usize,
) -> Option<Vec<f32>> {
    let has = match &graph.nodes()[node].op {
        Op::Conv(c) => c.residual,
        Op::MatMul(m) => m.residual,
        _ => false,
    };
    let all = operands.last()?.elements::<f32>().ok().filter(|_| has)?;
    let shape = graph.ty(graph.nodes()[node].outputs[0]).sizes();
    let planar = matches!(graph.nodes()[node].op, Op::Conv(_));
    let plane: usize = if planar { shape[2..].iter().product() } else { 1 };
    let images = all.len() / (plane * filters).max(1);
    let mut out = vec![0f32; patches.positions * filters];
    for m in 0..filters {
        let column = &mut out[m * patches.positions..][..patches.positions];
        let taken: Box<dyn Iterator<Item = usize>> = if planar {
            Box::new((0..images).flat_map(|n| {
                (0..plane)
                    .step_by(patches.step)
                    .map(move |p| (n * filters + m) * plane + p)
            }))
        } else {
            Box::new((0..images).step_by(patches.step).map(|row| row * filters + m))
        };
        column.iter_mut().zip(taken).for_each(|(c, i)| *c = all[i]);
    }
    Some(out)
}

/// Moments of one layer's inputs in `compressed`, with the sums the layer should produce there so that `float`'s results come
/// out: what the layer makes of `float`'s inputs, plus what the residual operand lacks. `rows` are the float weights, `[M, V]`; `walk`
/// has come to the layer's first use.
///
/// # Errors
/// A node fails.
pub fn one_layer(
    graph: &Graph,
    (float, compressed): (&Evaluator<'_>, &Evaluator<'_>),
    layer: &Layer,
    rows: &[f32],
    walk: &Walk,
) -> Result<Moments, DecomposeError> {
    let (filters, length) = (layer.geometry.filters(), layer.geometry.vector_len());
    let per_group = filters / layer.groups;
    let parts = walk.parts.par_iter().map(|states| {
        let mut moments = Moments::new(layer, length <= super::moments::MAX_FULL);
        for (exact, actual) in states {
            let exact = look(graph, float, layer, exact)?;
            let actual = look(graph, compressed, layer, actual)?;
            for (exact, actual) in exact.iter().zip(actual) {
                let n = exact.patches.positions;
                let mut targets = vec![0f32; n * filters];
                for (g, data) in exact.patches.groups.iter().enumerate() {
                    let x = DMatrixView::from_slice(data, n, length);
                    let w = DMatrixView::from_slice(
                        &rows[g * per_group * length..][..per_group * length],
                        length,
                        per_group,
                    );
                    let out = &mut targets[g * per_group * n..][..per_group * n];
                    DMatrixViewMut::from_slice(out, n, per_group).gemm(1.0, &x, &w, 0.0);
                }
                if let (Some(a), Some(b)) = (&exact.residual, &actual.residual) {
                    for ((t, a), b) in targets.iter_mut().zip(a).zip(b) {
                        *t += a - b;
                    }
                }
                let known = moments.cross.nrows() > 0;
                moments.add(actual.patches, known.then_some(targets));
            }
        }
        moments.settle();
        Ok::<_, DecomposeError>(moments)
    });
    let mut parts = parts.collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut total = parts.next().unwrap_or_else(|| Moments::new(layer, false));
    parts.for_each(|p| total.merge(&p));
    Ok(total)
}

/// The values whose error counts: the graph's outputs, or what enters a softmax or logistic function at the very end.
pub fn measured(graph: &Graph) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for port in &graph.outputs {
        let mut v = port.value;
        while let Some(n) = graph.def_node(v) {
            let data = &graph.nodes()[n];
            match data.op {
                Op::Softmax(_) | Op::Unary(sdc_ir::graph::UnaryOp::Sigmoid) | Op::Reshape(_) => {
                    v = data.inputs[0]
                }
                _ => break,
            }
        }
        if graph.ty(v).dtype == sdc_ir::DType::F32 && !values.contains(&v) {
            values.push(v);
        }
    }
    values
}

/// Squared error of values against exact ones, relative to the variance of each exact value over all samples, averaged over values.
/// Those that are `None` have none.
pub fn relative_error(exact: &[Vec<Vec<f32>>], actual: &[Vec<Option<Vec<f32>>>]) -> f64 {
    let values = exact.first().map_or(0, Vec::len);
    let mut total = 0.0;
    for v in 0..values {
        let (mut n, mut sum, mut squares, mut error) = (0.0, 0.0, 0.0, 0.0);
        for (a, b) in exact.iter().zip(actual) {
            for (&x, &y) in a[v].iter().zip(b[v].as_ref().unwrap_or(&a[v])) {
                let (x, y) = (f64::from(x), f64::from(y));
                n += 1.0;
                sum += x;
                squares += x * x;
                error += (x - y) * (x - y);
            }
        }
        let variance = squares - sum * sum / f64::max(n, 1.0);
        if variance > 0.0 {
            total += error / variance;
        }
    }
    total / values.max(1) as f64
}
