//! Running sums, positions of extrema, the k largest: loops along one dimension that carry what they found.

use super::elementwise::{compute_dtype, constant, to_storage};
use super::nest::{self, Ref};
use super::{Lowering, TileError};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{ArgMax, Cumulative, ReduceKind, TopK};
use sdc_ir::schedule::Tasks;
use sdc_ir::tile::{Affine, Arith2, CompareOp, FuncBuilder, Ty, Val};

const INDEX: Ty = Ty::scalar(DType::I64);

fn others(rank: usize, axis: usize) -> Vec<usize> {
    (0..rank).filter(|&d| d != axis).collect()
}

/// An element in its computing type.
fn load(b: &mut FuncBuilder, x: &Ref, dtype: DType, lanes: u8, at: Affine) -> Val {
    let v = b.load(Ty::vector(dtype, lanes), x.buffer, at);
    to_storage(b, compute_dtype(dtype), v)
}

/// Lowers a running sum or product.
pub fn cumulative(cx: &mut Lowering<'_>, node: Node, op: &Cumulative, tasks: Tasks) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    let (x, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let kept = others(x.shape.len(), op.axis);
    let (size, x_step, out_step) = (x.shape[op.axis], x.strides[op.axis], out.strides[op.axis]);
    let lanes = if dtype == DType::F32 { cx.widths.lanes } else { 1 };
    let (kept_x, kept_out) = (x.permuted(&kept), out.permuted(&kept));
    let mut b = FuncBuilder::new();
    nest::emit(
        &mut b,
        &[&kept_out, &kept_x],
        lanes,
        tasks,
        &mut |b, lanes, access| {
            let ty = Ty::vector(compute_dtype(dtype), lanes);
            let neutral = if op.kind == ReduceKind::Sum { 0.0 } else { 1.0 };
            let neutral = constant(b, ty, neutral);
            b.for_carried(0, size, 1, &[neutral], |b, i, v| {
                let i = if op.reverse {
                    Affine::from(size - 1) + i * -1
                } else {
                    i
                };
                let element = load(b, &x, dtype, lanes, access[1].index.clone() + i.clone() * x_step);
                let total = if op.kind == ReduceKind::Sum {
                    b.add(v[0], element)
                } else {
                    b.mul(v[0], element)
                };
                let result = if op.exclusive { v[0] } else { total };
                let result = to_storage(b, dtype, result);
                b.store(out.buffer, access[0].index.clone() + i * out_step, result);
                vec![total]
            });
        },
    );
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The least (largest if `smallest`) value of a type: what any element beats or equals.
fn worst(b: &mut FuncBuilder, ty: Ty, smallest: bool) -> Val {
    if ty.dtype.is_float() {
        return constant(
            b,
            ty,
            if smallest {
                f64::INFINITY
            } else {
                f64::NEG_INFINITY
            },
        );
    }
    let bits = 8 * ty.dtype.size();
    let value = match (ty.dtype.is_signed_int(), smallest) {
        (true, false) => i64::MIN >> (64 - bits),
        (true, true) => i64::MAX >> (64 - bits),
        (false, false) => 0,
        (false, true) => -1,
    };
    b.int(ty, value)
}

/// A comparison as a mask for indices.
fn index_mask(b: &mut FuncBuilder, op: CompareOp, x: Val, y: Val) -> Val {
    let mask = b.compare(op, x, y);
    if b.ty(mask) == INDEX {
        mask
    } else {
        b.convert(DType::I64, mask)
    }
}

/// Lowers the position of an extremum.
pub fn arg_max(cx: &mut Lowering<'_>, node: Node, op: &ArgMax, tasks: Tasks) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    let (x, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let kept = others(x.shape.len(), op.axis);
    let (size, step) = (x.shape[op.axis], x.strides[op.axis]);
    let (kept_x, kept_out) = (x.permuted(&kept), out.permuted(&kept));
    let better = match (op.smallest, op.last) {
        (false, false) => CompareOp::Gt,
        (false, true) => CompareOp::Ge,
        (true, false) => CompareOp::Lt,
        (true, true) => CompareOp::Le,
    };
    let mut b = FuncBuilder::new();
    nest::emit(&mut b, &[&kept_out, &kept_x], 1, tasks, &mut |b, _, access| {
        let ty = Ty::scalar(compute_dtype(dtype));
        let (none, first) = (worst(b, ty, op.smallest), b.int(INDEX, 0));
        let found = b.for_carried(0, size, 1, &[none, first], |b, i, v| {
            let element = load(b, &x, dtype, 1, access[1].index.clone() + i.clone() * step);
            let here = b.affine(i);
            let take = b.compare(better, element, v[0]);
            let value = b.select(take, element, v[0]);
            let take = index_mask(b, better, element, v[0]);
            let index = b.select(take, here, v[1]);
            vec![value, index]
        });
        b.store(out.buffer, access[0].index.clone(), found[1]);
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Lowers the k largest elements: each pass over the dimension finds the largest that comes after the one before it, in
/// the order by value and then index. No memory is needed but the result's.
pub fn top_k(cx: &mut Lowering<'_>, node: Node, op: &TopK, tasks: Tasks) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    let (x, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let kept = others(x.shape.len(), op.axis);
    let (size, x_step, out_step) = (x.shape[op.axis], x.strides[op.axis], out.strides[op.axis]);
    let (kept_x, kept_out) = (x.permuted(&kept), out.permuted(&kept));
    let (ahead, behind) = if op.smallest {
        (CompareOp::Lt, CompareOp::Gt)
    } else {
        (CompareOp::Gt, CompareOp::Lt)
    };
    let mut b = FuncBuilder::new();
    nest::emit(&mut b, &[&kept_out, &kept_x], 1, tasks, &mut |b, _, access| {
        let ty = Ty::scalar(key_dtype(compute_dtype(dtype)));
        let (start, none) = (worst(b, ty, !op.smallest), worst(b, ty, op.smallest));
        let (nowhere, end) = (b.int(INDEX, -1), b.int(INDEX, size as i64));
        let zero = b.int(INDEX, 0);
        b.for_carried(0, op.k, 1, &[start, nowhere], |b, p, before| {
            let found = b.for_carried(0, size, 1, &[none, nowhere], |b, i, v| {
                let element = load(b, &x, dtype, 1, access[1].index.clone() + i.clone() * x_step);
                let element = key(b, element);
                let here = b.affine(i);
                let after = index_mask(b, behind, element, before[0]);
                let equal = index_mask(b, CompareOp::Eq, element, before[0]);
                let later = b.compare(CompareOp::Gt, here, before[1]);
                let tie = b.arith2(Arith2::And, equal, later);
                let open = b.arith2(Arith2::Or, after, tie);
                let better = index_mask(b, ahead, element, v[0]);
                let first = b.compare(CompareOp::Lt, v[1], zero);
                let best = b.arith2(Arith2::Or, better, first);
                let take = b.arith2(Arith2::And, open, best);
                let index = b.select(take, here, v[1]);
                // The same decision as a mask of the elements' width.
                let moved = b.convert(mask_of(ty), take);
                let value = b.select(moved, element, v[0]);
                vec![value, index]
            });
            let position = b.max(found[1], zero);
            b.store(out.buffer, access[0].index.clone() + p * out_step, position);
            // With nothing left, nothing more is found.
            let missing = b.compare(CompareOp::Lt, found[1], zero);
            let next = b.select(missing, end, found[1]);
            vec![found[0], next]
        });
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The type of [`key`]s.
fn key_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F32 => DType::I32,
        DType::F64 => DType::I64,
        integer => integer,
    }
}

/// An integer in the order of the elements, in which NaN comes after everything else and -0 is 0.
fn key(b: &mut FuncBuilder, element: Val) -> Val {
    let (ty, dtype) = (b.ty(element), key_dtype(b.ty(element).dtype));
    if !ty.dtype.is_float() {
        return element;
    }
    let int = Ty::scalar(dtype);
    let zero = constant(b, ty, 0.0);
    let positive = b.add(element, zero);
    let bits = b.bitcast(dtype, positive);
    // Of negative numbers those of larger bits are smaller.
    let sign_bit = b.int(int, 8 * dtype.size() as i64 - 1);
    let sign = b.arith2(Arith2::Shr, bits, sign_bit);
    let last = worst(b, int, true);
    let flips = b.arith2(Arith2::And, sign, last);
    let ordered = b.arith2(Arith2::Xor, bits, flips);
    let is_nan = b.compare(CompareOp::Ne, element, element);
    b.select(is_nan, last, ordered)
}

/// Element type of a mask for values of this type.
fn mask_of(ty: Ty) -> DType {
    sdc_ir::tile::build::mask_type(ty).dtype
}
