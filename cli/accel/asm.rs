//! `sdc asm`: from text to words.

use crate::exit::Failure;
use sdc::{Error, files};
use sdc_accel_isa::{Faults, WORD};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc asm program.sdas -o program.sdap
  sdc asm program.sdas --hex              # the words, one a line, most significant digit first

All faults of the text are listed with line and column. What the program does is proved when it is run.")]
pub struct Args {
    /// Program in text form
    #[arg(value_name = "FILE.sdas")]
    file: PathBuf,
    /// Write the program here
    #[arg(
        short,
        long,
        value_name = "FILE.sdap",
        required_unless_present = "hex",
        conflicts_with = "hex"
    )]
    output: Option<PathBuf>,
    /// Print the words of the code in hexadecimal, one a line
    #[arg(long)]
    hex: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let program = sdc::parse_program(&args.file)?;
    if args.hex {
        for instr in &program.code {
            let word = sdc_accel_isa::encode(instr).map_err(Failure::bug)?;
            writeln!(out, "{word:0width$x}", width = 2 * WORD)?;
        }
        return Ok(());
    }
    let bytes = program
        .to_container()
        .map_err(|faults: Faults| Error::from(faults))?;
    if let Some(path) = &args.output {
        files::write(path, |file| file.write_all(&bytes))?;
    }
    Ok(())
}
