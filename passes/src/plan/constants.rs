//! The constants of a module, as the weights file holds them.

use super::{label, lifetimes};
use sdc_ir::graph::Weight;
use sdc_ir::tile::{BufferKind, Module};
use std::collections::BTreeSet;

/// A constant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Constant {
    /// Which.
    pub weight: Weight,
    /// The user's nodes that first read it, and what the lowering calls it.
    pub name: String,
    /// Its bytes, without alignment.
    pub bytes: usize,
}

/// Each constant that some buffer of the module holds, once, in the order of the buffers.
pub fn constants(module: &Module) -> Vec<Constant> {
    let lives = lifetimes(module);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (buffer, data) in module.buffers.iter() {
        let BufferKind::Const(weight) = data.kind else {
            continue;
        };
        if seen.insert(weight) {
            let name = lives[buffer].map_or_else(|| data.name.clone(), |life| label(module, life, buffer));
            let bytes = module.weights[weight].bytes().len();
            found.push(Constant { weight, name, bytes });
        }
    }
    found
}
