//! The planning problem in the abstract: sizes over intervals of time, and pairs that may share their start.

use std::collections::BTreeMap;

/// Something that needs `size` bytes from time `first` to time `last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Bytes, a multiple of the alignment.
    pub size: usize,
    /// First time.
    pub first: usize,
    /// Last time.
    pub last: usize,
}

impl Item {
    /// True if both are needed at some time.
    pub fn meets(&self, other: &Item) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// `input` ends and `output` begins at `time`, and `output` is needed later; they may have the same offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// When.
    pub time: usize,
    /// Item that ends.
    pub input: usize,
    /// Item that begins.
    pub output: usize,
}

/// Items and the pairs that are legal for them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Items.
    pub items: Vec<Item>,
    /// Legal pairs, by time.
    pub pairs: Vec<Pair>,
    /// Per time, what is live in total.
    live: Vec<usize>,
}

impl Problem {
    /// A problem over times `0..times`. Pairs whose input lives on, or whose output lived before, are dropped; also those
    /// whose output ends at once, so that no three items of a chain of pairs are live together.
    pub fn new(items: Vec<Item>, pairs: Vec<Pair>, times: usize) -> Self {
        let legal = |p: &Pair| {
            let (input, output) = (&items[p.input], &items[p.output]);
            input.last == p.time && output.first == p.time && output.last > p.time
        };
        let mut pairs: Vec<Pair> = pairs.into_iter().filter(legal).collect();
        pairs.sort_by_key(|p| p.time);
        // What begins and ends at each time, then their sums. A difference may be negative for a moment, a sum is not.
        let mut live = vec![0usize; times + 1];
        for item in &items {
            live[item.first] = live[item.first].wrapping_add(item.size);
            live[item.last + 1] = live[item.last + 1].wrapping_sub(item.size);
        }
        live.pop();
        let mut sum = 0usize;
        for l in &mut live {
            sum = sum.wrapping_add(*l);
            *l = sum;
        }
        Self { items, pairs, live }
    }

    /// Total size of the items live at a time, nothing shared.
    pub fn live(&self, time: usize) -> usize {
        self.live[time]
    }

    /// How many two items are needed at the same time.
    pub fn meetings(&self) -> usize {
        let mut firsts: Vec<usize> = self.items.iter().map(|i| i.first).collect();
        let mut lasts: Vec<usize> = self.items.iter().map(|i| i.last).collect();
        firsts.sort_unstable();
        lasts.sort_unstable();
        // Of those that begin before an item, or with it, all meet it but those that have ended.
        let met = firsts.iter().enumerate();
        met.map(|(before, first)| before - lasts.partition_point(|last| last < first))
            .sum()
    }

    /// Bytes a pair saves.
    pub fn saving(&self, pair: &Pair) -> usize {
        self.items[pair.input].size.min(self.items[pair.output].size)
    }

    /// Per time, the total size live when the given pairs share.
    pub fn live_with(&self, pairs: &[Pair]) -> Vec<usize> {
        let mut live = self.live.clone();
        for p in pairs {
            live[p.time] -= self.saving(p);
        }
        live
    }

    /// A peak that no placement can be below.
    pub fn lower_bound(&self) -> usize {
        let least = self
            .live
            .iter()
            .enumerate()
            .map(|(time, live)| live - self.largest_saving(time));
        least.max().unwrap_or(0)
    }

    /// No choice of pairs saves more at this time: every pair has one input and one output, and each item is in at most
    /// one of them, so neither the best pair of every input nor that of every output can be beaten.
    fn largest_saving(&self, time: usize) -> usize {
        let from = self.pairs.partition_point(|p| p.time < time);
        let here: Vec<&Pair> = self.pairs[from..].iter().take_while(|p| p.time == time).collect();
        let best_by = |key: fn(&Pair) -> usize| -> usize {
            let mut best = BTreeMap::new();
            for p in &here {
                let most = best.entry(key(p)).or_insert(0);
                *most = self.saving(p).max(*most);
            }
            best.values().sum()
        };
        best_by(|p| p.input).min(best_by(|p| p.output))
    }
}
