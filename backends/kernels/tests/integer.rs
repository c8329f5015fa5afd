//! The integer convolutions of every instance that this machine can run, against their bodies in tile IR: equal bytes, for random
//! shapes, strides, paddings, types and both kinds of requantisation.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::registry::{self, conv2d_i8};
use sdc_kernels::portable;
use support::body::{self, Operand};
use support::memory::Aligned;
use support::{KernelFn, Loaded};

macro_rules! with_c_abi {
    ($name:ident) => {{
        unsafe extern "C" fn call(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
            // SAFETY: forwarded.
            unsafe { portable::$name(operands, params, begin, end) }
        }
        call as KernelFn
    }};
}

/// Instance, kernel, and the function; the kernels' variants for more features are instances of their own.
static SETS: LazyLock<Vec<(&'static str, &'static str, KernelFn)>> = LazyLock::new(|| {
    let mut sets = vec![
        ("linked", "conv2d_i8", with_c_abi!(conv2d_i8)),
        ("linked", "depthwise2d_i8", with_c_abi!(depthwise2d_i8)),
    ];
    for loaded in Loaded::all() {
        for kernel in ["conv2d_i8", "depthwise2d_i8"] {
            sets.push((loaded.instance.name, kernel, loaded.kernel(kernel)));
            let here = sdc_kernels::host_features();
            if let Some(best) = loaded.instance.best_symbol(kernel, here)
                && Some(&best) != loaded.instance.symbol(kernel).as_ref()
            {
                sets.push(("variant", kernel, loaded.symbol(&best)));
            }
        }
    }
    sets
});

/// A call of a kernel with all of its operands' bytes, the result's last.
#[derive(Debug)]
struct Case {
    kernel: &'static str,
    params: Vec<i64>,
    operands: Vec<(DType, Vec<u8>)>,
    rows: i64,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    depthwise: bool,
    input: [usize; 3],
    filters: usize,
    window: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    planes: usize,
    signed: [bool; 2],
    shift: usize,
}

fn bytes<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

fn case(s: Shape, seed: u64) -> Case {
    let mut random = fastrand::Rng::with_seed(seed);
    let [h, w, c] = s.input;
    let ([kh, kw], [ph, pw]) = (s.window, s.pad);
    let extent = |size: usize, pad: usize, k: usize, d: usize, stride: usize| {
        (size + 2 * pad).saturating_sub((k - 1) * d + 1) / stride + 1
    };
    // At least one row and column of results: the input is made large enough.
    let h = h.max((kh - 1) * s.dilation[0] + 1);
    let w = w.max((kw - 1) * s.dilation[1] + 1);
    let rows = extent(h, ph, kh, s.dilation[0], s.stride[0]);
    let columns = extent(w, pw, kw, s.dilation[1], s.stride[1]);
    let filters = if s.depthwise { c } else { s.filters };
    let lanes = conv2d_i8::LANES;
    let padded = if s.depthwise {
        c
    } else {
        filters.next_multiple_of(lanes)
    };
    let taps = kh * kw;
    let x: Vec<u8> = (0..h * w * c).map(|_| random.u8(..)).collect();
    let bias: Vec<i32> = (0..padded).map(|_| random.i32(-100_000..100_000)).collect();
    let (weights, sums) = if s.depthwise {
        let all: Vec<i16> = (0..taps * c).map(|_| random.i16(-255..=255)).collect();
        (bytes(&all, |w| w.to_le_bytes()), Vec::new())
    } else {
        let quads = c.div_ceil(4);
        let mut packed = Vec::new();
        let mut sums = vec![0i32; padded];
        for first in (0..filters).step_by(conv2d_i8::BLOCK) {
            let width = conv2d_i8::BLOCK.min((filters - first).next_multiple_of(lanes));
            for _ in 0..s.planes * taps {
                for i in 0..quads * width * 4 {
                    let (quad, filter, j) = (i / (width * 4), first + i / 4 % width, i % 4);
                    let exists = filter < filters && quad * 4 + j < c;
                    let weight = if exists { random.i8(..) } else { 0 };
                    sums[filter] += i32::from(weight);
                    packed.push(weight as u8);
                }
            }
        }
        (packed, sums)
    };
    let scale: Vec<u32> = (0..padded)
        .map(|_| {
            if s.shift == 0 {
                (random.f32() * 0.01).to_bits()
            } else {
                random.u32(1..1 << 31)
            }
        })
        .collect();
    let zero = |signed: bool, v: u8| if signed { i64::from(v as i8) } else { i64::from(v) };
    let (x_zero, y_zero) = (zero(s.signed[0], random.u8(..)), zero(s.signed[1], random.u8(..)));
    let (a, b) = (zero(s.signed[1], random.u8(..)), zero(s.signed[1], random.u8(..)));
    let get = |name: &str| -> i64 {
        let n = |v: usize| v as i64;
        match name {
            "in_h" => n(h),
            "in_w" => n(w),
            "in_c" | "channels" => n(c),
            "out_w" => n(columns),
            "out_c" => n(filters),
            "kh" => n(kh),
            "kw" => n(kw),
            "sh" => n(s.stride[0]),
            "sw" => n(s.stride[1]),
            "dh" => n(s.dilation[0]),
            "dw" => n(s.dilation[1]),
            "pt" => n(ph),
            "pl" => n(pw),
            "xs_h" => n(w * c),
            "xs_w" => n(c),
            "ys_h" => n(columns * filters),
            "ys_w" => n(filters),
            "x_row0" | "y_row0" => 0,
            "planes" => n(s.planes),
            "x_signed" => s.signed[0].into(),
            "y_signed" => s.signed[1].into(),
            "x_zero" => x_zero,
            "y_zero" => y_zero,
            "y_min" => a.min(b),
            "y_max" => a.max(b),
            "y_shift" => n(s.shift),
            other => panic!("{other}"),
        }
    };
    let kernel = if s.depthwise {
        "depthwise2d_i8"
    } else {
        "conv2d_i8"
    };
    let entry = registry::find(kernel).unwrap();
    let byte = |signed: bool| if signed { DType::I8 } else { DType::U8 };
    let scale_type = if s.shift == 0 { DType::F32 } else { DType::I32 };
    let mut operands = vec![(byte(s.signed[0]), x)];
    if s.depthwise {
        operands.push((DType::I16, weights));
        operands.push((DType::I32, bytes(&bias, |v| v.to_le_bytes())));
    } else {
        operands.push((DType::I8, weights));
        operands.push((DType::I32, bytes(&bias, |v| v.to_le_bytes())));
        operands.push((DType::I32, bytes(&sums, |v| v.to_le_bytes())));
    }
    operands.push((scale_type, bytes(&scale, |v| v.to_le_bytes())));
    operands.push((byte(s.signed[1]), vec![0; rows * columns * filters]));
    Case {
        kernel,
        params: entry.params.iter().map(|name| get(name)).collect(),
        operands,
        rows: rows as i64,
    }
}

