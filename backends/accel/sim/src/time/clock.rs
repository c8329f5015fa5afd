//! When instructions start and complete: queues, tokens and the DRAM channel in time (specification, 6.1).

use sdc_accel_isa::{Engine, Instr, Op};
use std::collections::VecDeque;
use std::ops::Range;

/// What an engine does in a cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Busy,
    /// Waits for a token of this engine.
    Wait(Engine),
    /// Waits for the DRAM channel.
    Channel,
    Idle,
}

/// How long an instruction occupies its engine, and how much later it is complete.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Duration {
    pub busy: u64,
    pub latency: u64,
    /// It occupies the DRAM channel too.
    pub channel: bool,
}

/// When an instruction ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub instr: usize,
    pub engine: Engine,
    pub start: u64,
    /// When its engine was free again.
    pub free: u64,
    /// When it was complete.
    pub end: u64,
}

/// Queues and tokens of one part of a program in time, from cycle 0 on.
pub(crate) struct Clock<'a> {
    code: &'a [Instr],
    rest: Range<usize>,
    depth: usize,
    /// Instructions and the cycles they were queued in.
    queues: [VecDeque<(usize, u64)>; 4],
    /// When tokens from the first engine to the second can be taken.
    tokens: [[VecDeque<u64>; 4]; 4],
    engines: [Unit; 4],
    channel: u64,
    /// The first cycle in which the next instruction can be queued.
    next_issue: u64,
    /// Completion of the last instruction.
    pub end: u64,
}

/// One engine.
#[derive(Clone, Copy, Default)]
struct Unit {
    /// From when on it is not occupied.
    free: u64,
    /// The first cycle in which it can start another instruction.
    next: u64,
    /// The last cycle in which its queue got room.
    room: u64,
    /// Up to where its states are told.
    told: u64,
}

/// An instruction that can start, and when.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub instr: usize,
    pub engine: Engine,
    at: u64,
    queued: u64,
    /// The last token it waited for.
    token: Option<(u64, Engine)>,
}

impl<'a> Clock<'a> {
    pub fn new(code: &'a [Instr], part: Range<usize>, depth: u32) -> Self {
        let mut clock = Self {
            code,
            rest: part,
            depth: depth as usize,
            queues: Default::default(),
            tokens: Default::default(),
            engines: Default::default(),
            channel: 0,
            next_issue: 0,
            end: 0,
        };
        clock.issue();
        clock
    }

    /// Queues what has room: one instruction a cycle, in program order.
    fn issue(&mut self) {
        while let Some(instr) = self.code[self.rest.clone()].first() {
            let engine = instr.engine.index();
            if self.queues[engine].len() >= self.depth {
                return;
            }
            let at = self.next_issue.max(self.engines[engine].room);
            self.queues[engine].push_back((self.rest.start, at));
            self.next_issue = at + 1;
            self.rest.start += 1;
            if instr.op == Op::Halt {
                self.rest.start = self.rest.end;
            }
        }
    }

    /// The instruction that starts next: the earliest of all engines, in their order.
    pub fn next(&self, uses_channel: impl Fn(&Op) -> bool) -> Option<Start> {
        let starts = Engine::ALL.into_iter().filter_map(|engine| {
            let unit = &self.engines[engine.index()];
            let &(instr, queued) = self.queues[engine.index()].front()?;
            let mut token: Option<(u64, Engine)> = None;
            for from in self.code[instr].wait.iter() {
                let &at = self.tokens[from.index()][engine.index()].front()?;
                token = token.filter(|&(last, _)| last >= at).or(Some((at, from)));
            }
            let channel = if uses_channel(&self.code[instr].op) {
                self.channel
            } else {
                0
            };
            let times = [
                unit.free,
                unit.next,
                queued + 1,
                token.map_or(0, |t| t.0),
                channel,
            ];
            Some(Start {
                instr,
                engine,
                at: times.into_iter().fold(0, u64::max),
                queued,
                token,
            })
        });
        starts.min_by_key(|s| s.at)
    }

