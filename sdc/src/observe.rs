//! How long work tells its caller how far it is, and asks whether to go on.

use crate::error::{Error, Kind, Result};

/// Hears of the progress of long work, and may end it. Methods are called from several threads, each often: they must be quick.
pub trait Observer: Sync {
    /// A step begins, such as a pass.
    fn step(&self, name: &str) {
        let _ = name;
    }
    /// A step has come so far.
    fn at(&self, done: usize, total: usize, what: &str) {
        let _ = (done, total, what);
    }
    /// Something the user should know of, although nothing is wrong.
    fn note(&self, text: &str) {
        let _ = text;
    }
    /// True if the work is to end: it does so between two of its steps, with an error of kind [`Kind::Cancelled`].
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody listens.
impl Observer for () {}

/// Begins a step, unless the work is to end.
pub(crate) fn step(observer: &dyn Observer, name: &str) -> Result<()> {
    if observer.cancelled() {
        return Err(Error::new(Kind::Cancelled, format!("stopped before {name}")));
    }
    observer.step(name);
    Ok(())
}
