//! `sdc compile --backend accel`: a model to a program for the accelerator.

use super::{Activations, Args, Emit, Residence};
use super::{check_stage, compressed, dump_of, integers, recorded_of, show};
use crate::exit::Failure;
use crate::progress::Progress;
use crate::units::size;
use comfy_table::{CellAlignment, Table, presets};
use sdc::compress::CompressionReport;
use sdc::{AccelArtifact, AccelOptions, IntegerReport, compile_accel, files};
use sdc_accel::emit::Traffic;
use sdc_accel_isa::{Config, ConfigError};
use sdc_passes::driver::CheckInputs;
use sdc_passes::pipeline::PipelineOptions;
use serde::Serialize;
use std::io::Write;
use std::time::Instant;

/// Options that only an accelerator's program has.
pub fn refuse(args: &Args) -> Result<(), Failure> {
    let mut given = Vec::new();
    if args.arch.is_some() {
        given.push("--arch");
    }
    if !args.set.is_empty() {
        given.push("--set");
    }
    if args.emit.contains(&Emit::Asm) {
        given.push("--emit asm");
    }
    if given.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} belongs to --backend accel",
        given.join(", ")
    )))
}

/// Options that a program for the accelerator has no use for.
fn native_only(args: &Args) -> Vec<&'static str> {
    let emit = |e: &Emit| !matches!(e, Emit::Asm | Emit::Ir);
    let given = [
        ("--cpu", !args.cpu.is_empty()),
        ("--target", args.target != sdc_lower::Arch::X86_64.triple()),
        ("--embed-weights", args.embed_weights),
        ("--no-kernels", args.no_kernels),
        ("--no-winograd", args.no_winograd),
        ("--weights streamed", args.weights == Residence::Streamed),
        ("--resident-weights", args.residency.resident_weights.is_some()),
        ("--ram", args.ram.is_some()),
        ("--flash", args.flash.is_some()),
        ("--stop-after", args.stop_after.is_some()),
        ("--emit of native files", args.emit.iter().any(emit)),
    ];
    given.into_iter().filter(|g| g.1).map(|g| g.0).collect()
}

/// The machine that file and settings describe.
pub fn config(arch: Option<&std::path::Path>, set: &[String]) -> Result<Config, Failure> {
    let faults = |faults: Vec<ConfigError>, place: &str| {
        let text: Vec<String> = faults.iter().map(|f| format!("{place}{f}")).collect();
        Failure::usage(text.join("\n"))
    };
    let mut config = match arch {
        None => Config::default(),
        Some(path) => Config::from_toml(&files::text(path)?)
            .map_err(|all| faults(all, &format!("{}: ", path.display())))?,
    };
    let wrong: Vec<ConfigError> = set.iter().filter_map(|s| config.set(s).err()).collect();
    if wrong.is_empty() {
        Ok(config)
    } else {
        Err(faults(wrong, "--set: "))
    }
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let start = Instant::now();
    let native = native_only(args);
    if !native.is_empty() {
        return Err(Failure::usage(format!(
            "{}: not with --backend accel",
            native.join(", ")
        )));
    }
    let Some(dir) = &args.output else {
        return Err(Failure::usage("--backend accel needs --output"));
    };
    if let Some(stage) = &args.print_after {
        check_stage(stage)?;
    }
    let config = config(args.arch.as_deref(), &args.set)?;
    let mut model = args.model.import()?;
    let progress = Progress::new();
    let compression = compressed(args, &mut model, &progress)?;
    let implied = args.activations == Activations::F32 && args.start_from.is_none();
    let arithmetic = if implied && sdc::computes_in_integers(&model.graph) {
        None
    } else {
        integers(args, implied, &mut model, &progress)?
    };
    if implied && arithmetic.is_some() {
        use sdc::Observer;
        progress.note("--backend accel implies --activations int8");
    }
    let mut recorded = recorded_of(args, &model, arithmetic.is_some());
    recorded.insert("backend".to_owned(), "accel".to_owned());
    recorded.extend(args.set.iter().filter_map(|s| {
        let (key, value) = s.split_once('=')?;
        Some((format!("set {key}"), value.to_owned()))
    }));
    let options = AccelOptions {
        name: args.name.clone(),
        config,
        recorded,
        passes: PipelineOptions {
            start_from: args.start_from.clone(),
            check_each_pass: args.check.is_some().then_some(CheckInputs::Seeded(0)),
            ..PipelineOptions::default()
        },
        assembly: args.emit.contains(&Emit::Asm),
    };
    let mut dump = dump_of(args);
    let built = compile_accel(&model, &options, dir, &progress, dump.as_mut())?;
    drop(progress);
    show(args, dump, dir, out)?;
    let summary = Summary::of(&built, start.elapsed().as_secs_f64());
    if let Some(path) = &args.report {
        let report = Report {
            summary: &summary,
            layers: &built.compiled.layers,
            host: &built.compiled.host,
            remarks: &built.remarks,
            compression: compression.as_ref(),
            arithmetic: arithmetic.as_ref(),
        };
        files::write(path, |out| Ok(serde_json::to_writer_pretty(out, &report)?))?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &summary).map_err(std::io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    if let Some(arithmetic) = &arithmetic {
        super::arithmetic::print(arithmetic, out)?;
    }
    summary.print(&built, out)
}

/// The outcome in numbers.
#[derive(Serialize)]
struct Summary {
    name: String,
    arch: String,
    hash: String,
    files: Vec<sdc::AccelFile>,
    macs_machine: u64,
    macs_host: u64,
    instructions: usize,
    program_bytes: usize,
    dram_bytes: Traffic,
    maps_kept: usize,
    maps_spilled: usize,
    host_steps: usize,
    seconds: f64,
}

/// Everything there is to know.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    layers: &'a [sdc_accel::LayerSummary],
    host: &'a [sdc_accel::HostNode],
    remarks: &'a [sdc_passes::pass::Remark],
    #[serde(skip_serializing_if = "Option::is_none")]
    compression: Option<&'a CompressionReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arithmetic: Option<&'a IntegerReport>,
}

