//! `sdc run`: inputs from files, outputs to files or, in short, to standard output.

use crate::args::{BackendArgs, SessionArgs};
use crate::exit::Failure;
use crate::progress::Progress;
use sdc::files::Batch;
use sdc::{Error, Options, Source, npy, read_tensor, type_text};
use sdc_artifact::interface::TensorSpec;
use sdc_ir::Tensor;
use sdc_ir::graph::TensorType;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc run model.onnx --input image=cat.npy                    # a summary of each output
  sdc run model.onnx --input image=cat.npy --output-dir out   # out/output_0.npy ..., out/names.json
  sdc run DIR --input image=cat.npy --output out.npz          # an artifact that `sdc compile` wrote

Symbolic dimensions that --dim does not fix follow from the inputs' shapes.")]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Values of an input, as .npy or as ONNX's .pb; may be repeated, and must name every input
    #[arg(long = "input", value_name = "NAME=FILE")]
    inputs: Vec<String>,
    /// Write output K to DIR/output_K.npy, and the names to DIR/names.json
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Write all outputs to one archive, under their names; or, if the name ends in .npy, the only output
    #[arg(long, value_name = "FILE.npz|FILE.npy", conflicts_with = "output_dir")]
    output: Option<PathBuf>,
    /// Evaluate the model in the reference interpreter, operator by operator, instead of compiling it (slow)
    #[arg(long)]
    interpreter: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let (source, options) = args.session.open(args.backend.get())?;
    let (names, outputs) = if args.interpreter {
        interpreted(source, &args.inputs)?
    } else {
        compiled(source, &options, &args.inputs)?
    };
    let to = (args.output_dir.as_deref(), args.output.as_deref());
    write_outputs(to, args.json, &names, &outputs, out)
}

/// Names and values of the outputs, from the reference interpreter.
fn interpreted(source: Source, arguments: &[String]) -> Result<(Vec<String>, Vec<Tensor>), Failure> {
    let names = source.input_names().unwrap_or_default();
    let given = read_inputs(arguments, &names)?;
    let graph = source.model(shapes(&given))?.graph;
    let specs = TensorSpec::list(graph.inputs.iter().map(|p| {
        let ty = graph.ty(p.value);
        (p.name.clone(), ty.dtype, ty.sizes().to_vec())
    }));
    let inputs = complete(&specs, given)?;
    let outputs = sdc::interpret(&graph, &inputs)?;
    Ok((graph.outputs.iter().map(|p| p.name.clone()).collect(), outputs))
}

/// Names and values of the outputs, from compiled code.
fn compiled(
    source: Source,
    options: &Options,
    arguments: &[String],
) -> Result<(Vec<String>, Vec<Tensor>), Failure> {
    let progress = Progress::new();
    let (program, inputs) = match source.input_names() {
        None => {
            let program = source.loaded(|_| None, options, &progress)?;
            let inputs = program.inputs().iter();
            let names: Vec<String> = inputs.map(|t| t.name.clone()).collect();
            let given = read_inputs(arguments, &names)?;
            (program, given)
        }
        Some(names) => {
            let given = read_inputs(arguments, &names)?;
            (source.loaded(shapes(&given), options, &progress)?, given)
        }
    };
    let inputs = complete(program.inputs(), inputs)?;
    let outputs = program.run(&inputs)?;
    Ok((
        program.outputs().iter().map(|t| t.name.clone()).collect(),
        outputs,
    ))
}

/// The shapes of the inputs given, by position.
fn shapes(given: &[Option<Tensor>]) -> impl Fn(usize) -> Option<Vec<usize>> {
    move |position| Some(given.get(position)?.as_ref()?.shape().to_vec())
}

/// Writes outputs to a directory, to an archive, or in short to standard output.
pub fn write_outputs(
    to: (Option<&Path>, Option<&Path>),
    json: bool,
    names: &[String],
    outputs: &[Tensor],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut batch = Batch::default();
    add_outputs(&mut batch, to, names, outputs)?;
    batch.commit()?;
    print_outputs(to, json, names, outputs, out)
}

/// The files of outputs, to be written with others or alone.
pub fn add_outputs(
    batch: &mut Batch,
    (output_dir, output): (Option<&Path>, Option<&Path>),
    names: &[String],
    outputs: &[Tensor],
) -> Result<(), Failure> {
    if let Some(dir) = output_dir {
        batch.create_dir(dir)?;
        for (k, tensor) in outputs.iter().enumerate() {
            batch.add(&dir.join(format!("output_{k}.npy")), |out| {
                npy::write(out, tensor)
            })?;
        }
        batch.add(&dir.join("names.json"), |out| {
            Ok(serde_json::to_writer_pretty(out, names)?)
        })?;
    } else if let Some(path) = output.filter(|path| path.extension().is_some_and(|e| e == "npy")) {
        let [tensor] = outputs else {
            let message = format!(
                "{}: an .npy file holds one output, the model has {}",
                path.display(),
                outputs.len()
            );
            return Err(Error::usage(message)
                .help("name an .npz file, or use --output-dir")
                .into());
        };
        batch.add(path, |out| npy::write(out, tensor))?;
    } else if let Some(path) = output {
        let named: Vec<(String, Tensor)> = names.iter().cloned().zip(outputs.iter().cloned()).collect();
        batch.add(path, |out| npy::write_npz(out, &named))?;
    }
    Ok(())
}

