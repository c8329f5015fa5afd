//! Mutated and truncated models, texts and artifacts: always an answer, never a crash.
//!
//! The suite tries a few hundred; `cargo test --release --test hostile -- --ignored` tries 1,000 of each kind of model, those
//! of ../shared included, and as many texts and artifacts. `SDC_HOSTILE_TRIES` says otherwise.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::*;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time one command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Address space one command may take, in KiB.
const MEMORY_KIB: usize = 2 << 20;

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// A damaged copy: bits flipped, bytes replaced, inserted, removed or repeated, the end cut off.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(out.len());
        let length = 1 + random.below(16);
        let end = (at + length).min(out.len());
        match random.below(7) {
            0 => out.truncate(at),
            1 => {
                out.drain(at..end);
            }
            2 => {
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            3 => {
                // A varint as long as they come.
                out.splice(at..end, [0xff; 9].into_iter().chain([random.next() as u8 & 1]));
            }
            4 if at < out.len() => out[at] = random.next() as u8,
            _ if at < out.len() => out[at] ^= 1 << random.below(8),
            _ => {}
        }
        if out.is_empty() {
            break;
        }
    }
    out
}

/// Starts the binary with bounded memory.
fn start(args: &[&str]) -> Child {
    start_with("", args)
}

/// Starts the binary with bounded memory and the other limits that a line of the shell sets.
fn start_with(limits: &str, args: &[&str]) -> Child {
    let limited = format!("ulimit -v {MEMORY_KIB}; {limits}exec \"$0\" \"$@\"");
    Command::new("sh")
        .args(["-c", &limited])
        .arg(env!("CARGO_BIN_EXE_sdc"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits with bounded patience; the exit code (`None` after a signal) and what was said.
fn wait(mut child: Child) -> (Option<i32>, String) {
    let pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(pipe).unwrap_or_default());
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), reader.join().unwrap());
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return (None, format!("took more than {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many mutations of each kind the long tests try.
fn tries() -> usize {
    let tries = std::env::var("SDC_HOSTILE_TRIES");
    tries.map_or(1000, |n| n.parse().unwrap())
}

/// Tries mutations of one model. How many were refused.
fn attack(name: &str, bytes: &[u8], tries: usize, seed: u64) -> usize {
    let dir = Dir::new();
    let mut random = Random(seed);
    let mut refused = 0;
    for number in 0..tries {
        let damaged = mutate(bytes, &mut random);
        let model = dir.write("m.onnx", &damaged);
        let out = dir.path(&format!("out{number}"));
        let args: &[&str] = match number % 8 {
            0 => &["inspect", &model],
            1 => &["dump", &model, "--after", "plan"],
            _ => &["compile", &model, "-o", &out],
        };
        let (code, said) = wait(start(args));
        let answered = matches!(code, Some(0 | 2..=5));
        if !answered {
            let kept = std::env::temp_dir().join(format!("sdc-hostile-{name}-{number}.onnx"));
            std::fs::write(&kept, &damaged).unwrap();
            panic!("{args:?} on {}: {code:?}\n{said}", kept.display());
        }
        if code != Some(0) {
            refused += 1;
            assert!(!said.trim().is_empty(), "{name} {number}: no word of why");
            assert!(
                !std::path::Path::new(&out).exists(),
                "{name} {number}: files left behind"
            );
        }
        let _ = std::fs::remove_dir_all(&out);
    }
    refused
}

#[test]
fn a_few_hundred() {
    let models = [
        ("classifier", onnx::classifier()),
        ("movements", onnx::movements()),
        ("sum", onnx::sum()),
    ];
    for (seed, (name, bytes)) in models.iter().enumerate() {
        let refused = attack(name, bytes, 120, seed as u64 + 1);
        assert!(
            refused > 30,
            "{name}: only {refused} of the mutations did any harm"
        );
    }
}

#[test]
fn truncated_at_every_place() {
    let dir = Dir::new();
    let whole = onnx::sum();
    for length in 0..whole.len() {
        let model = dir.write("m.onnx", &whole[..length]);
        let (code, said) = wait(start(&["compile", &model, "-o", &dir.path("out")]));
        assert!(matches!(code, Some(2..=5)), "{length}: {code:?} {said}");
    }
}

#[test]
#[ignore = "takes minutes; run it on a release build"]
fn thousands() {
    let mut models = vec![
        ("classifier".to_owned(), onnx::classifier()),
        ("movements".to_owned(), onnx::movements()),
        (
            "shapes".to_owned(),
            std::fs::read(example("shapes.onnx")).unwrap(),
        ),
    ];
    let shared = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    for model in [
        "ultraface_rfb320/model",
        "fast_style_transfer/model_starry-night",
        "mlperftiny_ic_resnet8/model",
    ] {
        match std::fs::read(shared.join(model).with_extension("onnx")) {
            Ok(bytes) => models.push((model.replace('/', "-"), bytes)),
            Err(_) => skip(&format!("{model} is not here")),
        }
    }
    for (seed, (name, bytes)) in models.iter().enumerate() {
        let refused = attack(name, bytes, tries(), seed as u64 + 100);
        eprintln!("{name}: {refused} of {} refused", tries());
    }
}

/// A copy with some digits changed: still a text, of something else.
fn other_digits(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.below(3) {
        out[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
    }
    out
}

/// The stages of a model's compilation as text, each damaged, with its weights beside it.
fn attack_texts(tries: usize, seed: u64) {
    let mut random = Random(seed);
    let (mut fine, mut refused) = (0, 0);
    for (name, bytes) in [
        ("classifier", onnx::classifier()),
        ("movements", onnx::movements()),
    ] {
        let dir = Dir::new();
        let model = dir.write("m.onnx", &bytes);
        let stages = dir.path("stages");
        ok(["dump", &model, "--all", &stages]);
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(&stages).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "sdir") {
                texts.push(std::fs::read(path).unwrap());
            }
        }
        assert!(texts.len() > 4);
        for number in 0..tries / 2 {
            let whole = &texts[number % texts.len()];
            let damaged = match number / texts.len() % 2 {
                0 => mutate(whole, &mut random),
                _ => other_digits(whole, &mut random),
            };
            let text = dir.write("stages/damaged.sdir", &damaged);
            let out = dir.path("out");
            let args: &[&str] = match number % 4 {
                0 => &["opt", &text, "--passes", "simplify"],
                _ => &["compile", &text, "-o", &out],
            };
            let (code, said) = wait(start(args));
            if !matches!(code, Some(0 | 2..=5)) {
                let kept = std::env::temp_dir().join(format!("sdc-hostile-{name}-{number}.sdir"));
                std::fs::write(&kept, &damaged).unwrap();
                panic!("{args:?} on {}: {code:?}\n{said}", kept.display());
            }
            *(if code == Some(0) { &mut fine } else { &mut refused }) += 1;
            let _ = std::fs::remove_dir_all(&out);
        }
    }
    eprintln!("texts: {fine} fine, {refused} refused");
    assert!(refused > tries / 10 && fine > tries / 500, "{fine} {refused}");
}

/// Artifacts with one of their files damaged: loaded only if it is what was shipped.
fn attack_artifacts(tries: usize, seed: u64) {
    let mut random = Random(seed);
    let dir = Dir::new();
    let model = dir.write("m.onnx", onnx::movements());
    let out = dir.path("out");
    ok(["compile", &model, "-o", &out]);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if ["json", "so", "weights"].contains(&extension.as_str()) {
            files.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    assert!(files.len() >= 2, "{files:?}");
    let x = dir.write("x.npy", npy_f32(&[1, 4, 6, 6], &[0.5; 144]));
    let given = format!("x={x}");
    let args = ["run", &out, "--input", &given];
    assert_eq!(wait(start(&args)).0, Some(0));
    let mut refused = 0;
    for number in 0..tries {
        let (path, whole) = &files[number % files.len()];
        let damaged = mutate(whole, &mut random);
        // The old file stays mapped by nobody: it is replaced, not overwritten.
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, &damaged).unwrap();
        let (code, said) = wait(start(&args));
        let harmless = path.extension().is_some_and(|e| e == "json") || damaged == *whole;
        let answered = matches!(code, Some(2..=5)) || (code == Some(0) && harmless);
        assert!(answered, "{} {number}: {code:?}\n{said}", path.display());
        refused += usize::from(code != Some(0));
        std::fs::write(path, whole).unwrap();
    }
    eprintln!("artifacts: {refused} of {tries} refused");
    assert!(refused > tries / 2, "{refused}");
}

/// Programs for the accelerator, with steps of the host: texts, containers, and containers whose checksums are right again since they are
/// made of damaged texts.
fn attack_programs(tries: usize, seed: u64) {
    let mut random = Random(seed);
    let dir = Dir::new();
    let (out, text) = (dir.path("out"), dir.path("out/shapes.sdas"));
    let model = example("shapes.onnx");
    let accel = ["--backend", "accel", "--activations", "int8", "--emit", "asm"];
    ok(["compile", &model, "-o", &out].iter().chain(&accel));
    let whole = std::fs::read(&text).unwrap();
    let container = std::fs::read(dir.path("out/shapes.sdap")).unwrap();
    // Half of the damage is behind the data, where code and graphs are: most of a text is data.
    let is_data = |line: &[u8]| line.starts_with(b".data");
    let lines: Vec<&[u8]> = whole.split_inclusive(|&b| b == b'\n').collect();
    let behind = lines.iter().rposition(|line| is_data(line)).unwrap() + 1;
    let (front, code) = (lines[..behind].concat(), lines[behind..].concat());
    let given = format!("image={}", example("image.npy"));
    let (mut fine, mut refused) = (0, 0);
    for number in 0..tries {
        let (name, damaged) = match number % 4 {
            0 => ("p.sdap", mutate(&container, &mut random)),
            1 => ("p.sdas", mutate(&whole, &mut random)),
            2 => ("p.sdas", [front.clone(), mutate(&code, &mut random)].concat()),
            _ => (
                "p.sdas",
                [front.clone(), other_digits(&code, &mut random)].concat(),
            ),
        };
        let mut file = dir.write(name, &damaged);
        let again = dir.path("again.sdap");
        if number % 8 > 4 && wait(start(&["asm", &file, "-o", &again])).0 == Some(0) {
            file = again;
        }
        // Two seconds of the processor, which other processes do not shorten.
        let (code, said) = wait(start_with("ulimit -t 2; ", &["sim", &file, "--input", &given]));
        if !matches!(code, Some(0 | 2..=5)) {
            let kept = std::env::temp_dir().join(format!("sdc-hostile-{number}-{name}"));
            std::fs::write(&kept, &damaged).unwrap();
            panic!("{}: {code:?}\n{said}", kept.display());
        }
        *(if code == Some(0) { &mut fine } else { &mut refused }) += 1;
    }
    eprintln!("programs: {fine} fine, {refused} refused");
    assert!(refused > tries / 4 && fine > tries / 200, "{fine} {refused}");
}

#[test]
fn a_few_texts_and_artifacts() {
    attack_programs(200, 13);
    attack_texts(80, 11);
    attack_artifacts(60, 12);
}

#[test]
#[ignore = "takes minutes; run it on a release build"]
fn thousands_of_texts() {
    attack_texts(tries(), 21);
}

#[test]
#[ignore = "takes minutes; run it on a release build"]
fn thousands_of_artifacts() {
    attack_artifacts(tries(), 22);
}

#[test]
#[ignore = "takes minutes; run it on a release build"]
fn thousands_of_programs() {
    attack_programs(tries(), 23);
}
