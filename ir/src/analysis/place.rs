//! The search for offsets.
//!
//! Items joined by in-place pairs form a *unit* with one offset. Units are placed one after the other, each into the
//! lowest or the tightest gap that the units already placed leave it; several orders are tried, then a local search
//! changes the best order and the choice of pairs. Nothing depends on time or chance: the random numbers have a fixed
//! seed and the effort is counted in steps. The search ends early when the peak equals the lower bound.
//!
//! All of this knows every two items that meet. Where these are too many, one [sweep](super::sweep) through time decides.

use super::problem::{Pair, Problem};
use super::sweep;

/// Meetings of two items beyond which there is no search: trying the orders then takes a second.
const MEETINGS: usize = 1 << 18;

/// Offsets for every item.
#[derive(Clone, Debug)]
pub struct Solution {
    /// Per item.
    pub offsets: Vec<usize>,
    /// The pairs that share their offset.
    pub pairs: Vec<Pair>,
    /// Largest end of an item.
    pub peak: usize,
}

/// A good solution.
pub fn solve(problem: &Problem, effort: usize) -> Solution {
    if problem.meetings() > MEETINGS {
        let wanted = Choice::matching(problem, |_| true);
        return sweep::solve(problem, &wanted.pairs(problem));
    }
    let mut search = Search {
        problem,
        bound: problem.lower_bound(),
        effort,
        best: None,
    };
    search.heuristics();
    search.improve();
    let best = search.best.unwrap_or_default();
    Solution {
        offsets: best.placed.offsets,
        pairs: best.choice.pairs(problem),
        peak: best.placed.peak,
    }
}

/// Which pairs are used.
#[derive(Clone, Debug, Default)]
struct Choice(Vec<bool>);

impl Choice {
    /// As many of the wanted pairs as go together (an item follows at most one and is followed by at most one),
    /// those that save most first.
    fn matching(problem: &Problem, wanted: impl Fn(usize) -> bool) -> Self {
        let mut order: Vec<usize> = (0..problem.pairs.len()).filter(|&i| wanted(i)).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(problem.saving(&problem.pairs[i])));
        let mut chosen = Self(vec![false; problem.pairs.len()]);
        let mut followed = vec![false; problem.items.len()];
        let mut follows = vec![false; problem.items.len()];
        for i in order {
            let p = &problem.pairs[i];
            if !followed[p.input] && !follows[p.output] {
                (followed[p.input], follows[p.output], chosen.0[i]) = (true, true, true);
            }
        }
        chosen
    }
    fn pairs(&self, problem: &Problem) -> Vec<Pair> {
        let used = problem.pairs.iter().zip(&self.0).filter(|(_, used)| **used);
        used.map(|(p, _)| *p).collect()
    }
}

/// Units and their conflicts under a choice of pairs.
struct Units {
    members: Vec<Vec<usize>>,
    /// Per unit: the units it meets, and the heights both have to keep apart by.
    conflicts: Vec<Vec<Conflict>>,
}

/// While both units are live, this one is at most `own` high and the other at most `others`.
struct Conflict {
    unit: usize,
    own: usize,
    others: usize,
}

impl Units {
    fn new(problem: &Problem, choice: &Choice) -> Self {
        let n = problem.items.len();
        let mut next = vec![None; n];
        let mut is_head = vec![true; n];
        for p in choice.pairs(problem) {
            next[p.input] = Some(p.output);
            is_head[p.output] = false;
        }
        let mut members = Vec::new();
        let mut unit_of = vec![0; n];
        for head in (0..n).filter(|&i| is_head[i]) {
            let chain: Vec<usize> = std::iter::successors(Some(head), |&i| next[i]).collect();
            chain.iter().for_each(|&i| unit_of[i] = members.len());
            members.push(chain);
        }
        let mut units = Self {
            conflicts: members.iter().map(|_| Vec::new()).collect(),
            members,
        };
        units.find_conflicts(problem, &unit_of);
        units
    }

    fn find_conflicts(&mut self, problem: &Problem, unit_of: &[usize]) {
        let mut by_start: Vec<usize> = (0..problem.items.len())
            .filter(|&i| problem.items[i].size > 0)
            .collect();
        by_start.sort_by_key(|&i| problem.items[i].first);
        let mut active: Vec<usize> = Vec::new();
        for i in by_start {
            let item = &problem.items[i];
            active.retain(|&j| problem.items[j].last >= item.first);
            for &j in &active {
                let (a, b, others) = (unit_of[i], unit_of[j], problem.items[j].size);
                if a != b {
                    self.conflicts[a].push(Conflict {
                        unit: b,
                        own: item.size,
                        others,
                    });
                    self.conflicts[b].push(Conflict {
                        unit: a,
                        own: others,
                        others: item.size,
                    });
                }
            }
            active.push(i);
        }
        for conflicts in &mut self.conflicts {
            conflicts.sort_by_key(|c| c.unit);
            conflicts.dedup_by(|c, kept| {
                let same = c.unit == kept.unit;
                if same {
                    (kept.own, kept.others) = (kept.own.max(c.own), kept.others.max(c.others));
                }
                same
            });
        }
    }

