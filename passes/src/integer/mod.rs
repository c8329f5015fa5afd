//! sdc's own integer networks: a trained `f32` network, compressed or not, to one that computes in integers between declared boundaries.
//!
//! [`run`] takes a graph after fusion. Every value gets a grid from what representative inputs make of it ([`observe`], [`grid`]); then each
//! operator with an integer form takes its operands' integers ([`convert`], [`product`], [`table`]), and QuantizeLinear and
//! DequantizeLinear are left only where the network begins, ends, or does what integers cannot. [`listing`] says which is which.
//!
//! The arithmetic is defined in `docs/integer.md`, section 2. Not here: networks that are quantised already ([`crate::quantise`]).

mod convert;
mod grid;
pub mod listing;
mod norm;
mod observe;
mod product;
mod table;
mod unfuse;

pub use grid::{Grid, Histogram};
pub use observe::Machine;

use crate::decompose::{DecomposeError, Samples};
use sdc_interp::EvalError;
use sdc_ir::graph::{Graph, InferError, Op, Origin};

/// What [`run`] needs to know.
pub struct Options<'a> {
    /// Representative inputs.
    pub samples: &'a dyn Samples,
    /// How many of them are used at most.
    pub limit: usize,
    /// What runs the network that [`observed`] gives; by default an interpreter, which rounds otherwise and takes many times as long.
    pub machine: Option<&'a dyn Machine>,
}

/// How far the observation of the network is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Inputs seen.
    pub done: usize,
    /// Inputs in all.
    pub total: usize,
    /// By how much the widest-moving range has grown since half as many inputs had been seen, relative to it; 1 at first.
    pub drift: f64,
}

/// An integer network.
#[derive(Clone, Debug)]
pub struct Integer {
    /// Row-major, as after fusion.
    pub graph: Graph,
    /// What stayed in floating point, and why.
    pub left: Vec<Left>,
    /// The last [`Progress::drift`].
    pub drift: f64,
}

/// An operator that stayed in floating point.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Operator.
    pub op: &'static str,
    /// The user's nodes.
    pub origins: Vec<Origin>,
    /// Why.
    pub reason: String,
}

/// Why there is no integer network.
#[derive(Debug, thiserror::Error)]
pub enum IntegerError {
    /// Inputs could not be read or made.
    #[error(transparent)]
    Samples(#[from] DecomposeError),
    /// The network could not be run on them.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The machine failed.
    #[error("the network could not be run on representative inputs: {0}")]
    Machine(String),
    /// The network quantises its activations itself.
    #[error("the network is quantised already ({0})")]
    Quantised(String),
    /// An integer operator does not fit: a bug.
    #[error(transparent)]
    Infer(#[from] InferError),
}

/// Turns a network into integers. Where `progress` says false, the work ends.
///
/// # Errors
/// See [`IntegerError`].
pub fn run(
    graph: &Graph,
    options: &Options<'_>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Integer, IntegerError> {
    let graph = unfused(graph)?;
    let (histograms, drift) = observe::observe(&graph, options, progress)?;
    let grids = histograms
        .iter()
        .map(|h| h.as_ref().and_then(Grid::best))
        .collect();
    let (graph, left) = convert::convert(&graph, grids)?;
    Ok(Integer { graph, left, drift })
}

/// The network that a [`Machine`] runs for [`run`]: the same inputs, and as outputs all values that get grids.
///
/// # Errors
/// As for [`run`].
pub fn observed(graph: &Graph) -> Result<Graph, IntegerError> {
    Ok(observe::with_all_outputs(unfused(graph)?))
}

/// The network that is converted: nothing fused that integers compute by operators of their own.
fn unfused(graph: &Graph) -> Result<Graph, IntegerError> {
    let quantised = graph
        .nodes()
        .values()
        .find(|n| matches!(n.op, Op::QuantizeLinear(_) | Op::QLinearConv(_)));
    match quantised {
        Some(node) => Err(IntegerError::Quantised(crate::pass::origin_text(&node.origins))),
        None => Ok(unfuse::unfuse(graph)?),
    }
}
