//! Data movement: copies between layouts, Concat, Slice, Gather, Expand.

use super::nest::{self, Ref};
use super::{Lowering, TileError};
use sdc_ir::DType;
use sdc_ir::graph::op::Slice;
use sdc_ir::graph::{Node, Origin};
use sdc_ir::schedule::{Run, Tasks};
use sdc_ir::tile::{Arith2, CompareOp, FuncBuilder, Ty};

/// Lanes for moving elements of this type; other types than `f32` move one by one.
fn lanes(cx: &Lowering<'_>, dtype: DType) -> u8 {
    if dtype == DType::F32 { cx.widths.lanes } else { 1 }
}

/// Emits a strided copy; `out` and `source` have one shape.
fn emit_copy(b: &mut FuncBuilder, source: &Ref, out: &Ref, dtype: DType, lanes: u8, tasks: Tasks) {
    nest::emit(b, &[out, source], lanes, tasks, &mut |b, lanes, access| {
        let ty = Ty::vector(dtype, lanes);
        let x = if access[1].splat && lanes > 1 {
            b.load_splat(ty, source.buffer, access[1].index.clone())
        } else {
            b.load(ty, source.buffer, access[1].index.clone())
        };
        b.store(out.buffer, access[0].index.clone(), x);
    });
}

/// A function that copies `source` (broadcast beforehand) to `out`.
pub fn copy_ref(
    cx: &mut Lowering<'_>,
    origins: Vec<Origin>,
    source: &Ref,
    out: &Ref,
    dtype: DType,
    tasks: Tasks,
) {
    let mut b = FuncBuilder::new();
    emit_copy(&mut b, source, out, dtype, lanes(cx, dtype), tasks);
    cx.push_func(b, origins);
}

