//! `sdc check`: outputs against recorded ones.

use crate::args::{AnyBackend, SessionArgs};
use crate::exit::Failure;
use crate::progress::Progress;
use sdc::check::{Checker, Tolerance, Way};
use sdc::{AccelOptions, DataSet, Error};
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc check model.onnx                         # with the data in model_io/test_data_set_*
  sdc check model.onnx --data recorded
  sdc check model.onnx --rtol 1e-3 --atol 1e-5 # element by element: |a-b| <= atol + rtol*|b|
  sdc check model.onnx --backend accel         # the accelerator's program gives the bits of the integer graph
  sdc check model.onnx --arena                 # also: how much of its arena does the model really use?

By default a float output passes when max|a-b| <= 1e-4 * max|b| (f16: 9.8e-4, bf16: 7.8e-3, one unit in the last place). An output
dequantised from integers passes when 99.5 % of it are within one step of its scale and none is beyond four. Integers must be equal; shapes, types and the places of NaN
and infinities must match. Symbolic dimensions follow from the data, of each set anew: the model is compiled once for each
shape of its inputs. So do inputs that shapes depend on: they are fixed to what was recorded, and a note says so.
With --backend accel the model computes in integers, whose ranges are those of the first set's inputs, and the outputs must be those of the
interpreter on that graph, bit for bit; recorded outputs are compared only if --rtol or --atol says how near they have to be.
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
    /// What runs the model
    #[arg(long, value_enum, default_value = "cranelift", conflicts_with = "interpreter")]
    backend: AnyBackend,
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

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let tolerance = Tolerance {
        rtol: args.rtol,
        atol: args.atol,
    };
    let dir = args.data.clone().unwrap_or_else(|| beside(&args.session.path));
    if args.data.is_none() && !dir.is_dir() {
        let message = format!("{}: there are no recorded inputs and outputs", dir.display());
        return Err(Error::usage(message)
            .help("say where they are: --data DIR")
            .into());
    }
    let sets = DataSet::all(&dir)?;
    let native = args.backend.native();
    let (fixed, options) = args.session.options(native.unwrap_or_default())?;
    let way = match (args.interpreter, native) {
        (true, _) => Way::Interpreter,
        (false, Some(_)) => Way::Native(options),
        (false, None) => {
            args.session.refuse_native("--backend accel")?;
            if args.arena {
                return Err(Failure::usage(
                    "--arena is of native code: not with --backend accel",
                ));
            }
            Way::Accel(AccelOptions::default())
        }
    };
    let progress = Progress::new();
    let mut checker = Checker::new(args.session.path.clone(), fixed, way, &progress)?;
    let mut rows = Vec::new();
    for set in &sets {
        let found = checker.check(set, tolerance)?;
        if !args.json {
            found.iter().try_for_each(|row| writeln!(out, "{row}"))?;
        }
        rows.extend(found);
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &rows).map_err(std::io::Error::from)?;
        writeln!(out)?;
    }
    if args.arena {
        arena(&mut checker, &sets[0], out)?;
    }
    if rows.iter().all(|r| r.passed) {
        Ok(())
    } else {
        Err(Failure::Differ)
    }
}

/// Holds the plan against what a run does to its arena.
fn arena(checker: &mut Checker<'_>, set: &DataSet, out: &mut dyn Write) -> Result<(), Failure> {
    let Some((used, size)) = checker.arena(set)? else {
        return Ok(());
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_beside_the_model() {
        assert_eq!(beside(Path::new("a/model_x.onnx")), Path::new("a/model_x_io"));
    }
}
