//! Typed ids and the vectors they index.
//!
//! An id is a `u32` newtype whose `Display` is its syntax in the text forms, so that an error message, a dump and
//! a parser agree on every name.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A `u32` newtype that names an element of an [`Arena`].
pub trait EntityId: Copy + Eq + Ord + fmt::Debug + fmt::Display {
    /// Prefix printed before the number, for instance `%`.
    const PREFIX: &'static str;
    /// The id with this index. Panics above `u32::MAX`, which no arena reaches (parsers bound their counts).
    fn new(index: usize) -> Self;
    /// Position in the arena.
    fn index(self) -> usize;
}

/// Defines an entity id: `entity!(Value, "%", "doc")`.
#[macro_export]
macro_rules! entity {
    ($name:ident, $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $crate::entity::EntityId for $name {
            const PREFIX: &'static str = $prefix;
            fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("an arena holds fewer than 2^32 entries"))
            }
            fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

/// A vector indexed by a typed id. Iteration order is insertion order; nothing is ever removed.
#[derive(Clone, PartialEq, Eq)]
pub struct Arena<K, T> {
    items: Vec<T>,
    key: PhantomData<K>,
}

impl<K, T> Default for Arena<K, T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            key: PhantomData,
        }
    }
}

impl<K: EntityId, T> Arena<K, T> {
    /// An empty arena.
    pub fn new() -> Self {
        Self::default()
    }
    /// Appends an element and returns its id.
    pub fn push(&mut self, item: T) -> K {
        let id = K::new(self.items.len());
        self.items.push(item);
        id
    }
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.items.len()
    }
    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
    /// The element, or `None` if the id does not belong to this arena.
    pub fn get(&self, id: K) -> Option<&T> {
        self.items.get(id.index())
    }
    /// Ids and elements in id order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &T)> + ExactSizeIterator {
        self.items.iter().enumerate().map(|(i, t)| (K::new(i), t))
    }
    /// Ids in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = K> + ExactSizeIterator + use<K, T> {
        (0..self.items.len()).map(K::new)
    }
    /// Elements in id order.
    pub fn values(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }
    /// Elements in id order, mutable.
    pub fn values_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }
}

impl<K: EntityId, T> Index<K> for Arena<K, T> {
    type Output = T;
    fn index(&self, id: K) -> &T {
        &self.items[id.index()]
    }
}

impl<K: EntityId, T> IndexMut<K> for Arena<K, T> {
    fn index_mut(&mut self, id: K) -> &mut T {
        &mut self.items[id.index()]
    }
}

impl<K: EntityId, T: fmt::Debug> fmt::Debug for Arena<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: EntityId, T> FromIterator<T> for Arena<K, T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        Self {
            items: iter.into_iter().collect(),
            key: PhantomData,
        }
    }
}
