//! The one way from a model to an artifact: passes, code generation, kernels, files. Everything that compiles comes here.

mod budget;
mod code;
mod constants;
mod functions;
mod watch;

pub use functions::Function;
pub(crate) use functions::decisions;

use crate::artifact::Program;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::observe::Observer;
use crate::stages::Dump;
use crate::target::Target;
use budget::{check_flash, loaded_bytes};
use constants::Constants;
use sdc_artifact::ObjectError;
use sdc_artifact::emit::{Package, Written, embed_weights, emit};
use sdc_artifact::interface::{Interface, TensorSpec, sanitise};
use sdc_artifact::load::LoadOptions;
use sdc_artifact::manifest::{Kind, Origin, Plan as PlanSummary, Transient};
use sdc_artifact::weights::{self, Header};
use sdc_ir::graph::Port;
use sdc_ir::tile::Module;
use sdc_passes::pass::Remark;
use sdc_passes::pipeline::{self, Compiled, PipelineOptions};
use sdc_passes::plan::explain::explain;
use sdc_passes::plan::{self, Prepared, Residency, report};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use watch::{Timed, Watch};

/// What to make of a model.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model's name, of which those of symbols and files are made: any text. By default the model file's.
    pub name: Option<String>,
    /// CPU and kernels.
    pub target: Target,
    /// Put the weights into the object.
    pub embed_weights: bool,
    /// Files to write.
    pub kinds: BTreeSet<Kind>,
    /// What the manifest says of how the model was compiled.
    pub recorded: BTreeMap<String, String>,
    /// Options of the passes; the tile pass's are the target's.
    pub passes: PipelineOptions,
    /// The most memory that arena and rebuilt weights may take, in bytes.
    pub ram: Option<usize>,
    /// The most that code and weights may take together, in bytes.
    pub flash: Option<usize>,
    /// Make `NAME_run` hand every function to `parallel_for`, for timing.
    pub profile: bool,
    /// How the artifact is loaded, where it is to run here.
    pub load: LoadOptions,
}

impl Options {
    /// What can be loaded here: a shared library, a weights file and a manifest, without limits.
    pub fn new(target: Target) -> Self {
        Self {
            name: None,
            target,
            embed_weights: false,
            kinds: [Kind::SharedLibrary, Kind::Weights, Kind::Manifest].into(),
            recorded: BTreeMap::new(),
            passes: PipelineOptions::default(),
            ram: None,
            flash: None,
            profile: false,
            load: LoadOptions::default(),
        }
    }
}

