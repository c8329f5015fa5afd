//! Tokens and queues: a program reaches its end whatever the engines' speeds, or in none.
//!
//! Each counter has one producer and one consumer and programs have no branches, so all orders come to the same end.

use crate::{Code, Engine, Fault, Faults, Flow, Program};

/// What a counter holds.
const MOST: u32 = 255;

pub(super) fn check(program: &Program, faults: &mut Faults) {
    for part in program.parts() {
        let depth = program.config.queue;
        let mut flow = Flow::new(&program.code, part.clone(), depth);
        while let Some(engine) = Engine::ALL.into_iter().find(|&e| flow.ready(e)) {
            if let Some(number) = flow.start(engine) {
                flow.complete(number);
            }
        }
        if !flow.is_done() {
            stuck(&flow, faults);
            continue;
        }
        left(&flow, part.end - 1, faults);
        // A counter is fullest if its consumer moves only where nothing else can.
        for consumer in Engine::ALL {
            if let Some(fault) = overflow(Flow::new(&program.code, part.clone(), depth), consumer) {
                faults.push(fault);
            }
        }
    }
}

fn stuck(flow: &Flow<'_>, faults: &mut Faults) {
    for engine in Engine::ALL {
        let Some(head) = flow.head(engine) else { continue };
        for from in flow.lacks(engine) {
            let message = format!("deadlock: {engine} waits for a token of {from} that never comes");
            faults.push(Fault::at(Code::A30, head, message));
        }
    }
    let rest = flow.rest();
    if !rest.is_empty() {
        let message = format!(
            "deadlock: {} instructions from here on are never queued",
            rest.len()
        );
        faults.push(Fault::at(Code::A30, rest.start, message));
    }
}

fn left(flow: &Flow<'_>, last: usize, faults: &mut Faults) {
    for from in Engine::ALL {
        for to in from.others() {
            let tokens = flow.tokens(from, to);
            if tokens > 0 {
                let message = format!("{tokens} tokens from {from} to {to} are left at the end");
                faults.push(Fault::at(Code::A32, last, message));
            }
        }
    }
}

fn overflow(mut flow: Flow<'_>, consumer: Engine) -> Option<Fault> {
    let order = || consumer.others().chain([consumer]);
    while let Some(engine) = order().find(|&e| flow.ready(e)) {
        let number = flow.start(engine)?;
        flow.complete(number);
        if flow.tokens(engine, consumer) > MOST {
            let message = format!("more than {MOST} tokens from {engine} to {consumer} may be waiting");
            return Some(Fault::at(Code::A31, number, message));
        }
    }
    None
}
