//! Accesses as affine expressions of loop *counters*, which count iterations from zero.
//!
//! A loop from `lo` in steps of `step` has the variable `lo + step * counter`, so an address becomes an expression whose
//! coefficients say by how much one iteration moves it. A loop with several lower bounds counts by its variable itself.

use super::sites::{Loop, Site};
use crate::entity::EntityId;
use crate::tile::Var;
use crate::tile::verify::linear::Linear;
use std::collections::BTreeMap;

/// Loops whose iteration is chosen, by number.
pub(super) type Fixed = BTreeMap<usize, i128>;

/// What is known about a counter. Expressions are in the counters of loops further out.
#[derive(Clone)]
pub(super) struct Counter {
    pub least: i128,
    pub most: i128,
    /// The counter is at least each of these.
    pub first: Vec<Linear>,
    /// That many times the counter is at most this.
    pub last: Vec<(i128, Linear)>,
}

/// `0 <= of < below`, for a loop with several bounds.
#[derive(Clone)]
pub(super) struct Relation {
    pub of: Linear,
    pub below: i128,
}

/// An access in terms of counters; the variable `Var(n)` is the counter of loop `n`.
#[derive(Clone)]
pub(super) struct Normal {
    /// Its first byte, if known.
    pub at: Option<Linear>,
    /// Of the loops around it that may have more than one iteration.
    pub counters: BTreeMap<usize, Counter>,
    pub relations: Vec<Relation>,
}

impl Normal {
    /// How many iterations the loop has at most, unless one is chosen.
    pub fn iterations(&self, id: usize) -> Option<i128> {
        let counter = self.counters.get(&id)?;
        // A loop that counts by its variable has no first iteration to choose.
        (counter.least == 0 && counter.first.is_empty()).then_some(counter.most + 1)
    }

    /// Whether there may be more than one iteration.
    pub fn varies(&self, id: usize) -> bool {
        self.counters.contains_key(&id)
    }
}

/// The bounds of an expression when each counter lies between its constant bounds.
pub(super) fn constant_bounds(
    of: &Linear,
    counter: impl Fn(Var) -> Option<(i128, i128)>,
) -> Option<(i128, i128)> {
    of.terms
        .iter()
        .try_fold((of.constant, of.constant), |(lo, hi), (&var, &c)| {
            let (least, most) = counter(var)?;
            let (x, y) = (c.checked_mul(least)?, c.checked_mul(most)?);
            Some((lo.checked_add(x.min(y))?, hi.checked_add(x.max(y))?))
        })
}

/// The access in counters. `None` if it never happens.
pub(super) fn normal(loops: &[Loop], site: &Site, fixed: &Fixed) -> Option<Normal> {
    let mut state = State {
        values: BTreeMap::new(),
        normal: Normal {
            at: None,
            counters: BTreeMap::new(),
            relations: Vec::new(),
        },
        known: site.at.is_some(),
    };
    for &id in &site.loops {
        state.enter(id, &loops[id], fixed.get(&id).copied())?;
    }
    let mut normal = state.normal;
    if state.known {
        normal.at = site.at.as_ref().and_then(|at| substitute(at, &state.values));
    }
    Some(normal)
}

/// Expressions of the loop variables met so far.
type Values = BTreeMap<Var, Linear>;

fn substitute(of: &Linear, values: &Values) -> Option<Linear> {
    let start = number(of.constant);
    of.terms
        .iter()
        .try_fold(start, |sum, (var, &c)| sum.plus(c, values.get(var)?))
}

struct State {
    values: Values,
    normal: Normal,
    /// False as soon as an expression is beyond this arithmetic; nothing is concluded then.
    known: bool,
}

impl State {
    fn range(&self, of: &Linear) -> Option<(i128, i128)> {
        let counters = &self.normal.counters;
        constant_bounds(of, |var| {
            let c = counters.get(&var.index())?;
            Some((c.least, c.most))
        })
    }

