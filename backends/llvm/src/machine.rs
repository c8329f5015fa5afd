//! LLVM for one CPU: what it may use, which passes run, and what it writes.

use inkwell::OptimizationLevel;
use inkwell::module::Module;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine, TargetMachineOptions,
    TargetTriple,
};
use sdc_lower::{Arch, CpuSpec, Error};

/// What runs over the module before instructions are chosen.
const PASSES: &str = "default<O2>";

/// The CPU's machine.
pub fn machine(cpu: &CpuSpec) -> Result<TargetMachine, Error> {
    if cpu.arch != Arch::X86_64 {
        return Err(Error::Setup(format!("no LLVM for {}", cpu.arch.triple())));
    }
    Target::initialize_x86(&InitializationConfig::default());
    let triple = TargetTriple::create(cpu.arch.triple());
    let target = Target::from_triple(&triple).map_err(|e| Error::Setup(e.to_string()))?;
    // Nothing is tuned for one maker's CPUs: the features alone say what code is made.
    let options = TargetMachineOptions::new()
        .set_cpu("x86-64")
        .set_features(&features(cpu))
        .set_level(OptimizationLevel::Default)
        .set_reloc_mode(RelocMode::PIC)
        .set_code_model(CodeModel::Small);
    target
        .create_target_machine_from_options(&triple, options)
        .ok_or_else(|| Error::Setup(format!("LLVM has no machine for {}", cpu.name)))
}

/// The CPU's features as LLVM spells them, which differs from rustc for a few.
fn features(cpu: &CpuSpec) -> String {
    let spelt = cpu.features.iter().map(|feature| match *feature {
        "cmpxchg16b" => "cx16",
        "lahfsahf" => "sahf",
        "bmi1" => "bmi",
        same => same,
    });
    spelt.map(|name| format!("+{name}")).collect::<Vec<_>>().join(",")
}

/// Runs the passes and writes an object file.
pub fn object(module: &Module<'_>, machine: &TargetMachine) -> Result<Vec<u8>, Error> {
    if cfg!(debug_assertions) {
        module.verify().map_err(|e| Error::Object(e.to_string()))?;
    }
    let passes = module.run_passes(PASSES, machine, PassBuilderOptions::create());
    passes.map_err(|e| Error::Object(e.to_string()))?;
    let written = machine.write_to_memory_buffer(module, FileType::Object);
    let written = written.map_err(|e| Error::Object(e.to_string()))?;
    Ok(written.as_slice().to_vec())
}
