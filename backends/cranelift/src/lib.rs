//! sdc's default native backend: tile IR to an ELF object for x86-64, aarch64 or riscv64 through Cranelift.
//!
//! [`compile`] is Cranelift's part of [`sdc_lower::compile`]: instructions of one function, and position-independent machine code of
//! them. Kernels are called by symbol and left undefined; the `artifact` crate merges them in.
//!
//! Deliberately absent: vectors wider than 128 bits (Cranelift has none on x86-64), scheduling and unrolling (the passes
//! and the registry's bodies shape the loops), calls into any library, writable data, and unwind tables.
#![deny(missing_docs)]

mod bodies;
mod codegen;
mod compile;
mod emit;
mod entry_code;
mod link;
mod types;

pub use compile::{OptLevel, compile};
