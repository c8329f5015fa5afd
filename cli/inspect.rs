//! `sdc inspect`: what is in a model, and what of it is not supported, before anything is compiled.

use crate::exit::{Exit, Failure, Nodes, Problem};
use crate::model::{ModelArgs, ModelFile};
use crate::progress::Progress;
use crate::sd::report::{LayerRow, decibels, density, form};
use crate::sdir;
use crate::target::HereArgs;
use crate::units::size;
use comfy_table::{CellAlignment, Table, presets};
use sdc_frontend::proto::{DimensionValue, NodeProto, TypeValue, ValueInfoProto, data_type};
use sdc_ir::Tensor;
use sdc_ir::analysis::macs;
use sdc_ir::graph::{Graph, NodeData, Op, Value};
use sdc_ir::sd::Stored;
use sdc_passes::pipeline::{PipelineOptions, compile_pipeline};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc inspect model.onnx
  sdc inspect model.onnx --json | jq .macs
  sdc inspect model.onnx --dim batch=1     # sizes need values for symbolic dimensions

Exit code 4 if something in the model is not supported; all of it is listed, as `sdc compile` would.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Everything there is to say.
#[derive(Serialize, Default)]
struct Inspection {
    file: String,
    file_bytes: usize,
    sha256: String,
    ir_version: i64,
    producer: String,
    /// Version by domain; `ai.onnx` is the default domain.
    opsets: BTreeMap<String, i64>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// ONNX operators and how often each occurs, sub-graphs not counted.
    operators: BTreeMap<String, usize>,
    supported: bool,
    problems: Vec<ProblemRow>,
    remarks: Vec<String>,
    /// The remaining fields are known of supported models only.
    parameters: Option<u64>,
    parameter_bytes: Option<u64>,
    macs: Option<u64>,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

#[derive(Serialize)]
struct ProblemRow {
    code: Option<String>,
    message: String,
    notes: Vec<String>,
    help: Option<String>,
    /// Inputs that would remove it if they were given with `--fix`.
    fix: Vec<String>,
    /// Which nodes have it, how many they are, and where they would be supported.
    nodes: Option<Nodes>,
}

/// A node with weights, or one that multiplies.
#[derive(Serialize)]
struct Layer {
    node: String,
    op: String,
    output: String,
    parameters: u64,
    bytes: u64,
    macs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed: Option<CompressedLayer>,
}

/// What is special about compressed weights.
#[derive(Serialize)]
struct CompressedLayer {
    /// `S3 r3 {1,2,4}` or `int8`.
    form: String,
    /// Share of rows stored.
    density: f64,
    bits_per_weight: f64,
    /// As whoever compressed the model recorded it.
    sqnr_db: Option<f64>,
    output_error: Option<f64>,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    if sdir::is_text(&args.model.model) {
        return Err(Failure::usage(
            "inspect reads ONNX files; a text form can simply be read",
        ));
    }
    let file = ModelFile::read_fixed(&args.model.model, &args.model.dims)?;
    let mut inspection = Inspection::of_file(&file);
    inspection.file = args.model.model.display().to_string();
    let recorded = LayerRow::recorded(&file.proto);
    let failure = match file.import(args.model.dims.map()?) {
        Ok((model, imported)) => {
            inspection.remarks = imported.remarks.iter().map(ToString::to_string).collect();
            inspection.add_graph(&model.graph, &recorded);
            compile(&model.graph)?.err()
        }
        // A wrong option is no property of the model.
        Err(failure) if failure.exit == Exit::Usage => return Err(failure),
        Err(failure) => Some(failure),
    };
    let problems = failure.iter().flat_map(|f| &f.problems);
    inspection.problems = problems.map(ProblemRow::from).collect();
    inspection.supported = failure.is_none();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &inspection).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        inspection.print(out)?;
    }
    failure.map_or(Ok(()), Err)
}

/// The way to the tile level and the memory plan, for this machine: what it cannot compile, `sdc compile` cannot.
fn compile(graph: &Graph) -> Result<Result<(), Failure>, Failure> {
    let options = PipelineOptions {
        tile: HereArgs::default().target()?.tile(),
        ..PipelineOptions::default()
    };
    let progress = Progress::spinner();
    progress.say("compile");
    let compiled = compile_pipeline(graph, &options, &mut ());
    match compiled.map_err(Failure::from) {
        Ok(_) => Ok(Ok(())),
        Err(failure) if matches!(failure.exit, Exit::Unsupported | Exit::Limit) => Ok(Err(failure)),
        // A bug is no property of the model.
        Err(failure) => Err(failure),
    }
}

