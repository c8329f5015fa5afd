//! Gives transient weights back to the system once a run is past them, and asks for them again before they are read.
#![allow(
    unsafe_code,
    reason = "a C callback with a context pointer; and the system is told what to do with a mapping"
)]

use crate::manifest::Part;
use crate::pool::{ParallelFor, Task, dispatch};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use std::cell::Cell;
use std::ffi::c_void;

/// What the system gives and takes at a time.
const PAGE: usize = 4096;

/// A `sdc_parallel_for` callback around another, which counts the calls of one run.
#[repr(C)]
pub(super) struct Guide<'a> {
    /// First, so that a pointer to it is one to the whole.
    parallel_for: ParallelFor,
    inner: *const ParallelFor,
    weights: &'a Mmap,
    parts: &'a [Part],
    call: Cell<u64>,
}

impl<'a> Guide<'a> {
    /// For one run. `parts` lie within the weights; `inner` may be null and must otherwise stay valid during the run.
    pub fn new(weights: &'a Mmap, parts: &'a [Part], inner: *const ParallelFor) -> Self {
        Self {
            parallel_for: ParallelFor { call: guided },
            inner,
            weights,
            parts,
            call: Cell::new(0),
        }
    }

    /// The callback; valid as long as the guide stays where it is.
    pub fn parallel_for(&self) -> *const ParallelFor {
        (&raw const *self).cast()
    }

    /// Gives back what is read until the end of the run, which has come.
    pub fn finish(&self) {
        self.release();
    }

    fn fetch(&self) {
        let now = self.parts.iter().filter(|p| p.first_call == self.call.get());
        now.for_each(|part| fetch(self.weights, part));
    }

    fn release(&self) {
        let now = self.parts.iter().filter(|p| p.last_call == self.call.get());
        now.for_each(|part| release(self.weights, part));
    }
}

/// Asks for a part of the weights.
fn fetch(weights: &Mmap, part: &Part) {
    let (start, len) = pages(part);
    // Where the system cannot, the pages come one by one when they are read.
    let _ = weights.advise_range(Advice::PopulateRead, start, len);
}

