//! One file of `in/`: a network in textual ONNX, with options in its first comment block.
//!
//! Options are lines `#@ KEY VALUES`:
//! - `dim NAME=N ...`: values of symbolic dimensions;
//! - `stages NAME ...`: the stages to keep a snapshot of beside `object`, by default all but `legalise`, `quantise`, `header` and
//!   `decompose` (every stage but `decompose` is checked nevertheless);
//! - `integer`: the stages are those of the integer network it is turned into, `import` being that network;
//! - `fails`: the model cannot be compiled, and the snapshot is the list of reasons;
//! - `cut N`: only the first N bytes of the encoded model are given.

use crate::onnx_text;
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What there are snapshots of: a folder of `out/` each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    Import,
    Legalise,
    Simplify,
    Fuse,
    /// Weights compressed after `fuse`: the graph and the stored weights. No other stage builds on it.
    Decompose,
    Quantise,
    Layout,
    Schedule,
    Tile,
    Plan,
    Header,
    /// Digests of the objects.
    Object,
    Errors,
}

impl Stage {
    pub const ALL: [Stage; 13] = {
        use Stage::*;
        [
            Import, Legalise, Simplify, Fuse, Decompose, Quantise, Layout, Schedule, Tile, Plan, Header,
            Object, Errors,
        ]
    };

    /// Name of the folder; for the pipeline's stages their name there.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Import => "import",
            Stage::Legalise => "legalise",
            Stage::Simplify => "simplify",
            Stage::Fuse => "fuse",
            Stage::Decompose => "decompose",
            Stage::Quantise => "quantise",
            Stage::Layout => "layout",
            Stage::Schedule => "schedule",
            Stage::Tile => "tile",
            Stage::Plan => "plan",
            Stage::Header => "header",
            Stage::Object => "object",
            Stage::Errors => "errors",
        }
    }

    pub fn find(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|s| s.name() == name)
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without `.onnx.txt`.
    pub name: String,
    pub dims: BTreeMap<String, usize>,
    /// It is turned into integers first.
    pub integer: bool,
    /// Stages that have a snapshot; `errors` alone if the model cannot be compiled.
    pub stages: BTreeSet<Stage>,
    /// The encoded model.
    pub model: Bytes,
}

impl Case {
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        // The header says much the same for every model, `legalise` and `quantise` change few: shown where asked for.
        let usual = |s: &Stage| {
            use Stage::{Decompose, Errors, Header, Legalise, Quantise};
            !matches!(s, Legalise | Decompose | Quantise | Header | Errors)
        };
        let mut stages: BTreeSet<Stage> = Stage::ALL.into_iter().filter(usual).collect();
        let mut dims = BTreeMap::new();
        let (mut cut, mut integer) = (None, false);
        for line in text.lines().take_while(|l| l.starts_with('#')) {
            let Some(option) = line.strip_prefix("#@") else {
                continue;
            };
            let (key, values) = option.trim().split_once(' ').unwrap_or((option.trim(), ""));
            let wrong = || format!("`{line}` is not an option");
            match key {
                "dim" => {
                    for pair in values.split_whitespace() {
                        let (name, n) = pair.split_once('=').ok_or_else(wrong)?;
                        dims.insert(name.to_owned(), n.parse().map_err(|_| wrong())?);
                    }
                }
                "stages" => {
                    let named = values
                        .split_whitespace()
                        .map(|v| Stage::find(v).ok_or_else(wrong));
                    stages = named.collect::<Result<_, _>>()?;
                }
                "integer" => integer = true,
                "fails" => stages = BTreeSet::from([Stage::Errors]),
                "cut" => cut = Some(values.parse().map_err(|_| wrong())?),
                _ => return Err(wrong()),
            }
        }
        if !stages.contains(&Stage::Errors) {
            stages.insert(Stage::Object);
        }
        let mut model = onnx_text::parse(text)?.encode_to_vec();
        if let Some(cut) = cut {
            model.truncate(cut);
        }
        Ok(Self {
            name: name.to_owned(),
            dims,
            integer,
            stages,
            model: model.into(),
        })
    }

    pub fn fails(&self) -> bool {
        self.stages.contains(&Stage::Errors)
    }
}