/// Relayout and Expand, and Transpose and Reshape of constants.
pub fn copy(cx: &mut Lowering<'_>, node: Node, tasks: Tasks) -> Result<(), TileError> {
    use sdc_ir::graph::Op;
    let data = &cx.graph.nodes()[node];
    let (source, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let source = match &data.op {
        Op::Transpose(t) => source.permuted(&t.perm),
        // The layout pass made its operand row-major or the result's layout matching.
        Op::Reshape(_) => Ref {
            strides: out.strides.clone(),
            shape: out.shape.clone(),
            ..source
        },
        _ => source.broadcast(&out.shape),
    };
    copy_ref(
        cx,
        data.origins.clone(),
        &source,
        &out,
        cx.dtype(data.inputs[0]),
        tasks,
    );
    Ok(())
}

/// Copies the operands that were not already computed in their place.
pub fn concat(cx: &mut Lowering<'_>, node: Node, axis: usize, run: &Run) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let out = cx.place(data.outputs[0]);
    let dtype = cx.dtype(data.outputs[0]);
    let mut at = 0;
    let mut parts = run.parts.iter();
    for &v in &data.inputs {
        let size = cx.graph.ty(v).sizes()[axis];
        let part = out.narrow(axis, at, at + size);
        at += size;
        if size == 0 || cx.scene.is_part_of(v, data.outputs[0]) {
            continue;
        }
        let source = cx.place(v);
        let tasks = parts.next().map_or(Tasks::One, |p| p.tasks);
        copy_ref(cx, data.origins.clone(), &source, &part, dtype, tasks);
    }
    Ok(())
}

/// A strided copy.
pub fn slice(cx: &mut Lowering<'_>, node: Node, op: &Slice, tasks: Tasks) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let (source, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let part = source.slice(&op.starts, &op.sizes, &op.steps);
    copy_ref(
        cx,
        data.origins.clone(),
        &part,
        &out,
        cx.dtype(data.inputs[0]),
        tasks,
    );
    Ok(())
}

/// Copies the slices that run-time indices name. Negative indices count from the end; what is still out of range is
/// clamped, so that no input can make the code read outside the buffer.
pub fn gather(cx: &mut Lowering<'_>, node: Node, axis: usize, tasks: Tasks) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let (x, indices) = (cx.place(data.inputs[0]), cx.place(data.inputs[1]));
    let out = cx.place(data.outputs[0]);
    let (dtype, index_ty) = (cx.dtype(data.inputs[0]), Ty::scalar(cx.dtype(data.inputs[1])));
    let (extra, size, stride) = (indices.shape.len(), x.shape[axis], x.strides[axis]);
    // Seen with the result's dimensions: x does not move along the indices, the indices only move along their own.
    let spread = |outer: &[i64], middle: &[i64], inner: &[i64]| [outer, middle, inner].concat();
    let (outer, inner) = (&x.strides[..axis], &x.strides[axis + 1..]);
    let x_spread = Ref {
        strides: spread(outer, &vec![0; extra], inner),
        shape: out.shape.clone(),
        ..x.clone()
    };
    let zeros = |n: usize| vec![0; n];
    let index_spread = Ref {
        strides: spread(&zeros(outer.len()), &indices.strides, &zeros(inner.len())),
        shape: out.shape.clone(),
        ..indices.clone()
    };
    // Lanes may only run along dimensions of x, where the index stands still.
    let along_x = out.shape[axis + extra..].iter().any(|&n| n > 1);
    let lanes = if along_x { lanes(cx, dtype) } else { 1 };
    let mut b = FuncBuilder::new();
    nest::emit(
        &mut b,
        &[&out, &x_spread, &index_spread],
        lanes,
        tasks,
        &mut |b, lanes, access| {
            let index = b.load(index_ty, index_spread.buffer, access[2].index.clone());
            let index = if index_ty.dtype == DType::I64 {
                index
            } else {
                b.convert(DType::I64, index)
            };
            let int = Ty::scalar(DType::I64);
            let (zero, length, last) = (
                b.int(int, 0),
                b.int(int, size as i64),
                b.int(int, size as i64 - 1),
            );
            let wrapped = b.add(index, length);
            let negative = b.compare(CompareOp::Lt, index, zero);
            let index = b.select(negative, wrapped, index);
            let index = b.max(index, zero);
            let index = b.min(index, last);
            let stride = b.int(int, stride);
            let offset = b.arith2(Arith2::Mul, index, stride);
            let v = b.load_at(
                Ty::vector(dtype, lanes),
                x_spread.buffer,
                access[1].index.clone(),
                offset,
            );
            b.store(out.buffer, access[0].index.clone(), v);
        },
    );
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Writes one value everywhere.
pub fn emit_fill(b: &mut FuncBuilder, out: &Ref, dtype: DType, lanes: u8, value: f64) {
    nest::emit(b, &[out], lanes, Tasks::One, &mut |b, lanes, access| {
        let x = super::elementwise::constant(b, Ty::vector(dtype, lanes), value);
        b.store(out.buffer, access[0].index.clone(), x);
    });
}

/// A copy as part of a larger function.
pub fn emit_part(b: &mut FuncBuilder, source: &Ref, out: &Ref, dtype: DType, lanes: u8) {
    emit_copy(b, source, out, dtype, lanes, Tasks::One);
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::entity::EntityId;
    use sdc_ir::tile::{Affine, Buffer};

    fn constant_index(r: &Ref, coordinates: &[i64]) -> i64 {
        let at: Vec<Affine> = coordinates.iter().map(|&c| c.into()).collect();
        r.at(&at).as_constant().unwrap()
    }

    #[test]
    fn a_reversed_slice_starts_at_the_end() {
        let r = Ref {
            buffer: Buffer::new(0),
            offset: 0,
            strides: vec![4, 1],
            shape: vec![3, 4],
        };
        let s = r.slice(&[0, 3], &[3, 4], &[1, -1]);
        assert_eq!(constant_index(&s, &[0, 0]), 3);
        assert_eq!(constant_index(&s, &[2, 3]), 8);
    }
}