/// A line an output, or JSON of them all.
pub fn print_outputs(
    (output_dir, output): (Option<&Path>, Option<&Path>),
    json: bool,
    names: &[String],
    outputs: &[Tensor],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let summaries: Vec<Summary> = names
        .iter()
        .zip(outputs)
        .map(|(name, tensor)| Summary::of(name, tensor))
        .collect();
    if json {
        serde_json::to_writer_pretty(&mut *out, &summaries).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if output_dir.is_none() && output.is_none() {
        for summary in summaries {
            writeln!(out, "{summary}")?;
        }
    }
    Ok(())
}

/// The position of the input a `NAME=FILE` argument is for, and its file. Names may hold `=`, so the longest known
/// name that fits is meant.
fn split<'a>(argument: &'a str, names: &[String]) -> Option<(usize, &'a str)> {
    let fits = |(position, name): (usize, &String)| {
        let file = argument.strip_prefix(name.as_str())?.strip_prefix('=')?;
        Some((name.len(), position, file))
    };
    let (_, position, file) = names
        .iter()
        .enumerate()
        .filter_map(fits)
        .max_by_key(|(length, ..)| *length)?;
    Some((position, file))
}

/// The given inputs, by position.
pub fn read_inputs(arguments: &[String], names: &[String]) -> Result<Vec<Option<Tensor>>, Failure> {
    let mut inputs = vec![None; names.len()];
    for argument in arguments {
        let Some((position, file)) = split(argument, names) else {
            let known: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
            let error = Error::usage(format!(
                "--input {argument}: not NAME=FILE with the name of an input"
            ));
            return Err(error.help(format!("the inputs are {}", known.join(", "))).into());
        };
        let tensor = read_tensor(file.as_ref())?;
        if inputs[position].replace(tensor).is_some() {
            return Err(Failure::usage(format!(
                "input `{}` is given twice",
                names[position]
            )));
        }
    }
    Ok(inputs)
}

/// All inputs, or an error that lists those missing.
pub fn complete(specs: &[TensorSpec], inputs: Vec<Option<Tensor>>) -> Result<Vec<Tensor>, Failure> {
    let missing: Vec<String> = specs
        .iter()
        .zip(&inputs)
        .filter(|(_, tensor)| tensor.is_none())
        .map(|(spec, _)| format!("--input {}=FILE.npy   {}", spec.name, type_text(spec)))
        .collect();
    if missing.is_empty() {
        return Ok(inputs.into_iter().flatten().collect());
    }
    let error = Error::usage(format!(
        "{} of {} inputs are missing:",
        missing.len(),
        specs.len()
    ));
    Err(missing.into_iter().fold(error, Error::note).into())
}

/// Values shown of an output.
const SHOWN: usize = 8;

/// An output in short.
#[derive(Serialize)]
struct Summary {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    shape: Vec<usize>,
    first: Vec<f64>,
    min: Option<f64>,
    max: Option<f64>,
    argmax: Option<usize>,
    nan: usize,
}

impl Summary {
    fn of(name: &str, tensor: &Tensor) -> Self {
        let values = tensor.to_f64_vec();
        let numbers = || values.iter().copied().enumerate().filter(|(_, x)| !x.is_nan());
        let largest = numbers().fold(None, |best: Option<(usize, f64)>, (i, x)| match best {
            Some((_, y)) if y >= x => best,
            _ => Some((i, x)),
        });
        Self {
            name: name.to_owned(),
            ty: TensorType::new(tensor.dtype(), tensor.shape()).to_string(),
            shape: tensor.shape().to_vec(),
            first: values.iter().copied().take(SHOWN).collect(),
            min: numbers().map(|(_, x)| x).reduce(f64::min),
            max: largest.map(|(_, x)| x),
            argmax: largest.map(|(i, _)| i),
            nan: values.iter().filter(|x| x.is_nan()).count(),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Seven digits are all that f32 holds; integers show as such.
        let number = |x: &f64| {
            if x.fract() == 0.0 && x.abs() < 1e15 {
                format!("{x}")
            } else {
                format!("{x:.6e}")
            }
        };
        let first: Vec<String> = self.first.iter().map(number).collect();
        let more = if self.shape.iter().product::<usize>() > SHOWN {
            ", ..."
        } else {
            ""
        };
        write!(f, "{}: {} = [{}{more}]", self.name, self.ty, first.join(", "))?;
        if let (Some(min), Some(max), Some(argmax)) = (&self.min, &self.max, self.argmax) {
            write!(f, "; min {}, max {} at {argmax}", number(min), number(max))?;
        }
        if self.nan > 0 {
            write!(f, "; {} NaN", self.nan)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_known_name_is_meant() {
        let names: Vec<String> = ["a", "a=b", "x:0"].map(String::from).into();
        assert_eq!(split("a=f.npy", &names), Some((0, "f.npy")));
        assert_eq!(split("a=b=f.npy", &names), Some((1, "f.npy")));
        assert_eq!(split("x:0=a=b", &names), Some((2, "a=b")));
        assert_eq!(split("b=f.npy", &names), None);
        assert_eq!(split("a", &names), None);
    }

    #[test]
    fn summaries_count_nan_apart() {
        let tensor = Tensor::from_elements(vec![4], vec![1.0f32, f32::NAN, 3.0, -2.0]).unwrap();
        let summary = Summary::of("y", &tensor);
        assert_eq!(
            (summary.argmax, summary.max, summary.min, summary.nan),
            (Some(2), Some(3.0), Some(-2.0), 1)
        );
    }
}
