//! Operator attributes as data, for the text form.

use super::Weight;
use crate::DType;
use crate::entity::EntityId;
use std::collections::BTreeMap;

/// An attribute value in the text form.
#[derive(Clone, PartialEq, Debug)]
pub enum Attr {
    /// `3`
    Int(i64),
    /// `[1,2,3]`
    Ints(Vec<i64>),
    /// `0.1`, `inf`, `-inf`, `nan`; always with a point, an exponent or a letter, so that it is not an integer
    Float(f32),
    /// `[1.0,2.5]`; never empty (`[]` reads as [`Attr::Ints`])
    Floats(Vec<f32>),
    /// `relu`, `f32`, `true`: a bare word
    Word(String),
    /// `clip(0.0,6.0)`: a word with float arguments
    Call(String, Vec<f32>),
    /// `@w3`
    Weight(Weight),
}

/// Named attributes of one node, in name order.
pub type AttrMap = BTreeMap<String, Attr>;

/// Why an operator could not be built from its textual parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttrError {
    /// No operator of that name.
    #[error("unknown operator `{0}`")]
    UnknownOp(String),
    /// A required attribute is absent.
    #[error("{op}: attribute `{name}` is missing")]
    Missing {
        /// Operator.
        op: &'static str,
        /// Attribute.
        name: &'static str,
    },
    /// The attribute's value is of the wrong kind or out of range.
    #[error("{op}: attribute `{name}` has a bad value")]
    Bad {
        /// Operator.
        op: &'static str,
        /// Attribute.
        name: &'static str,
    },
    /// Attributes the operator does not have.
    #[error("{op}: unknown attributes: {names}")]
    Unknown {
        /// Operator.
        op: &'static str,
        /// Names, comma-separated.
        names: String,
    },
}

/// A Rust type usable as an operator attribute.
pub trait AttrValue: Sized {
    /// Value as text data.
    fn to_attr(&self) -> Attr;
    /// Value from text data; `None` if it does not fit.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

impl AttrValue for i64 {
    fn to_attr(&self) -> Attr {
        Attr::Int(*self)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Int(i) = attr { Some(*i) } else { None }
    }
}

impl AttrValue for usize {
    fn to_attr(&self) -> Attr {
        Attr::Int(*self as i64)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        i64::from_attr(attr)?.try_into().ok()
    }
}

impl AttrValue for Vec<i64> {
    fn to_attr(&self) -> Attr {
        Attr::Ints(self.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Ints(v) = attr {
            Some(v.clone())
        } else {
            None
        }
    }
}

impl AttrValue for Vec<usize> {
    fn to_attr(&self) -> Attr {
        Attr::Ints(self.iter().map(|&x| x as i64).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        Vec::<i64>::from_attr(attr)?
            .into_iter()
            .map(|x| x.try_into().ok())
            .collect()
    }
}

impl AttrValue for f32 {
    fn to_attr(&self) -> Attr {
        Attr::Float(*self)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Float(x) = attr { Some(*x) } else { None }
    }
}

impl AttrValue for Vec<f32> {
    fn to_attr(&self) -> Attr {
        if self.is_empty() {
            Attr::Ints(Vec::new())
        } else {
            Attr::Floats(self.clone())
        }
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Floats(v) => Some(v.clone()),
            Attr::Ints(v) if v.is_empty() => Some(Vec::new()),
            _ => None,
        }
    }
}

impl AttrValue for bool {
    fn to_attr(&self) -> Attr {
        Attr::Word(self.to_string())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Word(w) = attr {
            w.parse().ok()
        } else {
            None
        }
    }
}

impl AttrValue for DType {
    fn to_attr(&self) -> Attr {
        Attr::Word(self.name().to_owned())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Word(w) = attr {
            w.parse().ok()
        } else {
            None
        }
    }
}

impl AttrValue for Weight {
    fn to_attr(&self) -> Attr {
        Attr::Weight(*self)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        if let Attr::Weight(w) = attr {
            Some(Weight::new(w.index()))
        } else {
            None
        }
    }
}

/// Defines a field-less enum whose variants print as words, with `ALL`, `name`, and [`AttrValue`].
#[macro_export]
macro_rules! word_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// Word in the text form.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
            /// The variant with this word.
            pub fn from_name(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == word)
            }
        }

        impl $crate::graph::attr::AttrValue for $name {
            fn to_attr(&self) -> $crate::graph::Attr {
                $crate::graph::Attr::Word(self.name().to_owned())
            }
            fn from_attr(attr: &$crate::graph::Attr) -> Option<Self> {
                if let $crate::graph::Attr::Word(w) = attr { Self::from_name(w) } else { None }
            }
        }
    };
}
