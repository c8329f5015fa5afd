//! The `weights` section: which weights a text refers to, by digest.

use super::TextError;
use super::lexer::{Kind, Token};
use super::parser::{Names, Parser, Result};
use crate::entity::EntityId;
use crate::graph::{Weight, Weights};
use crate::{DType, Digest, graph::types::shape_text};
use std::collections::BTreeSet;
use std::fmt;

/// Prints the section, or nothing if the table is empty.
pub(super) fn print(weights: &Weights, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if weights.is_empty() {
        return Ok(());
    }
    writeln!(f, "weights {{")?;
    for (id, digest, tensor) in weights.iter() {
        let (dtype, shape) = (tensor.dtype(), shape_text(tensor.shape()));
        writeln!(f, "  {id} {dtype}{shape} sha256:{digest}")?;
    }
    writeln!(f, "}}")
}

/// The parsed section. Ids are those of the table that [`Section::resolve`] makes.
pub(super) struct Section {
    names: Names<Weight>,
    entries: Vec<Entry>,
}

struct Entry {
    dtype: DType,
    shape: Vec<usize>,
    digest: Digest,
}

impl Section {
    /// Parses the section; it may be absent.
    pub fn parse(p: &mut Parser<'_>) -> Result<Self> {
        let mut section = Self {
            names: Names::new(),
            entries: Vec::new(),
        };
        if !p.eat_word("weights") {
            return Ok(section);
        }
        p.expect("{")?;
        let mut digests = BTreeSet::new();
        p.statements(|p| {
            let name = p.id(Kind::Weight, "a weight such as `@w0`")?;
            let dtype = p.dtype()?;
            let shape = p.shape()?;
            let place = p.place();
            let digest = p.digest()?;
            if !digests.insert(digest) {
                p.note(place, "this digest is listed twice");
            }
            section.names.define(p, name, Weight::new(section.entries.len()));
            section.entries.push(Entry { dtype, shape, digest });
            Ok(())
        })?;
        Ok(section)
    }

    /// The weight that a text id stands for; notes an error if it is not listed.
    pub fn get(&self, p: &mut Parser<'_>, name: (u32, Token<'_>)) -> Weight {
        self.names.get(p, name)
    }

    /// The table of the listed weights with data from `store`, in order.
    ///
    /// A digest covers element type and shape, so an entry whose type differs from the stored tensor's names data that
    /// do not exist: it counts as missing.
    pub fn resolve(&self, store: &Weights) -> std::result::Result<Weights, TextError> {
        let mut weights = Weights::new();
        let mut missing = Vec::new();
        for entry in &self.entries {
            match store.find(&entry.digest) {
                Some(w) if store[w].dtype() == entry.dtype && store[w].shape() == entry.shape => {
                    weights.adopt(store, w);
                }
                _ => missing.push(entry.digest),
            }
        }
        if missing.is_empty() {
            Ok(weights)
        } else {
            Err(TextError::MissingWeights(missing))
        }
    }
}
