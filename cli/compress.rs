//! `sdc compress`: a model with compressed weights, as standard ONNX.

use crate::exit::Failure;
use crate::files;
use crate::images::ImageArgs;
use crate::model::{DimArgs, Folder, ModelFile};
use crate::sd::report::{LAYERS_KEY, Report, Wanted};
use crate::sd::{self, Calibration, SdOptions, SolverArgs, WishArgs};
use sdc_frontend::export::{embed_external, encode, export, obstacles};
use std::collections::BTreeMap;
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
    let file = ModelFile::read_fixed(&args.model, &args.dims)?;
    let dims = file.with_single_batch(args.dims.map()?);
    let proto = file.proto.clone();
    let (model, _) = file.import(dims)?;
    let fused = sd::fuse(&model.graph)?;
    drop(model.graph);
    let calibration = Calibration::open(&args.calib, &args.preprocessing, &fused)?;
    let excluded: BTreeMap<_, _> = obstacles(&proto, &fused)
        .into_iter()
        .map(|(node, remark)| (node, remark.message))
        .collect();
    let options = SdOptions::new(&args.wish, &args.solver, &args.preprocessing);
    let compressed = sd::compress(fused, &options, calibration.as_ref(), &excluded)?;
    let wanted = Wanted {
        model: args.model.display().to_string(),
        options: &options,
        calibration: calibration.as_ref(),
        excluded: &excluded,
    };
    let mut report = Report::of(&compressed, &wanted)?;
    let layers = serde_json::to_string(&report.layers).map_err(Failure::bug)?;
    let mut written =
        export(proto, &compressed.graph, &[(LAYERS_KEY.to_owned(), layers)]).map_err(Failure::unsupported)?;
    embed_external(&mut written, &Folder::beside(&args.model))?;
    let bytes = encode(&written)
        .ok_or_else(|| Failure::limit("the compressed model exceeds the 2 GiB of a protobuf message"))?;
    files::write(&args.output, |out| out.write_all(&bytes))?;
    report.written(&args.output, bytes.len());
    for path in &args.report {
        report.write(path)?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    report.print(start.elapsed(), out)
}