    /// Places the units in the given order of units.
    fn place(&self, problem: &Problem, order: &[usize], fit: Fit) -> Placed {
        let mut offset: Vec<Option<usize>> = vec![None; self.members.len()];
        let mut taken: Vec<(usize, usize)> = Vec::new();
        for &u in order {
            // Half-open ranges of offsets that would overlap a placed unit.
            taken.clear();
            for c in &self.conflicts[u] {
                if let Some(o) = offset[c.unit] {
                    taken.push(((o + 1).saturating_sub(c.own), o + c.others));
                }
            }
            taken.sort_unstable();
            offset[u] = Some(fit.choose(&taken));
        }
        let mut offsets = vec![0; problem.items.len()];
        let mut peak = 0;
        for (members, offset) in self.members.iter().zip(&offset) {
            for &i in members {
                offsets[i] = offset.unwrap_or(0);
                peak = peak.max(offsets[i] + problem.items[i].size);
            }
        }
        Placed { offsets, peak }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fit {
    /// The lowest gap.
    First,
    /// The gap with the least to spare.
    Best,
}

impl Fit {
    /// An offset in none of the sorted half-open intervals.
    fn choose(self, taken: &[(usize, usize)]) -> usize {
        let mut at = 0;
        let mut tightest: Option<(usize, usize)> = None;
        for &(low, high) in taken {
            if low > at {
                let spare = low - 1 - at;
                match self {
                    Fit::First => return at,
                    Fit::Best if tightest.is_none_or(|(s, _)| spare < s) => tightest = Some((spare, at)),
                    Fit::Best => {}
                }
            }
            at = at.max(high);
        }
        tightest.map_or(at, |(_, at)| at)
    }
}

#[derive(Clone, Debug, Default)]
struct Placed {
    offsets: Vec<usize>,
    peak: usize,
}

/// A choice of pairs and an order of items (a unit comes where its first member does), and what they lead to.
#[derive(Clone, Debug, Default)]
struct State {
    choice: Choice,
    order: Vec<usize>,
    placed: Placed,
}

struct Search<'a> {
    problem: &'a Problem,
    bound: usize,
    effort: usize,
    best: Option<State>,
}

impl Search<'_> {
    fn optimal(&self) -> bool {
        self.best.as_ref().is_some_and(|b| b.placed.peak <= self.bound)
    }

    fn offer(&mut self, state: State) {
        if self
            .best
            .as_ref()
            .is_none_or(|b| state.placed.peak < b.placed.peak)
        {
            self.best = Some(state);
        }
    }

    /// Several orders, with all pairs, those that the bound needs, and none.
    fn heuristics(&mut self) {
        let problem = self.problem;
        let all = Choice::matching(problem, |_| true);
        let needed = Choice::matching(problem, |i| problem.live(problem.pairs[i].time) > self.bound);
        let none = Choice::matching(problem, |_| false);
        for choice in [all, needed, none] {
            let units = Units::new(problem, &choice);
            for order in orders(problem, &units) {
                for fit in [Fit::Best, Fit::First] {
                    let placed = units.place(problem, &order, fit);
                    let order = order.iter().map(|&u| units.members[u][0]).collect();
                    self.offer(State {
                        choice: choice.clone(),
                        order,
                        placed,
                    });
                    if self.optimal() {
                        return;
                    }
                }
            }
        }
    }

