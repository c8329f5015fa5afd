//! Positions of nearest Resize that are whole numbers or halves, against arithmetic on integers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{A, f32s, graph, i64s, import, info, model, node};
use sdc_ir::DType;

/// What a rounding makes of `top / bottom`, in integers.
fn rounded(mode: &str, top: i64, bottom: i64) -> i64 {
    match mode {
        "floor" => top.div_euclid(bottom),
        "ceil" => -(-top).div_euclid(bottom),
        "round_prefer_ceil" => (2 * top + bottom).div_euclid(2 * bottom),
        _ => -(bottom - 2 * top).div_euclid(2 * bottom),
    }
}

/// The result of a Resize of `0, 1, .., from - 1` to `to` elements.
fn resized(coordinates: &str, mode: &str, from: usize, to: usize) -> Vec<f32> {
    let attributes = vec![
        ("coordinate_transformation_mode", A::Text(coordinates)),
        ("nearest_mode", A::Text(mode)),
    ];
    let nodes = vec![node("Resize", "x _ _ s", "y", attributes)];
    let inputs = vec![info("x", DType::F32, &[from as i64])];
    let m = model(18, graph(nodes, inputs, vec![("s", i64s(&[to as i64]))], "y"));
    let numbers: Vec<f32> = (0..from).map(|i| i as f32).collect();
    let imported = import(m).unwrap();
    let outputs = sdc_interp::run_graph(&imported.graph, &[f32s(&[from], &numbers)]).unwrap();
    outputs[0].elements::<f32>().unwrap().into_owned()
}

#[test]
fn corners_are_aligned_exactly() {
    for from in 1..30 {
        for to in 1..60 {
            for mode in ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"] {
                let found = resized("align_corners", mode, from, to);
                for (o, &found) in found.iter().enumerate() {
                    let top = o as i64 * (from as i64 - 1);
                    let expected = if to == 1 {
                        0
                    } else {
                        rounded(mode, top, to as i64 - 1)
                    };
                    assert_eq!(found, expected as f32, "{mode}: {o} of {from} to {to}");
                }
            }
        }
    }
}

/// Where the scale is exact in `f32`, so is every other mapping.
#[test]
fn positions_under_exact_scales_are_exact() {
    for from in 1..20i64 {
        for factor in [1, 2, 4, 8] {
            let to = from * factor;
            for mode in ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"] {
                for (coordinates, top, bottom) in [
                    ("asymmetric", [2, 0], 2 * factor),
                    ("half_pixel", [2, 1 - factor], 2 * factor),
                    ("pytorch_half_pixel", [2, 1 - factor], 2 * factor),
                    ("half_pixel_symmetric", [2, 1 - factor], 2 * factor),
                    ("tf_half_pixel_for_nn", [2, 1], 2 * factor),
                ] {
                    if coordinates == "pytorch_half_pixel" && to == 1 {
                        continue;
                    }
                    let found = resized(coordinates, mode, from as usize, to as usize);
                    for (o, &found) in found.iter().enumerate() {
                        let at = rounded(mode, top[0] * o as i64 + top[1], bottom).clamp(0, from - 1);
                        // Where nothing changes size, every element stays.
                        let expected = if factor == 1 { o as i64 } else { at };
                        assert_eq!(
                            found, expected as f32,
                            "{coordinates}, {mode}: {o} of {from} to {to}"
                        );
                    }
                }
            }
        }
    }
}

/// By scales that do not give whole sizes the corners are aligned by the number of samples, as in ONNX Runtime; bytes are interpolated in
/// f32 and cut off.
#[test]
fn scales_and_bytes_follow_onnx_runtime() {
    let resize = |dtype, mode: &str, scale: f32, x: sdc_ir::Tensor| {
        let attributes = vec![
            ("mode", A::Text("linear")),
            ("coordinate_transformation_mode", A::Text(mode)),
        ];
        let nodes = vec![node("Resize", "x _ s", "y", attributes)];
        let inputs = vec![info("x", dtype, &[x.len() as i64])];
        let m = model(18, graph(nodes, inputs, vec![("s", f32s(&[1], &[scale]))], "y"));
        let imported = import(m).unwrap();
        sdc_interp::run_graph(&imported.graph, &[x]).unwrap()[0].to_f64_vec()
    };
    let line = f32s(&[4], &[0.0, 3.0, 6.0, 9.0]);
    assert_eq!(
        resize(DType::F32, "align_corners", 1.8, line),
        [0.0, 1.5, 3.0, 4.5, 6.0, 7.5, 9.0]
    );
    let bytes = sdc_ir::Tensor::from_elements(vec![2], vec![10u8, 255]).unwrap();
    // 10, 71.25, 193.75, 255
    assert_eq!(
        resize(DType::U8, "half_pixel", 2.0, bytes),
        [10.0, 71.0, 193.0, 255.0]
    );
}
