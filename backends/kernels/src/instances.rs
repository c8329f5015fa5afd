//! The embedded objects and what is in them.

use crate::features;
use crate::params::{
    AddI8Params, Conv2dI8Params, Conv2dParams, Depthwise2dI8Params, Depthwise2dParams, GemmParams,
    LayerNormParams, MapParams, MaxPool2dI8Params, MulI8Params, Pool2dParams, QuantizeF32Params,
    SdRebuildParams, SoftmaxParams, Sparse2dI8Params, Sparse2dParams, WinogradParams,
};

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// The kernels built for one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Instance {
    /// `v4`, `v3` or `v1`, after the x86-64 level.
    pub name: &'static str,
    /// f32 elements of a vector: widths of packed weights are multiples of this.
    pub lanes: usize,
    /// Output channels of a full block of packed weights.
    pub nr: usize,
    /// Bits of the CPU features the code needs; 0 for the baseline.
    pub features: u64,
    /// A relocatable object: text and constants, relocations within itself, no undefined symbol. Its `.eh_frame` may be
    /// dropped.
    pub object: &'static [u8],
}

impl Instance {
    /// Names of the CPU features the code needs.
    pub fn feature_names(&self) -> Vec<&'static str> {
        features::names(self.features).collect()
    }

    /// Whether this machine can run it.
    pub fn runs_here(&self) -> bool {
        self.features & !crate::host_features() == 0
    }

    /// The global symbol of a kernel; `None` if there is no such kernel in this instance. `prepare` is in `v1` only.
    pub fn symbol(&self, kernel: &str) -> Option<String> {
        let known = KERNELS.iter().any(|k| k.name == kernel) || (kernel == "prepare" && self.name == "v1");
        known.then(|| format!("sdc_k_{}_{kernel}", self.name))
    }

    /// As [`Instance::symbol`], for a CPU with these features: the kernel's variant for more than the instance needs,
    /// where there is one.
    pub fn best_symbol(&self, kernel: &str, available: u64) -> Option<String> {
        let with_vnni = matches!(kernel, "conv2d_i8" | "depthwise2d_i8" | "sparse2d_i8");
        let vnni = self.name == "v4" && with_vnni && features::has(available, "avx512vnni");
        let symbol = self.symbol(kernel)?;
        Some(if vnni { symbol + "_vnni" } else { symbol })
    }

    /// Every global symbol: the kernels, their variants, and `prepare`.
    pub fn symbols(&self) -> Vec<String> {
        let names = KERNELS.iter().map(|k| k.name).chain(["prepare"]);
        let mut all: Vec<String> = names
            .flat_map(|k| [self.symbol(k), self.best_symbol(k, u64::MAX)])
            .flatten()
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

/// All instances, best first; empty where none are built (anything but x86-64 Linux).
pub fn instances() -> &'static [Instance] {
    const TABLE: [Instance; OBJECTS.len()] = {
        let mut table = [Instance {
            name: "",
            lanes: 0,
            nr: 0,
            features: 0,
            object: &[],
        }; OBJECTS.len()];
        let mut i = 0;
        while i < OBJECTS.len() {
            let (name, object) = OBJECTS[i];
            let (lanes, nr, features) = match name.as_bytes() {
                b"v4" => (16, 64, features::V4),
                b"v3" => (8, 16, features::V3),
                _ => (4, 8, 0),
            };
            table[i] = Instance {
                name,
                lanes,
                nr,
                features,
                object,
            };
            i += 1;
        }
        table
    };
    &TABLE
}

/// What a kernel takes.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Name, as in the registry.
    pub name: &'static str,
    /// Operands in the order of the pointer array.
    pub operands: &'static [&'static str],
    /// Parameters in memory order.
    pub params: &'static [&'static str],
}

/// Every kernel with the common calling convention, by name.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        name: "add_i8",
        operands: &["a", "b", "y"],
        params: AddI8Params::NAMES,
    },
    Kernel {
        name: "conv2d_f32",
        operands: &["x", "w", "bias", "residual", "y"],
        params: Conv2dParams::NAMES,
    },
    Kernel {
        name: "conv2d_i8",
        operands: &["x", "w", "bias", "wsum", "scale", "y"],
        params: Conv2dI8Params::NAMES,
    },
    Kernel {
        name: "depthwise2d_f32",
        operands: &["x", "w", "bias", "residual", "y"],
        params: Depthwise2dParams::NAMES,
    },
    Kernel {
        name: "depthwise2d_i8",
        operands: &["x", "w", "bias", "scale", "y"],
        params: Depthwise2dI8Params::NAMES,
    },
    Kernel {
        name: "gemm_f32",
        operands: &["a", "b", "bias", "residual", "c"],
        params: GemmParams::NAMES,
    },
    Kernel {
        name: "layer_norm_f32",
        operands: &["x", "scale", "bias", "y"],
        params: LayerNormParams::NAMES,
    },
    Kernel {
        name: "map_f32",
        operands: &["a", "b", "c", "y"],
        params: MapParams::NAMES,
    },
    Kernel {
        name: "max_pool2d_i8",
        operands: &["x", "y"],
        params: MaxPool2dI8Params::NAMES,
    },
    Kernel {
        name: "mul_i8",
        operands: &["a", "b", "y"],
        params: MulI8Params::NAMES,
    },
    Kernel {
        name: "pool2d_f32",
        operands: &["x", "y"],
        params: Pool2dParams::NAMES,
    },
    Kernel {
        name: "quantize_f32",
        operands: &["x", "y"],
        params: QuantizeF32Params::NAMES,
    },
    Kernel {
        name: "sd_rebuild_f32",
        operands: &["packed", "w"],
        params: SdRebuildParams::NAMES,
    },
    Kernel {
        name: "sd_rebuild_i8",
        operands: &["packed", "w"],
        params: SdRebuildParams::NAMES,
    },
    Kernel {
        name: "softmax_f32",
        operands: &["x", "y"],
        params: SoftmaxParams::NAMES,
    },
    Kernel {
        name: "sparse2d_f32",
        operands: &["x", "w", "places", "starts", "bias", "residual", "scratch", "y"],
        params: Sparse2dParams::NAMES,
    },
    Kernel {
        name: "sparse2d_i8",
        operands: &[
            "x", "w", "places", "starts", "bias", "wsum", "scale", "scratch", "y",
        ],
        params: Sparse2dI8Params::NAMES,
    },
    Kernel {
        name: "winograd_f32",
        operands: &["x", "w", "bias", "residual", "scratch", "y"],
        params: WinogradParams::NAMES,
    },
];
