//! The convolutions by rows that are stored, of every instance that this machine can run, against their bodies in tile IR: equal bytes of
//! integers, and of floats where products are fused as the body's are. Tables, shapes, strides and paddings are random.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::registry::sparse2d::{BLOCK, Copied};
use sdc_ir::registry::{self};
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

/// Instance, kernel, and the function; variants for more features are instances of their own.
static SETS: LazyLock<Vec<(&'static str, &'static str, KernelFn)>> = LazyLock::new(|| {
    let mut sets = vec![
        ("linked", "sparse2d_f32", with_c_abi!(sparse2d_f32)),
        ("linked", "sparse2d_i8", with_c_abi!(sparse2d_i8)),
    ];
    for loaded in Loaded::all() {
        for kernel in ["sparse2d_f32", "sparse2d_i8"] {
            sets.push((loaded.instance.name, kernel, loaded.kernel(kernel)));
            let best = loaded
                .instance
                .best_symbol(kernel, sdc_kernels::host_features())
                .unwrap();
            if Some(&best) != loaded.instance.symbol(kernel).as_ref() {
                sets.push(("variant", kernel, loaded.symbol(&best)));
            }
        }
    }
    sets
});

/// A convolution; an axis is input, window, stride, dilation and padding.
#[derive(Clone, Copy, Debug)]
struct Shape {
    integers: bool,
    rows: [usize; 5],
    columns: [usize; 5],
    channels: usize,
    filters: usize,
    band: usize,
    density: usize,
    /// What the bytes of a unit run over (rows, columns, channels), and how many they are.
    along: usize,
    bytes: usize,
    bias: bool,
    residual: bool,
    act: i64,
    signed: [bool; 2],
    shift: usize,
    transposed: bool,
}

#[derive(Debug)]
struct Case {
    kernel: &'static str,
    params: Vec<i64>,
    operands: Vec<(DType, Vec<u8>)>,
    rows: i64,
}

fn results([input, window, stride, dilation, pad]: [usize; 5]) -> usize {
    (input + 2 * pad - (window - 1) * dilation - 1) / stride + 1
}

fn words<T>(values: impl IntoIterator<Item = T>, to: impl FnMut(T) -> [u8; 4]) -> Vec<u8> {
    values.into_iter().flat_map(to).collect()
}

