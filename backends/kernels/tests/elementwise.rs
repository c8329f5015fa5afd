//! Sums, products, quantisation and pooling of bytes, and pooling of f32, of every instance that this machine can run, against their bodies in tile
//! IR: equal bytes, for random shapes, strides, types, grids and ranges.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_ir::{DType, registry};
use sdc_kernels::portable;
use support::body::{self, Operand};
use support::memory::Aligned;
use support::{KernelFn, Loaded};

const KERNELS: [&str; 5] = ["add_i8", "mul_i8", "quantize_f32", "max_pool2d_i8", "pool2d_f32"];

/// What bytes that no kernel may write hold.
const UNTOUCHED: u8 = 0xaa;

macro_rules! with_c_abi {
    ($name:ident) => {{
        unsafe extern "C" fn call(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
            // SAFETY: forwarded.
            unsafe { portable::$name(operands, params, begin, end) }
        }
        call as KernelFn
    }};
}

static SETS: LazyLock<Vec<(&'static str, [KernelFn; 5])>> = LazyLock::new(|| {
    let linked = [
        with_c_abi!(add_i8),
        with_c_abi!(mul_i8),
        with_c_abi!(quantize_f32),
        with_c_abi!(max_pool2d_i8),
        with_c_abi!(pool2d_f32),
    ];
    let loaded = Loaded::all().into_iter();
    let mut sets: Vec<_> = loaded
        .map(|l| (l.instance.name, KERNELS.map(|k| l.kernel(k))))
        .collect();
    sets.push(("linked", linked));
    sets
});

/// A call of a kernel with all of its operands' bytes, the result's last; an operand of no bytes is absent.
#[derive(Debug)]
struct Case {
    kernel: usize,
    params: Vec<i64>,
    operands: Vec<(DType, Vec<u8>)>,
    rows: i64,
    /// Bytes of the result that no element is in: gaps after the last element, and how often elements and gap repeat.
    gap: (usize, usize),
}

impl Case {
    /// From the parameters' values by name.
    fn new(kernel: &str, value: impl Fn(&str) -> i64, operands: Vec<(DType, Vec<u8>)>, rows: usize) -> Self {
        let entry = registry::find(kernel).unwrap();
        Self {
            kernel: KERNELS.iter().position(|&k| k == kernel).unwrap(),
            params: entry.params.iter().map(|name| value(name)).collect(),
            operands,
            rows: rows as i64,
            gap: (1, 1),
        }
    }

    /// Of `period` bytes of the result the first `elements` are written.
    fn with_gaps(self, elements: usize, period: usize) -> Self {
        Self {
            gap: (elements, period),
            ..self
        }
    }

    /// What the body says.
    fn expected(&self) -> Vec<u8> {
        let operands: Vec<Operand<'_>> = self
            .operands
            .iter()
            .map(|(dtype, bytes)| Operand {
                dtype: *dtype,
                bytes,
                base: 0,
            })
            .collect();
        body::result(KERNELS[self.kernel], &self.params, &operands, self.rows)
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let expected = self.expected();
        let last = self.operands.len() - 1;
        // The whole range at once, and its rows backwards: a cut must not show.
        let backwards: Vec<_> = (0..self.rows).rev().map(|row| (row, row + 1)).collect();
        for (name, kernels) in SETS.iter() {
            for ranges in [vec![(0, self.rows)], backwards.clone()] {
                self.operands[last].1.fill(UNTOUCHED);
                let mut operands: Vec<Aligned> = self.operands.iter().map(|o| Aligned::new(&o.1)).collect();
                let pointers: Vec<*mut u8> = operands.iter_mut().map(Aligned::pointer).collect();
                for (begin, end) in ranges {
                    // SAFETY: the case describes its operands.
                    unsafe { kernels[self.kernel](pointers.as_ptr(), self.params.as_ptr(), begin, end) };
                }
                let (elements, period) = self.gap;
                for (i, y) in operands[last].bytes().into_iter().enumerate() {
                    let written = i % period < elements;
                    let right = if written { expected[i] } else { UNTOUCHED };
                    prop_assert!(
                        y == right,
                        "{name} {} {i}: {y}, not {right}",
                        KERNELS[self.kernel]
                    );
                }
            }
        }
        Ok(())
    }
}

fn byte(signed: bool) -> DType {
    if signed { DType::I8 } else { DType::U8 }
}

/// A random number of the 8-bit type.
fn any_byte(random: &mut fastrand::Rng, signed: bool) -> i64 {
    if signed {
        random.i8(..).into()
    } else {
        random.u8(..).into()
    }
}

/// A scale: simple ones, so that sums end halfway between two results, and any.
fn scale(random: &mut fastrand::Rng) -> i64 {
    let x = match random.u8(..4) {
        0 => 0.5,
        1 => 1.0,
        2 => 0.01 + random.f32(),
        _ => (random.f32() * 20.0 - 10.0).exp(),
    };
    i64::from(x.to_bits())
}

fn noise(random: &mut fastrand::Rng, n: usize) -> Vec<u8> {
    (0..n).map(|_| random.u8(..)).collect()
}

