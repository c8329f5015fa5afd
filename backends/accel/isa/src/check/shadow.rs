//! Who touched each byte last.

use std::collections::BTreeSet;

/// Bytes of a page.
const PAGE: usize = 256;
/// Pages that may be told apart byte by byte, over all memories.
const PAGES: usize = 1 << 19;

/// An instruction by its number plus one; 0 is none.
pub(super) type Stamp = u32;

/// The last write of a byte, and its last read by each of `R` readers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Touch<const R: usize> {
    write: Stamp,
    reads: [Stamp; R],
}

enum Page<const R: usize> {
    /// All bytes alike.
    Same(Touch<R>),
    Bytes(Box<[Touch<R>; PAGE]>),
}

/// A memory.
pub(super) struct Shadow<const R: usize> {
    pages: Vec<Page<R>>,
    /// Pages of the second kind.
    pub apart: usize,
}

/// What an access found: earlier accesses that it must be ordered after.
#[derive(Default)]
pub(super) struct Found {
    pub stamps: BTreeSet<Stamp>,
    /// Some byte was never written.
    pub unwritten: bool,
}

impl<const R: usize> Shadow<R> {
    pub fn new(bytes: usize) -> Self {
        let fresh = || {
            Page::Same(Touch {
                write: 0,
                reads: [0; R],
            })
        };
        Self {
            pages: (0..bytes.div_ceil(PAGE)).map(|_| fresh()).collect(),
            apart: 0,
        }
    }

    /// True if there are too many pages of single bytes.
    pub fn is_full(&self) -> bool {
        self.apart > PAGES
    }

    /// Reads bytes by reader `reader`; what wrote them is found.
    pub fn read(&mut self, at: usize, bytes: usize, stamp: Stamp, reader: usize, found: &mut Found) {
        let mut last = Stamp::MAX;
        self.touch(at, bytes, |touch| {
            touch.reads[reader] = stamp;
            if touch.write != last {
                last = touch.write;
                found.stamps.insert(last);
                found.unwritten |= last == 0;
            }
        });
    }

    /// Writes bytes; what wrote or read them is found.
    pub fn write(&mut self, at: usize, bytes: usize, stamp: Stamp, found: &mut Found) {
        let mut last = Touch {
            write: Stamp::MAX,
            reads: [0; R],
        };
        self.touch(at, bytes, |touch| {
            if *touch != last {
                last = *touch;
                found.stamps.insert(last.write);
                found.stamps.extend(last.reads);
            }
            *touch = Touch {
                write: stamp,
                reads: [0; R],
            };
        });
    }

    /// The writes of bytes, without touching them.
    pub fn writes(&mut self, at: usize, bytes: usize) -> BTreeSet<Stamp> {
        let mut stamps = BTreeSet::new();
        let mut last = Stamp::MAX;
        self.touch(at, bytes, |touch| {
            if touch.write != last {
                last = touch.write;
                stamps.insert(last);
            }
        });
        stamps
    }

    /// Calls `f` for each byte, or once for a page whose bytes are alike.
    fn touch(&mut self, at: usize, bytes: usize, mut f: impl FnMut(&mut Touch<R>)) {
        let end = at + bytes;
        let mut from = at;
        while from < end {
            let first = from / PAGE * PAGE;
            let to = end.min(first + PAGE);
            let Some(page) = self.pages.get_mut(first / PAGE) else {
                return;
            };
            if let Page::Same(touch) = page {
                if to - from == PAGE {
                    f(touch);
                    from = to;
                    continue;
                }
                *page = Page::Bytes(Box::new([*touch; PAGE]));
                self.apart += 1;
            }
            if let Page::Bytes(touches) = page {
                touches[from - first..to - first].iter_mut().for_each(&mut f);
            }
            from = to;
        }
    }
}