    /// Enters a loop. `None` if it certainly has no such iteration.
    fn enter(&mut self, id: usize, l: &Loop, chosen: Option<i128>) -> Option<()> {
        match self.bounds(id, l, chosen) {
            Some(Entered { value, counter }) => {
                if let Some(counter) = counter {
                    if counter.least > counter.most {
                        return None;
                    }
                    self.normal.counters.insert(id, counter);
                }
                self.values.insert(l.var, value);
            }
            None => {
                // Beyond this arithmetic: any number of iterations, anywhere.
                self.known = false;
                let counter = Counter {
                    least: 0,
                    most: i64::MAX.into(),
                    first: Vec::new(),
                    last: Vec::new(),
                };
                self.normal.counters.insert(id, counter);
                self.values.insert(l.var, counter_of(id));
            }
        }
        Some(())
    }

    fn bounds(&mut self, id: usize, l: &Loop, chosen: Option<i128>) -> Option<Entered> {
        let all = |bounds: &[Linear]| -> Option<Vec<Linear>> {
            bounds.iter().map(|b| substitute(b, &self.values)).collect()
        };
        let (lo, hi) = (all(&l.lo)?, all(&l.hi)?);
        let mut entered = match lo.as_slice() {
            [lo] => self.counted(id, l.step, lo, &hi, chosen)?,
            _ => self.by_variable(id, lo, &hi)?,
        };
        if let Some(c) = entered.counter.take_if(|c| c.least == c.most) {
            entered.value = entered.value.replace(Var::new(id), &number(c.least))?;
        }
        Some(entered)
    }

    fn counted(
        &self,
        id: usize,
        step: i128,
        lo: &Linear,
        hi: &[Linear],
        chosen: Option<i128>,
    ) -> Option<Entered> {
        let mut most = i128::MAX;
        let mut last = Vec::new();
        for hi in hi {
            let mut length = hi.clone().plus(-1, lo)?;
            length.constant = length.constant.checked_sub(1)?;
            // The last step may begin before the last element, by as much as is known.
            if length.terms.values().all(|c| c % step == 0) {
                length.constant -= length.constant.rem_euclid(step);
            }
            let (_, longest) = self.range(&length)?;
            most = most.min(longest.div_euclid(step));
            if !length.terms.is_empty() {
                last.push((step, length));
            }
        }
        let first = Vec::new();
        let Some(k) = chosen else {
            return Some(Entered {
                value: lo.clone().plus(step, &counter_of(id))?,
                counter: Some(Counter {
                    least: 0,
                    most,
                    first,
                    last,
                }),
            });
        };
        let empty = Counter {
            least: 0,
            most: -1,
            first,
            last,
        };
        let mut value = lo.clone();
        value.constant = value.constant.checked_add(step.checked_mul(k)?)?;
        let counter = (k > most).then_some(empty);
        Some(Entered { value, counter })
    }

    fn by_variable(&mut self, id: usize, first: Vec<Linear>, hi: &[Linear]) -> Option<Entered> {
        let (mut least, mut most) = (i128::MIN, i128::MAX);
        for lo in &first {
            least = least.max(self.range(lo)?.0);
        }
        let mut last = Vec::new();
        for hi in hi {
            for lo in &first {
                let below = hi.clone().plus(-1, lo)?;
                if below.terms.is_empty() && below.constant > 0 {
                    self.normal.relations.push(Relation {
                        of: counter_of(id).plus(-1, lo)?,
                        below: below.constant,
                    });
                }
            }
            let mut hi = hi.clone();
            hi.constant = hi.constant.checked_sub(1)?;
            most = most.min(self.range(&hi)?.1);
            last.push((1, hi));
        }
        let counter = Some(Counter {
            least,
            most,
            first,
            last,
        });
        Some(Entered {
            value: counter_of(id),
            counter,
        })
    }
}

struct Entered {
    /// Of the loop variable.
    value: Linear,
    /// None if there is one iteration, or one is chosen.
    counter: Option<Counter>,
}

fn number(constant: i128) -> Linear {
    Linear {
        terms: BTreeMap::new(),
        constant,
    }
}

fn counter_of(id: usize) -> Linear {
    Linear {
        terms: BTreeMap::from([(Var::new(id), 1)]),
        constant: 0,
    }
}
