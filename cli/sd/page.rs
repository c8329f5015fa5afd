//! The report as one HTML page that needs nothing else: tables and plots.

use crate::exit::Failure;
use crate::units::decibels;
use maud::{DOCTYPE, PreEscaped, html};
use plotters::prelude::*;
use sdc::compress::{CompressionReport, LayerRow};

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;font-size:13px}td,th{padding:.15rem .6rem;text-align:left;border-bottom:1px solid #ddd}\
td.n{text-align:right;font-variant-numeric:tabular-nums}figure{margin:1.5rem 0}figcaption{color:#555}svg{max-width:100%;height:auto}";

/// Plots are this large, in units of the picture.
const PLOT: (u32, u32) = (960, 300);
const BAR: RGBColor = RGBColor(48, 105, 152);

/// The page.
pub fn page(report: &CompressionReport) -> Result<String, Failure> {
    let by_layer = |value: fn(&LayerRow) -> Option<f64>| -> Vec<f64> {
        report.layers.iter().map(|l| value(l).unwrap_or(0.0)).collect()
    };
    let total = report.magnitudes.values().sum::<usize>().max(1) as f64;
    let last = report
        .magnitudes
        .keys()
        .next_back()
        .map_or(0, |&m| usize::from(m));
    let mut shares = vec![0.0; last + 1];
    for (&magnitude, &count) in &report.magnitudes {
        shares[usize::from(magnitude)] = 100.0 * count as f64 / total;
    }
    let plots = [
        (
            "Signal to error by layer, in dB, in the order of the table",
            bars(&by_layer(|l| l.sqnr_db))?,
        ),
        ("Bytes by layer", bars(&by_layer(|l| Some(l.bytes as f64)))?),
        (
            "Bits per weight by layer",
            bars(&by_layer(|l| Some(l.bits_per_weight)))?,
        ),
        (
            "Magnitudes among the codes, in per cent (0 is a zero)",
            bars(&shares)?,
        ),
        (
            "Predicted error at the outputs (dB below the signal) against kilobytes, were the layers given more or fewer bits",
            curve(&report.pareto)?,
        ),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "sdc compress: " (report.model) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (report.model) }
                p {
                    (report.float_bytes) " bytes of weights and biases became " b { (report.weights_bytes) } ": " b {
                        (format!("{:.3} times", report.ratio))
                    } " smaller. Wish: " (report.wish) "; method: " (report.solver) "; calibration inputs: "
                    (report.calibration_inputs) "."
                }
                h2 { "Outputs" }
                table {
                    tr { th { "output" } th { "decomposition dB" } th { "reordering dB" } }
                    @for row in &report.outputs {
                        tr {
                            td { (row.output) }
                            td.n { (decibels(row.decomposition_db)) }
                            td.n { (decibels(row.reordering_db)) }
                        }
                    }
                }
                h2 { "Layers" }
                table {
                    tr {
                        @for head in ["layer", "operator", "shape", "form", "density", "bits", "bytes", "SQNR dB", "why"] {
                            th { (head) }
                        }
                    }
                    @for l in &report.layers {
                        tr {
                            td { (l.node) } td { (l.op) } td { (format!("{:?}", l.shape)) } td { (l.form) }
                            td.n { (format!("{:.2}", l.density)) } td.n { (format!("{:.2}", l.bits_per_weight)) }
                            td.n { (l.bytes) } td.n { (decibels(l.sqnr_db)) } td { (l.why) }
                        }
                    }
                }
                @for (caption, plot) in plots.iter().filter(|p| !p.1.is_empty()) {
                    figure { (PreEscaped(plot)) figcaption { (caption) } }
                }
                h2 { "The weights file, to the byte" }
                table {
                    tr { th { "part" } th { "bytes" } }
                    @for piece in &report.weights_file { tr { td { (piece.name) } td.n { (piece.bytes) } } }
                    tr { th { "all" } td.n { (report.weights_bytes) } }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::bug(format!("a plot: {error}"))
}

/// Bars numbered from 0, as an SVG element; empty without values.
fn bars(values: &[f64]) -> Result<String, Failure> {
    let top = values.iter().copied().fold(0.0, f64::max);
    if top <= 0.0 {
        return Ok(String::new());
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, PLOT).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(60)
            .build_cartesian_2d((0..values.len() as u32 - 1).into_segmented(), 0.0..top * 1.05)
            .map_err(failed)?;
        chart.configure_mesh().disable_x_mesh().draw().map_err(failed)?;
        let data = values.iter().enumerate().map(|(i, &v)| (i as u32, v));
        let bars = Histogram::vertical(&chart)
            .style(BAR.filled())
            .margin(2)
            .data(data);
        chart.draw_series(bars).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// A line through bytes and squared relative errors, as an SVG element; empty without points.
fn curve(points: &[(usize, f64)]) -> Result<String, Failure> {
    let points: Vec<(f64, f64)> = points
        .iter()
        .filter(|p| p.1 > 0.0)
        .map(|&(bytes, error)| (bytes as f64 / 1000.0, -10.0 * error.log10()))
        .collect();
    if points.len() < 2 {
        return Ok(String::new());
    }
    let span = |value: fn(&(f64, f64)) -> f64| {
        let low = points.iter().map(value).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
        low..high.max(low + 1e-3)
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, PLOT).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(60)
            .build_cartesian_2d(span(|p| p.0), span(|p| p.1))
            .map_err(failed)?;
        chart.configure_mesh().draw().map_err(failed)?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), &BAR))
            .map_err(failed)?;
        let marks = points.iter().map(|&p| Circle::new(p, 2, BAR.filled()));
        chart.draw_series(marks).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}
