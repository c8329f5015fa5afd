//! `sdc inspect`: what is in a model, and what of it is not supported, before anything is compiled.

use crate::args::ModelArgs;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::units::{decibels, size};
use comfy_table::{CellAlignment, Table, presets};
use sdc::inspect::{Inspection, Layer};
use std::io::Write;

#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  sdc inspect model.onnx
  sdc inspect model.onnx --json | jq .macs
  sdc inspect model.onnx --dim batch=1     # sizes need values for symbolic dimensions

Exit code 4 if something in the model is not supported; all of it is listed, as `sdc compile` would.")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let ModelArgs { model, dims } = &args.model;
    let (inspection, error) = sdc::inspect::inspect(model, &dims.options()?, &Progress::new())?;
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &inspection).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&inspection, out)?;
    }
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// The nodes that cannot be compiled, a line for each kind of problem.
fn print_unsupported(inspection: &Inspection, out: &mut dyn Write) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = inspection
        .problems
        .iter()
        .filter_map(|p| {
            let nodes = p.at.as_ref()?;
            let set = nodes
                .supported_since
                .map_or_else(|| "none".to_owned(), |n| n.to_string());
            let first = nodes.names.first().cloned().unwrap_or_default();
            let code = p.code.clone().unwrap_or_default();
            Some(vec![
                nodes.operator.clone(),
                code,
                first,
                nodes.count.to_string(),
                set,
            ])
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head = [
        "not supported",
        "code",
        "first node",
        "count",
        "from operator set",
    ];
    table(out, &head, rows.into_iter())
}

fn print(inspection: &Inspection, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        out,
        "file: {} ({})",
        inspection.file,
        size(inspection.file_bytes as u64)
    )?;
    writeln!(out, "sha256: {}", inspection.sha256)?;
    let opsets: Vec<String> = inspection
        .opsets
        .iter()
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    writeln!(
        out,
        "ir_version: {}, opset: {}",
        inspection.ir_version,
        opsets.join(", ")
    )?;
    if !inspection.producer.is_empty() {
        writeln!(out, "producer: {}", inspection.producer)?;
    }
    for (what, ports) in [("input", &inspection.inputs), ("output", &inspection.outputs)] {
        for port in ports {
            writeln!(out, "{what}: {} {}", port.name, port.ty)?;
        }
    }
    if let (Some(parameters), Some(bytes), Some(macs)) =
        (inspection.parameters, inspection.parameter_bytes, inspection.macs)
    {
        writeln!(out, "parameters: {parameters} ({})", size(bytes))?;
        writeln!(out, "macs: {macs}")?;
    }
    for remark in &inspection.remarks {
        writeln!(out, "remark: {remark}")?;
    }
    writeln!(out)?;
    let mut operators: Vec<(&String, &usize)> = inspection.operators.iter().collect();
    operators.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows = operators
        .iter()
        .map(|(op, count)| vec![(*op).clone(), count.to_string()]);
    table(out, &["operator", "count"], rows)?;
    print_unsupported(inspection, out)?;
    if !inspection.layers.is_empty() {
        writeln!(out)?;
        let row = |l: &Layer| {
            let numbers = [l.parameters, l.bytes, l.macs].map(|n| n.to_string());
            [
                vec![l.node.clone(), l.op.clone(), l.output.clone()],
                numbers.into(),
            ]
            .concat()
        };
        table(
            out,
            &["layer", "operator", "output", "parameters", "bytes", "macs"],
            inspection.layers.iter().map(row),
        )?;
    }
    if inspection.layers.iter().any(|l| l.compressed.is_some()) {
        writeln!(out)?;
        let compressed = inspection
            .layers
            .iter()
            .filter_map(|l| Some((l, l.compressed.as_ref()?)));
        let rows = compressed.map(|(l, c)| {
            vec![
                l.node.clone(),
                l.op.clone(),
                c.form.clone(),
                format!("{:.2}", c.density),
                format!("{:.2}", c.bits_per_weight),
                decibels(c.sqnr_db),
                c.output_error
                    .map_or_else(|| "-".to_owned(), |e| format!("{e:.1e}")),
            ]
        });
        let head = [
            "compressed",
            "operator",
            "form",
            "density",
            "bits",
            "SQNR dB",
            "output error",
        ];
        table(out, &head, rows)?;
        for layer in &inspection.layers {
            if let Some(speed) = layer.compressed.as_ref().and_then(|c| c.speed.as_ref()) {
                writeln!(out, "speed: {}: {speed}", layer.node)?;
            }
        }
    }
    Ok(())
}

/// A table without lines; columns from the fourth on, and the second of two, hold numbers.
fn table(out: &mut dyn Write, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(head.to_vec())
        .add_rows(rows);
    let numbers = if head.len() == 2 { 1.. } else { 3.. };
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(writeln!(out, "{}", table.trim_fmt())?)
}