/// Bytes of `rows` rows that begin `stride` apart.
fn extent(rows: usize, columns: usize, stride: usize) -> usize {
    (rows - 1) * stride + columns
}

/// Sums and products: `gaps` after the rows of each operand, or no step at all from row to row of the second.
fn binary(
    product: bool,
    (rows, columns): (usize, usize),
    gaps: [usize; 3],
    (second, still, real): (bool, bool, bool),
    seed: u64,
) -> Case {
    let random = &mut fastrand::Rng::with_seed(seed);
    let (second, real) = (second || product, real && !product);
    let signed: [bool; 3] = std::array::from_fn(|_| random.bool());
    let mut strides = gaps.map(|gap| columns + gap);
    if still {
        strides[1] = 0;
    }
    let operand = |random: &mut fastrand::Rng, i: usize| {
        (byte(signed[i]), noise(random, extent(rows, columns, strides[i])))
    };
    let a = operand(random, 0);
    let b = if second {
        operand(random, 1)
    } else {
        (DType::U8, Vec::new())
    };
    let y = (byte(signed[2]), vec![0; extent(rows, columns, strides[2])]);
    let zeros = signed.map(|s| any_byte(random, s));
    let bounds = [any_byte(random, signed[2]), any_byte(random, signed[2])];
    let scales: [i64; 3] = std::array::from_fn(|_| match real {
        true => scale(random),
        false => random.i64(-(1 << 31) + 1..1 << 31) >> random.u32(..20),
    });
    let shift = if real { 0 } else { random.i64(1..=62) };
    let value = |name: &str| match name {
        "columns" => columns as i64,
        "as_r" => strides[0] as i64,
        "bs_r" => strides[1] as i64,
        "ys_r" => strides[2] as i64,
        "has_b" => second.into(),
        "a_signed" => signed[0].into(),
        "b_signed" => signed[1].into(),
        "y_signed" => signed[2].into(),
        "a_zero" => zeros[0],
        "b_zero" => zeros[1],
        "y_zero" => zeros[2],
        "a_scale" => scales[0],
        "b_scale" => scales[1],
        "y_scale" if real => scales[2],
        "y_scale" => 0,
        "scale" => scales[2].abs(),
        "y_min" => bounds[0].min(bounds[1]),
        "y_max" => bounds[0].max(bounds[1]),
        "y_shift" => shift,
        other => panic!("{other}"),
    };
    let kernel = if product { "mul_i8" } else { "add_i8" };
    Case::new(kernel, value, vec![a, b, y], rows).with_gaps(columns, strides[2])
}

fn quantisation(
    (rows, columns, channels): (usize, usize, usize),
    planes: bool,
    gap: usize,
    seed: u64,
) -> Case {
    let random = &mut fastrand::Rng::with_seed(seed);
    let (signed, pixels) = (random.bool(), rows * columns);
    let [xs_h, xs_w, xs_c] = match planes {
        true => [columns, 1, pixels + gap],
        false => [columns * (channels + gap), channels + gap, 1],
    };
    let size = extent(rows, 1, xs_h) + (columns - 1) * xs_w + (channels - 1) * xs_c;
    let unusual = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, 3e38];
    let x: Vec<f32> = (0..size)
        .map(|_| match random.u8(..12) {
            0 => unusual[random.usize(..unusual.len())],
            1..4 => random.i32(-600..600) as f32 / 4.0,
            _ => (random.f32() - 0.5) * 300.0,
        })
        .collect();
    let (ys_h, ys_w) = (columns * (channels + gap), channels + gap);
    let y = vec![0; extent(rows, (columns - 1) * ys_w + channels, ys_h)];
    let (zero, scale) = (any_byte(random, signed), scale(random));
    let value = |name: &str| match name {
        "columns" => columns as i64,
        "channels" => channels as i64,
        "xs_h" => xs_h as i64,
        "xs_w" => xs_w as i64,
        "xs_c" => xs_c as i64,
        "ys_h" => ys_h as i64,
        "ys_w" => ys_w as i64,
        "y_signed" => signed.into(),
        "y_zero" => zero,
        "y_scale" => scale,
        other => panic!("{other}"),
    };
    let x = x.iter().flat_map(|x| x.to_le_bytes()).collect();
    let operands = vec![(DType::F32, x), (byte(signed), y)];
    Case::new("quantize_f32", value, operands, rows).with_gaps(channels, ys_w)
}

/// One axis of a window: input, window, stride, dilation, padding before.
type Axis = (usize, usize, usize, usize, usize);

/// Positions of a window along an axis.
fn outputs((input, window, stride, dilation, pad): Axis) -> usize {
    (input + 2 * pad).saturating_sub((window - 1) * dilation + 1) / stride + 1
}

/// The parameter of a pooling kernel that says how windows lie.
fn window(name: &str, h: Axis, w: Axis) -> usize {
    match name {
        "in_h" => h.0,
        "in_w" => w.0,
        "out_w" => outputs(w),
        "kh" => h.1,
        "kw" => w.1,
        "sh" => h.2,
        "sw" => w.2,
        "dh" => h.3,
        "dw" => w.3,
        "pt" => h.4,
        "pl" => w.4,
        other => panic!("{other}"),
    }
}

