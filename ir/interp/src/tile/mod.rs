//! Tile modules, executed as `sdc_ir::tile` documents them.
//!
//! The functions that prepare run first, on every call. Every load and store is checked against its buffer. Memory that nothing has written reads as NaN (in every float
//! type) or -1, so that a function which reads it shows. Kernel calls run the kernel's body. A module is expected to have
//! passed the tile verifier; what would make execution meaningless (types, missing definitions) is checked once
//! more, without the verifier's detail.

mod error;
mod exec;
mod memory;
mod program;
mod scalar;

pub use error::TileError;

use crate::EvalError;
use memory::{Memory, Temps};
use sdc_ir::entity::EntityId;
use sdc_ir::registry;
use sdc_ir::tile::{Buffer, Module};
use std::collections::BTreeMap;

/// How to run a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TileOptions {
    /// Run the iterations of `parallel` loops from last to first, which must not change the result.
    pub reverse_parallel: bool,
}

/// Runs a module. `inputs` holds the bytes of each input by position (further ones are ignored), the result the
/// bytes of each output by position; both little-endian, in the order of elements the module was lowered for.
///
/// # Errors
/// [`EvalError::Tile`]: inputs that do not fit, a malformed module, or an access out of bounds.
pub fn run_tile(module: &Module, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, EvalError> {
    run_tile_with(module, inputs, TileOptions::default())
}

/// As [`run_tile`], with options.
///
/// # Errors
/// As [`run_tile`].
pub fn run_tile_with(
    module: &Module,
    inputs: &[&[u8]],
    options: TileOptions,
) -> Result<Vec<Vec<u8>>, EvalError> {
    run(module, inputs, &Temps::Separate, options)
}

/// As [`run_tile_with`], but `Temp` buffers are ranges of one arena of `arena_size` bytes, at the byte offsets of a memory
/// plan. Ranges may overlap: an error of the plan shows as a wrong result.
///
/// # Errors
/// As [`run_tile`]; also a `Temp` buffer that is touched without having an offset, or one that ends beyond the
/// arena.
pub fn run_tile_planned(
    module: &Module,
    inputs: &[&[u8]],
    offsets: &BTreeMap<Buffer, usize>,
    arena_size: usize,
    options: TileOptions,
) -> Result<Vec<Vec<u8>>, EvalError> {
    run(module, inputs, &Temps::Planned { offsets, arena_size }, options)
}

fn run(
    module: &Module,
    inputs: &[&[u8]],
    temps: &Temps<'_>,
    options: TileOptions,
) -> Result<Vec<Vec<u8>>, EvalError> {
    let mut memory = Memory::new(module, inputs, temps)?;
    let prepare = module.prepare.iter().map(|f| (f, true));
    for (func, preparing) in prepare.chain(module.funcs.iter().map(|f| (f, false))) {
        let plain = registry::expand(func, |_| true);
        let program = program::translate(module, &plain, preparing)?;
        exec::run(&program, &mut memory, options).map_err(|fault| {
            let buffer = Buffer::new(fault.buffer);
            let data = &module.buffers[buffer];
            if memory.places[fault.buffer].len < data.len {
                return TileError::Buffer {
                    buffer,
                    name: data.name.clone(),
                    reason: format!(
                        "function `{}` touches it, but the plan gives it no offset",
                        func.name
                    ),
                };
            }
            TileError::OutOfBounds {
                func: func.name.clone(),
                buffer,
                name: data.name.clone(),
                index: fault.index,
                lanes: fault.lanes,
                len: data.len,
            }
        })?;
    }
    Ok(memory.outputs(module)?)
}
