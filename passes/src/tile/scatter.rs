//! Scatter: a copy, then one changed row after the other.

use super::nest::Ref;
use super::{Lowering, TileError, movement};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::ScatterMode;
use sdc_ir::tile::{Affine, Arith2, CompareOp, FuncBuilder, Ty, Val};

/// Lowers a scatter. Indices are clamped, so that no input can make the code write outside the buffer.
pub fn lower(cx: &mut Lowering<'_>, node: Node, mode: ScatterMode) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.outputs[0]);
    if mode != ScatterMode::Set && matches!(dtype, DType::F16 | DType::BF16) {
        return Err(cx.unsupported(node, format!("arithmetic on {dtype} elements is not supported")));
    }
    let (source, indices) = (cx.place(data.inputs[0]), cx.place(data.inputs[1]));
    let (updates, out) = (cx.place(data.inputs[2]), cx.place(data.outputs[0]));
    let (rows, width, count) = (out.shape[0], out.shape[1], indices.shape[0]);
    let mut b = FuncBuilder::new();
    movement::emit_part(&mut b, &source, &out, dtype, 1);
    b.for_range(0, count, 1, |b, i| {
        let index = b.load(
            Ty::scalar(DType::I64),
            indices.buffer,
            indices.at(std::slice::from_ref(&i)),
        );
        let offset = row_offset(b, index, rows, out.strides[0]);
        b.for_range(0, width, 1, |b, j| {
            let ty = Ty::scalar(dtype);
            let at = column(&out, &j);
            let update = b.load(ty, updates.buffer, updates.at(&[i, j]));
            let value = if mode == ScatterMode::Set {
                update
            } else {
                let present = b.load_at(ty, out.buffer, at.clone(), offset);
                combine(b, mode, present, update)
            };
            b.store_at(out.buffer, at, offset, value);
        });
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Index of an element of row 0.
fn column(place: &Ref, j: &Affine) -> Affine {
    place.at(&[Affine::constant(0), j.clone()])
}

/// Elements from row 0 to the row an index names: negative ones count from the end, the rest is clamped.
fn row_offset(b: &mut FuncBuilder, index: Val, rows: usize, stride: i64) -> Val {
    let int = Ty::scalar(DType::I64);
    let (zero, length) = (b.int(int, 0), b.int(int, rows as i64));
    let (last, stride) = (b.int(int, rows as i64 - 1), b.int(int, stride));
    let wrapped = b.add(index, length);
    let negative = b.compare(CompareOp::Lt, index, zero);
    let index = b.select(negative, wrapped, index);
    let index = b.max(index, zero);
    let index = b.min(index, last);
    b.arith2(Arith2::Mul, index, stride)
}

fn combine(b: &mut FuncBuilder, mode: ScatterMode, x: Val, update: Val) -> Val {
    let extremum = |b: &mut FuncBuilder, op| {
        let chosen = b.arith2(op, x, update);
        if !b.ty(x).dtype.is_float() {
            return chosen;
        }
        // The second operand's NaN comes through by itself.
        let is_nan = b.compare(CompareOp::Ne, x, x);
        b.select(is_nan, x, chosen)
    };
    match mode {
        ScatterMode::Set => update,
        ScatterMode::Add => b.add(x, update),
        ScatterMode::Mul => b.mul(x, update),
        ScatterMode::Max => extremum(b, Arith2::Max),
        ScatterMode::Min => extremum(b, Arith2::Min),
    }
}
