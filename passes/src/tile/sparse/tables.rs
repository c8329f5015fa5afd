//! The tables, made of the packed bytes block by block of filters: a block is rebuilt dense in a scratch buffer, and its rows that any of its
//! filters keeps are moved together. As in [`rebuild`] this is done when the model is loaded.

use super::super::{Lowering, rebuild};
use super::{Sparse, Windows, divided, int, scaled};
use sdc_ir::graph::Origin;
use sdc_ir::registry::sparse2d::BLOCK;
use sdc_ir::sd::{sizes, stored_rows};
use sdc_ir::tensor::TensorError;
use sdc_ir::tile::{Affine, Arith2, Buffer, BufferData, BufferKind, FuncBuilder, Ty, Val, View};
use sdc_ir::{DType, Tensor};

/// The tables in memory.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    pub(super) w: Buffer,
    pub(super) places: Buffer,
    pub(super) starts: Buffer,
    /// Entries of a block at most.
    pub(super) most: usize,
}

/// The tables of weights, made when the model is loaded.
pub(super) fn tables(
    cx: &mut Lowering<'_>,
    origins: &[Origin],
    sparse: &Sparse,
    windows: &Windows,
) -> Result<Tables, TensorError> {
    let key = (sparse.weights.packed().digest(), *windows);
    if let Some(&tables) = cx.sparse.get(&key) {
        return Ok(tables);
    }
    let starts = sparse.starts();
    let unit = sparse.unit.per_row;
    let (dtype, per_entry) = sparse.entry();
    let entries = starts.last().copied().unwrap_or(0);
    let most = starts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
    let name = sparse.weights.name().to_owned();
    let starts: Vec<i32> = starts.into_iter().map(|at| at as i32).collect();
    let starts = cx.constant(
        Tensor::from_elements(vec![starts.len()], starts)?,
        &format!("{name} starts"),
    );
    // A row that is not kept is written after the last that is.
    let [w, places, dense] = [
        (dtype, (entries + unit) * per_entry, "rows"),
        (DType::I32, entries + unit, "places"),
        (dtype, sparse.dense() * per_entry, "block"),
    ]
    .map(|(dtype, len, what)| {
        cx.module.buffers.push(BufferData {
            dtype,
            len,
            kind: BufferKind::Prepared,
            name: format!("{name} {what}"),
        })
    });
    let tables = Tables {
        w,
        places,
        starts,
        most,
    };
    let mut b = FuncBuilder::new();
    emit(cx, &mut b, sparse, windows, &tables, dense);
    rebuild::push_prepare(cx, b, origins);
    cx.sparse.insert(key, tables);
    Ok(tables)
}

fn emit(
    cx: &mut Lowering<'_>,
    b: &mut FuncBuilder,
    sparse: &Sparse,
    windows: &Windows,
    tables: &Tables,
    dense: Buffer,
) {
    let (whole, rest, dense_entries) = sparse.rows();
    let (rows, per_row) = (sparse.stored.rows(), sparse.unit.per_row);
    let (dtype, per_entry) = sparse.entry();
    let packed = cx.constant(
        sparse.weights.packed().clone(),
        &format!("{} compressed", sparse.weights.name()),
    );
    let place = sparse.place();
    let lanes = 16 / dtype.size();
    if dtype != DType::F32 {
        // Bytes that meet no weight are never written.
        b.for_range(0, dense_entries * per_entry, lanes as i64, |b, i| {
            let zero = b.int(Ty::vector(dtype, lanes as u8), 0);
            b.store(dense, i, zero);
        });
    }
    b.for_range(0, sparse.blocks(), 1, |b, block| {
        let to = View {
            buffer: dense,
            offset: 0.into(),
        };
        sparse
            .weights
            .emit_at(cx, b, &place, (block.clone(), block.clone() + 1), to);
        let start = b.load(Ty::scalar(DType::I32), tables.starts, block.clone());
        let start = b.convert(DType::I64, start);
        let mut next = vec![start];
        // The last row may be cut short, so it has its own code.
        for (lo, hi, entries) in [(0, whole, per_row), (whole, rows, rest)] {
            next = b.for_carried(lo, hi, 1, &next, |b, row, carried| {
                let first = scaled(b, carried[0], per_entry);
                for j in 0..entries {
                    let entry = row.clone() * per_row as i64 + j;
                    for at in (0..per_entry).step_by(lanes) {
                        let from = entry.clone() * per_entry as i64 + at;
                        let some = b.load(Ty::vector(dtype, lanes as u8), dense, from);
                        b.store_at(tables.w, j * per_entry + at, first, some);
                    }
                    let entry = b.affine(entry);
                    let place = windows.place(b, &sparse.axes, entry);
                    let place = b.convert(DType::I32, place);
                    b.store_at(tables.places, j, carried[0], place);
                }
                let kept = kept(b, sparse, packed, &block, &row);
                let step = scaled(b, kept, entries);
                vec![b.add(carried[0], step)]
            });
        }
    });
}

/// 1 if some filter of the block keeps the row, else 0.
fn kept(b: &mut FuncBuilder, sparse: &Sparse, packed: Buffer, block: &Affine, row: &Affine) -> Val {
    let d = &sparse.stored;
    let at = 8 * sizes(&d.geometry, &d.format, stored_rows(d))
        .sections()
        .index
        .start;
    let last = int(b, d.geometry.filters() - 1);
    let mut filters: Vec<usize> = (0..BLOCK).step_by(d.format.index_filters()).collect();
    filters.push(BLOCK - 1);
    filters.dedup();
    let mut any = int(b, 0);
    for filter in filters {
        let filter = b.affine(block.clone() * BLOCK as i64 + filter);
        let filter = b.min(filter, last);
        let (group, _) = divided(b, filter, d.format.index_filters());
        let group = scaled(b, group, d.rows());
        let row = b.affine(row.clone() + at);
        let bit = b.add(group, row);
        let (byte, bit) = divided(b, bit, 8);
        let byte = b.load_at(Ty::scalar(DType::U8), packed, 0, byte);
        let byte = b.convert(DType::I64, byte);
        let bit = b.arith2(Arith2::Shr, byte, bit);
        any = b.arith2(Arith2::Or, any, bit);
    }
    let one = int(b, 1);
    b.arith2(Arith2::And, any, one)
}
