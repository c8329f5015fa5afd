//! `sdc dump`: the stable text of every stage, for people and for their own snapshot tests.

use crate::args::{HereArgs, ModelArgs};
use crate::exit::Failure;
use sdc::Error;
use sdc::stages::{Dump, check_stage, stages};
use sdc_passes::pipeline::{PipelineOptions, run_pipeline};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_long_help = help())]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Print the stage after this pass to standard output
    #[arg(long, value_name = "PASS", required_unless_present = "all")]
    after: Option<String>,
    /// Write every stage to a file in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "after")]
    all: Option<PathBuf>,
    #[command(flatten)]
    here: HereArgs,
}

fn help() -> String {
    format!(
        "\
Examples:
  sdc dump model.onnx --after fuse       # the graph after the fuse pass, on standard output
  sdc dump model.onnx --all stages       # stages/0_import.sdir, stages/1_legalise.sdir, ..., stages/weights.sdw
  sdc opt stages/2_simplify.sdir --passes fuse

Stages: {}. The text names weights by their digest; --all writes their data to weights.sdw, where `sdc opt` finds it. Same model,
same sdc, same text.",
        stages().join(", ")
    )
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let stop_after = args.after.clone();
    if let Some(stage) = &stop_after {
        check_stage(stage)?;
    }
    let options = PipelineOptions {
        schedule: args.here.target()?.tile(),
        stop_after: stop_after.clone().filter(|s| s != "all"),
        ..Default::default()
    };
    let model = args.model.import()?;
    let mut dump = Dump::of(stop_after.as_deref().unwrap_or("all"));
    run_pipeline(&model.graph, &options, &mut dump).map_err(Error::from)?;
    if let Some(dir) = &args.all {
        for path in dump.write(dir)? {
            writeln!(out, "{}", path.display())?;
        }
    } else {
        for stage in &dump.stages {
            out.write_all(stage.text.as_bytes())?;
        }
    }
    Ok(())
}
