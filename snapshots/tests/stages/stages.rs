//! One case through import and the passes: the text of every stage, with everything the text must satisfy.

use crate::case::{Case, Stage};
use sdc_frontend::{Class, ImportErrors, ImportOptions};
use sdc_interp::compare::{self, compare, granted};
use sdc_interp::{TileOptions as RunOptions, run_graph, run_tile, run_tile_planned, run_tile_with};
use sdc_ir::graph::{BinaryOp, Graph, Op, Port};
use sdc_ir::schedule::Schedule;
use sdc_ir::text;
use sdc_ir::tile::Module;
use sdc_ir::{DType, Tensor};
use sdc_passes::decompose::synthetic::Synthetic;
use sdc_passes::driver::{CheckInputs, Observer};
use sdc_passes::integer;
use sdc_passes::pipeline::{self, Compiled, PipelineError, PipelineOptions};
use sdc_passes::plan::{self, Plan, report::report};
use sdc_passes::schedule::ScheduleOptions;
use sdc_passes::tile::Lowered;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// Where inputs come from; any seed would do.
const INPUTS: CheckInputs = CheckInputs::Seeded(1);

/// Runs the importer on a case.
pub fn import(case: &Case) -> Result<Graph, ImportErrors> {
    let options = ImportOptions {
        dims: case.dims.clone(),
        ..ImportOptions::default()
    };
    sdc_frontend::import(case.model.clone(), &options).map(|imported| imported.graph)
}

/// The graph that a case is about: as imported, or turned into integers.
pub fn start(case: &Case) -> Result<Graph, String> {
    let graph = import(case).map_err(|e| e.to_string())?;
    if !case.integer {
        return Ok(graph);
    }
    let fused = pipeline::run_passes(&graph, &pipeline::TO_FUSED, None, &mut ());
    let fused = fused.map_err(|e| e.to_string())?.graph;
    let samples = Synthetic::new(&fused, 4, 0.0, 1.0, 1);
    let options = integer::Options {
        samples: &samples,
        limit: 4,
        machine: None,
    };
    let converted = integer::run(&fused, &options, &mut |_| true).map_err(|e| e.to_string())?;
    Ok(converted.graph)
}

/// The reasons a case is refused, as a snapshot; or why that is no proper refusal.
pub fn refusal(case: &Case) -> Result<String, String> {
    let graph = match import(case) {
        Ok(graph) => graph,
        Err(errors) => {
            let class = match errors.class() {
                Class::Usage => "usage",
                Class::Malformed => "malformed",
                Class::Unsupported => "unsupported",
                Class::Limit => "limit",
            };
            return Ok(format!(
                "import, {class}, exit code {}\n{errors}\n",
                errors.class().exit_code()
            ));
        }
    };
    match pipeline::compile_pipeline(&graph, &PipelineOptions::default(), &mut ()) {
        Err(PipelineError::Tile(errors)) => {
            let lines: Vec<String> = errors.iter().map(|e| format!("{e}\n")).collect();
            Ok(format!("tile, unsupported\n{}", lines.concat()))
        }
        Err(error) => Err(format!("the passes refuse the model for no good reason: {error}")),
        Ok(_) => Err("the model should fail, but it compiles".to_owned()),
    }
}

/// Runs the passes, the interpreter before and after each, and checks texts and plan on the way. The text of each stage up to the plan.
pub fn compile(graph: &Graph, schedule: ScheduleOptions) -> Result<BTreeMap<Stage, String>, String> {
    let mut watch = Watch::default();
    let options = PipelineOptions {
        check_each_pass: Some(INPUTS),
        schedule,
        ..PipelineOptions::default()
    };
    let compiled = pipeline::compile_pipeline(graph, &options, &mut watch).map_err(|e| e.to_string())?;
    if !watch.faults.is_empty() {
        return Err(watch.faults.join("\n"));
    }
    for remark in &compiled.remarks {
        let stage = Stage::find(remark.pass).ok_or_else(|| format!("`{}` is not a stage", remark.pass))?;
        let text = watch
            .texts
            .get_mut(&stage)
            .ok_or_else(|| format!("no text after {}", remark.pass))?;
        let _ = writeln!(text, "// {remark}");
    }
    check_plan(&compiled)?;
    check_runs(graph, &compiled)?;
    Ok(watch.texts)
}

