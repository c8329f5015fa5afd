//! What `sdc compile` says about what it did.

use crate::exit::Failure;
use crate::units::{size, time};
use comfy_table::{CellAlignment, Table, presets};
use sdc::compress::CompressionReport;
use sdc::{Artifact, IntegerReport};
use sdc_artifact::emit::Written;
use sdc_passes::pass::Remark;
use sdc_passes::plan::report;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// The outcome in numbers.
#[derive(Serialize)]
pub struct Summary {
    name: String,
    cpu: String,
    files: Vec<FileRow>,
    arena_bytes: usize,
    prepared_bytes: usize,
    lower_bound_bytes: usize,
    waste_percent: f64,
    weights_bytes: usize,
    /// Of these, in memory at a time where runs give weights back.
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_weights_bytes: Option<usize>,
    code_bytes: u64,
    remarks_done: usize,
    remarks_not_done: usize,
    steps: Vec<Step>,
    seconds: f64,
}

#[derive(Serialize)]
struct FileRow {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    seconds: f64,
}

/// Everything there is to know.
#[derive(Serialize)]
pub struct Report<'a> {
    #[serde(flatten)]
    pub summary: &'a Summary,
    pub kernels: &'a [String],
    pub remarks: &'a [Remark],
    pub plan: &'a report::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<&'a CompressionReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<&'a IntegerReport>,
}

impl Summary {
    pub fn new(built: &Artifact, seconds: f64) -> Self {
        let file = |f: &Written| FileRow {
            path: f.path.clone(),
            bytes: f.size,
            sha256: f.sha256.to_string(),
        };
        let done = built.remarks.iter().filter(|r| r.done).count();
        Self {
            name: built.interface.name.clone(),
            cpu: built.interface.cpu.clone(),
            files: built.files.iter().map(file).collect(),
            arena_bytes: built.plan.arena_bytes,
            prepared_bytes: built.plan.prepared_bytes,
            lower_bound_bytes: built.plan.lower_bound_bytes,
            waste_percent: built.plan.waste_percent,
            weights_bytes: built.interface.weights_size,
            resident_weights_bytes: built.resident_weights,
            code_bytes: built.code_bytes,
            remarks_done: done,
            remarks_not_done: built.remarks.len() - done,
            steps: built
                .timings
                .iter()
                .map(|(step, time)| Step {
                    step,
                    seconds: time.as_secs_f64(),
                })
                .collect(),
            seconds,
        }
    }

    /// Prints it for people.
    pub fn print(&self, built: &Artifact, start: Instant, out: &mut dyn Write) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for file in &built.files {
            table.add_row([file.path.display().to_string(), size(file.size)]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(out, "{}", table.trim_fmt())?;
        writeln!(
            out,
            "arena_bytes: {} (lower bound {}, waste {:.2} %)",
            self.arena_bytes, self.lower_bound_bytes, self.waste_percent
        )?;
        if self.prepared_bytes > 0 {
            writeln!(out, "prepared_bytes: {}", self.prepared_bytes)?;
        }
        writeln!(out, "weights_bytes: {}", self.weights_bytes)?;
        if let Some(bytes) = self.resident_weights_bytes {
            writeln!(out, "resident_weights_bytes: {bytes}")?;
        }
        writeln!(out, "code_bytes: {}", self.code_bytes)?;
        writeln!(
            out,
            "remarks: {} done, {} not done",
            self.remarks_done, self.remarks_not_done
        )?;
        writeln!(
            out,
            "compiled `{}` for {} in {}",
            self.name,
            self.cpu,
            time(start.elapsed())
        )?;
        Ok(())
    }
}
