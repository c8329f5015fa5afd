//! How many labelled images a classifier gets right.

use crate::accel::{AccelProgram, Loaded};
use crate::artifact::tensor;
use crate::error::{Error, Kind, Result};
use crate::images::{Images, Preprocessing};
use crate::observe::Observer;
use sdc_artifact::interface::TensorSpec;
use sdc_artifact::load::{Instance, Memory};
use sdc_ir::Tensor;
use serde::Serialize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How images become inputs, and outputs classes.
#[derive(Debug, Clone, Default)]
pub struct EvalOptions {
    /// Of the images.
    pub preprocessing: Preprocessing,
    /// Added to each label to give the model's class.
    pub label_offset: i64,
    /// The output that holds the scores; by default the only one.
    pub output: Option<String>,
    /// Images at work at once; 0 is as many as the machine has cores. The result does not depend on it.
    pub threads: usize,
}

/// What a classifier got right.
#[derive(Debug, Serialize, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Images shown.
    pub images: usize,
    /// Classes there are.
    pub classes: usize,
    /// Images whose class got the highest score.
    pub top1: usize,
    /// Images whose class is among the five of the highest scores.
    pub top5: usize,
}

/// Shows a model labelled images, `[N,H,W,C]` or `[N,H,W]` bytes or floats, and counts; also returns the class found for each. Labels
/// are integers, one for each image.
///
/// # Errors
/// A model that takes anything but images of that size in one input, or whose output holds no scores; labels that are no classes.
pub fn eval(
    program: &Loaded,
    images: &Tensor,
    labels: &Tensor,
    options: &EvalOptions,
    observer: &dyn Observer,
) -> Result<(Counts, Vec<i64>)> {
    let labels = labels
        .to_i64_vec()
        .ok_or_else(|| Error::usage("labels must be integers"))?;
    let input = match program.inputs() {
        [one] => one,
        all => {
            return Err(Error::usage(format!(
                "the model has {} inputs, images go to one",
                all.len()
            )));
        }
    };
    let images = Images::new(&options.preprocessing, images, input)?;
    if images.len() != labels.len() {
        return Err(Error::usage(format!(
            "{} images but {} labels",
            images.len(),
            labels.len()
        )));
    }
    let scores = Scores::find(program, options.output.as_deref())?;
    let labels = labels
        .iter()
        .map(|&label| {
            let class = label
                .checked_add(options.label_offset)
                .and_then(|c| usize::try_from(c).ok());
            class.filter(|&c| c < scores.classes).ok_or_else(|| {
                let message = format!("label {label} is not one of {} classes", scores.classes);
                Error::usage(message).help("is a --label-offset missing or wrong?")
            })
        })
        .collect::<Result<Vec<usize>>>()?;

    let work = Work {
        program,
        images: &images,
        labels: &labels,
        scores,
        observer,
        done: AtomicUsize::new(0),
    };
    work.count(options.threads)
}

/// The shape of one image of a batch, as a model of planes would take it if images are interleaved; `None` if these have no channels. A
/// model whose batch is open takes one at a time.
pub fn shape_of_one(images: &Tensor) -> Option<Vec<usize>> {
    match *images.shape() {
        [_, rows, columns, channels] => Some(vec![1, channels, rows, columns]),
        _ => None,
    }
}

/// Where the scores are.
#[derive(Clone, Copy)]
struct Scores {
    output: usize,
    /// Images per run.
    batch: usize,
    classes: usize,
}

impl Scores {
    fn find(program: &Loaded, name: Option<&str>) -> Result<Self> {
        let names = || {
            program
                .outputs()
                .iter()
                .map(|t| format!("`{}`", t.name))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let output = match name {
            Some(name) => program
                .outputs()
                .iter()
                .position(|t| t.name == name)
                .ok_or_else(|| Error::usage(format!("no output `{name}`; there are {}", names())))?,
            None if program.outputs().len() == 1 => 0,
            None => {
                return Err(Error::usage(format!(
                    "which output? give --output one of {}",
                    names()
                )));
            }
        };
        let spec = &program.outputs()[output];
        let batch = program.inputs()[0].shape.first().copied().unwrap_or(1);
        let elements = spec.elements().unwrap_or(0);
        if batch == 0 || elements == 0 || !elements.is_multiple_of(batch) {
            let message = format!(
                "output `{}` of shape {:?} holds no scores for a batch of {batch}",
                spec.name, spec.shape
            );
            return Err(Error::usage(message));
        }
        Ok(Self {
            output,
            batch,
            classes: elements / batch,
        })
    }
}

struct Work<'a> {
    program: &'a Loaded,
    images: &'a Images,
    labels: &'a [usize],
    scores: Scores,
    observer: &'a dyn Observer,
    /// Images done.
    done: AtomicUsize,
}

