//! `--activations int8`: from a float network to one that computes in integers, and what became of it.

use crate::exit::Failure;
use crate::images::ImageArgs;
use crate::progress::Progress;
use crate::sd::Calibration;
use sdc_ir::graph::Graph;
use sdc_passes::decompose::Samples;
use sdc_passes::decompose::synthetic::Synthetic;
use sdc_passes::integer::listing::{Arithmetic, Line, listing};
use sdc_passes::integer::{self, IntegerError, Options};
use sdc_passes::pass::origin_text;
use serde::Serialize;
use std::io::{self, Write};

/// Seed of made-up inputs.
const SEED: u64 = 1;

/// What computes in integers and what does not.
#[derive(Serialize)]
pub struct Report {
    /// Inputs that the ranges were read from.
    inputs: usize,
    /// They were made up.
    made_up: bool,
    /// The share by which some range still grew over the second half of them.
    drift: f64,
    /// What stayed in floating point: node and reason.
    left: Vec<Left>,
    /// Every operator.
    operators: Vec<Line>,
}

#[derive(Serialize)]
struct Left {
    node: String,
    reason: String,
}

/// Converts a graph after fusion. Without inputs of its own it is shown made-up ones.
pub fn convert(
    fused: &Graph,
    calibration: Option<&Calibration>,
    image: &ImageArgs,
    limit: usize,
) -> Result<(Graph, Report), Failure> {
    let (mean, deviation) = image.statistics().unwrap_or((0.0, 1.0));
    let made_up = Synthetic::new(fused, limit, mean, deviation, SEED);
    let samples = calibration.map_or(&made_up as &dyn Samples, |c| c);
    let bar = Progress::steps(samples.count().min(limit));
    let options = Options { samples, limit };
    let converted = integer::run(fused, &options, &mut |p| {
        let moved = format!("ranges moved by {:.1} %", 100.0 * p.drift);
        bar.at(p.done, p.total, moved);
    })?;
    drop(bar);
    let report = Report {
        inputs: samples.count().min(limit),
        made_up: calibration.is_none(),
        drift: converted.drift,
        left: converted
            .left
            .iter()
            .map(|left| Left {
                node: origin_text(&left.origins),
                reason: left.reason.clone(),
            })
            .collect(),
        operators: listing(&converted.graph),
    };
    Ok((converted.graph, report))
}

impl Report {
    /// Prints it for people.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let count = |a: Arithmetic| self.operators.iter().filter(|l| l.arithmetic == a).count();
        writeln!(
            out,
            "arithmetic: {} operators in integers, {} boundaries, {} in floating point; ranges from {} {}inputs, moved by {:.1} % over \
             the second half",
            count(Arithmetic::Integer),
            count(Arithmetic::Boundary),
            count(Arithmetic::Float),
            self.inputs,
            if self.made_up { "made-up " } else { "" },
            100.0 * self.drift
        )?;
        for line in self
            .operators
            .iter()
            .filter(|l| l.arithmetic != Arithmetic::Integer)
        {
            let kind = match line.arithmetic {
                Arithmetic::Boundary => "boundary",
                _ => "float",
            };
            let nodes = line.origins.join(" + ");
            writeln!(
                out,
                "  {kind}: {} {} -> {} at {nodes}",
                line.op,
                line.from.join(","),
                line.to
            )?;
        }
        for left in &self.left {
            writeln!(out, "  kept: {}: {}", left.node, left.reason)?;
        }
        Ok(())
    }
}

impl From<IntegerError> for Failure {
    fn from(error: IntegerError) -> Self {
        match error {
            IntegerError::Samples(error) => error.into(),
            IntegerError::Quantised(_) => {
                Self::unsupported(error).help("it computes in integers without --activations int8")
            }
            IntegerError::Eval(_) => Self::unsupported(error),
            IntegerError::Infer(_) => Self::bug(error),
        }
    }
}
