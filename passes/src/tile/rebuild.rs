//! Compressed weights: rebuilt into prepared memory when the model is loaded, or tile by tile while it runs.
//!
//! A convolution or matrix product whose weights are a `Rebuild` of a constant gets them in the packed form its kernel reads, from
//! [`panels`] or, streamed, block by block from a scratch buffer. Whatever else reads a `Rebuild` gets the dense tensor, in prepared memory
//! in both modes. All ways give the bits of the dense constant.

use super::{Lowering, TileError, pack};
use sdc_ir::graph::{Graph, Node, Op, Origin, Value};
use sdc_ir::schedule::Storage;
use sdc_ir::sd::{Decomposed, Index, Int8, Packing, Stored, sizes, stored_rows};
use sdc_ir::tensor::row_major_strides;
use sdc_ir::tile::{
    Affine, Bound, Buffer, BufferData, BufferKind, FuncBuilder, Inst, KernelCall, Ty, Val, View,
};
use sdc_ir::{DType, Tensor};

/// Most kernel calls for one dense tensor.
const MAX_CALLS: usize = 256;

/// Compressed weights that a node reads.
#[derive(Debug, Clone)]
pub struct Weights {
    stored: Stored,
    packed: Tensor,
    name: String,
    /// `f32`, or `i8` for the integers without their scales.
    to: DType,
}

/// Filters as columns of matrices in the blocks of the kernels; one matrix per group of filters, one after another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matrices {
    /// Number of matrices.
    pub groups: usize,
    /// Per dimension of the tensor, the step it makes along the rows of a matrix; 0 for those that number filters.
    pub row_steps: Vec<usize>,
    /// Columns of a block.
    pub block: usize,
    /// The last block is padded to a multiple of this.
    pub lanes: usize,
}

/// Bytes of a block that is multiplied as soon as it is rebuilt: it should stay in the core's own cache.
const SCRATCH: usize = 640 << 10;

/// Fewest columns of such a block, as many as are rebuilt side by side.
const COLUMNS: usize = 32;

/// The columns of one matrix, in blocks of which only one exists at a time.
pub struct Blocks {
    /// All columns.
    pub columns: usize,
    /// Columns of a block; the last may have fewer.
    pub block: usize,
}

impl Blocks {
    /// Blocks of the width of these matrices, or a part of it where such a block would leave the core's own cache; and matrices of blocks as
    /// wide.
    pub fn of(columns: usize, weights: &Weights, matrices: &Matrices) -> (Self, Matrices) {
        let mut block = matrices.block;
        while block * weights.rows() * DType::F32.size() > SCRATCH && block.is_multiple_of(2 * COLUMNS) {
            block /= 2;
        }
        let matrices = Matrices {
            block,
            ..matrices.clone()
        };
        (Self { columns, block }, matrices)
    }

    /// For each block: rebuilds it in `scratch`, then does what `consume` emits, given the first column and their number.
    pub fn emit(
        &self,
        cx: &mut Lowering<'_>,
        b: &mut FuncBuilder,
        weights: &Weights,
        matrices: &Matrices,
        scratch: Buffer,
        consume: impl Fn(&mut FuncBuilder, Affine, usize),
    ) {
        let to = View {
            buffer: scratch,
            offset: 0.into(),
        };
        let full = self.columns / self.block;
        b.for_range(0, full, 1, |b, i| {
            weights.emit(cx, b, matrices, 0, (i.clone(), i.clone() + 1), to.clone());
            consume(b, i * self.block as i64, self.block);
        });
        let rest = self.columns % self.block;
        if rest > 0 {
            weights.emit(cx, b, matrices, 0, (full.into(), (full + 1).into()), to);
            consume(b, (full * self.block).into(), rest);
        }
    }
}

/// Where columns and rows of one matrix lie.
pub(super) struct Place {
    pub filter0: usize,
    pub filters: usize,
    /// Sizes and steps along the rows of the three parts of an entry's number, outermost first.
    pub digits: [(usize, usize); 3],
    pub block: usize,
    pub lanes: usize,
    /// Distances of columns and rows, if they are not those of blocks.
    pub strides: Option<(usize, usize)>,
}

