//! `sd_rebuild_f32` and `sd_rebuild_i8` of every instance that this machine can run, against the weights as the format defines them: equal
//! bits.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::sd::{
    Decomposed, Format, Geometry, Index, Packing, dequantised, pack, rebuild, sizes, stored_rows,
};
use sdc_kernels::params::SdRebuildParams;
use sdc_kernels::portable;
use support::{KernelFn, Loaded};

unsafe extern "C" fn linked(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { portable::sd_rebuild_f32(operands, params, begin, end) }
}

unsafe extern "C" fn linked_integers(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { portable::sd_rebuild_i8(operands, params, begin, end) }
}

/// Name, block, lanes and kernels of an instance.
type Set = (&'static str, usize, usize, [KernelFn; 2]);

static SETS: LazyLock<Vec<Set>> = LazyLock::new(|| {
    let mut sets = vec![("linked", 8, 4, [linked as KernelFn, linked_integers])];
    for l in Loaded::all() {
        sets.push((
            l.instance.name,
            l.instance.nr,
            l.instance.lanes,
            ["sd_rebuild_f32", "sd_rebuild_i8"].map(|k| l.kernel(k)),
        ));
    }
    sets
});

prop_compose! {
    fn decomposed()(
        shape in (1..80usize, 1..40usize, 1..9usize, 1..9usize),
        options in (any::<bool>(), 1..8usize, any::<bool>(), any::<bool>(), 0..4usize, 1..90usize, 1..8usize),
    )(
        codes in vec(-(options.1 as i8)..=options.1 as i8, shape.0 * shape.1.div_ceil(shape.2) * shape.3),
        kept in vec(0..3u8, shape.0 * shape.1.div_ceil(shape.2)),
        entries in vec(
            if options.2 { -32..=31i8 } else { -128..=127i8 },
            shape.0 * shape.1.div_ceil(shape.2) * shape.2 * shape.3,
        ),
        shifts in vec(0..16u8, shape.0 * shape.1.div_ceil(shape.2)),
        scales in vec(0..64u8, shape.0),
        shape in Just(shape), options in Just(options),
    ) -> Decomposed {
        let (filters, vector, s, r) = shape;
        let (nibble, magnitudes, six, half, index, basis_filters, slice_rows) = options;
        let geometry = Geometry::leading(&[filters, vector], 1);
        let format = Format {
            s,
            r,
            slice_rows,
            alphabet: [1, 2, 3, 4, 8, 12, 64][..magnitudes].to_vec(),
            packing: if nibble { Packing::Nibble } else { Packing::Row },
            basis_bits: if six { 6 } else { 8 },
            basis_filters,
            scale: if half { DType::F16 } else { DType::F32 },
            index: if index == 0 { Index::None } else { Index::Rows(index) },
        };
        let rows = geometry.rows(s);
        let kept: Vec<bool> = kept[..geometry.index_groups(&format) * rows].iter().map(|&k| index == 0 || k > 0).collect();
        let shared = format.index_filters();
        let codes = codes.iter().enumerate().map(|(i, &code)| {
            let (filter, row) = (i / r / rows, i / r % rows);
            if kept[filter / shared * rows + row] { code } else { 0 }
        }).collect();
        let bases = geometry.basis_groups(&format) * geometry.slices(&format);
        Decomposed {
            codes,
            bases: entries[..bases * r * s].to_vec(),
            shifts: shifts[..bases].to_vec(),
            scales: scales.iter().map(|&x| f32::from(x) / 64.0).collect(),
            kept,
            geometry,
            format,
        }
    }
}

fn params(d: &Decomposed, len: usize, nr: usize, lanes: usize) -> SdRebuildParams {
    let (f, g) = (&d.format, &d.geometry);
    let at = sizes(g, f, stored_rows(d)).sections();
    let mut alphabet = [0; 8];
    alphabet[..f.alphabet.len()].copy_from_slice(&f.alphabet);
    let alphabet = u64::from_le_bytes(alphabet);
    let index_filters = if let Index::Rows(n) = f.index { n } else { 0 };
    SdRebuildParams {
        len: len as i64,
        at_index: at.index.start as i64,
        at_codes: at.codes.start as i64,
        at_bases: at.bases.start as i64,
        at_shifts: at.shifts.start as i64,
        at_scales: at.scales.start as i64,
        half: i64::from(f.scale == DType::F16),
        s: f.s as i64,
        r: f.r as i64,
        rows: d.rows() as i64,
        vector: g.vector_len() as i64,
        slice_rows: f.slice_rows as i64,
        magnitudes: f.alphabet.len() as i64,
        alphabet_lo: (alphabet & 0xffff_ffff) as i64,
        alphabet_hi: (alphabet >> 32) as i64,
        nibbles: i64::from(f.packing == Packing::Nibble),
        row_bits: f.row_bits() as i64,
        basis_bits: f.basis_bits.into(),
        basis_filters: f.basis_filters as i64,
        index_filters: index_filters as i64,
        filters: g.filters() as i64,
        n1: 1,
        n2: g.vector_len() as i64,
        d2: 1,
        nr: nr as i64,
        lanes: lanes as i64,
        ..SdRebuildParams::default()
    }
}

proptest! {
    #![proptest_config(support::cases(200))]

    #[test]
    fn panels_have_the_bits_of_the_definition(d in decomposed()) {
        // In an allocation of exactly this size, so that a tool which watches memory sees an overrun.
        let mut packed = pack(&d).unwrap().into_boxed_slice();
        let dense = dequantised(&d).unwrap();
        let dense = dense.elements::<f32>().unwrap();
        let (filters, vector) = (d.geometry.filters(), d.geometry.vector_len());
        for &(name, nr, lanes, [kernel, integers]) in SETS.iter() {
            let expected = support::pack(vector, filters, nr, lanes, |k, c| dense[c * vector + k]);
            let p = params(&d, packed.len(), nr, lanes);
            let blocks = filters.div_ceil(nr);
            let whole = [(0, blocks)].to_vec();
            let cut: Vec<_> = (0..blocks).rev().map(|i| (i, i + 1)).collect();
            for ranges in [whole, cut] {
                let mut w = std::vec![f32::NAN; expected.len()];
                for (begin, end) in ranges {
                    let operands = [packed.as_mut_ptr(), w[begin * nr * vector..].as_mut_ptr().cast()];
                    // SAFETY: operands as the parameters say.
                    unsafe { kernel(operands.as_ptr(), (&raw const p).cast(), begin as i64, end as i64) };
                }
                let bits = |w: &[f32]| w.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert!(bits(&w) == bits(&expected), "{name}");
            }
            // Filters one after another, entries in order.
            let whole = rebuild(&d).unwrap().0;
            let p = SdRebuildParams { fs: vector as i64, ks: 1, nr: filters as i64, ..p };
            let mut w = vec![-1i8; filters * vector];
            let operands = [packed.as_mut_ptr(), w.as_mut_ptr().cast()];
            // SAFETY: operands as the parameters say.
            unsafe { integers(operands.as_ptr(), (&raw const p).cast(), 0, 1) };
            let whole = whole.elements::<i8>().unwrap();
            prop_assert!(w[..] == whole[..], "{name}");
            // Four channels of each filter side by side, as integer convolutions read them: all numbers of taps that the vector has.
            for taps in (1..=vector / 4).filter(|taps| vector.is_multiple_of(4 * taps)) {
                let quads = vector / 4 / taps;
                let p = SdRebuildParams {
                    n1: 4,
                    n2: taps as i64,
                    d0: 4 * filters as i64,
                    d1: 1,
                    d2: (quads * 4 * filters) as i64,
                    fs: 4,
                    ..p
                };
                let mut w = vec![-1i8; filters * vector];
                let operands = [packed.as_mut_ptr(), w.as_mut_ptr().cast()];
                // SAFETY: operands as the parameters say.
                unsafe { integers(operands.as_ptr(), (&raw const p).cast(), 0, 1) };
                let expected = |i: usize| {
                    let (tap, quad, filter) = (i / 4 / filters / quads, i / 4 / filters % quads, i / 4 % filters);
                    whole[filter * vector + (4 * quad + i % 4) * taps + tap]
                };
                prop_assert!((0..w.len()).all(|i| w[i] == expected(i)), "{name}, {taps} taps");
            }
        }
    }
}
