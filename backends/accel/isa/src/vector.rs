//! What the operators of VE have in common.

use crate::Op;

/// The elements `(oc+i, oy+j, ox+k)` of an operand, of `n` channels, `e` rows and `f` columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are those of the instructions' fields")]
pub struct Part {
    pub oc: u32,
    pub oy: u32,
    pub ox: u32,
    pub n: u32,
    pub e: u32,
    pub f: u32,
}

impl Part {
    /// From the first channel, row and column on, so many of each.
    pub fn new([oc, oy, ox]: [u32; 3], [n, e, f]: [u32; 3]) -> Self {
        Self { oc, oy, ox, n, e, f }
    }

    /// How many they are.
    pub fn elements(&self) -> u64 {
        u64::from(self.n) * u64::from(self.e) * u64::from(self.f)
    }
}

/// Operands of an operator: views below 16, slots from there on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// Where results go.
    pub dst: u32,
    /// The first operand; a window slides over that of `pool`.
    pub a: u32,
    /// The second operand.
    pub b: Option<u32>,
    /// The elements.
    pub part: Part,
}

macro_rules! vector {
    ($i:expr, $b:expr) => {
        Vector {
            dst: $i.dst,
            a: $i.a,
            b: $b,
            part: Part::new([$i.oc, $i.oy, $i.ox], [$i.n, $i.e, $i.f]),
        }
    };
}

impl Op {
    /// The operands of an operator of VE; `None` of other instructions.
    pub fn vector(&self) -> Option<Vector> {
        Some(match self {
            Op::Add(i) => vector!(i, i.two.then_some(i.b)),
            Op::Mul(i) => vector!(i, Some(i.b)),
            Op::Pool(i) => vector!(i, None),
            Op::Lut(i) => vector!(i, None),
            Op::Mov(i) => vector!(i, None),
            _ => return None,
        })
    }
}