impl Weights {
    /// The weights behind a value, if it is a `Rebuild` of a constant whose filters are numbered by the dimensions `filter_dims` and that
    /// the kernels can address.
    pub fn of(graph: &Graph, value: Value, filter_dims: &[usize]) -> Option<Self> {
        let weights = Self::any(graph, value)?;
        let geometry = weights.stored.geometry();
        (geometry.filter_dims == filter_dims).then_some(weights)
    }

    /// The weights behind the right operand of a matrix product, `[K, N]` or a transposed `[N, K]`, and the steps of their dimensions.
    pub fn of_product(graph: &Graph, value: Value) -> Option<(Self, Vec<usize>)> {
        let node = &graph.nodes()[graph.def_node(value)?];
        match &node.op {
            Op::Transpose(t) if t.perm == [1, 0] => {
                Some((Self::of(graph, node.inputs[0], &[0])?, vec![0, 1]))
            }
            _ => Some((Self::of(graph, value, &[1])?, vec![1, 0])),
        }
        .filter(|(weights, _)| weights.stored.geometry().shape.len() == 2)
    }

    /// The weights behind a value, if it is a `Rebuild` of a valid constant.
    pub fn any(graph: &Graph, value: Value) -> Option<Self> {
        let node = &graph.nodes()[graph.def_node(value)?];
        let Op::Rebuild(op) = &node.op else { return None };
        let packed = graph.constant(node.inputs[0])?.clone();
        let stored = Stored::unpack(packed.bytes()).ok()?;
        (stored.geometry().shape == graph.ty(value).sizes()).then(|| Self {
            stored,
            packed,
            name: value.to_string(),
            to: op.to,
        })
    }

    /// Codes and bases, or plain integers.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The packed bytes.
    pub fn packed(&self) -> &Tensor {
        &self.packed
    }

