//! Legalisation: operators in forms that lowering does not have become those it has.
//!
//! The graph IR's operators mean what ONNX's mean, in any number of dimensions and every element type. Lowering knows windows over
//! two spatial dimensions and sums in `f32` and `f64`. This pass runs first and closes the gap: after it, and only after it, lowering
//! takes every convolution, pooling and normalisation that the verifier lets through. Code generators that read the graph for
//! themselves can leave it out; the passes that follow work with or without it.
//!
//! Rounding: half types are summed in `f32` and rounded once, and a convolution over planes adds in another order.

mod conv;
mod half;
mod norm;
mod pool;
mod transposed;

use crate::local::{self, Outcome, Rule, Site};
use crate::pass::{Class, Ctx, Pass, PassError, require_row_major};
use crate::simplify::fold::folded;
use sdc_ir::Tensor;
use sdc_ir::graph::infer::infer;
use sdc_ir::graph::{Emit, Graph, Op, TensorType, Value};
use sdc_ir::sd::{Stored, relabel};

/// What is written in place of a node, or why it cannot be.
type Legal = Result<Value, String>;

/// An operator in place of which something else is written; `None` if it is legal as far as this form goes.
type Form = fn(&mut Emitter<'_, '_>, &Op, &[Value]) -> Option<Legal>;

const FORMS: &[Form] = &[
    // First: what is written for the forms below adds up too.
    half::sums,
    conv::dilated,
    conv::one_dimensional,
    conv::planes,
    transposed::one_dimensional,
    transposed::spread,
    pool::one_dimensional,
    pool::boxes,
    norm::doubles,
];

/// The rules: a form each, named for the remarks.
pub const RULES: &[Rule] = &[
    rule("sum_halves", |s| legal(s, half::sums)),
    rule("spread_filter", |s| legal(s, conv::dilated)),
    rule("lift_convolution", |s| legal(s, conv::one_dimensional)),
    rule("sum_planes", |s| legal(s, conv::planes)),
    rule("lift_transposed", |s| legal(s, transposed::one_dimensional)),
    rule("spread_input", |s| legal(s, transposed::spread)),
    rule("lift_pool", |s| legal(s, pool::one_dimensional)),
    rule("pool_by_dimension", |s| legal(s, pool::boxes)),
    rule("normalise_doubles", |s| legal(s, norm::doubles)),
];

const fn rule(name: &'static str, apply: fn(&mut Site<'_>) -> Outcome) -> Rule {
    Rule { name, apply }
}

/// The pass. It has no options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Legalise;

impl Pass for Legalise {
    fn name(&self) -> &'static str {
        "legalise"
    }
    fn summary(&self) -> &'static str {
        "rewrite what lowering does not have: other than two spatial dimensions, sums of half types, dilated filters of other types than f32"
    }
    fn class(&self) -> Class {
        Class::Rounding
    }
    fn run(&self, graph: &Graph, ctx: &mut Ctx) -> Result<Graph, PassError> {
        require_row_major(graph)?;
        Ok(local::apply(graph, RULES, false, ctx)?.0)
    }
}

/// The rule that one form makes.
fn legal(site: &mut Site<'_>, form: Form) -> Outcome {
    let (op, inputs) = (site.op, site.inputs);
    match form(&mut Emitter { site }, op, inputs) {
        None => Outcome::NoMatch,
        Some(Ok(value)) => Outcome::value(value),
        Some(Err(reason)) => Outcome::Declined(reason),
    }
}

/// Steps of the budget that a node costs: a bound of what hostile models have written for them.
const NODE_STEPS: usize = 1 << 10;

/// Writes nodes in place of one, legal themselves.
struct Emitter<'e, 's> {
    site: &'e mut Site<'s>,
}

impl Emitter<'_, '_> {
    /// A compressed weight under another shape, still compressed; `None` if it would have to be rebuilt.
    fn moved_weight(&mut self, op: &Op, inputs: &[Value]) -> Option<Legal> {
        let graph = &self.site.graph;
        let node = &graph.nodes()[graph.def_node(*inputs.first()?)?];
        let (Op::Reshape(reshape), Op::Rebuild(rebuild)) = (op, &node.op) else {
            return None;
        };
        let mut rebuild = rebuild.clone();
        rebuild.shape.clone_from(&reshape.shape);
        let stored = Stored::unpack(graph.constant(node.inputs[0])?.bytes()).ok()?;
        let geometry = relabel::reshaped(stored.geometry(), &reshape.shape)?;
        let packed = relabel::with_geometry(stored, geometry).pack().ok()?;
        let bytes = Tensor::from_elements(vec![packed.len()], packed).ok()?;
        Some(
            self.constant(bytes)
                .and_then(|packed| self.emit(rebuild, &[packed])),
        )
    }
}

impl Emit for Emitter<'_, '_> {
    type Error = String;

    fn graph(&self) -> &Graph {
        self.site.graph
    }

    fn emit(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Legal {
        let op = op.into();
        if let Some(value) = FORMS.iter().find_map(|form| form(self, &op, inputs)) {
            return value;
        }
        if let Some(moved) = self.moved_weight(&op, inputs) {
            return moved;
        }
        self.site.spend(0, NODE_STEPS)?;
        let operands: Vec<&TensorType> = inputs.iter().map(|&v| self.site.graph.ty(v)).collect();
        let types = infer(&op, &operands).map_err(|e| e.to_string())?;
        // What costs too much stays a node.
        if let Ok(Some(tensor)) = folded(&mut self.site.with(&op, inputs, &types[0])) {
            return self.constant(tensor);
        }
        let origins = self.site.origins.to_vec();
        Ok(self.site.graph.push_node(op, inputs.to_vec(), types, origins)[0])
    }

    fn constant(&mut self, tensor: Tensor) -> Legal {
        let origins = self.site.origins.to_vec();
        Ok(self.site.graph.add_constant(tensor, origins))
    }
}

/// `[N,C,W]` as `[N,C,1,W]`.
fn lift(c: &mut Emitter<'_, '_>, x: Value) -> Legal {
    let mut shape = c.shape(x);
    shape.insert(shape.len() - 1, 1);
    c.reshape(x, shape)
}

/// A result in two spatial dimensions of which the first is 1, without that one.
fn dropped(c: &mut Emitter<'_, '_>, x: Value) -> Legal {
    let mut shape = c.shape(x);
    shape.remove(shape.len() - 2);
    c.reshape(x, shape)
}

/// One-dimensional window attributes as two-dimensional ones: `neutral` for the new dimension.
fn lift_list<T: Clone>(list: &[T], neutral: T) -> Vec<T> {
    list.iter().flat_map(|x| [neutral.clone(), x.clone()]).collect()
}

/// A filter's or window's extent in one dimension, which inference has found to be a number.
fn extent(kernel: usize, dilation: usize) -> usize {
    kernel.saturating_sub(1) * dilation + 1
}
