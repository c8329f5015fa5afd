//! The report on a compression, for people: a table, a page, or JSON.

use super::page;
use crate::exit::Failure;
use crate::units::{decibels, size, time};
use comfy_table::{CellAlignment, Table, presets};
use sdc::compress::{CompressionReport, LayerRow};
use sdc::files;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Writes the report: a page if the name ends in `.html`, else JSON.
pub fn write(report: &CompressionReport, path: &Path) -> Result<(), Failure> {
    if path.extension().is_some_and(|e| e == "html") {
        let page = page::page(report)?;
        return Ok(files::write(path, |out| out.write_all(page.as_bytes()))?);
    }
    Ok(files::write(path, |out| {
        Ok(serde_json::to_writer_pretty(out, report)?)
    })?)
}

/// Prints it for people.
pub fn print(report: &CompressionReport, taken: Duration, out: &mut dyn Write) -> Result<(), Failure> {
    layer_table(&report.layers, out)?;
    for row in &report.outputs {
        writeln!(
            out,
            "output {}: decomposition {} dB, reordering {} dB",
            row.output,
            decibels(row.decomposition_db),
            decibels(row.reordering_db)
        )?;
    }
    writeln!(
        out,
        "weights_bytes: {} of {} (ratio {:.3})",
        report.weights_bytes, report.float_bytes, report.ratio
    )?;
    writeln!(
        out,
        "wrote {} ({}) in {}",
        report.output,
        size(report.output_bytes as u64),
        time(taken)
    )?;
    Ok(())
}

/// Layers as a table.
fn layer_table(layers: &[LayerRow], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "layer", "shape", "form", "density", "bits", "bytes", "SQNR dB", "why",
    ]);
    for l in layers {
        let shape: Vec<String> = l.shape.iter().map(ToString::to_string).collect();
        table.add_row([
            l.node.clone(),
            shape.join("x"),
            l.form.clone(),
            format!("{:.2}", l.density),
            format!("{:.2}", l.bits_per_weight),
            l.bytes.to_string(),
            decibels(l.sqnr_db),
            l.why.clone(),
        ]);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if (3..7).contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(writeln!(out, "{}", table.trim_fmt())?)
}
