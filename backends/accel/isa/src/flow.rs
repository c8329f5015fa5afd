//! Queues and tokens: which instruction of each engine may start. The loader's proof, the simulator's modes and its random order all move
//! a program by this.

use crate::{Engine, Instr, Op};
use std::collections::VecDeque;
use std::ops::Range;

/// Where a part of a program stands: instructions fill the queues in program order, and each engine takes from its own.
#[derive(Clone, Debug)]
pub struct Flow<'a> {
    code: &'a [Instr],
    /// The next instruction to be queued, and the end of the part.
    rest: Range<usize>,
    depth: usize,
    queues: [VecDeque<usize>; 4],
    /// Tokens from the first engine to the second.
    tokens: [[u32; 4]; 4],
}

impl<'a> Flow<'a> {
    /// A part of a program, at its beginning.
    pub fn new(code: &'a [Instr], part: Range<usize>, depth: u32) -> Self {
        let mut flow = Self {
            code,
            rest: part,
            depth: depth as usize,
            queues: Default::default(),
            tokens: Default::default(),
        };
        flow.issue();
        flow
    }

    /// Fills the queues as far as they go.
    fn issue(&mut self) {
        while let Some(instr) = self.code[self.rest.clone()].first() {
            let queue = &mut self.queues[instr.engine.index()];
            if queue.len() >= self.depth {
                return;
            }
            queue.push_back(self.rest.start);
            self.rest.start += 1;
            if instr.op == Op::Halt {
                self.rest.start = self.rest.end;
            }
        }
    }

    /// The first instruction in an engine's queue.
    pub fn head(&self, engine: Engine) -> Option<usize> {
        self.queues[engine.index()].front().copied()
    }

    /// Engines whose tokens the head of the engine's queue lacks.
    pub fn lacks(&self, engine: Engine) -> impl Iterator<Item = Engine> {
        let head = self.head(engine).map(|i| self.code[i].wait).unwrap_or_default();
        head.iter()
            .filter(move |from| self.tokens[from.index()][engine.index()] == 0)
    }

    /// True if the head of the engine's queue may start.
    pub fn ready(&self, engine: Engine) -> bool {
        self.head(engine).is_some() && self.lacks(engine).next().is_none()
    }

    /// Starts the head of the engine's queue, which must be [ready](Self::ready): its tokens are taken, and the queue has room again.
    pub fn start(&mut self, engine: Engine) -> Option<usize> {
        let number = self.queues[engine.index()].pop_front()?;
        for from in self.code[number].wait.iter() {
            let tokens = &mut self.tokens[from.index()][engine.index()];
            *tokens = tokens.saturating_sub(1);
        }
        self.issue();
        Some(number)
    }

    /// Completes an instruction: its tokens are given.
    pub fn complete(&mut self, number: usize) {
        let instr = &self.code[number];
        for to in instr.signal.iter() {
            self.tokens[instr.engine.index()][to.index()] += 1;
        }
    }

    /// True if nothing is queued, nor can be.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty() && self.queues.iter().all(VecDeque::is_empty)
    }

    /// Number of the instruction that is queued next, and of the one behind the last.
    pub fn rest(&self) -> Range<usize> {
        self.rest.clone()
    }

    /// Tokens that one engine gave another and that are not taken.
    pub fn tokens(&self, from: Engine, to: Engine) -> u32 {
        self.tokens[from.index()][to.index()]
    }
}
