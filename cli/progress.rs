//! Progress of long work: on standard error, and only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// A line that says what is being done. Drawn nowhere unless standard error is a terminal; gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub fn spinner() -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
    /// `len` steps of work.
    pub fn steps(len: usize) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(len as u64)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}");
        // The template is a constant that indicatif accepts; if a later version does not, its own default will do.
        Self(if let Ok(style) = style {
            bar.with_style(style)
        } else {
            bar
        })
    }
    /// Says what is being done.
    pub fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
    /// Counts steps done.
    pub fn add(&self, steps: usize) {
        self.0.inc(steps as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
