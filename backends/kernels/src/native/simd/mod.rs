//! The one vector type the kernels are written over.
//!
//! `V` is the widest f32 vector of the instruction set this copy of the source is built for; which one that is follows
//! from `cfg(target_feature)` alone, so a build with another `target-cpu` is another instance of every kernel.
//! Not here: anything that picks an instruction set at run time.

#[cfg(all(target_arch = "x86_64", target_feature = "avx512f", not(miri)))]
#[path = "avx512.rs"]
mod imp;

#[cfg(all(
    target_arch = "x86_64",
    target_feature = "avx2",
    target_feature = "fma",
    not(target_feature = "avx512f"),
    not(miri)
))]
#[path = "avx2.rs"]
mod imp;

#[cfg(all(
    target_arch = "x86_64",
    not(all(target_feature = "avx2", target_feature = "fma")),
    not(target_feature = "avx512f"),
    not(miri)
))]
#[path = "sse2.rs"]
mod imp;

#[cfg(any(not(target_arch = "x86_64"), miri))]
#[path = "scalar.rs"]
mod imp;

pub use imp::V;

/// Number of f32 in a `V`.
pub const LANES: usize = V::LANES;
