//! The memory plan: where in the one static arena each temporary buffer lives.
//!
//! A buffer is live from the first function that touches it to the last. Buffers live in one function must not
//! overlap, except an [`InPlace`] pair, whose two buffers may share their first byte: the input dies where
//! the output is born, and the function's accesses allow it. Sizes are rounded up to [`ALIGN`], and so are all offsets.
//!
//! - [`in_place`]: which pairs are legal in place, derived from the functions' accesses.
//! - [`sdc_ir::analysis`]: intervals and sizes, the lower bound, and the search for offsets.
//! - [`check`] and `replay`: an independent proof that a plan is right; it shares no code with the planner.
//! - [`residency`]: which weights need not stay in memory between the functions that read them.
//! - [`report`], [`svg`], [`explain`]: for people.
//!
//! Not here: views (a view is the same buffer).

pub mod check;
mod constants;
pub mod explain;
pub mod in_place;
mod lifetime;
mod prepared;
mod replay;
pub mod report;
mod residency;
pub mod svg;
#[cfg(test)]
mod tests;

pub use constants::{Constant, constants};
pub use lifetime::{Lifetime, lifetimes};
pub use prepared::{Prepared, prepared};
pub use residency::{Residency, Transient, residency};

use sdc_ir::analysis::place;
use sdc_ir::analysis::problem::{Item, Pair, Problem};
use sdc_ir::entity::Arena;
use sdc_ir::tile::{Buffer, BufferKind, Module};
use std::collections::BTreeMap;

/// Alignment of every buffer, and the unit of sizes: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// In function `func`, `output` may start at the byte where `input` starts: `input` is not read by any later
/// function and `output` not touched by any earlier one, but by some later one. Neither needs to be the larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InPlace {
    /// Index of the function in the module.
    pub func: usize,
    /// Read by it.
    pub input: Buffer,
    /// Written by it.
    pub output: Buffer,
}

impl InPlace {
    /// The two buffers, the one with the smaller number first.
    pub fn buffers(&self) -> (Buffer, Buffer) {
        (self.input.min(self.output), self.input.max(self.output))
    }
}

/// How hard to look for a good plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlanOptions {
    /// Elementary placement steps of the search after the first heuristics; a step is some nanoseconds.
    pub effort: usize,
}

impl Default for PlanOptions {
    /// At most about a second.
    fn default() -> Self {
        Self { effort: 40_000_000 }
    }
}

/// Offsets of all temporaries of a module.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// First byte in the arena, a multiple of [`ALIGN`]; `None` for buffers that are not temporaries or never touched.
    pub offsets: Arena<Buffer, Option<usize>>,
    /// Bytes of the arena.
    pub arena_size: usize,
    /// No plan of this module can be smaller: the largest total of buffers live in one function, sizes as allocated, less
    /// what the in-place pairs of that function could at best save (each pair the smaller of its sizes, each output
    /// and each input counted once).
    pub lower_bound: usize,
    /// First and last function that touches each buffer; `None` if none does.
    pub lifetimes: Arena<Buffer, Option<Lifetime>>,
    /// Bytes of the arena in use during each function, bytes shared in place counted once.
    pub live_bytes: Vec<usize>,
    /// The in-place pairs that do share memory.
    pub shared: Vec<InPlace>,
}

impl Plan {
    /// Bytes of the arena beyond the lower bound, in per cent of it.
    pub fn waste_percent(&self) -> f64 {
        if self.lower_bound == 0 {
            return 0.0;
        }
        (self.arena_size as f64 / self.lower_bound as f64 - 1.0) * 100.0
    }
    /// Offsets of the temporaries, as the interpreter takes them.
    pub fn offset_map(&self) -> BTreeMap<Buffer, usize> {
        self.offsets
            .iter()
            .filter_map(|(b, &offset)| Some((b, offset?)))
            .collect()
    }
}

/// Why a module has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Sizes add up to more than can be addressed.
    #[error("the temporary buffers do not fit an address space")]
    TooLarge,
}

/// Bytes a buffer of this size takes in the arena; `None` on overflow.
pub fn allocated(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(ALIGN)
}

/// Plans the temporaries of a module.
///
/// # Errors
/// [`PlanError::TooLarge`].
pub fn plan(module: &Module, options: &PlanOptions) -> Result<Plan, PlanError> {
    plan_where(module, options, |_| true)
}

/// Plans the temporaries of a module, sharing memory only in those legal pairs that the caller allows.
///
/// # Errors
/// [`PlanError::TooLarge`].
pub fn plan_where(
    module: &Module,
    options: &PlanOptions,
    allowed: impl Fn(&InPlace) -> bool,
) -> Result<Plan, PlanError> {
    let lifetimes = lifetimes(module);
    let mut in_place = in_place::pairs(module, &lifetimes);
    in_place.retain(allowed);
    let mut buffers = Vec::new();
    let mut items = Vec::new();
    let mut item_of = BTreeMap::new();
    for (buffer, data) in module.buffers.iter() {
        let (BufferKind::Temp, Some(life)) = (&data.kind, lifetimes[buffer]) else {
            continue;
        };
        let bytes = data
            .len
            .checked_mul(data.dtype.size())
            .ok_or(PlanError::TooLarge)?;
        item_of.insert(buffer, items.len());
        buffers.push(buffer);
        items.push(Item {
            size: allocated(bytes).ok_or(PlanError::TooLarge)?,
            first: life.first,
            last: life.last,
        });
    }
    let total = items.iter().try_fold(0usize, |sum, i| sum.checked_add(i.size));
    if total.is_none_or(|t| t > isize::MAX as usize) {
        return Err(PlanError::TooLarge);
    }
    let pairs = in_place.iter().filter_map(|p| {
        let (input, output) = (*item_of.get(&p.input)?, *item_of.get(&p.output)?);
        Some(Pair {
            time: p.func,
            input,
            output,
        })
    });
    let problem = Problem::new(items, pairs.collect(), module.funcs.len());
    let solution = place::solve(&problem, options.effort);

    let mut offsets: Arena<Buffer, Option<usize>> = module.buffers.ids().map(|_| None).collect();
    for (i, &buffer) in buffers.iter().enumerate() {
        offsets[buffer] = Some(solution.offsets[i]);
    }
    Ok(Plan {
        offsets,
        arena_size: solution.peak,
        lower_bound: problem.lower_bound(),
        lifetimes,
        live_bytes: problem.live_with(&solution.pairs),
        shared: solution
            .pairs
            .iter()
            .map(|p| InPlace {
                func: p.time,
                input: buffers[p.input],
                output: buffers[p.output],
            })
            .collect(),
    })
}

/// The buffers of a module in id order, for tables indexed by buffer.
fn by_buffer<T: Clone>(module: &Module, value: T) -> Arena<Buffer, T> {
    (0..module.buffers.len()).map(|_| value.clone()).collect()
}

/// What people know a buffer by: the nodes of the function that first touches it, and what the lowering calls it.
fn label(module: &Module, life: Lifetime, buffer: Buffer) -> String {
    let origins = &module.funcs[life.first].origins;
    let makers: Vec<&str> = origins.iter().map(|o| o.name.as_str()).collect();
    format!("{}: {}", makers.join(" + "), module.buffers[buffer].name)
}
