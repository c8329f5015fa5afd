//! The checker's own proof that a function may write one buffer over another: it goes through the addresses.
//!
//! The loops around the accesses to the two buffers are run, once forwards and once backwards, and every byte written is marked. A read of
//! a marked byte is the fault sought. What is right in both directions is right in any order of the iterations. Not every
//! iteration is gone through: of a loop that moves no access two are enough. And where the outermost loop has all accesses inside and
//! moves them alike, at least as far as one iteration reaches, its iterations have no byte in common and are alike, so one of them
//! stands for all; then the same holds for the loop inside that one, and so on. A loop cut into chunks is one loop for this purpose.

use sdc_ir::entity::EntityId;
use sdc_ir::registry;
use sdc_ir::tile::{Affine, Bound, Buffer, Func, Index, Inst, Module, Stmt, Val, Var};
use std::ops::Range;

/// Steps that one check of a plan may take: less than a second.
const STEPS: u64 = 1 << 26;

/// Units that two buffers have in common beyond which nothing is gone through: each takes a byte of memory.
const MARKS: usize = 1 << 28;

/// What going through the addresses showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// No read finds what a write left.
    Unharmed,
    /// Some read does, or the function does what is not understood.
    Harmed,
    /// There are too many addresses to tell.
    TooLong,
}

/// Steps left to a check of a plan.
pub struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(STEPS)
    }
}

/// A function with its kernels' bodies.
pub struct Expanded<'a> {
    module: &'a Module,
    func: Func,
}

impl<'a> Expanded<'a> {
    /// Expands a function of the module.
    pub fn of(module: &'a Module, func: &Func) -> Self {
        let func = registry::expand(func, |_| true);
        Self { module, func }
    }

    /// Whether a read of `input` finds what a write of `output` left there when both begin at the same byte.
    pub fn replay(&self, input: Buffer, output: Buffer, budget: &mut Budget) -> Verdict {
        let slice = Slice {
            expanded: self,
            input,
            output,
        };
        let Some(steps) = slice.block(&self.func.body) else {
            return Verdict::Harmed;
        };
        let [unit, shared] = slice.extent();
        let marks = shared.div_ceil(unit);
        if marks > MARKS {
            return Verdict::TooLong;
        }
        for backwards in [false, true] {
            let mut replay = Replay {
                vars: vec![0; self.func.vars.len()],
                unit,
                written: vec![false; marks],
                backwards,
                left: &mut budget.0,
            };
            if !replay.run(&steps, true) {
                return if budget.0 == 0 {
                    Verdict::TooLong
                } else {
                    Verdict::Harmed
                };
            }
        }
        Verdict::Unharmed
    }
}

/// Bytes from one to another; none for all of a buffer.
struct Access {
    write: bool,
    at: Affine,
    bytes: i64,
}

enum Step {
    Access(Access),
    Loop(Loop),
}

struct Loop {
    var: Var,
    lo: Bound,
    hi: Bound,
    step: i64,
    /// By how many bytes one unit of the variable moves all accesses, if that is the same for all.
    moves: Option<i64>,
    body: Vec<Step>,
}

impl Loop {
    /// The loop inside over all its chunks, if this is a loop over chunks: `for c in 0..n { for i in c*size..min(c*size + size, end) }`,
    /// where nothing but the bounds knows the chunk.
    fn joined(mut self) -> Self {
        let (Some(0), Some(chunks), [Step::Loop(inner)], 1) = (
            self.lo.as_constant(),
            self.hi.as_constant(),
            self.body.as_mut_slice(),
            self.step,
        ) else {
            return self;
        };
        let [lo] = inner.lo.exprs() else {
            return self;
        };
        let size = coefficient(lo, self.var);
        let chunk = Affine::from(self.var) * size;
        let next = chunk.clone() + size;
        let (starts, ends): (Vec<&Affine>, Vec<&Affine>) = inner
            .hi
            .exprs()
            .iter()
            .partition(|e| coefficient(e, self.var) != 0);
        let alike = inner.step == 1
            && size > 0
            && *lo == chunk
            && starts == [&next]
            && common_move(&inner.body, self.var) == Some(0);
        let Some(all) = chunks.checked_mul(size).filter(|_| alike) else {
            return self;
        };
        let hi = ends.into_iter().cloned().chain([all.into()]).collect();
        inner.lo = 0.into();
        inner.hi = Bound::of(hi);
        let Some(Step::Loop(inner)) = self.body.pop() else {
            unreachable!("matched above");
        };
        inner
    }
}