    /// Starts it. `tell(engine, state, from, to)` hears what the engine did since its last instruction, and does with this one.
    pub fn start(
        &mut self,
        start: &Start,
        duration: Duration,
        mut tell: impl FnMut(Engine, State, u64, u64),
    ) -> Span {
        let (engine, at) = (start.engine, start.at);
        let unit = &mut self.engines[engine.index()];
        let mut told = unit.told;
        let mut until = |state, to: u64| {
            if to > told {
                tell(engine, state, told, to);
                told = to;
            }
        };
        until(State::Idle, (start.queued + 1).min(at));
        if let Some((token, from)) = start.token {
            until(State::Wait(from), token.min(at));
        }
        until(
            if duration.channel {
                State::Channel
            } else {
                State::Idle
            },
            at,
        );
        until(State::Busy, at + duration.busy);
        unit.told = told;
        unit.free = at + duration.busy;
        unit.next = at + 1;
        unit.room = at;
        if duration.channel {
            self.channel = at + duration.busy;
        }
        let end = at + duration.busy + duration.latency;
        self.queues[engine.index()].pop_front();
        let instr = &self.code[start.instr];
        for from in instr.wait.iter() {
            self.tokens[from.index()][engine.index()].pop_front();
        }
        // What takes no time at all is seen in the next cycle.
        for to in instr.signal.iter() {
            self.tokens[engine.index()][to.index()].push_back(end.max(at + 1));
        }
        if instr.op != Op::Halt {
            self.end = self.end.max(end);
        }
        self.issue();
        Span {
            instr: start.instr,
            engine,
            start: at,
            free: at + duration.busy,
            end,
        }
    }

    /// Tells the engines' states up to the end of the part.
    pub fn finish(&mut self, mut tell: impl FnMut(Engine, State, u64, u64)) {
        for engine in Engine::ALL {
            let told = self.engines[engine.index()].told;
            if told < self.end {
                tell(engine, State::Idle, told, self.end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_accel_isa::Mark;

    /// What an instruction takes: cycles, or bytes of DRAM.
    enum Takes {
        Cycles(u64),
        Bytes(u64),
    }
    use Engine::{Ld, Pe, St};
    use Takes::{Bytes, Cycles};

    /// An engine, whom it waits for, whom it signals to, and what it takes.
    type Timed<'a> = (Engine, &'a [Engine], &'a [Engine], Takes);

    /// The end of a program of instructions that only take time.
    fn end(program: &[Timed<'_>], bandwidth: u64) -> u64 {
        let instr = |(i, (engine, wait, signal, _)): (usize, &Timed<'_>)| Instr {
            wait: wait.iter().copied().collect(),
            signal: signal.iter().copied().collect(),
            ..Instr::on(
                *engine,
                Mark {
                    kind: 3,
                    id: i as u32,
                },
            )
        };
        let code: Vec<Instr> = program.iter().enumerate().map(instr).collect();
        let takes = |op: &Op| match op {
            Op::Mark(m) => &program[m.id as usize].3,
            _ => &Cycles(0),
        };
        let mut clock = Clock::new(&code, 0..code.len(), 64);
        while let Some(start) = clock.next(|op| matches!(takes(op), Bytes(_))) {
            let duration = match takes(&code[start.instr].op) {
                Cycles(busy) => Duration {
                    busy: *busy,
                    ..Duration::default()
                },
                Bytes(bytes) => Duration {
                    busy: if bandwidth == 0 {
                        0
                    } else {
                        bytes.div_ceil(bandwidth)
                    },
                    latency: if start.engine == Ld { 100 } else { 0 },
                    channel: true,
                },
            };
            clock.start(&start, duration, |_, _, _, _| {});
        }
        clock.end
    }

    /// Section B of `bench/accel/golden.txt`.
    #[test]
    fn whole_programs_end_when_the_event_model_says() {
        let b1 = [
            (Ld, &[][..], &[][..], Cycles(1)),
            (Ld, &[], &[], Bytes(1024)),
            (Ld, &[], &[], Bytes(1152)),
            (Ld, &[], &[], Bytes(16)),
            (Ld, &[], &[Pe], Bytes(128)),
            (Pe, &[], &[], Cycles(1)),
            (Pe, &[], &[], Cycles(1)),
            (Pe, &[], &[], Cycles(1)),
            (Pe, &[], &[], Cycles(1)),
            (Pe, &[Ld], &[St], Cycles(377)),
            (St, &[Pe], &[], Bytes(1024)),
        ];
        assert_eq!((end(&b1, 64), end(&b1, 0)), (532, 482));
        let b2 = [
            (Ld, &[][..], &[Pe][..], Bytes(4096)),
            (Ld, &[], &[Pe], Bytes(2048)),
            (Pe, &[Ld], &[St], Cycles(500)),
            (Pe, &[Ld], &[St], Cycles(500)),
            (St, &[Pe], &[], Bytes(2048)),
            (St, &[Pe], &[], Bytes(2048)),
        ];
        assert_eq!((end(&b2, 64), end(&b2, 0)), (1197, 1101));
        let b3 = [
            (Ld, &[][..], &[Pe][..], Bytes(1024)),
            (Pe, &[Ld], &[St], Cycles(50)),
            (Pe, &[], &[St], Cycles(50)),
            (Pe, &[St], &[St], Cycles(50)),
            (St, &[Pe], &[Pe], Bytes(6400)),
            (St, &[Pe], &[], Bytes(6400)),
            (St, &[Pe], &[], Bytes(6400)),
        ];
        assert_eq!((end(&b3, 64), end(&b3, 0)), (467, 251));
    }
}
