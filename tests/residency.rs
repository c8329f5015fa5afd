//! Weights that a run gives back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use serde_json::Value;
use std::fs;

/// Three layers of a mebibyte each, the first used once more at the end.
fn layers() -> Vec<u8> {
    onnx::Net::new()
        .input("x", &[1, 512])
        .weights("w0", &[512, 512])
        .weights("w1", &[512, 512])
        .weights("w2", &[512, 512])
        .node("MatMul", &["x", "w0"], "a", &[])
        .node("Tanh", &["a"], "b", &[])
        .node("MatMul", &["b", "w1"], "c", &[])
        .node("Tanh", &["c"], "d", &[])
        .node("MatMul", &["d", "w2"], "e", &[])
        .node("Tanh", &["e"], "f", &[])
        .node("MatMul", &["f", "w0"], "y", &[])
        .output("y")
        .bytes()
}

#[test]
fn weights_come_and_go_and_results_stay() {
    let dir = Dir::new();
    let model = dir.write("layers.onnx", layers());
    let x: Vec<f32> = (0..512).map(|i| (i * 37 % 101) as f32 / 64.0 - 0.75).collect();
    let x = format!("x={}", dir.write("x.npy", npy_f32(&[1, 512], &x)));
    let mut made = Vec::new();
    for (name, option) in [("all", None), ("few", Some("--resident-weights=0"))] {
        let artifact = dir.path(name);
        let mut args = vec!["compile", &model, "-o", &artifact];
        args.extend(option);
        let summary = ok(args);
        assert_eq!(
            summary.contains("resident_weights_bytes: 2097152"),
            option.is_some(),
            "{summary}"
        );
        let manifest: Value =
            serde_json::from_slice(&fs::read(dir.path(&format!("{name}/manifest.json"))).unwrap()).unwrap();
        let out = dir.path(&format!("{name}_out"));
        ok(["run", &artifact, "--input", &x, "--output-dir", &out]);
        made.push(files(out));
        let transient = manifest["transient"]["parts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        // The layer that is used twice is there all the time.
        let calls: Vec<[i64; 2]> = transient
            .iter()
            .map(|t| ["first_call", "last_call"].map(|key| t[key].as_i64().unwrap()))
            .collect();
        match option {
            None => assert!(calls.is_empty(), "{calls:?}"),
            Some(_) => assert_eq!(calls, [[1, 1], [2, 2]]),
        }
    }
    assert_eq!(made[0], made[1]);
    // What is compiled is the same; the shared library also says what it was linked for.
    for file in ["layers.o", "layers.weights", "layers.h"] {
        let [all, few] = ["all", "few"].map(|name| fs::read(dir.path(&format!("{name}/{file}"))).unwrap());
        assert!(all == few, "{file}");
    }
    let bench = ok(["bench", &dir.path("few"), "--seconds", "0.01", "--threads", "2"]);
    assert!(bench.contains("rss_kib: "), "{bench}");
}
