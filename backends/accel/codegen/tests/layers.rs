//! Random layers, compiled and run on the simulator, are equal to the interpreter, whatever the machine and its switches.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use sdc_accel::{AccelError, compile};
use sdc_accel_isa::{Config, Program};
use sdc_accel_sim::{Mode, Options, Simulator};
use sdc_ir::Tensor;
use sdc_ir::graph::Graph;

fn config(set: &[&str]) -> Config {
    let mut config = Config::default();
    set.iter().for_each(|s| config.set(s).unwrap());
    config
}

fn run(program: Program, config: &Config, inputs: &[Tensor], mode: Mode) -> Vec<Tensor> {
    let simulator = Simulator::new(program, config.clone()).unwrap();
    let options = Options {
        mode,
        ..Options::default()
    };
    simulator.run(inputs, &options).unwrap().outputs
}

/// Compiles for a machine and compares, in several ways to run it.
fn equal(graph: &Graph, seed: u64, set: &[&str], modes: &[Mode]) {
    let inputs = support::inputs(graph, seed);
    let want = sdc_interp::run_graph(graph, &inputs).unwrap();
    let config = config(set);
    let compiled = match compile(graph, &config) {
        Ok(compiled) => compiled,
        // A window over all channels may exceed a small buffer, and then that is said.
        Err(errors) if config.ib_bank < 4096 && errors.iter().all(AccelError::is_limit) => return,
        Err(errors) => panic!("seed {seed}, {set:?}: {}\n{graph}", errors[0]),
    };
    for &mode in modes {
        let got = run(compiled.program.clone(), &config, &inputs, mode);
        assert!(got == want, "seed {seed}, {set:?}, {mode:?}\n{graph}");
    }
}

/// More than one would wait for are tried with `SDC_ACCEL_LAYERS=1000`.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("SDC_ACCEL_LAYERS")
        .ok()
        .and_then(|n| n.parse().ok());
    0..count.unwrap_or(60)
}

#[test]
fn layers_are_equal_to_the_interpreter() {
    for seed in seeds() {
        equal(
            &support::layer(seed),
            seed,
            &[],
            &[Mode::Func, Mode::Shuffle(seed)],
        );
    }
}

/// Other machines: fewer slices, lines and lanes, smaller buffers.
const MACHINES: &[&[&str]] = &[
    &["slices=32", "lines=8"],
    &["slices=16", "lanes=4"],
    &[
        "ib.bank=8192",
        "wb.bank=1024",
        "xb.bank=8192",
        "pb.bank=256",
        "ob.slot=1024",
        "acc.pixels=16",
        "line_file=32",
    ],
    &[
        "lines=4",
        "lanes=16",
        "ob.slot=4096",
        "tables=1",
        "dram.granule=64",
    ],
];

#[test]
fn layers_are_equal_on_other_machines() {
    for seed in seeds() {
        let set = MACHINES[seed as usize % MACHINES.len()];
        equal(
            &support::layer(1000 + seed),
            seed,
            set,
            &[Mode::Func, Mode::Shuffle(seed)],
        );
    }
}

/// Switches of a run: time is another, results are not.
const SWITCHES: &[&[&str]] = &[
    &["bser=0"],
    &["wskip=0", "askip=0"],
    &["sync=lane"],
    &["sync=array", "rebuild=pixel"],
    &["dram.bandwidth=0", "dram.latency=0"],
];

#[test]
fn switches_change_no_bit() {
    for seed in seeds() {
        let set = SWITCHES[seed as usize % SWITCHES.len()];
        equal(&support::layer(2000 + seed), seed, set, &[Mode::Cycle]);
    }
}

#[test]
fn networks_are_equal_to_the_interpreter() {
    const SMALL: &[&[&str]] = &[
        &[],
        &["ib.bank=2048", "wb.bank=1024"],
        &["ib.bank=700"],
        &["slices=16", "lines=4", "lanes=4"],
    ];
    for seed in seeds() {
        let set = SMALL[seed as usize % SMALL.len()];
        equal(
            &support::network(seed),
            seed,
            set,
            &[Mode::Func, Mode::Shuffle(seed)],
        );
    }
}
