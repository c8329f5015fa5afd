//! What is in a model, and what of it is not supported.

use crate::compile::decisions;
use crate::compress::{LayerRow, density, form};
use crate::declared::Declared;
use crate::error::{Error, Kind, Problem, Result};
use crate::model::{ModelFile, ModelOptions};
use crate::observe::{self, Observer};
use crate::stages;
use crate::target::Target;
use sdc_frontend::proto::NodeProto;
use sdc_ir::Tensor;
use sdc_ir::analysis::macs;
use sdc_ir::graph::{Graph, NodeData, Op, Value};
use sdc_ir::sd::Stored;
use sdc_passes::pass::Remark;
use sdc_passes::pipeline::{PipelineOptions, compile_pipeline};
use sdc_passes::schedule::ROW_SPARSE;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Everything there is to say.
#[derive(Debug, Serialize, Default)]
pub struct Inspection {
    /// The path.
    pub file: String,
    /// The file's size.
    pub file_bytes: usize,
    /// Of the file.
    pub sha256: String,
    /// Version of ONNX's file format.
    pub ir_version: i64,
    /// Name and version of the program that wrote it, as it says.
    pub producer: String,
    /// Version by domain; `ai.onnx` is the default domain.
    pub opsets: BTreeMap<String, i64>,
    /// Inputs, those with a default value excepted.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// ONNX operators and how often each occurs, sub-graphs not counted.
    pub operators: BTreeMap<String, usize>,
    /// Whether it can be compiled for this machine.
    pub supported: bool,
    /// All that keeps it from being compiled.
    pub problems: Vec<Problem>,
    /// What the import did beyond the usual.
    pub remarks: Vec<String>,
    /// Weights and biases. This and the remaining fields are known of supported models only.
    pub parameters: Option<u64>,
    /// Their size, compressed weights as they are stored.
    pub parameter_bytes: Option<u64>,
    /// Multiply-accumulates of one run.
    pub macs: Option<u64>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
}

/// An input or output.
#[derive(Debug, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type: `f32[N,3,32,32]`.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A node with weights, or one that multiplies.
#[derive(Debug, Serialize)]
pub struct Layer {
    /// The user's nodes.
    pub node: String,
    /// The operator after import.
    pub op: String,
    /// Type of its first output.
    pub output: String,
    /// Numbers of weights.
    pub parameters: u64,
    /// Their size.
    pub bytes: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Of compressed weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressed: Option<CompressedLayer>,
}

/// What is special about compressed weights.
#[derive(Debug, Serialize)]
pub struct CompressedLayer {
    /// `S3 r3 {1,2,4}` or `int8`.
    pub form: String,
    /// Share of rows stored.
    pub density: f64,
    /// Everything that is stored, counted.
    pub bits_per_weight: f64,
    /// As whoever compressed the model recorded it.
    pub sqnr_db: Option<f64>,
    /// Its part of the squared error predicted at the outputs, as recorded.
    pub output_error: Option<f64>,
    /// Whether leaving out rows that are not stored saves time on this machine, or below which share of stored rows it would.
    pub speed: Option<String>,
}

/// Looks at a model: all that is in it, and the error that compiling it for this machine would end with, if any.
///
/// # Errors
/// A file that is no ONNX model, and options that do not suit it. That something in it is malformed or not supported is a finding.
pub fn inspect(
    path: &Path,
    options: &ModelOptions,
    observer: &dyn Observer,
) -> Result<(Inspection, Option<Error>)> {
    if stages::is_text(path) {
        let message = "inspect reads ONNX files; a text form can simply be read";
        return Err(Error::usage(message));
    }
    let file = ModelFile::read(path, options)?;
    let (mut inspection, error) = inspect_file(file, options, observer)?;
    inspection.file = path.display().to_string();
    Ok((inspection, error))
}

/// As [`inspect`], of a file that is decoded already; the path remains empty, and inputs are fixed in the file, not by the options.
///
/// # Errors
/// As for [`inspect`].
pub fn inspect_file(
    file: ModelFile,
    options: &ModelOptions,
    observer: &dyn Observer,
) -> Result<(Inspection, Option<Error>)> {
    let mut inspection = Inspection::of_file(&file);
    let recorded = LayerRow::recorded(&file.proto);
    let error = match file.import(options.dims.clone()) {
        Ok(model) => {
            inspection.remarks = model.remarks.iter().map(ToString::to_string).collect();
            let compiled = compile(&model.graph, observer)?;
            let decided = compiled.as_ref().map_or(&[][..], |remarks| remarks);
            inspection.add_graph(&model.graph, &recorded, decided);
            compiled.err()
        }
        // A wrong option is no property of the model.
        Err(error) if error.kind() == Kind::Usage => return Err(error),
        Err(error) => Some(error),
    };
    inspection.problems = error.iter().flat_map(Error::problems).collect();
    inspection.supported = error.is_none();
    Ok((inspection, error))
}

/// The way to the tile level and the memory plan, for this machine: what passes decided on it.
fn compile(graph: &Graph, observer: &dyn Observer) -> Result<Result<Vec<Remark>>> {
    let options = PipelineOptions {
        schedule: Target::new("native", true)?.tile(),
        ..PipelineOptions::default()
    };
    observe::step(observer, "compile")?;
    match compile_pipeline(graph, &options, &mut ()).map_err(Error::from) {
        Ok(compiled) => Ok(Ok(compiled.remarks)),
        Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::Limit) => Ok(Err(error)),
        // A bug is no property of the model.
        Err(error) => Err(error),
    }
}

