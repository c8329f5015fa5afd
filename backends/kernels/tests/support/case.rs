//! Random kernel calls with their expected results, computed by plain loops in f64 from the calling convention alone.
#![allow(dead_code, reason = "each user needs a part")]

use proptest::prelude::*;
use sdc_kernels::params::{Conv2dParams, Depthwise2dParams, GemmParams};

use super::pack;

/// Marks memory that must be neither read (it would spoil a sum) nor written (it would change).
const GUARD: f32 = f32::NAN;
const GUARD_LEN: usize = 40;

/// One call. Operand buffers have guards at both ends; pointers are to element `GUARD_LEN`.
#[derive(Clone, Debug)]
pub struct Case {
    pub kernel: &'static str,
    /// Weights are unpacked `[K][n]`, or `[taps][channels]` for depthwise.
    pub operands: [Vec<f32>; 5],
    pub weights_shape: Option<(usize, usize)>,
    pub params: Vec<i64>,
    pub range: (i64, i64),
    /// The residual is the output itself.
    pub in_place: bool,
    /// Output index, expected value and allowed difference.
    pub expected: Vec<(usize, f64, f64)>,
}

impl Case {
    /// The call for weights packed in blocks of `nr`, of vectors of `lanes`: operands and parameters.
    pub fn packed(&self, nr: usize, lanes: usize) -> ([Vec<f32>; 5], Vec<i64>) {
        let (mut operands, mut params) = (self.operands.clone(), self.params.clone());
        if let Some((k, n)) = self.weights_shape {
            let plain = &self.operands[1];
            operands[1] = guarded(pack(k, n, nr, lanes, |row, c| plain[row * n + c]));
            let names = if self.kernel == "gemm_f32" {
                GemmParams::NAMES
            } else {
                Conv2dParams::NAMES
            };
            params[names.iter().position(|&n| n == "nr").unwrap()] = nr as i64;
            params[names.iter().position(|&n| n == "lanes").unwrap()] = lanes as i64;
        } else {
            operands[1] = guarded(operands[1].clone());
        }
        (operands, params)
    }

    /// The packed block width changes what a unit of the range is; this is the range in those units.
    pub fn range_for(&self, nr: usize) -> (i64, i64) {
        if self.kernel == "gemm_f32" {
            let n = self.weights_shape.unwrap().1;
            (0, n.div_ceil(nr) as i64)
        } else {
            self.range
        }
    }

    /// Checks an output buffer, guards included.
    pub fn check(&self, y: &[f32]) -> Result<(), TestCaseError> {
        let mut untouched = self.operands[4].clone();
        for &(at, want, tolerance) in &self.expected {
            let got = f64::from(y[at]);
            prop_assert!(
                (got - want).abs() <= tolerance,
                "element {at}: {got} for {want} +- {tolerance}"
            );
            untouched[at] = y[at];
        }
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        prop_assert!(bits(&untouched) == bits(y), "wrote outside the output");
        Ok(())
    }
}

pub fn guarded(data: Vec<f32>) -> Vec<f32> {
    let guard = std::iter::repeat_n(GUARD, GUARD_LEN);
    guard.clone().chain(data).chain(guard).collect()
}

/// Index of an operand's first element.
pub const BASE: usize = GUARD_LEN;

