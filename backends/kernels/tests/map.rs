//! Element-wise programs of every instance that this machine can run: the error of each function over all of `f32`, and random
//! programs, rows and alignments against the body in tile IR.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_ir::registry::map::{STEPS, Source, Step, StepOp};
use sdc_kernels::portable;
use support::rows::{Call, UNTOUCHED};
use support::{KernelFn, Loaded};

/// Name, whether products and sums are fused, the kernel.
static SETS: LazyLock<Vec<(&'static str, bool, KernelFn)>> = LazyLock::new(|| {
    unsafe extern "C" fn linked(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
        // SAFETY: forwarded.
        unsafe { portable::map_f32(operands, params, begin, end) }
    }
    let loaded = Loaded::all().into_iter();
    let mut sets: Vec<_> = loaded
        .map(|l| (l.instance.name, l.instance.lanes > 4, l.kernel("map_f32")))
        .collect();
    sets.push(("linked", cfg!(target_feature = "fma"), linked as KernelFn));
    sets
});

/// A call: rows of `columns` elements, of each operand and of the result `strides` apart.
#[derive(Debug, Clone)]
struct Case {
    rows: usize,
    columns: usize,
    /// Of a, b, c and y.
    strides: [usize; 4],
    /// Elements before the first one: alignments.
    base: [usize; 4],
    steps: Vec<Step>,
    operands: [Vec<f32>; 3],
}

impl Case {
    /// One row.
    fn row(steps: Vec<Step>, x: Vec<f32>) -> Self {
        Self {
            rows: 1,
            columns: x.len(),
            strides: [0; 4],
            base: [0; 4],
            steps,
            operands: [x, Vec::new(), Vec::new()],
        }
    }

    fn params(&self) -> Vec<i64> {
        let mut params = vec![self.columns as i64];
        params.extend(self.strides.map(|s| s as i64));
        params.extend([1, 2].map(|i| i64::from(!self.operands[i].is_empty())));
        params.push(self.steps.len() as i64);
        params.extend((0..STEPS).map(|k| self.steps.get(k).map_or(0, Step::encode)));
        params
    }