fn pooling(h: Axis, w: Axis, channels: usize, signed: bool, seed: u64) -> Case {
    let random = &mut fastrand::Rng::with_seed(seed);
    let (rows, columns) = (outputs(h), outputs(w));
    let x = noise(random, h.0 * w.0 * channels);
    let y = vec![0; rows * columns * channels];
    let value = |name: &str| {
        let n = match name {
            "channels" => channels,
            "xs_h" => w.0 * channels,
            "ys_h" => columns * channels,
            "xs_w" | "ys_w" => channels,
            "x_row0" | "y_row0" => 0,
            "x_signed" => signed.into(),
            other => window(other, h, w),
        };
        n as i64
    };
    let operands = vec![(byte(signed), x), (byte(signed), y)];
    Case::new("max_pool2d_i8", value, operands, rows)
}

/// Pooling of f32 with `gaps` after the channels of input and output; `counted` padding, at most what there is, is part of a mean.
fn pooling_f32(
    h: Axis,
    w: Axis,
    channels: usize,
    counted: Option<[usize; 4]>,
    gaps: [usize; 2],
    seed: u64,
) -> Case {
    let random = &mut fastrand::Rng::with_seed(seed);
    // The mean of nothing is a NaN of any bits.
    let empty = |(input, window, stride, dilation, pad): Axis| {
        let inside = |at: usize| (pad..pad + input).contains(&at);
        (0..outputs((input, window, stride, dilation, pad)))
            .any(|o| !(0..window).any(|k| inside(o * stride + k * dilation)))
    };
    let counted = counted.filter(|_| !empty(h) && !empty(w));
    let (rows, columns) = (outputs(h), outputs(w));
    let [xs_w, ys_w] = gaps.map(|gap| channels + gap);
    // NaN only for maxima, which say which one stays; those of sums are anybody's.
    let unusual = match counted {
        None => [
            f32::NAN,
            f32::from_bits(0xffc1_2345),
            f32::NEG_INFINITY,
            f32::INFINITY,
            0.0,
            -0.0,
        ],
        Some(_) => [0.0, -0.0, 1e-40, 3e38, -1e30, 1e30],
    };
    let x = (0..extent(h.0 * w.0, channels, xs_w)).flat_map(|_| {
        let x = match random.u8(..12) {
            0 => unusual[random.usize(..unusual.len())],
            _ => random.f32() - 0.5,
        };
        x.to_le_bytes()
    });
    let x: Vec<u8> = x.collect();
    let y = vec![0; 4 * extent(rows * columns, channels, ys_w)];
    let [ct, cl, cb, cr] = counted.unwrap_or_default();
    let value = |name: &str| {
        let n = match name {
            "channels" => channels,
            "xs_h" => w.0 * xs_w,
            "ys_h" => columns * ys_w,
            "xs_w" => xs_w,
            "ys_w" => ys_w,
            "x_row0" | "y_row0" => 0,
            "mean" => counted.is_some().into(),
            "ct" => ct.min(h.4),
            "cl" => cl.min(w.4),
            "cb" => cb.min(h.4),
            "cr" => cr.min(w.4),
            other => window(other, h, w),
        };
        n as i64
    };
    let operands = vec![(DType::F32, x), (DType::F32, y)];
    Case::new("pool2d_f32", value, operands, rows).with_gaps(4 * channels, 4 * ys_w)
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn sums_and_products(
        product in any::<bool>(),
        shape in (1..5usize, 1..90usize),
        gaps in [0..3usize, 0..3usize, 0..3usize],
        kind in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        binary(product, shape, gaps, kind, seed).check()?;
    }

    #[test]
    fn quantisation_of_numbers(
        shape in (1..4usize, 1..40usize, 1..40usize),
        planes in any::<bool>(),
        gap in 0..3usize,
        seed in any::<u64>(),
    ) {
        quantisation(shape, planes, gap, seed).check()?;
    }

    #[test]
    fn maximum_pooling(
        h in (1..9usize, 1..5usize, 1..4usize, 1..3usize, 0..3usize),
        w in (1..9usize, 1..5usize, 1..4usize, 1..3usize, 0..3usize),
        channels in 1..150usize,
        signed in any::<bool>(),
        seed in any::<u64>(),
    ) {
        pooling(h, w, channels, signed, seed).check()?;
    }

    #[test]
    fn pooling_of_numbers(
        h in (1..9usize, 1..8usize, 1..4usize, 1..4usize, 0..3usize),
        w in (1..9usize, 1..8usize, 1..4usize, 1..4usize, 0..3usize),
        channels in prop_oneof![1..40usize, 60..150usize],
        counted in prop::option::of([0..3usize, 0..3usize, 0..3usize, 0..3usize]),
        gaps in [0..3usize, 0..3usize],
        seed in any::<u64>(),
    ) {
        pooling_f32(h, w, channels, counted, gaps, seed).check()?;
    }
}
