//! What `--activations int8` came to, for people.

use sdc::IntegerReport;
use sdc_passes::integer::listing::Arithmetic;
use std::io::{self, Write};

/// Prints what computes in integers and what does not.
pub fn print(report: &IntegerReport, out: &mut dyn Write) -> io::Result<()> {
    let count = |a: Arithmetic| report.operators.iter().filter(|l| l.arithmetic == a).count();
    writeln!(
        out,
        "arithmetic: {} operators in integers, {} boundaries, {} in floating point; ranges from {} {}inputs{}, moved by {:.1} % over \
         the second half",
        count(Arithmetic::Integer),
        count(Arithmetic::Boundary),
        count(Arithmetic::Float),
        report.inputs,
        if report.made_up { "made-up " } else { "" },
        if report.interpreted {
            " by interpretation"
        } else {
            ""
        },
        100.0 * report.drift
    )?;
    for line in report
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
    for left in &report.left {
        writeln!(out, "  kept: {}: {}", left.node, left.reason)?;
    }
    Ok(())
}
