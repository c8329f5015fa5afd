//! Convolutions and products by the rows of compressed weights that are stored: tables of what is there, and calls of the kernels that go
//! through them.
//!
//! The tables are made of the packed bytes, block by block of filters: a block is rebuilt dense in a scratch buffer, and its rows that any
//! of its filters keeps are moved together. As in [`super::rebuild`] this is done when the model is loaded, or just before each use.

use super::conv::{activation_params, operands};
use super::nest::Ref;
use super::quantised_conv::{self, Packed};
use super::rebuild::{self, Place, Weights};
use super::{Lowering, TileError, matmul, split};
use sdc_ir::graph::op::{Activation, Conv, MatMul, QLinearConv};
use sdc_ir::graph::{Graph, Node, Origin, Value};
use sdc_ir::registry::sparse2d::{BLOCK, Copied};
use sdc_ir::schedule::{Form, Grid, Run, Tasks};
use sdc_ir::sd::{Decomposed, Index, Stored, sizes, stored_rows};
use sdc_ir::tile::{
    Affine, Arith2, Bound, Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Ty, Val, View,
};
use sdc_ir::{DType, Tensor};
use std::ops::Range;

/// Most images that have a copy each at the same time.
pub const SLOTS: usize = 16;

/// What a dimension of the weights runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Axis {
    /// Channels, or the inner dimension of a product.
    Units,
    /// Rows of a window.
    Rows,
    /// Columns of a window.
    Columns,
}

/// What an entry of a table reads of a pixel: a channel, or the up to four bytes that a row of integers or a part of one meets.
#[derive(Debug, Clone, Copy)]
struct Unit {
    /// Units of a row of weights, and of a pixel.
    per_row: usize,
    per_pixel: usize,
    /// Channels from one to the next.
    jump: usize,
    /// Bytes, and what they run over.
    bytes: usize,
    along: Axis,
}

/// Weights of which some rows are not stored.
#[derive(Debug, Clone)]
pub struct Sparse {
    weights: Weights,
    stored: Decomposed,
    unit: Unit,
    /// What the units of a filter's vector run over, outermost first.
    axes: Vec<(usize, Axis)>,
}

impl Sparse {
    /// The weights `[M, C, kh, kw]` of a convolution, if a kernel can go through the rows that are there.
    pub fn of_conv(graph: &Graph, value: Value) -> Option<Self> {
        let channels = *graph.ty(value).sizes().get(1)?;
        Self::new(Weights::of(graph, value, &[0])?, channels, |d| match d {
            1 => Axis::Units,
            2 => Axis::Rows,
            _ => Axis::Columns,
        })
    }

    /// The right operand of a product, as the weights of a convolution of single pixels.
    pub fn of_product(graph: &Graph, value: Value) -> Option<Self> {
        let (weights, _) = Weights::of_product(graph, value)?;
        let channels = weights.rows();
        Self::new(weights, channels, |_| Axis::Units)
    }

    fn new(weights: Weights, channels: usize, axis: impl Fn(usize) -> Axis) -> Option<Self> {
        let Stored::Sd(stored) = weights.stored() else {
            return None;
        };
        let (stored, s) = (stored.clone(), stored.format.s);
        let shape = &stored.geometry.shape;
        let axes = stored.geometry.vector_dims.iter().map(|&d| (shape[d], axis(d)));
        let mut axes: Vec<_> = axes.filter(|&(size, _)| size > 1).collect();
        let unit = Unit {
            per_row: s,
            per_pixel: channels,
            jump: 1,
            bytes: 1,
            along: Axis::Units,
        };
        let unit = match (weights.to(), axes.pop()?) {
            (DType::F32, last) => {
                axes.push(last);
                unit
            }
            // A row that is one of the window.
            (_, (size, along)) if along != Axis::Units && size == s && s <= 4 => Unit {
                per_row: 1,
                bytes: s,
                along,
                ..unit
            },
            // Channels one after another.
            (_, (size, Axis::Units)) if (s <= 4 || s == 8) && (axes.is_empty() || size.is_multiple_of(s)) => {
                let bytes = s.min(4);
                axes.push((size.div_ceil(bytes), Axis::Units));
                Unit {
                    per_row: s.div_ceil(4),
                    per_pixel: size.div_ceil(bytes),
                    jump: bytes,
                    bytes,
                    ..unit
                }
            }
            _ => return None,
        };
        matches!(stored.format.index, Index::Rows(_)).then_some(Self {
            weights,
            stored,
            unit,
            axes,
        })
    }

