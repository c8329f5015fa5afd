//! Instance and layer normalisation: mean, variance about the mean, result; three passes over the data. Layers whose rows have no
//! gaps go to the kernel `layer_norm_f32`.

use super::nest::{self, Ref, Rows};
use super::reduce::Reduction;
use super::storage::Scene;
use super::{Lowering, TileError};
use sdc_ir::DType;
use sdc_ir::graph::op::ReduceKind;
use sdc_ir::graph::{Node, Op};
use sdc_ir::schedule::{Algorithm, Tasks};
use sdc_ir::tile::{Affine, Arith1, FuncBuilder, KernelCall, Ty, Val};

/// Fewest elements of a row for which the kernel is called.
pub const ROW: usize = 16;

/// A normalisation: its operands, and the dimensions it goes over.
pub struct Layer {
    /// Result, operand, scale and bias, the latter two broadcast.
    all: [Ref; 4],
    /// The normalised dimensions, largest stride first.
    inner: Vec<usize>,
    /// The operands without these.
    others: [Ref; 4],
    epsilon: f32,
}

impl Layer {
    /// Of a node that is one.
    pub fn of(scene: &Scene<'_>, node: Node) -> Option<Self> {
        let data = &scene.graph.nodes()[node];
        let [out, x] = [data.outputs[0], data.inputs[0]].map(|v| scene.place(v));
        let [mut scale, mut bias] = [1, 2].map(|i| scene.place(data.inputs[i]));
        let rank = x.shape.len();
        let (axes, epsilon) = match &data.op {
            Op::LayerNormalization(op) => ((op.axis..rank).collect::<Vec<_>>(), op.epsilon),
            // Each channel of each image over its spatial dimensions.
            Op::InstanceNormalization(op) => {
                for place in [&mut scale, &mut bias] {
                    place.shape.extend(std::iter::repeat_n(1, rank - 2));
                    place.strides.extend(std::iter::repeat_n(0, rank - 2));
                }
                ((2..rank).collect(), op.epsilon)
            }
            _ => return None,
        };
        let others: Vec<usize> = (0..rank).filter(|d| !axes.contains(d)).collect();
        let mut inner = axes;
        inner.sort_by_key(|&d| std::cmp::Reverse(x.strides[d].abs()));
        let (scale, bias) = (scale.broadcast(&x.shape), bias.broadcast(&x.shape));
        let all = [out, x, scale, bias];
        Some(Self {
            others: all.each_ref().map(|r| r.permuted(&others)),
            all,
            inner,
            epsilon,
        })
    }

    /// The rows that the kernel can go over; `None` unless they have no gaps, and the same scale and bias each.
    pub fn rows(&self) -> Option<Rows> {
        let within = self.all.each_ref().map(|r| r.permuted(&self.inner));
        let [(size, steps)] = &nest::levels(&within.each_ref())[..] else {
            return None;
        };
        let still = self.others[2..]
            .iter()
            .all(|r| r.strides.iter().zip(&r.shape).all(|(&s, &n)| s == 0 || n == 1));
        if *size < ROW || steps.iter().any(|&s| s != 1) || !still {
            return None;
        }
        Rows::over(*size, &self.others.each_ref())
    }

    /// The kernel's calls.
    fn call(&self, rows: &Rows, tasks: Tasks) -> FuncBuilder {
        let mut b = FuncBuilder::new();
        rows.emit(&mut b, tasks, |b, repetition, (begin, end)| {
            let view = |i: usize| Some(rows.view(i, &self.others[i], &repetition));
            b.kernel(KernelCall {
                kernel: "layer_norm_f32".to_owned(),
                params: vec![
                    rows.columns,
                    rows.strides[1],
                    rows.strides[0],
                    self.epsilon.to_bits().into(),
                ],
                operands: vec![view(1), view(2), view(3), view(0)],
                begin,
                end,
            });
        });
        b
    }
}

