//! What `sdc bench --profile` reports: the time of each function of a model, and what the user's layers got out of it.

use crate::exit::Failure;
use comfy_table::{CellAlignment, Table, presets};
use sdc::{Function, files};
use sdc_artifact::measure::Step;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// One line of the profile.
#[derive(Debug, Serialize)]
pub struct Layer {
    function: String,
    /// The user's nodes.
    nodes: Vec<String>,
    operators: Vec<String>,
    /// Kernels called; `loops` if the function is made of loops.
    kernel: String,
    tasks: u64,
    us: f64,
    /// Of all functions together.
    share: f64,
    macs: u64,
    /// Two operations per multiply-accumulate.
    gflops: f64,
    /// Of the buffers touched, each counted once.
    bytes: u64,
    gbytes_per_s: f64,
    /// What the schedule pass weighed, and why it decided so.
    remarks: Vec<String>,
    #[serde(skip)]
    span: (f64, f64),
}

/// Brings functions and times together.
///
/// # Errors
/// If they are not as many, a bug.
pub fn layers(functions: &[Function], steps: &[Step]) -> Result<Vec<Layer>, Failure> {
    if functions.len() != steps.len() {
        let message = format!("{} functions, {} times", functions.len(), steps.len());
        return Err(Failure::bug(message));
    }
    let total: f64 = steps.iter().map(|s| s.us).sum();
    let layer = |(f, s): (&Function, &Step)| {
        let per_us = |n: u64| if s.us > 0.0 { n as f64 / s.us / 1e3 } else { 0.0 };
        Layer {
            function: f.name.clone(),
            nodes: f.origins.iter().map(|o| o.name.clone()).collect(),
            operators: f.origins.iter().map(|o| o.op.clone()).collect(),
            kernel: if f.kernels.is_empty() {
                "loops".to_owned()
            } else {
                f.kernels.join("+")
            },
            tasks: f.tasks,
            us: s.us,
            share: if total > 0.0 { s.us / total } else { 0.0 },
            macs: f.macs,
            gflops: 2.0 * per_us(f.macs),
            bytes: f.bytes,
            gbytes_per_s: per_us(f.bytes),
            remarks: f.remarks.clone(),
            span: (s.begin_us, s.last_us),
        }
    };
    Ok(functions.iter().zip(steps).map(layer).collect())
}

/// The profile as a table, in the order of execution, and below it what was decided and why.
pub fn print(layers: &[Layer], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "function", "us", "share", "GFLOP/s", "GB/s", "tasks", "kernel", "layers",
    ]);
    for l in layers {
        let rate = |x: f64| if x > 0.0 { format!("{x:.1}") } else { String::new() };
        table.add_row([
            l.function.clone(),
            format!("{:.1}", l.us),
            format!("{:.1} %", l.share * 100.0),
            rate(l.gflops),
            rate(l.gbytes_per_s),
            l.tasks.to_string(),
            l.kernel.clone(),
            l.nodes.join(" "),
        ]);
    }
    for column in table.column_iter_mut().skip(1).take(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{table}")?;
    for l in layers {
        for remark in &l.remarks {
            writeln!(out, "{}: {remark}", l.function)?;
        }
    }
    Ok(())
}

/// Writes the last run as a trace that Chrome's `about:tracing` and Perfetto show.
pub fn trace(layers: &[Layer], path: &Path) -> Result<(), Failure> {
    let event = |l: &Layer| {
        serde_json::json!({
            "name": l.nodes.first().unwrap_or(&l.function),
            "cat": l.kernel,
            "ph": "X",
            "pid": 1,
            "tid": 1,
            "ts": l.span.0,
            "dur": l.span.1,
            "args": l,
        })
    };
    let events: Vec<_> = layers.iter().map(event).collect();
    let text = serde_json::json!({ "displayTimeUnit": "ns", "traceEvents": events }).to_string();
    Ok(files::write(path, |file| file.write_all(text.as_bytes()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::graph::Origin;

    fn function(macs: u64) -> Function {
        let origin = Origin {
            name: "conv".into(),
            op: "Conv".into(),
            index: 0,
        };
        Function {
            name: "f0".into(),
            origins: vec![origin],
            kernels: vec!["conv2d_f32".into()],
            macs,
            bytes: 4000,
            tasks: 1,
            remarks: vec!["row-sparse: 30 % of the rows".into()],
        }
    }

    #[test]
    fn shares_and_rates() {
        let step = |us| Step {
            us,
            begin_us: 0.0,
            last_us: us,
        };
        let steps = [10.0, 30.0].map(step);
        let layers = layers(&[function(5000), function(0)], &steps).unwrap();
        assert!((layers[0].share - 0.25).abs() < 1e-12);
        assert!((layers[0].gflops - 1.0).abs() < 1e-12);
        assert!((layers[0].gbytes_per_s - 0.4).abs() < 1e-12);
        assert!(super::layers(&[function(1)], &steps).is_err());
        let mut said = Vec::new();
        print(&layers[..1], &mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.ends_with("\nf0: row-sparse: 30 % of the rows\n"), "{said}");
    }
}