    /// Rows of the weights that are not cut short, units of the last one that is, and units of all.
    fn rows(&self) -> (usize, usize, usize) {
        let (vector, s) = (self.stored.geometry.vector_len(), self.stored.format.s);
        let (whole, rest) = (vector / s, vector % s);
        let rest = match self.weights.to() {
            DType::F32 => rest,
            _ => rest.div_ceil(4),
        };
        (whole, rest, whole * self.unit.per_row + rest)
    }

    /// Type and number of the weights of an entry.
    fn entry(&self) -> (DType, usize) {
        match self.weights.to() {
            DType::F32 => (DType::F32, BLOCK),
            to => (to, 4 * BLOCK),
        }
    }

    /// Where the dense block is rebuilt: entry by entry, of integers four bytes of a filter side by side.
    fn place(&self) -> Place {
        let (s, vector) = (self.stored.format.s, self.stored.geometry.vector_len());
        let integers = self.weights.to() != DType::F32;
        let step = 4 * BLOCK;
        let digits = match integers {
            false => [(1, 0), (1, 0), (vector, 1)],
            true => [
                (self.stored.rows(), s.div_ceil(4) * step),
                (s.div_ceil(4), step),
                (s.min(4), 1),
            ],
        };
        Place {
            filter0: 0,
            filters: self.stored.geometry.filters(),
            digits,
            block: BLOCK,
            lanes: BLOCK,
            strides: integers.then_some((4, 1)),
        }
    }

    /// Whether windows have several rows, or columns, that are not in one unit.
    fn has(&self, axis: Axis) -> bool {
        self.axes.iter().any(|&(_, a)| a == axis)
    }

    /// Whether some filter of a block keeps a row.
    fn is_kept(&self, block: usize, row: usize) -> bool {
        let filters = block * BLOCK..((block + 1) * BLOCK).min(self.stored.geometry.filters());
        let step = self.stored.format.index_filters();
        let last = filters.end - 1;
        filters
            .step_by(step)
            .chain([last])
            .any(|filter| self.stored.is_kept(filter, row))
    }

    /// Blocks of filters.
    pub fn blocks(&self) -> usize {
        self.stored.geometry.filters().div_ceil(BLOCK)
    }

    /// Entries that a filter would have with all its rows.
    pub fn dense(&self) -> usize {
        self.rows().2
    }

    /// Entries of all blocks.
    pub fn entries(&self) -> usize {
        self.starts().last().copied().unwrap_or(0)
    }

    /// Entries of each block, and at the end of all, counted up from the first.
    pub fn starts(&self) -> Vec<usize> {
        let (whole, rest, _) = self.rows();
        let mut starts = vec![0];
        let mut at = 0;
        for block in 0..self.blocks() {
            let kept = (0..self.stored.rows()).filter(|&row| self.is_kept(block, row));
            at += kept
                .map(|row| if row < whole { self.unit.per_row } else { rest })
                .sum::<usize>();
            starts.push(at);
        }
        starts
    }
}

/// The window of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Rows and columns.
    pub size: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub pads: [usize; 2],
}

impl Window {
    /// A single pixel.
    pub const PIXEL: Window = Window {
        size: [1, 1],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [0, 0],
    };

    /// Of an operator with weights of this shape.
    pub fn of(strides: &[usize], dilations: &[usize], pads: &[usize], weights: &[usize]) -> Self {
        let two = |of: &[usize]| [0, 1].map(|d| of.get(d).copied().unwrap_or(1));
        Self {
            size: two(weights.get(2..).unwrap_or(&[])),
            strides: two(strides),
            dilations: two(dilations),
            pads: two(pads),
        }
    }

