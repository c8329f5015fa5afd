//! Resize: a separable interpolation whose input indices and weights are tables.

use super::nest::Ref;
use super::{Lowering, TileError};
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{CoordinateMode, NearestMode, Resize, ResizeMode};
use sdc_ir::tile::{Affine, Buffer, FuncBuilder, Ty, Val};
use sdc_ir::{DType, Tensor};
use std::ops::Range;

/// One sample of every output position along a dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// Input index per output index.
    pub index: Vec<usize>,
    /// Its weight.
    pub weight: Vec<f32>,
}

/// The samples along dimension `d` of an input of `size` elements: one for nearest, two for linear, four for cubic.
pub fn taps(op: &Resize, d: usize, size: usize) -> Vec<Tap> {
    let out = op.sizes[d];
    let count = match op.mode {
        ResizeMode::Nearest => 1,
        ResizeMode::Linear => 2,
        ResizeMode::Cubic => 4,
    };
    let mut taps = vec![
        Tap {
            index: Vec::with_capacity(out),
            weight: Vec::with_capacity(out)
        };
        count
    ];
    for o in 0..out {
        let at = coordinate(op, d, o, size, out);
        let samples = samples(op, at, size);
        for (tap, (index, weight)) in taps.iter_mut().zip(samples) {
            tap.index.push(index.clamp(0, size as i64 - 1) as usize);
            tap.weight.push(weight as f32);
        }
    }
    taps
}

/// The input coordinate of output index `o`, in `f32` as ONNX Runtime has it: ties decide what `nearest` takes.
fn coordinate(op: &Resize, d: usize, o: usize, size: usize, out: usize) -> f64 {
    let (o_f, scale) = (o as f32, op.scales[d]);
    f64::from(match op.coordinates {
        CoordinateMode::HalfPixel => (o_f + 0.5) / scale - 0.5,
        CoordinateMode::PytorchHalfPixel if out == 1 => 0.0,
        CoordinateMode::PytorchHalfPixel => (o_f + 0.5) / scale - 0.5,
        CoordinateMode::AlignCorners if out == 1 => 0.0,
        CoordinateMode::AlignCorners => o_f * (size - 1) as f32 / (out - 1) as f32,
        CoordinateMode::Asymmetric => o_f / scale,
    })
}

/// Input positions (possibly outside) and weights for one coordinate.
fn samples(op: &Resize, at: f64, size: usize) -> Vec<(i64, f64)> {
    let mut samples = match op.mode {
        ResizeMode::Nearest => {
            let index = match op.nearest {
                NearestMode::RoundPreferFloor => (at - 0.5).ceil(),
                NearestMode::RoundPreferCeil => (at + 0.5).floor(),
                NearestMode::Floor => at.floor(),
                NearestMode::Ceil => at.ceil(),
            };
            return vec![(index as i64, 1.0)];
        }
        ResizeMode::Linear => {
            let base = at.floor();
            let t = at - base;
            vec![(base as i64, 1.0 - t), (base as i64 + 1, t)]
        }
        ResizeMode::Cubic => {
            let base = at.floor();
            let (t, a) = (at - base, f64::from(op.cubic_coeff_a));
            let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
            let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
            let base = base as i64;
            vec![
                (base - 1, far(1.0 + t)),
                (base, near(t)),
                (base + 1, near(1.0 - t)),
                (base + 2, far(2.0 - t)),
            ]
        }
    };
    let inside = |at: i64| (0..size as i64).contains(&at);
    let total: f64 = samples.iter().filter(|s| inside(s.0)).map(|s| s.1).sum();
    // Without any weight inside there is nothing to share it among: the edge stands for what lies beyond.
    if op.exclude_outside && total != 0.0 {
        for (at, weight) in &mut samples {
            *weight = if inside(*at) { *weight / total } else { 0.0 };
        }
    }
    samples
}

/// Tables of one resized dimension: per tap the element offset of each output index (`i64`) and its weight (`f32`).
struct Tables {
    dim: usize,
    taps: Vec<(Buffer, Buffer)>,
}