impl Inspection {
    fn of_file(file: &ModelFile) -> Self {
        let proto = &file.proto;
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let domain = |s: &Option<String>| {
            Some(text(s))
                .filter(|d| !d.is_empty())
                .unwrap_or_else(|| "ai.onnx".to_owned())
        };
        let mut operators = BTreeMap::new();
        let name = |node: &NodeProto| match domain(&node.domain).as_str() {
            "ai.onnx" => text(&node.op_type),
            other => format!("{other}.{}", text(&node.op_type)),
        };
        for node in proto.graph.iter().flat_map(|g| &g.node) {
            *operators.entry(name(node)).or_default() += 1;
        }
        Self {
            file_bytes: file.size,
            sha256: file.digest.to_string(),
            ir_version: proto.ir_version.unwrap_or(0),
            producer: format!("{} {}", text(&proto.producer_name), text(&proto.producer_version))
                .trim()
                .to_owned(),
            opsets: proto
                .opset_import
                .iter()
                .map(|o| (domain(&o.domain), o.version.unwrap_or(0)))
                .collect(),
            inputs: file.declared_inputs().iter().map(Port::declared).collect(),
            outputs: file.declared_outputs().iter().map(Port::declared).collect(),
            operators,
            ..Self::default()
        }
    }

    fn add_graph(&mut self, graph: &Graph, recorded: &[LayerRow], decided: &[Remark]) {
        let port = |p: &sdc_ir::graph::Port| Port {
            name: p.name.clone(),
            ty: graph.ty(p.value).to_string(),
        };
        self.inputs = graph.inputs.iter().map(port).collect();
        self.outputs = graph.outputs.iter().map(port).collect();
        let floats = graph.weights.iter().filter(|(.., t)| t.dtype().is_float());
        let (mut count, mut bytes) = floats.fold((0, 0), |sum, (.., t)| {
            (sum.0 + t.len() as u64, sum.1 + t.bytes().len() as u64)
        });
        for node in graph.nodes().values().filter(|n| matches!(n.op, Op::Rebuild(_))) {
            count += graph.ty(node.outputs[0]).elements().unwrap_or(0) as u64;
            bytes += graph.ty(node.inputs[0]).bytes().unwrap_or(0) as u64;
        }
        self.parameters = Some(count);
        self.parameter_bytes = Some(bytes);
        let layers = graph
            .nodes()
            .values()
            .filter_map(|node| Layer::of(graph, node, recorded, decided));
        self.layers = layers.collect();
        self.macs = Some(self.layers.iter().fold(0, |n, l| n.saturating_add(l.macs)));
    }
}

impl Port {
    /// A port as the model declares it, symbolic dimensions by name.
    fn declared(port: &Declared) -> Self {
        Self {
            name: port.name.clone(),
            ty: port.type_text(),
        }
    }
}

impl Layer {
    fn of(graph: &Graph, node: &NodeData, recorded: &[LayerRow], decided: &[Remark]) -> Option<Self> {
        if matches!(node.op, Op::Constant(_) | Op::Rebuild(_)) {
            return None;
        }
        let weights: Vec<&Tensor> = node
            .inputs
            .iter()
            .filter_map(|&v| graph.constant(v))
            .filter(|t| t.dtype().is_float())
            .collect();
        let macs = macs::of(graph, node);
        let packed = node.inputs.iter().find_map(|&v| packed(graph, v));
        if weights.is_empty() && packed.is_none() && macs == 0 {
            return None;
        }
        Some(Self {
            node: node
                .origins
                .iter()
                .map(|o| o.name.as_str())
                .collect::<Vec<_>>()
                .join(" + "),
            op: node.op.name().to_owned(),
            output: node
                .outputs
                .first()
                .map_or_else(String::new, |&v| graph.ty(v).to_string()),
            parameters: weights.iter().map(|t| t.len() as u64).sum::<u64>()
                + packed
                    .as_ref()
                    .map_or(0, |p| p.geometry().shape.iter().product::<usize>() as u64),
            bytes: weights.iter().map(|t| t.bytes().len() as u64).sum::<u64>()
                + packed.as_ref().map_or(0, |p| p.packed_len() as u64),
            macs,
            compressed: packed.map(|p| CompressedLayer {
                speed: decisions(decided, &node.origins, |rule| rule == ROW_SPARSE).pop(),
                ..CompressedLayer::of(&p, node, recorded)
            }),
        })
    }
}

/// The compressed weight that a value is rebuilt from.
fn packed(graph: &Graph, value: Value) -> Option<Stored> {
    let rebuild = &graph.nodes()[graph.def_node(value)?];
    match rebuild.op {
        Op::Rebuild(_) => Stored::unpack(graph.constant(rebuild.inputs[0])?.bytes()).ok(),
        _ => None,
    }
}

impl CompressedLayer {
    fn of(stored: &Stored, node: &NodeData, recorded: &[LayerRow]) -> Self {
        let weights = stored.geometry().shape.iter().product::<usize>().max(1);
        let named = |l: &&LayerRow| node.origins.iter().any(|o| o.name == l.node);
        let recorded = recorded.iter().find(named);
        Self {
            form: form(stored),
            density: density(stored),
            bits_per_weight: 8.0 * stored.packed_len() as f64 / weights as f64,
            sqnr_db: recorded.and_then(|l| l.sqnr_db),
            output_error: recorded.and_then(|l| l.output_error),
            speed: None,
        }
    }
}
