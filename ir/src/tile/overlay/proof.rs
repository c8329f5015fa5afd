//! Whether two accesses touch a byte in common, and then in which iterations.
//!
//! The distance between them is an expression in the counters of both, and those of a loop around both occur twice: once for each
//! access. If one iteration of such a loop moves the addresses further than all other counters together can make good, then
//! accesses that meet are in the same iteration of it, and the two counters are one from then on. So it goes on, from the outermost
//! stride of a tensor to the innermost.

use super::counters::{Normal, constant_bounds};
use super::sites::Site;
use crate::entity::EntityId;
use crate::tile::Var;
use crate::tile::verify::linear::Linear;
use std::collections::BTreeSet;

/// Replacements tried per bound sought.
const BUDGET: u32 = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// They have no byte in common.
    Disjoint,
    /// If they have one, they are in the same iteration of every loop around both. The bytes from the second to the first are
    /// these, if that does not depend on anything.
    SameIteration(Option<i128>),
    Unknown,
}

/// Compares two accesses, which have the loops `common` around both; these are in different iterations if `apart`.
pub(super) fn compare(a: (&Site, &Normal), b: (&Site, &Normal), common: &[usize], apart: bool) -> Verdict {
    let mut pair = Pair {
        normals: [a.1, b.1],
        same: BTreeSet::new(),
    };
    let distance = match (&a.1.at, &b.1.at) {
        (Some(at), Some(other)) => pair.named(0, at).and_then(|d| d.plus(-1, &pair.named(1, other)?)),
        _ => None,
    };
    // Beyond these they do not meet.
    let (before, after) = (-a.0.bytes, b.0.bytes);
    loop {
        let unified = distance.as_ref().and_then(|d| pair.unified(d));
        if let Some(d) = &unified
            && pair.outside(d, before, after)
        {
            return Verdict::Disjoint;
        }
        if apart {
            // All that would help is that some loop's counters are equal.
            if !pair.equate(unified.as_ref(), common, (before, after)) {
                return Verdict::Unknown;
            }
        } else if common.iter().all(|&id| pair.is_same(id)) {
            let constant = unified.filter(|d| d.terms.is_empty()).map(|d| d.constant);
            return Verdict::SameIteration(constant);
        } else if !pair.equate(unified.as_ref(), common, (before, after)) {
            return Verdict::Unknown;
        }
    }
}

struct Pair<'a> {
    normals: [&'a Normal; 2],
    /// Loops around both whose counters are equal wherever the accesses meet.
    same: BTreeSet<usize>,
}

