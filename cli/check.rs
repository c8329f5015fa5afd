//! `sdc check`: outputs against recorded ones.

use crate::dataset::DataSet;
use crate::exit::Failure;
use crate::session::{SessionArgs, Source, input_bytes};
use crate::subject::{Subject, Subjects};
use sdc_artifact::load::Artifact;
use sdc_interp::compare::{Class, Report, compare, epsilon};
use sdc_ir::Tensor;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc check model.onnx                         # with the data in model_io/test_data_set_*
  sdc check model.onnx --data recorded
  sdc check model.onnx --rtol 1e-3 --atol 1e-5 # element by element: |a-b| <= atol + rtol*|b|
  sdc check model.onnx --arena                 # also: how much of its arena does the model really use?

By default a float output passes when max|a-b| <= 1e-4 * max|b| (f16: 9.8e-4, bf16: 7.8e-3, one unit in the last place). An output
dequantised from integers passes when 99.5 % of it are within one step of its scale and none is beyond four. Integers must be equal; shapes, types and the places of NaN
and infinities must match. Symbolic dimensions follow from the data, of each set anew: the model is compiled once for each
shape of its inputs. So do inputs that shapes depend on: they are fixed to what was recorded, and a note says so.
Exit code 1 if an output differs.")]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Directory of test_data_set_N/{input,output}_K.pb; by default MODEL_io beside the model
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Compare element by element, with this relative tolerance
    #[arg(long, value_name = "X")]
    rtol: Option<f64>,
    /// Compare element by element, with this absolute tolerance
    #[arg(long, value_name = "X")]
    atol: Option<f64>,
    /// Run the imported model in the reference interpreter, without passes or native code
    #[arg(long, conflicts_with = "arena")]
    interpreter: bool,
    /// Also run on an arena full of a pattern, and print how much of it was really used
    #[arg(long, conflicts_with = "json")]
    arena: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// One output of one data set.
#[derive(Serialize)]
struct Row {
    data_set: String,
    output: String,
    /// Inputs whose recorded values were needed to compile the model.
    fixed: Vec<String>,
    passed: bool,
    max_error: f64,
    /// Largest magnitude of the recorded output.
    scale: f64,
    /// The largest error that passes; absent where it depends on the element.
    allowed: Option<f64>,
    detail: String,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let class = |step: Option<f64>| match (args.rtol, args.atol, step) {
        (None, None, Some(step)) => Class::Quantised { step },
        (None, None, None) => Class::ROUNDING,
        (rtol, atol, _) => Class::Elementwise {
            rtol: rtol.unwrap_or(0.0),
            atol: atol.unwrap_or(0.0),
        },
    };
    let dir = args.data.clone().unwrap_or_else(|| beside(&args.session.path));
    let sets = DataSet::all(&dir)?;
    let source = Source::open(&args.session)?;
    // The recorded inputs include those that are fixed.
    let fixed = source.fixed().to_vec();
    let recorded = |set: &DataSet| -> Result<Vec<Tensor>, Failure> {
        let all = set.inputs()?.into_iter().enumerate();
        Ok(all.filter(|(k, _)| !fixed.contains(k)).map(|(_, t)| t).collect())
    };
    let mut subjects = Subjects::new(&args.session, args.interpreter, source);
    let mut rows = Vec::new();
    for set in &sets {
        let (inputs, expected) = (recorded(set)?, set.outputs()?);
        let given = inputs.len();
        let ready = subjects.of(&inputs)?;
        let (wanted, names) = ready.subject.ports();
        let count = |what: &str, given: usize, wanted: usize| {
            Failure::usage(format!("{}: {given} {what}, the model has {wanted}", set.name()))
        };
        if ready.inputs.len() != wanted {
            return Err(count("inputs", given, wanted + ready.fixed.len()));
        }
        if expected.len() != names.len() {
            return Err(count("outputs", expected.len(), names.len()));
        }
        let actual = ready.subject.run(&ready.inputs)?;
        let pairs = actual.iter().zip(&expected);
        for (i, (name, (actual, expected))) in names.iter().zip(pairs).enumerate() {
            let report = compare(actual, expected, class(ready.subject.step(i)));
            let row = Row::new(set.name(), name, &ready.fixed, &report);
            if !args.json {
                writeln!(out, "{row}")?;
            }
            rows.push(row);
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &rows).map_err(std::io::Error::from)?;
        writeln!(out)?;
    }
    if args.arena {
        let inputs = recorded(&sets[0])?;
        let ready = subjects.of(&inputs)?;
        if let Subject::Native(_, artifact) = ready.subject {
            arena(artifact, &ready.inputs, out)?;
        }
    }
    if rows.iter().all(|r| r.passed) {
        Ok(())
    } else {
        Err(Failure::differ())
    }
}

