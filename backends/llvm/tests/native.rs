//! What every native backend must do, done by LLVM.
#![cfg(feature = "llvm")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

/// The code generator under test.
mod backend {
    use sdc_ir::tile::Module;
    use sdc_lower::{CompiledObject, Error, Options, Placement};

    /// LLVM is used in one way only.
    #[derive(Debug, Clone, Copy)]
    pub struct Variant;

    pub const VARIANTS: &[Variant] = &[Variant];

    pub fn compile(
        module: &Module,
        placement: &Placement,
        options: &Options,
        _: Variant,
    ) -> Result<CompiledObject, Error> {
        sdc_llvm::compile(module, placement, options)
    }
}

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/entry.rs"]
mod entry;
#[path = "../../tests/instructions.rs"]
mod instructions;
#[path = "../../tests/kernels.rs"]
mod kernels;
#[path = "../../tests/loops.rs"]
mod loops;
