//! The checker's own proof that a function may write one buffer over another: it goes through the addresses.
//!
//! The loops around the accesses to the two buffers are run, once forwards and once backwards, and every byte written is marked. A read of
//! a marked byte is the fault sought. What is right in both directions is right in any order of the iterations. Not every
//! iteration is gone through: of a loop that moves no access two are enough. And where the outermost loop has all accesses inside and
//! moves them alike, at least as far as one iteration reaches, its iterations have no byte in common and are alike, so one of them
//! stands for all; then the same holds for the loop inside that one, and so on.

use sdc_ir::entity::EntityId;
use sdc_ir::registry;
use sdc_ir::tile::{Affine, Bound, Buffer, Func, Index, Inst, Module, Stmt, Val, Var};
use std::ops::Range;

/// Steps after which a pair counts as not proved.
const STEPS: u64 = 1 << 30;

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

    /// True if no read of `input` finds what a write of `output` left there when both begin at the same byte.
    pub fn unharmed(&self, input: Buffer, output: Buffer) -> bool {
        let slice = Slice {
            expanded: self,
            input,
            output,
        };
        let Some(steps) = slice.block(&self.func.body) else {
            return false;
        };
        let [unit, shared] = slice.extent();
        [false, true].iter().all(|&backwards| {
            let mut replay = Replay {
                vars: vec![0; self.func.vars.len()],
                unit,
                written: vec![false; shared.div_ceil(unit)],
                backwards,
                left: STEPS,
            };
            replay.run(&steps, true)
        })
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
                        steps.push(Step::Loop(Loop {
                            var: l.var,
                            lo: l.lo.clone(),
                            hi: l.hi.clone(),
                            step: l.step,
                            moves: common_move(&body, l.var),
                            body,
                        }));
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

struct Replay {
    vars: Vec<i64>,
    /// Bytes per mark.
    unit: usize,
    written: Vec<bool>,
    backwards: bool,
    left: u64,
}

impl Replay {
    fn value(&self, of: &Affine) -> i64 {
        of.eval(|v| self.vars[v.index()])
    }

    /// False at a fault, or when the steps are used up. With `outermost`, there is nothing around the steps.
    fn run(&mut self, steps: &[Step], outermost: bool) -> bool {
        let alone = outermost && steps.len() == 1;
        steps.iter().all(|step| {
            let Some(left) = self.left.checked_sub(1) else {
                return false;
            };
            self.left = left;
            match step {
                Step::Access(access) => self.access(access),
                Step::Loop(l) => self.iterate(l, alone),
            }
        })
    }

    fn access(&mut self, access: &Access) -> bool {
        let at = self.value(&access.at);
        let last = self.written.len() as i64;
        let unit = self.unit as i64;
        let [from, to] = [at, at + access.bytes].map(|x| (x.div_euclid(unit)).clamp(0, last) as usize);
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
