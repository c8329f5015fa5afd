//! Instructions in time, in the format that Chrome's tracing and Perfetto read. A microsecond there is a cycle here.

use sdc_accel_isa::{Engine, Program};
use sdc_accel_sim::Event;
use serde_json::json;
use std::io::{self, Write};

/// Writes a trace: a thread an engine, an event an instruction.
pub fn write(out: &mut dyn Write, program: &Program, events: &[Event]) -> io::Result<()> {
    writeln!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    for engine in Engine::ALL {
        let name = json!({"ph": "M", "pid": 0, "tid": engine.index(), "name": "thread_name", "args": {"name": engine.name()}});
        writeln!(out, "{name},")?;
    }
    for (i, event) in events.iter().enumerate() {
        let instr = &program.code[event.instr];
        let layer = event.layer.and_then(|id| program.layers.get(&id));
        let end = if i + 1 == events.len() { "" } else { "," };
        let line = json!({
            "ph": "X",
            "pid": 0,
            "tid": event.engine.index(),
            "name": instr.op.name(),
            "cat": layer.map_or("none", |l| l.op.as_str()),
            "ts": event.start,
            "dur": event.free - event.start,
            "args": {
                "instruction": event.instr,
                "text": instr.to_string(),
                "layer": layer.map(|l| l.origin.as_str()),
                "complete": event.end,
            },
        });
        writeln!(out, "{line}{end}")?;
    }
    writeln!(out, "]}}")
}
