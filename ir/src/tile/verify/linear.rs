//! Affine expressions in 128 bits with checked arithmetic: coefficients of a text may be anything.

use crate::tile::{Affine, Var};
use std::collections::BTreeMap;

/// `constant + sum(coefficient * variable)`, without zero coefficients.
#[derive(Clone)]
pub(in crate::tile) struct Linear {
    pub terms: BTreeMap<Var, i128>,
    pub constant: i128,
}

impl Linear {
    pub fn constant(constant: i64) -> Self {
        Self {
            terms: BTreeMap::new(),
            constant: constant.into(),
        }
    }

    pub fn of(affine: &Affine) -> Self {
        Self {
            terms: affine.terms().iter().map(|&(v, c)| (v, c.into())).collect(),
            constant: affine.offset().into(),
        }
    }

    /// `self + factor * other`; `None` on overflow.
    pub fn plus(mut self, factor: i128, other: &Linear) -> Option<Self> {
        self.constant = self.constant.checked_add(factor.checked_mul(other.constant)?)?;
        for (&var, c) in &other.terms {
            let sum = self.terms.entry(var).or_default();
            *sum = sum.checked_add(factor.checked_mul(*c)?)?;
            if *sum == 0 {
                self.terms.remove(&var);
            }
        }
        Some(self)
    }

    /// The expression with a variable replaced; `None` on overflow.
    pub fn replace(&self, var: Var, by: &Linear) -> Option<Self> {
        let mut rest = self.clone();
        match rest.terms.remove(&var) {
            Some(factor) => rest.plus(factor, by),
            None => Some(rest),
        }
    }

    /// What the expression is modulo what, given the same for its variables.
    pub fn residue(&self, of: impl Fn(Var) -> Residue) -> Residue {
        let exact = Residue {
            modulus: 0,
            value: self.constant,
        };
        self.terms
            .iter()
            .try_fold(exact, |sum, (&var, &c)| {
                let r = of(var);
                Some(Residue {
                    modulus: gcd(sum.modulus, r.modulus.checked_mul(c)?.checked_abs()?),
                    value: sum.value.checked_add(r.value.checked_mul(c)?)?,
                })
            })
            .unwrap_or(Residue::UNKNOWN)
    }
}

/// A number known modulo `modulus`: exactly if that is 0, not at all if it is 1.
#[derive(Clone, Copy)]
pub(in crate::tile) struct Residue {
    pub modulus: i128,
    pub value: i128,
}

impl Residue {
    pub const UNKNOWN: Residue = Residue { modulus: 1, value: 0 };

    /// What is still known after any multiple of `step` (at least 1) is added.
    pub fn modulo(self, step: i128) -> Residue {
        let modulus = gcd(self.modulus, step);
        Residue {
            modulus,
            value: self.value.rem_euclid(modulus),
        }
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}
