//! What a compiled model takes, held against the user's limits.

use super::constants::Constants;
use crate::error::{Error, Result};
use sdc_artifact::interface::Interface;
use sdc_artifact::object::read::elf::ElfFile64;
use sdc_artifact::object::{Object as _, ObjectSection as _, SectionKind};
use sdc_ir::graph::Weight;
use sdc_ir::tile::{BufferKind, Module};
use sdc_passes::pass::origin_text;
use sdc_passes::plan;
use std::collections::BTreeMap;

/// Bytes of the object that a program holds in memory: code and constants.
pub fn loaded_bytes(object: &[u8]) -> Result<u64> {
    let file: ElfFile64<'_> =
        ElfFile64::parse(object).map_err(|e| Error::bug(format!("our own object: {e}")))?;
    let loaded = |kind| {
        matches!(
            kind,
            SectionKind::Text
                | SectionKind::ReadOnlyData
                | SectionKind::ReadOnlyString
                | SectionKind::ReadOnlyDataWithRel
        )
    };
    Ok(file
        .sections()
        .filter(|s| loaded(s.kind()))
        .map(|s| s.size())
        .sum())
}

/// Constants named when code and weights are too large.
const SHOWN_CONSTANTS: usize = 5;

/// Fails if code and weights exceed the limit, naming the largest constants.
pub fn check_flash(
    code: u64,
    interface: &Interface,
    module: &Module,
    constants: &Constants,
    limit: usize,
) -> Result<()> {
    let weights = interface.weights_size as u64;
    let total = if interface.weights_embedded {
        code
    } else {
        code + weights
    };
    if total <= limit as u64 {
        return Ok(());
    }
    let users = users(module);
    let mut largest: Vec<(usize, &str)> = constants
        .order
        .iter()
        .map(|w| {
            (
                module.weights[*w].bytes().len(),
                users.get(w).map_or("", String::as_str),
            )
        })
        .collect();
    largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let mut text = format!(
        "code and weights take {total} bytes, {} more than the limit of {limit}\n",
        total - limit as u64
    );
    text += &format!(
        "  code: {} bytes\n  weights: {weights} bytes, the largest:\n",
        total - weights
    );
    for (bytes, name) in largest.iter().take(SHOWN_CONSTANTS) {
        text += &format!("    {bytes:>12}  {name}\n");
    }
    Err(Error::too_large("--flash", &text))
}

/// For each constant the user's nodes that read it first.
fn users(module: &Module) -> BTreeMap<Weight, String> {
    let mut users = BTreeMap::new();
    for (buffer, life) in plan::lifetimes(module).iter() {
        if let (BufferKind::Const(weight), Some(life)) = (&module.buffers[buffer].kind, life) {
            let origins = || origin_text(&module.funcs[life.first].origins);
            users.entry(*weight).or_insert_with(origins);
        }
    }
    users
}
