//! `sd_rebuild_f32`: real weights from packed SmartDeal weights, for one matrix of filters by vector entries.
//!
//! The operand `packed` (`u8`) points at the packed bytes, of which the parameters describe what [`crate::sd::pack`] writes: where the
//! sections begin (`at_*`, in bytes; `at_index` counts only with `index_filters > 0`), and the format. Filters `filter0` to
//! `filter0 + filters` of the tensor are columns `0..filters` of the matrix; `row0` rows are stored before those of `filter0`. Row `k` of the
//! matrix is the entry at `(i0, i1, i2)` of a filter's vector of sizes `(.., n1, n2)`, with `k = i0*d0 + i1*d1 + i2*d2`.
//!
//! The result is what the GEMM and convolution kernels read: blocks of `nr` columns, block `i` as `[vector][width]` with `width = nr`, or for
//! the last block the remaining columns rounded up to a multiple of `lanes` and padded with zeros. `w` points at the first block of the
//! range. Where `ks` is not 0 it is the distance of rows instead of `width`, and `fs` that of columns; there is no padding then.
//!
//! Weights are those of [`crate::sd::dequantised`], bit for bit.
//!
//! `sd_rebuild_i8` is the same for the integers of [`crate::sd::rebuild`]: `w` is i8, and scales are not read.

use super::call::Params;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::build::mask_type;
use crate::tile::{Affine, Arith1, Arith2, Bound, CompareOp, FuncBuilder, Inst, KernelCall, Ty, Val, View};

const OPERANDS: &[Operand] = &[Operand::read("packed"), Operand::write("w")];

const PARAMS: &[&str] = &[
    "len",
    "at_index",
    "at_codes",
    "at_bases",
    "at_shifts",
    "at_scales",
    "half",
    "s",
    "r",
    "rows",
    "vector",
    "slice_rows",
    "magnitudes",
    "alphabet_lo",
    "alphabet_hi",
    "nibbles",
    "row_bits",
    "basis_bits",
    "basis_filters",
    "index_filters",
    "filter0",
    "row0",
    "filters",
    "n1",
    "n2",
    "d0",
    "d1",
    "d2",
    "fs",
    "ks",
    "nr",
    "lanes",
];

pub(super) const KERNEL: Kernel = Kernel {
    name: "sd_rebuild_f32",
    operands: OPERANDS,
    params: PARAMS,
    range: "blocks of nr filters",
    body: |b, call| body(b, call, DType::F32),
};

pub(super) const INTEGERS: Kernel = Kernel {
    name: "sd_rebuild_i8",
    body: |b, call| body(b, call, DType::I8),
    ..KERNEL
};

const I64: Ty = Ty::scalar(DType::I64);

fn body(b: &mut FuncBuilder, call: &KernelCall, to: DType) {
    let params = Params::of(&KERNEL, call);
    let (Some(Some(packed)), Some(Some(w))) = (call.operands.first(), call.operands.get(1)) else {
        return;
    };
    let rebuild = Rebuild {
        p: &params,
        packed,
        w,
        to,
    };
    rebuild.emit(b, &call.begin, &call.end);
}

struct Rebuild<'a> {
    p: &'a Params<'a>,
    packed: &'a View,
    w: &'a View,
    /// `f32`, or `i8` for the integers.
    to: DType,
}

/// Some columns of the matrix.
struct Columns {
    /// First block, and one past the last.
    blocks: (i64, i64),
    /// Columns of each block.
    count: i64,
    /// Columns with padding.
    width: i64,
}

