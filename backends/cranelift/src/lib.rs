//! sdc's default native backend: tile IR to an ELF object for x86-64, aarch64 or riscv64 through Cranelift.
//!
//! [`compile`] turns a tile module into position-independent code with the model's entry points: one local function per
//! tile function, and the global `NAME_run`, `NAME_prepare` and sizes. Kernels are called by symbol and left undefined; the
//! `artifact` crate merges them in.
//!
//! Deliberately absent: vectors wider than 128 bits (Cranelift has none on x86-64), scheduling and unrolling (the passes
//! and the registry's bodies shape the loops), calls into any library, writable data, and unwind tables.
#![deny(missing_docs)]

mod bodies;
mod codegen;
mod compile;
pub mod cpu;
mod emit;
mod entry;
mod error;
mod link;
mod types;

pub use compile::{Compiled, CompiledObject, OptLevel, Options, compile, compile_profiled};
pub use cpu::{Arch, CpuSpec, supported};
pub use error::{Error, FuncError};
/// The `object` crate, in the version whose types appear in this crate's interface.
pub use object;
