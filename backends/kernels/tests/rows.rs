//! Softmax and layer normalisation of every instance that this machine can run, over random rows and alignments, against their
//! bodies in tile IR and against arithmetic in `f64`.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_ir::registry;
use sdc_kernels::portable;
use support::rows::{Call, UNTOUCHED};
use support::{KernelFn, Loaded};

const KERNELS: [&str; 2] = ["softmax_f32", "layer_norm_f32"];

macro_rules! with_c_abi {
    ($name:ident) => {{
        unsafe extern "C" fn call(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
            // SAFETY: forwarded.
            unsafe { portable::$name(operands, params, begin, end) }
        }
        call as KernelFn
    }};
}

static SETS: LazyLock<Vec<(&'static str, [KernelFn; 2])>> = LazyLock::new(|| {
    let loaded = Loaded::all().into_iter();
    let mut sets: Vec<_> = loaded
        .map(|l| (l.instance.name, KERNELS.map(|k| l.kernel(k))))
        .collect();
    sets.push(("linked", [with_c_abi!(softmax_f32), with_c_abi!(layer_norm_f32)]));
    sets
});

/// Rows of `size`, `pitches` apart in operand and result, which begin at these elements.
#[derive(Debug, Clone)]
struct Shape {
    rows: usize,
    size: usize,
    pitches: [usize; 2],
    bases: [usize; 4],
}

fn shape() -> impl Strategy<Value = Shape> {
    let size = prop_oneof![3 => 1..40usize, 2 => 40..150usize, 1 => 150..700usize];
    (
        1..5usize,
        size,
        [0..9usize, 0..9usize],
        [0..17usize, 0..17usize, 0..17usize, 0..17usize],
    )
        .prop_map(|(rows, size, gaps, bases)| Shape {
            rows,
            size,
            pitches: gaps.map(|g| size + g),
            bases,
        })
}

impl Shape {
    fn len(&self, operand: usize) -> usize {
        self.pitches[operand] * (self.rows - 1) + self.size
    }

    /// All instances, any cut, in place or not, against the body; `exact` has the rows' results.
    fn check(
        &self,
        kernel: usize,
        last: i64,
        operands: &[Vec<f32>],
        exact: &[Vec<f64>],
        (units, floor): (f64, f64),
    ) -> Result<(), TestCaseError> {
        let call = Call {
            kernel: KERNELS[kernel],
            params: vec![
                self.size as i64,
                self.pitches[0] as i64,
                self.pitches[1] as i64,
                last,
            ],
            operands: operands
                .iter()
                .zip(self.bases)
                .map(|(o, base)| (o.clone(), base))
                .collect(),
            result: (self.len(1), self.bases[3]),
            rows: self.rows as i64,
        };
        let expected = call.expected();
        let fits = |y: f32, exact: f64| {
            y.is_nan() && exact.is_nan()
                || f64::from(y) == exact
                || (f64::from(y) - exact).abs() <= units * 2f64.powi(-24) * exact.abs().max(floor)
        };
        let backwards: Vec<_> = (0..call.rows).rev().map(|r| (r, r + 1)).collect();
        for (name, kernels) in SETS.iter() {
            let whole = call.run(kernels[kernel], &[(0, call.rows)]);
            let cut = call.run(kernels[kernel], &backwards);
            for (i, (&y, &piece)) in whole.iter().zip(&cut).enumerate() {
                prop_assert!(
                    y.to_bits() == piece.to_bits() || y.is_nan(),
                    "{name}: the cut of the range shows"
                );
                let Some((row, at)) = i
                    .checked_sub(self.bases[3])
                    .map(|i| (i / self.pitches[1], i % self.pitches[1]))
                else {
                    prop_assert!(y == UNTOUCHED);
                    continue;
                };
                if at >= self.size {
                    prop_assert!(y == UNTOUCHED, "{name}: written beyond a row");
                    continue;
                }
                let exact = exact[row][at];
                prop_assert!(fits(y, exact), "{name} {row} {at}: {y:e}, not {exact:e}");
                prop_assert!(
                    fits(expected[i], exact),
                    "body {row} {at}: {:e}, not {exact:e}",
                    expected[i]
                );
            }
            if self.pitches[0] == self.pitches[1] {
                let over = call.run_in_place(kernels[kernel]);
                let same = over
                    .iter()
                    .zip(&whole[self.bases[3]..])
                    .enumerate()
                    .all(|(i, (a, b))| {
                        i % self.pitches[1] >= self.size
                            || a.to_bits() == b.to_bits()
                            || a.is_nan() && b.is_nan()
                    });
                prop_assert!(same, "{name}: not in place");
            }
        }
        prop_assert_eq!(
            registry::find(KERNELS[kernel]).unwrap().bad_params(&call.params),
            None
        );
        Ok(())
    }
}

