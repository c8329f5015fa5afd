//! SmartDeal weights: a large row-sparse matrix of small codes times a tiny basis per slice, rebuilt just before use.
//!
//! A weight tensor is seen as one vector per filter ([`Geometry`]), cut into rows of `S` entries; rows are grouped into
//! slices. Row `q` of a filter is rebuilt from its `r` codes and the basis `B` (`r` x `S`) of its slice:
//!
//! ```text
//! w[q][j] = saturate_i8((sum over k of value(code[q][k]) * B[k][j] + rounding) >> shift),  weight = w * scale[filter]
//! ```
//!
//! with `rounding = 2^(shift-1)` (0 if `shift` is 0), in 32-bit arithmetic that cannot overflow, so a rebuilt weight is an `i8` with a real scale per
//! filter, the same everywhere, bit for bit (SmartDeal, arXiv 2101.01163; format: `docs/sd-format.md`).
//!
//! Here are the type, its meaning (`rebuild`), its packed bytes and their exact size. Not here: how codes and bases are found
//! (`passes/decompose`).

mod bits;
mod error;
mod format;
mod geometry;
mod header;
mod pack;
mod rebuild;
pub mod relabel;
mod sizes;
mod stored;
pub mod text;
mod verify;

#[cfg(test)]
mod tests;

pub use error::SdError;
pub use geometry::Axis;
pub use header::read_header;
pub use pack::{pack, pack_index, pack_rows, unpack};
pub use rebuild::{dequantised, rebuild, rebuild_row};
pub use sizes::{Sections, Sizes, sizes, stored_rows};
pub use stored::{Int8, Stored};
pub use verify::{Fault, Items, MAX_ELEMENTS, MAX_EXPANSION, MAX_RANK, faults_of_format, verify};

use crate::DType;

/// How a weight tensor is read as filters of rows.
///
/// `filter_dims` and `vector_dims` together are a permutation of the tensor's dimensions. A filter is one index over
/// `filter_dims` (row-major, in that order); its vector runs over `vector_dims` (row-major, in that order) and is cut into rows
/// of `S` consecutive entries, the last one padded with zeros.
///
/// | tensor | filter_dims | vector_dims |
/// |---|---|---|
/// | Conv `[M,C,kh,kw]`, rows along the kernel's x | `[0]` | `[1,2,3]` |
/// | Conv, rows along y | `[0]` | `[1,3,2]` |
/// | MatMul `[K,N]` | `[1]` | `[0]` |
/// | LSTM gates `[D,4H,I]` | `[0,1]` | `[2]` |
/// | ConvTranspose `[C,M,kh,kw]` | `[1]` | `[0,2,3]` |
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Shape of the dense tensor.
    pub shape: Vec<usize>,
    /// Dimensions that number the filters.
    pub filter_dims: Vec<usize>,
    /// Dimensions that run along a filter's vector.
    pub vector_dims: Vec<usize>,
}

/// How codes are packed into bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// Four bits a code: the published form, and the accelerator's. At most 15 levels.
    Nibble,
    /// One word of `ceil(r * log2(levels))` bits a row, mixed radix, most significant code first.
    Row,
}

/// Which rows are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Index {
    /// All.
    None,
    /// One bit a row, shared by this many consecutive filters; rows whose bit is 0 are zero in all of them.
    Rows(usize),
}

/// Everything about a decomposed tensor that is not its codes, bases and scales.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    /// Entries of a row: `S`, 1 to 8.
    pub s: usize,
    /// Rows of a basis: `r`, 1 to 8.
    pub r: usize,
    /// Rows of a slice, at most `64 * S`; the last slice of a filter may be shorter.
    pub slice_rows: usize,
    /// Positive magnitudes of the codes, ascending, at most 8, each a power of two or a sum of two, at most 255. Zero and both signs
    /// belong to every alphabet, so there are `2 * len + 1` levels.
    pub alphabet: Vec<u8>,
    /// Code packing.
    pub packing: Packing,
    /// Bits of a basis entry as stored: 6 or 8.
    pub basis_bits: u8,
    /// Consecutive filters that share their bases; the number of filters for one set of bases a layer.
    pub basis_filters: usize,
    /// Stored type of the scales: `f32` or `f16`.
    pub scale: DType,
    /// Row index.
    pub index: Index,
}

/// A decomposed weight tensor.
///
/// With `M` filters, `Q` rows a filter, `T = ceil(Q / slice_rows)` slices a filter, `H = basis_filters`, and `G` filters that share a
/// bit of the row index (1 without an index), all arrays row-major:
#[derive(Clone, PartialEq, Debug)]
pub struct Decomposed {
    /// How the dense tensor is read.
    pub geometry: Geometry,
    /// Parameters.
    pub format: Format,
    /// `[M, Q, r]`: signed positions in the alphabet: 0 is zero, `+k`/`-k` is `+-alphabet[k-1]`. Zero in dropped rows.
    pub codes: Vec<i8>,
    /// `[ceil(M/G), Q]`: rows kept; all true without an index.
    pub kept: Vec<bool>,
    /// `[ceil(M/H), T, r, S]`.
    pub bases: Vec<i8>,
    /// `[ceil(M/H), T]`: right shift of each basis's products, 0 to 15.
    pub shifts: Vec<u8>,
    /// `[M]`: real value of one unit, finite, not negative, exactly representable in `format.scale`.
    pub scales: Vec<f32>,
}
