//! A small fork-join thread pool behind the `sdc_parallel_for` callback.
//!
//! The calling thread works too, so a pool of N threads starts N - 1 workers. Between jobs they spin for some
//! microseconds, then sleep. Indices are handed out one by one, to the caller from the first on and to workers from the last: neighbouring tasks of
//! successive jobs then tend to meet the same cache. That the result does not depend on who does which is the compiled code's
//! duty. Deliberately absent: nesting (a job started from within a task runs on the calling thread alone),
//! priorities, affinity.
#![allow(unsafe_code, reason = "tasks are C function pointers with a context pointer")]

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A unit of work, as compiled code passes it: called with the job's frame and an index.
pub type Task = unsafe extern "C" fn(frame: *mut c_void, index: usize);

/// `struct sdc_parallel_for` of the C headers.
#[repr(C)]
pub struct ParallelFor {
    pub(crate) call:
        unsafe extern "C" fn(this: *const ParallelFor, count: usize, task: Task, frame: *mut c_void),
}

/// Runs a job as compiled code does: by the callback, or, where it is null, one index after another.
///
/// # Safety
/// The callback must be valid or null, and the task may be called with its frame and all indices below `count`.
pub(crate) unsafe fn dispatch(
    parallel_for: *const ParallelFor,
    count: usize,
    task: Task,
    frame: *mut c_void,
) {
    // SAFETY: by the condition above.
    match unsafe { parallel_for.as_ref() } {
        // SAFETY: as above.
        Some(inner) => unsafe { (inner.call)(parallel_for, count, task, frame) },
        None => {
            for index in 0..count {
                // SAFETY: as above.
                unsafe { task(frame, index) };
            }
        }
    }
}

/// How long a thread looks for work, or for the end of it, before it sleeps.
const SPIN: Duration = Duration::from_micros(30);

/// A fork-join pool. Dropping it ends its threads.
pub struct Pool {
    handle: Box<Handle>,
    workers: Vec<JoinHandle<()>>,
}

/// What compiled code gets a pointer to: the callback first, as the C struct demands.
#[repr(C)]
struct Handle {
    parallel_for: ParallelFor,
    shared: Arc<Shared>,
}

/// State of the current job. `ticket` holds the job's number in the upper half and, in the lower, which indices are left (the
/// first and the one after the last), so that taking an index succeeds only in the job that was looked at, and that nothing can
/// be taken between jobs: a worker that wakes late finds the number changed or nothing left, and uses none of the other fields.
struct Shared {
    ticket: AtomicU64,
    count: AtomicU32,
    task: AtomicPtr<c_void>,
    frame: AtomicPtr<c_void>,
    /// Indices done in this job.
    done: AtomicU32,
    /// Held by the thread that has a job running.
    owner: Mutex<()>,
    sleep: Mutex<Sleep>,
    work: Condvar,
    finished: Condvar,
}

#[derive(Default)]
struct Sleep {
    workers: usize,
    stop: bool,
}

impl Pool {
    /// A pool of `threads` threads, the caller included; 0 means as many as the host offers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: usize) -> io::Result<Self> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            count: AtomicU32::new(0),
            task: AtomicPtr::new(std::ptr::null_mut()),
            frame: AtomicPtr::new(std::ptr::null_mut()),
            done: AtomicU32::new(0),
            owner: Mutex::new(()),
            sleep: Mutex::new(Sleep::default()),
            work: Condvar::new(),
            finished: Condvar::new(),
        });
        let handle = Handle {
            parallel_for: ParallelFor { call: parallel_for },
            shared,
        };
        let mut pool = Pool {
            handle: Box::new(handle),
            workers: Vec::with_capacity(threads - 1),
        };
        for index in 1..threads {
            let shared = pool.handle.shared.clone();
            let builder = std::thread::Builder::new().name(format!("sdc-{index}"));
            // On failure the pool is dropped, which ends the workers started so far.
            pool.workers.push(builder.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The callback to hand to compiled code; valid as long as the pool.
    pub fn parallel_for(&self) -> *const ParallelFor {
        (&raw const *self.handle).cast()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.handle.shared.sleep).stop = true;
        self.handle.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            // A worker cannot panic: a panic inside a task aborts at the C boundary.
            let _ = worker.join();
        }
    }
}

/// The callback. `this` must come from [`Pool::parallel_for`] of a living pool.
unsafe extern "C" fn parallel_for(this: *const ParallelFor, count: usize, task: Task, frame: *mut c_void) {
    // SAFETY: by the condition above, `this` is the first field of a `Handle`.
    let shared = unsafe { &(*this.cast::<Handle>()).shared };
    shared.fork(count, task, frame);
}

