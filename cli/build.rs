//! The one way from a graph to an artifact: passes, Cranelift, kernels, files. Every command that compiles comes here.

use crate::exit::{Exit, Failure, Problem};
use crate::progress::Progress;
use crate::sdir::Dump;
use crate::target::Target;
use sdc_artifact::emit::{Package, Written, embed_weights, emit};
use sdc_artifact::interface::{Interface, TensorSpec, sanitise};
use sdc_artifact::manifest::{Kind, Origin, Plan as PlanSummary};
use sdc_artifact::object::read::elf::ElfFile64;
use sdc_artifact::object::{Object as _, ObjectSection as _, SectionKind};
use sdc_artifact::weights::{self, Header};
use sdc_artifact::{ObjectError, merge};
use sdc_cranelift::Options as CraneliftOptions;
use sdc_ir::Digest;
use sdc_ir::entity::Arena;
use sdc_ir::graph::{Graph, Weight};
use sdc_ir::tile::{Buffer, BufferKind, Module};
use sdc_lower::Placement;
use sdc_passes::driver::{DriverError, Observer};
use sdc_passes::pass::{PassError, Remark};
use sdc_passes::pipeline::{self, Compiled, PipelineError, PipelineOptions};
use sdc_passes::plan::explain::explain;
use sdc_passes::plan::{self, Plan, report};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// What to build.
#[derive(Debug)]
pub struct Request<'a> {
    /// The model's name; any text.
    pub name: &'a str,
    /// SHA-256 of the model file.
    pub model: Digest,
    /// CPU and kernels.
    pub target: &'a Target,
    /// Put the weights into the object.
    pub embed_weights: bool,
    /// Files to write.
    pub kinds: BTreeSet<Kind>,
    /// Options of the command line, for the manifest.
    pub options: BTreeMap<String, String>,
    /// Options of the passes; the tile pass's are the target's.
    pub passes: PipelineOptions,
    /// The largest arena allowed, in bytes.
    pub ram: Option<usize>,
    /// The most that code and weights may take together, in bytes.
    pub flash: Option<usize>,
}

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// The files.
    pub files: Vec<Written>,
    /// As in the header.
    pub interface: Interface,
    /// The memory plan, for reports.
    pub plan: report::Report,
    /// Bytes of code and constants.
    pub code_bytes: u64,
    /// Kernels linked in.
    pub kernels: Vec<String>,
    /// What passes did and left undone.
    pub remarks: Vec<Remark>,
    /// Time of each step.
    pub timings: Vec<(&'static str, Duration)>,
}

/// Compiles a graph and writes its artifact into `dir`.
pub fn build(graph: Graph, request: &Request<'_>, dump: Option<&mut Dump>, dir: &Path) -> Result<Built, Failure> {
    let progress = Progress::spinner();
    let mut watch = Watch { progress: &progress, dump };
    let options = PipelineOptions { tile: request.target.tile(), ..request.passes.clone() };
    let compiled = pipeline::compile_pipeline(&graph, &options, &mut watch).map_err(Failure::from)?;
    drop(graph);
    let mut timings: Vec<_> = compiled.timings.iter().map(|t| (t.pass, t.time)).collect();
    let mut timed = Timed { progress: &progress, timings: &mut timings };

    let module = &compiled.lowered.module;
    if let Some(excess) = request.ram.and_then(|limit| explain(module, &compiled.plan, limit)) {
        return Err(too_large("--ram", &excess.to_string()));
    }
    let constants = Constants::of(module)?;
    let tensors: Vec<&[u8]> = constants.order.iter().map(|&w| &module.weights[w].bytes()[..]).collect();
    let header = timed.run("hash weights", || Header::of(&tensors));
    let interface = interface(&compiled, request, &header);
    let (object, kernels) = timed.run("compile", || machine_code(&compiled, &constants, request, &interface, &header))?;
    let mut object = object;
    if request.embed_weights {
        embed_weights(&mut object, &interface.name, &header, &tensors).map_err(Failure::limit)?;
    }
    let object = object.write().map_err(|e| Failure::from(ObjectError::Write(e)))?;
    let code_bytes = loaded_bytes(&object)?;
    if let Some(limit) = request.flash {
        check_flash(code_bytes, &interface, module, &constants, limit)?;
    }
    let package = Package {
        interface: &interface,
        object: &object,
        weights: if request.embed_weights { &[] } else { &tensors },
        origin: Origin {
            model: Some(request.model),
            options: request.options.clone(),
            plan: Some(PlanSummary {
                peak: compiled.plan.arena_size as u64,
                lower_bound: compiled.plan.lower_bound as u64,
                buffers: compiled.plan.offset_map().len() as u64,
            }),
        },
    };
    let files = timed.run("write files", || emit(dir, &package, &request.kinds))?;
    let plan = plan::report::report(module, &compiled.plan);
    Ok(Built { files, plan, code_bytes, kernels, remarks: compiled.remarks, timings, interface })
}

