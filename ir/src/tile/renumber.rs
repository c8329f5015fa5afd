//! Canonical numbering, so that equal functions print equally.

use super::{Affine, Bound, Carried, For, Func, Index, Inst, KernelCall, Module, Stmt, Ty, Val, Var, View};
use crate::entity::{Arena, EntityId};

impl Module {
    /// The module with every function [renumbered](Func::renumbered).
    pub fn renumbered(&self) -> Module {
        Module {
            prepare: self.prepare.iter().map(Func::renumbered).collect(),
            funcs: self.funcs.iter().map(Func::renumbered).collect(),
            ..self.clone()
        }
    }
}

impl Func {
    /// The function with values and loop variables numbered in order of definition (a loop's carried values before its
    /// body, its results after), and without those that no statement mentions. Parsing a text numbers the same way.
    ///
    /// Panics if a statement mentions a value that the function does not have; the verifier reports those.
    pub fn renumbered(&self) -> Func {
        let mut r = Renumber {
            old: self,
            vals: Arena::new(),
            vars: Arena::new(),
            val_map: vec![None; self.vals.len()],
            var_map: vec![None; self.vars.len()],
        };
        let body = r.block(&self.body);
        Func {
            name: self.name.clone(),
            origins: self.origins.clone(),
            vals: r.vals,
            vars: r.vars,
            body,
        }
    }
}

struct Renumber<'a> {
    old: &'a Func,
    vals: Arena<Val, Ty>,
    vars: Arena<Var, ()>,
    val_map: Vec<Option<Val>>,
    var_map: Vec<Option<Var>>,
}

impl Renumber<'_> {
    /// The new id, given out at first sight: that is the definition, where definitions come before uses.
    fn val(&mut self, v: Val) -> Val {
        let (vals, old) = (&mut self.vals, self.old);
        *self.val_map[v.index()].get_or_insert_with(|| vals.push(old.vals[v]))
    }
    fn var(&mut self, v: Var) -> Var {
        let vars = &mut self.vars;
        *self.var_map[v.index()].get_or_insert_with(|| vars.push(()))
    }
    fn affine(&mut self, a: &Affine) -> Affine {
        a.terms()
            .iter()
            .fold(Affine::constant(a.offset()), |sum, &(v, c)| {
                sum + Affine::term(self.var(v), c)
            })
    }
    fn bound(&mut self, b: &Bound) -> Bound {
        Bound::of(b.exprs().iter().map(|a| self.affine(a)).collect())
    }
    fn index(&mut self, i: &Index) -> Index {
        Index {
            affine: self.affine(&i.affine),
            offset: i.offset.map(|v| self.val(v)),
        }
    }

    fn block(&mut self, stmts: &[Stmt]) -> Vec<Stmt> {
        stmts.iter().map(|s| self.stmt(s)).collect()
    }

    fn stmt(&mut self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::Let(v, inst) => {
                let inst = self.inst(inst);
                Stmt::Let(self.val(*v), inst)
            }
            Stmt::Store { buffer, index, value } => Stmt::Store {
                buffer: *buffer,
                index: self.index(index),
                value: self.val(*value),
            },
            Stmt::For(f) => Stmt::For(self.for_(f)),
            Stmt::Kernel(call) => Stmt::Kernel(KernelCall {
                kernel: call.kernel.clone(),
                params: call.params.clone(),
                operands: call
                    .operands
                    .iter()
                    .map(|o| {
                        o.as_ref().map(|view| View {
                            buffer: view.buffer,
                            offset: self.affine(&view.offset),
                        })
                    })
                    .collect(),
                begin: self.bound(&call.begin),
                end: self.bound(&call.end),
            }),
        }
    }

    fn for_(&mut self, f: &For) -> For {
        let (lo, hi) = (self.bound(&f.lo), self.bound(&f.hi));
        let inits: Vec<Val> = f.carried.iter().map(|c| self.val(c.init)).collect();
        let var = self.var(f.var);
        let args: Vec<Val> = f.carried.iter().map(|c| self.val(c.arg)).collect();
        let body = self.block(&f.body);
        let nexts: Vec<Val> = f.carried.iter().map(|c| self.val(c.next)).collect();
        let carried = (0..f.carried.len())
            .map(|i| Carried {
                result: self.val(f.carried[i].result),
                arg: args[i],
                init: inits[i],
                next: nexts[i],
            })
            .collect();
        For {
            var,
            lo,
            hi,
            step: f.step,
            parallel: f.parallel,
            carried,
            body,
        }
    }

    fn inst(&mut self, inst: &Inst) -> Inst {
        match inst {
            Inst::Load { buffer, index } => Inst::Load {
                buffer: *buffer,
                index: self.index(index),
            },
            Inst::LoadSplat { buffer, index } => Inst::LoadSplat {
                buffer: *buffer,
                index: self.index(index),
            },
            Inst::Const(bits) => Inst::Const(*bits),
            Inst::AffineValue(a) => Inst::AffineValue(self.affine(a)),
            Inst::Splat(x) => Inst::Splat(self.val(*x)),
            Inst::Arith1(op, x) => Inst::Arith1(*op, self.val(*x)),
            Inst::Arith2(op, a, b) => Inst::Arith2(*op, self.val(*a), self.val(*b)),
            Inst::Fma(a, b, c) => Inst::Fma(self.val(*a), self.val(*b), self.val(*c)),
            Inst::Compare(op, a, b) => Inst::Compare(*op, self.val(*a), self.val(*b)),
            Inst::Select(m, a, b) => Inst::Select(self.val(*m), self.val(*a), self.val(*b)),
            Inst::Convert(x) => Inst::Convert(self.val(*x)),
            Inst::Bitcast(x) => Inst::Bitcast(self.val(*x)),
            Inst::Fold(op, x) => Inst::Fold(*op, self.val(*x)),
            Inst::Lane(x, lane) => Inst::Lane(self.val(*x), *lane),
        }
    }
}
