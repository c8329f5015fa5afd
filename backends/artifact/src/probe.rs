//! A `sdc_parallel_for` callback that notes when each call began and ended.
//!
//! A model built for profiling hands every one of its functions to the callback, so the notes are the functions' times.
//! What runs is otherwise the same code, on the same pool.
#![allow(unsafe_code, reason = "a C callback with a context pointer")]

use crate::pool::{ParallelFor, Pool, Task, dispatch};
use std::cell::RefCell;
use std::ffi::c_void;
use std::time::{Duration, Instant};

/// Begin and end of a call, since the probe was last cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub begin: Duration,
    /// When it ended.
    pub end: Duration,
}

/// The callback and its notes.
#[repr(C)]
pub struct Probe<'a> {
    /// First, so that a pointer to it is one to the whole.
    parallel_for: ParallelFor,
    pool: Option<&'a Pool>,
    notes: RefCell<Notes>,
}

struct Notes {
    start: Instant,
    spans: Vec<Span>,
}

impl<'a> Probe<'a> {
    /// A probe of what runs on `pool`, or on the calling thread alone.
    pub fn new(pool: Option<&'a Pool>) -> Self {
        Self {
            parallel_for: ParallelFor { call: timed },
            pool,
            notes: RefCell::new(Notes {
                start: Instant::now(),
                spans: Vec::new(),
            }),
        }
    }

    /// The callback; valid as long as the probe stays where it is.
    pub(crate) fn parallel_for(&self) -> *const ParallelFor {
        (&raw const *self).cast()
    }

    /// The spans since the last call of this function, in order; times start anew.
    pub fn take(&self) -> Vec<Span> {
        let mut notes = self.notes.borrow_mut();
        notes.start = Instant::now();
        std::mem::take(&mut notes.spans)
    }
}

/// The callback. `this` must come from [`Probe::parallel_for`] of a living probe, on the thread that runs the model.
unsafe extern "C" fn timed(this: *const ParallelFor, count: usize, task: Task, frame: *mut c_void) {
    // SAFETY: by the condition above.
    let probe = unsafe { &*this.cast::<Probe<'_>>() };
    let begin = probe.notes.borrow().start.elapsed();
    // A single task stays on this thread.
    let inner = probe.pool.filter(|_| count > 1);
    // SAFETY: the pool outlives the probe; the task may be called with its frame and these indices.
    unsafe {
        dispatch(
            inner.map_or(std::ptr::null(), Pool::parallel_for),
            count,
            task,
            frame,
        );
    }
    let mut notes = probe.notes.borrow_mut();
    let end = notes.start.elapsed();
    notes.spans.push(Span { begin, end });
}
