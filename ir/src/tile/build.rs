//! Building tile functions.

use super::{
    Affine, Arith1, Arith2, Bound, Buffer, Carried, CompareOp, FoldOp, For, Func, Index, Inst, KernelCall,
    Stmt, Ty, Val, Var,
};
use crate::DType;
use crate::graph::Origin;

/// Builds a [`Func`] statement by statement. Loops are closures: statements emitted inside go to the loop's body.
///
/// ```
/// use sdc_ir::tile::{Affine, Buffer, FuncBuilder, Ty};
/// use sdc_ir::{DType, entity::EntityId};
/// let (x, y) = (Buffer::new(0), Buffer::new(1));
/// let mut b = FuncBuilder::new();
/// b.for_range(0, 16, 4, |b, i| {
///     let v = b.load(Ty::vector(DType::F32, 4), x, i.clone());
///     b.store(y, i, v);
/// });
/// let func = b.finish("copy", Vec::new());
/// assert_eq!(func.body.len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct FuncBuilder {
    func: Func,
    /// Statement lists of the open blocks, innermost last.
    blocks: Vec<Vec<Stmt>>,
}

impl FuncBuilder {
    /// An empty function.
    pub fn new() -> Self {
        Self {
            func: Func::default(),
            blocks: vec![Vec::new()],
        }
    }

    /// Continues with the ids of an existing function: its values and variables stay, its body is replaced.
    pub fn extending(func: &Func) -> Self {
        Self {
            func: Func {
                body: Vec::new(),
                ..func.clone()
            },
            blocks: vec![Vec::new()],
        }
    }

    /// The finished function.
    pub fn finish(mut self, name: impl Into<String>, origins: Vec<Origin>) -> Func {
        self.func.body = self.blocks.pop().expect("the outermost block is open until now");
        self.func.name = name.into();
        self.func.origins = origins;
        self.func
    }

    /// Type of a value.
    pub fn ty(&self, val: Val) -> Ty {
        self.func.vals[val]
    }

    /// Appends any statement.
    pub fn push(&mut self, stmt: Stmt) {
        self.blocks
            .last_mut()
            .expect("the outermost block is open until finish")
            .push(stmt);
    }

    /// A fresh loop variable, for statements built by hand.
    pub fn fresh_var(&mut self) -> Var {
        self.func.vars.push(())
    }

    /// A fresh value, for statements built by hand.
    pub fn fresh_val(&mut self, ty: Ty) -> Val {
        self.func.vals.push(ty)
    }

    /// Defines a value.
    pub fn inst(&mut self, ty: Ty, inst: Inst) -> Val {
        let val = self.fresh_val(ty);
        self.push(Stmt::Let(val, inst));
        val
    }

    /// Runs `body` with statements going to a new block, and returns that block.
    pub fn block(&mut self, body: impl FnOnce(&mut Self)) -> Vec<Stmt> {
        self.blocks.push(Vec::new());
        body(self);
        self.blocks.pop().expect("pushed above")
    }

    /// `for var in lo..hi step`.
    pub fn for_range(
        &mut self,
        lo: impl Into<Bound>,
        hi: impl Into<Bound>,
        step: i64,
        body: impl FnOnce(&mut Self, Affine),
    ) {
        self.for_carried(lo, hi, step, &[], |b, var, _| {
            body(b, var);
            Vec::new()
        });
    }

    /// As [`FuncBuilder::for_range`], iterations independent. Only as the single outermost loop of a function.
    pub fn parallel_for(&mut self, count: usize, body: impl FnOnce(&mut Self, Affine)) {
        self.for_range(0, count, 1, body);
        if let Some(Stmt::For(f)) = self.blocks.last_mut().and_then(|b| b.last_mut()) {
            f.parallel = true;
        }
    }

    /// A loop that carries values: `body` gets the loop variable and the carried values and returns their next values.
    /// The result holds the values after the loop.
    pub fn for_carried(
        &mut self,
        lo: impl Into<Bound>,
        hi: impl Into<Bound>,
        step: i64,
        init: &[Val],
        body: impl FnOnce(&mut Self, Affine, &[Val]) -> Vec<Val>,
    ) -> Vec<Val> {
        let (lo, hi) = (lo.into(), hi.into());
        let var = self.fresh_var();
        let args: Vec<Val> = init.iter().map(|&v| self.fresh_val(self.ty(v))).collect();
        let mut next = Vec::new();
        let stmts = self.block(|b| next = body(b, var.into(), &args));
        assert_eq!(
            next.len(),
            init.len(),
            "a loop body returns one value per carried value"
        );
        let results: Vec<Val> = init.iter().map(|&v| self.fresh_val(self.ty(v))).collect();
        let carried = (0..init.len())
            .map(|i| Carried {
                result: results[i],
                arg: args[i],
                init: init[i],
                next: next[i],
            })
            .collect();
        self.push(Stmt::For(For {
            var,
            lo,
            hi,
            step,
            parallel: false,
            carried,
            body: stmts,
        }));
        results
    }

    /// Calls a micro-kernel.
    pub fn kernel(&mut self, call: KernelCall) {
        self.push(Stmt::Kernel(call));
    }

