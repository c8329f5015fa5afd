//! `sdc eval`: accuracy of a classifier on labelled images.

use crate::args::{BackendArgs, ImageArgs, SessionArgs};
use crate::exit::Failure;
use crate::progress::Progress;
use sdc::eval::{EvalOptions, eval, shape_of_one};
use sdc::{Tensor, files, npy};
use std::io::Write;
use std::path::PathBuf;

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
    #[command(flatten)]
    backend: BackendArgs,
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

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let images = npy::read(&args.images)?;
    let labels = npy::read(&args.labels)?;
    let (source, options) = args.session.open(args.backend.get())?;
    let progress = Progress::new();
    let program = source.loaded(|_| shape_of_one(&images), &options, &progress)?;
    let options = EvalOptions {
        preprocessing: args.preprocessing.preprocessing(),
        label_offset: args.label_offset,
        output: args.output.clone(),
        threads: args.threads,
    };
    let (counts, found) = eval(&program, &images, &labels, &options, &progress)?;
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
