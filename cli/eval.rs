//! `sdc eval`: accuracy of a classifier on labelled images.

use crate::exit::Failure;
use crate::files;
use crate::images::{ImageArgs, Images};
use crate::npy;
use crate::progress::Progress;
use crate::session::{SessionArgs, Source, tensor};
use sdc_artifact::interface::TensorSpec;
use sdc_artifact::load::{Artifact, Memory};
use sdc_ir::Tensor;
use serde::Serialize;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::thread;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc eval shapes.onnx --images x.npy --labels y.npy --scale 0.00392156862745098
  sdc eval resnet20.onnx --images cifar10_x.npy --labels cifar10_y.npy --scale 0.00392156862745098 \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  sdc eval mobilenet.onnx --images x.npy --labels y.npy --label-offset 1    # class 0 is the background

Images are bytes [N,H,W,C] or [N,H,W], or floats. A pixel x becomes (x * scale - mean) / std. Prints `top1: RIGHT/ALL`, and
top5 where there are 10 classes or more.")]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// The images
    #[arg(long, value_name = "X.npy")]
    images: PathBuf,
    /// The label of each image: integers
    #[arg(long, value_name = "Y.npy")]
    labels: PathBuf,
    /// Added to each label to give the model's class
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    label_offset: i64,
    /// The output that holds the scores; by default the only one
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Write the class found for each image, as integers
    #[arg(long, value_name = "FILE.npy")]
    predictions: Option<PathBuf>,
    /// Images at work at once; 0 is as many as the machine has cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    preprocessing: ImageArgs,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

/// Below this number of classes the first five are nothing to boast of.
const TOP5_CLASSES: usize = 10;

#[derive(Serialize, Default, Clone, Copy)]
struct Counts {
    images: usize,
    classes: usize,
    top1: usize,
    top5: usize,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let images = npy::read(&args.images)?;
    let labels = npy::read(&args.labels)?;
    let labels = labels
        .to_i64_vec()
        .ok_or_else(|| Failure::usage("labels must be integers"))?;
    let source = Source::open(&args.session)?;
    // An open batch dimension: one image at a time.
    let rank = images.shape().len();
    let artifact = source.load(|_, _| (rank == 4).then(|| batch_of_one(images.shape())))?;
    let input = match artifact.interface().inputs.as_slice() {
        [one] => one,
        all => {
            return Err(Failure::usage(format!(
                "the model has {} inputs, images go to one",
                all.len()
            )));
        }
    };
    let images = Images::new(&args.preprocessing, &images, input)?;
    if images.len() != labels.len() {
        return Err(Failure::usage(format!(
            "{} images but {} labels",
            images.len(),
            labels.len()
        )));
    }
    let scores = Scores::find(&artifact, args.output.as_deref())?;
    let labels = labels
        .iter()
        .map(|&label| {
            let class = label
                .checked_add(args.label_offset)
                .and_then(|c| usize::try_from(c).ok());
            class.filter(|&c| c < scores.classes).ok_or_else(|| {
                let message = format!("label {label} is not one of {} classes", scores.classes);
                Failure::usage(message).help("is a --label-offset missing or wrong?")
            })
        })
        .collect::<Result<Vec<usize>, _>>()?;

    let progress = Progress::steps(images.len());
    progress.say("images");
    let work = Work {
        artifact: &artifact,
        images: &images,
        labels: &labels,
        scores,
        progress: &progress,
    };
    let (counts, found) = work.count(args.threads)?;
    drop(progress);
    if let Some(path) = &args.predictions {
        let found = Tensor::from_elements(vec![found.len()], found).map_err(Failure::bug)?;
        files::write(path, |out| npy::write(out, &found))?;
    }
    if args.json {
        serde_json::to_writer(&mut *out, &counts).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "top1: {}/{}", counts.top1, counts.images)?;
    if counts.classes >= TOP5_CLASSES {
        writeln!(out, "top5: {}/{}", counts.top5, counts.images)?;
    }
    Ok(())
}

/// The shape of one image as a model of planes would take it, if images are interleaved.
fn batch_of_one(shape: &[usize]) -> Vec<usize> {
    vec![1, shape[3], shape[1], shape[2]]
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
    fn find(artifact: &Artifact, name: Option<&str>) -> Result<Self, Failure> {
        let interface = artifact.interface();
        let names = || {
            interface
                .outputs
                .iter()
                .map(|t| format!("`{}`", t.name))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let output = match name {
            Some(name) => interface
                .outputs
                .iter()
                .position(|t| t.name == name)
                .ok_or_else(|| Failure::usage(format!("no output `{name}`; there are {}", names())))?,
            None if interface.outputs.len() == 1 => 0,
            None => {
                return Err(Failure::usage(format!(
                    "which output? give --output one of {}",
                    names()
                )));
            }
        };
        let spec = &interface.outputs[output];
        let batch = interface.inputs[0].shape.first().copied().unwrap_or(1);
        let elements = spec.elements().unwrap_or(0);
        if batch == 0 || elements == 0 || !elements.is_multiple_of(batch) {
            let message = format!(
                "output `{}` of shape {:?} holds no scores for a batch of {batch}",
                spec.name, spec.shape
            );
            return Err(Failure::usage(message));
        }
        Ok(Self {
            output,
            batch,
            classes: elements / batch,
        })
    }
}

struct Work<'a> {
    artifact: &'a Artifact,
    images: &'a Images,
    labels: &'a [usize],
    scores: Scores,
    progress: &'a Progress,
}

impl Work<'_> {
    /// Counts over all images, and the class found for each; several at work at once. The results do not depend on how many.
    fn count(&self, threads: usize) -> Result<(Counts, Vec<i64>), Failure> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let runs = self.images.len().div_ceil(self.scores.batch);
        let threads = threads.clamp(1, runs.max(1));
        let part = |t: usize| runs * t / threads..runs * (t + 1) / threads;
        let parts: Vec<Result<(Counts, Vec<i64>), Failure>> = thread::scope(|scope| {
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

    fn runs(&self, range: Range<usize>) -> Result<(Counts, Vec<i64>), Failure> {
        let interface = self.artifact.interface();
        let mut instance = self.artifact.instance()?;
        let mut outputs = self.artifact.outputs()?;
        let mut input = Memory::new("input", interface.inputs[0].bytes().unwrap_or(usize::MAX))?;
        let size = self.images.elements();
        let mut image = vec![0.0f32; size];
        let (mut counts, mut found) = (Counts::default(), Vec::new());
        for run in range {
            let first = run * self.scores.batch;
            let count = self.scores.batch.min(self.images.len() - first);
            for slot in 0..count {
                self.images.fill(first + slot, &mut image);
                let bytes = input[slot * size * 4..(slot + 1) * size * 4].chunks_exact_mut(4);
                for (bytes, value) in bytes.zip(&image) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
            let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(|m| &mut m[..]).collect();
            instance.run(&[&input], &mut slices, None)?;
            let spec: &TensorSpec = &interface.outputs[self.scores.output];
            let values = tensor(spec, &outputs[self.scores.output])?.to_f64_vec();
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
            self.progress.add(count);
        }
        Ok((counts, found))
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