fn numbers(random: &mut fastrand::Rng, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|_| (random.f32() - 0.5) * spread).collect()
}

proptest! {
    #![proptest_config(support::cases(300))]

    #[test]
    fn softmax(shape in shape(), log in 0..2i64, spread in prop_oneof![Just(4.0f32), Just(60.0)], special in 0..12u8, seed: u64) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut x = numbers(random, shape.bases[0] + shape.len(0), spread);
        let at = shape.bases[0] + random.usize(..shape.size);
        match special {
            0 => x[at] = f32::NAN,
            1 => x[at] = f32::NEG_INFINITY,
            2 => x[at] = 1e30,
            3 => x.fill(-3e38),
            _ => {}
        }
        let exact: Vec<Vec<f64>> = (0..shape.rows)
            .map(|r| {
                let row = &x[shape.bases[0] + r * shape.pitches[0]..][..shape.size];
                let max = row.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m });
                let shifted: Vec<f64> = row.iter().map(|&x| f64::from(x) - f64::from(max)).collect();
                let total: f64 = shifted.iter().map(|s| s.exp()).sum();
                shifted.iter().map(|s| if log == 1 { s - total.ln() } else { s.exp() / total }).collect()
            })
            .collect();
        // Differences from the maximum are rounded: half a unit of 60 is 32 units of the exponential. Below its smallest normal
        // number it has fewer digits.
        let coarse = |e: f64| if log == 0 && e < 1e-37 { 0.0 } else { e };
        let exact: Vec<Vec<f64>> = exact.into_iter().map(|r| r.into_iter().map(coarse).collect()).collect();
        shape.check(0, log, &[x], &exact, if log == 1 { (40.0, 1.0) } else { (80.0, 1e-30) })?;
    }

    #[test]
    fn layer_norm(shape in shape(), offset in -3.0..3.0f32, seed: u64) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut x = numbers(random, shape.bases[0] + shape.len(0), 4.0);
        x.iter_mut().for_each(|x| *x += offset);
        let scale = numbers(random, shape.bases[1] + shape.size, 2.0);
        let bias: Vec<f32> = numbers(random, shape.bases[2] + shape.size, 1.0).iter().map(|b| b + 8.0).collect();
        let epsilon = 1e-2f32;
        let exact: Vec<Vec<f64>> = (0..shape.rows)
            .map(|r| {
                let row = &x[shape.bases[0] + r * shape.pitches[0]..][..shape.size];
                let n = shape.size as f64;
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
                let inverse = 1.0 / (variance + f64::from(epsilon)).sqrt();
                let of = |v: &[f32], base: usize, i: usize| f64::from(v[base + i]);
                row.iter()
                    .enumerate()
                    .map(|(i, &x)| {
                        (f64::from(x) - mean) * inverse * of(&scale, shape.bases[1], i) + of(&bias, shape.bases[2], i)
                    })
                    .collect()
            })
            .collect();
        shape.check(1, epsilon.to_bits().into(), &[x, scale, bias], &exact, (100.0, 1.0))?;
    }
}