/// Keeps the text of each stage, and finds fault with it.
#[derive(Default)]
struct Watch {
    texts: BTreeMap<Stage, String>,
    faults: Vec<String>,
}

impl Watch {
    fn keep(&mut self, pass: &str, text: String) {
        match Stage::find(pass) {
            Some(stage) if !self.texts.contains_key(&stage) => _ = self.texts.insert(stage, text),
            _ => self
                .faults
                .push(format!("`{pass}` is not a stage, or comes twice")),
        }
    }

    /// Parsing what was printed must give the same again, and print the same.
    fn round_trip<T: PartialEq + Display, E: Display>(&mut self, pass: &str, it: &T, parsed: Result<T, E>) {
        match parsed {
            Err(error) => self
                .faults
                .push(format!("the text after {pass} does not parse: {error}")),
            Ok(again) if again != *it => {
                self.faults.push(format!(
                    "the text after {pass} parses to something else:\n{it}\nand\n{again}"
                ));
            }
            Ok(_) => {}
        }
    }
}

impl Observer for Watch {
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        let text = graph.to_string();
        self.round_trip(pass, graph, text::parse_graph(&text, &graph.weights));
        self.keep(pass, text);
    }
    fn scheduled(&mut self, graph: &Graph, schedule: &Schedule) {
        let text = text::Scheduled { graph, schedule }.to_string();
        match text::parse_schedule(&text, &graph.weights) {
            Ok((again, parsed)) if again == *graph && parsed == *schedule => {}
            Ok(_) => self
                .faults
                .push(format!("the schedule reads back as something else:\n{text}")),
            Err(error) => self.faults.push(format!("the schedule does not parse: {error}")),
        }
        self.keep("schedule", text);
    }
    fn lowered(&mut self, lowered: &Lowered) {
        let text = lowered.module.to_string();
        self.round_trip(
            "tile",
            &lowered.module,
            text::parse_module(&text, &lowered.module.weights),
        );
        self.keep("tile", text);
    }
    fn planned(&mut self, module: &Module, plan: &Plan) {
        self.keep("plan", report(module, plan).to_string());
    }
}

fn check_plan(compiled: &Compiled) -> Result<(), String> {
    let module = &compiled.lowered.module;
    let faults = plan::check::check(module, &compiled.plan);
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("the plan: {}", faults.join("; ")))
    }
}

/// Inputs and expected outputs: what the interpreter makes of the imported graph.
pub fn oracle(graph: &Graph) -> Result<(Vec<Tensor>, Vec<Tensor>), String> {
    let inputs = INPUTS.tensors(graph).map_err(|e| e.to_string())?;
    let outputs = run_graph(graph, &inputs).map_err(|e| e.to_string())?;
    Ok((inputs, outputs))
}

/// The bytes of tensors.
pub fn bytes(tensors: &[Tensor]) -> Vec<&[u8]> {
    tensors.iter().map(|t| &t.bytes()[..]).collect()
}

/// Fails if an output is not what the oracle says, within the class of a whole compilation.
pub fn check_outputs(
    what: &str,
    graph: &Graph,
    found: Vec<Vec<u8>>,
    expected: &[Tensor],
) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!(
            "{what}: {} outputs instead of {}",
            found.len(),
            expected.len()
        ));
    }
    for ((port, found), expected) in graph.outputs.iter().zip(found).zip(expected) {
        let found = Tensor::new(expected.dtype(), expected.shape().to_vec(), found.into());
        let found = found.map_err(|e| format!("{what}, output `{}`: {e}", port.name))?;
        let report = compare(&found, expected, compare::Class::ROUNDING);
        if !report.passed() {
            return Err(format!("{what}, output `{}`: {report}", port.name));
        }
    }
    Ok(())
}

