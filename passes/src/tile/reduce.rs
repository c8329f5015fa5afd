//! Reductions over any set of dimensions.

use super::nest::{self, Ref};
use super::pool_calls::{Pooling, What, Windows};
use super::storage::Scene;
use super::{Lowering, TileError, elementwise};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{Reduce, ReduceKind};
use sdc_ir::schedule::{Algorithm, Tasks};
use sdc_ir::tile::{Affine, Arith2, CompareOp, FoldOp, FuncBuilder, Ty, Val};

/// Lowers a reduction: a call of the pooling kernel where it fits, else a nest over the kept dimensions, with a loop per reduced
/// dimension inside.
///
/// Sums are taken dimension by dimension (each inner loop starts from zero), which keeps the error of long sums near
/// that of a tree.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Reduce,
    algorithm: Algorithm,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    if matches!(dtype, DType::F16 | DType::BF16 | DType::Bool) {
        return Err(cx.unsupported(node, format!("{dtype} elements are not supported")));
    }
    let x = cx.place(data.inputs[0]);
    let Reduced {
        x: kept_x,
        out: kept_out,
        axes,
    } = Reduced::of(&cx.scene, node, op);
    let out = cx.place(data.outputs[0]);
    if algorithm != Algorithm::Loops {
        let pooled = Reduced::of(&cx.scene, node, op)
            .pooled(op.kind)
            .filter(|_| dtype == DType::F32)
            .ok_or_else(|| cx.unsupported(node, "it is no pooling of channels side by side"))?;
        let mut b = FuncBuilder::new();
        pooled.emit(&mut b, tasks);
        cx.push_func(b, data.origins.clone());
        return Ok(());
    }
    let count: usize = axes.iter().map(|&(size, _)| size).product();
    let reduction = Reduction {
        kind: op.kind,
        x: &x,
        axes: &axes,
    };
    let across = axes.last().is_some_and(|&(_, stride)| stride == 1) && dtype == DType::F32;
    let lanes = if dtype == DType::F32 && !across {
        cx.widths.lanes
    } else {
        1
    };
    let fold_lanes = if across { cx.widths.lanes } else { 1 };
    let mut b = FuncBuilder::new();
    nest::emit(
        &mut b,
        &[&kept_out, &kept_x],
        lanes,
        tasks,
        &mut |b, lanes, access| {
            let ty = Ty::vector(dtype, lanes);
            let value = reduction.emit(b, ty, &access[1].index, 0, fold_lanes);
            let value = if op.kind == ReduceKind::Mean {
                let n = elementwise::constant(b, ty, count as f64);
                b.div(value, n)
            } else {
                value
            };
            b.store(out.buffer, access[0].index.clone(), value);
        },
    );
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The operands of a reduction in the kept dimensions only.
pub struct Reduced {
    x: Ref,
    out: Ref,
    /// Size and stride of each reduced dimension, outermost first.
    axes: Vec<(usize, i64)>,
}

/// A reduction as pooling with one window.
pub struct Pooled {
    window: [(usize, i64); 2],
    x: Ref,
    y: Ref,
    kind: ReduceKind,
}

impl Reduced {
    /// Of a node.
    pub fn of(scene: &Scene<'_>, node: Node, op: &Reduce) -> Self {
        let data = &scene.graph.nodes()[node];
        let (x, out) = (scene.place(data.inputs[0]), scene.place(data.outputs[0]));
        let kept: Vec<usize> = (0..x.shape.len()).filter(|d| !op.axes.contains(d)).collect();
        let mut axes: Vec<(usize, i64)> = op.axes.iter().map(|&d| (x.shape[d], x.strides[d])).collect();
        axes.sort_by_key(|&(_, stride)| std::cmp::Reverse(stride.abs()));
        Self {
            x: x.permuted(&kept),
            out: if op.keepdims { out.permuted(&kept) } else { out },
            axes,
        }
    }

    /// The mean or largest element over one or two dimensions of images of channels side by side, as pooling with one window.
    pub fn pooled(&self, kind: ReduceKind) -> Option<Pooled> {
        let (x, y) = (&self.x, &self.out);
        if !matches!(kind, ReduceKind::Mean | ReduceKind::Max) {
            return None;
        }
        let side_by_side = |&d: &usize| x.strides[d] == 1 && y.strides[d] == 1 && x.shape[d] > 1;
        let channels = (0..x.shape.len()).find(side_by_side)?;
        let images: Vec<usize> = (0..x.shape.len())
            .filter(|&d| d != channels && x.shape[d] > 1)
            .collect();
        let window = match *self.axes {
            [rows] => [rows, (1, 0)],
            [rows, columns] => [rows, columns],
            _ => return None,
        };
        let spread = |r: &Ref, inner: [(usize, i64); 2]| {
            let outer = match *images {
                [] => (1, 0),
                [image] => (r.shape[image], r.strides[image]),
                _ => return None,
            };
            let dims = [outer, (r.shape[channels], 1), inner[0], inner[1]];
            Some(Ref {
                buffer: r.buffer,
                offset: r.offset,
                strides: dims.map(|d| d.1).to_vec(),
                shape: dims.map(|d| d.0).to_vec(),
            })
        };
        Some(Pooled {
            window,
            x: spread(x, window)?,
            y: spread(y, [(1, 0); 2])?,
            kind,
        })
    }
}

impl Pooled {
    /// The cut into tasks.
    pub fn shape(&self) -> Pooling {
        Pooling {
            images: self.x.shape[0],
            rows: 1,
            columns: 1,
            channels: self.x.shape[1],
            taps: self.window[0].0 * self.window[1].0,
        }
    }

