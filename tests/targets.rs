//! `sdc compile --target`: programs for other CPUs, run under an emulator, against the ones for this CPU. Integers are the same bits, real
//! numbers close.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::*;
use std::fs;
use std::process::Command;

/// A program that reads weights and input from files and prints the bits of the output.
const MAIN: &str = r#"
#include "shapes.h"
#include <stdio.h>
#include <stdlib.h>

static unsigned char *file(const char *path, size_t size) {
    unsigned char *bytes = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    FILE *f = fopen(path, "rb");
    if (!bytes || !f || fread(bytes, 1, size, f) != size) exit(3);
    fclose(f);
    return bytes;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    unsigned char *weights = file(argv[1], shapes_WEIGHTS_SIZE), *x = file(argv[2], shapes_INPUT_BYTES_image);
    void *arena = aligned_alloc(64, (shapes_ARENA_SIZE + 63) / 64 * 64 + 64);
    void *prepared = aligned_alloc(64, (shapes_PREPARED_SIZE + 63) / 64 * 64 + 64);
    float y[shapes_OUTPUT_ELEMENTS_logits];
    unsigned char saved = weights[20];
    weights[20] ^= 1;
    if (shapes_prepare(weights, prepared) != 1) return 4;
    weights[20] = saved;
    if (shapes_prepare(weights, prepared) != 0) return 5;
    const void *inputs[] = { x };
    void *outputs[] = { y };
    shapes_run(inputs, outputs, arena, weights, prepared, NULL);
    for (size_t i = 0; i < shapes_OUTPUT_ELEMENTS_logits; i++) {
        union { float f; uint32_t bits; } u = { y[i] };
        printf("%08x\n", (unsigned)u.bits);
    }
    return 0;
}
"#;

struct Platform {
    triple: &'static str,
    cc: &'static str,
    emulator: &'static [&'static str],
}

const PLATFORMS: [Platform; 2] = [
    Platform {
        triple: "aarch64-unknown-linux-gnu",
        cc: "aarch64-linux-gnu-gcc",
        emulator: &["qemu-aarch64"],
    },
    Platform {
        triple: "riscv64gc-unknown-linux-gnu",
        cc: "riscv64-linux-gnu-gcc",
        emulator: &["qemu-riscv64", "-cpu", "rv64,v=true,vlen=128,vext_spec=v1.0"],
    },
];

/// The output of the model for the example's picture, as bits, on another platform.
fn elsewhere(dir: &Dir, platform: &Platform, options: &[&str]) -> Vec<u32> {
    let (out, program) = (dir.path("elsewhere"), dir.path("program"));
    let fixed = [
        "compile",
        &example("shapes.onnx"),
        "-o",
        &out,
        "--target",
        platform.triple,
    ];
    ok(fixed.iter().chain(options));
    let main = dir.write("main.c", MAIN);
    let built = Command::new(platform.cc)
        .args([
            "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-I", &out, "-o", &program, &main,
        ])
        .arg(format!("{out}/libshapes.a"))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let npy = fs::read(example("image.npy")).unwrap();
    let raw = dir.write("image.raw", &npy[npy.len() - 4 * 576..]);
    let ran = Command::new(platform.emulator[0])
        .args(&platform.emulator[1..])
        .args([&program, &format!("{out}/shapes.weights"), &raw])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}: {ran:?}", platform.triple);
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines()
        .map(|l| u32::from_str_radix(l, 16).unwrap())
        .collect()
}

/// The same here.
fn here(dir: &Dir, options: &[&str]) -> Vec<u32> {
    let (artifact, out) = (dir.path("here"), dir.path("out"));
    let fixed = ["compile", &example("shapes.onnx"), "-o", &artifact];
    ok(fixed.iter().chain(options));
    ok([
        "run",
        &artifact,
        "--input",
        &format!("image={}", example("image.npy")),
        "--output-dir",
        &out,
    ]);
    let npy = fs::read(format!("{out}/output_0.npy")).unwrap();
    let words = npy[npy.len() - 40..].chunks_exact(4);
    words.map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn other_cpus_compute_the_same() {
    let integers = [
        "--activations",
        "int8",
        "--calib",
        &example("test_x.npy"),
        "--scale",
        "0.00392156862745098",
        "--calib-samples",
        "16",
    ];
    for platform in &PLATFORMS {
        if !has(platform.cc) || !has(platform.emulator[0]) {
            skip(&format!("no {} or {}", platform.cc, platform.emulator[0]));
            continue;
        }
        let dir = Dir::new();
        assert_eq!(
            elsewhere(&dir, platform, &integers),
            here(&dir, &integers),
            "{}",
            platform.triple
        );
        let real = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
        let (there, here) = (real(elsewhere(&dir, platform, &[])), real(here(&dir, &[])));
        let largest = here.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (a, b) in there.iter().zip(&here) {
            assert!(
                (a - b).abs() <= 1e-5 * largest,
                "{}: {there:?} {here:?}",
                platform.triple
            );
        }
    }
}
