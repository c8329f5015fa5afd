//! Loop nests over strided operands: the skeleton of every element-wise and data-movement lowering.

use super::split;
use sdc_ir::schedule::Tasks;
use sdc_ir::tile::{Affine, Bound, Buffer, FuncBuilder, View};

/// A tensor in memory: a buffer, the element its origin lies at, and a stride per logical dimension.
///
/// Strides may be zero (broadcast) or negative (reversed); offsets and strides are in elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ref {
    /// The buffer.
    pub buffer: Buffer,
    /// Element of the origin.
    pub offset: i64,
    /// Stride of each logical dimension.
    pub strides: Vec<i64>,
    /// Size of each logical dimension.
    pub shape: Vec<usize>,
}

impl Ref {
    /// The same data seen through numpy broadcasting to `shape`.
    pub fn broadcast(&self, shape: &[usize]) -> Ref {
        let missing = shape.len() - self.shape.len();
        let strides = (0..shape.len())
            .map(|d| match d.checked_sub(missing) {
                Some(own) if self.shape[own] == shape[d] => self.strides[own],
                _ => 0,
            })
            .collect();
        Ref {
            buffer: self.buffer,
            offset: self.offset,
            strides,
            shape: shape.to_vec(),
        }
    }

    /// The box `starts[d] .. starts[d] + sizes[d]`, taken in steps.
    pub fn slice(&self, starts: &[usize], sizes: &[usize], steps: &[i64]) -> Ref {
        let offset = starts
            .iter()
            .zip(&self.strides)
            .fold(self.offset, |sum, (&at, &s)| sum + at as i64 * s);
        let strides = self
            .strides
            .iter()
            .zip(steps)
            .map(|(&s, &step)| s * step)
            .collect();
        Ref {
            buffer: self.buffer,
            offset,
            strides,
            shape: sizes.to_vec(),
        }
    }

    /// Everything at index 0 of the outermost dimension.
    pub fn inner(&self) -> Ref {
        Ref {
            strides: self.strides[1..].to_vec(),
            shape: self.shape[1..].to_vec(),
            ..self.clone()
        }
    }

    /// Only the indices `lo..hi` of one dimension.
    pub fn narrow(&self, dim: usize, lo: usize, hi: usize) -> Ref {
        let mut narrowed = self.clone();
        narrowed.offset += lo as i64 * self.strides[dim];
        narrowed.shape[dim] = hi - lo;
        narrowed
    }

    /// Dimensions in another order: dimension `k` of the result is dimension `perm[k]`.
    pub fn permuted(&self, perm: &[usize]) -> Ref {
        Ref {
            buffer: self.buffer,
            offset: self.offset,
            strides: perm.iter().map(|&d| self.strides[d]).collect(),
            shape: perm.iter().map(|&d| self.shape[d]).collect(),
        }
    }

    /// Element index at these coordinates.
    pub fn at(&self, coordinates: &[Affine]) -> Affine {
        coordinates
            .iter()
            .zip(&self.strides)
            .fold(Affine::constant(self.offset), |sum, (c, &stride)| {
                sum + c.clone() * stride
            })
    }
}

/// One loop: its trip count and the stride of every operand.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Level {
    size: usize,
    strides: Vec<i64>,
}

/// How the body may touch an operand at some point of the nest.
#[derive(Clone, Debug)]
pub struct Access {
    /// Element index.
    pub index: Affine,
    /// The operand does not move along the vectorised dimension: load one element into all lanes.
    pub splat: bool,
}

/// Emits loops over all elements of operands that share a shape (broadcast beforehand; operand 0 is the result).
///
/// Dimensions run in the order of operand 0's strides, largest outermost, and adjacent ones are merged where every
/// operand allows it. If `lanes > 1` and the innermost dimension has stride 0 or 1 in every operand (1 in operand 0),
/// the body is emitted twice: with `lanes` lanes, then for the remaining elements with one. If `tasks` is
/// [`Tasks::AtMost`] the outermost loop is cut; the nest must then be the function's only statement.
pub fn emit(
    b: &mut FuncBuilder,
    operands: &[&Ref],
    lanes: u8,
    tasks: Tasks,
    body: &mut dyn FnMut(&mut FuncBuilder, u8, &[Access]),
) {
    let levels = loops(operands);
    let start: Vec<Affine> = operands.iter().map(|r| Affine::constant(r.offset)).collect();
    if levels.iter().any(|l| l.size == 0) {
        return;
    }
    let inner = levels.last().map(|l| l.strides.as_slice());
    let vector = lanes > 1 && inner.is_some_and(|s| s[0] == 1 && s.iter().all(|&s| s == 0 || s == 1));
    let nest = Nest {
        levels: &levels,
        lanes: if vector { lanes } else { 1 },
    };
    match nest.chunks(tasks) {
        Some((count, chunk)) => b.parallel_for(count, |b, c| {
            let size = levels[0].size;
            let lo = c * chunk as i64;
            let hi = Bound::of(vec![lo.clone() + chunk, Affine::from(size)]);
            nest.level(b, 0, &start, Some((lo, hi)), body);
        }),
        None => nest.level(b, 0, &start, None, body),
    }
}

