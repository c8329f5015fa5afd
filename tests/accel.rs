//! Accelerator programs from the command line: compiled, printed, assembled, run, timed; the bits are those of native code.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;

#[test]
fn a_network_gives_the_bits_of_native_code_in_every_order() {
    let dir = Dir::new();
    let (model, input) = (example("shapes.onnx"), format!("image={}", example("image.npy")));
    let (native, accel) = (dir.path("native"), dir.path("accel"));
    ok(["compile", &model, "-o", &native, "--activations", "int8"]);
    let summary = ok([
        "compile",
        &model,
        "-o",
        &accel,
        "--backend",
        "accel",
        "--activations",
        "int8",
    ]);
    assert!(summary.contains("on the machine (100.0 %)"), "{summary}");
    let (expected, report) = (dir.path("native.npz"), dir.path("report.json"));
    ok(["run", &native, "--input", &input, "--output", &expected]);
    let printed = ok([
        "sim", &accel, "--input", &input, "--expect", &expected, "--report", &report,
    ]);
    let cycles = printed.lines().find_map(|l| l.strip_prefix("cycles: ")).unwrap();
    assert!(cycles.parse::<u64>().unwrap() > 1000, "{printed}");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(json["total"]["cycles"].as_u64().unwrap().to_string(), cycles);
    ok([
        "sim", &accel, "--input", &input, "--expect", &expected, "--mode", "func",
    ]);
    ok([
        "sim",
        &accel,
        "--input",
        &input,
        "--expect",
        &expected,
        "--shuffle",
        "7",
    ]);
    let slow = [
        "--set",
        "bser=0",
        "--set",
        "wskip=0",
        "--set",
        "askip=0",
        "--set",
        "sync=lane",
    ];
    ok(["sim", &accel, "--input", &input, "--expect", &expected]
        .iter()
        .chain(&slow));
    let from_run = dir.path("run.npz");
    ok(["run", &accel, "--input", &input, "--output", &from_run]);
    ok([
        "sim", &accel, "--input", &input, "--expect", &from_run, "--mode", "func",
    ]);
    // Another picture's outputs are not these.
    let other = dir.path("other.npz");
    let zeros = dir.write("zeros.npy", npy_f32(&[1, 1, 24, 24], &[0.0; 576]));
    ok([
        "sim",
        &accel,
        "--input",
        &format!("image={zeros}"),
        "--output",
        &other,
        "--mode",
        "func",
    ]);
    fails(1, ["sim", &accel, "--input", &input, "--expect", &other]);
    // What cannot be written whole is not written in part.
    let (outputs, nowhere) = (dir.path("outputs"), dir.path("nowhere/layers.csv"));
    fails(
        2,
        [
            "sim",
            &accel,
            "--input",
            &input,
            "--output-dir",
            &outputs,
            "--csv",
            &nowhere,
        ],
    );
    assert!(!fs::exists(&outputs).unwrap());
}

#[test]
fn text_and_words_are_the_same_program() {
    let dir = Dir::new();
    let accel = dir.path("accel");
    ok([
        "compile",
        &example("shapes.onnx"),
        "-o",
        &accel,
        "--backend",
        "accel",
        "--activations",
        "int8",
    ]);
    let (text, again) = (dir.path("p.sdas"), dir.path("p.sdap"));
    ok(["disasm", &accel, "-o", &text]);
    ok(["asm", &text, "-o", &again]);
    let program = fs::read(dir.path("accel/shapes.sdap")).unwrap();
    assert!(program == fs::read(&again).unwrap());
    assert_eq!(ok(["disasm", &again]), fs::read_to_string(&text).unwrap());
    let words = ok(["asm", &text, "--hex"]);
    assert!(
        words.lines().count() > 50 && words.lines().all(|w| w.len() == 32),
        "{words}"
    );

    assert!(ok(["verify", &accel]).contains("shapes.sdap\na program as the manifest says"));
    let manifest = dir.path("accel/manifest.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    let lie = whole.replacen("\"hash\": \"", "\"hash\": \"0", 1);
    fs::write(&manifest, lie).unwrap();
    fails(3, ["verify", &accel]);
    fails(3, ["sim", &accel, "--mode", "func"]);
    fs::write(&manifest, whole).unwrap();

    let mut damaged = program.clone();
    damaged[20] ^= 0x55;
    let damaged = dir.write("damaged.sdap", damaged);
    fails(3, ["disasm", &damaged]);
    fails(3, ["sim", &damaged]);
    let wrong = dir.write("wrong.sdas", ".isa 1.0\nconv view=zero\n");
    assert!(fails(3, ["asm", &wrong, "--hex"]).contains("line 2"));
    let error = fails(2, ["sim", &again, "--set", "slices=3"]);
    assert!(error.contains("slices"), "{error}");
    fails(2, ["sim", &again]);
}

