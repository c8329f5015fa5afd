//! The weights table: constant tensors, one entry per distinct content.

use super::Weight;
use crate::entity::Arena;
use crate::{Digest, Tensor};
use std::collections::BTreeMap;
use std::ops::Index;

/// Constant tensors of a graph, deduplicated by digest, never printed inline.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Weights {
    entries: Arena<Weight, (Digest, Tensor)>,
    by_digest: BTreeMap<Digest, Weight>,
}

impl Weights {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a tensor, or finds the entry that already holds the same content.
    pub fn add(&mut self, tensor: Tensor) -> Weight {
        self.add_digested(tensor.digest(), tensor)
    }
    /// Adds an entry of another table, without computing its digest again.
    pub fn adopt(&mut self, other: &Weights, weight: Weight) -> Weight {
        let (digest, tensor) = &other.entries[weight];
        self.add_digested(*digest, tensor.clone())
    }
    fn add_digested(&mut self, digest: Digest, tensor: Tensor) -> Weight {
        *self
            .by_digest
            .entry(digest)
            .or_insert_with(|| self.entries.push((digest, tensor)))
    }
    /// The entry with this digest.
    pub fn find(&self, digest: &Digest) -> Option<Weight> {
        self.by_digest.get(digest).copied()
    }
    /// The tensor, or `None` if the id is not of this table.
    pub fn get(&self, weight: Weight) -> Option<&Tensor> {
        self.entries.get(weight).map(|(_, tensor)| tensor)
    }
    /// The digest of an entry.
    pub fn digest(&self, weight: Weight) -> Digest {
        self.entries[weight].0
    }
    /// Entries with their digests, in id order.
    pub fn iter(&self) -> impl Iterator<Item = (Weight, Digest, &Tensor)> {
        self.entries
            .iter()
            .map(|(w, (digest, tensor))| (w, *digest, tensor))
    }
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// True if the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Index<Weight> for Weights {
    type Output = Tensor;
    fn index(&self, weight: Weight) -> &Tensor {
        &self.entries[weight].1
    }
}