impl Pair<'_> {
    /// The counter of a loop for one access.
    fn name(&self, side: usize, id: usize) -> Var {
        let side = if self.same.contains(&id) { 0 } else { side };
        Var::new(2 * id + side)
    }

    /// An expression of one access with its counters named apart from the other's.
    fn named(&self, side: usize, of: &Linear) -> Option<Linear> {
        let mut named = Linear::constant(0);
        named.constant = of.constant;
        for (var, &c) in &of.terms {
            let term = Linear {
                terms: [(self.name(side, var.index()), 1)].into(),
                constant: 0,
            };
            named = named.plus(c, &term)?;
        }
        Some(named)
    }

    /// An expression with what was found equal since.
    fn unified(&self, of: &Linear) -> Option<Linear> {
        let mut unified = of.clone();
        for id in &self.same {
            let first = Linear {
                terms: [(Var::new(2 * id), 1)].into(),
                constant: 0,
            };
            unified = unified.replace(Var::new(2 * id + 1), &first)?;
        }
        Some(unified)
    }

    fn is_same(&self, id: usize) -> bool {
        let [a, b] = self.normals.map(|n| n.counters.get(&id));
        // A single or chosen iteration of both: a caller that chose two says so.
        a.is_none() && b.is_none() || self.same.contains(&id)
    }

    /// Finds a loop around both whose counters must be equal where the accesses meet.
    fn equate(&mut self, distance: Option<&Linear>, common: &[usize], (before, after): (i128, i128)) -> bool {
        for &id in common {
            let both = self.normals.iter().all(|n| n.counters.contains_key(&id));
            if both
                && !self.same.contains(&id)
                && (self.moves_apart(distance, id, before, after) || self.related(id))
            {
                self.same.insert(id);
                return true;
            }
        }
        false
    }

    fn moves_apart(&self, distance: Option<&Linear>, id: usize, before: i128, after: i128) -> bool {
        let Some(distance) = distance else { return false };
        let [first, second] = [0, 1].map(|side| Var::new(2 * id + side));
        let mut rest = distance.clone();
        let (Some(c), Some(d)) = (rest.terms.remove(&first), rest.terms.remove(&second)) else {
            return false;
        };
        if c.checked_add(d) != Some(0) {
            return false;
        }
        let c = c.abs();
        // One iteration forwards or backwards, and then more.
        let enough = |bounds: Option<(i128, i128)>| {
            bounds.is_some_and(|(lo, hi)| {
                lo.checked_add(c).is_some_and(|x| x >= after)
                    && hi.checked_sub(c).is_some_and(|x| x <= before)
            })
        };
        enough(self.constant_bounds(&rest)) || enough(self.tight_bounds(&rest))
    }

    /// A loop with several bounds that says what the counter of another is once its own is known.
    fn related(&self, id: usize) -> bool {
        let [a, b] = self.normals;
        a.relations.iter().any(|r| {
            let decided = |&v: &Var| v.index() == id || self.is_same(v.index());
            let known_to_both = b
                .relations
                .iter()
                .any(|s| s.below == r.below && s.of.terms == r.of.terms && s.of.constant == r.of.constant);
            let c = r.of.terms.get(&Var::new(id));
            known_to_both && c.is_some_and(|c| c.abs() >= r.below) && r.of.terms.keys().all(decided)
        })
    }

    fn outside(&self, distance: &Linear, before: i128, after: i128) -> bool {
        let apart = |bounds: Option<(i128, i128)>| bounds.is_some_and(|(lo, hi)| hi <= before || lo >= after);
        apart(self.constant_bounds(distance)) || apart(self.tight_bounds(distance))
    }

    fn constant_bounds(&self, of: &Linear) -> Option<(i128, i128)> {
        constant_bounds(of, |var| {
            let c = self.normals[var.index() % 2].counters.get(&(var.index() / 2))?;
            Some((c.least, c.most))
        })
    }

    /// Bounds found by replacing counters, innermost first, by what bounds them, which may be counters further out.
    fn tight_bounds(&self, of: &Linear) -> Option<(i128, i128)> {
        let [lo, hi] = [false, true].map(|upper| {
            let mut budget = BUDGET;
            self.extreme(of, upper, &mut budget)
        });
        Some((lo?, hi?))
    }

    fn extreme(&self, of: &Linear, upper: bool, budget: &mut u32) -> Option<i128> {
        let Some((&var, &c)) = of.terms.last_key_value() else {
            return Some(of.constant);
        };
        let side = var.index() % 2;
        let counter = self.normals[side].counters.get(&(var.index() / 2))?;
        let upwards = upper == (c > 0);
        let mut rest = of.clone();
        rest.terms.remove(&var);
        let constant = if upwards { counter.most } else { counter.least };
        let mut candidates = Vec::new();
        let mut simple = rest.clone();
        simple.constant = simple.constant.checked_add(c.checked_mul(constant)?)?;
        candidates.push(simple);
        if upwards {
            for (scale, bound) in counter.last.iter().filter(|(scale, _)| c % scale == 0) {
                candidates.push(rest.clone().plus(c / scale, &self.named(side, bound)?)?);
            }
        } else {
            for bound in &counter.first {
                candidates.push(rest.clone().plus(c, &self.named(side, bound)?)?);
            }
        }
        let mut best: Option<i128> = None;
        for candidate in candidates {
            *budget = budget.checked_sub(1)?;
            let value = self.extreme(&candidate, upper, budget)?;
            best = Some(match best {
                Some(b) if upper => b.min(value),
                Some(b) => b.max(value),
                None => value,
            });
        }
        best
    }
}