/// Holds the plan against what a run does to its arena.
fn arena(artifact: &Artifact, inputs: &[Tensor], out: &mut dyn Write) -> Result<(), Failure> {
    let specs = &artifact.interface().inputs;
    let inputs = specs
        .iter()
        .zip(inputs)
        .map(|(spec, tensor)| input_bytes(spec, tensor))
        .collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&[u8]> = inputs.iter().map(|m| &m[..]).collect();
    let used = artifact.instance()?.measure(&inputs, None)?;
    let size = artifact.interface().arena_size;
    writeln!(
        out,
        "arena_bytes: {size}, used up to {}, {} written",
        used.highest, used.written
    )?;
    if used.highest > size {
        return Err(Failure::bug("the compiled code writes beyond its arena"));
    }
    if !used.outputs_agree {
        return Err(Failure::bug("the outputs depend on what the arena held before"));
    }
    Ok(())
}

/// `dir/model_io` for `dir/model.onnx`.
fn beside(model: &Path) -> PathBuf {
    let mut name = model.file_stem().unwrap_or_default().to_owned();
    name.push("_io");
    model.with_file_name(name)
}

impl Row {
    fn new(data_set: String, output: &str, fixed: &[String], report: &Report) -> Self {
        let allowed = match report.class {
            _ if !report.expected.dtype.is_float() => Some(0.0),
            Class::Exact => Some(0.0),
            Class::Rounding { rel } => Some(rel.max(epsilon(report.actual.dtype)) * report.scale),
            Class::Elementwise { .. } => None,
            Class::Quantised { step } => Some(4.0 * step),
        };
        Self {
            data_set,
            output: output.to_owned(),
            fixed: fixed.to_vec(),
            passed: report.passed(),
            max_error: report.max_abs,
            scale: report.scale,
            allowed,
            detail: report.to_string(),
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row {
            data_set,
            output,
            max_error,
            ..
        } = self;
        if !self.passed {
            return write!(f, "{data_set} {output}: {}", self.detail);
        }
        write!(f, "{data_set} {output}: ok, max_error {max_error:.3e}")?;
        match self.allowed {
            Some(allowed) => write!(f, ", allowed {allowed:.3e}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_beside_the_model() {
        assert_eq!(beside(Path::new("a/model_x.onnx")), Path::new("a/model_x_io"));
    }

    #[test]
    fn rows_say_what_was_allowed() {
        let t = |x: f32| Tensor::from_elements(vec![1], vec![x]).unwrap();
        let row = Row::new(
            "set".into(),
            "y",
            &[],
            &compare(&t(1.00001), &t(1.0), Class::ROUNDING),
        );
        assert!(
            row.passed && row.to_string().ends_with("allowed 1.000e-4"),
            "{row}"
        );
        let row = Row::new(
            "set".into(),
            "y",
            &[],
            &compare(&t(1.1), &t(1.0), Class::ROUNDING),
        );
        assert!(!row.passed && row.to_string().contains("differs"), "{row}");
    }
}