/// Lowers output rows `rows` of a Resize: loops over the result, a sum over the product of the taps inside.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &Resize, rows: Range<usize>) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    if dtype != DType::F32 && op.mode != ResizeMode::Nearest {
        return Err(cx.unsupported(node, "interpolation needs f32"));
    }
    let (x, out) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    let identity = |d: usize| op.sizes[d] == x.shape[d] && op.scales[d] == 1.0;
    let mut tables = Vec::new();
    for d in (0..x.shape.len()).filter(|&d| !identity(d)) {
        let mut own = Vec::new();
        for (t, tap) in taps(op, d, x.shape[d]).into_iter().enumerate() {
            let offsets: Vec<i64> = tap.index.iter().map(|&i| i as i64 * x.strides[d]).collect();
            let length = vec![offsets.len()];
            let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
            let offsets = Tensor::from_elements(length.clone(), offsets).map_err(fail)?;
            let weights = Tensor::from_elements(length, tap.weight).map_err(fail)?;
            let offsets = cx.constant(offsets, &format!("offsets of dimension {d}, tap {t}"));
            own.push((
                offsets,
                cx.constant(weights, &format!("weights of dimension {d}, tap {t}")),
            ));
        }
        tables.push(Tables { dim: d, taps: own });
    }
    let channels = |r: &Ref| r.strides.get(1) == Some(&1);
    let vector = dtype == DType::F32 && tables.iter().all(|t| t.dim != 1) && channels(&x) && channels(&out);
    let lanes = if vector { cx.widths.lanes } else { 1 };
    let plan = Plan {
        x: &x,
        out: &out,
        tables: &tables,
        nearest: op.mode == ResizeMode::Nearest,
    };
    // Channels innermost when they are what the lanes run along.
    let mut dims: Vec<usize> = (0..out.shape.len()).collect();
    dims.sort_by_key(|&d| (lanes > 1 && d == 1, std::cmp::Reverse(out.strides[d])));
    let mut b = FuncBuilder::new();
    plan.loops(
        &mut b,
        &dims,
        &rows,
        lanes,
        dtype,
        &mut vec![Affine::default(); out.shape.len()],
    );
    cx.push_func(b, data.origins.clone());
    Ok(())
}

struct Plan<'a> {
    x: &'a Ref,
    out: &'a Ref,
    tables: &'a [Tables],
    nearest: bool,
}

impl Plan<'_> {
    fn loops(
        &self,
        b: &mut FuncBuilder,
        dims: &[usize],
        rows: &Range<usize>,
        lanes: u8,
        dtype: DType,
        at: &mut Vec<Affine>,
    ) {
        let Some((&d, rest)) = dims.split_first() else {
            return self.element(b, at, Ty::scalar(dtype));
        };
        let range = if d == 2 {
            rows.clone()
        } else {
            0..self.out.shape[d]
        };
        let main = if rest.is_empty() && lanes > 1 {
            range.end - range.len() % usize::from(lanes)
        } else {
            range.start
        };
        if main > range.start {
            b.for_range(range.start, main, lanes.into(), |b, i| {
                at[d] = i;
                self.element(b, at, Ty::vector(dtype, lanes));
            });
        }
        if main < range.end {
            b.for_range(main, range.end, 1, |b, i| {
                at[d] = i;
                self.loops(b, rest, rows, lanes, dtype, at);
            });
        }
    }

    fn element(&self, b: &mut FuncBuilder, at: &[Affine], ty: Ty) {
        let resized = |d: usize| self.tables.iter().any(|t| t.dim == d);
        let fixed: Vec<Affine> = at
            .iter()
            .enumerate()
            .map(|(d, a)| if resized(d) { Affine::default() } else { a.clone() })
            .collect();
        let base = self.x.at(&fixed);
        let value = self.sum(b, self.tables, &base, None, at, ty);
        b.store(self.out.buffer, self.out.at(at), value);
    }

    /// The weighted sum over the taps of `tables`, at the offset collected so far.
    fn sum(
        &self,
        b: &mut FuncBuilder,
        tables: &[Tables],
        base: &Affine,
        offset: Option<Val>,
        at: &[Affine],
        ty: Ty,
    ) -> Val {
        let Some((table, rest)) = tables.split_first() else {
            return match offset {
                Some(offset) => b.load_at(ty, self.x.buffer, base.clone(), offset),
                None => b.load(ty, self.x.buffer, base.clone()),
            };
        };
        let mut total = None;
        for &(offsets, weights) in &table.taps {
            let own = b.load(Ty::scalar(DType::I64), offsets, at[table.dim].clone());
            let here = match offset {
                Some(offset) => b.add(offset, own),
                None => own,
            };
            let value = self.sum(b, rest, base, Some(here), at, ty);
            if self.nearest {
                return value;
            }
            let weight = b.load_splat(ty, weights, at[table.dim].clone());
            total = Some(match total {
                Some(total) => b.fma(value, weight, total),
                None => b.mul(value, weight),
            });
        }
        total.expect("every mode has at least one tap")
    }
}