/// The part of a function that touches two buffers.
struct Slice<'a> {
    expanded: &'a Expanded<'a>,
    input: Buffer,
    output: Buffer,
}

impl Slice<'_> {
    /// The unit that all accesses are made of, and how many bytes the two buffers have in common.
    fn extent(&self) -> [usize; 2] {
        let both = [self.input, self.output].map(|b| &self.expanded.module.buffers[b]);
        let unit = both[0].dtype.size().min(both[1].dtype.size()).max(1);
        [unit, both[0].bytes().min(both[1].bytes())]
    }

    /// `None` if the input is written, or a kernel remains whose meaning is not known.
    fn block(&self, stmts: &[Stmt]) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::Let(val, Inst::Load { buffer, index }) if *buffer == self.input => {
                    steps.push(self.access(false, *buffer, index, self.lanes(*val)));
                }
                Stmt::Let(_, Inst::LoadSplat { buffer, index }) if *buffer == self.input => {
                    steps.push(self.access(false, *buffer, index, 1));
                }
                Stmt::Let(..) => {}
                Stmt::Store { buffer, .. } if *buffer == self.input => return None,
                Stmt::Store { buffer, index, value } if *buffer == self.output => {
                    steps.push(self.access(true, *buffer, index, self.lanes(*value)));
                }
                Stmt::Store { .. } => {}
                Stmt::For(l) => {
                    let body = self.block(&l.body)?;
                    if !body.is_empty() {
                        let whole = Loop {
                            var: l.var,
                            lo: l.lo.clone(),
                            hi: l.hi.clone(),
                            step: l.step,
                            moves: common_move(&body, l.var),
                            body,
                        };
                        steps.push(Step::Loop(whole.joined()));
                    }
                }
                Stmt::Kernel(call) => {
                    let mut operands = call.operands.iter().flatten();
                    if operands.any(|v| v.buffer == self.input || v.buffer == self.output) {
                        return None;
                    }
                }
            }
        }
        Some(steps)
    }

    fn lanes(&self, val: Val) -> i64 {
        self.expanded.func.vals[val].lanes.into()
    }

    fn access(&self, write: bool, buffer: Buffer, index: &Index, lanes: i64) -> Step {
        let data = &self.expanded.module.buffers[buffer];
        let size = data.dtype.size() as i64;
        Step::Access(match index.offset {
            None => Access {
                write,
                at: index.affine.clone() * size,
                bytes: lanes * size,
            },
            // Anywhere.
            Some(_) => Access {
                write,
                at: 0.into(),
                bytes: data.bytes() as i64,
            },
        })
    }
}

fn coefficient(of: &Affine, var: Var) -> i64 {
    of.terms().iter().find(|t| t.0 == var).map_or(0, |t| t.1)
}

/// The coefficient that a variable has in every address, if it is the same and no bound depends on the variable.
fn common_move(body: &[Step], var: Var) -> Option<i64> {
    let mut found = None;
    for step in body {
        let own = match step {
            Step::Access(a) => coefficient(&a.at, var),
            Step::Loop(l) => {
                let mut bounds = l.lo.exprs().iter().chain(l.hi.exprs());
                if bounds.any(|e| coefficient(e, var) != 0) {
                    return None;
                }
                common_move(&l.body, var)?
            }
        };
        if *found.get_or_insert(own) != own {
            return None;
        }
    }
    found
}

struct Replay<'a> {
    vars: Vec<i64>,
    /// Bytes per mark.
    unit: usize,
    written: Vec<bool>,
    backwards: bool,
    left: &'a mut u64,
}

