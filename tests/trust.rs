//! What files may not do: artifacts that have been tampered with, links that lead out of a folder, pipes in the place of files.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use prost::Message;
use sdc_frontend::proto::{ModelProto, StringStringEntryProto};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

#[test]
fn a_manifest_that_lies_is_refused_by_every_command() {
    let dir = Dir::new();
    let artifact = dir.path("out");
    ok(["compile", &example("shapes.onnx"), "-o", &artifact]);
    let input = format!("image={}", example("image.npy"));
    let right = ok(["run", &artifact, "--input", &input]);
    assert_eq!(ok(["run", &artifact, "--input", &input, "--copy"]), right);
    let manifest = dir.path("out/manifest.json");
    assert!(ok(["verify", &artifact]).contains("written together"));
    assert!(ok(["verify", &manifest]).contains("written together"));
    assert!(fails(2, ["verify", &dir.path("absent")]).contains("absent"));

    let good = fs::read_to_string(&manifest).unwrap();
    let lies: [fn(&mut Value); 3] = [
        |m| m["interface"]["outputs"] = Value::Array(Vec::new()),
        |m| m["interface"]["inputs"][0]["shape"] = serde_json::json!([1, 1, 1, 1]),
        |m| m["interface"]["features"] = Value::Array(Vec::new()),
    ];
    for lie in lies {
        let mut bad: Value = serde_json::from_str(&good).unwrap();
        lie(&mut bad);
        fs::write(&manifest, bad.to_string()).unwrap();
        for command in [
            vec!["run", &artifact, "--input", &input],
            vec!["bench", &artifact],
            vec!["verify", &artifact],
        ] {
            assert!(fails(3, &command).contains("linked for"), "{command:?}");
        }
    }
    fs::write(&manifest, &good).unwrap();
    // A file that running does not need.
    fs::write(dir.path("out/shapes.h"), "").unwrap();
    assert_eq!(ok(["run", &artifact, "--input", &input]), right);
    assert!(fails(3, ["verify", &artifact]).contains("shapes.h"));
}

/// A model whose first initialiser lies in a file of this name.
fn with_external_data(location: &str) -> Vec<u8> {
    let bytes = fs::read(example("shapes.onnx")).unwrap();
    let mut model = ModelProto::decode(&bytes[..]).unwrap();
    let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
    let entry = StringStringEntryProto {
        key: Some("location".into()),
        value: Some(location.into()),
    };
    tensor.raw_data = None;
    tensor.float_data = Vec::new();
    tensor.external_data = vec![entry];
    tensor.data_location = Some(1);
    model.encode_to_vec()
}

#[test]
fn external_data_is_in_the_folder_itself() {
    let dir = Dir::new();
    let bytes = fs::read(example("shapes.onnx")).unwrap();
    let data = ModelProto::decode(&bytes[..]).unwrap().graph.unwrap().initializer[0].clone();
    let data = data.raw_data.unwrap_or_default();
    assert!(!data.is_empty());
    let secret = dir.write("outside/data", &data);
    dir.write("model/data", &data);
    symlink(&secret, dir.path("model/link")).unwrap();
    symlink(dir.path("outside"), dir.path("model/linked")).unwrap();
    for (location, refused) in [
        ("data", false),
        ("./data", false),
        ("link", true),
        ("linked/data", true),
    ] {
        let model = dir.write("model/model.onnx", with_external_data(location));
        if refused {
            let said = fails(2, ["inspect", &model]);
            assert!(said.contains("symbolic link"), "{location}: {said}");
        } else {
            ok(["inspect", &model]);
        }
    }
}

#[test]
fn pipes_and_devices_are_refused_at_once() {
    let dir = Dir::new();
    let made = |path: &str| {
        Command::new("mkfifo")
            .arg(path)
            .status()
            .is_ok_and(|s| s.success())
    };
    let pipe = dir.path("pipe.onnx");
    if !made(&pipe) {
        return skip("no mkfifo");
    }
    let (arrays, text) = (dir.path("pipe.npy"), dir.path("pipe.sdir"));
    assert!(made(&arrays) && made(&text));
    let model = example("shapes.onnx");
    let input = format!("image={arrays}");
    for command in [
        vec!["inspect", pipe.as_str()],
        vec!["inspect", "/dev/zero"],
        vec!["opt", &text, "--passes", "fuse"],
        vec!["run", &model, "--input", &input],
        vec!["compress", &model, "-o", "/dev/null/x", "--calib", &arrays],
    ] {
        let said = fails(2, &command);
        assert!(said.contains("not a regular file"), "{command:?}: {said}");
    }
}
