//! The walk over a function.

use crate::address::{Linear, Scopes, constant};
use crate::scan::{self, Use};
use crate::unroll::Counted;
use crate::{Address, Emitter, LoopHead, LowerError, Placement};
use sdc_ir::entity::EntityId;
use sdc_ir::tile::{Affine, Carried, For, Func, Inst, KernelCall, Module, Stmt, Ty, Val, Var};
use std::collections::BTreeSet;

/// The number of independent tasks of a function whose body is one parallel loop: its trip count. `None` for every other
/// function, which is to be called once.
pub fn tasks(func: &Func) -> Option<u64> {
    let f = parallel_loop(func)?;
    let (lo, hi) = (constant(&f.lo, true)?, constant(&f.hi, false)?);
    let span = hi.checked_sub(lo)?.max(0) as u64;
    Some(span.div_ceil(f.step as u64))
}

fn parallel_loop(func: &Func) -> Option<&For> {
    match func.body.as_slice() {
        [Stmt::For(f)] if f.parallel && f.carried.is_empty() && f.step > 0 => Some(f),
        _ => None,
    }
}

/// Lowers a function. With [`tasks`], only the iteration number `index` (from 0) of its parallel loop is emitted;
/// otherwise `index` is not used.
///
/// # Errors
/// The emitter's errors; faults of the function or its placement, see [`LowerError`].
pub fn lower<E: Emitter>(
    module: &Module,
    func: &Func,
    placement: &Placement,
    index: E::Value,
    emitter: &mut E,
) -> Result<(), E::Error> {
    scan::check(&func.body, 0)?;
    let mut this = Lowerer {
        module,
        func,
        placement,
        emitter,
        vals: vec![None; func.vals.len()],
        scopes: Scopes::new(func.vars.len()),
        replaced: None,
    };
    this.known_before(&func.body)?;
    match parallel_loop(func) {
        Some(f) if tasks(func).is_some() => {
            let scaled = this.scale(index, f.step);
            let lo = this.bound(&f.lo, true)?;
            let value = this.emitter.int_add(scaled, lo);
            this.scopes.open(f.var, value)?;
            this.known_before(&f.body)?;
            this.block(&f.body)
        }
        _ => this.block(&func.body),
    }
}

pub(crate) struct Lowerer<'a, E: Emitter> {
    pub module: &'a Module,
    func: &'a Func,
    pub placement: &'a Placement,
    pub emitter: &'a mut E,
    vals: Vec<Option<E::Value>>,
    pub scopes: Scopes<E::Value>,
    /// In a copy of an unrolled loop's body, what its variable stands for.
    pub replaced: Option<(Var, Affine)>,
}

