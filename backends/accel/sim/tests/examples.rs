//! The programs of `../shared/accel`, made and executed by an independent machine: what must come out is in the files beside them.
#![allow(clippy::print_stderr, reason = "tests say what they skip")]
#![allow(clippy::unwrap_used, reason = "tests")]

use sdc_accel_isa::{Program, encode, text};
use sdc_accel_sim::{Mode, Options, Outcome, Simulator};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

fn examples() -> Vec<(PathBuf, Program, Value)> {
    let mut found = Vec::new();
    for folder in [
        "bench/accel/micro",
        "../shared/accel/micro",
        "../shared/accel/nets",
    ] {
        let folder = Path::new("../../..").join(folder);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: no {}", folder.display());
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "sdas"))
        {
            let mut program = text::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
            if folder.ends_with("nets") {
                one_after_another(&mut program);
            }
            let json = std::fs::read(path.with_extension("json")).unwrap();
            found.push((path, program, serde_json::from_slice(&json).unwrap()));
        }
    }
    assert!(found.len() >= 18);
    found
}

/// The networks' texts lack the tokens of `cfg`. They run strictly in order: each change of the engine is a token. The digests of the words
/// tell whether this is what was meant.
fn one_after_another(program: &mut Program) {
    for i in 1..program.code.len() {
        let (before, now) = (program.code[i - 1].engine, program.code[i].engine);
        if before != now {
            program.code[i - 1] = program.code[i - 1].signal(now);
            program.code[i] = program.code[i].wait(before);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Texts that lack data beside the output region; `bench/accel/micro` holds them whole.
const INCOMPLETE: [&str; 2] = ["A16", "A17"];

fn simulate(program: &Program, mode: Mode) -> Outcome {
    let config = program.config.clone();
    let simulator = Simulator::new(program.clone(), config).unwrap();
    let options = Options {
        mode,
        ..Options::default()
    };
    simulator.run(&[], &options).unwrap()
}

fn incomplete(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let known =
        INCOMPLETE.iter().any(|c| name.starts_with(c)) && path.starts_with("../../../../shared/accel");
    if known {
        eprintln!("skipped: the data of {name} are not whole");
    }
    known
}

#[test]
fn words_and_outputs_are_those_of_the_independent_machine() {
    for (path, program, expected) in examples() {
        let words: Vec<u8> = program
            .code
            .iter()
            .flat_map(|i| encode(i).unwrap().to_le_bytes())
            .collect();
        assert_eq!(hex(&words), expected["words_sha256"], "{}", path.display());
        if incomplete(&path) {
            continue;
        }
        for mode in [Mode::Func, Mode::Cycle, Mode::Shuffle(1), Mode::Shuffle(2)] {
            let run = simulate(&program, mode);
            let out: Vec<u8> = run.outputs.iter().flat_map(|t| t.bytes().to_vec()).collect();
            assert_eq!(
                hex(&out),
                expected["output_sha256"],
                "{} {mode:?}",
                path.display()
            );
        }
    }
}

#[test]
fn cycles_and_bytes_are_those_of_the_closed_forms() {
    let mut faults = Vec::new();
    for (path, program, expected) in examples() {
        if incomplete(&path) {
            continue;
        }
        let run = simulate(&program, Mode::Cycle);
        let total = &run.report.total;
        let found = [
            ("dram_read", total.bytes.dram_read),
            ("dram_written", total.bytes.dram_written),
            ("program_bytes", total.bytes.program),
            ("pe_busy", total.busy.pe_busy),
            ("total_cycles", total.cycles),
            ("macs", total.macs),
        ];
        for (name, found) in found {
            let wanted = &expected[name];
            if !wanted.is_null() && wanted.as_u64() != Some(found) {
                faults.push(format!("{}: {name} {found}, expected {wanted}", path.display()));
            }
        }
        conserved(&run);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The laws of section 7 of the specification.
fn conserved(run: &Outcome) {
    let (report, total) = (&run.report, &run.report.total);
    for states in report.engines.values() {
        assert_eq!(states.values().sum::<u64>(), run.cycles);
    }
    for layer in &report.layers {
        assert_eq!(layer.cycles.classes.values().sum::<u64>(), layer.cycles.total);
        let c = &layer.counts;
        assert_eq!(c.macs, c.executed + c.skipped_weight + c.skipped_activation);
        let busy = &layer.cycles.busy;
        assert_eq!(
            busy.pe_busy,
            busy.pe_rebuild + busy.pe_steps + busy.pe_fetch + busy.pe_drain
        );
    }
    assert_eq!(
        report.layers.iter().map(|l| l.cycles.total).sum::<u64>(),
        run.cycles
    );
    assert_eq!(report.layers.iter().map(|l| l.macs).sum::<u64>(), total.macs);
    let b = &total.bytes;
    assert_eq!(
        b.dram_read,
        b.stream + b.basis + b.index + b.params + b.table + b.input + b.map
    );
}
