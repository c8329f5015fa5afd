//! Every exit code for its reason, with a message, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::path::Path;

#[test]
fn wrong_use_is_2() {
    let dir = Dir::new();
    let shapes = example("shapes.onnx");
    let out = dir.path("out");
    let cases: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["compile", &shapes],
        &["compile", &shapes, "-o", &out, "--no-such-option"],
        &["compile", &shapes, "-o", &out, "--cpu", "z80"],
        &["compile", &shapes, "-o", &out, "--dim", "batch"],
        &["compile", &shapes, "-o", &out, "--dim", "batch=3"],
        &["compile", &shapes, "-o", &out, "--ram", "much"],
        &["compile", &shapes, "-o", &out, "--sd", "s=3"],
        &["compile", &shapes, "-o", &out, "--print-after", "nothing"],
        &["compile", &shapes, "-o", &out, "--start-from", "plan"],
        &["compile", "no/such/file.onnx", "-o", &out],
        &["dump", &shapes],
        &["dump", &shapes, "--after", "nothing"],
        &["run", "/dev/null"],
        &["run", &dir.path("")],
        &["bench", &shapes, "--seconds", "NaN"],
    ];
    for case in cases {
        let error = fails(2, *case);
        assert!(!error.trim().is_empty(), "{case:?}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn malformed_models_are_3() {
    let dir = Dir::new();
    let whole = std::fs::read(example("shapes.onnx")).unwrap();
    for (name, bytes) in [
        ("garbage.onnx", &b"garbage"[..]),
        ("cut.onnx", &whole[..5000]),
        ("empty.onnx", b""),
    ] {
        let model = dir.write(name, bytes);
        let out = dir.path("out");
        let error = fails(3, ["compile", &model, "-o", &out]);
        assert!(error.contains("E01"), "{error}");
        assert!(!Path::new(&out).exists());
    }
}

#[test]
fn what_is_not_supported_is_4_and_listed_in_full() {
    let dir = Dir::new();
    let model = dir.write("unsupported.onnx", onnx::unsupported());
    let out = dir.path("out");
    let error = fails(4, ["compile", &model, "-o", &out]);
    for expected in [
        "E0201",
        "u_node (NoSuchOperator #0)",
        "v_node (AnotherOne #1)",
        "2 problems",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let later: &[&[&str]] = &[
        &["--cpu", "x86-64-v3", "--cpu", "x86-64-v4"],
        &["--target", "powerpc64le-unknown-linux-gnu"],
        &["--target", "aarch64-unknown-linux-gnu", "--emit", "sharedlib"],
    ];
    let shapes = example("shapes.onnx");
    for options in later {
        let error = fails(4, ["compile", &shapes, "-o", &out].iter().chain(*options));
        assert!(error.contains("support"), "{error}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
#[cfg(not(feature = "llvm"))]
fn without_llvm_the_error_names_the_feature() {
    let dir = Dir::new();
    let (out, shapes) = (dir.path("out"), example("shapes.onnx"));
    let compile = ["compile", &shapes, "-o", &out, "--backend", "llvm"];
    let check = ["check", &shapes, "--backend", "llvm"];
    for command in [&compile[..], &check] {
        let error = fails(4, command);
        assert!(error.contains("cargo feature `llvm`"), "{error}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
#[cfg(feature = "llvm")]
fn llvm_compiles_for_x86_64_only_and_says_what_does_for_others() {
    let dir = Dir::new();
    let (out, shapes) = (dir.path("out"), example("shapes.onnx"));
    let llvm = ["compile", &shapes, "-o", &out, "--backend", "llvm"];
    let error = fails(4, llvm.iter().chain(&["--target", "aarch64-unknown-linux-gnu"]));
    assert!(error.contains("--backend cranelift"), "{error}");
    assert!(!Path::new(&out).exists());

    ok(llvm);
    let manifest = std::fs::read_to_string(dir.path("out/manifest.json")).unwrap();
    assert!(manifest.contains("\"backend\": \"llvm\""), "{manifest}");
    // What is compiled has its generator.
    let late = fails(2, ["bench", &out, "--backend", "llvm"]);
    assert!(late.contains("--backend"), "{late}");
}

#[test]
fn exceeded_limits_are_5_and_explained() {
    let dir = Dir::new();
    let out = dir.path("out");
    let error = fails(
        5,
        ["compile", &example("shapes.onnx"), "-o", &out, "--ram", "30000"],
    );
    assert!(error.contains("46080") && error.contains("stem/conv"), "{error}");
    let error = fails(
        5,
        ["compile", &example("shapes.onnx"), "-o", &out, "--flash", "64K"],
    );
    assert!(
        error.contains("weights: ") && error.contains("separable2/pointwise"),
        "{error}"
    );
    let model = dir.write("symbolic.onnx", onnx::symbolic());
    fails(5, ["compile", &model, "-o", &out, "--dim", "batch=4000000000"]);
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_damaged_artifact_is_refused() {
    let dir = Dir::new();
    let out = dir.path("out");
    ok(["compile", &example("shapes.onnx"), "-o", &out]);
    for file in ["libshapes.so", "shapes.weights", "manifest.json"] {
        let path = dir.path(&format!("out/{file}"));
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x80;
        std::fs::write(&path, &damaged).unwrap();
        fails(3, ["bench", &out, "--seconds", "0"]);
        std::fs::write(&path, &whole).unwrap();
    }
    ok(["bench", &out, "--seconds", "0"]);
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let dir = Dir::new();
    let net = onnx::Net::new()
        .input("x", &[2])
        .node("Nope", &["x"], "\u{1b}]0;gotcha\u{7}", &[]);
    let model = dir.write("evil.onnx", net.output("\u{1b}]0;gotcha\u{7}").bytes());
    let error = fails(4, ["compile", &model, "-o", &dir.path("out")]);
    assert!(!error.contains('\u{1b}') && error.contains("gotcha"), "{error}");
}