    /// The same convolution of the input's pixels that it reads, if its windows are single pixels of the input.
    pub fn of_pixels(self, x: &Ref, y: &Ref) -> (Self, Ref) {
        let mut x = x.clone();
        let Window { strides, .. } = self;
        if self.size != [1, 1] || self.pads != [0, 0] {
            return (self, x);
        }
        for d in [0, 1] {
            x.shape[2 + d] = y.shape[2 + d];
            x.strides[2 + d] *= strides[d] as i64;
        }
        let strides = [1, 1];
        (Self { strides, ..self }, x)
    }
}

/// A copy of the input, and how windows lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Windows {
    pub copied: Copied,
    dilations: [usize; 2],
    stride: usize,
}

impl Windows {
    /// Of a convolution whose bands have so many rows of `columns` results.
    pub fn new(sparse: &Sparse, window: &Window, columns: usize, band: usize) -> Self {
        let [kh, kw] = [(Axis::Rows, 0), (Axis::Columns, 1)].map(|(axis, d)| match sparse.has(axis) {
            true => window.size[d],
            false => 1,
        });
        let ([sh, sw], [dh, dw]) = (window.strides, window.dilations);
        Self {
            copied: Copied {
                units: sparse.unit.per_pixel,
                rows: (band - 1) * sh + (kh - 1) * dh + 1,
                phases: if kw == 1 { 1 } else { sw },
                width: columns + (kw - 1) * dw / sw,
            },
            dilations: window.dilations,
            stride: sw,
        }
    }

    /// The place of a unit of a filter's vector.
    fn place(&self, b: &mut FuncBuilder, axes: &[(usize, Axis)], entry: Val) -> Val {
        let [block, row, phase, column] = self.copied.steps();
        let mut rest = entry;
        let mut sum = int(b, 0);
        for &(size, axis) in axes.iter().rev() {
            let (above, digit) = divided(b, rest, size);
            rest = above;
            let parts = match axis {
                Axis::Units => {
                    let (outer, inner) = divided(b, digit, BLOCK);
                    vec![(outer, block), (inner, 1)]
                }
                Axis::Rows => vec![(digit, self.dilations[0] * row)],
                Axis::Columns => {
                    let at = scaled(b, digit, self.dilations[1]);
                    let (outer, inner) = divided(b, at, self.stride);
                    vec![(outer, column), (inner, phase)]
                }
            };
            for (digit, step) in parts {
                let part = scaled(b, digit, step);
                sum = b.add(sum, part);
            }
        }
        sum
    }
}

/// The tables in memory.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    w: Buffer,
    places: Buffer,
    starts: Buffer,
    /// Entries of a block at most.
    most: usize,
}

/// The tables of weights, made when the model is loaded or by a function just before the next.
fn tables(
    cx: &mut Lowering<'_>,
    origins: &[Origin],
    sparse: &Sparse,
    windows: &Windows,
    streamed: bool,
) -> Result<Tables, sdc_ir::tensor::TensorError> {
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
    let kind = if streamed {
        BufferKind::Temp
    } else {
        BufferKind::Prepared
    };
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
            kind: kind.clone(),
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
    emit_tables(cx, &mut b, sparse, windows, &tables, dense);
    if streamed {
        cx.push_func(b, origins.to_vec());
    } else {
        rebuild::push_prepare(cx, b, origins);
        cx.sparse.insert(key, tables);
    }
    Ok(tables)
}

