//! What a C or C++ compiler says of the header, the archive and the shared library. Skipped, with a word, where there is none.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use sdc_artifact::emit::{Package, emit};
use sdc_artifact::header;
use sdc_artifact::interface::TensorSpec;
use sdc_artifact::manifest::{Kind, Origin};
use sdc_ir::DType;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use support::*;

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

fn available(compiler: &str) -> bool {
    let found = Command::new(compiler)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: no {compiler} on this host");
    }
    found
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{command:?}\n{text}");
    output
}

fn compile(dir: &Path, name: &str, embedded: bool) {
    let interface = interface(name, embedded);
    let object = finished(&interface, embedded);
    let weights = weights();
    let tensors: &[&[u8]] = if embedded { &[] } else { &[&weights] };
    let package = Package {
        interface: &interface,
        object: &object,
        weights: tensors,
        origin: Origin::default(),
        transient: None,
    };
    let mut kinds = BTreeSet::from(Kind::ALL);
    if embedded {
        kinds.remove(&Kind::Weights);
    }
    emit(dir, &package, &kinds).unwrap();
}

const MAIN: &str = r#"
#include "first.h"
#include "second.h"
#include <stdio.h>
#include <stdlib.h>

static void serial(const struct sdc_parallel_for *self, size_t count, void (*task)(void *frame, size_t index), void *frame)
{
    size_t i;
    (void)self;
    for (i = count; i > 0; i--)
        task(frame, i - 1);
}

int main(int argc, char **argv)
{
    static const struct sdc_parallel_for backwards = { serial };
    const size_t shape[first_INPUT_RANK_image_0] = first_INPUT_SHAPE_image_0;
    first_INPUT_TYPE_image_0 image[first_INPUT_ELEMENTS_image_0];
    first_OUTPUT_TYPE_t_7 a[first_OUTPUT_ELEMENTS_t_7], b[second_OUTPUT_ELEMENTS_t_7];
    const void *inputs[first_INPUT_COUNT];
    void *outputs[first_OUTPUT_COUNT];
    float arena[first_ARENA_SIZE / sizeof(float)];
    static unsigned char weights[first_WEIGHTS_SIZE];
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    size_t i;

    if (file == NULL || fread(weights, 1, sizeof weights, file) != first_weights_size())
        return 10;
    fclose(file);
    if (shape[0] != 1 || shape[1] != 4 || shape[2] != 10)
        return 11;
    if (first_arena_size() != first_ARENA_SIZE || first_prepared_size() != first_PREPARED_SIZE)
        return 12;
    if (first_prepare(weights, NULL) != 0 || second_prepare(second_weights, NULL) != 0)
        return 13;
    for (i = 0; i < first_INPUT_ELEMENTS_image_0; i++)
        image[i] = 7.0f - (float)i * 0.5f;
    inputs[first_INPUT_INDEX_image_0] = image;
    outputs[first_OUTPUT_INDEX_t_7] = a;
    if (first_run(inputs, outputs, arena, weights, NULL, NULL) != 0)
        return 14;
    outputs[second_OUTPUT_INDEX_t_7] = b;
    if (second_run(inputs, outputs, arena, second_weights, NULL, &backwards) != 0)
        return 15;
    for (i = 0; i < first_OUTPUT_ELEMENTS_t_7; i++) {
        if (a[i] != b[i])
            return 16;
        printf("%a\n", a[i]);
    }
    weights[20]++;
    return first_prepare(weights, NULL) == 1 ? 0 : 17;
}
"#;

#[test]
fn two_models_in_one_program() {
    if !available("cc") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    compile(dir.path(), "first", false);
    let second = dir.path().join("second");
    compile(&second, "second", true);
    let main = dir.path().join("main.c");
    std::fs::write(&main, MAIN).unwrap();
    let archives = [dir.path().join("libfirst.a"), second.join("libsecond.a")];
    let libraries = [dir.path().join("libfirst.so"), second.join("libsecond.so")];
    let objects = [dir.path().join("first.o"), second.join("second.o")];
    for (index, inputs) in [archives, libraries, objects].iter().enumerate() {
        let program = dir.path().join(format!("program{index}"));
        succeed(
            Command::new("cc")
                .args(STRICT)
                .args(["-std=c99", "-Wl,--fatal-warnings", "-I"])
                .arg(dir.path())
                .arg("-I")
                .arg(&second)
                .arg(&main)
                .args(inputs)
                .arg("-o")
                .arg(&program),
        );
        let paths = std::env::join_paths([dir.path(), &second]).unwrap();
        let weights = dir.path().join("first.weights");
        let output = succeed(Command::new(&program).arg(weights).env("LD_LIBRARY_PATH", paths));
        let lines: Vec<_> = output
            .stdout
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(lines.len(), ELEMENTS);
        for (line, expected) in lines.iter().zip(expected()) {
            assert_eq!(
                hex_float(std::str::from_utf8(line).unwrap()),
                f64::from(expected),
                "{index}"
            );
        }
    }
}

/// Reads C's `%a` (finite).
fn hex_float(text: &str) -> f64 {
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |t| (-1.0, t));
    let (digits, exponent) = text.strip_prefix("0x").unwrap().split_once('p').unwrap();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mantissa = u64::from_str_radix(&format!("{whole}{fraction}"), 16).unwrap() as f64;
    let scale = exponent.parse::<i32>().unwrap() - 4 * fraction.len() as i32;
    sign * mantissa * 2f64.powi(scale)
}

#[test]
fn headers_compile_without_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for (index, weird) in [
        "plain",
        "??/",
        "/*",
        "*/",
        "é\u{202e}\n#error",
        "\\",
        "switch",
        "",
    ]
    .iter()
    .enumerate()
    {
        let mut interface = interface(&format!("m{index}"), index % 2 == 0);
        interface.cpu = format!("x86-64 {weird}");
        interface.inputs = TensorSpec::list(
            DType::ALL
                .into_iter()
                .enumerate()
                .map(|(rank, dtype)| (weird.repeat(rank + 1), dtype, (0..rank).collect())),
        );
        interface.outputs = TensorSpec::list([(weird.to_string(), DType::I64, vec![5_000_000_000])]);
        interface.validate().unwrap();
        let name = format!("m{index}.h");
        std::fs::write(dir.path().join(&name), header::text(&interface)).unwrap();
        names.push(format!("#include \"{name}\"\n"));
    }
    // Twice each, for the guards.
    let source = format!(
        "{0}{0}\nint main(void) {{ const size_t s[] = m0_INPUT_SHAPE_plain; return (int)s[0] - 1; }}\n",
        names.concat()
    );
    for (compiler, suffix, standards) in [
        ("cc", "c", ["-std=c99", "-std=c17"]),
        ("c++", "cpp", ["-std=c++11", "-std=c++20"]),
    ] {
        if !available(compiler) {
            continue;
        }
        let file = dir.path().join(format!("all.{suffix}"));
        std::fs::write(&file, &source).unwrap();
        for standard in standards {
            succeed(
                Command::new(compiler)
                    .args(STRICT)
                    .args([standard, "-fsyntax-only"])
                    .arg(&file),
            );
        }
    }
}
