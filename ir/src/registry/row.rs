//! Loops over a row of elements without gaps: vectors, then the rest one by one.

use crate::DType;
use crate::tile::{Affine, Arith2, FoldOp, FuncBuilder, Ty, Val, View};

const LANES: u8 = 4;

/// Rows in a buffer, `stride` elements apart.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    view: View,
    stride: i64,
}

impl Rows {
    pub(super) fn new(view: &View, stride: i64) -> Self {
        let view = view.clone();
        Self { view, stride }
    }

    fn at(&self, row: &Affine, i: &Affine) -> Affine {
        self.view.offset.clone() + row.clone() * self.stride + i.clone()
    }

    /// `lanes` elements of a row from the `i`th on.
    pub(super) fn load(&self, b: &mut FuncBuilder, lanes: u8, row: &Affine, i: &Affine) -> Val {
        b.load(Ty::vector(DType::F32, lanes), self.view.buffer, self.at(row, i))
    }

    pub(super) fn store(&self, b: &mut FuncBuilder, row: &Affine, i: &Affine, x: Val) {
        b.store(self.view.buffer, self.at(row, i), x);
    }
}

/// `body(first element, lanes)` for all elements of a row.
pub(super) fn each(b: &mut FuncBuilder, size: i64, mut body: impl FnMut(&mut FuncBuilder, Affine, u8)) {
    let main = size - size % i64::from(LANES);
    b.for_range(0, main, LANES.into(), |b, i| body(b, i, LANES));
    b.for_range(main, size, 1, |b, i| body(b, i, 1));
}

/// The sum or the largest of `element(first element, lanes)` over a row, as a scalar.
pub(super) fn fold(
    b: &mut FuncBuilder,
    size: i64,
    op: FoldOp,
    mut element: impl FnMut(&mut FuncBuilder, Affine, u8) -> Val,
) -> Val {
    let (arith, neutral) = match op {
        FoldOp::Max => (Arith2::Max, f32::NEG_INFINITY),
        FoldOp::Min => (Arith2::Min, f32::INFINITY),
        FoldOp::Add => (Arith2::Add, 0.0),
    };
    let main = size - size % i64::from(LANES);
    let start = b.f32(LANES, neutral);
    let lanes = b.for_carried(0, main, LANES.into(), &[start], |b, i, sum| {
        let x = element(b, i, LANES);
        vec![b.arith2(arith, sum[0], x)]
    })[0];
    let folded = b.fold(op, lanes);
    b.for_carried(main, size, 1, &[folded], |b, i, sum| {
        let x = element(b, i, 1);
        vec![b.arith2(arith, sum[0], x)]
    })[0]
}

/// A scalar in `lanes` lanes.
pub(super) fn wide(b: &mut FuncBuilder, lanes: u8, x: Val) -> Val {
    if lanes == 1 { x } else { b.splat(lanes, x) }
}
