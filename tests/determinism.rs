//! The same model and options give the same bytes, whatever surrounds the compilation.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;

/// Every file of an artifact compiled in this surrounding.
fn compile(
    model: &str,
    out: &str,
    surround: impl FnOnce(&mut std::process::Command),
) -> Vec<(String, Vec<u8>)> {
    let mut command = sdc();
    command.args(["compile", model, "-o", out]);
    surround(&mut command);
    let ran: Ran = command.output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    files(out)
}

#[test]
fn surroundings_do_not_matter() {
    let dir = Dir::new();
    let models = [
        std::fs::read(example("shapes.onnx")).unwrap(),
        onnx::classifier(),
        onnx::movements(),
    ];
    for (k, bytes) in models.into_iter().enumerate() {
        let model = dir.write(&format!("{k}/m.onnx"), bytes);
        let plain = compile(&model, &dir.path(&format!("{k}/plain")), |_| {});
        assert!(plain.len() >= 6);
        let other = compile("m.onnx", &dir.path(&format!("{k}/other")), |c| {
            c.current_dir(dir.path(&k.to_string()));
            c.env("HOME", "/nowhere")
                .env("LC_ALL", "tr_TR.UTF-8")
                .env("TZ", "Asia/Kathmandu")
                .env("COLUMNS", "20");
        });
        assert_eq!(plain, other);
        let bare = compile(&model, &dir.path(&format!("{k}/bare")), |c| {
            c.env_clear();
        });
        assert_eq!(plain, bare);
    }
}

#[test]
fn the_number_of_cores_does_not_matter() {
    if !has("taskset") {
        return skip("no taskset");
    }
    let dir = Dir::new();
    let all = compile(&example("shapes.onnx"), &dir.path("all"), |_| {});
    let one = dir.path("one");
    let output = std::process::Command::new("taskset")
        .args([
            "-c",
            "0",
            env!("CARGO_BIN_EXE_sdc"),
            "compile",
            &example("shapes.onnx"),
            "-o",
            &one,
        ])
        .output()
        .unwrap();
    if !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("affinity") {
        return skip("taskset is not allowed here");
    }
    assert!(output.status.success(), "{output:?}");
    assert_eq!(all, files(one));
}