/// A value between -2 and 2.
pub fn noise(seed: u64, i: usize) -> f32 {
    let mut x = seed ^ (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((x >> 40) as f32 / (1u64 << 22) as f32) - 2.0
}

/// A guarded buffer of guards with room for elements up to the largest of `at`, which get values.
pub fn fill(seed: u64, at: impl Iterator<Item = i64>) -> Vec<f32> {
    let mut data = Vec::new();
    for i in at {
        let i = usize::try_from(i).unwrap();
        if data.len() <= i {
            data.resize(i + 1, GUARD);
        }
        data[i] = noise(seed, i);
    }
    guarded(data)
}

#[derive(Clone, Copy, Debug)]
pub struct Extras {
    pub seed: u64,
    pub bias: bool,
    /// 0 none, 1 separate, 2 in place.
    pub residual: u8,
    pub act: i64,
}

pub fn extras() -> impl Strategy<Value = Extras> {
    (any::<u64>(), any::<bool>(), 0..3u8, 0..4i64).prop_map(|(seed, bias, residual, act)| Extras {
        seed,
        bias,
        residual,
        act,
    })
}

pub fn activation(extras: Extras) -> (i64, i64, impl Fn(f64) -> f64) {
    let (a, b) = match extras.act {
        3 => (0.125f32, 0.0f32),
        _ => (-0.5, 1.5),
    };
    (
        i64::from(a.to_bits()),
        i64::from(b.to_bits()),
        move |x: f64| match extras.act {
            1 => x.max(0.0),
            2 => x.max(a.into()).min(b.into()),
            3 => {
                if x < 0.0 {
                    x * f64::from(a)
                } else {
                    x
                }
            }
            _ => x,
        },
    )
}

/// Window geometry along one axis: input extent, window, stride, dilation, padding before and after.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    input: i64,
    window: i64,
    stride: i64,
    dilation: i64,
    before: i64,
    after: i64,
}

impl Axis {
    fn output(self) -> i64 {
        let padded = self.input + self.before + self.after - (self.window - 1) * self.dilation - 1;
        if padded < 0 { 0 } else { padded / self.stride + 1 }
    }
}

fn axis(largest: i64) -> impl Strategy<Value = Axis> {
    (
        1..=largest,
        prop_oneof![3 => Just(1i64), 4 => Just(3i64), 2 => 1..=7i64],
        1..=3i64,
        1..=2i64,
        0..=3i64,
        0..=3i64,
    )
        .prop_map(|(input, window, stride, dilation, before, after)| {
            let padded = window > 1;
            Axis {
                input,
                window,
                stride,
                dilation,
                before: if padded { before } else { before / 3 },
                after: if padded { after } else { after / 3 },
            }
        })
        .prop_filter("an output exists", |a| a.output() > 0)
}

/// A part of 0 .. n, given by two fractions.
pub fn part(n: i64, cut: (u8, u8)) -> (i64, i64) {
    let (a, b) = (i64::from(cut.0) * n / 256, i64::from(cut.1) * (n + 1) / 256);
    (a.min(b), a.max(b))
}

/// Input rows, first and end, that the output rows need.
fn rows_needed(a: Axis, (begin, end): (i64, i64)) -> (i64, i64) {
    let first = (begin * a.stride - a.before).clamp(0, a.input);
    let last = ((end - 1) * a.stride - a.before + (a.window - 1) * a.dilation + 1).clamp(first, a.input);
    if begin < end { (first, last) } else { (0, 0) }
}

/// Strides of rows and columns of `columns` pixels of `channels`, with gaps.
pub fn strides(columns: i64, channels: i64, gaps: (i64, i64)) -> (i64, i64) {
    let w = channels + gaps.0;
    (columns * w + gaps.1, w)
}

pub struct Plane {
    pub rows: (i64, i64),
    pub columns: i64,
    pub channels: i64,
    pub strides: (i64, i64, i64),
}

impl Plane {
    pub fn indices(&self) -> impl Iterator<Item = i64> {
        let (h, w, c) = self.strides;
        let (columns, channels) = (self.columns, self.channels);
        (0..self.rows.1 - self.rows.0).flat_map(move |y| {
            (0..columns).flat_map(move |x| (0..channels).map(move |i| y * h + x * w + i * c))
        })
    }
}

