//! sdc's reference interpreters for the graph level and the tile level.
//!
//! The oracle everything optimised is held against: slow, simple, whole-tensor, and sharing no code with passes,
//! backends or kernels. Graph operators follow ONNX; layouts are ignored (all data is in logical row-major order).
//!
//! Floating point: every graph operator computes in `f64` from its operands and rounds once to the result's type
//! (`f16` and `bf16` by way of `f32`). Sums, dot products and variances are accumulated in `f64`. Transcendental functions
//! come from the `libm` crate and not from the host's C library, so that results are the same on every host.
//! Integer `+ - *` wrap in the result's type.
//!
//! - [`eval_op`]: one graph operator on host tensors.
//! - [`run_graph`], [`run_graph_values`]: a graph.
//! - [`run_tile`], [`run_tile_planned`]: a tile module, with its own buffers or under a memory plan.
//! - [`compare`]: the comparison classes results are judged by.
//!
//! Deliberately absent: speed, threads, and anything about ONNX files. Memory and time are those of the computation
//! asked for: whoever evaluates untrusted graphs bounds the sizes first.

pub mod compare;
mod error;
mod graph;
mod ops;
pub mod tile;
mod values;

pub use error::EvalError;
pub use graph::{run_graph, run_graph_values};
pub use ops::eval_op;
pub use tile::{TileOptions, run_tile, run_tile_planned, run_tile_with};
