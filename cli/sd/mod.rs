//! Compression of a network's weights, as the commands share it: options, calibration inputs, the graph with packed weights, the report.

mod calibration;
mod options;
mod page;
pub mod report;

pub use calibration::Calibration;
pub use options::{SdOptions, SolverArgs, WishArgs};

use crate::exit::Failure;
use crate::progress::Progress;
use sdc_ir::graph::{Graph, Node};
use sdc_passes::decompose::{self, DecomposeError, Options, Plan, Samples};
use sdc_passes::pipeline::{TO_FUSED, run_passes};
use std::collections::BTreeMap;

/// A compressed network.
pub struct Compressed {
    /// After fusion, weights as they were.
    pub before: Graph,
    /// The same with packed weights.
    pub graph: Graph,
    /// What was decided, layer by layer.
    pub plan: Plan,
}

/// Compresses an imported network. Layers whose weights are among `excluded` are left alone, for the reason given with each.
pub fn compress(
    fused: Graph,
    options: &SdOptions,
    calibration: Option<&Calibration>,
    excluded: &BTreeMap<Node, String>,
) -> Result<Compressed, Failure> {
    let settings = Options {
        calibration: calibration.map(|c| c as &dyn Samples),
        excluded: excluded.keys().copied().collect(),
        ..options.settings()
    };
    let bar = Progress::steps(1);
    let plan = decompose::run(&fused, &settings, &mut |p| {
        bar.at(p.done, p.total, format!("{}: {}", p.stage, p.layer));
    })?;
    drop(bar);
    let graph = decompose::install(&fused, &plan)?;
    Ok(Compressed {
        before: fused,
        graph,
        plan,
    })
}

/// The passes before compression.
pub fn fuse(graph: &Graph) -> Result<Graph, Failure> {
    Ok(run_passes(graph, &TO_FUSED, None, &mut ())?.graph)
}

impl From<DecomposeError> for Failure {
    fn from(error: DecomposeError) -> Self {
        use DecomposeError as E;
        match &error {
            E::TooSmall { .. } => Self::limit(&error).help("ask for less, or allow pruning with --density"),
            E::Samples(_) | E::Wish(_) | E::LayerDensity(..) => Self::usage(error),
            E::NotFinite(_) => Self::malformed(error),
            E::Stored(_) | E::Graph(_) => Self::bug(error),
            _ => Self::unsupported(error),
        }
    }
}
