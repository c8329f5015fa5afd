//! Tile modules.

use crate::EvalError;
use sdc_ir::tile::{Buffer, Module};
use std::collections::BTreeMap;

/// Why a tile module could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Wrong.
    #[error("{0}")]
    Malformed(String),
}

/// How to run a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TileOptions {
    /// Run the iterations of `parallel` loops from last to first, which must not change the result.
    pub reverse_parallel: bool,
}

/// Runs a module: bytes per input position to bytes per output position.
///
/// # Errors
/// See [`TileError`].
pub fn run_tile(module: &Module, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, EvalError> {
    run_tile_with(module, inputs, TileOptions::default())
}

/// As [`run_tile`], with options.
///
/// # Errors
/// See [`TileError`].
pub fn run_tile_with(
    module: &Module,
    inputs: &[&[u8]],
    options: TileOptions,
) -> Result<Vec<Vec<u8>>, EvalError> {
    let _ = (module, inputs, options);
    Err(TileError::Malformed("not written yet".into()).into())
}

/// As [`run_tile`], but `Temp` buffers are ranges of one arena of `arena_size` bytes, at the byte offsets of a memory
/// plan. Ranges may overlap: an error of the plan shows as a wrong result.
///
/// # Errors
/// See [`TileError`].
pub fn run_tile_planned(
    module: &Module,
    inputs: &[&[u8]],
    offsets: &BTreeMap<Buffer, usize>,
    arena_size: usize,
    options: TileOptions,
) -> Result<Vec<Vec<u8>>, EvalError> {
    let _ = (module, inputs, offsets, arena_size, options);
    Err(TileError::Malformed("not written yet".into()).into())
}