impl From<&Problem> for ProblemRow {
    fn from(problem: &Problem) -> Self {
        let Problem {
            code,
            message,
            notes,
            help,
            fix,
            at: nodes,
        } = problem.clone();
        Self {
            code,
            message,
            notes,
            help,
            fix,
            nodes,
        }
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
            inputs: file.inputs().map(Port::declared).collect(),
            outputs: proto
                .graph
                .iter()
                .flat_map(|g| &g.output)
                .map(Port::declared)
                .collect(),
            operators,
            ..Self::default()
        }
    }

    fn add_graph(&mut self, graph: &Graph, recorded: &[LayerRow]) {
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
            .filter_map(|node| Layer::of(graph, node, recorded));
        self.layers = layers.collect();
        self.macs = Some(self.layers.iter().fold(0, |n, l| n.saturating_add(l.macs)));
    }

    /// The nodes that cannot be compiled, a line for each kind of problem.
    fn print_unsupported(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let rows: Vec<Vec<String>> = self
            .problems
            .iter()
            .filter_map(|p| {
                let nodes = p.nodes.as_ref()?;
                let set = nodes
                    .supported_since
                    .map_or_else(|| "none".to_owned(), |n| n.to_string());
                let first = nodes.names.first().cloned().unwrap_or_default();
                let code = p.code.clone().unwrap_or_default();
                Some(vec![
                    nodes.operator.clone(),
                    code,
                    first,
                    nodes.count.to_string(),
                    set,
                ])
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let head = [
            "not supported",
            "code",
            "first node",
            "count",
            "from operator set",
        ];
        table(out, &head, rows.into_iter())
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "file: {} ({})", self.file, size(self.file_bytes as u64))?;
        writeln!(out, "sha256: {}", self.sha256)?;
        let opsets: Vec<String> = self
            .opsets
            .iter()
            .map(|(domain, version)| format!("{domain} {version}"))
            .collect();
        writeln!(
            out,
            "ir_version: {}, opset: {}",
            self.ir_version,
            opsets.join(", ")
        )?;
        if !self.producer.is_empty() {
            writeln!(out, "producer: {}", self.producer)?;
        }
        for (what, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            for port in ports {
                writeln!(out, "{what}: {} {}", port.name, port.ty)?;
            }
        }
        if let (Some(parameters), Some(bytes), Some(macs)) =
            (self.parameters, self.parameter_bytes, self.macs)
        {
            writeln!(out, "parameters: {parameters} ({})", size(bytes))?;
            writeln!(out, "macs: {macs}")?;
        }
        for remark in &self.remarks {
            writeln!(out, "remark: {remark}")?;
        }
        writeln!(out)?;
        let mut operators: Vec<(&String, &usize)> = self.operators.iter().collect();
        operators.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let rows = operators
            .iter()
            .map(|(op, count)| vec![(*op).clone(), count.to_string()]);
        table(out, &["operator", "count"], rows)?;
        self.print_unsupported(out)?;
        if !self.layers.is_empty() {
            writeln!(out)?;
            let row = |l: &Layer| {
                let numbers = [l.parameters, l.bytes, l.macs].map(|n| n.to_string());
                [
                    vec![l.node.clone(), l.op.clone(), l.output.clone()],
                    numbers.into(),
                ]
                .concat()
            };
            table(
                out,
                &["layer", "operator", "output", "parameters", "bytes", "macs"],
                self.layers.iter().map(row),
            )?;
        }
        if self.layers.iter().any(|l| l.compressed.is_some()) {
            writeln!(out)?;
            let compressed = self
                .layers
                .iter()
                .filter_map(|l| Some((l, l.compressed.as_ref()?)));
            let rows = compressed.map(|(l, c)| {
                vec![
                    l.node.clone(),
                    l.op.clone(),
                    c.form.clone(),
                    format!("{:.2}", c.density),
                    format!("{:.2}", c.bits_per_weight),
                    decibels(c.sqnr_db),
                    c.output_error
                        .map_or_else(|| "-".to_owned(), |e| format!("{e:.1e}")),
                ]
            });
            let head = [
                "compressed",
                "operator",
                "form",
                "density",
                "bits",
                "SQNR dB",
                "output error",
            ];
            table(out, &head, rows)?;
        }
        Ok(())
    }
}

/// A table without lines; columns from the fourth on, and the second of two, hold numbers.
fn table(out: &mut dyn Write, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(head.to_vec())
        .add_rows(rows);
    let numbers = if head.len() == 2 { 1.. } else { 3.. };
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(writeln!(out, "{}", table.trim_fmt())?)
}

impl Port {
    /// A port as the model declares it, symbolic dimensions by name.
    fn declared(info: &ValueInfoProto) -> Self {
        let ty = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(TypeValue::Tensor(t)) => {
                let dims = t.shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
                    Some(DimensionValue::DimValue(n)) => n.to_string(),
                    Some(DimensionValue::DimParam(name)) if !name.is_empty() => name.clone(),
                    _ => "?".to_owned(),
                });
                format!(
                    "{}[{}]",
                    data_type::name(t.elem_type.unwrap_or(0)),
                    dims.collect::<Vec<_>>().join(",")
                )
            }
            Some(_) => "not a tensor".to_owned(),
            None => "of unknown type".to_owned(),
        };
        Self {
            name: info.name.clone().unwrap_or_default(),
            ty,
        }
    }
}

impl Layer {
    fn of(graph: &Graph, node: &NodeData, recorded: &[LayerRow]) -> Option<Self> {
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
            compressed: packed.map(|p| CompressedLayer::of(&p, node, recorded)),
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
        }
    }
}
