//! Compressed weights of integer convolutions: rebuilt as bytes in the order their kernel reads.
//!
//! As in [`super::rebuild`], prepared when the model is loaded, or streamed into a buffer just before they are used; the bytes are those of
//! the constant that would be packed at compile time.

use super::Lowering;
use super::quantised_conv::packed_len;
use super::rebuild::{Matrices, Place, Weights, merged, push_prepare};
use sdc_ir::DType;
use sdc_ir::graph::{Graph, Node, Value};
use sdc_ir::registry::conv2d_i8::{BLOCK, LANES};
use sdc_ir::sd::{Decomposed, Stored};
use sdc_ir::tile::{Buffer, BufferData, BufferKind, FuncBuilder, Ty, View};

/// Where the entries of a filter lie, by the width of its block.
struct Order<'w> {
    decomposed: &'w Decomposed,
    shape: [usize; 4],
}

impl<'w> Order<'w> {
    /// The order of decomposed weights, if it is one the kernel of rebuilding can write.
    fn of(weights: &'w Weights, shape: [usize; 4]) -> Option<Self> {
        let Stored::Sd(decomposed) = weights.stored() else {
            return None;
        };
        let order = Self { decomposed, shape };
        let c = shape[1];
        let whole = c.div_ceil(4) == 1 || c.is_multiple_of(4);
        (decomposed.geometry.filter_dims == [0] && whole && order.digits(LANES).is_some()).then_some(order)
    }

    /// A filter's entry by channel (quad and place in it), row and column, given the width of its block.
    fn digits(&self, width: usize) -> Option<[(usize, usize); 3]> {
        let [_, c, kh, kw] = self.shape;
        let quads = c.div_ceil(4);
        let parts = self
            .decomposed
            .geometry
            .vector_dims
            .iter()
            .flat_map(|&d| match d {
                1 if quads == 1 => vec![(c, 1)],
                1 => vec![(quads, 4 * width), (4, 1)],
                2 => vec![(kh, kw * quads * 4 * width)],
                _ => vec![(kw, quads * 4 * width)],
            });
        let parts = merged(parts);
        let mut digits = [(1, 0); 3];
        let unused = digits.len().checked_sub(parts.len())?;
        digits[unused..].copy_from_slice(&parts);
        Some(digits)
    }
}

/// Whether weights `[M, C/group, kh, kw]` are decomposed and their order is one the kernel can write. Plain integers take no less room
/// in their own order, and are packed at compile time.
pub fn fits(graph: &Graph, value: Value, shape: [usize; 4]) -> bool {
    Weights::any(graph, value).is_some_and(|weights| Order::of(&weights, shape).is_some())
}

/// A buffer with the packed weights of all groups; `None` unless they [`fits`].
pub fn panels(
    cx: &mut Lowering<'_>,
    node: Node,
    value: Value,
    shape: [usize; 4],
    groups: usize,
    streamed: bool,
) -> Option<Buffer> {
    let weights = Weights::any(cx.graph, value)?;
    let order = Order::of(&weights, shape)?;
    let [m, c, kh, kw] = shape;
    let (filters, quads, taps) = (m / groups, c.div_ceil(4), kh * kw);
    let key = (
        weights.packed().digest(),
        Matrices {
            groups,
            row_steps: Vec::new(),
            block: BLOCK,
            lanes: LANES,
        },
    );
    if let Some(&buffer) = cx.rebuilt.get(&key) {
        return Some(buffer);
    }
    let len = packed_len(shape, groups, 1);
    let buffer = cx.module.buffers.push(BufferData {
        dtype: DType::I8,
        len,
        kind: if streamed {
            BufferKind::Temp
        } else {
            BufferKind::Prepared
        },
        name: format!("{} rebuilt", weights.name()),
    });
    let mut b = FuncBuilder::new();
    if !filters.is_multiple_of(LANES) || !c.is_multiple_of(4) {
        b.for_range(0, len, 1, |b, i| {
            let zero = b.int(Ty::scalar(DType::I8), 0);
            b.store(buffer, i, zero);
        });
    }
    let group_len = len / groups;
    for group in 0..groups {
        for first in (0..filters).step_by(BLOCK) {
            let count = BLOCK.min(filters - first);
            let place = Place {
                filter0: group * filters + first,
                filters: count,
                digits: order.digits(count.next_multiple_of(LANES))?,
                block: count,
                lanes: 1,
                strides: Some((4, 1)),
            };
            let to = View {
                buffer,
                offset: (group * group_len + first * taps * quads * 4).into(),
            };
            weights.emit_at(cx, &mut b, &place, (0.into(), 1.into()), to);
        }
    }
    let origins = cx.graph.nodes()[node].origins.clone();
    if streamed {
        let name = format!("f{}", cx.module.funcs.len());
        cx.module.funcs.push(b.finish(name, origins));
    } else {
        push_prepare(cx, b, &origins);
        cx.rebuilt.insert(key, buffer);
    }
    Some(buffer)
}
