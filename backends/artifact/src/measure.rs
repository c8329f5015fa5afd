//! Runs an artifact again and again and says how long it took, and how much memory the process came to need.
//!
//! The figures are those of the whole process, so that it should do nothing else, and load nothing it does not need: the
//! program `sdc-measure` is made for that. What is kept per run is small, for the same reason.

use crate::interface::TensorSpec;
use crate::load::{Artifact, Fault, LoadError, LoadOptions, Memory};
use crate::pool::Pool;
use crate::probe::{Probe, Span};
use sdc_ir::DType;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How to measure.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Threads; 0 is as many as the machine has cores.
    pub threads: usize,
    /// How long to repeat.
    pub seconds: f64,
    /// Whether to time each function; the artifact must be built for it.
    pub probe: bool,
    /// How the artifact is loaded.
    pub load: LoadOptions,
}

/// Times of one function, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Median over the runs.
    pub us: f64,
    /// When it began in the last run.
    pub begin_us: f64,
    /// How long it took in the last run.
    pub last_us: f64,
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Median over the runs.
    pub latency_us: f64,
    /// Of the fastest run.
    pub min_us: f64,
    /// How many runs there were.
    pub runs: usize,
    /// Threads used.
    pub threads: usize,
    /// Largest resident memory of the process, in KiB.
    pub rss_kib: u64,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Size of the weights image.
    pub weights_bytes: usize,
    /// Times of the functions, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The artifact does not load or run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
    /// The system keeps its secrets.
    #[error("this system does not tell a process's peak memory")]
    Peak,
}

impl MeasureError {
    /// Of what kind it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Load(error) => error.fault(),
            Self::Threads(_) => Fault::Limit,
            Self::Peak => Fault::Unsupported,
        }
    }
}

/// Warm-up, and fewest runs whatever the time.
const WARM_UP: Duration = Duration::from_millis(200);
const FEWEST_RUNS: usize = 3;

/// Runs whose spans are kept.
const MOST_PROFILED: usize = 4096;

/// Loads the artifact in `dir`, fills its inputs with numbers (the same each time), warms up and repeats.
///
/// # Errors
/// See [`MeasureError`].
pub fn measure(dir: &Path, wish: &Wish) -> Result<Measured, MeasureError> {
    let artifact = Artifact::open_with(dir, wish.load)?;
    let interface = artifact.interface();
    let pool = match wish.threads {
        1 => None,
        n => Some(Pool::new(n).map_err(MeasureError::Threads)?),
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

    let probe = wish.probe.then(|| Probe::new(pool.as_ref()));
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
    // Of small models there are very many runs.
    let mut times: Vec<f32> = Vec::new();
    let mut runs = Vec::new();
    let start = Instant::now();
    while times.len() < FEWEST_RUNS || start.elapsed().as_secs_f64() < wish.seconds {
        let run = Instant::now();
        run_once()?;
        times.push((run.elapsed().as_secs_f64() * 1e6) as f32);
        // The probe starts anew for the next run; the first few thousand tell enough.
        runs.extend(spans().filter(|_| runs.len() < MOST_PROFILED));
    }
    times.sort_unstable_by(f32::total_cmp);
    Ok(Measured {
        latency_us: times[times.len() / 2].into(),
        min_us: times[0].into(),
        runs: times.len(),
        threads: pool.as_ref().map_or(1, Pool::threads),
        rss_kib: peak_kib()?,
        arena_bytes: interface.arena_size,
        weights_bytes: interface.weights_size,
        steps: steps(&runs),
    })
}

/// The medians of each function over several runs.
fn steps(runs: &[Vec<Span>]) -> Vec<Step> {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let Some(last) = runs.last() else {
        return Vec::new();
    };
    last.iter()
        .enumerate()
        .map(|(i, span)| {
            let mut times: Vec<_> = runs
                .iter()
                .filter_map(|run| run.get(i))
                .map(|s| s.end - s.begin)
                .collect();
            times.sort_unstable();
            Step {
                us: us(times[times.len() / 2]),
                begin_us: us(span.begin),
                last_us: us(span.end - span.begin),
            }
        })
        .collect()
}

/// Floats of mean 0 and variance 1; zeros for other types, which may be indices.
fn input(spec: &TensorSpec, random: &mut fastrand::Rng) -> Result<Memory, LoadError> {
    let mut memory = Memory::new("input", spec.bytes().unwrap_or(usize::MAX))?;
    // Nearly normal; and unlike the exact ways it needs no library of functions in memory.
    let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
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
fn peak_kib() -> Result<u64, MeasureError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| MeasureError::Peak)?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.ok_or(MeasureError::Peak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_medians_and_the_last_runs_times() {
        let span = |begin, end| Span {
            begin: Duration::from_micros(begin),
            end: Duration::from_micros(end),
        };
        let runs = [
            vec![span(0, 10), span(10, 40)],
            vec![span(1, 21), span(30, 90)],
            vec![span(2, 12), span(12, 42)],
        ];
        let steps = steps(&runs);
        assert_eq!(steps.iter().map(|s| s.us).collect::<Vec<_>>(), [10.0, 30.0]);
        assert_eq!((steps[1].begin_us, steps[1].last_us), (12.0, 30.0));
    }
}