/// The driver has compared each pass with the one before it. Here the end is held against the beginning, and the ways of running
/// the end against each other.
fn check_runs(graph: &Graph, compiled: &Compiled) -> Result<(), String> {
    let (inputs, expected) = oracle(graph)?;
    let (module, plan, inputs) = (&compiled.lowered.module, &compiled.plan, bytes(&inputs));
    let failed = |e: sdc_interp::EvalError| e.to_string();
    let plain = run_tile(module, &inputs).map_err(failed)?;
    let backwards = RunOptions {
        reverse_parallel: true,
    };
    if plain != run_tile_with(module, &inputs, backwards).map_err(failed)? {
        return Err("the order of parallel iterations changes the result".to_owned());
    }
    let (offsets, size) = (plan.offset_map(), plan.arena_size);
    if plain != run_tile_planned(module, &inputs, &offsets, size, RunOptions::default()).map_err(failed)? {
        return Err("the memory plan changes the result".to_owned());
    }
    check_outputs("tile interpreter", graph, plain, &expected)
}

/// Fails for a network whose outputs are all zero, or not finite: it would agree with many wrong ones.
pub fn check_telling(graph: &Graph) -> Result<(), String> {
    for output in oracle(graph)?.1 {
        let numbers = output.to_f64_vec();
        let zeros = numbers.iter().filter(|x| **x == 0.0).count();
        if numbers.iter().any(|x| !x.is_finite()) || 4 * zeros > 3 * numbers.len() {
            return Err(format!("outputs say too little to compare: {numbers:?}"));
        }
    }
    Ok(())
}

/// Whether some output has so small numbers only that they may be nothing but the roundings of larger ones, or changes, where half
/// types are rounded to, by more than such roundings with the last place of the inputs.
pub fn vague(graph: &Graph) -> Result<bool, String> {
    let (inputs, outputs) = oracle(graph)?;
    let largest = |t: &Tensor| t.to_f64_vec().iter().fold(0f64, |m, x| m.max(x.abs()));
    // Nothing at all is as vague where it is a difference: the operands may be equal but for their roundings.
    let difference = |port: &Port| {
        graph
            .def_node(port.value)
            .is_some_and(|n| matches!(graph.nodes()[n].op, Op::Binary(BinaryOp::Sub | BinaryOp::Add)))
    };
    let small = |(t, port): (&Tensor, &Port)| {
        t.dtype().is_float() && largest(t) < 1e-3 && (largest(t) > 0.0 || difference(port))
    };
    if outputs.iter().zip(&graph.outputs).any(small) {
        return Ok(true);
    }
    if !has_halves(graph) {
        return Ok(false);
    }
    let moved: Vec<Tensor> = inputs.iter().map(nudged).collect::<Result<_, _>>()?;
    let others = run_graph(graph, &moved).map_err(|e| e.to_string())?;
    Ok(outputs.iter().zip(&others).any(|(a, b)| {
        let (x, y) = (a.to_f64_vec(), b.to_f64_vec());
        let apart = x.iter().zip(&y).fold(0f64, |m, (x, y)| m.max((x - y).abs()));
        apart > 2.0 * granted(DType::F16) * largest(a)
    }))
}

/// Whether some value is of a half type.
pub fn has_halves(graph: &Graph) -> bool {
    let half = |dtype| matches!(dtype, DType::F16 | DType::BF16);
    graph.values().values().any(|v| half(v.ty.dtype))
}

/// Floats larger by four units of the last place that `f16` has.
fn nudged(tensor: &Tensor) -> Result<Tensor, String> {
    let mut bytes = tensor.bytes().to_vec();
    match tensor.dtype() {
        DType::F32 => bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|x| {
            *x = (u32::from_le_bytes(*x) + (4 << 13)).to_le_bytes();
        }),
        DType::F16 => bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|x| {
            *x = (u16::from_le_bytes(*x) + 4).to_le_bytes();
        }),
        _ => {}
    }
    Tensor::new(tensor.dtype(), tensor.shape().to_vec(), bytes.into()).map_err(|e| e.to_string())
}
