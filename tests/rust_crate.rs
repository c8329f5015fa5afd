//! `sdc compile --emit rust`: a crate that builds without `std`, and gives the bits of `sdc run`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A program that reads inputs as raw bytes from files and prints the bits of the outputs.
const MAIN: &str = "
use std::io::Read;

fn main() {
    let mut bytes = Vec::new();
    std::fs::File::open(std::env::args().nth(1).unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let input = values.as_slice().try_into().unwrap();
    let (mut arena, mut prepared) = (Box::new(LIB::Arena::new()), Box::new(LIB::Prepared::new()));
    assert!(LIB::Model::new(&[0; 3], &mut prepared).is_err());
    let model = LIB::Model::new(WEIGHTS, &mut prepared).unwrap();
    let mut output = [0f32; OUTPUT_LEN];
    assert_eq!(LIB::output_shapes::OUTPUT.iter().product::<usize>(), OUTPUT_LEN);
    model.run(&mut arena, LIB::Inputs { INPUT: input }, LIB::Outputs { OUTPUT: &mut output });
    for x in output {
        println!(\"{:08x}\", x.to_bits());
    }
}
";

/// The bits that a program around the crate prints.
fn printed(dir: &Dir, artifact: &str, main: &str, library: &str, package: &str, input: &str) -> Vec<String> {
    let manifest = format!(
        "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[dependencies]\n{library} = {{ package = \"{package}\", path = \
         \"{artifact}\" }}\n[workspace]\n"
    );
    dir.write("user/Cargo.toml", manifest);
    dir.write("user/src/main.rs", main);
    let ran = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--manifest-path"])
        .arg(dir.path("user/Cargo.toml"))
        .args(["--", input])
        .env("CARGO_TARGET_DIR", dir.path("target"))
        .env("RUSTFLAGS", "-D warnings")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn check(options: &[&str], weights: &str) {
    let dir = Dir::new();
    let artifact = dir.path("model");
    let fixed = [
        "compile",
        &example("shapes.onnx"),
        "-o",
        &artifact,
        "--emit",
        "rust,sharedlib",
    ];
    ok(fixed.iter().chain(options));
    let npy = fs::read(example("image.npy")).unwrap();
    let raw = dir.write("image.raw", &npy[npy.len() - 4 * 576..]);
    let main = MAIN
        .replace("LIB", "shapes")
        .replace("WEIGHTS", weights)
        .replace("INPUT", "image")
        .replace("OUTPUT_LEN", "10")
        .replace("OUTPUT", "logits");
    let bits = printed(&dir, &artifact, &main, "shapes", "sdc_model_shapes", &raw);
    let out = dir.path("out");
    ok([
        "run",
        &artifact,
        "--input",
        &format!("image={}", example("image.npy")),
        "--output-dir",
        &out,
    ]);
    let npy = fs::read(Path::new(&out).join("output_0.npy")).unwrap();
    let word = |b: &[u8]| format!("{:08x}", u32::from_le_bytes(b.try_into().unwrap()));
    let expected: Vec<String> = npy[npy.len() - 40..].chunks_exact(4).map(word).collect();
    assert_eq!(bits, expected);
}

#[test]
fn a_program_around_the_crate_gives_the_bits_of_run() {
    check(&[], "shapes::WEIGHTS");
}

#[test]
fn weights_in_the_archive_serve_as_well() {
    // An artifact with embedded weights has no file of them for `sdc run` but finds them in the library.
    check(&["--embed-weights"], "shapes::weights()");
}
