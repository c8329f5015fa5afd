//! All or none: whatever ends a command, an artifact is there as it was before or as it is wanted, and nothing else is.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A chain of softmaxes on weights: enough to compile for a while.
fn long_model() -> Vec<u8> {
    let mut net = onnx::Net::new().input("x", &[4, 8]);
    let mut last = "x".to_owned();
    for i in 0..400 {
        let (w, next) = (format!("w{i}"), format!("t{i}"));
        net = net
            .weights(&w, &[8, 8])
            .node("MatMul", &[&last, &w], &format!("p{i}"), &[])
            .node("Softmax", &[&format!("p{i}")], &next, &[]);
        last = next;
    }
    net.output(&last).bytes()
}

fn started(args: &[&str]) -> Child {
    let mut command = sdc();
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("kill");
    // It may have ended before.
    let _ = kill.args([&format!("-{name}"), &child.id().to_string()]).status();
}

/// Names in a directory that are temporary.
fn temporary(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".sdc-")).collect()
}

#[test]
fn signals_leave_nothing() {
    let dir = Dir::new();
    let model = dir.write("m.onnx", long_model());
    let out = dir.path("out");
    let start = Instant::now();
    ok(["compile", &model, "-o", &out, "--name", "m"]);
    let whole = start.elapsed();
    let before = files(&out);
    let fresh = dir.path("fresh");
    for try_ in 0..20u32 {
        let target = if try_ % 2 == 0 { &out } else { &fresh };
        // Other files than before, so that what was there can be told from what would be.
        let mut child = started(&["compile", &model, "-o", target, "--name", "m", "--no-kernels"]);
        std::thread::sleep(whole * try_ / 20);
        signal(&child, if try_ % 4 < 2 { "INT" } else { "TERM" });
        let sent = Instant::now();
        let status = child.wait().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
        assert_eq!(temporary(target), [""; 0]);
        match (status.code(), target == &out) {
            (None, true) => assert!(files(&out) == before, "old files are not intact"),
            (None, false) => assert!(!fs::exists(&fresh).unwrap(), "files were left"),
            (Some(0), _) => {
                ok(["verify", target]);
                fs::remove_dir_all(target).unwrap();
                if target == &out {
                    ok(["compile", &model, "-o", &out, "--name", "m"]);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_next_run_removes_what_a_killed_one_left() {
    let dir = Dir::new();
    let out = dir.path("out");
    for name in ["out/.sdc-A1b2C3", "out/.sdc-kept.txt"] {
        dir.write(name, "half a library");
    }
    ok(["compile", &example("shapes.onnx"), "-o", &out]);
    let left: Vec<_> = temporary(&out);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0] == ".sdc-kept.txt");
}

#[test]
fn a_size_limit_and_a_directory_in_the_way_change_nothing() {
    let dir = Dir::new();
    let out = dir.path("out");
    let limited = |blocks: &str, out: &str| {
        let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_sdc"), "compile"]);
        Ran::from(
            command
                .args([&example("shapes.onnx"), "-o", out])
                .output()
                .unwrap(),
        )
    };
    let ran = limited("8", &out);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(!fs::exists(&out).unwrap());

    ok(["compile", &example("shapes.onnx"), "-o", &out]);
    let before = files(&out);
    assert_eq!(limited("8", &out).code, Some(2));
    assert!(files(&out) == before);

    for name in ["shapes.h", "manifest.json", "libshapes.so"] {
        let fresh = dir.path(&format!("in_the_way_{name}"));
        fs::create_dir_all(format!("{fresh}/{name}/inside")).unwrap();
        assert!(fails(2, ["compile", &example("shapes.onnx"), "-o", &fresh]).contains(name));
        assert_eq!(fs::read_dir(&fresh).unwrap().count(), 1, "{name}");
    }
}

#[test]
fn of_writers_at_once_one_wins_wholly() {
    let dir = Dir::new();
    let out = dir.path("out");
    for _ in 0..5 {
        let plain = started(&["compile", &example("shapes.onnx"), "-o", &out]);
        let other = started(&["compile", &example("shapes.onnx"), "-o", &out, "--no-kernels"]);
        for mut child in [plain, other] {
            assert!(child.wait().unwrap().success());
        }
        ok(["verify", &out]);
        assert_eq!(temporary(&out), [""; 0]);
    }
}
