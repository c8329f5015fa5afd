//! An independent checker of memory plans. It shares no code with the planner: it finds out for itself which buffers
//! each function touches, compares every two buffers that overlap, and where two share memory in a function it goes through the addresses
//! ([`replay`](super::replay)).

use super::Plan;
use super::replay::{Budget, Expanded, Verdict};
use sdc_ir::entity::EntityId;
use sdc_ir::tile::{Buffer, BufferKind, Inst, Module, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is wrong with a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlanFault {
    /// A temporary that some function touches has no offset.
    Missing(Buffer),
    /// An offset for something that is not in the arena.
    NotTemporary(Buffer),
    /// An offset that is not a multiple of 64.
    Unaligned(Buffer, usize),
    /// A buffer that ends beyond the arena.
    Outside(Buffer, usize),
    /// Two buffers overlap while both are live.
    Overlap(Buffer, Buffer),
    /// Two buffers overlap in a function that has too many addresses to go through.
    NotShown(Buffer, Buffer),
    /// The arena is said to be smaller than the lower bound: one of the two is wrong.
    BelowBound(usize, usize),
}

impl PlanFault {
    /// The two buffers of [`PlanFault::NotShown`], the one with the smaller number first.
    pub fn not_shown(&self) -> Option<(Buffer, Buffer)> {
        match *self {
            PlanFault::NotShown(a, b) => Some((a, b)),
            _ => None,
        }
    }
}

impl fmt::Display for PlanFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanFault::Missing(b) => write!(f, "{b} has no offset"),
            PlanFault::NotTemporary(b) => write!(f, "{b} is not a temporary but has an offset"),
            PlanFault::Unaligned(b, at) => write!(f, "{b} starts at {at}, not a multiple of 64"),
            PlanFault::Outside(b, end) => write!(f, "{b} ends at {end}, beyond the arena"),
            PlanFault::Overlap(a, b) => write!(f, "{a} and {b} overlap while both are live"),
            PlanFault::NotShown(a, b) => write!(
                f,
                "{a} and {b} overlap in a function too long to prove it harmless"
            ),
            PlanFault::BelowBound(size, bound) => write!(f, "an arena of {size} is below the bound {bound}"),
        }
    }
}

/// Every fault of a plan: two buffers that overlap while both are live (except where the only function that touches both does no
/// harm), a buffer outside the arena, a bad alignment, a missing or superfluous offset. Empty if the plan is right.
pub fn check(module: &Module, plan: &Plan) -> Vec<PlanFault> {
    let mut faults = Vec::new();
    let mut code = Code {
        module,
        expanded: BTreeMap::new(),
        budget: Budget::default(),
    };
    let uses = users(module);
    let mut placed = Vec::new();
    for (buffer, data) in module.buffers.iter() {
        let offset = plan.offsets.get(buffer).copied().flatten();
        match (offset, &data.kind, uses[buffer.index()].is_empty()) {
            (None, BufferKind::Temp, false) => faults.push(PlanFault::Missing(buffer)),
            (None, _, _) | (Some(_), BufferKind::Temp, true) => {}
            (Some(start), BufferKind::Temp, false) => {
                let end = start.saturating_add(data.len.saturating_mul(data.dtype.size()));
                if start % 64 != 0 {
                    faults.push(PlanFault::Unaligned(buffer, start));
                }
                if end > plan.arena_size {
                    faults.push(PlanFault::Outside(buffer, end));
                }
                placed.push(Placed { buffer, start, end });
            }
            (Some(_), _, _) => faults.push(PlanFault::NotTemporary(buffer)),
        }
    }
    // In order of their first use each is compared with those that are not yet past and lie where it does.
    placed.sort_by_key(|p| uses[p.buffer.index()].first().copied());
    let mut alive = Alive::default();
    for new in placed.into_iter().filter(|p| p.start < p.end) {
        let span = &uses[new.buffer.index()];
        let (Some(&first), Some(&last)) = (span.first(), span.last()) else {
            continue;
        };
        alive.forget(first);
        let mut apart = true;
        for old in alive.around(&new) {
            let pair = (old.buffer.min(new.buffer), old.buffer.max(new.buffer));
            match code.sharing(&uses, (old.buffer, old.start), (new.buffer, new.start)) {
                Verdict::Unharmed => {}
                Verdict::Harmed => {
                    apart = false;
                    faults.push(PlanFault::Overlap(pair.0, pair.1));
                }
                Verdict::TooLong => faults.push(PlanFault::NotShown(pair.0, pair.1)),
            }
        }
        alive.add(new, last, apart);
    }
    if plan.arena_size < plan.lower_bound {
        faults.push(PlanFault::BelowBound(plan.arena_size, plan.lower_bound));
    }
    faults
}

