//! Static bounds of affine accesses.
//!
//! The largest value of an expression is found by replacing its loop variables, innermost first, by what bounds them: a
//! variable with a positive coefficient is at most `hi - 1` for each expression `hi` of its upper bound, so each gives a
//! bound of the whole, and the least of these counts. Replacing by the *expression* rather than by its interval keeps what
//! borders rely on: with `i1 < 24 - i0` the sum `i0 + i1` is at most 23. The smallest value likewise.
//!
//! Where a loop has one lower bound, its variable is `lo + t*step`, so `hi - 1` is too large by what `hi - 1 - lo` is
//! modulo `step`, as far as that is known. So a loop from 0 to 16 of step 4 ends at 12.

use super::linear::{Linear, Residue};
use crate::tile::{Affine, Bound, For, Var};

/// Replacements tried per bound sought: enough for half a dozen loops with border expressions, but bounded, for a text may
/// be hostile.
const BUDGET: u32 = 512;
/// A loop with more expressions in a bound is not analysed.
const MAX_EXPRS: usize = 6;

/// What is known about an access. Numbers are bounds of its index, as far as known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    /// It stays inside, or never happens.
    Inside,
    /// It certainly leaves the buffer.
    Outside(Option<i64>, Option<i64>),
    /// Neither.
    Unknown(Option<i64>, Option<i64>),
}

/// The loops around a statement, outermost first.
#[derive(Default)]
pub(super) struct Loops {
    stack: Vec<Loop>,
}

struct Loop {
    var: Var,
    /// The variable is at least each of these; none if nothing is known.
    first: Vec<Linear>,
    /// The variable is at most each of these.
    last: Vec<Linear>,
    /// The bounds are constant, so the variable takes the values `first` and `last` if the loop runs.
    constant: bool,
    /// The loop certainly runs whenever it is reached.
    runs: bool,
    /// The loop certainly never runs.
    empty: bool,
    /// What the variable is modulo what.
    residue: Residue,
}

#[derive(Clone, Copy)]
enum End {
    Smallest,
    Largest,
}

impl Loops {
    /// Enters a loop. It is `sound` if its bounds mention only variables in scope and its step is positive.
    pub fn enter(&mut self, l: &For, sound: bool) {
        let mut entered = Loop {
            var: l.var,
            first: Vec::new(),
            last: Vec::new(),
            constant: false,
            runs: false,
            empty: false,
            residue: Residue::UNKNOWN,
        };
        if sound && l.lo.exprs().len().max(l.hi.exprs().len()) <= MAX_EXPRS {
            self.bounds(l, &mut entered);
        }
        self.stack.push(entered);
    }

    pub fn leave(&mut self) {
        self.stack.pop();
    }

    fn bounds(&self, l: &For, entered: &mut Loop) {
        let linear = |b: &Bound| b.exprs().iter().map(Linear::of).collect::<Vec<_>>();
        let mut limits = linear(&l.hi);
        entered.first = linear(&l.lo);
        if let (Some(lo), Some(hi)) = (constants(&l.lo), constants(&l.hi)) {
            let (lo, hi) = (
                lo.into_iter().fold(i64::MIN, i64::max),
                hi.into_iter().fold(i64::MAX, i64::min),
            );
            entered.constant = true;
            entered.first = vec![Linear::constant(lo)];
            limits = vec![Linear::constant(hi)];
        }
        let step = i128::from(l.step);
        let single = match entered.first.as_slice() {
            [lo] => Some(lo),
            _ => None,
        };
        if let Some(lo) = single {
            entered.residue = self.residue(lo).modulo(step);
        }
        entered.last = limits
            .into_iter()
            .filter_map(|mut hi| {
                hi.constant = hi.constant.checked_sub(1)?;
                let distance = single.and_then(|lo| hi.clone().plus(-1, lo));
                let slack = distance.map_or(0, |d| self.residue(&d).modulo(step).value);
                hi.constant = hi.constant.checked_sub(slack)?;
                Some(hi)
            })
            .collect();
        self.emptiness(entered);
    }

    /// Compares every pair of bounds: the loop runs if each upper one reaches each lower one.
    fn emptiness(&self, entered: &mut Loop) {
        entered.runs = true;
        for first in &entered.first {
            for last in &entered.last {
                let distance = last.clone().plus(-1, first);
                let [least, most] = [End::Smallest, End::Largest].map(|end| {
                    let mut budget = BUDGET;
                    self.extreme(distance.as_ref()?, end, &mut budget)
                });
                entered.runs &= least.is_some_and(|d| d >= 0);
                entered.empty |= most.is_some_and(|d| d < 0);
            }
        }
    }

    fn residue(&self, of: &Linear) -> Residue {
        of.residue(|var| {
            let l = self.stack.iter().find(|l| l.var == var);
            l.map_or(Residue::UNKNOWN, |l| l.residue)
        })
    }

    /// Whether `count` elements from `at` on stay in an array of `len` elements in every iteration.
    pub fn inside(&self, at: &Affine, len: usize, count: usize) -> Proof {
        if self.stack.iter().any(|l| l.empty) {
            return Proof::Inside;
        }
        let at = Linear::of(at);
        let [lo, hi] = [End::Smallest, End::Largest].map(|end| {
            let mut budget = BUDGET;
            self.extreme(&at, end, &mut budget)
        });
        let last = len as i128 - count as i128;
        let inside = |x: Option<i128>| x.is_some_and(|x| (0..=last).contains(&x));
        // Bounds that contradict each other are those of an access that never happens.
        if inside(lo) && inside(hi) || lo.zip(hi).is_some_and(|(lo, hi)| lo > hi) {
            return Proof::Inside;
        }
        let runs = self.stack.iter().all(|l| l.runs);
        // Constant bounds make the extremes exact: some iteration has each variable at the end that counts.
        let exact = self.stack.iter().all(|l| l.constant) && lo.is_some() && hi.is_some();
        let never = lo.is_some_and(|lo| lo > last) || hi.is_some_and(|hi| hi < 0);
        let [lo, hi] = [lo, hi].map(|x| x.and_then(|x| i64::try_from(x).ok()));
        if runs && (exact || never) {
            Proof::Outside(lo, hi)
        } else {
            Proof::Unknown(lo, hi)
        }
    }

    /// A bound of the expression at one end, the tightest that replacing variables gives; `None` if there is none.
    fn extreme(&self, at: &Linear, end: End, budget: &mut u32) -> Option<i128> {
        let Some(l) = self.stack.iter().rev().find(|l| at.terms.contains_key(&l.var)) else {
            return at.terms.is_empty().then_some(at.constant);
        };
        let upwards = matches!(end, End::Largest) == (at.terms[&l.var] > 0);
        let mut best = None;
        for bound in if upwards { &l.last } else { &l.first } {
            *budget = budget.checked_sub(1)?;
            let value = at
                .replace(l.var, bound)
                .and_then(|at| self.extreme(&at, end, budget));
            best = match (best, value, end) {
                (Some(a), Some(b), End::Largest) => Some(i128::min(a, b)),
                (Some(a), Some(b), End::Smallest) => Some(i128::max(a, b)),
                (a, b, _) => a.or(b),
            };
        }
        best
    }
}

fn constants(bound: &Bound) -> Option<Vec<i64>> {
    bound.exprs().iter().map(Affine::as_constant).collect()
}
