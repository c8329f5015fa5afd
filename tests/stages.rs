//! The text of every stage: printed, edited, taken up again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;

#[test]
fn stages_are_printed_and_can_be_taken_up_again() {
    let dir = Dir::new();
    let model = dir.write("classifier.onnx", onnx::classifier());
    let stages = dir.path("stages");
    ok(["dump", &model, "--all", &stages]);
    let all: Vec<String> = files(&stages).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "0_import.sdir",
        "1_legalise.sdir",
        "2_simplify.sdir",
        "3_fuse.sdir",
        "4_quantise.sdir",
        "5_layout.sdir",
        "6_schedule.sdir",
        "7_tile.sdir",
        "8_plan.txt",
        "weights.sdw",
    ];
    assert_eq!(all, expected);
    let stage = |name: &str| fs::read_to_string(dir.path(&format!("stages/{name}"))).unwrap();
    assert_eq!(ok(["dump", &model, "--after", "layout"]), stage("5_layout.sdir"));
    assert_eq!(ok(["dump", &model, "--after", "plan"]), stage("8_plan.txt"));

    // Each graph stage follows from the one before it.
    for (from, pass, to) in [
        ("0_import.sdir", "legalise", "1_legalise.sdir"),
        ("1_legalise.sdir", "simplify", "2_simplify.sdir"),
        ("2_simplify.sdir", "fuse", "3_fuse.sdir"),
        ("3_fuse.sdir", "quantise", "4_quantise.sdir"),
        ("4_quantise.sdir", "layout", "5_layout.sdir"),
    ] {
        let from = dir.path(&format!("stages/{from}"));
        assert_eq!(
            ok(["opt", &from, "--passes", pass, "--check", "each-pass"]),
            stage(to)
        );
    }
    let (import, result) = (dir.path("stages/0_import.sdir"), dir.path("result.sdir"));
    ok([
        "opt",
        &import,
        "--passes",
        "legalise,simplify,fuse",
        "-o",
        &result,
    ]);
    assert_eq!(fs::read_to_string(&result).unwrap(), stage("3_fuse.sdir"));
    assert!(ok(["opt", &import, "--passes", "legalise,simplify,fuse", "--remarks"]).contains("fuse/"));

    // A graph in text form compiles to the same code.
    let (direct, text) = (dir.path("direct"), dir.path("text"));
    ok(["compile", &model, "-o", &direct, "--name", "m"]);
    ok([
        "compile",
        &result,
        "-o",
        &text,
        "--name",
        "m",
        "--start-from",
        "layout",
    ]);
    for file in ["m.o", "m.weights", "m.h"] {
        let read = |dir: &str| fs::read(format!("{dir}/{file}")).unwrap();
        assert_eq!(read(&direct), read(&text), "{file}");
    }
    fails(2, ["opt", &dir.path("stages/7_tile.sdir"), "--passes", "fuse"]);
    fails(2, ["opt", &import, "--passes", "nothing"]);
    fails(2, ["opt", &dir.path("stages/5_layout.sdir"), "--passes", "fuse"]);
    fs::remove_file(dir.path("stages/weights.sdw")).unwrap();
    let error = fails(2, ["opt", &import, "--passes", "fuse"]);
    assert!(error.contains(".sdw"), "{error}");
    let broken = dir.write("broken.sdir", "sdir 1 graph\ngraph \"x\" {\n  %0 = nonsense\n");
    let error = fails(3, ["opt", &broken, "--passes", "fuse"]);
    assert!(error.contains("broken.sdir: 4:1"), "{error}");
    let open = dir.write(
        "open.sdir",
        "sdir 1 graph\ngraph \"x\" {\n  %0 = input \"x\" : f32[n,3,m]\n  output \"y\" = %0\n}\n",
    );
    let compile: &[&str] = &["compile", &open, "-o", &result];
    for command in [&["opt", &open, "--passes", "fuse"], compile, &["plan", &open]] {
        let error = fails(3, command);
        assert!(
            error.contains("the symbol n") && error.contains("the symbol m"),
            "{error}"
        );
    }
}

#[test]
fn a_schedule_is_printed_edited_and_compiled() {
    let dir = Dir::new();
    let (model, stages) = (
        dir.write("classifier.onnx", onnx::classifier()),
        dir.path("stages"),
    );
    ok(["dump", &model, "--all", &stages, "--cpu", "x86-64-v3"]);
    let (schedule, out) = (dir.path("stages/6_schedule.sdir"), dir.path("out"));
    assert_eq!(
        ok(["dump", &model, "--after", "schedule", "--cpu", "x86-64-v3"]),
        fs::read_to_string(&schedule).unwrap()
    );
    // As it is, it gives the same code.
    let (direct, text) = (dir.path("direct"), dir.path("text"));
    ok(["compile", &model, "-o", &direct, "--name", "m"]);
    ok([
        "compile",
        &schedule,
        "-o",
        &text,
        "--name",
        "m",
        "--start-from",
        "tile",
    ]);
    let object = |dir: &str| fs::read(format!("{dir}/m.o")).unwrap();
    assert!(object(&direct) == object(&text));
    // Edited, other code.
    let printed = fs::read_to_string(&schedule).unwrap();
    let run = printed.lines().find(|l| l.contains(" by conv2d_f32")).unwrap();
    let loops = run
        .replace("conv2d_f32", "loops")
        .replace(" weights constant", "");
    let edited = dir.write("stages/edited.sdir", printed.replace(run, &loops));
    ok([
        "compile",
        &edited,
        "-o",
        &out,
        "--name",
        "m",
        "--check",
        "each-pass",
    ]);
    assert!(object(&direct) != object(&out));
    // For another target, or against the laws.
    let error = fails(2, ["compile", &schedule, "-o", &out, "--cpu", "x86-64"]);
    assert!(error.contains("the target has"), "{error}");
    let broken = dir.write("stages/broken.sdir", printed.replace(run, ""));
    let error = fails(3, ["compile", &broken, "-o", &out]);
    assert!(error.contains("no run computes"), "{error}");
    let error = fails(
        2,
        [
            "compile",
            &dir.path("stages/5_layout.sdir"),
            "-o",
            &out,
            "--start-from",
            "tile",
        ],
    );
    assert!(error.contains("a schedule"), "{error}");
}

#[test]
fn compile_shows_and_checks_passes() {
    let dir = Dir::new();
    let model = dir.write("movements.onnx", onnx::movements());
    let listed = ok(["compile", &model, "--list-passes"]);
    let names: Vec<&str> = listed
        .lines()
        .map(|l| l.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "legalise", "simplify", "fuse", "quantise", "layout", "schedule", "tile", "plan"
        ]
    );
    let stopped = ok(["compile", &model, "--stop-after", "simplify"]);
    assert_eq!(stopped, ok(["dump", &model, "--after", "simplify"]));
    let out = dir.path("out");
    let printed = ok([
        "compile",
        &model,
        "-o",
        &out,
        "--print-after",
        "fuse",
        "--check",
        "each-pass",
    ]);
    assert!(
        printed.starts_with("sdir 1 graph") && printed.contains("arena_bytes: "),
        "{printed}"
    );
    let with_ir = dir.path("ir");
    ok(["compile", &model, "-o", &with_ir, "--emit", "header,ir"]);
    assert!(fs::metadata(dir.path("ir/ir/7_tile.sdir")).is_ok());
    assert!(fs::metadata(dir.path("ir/libmovements.so")).is_err());
}