    fn call(&self) -> Call {
        Call {
            kernel: "map_f32",
            params: self.params(),
            operands: self.operands.iter().cloned().zip(self.base).collect(),
            result: (self.strides[3] * (self.rows - 1) + self.columns, self.base[3]),
            rows: self.rows as i64,
        }
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Distance in units of the last place of `exact` as an `f32`.
fn ulps(y: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if y.is_nan() || exact.is_nan() || rounded.is_infinite() || y.is_infinite() {
        // The last number before overflow is as good as the infinity.
        let beyond = f64::from(f32::MAX) * (1.0 + 1e-6);
        let edge = y.is_infinite() && exact.abs() > f64::from(f32::MAX) * (1.0 - 1e-6)
            || rounded.is_infinite() && exact.abs() < beyond && y.abs() > 0.999_999 * f32::MAX;
        return if same(y, rounded) || edge {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = exact.abs().log2().floor().max(-126.0);
    (f64::from(y) - exact).abs() / (exponent - 23.0).exp2()
}

/// All magnitudes and signs in steps of bits, and what is special.
fn arguments() -> Vec<f32> {
    let step = if cfg!(miri) { 9_999_991 } else { 1999 };
    let mut all: Vec<f32> = (0..=u32::MAX).step_by(step).map(f32::from_bits).collect();
    // Densely where the functions have their seams.
    for seam in [
        0.625,
        1.0,
        4.0,
        0.5,
        0.707_106_77,
        88.722_84,
        87.336_54,
        103.972_08,
        104.0,
        9.010_9,
    ] {
        let bits = f32::to_bits(seam);
        all.extend((bits - 300..bits + 300).flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)]));
    }
    let special = [
        0.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    all.extend(special.iter().flat_map(|&x| [x, -x]));
    all
}

/// The bounds that the kernels' `math` states.
#[test]
fn functions_keep_their_bounds() {
    type Exact = fn(f64) -> f64;
    let functions: [(StepOp, Exact, f64); 6] = [
        (StepOp::Exp, libm::exp, 1.5),
        (StepOp::Log, libm::log, 1.0),
        (StepOp::Tanh, libm::tanh, 1.5),
        (StepOp::Sigmoid, |x| 1.0 / (1.0 + libm::exp(-x)), 2.5),
        (StepOp::Erf, libm::erf, 3.0),
        (
            StepOp::Softplus,
            |x| x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            3.0,
        ),
    ];
    let all = arguments();
    for (op, exact, bound) in functions {
        let step = Step {
            op,
            a: Source::Operand(0),
            b: None,
        };
        let call = Case::row(vec![step], all.clone()).call();
        for (name, _, kernel) in SETS.iter() {
            let y = call.run(*kernel, &[(0, 1)]);
            let mut worst = (0.0, 0.0, 0.0);
            for (&x, &y) in all.iter().zip(&y) {
                if op == StepOp::Sigmoid && x < -87.3 {
                    assert!(
                        (0.0..f32::MIN_POSITIVE * 1.1).contains(&y),
                        "{name} {op:?}({x:e}) = {y:e}"
                    );
                    continue;
                }
                if x == 0.0 && op != StepOp::Log {
                    assert!(same(y, exact(x.into()) as f32), "{name} {op:?}({x:?}) = {y:?}");
                }
                let off = ulps(y, exact(x.into()));
                if off > worst.0 {
                    worst = (off, x, y);
                }
            }
            let (off, x, y) = worst;
            assert!(
                off <= bound,
                "{name} {op:?}({x:e}) = {y:e}: {off:.2} units, {bound} allowed"
            );
        }
    }
}

/// A random program on operands, of which at least the first is there.
fn program(random: &mut fastrand::Rng, operands: usize, len: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for k in 0..len {
        let mut source = || match random.u8(..3) {
            0 if k > 0 => Source::Step(random.usize(..k) as u8),
            1 if k > 0 => Source::Step((k - 1) as u8),
            _ => Source::Operand(random.usize(..operands) as u8),
        };
        let (a, b) = (source(), source());
        let op = StepOp::ALL[random.usize(..StepOp::ALL.len())];
        let constant = Source::Constant((random.f32() * 4.0 - 2.0).to_bits());
        let (a, b) = match random.u8(..4) {
            0 => (constant, b),
            1 => (a, constant),
            _ => (a, b),
        };
        let b = op.is_binary().then_some(b);
        steps.push(Step { op, a, b });
    }
    steps
}

fn random_case(seed: u64) -> Case {
    let random = &mut fastrand::Rng::with_seed(seed);
    let count = 1 + random.usize(..3);
    let (rows, columns) = match random.u8(..3) {
        0 => (1 + random.usize(..3), 200 + random.usize(..400)),
        _ => (1 + random.usize(..4), 1 + random.usize(..70)),
    };
    // The same row again, rows without gaps, and with.
    let mut strides = [0; 4].map(|_| [0, columns, columns + random.usize(..9)][random.usize(..3)]);
    strides[3] = columns + random.usize(..3);
    let base = [0; 4].map(|_| random.usize(..17));
    let mut operands = [const { Vec::new() }; 3];
    for i in 0..count {
        let len = base[i] + strides[i] * (rows - 1) + columns;
        operands[i] = (0..len)
            .map(|_| match random.u8(..40) {
                0 => f32::NAN,
                1 => [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY][random.usize(..4)],
                2 => f32::from_bits(random.u32(..)),
                _ => random.f32() * 8.0 - 4.0,
            })
            .collect();
    }
    let len = 1 + random.usize(..STEPS);
    Case {
        rows,
        columns,
        strides,
        base,
        steps: program(random, count, len),
        operands,
    }
}

proptest! {
    #![proptest_config(support::cases(400))]

    #[test]
    fn random_programs(seed in any::<u64>()) {
        let case = random_case(seed);
        let call = case.call();
        let expected = call.expected();
        let arithmetic = case.steps.iter().all(|s| !s.op.is_transcendental());
        let backwards: Vec<(i64, i64)> = (0..case.rows as i64).rev().map(|r| (r, r + 1)).collect();
        for (name, fused, kernel) in SETS.iter() {
            let whole = call.run(*kernel, &[(0, case.rows as i64)]);
            let cut = call.run(*kernel, &backwards);
            let exact = *fused || arithmetic;
            for i in 0..whole.len() {
                prop_assert!(same(whole[i], cut[i]), "{name}: the cut of the range shows");
                let inside = i >= case.base[3]
                    && (i - case.base[3]) % case.strides[3].max(1) < case.columns;
                let right = if inside { expected[i] } else { UNTOUCHED };
                // Without fused products the functions' last bits differ; their bounds are tested above.
                let fits = same(whole[i], right) || inside && !exact;
                prop_assert!(fits, "{name} {i}: {}, not {right}; {:?}", whole[i], case.steps);
            }
        }
    }

    /// GELU, SiLU and their like as networks spell them, in every instance.
    #[test]
    fn gates_are_near_the_truth(seed in any::<u64>()) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let x: Vec<f32> = (0..1 + random.usize(..600)).map(|_| random.f32() * 12.0 - 6.0).collect();
        let operand = Source::Operand(0);
        let constant = |x: f32| Source::Constant(x.to_bits());
        let step = |op, a, b| Step { op, a, b };
        let gelu = vec![
            step(StepOp::Div, operand, Some(constant(std::f32::consts::SQRT_2))),
            step(StepOp::Erf, Source::Step(0), None),
            step(StepOp::Add, Source::Step(1), Some(constant(1.0))),
            step(StepOp::Mul, operand, Some(Source::Step(2))),
            step(StepOp::Mul, Source::Step(3), Some(constant(0.5))),
        ];
        let silu = vec![
            step(StepOp::Sigmoid, operand, None),
            step(StepOp::Mul, operand, Some(Source::Step(0))),
        ];
        let mish = vec![
            step(StepOp::Softplus, operand, None),
            step(StepOp::Tanh, Source::Step(0), None),
            step(StepOp::Mul, operand, Some(Source::Step(1))),
        ];
        type Exact = fn(f64) -> f64;
        let gates: [(Vec<Step>, Exact); 3] = [
            (gelu, |x| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))),
            (silu, |x| x / (1.0 + libm::exp(-x))),
            (mish, |x| x * libm::tanh(libm::log1p(libm::exp(x)))),
        ];
        for (steps, exact) in gates {
            let call = Case::row(steps, x.clone()).call();
            for (name, _, kernel) in SETS.iter() {
                for (&x, &y) in x.iter().zip(&call.run(*kernel, &[(0, 1)])) {
                    let exact = exact(x.into());
                    prop_assert!((f64::from(y) - exact).abs() < 2e-6, "{name}: {y} for {x}, not {exact}");
                }
            }
        }
    }
}