fn emit_tables(
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

fn int(b: &mut FuncBuilder, x: usize) -> Val {
    b.int(Ty::scalar(DType::I64), x as i64)
}

fn scaled(b: &mut FuncBuilder, x: Val, factor: usize) -> Val {
    let factor = int(b, factor);
    b.mul(x, factor)
}

/// Quotient and rest.
fn divided(b: &mut FuncBuilder, x: Val, by: usize) -> (Val, Val) {
    let divisor = int(b, by);
    let above = b.div(x, divisor);
    let below = b.mul(above, divisor);
    let rest = b.sub(x, below);
    (above, rest)
}

/// Scratch memory of the tasks of a function: a part for each.
struct Slots {
    buffer: Buffer,
    /// From a row of a task to the next, so that a task's part is affine in its first row; from one task to the next.
    per_row: usize,
    slot: usize,
    count: usize,
}

impl Slots {
    fn new(
        cx: &mut Lowering<'_>,
        (dtype, len, name): (DType, usize, String),
        images: usize,
        tasks: Tasks,
        cut: &Grid,
    ) -> Self {
        let rows = cut.rows.max(1);
        let per_row = len.div_ceil(rows).next_multiple_of(BLOCK);
        let count = match tasks {
            Tasks::Each { rounds, .. } => images.div_ceil(rounds),
            _ => cut.row_parts * cut.channel_parts,
        };
        let buffer = cx.module.buffers.push(BufferData {
            dtype,
            len: per_row * rows * count,
            kind: BufferKind::Temp,
            name,
        });
        Self {
            buffer,
            per_row,
            slot: per_row * rows,
            count,
        }
    }

    /// `body(image, part of the channels, rows, where its memory begins)` for each task.
    fn for_parts(
        &self,
        b: &mut FuncBuilder,
        images: usize,
        (tasks, cut): (Tasks, &Grid),
        rows: &Range<usize>,
        mut body: impl FnMut(&mut FuncBuilder, Affine, Affine, Range<Bound>, Affine),
    ) {
        if let Tasks::Each { rounds, .. } = tasks {
            let whole = Bound::from(rows.start)..Bound::from(rows.end);
            b.parallel_for(self.count, |b, s| {
                let first = s.clone() * rounds as i64;
                let end = Bound::of(vec![first.clone() + rounds, images.into()]);
                b.for_range(first, end, 1, |b, image| {
                    b.for_range(0, cut.channel_parts, 1, |b, c| {
                        body(b, image.clone(), c, whole.clone(), s.clone() * self.slot as i64);
                    });
                });
            });
            return;
        }
        split::for_parts(b, images, tasks, rows, &mut |b, image, part_at, range| {
            let first = range.start.exprs()[0].clone() - rows.start;
            let before = part_at.clone() * (cut.row_parts * self.slot) as i64;
            let at = first * self.per_row as i64 + before;
            body(b, image, part_at, range, at);
        });
    }
}

/// A convolution's operands and how it is cut.
struct Layer<'a> {
    node: Node,
    sparse: Option<Sparse>,
    window: Window,
    band: usize,
    form: Option<Form>,
    x: Ref,
    y: Ref,
    rows: Range<usize>,
    tasks: Tasks,
    /// Name, and element type of the scratch memory.
    kernel: &'a str,
    scratch: DType,
}

/// What is the same in calls of both kernels: parameters in three parts, and operands.
struct Common {
    sizes: Vec<i64>,
    strides: [i64; 4],
    bands: Vec<i64>,
    unit: Unit,
}

