//! What the caller of an import decides.

use bytes::Bytes;
use std::collections::BTreeMap;

/// Bounds on what a model may ask for. Defaults suit a workstation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Elements of one graph value.
    pub max_elements: usize,
    /// Dimensions of one graph value.
    pub max_rank: usize,
    /// Nodes of the model, and separately of the imported graph.
    pub max_nodes: usize,
    /// Nodes of the bodies of functions, branches and loops, counted each time they are written out.
    pub max_inlined: usize,
    /// Trips of a Loop or Scan, each of which is written out.
    pub max_trips: usize,
    /// Elements of one value computed at import; larger constant expressions stay in the graph.
    pub max_folded_elements: usize,
    /// Bytes computed at import altogether.
    pub max_folded_bytes: usize,
}

impl Limits {
    /// The limits by name, for options of commands.
    pub fn named(&mut self) -> [(&'static str, &mut usize); 7] {
        [
            ("elements", &mut self.max_elements),
            ("rank", &mut self.max_rank),
            ("nodes", &mut self.max_nodes),
            ("inlined", &mut self.max_inlined),
            ("trips", &mut self.max_trips),
            ("folded-elements", &mut self.max_folded_elements),
            ("folded-bytes", &mut self.max_folded_bytes),
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_elements: 1 << 31,
            max_rank: 32,
            max_nodes: 1 << 20,
            max_inlined: 1 << 17,
            max_trips: 1 << 10,
            max_folded_elements: 1 << 16,
            max_folded_bytes: 1 << 26,
        }
    }
}

/// Reads external data files. Closures `Fn(&str) -> Result<Bytes, String>` are loaders.
pub trait ExternalData {
    /// The whole file at a location relative to the model's folder (checked: not absolute, no `..`), or why it cannot
    /// be read. Called once per tensor, so a loader that maps files keeps the mappings.
    fn load(&self, location: &str) -> Result<Bytes, String>;
}

impl<F: Fn(&str) -> Result<Bytes, String>> ExternalData for F {
    fn load(&self, location: &str) -> Result<Bytes, String> {
        self(location)
    }
}

/// Options of [`crate::import`].
#[derive(Clone, Default)]
pub struct ImportOptions<'a> {
    /// Values of symbolic dimensions by name. A dimension without name is called `INPUT.K`: its input's name and its
    /// position.
    pub dims: BTreeMap<String, usize>,
    /// Where external data comes from; `None` refuses it.
    pub external: Option<&'a dyn ExternalData>,
    /// Bounds.
    pub limits: Limits,
}
