//! Cranelift IR to machine code, on all cores.

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, ir};
use cranelift_module::{FuncId, ModuleReloc, ModuleRelocTarget};
use sdc_lower::FuncError;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Code of one function, ready to be placed in the object.
pub struct Code {
    pub bytes: Vec<u8>,
    pub align: u64,
    pub relocs: Vec<ModuleReloc>,
}

/// Compiles every function; results are in the order of the functions, whichever thread made them.
pub fn all(jobs: Vec<(FuncId, Function)>, isa: &dyn TargetIsa) -> Vec<Result<Code, FuncError>> {
    let slots: Vec<OnceLock<Result<Code, FuncError>>> = jobs.iter().map(|_| OnceLock::new()).collect();
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len());
    let queue = Mutex::new(slots.iter().zip(jobs));
    // A thread that panics takes the whole scope with it, so a poisoned queue is never used.
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((slot, (id, func))) = take() {
            slot.get_or_init(|| one(id, func, isa));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    slots
        .into_iter()
        .map(|slot| {
            slot.into_inner()
                .expect("the queue is empty, so every function was compiled")
        })
        .collect()
}

fn one(id: FuncId, func: ir::Function, isa: &dyn TargetIsa) -> Result<Code, FuncError> {
    let mut context = Context::for_function(func);
    context
        .compile(isa, &mut ControlPlane::default())
        .map_err(|e| FuncError::Codegen(format!("{:?}", e.inner)))?;
    let compiled = context.compiled_code().expect("compilation succeeded");
    let relocs: Vec<ModuleReloc> = compiled
        .buffer
        .relocs()
        .iter()
        .map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id))
        .collect();
    for reloc in &relocs {
        if let ModuleRelocTarget::LibCall(call) = &reloc.name {
            return Err(FuncError::LibCall(call.to_string()));
        }
    }
    Ok(Code {
        bytes: compiled.buffer.data().to_vec(),
        align: u64::from(compiled.buffer.alignment),
        relocs,
    })
}