/// What the body says.
fn expected(case: &Case) -> Vec<u8> {
    let operands: Vec<Operand<'_>> = case
        .operands
        .iter()
        .map(|(dtype, bytes)| Operand {
            dtype: *dtype,
            bytes,
            base: 0,
        })
        .collect();
    body::result(case.kernel, &case.params, &operands, case.rows)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let pair = |r: std::ops::Range<usize>| [r.clone(), r];
    (
        (
            any::<bool>(),
            (
                1..9usize,
                1..20usize,
                prop_oneof![1 => 1..5usize, 2 => 1..70usize],
            ),
            1..150usize,
        ),
        (pair(1..4), pair(1..3), pair(1..3), pair(0..2)),
        (
            1..3usize,
            [any::<bool>(), any::<bool>()],
            prop_oneof![Just(0usize), 1..63usize],
        ),
    )
        .prop_map(
            |((depthwise, (h, w, c), filters), (window, stride, dilation, pad), (planes, signed, shift))| {
                Shape {
                    depthwise,
                    input: [h, w, c],
                    filters,
                    window,
                    stride,
                    dilation,
                    pad,
                    planes,
                    signed,
                    shift,
                }
            },
        )
}

proptest! {
    #![proptest_config(support::cases(120))]

    #[test]
    fn kernels_have_the_bits_of_their_bodies(shape in shapes(), seed in any::<u64>()) {
        let mut case = case(shape, seed);
        let expected = expected(&case);
        for &(set, kernel, function) in SETS.iter().filter(|s| s.1 == case.kernel) {
            let last = case.operands.len() - 1;
            // The whole range at once has the larger tiles, the rows backwards show what a cut does.
            let backwards: Vec<_> = (0..case.rows).rev().map(|row| (row, row + 1)).collect();
            for ranges in [vec![(0, case.rows)], backwards] {
                case.operands[last].1.fill(0xaa);
                let mut operands: Vec<Aligned> = case.operands.iter().map(|o| Aligned::new(&o.1)).collect();
                let pointers: Vec<*mut u8> = operands.iter_mut().map(Aligned::pointer).collect();
                for (begin, end) in ranges {
                    // SAFETY: the case describes its operands.
                    unsafe { function(pointers.as_ptr(), case.params.as_ptr(), begin, end) };
                }
                prop_assert!(operands[last].bytes() == expected, "{set} {kernel}");
            }
        }
    }
}
