//! Long work on a thread of its own, while the calling thread listens for signals and tells how far it is.

use crate::errors::exception;
use pyo3::prelude::*;
use sdc::{Error, Observer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How often signals are looked for, and progress is told.
const PERIOD: Duration = Duration::from_millis(50);
/// As much as main threads have: models nest deeply.
const STACK: usize = 16 << 20;

/// How far the work is: what it does, and steps done of all, where they can be counted.
type State = (String, Option<(usize, usize)>);

#[derive(Default)]
pub struct Watcher {
    state: Mutex<State>,
    stop: AtomicBool,
}

impl Watcher {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watcher {
    fn step(&self, name: &str) {
        *self.state() = (name.to_owned(), None);
    }
    fn at(&self, done: usize, total: usize, what: &str) {
        *self.state() = (what.to_owned(), Some((done, total)));
    }
    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Does work without the interpreter's lock. An exception from a signal's handler or from `progress`, which is called with what is done, the steps
/// done and those there are, ends it at its next step.
pub fn watched<T: Send>(
    py: Python<'_>,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&Watcher) -> sdc::Result<T> + Send,
) -> PyResult<T> {
    let watcher = Watcher::default();
    let watcher = &watcher;
    let (result, interrupted) = py.detach(|| {
        thread::scope(|scope| {
            let (done, finished) = mpsc::channel::<()>();
            let worker = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, move || {
                    // Dropped when the work ends in whatever way, which wakes who waits.
                    let _done = done;
                    work(watcher)
                });
            let worker = match worker {
                Ok(worker) => worker,
                Err(e) => return (Err(Error::limit(format!("cannot start a thread: {e}"))), None),
            };
            let mut interrupted = None;
            while finished.recv_timeout(PERIOD) == Err(mpsc::RecvTimeoutError::Timeout) {
                if interrupted.is_none()
                    && let Err(error) = Python::attach(|py| tell(py, watcher, progress))
                {
                    watcher.stop.store(true, Ordering::Relaxed);
                    interrupted = Some(error);
                }
            }
            let result = worker
                .join()
                .unwrap_or_else(|_| Err(Error::bug("the work panicked; standard error has the place")));
            (result, interrupted)
        })
    });
    match interrupted {
        Some(error) => Err(error),
        None => result.map_err(exception),
    }
}

fn tell(py: Python<'_>, watcher: &Watcher, progress: Option<&Py<PyAny>>) -> PyResult<()> {
    py.check_signals()?;
    if let Some(progress) = progress {
        let (what, counts) = watcher.state().clone();
        progress.call1(py, (what, counts.map(|c| c.0), counts.map(|c| c.1)))?;
    }
    Ok(())
}
