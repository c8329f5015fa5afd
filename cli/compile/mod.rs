//! `sdc compile`: a model to an artifact.

mod accel;
mod arithmetic;
mod summary;

use crate::args::{AnyBackend, ImageArgs, ModelArgs, ResidencyArgs};
use crate::exit::Failure;
use crate::progress::Progress;
use crate::sd;
use crate::units::parse_size;
use clap::ValueEnum;
use sdc::compress::{self, CompressOptions, CompressionReport, Wanted};
use sdc::stages::{Dump, check_stage};
use sdc::{
    Calibration, DEFAULT_CPU, Error, IntegerReport, Model, Options, Target, compile_watched, files,
    to_integers,
};
use sdc_artifact::manifest::Kind;
use sdc_lower::Arch;
use sdc_passes::decompose::Samples;
use sdc_passes::driver::CheckInputs;
use sdc_passes::pipeline::{PipelineOptions, list_passes, run_pipeline};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use summary::{Report, Summary};

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc compile model.onnx -o out                          # out/libmodel.a, .so, model.o, model.h, model.weights, manifest.json
  sdc compile model.onnx -o out --cpu x86-64-v4          # needs AVX-512, uses it
  sdc compile model.onnx -o out --emit staticlib,header --embed-weights
  sdc compile model.onnx -o out --emit rust              # out is a crate: cargo add --path out
  sdc compile model.onnx -o out --ram 256K               # exit code 5, and an explanation, if it does not fit
  sdc compile model.onnx -o out --dim batch=1
  sdc compile model.onnx -o out --sd ratio=8 --calib images.npy --scale 0.00392156862745098
  sdc compile stages/3_fuse.sdir -o out --start-from layout
  sdc compile model.onnx -o out --backend accel --emit asm --calib images.npy     # out/model.sdap, out/model.sdas

