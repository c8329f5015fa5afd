//! Values at the edge: what docs/limits.md says of NaN, of numbers out of range, and of indices beyond the end.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::onnx::Net;
use common::*;
use sdc::{Tensor, read_tensor};

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;
const I64: i64 = 7;
const I8: i64 = 3;
const U8: i64 = 2;

fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
    npy_f32(shape, values)
}

fn ints(values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    npy("<i8", &[values.len()], &bytes)
}

/// The outputs of a model as native code.
fn outputs(net: Net, inputs: &[(&str, Vec<u8>)]) -> Vec<Tensor> {
    let dir = Dir::new();
    let model = dir.write("m.onnx", net.bytes());
    let mut args = vec![
        "run".to_owned(),
        model,
        "--output-dir".to_owned(),
        dir.path("out"),
    ];
    for (name, array) in inputs {
        let path = dir.write(&format!("{name}.npy"), array);
        args.extend(["--input".to_owned(), format!("{name}={path}")]);
    }
    let ran = run(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut all = Vec::new();
    while let Ok(tensor) = read_tensor(dir.path(&format!("out/output_{}.npy", all.len())).as_ref()) {
        all.push(tensor);
    }
    all
}

fn i64s(tensor: &Tensor) -> Vec<i64> {
    tensor
        .bytes()
        .chunks(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor
        .bytes()
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn nan_is_the_largest_to_top_k() {
    let x = || vec![("x", floats(&[1, 8], &[1.0, NAN, 3.0, -INF, INF, -0.0, -NAN, 0.0]))];
    let order = |largest: i64, k: i64| {
        let net = Net::new().input("x", &[1, 8]).ints("k", &[k]);
        let net = net.node("TopK", &["x", "k"], "values", &[("largest", &[largest][..])]);
        i64s(&outputs(net.second_output("places").output("places"), &x())[0])
    };
    assert_eq!(order(1, 8), [1, 6, 4, 2, 0, 5, 7, 3]);
    assert_eq!(order(0, 8), [3, 5, 7, 0, 2, 4, 1, 6]);
    assert_eq!(order(1, 3), [1, 6, 4]);
}

#[test]
fn windows_and_interpolation_keep_nan() {
    let image = floats(&[1, 1, 2, 2], &[1.0, NAN, -INF, 2.0]);
    let pool =
        Net::new()
            .input("x", &[1, 1, 2, 2])
            .node("MaxPool", &["x"], "y", &[("kernel_shape", &[1, 2])]);
    let pooled = f32s(&outputs(pool.output("y"), &[("x", image)])[0]);
    assert!(pooled[0].is_nan() && pooled[1] == 2.0, "{pooled:?}");
}

#[test]
fn casts_to_integers_stay_at_the_ends() {
    let x = [NAN, INF, -INF, 1e20, -1e20, 300.0, -300.0, -1.9, 1.9];
    let cast = |to: i64| {
        let net = Net::new()
            .input("x", &[9])
            .node("Cast", &["x"], "y", &[("to", &[to])]);
        outputs(net.output("y"), &[("x", floats(&[9], &x))])[0]
            .bytes()
            .to_vec()
    };
    assert_eq!(cast(U8), [0, 255, 0, 255, 0, 255, 0, 0, 1]);
    assert_eq!(
        cast(I8).iter().map(|&b| b as i8).collect::<Vec<_>>(),
        [0, 127, -128, 127, -128, 127, -128, -1, 1]
    );
    let wide: Vec<i64> = cast(I64)
        .chunks(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    assert_eq!(
        wide,
        [0, i64::MAX, i64::MIN, i64::MAX, i64::MIN, 300, -300, -1, 1]
    );
}

#[test]
fn integers_have_defined_powers_and_quotients() {
    let binary = |op: &str, x: &[i64], y: &[i64]| {
        let n = x.len() as i64;
        let net = Net::new()
            .int_input("x", &[n])
            .int_input("y", &[n])
            .node(op, &["x", "y"], "z", &[]);
        i64s(&outputs(net.output("z"), &[("x", ints(x)), ("y", ints(y))])[0])
    };
    let low = 3i64.wrapping_pow(41);
    assert_eq!(
        binary("Pow", &[2, 0, 3, 0, 2, -1, 1], &[3, 0, 41, -1, -1, -3, -5]),
        [8, 1, low, 0, 0, -1, 1]
    );
    assert_eq!(
        binary("Div", &[7, 0, i64::MIN, i64::MIN], &[0, 0, 0, -1]),
        [0, 0, 0, i64::MIN]
    );
    assert_eq!(
        binary("Mod", &[7, 0, i64::MIN, i64::MIN], &[0, 0, 0, -1]),
        [7, 0, i64::MIN, 0]
    );
}

#[test]
fn indices_out_of_range_are_brought_into_it() {
    for (index, found) in [(4, 3), (1 << 40, 3), (-5, 0), (i64::MIN, 0), (-1, 3)] {
        for op in ["Gather", "GatherElements"] {
            let net = Net::new()
                .input("x", &[4])
                .int_input("i", &[2])
                .node(op, &["x", "i"], "y", &[]);
            let inputs = [
                ("x", floats(&[4], &[0.0, 1.0, 2.0, 3.0])),
                ("i", ints(&[1, index])),
            ];
            assert_eq!(
                f32s(&outputs(net.output("y"), &inputs)[0]),
                [1.0, found as f32],
                "{op} {index}"
            );
        }
        let net = Net::new().input("x", &[4]).int_input("i", &[1]).input("u", &[1]);
        let net = net.node("ScatterElements", &["x", "i", "u"], "y", &[]);
        let inputs = [
            ("x", floats(&[4], &[0.0; 4])),
            ("i", ints(&[index])),
            ("u", floats(&[1], &[9.0])),
        ];
        let written = f32s(&outputs(net.output("y"), &inputs)[0]);
        assert_eq!(
            written.iter().position(|&v| v == 9.0),
            Some(found as usize),
            "{index}"
        );
    }
}