impl Work<'_> {
    /// Counts over all images, and the class found for each; several at work at once. The results do not depend on how many.
    fn count(&self, threads: usize) -> Result<(Counts, Vec<i64>)> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let runs = self.images.len().div_ceil(self.scores.batch);
        let threads = threads.clamp(1, runs.max(1));
        let part = |t: usize| runs * t / threads..runs * (t + 1) / threads;
        let parts: Vec<Result<(Counts, Vec<i64>)>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|t| scope.spawn(move || self.runs(part(t))))
                .collect();
            let join = |w: thread::ScopedJoinHandle<'_, _>| {
                w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).collect()
        });
        let mut total = Counts {
            classes: self.scores.classes,
            ..Counts::default()
        };
        let mut found = Vec::with_capacity(self.images.len());
        for part in parts {
            let (part, classes) = part?;
            found.extend(classes);
            total.images += part.images;
            total.top1 += part.top1;
            total.top5 += part.top5;
        }
        Ok((total, found))
    }

    fn runs(&self, range: Range<usize>) -> Result<(Counts, Vec<i64>)> {
        let mut worker = Worker::new(self.program)?;
        let bytes = self.program.inputs()[0].bytes().unwrap_or(usize::MAX);
        let mut input = Memory::new("input", bytes)?;
        let size = self.images.elements();
        let mut image = vec![0.0f32; size];
        let (mut counts, mut found) = (Counts::default(), Vec::new());
        for run in range {
            if self.observer.cancelled() {
                return Err(Error::new(Kind::Cancelled, "stopped amid the images"));
            }
            let first = run * self.scores.batch;
            let count = self.scores.batch.min(self.images.len() - first);
            for slot in 0..count {
                self.images.fill(first + slot, &mut image);
                let bytes = input[slot * size * 4..(slot + 1) * size * 4].chunks_exact_mut(4);
                for (bytes, value) in bytes.zip(&image) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
            let values = worker.run(&input, self.scores.output)?.to_f64_vec();
            for (scores, &label) in values
                .chunks_exact(self.scores.classes)
                .zip(&self.labels[first..first + count])
            {
                let rank = rank(scores, label);
                found.push(best(scores) as i64);
                counts.images += 1;
                counts.top1 += usize::from(rank == 0);
                counts.top5 += usize::from(rank < 5);
            }
            let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
            self.observer.at(done, self.images.len(), "images");
        }
        Ok((counts, found))
    }
}

/// What one thread runs.
enum Worker<'a> {
    Native {
        instance: Box<Instance>,
        outputs: Vec<Memory>,
        specs: &'a [TensorSpec],
    },
    Accel(&'a AccelProgram),
}

impl<'a> Worker<'a> {
    fn new(program: &'a Loaded) -> Result<Self> {
        Ok(match program {
            Loaded::Native(native) => Self::Native {
                instance: Box::new(native.instance()?),
                outputs: native.outputs()?,
                specs: &native.interface().outputs,
            },
            Loaded::Accel(program) => Self::Accel(program),
        })
    }

    /// An output for the bytes of the only input.
    fn run(&mut self, input: &[u8], output: usize) -> Result<Tensor> {
        match self {
            Self::Native {
                instance,
                outputs,
                specs,
            } => {
                let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut m[..]).collect();
                instance.run(&[input], &mut slices, None)?;
                tensor(&specs[output], &outputs[output])
            }
            Self::Accel(program) => {
                let input = tensor(&program.inputs()[0], input)?;
                Ok(program.run(&[input])?.swap_remove(output))
            }
        }
    }
}

/// The class of the highest score, of equal ones the first; NaN is none.
fn best(scores: &[f64]) -> usize {
    let higher = |best: usize, i: usize| {
        if scores[i] > scores[best] || scores[best].is_nan() {
            i
        } else {
            best
        }
    };
    (1..scores.len()).fold(0, higher)
}

/// How many classes come before this one: those with a higher score, and of equal ones those before it. A NaN comes last.
fn rank(scores: &[f64], class: usize) -> usize {
    let key = |x: f64| if x.is_nan() { f64::NEG_INFINITY } else { x };
    let own = key(scores[class]);
    let ahead = |(i, &x): (usize, &f64)| key(x) > own || (key(x) == own && i < class);
    if scores[class].is_nan() {
        return scores.len() - 1;
    }
    scores.iter().enumerate().filter(|&s| ahead(s)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let scores = [0.5, 2.0, 2.0, f64::NAN, -1.0];
        assert_eq!([0, 1, 2, 3, 4].map(|c| rank(&scores, c)), [2, 0, 1, 4, 3]);
        assert_eq!([best(&scores), best(&[f64::NAN, -1.0]), best(&[0.0])], [1, 1, 0]);
    }
}
