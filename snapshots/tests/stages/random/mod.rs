//! Random networks through every stage: the interpreter on the imported graph is the oracle for each pass, tile functions, the planned
//! arena, and native code for several CPUs, with kernels and without; a share of them also with eight-bit activations and with
//! compressed weights, resident and streamed.
//!
//! `SDC_RANDOM_SEED` (default 1) and `SDC_RANDOM_COUNT` (default 160) choose the networks, `SDC_RANDOM_ONLY` one of them. A failure is
//! made smaller and left as a case (ONNX, inputs, expected outputs) in `SDC_RANDOM_DIR`, by default a folder of the system's for
//! temporary files. With `SDC_RANDOM_KEEP=DIR` all networks are left there, for `bench/random.py` to hold against ONNX Runtime.
#![allow(clippy::print_stdout, reason = "tests say which networks they tried")]

mod generate;
mod keep;
mod minimise;
mod net;
mod ranks;

pub use ranks::walk;

use crate::{native, stages};
use fastrand::Rng;
use net::Net;
use prost::Message;
use sdc_frontend::{Class, ImportOptions};
use sdc_ir::graph::{Graph, Op};
use sdc_passes::decompose::synthetic::Synthetic;
use sdc_passes::integer;
use sdc_passes::pipeline::{self, PipelineError, PipelineOptions};
use sdc_passes::schedule::ScheduleOptions;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

#[path = "../../../../tests/common/stored.rs"]
#[allow(
    clippy::unwrap_used,
    dead_code,
    reason = "helpers of tests, of which a part is needed here"
)]
mod stored;

/// Parts that the networks are tested in, which the harness runs side by side.
pub const PARTS: u64 = 4;

/// How the text of a fault begins that the importer found in a model.
const IMPORTER: &str = "the importer: ";

/// What became of a network.
enum Verdict {
    Right,
    /// Not supported, with the reason.
    Refused(String),
    Wrong(String),
}

fn number(name: &str, default: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}

/// Tests every [`PARTS`]th network from `part` on.
pub fn run(part: u64) -> Result<(), String> {
    let (seed, count) = (number("SDC_RANDOM_SEED", 1)?, number("SDC_RANDOM_COUNT", 160)?);
    let only = number("SDC_RANDOM_ONLY", u64::MAX)?;
    let keep = std::env::var_os("SDC_RANDOM_KEEP").map(PathBuf::from);
    println!("random networks: SDC_RANDOM_SEED={seed} SDC_RANDOM_COUNT={count}");
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut right = 0u64;
    for i in (part..count)
        .step_by(PARTS as usize)
        .filter(|i| only == u64::MAX || *i == only)
    {
        let network = generate::network(&mut Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(i)));
        if network.outputs.is_empty() {
            continue;
        }
        match verdict(&network, i) {
            Verdict::Right => {
                right += 1;
                if let Some(dir) = &keep {
                    keep::write(&network, &dir.join(format!("{seed}-{i}")))?;
                }
            }
            Verdict::Refused(reason) => *refused.entry(reason).or_default() += 1,
            Verdict::Wrong(text) => wrong.push(report(&network, &text, seed, i)?),
        }
    }
    println!(
        "part {part}: {right} right, {} refused, {} wrong",
        refused.values().sum::<u64>(),
        wrong.len()
    );
    for (reason, times) in &refused {
        println!("  refused {times} times: {reason}");
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n\n"))
    }
}

/// Makes a failing network small, and leaves it as a case.
fn report(network: &Net, text: &str, seed: u64, i: u64) -> Result<String, String> {
    // What a change makes of a network may be no model any more, which is another fault.
    let malformed = |text: &str| text.starts_with(IMPORTER);
    let fails = |net: &Net| matches!(verdict(net, i), Verdict::Wrong(t) if malformed(&t) == malformed(text));
    let small = minimise::minimise(network, &fails);
    let Verdict::Wrong(text) = verdict(&small, i) else {
        return Err("a network that was wrong before is right now".to_owned());
    };
    let dir = std::env::var_os("SDC_RANDOM_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("sdc-random-{seed}-{i}"));
    keep::write(&small, &dir)?;
    Ok(format!(
        "SDC_RANDOM_SEED={seed} SDC_RANDOM_ONLY={i}: {text}\n{}\nleft in {}",
        small.listing(),
        dir.display()
    ))
}

/// A panic counts as wrong.
fn verdict(network: &Net, i: u64) -> Verdict {
    let caught = catch_unwind(AssertUnwindSafe(|| check(network, i)));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        Verdict::Wrong(format!("panic: {}", text.unwrap_or("?")))
    })
}

fn check(network: &Net, i: u64) -> Verdict {
    let model = network.model().encode_to_vec();
    let graph = match sdc_frontend::import(model.into(), &ImportOptions::default()) {
        Ok(imported) => imported.graph,
        Err(errors) if matches!(errors.class(), Class::Unsupported | Class::Limit) => {
            return Verdict::Refused(general(&errors.to_string()));
        }
        Err(errors) => return Verdict::Wrong(format!("{IMPORTER}{errors}")),
    };
    if let Err(PipelineError::Tile(errors)) =
        pipeline::compile_pipeline(&graph, &PipelineOptions::default(), &mut ())
    {
        let reasons: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.op, e.reason)).collect();
        return Verdict::Refused(reasons.join("; "));
    }
    match everything(&graph, i) {
        Ok(()) => Verdict::Right,
        Err(text) => Verdict::Wrong(text),
    }
}

/// A refusal without what is of one network alone: its first reason, up to the operands.
fn general(text: &str) -> String {
    let line = text.lines().find(|l| l.contains(": ")).unwrap_or(text);
    let letters: String = line
        .chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect();
    letters.chars().take(160).collect()
}

fn everything(graph: &Graph, i: u64) -> Result<(), String> {
    if stages::vague(graph)? {
        return Ok(());
    }
    stages::compile(graph, native::shown()?)?;
    let targets = [
        ("native", false),
        ("x86-64", true),
        ("x86-64-v3", true),
        ("x86-64", false),
    ];
    native::check_on(graph, ("native", true), false)?;
    native::check_on(graph, targets[i as usize % targets.len()], false)?;
    let linear = |op: &Op| {
        matches!(
            op,
            Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) | Op::Recurrent(_)
        )
    };
    if !graph.nodes().values().any(|n| linear(&n.op)) || !i.is_multiple_of(3) {
        return Ok(());
    }
    let fused = pipeline::run_passes(graph, &pipeline::TO_FUSED, None, &mut ());
    let fused = fused.map_err(|e| e.to_string())?.graph;
    let compressed = stored::compress(&fused, i, None);
    for streamed in [false, true] {
        native::check_on(&compressed, ("native", true), streamed)
            .map_err(|e| format!("streamed {streamed}: {e}"))?;
    }
    // A chain of halves that is rounded once may lie on the other side of a tie between two integers.
    if stages::has_halves(graph) {
        return Ok(());
    }
    let samples = Synthetic::new(&fused, 2, 0.0, 1.0, 1);
    let options = integer::Options {
        samples: &samples,
        limit: 2,
        machine: None,
    };
    // Networks without anything to convert are refused.
    if let Ok(converted) = integer::run(&fused, &options, &mut |_| true) {
        stages::compile(&converted.graph, ScheduleOptions::default())
            .map_err(|e| format!("integers: {e}"))?;
        native::check_on(&converted.graph, ("native", true), false).map_err(|e| format!("integers: {e}"))?;
    }
    Ok(())
}
