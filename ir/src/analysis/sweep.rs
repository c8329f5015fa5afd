//! Offsets by one pass through time, for problems too large for the search of [`place`](super::place).
//!
//! What begins takes the place of its partner where a pair allows it, else the tightest gap; what ends leaves one. Time and memory are
//! those of sorting.

use super::place::Solution;
use super::problem::{Pair, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// A solution that uses those of the `wanted` pairs whose output is not larger than its input and begins after it. Every item is in at most one of these
/// pairs as input, and in one as output.
pub fn solve(problem: &Problem, wanted: &[Pair]) -> Solution {
    let items = &problem.items;
    // The place of the input is known when the output begins.
    let used = |p: &&Pair| {
        let (input, output) = (&items[p.input], &items[p.output]);
        input.first < output.first && (1..=input.size).contains(&output.size)
    };
    let pairs: Vec<Pair> = wanted.iter().filter(used).copied().collect();
    let input_of: BTreeMap<usize, usize> = pairs.iter().map(|p| (p.output, p.input)).collect();
    let output_of: BTreeMap<usize, usize> = pairs.iter().map(|p| (p.input, p.output)).collect();

    let mut begin: Vec<usize> = (0..items.len()).filter(|&i| items[i].size > 0).collect();
    let mut end = begin.clone();
    begin.sort_by_key(|&i| (items[i].first, std::cmp::Reverse(items[i].size)));
    end.sort_by_key(|&i| items[i].last);
    let mut ended = end.into_iter().peekable();
    let mut offsets = vec![0; items.len()];
    let mut gaps = Gaps::default();
    let mut peak = 0;
    for i in begin {
        while let Some(j) = ended.next_if(|&j| items[j].last < items[i].first) {
            // What a partner took of it is given back with the partner.
            let kept = output_of.get(&j).map_or(0, |&output| items[output].size);
            gaps.give(offsets[j] + kept, items[j].size - kept);
        }
        offsets[i] = match input_of.get(&i) {
            Some(&input) => offsets[input],
            None => gaps.take(items[i].size),
        };
        peak = peak.max(offsets[i] + items[i].size);
    }
    Solution { offsets, pairs, peak }
}

/// The free parts of memory. All beyond the last of them is free, too.
#[derive(Default)]
struct Gaps {
    /// Where nothing was taken yet.
    end: usize,
    /// Sizes by offset; no two touch.
    sizes: BTreeMap<usize, usize>,
    /// Sizes with their offsets.
    by_size: BTreeSet<(usize, usize)>,
}

impl Gaps {
    fn take(&mut self, size: usize) -> usize {
        let Some(&(whole, at)) = self.by_size.range((size, 0)..).next() else {
            // The last gap grows.
            let last = self.sizes.last_key_value().map(|(&at, &size)| (at, size));
            let at = match last.filter(|&(at, size)| at + size == self.end) {
                Some((at, _)) => {
                    self.remove(at);
                    at
                }
                None => self.end,
            };
            self.end = at + size;
            return at;
        };
        self.remove(at);
        self.insert(at + size, whole - size);
        at
    }

    fn give(&mut self, mut at: usize, mut size: usize) {
        if size == 0 {
            return;
        }
        if let Some((&before, &length)) = self.sizes.range(..at).next_back()
            && before + length == at
        {
            self.remove(before);
            (at, size) = (before, length + size);
        }
        if let Some(&length) = self.sizes.get(&(at + size)) {
            self.remove(at + size);
            size += length;
        }
        self.insert(at, size);
    }

    fn insert(&mut self, at: usize, size: usize) {
        if size > 0 {
            self.sizes.insert(at, size);
            self.by_size.insert((size, at));
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(size) = self.sizes.remove(&at) {
            self.by_size.remove(&(size, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::problem::Item;
    use proptest::prelude::*;

    proptest! {
        /// Items that meet lie apart, but for the pairs, which begin at the same place.
        #[test]
        fn nothing_overlaps(lives in proptest::collection::vec((0usize..9, 0usize..30, 0usize..9), 1..60)) {
            let item = |&(size, first, span): &(usize, usize, usize)| Item { size: size * 64, first, last: first + span };
            let items: Vec<Item> = lives.iter().map(item).collect();
            let mut pairs: Vec<Pair> = Vec::new();
            for (input, a) in items.iter().enumerate() {
                let free = |o: &usize| pairs.iter().all(|p| p.output != *o);
                let begins = |o: &usize| items[*o].first == a.last && items[*o].last > a.last && *o != input;
                if let Some(output) = (0..items.len()).filter(begins).find(free) {
                    pairs.push(Pair { time: a.last, input, output });
                }
            }
            let problem = Problem::new(items, pairs.clone(), 40);
            let solution = solve(&problem, &problem.pairs);
            let items = &problem.items;
            let end = |i: usize| solution.offsets[i] + items[i].size;
            let mut meetings = 0;
            for i in 0..items.len() {
                for j in 0..i {
                    if items[i].meets(&items[j]) {
                        meetings += 1;
                        let paired = solution.pairs.iter().any(|p| (p.input, p.output) == (i, j) || (p.input, p.output) == (j, i));
                        let apart = end(i) <= solution.offsets[j] || end(j) <= solution.offsets[i];
                        let empty = items[i].size == 0 || items[j].size == 0;
                        prop_assert!(apart || empty || (paired && solution.offsets[i] == solution.offsets[j]), "{i} {j}");
                    }
                }
            }
            prop_assert_eq!(problem.meetings(), meetings);
            prop_assert_eq!((0..items.len()).map(end).max().unwrap_or(0).max(solution.peak), solution.peak);
        }
    }
}
