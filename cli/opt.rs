//! `sdc opt`: chosen passes on a graph in text form.

use crate::exit::Failure;
use sdc::{Error, stages};
use sdc_passes::driver::CheckInputs;
use sdc_passes::pipeline::{graph_passes, run_passes};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc opt stages/0_import.sdir --passes legalise,simplify,fuse # the result on standard output
  sdc opt in.sdir --passes layout -o out.sdir                  # with its weights in out.sdw
  sdc opt in.sdir --passes fuse --remarks                      # what was and was not done, and why

The weights' data is read from in.sdw, or from weights.sdw beside it.")]
pub struct Args {
    /// Graph in text form
    #[arg(value_name = "FILE.sdir")]
    file: PathBuf,
    #[arg(long, value_name = "PASS,..", value_delimiter = ',', required = true, help = passes_help())]
    passes: Vec<String>,
    /// Write the result here, and its weights beside it, instead of printing it
    #[arg(short, long, value_name = "FILE.sdir")]
    output: Option<PathBuf>,
    /// Print what the passes did and left undone instead of the graph
    #[arg(long, conflicts_with = "output")]
    remarks: bool,
    /// Run the interpreter before and after each pass, and name the first that breaks its class
    #[arg(long, value_name = "WHEN", value_parser = ["each-pass"])]
    check: Option<String>,
}

fn passes_help() -> String {
    let passes = graph_passes();
    let names: Vec<&str> = passes.iter().map(|p| p.name()).collect();
    format!(
        "Passes to run, in the order given; there are {}",
        names.join(", ")
    )
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let (graph, _) = stages::read(&args.file)?;
    let passes: Vec<&str> = args.passes.iter().map(String::as_str).collect();
    let check = args.check.is_some().then_some(CheckInputs::Seeded(0));
    let outcome = run_passes(&graph, &passes, check.as_ref(), &mut ()).map_err(Error::from)?;
    if args.remarks {
        for remark in &outcome.remarks {
            writeln!(out, "{remark}")?;
        }
        return Ok(());
    }
    match &args.output {
        Some(path) => Ok(stages::write_graph(path, &outcome.graph)?),
        None => Ok(write!(out, "{}", outcome.graph)?),
    }
}