/// A file that cannot be written leaves those that were there.
#[test]
fn an_artifact_comes_whole_or_not_at_all() {
    let dir = Dir::new();
    let (out, model) = (dir.path("out"), example("shapes.onnx"));
    let compile = [
        "compile",
        &model,
        "-o",
        &out,
        "--backend",
        "accel",
        "--activations",
        "int8",
    ];
    ok(compile);
    let program = fs::read(dir.path("out/shapes.sdap")).unwrap();
    fs::remove_file(dir.path("out/manifest.json")).unwrap();
    fs::create_dir(dir.path("out/manifest.json")).unwrap();
    fails(2, compile.iter().chain(&["--set", "slices=32"]));
    fails(2, compile.iter().chain(&["--print-after", "nothing"]));
    assert!(fs::read(dir.path("out/shapes.sdap")).unwrap() == program);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    // A program for another machine is refused with both hashes.
    fs::remove_dir(dir.path("out/manifest.json")).unwrap();
    ok(compile);
    let arch = dir.write("arch.toml", "slices = 32\n");
    let error = fails(3, ["sim", &out, "--mode", "func", "--arch", &arch]);
    let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = error.split(|c: char| !c.is_alphanumeric());
    assert_eq!(words.filter(is_hash).count(), 2, "{error}");
}

/// `check` holds the program to the interpreter's integers bit for bit, and to what was recorded only as near as the user says.
#[test]
fn check_holds_programs_to_their_graph() {
    let model = example("shapes.onnx");
    let checked = ok(["check", &model, "--backend", "accel"]);
    assert!(
        checked.contains("max_error 0.000e0, allowed 0.000e0"),
        "{checked}"
    );
    let near = ok(["check", &model, "--backend", "accel", "--atol", "2"]);
    assert_eq!(near.lines().count(), 2 * checked.lines().count(), "{near}");
    fails(1, ["check", &model, "--backend", "accel", "--atol", "0"]);
    let native = fails(2, ["check", &model, "--backend", "accel", "--no-kernels"]);
    assert!(native.contains("native code"), "{native}");
    let dir = Dir::new();
    let out = dir.path("out");
    let each = [
        "compile",
        &model,
        "-o",
        &out,
        "--backend",
        "accel",
        "--activations",
        "int8",
        "--check",
        "each-pass",
    ];
    ok(each);
}

/// The walk-through of examples/accel shows what the commands print.
#[test]
fn the_walk_through_is_true() {
    let folder = |file: &str| format!("{}/examples/accel/{file}", env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(folder("README.md")).unwrap();
    let dir = Dir::new();
    let (out, model, x) = (dir.path("out"), folder("conv.onnx"), folder("x.npy"));
    let input = format!("x={x}");
    let accel = ["--backend", "accel", "--activations", "int8", "--calib", &x];
    let compiled = ok(["compile", &model, "-o", &out].iter().chain(&accel));
    let text = ok(["disasm", &out]);
    let code = text
        .lines()
        .filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()));
    let code: Vec<&str> = code.collect();
    assert!(
        readme.contains(&format!("```text\n{}\n```", code.join("\n"))),
        "{text}"
    );
    let run = ok(["sim", &out, "--input", &input]);
    let slow = ok([
        "sim", &out, "--input", &input, "--set", "bser=0", "--set", "askip=0",
    ]);
    let facts = [
        "macs:",
        "instructions:",
        "dram_bytes:",
        "  host:",
        "skipped:",
        "busy_cycles:",
        "cycles:",
    ];
    for line in [compiled, run]
        .iter()
        .flat_map(|text| text.lines())
        .chain(slow.lines().last())
    {
        let shown = facts.iter().any(|fact| line.starts_with(fact));
        assert!(!shown || readme.contains(line), "{line}");
    }
}
