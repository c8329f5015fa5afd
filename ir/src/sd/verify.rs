//! The laws of decomposed weights.

use super::{Decomposed, Format, Geometry, Index, Packing, sizes, stored_rows};
use crate::DType;
use half::f16;
use std::fmt;

/// Most dimensions of a decomposed tensor.
pub const MAX_RANK: usize = 8;
/// Most elements of a decomposed tensor: sizes in bits are then far from overflow, also with every row padded.
pub const MAX_ELEMENTS: usize = 1 << 37;
/// Most codes, and most weights, for each packed byte. So memory to unpack is bounded by the packed bytes; a tensor beyond it is all
/// but empty.
pub const MAX_EXPANSION: usize = 4096;

/// Which array of a [`Decomposed`] a fault is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names of the fields")]
pub enum Items {
    Codes,
    Kept,
    Bases,
    Shifts,
    Scales,
    Values,
}

impl fmt::Display for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Items::Codes => "codes",
            Items::Kept => "kept",
            Items::Bases => "bases",
            Items::Shifts => "shifts",
            Items::Scales => "scales",
            Items::Values => "values",
        })
    }
}

/// A broken law.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Not 1 to [`MAX_RANK`] dimensions, a dimension is zero, or there are too many elements.
    #[error("a weight of shape {0:?} cannot be decomposed")]
    Shape(Vec<usize>),
    /// `filter_dims` and `vector_dims` are not a permutation of the dimensions.
    #[error(
        "filter dimensions {filter:?} and vector dimensions {vector:?} are not the dimensions of the tensor, each once"
    )]
    Dims {
        /// `filter_dims`.
        filter: Vec<usize>,
        /// `vector_dims`.
        vector: Vec<usize>,
    },
    /// A parameter of the format is out of its range.
    #[error("{name} is {value}, must be {range}")]
    Parameter {
        /// Name of the field.
        name: &'static str,
        /// Its value.
        value: usize,
        /// What it may be.
        range: &'static str,
    },
    /// Not 1 to 8 ascending magnitudes that are powers of two or sums of two of them.
    #[error("alphabet {0:?} is not 1 to 8 ascending powers of two or sums of two")]
    Alphabet(Vec<u8>),
    /// More than seven magnitudes with nibbles.
    #[error("{0} magnitudes and their signs do not fit a nibble")]
    Nibble(usize),
    /// Scales must be `f32` or `f16`.
    #[error("scales cannot be stored as {0}")]
    ScaleType(DType),
    /// An array has a wrong length.
    #[error("{items} has {actual} items, needs {expected}")]
    Length {
        /// Array.
        items: Items,
        /// Items it must have.
        expected: usize,
        /// Items it has.
        actual: usize,
    },
    /// Items of an array break its law.
    #[error("{count} of {items} are bad, the first is {items}[{first}]: {law}")]
    Item {
        /// Array.
        items: Items,
        /// Position of the first bad item.
        first: usize,
        /// Number of bad items.
        count: usize,
        /// The law.
        law: &'static str,
    },
    /// More than [`MAX_EXPANSION`] codes or weights for each packed byte.
    #[error("{elements} codes or weights in {bytes} packed bytes: too few rows are kept")]
    TooSparse {
        /// The larger of the numbers of codes and of weights.
        elements: usize,
        /// Packed bytes.
        bytes: usize,
    },
}

/// Every broken law of a geometry.
pub(super) fn faults_of_geometry(geometry: &Geometry) -> Vec<Fault> {
    let mut faults = Vec::new();
    let shape = &geometry.shape;
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let fits = elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n));
    if !(1..=MAX_RANK).contains(&shape.len()) || !fits {
        faults.push(Fault::Shape(shape.clone()));
    }
    let mut dims = [&geometry.filter_dims[..], &geometry.vector_dims].concat();
    dims.sort_unstable();
    if !dims.iter().copied().eq(0..shape.len()) {
        faults.push(Fault::Dims {
            filter: geometry.filter_dims.clone(),
            vector: geometry.vector_dims.clone(),
        });
    }
    faults
}