    /// Random changes of order and pairs, kept when the peak does not grow.
    fn improve(&mut self) {
        let Some(mut state) = self.best.clone() else {
            return;
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut units = Units::new(self.problem, &state.choice);
        // Every item keeps a place in the order, so that it has one when its pair is dropped.
        let mut rank = ranks(&state.order, self.problem.items.len());
        let mut spent = 0;
        while spent < self.effort && !self.optimal() && units.members.len() > 1 {
            let (mut trial_rank, mut trial_choice) = (rank.clone(), None);
            if !self.problem.pairs.is_empty() && random.below(8) == 0 {
                trial_choice = Some(self.toggle(&state.choice, &mut random));
            } else {
                self.shuffle(&state, &units, &mut trial_rank, &mut random);
            }
            let trial_units = trial_choice.as_ref().map(|c| Units::new(self.problem, c));
            let current = trial_units.as_ref().unwrap_or(&units);
            let mut order: Vec<usize> = (0..current.members.len()).collect();
            order.sort_by_key(|&u| trial_rank[current.members[u][0]]);
            let fit = if random.below(2) == 0 {
                Fit::Best
            } else {
                Fit::First
            };
            let placed = current.place(self.problem, &order, fit);
            spent += steps(current) * if trial_units.is_some() { 8 } else { 1 };
            if placed.peak <= state.placed.peak {
                rank = trial_rank;
                state.placed = placed;
                if let (Some(u), Some(c)) = (trial_units, trial_choice) {
                    units = u;
                    state.choice = c;
                }
                if self
                    .best
                    .as_ref()
                    .is_none_or(|b| state.placed.peak < b.placed.peak)
                {
                    self.best = Some(state.clone());
                }
            }
        }
    }

    /// One pair more or less; a pair more pushes out those it does not go with.
    fn toggle(&self, choice: &Choice, random: &mut Random) -> Choice {
        let mut choice = choice.clone();
        let i = random.below(choice.0.len());
        choice.0[i] = !choice.0[i];
        if choice.0[i] {
            let p = self.problem.pairs[i];
            for (j, q) in self.problem.pairs.iter().enumerate() {
                if j != i && (q.input == p.input || q.output == p.output) {
                    choice.0[j] = false;
                }
            }
        }
        choice
    }

    /// A unit at the peak moves to an earlier place, or two units change places.
    fn shuffle(&self, state: &State, units: &Units, rank: &mut [usize], random: &mut Random) {
        let top: Vec<usize> = units
            .members
            .iter()
            .filter(|m| {
                m.iter()
                    .any(|&i| state.placed.offsets[i] + self.problem.items[i].size == state.placed.peak)
            })
            .map(|m| m[0])
            .collect();
        let any = |random: &mut Random| units.members[random.below(units.members.len())][0];
        let a = if random.below(2) == 0 {
            top[random.below(top.len())]
        } else {
            any(random)
        };
        let b = any(random);
        if random.below(2) == 0 {
            rank.swap(a, b);
        } else {
            let (from, to) = (rank[a].max(rank[b]), rank[a].min(rank[b]));
            // The later of the two goes directly before the earlier one.
            for r in rank.iter_mut() {
                if *r == from {
                    *r = to;
                } else if (to..from).contains(r) {
                    *r += 1;
                }
            }
        }
    }
}

fn steps(units: &Units) -> usize {
    units.conflicts.iter().map(|c| c.len() + 4).sum()
}

/// The place of every item in an order of some of them; the others follow.
fn ranks(order: &[usize], items: usize) -> Vec<usize> {
    let mut rank = vec![usize::MAX; items];
    order.iter().enumerate().for_each(|(at, &i)| rank[i] = at);
    let rest = rank.iter_mut().filter(|r| **r == usize::MAX);
    rest.zip(order.len()..).for_each(|(r, at)| *r = at);
    rank
}

/// Orders of units worth trying.
fn orders(problem: &Problem, units: &Units) -> Vec<Vec<usize>> {
    struct Key {
        size: usize,
        span: usize,
        first: usize,
        last: usize,
        pressure: usize,
    }
    let keys: Vec<Key> = units
        .members
        .iter()
        .map(|members| {
            let items = || members.iter().map(|&i| &problem.items[i]);
            let (first, last) = (
                items().map(|i| i.first).min().unwrap_or(0),
                items().map(|i| i.last).max().unwrap_or(0),
            );
            Key {
                size: items().map(|i| i.size).max().unwrap_or(0),
                span: last - first,
                first,
                last,
                pressure: (first..=last).map(|t| problem.live(t)).max().unwrap_or(0),
            }
        })
        .collect();
    type By = fn(&Key) -> (usize, usize, usize);
    // Larger keys first.
    let by: [By; 7] = [
        |k| (k.size, k.span, k.last),
        |k| (k.span, k.size, k.last),
        |k| (k.size.saturating_mul(k.span + 1), k.size, k.last),
        |k| (k.pressure, k.size, k.span),
        |k| (k.pressure, k.span, k.size),
        |k| (usize::MAX - k.first, k.size, k.span),
        |k| (k.last, k.size, k.span),
    ];
    by.iter()
        .map(|key| {
            let mut order: Vec<usize> = (0..keys.len()).collect();
            order.sort_by_key(|&u| std::cmp::Reverse(key(&keys[u])));
            order
        })
        .collect()
}

/// xorshift64*: all the search needs.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}
