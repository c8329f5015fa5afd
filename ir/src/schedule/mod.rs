//! Schedule level: how a graph is computed.
//!
//! A [`Schedule`] stands beside a graph that has its layouts and says, for people to read and to change, every decision that
//! the loops of the tile level come of: where each value lies ([`Storage`]), and for each group of nodes one [`Run`] with the
//! algorithm or micro-kernel, the form of its weights, the rows computed at a time, and the cut into tasks. A pass writes it;
//! lowering obeys it and decides nothing. No schedule changes what is computed, but algorithms may round differently.
//!
//! Derived, and so never stated: which nodes a run computes (its own and those stored [`Storage::Inline`] that it reads),
//! how long a value is needed ([`lifetimes`]), and which operand a run may overwrite, which follows from the accesses of its
//! loops and kernels and is the memory plan's business.
//!
//! Text: `sdir 1 schedule`, the graph, and a `schedule` block; see `docs/ir.md`.

mod lifetime;
mod tasks;
pub mod verify;

pub use lifetime::lifetimes;
pub use tasks::{Grid, Tasks};

use crate::entity::Arena;
use crate::graph::{Graph, Node, Value};
use crate::{registry, word_enum};
use std::fmt;
use std::ops::Range;

/// How a graph is computed.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// Widths that the choices were made for.
    pub widths: Widths,
    /// Where each value of the graph lies.
    pub storage: Arena<Value, Storage>,
    /// Groups of nodes in the order they are computed.
    pub runs: Vec<Run>,
    /// Outputs of the graph that are copied, after all runs, from where their value lies.
    pub copies: Vec<Copy>,
}

/// Widths of vectors and of blocks of packed weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Widths {
    /// Lanes of `f32` vectors in loops, which use them where elements lie side by side.
    pub lanes: u8,
    /// Output channels per block of packed weights.
    pub block: usize,
    /// The last block is padded to a multiple of this.
    pub kernel_lanes: usize,
}

/// Where a value lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// The caller's input with this position.
    Input(usize),
    /// The caller's output with this position.
    Output(usize),
    /// Data of the model, as they are or in the form that a run packs them in.
    Constant,
    /// A buffer of its own in the arena.
    Arena,
    /// A buffer that is filled when the model is loaded. Only for the result of a `Rebuild`.
    Prepared,
    /// Nowhere as such: its readers rebuild it in the form they need. Only for the result of a `Rebuild`.
    Packed,
    /// The bytes of this value, the first operand of the node that defines it.
    View(Value),
    /// Within the result of the Concat that reads it, at the place the Concat gives it.
    Part(Value),
    /// Nowhere: its only reader computes it element by element.
    Inline,
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Storage::Input(i) => write!(f, "input {i}"),
            Storage::Output(i) => write!(f, "output {i}"),
            Storage::Constant => f.write_str("constant"),
            Storage::Arena => f.write_str("arena"),
            Storage::Prepared => f.write_str("prepared"),
            Storage::Packed => f.write_str("packed"),
            Storage::View(of) => write!(f, "view {of}"),
            Storage::Part(of) => write!(f, "part {of}"),
            Storage::Inline => f.write_str("inline"),
        }
    }
}

/// One group of nodes: a node whose result is stored, and the inlined values it reads.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// The node whose result is stored.
    pub node: Node,
    /// How it is computed.
    pub algorithm: Algorithm,
    /// How its weights, the second operand, are read, where it has some.
    pub weights: Option<Form>,
    /// The functions that compute it, in order: one, but for spatial operators one per interval of rows, for a Concat one per
    /// operand that is copied, and for a product whose right operand is packed at run time one that packs and one that multiplies.
    pub parts: Vec<Part>,
}

/// One function of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// Rows of the result (dimension 2) that it computes; `None` for all of it.
    pub rows: Option<Range<usize>>,
    /// How it is cut into tasks.
    pub tasks: Tasks,
}