/// A buffer and its bytes in the arena.
#[derive(Clone, Copy)]
struct Placed {
    buffer: Buffer,
    start: usize,
    end: usize,
}

/// Buffers that are needed now. As long as a plan is right, those that overlap begin at the same byte.
#[derive(Default)]
struct Alive {
    /// By first byte.
    right: BTreeMap<usize, Vec<Placed>>,
    /// Those that were found to overlap another one and begin elsewhere: none, unless the plan is wrong.
    wrong: Vec<(usize, Placed)>,
    /// First bytes by the last function of the buffer.
    ends: BTreeMap<usize, Vec<Placed>>,
}

impl Alive {
    /// Drops what no function from `now` on touches.
    fn forget(&mut self, now: usize) {
        while let Some(entry) = self.ends.first_entry().filter(|e| *e.key() < now) {
            for old in entry.remove() {
                if let Some(same) = self.right.get_mut(&old.start) {
                    same.retain(|p| p.buffer != old.buffer);
                    if same.is_empty() {
                        self.right.remove(&old.start);
                    }
                }
            }
        }
        self.wrong.retain(|(last, _)| *last >= now);
    }

    /// Buffers that overlap a new one. Of those that begin before it, only those that begin last can reach it.
    fn around(&self, new: &Placed) -> Vec<Placed> {
        let before = self.right.range(..=new.start).next_back();
        let inside = self.right.range(new.start + 1..new.end);
        let right = before.into_iter().chain(inside).flat_map(|(_, same)| same);
        let all = right.chain(self.wrong.iter().map(|(_, p)| p));
        all.filter(|old| old.start < new.end && new.start < old.end)
            .copied()
            .collect()
    }

    fn add(&mut self, new: Placed, last: usize, apart: bool) {
        if apart {
            self.right.entry(new.start).or_default().push(new);
            self.ends.entry(last).or_default().push(new);
        } else {
            self.wrong.push((last, new));
        }
    }
}

/// The functions whose addresses were looked at.
struct Code<'a> {
    module: &'a Module,
    expanded: BTreeMap<usize, Expanded<'a>>,
    budget: Budget,
}

impl Code<'_> {
    /// Unharmed if the two are never needed at once, or only in a function that may work in place on them.
    fn sharing(
        &mut self,
        uses: &[BTreeSet<usize>],
        (a, a_start): (Buffer, usize),
        (b, b_start): (Buffer, usize),
    ) -> Verdict {
        let span = |x: Buffer| (uses[x.index()].first().copied(), uses[x.index()].last().copied());
        let ((Some(a_first), Some(a_last)), (Some(b_first), Some(b_last))) = (span(a), span(b)) else {
            return Verdict::Unharmed;
        };
        if a_last < b_first || b_last < a_first {
            Verdict::Unharmed
        } else if a_start == b_start && a_last == b_first && b_first < b_last {
            self.replay(a, b, a_last)
        } else if a_start == b_start && b_last == a_first && a_first < a_last {
            self.replay(b, a, b_last)
        } else {
            Verdict::Harmed
        }
    }

    fn replay(&mut self, input: Buffer, output: Buffer, func: usize) -> Verdict {
        let module = self.module;
        let code = self.expanded.entry(func);
        let code = code.or_insert_with(|| Expanded::of(module, &module.funcs[func]));
        code.replay(input, output, &mut self.budget)
    }
}

/// Per buffer, the functions whose statements name it.
fn users(module: &Module) -> Vec<BTreeSet<usize>> {
    let mut uses = vec![BTreeSet::new(); module.buffers.len()];
    for (index, func) in module.funcs.iter().enumerate() {
        let mut pending: Vec<&Stmt> = func.body.iter().collect();
        while let Some(stmt) = pending.pop() {
            let named: Vec<Buffer> = match stmt {
                Stmt::Store { buffer, .. } => vec![*buffer],
                Stmt::Let(_, Inst::Load { buffer, .. }) => vec![*buffer],
                Stmt::Let(_, Inst::LoadSplat { buffer, .. }) => vec![*buffer],
                Stmt::Kernel(k) => k
                    .operands
                    .iter()
                    .filter_map(|o| Some(o.as_ref()?.buffer))
                    .collect(),
                Stmt::For(body) => {
                    pending.extend(&body.body);
                    Vec::new()
                }
                Stmt::Let(..) => Vec::new(),
            };
            for buffer in named {
                uses[buffer.index()].insert(index);
            }
        }
    }
    uses
}