/// Lowers an instance or layer normalisation.
pub fn lower(cx: &mut Lowering<'_>, node: Node, algorithm: Algorithm, tasks: Tasks) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    if cx.dtype(data.inputs[0]) != DType::F32 {
        return Err(cx.unsupported(node, "only f32 is supported"));
    }
    // From now on constants are in buffers.
    for &v in &data.inputs {
        cx.place(v);
    }
    let layer = Layer::of(&cx.scene, node).ok_or_else(|| cx.unsupported(node, "it is no normalisation"))?;
    let [out, x, scale, bias] = layer.all.clone();
    if algorithm != Algorithm::Loops {
        let rows = layer
            .rows()
            .ok_or_else(|| cx.unsupported(node, "its rows have gaps, or a scale and a bias of their own"))?;
        let b = layer.call(&rows, tasks);
        cx.push_func(b, data.origins.clone());
        return Ok(());
    }
    let (inner, refs, epsilon) = (layer.inner, layer.others, layer.epsilon);
    let reduced: Vec<(usize, i64)> = inner.iter().map(|&d| (x.shape[d], x.strides[d])).collect();
    let count: usize = reduced.iter().map(|&(size, _)| size).product();
    let along = reduced.last().is_some_and(|&(_, stride)| stride == 1);
    let (lanes, fold) = if along {
        (1, cx.widths.lanes)
    } else {
        (cx.widths.lanes, 1)
    };
    let sum = Reduction {
        kind: ReduceKind::Sum,
        x: &x,
        axes: &reduced,
    };
    let mut b = FuncBuilder::new();
    nest::emit(&mut b, &refs.each_ref(), lanes, tasks, &mut |b, lanes, access| {
        let ty = Ty::vector(DType::F32, lanes);
        let n = b.f32(lanes, count as f32);
        let total = sum.emit(b, ty, &access[1].index, 0, fold);
        let mean = b.div(total, n);
        let squares = sum.emit_mapped(b, ty, &access[1].index, 0, fold, &mut |b, x| {
            let mean = widened(b, mean, x);
            let centred = b.sub(x, mean);
            b.mul(centred, centred)
        });
        let variance = b.div(squares, n);
        let eps = b.f32(lanes, epsilon);
        let variance = b.add(variance, eps);
        let deviation = b.arith1(Arith1::Sqrt, variance);
        let one = b.f32(lanes, 1.0);
        let inverse = b.div(one, deviation);
        let at: Vec<Affine> = access.iter().map(|a| a.index.clone()).collect();
        let loops = Results {
            refs: [&out, &x, &scale, &bias],
            inner: &inner,
            splat: [access[2].splat, access[3].splat],
            mean,
            inverse,
        };
        loops.emit(b, &at, 0, lanes, if along { fold } else { lanes });
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// A value repeated to as many lanes as another has.
fn widened(b: &mut FuncBuilder, x: Val, like: Val) -> Val {
    let lanes = b.ty(like).lanes;
    if b.ty(x).lanes == lanes {
        x
    } else {
        b.splat(lanes, x)
    }
}

/// The third pass: loops over the normalised dimensions that write the results.
struct Results<'a> {
    refs: [&'a Ref; 4],
    inner: &'a [usize],
    splat: [bool; 2],
    mean: Val,
    inverse: Val,
}

impl Results<'_> {
    /// `lanes` results lie side by side already; the last loop takes `wide` elements at a time.
    fn emit(&self, b: &mut FuncBuilder, at: &[Affine], depth: usize, lanes: u8, wide: u8) {
        let Some(&d) = self.inner.get(depth) else {
            return self.element(b, at, lanes, self.splat);
        };
        let size = self.refs[0].shape[d];
        let moved = |i: &Affine| -> Vec<Affine> {
            at.iter()
                .zip(self.refs)
                .map(|(a, r)| a.clone() + i.clone() * r.strides[d])
                .collect()
        };
        let unit = |r: &Ref| matches!(r.strides[d], 0 | 1);
        let last = depth + 1 == self.inner.len();
        if last && wide > lanes && self.refs[0].strides[d] == 1 && self.refs.iter().all(|r| unit(r)) {
            let main = size - size % usize::from(wide);
            let splat = [self.refs[2].strides[d] == 0, self.refs[3].strides[d] == 0];
            b.for_range(0, main, wide.into(), |b, i| {
                self.element(b, &moved(&i), wide, splat)
            });
            if main < size {
                b.for_range(main, size, 1, |b, i| self.element(b, &moved(&i), 1, splat));
            }
        } else {
            b.for_range(0, size, 1, |b, i| {
                self.emit(b, &moved(&i), depth + 1, lanes, wide)
            });
        }
    }

    fn element(&self, b: &mut FuncBuilder, at: &[Affine], lanes: u8, splat: [bool; 2]) {
        let ty = Ty::vector(DType::F32, lanes);
        let parameter = |b: &mut FuncBuilder, i: usize| {
            if splat[i] && lanes > 1 {
                b.load_splat(ty, self.refs[2 + i].buffer, at[2 + i].clone())
            } else {
                b.load(ty, self.refs[2 + i].buffer, at[2 + i].clone())
            }
        };
        let x = b.load(ty, self.refs[1].buffer, at[1].clone());
        let mean = widened(b, self.mean, x);
        let inverse = widened(b, self.inverse, x);
        let centred = b.sub(x, mean);
        let unit = b.mul(centred, inverse);
        let (scale, bias) = (parameter(b, 0), parameter(b, 1));
        let y = b.fma(unit, scale, bias);
        b.store(self.refs[0].buffer, at[0].clone(), y);
    }
}
