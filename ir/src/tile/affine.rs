//! Affine expressions in loop variables.

use super::Var;
use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub};

/// `constant + sum(coefficient * variable)`. Terms are sorted by variable, without zero coefficients.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Affine {
    terms: Vec<(Var, i64)>,
    constant: i64,
}

impl Affine {
    /// A constant.
    pub fn constant(constant: i64) -> Self {
        Self {
            terms: Vec::new(),
            constant,
        }
    }
    /// `coefficient * var`.
    pub fn term(var: Var, coefficient: i64) -> Self {
        let terms = if coefficient == 0 {
            Vec::new()
        } else {
            vec![(var, coefficient)]
        };
        Self { terms, constant: 0 }
    }
    /// Variables with their coefficients.
    pub fn terms(&self) -> &[(Var, i64)] {
        &self.terms
    }
    /// The constant part.
    pub fn offset(&self) -> i64 {
        self.constant
    }
    /// The value if there are no variables.
    pub fn as_constant(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }
    /// Value under an assignment of the variables (wrapping arithmetic).
    pub fn eval(&self, value: impl Fn(Var) -> i64) -> i64 {
        self.terms.iter().fold(self.constant, |sum, &(v, c)| {
            sum.wrapping_add(c.wrapping_mul(value(v)))
        })
    }
    /// Each variable replaced by an expression.
    pub fn substitute(&self, with: impl Fn(Var) -> Affine) -> Affine {
        self.terms
            .iter()
            .fold(Affine::constant(self.constant), |sum, &(v, c)| sum + with(v) * c)
    }
    /// Smallest and largest value when each variable lies in an inclusive interval; `None` on overflow.
    pub fn range(&self, of: impl Fn(Var) -> (i64, i64)) -> Option<(i64, i64)> {
        self.terms
            .iter()
            .try_fold((self.constant, self.constant), |(lo, hi), &(v, c)| {
                let (a, b) = of(v);
                let (x, y) = (a.checked_mul(c)?, b.checked_mul(c)?);
                Some((lo.checked_add(x.min(y))?, hi.checked_add(x.max(y))?))
            })
    }
}

impl From<i64> for Affine {
    fn from(constant: i64) -> Self {
        Self::constant(constant)
    }
}

impl From<i32> for Affine {
    fn from(constant: i32) -> Self {
        Self::constant(constant.into())
    }
}

impl From<usize> for Affine {
    /// Sizes fit an `i64`: element counts are bounded by `isize::MAX / 8`.
    fn from(constant: usize) -> Self {
        Self::constant(constant as i64)
    }
}

impl From<Var> for Affine {
    fn from(var: Var) -> Self {
        Self::term(var, 1)
    }
}

impl AddAssign<&Affine> for Affine {
    fn add_assign(&mut self, other: &Affine) {
        for &(v, c) in &other.terms {
            match self.terms.binary_search_by_key(&v, |t| t.0) {
                Ok(at) => {
                    self.terms[at].1 += c;
                    if self.terms[at].1 == 0 {
                        self.terms.remove(at);
                    }
                }
                Err(at) => self.terms.insert(at, (v, c)),
            }
        }
        self.constant += other.constant;
    }
}

impl<T: Into<Affine>> Add<T> for Affine {
    type Output = Affine;
    fn add(mut self, other: T) -> Affine {
        self += &other.into();
        self
    }
}

impl<T: Into<Affine>> Sub<T> for Affine {
    type Output = Affine;
    fn sub(self, other: T) -> Affine {
        self + other.into() * -1
    }
}

impl Mul<i64> for Affine {
    type Output = Affine;
    fn mul(mut self, factor: i64) -> Affine {
        if factor == 0 {
            return Affine::default();
        }
        for t in &mut self.terms {
            t.1 *= factor;
        }
        self.constant *= factor;
        self
    }
}

impl fmt::Display for Affine {
    /// `2*i0 + i3 - 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for &(v, c) in &self.terms {
            match (first, c < 0) {
                (true, true) => f.write_str("-")?,
                (true, false) => {}
                (false, true) => f.write_str(" - ")?,
                (false, false) => f.write_str(" + ")?,
            }
            if c.unsigned_abs() != 1 {
                write!(f, "{}*", c.unsigned_abs())?;
            }
            write!(f, "{v}")?;
            first = false;
        }
        match (first, self.constant) {
            (true, c) => write!(f, "{c}"),
            (false, 0) => Ok(()),
            (false, c) if c < 0 => write!(f, " - {}", c.unsigned_abs()),
            (false, c) => write!(f, " + {c}"),
        }
    }
}

/// A loop bound: the maximum (lower bounds) or minimum (upper bounds) of one or more affine expressions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bound(Vec<Affine>);

impl Bound {
    /// A bound of several expressions; at least one.
    pub fn of(exprs: Vec<Affine>) -> Self {
        assert!(!exprs.is_empty(), "a bound has at least one expression");
        Self(exprs)
    }
    /// The expressions.
    pub fn exprs(&self) -> &[Affine] {
        &self.0
    }
    /// The value if the bound is one constant.
    pub fn as_constant(&self) -> Option<i64> {
        match self.0.as_slice() {
            [one] => one.as_constant(),
            _ => None,
        }
    }
    /// The largest of the expressions' values.
    pub fn max(&self, value: impl Fn(Var) -> i64 + Copy) -> i64 {
        self.0.iter().map(|a| a.eval(value)).fold(i64::MIN, i64::max)
    }
    /// The smallest of the expressions' values.
    pub fn min(&self, value: impl Fn(Var) -> i64 + Copy) -> i64 {
        self.0.iter().map(|a| a.eval(value)).fold(i64::MAX, i64::min)
    }
}

impl<T: Into<Affine>> From<T> for Bound {
    fn from(expr: T) -> Self {
        Self(vec![expr.into()])
    }
}
