//! Root of the embedded objects: build.rs compiles this file once per instance, with `--cfg instance="..."`.
//!
//! Only the exported symbols are here; they differ between instances so that several can live in one artifact.
#![no_std]
#![no_builtins]
#![allow(dead_code, reason = "names and tables that only the library needs")]

mod native;

macro_rules! export {
    ($v4:literal, $v3:literal, $v1:literal, $kernel:path) => {
        const _: () = {
            #[cfg_attr(instance = "v4", unsafe(export_name = $v4))]
            #[cfg_attr(instance = "v3", unsafe(export_name = $v3))]
            #[cfg_attr(instance = "v1", unsafe(export_name = $v1))]
            unsafe extern "C" fn kernel(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
                // SAFETY: the contract is the kernel's.
                unsafe { $kernel(operands, params, begin, end) }
            }
        };
    };
}

export!(
    "sdc_k_v4_conv2d_f32",
    "sdc_k_v3_conv2d_f32",
    "sdc_k_v1_conv2d_f32",
    native::conv2d::conv2d_f32
);
export!(
    "sdc_k_v4_conv2d_i8",
    "sdc_k_v3_conv2d_i8",
    "sdc_k_v1_conv2d_i8",
    native::conv2d_i8::portable
);
export!(
    "sdc_k_v4_depthwise2d_i8",
    "sdc_k_v3_depthwise2d_i8",
    "sdc_k_v1_depthwise2d_i8",
    native::depthwise2d_i8::portable
);
export!(
    "sdc_k_v4_gemm_f32",
    "sdc_k_v3_gemm_f32",
    "sdc_k_v1_gemm_f32",
    native::gemm::gemm_f32
);
export!(
    "sdc_k_v4_depthwise2d_f32",
    "sdc_k_v3_depthwise2d_f32",
    "sdc_k_v1_depthwise2d_f32",
    native::depthwise2d::depthwise2d_f32
);
export!(
    "sdc_k_v4_sd_rebuild_f32",
    "sdc_k_v3_sd_rebuild_f32",
    "sdc_k_v1_sd_rebuild_f32",
    native::sd_rebuild::sd_rebuild_f32
);
export!(
    "sdc_k_v4_sd_rebuild_i8",
    "sdc_k_v3_sd_rebuild_i8",
    "sdc_k_v1_sd_rebuild_i8",
    native::sd_rebuild::sd_rebuild_i8
);
export!(
    "sdc_k_v4_add_i8",
    "sdc_k_v3_add_i8",
    "sdc_k_v1_add_i8",
    native::add_i8::add_i8
);
export!(
    "sdc_k_v4_mul_i8",
    "sdc_k_v3_mul_i8",
    "sdc_k_v1_mul_i8",
    native::add_i8::mul_i8
);
export!(
    "sdc_k_v4_layer_norm_f32",
    "sdc_k_v3_layer_norm_f32",
    "sdc_k_v1_layer_norm_f32",
    native::layer_norm::layer_norm_f32
);
export!(
    "sdc_k_v4_map_f32",
    "sdc_k_v3_map_f32",
    "sdc_k_v1_map_f32",
    native::map::map_f32
);
export!(
    "sdc_k_v4_max_pool2d_i8",
    "sdc_k_v3_max_pool2d_i8",
    "sdc_k_v1_max_pool2d_i8",
    native::max_pool2d_i8::max_pool2d_i8
);
export!(
    "sdc_k_v4_pool2d_f32",
    "sdc_k_v3_pool2d_f32",
    "sdc_k_v1_pool2d_f32",
    native::pool2d::pool2d_f32
);
export!(
    "sdc_k_v4_quantize_f32",
    "sdc_k_v3_quantize_f32",
    "sdc_k_v1_quantize_f32",
    native::quantize_f32::quantize_f32
);

export!(
    "sdc_k_v4_softmax_f32",
    "sdc_k_v3_softmax_f32",
    "sdc_k_v1_softmax_f32",
    native::softmax::softmax_f32
);
export!(
    "sdc_k_v4_sparse2d_f32",
    "sdc_k_v3_sparse2d_f32",
    "sdc_k_v1_sparse2d_f32",
    native::sparse::f32::sparse2d_f32
);
export!(
    "sdc_k_v4_sparse2d_i8",
    "sdc_k_v3_sparse2d_i8",
    "sdc_k_v1_sparse2d_i8",
    native::sparse::i8::portable
);
export!(
    "sdc_k_v4_winograd_f32",
    "sdc_k_v3_winograd_f32",
    "sdc_k_v1_winograd_f32",
    native::winograd::winograd_f32
);

#[cfg(instance = "v1")]
#[unsafe(export_name = "sdc_k_v1_prepare")]
unsafe extern "C" fn prepare(weights: *const u8, expected: *const u8, required: u64) -> i32 {
    // SAFETY: the contract is that of `prepare`.
    unsafe { native::prepare::prepare(weights, expected, required) }
}

/// The variant of `conv2d_i8` for CPUs with AVX-512 VNNI, which the level v4 does not include.
#[cfg(instance = "v4")]
#[unsafe(export_name = "sdc_k_v4_conv2d_i8_vnni")]
#[target_feature(enable = "avx512vnni")]
unsafe extern "C" fn conv2d_i8_vnni(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract is the kernel's; whoever calls this symbol made sure of the CPU.
    unsafe { native::conv2d_i8::conv2d_i8::<native::lanes_i8::Vnni>(operands, params, begin, end) }
}

/// As `conv2d_i8_vnni`.
#[cfg(instance = "v4")]
#[unsafe(export_name = "sdc_k_v4_depthwise2d_i8_vnni")]
#[target_feature(enable = "avx512vnni")]
unsafe extern "C" fn depthwise2d_i8_vnni(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract is the kernel's; whoever calls this symbol made sure of the CPU.
    unsafe { native::depthwise2d_i8::depthwise2d_i8::<native::pairs_i8::Avx512<true>>(operands, params, begin, end) }
}

/// As `conv2d_i8_vnni`.
#[cfg(instance = "v4")]
#[unsafe(export_name = "sdc_k_v4_sparse2d_i8_vnni")]
#[target_feature(enable = "avx512vnni")]
unsafe extern "C" fn sparse2d_i8_vnni(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: the contract is the kernel's; whoever calls this symbol made sure of the CPU.
    unsafe { native::sparse::i8::sparse2d_i8::<native::lanes_i8::Vnni>(operands, params, begin, end) }
}
