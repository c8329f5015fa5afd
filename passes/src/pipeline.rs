//! The passes in their order, from an imported graph to a planned tile module.

use crate::driver::{CheckInputs, Driver, DriverError, Observer, Timing};
use crate::fuse::Fuse;
use crate::layout::AssignLayouts;
use crate::legalise::Legalise;
use crate::pass::{Class, Pass, Remark};
use crate::plan::check::{PlanFault, check};
use crate::plan::{self, InPlace, Plan, PlanError, PlanOptions};
use crate::quantise::Quantise;
use crate::schedule::{self, ScheduleOptions};
use crate::simplify::Simplify;
use crate::tile::{self, Lowered, TileError};
use sdc_interp::{EvalError, run_tile, run_tile_planned};
use sdc_ir::Tensor;
use sdc_ir::graph::Graph;
use sdc_ir::schedule::{Schedule, Widths, verify::verify};
use sdc_ir::tile::Module;
use std::collections::BTreeSet;

/// Name of the stage before the first pass: the graph as the frontend made it.
pub const IMPORT: &str = "import";
/// Name of the pass that decides how a graph is computed.
pub const SCHEDULE: &str = schedule::NAME;
/// Name of the pass from a scheduled graph to tile level.
pub const TILE: &str = "tile";
/// Name of the memory plan.
pub const PLAN: &str = "plan";

/// The passes that make the graph which weights are compressed in, and which integers are observed in.
pub const TO_FUSED: [&str; 3] = ["legalise", "simplify", "fuse"];

/// The graph passes in the order of the pipeline.
pub fn graph_passes() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Legalise),
        Box::new(Simplify),
        Box::new(Fuse),
        Box::new(Quantise),
        Box::new(AssignLayouts),
    ]
}

/// A line of `--list-passes`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PassInfo {
    /// Name.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What it may do to results.
    pub class: Class,
}

/// All passes in order.
pub fn list_passes() -> Vec<PassInfo> {
    let mut all: Vec<PassInfo> = graph_passes()
        .iter()
        .map(|p| PassInfo {
            name: p.name(),
            summary: p.summary(),
            class: p.class(),
        })
        .collect();
    all.push(PassInfo {
        name: SCHEDULE,
        summary: "decide where values lie, what computes each group of nodes, and how work is cut",
        class: Class::Exact,
    });
    all.push(PassInfo {
        name: TILE,
        summary: "lower each run of the schedule to functions of loops and kernel calls",
        class: Class::Rounding,
    });
    all.push(PassInfo {
        name: PLAN,
        summary: "give every temporary buffer its place in one static arena",
        class: Class::Exact,
    });
    all
}

/// Options of a compilation up to the tile level.
#[derive(Clone, Debug, Default)]
pub struct PipelineOptions {
    /// The first pass to run, the graph given being what the passes before it would have left. By default all, or, with a schedule
    /// given, what comes after that.
    pub start_from: Option<String>,
    /// The last pass to run; `import` for none.
    pub stop_after: Option<String>,
    /// Run the interpreter before and after each pass.
    pub check_each_pass: Option<CheckInputs>,
    /// Of the schedule pass.
    pub schedule: ScheduleOptions,
    /// The schedule that the graph, which has its layouts, comes with. Needed to start from `tile`; an earlier pass makes a new one.
    pub given: Option<Schedule>,
    /// Of the memory plan.
    pub plan: PlanOptions,
}

/// Why the pipeline did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A graph pass, the verifier or the interpreter.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// `start_from`, `stop_after` or a pass asked for does not exist, or not there.
    #[error("no pass `{name}` here (there are: {})", known.join(", "))]
    UnknownPass {
        /// Name asked for.
        name: String,
        /// Names that exist.
        known: Vec<&'static str>,
    },
    /// The schedule given does not fit the graph.
    #[error("the schedule is malformed: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Schedule(Vec<sdc_ir::schedule::verify::Fault>),
    /// The schedule given was made for another target.
    #[error(
        "the schedule is for vectors of {} lanes, blocks of {} channels and kernels of {} lanes; the target has {}, {} and {}",
        given.lanes, given.block, given.kernel_lanes, target.lanes, target.block, target.kernel_lanes
    )]
    Widths {
        /// Of the schedule.
        given: Widths,
        /// Of the target.
        target: Widths,
    },
    /// `start_from` is `tile`, and there is no schedule.
    #[error("the tile pass starts from a schedule, and there is none")]
    NoSchedule,
    /// Nodes that have no lowering.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tile(Vec<TileError>),
    /// No plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan is wrong: a bug.
    #[error("the memory plan is wrong: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    WrongPlan(Vec<PlanFault>),
}

impl PipelineError {
    /// True if the fault is sdc's, not the caller's.
    pub fn is_bug(&self) -> bool {
        match self {
            PipelineError::Driver(error) => error.is_bug(),
            PipelineError::WrongPlan(_) => true,
            PipelineError::UnknownPass { .. }
            | PipelineError::Schedule(_)
            | PipelineError::Widths { .. }
            | PipelineError::NoSchedule
            | PipelineError::Tile(_)
            | PipelineError::Plan(_) => false,
        }
    }
}

