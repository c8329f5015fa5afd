//! `sdc disasm`: from a container to text.

use crate::exit::Failure;
use sdc::files;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc disasm program.sdap                 # on standard output
  sdc disasm DIR -o program.sdas          # the program of an artifact")]
pub struct Args {
    /// Program, or the directory that `sdc compile --backend accel` wrote
    #[arg(value_name = "FILE.sdap|DIR")]
    file: PathBuf,
    /// Write the text here instead of printing it
    #[arg(short, long, value_name = "FILE.sdas")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let program = sdc::read_program(&args.file)?;
    match &args.output {
        Some(path) => files::write(path, |file| write!(file, "{program}"))?,
        None => write!(out, "{program}")?,
    }
    Ok(())
}