    /// What they are rebuilt to: `f32`, or `i8` for the integers without their scales.
    pub fn to(&self) -> DType {
        self.to
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Entries of a filter.
    pub fn rows(&self) -> usize {
        self.stored.geometry().vector_len()
    }

    fn place(&self, matrices: &Matrices, group: usize) -> Option<Place> {
        let filters = self.stored.geometry().filters() / matrices.groups;
        Some(Place {
            filter0: group * filters,
            filters,
            digits: self.digits(&matrices.row_steps)?,
            block: matrices.block,
            lanes: matrices.lanes,
            strides: None,
        })
    }

    /// An entry's number in a filter as digits, given the step of each dimension; `None` if three are not enough.
    fn digits(&self, steps: &[usize]) -> Option<[(usize, usize); 3]> {
        let geometry = self.stored.geometry();
        let dims = geometry
            .vector_dims
            .iter()
            .map(|&d| (geometry.shape[d], steps[d]));
        let merged = merged(dims);
        let mut digits = [(1, 0); 3];
        let unused = digits.len().checked_sub(merged.len())?;
        digits[unused..].copy_from_slice(&merged);
        Some(digits)
    }

    /// True if the kernels can write these matrices.
    pub fn fits(&self, matrices: &Matrices) -> bool {
        self.digits(&matrices.row_steps).is_some()
    }

    /// Elements of one matrix.
    pub fn matrix_len(&self, matrices: &Matrices) -> usize {
        let filters = self.stored.geometry().filters() / matrices.groups;
        pack::packed_len(self.rows(), filters, matrices.block, matrices.lanes)
    }

    /// Rebuilds blocks `range` of a matrix to the elements from `to` on.
    pub fn emit(
        &self,
        cx: &mut Lowering<'_>,
        b: &mut FuncBuilder,
        matrices: &Matrices,
        group: usize,
        range: (Affine, Affine),
        to: View,
    ) {
        if let Some(place) = self.place(matrices, group) {
            self.emit_at(cx, b, &place, range, to);
        }
    }

    /// Rebuilds columns at a place of their own.
    pub(super) fn emit_at(
        &self,
        cx: &mut Lowering<'_>,
        b: &mut FuncBuilder,
        place: &Place,
        range: (Affine, Affine),
        to: View,
    ) {
        let from = cx.constant(self.packed.clone(), &format!("{} compressed", self.name));
        match &self.stored {
            Stored::Sd(d) => b.kernel(KernelCall {
                kernel: match self.to {
                    DType::I8 => "sd_rebuild_i8",
                    _ => "sd_rebuild_f32",
                }
                .to_owned(),
                ..call(d, self.packed.len(), place, range, from, to)
            }),
            Stored::Int8(q) => int8(b, q, place, range, from, &to, self.to),
        }
    }
}

/// Neighbouring digits that step alike as one; outermost first, without those that do not count.
pub(super) fn merged(digits: impl Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (size, step) in digits.filter(|&(size, _)| size != 1) {
        match out.last_mut() {
            Some(outer) if outer.1 == size * step => *outer = (outer.0 * size, step),
            _ => out.push((size, step)),
        }
    }
    out
}

/// A read-only buffer of rebuilt matrices: prepared, or filled by a function of its own just before the next one.
pub fn panels(
    cx: &mut Lowering<'_>,
    origins: &[Origin],
    weights: &Weights,
    matrices: &Matrices,
    streamed: bool,
) -> Buffer {
    let key = (weights.packed.digest(), matrices.clone());
    if let Some(&buffer) = cx.rebuilt.get(&key) {
        return buffer;
    }
    let one = weights.matrix_len(matrices);
    let buffer = cx.module.buffers.push(BufferData {
        dtype: DType::F32,
        len: one * matrices.groups,
        kind: if streamed {
            BufferKind::Temp
        } else {
            BufferKind::Prepared
        },
        name: format!("{} rebuilt", weights.name),
    });
    let blocks = (weights.stored.geometry().filters() / matrices.groups).div_ceil(matrices.block);
    let mut b = FuncBuilder::new();
    for group in 0..matrices.groups {
        let to = View {
            buffer,
            offset: (group * one).into(),
        };
        weights.emit(cx, &mut b, matrices, group, (0.into(), blocks.into()), to);
    }
    if streamed {
        let name = format!("f{}", cx.module.funcs.len());
        cx.module.funcs.push(b.finish(name, origins.to_vec()));
    } else {
        push_prepare(cx, b, origins);
        cx.rebuilt.insert(key, buffer);
    }
    buffer
}

/// A scratch buffer for one block.
pub fn scratch(cx: &mut Lowering<'_>, weights: &Weights, matrices: &Matrices) -> Buffer {
    cx.module.buffers.push(BufferData {
        dtype: DType::F32,
        len: weights.rows() * matrices.block,
        kind: BufferKind::Temp,
        name: format!("{} rebuilt", weights.name),
    })
}

pub(super) fn push_prepare(cx: &mut Lowering<'_>, b: FuncBuilder, origins: &[Origin]) {
    let name = format!("p{}", cx.module.prepare.len());
    cx.module.prepare.push(b.finish(name, origins.to_vec()));
}

/// Fails unless the node rebuilds valid constant weights of its result's shape.
pub fn check(cx: &Lowering<'_>, node: Node) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let Some(packed) = cx.graph.constant(data.inputs[0]) else {
        return Err(cx.unsupported(node, "compressed weights must be a constant"));
    };
    let stored = Stored::unpack(packed.bytes()).map_err(|e| cx.unsupported(node, e.to_string()))?;
    if stored.geometry().shape != cx.graph.ty(data.outputs[0]).sizes() {
        let reason = format!("the packed weights have shape {:?}", stored.geometry().shape);
        return Err(cx.unsupported(node, reason));
    }
    Ok(())
}

