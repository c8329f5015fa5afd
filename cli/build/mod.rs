//! The one way from a graph to an artifact: passes, Cranelift, kernels, files. Every command that compiles comes here.

mod budget;
mod constants;
mod failure;
mod functions;
mod watch;

pub use budget::too_large;
pub use functions::Function;

use budget::{check_flash, loaded_bytes};
use constants::Constants;
use watch::{Timed, Watch};

use crate::exit::Failure;
use crate::progress::Progress;
use crate::sdir::Dump;
use crate::target::Target;
use sdc_artifact::emit::{Package, Written, embed_weights, emit};
use sdc_artifact::interface::{Interface, TensorSpec, sanitise};
use sdc_artifact::manifest::{Kind, Origin, Plan as PlanSummary, Transient};
use sdc_artifact::weights::{self, Header};
use sdc_artifact::{ObjectError, merge};
use sdc_cranelift::Options as CraneliftOptions;
use sdc_ir::Digest;
use sdc_ir::graph::Graph;
use sdc_ir::tile::Module;
use sdc_lower::Placement;
use sdc_passes::pass::Remark;
use sdc_passes::pipeline::{self, Compiled, PipelineOptions};
use sdc_passes::plan::explain::explain;
use sdc_passes::plan::{self, Plan, Prepared, Residency, report};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

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
    /// Make `NAME_run` hand every function to `parallel_for`, for timing.
    pub profile: bool,
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
    /// Bytes of weights in memory at a time, at most, if runs give some back.
    pub resident_weights: Option<usize>,
    /// Bytes of code and constants.
    pub code_bytes: u64,
    /// Kernels linked in.
    pub kernels: Vec<String>,
    /// What passes did and left undone.
    pub remarks: Vec<Remark>,
    /// The functions, in the order they run.
    pub functions: Vec<Function>,
    /// Time of each step.
    pub timings: Vec<(&'static str, Duration)>,
}

/// Compiles a graph and writes its artifact into `dir`.
pub fn build(
    graph: Graph,
    request: &Request<'_>,
    dump: Option<&mut Dump>,
    dir: &Path,
) -> Result<Built, Failure> {
    let progress = Progress::spinner();
    let mut watch = Watch {
        progress: &progress,
        dump,
    };
    let options = PipelineOptions {
        tile: request.target.tile(),
        ..request.passes.clone()
    };
    let compiled = pipeline::compile_pipeline(&graph, &options, &mut watch).map_err(Failure::from)?;
    drop(graph);
    let mut timings: Vec<_> = compiled.timings.iter().map(|t| (t.pass, t.time)).collect();
    let mut timed = Timed {
        progress: &progress,
        timings: &mut timings,
    };

    let module = &compiled.lowered.module;
    let prepared = plan::prepared(module)
        .ok_or_else(|| Failure::limit("the prepared memory exceeds the address space"))?;
    let for_arena = request.ram.map(|limit| limit.saturating_sub(prepared.size));
    if let Some(excess) = for_arena.and_then(|limit| explain(module, &compiled.plan, limit)) {
        let failure = too_large("--ram", &excess.to_string());
        return Err(match prepared.size {
            0 => failure,
            size => failure.help(format!(
                "rebuilt weights take {size} bytes of the limit: --weights streamed rebuilds them tile by tile"
            )),
        });
    }
    let constants = Constants::of(module)?;
    let tensors: Vec<&[u8]> = constants
        .order
        .iter()
        .map(|&w| &module.weights[w].bytes()[..])
        .collect();
    let header = timed.run("hash weights", || Header::of(&tensors));
    let interface = interface(&compiled, request, &header, &prepared);
    let code = timed.run("compile", || {
        machine_code(&compiled, &constants, &prepared, request, &interface, &header)
    })?;
    let mut object = code.object;
    if request.embed_weights {
        embed_weights(&mut object, &interface.name, &header, &tensors).map_err(Failure::limit)?;
    }
    let object = object.write().map_err(|e| Failure::from(ObjectError::Write(e)))?;
    let code_bytes = loaded_bytes(&object)?;
    if let Some(limit) = request.flash {
        check_flash(code_bytes, &interface, module, &constants, limit)?;
    }
    let residency = residency(module, &code.calls, request);
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
        transient: (!residency.transient.is_empty()).then(|| Transient {
            always: request.target.resident_weights.is_some(),
            parts: constants.transient(module, &residency),
        }),
    };
    let files = timed.run("write files", || emit(dir, &package, &request.kinds))?;
    let plan = plan::report::report(module, &compiled.plan);
    Ok(Built {
        functions: functions::of(&compiled),
        files,
        plan,
        resident_weights: (!residency.transient.is_empty()).then_some(residency.peak),
        code_bytes,
        kernels: code.kernels,
        remarks: compiled.remarks,
        timings,
        interface,
    })
}

