//! A tile function in the form that is executed: names resolved to positions, types to functions.

use super::TileError;
use super::scalar::{self, Fn1, Fn2, Fn3};
use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::tile::build::mask_type;
use sdc_ir::tile::{Affine, Bound, BufferKind, For, Func, Index, Inst, Module, Stmt, Ty, Val};

/// Loops nested deeper are refused, since both translation and execution recurse. Real nests have about ten.
const MAX_DEPTH: usize = 100;

/// Position of a value's first lane among the registers.
type Reg = usize;

/// An affine expression: constant, then variables with their coefficients.
pub(super) struct Expr {
    pub constant: i64,
    pub terms: Vec<(usize, i64)>,
}

/// The elements an access touches.
pub(super) struct Access {
    /// Position of the buffer.
    pub buffer: usize,
    pub index: Expr,
    pub offset: Option<Reg>,
}

pub(super) struct Loop {
    pub var: usize,
    pub lo: Vec<Expr>,
    pub hi: Vec<Expr>,
    pub step: i64,
    pub parallel: bool,
    pub carried: Vec<Carry>,
    pub body: Vec<Step>,
}

/// A loop-carried value.
pub(super) struct Carry {
    pub result: Reg,
    pub arg: Reg,
    pub init: Reg,
    pub next: Reg,
    pub lanes: usize,
}

/// One step; `dst` and operands are registers, and `lanes` consecutive ones are meant.
pub(super) enum Step {
    Load {
        dst: Reg,
        lanes: usize,
        from: Access,
    },
    LoadSplat {
        dst: Reg,
        lanes: usize,
        from: Access,
    },
    Store {
        src: Reg,
        lanes: usize,
        to: Access,
    },
    Const {
        dst: Reg,
        lanes: usize,
        bits: u64,
    },
    Affine {
        dst: Reg,
        expr: Expr,
    },
    Splat {
        dst: Reg,
        lanes: usize,
        src: Reg,
    },
    Copy {
        dst: Reg,
        lanes: usize,
        src: Reg,
    },
    Map1 {
        f: Fn1,
        dst: Reg,
        lanes: usize,
        a: Reg,
    },
    Map2 {
        f: Fn2,
        dst: Reg,
        lanes: usize,
        a: Reg,
        b: Reg,
    },
    Map3 {
        f: Fn3,
        dst: Reg,
        lanes: usize,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Compare {
        f: Fn2,
        dst: Reg,
        lanes: usize,
        a: Reg,
        b: Reg,
        ones: u64,
    },
    Convert {
        from: DType,
        to: DType,
        dst: Reg,
        lanes: usize,
        a: Reg,
    },
    Fold {
        f: Fn2,
        dst: Reg,
        lanes: usize,
        a: Reg,
    },
    For(Loop),
}

/// An executable function.
pub(super) struct Program {
    pub steps: Vec<Step>,
    /// Number of registers.
    pub regs: usize,
    /// Number of loop variables.
    pub vars: usize,
}

/// Translates a function without kernel calls.
pub(super) fn translate(module: &Module, func: &Func, preparing: bool) -> Result<Program, TileError> {
    let mut regs = Vec::with_capacity(func.vals.len());
    let mut next = 0;
    for ty in func.vals.values() {
        regs.push(next);
        next += usize::from(ty.lanes);
    }
    let defined = vec![false; regs.len()];
    let mut translator = Translator {
        module,
        func,
        preparing,
        regs,
        defined,
    };
    let steps = translator
        .block(&func.body, 0)
        .map_err(|reason| TileError::Malformed {
            func: func.name.clone(),
            reason,
        })?;
    Ok(Program {
        steps,
        regs: next,
        vars: func.vars.len(),
    })
}

struct Translator<'a> {
    module: &'a Module,
    func: &'a Func,
    /// It is one that fills prepared memory.
    preparing: bool,
    regs: Vec<Reg>,
    defined: Vec<bool>,
}

/// The reason becomes [`TileError::Malformed`].
type Translated<T> = Result<T, String>;

fn ensure(condition: bool, reason: impl FnOnce() -> String) -> Translated<()> {
    if condition { Ok(()) } else { Err(reason()) }
}