/// Gives a part of the weights back.
fn release(weights: &Mmap, part: &Part) {
    let (start, len) = pages(part);
    // SAFETY: nobody writes to the mapping, which is of a file: whoever reads these pages again, another run meanwhile perhaps,
    // gets the file's bytes.
    let given_back = unsafe { weights.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
    // Where the system refuses, the pages stay.
    let _ = given_back;
}

/// Whether giving weights back takes next to no time, judged by the largest of the parts: where the system maps the file by huge
/// pages, 64 MiB come and go within 0.1 ms; page by page they take several.
pub(super) fn is_cheap(weights: &Mmap, parts: &[Part]) -> bool {
    let Some(part) = parts.iter().max_by_key(|part| part.bytes) else {
        return false;
    };
    fetch(weights, part);
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    release(weights, part);
    mapped_by_huge_pages(&maps, weights.as_ptr().addr())
}

/// Whether most of what is in memory of the mapping at `address` is mapped by huge pages, from the text of `/proc/self/smaps`.
fn mapped_by_huge_pages(maps: &str, address: usize) -> bool {
    let head = format!("{address:x}-");
    let mut lines = maps.lines().skip_while(|line| !line.starts_with(&head)).skip(1);
    let mut kib = |field: &str| -> Option<u64> {
        let line = lines.find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    // In the order of the lines.
    let (all, huge) = (kib("Rss:"), kib("FilePmdMapped:"));
    all.zip(huge).is_some_and(|(all, huge)| huge > all / 2)
}

/// The pages that hold nothing else: first byte and length.
fn pages(part: &Part) -> (usize, usize) {
    let start = (part.offset as usize).next_multiple_of(PAGE);
    let end = (part.offset + part.bytes) as usize / PAGE * PAGE;
    (start, end.saturating_sub(start))
}

/// The callback. `this` must come from [`Guide::parallel_for`] of a living guide, on the thread that runs the model.
unsafe extern "C" fn guided(this: *const ParallelFor, count: usize, task: Task, frame: *mut c_void) {
    // SAFETY: by the condition above.
    let guide = unsafe { &*this.cast::<Guide<'_>>() };
    guide.fetch();
    // SAFETY: the inner callback is valid or null; the task may be called with its frame and these indices.
    unsafe { dispatch(guide.inner, count, task, frame) };
    guide.release();
    guide.call.set(guide.call.get() + 1);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs;

    /// Bytes of a mapped file that are in this process's memory.
    fn resident(path: &str) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let rest = maps.split_once(path).unwrap().1;
        let line = rest.lines().find_map(|l| l.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// In place of a pool: looks at the memory, reads the weights, looks at the memory again.
    #[repr(C)]
    struct Watch<'a> {
        parallel_for: ParallelFor,
        path: &'a str,
        weights: &'a Mmap,
        seen: Cell<[usize; 2]>,
    }

    unsafe extern "C" fn watch(this: *const ParallelFor, _: usize, _: Task, _: *mut c_void) {
        // SAFETY: the test below passes nothing else.
        let watch = unsafe { &*this.cast::<Watch<'_>>() };
        let before = resident(watch.path);
        assert!(watch.weights.iter().all(|&b| b == 7));
        watch.seen.set([before, resident(watch.path)]);
    }

    unsafe extern "C" fn nothing(_: *mut c_void, _: usize) {}

    #[test]
    fn parts_are_in_memory_when_they_are_needed_and_no_longer() {
        const LEN: usize = 64 * PAGE;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [7; LEN]).unwrap();
        let path = file.path().to_str().unwrap();
        let weights = super::super::map::map(file.as_file()).unwrap();
        let part = |call, offset: usize, bytes: usize| Part {
            first_call: call,
            last_call: call,
            offset: offset as u64,
            bytes: bytes as u64,
        };
        let parts = [part(1, 0, LEN / 2), part(3, LEN / 2, LEN / 2)];
        let inner = Watch {
            parallel_for: ParallelFor { call: watch },
            path,
            weights: &weights,
            seen: Cell::default(),
        };
        let guide = Guide::new(&weights, &parts, (&raw const inner).cast());
        // All is in memory from call 0 on; the first half is given back after call 1, which touches it.
        let mut after = Vec::new();
        for _ in 0..3 {
            let callback = guide.parallel_for();
            // SAFETY: both callbacks live, and the task does nothing.
            unsafe { ((*callback).call)(callback, 1, nothing, std::ptr::null_mut()) };
            assert_eq!(inner.seen.get()[1], LEN);
            after.push(resident(path));
        }
        assert_eq!(after, [LEN, LEN / 2, LEN]);
        guide.finish();
        assert_eq!(resident(path), LEN / 2);

        let again = [part(0, LEN / 2, LEN / 2)];
        let guide = Guide::new(&weights, &again, (&raw const inner).cast());
        let callback = guide.parallel_for();
        // SAFETY: as above.
        unsafe { ((*callback).call)(callback, 1, nothing, std::ptr::null_mut()) };
        if Advice::PopulateRead.is_supported() {
            assert_eq!(inner.seen.get()[0], LEN);
        }
    }

    #[test]
    fn huge_pages_are_found_in_the_right_mapping() {
        let mapping = |address: usize, rss: usize, huge: usize| {
            format!(
                "{address:x}-7fff00000000 r--p 00000000 fe:00 1 /m.weights\nSize: 9 kB\nRss:  {rss} kB\n\
                 AnonHugePages: 0 kB\nFilePmdMapped:  {huge} kB\nVmFlags: rd\n"
            )
        };
        let maps = mapping(0x1000, 8192, 8192) + &mapping(0x2000, 8192, 0) + &mapping(0x3000, 6000, 4096);
        let found = [0x1000, 0x2000, 0x3000, 0x4000].map(|at| mapped_by_huge_pages(&maps, at));
        assert_eq!(found, [true, false, true, false]);
        assert!(!mapped_by_huge_pages("", 0x1000));
    }

    #[test]
    fn neighbours_keep_their_pages() {
        let of = |offset, bytes| {
            pages(&Part {
                first_call: 0,
                last_call: 0,
                offset,
                bytes,
            })
        };
        assert_eq!(of(64, 3 * 4096), (4096, 2 * 4096));
        assert_eq!(of(4096, 4096), (4096, 4096));
        assert_eq!(of(64, 4096).1, 0);
        assert_eq!(of(64, 64).1, 0);
    }
}
