//! Weights as matrices of packed columns: how an element's place follows from its row and column, for constants, which are packed
//! here, and for tensors in memory, which loops pack when the model is loaded or while it runs.

use super::{Lowering, TileError, pack};
use sdc_ir::DType;
use sdc_ir::graph::{Node, Value};
use sdc_ir::schedule::Form;
use sdc_ir::tile::{Affine, Buffer, BufferData, BufferKind, FuncBuilder, Ty, View};

/// Matrices within a tensor of `f32`, one after another in packed form. Steps are in elements of the tensor.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Number of matrices, and the step from one to the next.
    pub groups: (usize, i64),
    /// The element that the first matrix begins with.
    pub first: i64,
    /// Digits of the row number, the most significant first: size and step.
    pub rows: Vec<(usize, i64)>,
    /// Number of columns and the step from one to the next.
    pub columns: (usize, i64),
    /// Columns of a block.
    pub block: usize,
    /// The last block is padded to a multiple of this.
    pub lanes: usize,
}

/// Which of a node's packed weights a buffer holds: the phase of a transposed convolution, or the side of Winograd's tiles.
pub type Part = [usize; 2];

impl Matrix {
    fn height(&self) -> usize {
        self.rows.iter().map(|r| r.0).product()
    }

    /// Elements of one matrix in packed form.
    pub fn packed_len(&self) -> usize {
        pack::packed_len(self.height(), self.columns.0, self.block, self.lanes)
    }

    /// A buffer with the packed form of `value`, which the schedule wants in `form`: a constant, or at run time a buffer that a function
    /// before fills. `None` if the value cannot have that form.
    pub fn buffer(
        &self,
        cx: &mut Lowering<'_>,
        (node, part): (Node, Part),
        value: Value,
        form: Option<Form>,
        name: String,
    ) -> Result<Option<Buffer>, TileError> {
        let constant = cx.graph.constant(value).filter(|t| t.dtype() == DType::F32);
        match (form, constant) {
            (Some(Form::Constant), Some(tensor)) => {
                let fail = |e: sdc_ir::tensor::TensorError| cx.unsupported(node, e.to_string());
                let elements = tensor.elements::<f32>().map_err(fail)?;
                let packed = super::conv::tensor(cx, node, self.pack(&elements))?;
                Ok(Some(cx.constant(packed, &name)))
            }
            (Some(Form::AtRun), _) if cx.dtype(value) == DType::F32 => {
                let from = cx.place(value).buffer;
                Ok(Some(self.filled(cx, (node, part), from, BufferKind::Temp, name)))
            }
            _ => Ok(None),
        }
    }

    /// A buffer that is filled once from the tensor in `from`, by a function of its own: when the model is loaded if it is
    /// [`BufferKind::Prepared`], and else just now. A node asks for it as often as it has parts.
    pub fn filled(
        &self,
        cx: &mut Lowering<'_>,
        key: (Node, Part),
        from: Buffer,
        kind: BufferKind,
        name: String,
    ) -> Buffer {
        if let Some(&buffer) = cx.packed.get(&key) {
            return buffer;
        }
        let prepared = kind == BufferKind::Prepared;
        let one = self.packed_len();
        let to = cx.module.buffers.push(BufferData {
            dtype: DType::F32,
            len: one * self.groups.0,
            kind,
            name,
        });
        let mut b = FuncBuilder::new();
        let lanes = cx.widths.lanes;
        each(&mut b, self.groups.0, |b, g| {
            let view = |buffer, offset| View { buffer, offset };
            let from = view(from, g.clone() * self.groups.1 + self.first);
            self.emit(b, &from, &view(to, g * one as i64), lanes);
        });
        let origins = cx.graph.nodes()[key.0].origins.clone();
        if prepared {
            super::rebuild::push_prepare(cx, b, &origins);
        } else {
            cx.push_func(b, origins);
        }
        cx.packed.insert(key, to);
        to
    }

