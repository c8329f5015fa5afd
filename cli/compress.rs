//! `sdc compress`: a model with compressed weights, as standard ONNX.

use crate::args::{DimArgs, ImageArgs};
use crate::exit::Failure;
use crate::progress::Progress;
use crate::sd::report::{print, write};
use crate::sd::{SolverArgs, WishArgs, settings};
use sdc::compress::{self, CompressOptions, CompressionReport, Wanted};
use sdc::{Calibration, ModelFile, files};
use sdc_passes::decompose::Samples;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc compress model.onnx -o small.onnx                        # seven times smaller, no data needed
  sdc compress resnet20.onnx -o small.onnx --ratio 9 --calib images.npy \\
      --scale 0.00392156862745098 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  sdc compress model.onnx -o small.onnx --size 300K --report report.html
  sdc compress model.onnx -o small.onnx --density 0.5 --calib model_io

The result runs anywhere: weights are int8 with a scale per filter, behind DequantizeLinear. The decomposed form travels inside it, and
`sdc compile small.onnx` ships that. Calibration inputs need no labels: an .npy or .npz file, or a directory of test_data_set_*.
Without them, inputs are made up; --scale, --mean and --std then say what pixels look like to the model.")]
pub struct Args {
    /// ONNX model
    #[arg(value_name = "MODEL.onnx")]
    model: PathBuf,
    /// The model to write
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    wish: WishArgs,
    #[command(flatten)]
    solver: SolverArgs,
    /// Representative inputs; may be repeated
    #[arg(long, value_name = "FILE|DIR")]
    calib: Vec<PathBuf>,
    #[command(flatten)]
    preprocessing: ImageArgs,
    /// Write what was done: all of it as JSON, or a page with plots if the name ends in .html; may be repeated
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let start = Instant::now();
    let fixed = args.dims.options()?;
    let file = ModelFile::read(&args.model, &fixed)?;
    let dims = file.with_single_batch(fixed.dims);
    let (proto, external) = (file.proto.clone(), file.external());
    let fused = compress::fuse(&file.import(dims)?.graph)?;
    let preprocessing = args.preprocessing.preprocessing();
    let calibration = Calibration::open(&args.calib, &preprocessing, &fused)?;
    let excluded = compress::obstacles(&proto, &fused);
    let options = CompressOptions {
        calibration: calibration.as_ref().map(|c| c as &dyn Samples),
        excluded: excluded.keys().copied().collect(),
        ..settings(&args.wish, &args.solver, &preprocessing)
    };
    let progress = Progress::new();
    let compressed = compress::compress(fused, &options, &progress)?;
    let wanted = Wanted {
        model: args.model.display().to_string(),
        options: &options,
        excluded: &excluded,
    };
    let mut report = CompressionReport::of(&compressed, &wanted, &progress)?;
    drop(progress);
    let bytes = compress::export(proto, external.as_ref(), &compressed.graph, &report.layers)?;
    files::write(&args.output, |out| out.write_all(&bytes))?;
    report.written(&args.output, bytes.len());
    for path in &args.report {
        write(&report, path)?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    print(&report, start.elapsed(), out)
}