impl Layer<'_> {
    /// The layer's functions: `call` gives parameters, and what stands between the tables and the scratch memory given the offsets of an
    /// image and of a channel.
    fn lower(
        mut self,
        cx: &mut Lowering<'_>,
        call: impl Fn(&Common) -> Vec<i64>,
        between: impl Fn(&Affine, &Affine) -> Vec<Option<View>>,
    ) -> Result<(), TileError> {
        let origins = cx.graph.nodes()[self.node].origins.clone();
        let last = |r: &Ref| r.shape.len() == 4 && (r.strides[1] == 1 || r.shape[1] == 1);
        let sparse = self
            .sparse
            .take()
            .filter(|_| last(&self.y) && self.x.shape.len() == 4);
        let Some(sparse) = sparse.filter(|_| self.form.is_some_and(Form::is_compressed) && self.band > 0)
        else {
            return Err(cx.unsupported(self.node, "the kernel does not fit these operands or weights"));
        };
        (self.window, self.x) = self.window.of_pixels(&self.x, &self.y);
        let (x, y, window) = (&self.x, &self.y, self.window);
        let windows = Windows::new(&sparse, &window, y.shape[3], self.band);
        let tables = tables(cx, &origins, &sparse, &windows, self.form != Some(Form::Resident))
            .map_err(|e| cx.unsupported(self.node, e.to_string()))?;
        let cut = split::grid(self.tasks, self.rows.len());
        let part = y.shape[1] / cut.channel_parts;
        if cut.channel_parts > 1 && !y.shape[1].is_multiple_of(cut.channel_parts * BLOCK) {
            return Err(cx.unsupported(self.node, "parts of the channels are not whole blocks"));
        }
        let copied = windows.copied;
        let sizes = [
            x.shape[2],
            x.shape[3],
            x.shape[1],
            y.shape[3],
            part,
            window.strides[0],
            window.strides[1],
        ];
        let sizes = [&sizes[..], &window.pads].concat();
        let bands = [self.band, copied.rows, copied.phases, copied.width, tables.most];
        let params = call(&Common {
            sizes: sizes.iter().map(|&n| n as i64).collect(),
            strides: [x.strides[2], x.strides[3], y.strides[2], y.strides[3]],
            bands: bands.map(|n| n as i64).to_vec(),
            unit: sparse.unit,
        });
        let name = format!("{} scratch", cx.graph.nodes()[self.node].outputs[0]);
        let slots = Slots::new(
            cx,
            (self.scratch, copied.len(), name),
            x.shape[0],
            self.tasks,
            &cut,
        );
        let view = |buffer, offset| Some(View { buffer, offset });
        let mut b = FuncBuilder::new();
        slots.for_parts(
            &mut b,
            x.shape[0],
            (self.tasks, &cut),
            &self.rows,
            |b, image, parts, range, at| {
                let channel = parts.clone() * part as i64;
                let mut operands = vec![
                    view(x.buffer, image.clone() * x.strides[0] + x.offset),
                    view(tables.w, 0.into()),
                    view(tables.places, 0.into()),
                    view(tables.starts, parts * (part / BLOCK) as i64),
                ];
                operands.extend(between(&image, &channel));
                operands.push(view(slots.buffer, at));
                operands.push(view(y.buffer, image * y.strides[0] + channel + y.offset));
                b.kernel(KernelCall {
                    kernel: self.kernel.to_owned(),
                    params: params.clone(),
                    operands,
                    begin: range.start,
                    end: range.end,
                });
            },
        );
        cx.push_func(b, origins);
        Ok(())
    }
}

impl Layer<'_> {
    /// Of floats.
    fn floats(
        self,
        cx: &mut Lowering<'_>,
        bias: Option<&Ref>,
        residual: Option<&Ref>,
        act: Activation,
    ) -> Result<(), TileError> {
        let channels = self.x.strides.get(1).copied().unwrap_or(1);
        let rs = residual.map_or([0, 0], |r| [r.strides[2], r.strides[3]]);
        let params = |c: &Common| {
            let [xs_h, xs_w, ys_h, ys_w] = c.strides;
            let strides = [xs_h, xs_w, channels, 0, ys_h, ys_w, 0, rs[0], rs[1], 0];
            let has = [bias.is_some(), residual.is_some()].map(i64::from);
            [&c.sizes[..], &strides, &c.bands, &has, &activation_params(act)].concat()
        };
        self.lower(cx, params, |image, channel| {
            let bias = bias.map(|r| View {
                buffer: r.buffer,
                offset: channel.clone() + r.offset,
            });
            let residual = residual.map(|r| View {
                buffer: r.buffer,
                offset: image.clone() * r.strides[0] + channel.clone() + r.offset,
            });
            vec![bias, residual]
        })
    }
}

