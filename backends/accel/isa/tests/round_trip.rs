//! Texts and containers give programs back, and programs texts and containers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod random;

use sdc_accel_isa::{Code, Program, text};

fn identities(program: &Program) {
    let bytes = program.to_container().unwrap();
    let printed = program.to_string();
    let read = Program::from_container(&bytes).unwrap_or_else(|f| panic!("{f}\n{printed}"));
    assert_eq!(&read, program);
    let parsed = text::parse(&printed).unwrap_or_else(|f| panic!("{f}\n{printed}"));
    assert_eq!(&parsed, program, "{printed}");
    assert_eq!(parsed.to_container().unwrap(), bytes);
    assert_eq!(read.to_string(), printed);
}

#[test]
fn random_programs_come_back() {
    for seed in 0..10_000 {
        identities(&random::program(seed));
    }
}

#[test]
fn the_examples_come_back() {
    let folder = "../../../../shared/accel";
    let mut seen = 0;
    for sub in ["micro", "nets"] {
        let Ok(entries) = std::fs::read_dir(format!("{folder}/{sub}")) else {
            eprintln!("skipped: no {folder}/{sub}");
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "sdas") {
                let printed = std::fs::read_to_string(&path).unwrap();
                let program = text::parse(&printed).unwrap_or_else(|f| panic!("{}: {f}", path.display()));
                identities(&program);
                seen += 1;
            }
        }
    }
    assert!(seen > 80);
}

#[test]
fn all_faults_of_a_text_are_listed_with_their_places() {
    let text = ".isa 1.0\n.arch x slices=3\nnop.pe\nconv view=0\nmark.pe kind=0 id=7 <pe\n.data 0 0g\ncfg.ld view0 half=2\nfly.ld\n.input \"x\n";
    let faults = text::parse(text).unwrap_err();
    let listed: Vec<_> = faults
        .list()
        .iter()
        .map(|f| (f.code, f.place.unwrap(), f.message.as_str()))
        .collect();
    let expected = [
        (
            Code::A05,
            (2, 9),
            "`slices` cannot be 3; it may be a power of two from 4 to 64",
        ),
        (Code::A05, (4, 12), "expected `geom=`"),
        (
            Code::A13,
            (5, 1),
            "engine pe cannot wait for itself, nor signal itself",
        ),
        (Code::A05, (6, 9), "expected an even number of hexadecimal digits"),
        (Code::A05, (7, 14), "half is `2`, expected 0 to 1"),
        (Code::A05, (8, 1), "there is no instruction `fly`"),
        (Code::A05, (9, 8), "expected a closing `\"` on the same line"),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn every_changed_byte_of_a_container_is_noticed() {
    let program = random::program(7);
    let bytes = program.to_container().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Program::from_container(&damaged).is_err(), "byte {at}");
    }
    for end in 0..bytes.len() {
        assert!(Program::from_container(&bytes[..end]).is_err(), "end {end}");
    }
}
