//! Problems as text on standard error.

use crate::exit::{Exit, Failure};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use sdc::Problem;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Line width where there is no terminal to ask.
const WIDTH: usize = 120;

/// A problem as miette prints it, with what comes from the model made safe to print.
#[derive(Debug)]
struct Report {
    text: String,
    help: Option<String>,
}

impl From<Problem> for Report {
    /// The code is part of the text: miette would give it a line of its own, too much where there are dozens of problems.
    fn from(problem: Problem) -> Self {
        let code = problem.code.map_or_else(String::new, |code| code + " ");
        let notes: String = problem.notes.iter().map(|note| format!("\n{note}")).collect();
        Self {
            text: clean(&format!("{code}{}{notes}", problem.message)),
            help: problem.help.as_deref().map(clean),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Report {}

impl Diagnostic for Report {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as _)
    }
}

/// Writes all problems of a failure to standard error, and how many there are.
pub fn report(failure: &Failure) {
    let stderr = io::stderr();
    let theme = if !stderr.is_terminal() {
        GraphicalTheme::none()
    } else {
        GraphicalTheme::default()
    };
    let mut handler = GraphicalReportHandler::new_themed(theme).with_links(false);
    if !stderr.is_terminal() {
        // One line per fact, for `grep`.
        handler = handler.with_width(WIDTH).with_wrap_lines(false);
    }
    let mut text = String::new();
    let problems = failure.problems();
    let count = problems.len();
    for problem in problems {
        let problem = Report::from(problem);
        // Writing to a string fails only if a `Display` does, and ours do not; the plain form is always there.
        if handler.render_report(&mut text, &problem).is_err() {
            text.push_str(&problem.to_string());
        }
    }
    if count > 1 {
        text.push_str(&format!("{count} problems\n"));
    }
    if failure.exit() == Exit::Bug {
        text.push_str(BUG);
    }
    // If standard error is gone there is nobody to tell; the exit code remains.
    let _ = stderr.lock().write_all(text.as_bytes());
}

/// Writes a remark to standard error.
pub fn note(text: &str) {
    // As for problems: if nobody listens, the work goes on.
    let _ = writeln!(io::stderr().lock(), "note: {}", clean(text));
}

/// What people should do about a bug.
pub const BUG: &str = "\
this is a bug in sdc; please report it with
  - the message above,
  - the command line and the output of `sdc --version`,
  - the model, or the output of `sdc inspect MODEL --json` if the model is not yours to share\n";

/// Characters of one line; of a longer one the beginning and the end are shown.
const LINE: usize = 2000;
const END: usize = 200;

/// Names come from the model, which may hold anything: control characters would reach the terminal, and a line might have no end.
fn clean(text: &str) -> String {
    let cut = |line: &str| {
        let length = line.chars().count();
        if length <= LINE {
            return line.to_owned();
        }
        let begin: String = line.chars().take(LINE - END).collect();
        let end: String = line.chars().skip(length - END).collect();
        format!("{begin} [... {} characters ...] {end}", length - LINE)
    };
    let lines: Vec<String> = text.split('\n').map(cut).collect();
    let keep = |c: char| !c.is_control() || c == '\n';
    lines
        .join("\n")
        .chars()
        .flat_map(|c| {
            if keep(c) {
                vec![c]
            } else {
                c.escape_default().collect()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let problem = Problem {
            message: "a\u{1b}[2Jb".to_owned(),
            ..Problem::default()
        };
        assert_eq!(Report::from(problem).text, "a\\u{1b}[2Jb");
    }

    #[test]
    fn long_lines_are_cut() {
        let text = clean(&format!("begin{}end\nshort", "ä".repeat(1 << 20)));
        assert!(text.starts_with("beginä") && text.ends_with("äend\nshort"));
        assert!(text.chars().count() < LINE + 100 && text.contains("[... 1046584 characters ...]"));
    }
}
