//! `sdc check`: recorded outputs, several data sets, and what follows from the data.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Dir, example, fails, ok, onnx, run};
use serde_json::Value;
use std::fs;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn check_compares_with_recorded_outputs() {
    let out = ok(["check", &example("shapes.onnx"), "--data", &example("shapes_io")]);
    assert_eq!(out.lines().count(), 1);
    assert!(out.starts_with("test_data_set_0 logits: ok, max_error "), "{out}");
    // The default is the directory beside the model.
    assert_eq!(ok(["check", &example("shapes.onnx")]), out);

    let arena = ok(["check", &example("shapes.onnx"), "--arena"]);
    assert!(
        arena
            .lines()
            .last()
            .unwrap()
            .starts_with("arena_bytes: 46080, used up to 46080,"),
        "{arena}"
    );

    // The same output with one element changed.
    let dir = Dir::new();
    for file in ["input_0.pb", "output_0.pb"] {
        let bytes = fs::read(example(&format!("shapes_io/test_data_set_0/{file}"))).unwrap();
        dir.write(&format!("io/test_data_set_0/{file}"), bytes);
    }
    let path = dir.path("io/test_data_set_0/output_0.pb");
    let (name, tensor) = sdc_frontend::read_tensor_pb(fs::read(&path).unwrap().into()).unwrap();
    let mut values = tensor.elements::<f32>().unwrap().into_owned();
    values[3] += 0.1;
    let changed = sdc_ir::Tensor::from_elements(tensor.shape().to_vec(), values).unwrap();
    fs::write(&path, sdc_frontend::write_tensor_pb(&name, &changed)).unwrap();
    let args = ["check", &example("shapes.onnx"), "--data", &dir.path("io")];
    let ran = run(args);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out.contains("differs") && ran.out.contains("[0, 3]") && ran.err.is_empty(),
        "{ran:?}"
    );
    ok(args.iter().copied().chain(["--atol", "0.2"]));
    let rows = run(args.iter().copied().chain(["--json"]));
    assert_eq!(json(&rows.out)[0]["passed"], Value::Bool(false));
    let no_data = fails(
        2,
        ["check", &example("shapes.onnx"), "--data", &dir.path("nowhere")],
    );
    assert!(no_data.contains("nowhere"), "{no_data}");
}

/// Data sets of several lengths, one program for each.
#[test]
fn check_pins_open_dimensions_for_each_data_set() {
    let dir = Dir::new();
    let model = dir.write("m.onnx", onnx::symbolic());
    for (set, values) in [&[-1.0f32, 2.0][..], &[1.0, -2.0, 3.0, 4.0], &[5.0, -6.0]]
        .into_iter()
        .enumerate()
    {
        let shape = vec![values.len() / 2, 2];
        let x = sdc_ir::Tensor::from_elements(shape.clone(), values.to_vec()).unwrap();
        let y: Vec<f32> = values.iter().map(|v| v.max(0.0)).collect();
        let y = sdc_ir::Tensor::from_elements(shape, y).unwrap();
        for (file, tensor) in [("input_0", x), ("output_0", y)] {
            let path = format!("m_io/test_data_set_{set}/{file}.pb");
            dir.write(&path, sdc_frontend::write_tensor_pb("", &tensor));
        }
    }
    let out = ok(["check", &model, "--arena"]);
    assert_eq!(out.matches("ok, max_error").count(), 3, "{out}");
    let pinned = fails(2, ["check", &model, "--dim", "batch=1"]);
    assert!(
        pinned.contains("f32[1,2]") && pinned.contains("f32[2,2]"),
        "{pinned}"
    );
}

/// Data sets with several values of an input that shapes depend on, one program for each; other inputs stay inputs.
#[test]
fn check_fixes_the_inputs_that_shapes_depend_on() {
    let dir = Dir::new();
    let model = dir.write("m.onnx", onnx::shaped_by_input());
    let refused = fails(4, ["compile", &model, "-o", &dir.path("out")]);
    assert!(
        refused.contains("E0206") && refused.contains("--fix shape=FILE") && !refused.contains("--fix by"),
        "{refused}"
    );
    let values: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let f32s =
        |shape: &[usize], values: Vec<f32>| sdc_ir::Tensor::from_elements(shape.to_vec(), values).unwrap();
    for (set, shape) in [[2i64, 3], [3, 2], [2, 3]].into_iter().enumerate() {
        let sum: Vec<f32> = values.iter().map(|v| v + set as f32).collect();
        let of_shape = shape.map(|d| d as usize);
        for (file, tensor) in [
            ("input_0", f32s(&[6], values.clone())),
            (
                "input_1",
                sdc_ir::Tensor::from_elements(vec![2], shape.to_vec()).unwrap(),
            ),
            ("input_2", f32s(&[1], vec![set as f32])),
            ("output_0", f32s(&of_shape, sum)),
        ] {
            let path = format!("m_io/test_data_set_{set}/{file}.pb");
            dir.write(&path, sdc_frontend::write_tensor_pb("", &tensor));
        }
    }
    for options in [&["--arena"][..], &["--interpreter"]] {
        let ran = run(["check", &model].iter().chain(options));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.out.matches("ok, max_error").count(), 3, "{ran:?}");
        let notes: Vec<&str> = ran.err.lines().collect();
        assert_eq!(
            notes,
            ["[2, 3]", "[3, 2]"].map(|value| format!(
                "note: input `shape` fixed to the recorded value {value}; compile with --fix shape=FILE to do the same"
            )),
        );
    }
    let rows = run(["check", &model, "--json"]);
    assert_eq!(json(&rows.out)[0]["fixed"], serde_json::json!(["shape"]));
    // What the user fixes is the user's: the recorded value of another set does not replace it.
    let shape = dir.path("m_io/test_data_set_0/input_1.pb");
    let fixed = run(["check", &model, "--fix", &format!("shape={shape}")]);
    assert_eq!(fixed.code, Some(1), "{fixed:?}");
}
