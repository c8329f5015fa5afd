//! The machine code of a model: its functions, and the kernels they call.

use super::Options;
use super::constants::Constants;
use crate::Backend;
use crate::error::Result;
use sdc_artifact::interface::Interface;
use sdc_artifact::merge;
use sdc_artifact::weights::{self, Header};
use sdc_cranelift::OptLevel;
use sdc_ir::tile::Module;
use sdc_lower::{CompiledObject, Options as Settings, Placement};
use sdc_passes::pipeline::Compiled;
use sdc_passes::plan::{self, Plan, Prepared};
use std::collections::BTreeMap;

type Object = sdc_artifact::object::write::Object<'static>;

/// The machine code of a model.
pub struct Code {
    pub object: Object,
    /// The kernels linked in, by symbol.
    pub kernels: Vec<String>,
    /// For each function, whether a run hands it to `parallel_for`.
    pub calls: Vec<bool>,
}

/// The object with the kernels it calls.
pub fn machine_code(
    compiled: &Compiled,
    constants: &Constants,
    prepared: &Prepared,
    options: &Options,
    interface: &Interface,
    header: &Header,
) -> Result<Code> {
    let target = &options.target;
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
    let settings = Settings {
        name: interface.name.clone(),
        cpu: target.cpu.clone(),
        required_features: target.features(),
        weights_header: header.bytes(),
        kernels: target.kernels.map(symbols).unwrap_or_default(),
        prepare,
        profile: options.profile,
    };
    let mut code = generate(target.backend, module, &placement, &settings)?;
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

fn generate(
    backend: Backend,
    module: &Module,
    placement: &Placement,
    settings: &Settings,
) -> Result<CompiledObject> {
    Ok(match backend {
        Backend::Cranelift => sdc_cranelift::compile(module, placement, settings, OptLevel::default())?,
        #[cfg(feature = "llvm")]
        Backend::Llvm => sdc_llvm::compile(module, placement, settings)?,
        #[cfg(not(feature = "llvm"))]
        Backend::Llvm => return Err(crate::Error::bug("a target for LLVM, which this sdc lacks")),
    })
}

fn temps(plan: &Plan) -> Vec<Option<u64>> {
    plan.offsets.values().map(|o| o.map(|at| at as u64)).collect()
}