/// Fills the dense tensors that are in prepared memory.
pub fn fill_dense(cx: &mut Lowering<'_>) {
    for (value, storage) in cx.schedule.storage.iter() {
        if *storage != Storage::Prepared {
            continue;
        }
        let node = cx.graph.def_node(value).map(|n| &cx.graph.nodes()[n]);
        if let (Some(weights), Some(node)) = (Weights::any(cx.graph, value), node) {
            let buffer = cx.place(value).buffer;
            fill(cx, &weights, buffer, &node.origins);
        }
    }
}

fn fill(cx: &mut Lowering<'_>, weights: &Weights, buffer: Buffer, origins: &[Origin]) {
    let geometry = weights.stored.geometry();
    let strides = row_major_strides(&geometry.shape);
    let filters = merged(
        geometry
            .filter_dims
            .iter()
            .map(|&d| (geometry.shape[d], strides[d])),
    );
    let (inner, outer) = match filters.split_last() {
        Some((&inner, outer)) => (inner, outer),
        None => ((1, 1), &[][..]),
    };
    let calls: usize = outer.iter().map(|d| d.0).product();
    let (Some(digits), true) = (weights.digits(&strides), calls <= MAX_CALLS) else {
        // Rare orders of dimensions: the tensor is a constant then.
        let dense = match weights.to {
            DType::I8 => weights.stored.rebuild().map(|(integers, _)| integers),
            _ => weights.stored.dequantised(),
        };
        if let Ok(dense) = dense {
            cx.module.buffers[buffer].kind = BufferKind::Const(cx.module.weights.add(dense));
        }
        return;
    };
    let mut b = FuncBuilder::new();
    for call in 0..calls {
        let mut rest = call;
        let mut offset = 0;
        for &(size, stride) in outer.iter().rev() {
            offset += rest % size * stride;
            rest /= size;
        }
        let place = Place {
            filter0: call * inner.0,
            filters: inner.0,
            digits,
            block: inner.0,
            lanes: 1,
            strides: Some((inner.1, 1)),
        };
        let to = View {
            buffer,
            offset: offset.into(),
        };
        weights.emit_at(cx, &mut b, &place, (0.into(), 1.into()), to);
    }
    push_prepare(cx, b, origins);
}

/// The call of a kernel for decomposed weights, but for its name.
fn call(
    d: &Decomposed,
    len: usize,
    place: &Place,
    (begin, end): (Affine, Affine),
    from: Buffer,
    to: View,
) -> KernelCall {
    let (format, geometry) = (&d.format, &d.geometry);
    let at = sizes(geometry, format, stored_rows(d)).sections();
    let mut alphabet = [0; 8];
    alphabet[..format.alphabet.len()].copy_from_slice(&format.alphabet);
    let alphabet = u64::from_le_bytes(alphabet);
    let rows = d.rows();
    let before = (0..place.filter0).flat_map(|f| (0..rows).map(move |q| (f, q)));
    let row0 = match format.index {
        Index::None => place.filter0 * rows,
        Index::Rows(_) => before.filter(|&(f, q)| d.is_kept(f, q)).count(),
    };
    let index_filters = match format.index {
        Index::None => 0,
        Index::Rows(filters) => filters.min(geometry.filters()),
    };
    let (fs, ks) = place.strides.unwrap_or((0, 0));
    let [(_, d0), (n1, d1), (n2, d2)] = place.digits;
    let params = [
        len,
        at.index.start,
        at.codes.start,
        at.bases.start,
        at.shifts.start,
        at.scales.start,
        usize::from(format.scale == DType::F16),
        format.s,
        format.r,
        rows,
        geometry.vector_len(),
        format.slice_rows,
        format.alphabet.len(),
        (alphabet & 0xffff_ffff) as usize,
        (alphabet >> 32) as usize,
        usize::from(format.packing == Packing::Nibble),
        format.row_bits(),
        format.basis_bits.into(),
        format.basis_filters.min(geometry.filters()),
        index_filters,
        place.filter0,
        row0,
        place.filters,
        n1,
        n2,
        d0,
        d1,
        d2,
        fs,
        ks,
        place.block,
        place.lanes,
    ];
    KernelCall {
        kernel: String::new(),
        params: params.map(|p| p as i64).to_vec(),
        operands: vec![
            Some(View {
                buffer: from,
                offset: 0.into(),
            }),
            Some(to),
        ],
        begin: begin.into(),
        end: end.into(),
    }
}