impl<E: Emitter> Lowerer<'_, E> {
    /// The value of an SSA value defined earlier.
    pub fn val(&self, val: Val) -> Result<E::Value, LowerError> {
        self.vals
            .get(val.index())
            .copied()
            .flatten()
            .ok_or(LowerError::UndefinedVal(val))
    }

    fn ty(&self, val: Val) -> Result<Ty, LowerError> {
        self.func
            .vals
            .get(val)
            .copied()
            .ok_or(LowerError::UndefinedVal(val))
    }

    fn define(&mut self, val: Val, value: E::Value) -> Result<(), LowerError> {
        let slot = self
            .vals
            .get_mut(val.index())
            .ok_or(LowerError::UndefinedVal(val))?;
        *slot = Some(value);
        Ok(())
    }

    fn block(&mut self, stmts: &[Stmt]) -> Result<(), E::Error> {
        for stmt in stmts {
            match stmt {
                Stmt::Let(val, inst) => {
                    let value = self.inst(self.ty(*val)?, inst)?;
                    self.define(*val, value)?;
                }
                Stmt::Store { buffer, index, value } => {
                    let at = self.address(*buffer, index)?;
                    let (ty, value) = (self.ty(*value)?, self.val(*value)?);
                    self.emitter.store(ty, at, value)?;
                }
                Stmt::For(f) => self.loop_(f)?,
                Stmt::Kernel(call) => self.kernel(call)?,
            }
        }
        Ok(())
    }

    /// Computes now what the block needs of expressions in already known variables (at least the roots).
    fn known_before(&mut self, block: &[Stmt]) -> Result<(), E::Error> {
        let mut needed = BTreeSet::new();
        let mut result = Ok(());
        scan::uses(block, &mut |at| {
            let linear = match at {
                Use::Element(buffer, affine) => self.parts(buffer, affine).map(|(linear, _)| linear),
                Use::Value(affine) => Ok(Linear {
                    root: None,
                    terms: self.outermost_first(affine.terms().to_vec()),
                }),
            };
            match linear {
                Ok(linear) => {
                    let known = self.known_part(linear);
                    if known.root.is_some() || known.terms.len() > 1 {
                        needed.insert(known);
                    }
                }
                Err(error) => result = Err(error),
            }
        });
        result?;
        for linear in needed {
            self.linear(&linear)?;
        }
        Ok(())
    }

    fn loop_(&mut self, f: &For) -> Result<(), E::Error> {
        let ends = (constant(&f.lo, true), constant(&f.hi, false));
        let Some(counted) = Counted::new(f, ends) else {
            // Its bounds are computed where the loop starts.
            let (lo, hi) = (self.bound(&f.lo, true)?, self.bound(&f.hi, false)?);
            let head = LoopHead {
                lo,
                hi,
                step: f.step,
                runs: false,
            };
            let init = self.all(f, |c| c.init)?;
            let results = self.rolled(f, head, ends.0, 1, &init)?;
            return self.define_all(f, |c| c.result, &results);
        };
        let mut carried = self.all(f, |c| c.init)?;
        if counted.rounds > 0 {
            let head = LoopHead {
                lo: self.emitter.int(counted.lo),
                hi: self.emitter.int(counted.rest),
                step: f.step * counted.copies,
                runs: true,
            };
            carried = self.rolled(f, head, Some(counted.lo), counted.copies, &carried)?;
        }
        for at in 0..counted.left {
            let var = counted.rest + at * f.step;
            carried = self.copy(f, Affine::constant(var), &carried)?;
        }
        self.define_all(f, |c| c.result, &carried)
    }

    /// A loop whose body holds `copies` iterations. Returns the carried values after it.
    fn rolled(
        &mut self,
        f: &For,
        head: LoopHead<E::Value>,
        lo: Option<i64>,
        copies: i64,
        carried: &[E::Value],
    ) -> Result<Vec<E::Value>, E::Error> {
        self.known_before(&f.body)?;

        // Products of the variable that an address cannot encode are carried along in the innermost loop.
        let factors = self.induction_factors(f)?;
        let mut init = carried.to_vec();
        for &factor in &factors {
            let product = lo.and_then(|lo| lo.checked_mul(factor));
            init.push(match product {
                Some(product) => self.emitter.int(product),
                None => self.emitter.int_scale(head.lo, factor),
            });
        }

        let (var, mut args) = self.emitter.open_loop(head, &init);
        self.scopes.open(f.var, var)?;
        let products = args.split_off(carried.len());
        for (&factor, &product) in factors.iter().zip(&products) {
            let terms = vec![(f.var, factor)];
            self.scopes.define(Linear { root: None, terms }, product);
        }
        for at in 0..copies {
            args = self.copy(f, Affine::from(f.var) + at * f.step, &args)?;
        }
        for (&factor, &product) in factors.iter().zip(&products) {
            let increment = self.emitter.int(factor.wrapping_mul(head.step));
            args.push(self.emitter.int_add(product, increment));
        }
        self.scopes.close(f.var);
        let mut results = self.emitter.close_loop(&args);
        results.truncate(carried.len());
        Ok(results)
    }

    /// One iteration, with `var` for the loop variable. Returns the carried values after it.
    fn copy(&mut self, f: &For, var: Affine, carried: &[E::Value]) -> Result<Vec<E::Value>, E::Error> {
        self.define_all(f, |c| c.arg, carried)?;
        if var != Affine::from(f.var) {
            self.replaced = Some((f.var, var));
        }
        self.block(&f.body)?;
        self.replaced = None;
        Ok(self.all(f, |c| c.next)?)
    }

    fn all(&self, f: &For, which: impl Fn(&Carried) -> Val) -> Result<Vec<E::Value>, LowerError> {
        f.carried.iter().map(|c| self.val(which(c))).collect()
    }

    fn define_all(
        &mut self,
        f: &For,
        which: impl Fn(&Carried) -> Val,
        values: &[E::Value],
    ) -> Result<(), E::Error> {
        for (c, &value) in f.carried.iter().zip(values) {
            self.define(which(c), value)?;
        }
        Ok(())
    }

    fn induction_factors(&self, f: &For) -> Result<BTreeSet<i64>, LowerError> {
        let mut factors = BTreeSet::new();
        if scan::has_loop(&f.body) {
            return Ok(factors);
        }
        let mut result = Ok(());
        scan::uses(&f.body, &mut |at| {
            if let Use::Element(buffer, affine) = at {
                match self.parts(buffer, affine) {
                    Ok((linear, _)) => factors.extend(
                        linear
                            .terms
                            .iter()
                            .filter(|(var, factor)| *var == f.var && !matches!(factor, 1 | 2 | 4 | 8))
                            .map(|(_, factor)| *factor),
                    ),
                    Err(error) => result = Err(error),
                }
            }
        });
        result.map(|()| factors)
    }

    fn kernel(&mut self, call: &KernelCall) -> Result<(), E::Error> {
        let mut operands = Vec::with_capacity(call.operands.len());
        for view in &call.operands {
            let operand: Option<Address<E::Value>> = match view {
                None => None,
                Some(view) => Some(self.address(view.buffer, &view.offset.clone().into())?),
            };
            operands.push(operand);
        }
        let (begin, end) = (self.bound(&call.begin, true)?, self.bound(&call.end, false)?);
        self.emitter.kernel(call, &operands, begin, end)
    }

    fn inst(&mut self, ty: Ty, inst: &Inst) -> Result<E::Value, E::Error> {
        match inst {
            Inst::Load { buffer, index } => {
                let at = self.address(*buffer, index)?;
                self.emitter.load(ty, at)
            }
            Inst::LoadSplat { buffer, index } => {
                let at = self.address(*buffer, index)?;
                self.emitter.load_splat(ty, at)
            }
            Inst::Const(bits) => self.emitter.constant(ty, *bits),
            Inst::AffineValue(affine) => self.affine(affine),
            Inst::Splat(x) => self.emitter.splat(ty, self.val(*x)?),
            Inst::Arith1(op, x) => self.emitter.arith1(*op, ty, self.val(*x)?),
            Inst::Arith2(op, a, b) => self.emitter.arith2(*op, ty, self.val(*a)?, self.val(*b)?),
            Inst::Fma(a, b, c) => self.emitter.fma(ty, self.val(*a)?, self.val(*b)?, self.val(*c)?),
            Inst::Compare(op, a, b) => self
                .emitter
                .compare(*op, self.ty(*a)?, self.val(*a)?, self.val(*b)?),
            Inst::Select(mask, a, b) => {
                self.emitter
                    .select(ty, self.val(*mask)?, self.val(*a)?, self.val(*b)?)
            }
            Inst::Convert(x) => self.emitter.convert(self.ty(*x)?, ty, self.val(*x)?),
            Inst::Bitcast(x) => self.emitter.bitcast(self.ty(*x)?, ty, self.val(*x)?),
            Inst::Fold(op, x) => self.emitter.fold(*op, self.ty(*x)?, self.val(*x)?),
            Inst::Lane(x, lane) => self.emitter.lane(self.ty(*x)?, self.val(*x)?, *lane),
        }
    }
}