/// Every broken law of a geometry and a format. If none, the numbers of filters, rows and slices, and [`sizes()`], are safe to compute.
pub fn faults_of_format(geometry: &Geometry, format: &Format) -> Vec<Fault> {
    let mut faults = faults_of_geometry(geometry);
    let mut parameter = |name, value: usize, good: bool, range| {
        if !good {
            faults.push(Fault::Parameter { name, value, range });
        }
    };
    let Format { s, r, slice_rows, .. } = *format;
    parameter("s", s, (1..=8).contains(&s), "1 to 8");
    parameter("r", r, (1..=8).contains(&r), "1 to 8");
    let most_rows = s.saturating_mul(64);
    parameter(
        "slice_rows",
        slice_rows,
        (1..=most_rows).contains(&slice_rows),
        "1 to 64 * s",
    );
    let bits = format.basis_bits;
    parameter("basis_bits", bits.into(), matches!(bits, 6 | 8), "6 or 8");
    parameter(
        "basis_filters",
        format.basis_filters,
        format.basis_filters > 0,
        "at least 1",
    );
    if let Index::Rows(filters) = format.index {
        parameter("filters of the index", filters, filters > 0, "at least 1");
    }
    let alphabet = &format.alphabet;
    let sums = alphabet.iter().all(|m| matches!(m.count_ones(), 1 | 2));
    if !(1..=8).contains(&alphabet.len()) || !sums || !alphabet.is_sorted_by(|a, b| a < b) {
        faults.push(Fault::Alphabet(alphabet.clone()));
    }
    if format.packing == Packing::Nibble && alphabet.len() > 7 {
        faults.push(Fault::Nibble(alphabet.len()));
    }
    if !matches!(format.scale, DType::F32 | DType::F16) {
        faults.push(Fault::ScaleType(format.scale));
    }
    faults
}

/// Every broken law: none means that the value can be rebuilt and packed. Faults of an array are reported once per law, and only if its
/// length is right.
pub fn verify(d: &Decomposed) -> Vec<Fault> {
    let mut faults = faults_of_format(&d.geometry, &d.format);
    if !faults.is_empty() {
        return faults;
    }
    let (geometry, format) = (&d.geometry, &d.format);
    let (filters, rows) = (geometry.filters(), d.rows());
    let bases = geometry.basis_groups(format) * geometry.slices(format);
    for (items, expected, actual) in [
        (Items::Codes, filters * rows * format.r, d.codes.len()),
        (Items::Kept, geometry.index_groups(format) * rows, d.kept.len()),
        (Items::Bases, bases * format.r * format.s, d.bases.len()),
        (Items::Shifts, bases, d.shifts.len()),
        (Items::Scales, filters, d.scales.len()),
    ] {
        if expected != actual {
            faults.push(Fault::Length {
                items,
                expected,
                actual,
            });
        }
    }
    if !faults.is_empty() {
        return faults;
    }
    let mut law =
        |items, law, bad: &mut dyn Iterator<Item = bool>| faults.extend(fault_of_items(items, law, bad));
    let top = format.alphabet.len() as u8;
    // Nearly always nothing is wrong, which is found out sooner without positions.
    let is_outside = |c: &i8| c.unsigned_abs() > top;
    if d.codes.iter().any(is_outside) {
        law(
            Items::Codes,
            "outside the alphabet",
            &mut d.codes.iter().map(is_outside),
        );
    }
    if d.kept.contains(&false) {
        let mut in_dropped = d.codes.chunks_exact(format.r).enumerate().flat_map(|(i, codes)| {
            let kept = d.is_kept(i / rows, i % rows);
            codes.iter().map(move |&c| c != 0 && !kept)
        });
        law(Items::Codes, "not zero in a dropped row", &mut in_dropped);
    }
    let indexed = format.index != Index::None;
    let mut dropped = d.kept.iter().map(|&kept| !kept && !indexed);
    law(Items::Kept, "a row is dropped without an index", &mut dropped);
    let limit = 1i16 << (format.basis_bits - 1);
    let mut wide = d.bases.iter().map(|&b| !(-limit..limit).contains(&i16::from(b)));
    law(Items::Bases, "does not fit the bits of a basis entry", &mut wide);
    law(
        Items::Shifts,
        "more than 15",
        &mut d.shifts.iter().map(|&s| s > 15),
    );
    faults.extend(fault_of_scales(&d.scales, format.scale));

    let elements = filters * rows * format.r.max(format.s);
    let bytes = sizes(geometry, format, stored_rows(d)).total;
    if elements > bytes * MAX_EXPANSION {
        faults.push(Fault::TooSparse { elements, bytes });
    }
    faults
}

/// The fault of the scales of filters stored as `stored`, if there is one.
pub(super) fn fault_of_scales(scales: &[f32], stored: DType) -> Option<Fault> {
    let half = stored == DType::F16;
    let mut bad = scales.iter().map(|&x| {
        let exact = !half || f16::from_f32(x).to_f32() == x;
        !x.is_finite() || x.is_sign_negative() || !exact
    });
    let law = "not finite, negative, or not exact in the stored type";
    fault_of_items(Items::Scales, law, &mut bad)
}

fn fault_of_items(items: Items, law: &'static str, bad: &mut dyn Iterator<Item = bool>) -> Option<Fault> {
    let mut places = bad.enumerate().filter_map(|(i, bad)| bad.then_some(i));
    let first = places.next()?;
    let count = 1 + places.count();
    Some(Fault::Item {
        items,
        first,
        count,
        law,
    })
}
