//! What compression did, layer by layer and byte by byte, and what it costs at the outputs.

use super::{CompressOptions, Compressed, Solver};
use crate::artifact::{self, Directory, Program};
use crate::compile::Options;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::observe::Observer;
use crate::target::{DEFAULT_CPU, Target};
use sdc_artifact::weights;
use sdc_frontend::proto::ModelProto;
use sdc_interp::run_graph;
use sdc_ir::Tensor;
use sdc_ir::analysis::macs;
use sdc_ir::graph::{Graph, Node};
use sdc_ir::sd::{Stored, stored_rows};
use sdc_passes::decompose::allocate::Candidate;
use sdc_passes::decompose::synthetic::Synthetic;
use sdc_passes::decompose::{Choice, LayerResult, Samples};
use sdc_passes::pipeline::{PipelineOptions, compile_pipeline};
use sdc_passes::plan::constants;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Inputs on which the error at the outputs is measured.
const MEASURED_INPUTS: usize = 16;
/// Networks of more multiplications are not run in the reference interpreter, which takes its time.
const MAX_REFERENCE_MACS: u64 = 400_000_000;

/// Key of the metadata that says what a model's layers became: [`LayerRow`]s as JSON.
pub const LAYERS_KEY: &str = "sdc.sd.layers";

/// What was asked for.
pub struct Wanted<'a> {
    /// The model's path.
    pub model: String,
    /// The wish, the method and the inputs.
    pub options: &'a CompressOptions<'a>,
    /// Layers left alone, and why.
    pub excluded: &'a BTreeMap<Node, String>,
}

/// Everything there is to say.
#[derive(Debug, Clone, Serialize)]
pub struct CompressionReport {
    /// The model's path.
    pub model: String,
    /// The path of the model that was written; empty if none was.
    pub output: String,
    /// Its size.
    pub output_bytes: usize,
    /// What was asked for, in words.
    pub wish: String,
    /// The method's name.
    pub solver: String,
    /// Sets of inputs given; none if they were made up.
    pub calibration_inputs: usize,
    /// Four bytes for each weight and bias after folding.
    pub float_bytes: usize,
    /// The weights file that `sdc compile` writes: the sum of `weights_file`.
    pub weights_bytes: usize,
    /// `float_bytes` over `weights_bytes`.
    pub ratio: f64,
    /// Layer by layer, those left alone last.
    pub layers: Vec<LayerRow>,
    /// All of the weights file.
    pub weights_file: Vec<Piece>,
    /// Errors at the outputs.
    pub outputs: Vec<OutputRow>,
    /// Bytes of the weights file and squared error predicted at the outputs, were the layers given more or fewer bits.
    pub pareto: Vec<(usize, f64)>,
    /// How often each magnitude occurs among the codes, zero included.
    pub magnitudes: BTreeMap<u8, usize>,
}

/// A layer.
#[derive(Debug, Serialize, Deserialize, Clone)]
pub struct LayerRow {
    /// The user's node.
    pub node: String,
    /// Its ONNX operator.
    pub op: String,
    /// Of the weights, as ONNX has them.
    pub shape: Vec<usize>,
    /// `S3 r3 {1,2,4}`, `int8` or `float`.
    pub form: String,
    /// Share of rows stored.
    pub density: f64,
    /// Everything that is stored for it, counted.
    pub bits_per_weight: f64,
    /// The same in bytes.
    pub bytes: usize,
    /// Signal to error, in dB, as the solver weighs it; absent if there is no error.
    pub sqnr_db: Option<f64>,
    /// Its part of the squared error predicted at the outputs, relative to their variance.
    pub output_error: Option<f64>,
    /// Why it got this form.
    pub why: String,
}

/// A part of the weights file.
#[derive(Debug, Clone, Serialize)]
pub struct Piece {
    /// What it is.
    pub name: String,
    /// Its size.
    pub bytes: usize,
}

/// Errors at an output, each in dB below the signal (more is better); absent if there is none, or it was not measured.
#[derive(Debug, Clone, Serialize)]
pub struct OutputRow {
    /// The output's name.
    pub output: String,
    /// Through compressed weights: the program with them against the program with the weights as they were.
    pub decomposition_db: Option<f64>,
    /// Through another order of sums: the program against the reference interpreter, both with compressed weights.
    pub reordering_db: Option<f64>,
}

