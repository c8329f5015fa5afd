//! From a float network to one that computes in integers, and what became of it.

use crate::error::Result;
use crate::images::Preprocessing;
use crate::machine::Machine;
use crate::observe::Observer;
use sdc_ir::graph::{Graph, Op};
use sdc_passes::decompose::Samples;
use sdc_passes::decompose::synthetic::Synthetic;
use sdc_passes::integer::listing::{Line, listing};
use sdc_passes::integer::{self, Options};
use sdc_passes::pass::origin_text;
use serde::Serialize;

/// Seed of made-up inputs.
const SEED: u64 = 1;

/// What computes in integers and what does not.
#[derive(Debug, Clone, Serialize)]
pub struct IntegerReport {
    /// Inputs that the ranges were read from.
    pub inputs: usize,
    /// They were made up.
    pub made_up: bool,
    /// An interpreter ran the network on them, since compiled code could not here: the last bits of the ranges are its own.
    pub interpreted: bool,
    /// The share by which some range still grew over the second half of them.
    pub drift: f64,
    /// What stayed in floating point: node and reason.
    pub left: Vec<Left>,
    /// Every operator.
    pub operators: Vec<Line>,
}

/// A node that stayed in floating point.
#[derive(Debug, Clone, Serialize)]
pub struct Left {
    /// The user's nodes.
    pub node: String,
    /// Why it stayed.
    pub reason: String,
}

/// Whether a graph computes in integers as it is.
pub fn computes_in_integers(graph: &Graph) -> bool {
    let integer = |op: &Op| matches!(op, Op::QLinearConv(_) | Op::QuantizeLinear(_));
    graph.nodes().values().any(|n| integer(&n.op))
}

/// Converts a graph after [`fuse`](crate::compress::fuse). It is shown at most `limit` inputs; without a calibration made-up ones, such as
/// the preprocessing makes of photographs. They are run by code compiled for [`DEFAULT_CPU`](crate::DEFAULT_CPU), so that the result is
/// the same on all hosts that have its instructions; elsewhere by an interpreter.
///
/// # Errors
/// A network that computes in integers already, or that cannot be run; inputs that cannot be read.
pub fn to_integers(
    fused: &Graph,
    calibration: Option<&dyn Samples>,
    preprocessing: &Preprocessing,
    limit: usize,
    observer: &dyn Observer,
) -> Result<(Graph, IntegerReport)> {
    let (mean, deviation) = preprocessing.statistics().unwrap_or((0.0, 1.0));
    let made_up = Synthetic::new(fused, limit, mean, deviation, SEED);
    let samples = calibration.unwrap_or(&made_up);
    let machine = Machine::of(integer::observed(fused)?, observer)?;
    let options = Options {
        samples,
        limit,
        machine: machine.as_ref().map(|m| m as &dyn integer::Machine),
    };
    let converted = integer::run(fused, &options, &mut |p| {
        let moved = format!("ranges moved by {:.1} %", 100.0 * p.drift);
        observer.at(p.done, p.total, &moved);
        !observer.cancelled()
    })?;
    let report = IntegerReport {
        inputs: samples.count().min(limit),
        made_up: calibration.is_none(),
        interpreted: machine.is_none(),
        drift: converted.drift,
        left: converted
            .left
            .iter()
            .map(|left| Left {
                node: origin_text(&left.origins),
                reason: left.reason.clone(),
            })
            .collect(),
        operators: listing(&converted.graph),
    };
    Ok((converted.graph, report))
}