pub fn conv2d() -> impl Strategy<Value = Case> {
    // One side at most is long: the plain loops are slow.
    let channels = prop_oneof![
        6 => (1..=20i64, 1..=20i64),
        1 => (60..=140i64, 1..=6i64),
        1 => (1..=6i64, 60..=140i64),
    ];
    let shape = (axis(18), axis(18), channels);
    (
        shape,
        0..3u8,
        (0..4i64, 0..9i64),
        any::<(u8, u8)>(),
        any::<bool>(),
        extras(),
    )
        .prop_map(|((h, w, (in_c, out_c)), layout, gaps, cut, whole, extras)| {
            let (out_h, out_w) = (h.output(), w.output());
            let range = if whole { (0, out_h) } else { part(out_h, cut) };
            let x_rows = rows_needed(h, range);
            let (xs_h, xs_w, xs_c) = match layout {
                0 => (w.input, 1, w.input * (x_rows.1 - x_rows.0).max(1)),
                1 => (w.input * in_c, in_c, 1),
                _ => {
                    let (h, w) = strides(w.input, in_c, gaps);
                    (h, w, 1)
                }
            };
            let (ys_h, ys_w) = strides(out_w, out_c, gaps);
            let in_place = extras.residual == 2;
            let (rs_h, rs_w) = if in_place {
                (ys_h, ys_w)
            } else {
                strides(out_w, out_c, (gaps.1, gaps.0))
            };
            let (act_a, act_b, act) = activation(extras);
            let p = Conv2dParams {
                in_h: h.input,
                in_w: w.input,
                in_c,
                out_w,
                out_c,
                kh: h.window,
                kw: w.window,
                sh: h.stride,
                sw: w.stride,
                dh: h.dilation,
                dw: w.dilation,
                pt: h.before,
                pl: w.before,
                xs_h,
                xs_w,
                xs_c,
                x_row0: x_rows.0,
                ys_h,
                ys_w,
                y_row0: range.0,
                rs_h,
                rs_w,
                r_row0: range.0,
                nr: 0,
                lanes: 0,
                has_bias: extras.bias.into(),
                has_residual: (extras.residual > 0).into(),
                act: extras.act,
                act_a,
                act_b,
            };
            let k = (p.kh * p.kw * in_c) as usize;
            let plane = |rows, columns, channels, strides| Plane {
                rows,
                columns,
                channels,
                strides,
            };
            let x = fill(
                extras.seed,
                plane(x_rows, w.input, in_c, (xs_h, xs_w, xs_c)).indices(),
            );
            let weights: Vec<f32> = (0..k * out_c as usize)
                .map(|i| noise(extras.seed ^ 1, i))
                .collect();
            let bias = fill(extras.seed ^ 2, 0..out_c);
            let y_at = plane(range, out_w, out_c, (ys_h, ys_w, 1));
            let y = fill(extras.seed ^ 3, y_at.indices());
            let residual = if in_place {
                y.clone()
            } else {
                fill(
                    extras.seed ^ 4,
                    plane(range, out_w, out_c, (rs_h, rs_w, 1)).indices(),
                )
            };
            let mut expected = Vec::new();
            for (oy, ox, oc) in grid(range, out_w, out_c) {
                let mut sum = Sum::default();
                for (ky, kx, ic) in grid((0, p.kh), p.kw, in_c) {
                    let (iy, ix) = (oy * p.sh - p.pt + ky * p.dh, ox * p.sw - p.pl + kx * p.dw);
                    if (0..p.in_h).contains(&iy) && (0..p.in_w).contains(&ix) {
                        let at = (iy - p.x_row0) * xs_h + ix * xs_w + ic * xs_c;
                        let row = (ky * p.kw + kx) * in_c + ic;
                        sum.add(x[BASE + at as usize], weights[(row * out_c + oc) as usize]);
                    }
                }
                if extras.bias {
                    sum.add(bias[BASE + oc as usize], 1.0);
                }
                if extras.residual > 0 {
                    sum.add(
                        residual[BASE + ((oy - p.r_row0) * rs_h + ox * rs_w + oc) as usize],
                        1.0,
                    );
                }
                let at = BASE + ((oy - p.y_row0) * ys_h + ox * ys_w + oc) as usize;
                expected.push((at, act(sum.value), sum.tolerance()));
            }
            Case {
                kernel: "conv2d_f32",
                operands: [x, weights, bias, residual, y],
                weights_shape: Some((k, out_c as usize)),
                params: words(&p),
                range,
                in_place,
                expected,
            }
        })
}