impl CompressionReport {
    /// Compiles both networks to measure them.
    ///
    /// # Errors
    /// Networks that cannot be compiled or run here; inputs that cannot be read.
    pub fn of(compressed: &Compressed, wanted: &Wanted<'_>, observer: &dyn Observer) -> Result<Self> {
        let target = Target::new(DEFAULT_CPU, true)?;
        let weights_file = pieces(&compressed.graph, &target)?;
        let weights_bytes = weights_file.iter().map(|p| p.bytes).sum::<usize>();
        let float_bytes = compressed.plan.totals.float_bytes;
        let mut layers: Vec<LayerRow> = compressed.plan.layers.iter().map(LayerRow::of).collect();
        for (&node, why) in wanted.excluded {
            layers.extend(LayerRow::excluded(&compressed.before, node, why));
        }
        let mut magnitudes = BTreeMap::new();
        for layer in &compressed.plan.layers {
            if let Choice::Stored(Stored::Sd(d)) = &layer.choice {
                for &code in &d.codes {
                    *magnitudes
                        .entry(d.format.value(code).unsigned_abs() as u8)
                        .or_insert(0) += 1;
                }
            }
        }
        Ok(Self {
            model: wanted.model.clone(),
            output: String::new(),
            output_bytes: 0,
            wish: wanted.options.wish.to_string(),
            solver: solver_name(&wanted.options.solver).to_owned(),
            calibration_inputs: wanted.options.calibration.map_or(0, Samples::count),
            float_bytes,
            weights_bytes,
            ratio: float_bytes as f64 / weights_bytes.max(1) as f64,
            layers,
            weights_file,
            outputs: outputs(compressed, wanted, observer)?,
            pareto: compressed.plan.pareto.clone(),
            magnitudes,
        })
    }

    /// Notes the model that was written.
    pub fn written(&mut self, path: &Path, bytes: usize) {
        self.output = path.display().to_string();
        self.output_bytes = bytes;
    }
}

impl LayerRow {
    fn of(layer: &LayerResult) -> Self {
        let weights = layer.shape.iter().product::<usize>().max(1);
        let origin = layer.origins.first();
        let form = match &layer.choice {
            Choice::Float => Candidate::Float.describe(),
            Choice::Stored(stored) => form(stored),
        };
        Self {
            node: origin.map_or_else(String::new, |o| o.name.clone()),
            op: origin.map_or_else(String::new, |o| o.op.clone()),
            shape: layer.shape.clone(),
            form,
            density: layer.density,
            bits_per_weight: 8.0 * layer.bytes as f64 / weights as f64,
            bytes: layer.bytes,
            sqnr_db: Some(layer.sqnr_db).filter(|x| x.is_finite()),
            output_error: layer.output_error,
            why: layer.why.clone(),
        }
    }

