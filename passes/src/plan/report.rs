//! A plan as a table and as data for JSON.

use super::{Lifetime, Plan, allocated, label, prepared};
use sdc_ir::tile::{Buffer, Module};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;

/// A memory plan with the user's names.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Model.
    pub model: String,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Bytes of the prepared memory, which is RAM beside the arena.
    pub prepared_bytes: usize,
    /// See [`Plan::lower_bound`].
    pub lower_bound_bytes: usize,
    /// Arena beyond the lower bound, in per cent of it.
    pub waste_percent: f64,
    /// In execution order.
    pub functions: Vec<FunctionRow>,
    /// Temporaries in order of their first use.
    pub buffers: Vec<BufferRow>,
    /// Pairs that share memory.
    pub in_place: Vec<InPlaceRow>,
}

/// A function of the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FunctionRow {
    /// Position in execution order.
    pub index: usize,
    /// Name.
    pub name: String,
    /// The user's nodes.
    pub origins: Vec<String>,
    /// Arena bytes in use while it runs.
    pub live_bytes: usize,
    /// How many temporaries are live while it runs.
    pub live_count: usize,
    /// The first of them, by id: all of them would make the report quadratic.
    #[serde(serialize_with = "ids")]
    pub live: Vec<Buffer>,
}

/// A temporary.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BufferRow {
    /// Id, as in the text form.
    pub buffer: String,
    /// The user's nodes that first touch it, and what it holds.
    pub name: String,
    /// First byte in the arena.
    pub offset: usize,
    /// Bytes in the arena, rounding included.
    pub bytes: usize,
    /// First function that touches it.
    pub first: usize,
    /// Last function that touches it.
    pub last: usize,
}

/// Two temporaries that share their first byte.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InPlaceRow {
    /// Function.
    pub function: usize,
    /// Buffer that dies there.
    pub input: String,
    /// Buffer that begins there.
    pub output: String,
}

/// Live temporaries that are named for one function.
const NAMED: usize = 32;

fn ids<S: Serializer>(buffers: &[Buffer], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(buffers.iter().map(ToString::to_string))
}

/// The report of a plan.
pub fn report(module: &Module, plan: &Plan) -> Report {
    let mut buffers: Vec<(usize, usize, BufferRow)> = Vec::new();
    for (id, data) in module.buffers.iter() {
        let (Some(offset), Some(life)) = (plan.offsets[id], plan.lifetimes[id]) else {
            continue;
        };
        let row = BufferRow {
            buffer: id.to_string(),
            name: label(module, life, id),
            offset,
            bytes: allocated(data.bytes()).unwrap_or(usize::MAX),
            first: life.first,
            last: life.last,
        };
        buffers.push((life.first, offset, row));
    }
    buffers.sort_by_key(|&(first, offset, _)| (first, offset));
    // Functions in their order, and what begins and ends between them.
    let mut begins: Vec<Vec<Buffer>> = vec![Vec::new(); module.funcs.len()];
    let mut ends = begins.clone();
    for (buffer, life) in placed(plan) {
        begins[life.first].push(buffer);
        ends[life.last].push(buffer);
    }
    let mut live = BTreeSet::new();
    let functions = module.funcs.iter().enumerate().map(|(index, func)| {
        live.extend(&begins[index]);
        let row = FunctionRow {
            index,
            name: func.name.clone(),
            origins: func.origins.iter().map(ToString::to_string).collect(),
            live_bytes: plan.live_bytes[index],
            live_count: live.len(),
            live: live.iter().copied().take(NAMED).collect(),
        };
        ends[index].iter().for_each(|b| {
            live.remove(b);
        });
        row
    });
    let in_place = plan.shared.iter().map(|p| InPlaceRow {
        function: p.func,
        input: p.input.to_string(),
        output: p.output.to_string(),
    });
    Report {
        model: module.name.clone(),
        arena_bytes: plan.arena_size,
        prepared_bytes: prepared(module).map_or(usize::MAX, |p| p.size),
        lower_bound_bytes: plan.lower_bound,
        waste_percent: plan.waste_percent(),
        functions: functions.collect(),
        buffers: buffers.into_iter().map(|(_, _, row)| row).collect(),
        in_place: in_place.collect(),
    }
}

/// Temporaries with memory, and when they are live.
fn placed(plan: &Plan) -> impl Iterator<Item = (Buffer, Lifetime)> {
    plan.lifetimes
        .iter()
        .filter_map(|(b, &life)| plan.offsets[b].and(Some((b, life?))))
}

/// Temporaries with memory while function `index` runs.
pub(super) fn live_at(plan: &Plan, index: usize) -> impl Iterator<Item = Buffer> {
    placed(plan)
        .filter(move |(_, l)| l.first <= index && index <= l.last)
        .map(|(b, _)| b)
}

impl fmt::Display for Report {
    /// The table of `sdc plan`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>5} {:>12}  {:<40} buffers", "#", "live bytes", "nodes")?;
        let peak = self.functions.iter().map(|r| r.live_bytes).max().unwrap_or(0);
        for row in &self.functions {
            let mark = if row.live_bytes == peak && peak > 0 {
                '*'
            } else {
                ' '
            };
            let mut live: Vec<String> = row.live.iter().map(ToString::to_string).collect();
            if row.live.len() < row.live_count {
                live.push(format!("and {} more", row.live_count - row.live.len()));
            }
            writeln!(
                f,
                "{:>5} {:>12}{mark} {:<40} {}",
                row.index,
                row.live_bytes,
                row.origins.join(" + "),
                live.join(" ")
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:>6} {:>12} {:>12} {:>11}  holds",
            "buffer", "offset", "bytes", "functions"
        )?;
        for row in &self.buffers {
            let span = format!("{}..{}", row.first, row.last);
            writeln!(
                f,
                "{:>6} {:>12} {:>12} {span:>11}  {}",
                row.buffer, row.offset, row.bytes, row.name
            )?;
        }
        for row in &self.in_place {
            writeln!(f, "in place at {}: {} -> {}", row.function, row.input, row.output)?;
        }
        writeln!(f)?;
        writeln!(f, "arena_bytes: {}", self.arena_bytes)?;
        if self.prepared_bytes > 0 {
            writeln!(f, "prepared_bytes: {}", self.prepared_bytes)?;
        }
        writeln!(f, "lower_bound_bytes: {}", self.lower_bound_bytes)?;
        writeln!(f, "waste_percent: {:.2}", self.waste_percent)
    }
}
