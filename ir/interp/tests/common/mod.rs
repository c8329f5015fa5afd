//! Helpers of several test files.
#![allow(dead_code, reason = "each test file uses some of them")]

use proptest::prelude::ProptestConfig;
use sdc_interp::eval_op;
use sdc_ir::Tensor;
use sdc_ir::graph::Op;

/// A failing case is printed; a file of them beside the sources would only be another thing to keep.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

/// An `f32` tensor.
pub fn t(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_elements(shape.to_vec(), data.to_vec()).unwrap()
}

/// An `i64` tensor.
pub fn ti(shape: &[usize], data: &[i64]) -> Tensor {
    Tensor::from_elements(shape.to_vec(), data.to_vec()).unwrap()
}

/// The elements of an `f32` tensor.
pub fn f32s(x: &Tensor) -> Vec<f32> {
    x.elements::<f32>().unwrap().into_owned()
}

/// The only result of an operator.
pub fn eval(op: impl Into<Op>, inputs: &[&Tensor]) -> Tensor {
    let mut results = eval_op(&op.into(), inputs).unwrap();
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Deterministic small multiples of 1/4, so that sums and products of a few are exact.
pub fn quarters(shape: &[usize], seed: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let data: Vec<f32> = (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 59) as f32 - 16.0) / 4.0
        })
        .collect();
    t(shape, &data)
}
