//! Softmax and instance normalisation in integers. Arithmetic: `docs/integer.md`.

use super::nest::{self, Ref};
use super::{Lowering, TileError};
use sdc_ir::DType;
use sdc_ir::graph::Node;
use sdc_ir::graph::op::{QLinearInstanceNormalization, QLinearSoftmax};
use sdc_ir::registry::requantise::shifted;
use sdc_ir::schedule::Tasks;
use sdc_ir::tile::{Affine, Arith2, CompareOp, FuncBuilder, Ty, Val};

const WIDE: Ty = Ty::scalar(DType::I64);

/// Lowers a softmax: for each position of the other dimensions the maximum, the sum of table entries, the results.
pub fn softmax(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &QLinearSoftmax,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = Ty::scalar(cx.dtype(data.inputs[0]));
    let [x, table] = [0, 1].map(|i| cx.place(data.inputs[i]));
    let out = cx.place(data.outputs[0]);
    let others: Vec<usize> = (0..x.shape.len()).filter(|&d| d != op.axis).collect();
    let (size, stride) = (x.shape[op.axis], x.strides[op.axis]);
    let (x_others, out_others) = (x.permuted(&others), out.permuted(&others));
    let mut b = FuncBuilder::new();
    nest::emit(
        &mut b,
        &[&out_others, &x_others],
        1,
        tasks,
        &mut |b, _, access| {
            let (to, from) = (&access[0].index, &access[1].index);
            let load = |b: &mut FuncBuilder, i: &Affine| {
                let x = b.load(dtype, x.buffer, from.clone() + i.clone() * stride);
                b.convert(DType::I64, x)
            };
            let least = b.int(WIDE, -128);
            let largest = b.for_carried(0, size, 1, &[least], |b, i, v| {
                let x = load(b, &i);
                vec![b.max(v[0], x)]
            })[0];
            let weight = |b: &mut FuncBuilder, i: &Affine| {
                let x = load(b, i);
                let below = b.sub(largest, x);
                let weight = b.load_at(Ty::scalar(DType::I32), table.buffer, table.offset, below);
                b.convert(DType::I64, weight)
            };
            let zero = b.int(WIDE, 0);
            let sum = b.for_carried(0, size, 1, &[zero], |b, i, v| {
                let weight = weight(b, &i);
                vec![b.add(v[0], weight)]
            })[0];
            let (two, steps) = (b.int(WIDE, 2), b.int(WIDE, 24));
            let half = b.div(sum, two);
            b.for_range(0, size, 1, |b, i| {
                let weight = weight(b, &i);
                let scaled = b.arith2(Arith2::Shl, weight, steps);
                let scaled = b.add(scaled, half);
                let y = b.div(scaled, sum);
                let y = b.convert(DType::I32, y);
                b.store(out.buffer, to.clone() + i * out.strides[op.axis], y);
            });
        },
    );
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Lowers an instance normalisation: for each image and channel the sums, the root, the results.
pub fn instance(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &QLinearInstanceNormalization,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = Ty::scalar(cx.dtype(data.inputs[0]));
    let [x, multiplier, bias] = [0, 1, 2].map(|i| cx.place(data.inputs[i]));
    let out = cx.place(data.outputs[0]);
    let count = x.shape[2] * x.shape[3];
    let bits = i64::from(QLinearInstanceNormalization::root_bits(count));
    let outer = [0, 1];
    let per_channel = |r: &Ref| r.broadcast(&[x.shape[0], x.shape[1]]);
    let operands = [
        out.permuted(&outer),
        x.permuted(&outer),
        per_channel(&multiplier),
        per_channel(&bias),
    ];
    let mut b = FuncBuilder::new();
    nest::emit(&mut b, &operands.each_ref(), 1, tasks, &mut |b, _, access| {
        let at = |r: &Ref, which: usize, y: &Affine, x: &Affine| {
            access[which].index.clone() + y.clone() * r.strides[2] + x.clone() * r.strides[3]
        };
        let load = |b: &mut FuncBuilder, row: &Affine, column: &Affine| {
            let value = b.load(dtype, x.buffer, at(&x, 1, row, column));
            let value = b.convert(DType::I64, value);
            let zero = b.int(WIDE, op.x_zero);
            b.sub(value, zero)
        };
        let zero = b.int(WIDE, 0);
        let sums = b.for_carried(0, x.shape[2], 1, &[zero, zero], |b, row, v| {
            b.for_carried(0, x.shape[3], 1, v, |b, column, v| {
                let value = load(b, &row, &column);
                let square = b.mul(value, value);
                vec![b.add(v[0], value), b.add(v[1], square)]
            })
        });
        let n = b.int(WIDE, count as i64);
        let (squares, whole) = (b.mul(n, sums[1]), b.mul(sums[0], sums[0]));
        let square = b.sub(squares, whole);
        let epsilon = b.int(WIDE, op.epsilon);
        let square = b.add(square, epsilon);
        let by = b.int(WIDE, 2 * bits);
        let square = b.arith2(Arith2::Shl, square, by);
        let root = root(b, square);
        let gain = b.load(Ty::scalar(DType::I32), multiplier.buffer, access[2].index.clone());
        let gain = b.convert(DType::I64, gain);
        let offset = b.load(WIDE, bias.buffer, access[3].index.clone());
        b.for_range(0, x.shape[2], 1, |b, row| {
            b.for_range(0, x.shape[3], 1, |b, column| {
                let value = load(b, &row, &column);
                let value = b.mul(value, n);
                let value = b.sub(value, sums[0]);
                let by = b.int(WIDE, 16 + bits);
                let value = b.arith2(Arith2::Shl, value, by);
                let value = b.div(value, root);
                let value = b.mul(value, gain);
                let value = b.add(value, offset);
                let y = shifted(b, value, op.shift as i64, op.y_zero, (op.min, op.max), op.to);
                b.store(out.buffer, at(&out, 0, &row, &column), y);
            });
        });
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// The largest integer whose square is not larger, of a number below 2^62: bit by bit from above.
fn root(b: &mut FuncBuilder, square: Val) -> Val {
    let zero = b.int(WIDE, 0);
    b.for_carried(0, 31, 1, &[zero], |b, i, v| {
        let place = b.affine(i * -1 + 30);
        let one = b.int(WIDE, 1);
        let bit = b.arith2(Arith2::Shl, one, place);
        let candidate = b.arith2(Arith2::Or, v[0], bit);
        let product = b.mul(candidate, candidate);
        let fits = b.compare(CompareOp::Le, product, square);
        vec![b.select(fits, candidate, v[0])]
    })[0]
}