/// Bytes of weights in memory at a time, unless the user says: few networks have more.
const RESIDENT_WEIGHTS: usize = 128 << 20;

fn residency(module: &Module, calls: &[bool], request: &Request<'_>) -> Residency {
    if request.embed_weights {
        // They are part of the program, which the system loads as it likes.
        return Residency::default();
    }
    let limit = request.target.resident_weights.unwrap_or(RESIDENT_WEIGHTS);
    plan::residency(module, calls, limit)
}

fn interface(compiled: &Compiled, request: &Request<'_>, header: &Header, prepared: &Prepared) -> Interface {
    let graph = &compiled.graph;
    let ports = |ports: &[sdc_ir::graph::Port]| {
        TensorSpec::list(ports.iter().map(|p| {
            let ty = graph.ty(p.value);
            (p.name.clone(), ty.dtype, ty.sizes().to_vec())
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
        prepared_size: prepared.size,
        prepared_align: prepared.align(),
        weights_digest: header.digest,
        weights_embedded: request.embed_weights,
        cpu: request.target.cpu.name.to_owned(),
        features: sdc_kernels::features::names(features)
            .map(str::to_owned)
            .collect(),
    }
}

type Object = sdc_artifact::object::write::Object<'static>;

/// The machine code of a model.
struct Code {
    object: Object,
    /// The kernels linked in, by symbol.
    kernels: Vec<String>,
    /// For each function, whether a run hands it to `parallel_for`.
    calls: Vec<bool>,
}

/// The object with the kernels it calls.
fn machine_code(
    compiled: &Compiled,
    constants: &Constants,
    prepared: &Prepared,
    request: &Request<'_>,
    interface: &Interface,
    header: &Header,
) -> Result<Code, Failure> {
    let target = request.target;
    let module = &compiled.lowered.module;
    let placement = Placement {
        temps: temps(&compiled.plan),
        consts: constants.offsets.clone(),
        prepared: prepared.placed(),
        prepared_size: prepared.size as u64,
        arena_size: compiled.plan.arena_size as u64,
        arena_align: plan::ALIGN as u64,
        weights_size: weights::PAYLOAD as u64 + constants.payload,
    };
    let symbols = |instance: &sdc_kernels::Instance| -> BTreeMap<String, String> {
        let names = sdc_kernels::KERNELS.iter().map(|k| k.name);
        names
            .filter_map(|name| Some((name.to_owned(), instance.best_symbol(name, target.features())?)))
            .collect()
    };
    let prepare = target.base.and_then(|base| base.symbol("prepare"));
    let options = CraneliftOptions {
        name: interface.name.clone(),
        cpu: target.cpu.clone(),
        required_features: target.features(),
        weights_header: header.bytes(),
        kernels: target.kernels.map(symbols).unwrap_or_default(),
        prepare,
        opt_level: Default::default(),
    };
    let compile = if request.profile {
        sdc_cranelift::compile_profiled
    } else {
        sdc_cranelift::compile
    };
    let mut code = compile(module, &placement, &options)?;
    let objects: Vec<&[u8]> = target
        .kernels
        .into_iter()
        .chain(target.base)
        .map(|i| i.object)
        .collect();
    let kernels = merge::kernels(&mut code.object, &objects)?;
    let functions = code.functions.iter().skip(module.prepare.len());
    Ok(Code {
        calls: functions.map(|f| f.is_call).collect(),
        object: code.object,
        kernels,
    })
}

fn temps(plan: &Plan) -> Vec<Option<u64>> {
    plan.offsets.values().map(|o| o.map(|at| at as u64)).collect()
}