pub fn gemm() -> impl Strategy<Value = Case> {
    let (few, many) = (1..=7i64, 1..=20i64);
    let sides = prop_oneof![
        3 => (many.clone(), 1..=150i64, 1..=70i64),
        1 => (230..=260i64, many.clone(), few.clone()),
        1 => (few, many, 500..=600i64),
    ];
    (sides, any::<bool>(), 0..9i64, extras()).prop_map(|((m, n, k), transposed, gap, extras)| {
        let (as_m, as_k) = if transposed { (1, m + gap) } else { (k + gap, 1) };
        let cs_m = n + gap;
        let in_place = extras.residual == 2;
        let rs_m = if in_place { cs_m } else { n + 2 * gap };
        let (act_a, act_b, act) = activation(extras);
        let p = GemmParams {
            m,
            n,
            k,
            as_m,
            as_k,
            cs_m,
            rs_m,
            nr: 0,
            lanes: 0,
            has_bias: extras.bias.into(),
            has_residual: (extras.residual > 0).into(),
            act: extras.act,
            act_a,
            act_b,
        };
        let plane = |columns, strides: (i64, i64)| Plane {
            rows: (0, m),
            columns,
            channels: 1,
            strides: (strides.0, strides.1, 1),
        };
        let a = fill(extras.seed, plane(k, (as_m, as_k)).indices());
        let b: Vec<f32> = (0..(k * n) as usize).map(|i| noise(extras.seed ^ 1, i)).collect();
        let bias = fill(extras.seed ^ 2, 0..n);
        let c = fill(extras.seed ^ 3, plane(n, (cs_m, 1)).indices());
        let residual = if in_place {
            c.clone()
        } else {
            fill(extras.seed ^ 4, plane(n, (rs_m, 1)).indices())
        };
        let mut expected = Vec::new();
        for (row, column, _) in grid((0, m), n, 1) {
            let mut sum = Sum::default();
            for i in 0..k {
                sum.add(
                    a[BASE + (row * as_m + i * as_k) as usize],
                    b[(i * n + column) as usize],
                );
            }
            if extras.bias {
                sum.add(bias[BASE + column as usize], 1.0);
            }
            if extras.residual > 0 {
                sum.add(residual[BASE + (row * rs_m + column) as usize], 1.0);
            }
            expected.push((
                BASE + (row * cs_m + column) as usize,
                act(sum.value),
                sum.tolerance(),
            ));
        }
        Case {
            kernel: "gemm_f32",
            operands: [a, b, bias, residual, c],
            weights_shape: Some((k as usize, n as usize)),
            params: words(&p),
            range: (0, 0),
            in_place,
            expected,
        }
    })
}

