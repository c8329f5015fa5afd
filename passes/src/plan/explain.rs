//! Why a plan does not fit a given amount of RAM.

use super::report::live_at;
use super::{Plan, allocated, label};
use sdc_ir::tile::Module;
use serde::Serialize;
use std::fmt;

/// Live sets shown; the others are counted.
const SHOWN_SETS: usize = 5;

/// Explanation of an arena larger than the limit.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Excess {
    /// Bytes allowed.
    pub limit: usize,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Bytes that no plan of this program can do without.
    pub lower_bound_bytes: usize,
    /// Functions whose live set alone breaks the limit, the largest first; when none does, those with the largest set.
    pub worst: Vec<LiveSet>,
    /// How many functions break the limit.
    pub breaking: usize,
    /// What would help.
    pub advice: Vec<Advice>,
}

/// What is live while a function runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LiveSet {
    /// Position in execution order.
    pub function: usize,
    /// The user's nodes.
    pub origins: Vec<String>,
    /// Bytes in use.
    pub bytes: usize,
    /// Buffers with their bytes, the largest first.
    pub buffers: Vec<(String, usize)>,
}

/// Something to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Every live set fits; only their packing does not. Saves at most this many bytes.
    SearchLonger(usize),
    /// Smaller inputs (batch, image size) shrink all of the live sets: they have to shrink to this many per cent.
    SmallerInput(usize),
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Advice::SearchLonger(bytes) => {
                write!(
                    f,
                    "each live set fits by itself: a longer search may save up to {bytes} bytes"
                )
            }
            Advice::SmallerInput(percent) => write!(
                f,
                "smaller inputs (a smaller batch or image, see --dim) that bring the live set to {percent} % of its size"
            ),
        }
    }
}

/// What stands in the way of `limit` bytes; `None` if the arena fits.
pub fn explain(module: &Module, plan: &Plan, limit: usize) -> Option<Excess> {
    if plan.arena_size <= limit {
        return None;
    }
    let mut order: Vec<usize> = (0..module.funcs.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(plan.live_bytes[i]), i));
    let breaking = order.iter().filter(|&&i| plan.live_bytes[i] > limit).count();
    let shown = if breaking == 0 {
        1
    } else {
        breaking.min(SHOWN_SETS)
    };
    let advice = if plan.lower_bound <= limit {
        Advice::SearchLonger(plan.arena_size - plan.lower_bound)
    } else {
        // Wide, for a limit times 100 may overflow.
        Advice::SmallerInput((limit as u128 * 100 / plan.lower_bound as u128) as usize)
    };
    Some(Excess {
        limit,
        arena_bytes: plan.arena_size,
        lower_bound_bytes: plan.lower_bound,
        worst: order
            .iter()
            .take(shown)
            .map(|&i| live_set(module, plan, i))
            .collect(),
        breaking,
        advice: vec![advice],
    })
}

fn live_set(module: &Module, plan: &Plan, function: usize) -> LiveSet {
    let mut buffers: Vec<(String, usize)> = live_at(plan, function)
        .filter_map(|b| {
            let bytes = allocated(module.buffers[b].bytes())?;
            Some((label(module, plan.lifetimes[b]?, b), bytes))
        })
        .collect();
    buffers.sort_by_key(|b| std::cmp::Reverse(b.1));
    LiveSet {
        function,
        origins: module.funcs[function]
            .origins
            .iter()
            .map(ToString::to_string)
            .collect(),
        bytes: plan.live_bytes[function],
        buffers,
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the arena needs {} bytes, {} more than the limit of {} (no plan needs less than {})",
            self.arena_bytes,
            self.arena_bytes - self.limit,
            self.limit,
            self.lower_bound_bytes
        )?;
        for set in &self.worst {
            writeln!(f, "  {} bytes live at {}:", set.bytes, set.origins.join(" + "))?;
            for (name, bytes) in &set.buffers {
                writeln!(f, "    {bytes:>12}  {name}")?;
            }
        }
        if self.breaking > self.worst.len() {
            writeln!(
                f,
                "  and {} more nodes above the limit",
                self.breaking - self.worst.len()
            )?;
        }
        for advice in &self.advice {
            writeln!(f, "  might help: {advice}")?;
        }
        Ok(())
    }
}
