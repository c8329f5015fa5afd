//! The parts of a program, executed in one order or another, with or without time.

use crate::account::{Account, vector};
use crate::exec::conv::Strip;
use crate::exec::{Machine, Stop};
use crate::time::clock::{Clock, Duration, Span};
use crate::time::conv::{Cycles, conv, depthwise};
use crate::time::dram::{Transfer, transfer};
use crate::time::lines::Work;
use fastrand::Rng;
use sdc_accel_isa::{Engine, Fault, Flow, Instr, Op, Program};
use std::ops::Range;

/// Executes a part, engines taking turns: in their order, or at random.
pub(crate) fn in_turns(
    program: &Program,
    part: Range<usize>,
    machine: &mut Machine,
    account: &mut Account<'_>,
    rng: Option<&mut Rng>,
) -> Result<(), Fault> {
    let mut flow = Flow::new(&program.code, part, machine.config.queue);
    let mut rng = rng;
    loop {
        let mut ready = Engine::ALL.into_iter().filter(|&e| flow.ready(e));
        let engine = match &mut rng {
            None => ready.next(),
            Some(rng) => {
                let ready: Vec<Engine> = ready.collect();
                rng.choice(ready)
            }
        };
        let Some(number) = engine.and_then(|e| flow.start(e)) else {
            return Ok(());
        };
        let instr = &program.code[number];
        account.enter(instr);
        let registers = &machine.registers[instr.engine.index()];
        let moved = transfer(&instr.op, registers, machine.config.dram_granule);
        account.count(instr, machine, moved);
        let strip = strip_of(instr, machine);
        machine.execute(instr).map_err(|stop| stop.fault(number))?;
        if let Some(strip) = strip {
            account.strip(instr, &strip, machine, None);
        }
        account.leave(instr);
        flow.complete(number);
    }
}

/// Executes a part in the order of time; its cycles. `see` hears of every instruction, with the cycle in which the part began.
pub(crate) fn in_time(
    program: &Program,
    part: Range<usize>,
    machine: &mut Machine,
    account: &mut Account<'_>,
    mut see: impl FnMut(&Span, Option<u32>),
) -> Result<u64, Fault> {
    let base = account.base;
    let mut clock = Clock::new(&program.code, part, machine.config.queue);
    while let Some(start) = clock.next(crate::memory::uses_dram) {
        let instr = &program.code[start.instr];
        account.enter(instr);
        let registers = &machine.registers[instr.engine.index()];
        let moved = transfer(&instr.op, registers, machine.config.dram_granule);
        account.count(instr, machine, moved);
        let strip = strip_of(instr, machine);
        let timed = match &strip {
            Some(strip) => Some(time(instr, strip, machine).map_err(|stop| stop.fault(start.instr))?),
            None => None,
        };
        let duration = duration(instr, machine, moved, timed.as_ref().map(|t| t.0.total()));
        let told = &mut account.told;
        let span = clock.start(&start, duration, |engine, state, from, to| {
            told.push((engine, state, base + from, base + to));
        });
        machine.execute(instr).map_err(|stop| stop.fault(start.instr))?;
        if let (Some(strip), Some((_, work))) = (&strip, &timed) {
            account.strip(instr, strip, machine, Some(work));
        }
        account.cycles(instr, &span, timed.as_ref().map(|t| &t.0), duration.channel);
        see(&span, account.layer(instr.engine));
        account.leave(instr);
    }
    let told = &mut account.told;
    clock.finish(|engine, state, from, to| told.push((engine, state, base + from, base + to)));
    Ok(clock.end)
}

fn strip_of(instr: &Instr, machine: &Machine) -> Option<Strip> {
    let registers = &machine.registers[instr.engine.index()];
    match &instr.op {
        Op::Conv(i) => Strip::of_conv(i, registers),
        Op::Dwcv(i) => Strip::of_dwcv(i, registers),
        _ => None,
    }
}

/// The cycles of a convolution, on the activations that it is about to read.
fn time(instr: &Instr, strip: &Strip, machine: &mut Machine) -> Result<(Cycles, Work), Stop> {
    machine.weights.prepare(strip, &machine.memory, &machine.config)?;
    let (weights, memory, config) = (&machine.weights, &machine.memory, &machine.config);
    Ok(match instr.op {
        Op::Dwcv(_) => depthwise(strip, weights, memory, config),
        _ => conv(strip, weights, memory, config),
    })
}

fn duration(instr: &Instr, machine: &Machine, moved: Option<Transfer>, strip: Option<u64>) -> Duration {
    let config = &machine.config;
    if let Some(t) = moved {
        return Duration {
            busy: t.cycles(config.dram_granule, config.dram_bandwidth),
            latency: if instr.engine == Engine::Ld {
                config.dram_latency.into()
            } else {
                0
            },
            channel: true,
        };
    }
    let wide = u64::from(config.ve_lanes);
    let registers = &machine.registers[instr.engine.index()];
    let busy = match (&instr.op, strip, vector(&instr.op, registers)) {
        (_, Some(cycles), _) => cycles,
        (_, _, Some((_, n, taps))) => 1 + (n * taps).div_ceil(wide),
        (Op::Sti(i), ..) => (u64::from(i.m) * u64::from(i.e) * u64::from(i.f)).div_ceil(wide),
        (Op::Halt, ..) => 0,
        _ => 1,
    };
    Duration {
        busy,
        ..Duration::default()
    }
}