impl Translator<'_> {
    fn block(&mut self, stmts: &[Stmt], depth: usize) -> Translated<Vec<Step>> {
        ensure(depth <= MAX_DEPTH, || {
            format!("loops are nested deeper than {MAX_DEPTH}")
        })?;
        stmts
            .iter()
            .map(|stmt| match stmt {
                Stmt::Let(val, inst) => self.inst(*val, inst),
                Stmt::Store { buffer, index, value } => {
                    let (src, ty) = self.read(*value)?;
                    let to = self.access(*buffer, index, ty.dtype)?;
                    let kind = &self.module.buffers[*buffer].kind;
                    let writable = match kind {
                        BufferKind::Output(_) | BufferKind::Temp => !self.preparing,
                        BufferKind::Prepared => self.preparing,
                        BufferKind::Input(_) | BufferKind::Const(_) => false,
                    };
                    ensure(writable, || format!("a store to the read-only buffer {buffer}"))?;
                    Ok(Step::Store {
                        src,
                        lanes: ty.lanes.into(),
                        to,
                    })
                }
                Stmt::For(f) => self.loop_(f, depth),
                Stmt::Kernel(call) => Err(format!("kernel `{}` is not in the registry", call.kernel)),
            })
            .collect()
    }

    fn loop_(&mut self, f: &For, depth: usize) -> Translated<Step> {
        ensure(f.step >= 1, || {
            format!("the step of loop {} is {}", f.var, f.step)
        })?;
        ensure(!f.parallel || f.carried.is_empty(), || {
            format!("the parallel loop {} carries values", f.var)
        })?;
        ensure(f.var.index() < self.func.vars.len(), || {
            format!("there is no variable {}", f.var)
        })?;
        let (lo, hi) = (self.bound(&f.lo)?, self.bound(&f.hi)?);
        let mut carried = Vec::new();
        for c in &f.carried {
            let (init, ty) = self.read(c.init)?;
            let (arg, lanes) = (self.define(c.arg, ty)?, ty.lanes.into());
            carried.push(Carry {
                result: 0,
                arg,
                init,
                next: 0,
                lanes,
            });
        }
        let body = self.block(&f.body, depth + 1)?;
        for (c, carry) in f.carried.iter().zip(&mut carried) {
            let (next, ty) = self.read(c.next)?;
            self.same(c.init, ty)?;
            carry.next = next;
            carry.result = self.define(c.result, ty)?;
        }
        Ok(Step::For(Loop {
            var: f.var.index(),
            lo,
            hi,
            step: f.step,
            parallel: f.parallel,
            carried,
            body,
        }))
    }

    fn inst(&mut self, val: Val, inst: &Inst) -> Translated<Step> {
        let ty = *self
            .func
            .vals
            .get(val)
            .ok_or_else(|| format!("there is no value {val}"))?;
        let Ty { dtype, lanes: count } = ty;
        ensure(count >= 1, || format!("{val} has no lanes"))?;
        let lanes = usize::from(count);
        let dst = self.regs[val.index()];
        let no = |what: &str| format!("{val}: {what} is not defined for {dtype}");
        let step = match inst {
            Inst::Load { buffer, index } => Step::Load {
                dst,
                lanes,
                from: self.access(*buffer, index, dtype)?,
            },
            Inst::LoadSplat { buffer, index } => Step::LoadSplat {
                dst,
                lanes,
                from: self.access(*buffer, index, dtype)?,
            },
            Inst::Const(bits) => {
                ensure(*bits <= scalar::ones(dtype), || {
                    format!("{val}: the constant is wider than {dtype}")
                })?;
                Step::Const {
                    dst,
                    lanes,
                    bits: *bits,
                }
            }
            Inst::AffineValue(affine) => {
                ensure(ty == Ty::scalar(DType::I64), || format!("{val} must be i64"))?;
                Step::Affine {
                    dst,
                    expr: self.expr(affine)?,
                }
            }
            Inst::Splat(x) => Step::Splat {
                dst,
                lanes,
                src: self.same(*x, Ty::scalar(dtype))?,
            },
            Inst::Arith1(op, a) => {
                let f = scalar::arith1(*op, dtype).ok_or_else(|| no(op.name()))?;
                Step::Map1 {
                    f,
                    dst,
                    lanes,
                    a: self.same(*a, ty)?,
                }
            }
            Inst::Arith2(op, a, b) => {
                let f = scalar::arith2(*op, dtype).ok_or_else(|| no(op.name()))?;
                Step::Map2 {
                    f,
                    dst,
                    lanes,
                    a: self.same(*a, ty)?,
                    b: self.same(*b, ty)?,
                }
            }
            Inst::Fma(a, b, c) => {
                let f = scalar::fma(dtype).ok_or_else(|| no("fma"))?;
                let (a, b, c) = (self.same(*a, ty)?, self.same(*b, ty)?, self.same(*c, ty)?);
                Step::Map3 {
                    f,
                    dst,
                    lanes,
                    a,
                    b,
                    c,
                }
            }
            Inst::Compare(op, a, b) => {
                let (a, operand) = self.read(*a)?;
                ensure(mask_type(operand) == ty, || {
                    format!("{val}: a mask of {operand} is not {ty}")
                })?;
                let (f, ones) = (scalar::compare(*op, operand.dtype), scalar::ones(dtype));
                Step::Compare {
                    f,
                    dst,
                    lanes,
                    a,
                    b: self.same(*b, operand)?,
                    ones,
                }
            }
            Inst::Select(mask, b, c) => {
                let a = self.same(*mask, mask_type(ty))?;
                let f: Fn3 = |mask, b, c| if mask != 0 { b } else { c };
                Step::Map3 {
                    f,
                    dst,
                    lanes,
                    a,
                    b: self.same(*b, ty)?,
                    c: self.same(*c, ty)?,
                }
            }
            Inst::Convert(a) => {
                let (a, operand) = self.read(*a)?;
                ensure(operand.lanes == count, || {
                    format!("{val}: {operand} does not convert to {ty}")
                })?;
                Step::Convert {
                    from: operand.dtype,
                    to: dtype,
                    dst,
                    lanes,
                    a,
                }
            }
            Inst::Bitcast(a) => {
                let (src, operand) = self.read(*a)?;
                let fits = operand.lanes == count && operand.dtype.size() == dtype.size();
                ensure(fits, || {
                    format!("{val}: the bits of {operand} are not those of {ty}")
                })?;
                Step::Copy { dst, lanes, src }
            }
            Inst::Fold(op, a) => {
                let (a, operand) = self.read(*a)?;
                ensure(ty == Ty::scalar(operand.dtype), || {
                    format!("{val}: {operand} does not fold to {ty}")
                })?;
                let f = scalar::arith2(fold_step(*op), dtype).ok_or_else(|| no(op.name()))?;
                Step::Fold {
                    f,
                    dst,
                    lanes: operand.lanes.into(),
                    a,
                }
            }
            Inst::Lane(a, lane) => {
                let (a, operand) = self.read(*a)?;
                let fits = ty == Ty::scalar(operand.dtype) && *lane < operand.lanes;
                ensure(fits, || {
                    format!("{val}: {operand} has no lane {lane} of type {ty}")
                })?;
                Step::Copy {
                    dst,
                    lanes: 1,
                    src: a + usize::from(*lane),
                }
            }
        };
        self.define(val, ty)?;
        Ok(step)
    }

    /// A defined value's register and type.
    fn read(&self, val: Val) -> Translated<(Reg, Ty)> {
        let ty = *self
            .func
            .vals
            .get(val)
            .ok_or_else(|| format!("there is no value {val}"))?;
        ensure(self.defined[val.index()], || {
            format!("{val} is read before it is defined")
        })?;
        Ok((self.regs[val.index()], ty))
    }

    /// The register of a defined value that must have this type.
    fn same(&self, val: Val, ty: Ty) -> Translated<Reg> {
        let (reg, actual) = self.read(val)?;
        ensure(actual == ty, || format!("{val} is {actual}, not {ty}"))?;
        Ok(reg)
    }

    fn define(&mut self, val: Val, ty: Ty) -> Translated<Reg> {
        let actual = *self
            .func
            .vals
            .get(val)
            .ok_or_else(|| format!("there is no value {val}"))?;
        ensure(actual == ty, || format!("{val} is {actual}, not {ty}"))?;
        self.defined[val.index()] = true;
        Ok(self.regs[val.index()])
    }

    fn access(&self, buffer: sdc_ir::tile::Buffer, index: &Index, dtype: DType) -> Translated<Access> {
        let data = self
            .module
            .buffers
            .get(buffer)
            .ok_or_else(|| format!("there is no buffer {buffer}"))?;
        ensure(data.dtype == dtype, || {
            format!("buffer {buffer} holds {}, not {dtype}", data.dtype)
        })?;
        let offset = index
            .offset
            .map(|v| self.same(v, Ty::scalar(DType::I64)))
            .transpose()?;
        Ok(Access {
            buffer: buffer.index(),
            index: self.expr(&index.affine)?,
            offset,
        })
    }

    fn expr(&self, affine: &Affine) -> Translated<Expr> {
        let terms: Vec<(usize, i64)> = affine.terms().iter().map(|&(v, c)| (v.index(), c)).collect();
        ensure(terms.iter().all(|t| t.0 < self.func.vars.len()), || {
            format!("`{affine}` has a variable that does not exist")
        })?;
        Ok(Expr {
            constant: affine.offset(),
            terms,
        })
    }

    fn bound(&self, bound: &Bound) -> Translated<Vec<Expr>> {
        bound.exprs().iter().map(|e| self.expr(e)).collect()
    }
}

fn fold_step(op: sdc_ir::tile::FoldOp) -> sdc_ir::tile::Arith2 {
    use sdc_ir::tile::{Arith2, FoldOp};
    match op {
        FoldOp::Add => Arith2::Add,
        FoldOp::Max => Arith2::Max,
        FoldOp::Min => Arith2::Min,
    }
}
