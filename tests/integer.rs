//! `sdc compile --activations int8` on the trained example: accuracy, and the same bits wherever it runs.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;

const SCALE: &str = "0.00392156862745098";

fn compile(dir: &Dir, name: &str, options: &[&str]) -> String {
    let out = dir.path(name);
    let fixed = [
        "compile",
        &example("shapes.onnx"),
        "-o",
        &out,
        "--activations",
        "int8",
        "--calib",
        &example("test_x.npy"),
        "--scale",
        SCALE,
        "--calib-samples",
        "24",
    ];
    let said = ok(fixed.iter().chain(options));
    assert!(said.contains("2 boundaries, 0 in floating point"), "{said}");
    out
}

fn right(model: &str) -> i64 {
    let (x, y) = (example("test_x.npy"), example("test_y.npy"));
    let said = ok(["eval", model, "--images", &x, "--labels", &y, "--scale", SCALE]);
    let first = said.lines().next().unwrap_or_default();
    let count = first.strip_prefix("top1: ").and_then(|s| s.strip_suffix("/300"));
    count.unwrap().parse().unwrap()
}

#[test]
fn the_example_is_about_as_good_in_integers() {
    let dir = Dir::new();
    let artifact = compile(&dir, "int8", &[]);
    let (integers, real) = (right(&artifact), right(&example("shapes.onnx")));
    assert!((integers - real).abs() <= 4, "{integers} against {real}");
}

#[test]
fn native_code_and_the_interpreter_give_the_same_bits() {
    let dir = Dir::new();
    let ways: &[(&str, &[&str])] = &[
        ("v3", &["--emit", "sharedlib,ir"]),
        ("v1", &["--cpu", "x86-64"]),
        ("native", &["--cpu", "native"]),
        ("plain", &["--no-kernels"]),
    ];
    let mut seen = Vec::new();
    let pixels: Vec<f32> = (0..576).map(|i| (i * 7 % 31) as f32 / 31.0).collect();
    let input = format!("image={}", dir.write("x.npy", npy_f32(&[1, 1, 24, 24], &pixels)));
    let mut run = |what: &str, extra: &[&str]| {
        let out = dir.path("run");
        let args = ["run", what, "--input", &input, "--output-dir", &out];
        ok(args.iter().chain(extra));
        seen.push(fs::read(format!("{out}/output_0.npy")).unwrap());
    };
    for (name, options) in ways {
        run(&compile(&dir, name, options), &[]);
    }
    let stage = files(dir.path("v3/ir"))
        .into_iter()
        .map(|(name, _)| name)
        .find(|name| name.ends_with("import.sdir"));
    run(
        &format!("{}/{}", dir.path("v3/ir"), stage.unwrap()),
        &["--interpreter"],
    );
    assert!(seen.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn a_quantised_network_is_refused() {
    let dir = Dir::new();
    let artifact = compile(&dir, "int8", &["--emit", "sharedlib,ir"]);
    let stage = files(format!("{artifact}/ir")).into_iter().map(|(name, _)| name);
    let stage = stage
        .into_iter()
        .find(|name| name.ends_with("import.sdir"))
        .unwrap();
    let (model, out) = (format!("{artifact}/ir/{stage}"), dir.path("again"));
    let said = fails(4, ["compile", &model, "-o", &out, "--activations", "int8"]);
    assert!(said.contains("quantised already"), "{said}");
    // The interpreter needs a model.
    fails(2, ["run", &artifact, "--interpreter"]);
    // Inputs for nothing are a mistake.
    fails(
        2,
        [
            "compile",
            &example("shapes.onnx"),
            "-o",
            &out,
            "--calib",
            &example("test_x.npy"),
        ],
    );
}