    /// What whoever compressed a model recorded of its layers; nothing if there is no such record.
    pub fn recorded(model: &ModelProto) -> Vec<Self> {
        let record = model
            .metadata_props
            .iter()
            .find(|e| e.key.as_deref() == Some(LAYERS_KEY));
        let record = record.and_then(|e| e.value.as_deref());
        record
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// A layer that was left alone.
    fn excluded(graph: &Graph, node: Node, why: &str) -> Option<Self> {
        let data = &graph.nodes()[node];
        let tensor = graph.constant(*data.inputs.get(1)?)?;
        let origin = data.origins.first();
        Some(Self {
            node: origin.map_or_else(String::new, |o| o.name.clone()),
            op: origin.map_or_else(String::new, |o| o.op.clone()),
            shape: tensor.shape().to_vec(),
            form: Candidate::Float.describe(),
            density: 1.0,
            bits_per_weight: 8.0 * tensor.dtype().size() as f64,
            bytes: tensor.bytes().len(),
            sqnr_db: None,
            output_error: None,
            why: format!("kept float: {why}"),
        })
    }
}

/// A stored weight's form: `S3 r3 {1,2,4}` or `int8`.
pub fn form(stored: &Stored) -> String {
    let candidate = match stored {
        Stored::Int8(_) => Candidate::Int8,
        Stored::Sd(d) => Candidate::Sd(d.format.clone()),
    };
    candidate.describe()
}

/// The share of a weight's rows that is stored.
pub fn density(stored: &Stored) -> f64 {
    match stored {
        Stored::Int8(_) => 1.0,
        Stored::Sd(d) => stored_rows(d) as f64 / (d.geometry.filters() * d.rows()).max(1) as f64,
    }
}

/// The weights file of a graph, piece by piece.
fn pieces(graph: &Graph, target: &Target) -> Result<Vec<Piece>> {
    let options = PipelineOptions {
        schedule: target.tile(),
        ..PipelineOptions::default()
    };
    let compiled = compile_pipeline(graph, &options, &mut ())?;
    let mut pieces = vec![Piece {
        name: "header".to_owned(),
        bytes: weights::PAYLOAD,
    }];
    let mut padding = 0;
    for constant in constants(&compiled.lowered.module) {
        padding += constant.bytes.next_multiple_of(weights::ALIGN) - constant.bytes;
        pieces.push(Piece {
            name: constant.name,
            bytes: constant.bytes,
        });
    }
    pieces.push(Piece {
        name: "padding".to_owned(),
        bytes: padding,
    });
    Ok(pieces)
}

fn program(graph: &Graph, observer: &dyn Observer) -> Result<Program> {
    let model = Model::of_graph("measured", graph.clone());
    let options = Options::new(Target::new("native", true)?);
    Directory::compile(model, &options, observer)?.load()
}

fn outputs(compressed: &Compressed, wanted: &Wanted<'_>, observer: &dyn Observer) -> Result<Vec<OutputRow>> {
    let settings = wanted.options;
    let made_up = Synthetic::new(
        &compressed.before,
        MEASURED_INPUTS,
        settings.input_mean,
        settings.input_deviation,
        // Others than those the solver may have seen.
        settings.seed.wrapping_add(1),
    );
    let samples: &dyn Samples = settings.calibration.unwrap_or(&made_up);
    let (before, after) = (
        program(&compressed.before, observer)?,
        program(&compressed.graph, observer)?,
    );
    let names = after.interface().outputs.iter().map(|o| o.name.clone());
    let mut sums: Vec<(String, Ratio, Ratio)> =
        names.map(|n| (n, Ratio::default(), Ratio::default())).collect();
    let macs = |g: &Graph| {
        g.nodes()
            .values()
            .fold(0u64, |n, d| n.saturating_add(macs::of(g, d)))
    };
    let referenced = macs(&compressed.graph) <= MAX_REFERENCE_MACS;
    for i in 0..samples.count().min(MEASURED_INPUTS) {
        let inputs = samples.get(i)?;
        let (exact, found) = (artifact::run(&before, &inputs)?, artifact::run(&after, &inputs)?);
        for ((sum, exact), found) in sums.iter_mut().zip(&exact).zip(&found) {
            sum.1.add(exact, found);
        }
        if i == 0 && referenced {
            let reference = run_graph(&compressed.graph, &inputs).map_err(Error::unsupported)?;
            for ((sum, exact), found) in sums.iter_mut().zip(&reference).zip(&found) {
                sum.2.add(exact, found);
            }
        }
    }
    let row = |(output, decomposition, reordering): (String, Ratio, Ratio)| OutputRow {
        output,
        decomposition_db: decomposition.decibels(),
        reordering_db: reordering.decibels(),
    };
    Ok(sums.into_iter().map(row).collect())
}

/// The method's name, as on the command line.
pub fn solver_name(solver: &Solver) -> &'static str {
    match solver {
        Solver::Released(_) => "released",
        Solver::RowSearch => "row-search",
        Solver::Curvature => "curvature",
        Solver::Feedback => "feedback",
    }
}

/// Sums of squares.
#[derive(Default)]
struct Ratio {
    signal: f64,
    error: f64,
}

impl Ratio {
    fn add(&mut self, exact: &Tensor, found: &Tensor) {
        for (a, b) in exact.to_f64_vec().into_iter().zip(found.to_f64_vec()) {
            if a.is_finite() && b.is_finite() {
                self.signal += a * a;
                self.error += (a - b) * (a - b);
            }
        }
    }
    fn decibels(&self) -> Option<f64> {
        (self.error > 0.0).then(|| 10.0 * (self.signal / self.error).log10())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_in_decibels() {
        let mut ratio = Ratio::default();
        let tensor = |x: f32| Tensor::from_elements(vec![1], vec![x]).unwrap();
        ratio.add(&tensor(1.0), &tensor(1.0));
        assert_eq!(ratio.decibels(), None);
        ratio.add(&tensor(3.0), &tensor(2.0));
        assert!((ratio.decibels().unwrap() - 10.0).abs() < 1e-9);
    }
}
