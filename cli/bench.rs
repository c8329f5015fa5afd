//! `sdc bench`: latency and memory of an artifact, measured in a process that does nothing else.

use crate::args::{BackendArgs, SessionArgs};
use crate::exit::Failure;
use crate::profile;
use crate::progress::Progress;
use sdc::{Directory, Error, Kind, Options, Source};
use sdc_artifact::load::LoadOptions;
use sdc_artifact::measure::{self, Measured, Wish};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc bench model.onnx                     # latency_us: N (the median), rss_kib: N (the process's peak)
  sdc bench model.onnx --threads 2 --seconds 3
  sdc bench DIR --json                     # an artifact that `sdc compile` wrote
  sdc bench model.onnx --profile           # time of each layer; with --trace FILE also for Perfetto

The child process loads the artifact, fills its inputs with numbers of mean 0 and variance 1 (the same each time), warms up and
repeats. By default a model is compiled for this machine's CPU; an artifact runs as it is.")]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    timing: Timing,
    /// Print the measurements as JSON
    #[arg(long)]
    json: bool,
    /// Time each function of the model, from a build that differs only in letting them be timed
    #[arg(long)]
    profile: bool,
    /// Write one profiled run as a Chrome trace
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[derive(clap::Args, Debug, Clone, Copy)]
struct Timing {
    /// Threads; 0 is as many as the machine has cores
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// How long to repeat
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
}

#[derive(clap::Args, Debug)]
pub struct ChildArgs {
    dir: PathBuf,
    threads: usize,
    seconds: f64,
    #[arg(value_parser = ["probe", "copy"])]
    words: Vec<String>,
}

/// A measurement with its profile, as JSON.
#[derive(Serialize)]
struct Profiled<'a> {
    #[serde(flatten)]
    measured: &'a Measured,
    layers: &'a [profile::Layer],
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    if !args.timing.seconds.is_finite() || args.timing.seconds < 0.0 {
        return Err(Failure::usage("--seconds takes a time"));
    }
    let (source, options) = args.session.open(args.backend.get())?;
    if args.profile || args.trace.is_some() {
        return run_profiled(args, source, options, out);
    }
    let directory = source.directory(|_| None, &options, &Progress::new())?;
    let measured = measured(&directory, args.timing, false)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &measured).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&measured, out)?;
    }
    Ok(())
}

fn run_profiled(args: &Args, source: Source, options: Options, out: &mut dyn Write) -> Result<(), Failure> {
    let options = Options {
        profile: true,
        ..options
    };
    let directory = Directory::compile(source.model(|_| None)?, &options, &Progress::new())?;
    let functions = directory.artifact().map_or(&[][..], |a| &a.functions);
    let mut measured = measured(&directory, args.timing, true)?;
    let layers = profile::layers(functions, &std::mem::take(&mut measured.steps))?;
    if let Some(path) = &args.trace {
        profile::trace(&layers, path)?;
    }
    if args.json {
        let profiled = Profiled {
            measured: &measured,
            layers: &layers,
        };
        serde_json::to_writer_pretty(&mut *out, &profiled).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&measured, out)?;
        writeln!(out)?;
        profile::print(&layers, out)?;
    }
    Ok(())
}

fn print(measured: &Measured, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "latency_us: {:.1}", measured.latency_us)?;
    writeln!(out, "rss_kib: {}", measured.rss_kib)?;
    writeln!(
        out,
        "runs: {}, fastest {:.1} us, threads {}",
        measured.runs, measured.min_us, measured.threads
    )?;
    Ok(())
}

/// Measures in a process of its own: the program `sdc-measure` beside this one, or this one's hidden command.
fn measured(directory: &Directory, timing: Timing, probe: bool) -> Result<Measured, Failure> {
    let own = |e: std::io::Error| Failure::usage(format!("cannot start the measuring process: {e}"));
    let this = std::env::current_exe().map_err(own)?;
    let program = this.with_file_name(format!("sdc-measure{}", std::env::consts::EXE_SUFFIX));
    let mut command = if program.is_file() {
        Command::new(program)
    } else {
        let mut command = Command::new(this);
        command.arg("bench-child");
        command
    };
    let output = command
        .arg(directory.path())
        .args([timing.threads.to_string(), timing.seconds.to_string()])
        .args(probe.then_some("probe"))
        .args(directory.load_options().copy.then_some("copy"))
        .output()
        .map_err(own)?;
    if !output.status.success() {
        let message = format!("the measuring process ended with {}", output.status);
        let kind = match output.status.code() {
            Some(2) => Kind::Usage,
            Some(3) => Kind::Malformed,
            Some(4) => Kind::Unsupported,
            Some(5) => Kind::Limit,
            _ => Kind::Bug,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(said.lines().fold(Error::new(kind, message), Error::note).into());
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::bug(format!("the measuring process printed no result: {e}")))
}

/// The hidden command that does what `sdc-measure` does, for where only `sdc` itself was installed; it needs more memory.
pub fn child(args: &ChildArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let said = |word: &str| args.words.iter().any(|w| w == word);
    let wish = Wish {
        threads: args.threads,
        seconds: args.seconds,
        probe: said("probe"),
        load: LoadOptions { copy: said("copy") },
    };
    let measured = measure::measure(&args.dir, &wish).map_err(Error::from)?;
    serde_json::to_writer(&mut *out, &measured).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}
