//! `pool2d_f32`: the largest element or the mean of each window, channels-last; what lies outside the input does not count.
//!
//! Names are those of `depthwise2d_f32`. A largest element starts from minus infinity, in the order (ky, kx); a NaN stays, the first of
//! several. Where `mean`, each row of the window is summed from zero, then the rows' sums from zero, and the result divided by the
//! number of taps from `ct` rows before the input to `cb` after it, and from `cl` columns before to `cr` after. A reduction over rows
//! and columns is a window of that size.

use super::call::{Lane, Params, Plane};
use super::conv2d_i8::axis;
use super::window::Axis;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, CompareOp, FuncBuilder, KernelCall, Ty, Val, View};

/// Windows of at most this many columns are written out tap by tap.
const UNROLLED: i64 = 4;

pub(super) const KERNEL: Kernel = Kernel {
    name: "pool2d_f32",
    operands: &[Operand::read("x"), Operand::write("y")],
    params: &[
        "in_h", "in_w", "channels", "out_w", "kh", "kw", "sh", "sw", "dh", "dw", "pt", "pl", "xs_h", "xs_w",
        "x_row0", "ys_h", "ys_w", "y_row0", "mean", "ct", "cl", "cb", "cr",
    ],
    range: "output rows, absolute",
    body,
};

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let operands: Vec<&View> = call.operands.iter().flatten().collect();
    let &[x, y] = operands.as_slice() else { return };
    let pool = Pool {
        rows: axis(&p, "in_h", "kh", "sh", "dh", "pt"),
        columns: axis(&p, "in_w", "kw", "sw", "dw", "pl"),
        x: Plane::new(x, p.get("xs_h"), p.get("xs_w"), p.get("x_row0")),
        mean: p.get("mean") != 0,
    };
    let y = Plane::new(y, p.get("ys_h"), p.get("ys_w"), p.get("y_row0"));
    let counted = |axis: &Axis, before: i64, after: i64| Axis {
        input: axis.input + before + after,
        pad: axis.pad - before,
        ..*axis
    };
    let counted_rows = counted(&pool.rows, p.get("ct"), p.get("cb"));
    let counted_columns = counted(&pool.columns, p.get("cl"), p.get("cr"));
    let (out_w, channels) = (p.get("out_w"), p.get("channels"));
    let inside = pool.columns.inner(out_w) == (0, out_w);
    let all_counted = counted_columns.inner(out_w) == (0, out_w);
    let vector = Ty::vector(DType::F32, 4);
    let vectors = channels / 4 * 4;
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, oy| {
        let rows = pool.mean.then(|| count(b, &counted_rows, &oy));
        b.for_range(0, out_w, 1, |b, ox| {
            let divisor = rows.map(|rows| {
                let columns = match all_counted {
                    true => b.f32(1, counted_columns.window as f32),
                    false => count(b, &counted_columns, &ox),
                };
                b.mul(rows, columns)
            });
            let element = |b: &mut FuncBuilder, ty: Ty, c: Affine| {
                let value = pool.window(b, ty, [&oy, &ox], &c, inside);
                let value = match divisor {
                    Some(divisor) if ty.lanes > 1 => {
                        let divisor = b.splat(ty.lanes, divisor);
                        b.div(value, divisor)
                    }
                    Some(divisor) => b.div(value, divisor),
                    None => value,
                };
                y.lane(&oy, &ox, 1, &c).store(b, 0, 0, value);
            };
            b.for_range(0, vectors, 4, |b, c| element(b, vector, c));
            b.for_range(vectors, channels, 1, |b, c| element(b, Ty::scalar(DType::F32), c));
        });
    });
}

/// The number of taps that exist at output position `out`.
fn count(b: &mut FuncBuilder, axis: &Axis, out: &Affine) -> Val {
    let zero = b.f32(1, 0.0);
    axis.for_taps(b, out, false, vec![zero], |b, _, _, count| {
        let one = b.f32(1, 1.0);
        vec![b.add(count[0], one)]
    })[0]
}

struct Pool {
    rows: Axis,
    columns: Axis,
    x: Plane,
    mean: bool,
}

impl Pool {
    /// Sum or largest element of the window of channels from `c` on. With `inside`, all of its columns exist.
    fn window(&self, b: &mut FuncBuilder, ty: Ty, [oy, ox]: [&Affine; 2], c: &Affine, inside: bool) -> Val {
        let start = b.f32(ty.lanes, if self.mean { 0.0 } else { f32::NEG_INFINITY });
        self.rows.for_taps(b, oy, false, vec![start], |b, _, iy, total| {
            let start = if self.mean { b.f32(ty.lanes, 0.0) } else { total[0] };
            let row = self.row(b, ty, &iy, ox, c, inside, start);
            vec![if self.mean { b.add(total[0], row) } else { row }]
        })[0]
    }

    /// `start` and the taps of row `iy`.
    #[allow(clippy::too_many_arguments, reason = "a place in five dimensions")]
    fn row(
        &self,
        b: &mut FuncBuilder,
        ty: Ty,
        iy: &Affine,
        ox: &Affine,
        c: &Affine,
        inside: bool,
        start: Val,
    ) -> Val {
        let tap = |b: &mut FuncBuilder, ix: Affine, so_far: Val| {
            let x: Lane = self.x.lane(iy, &ix, 1, c);
            let x = x.load(b, ty, 0, 0);
            if self.mean {
                return b.add(so_far, x);
            }
            // Of a NaN and another the second operand comes through: `x` by itself, what was there by the check.
            let larger = b.max(so_far, x);
            let is_nan = b.compare(CompareOp::Ne, so_far, so_far);
            b.select(is_nan, so_far, larger)
        };
        if inside && self.columns.window <= UNROLLED {
            let first = self.columns.start(ox);
            let dilation = self.columns.dilation;
            return (0..self.columns.window).fold(start, |v, kx| tap(b, first.clone() + kx * dilation, v));
        }
        self.columns
            .for_taps(b, ox, inside, vec![start], |b, _, ix, v| vec![tap(b, ix, v[0])])[0]
    }
}
