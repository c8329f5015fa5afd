//! `sdc sim`: a program on the simulator.

use super::trace;
use crate::exit::Failure;
use crate::run::{add_outputs, complete, print_outputs, read_inputs};
use clap::ValueEnum;
use sdc::files::{self, Batch};
use sdc::{Error, Tensor, npy};
use sdc_accel_isa::{Config, ConfigError, Program};
use sdc_accel_sim::{Mode, Options, Outcome, Simulator};
use sdc_artifact::interface::TensorSpec;
use sdc_ir::DType;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc sim DIR --input image=cat.npy                       # outputs, cycles and bytes in short
  sdc sim program.sdap --report report.json --csv layers.csv
  sdc sim program.sdas --trace trace.json                 # for chrome://tracing or ui.perfetto.dev
  sdc sim DIR --input image=cat.npy --mode func --output out.npz
  sdc sim DIR --input image=cat.npy --set dram.bandwidth=16 --set sync=lane

Before anything runs the program is proved to end, to be free of races and to read only what was written.")]
pub struct Args {
    /// Program, its text, or the directory that `sdc compile --backend accel` wrote
    #[arg(value_name = "DIR|FILE.sdap|FILE.sdas")]
    program: PathBuf,
    /// Values of an input, as .npy or as ONNX's .pb; may be repeated, and must name every input
    #[arg(long = "input", value_name = "NAME=FILE")]
    inputs: Vec<String>,
    /// Write output K to DIR/output_K.npy, and the names to DIR/names.json
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Write all outputs to one archive, under their names
    #[arg(long, value_name = "FILE.npz", conflicts_with = "output_dir")]
    output: Option<PathBuf>,
    /// Results with cycles, or results alone
    #[arg(long, value_enum, default_value = "cycle")]
    mode: ModeArg,
    /// Execute in a random legal order, which changes no result; implies --mode func
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Change a key of the configuration that leaves the program valid; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The machine: the program must have been made for it
    #[arg(long, value_name = "FILE.toml")]
    arch: Option<PathBuf>,
    /// Write what was done, layer by layer
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Write the layers' numbers as a table
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write every instruction in time, in Chrome's trace format
    #[arg(long, value_name = "FILE.json", conflicts_with = "shuffle")]
    trace: Option<PathBuf>,
    /// Write the results of layers that multiply, add or pool to DIR/ID.npy, by the report's ids; lookups and copies state no type
    #[arg(long, value_name = "DIR")]
    dump_values: Option<PathBuf>,
    /// Compare the outputs with those of an archive; exit 1 if one differs
    #[arg(long, value_name = "FILE.npz")]
    expect: Option<PathBuf>,
    /// Print the summary of outputs as JSON
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum ModeArg {
    Func,
    Cycle,
}

impl Args {
    fn mode(&self) -> Result<Mode, Failure> {
        match (self.shuffle, self.mode) {
            (Some(seed), _) => Ok(Mode::Shuffle(seed)),
            (None, ModeArg::Cycle) => Ok(Mode::Cycle),
            (None, ModeArg::Func) if self.trace.is_some() => {
                Err(Failure::usage("--trace needs --mode cycle"))
            }
            (None, ModeArg::Func) => Ok(Mode::Func),
        }
    }