fn case(s: Shape, seed: u64) -> Case {
    let mut random = fastrand::Rng::with_seed(seed);
    let grown = |mut axis: [usize; 5]| {
        axis[0] = axis[0].max((axis[1] - 1) * axis[3] + 1);
        axis
    };
    let (rows, columns) = (grown(s.rows), grown(s.columns));
    let (out_h, out_w) = (results(rows), results(columns));
    // Windows without what is within a unit.
    let folded = |axis: usize| s.integers && s.along == axis;
    let kh = if folded(0) { 1 } else { rows[1] };
    let kw = if folded(1) { 1 } else { columns[1] };
    let jump = if folded(2) { s.bytes } else { 1 };
    let units = s.channels.div_ceil(jump);
    let copied = Copied {
        units,
        rows: (s.band - 1) * rows[2] + (kh - 1) * rows[3] + 1,
        phases: if kw == 1 { 1 } else { columns[2] },
        width: out_w + (kw - 1) * columns[3] / columns[2],
    };
    let [block, row, phase, column] = copied.steps();
    let (mut places, mut starts) = (Vec::new(), vec![0]);
    for _ in 0..s.filters.div_ceil(BLOCK) {
        for i in 0..units * kh * kw {
            let (unit, y, x) = (i / kw / kh, i / kw % kh, i % kw * columns[3]);
            if random.usize(0..100) < s.density {
                let (of_unit, of_row) = (unit / BLOCK * block + unit % BLOCK, y * rows[3] * row);
                let of_column = x / columns[2] * column + x % columns[2] * phase;
                places.push((of_unit + of_row + of_column) as i32);
            }
        }
        starts.push(places.len() as i32);
    }
    let most = starts.windows(2).map(|w| w[1] - w[0]).max().unwrap();
    let entries = places.len();
    // There is always one that may be looked at.
    places.push(0);
    let width = if s.integers { 4 * BLOCK } else { BLOCK };
    let padded = s.filters.next_multiple_of(BLOCK);
    let (inputs, outputs) = (rows[0] * columns[0] * s.channels, out_h * out_w * s.filters);
    let byte = |signed: bool| if signed { DType::I8 } else { DType::U8 };
    let f32s = |n: usize, random: &mut fastrand::Rng| words(0..n, |_| (random.f32() - 0.5).to_le_bytes());
    let mut operands = Vec::new();
    if s.integers {
        operands.push((byte(s.signed[0]), (0..inputs).map(|_| random.u8(..)).collect()));
        operands.push((
            DType::I8,
            (0..(entries + 1) * width)
                .map(|_| random.u8(..))
                .collect::<Vec<u8>>(),
        ));
    } else {
        operands.push((DType::F32, f32s(inputs, &mut random)));
        operands.push((DType::F32, f32s((entries + 1) * width, &mut random)));
    }
    operands.push((DType::I32, words(places, i32::to_le_bytes)));
    operands.push((DType::I32, words(starts.iter().copied(), i32::to_le_bytes)));
    if s.integers {
        operands.push((
            DType::I32,
            words(0..padded, |_| random.i32(-100_000..100_000).to_le_bytes()),
        ));
        // Bytes that do not count have no weight in the sums.
        let weights = &mut operands[1].1;
        let mut sums = vec![0i32; padded];
        for (i, w) in weights.iter_mut().enumerate().take(entries * width) {
            if i % 4 >= s.bytes {
                *w = 0;
            }
            let of = starts
                .iter()
                .rposition(|&start| start as usize <= i / width)
                .unwrap();
            sums[of * BLOCK + i % width / 4] += i32::from(*w as i8);
        }
        operands.push((DType::I32, words(sums, i32::to_le_bytes)));
        let scale = |random: &mut fastrand::Rng| match s.shift {
            0 => (random.f32() * 0.01).to_bits(),
            _ => random.u32(1..1 << 31),
        };
        let scales = words(0..padded, |_| scale(&mut random).to_le_bytes());
        operands.push((if s.shift == 0 { DType::F32 } else { DType::I32 }, scales));
    } else {
        let of = |there: bool, n: usize, random: &mut fastrand::Rng| {
            if there { f32s(n, random) } else { Vec::new() }
        };
        operands.push((DType::F32, of(s.bias, s.filters, &mut random)));
        operands.push((DType::F32, of(s.residual, outputs, &mut random)));
    }
    let (scratch, y) = if s.integers {
        (DType::I32, byte(s.signed[1]))
    } else {
        (DType::F32, DType::F32)
    };
    operands.push((scratch, vec![0; copied.len() * 4]));
    operands.push((y, vec![0; outputs * y.size()]));
    let zero = |signed: bool, v: u8| if signed { i64::from(v as i8) } else { i64::from(v) };
    let zeros = [0, 1, 1, 1].map(|i| zero(s.signed[i], random.u8(..)));
    let kernel = if s.integers { "sparse2d_i8" } else { "sparse2d_f32" };
    let transposed = s.transposed && !s.integers;
    let get = |name: &str| -> i64 {
        let n = |v: usize| v as i64;
        let along = |axis: usize, step: usize| n(if folded(axis) { step } else { 0 });
        match name {
            "in_h" => n(rows[0]),
            "in_w" => n(columns[0]),
            "in_c" => n(s.channels),
            "out_w" => n(out_w),
            "out_c" => n(s.filters),
            "sh" => n(rows[2]),
            "sw" => n(columns[2]),
            "pt" => n(rows[4]),
            "pl" => n(columns[4]),
            "xs_h" if transposed => n(columns[0]),
            "xs_w" if transposed => 1,
            "xs_c" if transposed => n(rows[0] * columns[0]),
            "xs_h" => n(columns[0] * s.channels),
            "xs_w" => n(s.channels),
            "xs_c" => 1,
            "ys_h" | "rs_h" => n(out_w * s.filters),
            "ys_w" | "rs_w" => n(s.filters),
            "x_row0" | "y_row0" | "r_row0" => 0,
            "band" => n(s.band),
            "copied" => n(copied.rows),
            "phases" => n(copied.phases),
            "width" => n(copied.width),
            "most" => most.into(),
            "has_bias" => s.bias.into(),
            "has_residual" => s.residual.into(),
            "act" => s.act,
            "act_a" => (-0.25f32).to_bits().into(),
            "act_b" => 0.5f32.to_bits().into(),
            "units" => n(units),
            "jump" => n(jump),
            "bytes" => n(s.bytes),
            "jh" => along(0, rows[3]),
            "jw" => along(1, columns[3]),
            "jc" => along(2, 1),
            "x_signed" => s.signed[0].into(),
            "y_signed" => s.signed[1].into(),
            "x_zero" => zeros[0],
            "y_zero" => zeros[1],
            "y_min" => zeros[2].min(zeros[3]),
            "y_max" => zeros[2].max(zeros[3]),
            "y_shift" => n(s.shift),
            other => panic!("{other}"),
        }
    };
    let entry = registry::find(kernel).unwrap();
    Case {
        kernel,
        params: entry.params.iter().map(|name| get(name)).collect(),
        operands,
        rows: out_h as i64,
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let axis = |most| {
        (
            1..most,
            prop_oneof![Just(1usize), Just(3usize), 2..5usize],
            1..4usize,
            1..3usize,
            0..3usize,
        )
            .prop_map(|(input, window, stride, dilation, pad)| [input, window, stride, dilation, pad])
    };
    (
        (
            any::<bool>(),
            axis(9usize),
            axis(40usize),
            prop_oneof![1..5usize, 1..70usize],
            1..40usize,
        ),
        (
            1..6usize,
            prop_oneof![Just(0usize), Just(30usize), Just(100usize)],
            0..3usize,
            1..5usize,
        ),
        (
            any::<[bool; 3]>(),
            0..4i64,
            any::<[bool; 2]>(),
            prop_oneof![Just(0usize), 1..63usize],
        ),
    )
        .prop_map(
            |(
                (integers, rows, columns, channels, filters),
                (band, density, along, bytes),
                (flags, act, signed, shift),
            )| {
                // A unit along the window is one of its rows or columns.
                let mut axes = [rows, columns];
                if integers && along < 2 {
                    axes[along][1] = bytes;
                }
                Shape {
                    integers,
                    rows: axes[0],
                    columns: axes[1],
                    channels,
                    filters,
                    band,
                    density,
                    along,
                    bytes,
                    bias: flags[0],
                    residual: flags[1],
                    act,
                    signed,
                    shift,
                    transposed: flags[2],
                }
            },
        )
}

fn expected(case: &Case) -> Vec<u8> {
    let operands = case.operands.iter().map(|(dtype, bytes)| Operand {
        dtype: *dtype,
        bytes,
        base: 0,
    });
    let operands: Vec<Operand<'_>> = operands.collect();
    body::result(case.kernel, &case.params, &operands, case.rows)
}

/// Whether floats are as near as products that are not fused may be.
fn near(case: &Case, y: &[u8], expected: &[u8]) -> bool {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|v| f32::from_le_bytes(*v))
            .collect()
    };
    case.kernel == "sparse2d_f32"
        && floats(y)
            .iter()
            .zip(floats(expected))
            .all(|(a, b)| (a - b).abs() <= 1e-4)
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn kernels_have_the_bits_of_their_bodies(shape in shapes(), seed in any::<u64>(), in_place in any::<bool>()) {
        let case = case(shape, seed);
        let expected = expected(&case);
        let last = case.operands.len() - 1;
        let in_place = in_place && shape.residual && !shape.integers;
        for &(set, kernel, function) in SETS.iter().filter(|s| s.1 == case.kernel) {
            let backwards: Vec<_> = (0..case.rows).rev().map(|row| (row, row + 1)).collect();
            let mut before: Option<Vec<u8>> = None;
            for ranges in [vec![(0, case.rows)], backwards] {
                let mut operands: Vec<Aligned> = case.operands.iter().map(|o| Aligned::new(&o.1)).collect();
                if in_place {
                    operands[last] = Aligned::new(&case.operands[5].1);
                }
                let mut pointers: Vec<*mut u8> = operands.iter_mut().map(Aligned::pointer).collect();
                if in_place {
                    pointers[5] = pointers[last];
                }
                for (begin, end) in ranges {
                    // SAFETY: the case describes its operands.
                    unsafe { function(pointers.as_ptr(), case.params.as_ptr(), begin, end) };
                }
                let y = operands[last].bytes();
                prop_assert!(y == expected || near(&case, &y, &expected), "{set} {kernel} {:?}", case.params);
                prop_assert!(before.is_none_or(|b| b == y), "{set} {kernel}: the cut of the range shows");
                before = Some(y);
            }
        }
    }
}