/// Constants of a module and where they lie in the weights' payload.
struct Constants {
    /// Each constant once, in the order of the payload.
    order: Vec<Weight>,
    /// Offset of each buffer that is a constant.
    offsets: Vec<Option<u64>>,
    /// Size of the payload.
    payload: u64,
}

impl Constants {
    fn of(module: &Module) -> Result<Self, Failure> {
        let mut order = Vec::new();
        let mut position = BTreeMap::new();
        for buffer in module.buffers.values() {
            if let BufferKind::Const(weight) = buffer.kind {
                position.entry(weight).or_insert_with(|| {
                    order.push(weight);
                    order.len() - 1
                });
            }
        }
        let layout = weights::layout(order.iter().map(|&w| module.weights[w].bytes().len()))
            .ok_or_else(|| Failure::limit("the weights exceed the address space"))?;
        let offset = |kind: &BufferKind| match kind {
            BufferKind::Const(weight) => Some(layout.offsets[position[weight]] - weights::PAGE as u64),
            _ => None,
        };
        let offsets = module.buffers.values().map(|b| offset(&b.kind)).collect();
        Ok(Self { order, offsets, payload: layout.payload })
    }
}

fn interface(compiled: &Compiled, request: &Request<'_>, header: &Header) -> Interface {
    let graph = &compiled.graph;
    let ports = |ports: &[sdc_ir::graph::Port]| {
        TensorSpec::list(ports.iter().map(|p| {
            let ty = graph.ty(p.value);
            (p.name.clone(), ty.dtype, ty.shape.clone())
        }))
    };
    let features = request.target.features();
    Interface {
        name: sanitise(request.name),
        inputs: ports(&graph.inputs),
        outputs: ports(&graph.outputs),
        arena_size: compiled.plan.arena_size,
        arena_align: plan::ALIGN,
        weights_size: header.image() as usize,
        weights_align: weights::ALIGN,
        prepared_size: 0,
        prepared_align: 1,
        weights_digest: header.digest,
        weights_embedded: request.embed_weights,
        cpu: request.target.cpu.name.to_owned(),
        features: sdc_kernels::features::names(features).map(str::to_owned).collect(),
    }
}

type Object = sdc_artifact::object::write::Object<'static>;

/// The object with the kernels it calls, and their symbols.
fn machine_code(
    compiled: &Compiled,
    constants: &Constants,
    request: &Request<'_>,
    interface: &Interface,
    header: &Header,
) -> Result<(Object, Vec<String>), Failure> {
    let target = request.target;
    let module = &compiled.lowered.module;
    let placement = Placement {
        temps: temps(&compiled.plan),
        consts: constants.offsets.clone(),
        arena_size: compiled.plan.arena_size as u64,
        arena_align: plan::ALIGN as u64,
        weights_size: weights::PAGE as u64 + constants.payload,
    };
    let symbols = |instance: &sdc_kernels::Instance| -> BTreeMap<String, String> {
        let names = sdc_kernels::KERNELS.iter().map(|k| k.name);
        names.filter_map(|name| Some((name.to_owned(), instance.symbol(name)?))).collect()
    };
    let prepare = target.base.symbol("prepare").ok_or_else(|| Failure::bug("no kernel object holds `prepare`"))?;
    let options = CraneliftOptions {
        name: interface.name.clone(),
        cpu: target.cpu.clone(),
        required_features: target.features(),
        weights_header: header.bytes(),
        kernels: target.kernels.map(symbols).unwrap_or_default(),
        prepare,
        opt_level: Default::default(),
    };
    let mut code = sdc_cranelift::compile(module, &placement, &options)?;
    let objects: Vec<&[u8]> = target.kernels.into_iter().chain([target.base]).map(|i| i.object).collect();
    let kernels = merge::kernels(&mut code.object, &objects)?;
    Ok((code.object, kernels))
}

fn temps(plan: &Plan) -> Vec<Option<u64>> {
    plan.offsets.values().map(|o| o.map(|at| at as u64)).collect()
}

/// Bytes of the object that a program holds in memory: code and constants.
fn loaded_bytes(object: &[u8]) -> Result<u64, Failure> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).map_err(|e| Failure::bug(format!("our own object: {e}")))?;
    let loaded = |kind| {
        matches!(kind, SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString | SectionKind::ReadOnlyDataWithRel)
    };
    Ok(file.sections().filter(|s| loaded(s.kind())).map(|s| s.size()).sum())
}

