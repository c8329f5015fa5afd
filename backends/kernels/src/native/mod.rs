//! The kernels themselves: one source, compiled into this library for tests, and once per instruction set into the
//! objects that travel with the compiler.
//!
//! Nothing here may panic, allocate, or call into any library: the objects must not have undefined symbols.
//! Loops therefore run over raw pointers and fixed arrays, divisions have a non-zero type, and nothing is copied by
//! slices. Rows and columns are i64 because that is how the parameters arrive.
#![allow(unsafe_code, reason = "kernels work on raw operands")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the contracts of inner functions stand beside their types"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "indices of register tiles must stay visible to the optimiser"
)]

pub mod add_i8;
pub mod arith;
pub mod conv2d;
pub mod conv2d_i8;
pub mod depthwise2d;
pub mod depthwise2d_i8;
pub mod epilogue;
pub mod features;
pub mod fold;
pub mod gemm;
pub mod lanes_i8;
pub mod layer_norm;
pub mod map;
pub mod math;
pub mod max_pool2d_i8;
pub mod micro;
pub mod pairs_i8;
pub mod params;
pub mod pool2d;
pub mod prepare;
pub mod quantize_f32;
pub mod sd_rebuild;
pub mod simd;
pub mod softmax;
pub mod sparse;
pub mod windows;
pub mod winograd;
pub mod winograd_form;