impl Shared {
    /// Runs `task(frame, i)` for all `i < count` and returns when all are done.
    fn fork(&self, count: usize, task: Task, frame: *mut c_void) {
        let owner = match self.owner.try_lock() {
            Ok(owner) => Some(owner),
            Err(TryLockError::Poisoned(owner)) => Some(owner.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let (Some(_owner), Ok(indices), true) = (owner, u16::try_from(count).map(u32::from), count > 1)
        else {
            // A task's own loop, a second caller, one index, or more than the ticket can count.
            for index in 0..count {
                // SAFETY: the caller passed a task that may be called with its frame and these indices.
                unsafe { task(frame, index) };
            }
            return;
        };
        self.count.store(indices, Ordering::Relaxed);
        self.task.store(task as *mut c_void, Ordering::Relaxed);
        self.frame.store(frame, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        let job = self.ticket.load(Ordering::Relaxed).wrapping_add(1 << 32) & !u64::from(u32::MAX);
        self.ticket.store(job | u64::from(indices), Ordering::Release);
        if lock(&self.sleep).workers > 0 {
            self.work.notify_all();
        }
        self.help(End::First);
        if !spin_until(|| self.is_done(indices)) {
            let mut sleep = lock(&self.sleep);
            while !self.is_done(indices) {
                sleep = self.finished.wait(sleep).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn is_done(&self, indices: u32) -> bool {
        self.done.load(Ordering::Acquire) == indices
    }

    /// Takes and runs indices of the current job until none is left.
    fn help(&self, end: End) {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        while has_work(ticket) {
            let count = self.count.load(Ordering::Relaxed);
            let task = self.task.load(Ordering::Relaxed);
            let frame = self.frame.load(Ordering::Relaxed);
            // Success means that this index was still to be had, so the job is unfinished until it is done here, and its
            // owner has not touched the fields since it published the ticket that was acquired: what was read above
            // belongs to this job.
            let (index, rest) = match end {
                End::First => (first(ticket), ticket + (1 << 16)),
                End::Last => (beyond(ticket) - 1, ticket - 1),
            };
            let taken = self
                .ticket
                .compare_exchange_weak(ticket, rest, Ordering::AcqRel, Ordering::Acquire);
            match taken {
                Ok(_) => {
                    // SAFETY: a task stored by `fork` for this job, with its frame; the owner waits for this index.
                    unsafe {
                        let task = std::mem::transmute::<*mut c_void, Task>(task);
                        task(frame, usize::from(index));
                    }
                    if self.done.fetch_add(1, Ordering::AcqRel) + 1 == count {
                        // Under the lock, so that the owner is either before its check or asleep.
                        drop(lock(&self.sleep));
                        self.finished.notify_one();
                    }
                    ticket = self.ticket.load(Ordering::Acquire);
                }
                Err(now) => ticket = now,
            }
        }
    }

    /// A worker's life.
    fn work(&self) {
        loop {
            self.help(End::Last);
            if spin_until(|| has_work(self.ticket.load(Ordering::Acquire))) {
                continue;
            }
            let mut sleep = lock(&self.sleep);
            // Checked under the lock: a job published after this is followed by a look at `workers`.
            while !sleep.stop && !has_work(self.ticket.load(Ordering::Acquire)) {
                sleep.workers += 1;
                sleep = self.work.wait(sleep).unwrap_or_else(PoisonError::into_inner);
                sleep.workers -= 1;
            }
            if sleep.stop {
                return;
            }
        }
    }
}

/// From which side of a job a thread takes indices.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

/// The first index the ticket leaves.
fn first(ticket: u64) -> u16 {
    (ticket >> 16) as u16
}

/// The index after the last one the ticket leaves.
fn beyond(ticket: u64) -> u16 {
    ticket as u16
}

fn has_work(ticket: u64) -> bool {
    first(ticket) < beyond(ticket)
}

/// Nothing panics while holding the locks; and their state is valid at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls `ready` for a little while; whether it became true.
fn spin_until(ready: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..16 {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Frame {
        hits: Vec<AtomicUsize>,
        pool: *const ParallelFor,
        nested: AtomicUsize,
    }

    fn frame(count: usize, pool: &Pool) -> Frame {
        Frame {
            hits: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            pool: pool.parallel_for(),
            nested: AtomicUsize::new(0),
        }
    }

    unsafe extern "C" fn hit(frame: *mut c_void, index: usize) {
        // SAFETY: the tests pass a `Frame`.
        let frame = unsafe { &*frame.cast::<Frame>() };
        frame.hits[index].fetch_add(1, Ordering::Relaxed);
    }

    unsafe extern "C" fn nested_hit(frame: *mut c_void, _index: usize) {
        // SAFETY: the tests pass a `Frame`.
        let frame = unsafe { &*frame.cast::<Frame>() };
        frame.nested.fetch_add(1, Ordering::Relaxed);
    }

    unsafe extern "C" fn nest(frame: *mut c_void, index: usize) {
        // SAFETY: the tests pass a `Frame`, which holds a living pool.
        unsafe {
            hit(frame, index);
            let pool = (*frame.cast::<Frame>()).pool;
            ((*pool).call)(pool, 3, nested_hit, frame);
        }
    }

    fn call(pool: &Pool, task: Task, frame: &Frame) {
        let this = pool.parallel_for();
        // SAFETY: the pool lives, the task takes a `Frame`.
        unsafe {
            ((*this).call)(
                this,
                frame.hits.len(),
                task,
                (&raw const *frame).cast_mut().cast(),
            )
        }
    }

    #[test]
    fn every_index_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            for round in 0..2000 {
                let count = round % 17;
                let frame = frame(count, &pool);
                call(&pool, hit, &frame);
                assert!(
                    frame.hits.iter().all(|h| h.load(Ordering::Relaxed) == 1),
                    "{threads} {count}"
                );
                if round % 500 == 0 {
                    // Long enough for the workers to fall asleep.
                    std::thread::sleep(SPIN * 10);
                }
            }
        }
    }

    #[test]
    fn nested_and_concurrent_jobs() {
        let pool = Pool::new(3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let frame = frame(8, &pool);
                        call(&pool, nest, &frame);
                        assert!(frame.hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
                        assert_eq!(frame.nested.load(Ordering::Relaxed), 24);
                    }
                });
            }
        });
    }
}
