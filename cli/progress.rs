//! Progress of long work: on standard error, and only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// A line that says what is being done. Drawn nowhere unless standard error is a terminal; gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub fn spinner() -> Self {
        let bar = on_terminal(ProgressBar::new_spinner);
        // The thread that keeps it turning is started only where there is something to see.
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }
    /// `len` steps of work.
    pub fn steps(len: usize) -> Self {
        let bar = on_terminal(|| ProgressBar::new(len as u64));
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}");
        // The template is a constant that indicatif accepts; if a later version does not, its own default will do.
        Self(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }
    /// Says what is being done.
    pub fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }
    /// Says how far the work is, where its length only shows as it goes on.
    pub fn at(&self, done: usize, total: usize, what: impl Into<String>) {
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
        self.0.set_message(what.into());
    }
    /// Counts steps done.
    pub fn add(&self, steps: usize) {
        self.0.inc(steps as u64);
    }
}

/// The bar if standard error is a terminal, else one that is never drawn.
fn on_terminal(bar: impl FnOnce() -> ProgressBar) -> ProgressBar {
    if std::io::stderr().is_terminal() {
        bar()
    } else {
        ProgressBar::hidden()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