The header's comment says how to call the model. `sdc run out ...` and `sdc bench out` execute the same files.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Directory for the artifact
    #[arg(short, long, value_name = "DIR", required_unless_present_any = ["stop_after", "list_passes"])]
    output: Option<PathBuf>,
    /// Name of the model: prefix of all symbols and files; by default the model file's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Code generator
    #[arg(long, value_enum, default_value = "cranelift")]
    backend: AnyBackend,
    /// Platform to compile for: x86_64-, aarch64- or riscv64gc-unknown-linux-gnu; the last two without kernels and shared library
    #[arg(long, value_name = "TRIPLE", default_value = Arch::X86_64.triple())]
    target: String,
    /// CPU to compile for: x86-64, x86-64-v2, x86-64-v3 (default), x86-64-v4 or native; aarch64; rv64gcv
    #[arg(long, value_name = "NAME")]
    cpu: Vec<String>,
    /// Arithmetic of activations
    #[arg(long, value_enum, default_value = "f32")]
    activations: Activations,
    /// Whether compressed weights are rebuilt when the model is loaded, or tile by tile
    #[arg(long, value_enum, default_value = "resident")]
    weights: Residence,
    /// Compress the weights first, as `sdc compress` does: ratio=8, or bits=4,solver=curvature, or ... ("" is ratio=7)
    #[arg(long, value_name = "OPTIONS", num_args = 0..=1, default_missing_value = "", help_heading = "Compression")]
    sd: Option<String>,
    /// Representative inputs for --sd and --activations int8: an .npy or .npz file, or a directory of test_data_set_*; may be repeated
    #[arg(long, value_name = "FILE|DIR", help_heading = "Compression")]
    calib: Vec<PathBuf>,
    /// Inputs that --activations int8 looks at, at most
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Compression")]
    calib_samples: usize,
    #[command(flatten)]
    preprocessing: ImageArgs,
    /// Accelerator: a configuration file
    #[arg(long, value_name = "FILE.toml", help_heading = "Accelerator")]
    arch: Option<PathBuf>,
    /// Accelerator: a key of its configuration
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Accelerator")]
    set: Vec<String>,
    /// What to write, besides weights and manifest; by default obj, staticlib, sharedlib (on x86-64) and header
    #[arg(long, value_enum, value_delimiter = ',')]
    emit: Vec<Emit>,
    /// Put the weights into the object instead of a file of their own
    #[arg(long)]
    embed_weights: bool,
    /// Compile the plain bodies of all kernels instead of using the embedded ones
    #[arg(long)]
    no_kernels: bool,
    /// Sum all convolutions directly: never use Winograd's filtering, which rounds otherwise
    #[arg(long)]
    no_winograd: bool,
    #[command(flatten)]
    residency: ResidencyArgs,
    /// Fail, and explain, if the arena needs more than this (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    ram: Option<usize>,
    /// Fail, and explain, if code and weights need more than this (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    flash: Option<usize>,
    /// Print the program after this pass, or after all
    #[arg(
        long,
        value_name = "PASS|all",
        help_heading = "Passes",
        conflicts_with = "json"
    )]
    print_after: Option<String>,
    /// Stop after this pass and print the program; nothing is written
    #[arg(long, value_name = "PASS", help_heading = "Passes", conflicts_with_all = ["json", "print_after", "report"])]
    stop_after: Option<String>,
    /// Start from this pass: the model is what the passes before it would have left
    #[arg(long, value_name = "PASS", help_heading = "Passes")]
    start_from: Option<String>,
    /// List the passes and stop
    #[arg(long, help_heading = "Passes")]
    list_passes: bool,
    /// Run the interpreter before and after each pass, and name the first that breaks its class (slow)
    #[arg(long, value_name = "WHEN", value_parser = ["each-pass"], help_heading = "Passes")]
    check: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Write everything there is to know about this compilation as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Activations {
    /// 32-bit floating point
    F32,
    /// 8-bit integers, with 32-bit sums: ranges come from --calib, or from made-up inputs
    Int8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Residence {
    /// when it is loaded: fastest
    Resident,
    /// a few filters at a time while the model runs: least memory, same results
    Streamed,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
enum Emit {
    /// NAME.o
    Obj,
    /// libNAME.a
    Staticlib,
    /// libNAME.so
    Sharedlib,
    /// NAME.h
    Header,
    /// the program after every pass, in the directory `ir`
    Ir,
    /// a crate without std around the archive: Cargo.toml, build.rs, lib.rs
    Rust,
    /// NAME.sdas, the text of an accelerator's program
    Asm,
}

/// The stages that are asked for, on paper or in files.
fn dump_of(args: &Args) -> Option<Dump> {
    let all = args.emit.contains(&Emit::Ir).then_some("all");
    all.or(args.print_after.as_deref()).map(Dump::of)
}

/// Writes and prints the stages that are asked for.
fn show(args: &Args, dump: Option<Dump>, dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(mut dump) = dump else { return Ok(()) };
    if args.emit.contains(&Emit::Ir) {
        dump.write(&dir.join("ir"))?;
    }
    dump.retain(args.print_after.as_deref());
    print(&dump, out)
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    if args.list_passes {
        for pass in list_passes() {
            writeln!(
                out,
                "{:<10} {:<10} {}",
                pass.name,
                pass.class.to_string(),
                pass.summary
            )?;
        }
        return Ok(());
    }
    if args.backend == AnyBackend::Accel {
        return accel::run(args, out);
    }
    accel::refuse(args)?;
    let target = target(args)?;
    for stage in [&args.print_after, &args.stop_after].into_iter().flatten() {
        check_stage(stage)?;
    }
    let start = Instant::now();
    let mut model = args.model.import()?;
    let progress = Progress::new();
    let compression = compressed(args, &mut model, &progress)?;
    let arithmetic = integers(args, false, &mut model, &progress)?;
    let target = target.with_streamed(args.weights == Residence::Streamed, &model.graph)?;
    let passes = PipelineOptions {
        start_from: args.start_from.clone(),
        check_each_pass: args.check.is_some().then_some(CheckInputs::Seeded(0)),
        ..PipelineOptions::default()
    };
    let Some(dir) = args.output.as_ref().filter(|_| args.stop_after.is_none()) else {
        let options = PipelineOptions {
            schedule: target.tile(),
            given: model.schedule.clone(),
            stop_after: args.stop_after.clone(),
            ..passes
        };
        let mut dump = Dump::of(args.stop_after.as_deref().unwrap_or("all"));
        run_pipeline(&model.graph, &options, &mut dump).map_err(Error::from)?;
        return print(&dump, out);
    };

    let options = Options {
        name: args.name.clone(),
        embed_weights: args.embed_weights,
        kinds: kinds(args),
        recorded: recorded(args, &model, &target),
        passes,
        ram: args.ram,
        flash: args.flash,
        ..Options::new(target)
    };
    let mut dump = dump_of(args);
    let built = compile_watched(model, &options, dir, &progress, dump.as_mut())?;
    drop(progress);
    show(args, dump, dir, out)?;

    let summary = Summary::new(&built, start.elapsed().as_secs_f64());
    if let Some(path) = &args.report {
        let report = Report {
            summary: &summary,
            remarks: &built.remarks,
            compression: compression.as_ref(),
            arithmetic: arithmetic.as_ref(),
            plan: &built.plan,
            kernels: &built.kernels,
        };
        files::write(path, |out| Ok(serde_json::to_writer_pretty(out, &report)?))?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &summary).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    if let Some(arithmetic) = &arithmetic {
        arithmetic::print(arithmetic, out)?;
    }
    summary.print(&built, start, out)
}

/// Compresses the weights, if that is asked for.
fn compressed(
    args: &Args,
    model: &mut Model,
    progress: &Progress,
) -> Result<Option<CompressionReport>, Failure> {
    let Some(text) = &args.sd else { return Ok(None) };
    let preprocessing = args.preprocessing.preprocessing();
    let options = sd::parse(text, &preprocessing).map_err(|e| Failure::usage(format!("--sd: {e}")))?;
    let fused = compress::fuse(&model.graph)?;
    let calibration = Calibration::open(&args.calib, &preprocessing, &fused)?;
    let options = CompressOptions {
        calibration: calibration.as_ref().map(|c| c as &dyn Samples),
        ..options
    };
    let compressed = compress::compress(fused, &options, progress)?;
    let wanted = Wanted {
        model: args.model.model.display().to_string(),
        options: &options,
        excluded: &BTreeMap::new(),
    };
    let report = args.report.is_some();
    let report = report.then(|| CompressionReport::of(&compressed, &wanted, progress));
    model.graph = compressed.graph;
    Ok(report.transpose()?)
}

/// Converts the network to integers, if that is asked for.
fn integers(
    args: &Args,
    implied: bool,
    model: &mut Model,
    progress: &Progress,
) -> Result<Option<IntegerReport>, Failure> {
    if args.activations == Activations::F32 && !implied {
        if args.sd.is_none() && !args.calib.is_empty() {
            return Err(Failure::usage(
                "--calib serves --sd and --activations int8, and neither is given",
            ));
        }
        return Ok(None);
    }
    let fused = compress::fuse(&model.graph)?;
    let preprocessing = args.preprocessing.preprocessing();
    let calibration = Calibration::open(&args.calib, &preprocessing, &fused)?;
    let calibration = calibration.as_ref().map(|c| c as &dyn Samples);
    let limit = args.calib_samples;
    let (graph, report) = to_integers(&fused, calibration, &preprocessing, limit, progress)?;
    model.graph = graph;
    Ok(Some(report))
}

fn print(dump: &Dump, out: &mut dyn Write) -> Result<(), Failure> {
    for stage in &dump.stages {
        out.write_all(stage.text.as_bytes())?;
    }
    Ok(())
}

/// The target; an error for everything that is still to come.
fn target(args: &Args) -> Result<Target, Failure> {
    let later = |option: &str| Err(Failure::unsupported(format!("{option} is not supported yet")));
    let Some(arch) = Arch::find(&args.target) else {
        let known = Arch::ALL.map(Arch::triple).join(", ");
        return Err(Failure::unsupported(format!(
            "--target {}: only {known} are supported",
            args.target
        )));
    };
    let cpu = match args.cpu.as_slice() {
        [] => None,
        [cpu] => Some(cpu.as_str()),
        _ => return later("an artifact for several CPUs (more than one --cpu)"),
    };
    if args.embed_weights && args.residency.resident_weights.is_some() {
        return Err(Failure::usage(
            "--resident-weights is about a weights file, and with --embed-weights there is none",
        ));
    }
    let target = match arch {
        Arch::X86_64 => Target::new(cpu.unwrap_or(DEFAULT_CPU), !args.no_kernels)?,
        _ if args.emit.contains(&Emit::Sharedlib) => {
            return later("a shared library for another platform than x86-64");
        }
        _ => Target::other(arch, cpu)?,
    };
    let target = target.with_backend(args.backend.native().unwrap_or_default())?;
    Ok(Target {
        winograd: !args.no_winograd,
        resident_weights: args.residency.resident_weights,
        ..target
    })
}

fn kinds(args: &Args) -> BTreeSet<Kind> {
    let of = |emit: &Emit| match emit {
        Emit::Obj => vec![Kind::Object],
        Emit::Staticlib => vec![Kind::Archive],
        Emit::Sharedlib => vec![Kind::SharedLibrary],
        Emit::Header => vec![Kind::Header],
        Emit::Rust => vec![
            Kind::Archive,
            Kind::CargoToml,
            Kind::BuildScript,
            Kind::RustSource,
        ],
        Emit::Ir | Emit::Asm => Vec::new(),
    };
    let weights = (!args.embed_weights).then_some(Kind::Weights);
    let usual: &[Emit] = if args.target == Arch::X86_64.triple() {
        &[Emit::Obj, Emit::Staticlib, Emit::Sharedlib, Emit::Header]
    } else {
        &[Emit::Obj, Emit::Staticlib, Emit::Header]
    };
    let emit = if args.emit.is_empty() { usual } else { &args.emit };
    emit.iter()
        .flat_map(of)
        .chain(weights)
        .chain([Kind::Manifest])
        .collect()
}

/// What the manifest says of how the model was compiled: whatever changes the artifact.
fn recorded(args: &Args, model: &Model, target: &Target) -> BTreeMap<String, String> {
    let mut options = BTreeMap::from([
        ("backend".to_owned(), target.backend.name().to_owned()),
        ("cpu".to_owned(), target.cpu.name.to_owned()),
        ("target".to_owned(), args.target.clone()),
        (
            "kernels".to_owned(),
            target.kernels.map_or("none", |k| k.name).to_owned(),
        ),
    ]);
    if args.no_winograd {
        options.insert("winograd".to_owned(), "no".to_owned());
    }
    if target.streamed {
        options.insert("weights".to_owned(), "streamed".to_owned());
    }
    if let Some(bytes) = args.residency.resident_weights {
        options.insert("resident-weights".to_owned(), bytes.to_string());
    }
    options.extend(recorded_of(args, model, args.activations == Activations::Int8));
    options
}

/// What changes an artifact of any kind.
fn recorded_of(args: &Args, model: &Model, integers: bool) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    for (name, value) in &model.dims {
        options.insert(format!("dim {name}"), value.to_string());
    }
    if let Some(sd) = &args.sd {
        options.insert("sd".to_owned(), sd.clone());
    }
    if integers {
        options.insert("activations".to_owned(), "int8".to_owned());
        options.insert("calib-samples".to_owned(), args.calib_samples.to_string());
    }
    if !args.calib.is_empty() {
        options.insert("calib".to_owned(), args.calib.len().to_string());
    }
    if let Some(pass) = &args.start_from {
        options.insert("start-from".to_owned(), pass.clone());
    }
    options
}
