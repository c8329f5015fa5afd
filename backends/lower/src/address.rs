//! Affine expressions as run-time values, shared and hoisted.
//!
//! A [`Linear`] is what an address has besides its displacement: a root and scaled loop variables, outermost first. Each
//! distinct one is computed once, where its innermost variable becomes known, by adding one term to its prefix; so the part
//! that is invariant in a loop is computed outside it.

use crate::walk::Lowerer;
use crate::{Address, Emitter, LowerError, Root};
use sdc_ir::entity::EntityId;
use sdc_ir::tile::{Affine, Bound, Buffer, Index, Var};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Displacements stay within half of this, far inside what an instruction can encode.
const PAGE_OF_DISPLACEMENTS: i64 = 1 << 30;

/// `root + start + sum(factor * variable)`, in bytes; without a root, a plain number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Linear {
    /// With the multiple of [`PAGE_OF_DISPLACEMENTS`] that does not fit the displacement.
    pub root: Option<(Root, i64)>,
    /// Variables with factors, outermost first.
    pub terms: Vec<(Var, i64)>,
}

/// The linear expressions computed so far, and the variables of the open loops.
#[derive(Debug)]
pub(crate) struct Scopes<V> {
    values: BTreeMap<Linear, V>,
    /// Per open loop, outermost first, what was computed in it; first the function's own level.
    computed: Vec<Vec<Linear>>,
    /// Per variable, its nesting depth and value while its loop is open.
    vars: Vec<Option<(usize, V)>>,
}

impl<V: Copy> Scopes<V> {
    pub fn new(vars: usize) -> Self {
        Self {
            values: BTreeMap::new(),
            computed: vec![Vec::new()],
            vars: vec![None; vars],
        }
    }
    pub fn define(&mut self, linear: Linear, value: V) {
        if let Some(scope) = self.computed.last_mut() {
            scope.push(linear.clone());
        }
        self.values.insert(linear, value);
    }
    pub fn open(&mut self, var: Var, value: V) -> Result<(), LowerError> {
        let depth = self.computed.len();
        let slot = self
            .vars
            .get_mut(var.index())
            .ok_or(LowerError::UndefinedVar(var))?;
        *slot = Some((depth, value));
        self.computed.push(Vec::new());
        Ok(())
    }
    pub fn close(&mut self, var: Var) {
        self.vars[var.index()] = None;
        for linear in self.computed.pop().unwrap_or_default() {
            self.values.remove(&linear);
        }
    }
    fn var(&self, var: Var) -> Option<(usize, V)> {
        self.vars.get(var.index()).copied().flatten()
    }
}