/// What a compilation came to. With `stop_after`, what the later passes would have made is missing.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// After the last graph pass that ran.
    pub graph: Graph,
    /// After the schedule pass.
    pub schedule: Option<Schedule>,
    /// After the tile pass.
    pub lowered: Option<Lowered>,
    /// The memory plan.
    pub plan: Option<Plan>,
    /// What passes did and did not do.
    pub remarks: Vec<Remark>,
    /// Time per pass.
    pub timings: Vec<Timing>,
}

/// A graph compiled down to the tile level.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// After the last graph pass.
    pub graph: Graph,
    /// Functions and buffers.
    pub lowered: Lowered,
    /// The memory plan.
    pub plan: Plan,
    /// What passes did and did not do.
    pub remarks: Vec<Remark>,
    /// Time per pass.
    pub timings: Vec<Timing>,
}

/// Runs the named graph passes, in the order given, on a graph.
///
/// # Errors
/// See [`PipelineError`].
pub fn run_passes(
    graph: &Graph,
    names: &[&str],
    check: Option<&CheckInputs>,
    observer: &mut dyn Observer,
) -> Result<Outcome, PipelineError> {
    let passes = graph_passes();
    let mut chosen = Vec::new();
    for &name in names {
        let found = passes.iter().find(|p| p.name() == name);
        chosen.push(found.ok_or_else(|| unknown(name, passes.iter().map(|p| p.name())))?);
    }
    let mut driver = Driver::new(graph, check, observer)?;
    let mut graph = graph.clone();
    for pass in chosen {
        graph = driver.run(pass.as_ref(), &graph)?;
    }
    Ok(Outcome::new(graph).with(driver))
}

/// Runs the pipeline, or the part of it that the options ask for.
///
/// # Errors
/// See [`PipelineError`].
pub fn run_pipeline(
    graph: &Graph,
    options: &PipelineOptions,
    observer: &mut dyn Observer,
) -> Result<Outcome, PipelineError> {
    let passes = graph_passes();
    let stages: Vec<&'static str> = std::iter::once(IMPORT)
        .chain(list_passes().iter().map(|p| p.name))
        .collect();
    let position = |name: &Option<String>, default: usize| match name {
        None => Ok(default),
        Some(name) => stages
            .iter()
            .position(|s| s == name)
            .ok_or_else(|| unknown(name, stages.iter().copied())),
    };
    // Stage numbers: 0 is `import`, graph pass i is stage i + 1.
    let [schedule_stage, tile_stage, plan_stage] = [1, 2, 3].map(|i| passes.len() + i);
    let default = if options.given.is_some() { tile_stage } else { 1 };
    let first = position(&options.start_from, default)?.max(1);
    let last = position(&options.stop_after, stages.len() - 1)?;
    if first > tile_stage {
        // The plan works on a module, which the caller does not give.
        return Err(unknown(stages[first], stages[..=tile_stage].iter().copied()));
    }

    let mut driver = Driver::new(graph, options.check_each_pass.as_ref(), observer)?;
    let mut graph = graph.clone();
    for (i, pass) in passes.iter().enumerate() {
        if (first..=last).contains(&(i + 1)) {
            graph = driver.run(pass.as_ref(), &graph)?;
        }
    }
    let mut done = Outcome::new(graph);
    if last >= schedule_stage {
        let given = options.given.clone();
        let schedule = match (first > schedule_stage, given) {
            (false, _) => make_schedule(&mut driver, &done.graph, &options.schedule)?,
            (true, Some(given)) => check_schedule(&done.graph, given, &options.schedule)?,
            (true, None) => return Err(PipelineError::NoSchedule),
        };
        done.schedule = Some(schedule);
    }
    if let (Some(schedule), true) = (&done.schedule, last >= tile_stage) {
        done.lowered = Some(lower(&mut driver, &done.graph, schedule)?);
    }
    if let (Some(lowered), true) = (&done.lowered, last >= plan_stage) {
        done.plan = Some(make_plan(&mut driver, &done.graph, lowered, &options.plan)?);
    }
    Ok(done.with(driver))
}

/// Runs the whole pipeline, whatever `stop_after` says.
///
/// # Errors
/// See [`PipelineError`].
pub fn compile_pipeline(
    graph: &Graph,
    options: &PipelineOptions,
    observer: &mut dyn Observer,
) -> Result<Compiled, PipelineError> {
    let options = PipelineOptions {
        stop_after: None,
        ..options.clone()
    };
    let done = run_pipeline(graph, &options, observer)?;
    Ok(Compiled {
        graph: done.graph,
        lowered: done.lowered.expect("the pipeline ran to its end"),
        plan: done.plan.expect("the pipeline ran to its end"),
        remarks: done.remarks,
        timings: done.timings,
    })
}