pub fn depthwise2d() -> impl Strategy<Value = Case> {
    let large = prop_oneof![8 => 1..=7i64, 1 => Just(9i64)];
    let channels = prop_oneof![4 => 1..=40i64, 1 => 60..=140i64];
    (
        (axis(18), axis(18), large, channels),
        (0..4i64, 0..9i64),
        any::<(u8, u8)>(),
        any::<bool>(),
        extras(),
    )
        .prop_map(|((mut h, mut w, large, channels), gaps, cut, whole, extras)| {
            if large == 9 {
                // More taps than one pass of the kernel takes.
                (h.window, w.window, h.before, w.before, h.after, w.after) = (9, 9, 8, 8, 8, 8);
            }
            let (out_h, out_w) = (h.output(), w.output());
            let range = if whole { (0, out_h) } else { part(out_h, cut) };
            let x_rows = rows_needed(h, range);
            let (xs_h, xs_w) = strides(w.input, channels, gaps);
            let (ys_h, ys_w) = strides(out_w, channels, (gaps.1, gaps.0));
            let in_place = extras.residual == 2;
            let (rs_h, rs_w) = if in_place {
                (ys_h, ys_w)
            } else {
                strides(out_w, channels, gaps)
            };
            let (act_a, act_b, act) = activation(extras);
            let p = Depthwise2dParams {
                in_h: h.input,
                in_w: w.input,
                channels,
                out_w,
                kh: h.window,
                kw: w.window,
                sh: h.stride,
                sw: w.stride,
                dh: h.dilation,
                dw: w.dilation,
                pt: h.before,
                pl: w.before,
                xs_h,
                xs_w,
                x_row0: x_rows.0,
                ys_h,
                ys_w,
                y_row0: range.0,
                rs_h,
                rs_w,
                r_row0: range.0,
                has_bias: extras.bias.into(),
                has_residual: (extras.residual > 0).into(),
                act: extras.act,
                act_a,
                act_b,
            };
            let plane = |rows, columns, strides: (i64, i64)| Plane {
                rows,
                columns,
                channels,
                strides: (strides.0, strides.1, 1),
            };
            let x = fill(extras.seed, plane(x_rows, w.input, (xs_h, xs_w)).indices());
            let weights: Vec<f32> = (0..(p.kh * p.kw * channels) as usize)
                .map(|i| noise(extras.seed ^ 1, i))
                .collect();
            let bias = fill(extras.seed ^ 2, 0..channels);
            let y = fill(extras.seed ^ 3, plane(range, out_w, (ys_h, ys_w)).indices());
            let residual = if in_place {
                y.clone()
            } else {
                fill(extras.seed ^ 4, plane(range, out_w, (rs_h, rs_w)).indices())
            };
            let mut expected = Vec::new();
            for (oy, ox, c) in grid(range, out_w, channels) {
                let mut sum = Sum::default();
                for (ky, kx, _) in grid((0, p.kh), p.kw, 1) {
                    let (iy, ix) = (oy * p.sh - p.pt + ky * p.dh, ox * p.sw - p.pl + kx * p.dw);
                    if (0..p.in_h).contains(&iy) && (0..p.in_w).contains(&ix) {
                        let at = (iy - p.x_row0) * xs_h + ix * xs_w + c;
                        sum.add(
                            x[BASE + at as usize],
                            weights[((ky * p.kw + kx) * channels + c) as usize],
                        );
                    }
                }
                if extras.bias {
                    sum.add(bias[BASE + c as usize], 1.0);
                }
                if extras.residual > 0 {
                    sum.add(
                        residual[BASE + ((oy - p.r_row0) * rs_h + ox * rs_w + c) as usize],
                        1.0,
                    );
                }
                let at = BASE + ((oy - p.y_row0) * ys_h + ox * ys_w + c) as usize;
                expected.push((at, act(sum.value), sum.tolerance()));
            }
            Case {
                kernel: "depthwise2d_f32",
                operands: [x, weights, bias, residual, y],
                weights_shape: None,
                params: words(&p),
                range,
                in_place,
                expected,
            }
        })
}

pub fn grid(rows: (i64, i64), columns: i64, channels: i64) -> impl Iterator<Item = (i64, i64, i64)> {
    (rows.0..rows.1).flat_map(move |y| (0..columns).flat_map(move |x| (0..channels).map(move |c| (y, x, c))))
}

/// A record as the array of i64 it is.
pub fn words<T>(record: &T) -> Vec<i64> {
    // SAFETY: the records are `repr(C)` with i64 fields only.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<i64>(), size_of::<T>() / 8) }
        .to_vec()
}

#[derive(Default)]
pub struct Sum {
    pub value: f64,
    pub magnitude: f64,
}

impl Sum {
    pub fn add(&mut self, a: f32, b: f32) {
        let product = f64::from(a) * f64::from(b);
        self.value += product;
        self.magnitude += product.abs();
    }

    /// Rounding of a few hundred additions in f32, relative to the sum of magnitudes.
    fn tolerance(&self) -> f64 {
        2e-6 * self.magnitude
    }
}
