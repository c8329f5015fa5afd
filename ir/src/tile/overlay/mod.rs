//! Which buffers a function may write over which buffers it reads, derived from its accesses.
//!
//! Let a function read a buffer `A` and write a buffer `B`, and let both begin at the same byte. The result is right if no byte of
//! `A` is read after the byte of `B` at its address was written. This module proves more, so that the order in which loops run does
//! not matter: *where a read of `A` and a write of `B` touch the same byte, they do so in the same iteration of every loop
//! around both, and the read comes first*. So parallel loops may run in any order, and kernels may work in any order.
//!
//! Kernels are taken at their bodies ([`crate::registry`]). Their native code cuts the work into tiles of its own, so between the
//! accesses of one call something more must hold: **an element of `A` is needed for no other element of `B` than the one at its
//! place, unless loops of their own separate the reading from the writing** (as the passes of a softmax over a row). That is the
//! contract of native code: it must be right in place wherever its body allows it so.
//!
//! The proof is sound and not complete: addresses that are no affine expressions of loop variables are not compared.

mod counters;
mod feeds;
mod proof;
mod sites;
#[cfg(test)]
mod tests;

use super::{Buffer, Func, Module};
use counters::{Fixed, Normal};
use proof::Verdict;
use sites::{Loop, Site, Sites};

/// Iterations up to which a loop is looked at one by one, where its variable decides the bounds of others.
const FEW: i128 = 4;

/// Comparisons spent on one pair of accesses.
const CASES: u32 = 64;

/// The accesses of one function, kernel bodies included.
pub struct Accesses {
    sites: Sites,
}

impl Accesses {
    /// The accesses of `func` to those buffers that are `wanted`.
    pub fn of(module: &Module, func: &Func, wanted: impl Fn(Buffer) -> bool) -> Self {
        let sites = Sites::of(module, func, &wanted);
        Self { sites }
    }

    /// True if it is proved that `output` may begin at the byte where `input` begins: what the function then reads of `input` is
    /// what was there before. Both must be among the wanted buffers.
    pub fn may_lie_over(&self, output: Buffer, input: Buffer) -> bool {
        let of = |buffer: Buffer, write: bool| {
            let all = self.sites.all.iter();
            all.filter(move |s| s.buffer == buffer && s.write == write)
        };
        if output == input || of(input, true).next().is_some() {
            return false;
        }
        let normal = |sites: &mut dyn Iterator<Item = &'_ Site>| -> Vec<(usize, Option<Normal>)> {
            sites.map(|s| (s.order, self.normal(s, &Fixed::new()))).collect()
        };
        let writes = normal(&mut of(output, true));
        let reads = normal(&mut of(input, false));
        reads.iter().all(|(read, r)| {
            writes.iter().all(|(write, w)| {
                let (read, write) = (self.sites.at(*read), self.sites.at(*write));
                self.harmless(read, write, r.as_ref(), w.as_ref())
            })
        })
    }

    fn normal(&self, site: &Site, fixed: &Fixed) -> Option<Normal> {
        counters::normal(&self.sites.loops, site, fixed)
    }

    /// True if the write never destroys what the read is still to find. No normal form: the access never happens.
    fn harmless(&self, read: &Site, write: &Site, r: Option<&Normal>, w: Option<&Normal>) -> bool {
        let (Some(r), Some(w)) = (r, w) else { return true };
        let mut budget = CASES;
        let case = Case {
            read,
            write,
            fixed: [Fixed::new(), Fixed::new()],
        };
        self.harmless_in(&case, r, w, &mut budget)
    }

    fn harmless_in(&self, case: &Case<'_>, r: &Normal, w: &Normal, budget: &mut u32) -> bool {
        let Case { read, write, fixed } = case;
        let common = sites::common(read, write);
        let apart = common.iter().any(|l| fixed[0].get(l) != fixed[1].get(l));
        match proof::compare((read, r), (write, w), common, apart) {
            Verdict::Disjoint => return true,
            Verdict::SameIteration(distance) if !apart => {
                return read.order < write.order && self.kept_by_kernels(case, r, w, distance);
            }
            Verdict::SameIteration(_) | Verdict::Unknown => {}
        }
        // Loops of few iterations that decide the bounds of others are looked at one iteration after the other.
        for (side, (site, normal)) in [(*read, r), (*write, w)].into_iter().enumerate() {
            let Some((which, count)) = self.decisive(site, normal) else {
                continue;
            };
            return (0..count).all(|k| {
                let Some(left) = budget.checked_sub(1) else {
                    return false;
                };
                *budget = left;
                let mut case = case.clone();
                case.fixed[side].insert(which, k);
                match self.normal(site, &case.fixed[side]) {
                    None => true,
                    Some(n) if side == 0 => self.harmless_in(&case, &n, w, budget),
                    Some(n) => self.harmless_in(&case, r, &n, budget),
                }
            });
        }
        false
    }

    /// The outermost loop around an access that has few iterations, more than one, and decides the bounds of a loop inside, and how
    /// many they are at most.
    fn decisive(&self, site: &Site, normal: &Normal) -> Option<(usize, i128)> {
        site.loops.iter().enumerate().find_map(|(depth, &id)| {
            let count = normal.iterations(id)?;
            let var = self.sites.loops[id].var;
            let decides = |l: &Loop| l.lo.iter().chain(&l.hi).any(|e| e.terms.contains_key(&var));
            let inner = &site.loops[depth + 1..];
            let split = 1 < count && count <= FEW && inner.iter().any(|&i| decides(&self.sites.loops[i]));
            split.then_some((id, count))
        })
    }

    /// The rule for the accesses of one kernel call, in the same iteration of the loops around both.
    fn kept_by_kernels(&self, case: &Case<'_>, r: &Normal, w: &Normal, distance: Option<i128>) -> bool {
        let Case { read, write, .. } = case;
        let (Some(call), true) = (read.call, read.call == write.call) else {
            return true;
        };
        let own = |site: &Site, normal: &Normal, other: &Site| {
            let shared = sites::common(site, other).len();
            site.loops[shared..].iter().any(|&l| normal.varies(l))
        };
        match (own(read, r, write), own(write, w, read)) {
            (true, true) => return true,
            (false, false) => {}
            _ => return false,
        }
        if distance != Some(0) || read.bytes != write.bytes {
            return false;
        }
        feeds::stores(&self.sites.calls[call], read.order)
            .iter()
            .all(|fed| {
                if fed.order == write.order {
                    return !fed.mixed;
                }
                // Of a store in loops of its own the body says that it comes later.
                let other = self.sites.find(fed.order).filter(|s| s.buffer == write.buffer);
                other.is_some_and(|other| {
                    let normal = self.normal(other, &Fixed::new());
                    normal.is_none_or(|n| own(other, &n, read) && own(read, r, other))
                })
            })
    }
}

/// Two accesses, and the loops whose iteration is chosen for each.
#[derive(Clone)]
struct Case<'a> {
    read: &'a Site,
    write: &'a Site,
    fixed: [Fixed; 2],
}
