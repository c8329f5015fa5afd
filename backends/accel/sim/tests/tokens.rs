//! Programs with a pair of tokens removed: refused with both instructions, or the pair ordered nothing that others do not order.
#![allow(clippy::unwrap_used, reason = "tests")]

use fastrand::Rng;
use sdc_accel_isa::{Code, Engine, Program, text};
use sdc_accel_sim::{Mode, Options, Simulator};
use std::fs;

/// Removes the k-th signal from an engine to another and the k-th wait for it; the two instructions.
fn remove_pair(program: &mut Program, rng: &mut Rng) -> Option<(usize, usize)> {
    let from = Engine::ALL[rng.usize(..4)];
    let to = from.others().nth(rng.usize(..3))?;
    let numbers = 0..program.code.len();
    let signals: Vec<usize> = numbers
        .clone()
        .filter(|&i| program.code[i].engine == from && program.code[i].signal.contains(to))
        .collect();
    let waits: Vec<usize> = numbers
        .filter(|&i| program.code[i].engine == to && program.code[i].wait.contains(from))
        .collect();
    assert_eq!(signals.len(), waits.len());
    let k = (!signals.is_empty()).then(|| rng.usize(..signals.len()))?;
    let (signal, wait) = (signals[k], waits[k]);
    program.code[signal].signal = program.code[signal].signal.without(to);
    program.code[wait].wait = program.code[wait].wait.without(from);
    Some((signal, wait))
}

#[test]
fn a_missing_pair_of_tokens_is_a_race_or_redundant() {
    let mut programs: Vec<_> = fs::read_dir("../../../bench/accel/micro")
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "sdas"))
        .collect();
    programs.sort();
    let (mut refused, mut redundant, mut seed) = (0, 0, 0);
    while refused + redundant < 500 {
        seed += 1;
        let rng = &mut Rng::with_seed(seed);
        let path = &programs[rng.usize(..programs.len())];
        let whole = text::parse(&fs::read_to_string(path).unwrap()).unwrap();
        let mut program = whole.clone();
        if remove_pair(&mut program, rng).is_none() {
            continue;
        }
        if let Err(faults) = program.verify() {
            let told = |code| faults.list().iter().find(|f| f.code == code);
            // Without the order one may also read what was not written before.
            let fault = told(Code::A33)
                .or_else(|| told(Code::A21))
                .or_else(|| told(Code::A22))
                .unwrap();
            assert!(fault.instr.is_some(), "{}: {faults}", path.display());
            if fault.code == Code::A33 {
                assert!(fault.message.contains("race with instruction "), "{fault}");
            }
            refused += 1;
            continue;
        }
        redundant += 1;
        let outputs = |program: &Program, mode| {
            let config = program.config.clone();
            let options = Options {
                mode,
                ..Options::default()
            };
            let simulator = Simulator::new(program.clone(), config).unwrap();
            simulator.run(&[], &options).unwrap().outputs
        };
        let expected = outputs(&whole, Mode::Func);
        for shuffle in 0..20 {
            assert_eq!(
                outputs(&program, Mode::Shuffle(shuffle)),
                expected,
                "{}",
                path.display()
            );
        }
    }
    eprintln!("{refused} refused, {redundant} redundant");
    assert!(refused > 100);
}
