//! A plan as a picture: time to the right (one column per function), addresses upwards, a rectangle per buffer.

use super::report::{BufferRow, Report};
use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Text, Title};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
/// Room for the functions' names, written downwards.
const BOTTOM: f64 = 260.0;
/// Columns narrower than this carry no names.
const READABLE: f64 = 9.0;
/// Width of a character of the labels, roughly.
const CHARACTER: f64 = 5.6;

/// The timeline of a plan as an SVG document.
pub fn timeline(report: &Report) -> String {
    let column = WIDTH / report.functions.len().max(1) as f64;
    let scale = HEIGHT / report.arena_bytes.max(1) as f64;
    let mut document = Document::new()
        .set(
            "viewBox",
            (0, 0, (LEFT + WIDTH + 20.0) as i64, (TOP + HEIGHT + BOTTOM) as i64),
        )
        .set("font-family", "sans-serif")
        .set("font-size", 10)
        .add(
            Text::new(format!(
                "{}: arena {} bytes, lower bound {} bytes, waste {:.2} %",
                report.model, report.arena_bytes, report.lower_bound_bytes, report.waste_percent
            ))
            .set("x", LEFT)
            .set("y", 20)
            .set("font-size", 14),
        );
    for row in &report.buffers {
        document = document.add(buffer(row, column, scale));
    }
    document = document
        .add(level(report.arena_bytes, scale, "arena", "#000000"))
        .add(level(report.lower_bound_bytes, scale, "bound", "#c02020"));
    if column >= READABLE {
        for row in &report.functions {
            let (x, y) = (LEFT + (row.index as f64 + 0.5) * column, TOP + HEIGHT + 8.0);
            document = document.add(
                Text::new(shorten(&row.origins.join(" + "), BOTTOM))
                    .set("x", x)
                    .set("y", y)
                    .set("transform", format!("rotate(90 {x} {y})")),
            );
        }
    }
    document.to_string()
}

fn buffer(row: &BufferRow, column: f64, scale: f64) -> Group {
    let (x, width) = (
        LEFT + row.first as f64 * column,
        (row.last + 1 - row.first) as f64 * column,
    );
    let height = row.bytes as f64 * scale;
    let y = TOP + HEIGHT - row.offset as f64 * scale - height;
    let title = format!(
        "{} {}: {} bytes at {}, functions {} to {}",
        row.buffer, row.name, row.bytes, row.offset, row.first, row.last
    );
    let mut group = Group::new().add(Title::new(title)).add(
        Rectangle::new()
            .set("x", x)
            .set("y", y)
            .set("width", width)
            .set("height", height)
            .set("fill", colour(row.first))
            .set("fill-opacity", 0.8)
            .set("stroke", "#404040")
            .set("stroke-width", 0.5),
    );
    let text = shorten(&row.name, width - 4.0);
    if height >= 11.0 && !text.is_empty() {
        group = group.add(Text::new(text).set("x", x + 2.0).set("y", y + height / 2.0 + 4.0));
    }
    group
}

fn level(bytes: usize, scale: f64, name: &str, colour: &str) -> Group {
    let y = TOP + HEIGHT - bytes as f64 * scale;
    Group::new()
        .add(
            Line::new()
                .set("x1", LEFT)
                .set("x2", LEFT + WIDTH)
                .set("y1", y)
                .set("y2", y)
                .set("stroke", colour)
                .set("stroke-dasharray", "4 2"),
        )
        .add(
            Text::new(format!("{name} {bytes}"))
                .set("x", LEFT - 4.0)
                .set("y", y + 3.0)
                .set("text-anchor", "end")
                .set("fill", colour),
        )
}

/// As much of a text as fits; nothing if that is not worth reading.
fn shorten(text: &str, width: f64) -> String {
    let fits = (width / CHARACTER).max(0.0) as usize;
    if text.chars().count() <= fits {
        text.to_owned()
    } else if fits < 4 {
        String::new()
    } else {
        text.chars().take(fits - 1).chain(std::iter::once('…')).collect()
    }
}

/// Neighbours in time get different colours.
fn colour(index: usize) -> String {
    format!("hsl({}, 55%, 72%)", index * 67 % 360)
}