struct Nest<'a> {
    levels: &'a [Level],
    lanes: u8,
}

impl Nest<'_> {
    /// Number and length of the chunks of the outermost loop, if there should be more than one.
    fn chunks(&self, tasks: Tasks) -> Option<(usize, usize)> {
        let outer = self.levels.first()?.size;
        let wanted = match tasks {
            Tasks::AtMost(n) => n.min(outer),
            _ => 1,
        };
        if wanted < 2 {
            return None;
        }
        let mut chunk = outer.div_ceil(wanted);
        if self.levels.len() == 1 {
            chunk = chunk.next_multiple_of(self.lanes.into());
        }
        Some((outer.div_ceil(chunk), chunk))
    }

    fn level(
        &self,
        b: &mut FuncBuilder,
        depth: usize,
        at: &[Affine],
        range: Option<(Affine, Bound)>,
        body: &mut dyn FnMut(&mut FuncBuilder, u8, &[Access]),
    ) {
        let Some(level) = self.levels.get(depth) else {
            let access: Vec<Access> = at
                .iter()
                .map(|index| Access {
                    index: index.clone(),
                    splat: false,
                })
                .collect();
            return body(b, 1, &access);
        };
        let (lo, hi) = range.unwrap_or_else(|| (Affine::constant(0), level.size.into()));
        let step = |at: &[Affine], i: &Affine| -> Vec<Affine> {
            at.iter()
                .zip(&level.strides)
                .map(|(a, &s)| a.clone() + i.clone() * s)
                .collect()
        };
        if depth + 1 < self.levels.len() {
            b.for_range(lo, hi, 1, |b, i| {
                self.level(b, depth + 1, &step(at, &i), None, body)
            });
            return;
        }
        let main = level.size - level.size % usize::from(self.lanes);
        let innermost = |b: &mut FuncBuilder,
                         lo: Bound,
                         hi: Bound,
                         lanes: u8,
                         body: &mut dyn FnMut(&mut FuncBuilder, u8, &[Access])| {
            b.for_range(lo, hi, lanes.into(), |b, i| {
                let access: Vec<Access> = step(at, &i)
                    .into_iter()
                    .zip(&level.strides)
                    .map(|(index, &s)| Access { index, splat: s == 0 })
                    .collect();
                body(b, lanes, &access);
            });
        };
        if self.lanes > 1 && main > 0 {
            let mut exprs = hi.exprs().to_vec();
            exprs.push(main.into());
            innermost(b, lo.clone().into(), simplest(exprs), self.lanes, body);
        }
        if main < level.size || self.lanes == 1 {
            let first = if self.lanes > 1 { main } else { 0 };
            let lo = if lo == Affine::constant(0) {
                Bound::from(first)
            } else {
                Bound::of(vec![lo, first.into()])
            };
            innermost(b, lo, hi, 1, body);
        }
    }
}

/// An upper bound with its constants merged.
fn simplest(exprs: Vec<Affine>) -> Bound {
    let constant = exprs.iter().filter_map(Affine::as_constant).min();
    let mut kept: Vec<Affine> = exprs.into_iter().filter(|e| e.as_constant().is_none()).collect();
    kept.extend(constant.map(Affine::constant));
    Bound::of(kept)
}

/// Sizes and strides of the loops over operands of one shape, outermost first, in the order of the first one's strides and with
/// adjacent dimensions merged where every operand allows it.
pub fn levels(operands: &[&Ref]) -> Vec<(usize, Vec<i64>)> {
    let all = loops(operands).into_iter();
    all.map(|level| (level.size, level.strides)).collect()
}

