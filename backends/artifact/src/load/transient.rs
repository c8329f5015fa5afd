//! Gives transient weights back to the system once a run is past them, and asks for them again before they are read.
#![allow(
    unsafe_code,
    reason = "a C callback with a context pointer; and the system is told what to do with a mapping"
)]

use crate::manifest::{Part, Transient};
use crate::pool::{ParallelFor, Task, dispatch};
use crate::weights::HUGE_PAGE;
use memmap2::Mmap;
use std::cell::Cell;
use std::ffi::c_void;

/// What the system gives and takes at a time.
const PAGE: usize = 4096;

/// Blocks that are tried to see whether giving back is cheap.
const TRIED: usize = 8;

/// A part of the weights, in bytes from their beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    first_call: u64,
    last_call: u64,
    start: usize,
    len: usize,
}

/// What runs are to give back: the pages that hold nothing else. Where the system maps the file by huge pages, 64 MiB come and go within 0.1 ms,
/// unless one of these pages is taken apart; page by page they take several. So all stays in memory, unless the user insists, where it does not.
pub(super) fn ranges(weights: &Mmap, transient: &Transient) -> Vec<Range> {
    if transient.always {
        return whole(&transient.parts, PAGE);
    }
    let ranges = whole(&transient.parts, HUGE_PAGE);
    if mapped_by_huge_pages(weights, &ranges) {
        ranges
    } else {
        Vec::new()
    }
}

/// The parts in whole pages; those without any are left out.
fn whole(parts: &[Part], page: usize) -> Vec<Range> {
    let range = |part: &Part| {
        let start = (part.offset as usize).next_multiple_of(page);
        let end = (part.offset + part.bytes) as usize / page * page;
        Range {
            first_call: part.first_call,
            last_call: part.last_call,
            start,
            len: end.saturating_sub(start),
        }
    };
    parts.iter().map(range).filter(|range| range.len > 0).collect()
}

/// Whether most of the ranges begin with a huge page.
fn mapped_by_huge_pages(weights: &Mmap, ranges: &[Range]) -> bool {
    let step = ranges.len().div_ceil(TRIED).max(1);
    let tried: Vec<Range> = ranges
        .iter()
        .step_by(step)
        .map(|&range| Range {
            len: HUGE_PAGE,
            ..range
        })
        .collect();
    let huge = || {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        huge_pages(&maps, weights.as_ptr().addr())
    };
    tried.iter().for_each(|range| release(weights, range));
    let before = huge();
    tried.iter().for_each(|range| fetch(weights, range));
    let after = huge();
    tried.iter().for_each(|range| release(weights, range));
    after.saturating_sub(before) > tried.len() / 2
}

/// The number of huge pages in the mapping at `address`, from the text of `/proc/self/smaps`.
fn huge_pages(maps: &str, address: usize) -> usize {
    let head = format!("{address:x}-");
    let mut lines = maps.lines().skip_while(|line| !line.starts_with(&head));
    let line = lines.find_map(|line| line.strip_prefix("FilePmdMapped:"));
    let kib = line.and_then(|text| text.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) / (HUGE_PAGE >> 10)
}

/// Asks for a part of the weights. Where the system cannot do that, its pages come one by one when they are read.
#[cfg(target_os = "linux")]
fn fetch(weights: &Mmap, range: &Range) {
    let _ = weights.advise_range(memmap2::Advice::PopulateRead, range.start, range.len);
}

/// Gives a part of the weights back. Where the system refuses, its pages stay.
#[cfg(target_os = "linux")]
fn release(weights: &Mmap, range: &Range) {
    // SAFETY: nobody writes to the mapping, which is of a file: whoever reads these pages again, another run meanwhile perhaps,
    // gets the file's bytes.
    let _ =
        unsafe { weights.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len) };
}

#[cfg(not(target_os = "linux"))]
fn fetch(_: &Mmap, _: &Range) {}

#[cfg(not(target_os = "linux"))]
fn release(_: &Mmap, _: &Range) {}

/// A `sdc_parallel_for` callback around another, which counts the calls of one run. What it does itself is done between the functions that a
/// probe within it times.
#[repr(C)]
pub(super) struct Guide<'a> {
    /// First, so that a pointer to it is one to the whole.
    parallel_for: ParallelFor,
    inner: *const ParallelFor,
    weights: &'a Mmap,
    ranges: &'a [Range],
    call: Cell<u64>,
}

impl<'a> Guide<'a> {
    /// For one run. The ranges lie within the weights; `inner` may be null and must otherwise stay valid during the run.
    pub fn new(weights: &'a Mmap, ranges: &'a [Range], inner: *const ParallelFor) -> Self {
        Self {
            parallel_for: ParallelFor { call: guided },
            inner,
            weights,
            ranges,
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
        let now = self.ranges.iter().filter(|r| r.first_call == self.call.get());
        now.for_each(|range| fetch(self.weights, range));
    }

    fn release(&self) {
        let now = self.ranges.iter().filter(|r| r.last_call == self.call.get());
        now.for_each(|range| release(self.weights, range));
    }
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
        let range = |call, start, len| Range {
            first_call: call,
            last_call: call,
            start,
            len,
        };
        let ranges = [range(1, 0, LEN / 2), range(3, LEN / 2, LEN / 2)];
        let inner = Watch {
            parallel_for: ParallelFor { call: watch },
            path,
            weights: &weights,
            seen: Cell::default(),
        };
        let guide = Guide::new(&weights, &ranges, (&raw const inner).cast());
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

        let again = [range(0, LEN / 2, LEN / 2)];
        let guide = Guide::new(&weights, &again, (&raw const inner).cast());
        let callback = guide.parallel_for();
        // SAFETY: as above.
        unsafe { ((*callback).call)(callback, 1, nothing, std::ptr::null_mut()) };
        if memmap2::Advice::PopulateRead.is_supported() {
            assert_eq!(inner.seen.get()[0], LEN);
        }
    }

    #[test]
    fn huge_pages_are_counted_in_the_right_mapping() {
        let mapping = |address: usize, huge: usize| {
            format!(
                "{address:x}-7fff00000000 r--p 00000000 fe:00 1 /m.weights\nRss:  9999 kB\nAnonHugePages: 7 kB\n\
                 FilePmdMapped:  {huge} kB\nVmFlags: rd\n"
            )
        };
        let maps = mapping(0x1000, 8192) + &mapping(0x2000, 0) + &mapping(0x3000, 2048);
        let found = [0x1000, 0x2000, 0x3000, 0x4000].map(|at| huge_pages(&maps, at));
        assert_eq!(found, [4, 0, 1, 0]);
        assert_eq!(huge_pages("", 0x1000), 0);
    }

    #[test]
    fn neighbours_keep_their_pages() {
        let of = |offset, bytes| {
            let part = Part {
                first_call: 0,
                last_call: 0,
                offset,
                bytes,
            };
            whole(&[part], PAGE).first().map(|range| (range.start, range.len))
        };
        assert_eq!(of(64, 3 * 4096), Some((4096, 2 * 4096)));
        assert_eq!(of(4096, 4096), Some((4096, 4096)));
        assert_eq!(of(64, 4096), None);
        assert_eq!(of(64, 64), None);
    }
}