    fn config(&self, program: &Program) -> Result<Config, Failure> {
        let mut config = match &self.arch {
            None => program.config.clone(),
            Some(path) => {
                Config::from_toml(&files::text(path)?).map_err(|faults| wrong_keys(path, &faults))?
            }
        };
        for assignment in &self.set {
            config.set_at_run(assignment).map_err(Failure::usage)?;
        }
        Ok(config)
    }
}

/// All faults of a configuration file.
fn wrong_keys(path: &Path, faults: &[ConfigError]) -> Error {
    let error = Error::usage(format!("{}: not a configuration", path.display()));
    faults
        .iter()
        .fold(error, |error, fault| error.note(fault.to_string()))
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let mode = args.mode()?;
    let program = sdc::read_program(&args.program)?;
    let config = args.config(&program)?;
    let simulator = Simulator::new(program, config).map_err(Error::from)?;
    let inputs = inputs(args, simulator.program())?;
    let options = Options {
        mode,
        trace: args.trace.is_some(),
        values: args.dump_values.is_some(),
    };
    let outcome = simulator.run(&inputs, &options).map_err(Error::from)?;
    let ports = simulator.program().outputs.iter();
    let names: Vec<String> = ports.map(|p| p.name.clone()).collect();
    let to = (args.output_dir.as_deref(), args.output.as_deref());
    let mut batch = Batch::default();
    add_outputs(&mut batch, to, &names, &outcome.outputs)?;
    add_reports(&mut batch, args, &simulator, &outcome)?;
    batch.commit()?;
    print_outputs(to, args.json, &names, &outcome.outputs, out)?;
    if !args.json {
        summary(&outcome, mode, out)?;
    }
    match &args.expect {
        Some(path) => expect(path, &names, &outcome.outputs, out),
        None => Ok(()),
    }
}

fn inputs(args: &Args, program: &Program) -> Result<Vec<Tensor>, Failure> {
    let names: Vec<String> = program.inputs.iter().map(|p| p.name.clone()).collect();
    let specs = TensorSpec::list(program.inputs.iter().map(|port| {
        let dtype = if port.grid.is_some() {
            DType::F32
        } else {
            port.dtype
        };
        (port.name.clone(), dtype, port.shape.clone())
    }));
    if program.inputs.is_empty() && !args.inputs.is_empty() {
        return Err(Failure::usage("the program has no inputs"));
    }
    complete(&specs, read_inputs(&args.inputs, &names)?)
}

/// Report, table, trace and values.
fn add_reports(
    batch: &mut Batch,
    args: &Args,
    simulator: &Simulator,
    outcome: &Outcome,
) -> Result<(), Failure> {
    if let Some(path) = &args.report {
        batch.add(path, |file| {
            serde_json::to_writer_pretty(&mut *file, &outcome.report)?;
            writeln!(file)
        })?;
    }
    if let Some(path) = &args.csv {
        batch.add(path, |file| file.write_all(outcome.report.to_csv().as_bytes()))?;
    }
    if let Some(path) = &args.trace {
        batch.add(path, |file| {
            trace::write(file, simulator.program(), &outcome.trace)
        })?;
    }
    if let Some(dir) = &args.dump_values {
        batch.create_dir(dir)?;
        for (id, tensor) in &outcome.values {
            batch.add(&dir.join(format!("{id}.npy")), |file| npy::write(file, tensor))?;
        }
    }
    Ok(())
}

fn summary(outcome: &Outcome, mode: Mode, out: &mut dyn Write) -> Result<(), Failure> {
    let (report, total) = (&outcome.report, &outcome.report.total);
    writeln!(out, "arch: {}", report.arch)?;
    writeln!(
        out,
        "macs: {} on the machine, {} on the host",
        report.macs.machine, report.macs.host
    )?;
    let bytes = &total.bytes;
    let (read, written) = (bytes.dram_read, bytes.dram_written);
    writeln!(
        out,
        "dram_bytes: {read} read, {written} written, {} of program",
        bytes.program
    )?;
    if mode == Mode::Cycle {
        writeln!(
            out,
            "skipped: {} by weights, {} by activations",
            total.skipped_weight, total.skipped_activation
        )?;
        let busy = &total.busy;
        writeln!(
            out,
            "busy_cycles: pe {}, ve {}, ld {}, st {}",
            busy.pe_busy, busy.ve_busy, busy.ld_busy, busy.st_busy
        )?;
        writeln!(out, "cycles: {}", total.cycles)?;
    }
    Ok(())
}

/// Compares outputs bit for bit with those of an archive.
fn expect(path: &Path, names: &[String], outputs: &[Tensor], out: &mut dyn Write) -> Result<(), Failure> {
    let expected = npy::read_npz(path)?;
    let mut differ = false;
    for (name, found) in names.iter().zip(outputs) {
        let verdict = match expected.get(name) {
            None => "not in the archive".to_owned(),
            Some(e) if (e.dtype(), e.shape()) != (found.dtype(), found.shape()) => format!(
                "{}{:?}, expected {}{:?}",
                found.dtype(),
                found.shape(),
                e.dtype(),
                e.shape()
            ),
            Some(e) if e == found => continue,
            Some(e) => {
                let size = found.dtype().size();
                let pairs = e.bytes().chunks(size).zip(found.bytes().chunks(size));
                format!(
                    "{} of {} elements differ",
                    pairs.filter(|(a, b)| a != b).count(),
                    found.len()
                )
            }
        };
        writeln!(out, "differs: `{name}`: {verdict}")?;
        differ = true;
    }
    if differ { Err(Failure::Differ) } else { Ok(()) }
}