/// A copy of a value to one of the graph's outputs.
#[derive(Clone, PartialEq, Debug)]
pub struct Copy {
    /// Position of the output.
    pub output: usize,
    /// How it is cut into tasks.
    pub tasks: Tasks,
}

/// What computes a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// Loops that spell the operators out.
    Loops,
    /// Calls of a micro-kernel of the [`registry`].
    Kernel(&'static str),
    /// Calls of a kernel that goes through tables of the weights that are stored.
    Sparse {
        /// One of [`Algorithm::SPARSE`].
        kernel: &'static str,
        /// Output rows that are computed from one copy of the input.
        band: usize,
    },
    /// Winograd's filtering of a 3x3 convolution by `winograd_f32`.
    Winograd {
        /// Side of a tile of outputs: 2 or 4.
        tile: usize,
        /// Tiles that go through the scratch memory at once, or as many as a task has.
        band: usize,
    },
}

impl Algorithm {
    /// The kernels that go through tables of the weights that are stored.
    pub const SPARSE: [&'static str; 2] = ["sparse2d_f32", "sparse2d_i8"];

    /// The kernel that is called, if one is.
    pub const fn kernel(self) -> Option<&'static str> {
        match self {
            Algorithm::Loops => None,
            Algorithm::Kernel(name) | Algorithm::Sparse { kernel: name, .. } => Some(name),
            Algorithm::Winograd { .. } => Some("winograd_f32"),
        }
    }

    /// Calls of the kernel with this name, which stands in the registry; `None` for another name, and for [`Algorithm::SPARSE`].
    pub fn of_kernel(name: &str) -> Option<Self> {
        let kernel = registry::find(name).filter(|kernel| !Self::SPARSE.contains(&kernel.name))?;
        Some(Algorithm::Kernel(kernel.name))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Loops => f.write_str("loops"),
            Algorithm::Kernel(name) => f.write_str(name),
            Algorithm::Sparse { kernel, band } => write!(f, "{kernel} band {band}"),
            Algorithm::Winograd { tile, band } => write!(f, "winograd {tile} band {band}"),
        }
    }
}

word_enum! {
    /// How the weights of a run are read.
    Form {
        /// Constants, packed for the kernel at compile time.
        Constant = "constant",
        /// Compressed, and rebuilt for the kernel when the model is loaded.
        Resident = "resident",
        /// Compressed, and rebuilt whole in the arena just before they are used.
        Streamed = "streamed",
        /// Compressed, and rebuilt block by block in the arena, each just before it is used.
        Blocks = "blocks",
        /// As they are, packed in the arena just before they are used: for operands that are known at run time only, and for batches
        /// of constant matrices.
        AtRun = "at_run",
    }
}

impl Form {
    /// Whether the packed bytes of a `Rebuild` are what is read.
    pub const fn is_compressed(self) -> bool {
        matches!(self, Form::Resident | Form::Streamed | Form::Blocks)
    }
}

impl Schedule {
    /// Where a value lies.
    pub fn storage(&self, value: Value) -> Storage {
        self.storage[value]
    }

    /// The nodes that a run computes, in the graph's order: those whose results it alone reads and that are inlined, its own last.
    pub fn nodes(&self, graph: &Graph, run: &Run) -> Vec<Node> {
        let mut nodes = vec![run.node];
        let mut pending = vec![run.node];
        while let Some(node) = pending.pop() {
            for &v in &graph.nodes()[node].inputs {
                if let (Storage::Inline, Some(inner)) = (self.storage[v], graph.def_node(v)) {
                    nodes.push(inner);
                    pending.push(inner);
                }
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The value whose bytes a value's are: itself, but for views and parts.
    pub fn root(&self, value: Value) -> Value {
        let mut root = value;
        // A view's source comes before it and a part's whole after it, so neither kind alone is endless; both together are bounded.
        for _ in 0..self.storage.len() {
            match self.storage.get(root) {
                Some(&(Storage::View(of) | Storage::Part(of))) => root = of,
                _ => break,
            }
        }
        root
    }
}