/// Constants named when code and weights are too large.
const SHOWN_CONSTANTS: usize = 5;

fn check_flash(
    code: u64,
    interface: &Interface,
    module: &Module,
    constants: &Constants,
    limit: usize,
) -> Result<(), Failure> {
    let weights = interface.weights_size as u64;
    let total = if interface.weights_embedded { code } else { code + weights };
    if total <= limit as u64 {
        return Ok(());
    }
    let names = buffer_names(&module.buffers);
    let mut largest: Vec<(usize, &str)> =
        constants.order.iter().map(|w| (module.weights[*w].bytes().len(), names.get(w).copied().unwrap_or(""))).collect();
    largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut text = format!("code and weights take {total} bytes, {} more than the limit of {limit}\n", total - limit as u64);
    text += &format!("  code: {} bytes\n  weights: {weights} bytes, the largest:\n", total - weights);
    for (bytes, name) in largest.iter().take(SHOWN_CONSTANTS) {
        text += &format!("    {bytes:>12}  {name}\n");
    }
    Err(too_large("--flash", &text))
}

fn buffer_names(buffers: &Arena<Buffer, sdc_ir::tile::BufferData>) -> BTreeMap<Weight, &str> {
    let named = |b: &'_ sdc_ir::tile::BufferData| match b.kind {
        BufferKind::Const(weight) => Some(weight),
        _ => None,
    };
    buffers.values().filter_map(|b| Some((named(b)?, b.name.as_str()))).collect()
}

/// A limit of the user's is exceeded; the first line of the text says by how much, the others why.
pub fn too_large(option: &str, text: &str) -> Failure {
    let mut lines = text.lines().map(str::to_owned);
    let message = format!("{option}: {}", lines.next().unwrap_or_default());
    Failure { exit: Exit::Limit, problems: vec![Problem { message, notes: lines.collect(), ..Problem::default() }] }
}

/// Shows progress, and passes everything on to a dump.
struct Watch<'a> {
    progress: &'a Progress,
    dump: Option<&'a mut Dump>,
}

impl Observer for Watch<'_> {
    fn started(&mut self, pass: &'static str) {
        self.progress.say(pass);
    }
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        if let Some(dump) = &mut self.dump {
            dump.graph(pass, graph);
        }
    }
    fn lowered(&mut self, lowered: &sdc_passes::tile::Lowered) {
        if let Some(dump) = &mut self.dump {
            dump.lowered(lowered);
        }
    }
    fn planned(&mut self, module: &Module, plan: &Plan) {
        if let Some(dump) = &mut self.dump {
            dump.planned(module, plan);
        }
    }
}

/// Times the steps after the passes.
struct Timed<'a> {
    progress: &'a Progress,
    timings: &'a mut Vec<(&'static str, Duration)>,
}

impl Timed<'_> {
    fn run<T>(&mut self, step: &'static str, work: impl FnOnce() -> T) -> T {
        self.progress.say(step);
        let start = Instant::now();
        let result = work();
        self.timings.push((step, start.elapsed()));
        result
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        use PipelineError as E;
        match &error {
            _ if error.is_bug() => Self::bug(error),
            E::UnknownPass { .. } => Self::usage(error),
            E::Plan(_) => Self::limit(error),
            E::Tile(errors) => Self {
                exit: Exit::Unsupported,
                problems: errors.iter().map(tile_problem).collect(),
            },
            E::Driver(DriverError::Malformed(faults)) => Self {
                exit: Exit::Malformed,
                problems: faults.iter().map(|f| Problem { message: f.clone(), ..Problem::default() }).collect(),
            },
            E::Driver(DriverError::Pass { error: PassError::AfterLayout(_), .. }) => Self::usage(error),
            E::Driver(DriverError::NoInput(_)) => Self::limit(error),
            _ => Self::unsupported(error),
        }
    }
}

fn tile_problem(error: &sdc_passes::tile::TileError) -> Problem {
    Problem {
        message: format!("{}: {}: {}", sdc_passes::pass::origin_text(&error.origins), error.op, error.reason),
        notes: vec![format!("operands: {}", error.operands.join(", "))],
        ..Problem::default()
    }
}

impl From<sdc_cranelift::Error> for Failure {
    fn from(error: sdc_cranelift::Error) -> Self {
        use sdc_cranelift::{Error, FuncError};
        match &error {
            Error::UnknownCpu { .. } | Error::Name(_) => Self::usage(error),
            Error::Func { source: FuncError::Unsupported { .. }, .. } => Self::unsupported(error),
            _ => Self::bug(error),
        }
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        match &error {
            ObjectError::OutOfReach { .. } => Self::limit(error).help("leave the weights out of the object (no --embed-weights)"),
            _ => Self::bug(error),
        }
    }
}
