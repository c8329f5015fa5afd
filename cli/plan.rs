//! `sdc plan`: the memory plan.

use crate::args::{HereArgs, ModelArgs};
use crate::exit::Failure;
use crate::progress::Progress;
use crate::units::parse_size;
use sdc::{Error, Observer, files};
use sdc_passes::pipeline::{PipelineOptions, compile_pipeline};
use sdc_passes::plan::{explain, report, svg};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc plan model.onnx                    # what lives where, and which nodes need the most
  sdc plan model.onnx --svg plan.svg     # the timeline as a picture
  sdc plan model.onnx --ram 256K         # does it fit? if not: why not, and what would help (exit code 5)
  sdc plan model.onnx --json | jq .arena_bytes")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    here: HereArgs,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Write a timeline of the arena as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Explain why the arena does not fit into this much memory, if it does not (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    ram: Option<usize>,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let options = PipelineOptions {
        schedule: args.here.target()?.tile(),
        ..Default::default()
    };
    let model = args.model.import()?;
    let progress = Progress::new();
    progress.step("plan");
    let compiled = compile_pipeline(&model.graph, &options, &mut ()).map_err(Error::from)?;
    drop(progress);
    let report = report::report(&compiled.lowered.module, &compiled.plan);
    if let Some(path) = &args.svg {
        let picture = svg::timeline(&report);
        files::write(path, |out| out.write_all(picture.as_bytes()))?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    match args
        .ram
        .and_then(|limit| explain::explain(&compiled.lowered.module, &compiled.plan, limit))
    {
        Some(excess) => Err(Error::too_large("--ram", &excess.to_string()).into()),
        None => Ok(()),
    }
}