impl Summary {
    fn of(built: &AccelArtifact, seconds: f64) -> Self {
        let compiled = &built.compiled;
        let program = &compiled.program;
        Self {
            name: built.name.clone(),
            arch: program.config.name.clone(),
            hash: program.config.hash().to_string(),
            files: built.files.clone(),
            macs_machine: compiled.layers.iter().map(|l| l.macs).sum(),
            macs_host: compiled.host.iter().map(|h| h.macs).sum(),
            instructions: program.code.len(),
            program_bytes: program.code.len() * 16,
            dram_bytes: compiled
                .layers
                .iter()
                .map(|l| l.traffic)
                .fold(Traffic::default(), Traffic::plus),
            maps_kept: compiled.maps.0,
            maps_spilled: compiled.maps.1,
            host_steps: program.host.len(),
            seconds,
        }
    }

    fn print(&self, built: &AccelArtifact, out: &mut dyn Write) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for file in &self.files {
            table.add_row([file.path.display().to_string(), size(file.bytes)]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(out, "{}", table.trim_fmt())?;
        let all = (self.macs_machine + self.macs_host).max(1);
        let share = 100.0 * self.macs_machine as f64 / all as f64;
        writeln!(
            out,
            "macs: {} on the machine ({share:.1} %), {} on the host",
            self.macs_machine, self.macs_host
        )?;
        writeln!(
            out,
            "instructions: {} ({} bytes)",
            self.instructions, self.program_bytes
        )?;
        let t = &self.dram_bytes;
        writeln!(
            out,
            "dram_bytes: weights {} (bases {}, index {}), parameters {}, tables {}, maps read {}, written {}",
            t.stream, t.basis, t.index, t.parameters, t.table, t.read, t.written
        )?;
        writeln!(
            out,
            "maps: {} kept on chip, {} in DRAM",
            self.maps_kept, self.maps_spilled
        )?;
        let convolutions = || built.compiled.layers.iter().filter(|l| l.weight_bytes > 0);
        let limited = |by: &str| convolutions().filter(|l| l.limit == by).count();
        writeln!(
            out,
            "tiles: of {} convolutions {} are limited by the slices, {} by the weight buffer, which is filled to {} bytes a slice at most",
            convolutions().count(),
            limited("slices"),
            limited("weight buffer"),
            convolutions().map(|l| l.weight_bytes).max().unwrap_or(0)
        )?;
        for layer in &built.compiled.layers {
            for remark in &layer.remarks {
                writeln!(out, "  {}: {remark}", layer.origin)?;
            }
        }
        let bytes: usize = built.compiled.host.iter().map(|h| h.bytes).sum();
        for node in &built.compiled.host {
            let share = 100.0 * node.macs as f64 / all as f64;
            writeln!(
                out,
                "  host: {} {}: {} ({share:.1} % of the macs, {} of {bytes} bytes)",
                node.op, node.origin, node.reason, node.bytes
            )?;
        }
        writeln!(
            out,
            "compiled `{}` for {} in {:.2} s",
            self.name, self.arch, self.seconds
        )?;
        Ok(())
    }
}
