//! What can be wrong with a program: codes A01 to A60 of `docs/accelerator.md`, section 8.

use std::fmt;

macro_rules! codes {
    ($($code:ident $class:ident $about:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $(#[doc = $about] $code,)*
        }

        impl Code {
            /// What kind of exit it leads to.
            pub fn class(self) -> Class {
                match self {
                    $(Self::$code => Class::$class,)*
                }
            }
        }
    };
}

codes! {
    A01 Malformed "Magic bytes or version.";
    A02 Malformed "Length, checksum or contents of a section.";
    A03 Malformed "Made for another configuration.";
    A04 Malformed "Overlapping data.";
    A05 Malformed "Syntax of a text.";
    A10 Malformed "Unknown opcode.";
    A11 Malformed "An engine that does not execute the operation.";
    A12 Malformed "Reserved bits that are not zero.";
    A13 Malformed "A field beyond a limit.";
    A14 Malformed "A register that was never written.";
    A20 Malformed "An address outside its space.";
    A21 Malformed "A byte that was never written.";
    A22 Malformed "Reuse without cause.";
    A23 Malformed "A view's step where the geometry rules.";
    A30 Malformed "Deadlock.";
    A31 Malformed "A token counter overflows.";
    A32 Malformed "Tokens are left.";
    A33 Malformed "A race.";
    A40 Malformed "Codes that mean nothing.";
    A50 Unsupported "Something the machine cannot do.";
    A60 Limit "Beyond a limit of `docs/limits.md`.";
}

/// What a fault means for whoever wants to run the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The program breaks a rule.
    Malformed,
    /// The machine cannot do it.
    Unsupported,
    /// It is too large.
    Limit,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One fault, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Its kind.
    pub code: Code,
    /// Line and column of a text, from 1.
    pub place: Option<(usize, usize)>,
    /// Number of the instruction, from 0.
    pub instr: Option<usize>,
    /// Operator and origin of the layer that the instruction belongs to.
    pub layer: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    /// A fault of the program as a whole.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            place: None,
            instr: None,
            layer: None,
            message: message.into(),
        }
    }

    /// A fault of an instruction.
    pub fn at(code: Code, instr: usize, message: impl Into<String>) -> Self {
        Self {
            instr: Some(instr),
            ..Self::new(code, message)
        }
    }
}

impl fmt::Display for Fault {
    /// `instruction 12 (conv of layer1.0): message`, without the code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        if let Some(instr) = self.instr {
            write!(f, "instruction {instr}")?;
            if let Some(layer) = &self.layer {
                write!(f, " ({layer})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// Faults of a program, in the order of its instructions; at most [`Faults::MOST`] are kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    list: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// Faults listed; others are counted.
    pub const MOST: usize = 200;

    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        if self.list.len() < Self::MOST {
            self.list.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// Adds all of these.
    pub fn extend(&mut self, faults: impl IntoIterator<Item = Fault>) {
        faults.into_iter().for_each(|f| self.push(f));
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those kept.
    pub fn list(&self) -> &[Fault] {
        &self.list
    }

    /// How many were not kept.
    pub fn more(&self) -> usize {
        self.more
    }

    /// The exit class of all: the first of malformed, unsupported, limit that occurs.
    pub fn class(&self) -> Class {
        let has = |class| self.list.iter().any(|f| f.code.class() == class);
        let order = [Class::Malformed, Class::Unsupported];
        order.into_iter().find(|&c| has(c)).unwrap_or(Class::Limit)
    }

    /// `value` if there are no faults.
    ///
    /// # Errors
    /// The faults.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        let mut faults = Self::default();
        faults.push(fault);
        faults
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.list {
            writeln!(f, "{} {fault}", fault.code)?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
