//! Progress of long work: on standard error, and only if that is a terminal.

use crate::diag;
use indicatif::{ProgressBar, ProgressStyle};
use sdc::Observer;
use std::io::IsTerminal;
use std::time::Duration;

/// A line that says what is being done, a bar once its length shows. Drawn nowhere unless standard error is a terminal; gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new() -> Self {
        let bar = on_terminal(ProgressBar::new_spinner);
        // The thread that keeps it turning is started only where there is something to see.
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }
}

impl Observer for Progress {
    fn step(&self, name: &str) {
        self.0.set_message(name.to_owned());
    }
    fn at(&self, done: usize, total: usize, what: &str) {
        if self.0.is_hidden() {
            return;
        }
        // The template is a constant that indicatif accepts; if a later version does not, its own default will do.
        if self.0.length().is_none()
            && let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}")
        {
            self.0.set_style(style);
        }
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
        self.0.set_message(what.to_owned());
    }
    fn note(&self, text: &str) {
        diag::note(text);
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
