//! Tests of the format, and values for them.

mod docs;
mod mutate;
mod pack;
mod rebuild;
mod stored;
mod text_form;
mod verify;

use super::*;
use half::f16;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Magnitudes an alphabet may hold.
fn magnitudes() -> Vec<u8> {
    (1..=255u8).filter(|m| m.count_ones() <= 2).collect()
}

fn any_geometry() -> impl Strategy<Value = Geometry> {
    (
        vec(1..=6usize, 1..=5),
        any::<proptest::sample::Index>(),
        any::<u64>(),
    )
        .prop_map(|(shape, n, seed)| {
            let mut dims: Vec<usize> = (0..shape.len()).collect();
            // A permutation from the digits of the seed in a falling base.
            let mut seed = seed as usize;
            for i in (1..dims.len()).rev() {
                dims.swap(i, seed % (i + 1));
                seed /= i + 1;
            }
            let vector_dims = dims.split_off(n.index(shape.len() + 1));
            Geometry {
                shape,
                filter_dims: dims,
                vector_dims,
            }
        })
}

fn any_format() -> impl Strategy<Value = Format> {
    let sizes = (1..=8usize, 1..=8usize, 1..=12usize, 1..=5usize);
    let index = prop_oneof![Just(Index::None), (1..=5usize).prop_map(Index::Rows)];
    let alphabet = (any::<bool>(), 1..=8usize).prop_flat_map(|(nibble, n)| {
        let (packing, n) = if nibble {
            (Packing::Nibble, n.min(7))
        } else {
            (Packing::Row, n)
        };
        (Just(packing), subsequence(magnitudes(), n))
    });
    (
        sizes,
        alphabet,
        select(vec![6u8, 8]),
        select(vec![DType::F32, DType::F16]),
        index,
    )
        .prop_map(
            |((s, r, slice_rows, basis_filters), (packing, alphabet), basis_bits, scale, index)| Format {
                s,
                r,
                slice_rows,
                alphabet,
                packing,
                basis_bits,
                basis_filters,
                scale,
                index,
            },
        )
}

/// Any value without faults, small.
fn any_decomposed() -> impl Strategy<Value = Decomposed> {
    (any_geometry(), any_format()).prop_flat_map(|(geometry, format)| {
        let (filters, rows) = (geometry.filters(), geometry.rows(format.s));
        let top = format.alphabet.len() as i8;
        let bases = geometry.basis_groups(&format) * geometry.slices(&format);
        let limit = 1i16 << (format.basis_bits - 1);
        let indexed = format.index != Index::None;
        let codes = vec(-top..=top, filters * rows * format.r);
        let kept = vec(
            any::<bool>().prop_map(move |k| k || !indexed),
            geometry.index_groups(&format) * rows,
        );
        let entry = (-limit..limit).prop_map(|b| b as i8);
        let basis = vec(entry, bases * format.r * format.s);
        // Any finite half is a single too.
        let scales = vec((0..0x7c00u16).prop_map(|b| f16::from_bits(b).to_f32()), filters);
        (
            Just((geometry, format)),
            codes,
            kept,
            basis,
            vec(0..=15u8, bases),
            scales,
        )
            .prop_map(|((geometry, format), codes, kept, bases, shifts, scales)| {
                let mut d = Decomposed {
                    geometry,
                    format,
                    codes,
                    kept,
                    bases,
                    shifts,
                    scales,
                };
                let (rows, r) = (d.rows(), d.format.r);
                for i in 0..d.codes.len() / r {
                    if !d.is_kept(i / rows, i % rows) {
                        d.codes[i * r..][..r].fill(0);
                    }
                }
                if d.format.scale == DType::F32 {
                    d.scales.iter_mut().for_each(|x| *x *= 1.1);
                }
                d
            })
    })
}

/// Two filters of a 3x3 convolution over one channel; published packing, the second row of both dropped.
fn golden() -> Decomposed {
    Decomposed {
        geometry: Geometry::conv(&[2, 1, 3, 3], Axis::X),
        format: Format {
            s: 3,
            r: 3,
            slice_rows: 192,
            alphabet: vec![1, 2, 4, 8, 16, 32, 64],
            packing: Packing::Nibble,
            basis_bits: 8,
            basis_filters: 1,
            scale: DType::F16,
            index: Index::Rows(2),
        },
        codes: vec![7, 0, -1, 0, 0, 0, 2, -3, 0, 0, 0, 5, 0, 0, 0, -7, 1, 1],
        kept: vec![true, false, true],
        bases: vec![
            100, -20, 3, 5, 90, -7, 0, 1, -128, 127, 0, 0, 1, 64, 2, -3, -2, 33,
        ],
        shifts: vec![6, 5],
        scales: vec![0.5, 0.0625],
    }
}
