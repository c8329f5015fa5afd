//! Execution of translated functions.

use super::memory::{Memory, Place};
use super::program::{Access, Expr, Loop, Program, Step};
use super::{TileOptions, scalar};

/// An access outside its buffer.
pub(super) struct Fault {
    /// Position of the buffer.
    pub buffer: usize,
    pub index: i64,
    pub lanes: usize,
}

/// Runs one function.
pub(super) fn run(program: &Program, memory: &mut Memory, options: TileOptions) -> Result<(), Box<Fault>> {
    let mut state = State {
        regs: vec![0; program.regs],
        vars: vec![0; program.vars],
        scratch: Vec::new(),
        memory,
        options,
    };
    state.block(&program.steps)
}

struct State<'a> {
    regs: Vec<u64>,
    vars: Vec<i64>,
    /// Next values of loop-carried registers, all read before any is written.
    scratch: Vec<u64>,
    memory: &'a mut Memory,
    options: TileOptions,
}

/// The bytes of one element as a lane. The loads of real networks are nearly all of four bytes.
fn load(bytes: &[u8]) -> u64 {
    if let Ok(four) = bytes.try_into() {
        return u32::from_le_bytes(four).into();
    }
    let mut lane = [0; 8];
    lane[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(lane)
}

impl State<'_> {
    fn eval(&self, e: &Expr) -> i64 {
        e.terms.iter().fold(e.constant, |sum, &(var, c)| {
            sum.wrapping_add(c.wrapping_mul(self.vars[var]))
        })
    }

    /// The first byte of an access, and the bytes of an element.
    fn locate(&self, access: &Access, lanes: usize) -> Result<(usize, usize), Box<Fault>> {
        let offset = access.offset.map_or(0, |reg| self.regs[reg] as i64);
        let index = self.eval(&access.index).wrapping_add(offset);
        let Place { start, len, size } = self.memory.places[access.buffer];
        let at = usize::try_from(index)
            .ok()
            .filter(|at| at.checked_add(lanes).is_some_and(|end| end <= len));
        match at {
            Some(at) => Ok((start + at * size, size)),
            None => Err(Box::new(Fault {
                buffer: access.buffer,
                index,
                lanes,
            })),
        }
    }

    fn block(&mut self, steps: &[Step]) -> Result<(), Box<Fault>> {
        for step in steps {
            match *step {
                Step::Load { dst, lanes, ref from } => {
                    let (at, size) = self.locate(from, lanes)?;
                    let source = self.memory.bytes[at..at + lanes * size].chunks_exact(size);
                    for (reg, bytes) in self.regs[dst..dst + lanes].iter_mut().zip(source) {
                        *reg = load(bytes);
                    }
                }
                Step::LoadSplat { dst, lanes, ref from } => {
                    let (at, size) = self.locate(from, 1)?;
                    let lane = load(&self.memory.bytes[at..at + size]);
                    self.regs[dst..dst + lanes].fill(lane);
                }
                Step::Store { src, lanes, ref to } => {
                    let (at, size) = self.locate(to, lanes)?;
                    let target = self.memory.bytes[at..at + lanes * size].chunks_exact_mut(size);
                    for (reg, bytes) in self.regs[src..src + lanes].iter().zip(target) {
                        bytes.copy_from_slice(&reg.to_le_bytes()[..size]);
                    }
                }
                Step::Const { dst, lanes, bits } => self.regs[dst..dst + lanes].fill(bits),
                Step::Affine { dst, ref expr } => self.regs[dst] = self.eval(expr) as u64,
                Step::Splat { dst, lanes, src } => {
                    let lane = self.regs[src];
                    self.regs[dst..dst + lanes].fill(lane);
                }
                Step::Copy { dst, lanes, src } => self.regs.copy_within(src..src + lanes, dst),
                Step::Map1 { f, dst, lanes, a } => {
                    for i in 0..lanes {
                        self.regs[dst + i] = f(self.regs[a + i]);
                    }
                }
                Step::Map2 { f, dst, lanes, a, b } => {
                    for i in 0..lanes {
                        self.regs[dst + i] = f(self.regs[a + i], self.regs[b + i]);
                    }
                }
                Step::Map3 {
                    f,
                    dst,
                    lanes,
                    a,
                    b,
                    c,
                } => {
                    for i in 0..lanes {
                        self.regs[dst + i] = f(self.regs[a + i], self.regs[b + i], self.regs[c + i]);
                    }
                }
                Step::Compare {
                    f,
                    dst,
                    lanes,
                    a,
                    b,
                    ones,
                } => {
                    for i in 0..lanes {
                        self.regs[dst + i] = f(self.regs[a + i], self.regs[b + i]) * ones;
                    }
                }
                Step::Convert {
                    from,
                    to,
                    dst,
                    lanes,
                    a,
                } => {
                    for i in 0..lanes {
                        self.regs[dst + i] = scalar::convert(from, to, self.regs[a + i]);
                    }
                }
                Step::Fold { f, dst, lanes, a } => self.regs[dst] = fold(f, &self.regs[a..a + lanes]),
                Step::For(ref l) => self.loop_(l)?,
            }
        }
        Ok(())
    }

    fn loop_(&mut self, l: &Loop) -> Result<(), Box<Fault>> {
        let lo = l.lo.iter().map(|e| self.eval(e)).fold(i64::MIN, i64::max);
        let hi = l.hi.iter().map(|e| self.eval(e)).fold(i64::MAX, i64::min);
        for c in &l.carried {
            self.regs.copy_within(c.init..c.init + c.lanes, c.arg);
        }
        // Iterations are counted first: `lo` plus steps may not overflow before the last one.
        let count = if lo < hi {
            (i128::from(hi) - i128::from(lo) - 1) / i128::from(l.step) + 1
        } else {
            0
        };
        let reverse = l.parallel && self.options.reverse_parallel;
        for i in 0..count {
            let i = if reverse { count - 1 - i } else { i };
            self.vars[l.var] = lo.wrapping_add((i as i64).wrapping_mul(l.step));
            self.block(&l.body)?;
            self.scratch.clear();
            for c in &l.carried {
                self.scratch
                    .extend_from_slice(&self.regs[c.next..c.next + c.lanes]);
            }
            let mut from = 0;
            for c in &l.carried {
                self.regs[c.arg..c.arg + c.lanes].copy_from_slice(&self.scratch[from..from + c.lanes]);
                from += c.lanes;
            }
        }
        for c in &l.carried {
            self.regs.copy_within(c.arg..c.arg + c.lanes, c.result);
        }
        Ok(())
    }
}

/// Halves until one lane is left: with four lanes `(l0, l2)` and `(l1, l3)` first.
fn fold(f: scalar::Fn2, lanes: &[u64]) -> u64 {
    let mut lanes = lanes.to_vec();
    while lanes.len() > 1 {
        let half = lanes.len().div_ceil(2);
        for i in half..lanes.len() {
            lanes[i - half] = f(lanes[i - half], lanes[i]);
        }
        lanes.truncate(half);
    }
    lanes[0]
}
