//! `sdc bench`: latency and memory of an artifact, measured in a process that does nothing else.

use crate::exit::{Exit, Failure, Problem};
use crate::profile::{self, Step};
use crate::session::{SessionArgs, Source};
use sdc_artifact::interface::TensorSpec;
use sdc_artifact::load::{Artifact, Memory};
use sdc_artifact::pool::Pool;
use sdc_artifact::probe::Probe;
use sdc_ir::DType;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc bench model.onnx                     # latency_us: N (the median), rss_kib: N (the process's peak)
  sdc bench model.onnx --threads 2 --seconds 3
  sdc bench DIR --json                     # an artifact that `sdc compile` wrote
  sdc bench model.onnx --profile           # time of each layer; with --trace FILE also for Perfetto

The child process loads the artifact, fills its inputs with normally distributed numbers (the same each time), warms up and
repeats. By default a model is compiled for this machine's CPU; an artifact runs as it is.")]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
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
    #[command(flatten)]
    timing: Timing,
    #[arg(long)]
    probe: bool,
}

/// What the child prints.
#[derive(Serialize, Deserialize)]
struct Measured {
    latency_us: f64,
    min_us: f64,
    runs: usize,
    threads: usize,
    rss_kib: u64,
    arena_bytes: usize,
    weights_bytes: usize,
    /// Times of the functions, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step>,
}

/// A measurement with its profile, as JSON.
#[derive(Serialize)]
struct Profiled<'a> {
    #[serde(flatten)]
    measured: &'a Measured,
    layers: &'a [profile::Layer],
}

/// Warm-up, and fewest runs whatever the time.
const WARM_UP: Duration = Duration::from_millis(200);
const FEWEST_RUNS: usize = 3;

/// Runs whose spans are kept.
const MOST_PROFILED: usize = 4096;

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    if !args.timing.seconds.is_finite() || args.timing.seconds < 0.0 {
        return Err(Failure::usage("--seconds takes a time"));
    }
    let source = Source::open(&args.session)?;
    if args.profile || args.trace.is_some() {
        return run_profiled(args, source, out);
    }
    let directory = source.directory(|_, _| None)?;
    let measured = measure(directory.path(), args.timing, false)?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &measured).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        measured.print(out)?;
    }
    Ok(())
}

fn run_profiled(args: &Args, source: Source, out: &mut dyn Write) -> Result<(), Failure> {
    let (directory, functions) = source.profiled()?;
    let mut measured = measure(directory.path(), args.timing, true)?;
    let layers = profile::layers(&functions, &std::mem::take(&mut measured.steps))?;
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
        measured.print(out)?;
        writeln!(out)?;
        profile::print(&layers, out)?;
    }
    Ok(())
}

impl Measured {
    fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "latency_us: {:.1}", self.latency_us)?;
        writeln!(out, "rss_kib: {}", self.rss_kib)?;
        writeln!(
            out,
            "runs: {}, fastest {:.1} us, threads {}",
            self.runs, self.min_us, self.threads
        )?;
        Ok(())
    }
}

fn measure(dir: &std::path::Path, timing: Timing, probe: bool) -> Result<Measured, Failure> {
    let own = |e: std::io::Error| Failure::usage(format!("cannot start the measuring process: {e}"));
    let output = Command::new(std::env::current_exe().map_err(own)?)
        .arg("bench-child")
        .arg(dir)
        .args([
            "--threads",
            &timing.threads.to_string(),
            "--seconds",
            &timing.seconds.to_string(),
        ])
        .args(probe.then_some("--probe"))
        .output()
        .map_err(own)?;
    if !output.status.success() {
        let message = format!("the measuring process ended with {}", output.status);
        let notes = String::from_utf8_lossy(&output.stderr)
            .lines()
            .map(str::to_owned)
            .collect();
        let exit = match output.status.code() {
            Some(2) => Exit::Usage,
            Some(3) => Exit::Malformed,
            Some(4) => Exit::Unsupported,
            Some(5) => Exit::Limit,
            _ => Exit::Bug,
        };
        return Err(Failure {
            exit,
            problems: vec![Problem {
                message,
                notes,
                ..Problem::default()
            }],
        });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::bug(format!("the measuring process printed no result: {e}")))
}

/// The hidden command that the child runs.
pub fn child(args: &ChildArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let artifact = Artifact::open(&args.dir)?;
    let interface = artifact.interface();
    let pool = match args.timing.threads {
        1 => None,
        n => Some(Pool::new(n).map_err(|e| Failure::limit(format!("cannot start threads: {e}")))?),
    };
    let mut random = fastrand::Rng::with_seed(7);
    let inputs: Vec<Memory> = interface
        .inputs
        .iter()
        .map(|spec| input(spec, &mut random))
        .collect::<Result<_, _>>()?;
    let inputs: Vec<&[u8]> = inputs.iter().map(|m| &m[..]).collect();
    let mut outputs = artifact.outputs()?;
    let mut outputs: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut m[..]).collect();
    let mut instance = artifact.instance()?;

    let probe = args.probe.then(|| Probe::new(pool.as_ref()));
    let mut run_once = || match &probe {
        Some(probe) => instance.run_probed(&inputs, &mut outputs, probe),
        None => instance.run(&inputs, &mut outputs, pool.as_ref()),
    };
    let spans = || probe.as_ref().map(Probe::take);

    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        run_once()?;
        spans();
    }
    let (mut times, mut runs) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while times.len() < FEWEST_RUNS || start.elapsed().as_secs_f64() < args.timing.seconds {
        let run = Instant::now();
        run_once()?;
        times.push(run.elapsed());
        // The probe starts anew for the next run; the first few thousand tell enough.
        runs.extend(spans().filter(|_| runs.len() < MOST_PROFILED));
    }
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let measured = Measured {
        latency_us: us(times[times.len() / 2]),
        min_us: us(times[0]),
        runs: times.len(),
        threads: pool.as_ref().map_or(1, Pool::threads),
        rss_kib: peak_kib()?,
        arena_bytes: interface.arena_size,
        weights_bytes: interface.weights_size,
        steps: profile::steps(&runs),
    };
    serde_json::to_writer(&mut *out, &measured).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Normally distributed floats; zeros for other types, which may be indices.
fn input(spec: &TensorSpec, random: &mut fastrand::Rng) -> Result<Memory, Failure> {
    let mut memory = Memory::new("input", spec.bytes().unwrap_or(usize::MAX))?;
    let mut normal = || {
        // Box-Muller; 1 - x is never 0.
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * random.f64()).cos()
    };
    let elements = memory.chunks_exact_mut(spec.dtype.size());
    match spec.dtype {
        DType::F64 => elements.for_each(|e| e.copy_from_slice(&normal().to_le_bytes())),
        DType::F32 => elements.for_each(|e| e.copy_from_slice(&(normal() as f32).to_le_bytes())),
        DType::F16 => elements.for_each(|e| e.copy_from_slice(&half::f16::from_f64(normal()).to_le_bytes())),
        DType::BF16 => {
            elements.for_each(|e| e.copy_from_slice(&half::bf16::from_f64(normal()).to_le_bytes()))
        }
        _ => {}
    }
    Ok(memory)
}

/// Peak resident memory of this process.
fn peak_kib() -> Result<u64, Failure> {
    let path = std::path::Path::new("/proc/self/status");
    let status = std::fs::read_to_string(path).map_err(|e| Failure::io(path, &e))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::unsupported("this system does not tell a process's peak memory"))
}
