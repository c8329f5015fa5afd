//! Trained weights to SmartDeal form.
//!
//! [`run`] looks at a graph after fusion, chooses a form for each layer's weights so that one [`Wish`] is met, and solves for
//! codes, bases and scales; [`install`] puts them into the graph in packed form with the corrected biases.
//! Nothing is retrained.
//!
//! - [`released`]: the authors' solver, the baseline. [`solve`]: ours, on a [`codebook`] and a [`metric`].
//! - [`moments`], [`analytic`]: what a layer's inputs look like, measured or derived. [`calibrate`], [`evaluate`], [`synthetic`]: where
//!   that comes from. [`allocate`]: who gets how many bits. [`prune`]: which rows go.
//!
//! Not here: the stored form and its arithmetic (`sdc_ir::sd`), files, and anything that reads images.

pub mod allocate;
pub mod analytic;
pub mod calibrate;
pub mod codebook;
pub mod evaluate;
mod install;
pub mod layers;
mod linalg;
pub mod metric;
pub mod moments;
pub mod prune;
pub mod released;
mod run;
pub mod solve;
pub mod synthetic;

pub use allocate::Wish;
pub use calibrate::Samples;
pub use install::install;
pub use run::run;

use sdc_interp::EvalError;
use sdc_ir::graph::infer::InferError;
use sdc_ir::graph::{Node, Origin, Value};
use sdc_ir::sd::{SdError, Stored};
use std::collections::{BTreeMap, BTreeSet};

/// Which method finds codes and bases.
#[derive(Clone, Debug, PartialEq)]
pub enum Solver {
    /// The authors' released solver: published form, a basis per filter and slice, no look at the inputs, no bias correction.
    Released(released::ReleasedOptions),
    /// Exact row search under plain squared error; biases corrected with the given inputs, or made-up ones.
    RowSearch,
    /// Exact row search weighted by moments derived from the weights alone.
    Curvature,
    /// Moments measured on inputs (made-up ones if none are given), error feedback, layer by layer on what the layers before
    /// have become.
    Feedback,
}

/// What [`run`] is to do.
pub struct Options<'a> {
    /// Method.
    pub solver: Solver,
    /// The goal.
    pub wish: Wish,
    /// Representative inputs, if there are any. No labels are needed.
    pub calibration: Option<&'a dyn Samples>,
    /// Inputs used at most.
    pub samples: usize,
    /// Mean of the network's inputs after preprocessing, where inputs have to be made up.
    pub input_mean: f64,
    /// Standard deviation of the same.
    pub input_deviation: f64,
    /// Share of rows kept in single layers, by the name of the layer's node, in place of the global choice of [`Wish::Density`].
    pub densities: BTreeMap<String, f64>,
    /// Consecutive filters that share the pattern of dropped rows.
    pub pattern_filters: usize,
    /// Nodes whose weights stay as they are.
    pub excluded: BTreeSet<Node>,
    /// Bytes of the weights file besides the tensors.
    pub header_bytes: usize,
    /// Each tensor in the file starts at a multiple of it.
    pub alignment: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Threads; all of the machine's if zero. The result does not depend on it.
    pub threads: usize,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            solver: Solver::Feedback,
            wish: Wish::Ratio(7.0),
            calibration: None,
            samples: 256,
            input_mean: 0.0,
            input_deviation: 1.0,
            densities: BTreeMap::new(),
            pattern_filters: 32,
            excluded: BTreeSet::new(),
            header_bytes: 64,
            alignment: 64,
            seed: 1,
            threads: 0,
        }
    }
}

/// How far [`run`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// `measure`, `price` or `solve`.
    pub stage: &'static str,
    /// Layers done.
    pub done: usize,
    /// Layers in all.
    pub total: usize,
    /// The layer about to be worked on.
    pub layer: &'a str,
}

/// What became of a layer's weights.
#[allow(
    clippy::large_enum_variant,
    reason = "one per layer, and nearly all are the large one"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Decomposed, or eight-bit integers.
    Stored(Stored),
    /// Left as they are.
    Float,
}

/// A layer of a plan.
#[derive(Clone, Debug)]
pub struct LayerResult {
    /// First node that uses the weights.
    pub node: Node,
    /// The constant.
    pub weight: Value,
    /// The user's nodes.
    pub origins: Vec<Origin>,
    /// Shape of the weights.
    pub shape: Vec<usize>,
    /// The outcome.
    pub choice: Choice,
    /// The constant that is the layer's bias, with its corrected values.
    pub bias: Option<(Value, Vec<f32>)>,
    /// Squared sums of the layer over its squared error, in dB, as the solver's metric sees it. Infinite for [`Choice::Float`].
    pub sqnr_db: f64,
    /// Error predicted at the outputs, squared, relative to their variance; `None` where no prediction was needed.
    pub output_error: Option<f64>,
    /// Stored bytes of the weights, without alignment.
    pub bytes: usize,
    /// Share of rows kept.
    pub density: f64,
    /// Why this choice, for people.
    pub why: String,
}

/// Sizes of the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Four bytes for each weight and bias.
    pub float_bytes: usize,
    /// The weights file, header and alignment included.
    pub bytes: usize,
}

impl Totals {
    /// How many times smaller the file is.
    pub fn ratio(&self) -> f64 {
        self.float_bytes as f64 / self.bytes.max(1) as f64
    }
}

/// What [`run`] decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of first use.
    pub layers: Vec<LayerResult>,
    /// Sizes.
    pub totals: Totals,
    /// Bytes of the weights file and squared error predicted at the outputs, relative to their variance, for more and fewer bits: by
    /// bytes. Empty where nothing was predicted.
    pub pareto: Vec<(usize, f64)>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum DecomposeError {
    /// The network could not be run on the calibration inputs.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Whoever heard of the progress wanted no more.
    #[error("stopped amid the work")]
    Stopped,
    /// A sample could not be read or made.
    #[error("calibration inputs: {0}")]
    Samples(String),
    /// No choice of formats is small enough.
    #[error(
        "cannot be made as small as {wanted} bytes: {least} is the least ({fixed} of them are not weights of layers)"
    )]
    TooSmall {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes that can be reached.
        least: usize,
        /// Header, biases and other constants.
        fixed: usize,
    },
    /// The wish is no positive number, or a share above one.
    #[error("{0} cannot be met by any model")]
    Wish(Wish),
    /// A density for a layer that is not there, or no share, or without [`Wish::Density`] for the others.
    #[error("density {1} of layer `{0}`: {2}")]
    LayerDensity(String, f64, &'static str),
    /// There is nothing to decompose.
    #[error("no layer with constant f32 weights (Conv, ConvTranspose, MatMul)")]
    NoLayers,
    /// Weights or moments that are not finite.
    #[error("{0}: weights or inputs are not finite")]
    NotFinite(String),
    /// The thread pool could not be started.
    #[error("threads: {0}")]
    Threads(String),
    /// A result breaks a law of the stored form: a bug.
    #[error(transparent)]
    Stored(#[from] SdError),
    /// The same, of the graph.
    #[error(transparent)]
    Graph(#[from] InferError),
}
