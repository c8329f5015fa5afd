//! sdc's passes: simplify, fuse, layout, tile, plan, and the driver that runs them.
//!
//! - [`pass`]: what a pass is. [`local`]: rewriting by local rules. [`driver`]: runs passes. [`pipeline`]: their order.
//! - [`simplify`], [`fuse`], [`layout`]: graph to graph.
//! - [`decompose`]: trained weights to SmartDeal form, by solver and budget.
//! - [`quantise`]: networks that are quantised already to integer operators; [`integer`]: `f32` networks to sdc's own integer arithmetic.
//! - [`tile`]: graph to tile module. [`plan`]: tile module to arena offsets.
//!
//! Not here: ONNX, targets, object code, files. Passes know the IR and the interpreter only.
pub mod constant;
pub mod decompose;
pub mod driver;
pub mod fuse;
pub mod integer;
pub mod layout;
pub mod legalise;
pub mod local;
pub mod pass;
pub mod pipeline;
pub mod plan;
pub mod quantise;
pub mod schedule;
pub mod simplify;
#[cfg(test)]
mod testing;
pub mod tile;