impl Rebuild<'_> {
    fn get(&self, name: &str) -> i64 {
        self.p.get(name)
    }

    fn emit(&self, b: &mut FuncBuilder, begin: &Bound, end: &Bound) {
        let [filters, nr, lanes] = ["filters", "nr", "lanes"].map(|n| self.get(n));
        let (full, rest) = (filters / nr, filters % nr);
        let first = begin
            .exprs()
            .iter()
            .map(|e| b.affine(e.clone()))
            .collect::<Vec<_>>();
        let first = first.into_iter().reduce(|x, y| b.max(x, y));
        let Some(first) = first else { return };
        let mut position = self.position(b, begin, first);
        let padded = |columns: i64| (columns + lanes - 1) / lanes * lanes;
        for columns in [
            Columns {
                blocks: (0, full),
                count: nr,
                width: nr,
            },
            Columns {
                blocks: (full, full + 1),
                count: rest,
                width: padded(rest),
            },
        ] {
            let (lo, hi) = columns.blocks;
            if lo == hi || columns.count == 0 {
                continue;
            }
            let with = |bound: &Bound, limit: i64| Bound::of([bound.exprs(), &[limit.into()]].concat());
            let next = b.for_carried(
                with(begin, lo),
                with(end, hi),
                1,
                &[position],
                |b, block, carried| vec![self.block(b, &block, first, &columns, carried[0])],
            );
            position = next[0];
        }
    }

    /// The bit where the codes of the first block's first stored row begin.
    fn position(&self, b: &mut FuncBuilder, begin: &Bound, first: Val) -> Val {
        let [nr, rows, shared] = ["nr", "rows", "index_filters"].map(|n| self.get(n));
        let before = scaled(b, first, nr);
        let stored = if shared == 0 {
            scaled(b, before, rows)
        } else {
            let limit = match begin.exprs() {
                [one] => Bound::of(vec![one.clone() * nr, self.get("filters").into()]),
                _ => self.get("filters").into(),
            };
            let zero = b.int(I64, 0);
            b.for_carried(0, limit, 1, &[zero], |b, filter, count| {
                let here = b.affine(filter.clone());
                let counts = b.compare(CompareOp::Lt, here, before);
                let base = self.index_base(b, &filter);
                let count = b.for_carried(0, rows, 1, count, |b, row, count| {
                    let kept = self.kept(b, base, &row);
                    let kept = b.arith2(Arith2::And, kept, counts);
                    vec![b.add(count[0], kept)]
                });
                vec![count[0]]
            })[0]
        };
        let bits = scaled(b, stored, self.get("row_bits"));
        let start = 8 * self.get("at_codes") + self.get("row0") * self.get("row_bits");
        shifted(b, bits, start)
    }

    /// Position in the row index of the first row of a column's filter.
    fn index_base(&self, b: &mut FuncBuilder, column: &Affine) -> Val {
        let filter = b.affine(column.clone() + self.get("filter0"));
        let group = divided(b, filter, self.get("index_filters").max(1));
        scaled(b, group, self.get("rows"))
    }

    /// 1 if the row is stored, else 0.
    fn kept(&self, b: &mut FuncBuilder, base: Val, row: &Affine) -> Val {
        let row = b.affine(row.clone());
        let bit = b.add(base, row);
        let bit = shifted(b, bit, 8 * self.get("at_index"));
        self.bits(b, bit, 1)
    }

    /// One block; the bit position after it.
    fn block(
        &self,
        b: &mut FuncBuilder,
        block: &Affine,
        first: Val,
        columns: &Columns,
        position: Val,
    ) -> Val {
        let [nr, vector, ks] = ["nr", "vector", "ks"].map(|n| self.get(n));
        let place = b.affine(block.clone());
        let place = b.sub(place, first);
        let place = scaled(b, place, nr * vector);
        let after = b.for_carried(0, columns.count, 1, &[position], |b, column, carried| {
            let target = b.affine(column.clone() * if ks == 0 { 1 } else { self.get("fs") });
            let target = b.add(target, place);
            let pitch = if ks == 0 { columns.width } else { ks };
            vec![self.filter(b, &(block.clone() * nr + column), target, pitch, carried[0])]
        });
        if ks == 0 && columns.width > columns.count {
            b.for_range(0, vector, 1, |b, k| {
                b.for_range(columns.count, columns.width, 1, |b, column| {
                    let zero = self.zero(b);
                    let at = self.w.offset.clone() + k * columns.width + column;
                    b.store_at(self.w.buffer, at, place, zero);
                });
            });
        }
        after[0]
    }

    /// One filter into the elements from `target` on, rows `pitch` apart; the bit position after it.
    fn filter(&self, b: &mut FuncBuilder, column: &Affine, target: Val, pitch: i64, position: Val) -> Val {
        let [rows, vector, s, slice_rows] = ["rows", "vector", "s", "slice_rows"].map(|n| self.get(n));
        let slices = (rows + slice_rows - 1) / slice_rows;
        let scale = (self.to == DType::F32).then(|| self.scale(b, column));
        let index = (self.get("index_filters") > 0).then(|| self.index_base(b, column));
        let filter = b.affine(column.clone() + self.get("filter0"));
        let group = divided(b, filter, self.get("basis_filters"));
        let group = scaled(b, group, slices);
        let whole = vector / s;
        b.for_carried(0, slices, 1, &[position], |b, slice, carried| {
            let here = b.affine(slice.clone());
            let basis = b.add(group, here);
            let basis = self.basis(b, basis);
            let mut position = carried[0];
            // The last row of a filter may be cut short, so it has its own code.
            for (lo, hi, entries) in [(0, whole, s), (whole, rows, vector - whole * s)] {
                if lo == hi {
                    continue;
                }
                let lo = Bound::of(vec![slice.clone() * slice_rows, lo.into()]);
                let hi = Bound::of(vec![slice.clone() * slice_rows + slice_rows, hi.into()]);
                let next = b.for_carried(lo, hi, 1, &[position], |b, row, carried| {
                    let kept = index.map(|base| self.kept(b, base, &row));
                    let weights = self.row(b, &basis, scale, carried[0]);
                    for (j, weight) in (0..entries).zip(weights) {
                        let weight = match kept {
                            Some(kept) => {
                                let zero = b.int(I64, 0);
                                let dropped = b.compare(CompareOp::Eq, kept, zero);
                                let mask = mask_type(Ty::scalar(self.to));
                                let dropped = b.convert(mask.dtype, dropped);
                                let zero = self.zero(b);
                                b.select(dropped, zero, weight)
                            }
                            None => weight,
                        };
                        let entry = b.affine(row.clone() * s + j);
                        let at = self.matrix_row(b, entry);
                        let at = scaled(b, at, pitch);
                        let at = b.add(at, target);
                        b.store_at(self.w.buffer, self.w.offset.clone(), at, weight);
                    }
                    let bits = b.int(I64, self.get("row_bits"));
                    let step = match kept {
                        Some(kept) => b.mul(kept, bits),
                        None => bits,
                    };
                    vec![b.add(carried[0], step)]
                });
                position = next[0];
            }
            vec![position]
        })[0]
    }

    /// The weights of the row whose codes begin at a bit.
    fn row(&self, b: &mut FuncBuilder, basis: &Basis, scale: Option<Val>, position: Val) -> Vec<Val> {
        let word = self.bits(b, position, self.get("row_bits"));
        let values = self.values(b, word);
        (0..self.get("s") as usize)
            .map(|j| {
                let mut sum = basis.rounding;
                for (k, &value) in values.iter().enumerate() {
                    let product = b.mul(value, basis.entries[k * self.get("s") as usize + j]);
                    sum = b.add(sum, product);
                }
                let sum = b.arith2(Arith2::Shr, sum, basis.shift);
                let (low, high) = (b.int(I64, -128), b.int(I64, 127));
                let sum = b.max(sum, low);
                let sum = b.min(sum, high);
                let weight = b.convert(self.to, sum);
                match scale {
                    Some(scale) => b.mul(weight, scale),
                    None => weight,
                }
            })
            .collect()
    }

    fn zero(&self, b: &mut FuncBuilder) -> Val {
        match self.to {
            DType::F32 => b.f32(1, 0.0),
            to => b.int(Ty::scalar(to), 0),
        }
    }

    /// The integers that the codes of a word stand for.
    fn values(&self, b: &mut FuncBuilder, word: Val) -> Vec<Val> {
        let [r, magnitudes] = ["r", "magnitudes"].map(|n| self.get(n));
        if self.get("nibbles") != 0 {
            return (0..r)
                .map(|k| {
                    let nibble = right(b, word, 4 * k);
                    let magnitude = masked(b, nibble, 7);
                    let sign = masked(b, nibble, 8);
                    let zero = b.int(I64, 0);
                    let positive = b.compare(CompareOp::Eq, sign, zero);
                    self.signed(b, magnitude, positive)
                })
                .collect();
        }
        let mut rest = word;
        let mut values: Vec<Val> = (0..r)
            .map(|_| {
                let levels = 2 * magnitudes + 1;
                let above = divided(b, rest, levels);
                let digits = scaled(b, above, levels);
                let digit = b.sub(rest, digits);
                rest = above;
                let code = shifted(b, digit, -magnitudes);
                let zero = b.int(I64, 0);
                let positive = b.compare(CompareOp::Ge, code, zero);
                let magnitude = b.arith1(Arith1::Abs, code);
                self.signed(b, magnitude, positive)
            })
            .collect();
        values.reverse();
        values
    }

    /// The magnitude at a position of the alphabet, counted from 1, or zero; negated unless `positive`.
    fn signed(&self, b: &mut FuncBuilder, position: Val, positive: Val) -> Val {
        let alphabet = self.get("alphabet_hi") << 32 | self.get("alphabet_lo");
        let alphabet = b.int(I64, alphabet);
        let one = b.int(I64, 1);
        let place = b.sub(position, one);
        let place = scaled(b, place, 8);
        let magnitude = b.arith2(Arith2::Shr, alphabet, place);
        let magnitude = masked(b, magnitude, 255);
        let zero = b.int(I64, 0);
        let is_zero = b.compare(CompareOp::Eq, position, zero);
        let magnitude = b.select(is_zero, zero, magnitude);
        let negative = b.arith1(Arith1::Neg, magnitude);
        b.select(positive, magnitude, negative)
    }

    /// The matrix row of an entry of a filter's vector.
    fn matrix_row(&self, b: &mut FuncBuilder, entry: Val) -> Val {
        let [n1, n2, d0, d1, d2] = ["n1", "n2", "d0", "d1", "d2"].map(|n| self.get(n));
        let outer = divided(b, entry, n2);
        let inner = scaled(b, outer, n2);
        let i2 = b.sub(entry, inner);
        let i0 = divided(b, outer, n1);
        let inner = scaled(b, i0, n1);
        let i1 = b.sub(outer, inner);
        let parts = [(i0, d0), (i1, d1), (i2, d2)].map(|(i, d)| scaled(b, i, d));
        let sum = b.add(parts[0], parts[1]);
        b.add(sum, parts[2])
    }

    fn basis(&self, b: &mut FuncBuilder, basis: Val) -> Basis {
        let [s, r, width] = ["s", "r", "basis_bits"].map(|n| self.get(n));
        let bits = scaled(b, basis, s * r * width);
        let start = shifted(b, bits, 8 * self.get("at_bases"));
        let entries = (0..s * r)
            .map(|i| {
                let at = shifted(b, start, i * width);
                let entry = self.bits(b, at, width);
                // Two's complement: flip the sign bit and take it away again.
                let sign = b.int(I64, 1 << (width - 1));
                let entry = b.arith2(Arith2::Xor, entry, sign);
                b.sub(entry, sign)
            })
            .collect();
        let at = scaled(b, basis, 4);
        let at = shifted(b, at, 8 * self.get("at_shifts"));
        let shift = self.bits(b, at, 4);
        let one = b.int(I64, 1);
        let unit = b.arith2(Arith2::Shl, one, shift);
        let rounding = b.arith2(Arith2::Shr, unit, one);
        Basis {
            entries,
            shift,
            rounding,
        }
    }

    fn scale(&self, b: &mut FuncBuilder, column: &Affine) -> Val {
        let half = self.get("half") != 0;
        let size = if half { 2 } else { 4 };
        let first = column.clone() * size + self.get("filter0") * size + self.get("at_scales");
        let mut bits = b.int(I64, 0);
        for k in 0..size {
            let at = self.packed.offset.clone() + first.clone() + k;
            let byte = b.load(Ty::scalar(DType::U8), self.packed.buffer, at);
            let byte = b.convert(DType::I64, byte);
            let byte = left(b, byte, 8 * k);
            bits = b.arith2(Arith2::Or, bits, byte);
        }
        // Exponent and fraction of a half have a float's order; what is left is the difference of the biases.
        let bits = if half { left(b, bits, 13) } else { bits };
        let bits = b.convert(DType::I32, bits);
        let scale = b.inst(Ty::scalar(DType::F32), Inst::Bitcast(bits));
        if half {
            let adjust = b.f32(1, f32::from_bits((127 + 112) << 23));
            b.mul(scale, adjust)
        } else {
            scale
        }
    }

    /// A field of `width` bits, its lowest at bit `at` of the packed bytes.
    fn bits(&self, b: &mut FuncBuilder, at: Val, width: i64) -> Val {
        let byte = right(b, at, 3);
        let mut field = b.int(I64, 0);
        // A field that begins at the end of a byte reaches so far; behind the fields of every section lie bytes of another.
        for k in 0..(width + 14) / 8 {
            let part = b.load_at(
                Ty::scalar(DType::U8),
                self.packed.buffer,
                self.packed.offset.clone() + k,
                byte,
            );
            let part = b.convert(DType::I64, part);
            let part = left(b, part, 8 * k);
            field = b.arith2(Arith2::Or, field, part);
        }
        let shift = masked(b, at, 7);
        let field = b.arith2(Arith2::Shr, field, shift);
        masked(b, field, (1 << width) - 1)
    }
}

/// The entries of a basis, its shift, and what is added before shifting.
struct Basis {
    entries: Vec<Val>,
    shift: Val,
    rounding: Val,
}

fn scaled(b: &mut FuncBuilder, x: Val, factor: i64) -> Val {
    if factor == 1 {
        return x;
    }
    let factor = b.int(I64, factor);
    b.mul(x, factor)
}

fn shifted(b: &mut FuncBuilder, x: Val, by: i64) -> Val {
    let by = b.int(I64, by);
    b.add(x, by)
}

fn divided(b: &mut FuncBuilder, x: Val, by: i64) -> Val {
    if by == 1 {
        return x;
    }
    let by = b.int(I64, by);
    b.div(x, by)
}

fn left(b: &mut FuncBuilder, x: Val, by: i64) -> Val {
    let by = b.int(I64, by);
    b.arith2(Arith2::Shl, x, by)
}

fn right(b: &mut FuncBuilder, x: Val, by: i64) -> Val {
    let by = b.int(I64, by);
    b.arith2(Arith2::Shr, x, by)
}

fn masked(b: &mut FuncBuilder, x: Val, mask: i64) -> Val {
    let mask = b.int(I64, mask);
    b.arith2(Arith2::And, x, mask)
}
