//! Dimensions of graph values: sizes, or symbols for sizes that the model leaves open.
//!
//! Import gives every open dimension of an input a symbol, and refuses the model at its end while one is left. A graph
//! with symbols can be built, printed and parsed, but the verifier rejects it. So whatever works on verified graphs,
//! which is every pass, interpreter and backend, finds constants only and reads them as numbers: [`Shape::sizes`].
//!
//! Not here: arithmetic on symbols. A dimension of a result that depends on a symbol cannot be written down.

use crate::text::WordOrQuoted;
use std::fmt;

/// One dimension of a shape. Text: `3`, `batch`, or `"a name that is no word"`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Dim {
    /// A size.
    Constant(usize),
    /// A size that is not known yet, by its name. Equal names are equal sizes.
    Symbol(String),
}

impl Dim {
    /// The size, unless it is a symbol.
    pub fn constant(&self) -> Option<usize> {
        match self {
            Dim::Constant(size) => Some(*size),
            Dim::Symbol(_) => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Constant(size) => size.fmt(f),
            Dim::Symbol(name) => WordOrQuoted(name).fmt(f),
        }
    }
}

/// The dimensions of a graph value, in ONNX's order; none for a scalar. Text: `[batch,3,32,32]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shape(Dims);

/// Shapes without symbols, the only ones after import, are kept as numbers, so that reading them copies nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Dims {
    Constant(Vec<usize>),
    /// At least one is a symbol.
    Open(Vec<Dim>),
}

impl Shape {
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        match &self.0 {
            Dims::Constant(sizes) => sizes.len(),
            Dims::Open(dims) => dims.len(),
        }
    }
    /// The dimensions.
    pub fn dims(&self) -> Vec<Dim> {
        match &self.0 {
            Dims::Constant(sizes) => sizes.iter().copied().map(Dim::Constant).collect(),
            Dims::Open(dims) => dims.clone(),
        }
    }
    /// The sizes, if every dimension is constant.
    pub fn constant(&self) -> Option<&[usize]> {
        match &self.0 {
            Dims::Constant(sizes) => Some(sizes),
            Dims::Open(_) => None,
        }
    }
    /// The sizes of a shape of a verified graph. Panics on a symbol, which such a graph has not.
    pub fn sizes(&self) -> &[usize] {
        self.constant()
            .expect("a verified graph has no symbolic dimension")
    }
    /// The symbols, each with the dimension it stands at.
    pub fn symbols(&self) -> impl Iterator<Item = (usize, &str)> {
        let dims: &[Dim] = match &self.0 {
            Dims::Constant(_) => &[],
            Dims::Open(dims) => dims,
        };
        dims.iter().enumerate().filter_map(|(d, dim)| match dim {
            Dim::Constant(_) => None,
            Dim::Symbol(name) => Some((d, name.as_str())),
        })
    }
}

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        let dims: Vec<Dim> = dims.into_iter().collect();
        match dims.iter().map(Dim::constant).collect() {
            Some(sizes) => Self(Dims::Constant(sizes)),
            None => Self(Dims::Open(dims)),
        }
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Self {
        Self(Dims::Constant(sizes))
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Self {
        sizes.to_vec().into()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        sizes.to_vec().into()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (d, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if d == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}
