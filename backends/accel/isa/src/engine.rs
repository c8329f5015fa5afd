//! The four engines, and sets of them.

use std::fmt;

/// An engine: a queue of instructions that are executed in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Engine {
    /// Loads from DRAM.
    Ld,
    /// Multiplies: convolutions and matrix products.
    Pe,
    /// Element-wise operators, pooling, tables, copies.
    Ve,
    /// Stores, to DRAM and into the input buffer.
    St,
}

impl Engine {
    /// All, in the order of their numbers.
    pub const ALL: [Engine; 4] = [Engine::Ld, Engine::Pe, Engine::Ve, Engine::St];

    /// The number in an instruction's word.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in texts.
    pub fn name(self) -> &'static str {
        ["ld", "pe", "ve", "st"][self.index()]
    }

    /// The engine of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// The three others, in the order of the bits of a mask.
    pub fn others(self) -> impl Iterator<Item = Engine> {
        Self::ALL.into_iter().filter(move |&e| e != self)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of engines.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EngineSet(u8);

impl EngineSet {
    /// No engine.
    pub const EMPTY: Self = Self(0);

    /// The set with this engine too.
    #[must_use]
    pub fn with(self, engine: Engine) -> Self {
        Self(self.0 | 1 << engine.index())
    }

    /// The set without this engine.
    #[must_use]
    pub fn without(self, engine: Engine) -> Self {
        Self(self.0 & !(1 << engine.index()))
    }

    /// True if the engine is in it.
    pub fn contains(self, engine: Engine) -> bool {
        self.0 >> engine.index() & 1 == 1
    }

    /// True if no engine is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its engines, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Engine> {
        Engine::ALL.into_iter().filter(move |&e| self.contains(e))
    }

    /// The mask in a word of `engine`: bit `i` is the `i`-th other engine. `None` if the set holds the engine itself.
    pub(crate) fn mask(self, engine: Engine) -> Option<u128> {
        let bits = engine.others().enumerate();
        let mask = bits.map(|(i, e)| u128::from(self.contains(e)) << i).sum();
        (!self.contains(engine)).then_some(mask)
    }

    /// The inverse of [`Self::mask`].
    pub(crate) fn of_mask(mask: u128, engine: Engine) -> Self {
        let set = engine.others().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
        set.map(|(_, e)| e).collect()
    }
}

impl FromIterator<Engine> for EngineSet {
    fn from_iter<T: IntoIterator<Item = Engine>>(engines: T) -> Self {
        engines.into_iter().fold(Self::EMPTY, Self::with)
    }
}
