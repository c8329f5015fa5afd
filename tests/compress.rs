//! `sdc compress` and `sdc compile --sd`: sizes to the byte, the same codes again, the same bits however they are rebuilt.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use serde_json::Value;
use std::fs;

/// A tiny network; in a build without optimisation solving takes its time.
fn network(dir: &Dir) -> String {
    dir.write("tiny.onnx", onnx::classifier())
}

/// A compressed model with its report.
fn compressed(dir: &Dir, options: &[&str]) -> (String, Value) {
    let (model, report) = (dir.path("small.onnx"), dir.path("report.json"));
    let example = network(dir);
    let fixed = [
        "compress",
        &example,
        "-o",
        &model,
        "--report",
        &report,
        "--solver",
        "row-search",
        "--samples",
        "2",
    ];
    ok(fixed.iter().chain(options));
    let report = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    (model, report)
}

fn weights(artifact: &str) -> Vec<u8> {
    let all = files(artifact);
    let found = all.into_iter().find(|(name, _)| name.ends_with(".weights"));
    found.unwrap().1
}

#[test]
fn the_report_is_right_to_the_byte_and_codes_are_found_again() {
    let dir = Dir::new();
    let (model, report) = compressed(&dir, &["--ratio", "2.2"]);
    let parts = report["weights_file"].as_array().unwrap().iter();
    let sum: u64 = parts.map(|p| p["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sum, report["weights_bytes"]);
    assert!(report["ratio"].as_f64().unwrap() >= 2.2, "{report}");

    let (resident, again) = (dir.path("resident"), dir.path("again"));
    ok(["compile", &model, "-o", &resident]);
    let stored = weights(&resident);
    assert_eq!(stored.len() as u64, sum);

    // Both at once gives the same file as one after the other, and so does compiling what was compressed before.
    let one_go = "ratio=2.2,solver=row-search,samples=2";
    ok([
        "compile",
        &network(&dir),
        "-o",
        &again,
        "--name",
        "small",
        "--sd",
        one_go,
    ]);
    assert_eq!(weights(&again), stored);

    let text = ok(["inspect", &model]);
    assert!(text.contains("compressed") && text.contains("SQNR dB"), "{text}");
}

#[test]
fn resident_and_streamed_weights_give_the_same_bits() {
    let dir = Dir::new();
    let (model, _) = compressed(&dir, &["--bits", "14"]);
    let pixels: Vec<f32> = (0..128).map(|i| (i % 11) as f32 / 11.0 - 0.4).collect();
    let input = format!("x={}", dir.write("x.npy", npy_f32(&[1, 2, 8, 8], &pixels)));
    let mut seen = Vec::new();
    for cpu in ["x86-64", "x86-64-v3"] {
        for way in ["resident", "streamed"] {
            let (artifact, out) = (
                dir.path(&format!("{cpu}{way}")),
                dir.path(&format!("{cpu}{way}.out")),
            );
            ok(["compile", &model, "-o", &artifact, "--weights", way, "--cpu", cpu]);
            ok(["run", &artifact, "--input", &input, "--output-dir", &out]);
            seen.push((weights(&artifact), files(&out)));
        }
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[2], seen[3]);
}

#[test]
fn the_page_says_what_the_report_says() {
    let dir = Dir::new();
    let page = dir.path("page.html");
    let (_, report) = compressed(&dir, &["--size", "800", "--report", &page]);
    let page = fs::read_to_string(page).unwrap();
    for what in ["weights_bytes", "float_bytes"] {
        assert!(page.contains(&report[what].to_string()), "{what}");
    }
    assert!(page.matches("<svg").count() >= 4, "plots are missing");
    for layer in report["layers"].as_array().unwrap() {
        assert!(page.contains(layer["node"].as_str().unwrap()));
    }
}

#[test]
fn gates_are_compressed_and_found_again() {
    let dir = Dir::new();
    let (model, out) = (
        dir.write("gru.onnx", onnx::recurrent("GRU", 1)),
        dir.path("out.onnx"),
    );
    let options = ["--size", "720", "--samples", "4", "--json"];
    let report: Value =
        serde_json::from_str(&ok(["compress", &model, "-o", &out].iter().chain(&options))).unwrap();
    let forms: Vec<_> = report["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["form"].clone())
        .collect();
    assert!(
        forms.len() == 3 && forms.iter().all(|f| f != "float"),
        "{forms:?}"
    );
    let artifact = dir.path("gru");
    ok(["compile", &out, "-o", &artifact]);
    assert_eq!(
        weights(&artifact).len() as u64,
        report["weights_bytes"].as_u64().unwrap()
    );
}

/// The report's shape and whole numbers; decibels depend on the machine's arithmetic.
#[test]
fn the_report_as_json() {
    let dir = Dir::new();
    let (_, report) = compressed(&dir, &["--ratio", "2.2"]);
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(r#""[^"]*/"#, r#""[dir]/"#);
    settings.add_filter(r"-?\d+\.\d+(e-?\d+)?", "[real]");
    let text = serde_json::to_string_pretty(&report).unwrap();
    settings.bind(|| insta::assert_snapshot!("report", text));
}

/// Rows are dropped over all layers together, but for the one with a share of its own.
#[test]
fn a_layer_may_have_a_density_of_its_own() {
    let dir = Dir::new();
    let densities = |options: &[&str]| -> Vec<(String, f64)> {
        let (_, report) = compressed(&dir, options);
        let rows = report["layers"].as_array().unwrap().iter();
        rows.map(|l| {
            (
                l["node"].as_str().unwrap().to_owned(),
                l["density"].as_f64().unwrap(),
            )
        })
        .collect()
    };
    let all = densities(&["--density", "0.6"]);
    let pruned = all.iter().find(|l| l.1 < 1.0).unwrap();
    let model = dir.path("small.onnx");
    let text = ok(["inspect", &model]);
    // Whether a kernel that leaves rows out would gain, and below which density.
    let speed = text.lines().find(|l| l.starts_with("speed: ")).unwrap();
    assert!(
        speed.contains("row-sparse: ") && speed.contains("% of the rows are kept"),
        "{speed}"
    );
    let profile = ok(["bench", &model, "--profile", "--seconds", "0"]);
    assert!(profile.contains("row-sparse: "), "{profile}");
    let share = format!("{}=1", pruned.0);
    let own = densities(&["--density", "0.6", "--layer-density", &share]);
    assert_eq!(own.iter().find(|l| l.0 == pruned.0).unwrap().1, 1.0);
    assert!(own.iter().any(|l| l.1 < 1.0), "{own:?}");
}

#[test]
fn what_cannot_be_met_is_refused() {
    let dir = Dir::new();
    let (model, out) = (network(&dir), dir.path("out.onnx"));
    let fast = ["--solver", "row-search", "--samples", "1"];
    let wish = |code, options: &[&str]| {
        let fixed = ["compress", &model, "-o", &out];
        let said = fails(code, fixed.iter().chain(&fast).chain(options));
        assert!(!std::path::Path::new(&out).exists());
        said
    };
    assert!(wish(5, &["--size", "100"]).contains("is the least"));
    let nowhere = ["--density", "0.5", "--layer-density", "nowhere=0.5"];
    assert!(wish(2, &nowhere).contains("no layer with weights to compress has this name"));
    assert!(wish(2, &["--layer-density", "nowhere=0.5"]).contains("must be a density too"));
    wish(2, &["--ratio", "7", "--bits", "4"]);
    wish(2, &["--ratio", "-1"]);
    wish(
        2,
        &["--calib", &dir.write("empty.npy", npy_f32(&[0, 2, 8, 8], &[]))],
    );
    fails(2, ["compile", &model, "-o", &dir.path("x"), "--sd", "colour=1"]);
}