/// Plain integers are loops: nothing about their places depends on data.
fn int8(
    b: &mut FuncBuilder,
    q: &Int8,
    place: &Place,
    (begin, end): (Affine, Affine),
    from: Buffer,
    to: &View,
    dtype: DType,
) {
    let (vector, header) = (q.geometry.vector_len(), q.header_len());
    let scales = header + q.values.len();
    let (full, rest) = (place.filters / place.block, place.filters % place.block);
    for (lo, hi, count) in [(0, full, place.block), (full, full + 1, rest)] {
        if lo == hi || count == 0 {
            continue;
        }
        let width = if count == place.block {
            count
        } else {
            count.next_multiple_of(place.lanes)
        };
        let (column_step, row_step) = place.strides.unwrap_or((1, width));
        let lo = Bound::of(vec![begin.clone(), lo.into()]);
        let hi = Bound::of(vec![end.clone(), hi.into()]);
        b.for_range(lo, hi, 1, |b, block| {
            let first = to.offset.clone() + (block.clone() - begin.clone()) * (place.block * vector) as i64;
            b.for_range(0, count, 1, |b, column| {
                let filter = block.clone() * place.block as i64 + column.clone() + place.filter0;
                let scale = (dtype == DType::F32).then(|| scale(b, q.scale, from, filter.clone(), scales));
                let [(n0, d0), (n1, d1), (n2, d2)] = place.digits;
                b.for_range(0, n0, 1, |b, i0| {
                    b.for_range(0, n1, 1, |b, i1| {
                        b.for_range(0, n2, 1, |b, i2| {
                            let entry = i0.clone() * (n1 * n2) as i64 + i1.clone() * n2 as i64 + i2.clone();
                            let at = filter.clone() * vector as i64 + entry + header;
                            let byte = b.load(Ty::scalar(DType::U8), from, at);
                            let value = b.bitcast(DType::I8, byte);
                            let weight = match scale {
                                Some(scale) => {
                                    let value = b.convert(DType::F32, value);
                                    b.mul(value, scale)
                                }
                                None => value,
                            };
                            let row = i0.clone() * d0 as i64 + i1.clone() * d1 as i64 + i2 * d2 as i64;
                            let at =
                                first.clone() + column.clone() * column_step as i64 + row * row_step as i64;
                            b.store(to.buffer, at, weight);
                        });
                    });
                });
            });
            if place.strides.is_none() && width > count {
                b.for_range(0, vector, 1, |b, row| {
                    b.for_range(count, width, 1, |b, column| {
                        let zero = b.f32(1, 0.0);
                        b.store(
                            to.buffer,
                            first.clone() + row.clone() * width as i64 + column,
                            zero,
                        );
                    });
                });
            }
        });
    }
}

/// A stored scale; its bytes need not be aligned.
fn scale(b: &mut FuncBuilder, stored: DType, from: Buffer, filter: Affine, start: usize) -> Val {
    let int = Ty::scalar(DType::I32);
    let mut bits = b.int(int, 0);
    for k in 0..stored.size() {
        let at = filter.clone() * stored.size() as i64 + (start + k);
        let byte = b.load(Ty::scalar(DType::U8), from, at);
        let byte = b.convert(DType::I32, byte);
        let places = b.int(int, 8 * k as i64);
        let byte = b.arith2(sdc_ir::tile::Arith2::Shl, byte, places);
        bits = b.arith2(sdc_ir::tile::Arith2::Or, bits, byte);
    }
    if stored == DType::F16 {
        let bits = b.convert(DType::U16, bits);
        let half = b.inst(Ty::scalar(DType::F16), Inst::Bitcast(bits));
        b.convert(DType::F32, half)
    } else {
        b.bitcast(DType::F32, bits)
    }
}