impl Replay<'_> {
    fn value(&self, of: &Affine) -> i64 {
        of.eval(|v| self.vars[v.index()])
    }

    /// False at a fault, or when the steps are used up. With `outermost`, there is nothing around the steps.
    fn run(&mut self, steps: &[Step], outermost: bool) -> bool {
        let alone = outermost && steps.len() == 1;
        steps.iter().all(|step| {
            self.spend(1)
                && match step {
                    Step::Access(access) => self.access(access),
                    Step::Loop(l) => self.iterate(l, alone),
                }
        })
    }

    /// False if not so many steps are left.
    fn spend(&mut self, steps: u64) -> bool {
        *self.left = self.left.saturating_sub(steps);
        *self.left > 0
    }

    fn access(&mut self, access: &Access) -> bool {
        let at = self.value(&access.at);
        let last = self.written.len() as i64;
        let unit = self.unit as i64;
        let [from, to] = [at, at + access.bytes].map(|x| (x.div_euclid(unit)).clamp(0, last) as usize);
        if !self.spend((to - from) as u64 / 64) {
            return false;
        }
        let marks = &mut self.written[from..to];
        if access.write {
            marks.fill(true);
            return true;
        }
        !marks.contains(&true)
    }

    /// With `alone`, the loop has all accesses inside.
    fn iterate(&mut self, l: &Loop, alone: bool) -> bool {
        let lo = l.lo.max(|v| self.vars[v.index()]);
        let hi = l.hi.min(|v| self.vars[v.index()]);
        let count = if lo < hi { (hi - lo - 1) / l.step + 1 } else { 0 };
        let enough = match l.moves {
            Some(0) => 2,
            Some(moves) if alone => {
                self.vars[l.var.index()] = lo;
                let reach = self.hull(&l.body, &mut Vec::new());
                let apart = reach.is_some_and(|r| r.end - r.start <= moves.saturating_mul(l.step).abs());
                if apart { 1 } else { count }
            }
            _ => count,
        };
        let count = count.min(enough);
        (0..count).all(|k| {
            let k = if self.backwards { count - 1 - k } else { k };
            self.vars[l.var.index()] = lo + k * l.step;
            self.run(&l.body, alone && count == 1)
        })
    }

    /// A range of bytes that all accesses of the steps lie in, whatever the variables of the loops inside, of which `inner` has those met
    /// so far with their ranges. Empty if there is none, `None` beyond what numbers hold.
    fn hull(&self, steps: &[Step], inner: &mut Vec<(Var, (i64, i64))>) -> Option<Range<i64>> {
        let mut hull: Option<Range<i64>> = None;
        for step in steps {
            let found = match step {
                Step::Access(a) => {
                    let (lo, hi) = self.range(&a.at, inner)?;
                    lo..hi.checked_add(a.bytes)?
                }
                Step::Loop(l) => {
                    let mut ends = (i64::MIN, i64::MAX);
                    for e in l.lo.exprs() {
                        ends.0 = ends.0.max(self.range(e, inner)?.0);
                    }
                    for e in l.hi.exprs() {
                        ends.1 = ends.1.min(self.range(e, inner)?.1.checked_sub(1)?);
                    }
                    if ends.0 > ends.1 {
                        continue;
                    }
                    inner.push((l.var, ends));
                    let found = self.hull(&l.body, inner)?;
                    inner.pop();
                    found
                }
            };
            if found.start < found.end {
                hull = Some(match hull {
                    Some(h) => h.start.min(found.start)..h.end.max(found.end),
                    None => found,
                });
            }
        }
        Some(hull.unwrap_or(0..0))
    }

    fn range(&self, of: &Affine, inner: &[(Var, (i64, i64))]) -> Option<(i64, i64)> {
        of.range(|var| match inner.iter().find(|(v, _)| *v == var) {
            Some(&(_, ends)) => ends,
            None => {
                let value = self.vars[var.index()];
                (value, value)
            }
        })
    }
}
