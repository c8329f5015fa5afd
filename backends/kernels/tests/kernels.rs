//! Every kernel of every instance that this machine can run, against plain loops.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_kernels::portable;
use support::case::{self, Case};
use support::memory::Operands;
use support::{KernelFn, Loaded};

/// The kernels of one instance.
struct Set {
    name: &'static str,
    nr: usize,
    lanes: usize,
    kernels: [(&'static str, KernelFn); 3],
}

macro_rules! with_c_abi {
    ($name:ident) => {{
        unsafe extern "C" fn call(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
            // SAFETY: forwarded.
            unsafe { portable::$name(operands, params, begin, end) }
        }
        (stringify!($name), call as KernelFn)
    }};
}

static SETS: LazyLock<Vec<Set>> = LazyLock::new(|| {
    let linked = Set {
        name: "linked",
        nr: portable::NR,
        lanes: portable::LANES,
        kernels: [
            with_c_abi!(conv2d_f32),
            with_c_abi!(gemm_f32),
            with_c_abi!(depthwise2d_f32),
        ],
    };
    let loaded = Loaded::all().into_iter().map(|l| Set {
        name: l.instance.name,
        nr: l.instance.nr,
        lanes: l.instance.lanes,
        kernels: ["conv2d_f32", "gemm_f32", "depthwise2d_f32"].map(|k| (k, l.kernel(k))),
    });
    std::iter::once(linked).chain(loaded).collect()
});

/// The output after running the ranges one after the other.
fn run(set: &Set, case: &Case, ranges: &[(i64, i64)]) -> Vec<f32> {
    let kernel = set.kernels.iter().find(|k| k.0 == case.kernel).unwrap().1;
    let (operands, params) = case.packed(set.nr, set.lanes);
    let mut operands = Operands::new(operands, set.name);
    let mut pointers = operands.pointers();
    if case.in_place {
        pointers[3] = pointers[4];
    }
    for &(begin, end) in ranges {
        // SAFETY: the case describes its operands.
        unsafe { kernel(pointers.as_ptr(), params.as_ptr(), begin, end) };
    }
    operands.guarded(4)
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    for set in SETS.iter() {
        let (begin, end) = case.range_for(set.nr);
        let whole = run(set, case, &[(begin, end)]);
        case.check(&whole)
            .map_err(|e| TestCaseError::fail(format!("{}: {e}", set.name)))?;
        let pieces: Vec<(i64, i64)> = (begin..end).rev().map(|i| (i, i + 1)).collect();
        let cut = run(set, case, &pieces);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        prop_assert!(
            bits(&whole) == bits(&cut),
            "{}: the cut of the range shows",
            set.name
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(support::cases(250))]

    #[test]
    fn conv2d(case in case::conv2d()) {
        check(&case)?;
    }

    #[test]
    fn depthwise2d(case in case::depthwise2d()) {
        check(&case)?;
    }
}

proptest! {
    #![proptest_config(support::cases(60))]

    #[test]
    fn gemm(case in case::gemm()) {
        check(&case)?;
    }
}

/// NaN in an input reaches the outputs it belongs to through every activation, and no others.
#[test]
fn nan_propagates() {
    for set in SETS.iter() {
        for act in 0..4 {
            let p = sdc_kernels::params::GemmParams {
                m: 7,
                n: 5,
                k: 3,
                as_m: 3,
                as_k: 1,
                cs_m: 5,
                nr: set.nr as i64,
                lanes: set.lanes as i64,
                act,
                act_a: 0,
                act_b: i64::from(6f32.to_bits()),
                ..Default::default()
            };
            let mut a = vec![1.0f32; 21];
            a[4 * 3 + 1] = f32::NAN;
            let mut b = support::pack(3, 5, set.nr, set.lanes, |_, _| 1.0);
            let mut c = vec![0.0f32; 35];
            let operands = [
                a.as_mut_ptr(),
                b.as_mut_ptr(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                c.as_mut_ptr(),
            ];
            let operands = operands.map(|p| p.cast::<u8>());
            // SAFETY: operands as the parameters say.
            unsafe { (set.kernels[1].1)(operands.as_ptr(), (&raw const p).cast(), 0, 1) };
            for (i, x) in c.iter().enumerate() {
                assert_eq!(x.is_nan(), i / 5 == 4, "{} act {act} element {i}", set.name);
            }
        }
    }
}