fn make_schedule(
    driver: &mut Driver<'_>,
    graph: &Graph,
    options: &ScheduleOptions,
) -> Result<Schedule, PipelineError> {
    let (schedule, remarks) = driver.timed(SCHEDULE, || schedule::schedule(graph, options));
    let faults: Vec<String> = verify(graph, &schedule).iter().map(ToString::to_string).collect();
    if !faults.is_empty() {
        return Err(DriverError::Unverified {
            pass: SCHEDULE,
            faults,
        }
        .into());
    }
    driver.remarks.extend(remarks);
    driver.observer().scheduled(graph, &schedule);
    Ok(schedule)
}

fn check_schedule(
    graph: &Graph,
    schedule: Schedule,
    options: &ScheduleOptions,
) -> Result<Schedule, PipelineError> {
    let (given, target) = (schedule.widths, options.widths());
    if given != target {
        return Err(PipelineError::Widths { given, target });
    }
    let faults = verify(graph, &schedule);
    if faults.is_empty() {
        return Ok(schedule);
    }
    Err(PipelineError::Schedule(faults))
}

fn lower(driver: &mut Driver<'_>, graph: &Graph, schedule: &Schedule) -> Result<Lowered, PipelineError> {
    let lowered = driver
        .timed(TILE, || tile::lower(graph, schedule))
        .map_err(PipelineError::Tile)?;
    let faults: Vec<String> = sdc_ir::tile::verify::verify(&lowered.module)
        .iter()
        .map(ToString::to_string)
        .collect();
    if !faults.is_empty() {
        return Err(DriverError::Unverified { pass: TILE, faults }.into());
    }
    compare_tile(driver, TILE, Class::Rounding, graph, |inputs| {
        run_tile(&lowered.module, inputs)
    })?;
    driver.observer().lowered(&lowered);
    Ok(lowered)
}

fn make_plan(
    driver: &mut Driver<'_>,
    graph: &Graph,
    lowered: &Lowered,
    options: &PlanOptions,
) -> Result<Plan, PipelineError> {
    let module = &lowered.module;
    let plan = driver.timed(PLAN, || proven_plan(module, options))?;
    compare_tile(driver, PLAN, Class::Exact, graph, |inputs| {
        run_tile_planned(
            module,
            inputs,
            &plan.offset_map(),
            plan.arena_size,
            Default::default(),
        )
    })?;
    driver.observer().planned(module, &plan);
    Ok(plan)
}

/// A plan that the checker found right. What shares memory in a function too long for the checker is planned apart.
fn proven_plan(module: &Module, options: &PlanOptions) -> Result<Plan, PipelineError> {
    let plan = plan::plan(module, options)?;
    let faults = check(module, &plan);
    if faults.is_empty() {
        return Ok(plan);
    }
    let not_shown: BTreeSet<_> = faults.iter().filter_map(PlanFault::not_shown).collect();
    let known: BTreeSet<_> = plan.shared.iter().map(InPlace::buffers).collect();
    let proven = plan::plan_where(module, options, |p| {
        let pair = p.buffers();
        known.contains(&pair) && !not_shown.contains(&pair)
    })?;
    let faults = check(module, &proven);
    if faults.is_empty() {
        Ok(proven)
    } else {
        Err(PipelineError::WrongPlan(faults))
    }
}

/// Runs a module on the driver's inputs, if there are any, and compares its outputs with those before.
fn compare_tile(
    driver: &mut Driver<'_>,
    pass: &'static str,
    class: Class,
    graph: &Graph,
    run: impl FnOnce(&[&[u8]]) -> Result<Vec<Vec<u8>>, EvalError>,
) -> Result<(), DriverError> {
    let Some(inputs) = driver.check_inputs() else {
        return Ok(());
    };
    let bytes: Vec<&[u8]> = inputs.iter().map(|t| &t.bytes()[..]).collect();
    let failed = |error: EvalError| DriverError::Eval {
        pass,
        error: Box::new(error),
    };
    let mut outputs = Vec::new();
    for (data, port) in run(&bytes).map_err(failed)?.into_iter().zip(&graph.outputs) {
        let ty = graph.ty(port.value);
        let tensor = Tensor::new(ty.dtype, ty.sizes().to_vec(), data.into());
        outputs.push(tensor.map_err(|e| failed(e.into()))?);
    }
    driver.compare(pass, class, graph, outputs)
}

impl Outcome {
    fn new(graph: Graph) -> Self {
        Self {
            graph,
            schedule: None,
            lowered: None,
            plan: None,
            remarks: Vec::new(),
            timings: Vec::new(),
        }
    }

    fn with(self, driver: Driver<'_>) -> Self {
        Self {
            remarks: driver.remarks,
            timings: driver.timings,
            ..self
        }
    }
}

fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> PipelineError {
    PipelineError::UnknownPass {
        name: name.to_owned(),
        known: known.collect(),
    }
}
