//! Places in a buffer for loads that come and go: next fit, so that a place rests as long as possible before it is used again.

use std::ops::Range;

/// A buffer.
#[derive(Debug)]
pub struct Pool {
    size: usize,
    cursor: usize,
    /// Places taken, and the last work that needs each.
    taken: Vec<(Range<usize>, usize)>,
}

impl Pool {
    /// An empty buffer.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            cursor: 0,
            taken: Vec::new(),
        }
    }

    /// A place of `len`, until work `last`. `adjust` moves a start up to where one may be.
    pub fn take(&mut self, len: usize, last: usize, adjust: impl Fn(usize) -> usize) -> Option<usize> {
        let starts = [self.cursor, 0]
            .into_iter()
            .chain(self.taken.iter().map(|t| t.0.end));
        let fits = |start: &usize| {
            let place = *start..*start + len;
            let free = |t: &(Range<usize>, usize)| place.end <= t.0.start || t.0.end <= place.start;
            place.end <= self.size && self.taken.iter().all(free)
        };
        let start = starts.map(adjust).find(fits)?;
        self.taken.push((start..start + len, last));
        self.cursor = start + len;
        Some(start)
    }

    /// Gives back the place that begins here.
    pub fn give_back(&mut self, start: usize) {
        self.taken.retain(|t| t.0.start != start || t.0.is_empty());
    }

    /// Gives back what no work after `done` needs.
    pub fn release(&mut self, done: usize) {
        self.taken.retain(|t| t.1 > done);
    }
}
