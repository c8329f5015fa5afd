//! Cranelift as a code generator.

use crate::bodies::{self, Bodies};
use crate::emit::{self, Target};
use crate::entry_code::{self, EntryCode};
use crate::link::Linker;
use cranelift_codegen::ir;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{DataId, FuncId};
use sdc_ir::Digest;
use sdc_ir::tile::{Func, Module};
use sdc_lower::generator::{Failure, Finish, Finished, Generator, Linkage, Signature};
use sdc_lower::{Arch, CompiledObject, CpuSpec, Error, FuncError, Options, Placement};

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

/// Compiles a module whose buffers lie as `placement` says.
///
/// # Errors
/// A module the tile verifier refuses, a placement that does not fit it, a construct the target lacks; each with the function and the user's nodes it comes from.
pub fn compile(
    module: &Module,
    placement: &Placement,
    options: &Options,
    level: OptLevel,
) -> Result<CompiledObject, Error> {
    sdc_lower::check(module, options)?;
    let isa = isa(&options.cpu, level)?;
    let linker = Linker::new(isa.clone(), &options.name).map_err(|e| Error::Object(e.to_string()))?;
    let native = Native {
        target: Target::new(options, flags(&options.cpu)),
        bodies: Bodies::new(&*isa),
        linker,
        builder: FunctionBuilderContext::new(),
    };
    sdc_lower::compile(module, placement, options, native)
}

/// An object under construction.
struct Native<'a> {
    target: Target,
    bodies: Bodies<'a>,
    linker: Linker,
    builder: FunctionBuilderContext,
}

impl Generator for Native<'_> {
    type Func = FuncId;
    type Table = DataId;
    type Body = ir::Function;
    type Value = ir::Value;
    type Code<'a>
        = EntryCode<'a>
    where
        Self: 'a;

    fn build(
        &mut self,
        module: &Module,
        func: &Func,
        placement: &Placement,
    ) -> Result<(ir::Function, Digest), FuncError> {
        let signature = crate::link::signature(Signature::Task);
        let mut code = ir::Function::with_name_signature(Default::default(), signature);
        let (linker, builder) = (&mut self.linker, &mut self.builder);
        emit::function(module, func, placement, &self.target, linker, &mut code, builder)?;
        let digest = bodies::digest(&code);
        Ok((code, digest))
    }

    fn define(&mut self, symbol: &str, body: ir::Function, position: usize) -> Result<FuncId, Failure> {
        let position = Some(position);
        let id = self.linker.declare(symbol, Linkage::Local, Signature::Task);
        let id = id.map_err(|source| Failure { position, source })?;
        self.bodies.add(id, body, position, &mut self.linker)?;
        Ok(id)
    }

    fn discard(&mut self, _body: ir::Function) {}

    fn declare(&mut self, symbol: &str, linkage: Linkage, signature: Signature) -> Result<FuncId, FuncError> {
        self.linker.declare(symbol, linkage, signature)
    }

    fn table(&mut self, bytes: &[u8]) -> Result<DataId, FuncError> {
        self.linker.table(bytes)
    }

    fn entry(
        &mut self,
        func: FuncId,
        signature: Signature,
        body: impl FnOnce(&mut EntryCode<'_>, &[ir::Value]),
    ) -> Result<(), Failure> {
        let code = entry_code::build(func, signature, &mut self.linker, &mut self.builder, body);
        self.bodies.add(func, code, None, &mut self.linker)
    }

    fn finish(mut self, funcs: &[FuncId]) -> Result<Finished, Finish> {
        let sizes = self.bodies.finish(&mut self.linker).map_err(Finish::Func)?;
        Ok(Finished {
            kernels: self.linker.kernels(),
            object: self.linker.module.finish().object,
            sizes: funcs.iter().map(|id| sizes[id]).collect(),
        })
    }
}

/// Cranelift's settings to enable. Its few EVEX instructions stay off: 128 bits gain nothing from them.
fn flags(cpu: &CpuSpec) -> Vec<&'static str> {
    let flag = |feature: &&'static str| {
        Some(match *feature {
            "cmpxchg16b" => "has_cmpxchg16b",
            "popcnt" => "has_popcnt",
            "sse3" => "has_sse3",
            "ssse3" => "has_ssse3",
            "sse4.1" => "has_sse41",
            "sse4.2" => "has_sse42",
            "avx" => "has_avx",
            "avx2" => "has_avx2",
            "bmi1" => "has_bmi1",
            "bmi2" => "has_bmi2",
            "fma" => "has_fma",
            "lzcnt" => "has_lzcnt",
            _ => return None,
        })
    };
    match cpu.arch {
        Arch::X86_64 => cpu.features.iter().filter_map(flag).collect(),
        Arch::Aarch64 => Vec::new(),
        // Vectors of 128 bits are in the extension V only.
        Arch::Riscv64 => vec!["has_v", "has_zvl128b"],
    }
}

fn isa(cpu: &CpuSpec, level: OptLevel) -> Result<OwnedTargetIsa, Error> {
    let setup = |e: &dyn std::fmt::Display| Error::Setup(e.to_string());
    let mut shared = settings::builder();
    let level = match level {
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
    let triple: target_lexicon::Triple = cpu.arch.triple().parse().map_err(|e| setup(&e))?;
    let mut builder = cranelift_codegen::isa::lookup(triple).map_err(|e| setup(&e))?;
    for flag in flags(cpu) {
        builder.enable(flag).map_err(|e| setup(&e))?;
    }
    builder
        .finish(settings::Flags::new(shared))
        .map_err(|e| setup(&e))
}
