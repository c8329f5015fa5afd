//! A C program with two models: the same bits as `sdc run`, no symbol but the models' own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::path::Path;
use std::process::Command;

/// Elements of an output of four bytes each, as the C program prints them.
fn bits(npy: &[u8], elements: usize) -> Vec<String> {
    let data = &npy[npy.len() - 4 * elements..];
    let word = |b: &[u8]| format!("{:08x}", u32::from_le_bytes(b.try_into().unwrap()));
    data.chunks_exact(4).map(word).collect()
}

#[test]
fn two_models_in_one_program() {
    if !has("cc") {
        return skip("no C compiler");
    }
    let dir = Dir::new();
    let first = example("shapes.onnx");
    let second = dir.write("second.onnx", onnx::classifier());
    let (a, b) = (dir.path("a"), dir.path("b"));
    ok(["compile", &first, "-o", &a]);
    ok(["compile", &second, "-o", &b]);
    let x: Vec<f32> = (0..128).map(|i| ((i * 37) % 64) as f32 / 32.0 - 1.0).collect();
    let x = dir.write("x.npy", npy_f32(&[1, 2, 8, 8], &x));

    let program = dir.path("two");
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/c/main.c");
    let built = Command::new("cc")
        .args([
            "-O2",
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wl,--fatal-warnings",
        ])
        .arg(main)
        .args(["-I", &a, "-I", &b, "-o", &program])
        .args(["-DFIRST=shapes", "-DFIRST_INPUT=image", "-DFIRST_OUTPUT=logits"])
        .args(["-DSECOND=second", "-DSECOND_INPUT=x", "-DSECOND_OUTPUT=y"])
        .args([format!("{a}/libshapes.a"), format!("{b}/libsecond.a")])
        .output()
        .unwrap();
    assert!(
        built.status.success() && built.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );

    let ran = Command::new(&program)
        .args([format!("{a}/shapes.weights"), example("image.npy")])
        .args([format!("{b}/second.weights"), x.clone()])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");

    let outs = [dir.path("out_a"), dir.path("out_b")];
    ok([
        "run",
        &a,
        "--input",
        &format!("image={}", example("image.npy")),
        "--output-dir",
        &outs[0],
    ]);
    ok(["run", &b, "--input", &format!("x={x}"), "--output-dir", &outs[1]]);
    let read = |out: &String| std::fs::read(format!("{out}/output_0.npy")).unwrap();
    let mut expected = vec!["shapes".to_owned()];
    expected.extend(bits(&read(&outs[0]), 10));
    expected.push("second".to_owned());
    expected.extend(bits(&read(&outs[1]), 5));
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn symbols_are_the_models_own_and_none_is_missing() {
    if !has("nm") {
        return skip("no nm");
    }
    let dir = Dir::new();
    let model = dir.write("odd name-1.onnx", onnx::classifier());
    let out = dir.path("out");
    ok(["compile", &model, "-o", &out]);
    for (file, flags) in [
        ("odd_name_1.o", &["-g"][..]),
        ("libodd_name_1.a", &["-g"]),
        ("libodd_name_1.so", &["-D"]),
    ] {
        let listed = Command::new("nm")
            .args(flags)
            .arg(format!("{out}/{file}"))
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).unwrap();
        let symbols: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|l| {
                let mut words = l.split_whitespace().rev();
                Some((words.next()?, words.next()?))
            })
            .filter(|(_, kind)| kind.len() == 1)
            .collect();
        assert!(
            symbols
                .iter()
                .any(|(name, kind)| *name == "odd_name_1_run" && *kind == "T"),
            "{text}"
        );
        for (name, kind) in symbols {
            assert!(
                name.starts_with("odd_name_1_") && kind != "U",
                "{file}: {name} {kind}"
            );
        }
    }
}