    /// Loads `ty.lanes` consecutive elements.
    pub fn load(&mut self, ty: Ty, buffer: Buffer, index: impl Into<Affine>) -> Val {
        self.inst(
            ty,
            Inst::Load {
                buffer,
                index: index.into().into(),
            },
        )
    }
    /// Loads one element into every lane.
    pub fn load_splat(&mut self, ty: Ty, buffer: Buffer, index: impl Into<Affine>) -> Val {
        self.inst(
            ty,
            Inst::LoadSplat {
                buffer,
                index: index.into().into(),
            },
        )
    }
    /// Loads at `index + offset`, `offset` an `i64` scalar.
    pub fn load_at(&mut self, ty: Ty, buffer: Buffer, index: impl Into<Affine>, offset: Val) -> Val {
        self.inst(
            ty,
            Inst::Load {
                buffer,
                index: Index {
                    affine: index.into(),
                    offset: Some(offset),
                },
            },
        )
    }
    /// Stores all lanes of a value.
    pub fn store(&mut self, buffer: Buffer, index: impl Into<Affine>, value: Val) {
        self.push(Stmt::Store {
            buffer,
            index: index.into().into(),
            value,
        });
    }
    /// Stores at `index + offset`, `offset` an `i64` scalar.
    pub fn store_at(&mut self, buffer: Buffer, index: impl Into<Affine>, offset: Val, value: Val) {
        self.push(Stmt::Store {
            buffer,
            index: Index {
                affine: index.into(),
                offset: Some(offset),
            },
            value,
        });
    }
    /// An `f32` constant in every lane.
    pub fn f32(&mut self, lanes: u8, x: f32) -> Val {
        self.inst(Ty::vector(DType::F32, lanes), Inst::Const(x.to_bits().into()))
    }
    /// An integer constant in every lane, truncated to the type.
    pub fn int(&mut self, ty: Ty, x: i64) -> Val {
        let mask = u64::MAX >> (64 - 8 * ty.dtype.size() as u32);
        self.inst(ty, Inst::Const(x as u64 & mask))
    }
    /// The value of an affine expression as `i64`.
    pub fn affine(&mut self, a: impl Into<Affine>) -> Val {
        self.inst(Ty::scalar(DType::I64), Inst::AffineValue(a.into()))
    }
    /// A scalar repeated in `lanes` lanes.
    pub fn splat(&mut self, lanes: u8, x: Val) -> Val {
        let dtype = self.ty(x).dtype;
        self.inst(Ty::vector(dtype, lanes), Inst::Splat(x))
    }
    /// Arithmetic of one operand.
    pub fn arith1(&mut self, op: Arith1, x: Val) -> Val {
        self.inst(self.ty(x), Inst::Arith1(op, x))
    }
    /// Arithmetic of two operands.
    pub fn arith2(&mut self, op: Arith2, a: Val, b: Val) -> Val {
        self.inst(self.ty(a), Inst::Arith2(op, a, b))
    }
    /// `a + b`
    pub fn add(&mut self, a: Val, b: Val) -> Val {
        self.arith2(Arith2::Add, a, b)
    }
    /// `a - b`
    pub fn sub(&mut self, a: Val, b: Val) -> Val {
        self.arith2(Arith2::Sub, a, b)
    }
    /// `a * b`
    pub fn mul(&mut self, a: Val, b: Val) -> Val {
        self.arith2(Arith2::Mul, a, b)
    }
    /// `a / b`
    pub fn div(&mut self, a: Val, b: Val) -> Val {
        self.arith2(Arith2::Div, a, b)
    }
    /// The larger; see [`Arith2::Max`] for NaN.
    pub fn max(&mut self, a: Val, b: Val) -> Val {
        self.arith2(Arith2::Max, a, b)
    }
    /// The smaller; see [`Arith2::Min`] for NaN.
    pub fn min(&mut self, a: Val, b: Val) -> Val {
        self.arith2(Arith2::Min, a, b)
    }
    /// `a * b + c`
    pub fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        self.inst(self.ty(a), Inst::Fma(a, b, c))
    }
    /// A mask; its type is the integer type of the operands' width.
    pub fn compare(&mut self, op: CompareOp, a: Val, b: Val) -> Val {
        let ty = mask_type(self.ty(a));
        self.inst(ty, Inst::Compare(op, a, b))
    }
    /// Per lane `mask ? b : c`.
    pub fn select(&mut self, mask: Val, b: Val, c: Val) -> Val {
        self.inst(self.ty(b), Inst::Select(mask, b, c))
    }
    /// Conversion to another element type.
    pub fn convert(&mut self, dtype: DType, x: Val) -> Val {
        let lanes = self.ty(x).lanes;
        self.inst(Ty::vector(dtype, lanes), Inst::Convert(x))
    }
    /// The same bits as another element type.
    pub fn bitcast(&mut self, dtype: DType, x: Val) -> Val {
        let lanes = self.ty(x).lanes;
        self.inst(Ty::vector(dtype, lanes), Inst::Bitcast(x))
    }
    /// A horizontal reduction.
    pub fn fold(&mut self, op: FoldOp, x: Val) -> Val {
        let dtype = self.ty(x).dtype;
        self.inst(Ty::scalar(dtype), Inst::Fold(op, x))
    }
}

/// The type of a comparison's result: the signed integer of the same width, same lanes.
pub fn mask_type(ty: Ty) -> Ty {
    let dtype = match ty.dtype.size() {
        8 => DType::I64,
        4 => DType::I32,
        2 => DType::I16,
        _ => DType::I8,
    };
    Ty::vector(dtype, ty.lanes)
}
