//! The `sdc` binary: flags, reports, progress, exit codes. What it does is done by the library `sdc`.
//!
//! One file per command. Shared: [`args`] (options), [`sd`] (options and reports of compression), [`exit`] and [`diag`] (what goes wrong).
//!
//! Results go to standard output, everything else to standard error. No environment variable changes what is computed.

mod accel;
mod args;
mod bench;
mod check;
mod compile;
mod compress;
mod diag;
mod dump;
mod eval;
mod exit;
mod inspect;
mod opt;
mod plan;
mod profile;
mod progress;
mod run;
mod sd;
mod signals;
mod units;
mod verify;

use clap::{Parser, Subcommand};
use exit::{Exit, Failure};
use std::io::{self, BufWriter, Write};
use std::panic;
use std::process::ExitCode;

/// Ahead-of-time compiler from ONNX to native code
#[derive(Parser)]
#[command(version, max_term_width = 110, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine; 1 outputs differ; 2 usage or I/O; 3 malformed model; 4 unsupported; 5 limit exceeded; 70 a bug in sdc.
`sdc COMMAND --help` shows examples.";

#[derive(Subcommand)]
enum Command {
    /// Compile a model to an archive, a shared library, a header and a weights file
    Compile(compile::Args),
    /// Write a model with compressed weights, as standard ONNX
    Compress(compress::Args),
    /// Run a model, or an artifact, on given inputs
    Run(run::Args),
    /// Compare a model's outputs with recorded ones
    Check(check::Args),
    /// Count how many labelled images a model classifies rightly
    Eval(eval::Args),
    /// Time a model in a process of its own
    Bench(bench::Args),
    /// Check the files of an artifact against each other
    Verify(verify::Args),
    /// Show what is in a model, and what of it is not supported
    Inspect(inspect::Args),
    /// Show the memory plan
    Plan(plan::Args),
    /// Print the program after a pass
    Dump(dump::Args),
    /// Run chosen passes on a program in text form
    Opt(opt::Args),
    /// Make a program of the accelerator from its text
    Asm(accel::asm::Args),
    /// Print a program of the accelerator as text
    Disasm(accel::disasm::Args),
    /// Run a program of the accelerator on the simulator
    Sim(accel::sim::Args),
    #[command(hide = true)]
    BenchChild(bench::ChildArgs),
}

fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| {
        let text = format!("sdc: internal error: {info}\n{}", diag::BUG);
        // If standard error is gone there is nobody to tell; the exit code remains.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }));
    let exit = panic::catch_unwind(start).unwrap_or(Exit::Bug);
    ExitCode::from(exit as u8)
}

fn start() -> Exit {
    signals::watch();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, complaints to standard error; either may have been closed.
            let _ = error.print();
            return if error.exit_code() == 0 {
                Exit::Fine
            } else {
                Exit::Usage
            };
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let result = dispatch(&cli.command, &mut out);
    // What was printed before a failure is shown before it.
    let flushed = out.flush().map_err(Failure::from);
    match result.and(flushed) {
        Ok(()) => Exit::Fine,
        Err(failure) => {
            diag::report(&failure);
            failure.exit()
        }
    }
}

fn dispatch(command: &Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Compile(args) => compile::run(args, out),
        Command::Compress(args) => compress::run(args, out),
        Command::Run(args) => run::run(args, out),
        Command::Check(args) => check::run(args, out),
        Command::Eval(args) => eval::run(args, out),
        Command::Bench(args) => bench::run(args, out),
        Command::Verify(args) => verify::run(args, out),
        Command::Inspect(args) => inspect::run(args, out),
        Command::Plan(args) => plan::run(args, out),
        Command::Dump(args) => dump::run(args, out),
        Command::Opt(args) => opt::run(args, out),
        Command::Asm(args) => accel::asm::run(args, out),
        Command::Disasm(args) => accel::disasm::run(args, out),
        Command::Sim(args) => accel::sim::run(args, out),
        Command::BenchChild(args) => bench::child(args, out),
    }
}