/// Lowers output rows `rows` of a convolution of one group, `band` of them from a copy of the input.
pub fn conv(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Conv,
    (band, form): (usize, Option<Form>),
    rows: Range<usize>,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    let (x, y) = (cx.place(o.x), cx.place(data.outputs[0]));
    let (bias, residual) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let fits = residual
        .as_ref()
        .is_none_or(|r| r.strides.get(1) == Some(&1) || r.shape.get(1) == Some(&1));
    if op.group != 1 || !fits {
        return Err(cx.unsupported(node, "the kernel does not fit these operands"));
    }
    let layer = Layer {
        node,
        sparse: Sparse::of_conv(cx.graph, o.w),
        window: Window::of(&op.strides, &op.dilations, &op.pads, cx.graph.ty(o.w).sizes()),
        band,
        form,
        x,
        y,
        rows,
        tasks,
        kernel: "sparse2d_f32",
        scratch: DType::F32,
    };
    layer.floats(cx, bias.as_ref(), residual.as_ref(), op.act)
}

/// Lowers a product of rows: a convolution of single pixels.
pub fn product(cx: &mut Lowering<'_>, node: Node, op: &MatMul, run: &Run) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let o = operands(&data.inputs, op.bias, op.residual);
    cx.place(o.x);
    let (bias, _) = (o.bias.map(|v| cx.place(v)), o.residual.map(|v| cx.place(v)));
    let rows = matmul::Rows::of(&cx.scene, node, op)
        .ok_or_else(|| cx.unsupported(node, "the kernel does not fit these operands"))?;
    let (x, y, residual) = rows.as_images();
    let layer = Layer {
        node,
        sparse: Sparse::of_product(cx.graph, o.w),
        window: Window::PIXEL,
        band: 1,
        form: run.weights,
        x,
        y,
        rows: 0..1,
        tasks: run.parts.first().map_or(Tasks::One, |part| part.tasks),
        kernel: "sparse2d_f32",
        scratch: DType::F32,
    };
    layer.floats(cx, bias.as_ref(), residual.as_ref(), op.act)
}

/// As [`conv`], of integers.
pub fn quantised(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &QLinearConv,
    (band, form): (usize, Option<Form>),
    rows: Range<usize>,
    tasks: Tasks,
) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let (input, w, result) = (data.inputs[0], data.inputs[1], data.outputs[0]);
    let (x, y) = (cx.place(input), cx.place(result));
    if op.group != 1 || (x.strides[1] != 1 && x.shape[1] != 1) {
        return Err(cx.unsupported(node, "the kernel does not fit these operands"));
    }
    let constants = quantised_conv::constants(cx, node, &data.inputs)?;
    let vectors = Packed::vectors(cx, node, op, &constants)?;
    let [x_signed, y_signed] = [input, result].map(|v| i64::from(cx.dtype(v) == DType::I8));
    let layer = Layer {
        node,
        sparse: Sparse::of_conv(cx.graph, w),
        window: Window::of(&op.strides, &op.dilations, &op.pads, cx.graph.ty(w).sizes()),
        band,
        form,
        x,
        y,
        rows,
        tasks,
        kernel: "sparse2d_i8",
        scratch: DType::I32,
    };
    let params = |c: &Common| {
        let [xs_h, xs_w, ys_h, ys_w] = c.strides;
        let Unit {
            per_pixel,
            jump,
            bytes,
            along,
            ..
        } = c.unit;
        let along = [Axis::Rows, Axis::Columns, Axis::Units].map(|axis| axis == along);
        let steps = [op.dilations[0], op.dilations[1], 1];
        let steps = [0, 1, 2].map(|d| if along[d] { steps[d] as i64 } else { 0 });
        let unit = [per_pixel, jump, bytes].map(|n| n as i64);
        let quantised = [
            x_signed,
            op.x_zero,
            y_signed,
            op.y_zero,
            op.min,
            op.max,
            op.shift as i64,
        ];
        let strides = [xs_h, xs_w, 0, ys_h, ys_w, 0];
        [&c.sizes[..], &strides, &c.bands, &unit, &steps, &quantised].concat()
    };
    layer.lower(cx, params, |_, channel| {
        let at = |&buffer| {
            Some(View {
                buffer,
                offset: channel.clone(),
            })
        };
        vectors.iter().map(at).collect()
    })
}
