//! Winograd's filtering from the command line.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;

#[test]
fn winograds_filtering_is_used_where_it_pays_and_can_be_forbidden() {
    let dir = Dir::new();
    let pads: &[(&str, &[i64])] = &[("pads", &[1, 1, 1, 1])];
    let net = onnx::Net::new()
        .input("x", &[1, 3, 16, 16])
        .weights("w0", &[32, 3, 1, 1])
        .weights("w1", &[48, 32, 3, 3])
        .node("Conv", &["x", "w0"], "a", &[])
        .node("Conv", &["a", "w1"], "y", pads)
        .output("y");
    let model = dir.write("conv.onnx", net.bytes());
    let x: Vec<f32> = (0..3 * 256)
        .map(|i| (i * 37 % 101) as f32 / 64.0 - 0.75)
        .collect();
    let x = format!("x={}", dir.write("x.npy", npy_f32(&[1, 3, 16, 16], &x)));
    let mut results: Vec<Vec<f32>> = Vec::new();
    for (option, used) in [(None, true), (Some("--no-winograd"), false)] {
        let report = dir.path("report.json");
        let artifact = dir.path("out");
        let mut args = vec!["compile", &model, "-o", &artifact, "--report", &report];
        args.extend(option);
        ok(args);
        let report =
            serde_json::from_str::<serde_json::Value>(&fs::read_to_string(&report).unwrap()).unwrap();
        let kernels = report["kernels"].to_string();
        assert_eq!(kernels.contains("winograd_f32"), used, "{kernels}");
        let results_at = dir.path("results");
        ok(["run", &artifact, "--input", &x, "--output-dir", &results_at]);
        let npy = fs::read(dir.path("results/output_0.npy")).unwrap();
        let data = &npy[npy.len() - 4 * 48 * 256..];
        let floats = data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        results.push(floats.collect());
    }
    let scale = results[1].iter().fold(0f32, |a, y| a.max(y.abs()));
    let pairs = || results[0].iter().zip(&results[1]);
    assert!(scale > 0.1 && pairs().all(|(a, b)| (a - b).abs() <= 1e-5 * scale));
    assert!(pairs().any(|(a, b)| a != b), "both were computed the same way");
}
