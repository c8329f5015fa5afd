//! Damaged containers and texts: refused with faults or run to their end, without panics. `SDC_HOSTILE_TRIES` sets how many.
#![allow(clippy::unwrap_used, reason = "tests")]

use fastrand::Rng;
use sdc_accel_isa::{Program, text};
use sdc_accel_sim::{Mode, Options, Simulator};

/// Tries in the suite.
const TRIES: u64 = 600;
const SECTIONS: usize = 6;
/// Bytes in front of the first section; of a section's head, and where its length and checksum are in it.
const HEADER: usize = 40;
const HEAD: usize = 16;

fn texts() -> Vec<String> {
    let entries = std::fs::read_dir("../../../bench/accel/micro").unwrap();
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "sdas"));
    paths.sort();
    paths
        .iter()
        .map(|p| std::fs::read_to_string(p).unwrap())
        .collect()
}

fn tries() -> u64 {
    let wanted = std::env::var("SDC_HOSTILE_TRIES").ok();
    wanted.map_or(TRIES, |n| n.parse().unwrap())
}

/// Makes the checksums right again, so that the damage goes deeper.
fn seal(file: &mut [u8]) {
    let mut at = HEADER;
    for _ in 0..SECTIONS {
        let Some(head) = file.get(at..at + HEAD) else {
            return;
        };
        let length = u64::from_le_bytes(head[4..12].try_into().unwrap()) as usize;
        let Some(body) = file.get(at + HEAD..(at + HEAD).saturating_add(length)) else {
            return;
        };
        let crc = crc32fast::hash(body).to_le_bytes();
        file[at + 12..at + HEAD].copy_from_slice(&crc);
        at += HEAD + length;
    }
}

/// What a program comes to; both a run and a refusal are fine.
fn use_it(program: Program) {
    let config = program.config.clone();
    let inputs = program.inputs.len();
    let Ok(simulator) = Simulator::new(program, config) else {
        return;
    };
    if inputs == 0 {
        for mode in [Mode::Func, Mode::Cycle] {
            let options = Options {
                mode,
                ..Options::default()
            };
            let _ = simulator.run(&[], &options);
        }
    }
}

#[test]
fn damaged_containers_do_no_harm() {
    let whole: Vec<Vec<u8>> = texts()
        .iter()
        .map(|t| text::parse(t).unwrap().to_container().unwrap())
        .collect();
    for seed in 0..tries() {
        let rng = &mut Rng::with_seed(seed);
        let mut file = whole[rng.usize(..whole.len())].clone();
        // Mostly near the front, where code and sizes are.
        let reach = if rng.bool() {
            file.len()
        } else {
            file.len().min(1200)
        };
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..reach);
            match rng.u8(..4) {
                0 => file[at] = rng.u8(..),
                1 => file[at] ^= 1 << rng.u8(..8),
                2 => file[at] = [0, 1, 127, 128, 255][rng.usize(..5)],
                _ => {
                    let end = (at + rng.usize(1..20)).min(reach);
                    file.copy_within(at..end, rng.usize(..=reach - (end - at)));
                }
            }
        }
        if rng.u8(..8) == 0 {
            file.truncate(rng.usize(..file.len()));
        }
        if rng.u8(..8) > 0 {
            seal(&mut file);
        }
        if let Ok(program) = Program::from_container(&file) {
            use_it(program);
        }
    }
}

#[test]
fn damaged_texts_do_no_harm() {
    let whole = texts();
    for seed in 0..tries() {
        let rng = &mut Rng::with_seed(seed);
        let mut lines: Vec<String> = whole[rng.usize(..whole.len())]
            .lines()
            .map(str::to_owned)
            .collect();
        // Data are most of a text; the rest is what is worth damaging.
        let code: Vec<usize> = (0..lines.len())
            .filter(|&i| !lines[i].starts_with(".data"))
            .collect();
        for _ in 0..rng.usize(1..4) {
            let at = code[rng.usize(..code.len())].min(lines.len() - 1);
            let other = code[rng.usize(..code.len())].min(lines.len() - 1);
            match rng.u8(..6) {
                0 => lines.swap(at, other),
                1 => drop(lines.remove(at)),
                2 => lines[at] = lines[other].clone(),
                3 => {
                    // Another number in place of one.
                    let words: Vec<&str> = lines[at].split(' ').collect();
                    let word = rng.usize(..words.len());
                    let number = ["0", "1", "2", "63", "64", "255", "2047", "65536", "-1"][rng.usize(..9)];
                    let changed = words.iter().enumerate().map(|(i, w)| match w.split_once('=') {
                        Some((name, _)) if i == word => format!("{name}={number}"),
                        _ => (*w).to_owned(),
                    });
                    lines[at] = changed.collect::<Vec<_>>().join(" ");
                }
                4 => lines[at] = lines[at].replacen(['<', '>'], ["<", ">", "//"][rng.usize(..3)], 1),
                _ => {
                    let cut = rng.usize(..=lines[at].len());
                    lines[at].truncate(cut);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        if let Ok(program) = text::parse(&lines.join("\n")) {
            use_it(program);
        }
    }
}
