//! Programs of the accelerator: what the code generator makes of a case, and whether the simulator gives the interpreter's results.

use super::case::Case;
use super::stages;
use sdc_accel_isa::Config;
use sdc_accel_sim::{Mode, Options, Simulator};
use sdc_ir::Digest;
use sdc_passes::driver::CheckInputs;
use sdc_passes::pipeline;
use std::fmt::Write;

/// The program's text, data by their digests. Two compilations have to agree, and so have simulator and interpreter.
pub fn text(case: &Case) -> Result<String, String> {
    let graph = stages::start(case)?;
    let passes = ["legalise", "simplify", "fuse", "quantise"];
    let done = pipeline::run_passes(&graph, &passes, None, &mut ());
    let graph = done.map_err(|e| e.to_string())?.graph;
    let config = Config::default();
    let compile = || {
        let compiled = sdc_accel::compile(&graph, &config);
        compiled.map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    };
    let program = compile()?.program;
    if compile()?.program != program {
        return Err("two compilations give different programs".to_owned());
    }
    let inputs = CheckInputs::Seeded(0)
        .tensors(&graph)
        .map_err(|e| e.to_string())?;
    let want = sdc_interp::run_graph(&graph, &inputs).map_err(|e| e.to_string())?;
    let simulator = Simulator::new(program.clone(), config).map_err(|e| e.to_string())?;
    for mode in [Mode::Cycle, Mode::Shuffle(1)] {
        let options = Options {
            mode,
            ..Options::default()
        };
        let got = simulator.run(&inputs, &options).map_err(|e| e.to_string())?;
        if got.outputs != want {
            return Err(format!(
                "{mode:?}: the simulator's outputs are not the interpreter's"
            ));
        }
    }
    let mut text = String::new();
    for line in program.to_string().lines() {
        match line.strip_prefix(".data ").and_then(|d| d.split_once(' ')) {
            Some((at, hex)) => {
                let digest = Digest::of(&[hex.as_bytes()]).to_string();
                let _ = writeln!(
                    text,
                    ".data {at} {} bytes, sha256 of their digits {}",
                    hex.len() / 2,
                    &digest[..16]
                );
            }
            None => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    Ok(text)
}
