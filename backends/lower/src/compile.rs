//! From a tile module to an object, with any code generator.

use crate::entry::{self, Dispatch};
use crate::generator::{Failure, Finish, Generator};
use crate::{CpuSpec, Error, FuncError, Placement};
use object::write::Object;
use sdc_ir::Digest;
use sdc_ir::tile::{Func, Module};
use std::collections::BTreeMap;

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
    /// `NAME_run` hands *every* function to `parallel_for`, one after the other in the module's order, so that a caller can time each of
    /// them. The functions themselves are the same.
    pub profile: bool,
}

/// A compiled model, kernels still missing.
pub struct CompiledObject {
    /// The object: code and constants, each kernel an undefined symbol.
    pub object: Object<'static>,
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

/// Refuses options and modules that no code generator need look at.
///
/// # Errors
/// A name that is no C identifier; a module the tile verifier refuses.
pub fn check(module: &Module, options: &Options) -> Result<(), Error> {
    if !is_identifier(&options.name) {
        return Err(Error::Name(options.name.clone()));
    }
    let faults = sdc_ir::tile::verify::verify(module);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::Malformed(faults))
    }
}

/// Compiles a module that [`check`] has accepted, whose buffers lie as `placement` says.
///
/// # Errors
/// A placement that does not fit the module, a construct the target lacks; each with the function and the user's nodes it comes from.
pub fn compile<G: Generator>(
    module: &Module,
    placement: &Placement,
    options: &Options,
    mut generator: G,
) -> Result<CompiledObject, Error> {
    let dispatch = if options.profile {
        Dispatch::Everything
    } else {
        Dispatch::Tasks
    };
    let funcs: Vec<&Func> = module.prepare.iter().chain(&module.funcs).collect();
    let locate = |failure: Failure| match failure.position {
        Some(index) => located(funcs[index], failure.source),
        None => Error::Entry(failure.source),
    };
    let mut known: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut functions: Vec<Compiled> = Vec::new();
    let mut steps: Vec<(G::Func, Option<u64>)> = Vec::new();
    for (index, &func) in funcs.iter().enumerate() {
        let expanded = crate::expand(func, |kernel| options.kernels.contains_key(kernel));
        let tasks = crate::tasks(&expanded);
        let built = generator.build(module, &expanded, placement);
        let (body, digest) = built.map_err(|e| located(func, e))?;
        let first = *known.entry(digest).or_insert(index);
        let (id, symbol) = if let Some(function) = functions.get(first) {
            generator.discard(body);
            (steps[first].0, function.symbol.clone())
        } else {
            let symbol = format!("{}__{index}_{}", options.name, identifier(&func.name));
            (generator.define(&symbol, body, index).map_err(locate)?, symbol)
        };
        steps.push((id, tasks));
        functions.push(Compiled {
            symbol,
            code_size: 0,
            tasks: tasks.unwrap_or(1),
            is_call: index >= module.prepare.len() && dispatch.call(tasks).is_some(),
        });
    }
    let (prepare, run) = steps.split_at(module.prepare.len());
    let prepare = (prepare, Dispatch::Tasks);
    entry::define(
        placement,
        options,
        module,
        prepare,
        (run, dispatch),
        &mut generator,
    )
    .map_err(locate)?;
    let ids: Vec<G::Func> = steps.iter().map(|(id, _)| *id).collect();
    let finished = generator.finish(&ids).map_err(|e| match e {
        Finish::Func(failure) => locate(failure),
        Finish::Other(error) => error,
    })?;
    for (function, size) in functions.iter_mut().zip(finished.sizes) {
        function.code_size = size;
    }
    Ok(CompiledObject {
        object: finished.object,
        kernels: finished.kernels,
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
