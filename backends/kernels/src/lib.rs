//! sdc's micro-kernels, built per instruction set and embedded as object code.
//!
//! Three things: [`instances`] is the object code that an artifact links in, one [`Instance`] per instruction set;
//! [`KERNELS`] says what each kernel takes, so that a test elsewhere can hold it against the registry of `ir`, which
//! owns the meaning; [`portable`] is the same source compiled into this library for the build's own CPU baseline.
//!
//! Calling convention of every kernel but `prepare`:
//! `extern "C" fn(operands: *const *mut u8, params: *const i64, begin: i64, end: i64)`, where `operands` are base
//! pointers and `params` one of the records of [`params`]. Kernels write nothing but their output and scratch operands, use less than
//! 24 KiB of stack, and give the same bits however a range is cut.
//!
//! Deliberately absent: graphs, layouts of whole models, thread pools, and any choice of instance.

mod instances;
#[allow(dead_code, reason = "some parts are only exported by the embedded objects")]
mod native;

pub use instances::{Instance, KERNELS, Kernel, instances};

/// The feature bits of [`Instance::features`] and of the kernel `prepare`.
pub mod features {
    pub use crate::native::features::{NAMES, V2, V3, V4};

    /// Whether the bit of a feature is set.
    pub fn has(features: u64, name: &str) -> bool {
        names(features).any(|n| n == name)
    }

    /// Names of the set bits of `features`, in bit order.
    pub fn names(features: u64) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |&(bit, _)| features >> bit & 1 == 1)
            .map(|(_, &name)| name)
    }
}

/// The parameter records.
pub mod params {
    pub use crate::native::params::{
        AddI8Params, Conv2dI8Params, Conv2dParams, Depthwise2dI8Params, Depthwise2dParams, GemmParams,
        LayerNormParams, MapParams, MaxPool2dI8Params, MulI8Params, Pool2dParams, QuantizeF32Params,
        SdRebuildParams, SoftmaxParams, Sparse2dI8Params, Sparse2dParams, WinogradParams,
    };
}

/// The kernels as compiled into this library: no symbol, no build step, and clean under Miri.
pub mod portable {
    pub use crate::native::add_i8::{add_i8, mul_i8};
    pub use crate::native::conv2d::{NR, conv2d_f32};
    pub use crate::native::conv2d_i8::portable as conv2d_i8;
    pub use crate::native::depthwise2d::depthwise2d_f32;
    pub use crate::native::depthwise2d_i8::portable as depthwise2d_i8;
    pub use crate::native::gemm::gemm_f32;
    pub use crate::native::layer_norm::layer_norm_f32;
    pub use crate::native::map::map_f32;
    pub use crate::native::max_pool2d_i8::max_pool2d_i8;
    pub use crate::native::pool2d::pool2d_f32;
    pub use crate::native::prepare::{HEADER, prepare};
    pub use crate::native::quantize_f32::quantize_f32;
    pub use crate::native::sd_rebuild::{sd_rebuild_f32, sd_rebuild_i8};
    pub use crate::native::simd::LANES;
    pub use crate::native::softmax::softmax_f32;
    pub use crate::native::sparse::f32::sparse2d_f32;
    pub use crate::native::sparse::i8::portable as sparse2d_i8;
    pub use crate::native::winograd::winograd_f32;
}

/// Bits (see [`features`]) of what this machine's CPU has and its operating system has enabled.
pub fn host_features() -> u64 {
    native::features::host()
}