    fn emit(&self, b: &mut FuncBuilder, tasks: Tasks) {
        let windows = Windows {
            kernel: &self.window.map(|d| d.0),
            strides: &[1; 2],
            dilations: &[1; 2],
            pads: &[0; 2],
            what: match self.kind {
                ReduceKind::Mean => What::Mean { counted: &[0; 4] },
                _ => What::Max,
            },
        };
        windows.emit(b, DType::F32, &self.x, &self.y, &(0..1), tasks);
    }
}

/// Loops over reduced dimensions.
pub struct Reduction<'a> {
    /// What is computed (`Mean` gives the sum).
    pub kind: ReduceKind,
    /// The tensor.
    pub x: &'a Ref,
    /// Size and stride of each reduced dimension, outermost first.
    pub axes: &'a [(usize, i64)],
}

impl Reduction<'_> {
    /// The reduction from dimension `depth` on, `ty.lanes` results side by side, starting at element `at`. The
    /// innermost dimension is read `fold_lanes` elements at a time (1 unless it is contiguous and `ty` is scalar).
    pub fn emit(&self, b: &mut FuncBuilder, ty: Ty, at: &Affine, depth: usize, fold_lanes: u8) -> Val {
        self.emit_mapped(b, ty, at, depth, fold_lanes, &mut |_, x| x)
    }

    /// As [`Reduction::emit`], each element mapped first.
    pub fn emit_mapped(
        &self,
        b: &mut FuncBuilder,
        ty: Ty,
        at: &Affine,
        depth: usize,
        fold_lanes: u8,
        map: &mut dyn FnMut(&mut FuncBuilder, Val) -> Val,
    ) -> Val {
        let Some(&(size, stride)) = self.axes.get(depth) else {
            let x = b.load(ty, self.x.buffer, at.clone());
            return map(b, x);
        };
        if depth + 1 == self.axes.len() && fold_lanes > 1 {
            return self.emit_folded(b, ty, at, size, fold_lanes, map);
        }
        let init = self.init(b, ty);
        b.for_carried(0, size, 1, &[init], |b, i, v| {
            let x = self.emit_mapped(b, ty, &(at.clone() + i * stride), depth + 1, fold_lanes, map);
            vec![self.combine(b, v[0], x)]
        })[0]
    }

    fn emit_folded(
        &self,
        b: &mut FuncBuilder,
        ty: Ty,
        at: &Affine,
        size: usize,
        lanes: u8,
        map: &mut dyn FnMut(&mut FuncBuilder, Val) -> Val,
    ) -> Val {
        let wide = Ty::vector(ty.dtype, lanes);
        let main = size - size % usize::from(lanes);
        let mut total = self.init(b, ty);
        if main > 0 {
            let init = self.init(b, wide);
            let v = b.for_carried(0, main, lanes.into(), &[init], |b, i, v| {
                let x = b.load(wide, self.x.buffer, at.clone() + i);
                let x = map(b, x);
                vec![self.combine(b, v[0], x)]
            })[0];
            total = self.fold(b, v);
        }
        if main == size {
            return total;
        }
        b.for_carried(main, size, 1, &[total], |b, i, v| {
            let x = b.load(ty, self.x.buffer, at.clone() + i);
            let x = map(b, x);
            vec![self.combine(b, v[0], x)]
        })[0]
    }

    fn fold(&self, b: &mut FuncBuilder, v: Val) -> Val {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => b.fold(FoldOp::Add, v),
            ReduceKind::Max | ReduceKind::Min | ReduceKind::Prod => {
                let ty = b.ty(v);
                let lane =
                    |b: &mut FuncBuilder, i| b.inst(Ty::scalar(ty.dtype), sdc_ir::tile::Inst::Lane(v, i));
                let first = lane(b, 0);
                (1..ty.lanes).fold(first, |acc, i| {
                    let x = lane(b, i);
                    self.combine(b, acc, x)
                })
            }
        }
    }

    fn init(&self, b: &mut FuncBuilder, ty: Ty) -> Val {
        let float = ty.dtype.is_float();
        let bits = 8 * ty.dtype.size();
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => elementwise::constant(b, ty, 0.0),
            ReduceKind::Prod => elementwise::constant(b, ty, 1.0),
            ReduceKind::Max if float => elementwise::constant(b, ty, f64::NEG_INFINITY),
            ReduceKind::Min if float => elementwise::constant(b, ty, f64::INFINITY),
            ReduceKind::Max if ty.dtype.is_signed_int() => b.int(ty, i64::MIN >> (64 - bits)),
            ReduceKind::Min if ty.dtype.is_signed_int() => b.int(ty, i64::MAX >> (64 - bits)),
            ReduceKind::Max => b.int(ty, 0),
            ReduceKind::Min => b.int(ty, -1),
        }
    }

    fn combine(&self, b: &mut FuncBuilder, acc: Val, x: Val) -> Val {
        let op = match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => return b.add(acc, x),
            ReduceKind::Prod => return b.mul(acc, x),
            ReduceKind::Max => Arith2::Max,
            ReduceKind::Min => Arith2::Min,
        };
        let combined = b.arith2(op, acc, x);
        if !b.ty(acc).dtype.is_float() {
            return combined;
        }
        // The second operand's NaN comes through by itself.
        let is_nan = b.compare(CompareOp::Ne, acc, acc);
        b.select(is_nan, acc, combined)
    }
}