/// A compiled model: files in a directory, and all there is to say of them.
#[derive(Debug)]
pub struct Artifact {
    /// Where the files are.
    pub path: PathBuf,
    /// The files.
    pub files: Vec<Written>,
    /// As in the header.
    pub interface: Interface,
    /// The quantisation step of each output, if it has one.
    pub steps: Vec<Option<f64>>,
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

impl Artifact {
    /// Loads it, to run it.
    ///
    /// # Errors
    /// A target that is not this machine; files that have been changed; too little memory.
    pub fn load(&self) -> Result<Program> {
        Ok(Program::open(&self.path)?)
    }
}

/// Compiles a model and writes its artifact into a directory, which is created if need be.
///
/// # Errors
/// Nodes that have no lowering, all at once; limits of the options or of the address space that are exceeded; files that cannot be
/// written.
pub fn compile(model: Model, options: &Options, dir: &Path) -> Result<Artifact> {
    compile_watched(model, options, dir, &(), None)
}

/// As [`compile`], telling an observer how far it is and keeping stages as text.
///
/// # Errors
/// As for [`compile`]; the observer's wish to stop.
pub fn compile_watched(
    model: Model,
    options: &Options,
    dir: &Path,
    observer: &dyn Observer,
    dump: Option<&mut Dump>,
) -> Result<Artifact> {
    let Model {
        graph,
        schedule,
        digest,
        name,
        ..
    } = model;
    let name = sanitise(options.name.as_deref().unwrap_or(&name));
    let steps = sdc_passes::quantise::output_steps(&graph);
    let passes = PipelineOptions {
        schedule: options.target.tile(),
        given: schedule,
        ..options.passes.clone()
    };
    let compiled = pipeline::compile_pipeline(&graph, &passes, &mut Watch { observer, dump })?;
    drop(graph);
    let mut timings: Vec<_> = compiled.timings.iter().map(|t| (t.pass, t.time)).collect();
    let mut timed = Timed {
        observer,
        timings: &mut timings,
    };

    let module = &compiled.lowered.module;
    let prepared = plan::prepared(module)
        .ok_or_else(|| Error::limit("the prepared memory exceeds the address space"))?;
    let for_arena = options.ram.map(|limit| limit.saturating_sub(prepared.size));
    if let Some(excess) = for_arena.and_then(|limit| explain(module, &compiled.plan, limit)) {
        let failure = Error::too_large("--ram", &excess.to_string());
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
    let header = timed.run("hash weights", || Header::of(&tensors))?;
    let interface = interface(&compiled, name, options, &header, &prepared);
    let code = timed.run("compile", || {
        code::machine_code(&compiled, &constants, &prepared, options, &interface, &header)
    })??;
    let mut object = code.object;
    if options.embed_weights {
        embed_weights(&mut object, &interface.name, &header, &tensors).map_err(Error::limit)?;
    }
    let object = object.write().map_err(ObjectError::Write)?;
    let code_bytes = loaded_bytes(&object)?;
    if let Some(limit) = options.flash {
        check_flash(code_bytes, &interface, module, &constants, limit)?;
    }
    let residency = residency(module, &code.calls, options);
    let package = Package {
        interface: &interface,
        object: &object,
        weights: if options.embed_weights { &[] } else { &tensors },
        origin: Origin {
            model: Some(digest),
            options: options.recorded.clone(),
            plan: Some(PlanSummary {
                peak: compiled.plan.arena_size as u64,
                lower_bound: compiled.plan.lower_bound as u64,
                buffers: compiled.plan.offset_map().len() as u64,
            }),
        },
        transient: (!residency.transient.is_empty()).then(|| Transient {
            always: options.target.resident_weights.is_some(),
            parts: constants.transient(module, &residency),
        }),
    };
    let files = timed.run("write files", || emit(dir, &package, &options.kinds))??;
    let plan = plan::report::report(module, &compiled.plan);
    Ok(Artifact {
        path: dir.to_owned(),
        steps,
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

fn residency(module: &Module, calls: &[bool], options: &Options) -> Residency {
    if options.embed_weights {
        // They are part of the program, which the system loads as it likes.
        return Residency::default();
    }
    let limit = options.target.resident_weights.unwrap_or(RESIDENT_WEIGHTS);
    plan::residency(module, calls, limit)
}

fn interface(
    compiled: &Compiled,
    name: String,
    options: &Options,
    header: &Header,
    prepared: &Prepared,
) -> Interface {
    let graph = &compiled.graph;
    let ports = |ports: &[Port]| {
        TensorSpec::list(ports.iter().map(|p| {
            let ty = graph.ty(p.value);
            (p.name.clone(), ty.dtype, ty.sizes().to_vec())
        }))
    };
    let features = options.target.features();
    Interface {
        name,
        inputs: ports(&graph.inputs),
        outputs: ports(&graph.outputs),
        arena_size: compiled.plan.arena_size,
        arena_align: plan::ALIGN,
        weights_size: header.image() as usize,
        weights_align: weights::ALIGN,
        prepared_size: prepared.size,
        prepared_align: prepared.align(),
        weights_digest: header.digest,
        weights_embedded: options.embed_weights,
        cpu: options.target.cpu.name.to_owned(),
        features: sdc_kernels::features::names(features)
            .map(str::to_owned)
            .collect(),
    }
}