/// The loops of a nest, outermost first.
fn loops(operands: &[&Ref]) -> Vec<Level> {
    let shape = &operands[0].shape;
    let mut dims: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] != 1).collect();
    dims.sort_by_key(|&d| std::cmp::Reverse(operands[0].strides[d].abs()));
    let mut levels: Vec<Level> = Vec::new();
    for d in dims {
        let level = Level {
            size: shape[d],
            strides: operands.iter().map(|r| r.strides[d]).collect(),
        };
        match levels.last_mut() {
            Some(outer)
                if outer
                    .strides
                    .iter()
                    .zip(&level.strides)
                    .all(|(&o, &i)| o == i * level.size as i64) =>
            {
                *outer = Level {
                    size: outer.size * level.size,
                    strides: level.strides,
                };
            }
            _ => levels.push(level),
        }
    }
    levels
}

/// Rows of elements without gaps, and what is around them.
pub struct Rows {
    /// Elements of a row.
    pub columns: i64,
    /// Number of rows.
    pub count: i64,
    /// From row to row, of each operand.
    pub strides: Vec<i64>,
    /// Repetitions of all this.
    pub times: i64,
    /// From repetition to repetition, of each operand.
    pub outer: Vec<i64>,
}

impl Rows {
    /// Of operands of one shape, the result first. `None` if they have more structure than rows of rows.
    pub fn of(operands: &[&Ref]) -> Option<Self> {
        let mut levels = levels(operands);
        let still = || vec![0; operands.len()];
        let inner = levels.pop().unwrap_or((1, vec![1; operands.len()]));
        if inner.1.iter().any(|&s| s != 1) {
            return None;
        }
        let mut columns = inner.0 as i64;
        let (count, strides) = match levels.pop() {
            Some((count, strides)) => (count as i64, strides),
            None => {
                // One long row: rows of a convenient length.
                let whole = columns;
                columns = 1 << whole.trailing_zeros().min(12);
                if columns < 64 {
                    let divides = |n: &i64| whole % n == 0;
                    columns = (64..=4096.min(whole)).rev().find(divides).unwrap_or(whole);
                }
                (whole / columns.max(1), vec![columns; operands.len()])
            }
        };
        let (times, outer) = match levels.pop() {
            Some((times, outer)) => (times as i64, outer),
            None => (1, still()),
        };
        (levels.is_empty() && count > 0).then_some(Self {
            columns,
            count,
            strides,
            times,
            outer,
        })
    }

    /// Rows of `size` elements, of operands seen without the dimensions that are in a row. `None` if there is more structure than
    /// rows of rows.
    pub fn over(size: usize, others: &[&Ref]) -> Option<Self> {
        let mut levels = levels(others);
        let mut level = || levels.pop().unwrap_or((1, vec![0; others.len()]));
        let ((count, strides), (times, outer)) = (level(), level());
        (levels.is_empty() && count > 0 && times > 0).then_some(Self {
            columns: size as i64,
            count: count as i64,
            strides,
            times: times as i64,
            outer,
        })
    }

    /// Operand `i` in a repetition.
    pub fn view(&self, i: usize, operand: &Ref, repetition: &Affine) -> View {
        View {
            buffer: operand.buffer,
            offset: repetition.clone() * self.outer[i] + operand.offset,
        }
    }

    /// The cut into tasks of `task` elements, `most` at most; repetitions are tasks where there are several.
    pub fn tasks(&self, task: i64, most: usize) -> Tasks {
        if self.times > 1 {
            return Tasks::Each {
                rounds: 1,
                channels: 1,
            };
        }
        let tasks = (self.columns * self.count / task)
            .clamp(1, most as i64)
            .min(self.count);
        match tasks {
            1 => Tasks::One,
            _ => Tasks::Every(((self.count + tasks - 1) / tasks) as usize),
        }
    }

    /// Emits `body(repetition, begin and end of rows)` for all rows, cut into tasks of so many rows, or repetitions.
    pub fn emit(
        &self,
        b: &mut FuncBuilder,
        tasks: Tasks,
        mut body: impl FnMut(&mut FuncBuilder, Affine, (Bound, Bound)),
    ) {
        let all = || (Bound::from(0), Bound::from(self.count));
        let times = self.times as usize;
        match tasks {
            Tasks::Each { rounds, .. } => split::for_each(b, times, rounds, |b, i| body(b, i, all())),
            Tasks::Every(rows) if times == 1 => {
                let each = rows as i64;
                b.parallel_for(((self.count + each - 1) / each) as usize, |b, i| {
                    let begin = i * each;
                    let end = Bound::of(vec![begin.clone() + each, self.count.into()]);
                    body(b, 0.into(), (begin.into(), end));
                });
            }
            _ if times == 1 => body(b, 0.into(), all()),
            _ => b.for_range(0, times, 1, |b, i| body(b, i, all())),
        }
    }
}
