//! Which buffers a function may write over which: derived from its accesses, for every pair where it could save memory.

use super::{InPlace, Lifetime};
use sdc_ir::entity::Arena;
use sdc_ir::tile::overlay::Accesses;
use sdc_ir::tile::{Buffer, BufferKind, Module};

/// All legal pairs, by function: the input is not touched by any later function, the output not by any earlier one but by some later
/// one, and the function's accesses allow it.
pub fn pairs(module: &Module, lifetimes: &Arena<Buffer, Option<Lifetime>>) -> Vec<InPlace> {
    // Per function, the temporaries that end and those that begin there.
    let mut ends = vec![Vec::new(); module.funcs.len()];
    let mut begins = vec![Vec::new(); module.funcs.len()];
    for (buffer, data) in module.buffers.iter() {
        if data.kind != BufferKind::Temp || data.len == 0 {
            continue;
        }
        if let Some(life) = lifetimes[buffer]
            && life.first < life.last
        {
            ends[life.last].push(buffer);
            begins[life.first].push(buffer);
        }
    }
    let mut found = Vec::new();
    for (func, code) in module.funcs.iter().enumerate() {
        let (inputs, outputs) = (&ends[func], &begins[func]);
        if inputs.is_empty() || outputs.is_empty() {
            continue;
        }
        let accesses = Accesses::of(module, code, |b| {
            module.buffers[b].kind == BufferKind::Temp
                && lifetimes[b].is_some_and(|l| l.first < l.last && (l.first == func || l.last == func))
        });
        for &input in inputs {
            for &output in outputs {
                if accesses.may_lie_over(output, input) {
                    found.push(InPlace { func, input, output });
                }
            }
        }
    }
    found
}
