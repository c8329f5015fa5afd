//! sdc's intermediate representations.
//!
//! Three levels, each with types, a text form, and a verifier:
//! - [`graph`]: SSA over tensors; one node per (canonical) operator, names as in ONNX.
//! - [`schedule`]: beside a graph, how it is computed: storage, algorithms, forms of weights, tasks.
//! - [`tile`]: loop nests over flat buffers; the only thing native backends translate.
//!
//! [`integer`] is the arithmetic of sdc's own integer networks; [`analysis`] is what several passes and backends compute alike.
//! [`registry`] lists the micro-kernels a tile function may call, each with a body in plain tile IR.
//!
//! Deliberately absent: anything about ONNX files, targets, object code or the file system. The analyses of
//! one pass (liveness, memory plan) are values beside the IR, indexed by the ids defined here; they live in `passes`.
#![deny(missing_docs)]

pub mod analysis;
pub mod digest;
pub mod dtype;
pub mod entity;
pub mod graph;
pub mod integer;
pub mod registry;
pub mod schedule;
pub mod sd;
pub mod tensor;
pub mod text;
pub mod tile;

pub use digest::Digest;
pub use dtype::DType;
pub use tensor::Tensor;