impl<E: Emitter> Lowerer<'_, E> {
    /// The parts of an element's address: what is computed, and the displacement.
    pub fn parts(&self, buffer: Buffer, index: &Affine) -> Result<(Linear, i32), LowerError> {
        let (root, start) = self.placement.place(self.module, buffer)?;
        let size = self.module.buffers[buffer].dtype.size() as i64;
        let overflow = || LowerError::AddressOverflow(buffer);
        let index = self.resolved(index);
        let bytes = index
            .offset()
            .checked_mul(size)
            .and_then(|x| x.checked_add(start))
            .ok_or_else(overflow)?;
        let page = bytes
            .checked_add(PAGE_OF_DISPLACEMENTS / 2)
            .ok_or_else(overflow)?
            & -PAGE_OF_DISPLACEMENTS;
        let mut terms = Vec::with_capacity(index.terms().len());
        for &(var, factor) in index.terms() {
            terms.push((var, factor.checked_mul(size).ok_or_else(overflow)?));
        }
        let linear = Linear {
            root: Some((root, page)),
            terms: self.outermost_first(terms),
        };
        Ok((linear, (bytes - page) as i32))
    }

    /// Terms in order of nesting; variables of loops not yet open come last.
    pub fn outermost_first(&self, mut terms: Vec<(Var, i64)>) -> Vec<(Var, i64)> {
        terms.sort_by_key(|&(var, _)| (self.scopes.var(var).map_or(usize::MAX, |(depth, _)| depth), var));
        terms
    }

    /// The part of an expression that is known before any further loop is opened.
    pub fn known_part(&self, mut linear: Linear) -> Linear {
        linear.terms.retain(|&(var, _)| self.scopes.var(var).is_some());
        linear
    }

    /// The value of an expression all of whose variables are known.
    pub fn linear(&mut self, linear: &Linear) -> Result<E::Value, E::Error> {
        if let Some(&value) = self.scopes.values.get(linear) {
            return Ok(value);
        }
        let value = match (linear.terms.split_last(), linear.root) {
            (None, None) => self.emitter.int(0),
            (None, Some((root, 0))) => self.emitter.root(root)?,
            (None, Some((root, page))) => {
                let root = self.linear(&Linear {
                    root: Some((root, 0)),
                    terms: Vec::new(),
                })?;
                let page = self.emitter.int(page);
                self.emitter.int_add(root, page)
            }
            (Some((&(var, factor), [])), None) => {
                let (_, value) = self.scopes.var(var).ok_or(LowerError::UndefinedVar(var))?;
                self.scale(value, factor)
            }
            (Some((&term, rest)), root) => {
                let prefix = self.linear(&Linear {
                    root,
                    terms: rest.to_vec(),
                })?;
                let term = self.linear(&Linear {
                    root: None,
                    terms: vec![term],
                })?;
                self.emitter.int_add(prefix, term)
            }
        };
        self.scopes.define(linear.clone(), value);
        Ok(value)
    }

    /// A value times a constant.
    pub fn scale(&mut self, value: E::Value, factor: i64) -> E::Value {
        if factor == 1 {
            value
        } else {
            self.emitter.int_scale(value, factor)
        }
    }

    /// An element's address. A run-time offset comes last, so that all before it can be shared.
    pub fn address(&mut self, buffer: Buffer, index: &Index) -> Result<Address<E::Value>, E::Error> {
        let (linear, displacement) = self.parts(buffer, &index.affine)?;
        let mut base = self.linear(&linear)?;
        if let Some(offset) = index.offset {
            let offset = self.val(offset)?;
            let size = self.module.buffers[buffer].dtype.size() as i64;
            let bytes = self.scale(offset, size);
            base = self.emitter.int_add(base, bytes);
        }
        Ok(Address {
            base,
            displacement,
            readonly: linear.root.is_some_and(|(root, _)| root.is_readonly()),
        })
    }

    /// The expression with the variable of an unrolled loop replaced.
    fn resolved<'a>(&self, affine: &'a Affine) -> Cow<'a, Affine> {
        match &self.replaced {
            Some((var, value)) if affine.terms().iter().any(|(v, _)| v == var) => {
                Cow::Owned(affine.substitute(|v| if v == *var { value.clone() } else { v.into() }))
            }
            _ => Cow::Borrowed(affine),
        }
    }

    /// The value of an affine expression.
    pub fn affine(&mut self, affine: &Affine) -> Result<E::Value, E::Error> {
        let affine = self.resolved(affine);
        if let Some(constant) = affine.as_constant() {
            return Ok(self.emitter.int(constant));
        }
        let terms = self.outermost_first(affine.terms().to_vec());
        let value = self.linear(&Linear { root: None, terms })?;
        if affine.offset() == 0 {
            return Ok(value);
        }
        let constant = self.emitter.int(affine.offset());
        Ok(self.emitter.int_add(value, constant))
    }

    /// The value of a bound: the largest or smallest of its expressions.
    pub fn bound(&mut self, bound: &Bound, largest: bool) -> Result<E::Value, E::Error> {
        if let Some(constant) = constant(bound, largest) {
            return Ok(self.emitter.int(constant));
        }
        let mut result = None;
        for expr in bound.exprs() {
            let value = self.affine(expr)?;
            result = Some(match result {
                None => value,
                Some(other) if largest => self.emitter.int_max(other, value),
                Some(other) => self.emitter.int_min(other, value),
            });
        }
        Ok(result.expect("a bound has at least one expression"))
    }
}

/// The value of a bound if no expression has a variable.
pub(crate) fn constant(bound: &Bound, largest: bool) -> Option<i64> {
    let values = bound
        .exprs()
        .iter()
        .map(Affine::as_constant)
        .collect::<Option<Vec<i64>>>()?;
    if largest {
        values.into_iter().max()
    } else {
        values.into_iter().min()
    }
}
