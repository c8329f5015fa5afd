//! MaxPool and AveragePool: kernel calls on channels-last data of the usual types, loops for the others.

use super::nest::Ref;
use super::pool_calls::{What, Windows};
use super::{Lowering, TileError, elementwise, split};
use sdc_ir::graph::op::{AveragePool, QLinearAveragePool};
use sdc_ir::graph::{Node, Op};
use sdc_ir::registry::requantise::shifted;
use sdc_ir::schedule::{Algorithm, Tasks};
use sdc_ir::tile::{Affine, Bound, FuncBuilder, Ty, Val};
use sdc_ir::{DType, Tensor};
use std::ops::Range;

/// A window over the two spatial dimensions, and what is computed of it.
pub struct Pool {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    pads: Vec<usize>,
    dilations: Vec<usize>,
    /// The mean, or the largest element.
    average: Option<AveragePool>,
    /// Of integers.
    integer: bool,
    /// Whether every window lies inside the input.
    unpadded: [bool; 2],
}

/// Longest window side that is written out tap by tap.
const UNROLLED: usize = 4;

/// Lowers output rows `rows`. Without a kernel: loops over images, rows, columns, channels, then the taps inside the input.
pub fn lower(
    cx: &mut Lowering<'_>,
    node: Node,
    rows: Range<usize>,
    algorithm: Algorithm,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let not = || cx.unsupported(node, format!("{} is not a pooling operator", data.op.name()));
    let mut pool = Pool::of(&data.op).ok_or_else(not)?;
    let dtype = cx.dtype(data.inputs[0]);
    let (x, y) = (cx.place(data.inputs[0]), cx.place(data.outputs[0]));
    if x.shape.len() != 4 {
        return Err(cx.unsupported(node, "only two spatial dimensions are supported"));
    }
    let average = pool.average.clone();
    let integer = match &data.op {
        Op::QLinearAveragePool(op) => Some(op),
        _ => None,
    };
    let floats = average.is_some() && integer.is_none();
    if matches!(dtype, DType::F16 | DType::BF16) || (floats && !dtype.is_float()) {
        return Err(cx.unsupported(node, format!("{dtype} elements are not supported")));
    }
    let mut b = FuncBuilder::new();
    if algorithm != Algorithm::Loops {
        if pool.kernel(dtype, &x, &y) != algorithm.kernel() {
            return Err(cx.unsupported(node, "the kernel does not fit these operands"));
        }
        pool.windows().emit(&mut b, dtype, &x, &y, &rows, tasks);
        cx.push_func(b, data.origins.clone());
        return Ok(());
    }
    pool.unpadded = [0, 1].map(|d| {
        let last = y.shape[2 + d].saturating_sub(1) * pool.strides[d];
        pool.pads[d] == 0 && last + (pool.kernel[d] - 1) * pool.dilations[d] < x.shape[2 + d]
    });
    let divisor = match &average {
        Some(op) => Some(Divisor::of(
            cx,
            node,
            op,
            [x.shape[2], x.shape[3]],
            [y.shape[2], y.shape[3]],
        )?),
        None => None,
    };
    split::for_parts(&mut b, x.shape[0], tasks, &rows, &mut |b, image, _, range| {
        b.for_range(range.start, range.end, 1, |b, oy| {
            b.for_range(0, y.shape[3], 1, |b, ox| {
                b.for_range(0, x.shape[1], 1, |b, c| {
                    let at = [image.clone(), c, oy.clone(), ox.clone()];
                    let zero = integer.map(|op| op.x_zero);
                    let value = pool.window(b, &x, &at, Ty::scalar(dtype), average.is_some(), zero);
                    let value = match (&divisor, integer) {
                        (Some(d), Some(op)) => d.requantise(b, value, op, &oy, &ox),
                        (Some(d), None) => d.divide(b, value, &oy, &ox),
                        (None, _) => value,
                    };
                    b.store(y.buffer, y.at(&at), value);
                });
            });
        });
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

impl Pool {
    /// The window of a pooling operator; `None` for another.
    pub fn of(op: &Op) -> Option<Self> {
        let average = match op {
            Op::MaxPool(op) => {
                return Some(Self {
                    kernel: op.kernel.clone(),
                    strides: op.strides.clone(),
                    pads: op.pads.clone(),
                    dilations: op.dilations.clone(),
                    average: None,
                    integer: false,
                    unpadded: [false; 2],
                });
            }
            Op::AveragePool(op) => op.clone(),
            Op::QLinearAveragePool(op) => op.window(),
            _ => return None,
        };
        Some(Self {
            kernel: average.kernel.clone(),
            strides: average.strides.clone(),
            pads: average.pads.clone(),
            dilations: average.dilations.clone(),
            average: Some(average),
            integer: matches!(op, Op::QLinearAveragePool(_)),
            unpadded: [false; 2],
        })
    }

    /// Elements of a window.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// The kernel for these elements, from `x` to `y`.
    pub fn kernel(&self, dtype: DType, x: &Ref, y: &Ref) -> Option<&'static str> {
        (!self.integer)
            .then(|| self.windows().kernel(dtype, x, y))
            .flatten()
    }

    fn windows(&self) -> Windows<'_> {
        Windows {
            kernel: &self.kernel,
            strides: &self.strides,
            dilations: &self.dilations,
            pads: &self.pads,
            what: match &self.average {
                Some(op) => What::Mean { counted: &op.counted },
                None => What::Max,
            },
        }
    }

    /// Sum or maximum over the taps of one window that lie inside the input. With a zero point, the sum of the differences from it, in
    /// 32 bits.
    fn window(
        &self,
        b: &mut FuncBuilder,
        x: &Ref,
        at: &[Affine; 4],
        ty: Ty,
        sum: bool,
        zero: Option<i64>,
    ) -> Val {
        let word = Ty::scalar(DType::I32);
        let init = match (sum, ty.dtype.is_float()) {
            (true, false) => b.int(word, 0),
            (true, _) => elementwise::constant(b, ty, 0.0),
            (false, true) => elementwise::constant(b, ty, f64::NEG_INFINITY),
            (false, false) => {
                let least = if ty.dtype.is_signed_int() {
                    i64::MIN >> (64 - 8 * ty.dtype.size())
                } else {
                    0
                };
                b.int(ty, least)
            }
        };
        let over = |b: &mut FuncBuilder,
                    d: usize,
                    init: Val,
                    body: &mut dyn FnMut(&mut FuncBuilder, Affine, Val) -> Val| {
            let (kernel, dilation, size) = (self.kernel[d], self.dilations[d], x.shape[2 + d]);
            let start = at[2 + d].clone() * self.strides[d] as i64 - self.pads[d];
            if self.unpadded[d] && kernel <= UNROLLED {
                return (0..kernel).fold(init, |v, tap| body(b, start.clone() + tap * dilation, v));
            }
            if dilation == 1 {
                let lo = Bound::of(vec![0.into(), start.clone() * -1]);
                let hi = Bound::of(vec![kernel.into(), start.clone() * -1 + size]);
                return b.for_carried(lo, hi, 1, &[init], |b, tap, v| {
                    vec![body(b, start.clone() + tap, v[0])]
                })[0];
            }
            // With dilation the valid taps are no affine interval: each tap is its own loop of at most one round,
            // over the rows of the input it hits.
            (0..kernel).fold(init, |v, tap| {
                let row = start.clone() + tap * dilation;
                let lo = Bound::of(vec![0.into(), row.clone()]);
                let hi = Bound::of(vec![size.into(), row.clone() + 1]);
                b.for_carried(lo, hi, 1, &[v], |b, row, v| vec![body(b, row, v[0])])[0]
            })
        };
        over(b, 0, init, &mut |b, iy, v| {
            over(b, 1, v, &mut |b, ix, v| {
                let x = b.load(
                    ty,
                    x.buffer,
                    x.at(&[at[0].clone(), at[1].clone(), iy.clone(), ix]),
                );
                if let Some(zero) = zero {
                    let (x, zero) = (b.convert(DType::I32, x), b.int(word, zero));
                    let x = b.sub(x, zero);
                    b.add(v, x)
                } else if sum {
                    b.add(v, x)
                } else {
                    // A NaN in either operand stays: Max returns its second one, and `v` is checked.
                    let larger = b.max(v, x);
                    if !ty.dtype.is_float() {
                        return larger;
                    }
                    let is_nan = b.compare(sdc_ir::tile::CompareOp::Ne, v, v);
                    b.select(is_nan, v, larger)
                }
            })
        })
    }
}

/// The number of elements each average divides by: a product of one count per row and one per column.
enum Divisor {
    Constant(f64),
    Table {
        rows: sdc_ir::tile::Buffer,
        columns: sdc_ir::tile::Buffer,
    },
}

impl Divisor {
    fn of(
        cx: &mut Lowering<'_>,
        node: Node,
        op: &AveragePool,
        input: [usize; 2],
        output: [usize; 2],
    ) -> Result<Self, TileError> {
        let counts = |d: usize| -> Vec<f32> {
            let (before, after) = (op.counted[d] as i64, op.counted[d + 2] as i64);
            let inside = -before..input[d] as i64 + after;
            (0..output[d])
                .map(|o| {
                    let start = (o * op.strides[d]) as i64 - op.pads[d] as i64;
                    let taps = (0..op.kernel[d]).map(|k| start + (k * op.dilations[d]) as i64);
                    taps.filter(|at| inside.contains(at)).count() as f32
                })
                .collect()
        };
        let (rows, columns) = (counts(0), counts(1));
        let constant = |counts: &[f32]| {
            counts
                .iter()
                .all(|&c| c == counts[0])
                .then(|| f64::from(counts[0]))
        };
        if let (Some(r), Some(c)) = (constant(&rows), constant(&columns)) {
            return Ok(Divisor::Constant(r * c));
        }
        let mut table = |counts: Vec<f32>, what: &str| -> Result<_, TileError> {
            let tensor = Tensor::from_elements(vec![counts.len()], counts);
            let tensor = tensor.map_err(|e| cx.unsupported(node, e.to_string()))?;
            Ok(cx.constant(tensor, what))
        };
        Ok(Divisor::Table {
            rows: table(rows, "row counts")?,
            columns: table(columns, "column counts")?,
        })
    }

    fn divide(&self, b: &mut FuncBuilder, sum: Val, oy: &Affine, ox: &Affine) -> Val {
        let ty = b.ty(sum);
        let divisor = match self {
            Divisor::Constant(c) => elementwise::constant(b, ty, *c),
            Divisor::Table { rows, columns } => {
                let single = Ty::vector(DType::F32, ty.lanes);
                let r = b.load_splat(single, *rows, oy.clone());
                let c = b.load_splat(single, *columns, ox.clone());
                let product = b.mul(r, c);
                if ty.dtype == DType::F32 {
                    product
                } else {
                    b.convert(ty.dtype, product)
                }
            }
        };
        b.div(sum, divisor)
    }

    /// The mean of integers from their sum, as `docs/integer.md` has it.
    fn requantise(
        &self,
        b: &mut FuncBuilder,
        sum: Val,
        op: &QLinearAveragePool,
        oy: &Affine,
        ox: &Affine,
    ) -> Val {
        let wide = Ty::scalar(DType::I64);
        let multiplier = match self {
            Divisor::Constant(c) => {
                let c = *c as i64;
                b.int(wide, (op.multiplier + c / 2).checked_div(c).unwrap_or(0))
            }
            Divisor::Table { rows, columns } => {
                let single = Ty::scalar(DType::F32);
                let r = b.load(single, *rows, oy.clone());
                let c = b.load(single, *columns, ox.clone());
                let (r, c) = (b.convert(DType::I64, r), b.convert(DType::I64, c));
                let count = b.mul(r, c);
                let two = b.int(wide, 2);
                let half = b.div(count, two);
                let multiplier = b.int(wide, op.multiplier);
                let rounded = b.add(multiplier, half);
                b.div(rounded, count)
            }
        };
        let sum = b.convert(DType::I64, sum);
        let product = b.mul(sum, multiplier);
        let (low, high) = super::quantised::range(op.to);
        let bounds = (low.into(), high.into());
        shifted(b, product, op.shift as i64, op.y_zero, bounds, op.to)
    }
}