    /// The packed form of all matrices.
    fn pack(&self, elements: &[f32]) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.packed_len() * self.groups.0);
        for g in 0..self.groups.0 {
            let first = self.first + g as i64 * self.groups.1;
            pack::columns_into(
                &mut all,
                self.height(),
                self.columns.0,
                self.block,
                self.lanes,
                |row, column| {
                    let (mut at, mut rest) = (first + column as i64 * self.columns.1, row);
                    for &(size, step) in self.rows.iter().rev() {
                        at += (rest % size) as i64 * step;
                        rest /= size;
                    }
                    elements[at as usize]
                },
            );
        }
        all
    }

    /// Loops that pack one matrix, `lanes` elements at a time where its columns lie side by side.
    pub fn emit(&self, b: &mut FuncBuilder, from: &View, to: &View, lanes: u8) {
        let (columns, block) = (self.columns.0, self.block);
        let (full, rest) = (columns / block, columns % block);
        let column = |first: Affine| View {
            buffer: from.buffer,
            offset: from.offset.clone() + first * self.columns.1,
        };
        let place = |blocks: Affine| View {
            buffer: to.buffer,
            offset: to.offset.clone() + blocks * (block * self.height()) as i64,
        };
        each(b, full, |b, i| {
            let from = column(i.clone() * block as i64);
            self.block(b, &from, &place(i), (block, block), lanes);
        });
        if rest > 0 {
            let width = rest.next_multiple_of(self.lanes);
            let from = column((full * block).into());
            self.block(b, &from, &place(full.into()), (rest, width), lanes);
        }
    }

    /// Some columns, padded with zeros to `width`.
    fn block(
        &self,
        b: &mut FuncBuilder,
        from: &View,
        to: &View,
        (columns, width): (usize, usize),
        lanes: u8,
    ) {
        // Rows are gone through in the order in which they lie, so that each line of the cache is fetched once.
        let mut below = width as i64;
        let mut digits = Vec::new();
        for &(size, step) in self.rows.iter().rev() {
            digits.push((size, step, below));
            below *= size as i64;
        }
        digits.sort_by_key(|d| std::cmp::Reverse(d.1.abs()));
        let lanes = if self.columns.1 == 1 { lanes } else { 1 };
        self.row(b, &digits, from.clone(), to.clone(), (columns, width), lanes);
    }

    fn row(
        &self,
        b: &mut FuncBuilder,
        digits: &[(usize, i64, i64)],
        from: View,
        to: View,
        (columns, width): (usize, usize),
        lanes: u8,
    ) {
        let moved = |v: &View, by: Affine| View {
            buffer: v.buffer,
            offset: v.offset.clone() + by,
        };
        if let [(size, step, place), rest @ ..] = digits {
            return each(b, *size, |b, i| {
                let (from, to) = (moved(&from, i.clone() * *step), moved(&to, i * *place));
                self.row(b, rest, from, to, (columns, width), lanes);
            });
        }
        let main = columns - columns % usize::from(lanes);
        for (lo, hi, lanes) in [(0, main, lanes), (main, columns, 1)] {
            if lo == hi {
                continue;
            }
            b.for_range(lo, hi, lanes.into(), |b, j| {
                let at = from.offset.clone() + j.clone() * self.columns.1;
                let x = b.load(Ty::vector(DType::F32, lanes), from.buffer, at);
                b.store(to.buffer, to.offset.clone() + j, x);
            });
        }
        if columns < width {
            b.for_range(columns, width, 1, |b, j| {
                let zero = b.f32(1, 0.0);
                b.store(to.buffer, to.offset.clone() + j, zero);
            });
        }
    }
}

/// A loop, unless one round or none is all there is.
fn each(b: &mut FuncBuilder, count: usize, body: impl FnOnce(&mut FuncBuilder, Affine)) {
    match count {
        0 => {}
        1 => body(b, 0.into()),
        _ => b.for_range(0, count, 1, body),
    }
}
