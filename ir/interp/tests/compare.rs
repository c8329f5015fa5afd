//! Comparison classes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use common::{t, ti};
use sdc_interp::compare::{Class, Failure, compare};
use sdc_ir::{DType, Tensor};

#[test]
fn equal_tensors_pass_every_class() {
    let x = t(&[3], &[1.0, f32::NAN, f32::NEG_INFINITY]);
    for class in [
        Class::Exact,
        Class::ROUNDING,
        Class::Elementwise { rtol: 0.0, atol: 0.0 },
    ] {
        let report = compare(&x, &x, class);
        assert!(report.passed() && report.worst.is_none(), "{report}");
        assert_eq!(report.to_string(), "equal");
    }
    assert!(compare(&t(&[1], &[0.0]), &t(&[1], &[-0.0]), Class::Exact).passed());
}

#[test]
fn rounding_is_relative_to_the_largest_element() {
    let b = t(&[2, 2], &[1000.0, 1.0, 0.0, -2.0]);
    // 0.0625 off at a small element, within 1e-4 of 1000.
    let report = compare(&t(&[2, 2], &[1000.0, 1.0625, 0.0, -2.0]), &b, Class::ROUNDING);
    assert!(report.passed(), "{report}");
    assert_eq!(
        (report.max_abs, report.max_rel, report.scale),
        (0.0625, 0.0625, 1000.0)
    );
    let report = compare(&t(&[2, 2], &[1000.0, 1.0, 0.0, -1.75]), &b, Class::ROUNDING);
    assert_eq!((report.failure, report.beyond), (Some(Failure::TooFar), 1));
    let worst = report.worst.clone().unwrap();
    assert_eq!(
        (worst.index, worst.actual, worst.expected),
        (vec![1, 1], -1.75, -2.0)
    );
    let text = report.to_string();
    assert!(
        text.contains("1 of 4") && text.contains("[1, 1]") && text.contains("-1.75"),
        "{text}"
    );
    assert!(compare(&t(&[2, 2], &[1000.0, 1.0, 0.0, -1.75]), &b, Class::RECURRENT).passed());
}

#[test]
fn elementwise_uses_each_elements_own_bound() {
    let b = t(&[2], &[1000.0, 1.0]);
    let class = Class::Elementwise {
        rtol: 1e-3,
        atol: 0.0,
    };
    assert!(compare(&t(&[2], &[1000.5, 1.0]), &b, class).passed());
    let report = compare(&t(&[2], &[1000.5, 1.01]), &b, class);
    assert_eq!((report.failure, report.beyond), (Some(Failure::TooFar), 1));
    // The element farthest beyond its bound, though another is farther off.
    assert_eq!(report.worst.unwrap().index, [1]);
    assert!(
        compare(
            &t(&[2], &[1000.5, 1.01]),
            &b,
            Class::Elementwise { rtol: 0.0, atol: 1.0 }
        )
        .passed()
    );
}

#[test]
fn nan_and_infinities_must_be_in_the_same_places() {
    let inf = f32::INFINITY;
    let class = Class::Elementwise {
        rtol: inf.into(),
        atol: 0.0,
    };
    for (a, b) in [
        (f32::NAN, 1.0),
        (1.0, f32::NAN),
        (inf, -inf),
        (inf, 1.0),
        (1.0, inf),
        (f32::NAN, inf),
    ] {
        for class in [Class::Exact, Class::ROUNDING, class] {
            let report = compare(&t(&[2], &[5.0, a]), &t(&[2], &[5.0, b]), class);
            assert_eq!(report.failure, Some(Failure::NonFinite), "{a} {b} {class}");
            assert_eq!(report.worst.unwrap().index, [1]);
        }
    }
}

#[test]
fn types_must_match() {
    let x = t(&[2], &[0.0; 2]);
    let report = compare(&t(&[1, 2], &[0.0; 2]), &x, Class::ROUNDING);
    assert_eq!(report.failure, Some(Failure::Shape));
    assert_eq!(report.to_string(), "differs: got f32[1,2], expected f32[2]");
    assert_eq!(
        compare(&ti(&[2], &[0; 2]), &x, Class::ROUNDING).failure,
        Some(Failure::DType)
    );
}

#[test]
fn integers_are_exact_in_every_class() {
    // These differ beyond the precision of f64.
    let (a, b) = (ti(&[2], &[0, (1 << 60) + 1]), ti(&[2], &[0, 1 << 60]));
    let report = compare(&a, &b, Class::ROUNDING);
    assert_eq!((report.failure, report.beyond), (Some(Failure::TooFar), 1));
    assert_eq!(report.worst.unwrap().index, [1]);
    assert!(compare(&a, &a, Class::ROUNDING).passed());
    let bools = |v: [u8; 2]| Tensor::new(DType::Bool, vec![2], v.to_vec().into()).unwrap();
    assert!(!compare(&bools([0, 1]), &bools([1, 1]), Class::ROUNDING).passed());
}

#[test]
fn ulps_are_those_of_the_type() {
    let report = compare(
        &t(&[1], &[1.0 + 3.0 * f32::EPSILON]),
        &t(&[1], &[1.0]),
        Class::ROUNDING,
    );
    assert_eq!(report.max_ulp, Some(3));
    let tiny = f32::from_bits(1);
    assert_eq!(
        compare(&t(&[1], &[tiny]), &t(&[1], &[-tiny]), Class::ROUNDING).max_ulp,
        Some(2)
    );
    assert_eq!(
        compare(&ti(&[1], &[4]), &ti(&[1], &[5]), Class::ROUNDING).max_ulp,
        None
    );
}

#[test]
fn empty_tensors_are_equal() {
    assert!(compare(&t(&[0, 3], &[]), &t(&[0, 3], &[]), Class::ROUNDING).passed());
}
