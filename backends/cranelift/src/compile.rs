//! From a tile module to an object.

use crate::bodies::{self, Bodies};
use crate::emit::{self, Target};
use crate::entry::Dispatch;
use crate::error::{Error, FuncError};
use crate::link::{Linker, task_signature};
use crate::{CpuSpec, entry};
use cranelift_codegen::ir;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::FuncId;
use sdc_ir::Digest;
use sdc_ir::tile::{Func, Module};
use sdc_lower::Placement;
use std::collections::BTreeMap;

/// How hard Cranelift tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OptLevel {
    /// Instructions stay in the order the passes gave them. The default: the tile IR is already optimised, and
    /// Cranelift's optimiser undoes its register blocking.
    #[default]
    None,
    /// Cranelift's mid-end runs.
    Speed,
}

/// How to compile a module.
#[derive(Debug, Clone)]
pub struct Options {
    /// Prefix of the model's symbols, a C identifier.
    pub name: String,
    /// The CPU to compile for.
    pub cpu: CpuSpec,
    /// The CPU features that `NAME_prepare` insists on, as bits in the kernels' numbering.
    pub required_features: u64,
    /// The first bytes of the weights image this code belongs to: magic, version, payload length, digest.
    pub weights_header: [u8; 48],
    /// Kernels there are, by registry name, with their symbols. The bodies of all others are compiled in place, so an empty
    /// map means no kernels.
    pub kernels: BTreeMap<String, String>,
    /// Symbol of the function behind `NAME_prepare`, `fn(weights, expected_header, required_features) -> i32`. Without one the header is
    /// compared in place, and no feature is asked for.
    pub prepare: Option<String>,
    /// How hard Cranelift tries.
    pub opt_level: OptLevel,
}

/// A compiled model, kernels still missing.
pub struct CompiledObject {
    /// The object: code and constants, each kernel an undefined symbol.
    pub object: object::write::Object<'static>,
    /// The undefined symbols, sorted.
    pub kernels: Vec<String>,
    /// The tile functions, in the module's order; those that prepare first.
    pub functions: Vec<Compiled>,
}

/// What became of one tile function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Its local symbol: that of the first function with the same code.
    pub symbol: String,
    /// Bytes of machine code.
    pub code_size: usize,
    /// Tasks that may run concurrently; 1 for a function without a parallel loop.
    pub tasks: u64,
    /// Whether `NAME_run` hands it to `parallel_for`.
    pub is_call: bool,
}

/// Compiles a module whose buffers lie as `placement` says.
///
/// # Errors
/// A module the tile verifier refuses, a placement that does not fit it, a construct the target lacks; each with the function and the user's nodes it comes from.
pub fn compile(module: &Module, placement: &Placement, options: &Options) -> Result<CompiledObject, Error> {
    compile_with(module, placement, options, Dispatch::Tasks)
}

/// As [`compile`], but `NAME_run` hands *every* function to `parallel_for`, one after the other in the module's order,
/// so that a caller can time each of them. The functions themselves are the same.
///
/// # Errors
/// As [`compile`].
pub fn compile_profiled(
    module: &Module,
    placement: &Placement,
    options: &Options,
) -> Result<CompiledObject, Error> {
    compile_with(module, placement, options, Dispatch::Everything)
}

fn compile_with(
    module: &Module,
    placement: &Placement,
    options: &Options,
    dispatch: Dispatch,
) -> Result<CompiledObject, Error> {
    if !is_identifier(&options.name) {
        return Err(Error::Name(options.name.clone()));
    }
    let faults = sdc_ir::tile::verify::verify(module);
    if !faults.is_empty() {
        return Err(Error::Malformed(faults));
    }
    let isa = isa(options)?;
    let mut linker = Linker::new(isa.clone(), &options.name)?;
    let target = Target::new(options);
    let mut builder = FunctionBuilderContext::new();

    let funcs: Vec<&Func> = module.prepare.iter().chain(&module.funcs).collect();
    let mut bodies = Bodies::new(&*isa, |position: Option<usize>, source| match position {
        Some(index) => located(funcs[index], source),
        None => Error::Entry(source),
    });
    let mut known: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut functions: Vec<Compiled> = Vec::new();
    let mut steps: Vec<(FuncId, Option<u64>)> = Vec::new();
    for (index, &func) in funcs.iter().enumerate() {
        let body = sdc_lower::expand(func, |kernel| options.kernels.contains_key(kernel));
        let tasks = sdc_lower::tasks(&body);
        let mut code = ir::Function::with_name_signature(Default::default(), task_signature());
        emit::function(
            module,
            &body,
            placement,
            &target,
            &mut linker,
            &mut code,
            &mut builder,
        )
        .map_err(|e| located(func, e))?;
        let first = *known.entry(bodies::digest(&code)).or_insert(index);
        let (id, symbol) = if let Some(function) = functions.get(first) {
            (steps[first].0, function.symbol.clone())
        } else {
            let symbol = format!("{}__{index}_{}", options.name, identifier(&func.name));
            let id = linker.declare(&symbol, false, &task_signature())?;
            bodies.add(id, code, Some(index), &mut linker)?;
            (id, symbol)
        };
        steps.push((id, tasks));
        functions.push(Compiled {
            symbol,
            code_size: 0,
            tasks: tasks.unwrap_or(1),
            is_call: index >= module.prepare.len() && dispatch.call(tasks).is_some(),
        });
    }
    for (id, code) in entry::functions(
        placement,
        options,
        module,
        (&steps[..module.prepare.len()], Dispatch::Tasks),
        (&steps[module.prepare.len()..], dispatch),
        &mut linker,
        &mut builder,
    )? {
        bodies.add(id, code, None, &mut linker)?;
    }
    let sizes = bodies.finish(&mut linker)?;
    for (function, (id, _)) in functions.iter_mut().zip(&steps) {
        function.code_size = sizes[id];
    }
    let kernels = linker.kernels();
    Ok(CompiledObject {
        object: linker.module.finish().object,
        kernels,
        functions,
    })
}

fn located(func: &Func, source: FuncError) -> Error {
    Error::Func {
        func: func.name.clone(),
        origins: func.origins.clone(),
        source,
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && identifier(name) == name
}

/// The name with everything else than ASCII letters, digits and `_` replaced.
fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn isa(options: &Options) -> Result<OwnedTargetIsa, Error> {
    let setup = |e: &dyn std::fmt::Display| Error::Setup(e.to_string());
    let mut shared = settings::builder();
    let level = match options.opt_level {
        OptLevel::None => "none",
        OptLevel::Speed => "speed",
    };
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", level),
        ("is_pic", "true"),
        ("enable_verifier", verifier),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("log2_min_function_alignment", "5"),
    ] {
        shared.set(name, value).map_err(|e| setup(&e))?;
    }
    let triple: target_lexicon::Triple = options.cpu.arch.triple().parse().map_err(|e| setup(&e))?;
    let mut builder = cranelift_codegen::isa::lookup(triple).map_err(|e| setup(&e))?;
    for flag in &options.cpu.flags {
        builder.enable(flag).map_err(|e| setup(&e))?;
    }
    builder
        .finish(settings::Flags::new(shared))
        .map_err(|e| setup(&e))
}
