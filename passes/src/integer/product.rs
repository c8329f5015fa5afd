//! Convolutions and matrix products.

use super::convert::{Converter, EVERYTHING, Integers, Refusal, Target, multipliers, refuse};
use sdc_ir::graph::op::{Activation, ConvTranspose, Pad, PadMode, QLinearConv, Rebuild, Reshape, Transpose};
use sdc_ir::graph::{Graph, Node, NodeData, Op, Origin, Value};
use sdc_ir::sd::Stored;
use sdc_ir::{DType, Tensor};

/// Weights as integers with a scale per filter, filters first: `[M, C/group, kh, kw]`.
pub(super) struct Weights {
    integers: Vec<i8>,
    shape: [usize; 4],
    scales: Vec<f64>,
    /// The compressed form, with this shape.
    stored: Option<Stored>,
}

/// The window of a product; a matrix product is one of a single element.
struct Window {
    strides: Vec<usize>,
    pads: Vec<usize>,
    dilations: Vec<usize>,
    group: usize,
}

impl Weights {
    /// The constant or compressed weights of a convolution with one or two spatial dimensions, or of a matrix product.
    pub fn read(graph: &Graph, data: &NodeData) -> Result<Self, Refusal> {
        let value = data.inputs[1];
        let node = graph.def_node(value).map(|n| &graph.nodes()[n]);
        let own = graph.ty(value).sizes();
        let shape = match (&data.op, own) {
            (Op::Conv(_), &[m, c, kw]) => [m, c, 1, kw],
            (Op::Conv(_), &[m, c, kh, kw]) => [m, c, kh, kw],
            (Op::MatMul(_), &[k, n]) => [n, k, 1, 1],
            (Op::ConvTranspose(_), &[c, m, kh, kw]) => [m, c, kh, kw],
            _ => {
                return refuse(format!(
                    "weights of {} dimensions have no integer form",
                    own.len()
                ));
            }
        };
        let packed = node.filter(|n| matches!(n.op, Op::Rebuild(_)));
        if let Some(packed) = packed.and_then(|n| graph.constant(n.inputs[0])) {
            let stored = Stored::unpack(packed.bytes()).map_err(|e| Some(e.to_string()))?;
            if let Op::ConvTranspose(_) = data.op {
                return Self::turned(&stored, shape);
            }
            return Self::compressed(stored, shape);
        }
        let Some(tensor) = graph.constant(value) else {
            return refuse("the weights are not constant");
        };
        let all = tensor.elements::<f32>().map_err(|e| Some(e.to_string()))?;
        let filters = shape[0];
        // Of a matrix product the filters are columns.
        let at = |m: usize, i: usize| match data.op {
            Op::MatMul(_) => all[i * filters + m],
            Op::ConvTranspose(_) => all[turned(shape, m, i)],
            _ => all[m * (all.len() / filters) + i],
        };
        let length = all.len().checked_div(filters).unwrap_or(0);
        let mut weights = Self {
            integers: Vec::with_capacity(all.len()),
            shape,
            scales: Vec::with_capacity(filters),
            stored: None,
        };
        for m in 0..filters {
            let filter: Vec<f32> = (0..length).map(|i| at(m, i)).collect();
            let Some(grid) = super::Grid::covering(&filter, DType::I8) else {
                return refuse("its weights are not finite");
            };
            weights.scales.push(grid.scale.into());
            let integers = filter.iter().map(|&w| grid.quantise(w.into()) as i8);
            weights.integers.extend(integers);
        }
        Ok(weights)
    }

    /// Compressed weights of a transposed convolution; turned round they have no compressed form.
    fn turned(stored: &Stored, shape: [usize; 4]) -> Result<Self, Refusal> {
        let (integers, scales) = stored.rebuild().map_err(|e| Some(e.to_string()))?;
        let integers = integers.elements::<i8>().map_err(|e| Some(e.to_string()))?;
        if stored.geometry().filter_dims != [1] {
            return refuse("its compressed weights are in an order that integers do not take");
        }
        let length: usize = shape[1..].iter().product();
        let all = (0..shape[0]).flat_map(|m| (0..length).map(move |i| (m, i)));
        Ok(Self {
            integers: all.map(|(m, i)| integers[turned(shape, m, i)]).collect(),
            shape,
            scales: usable(&scales),
            stored: None,
        })
    }

    fn compressed(mut stored: Stored, shape: [usize; 4]) -> Result<Self, Refusal> {
        let geometry = match &mut stored {
            Stored::Sd(d) => &mut d.geometry,
            Stored::Int8(q) => &mut q.geometry,
        };
        // The same vectors under the shape of a convolution.
        let (filters, vector): (&[usize], Vec<usize>) =
            match (&geometry.filter_dims[..], geometry.shape.len()) {
                ([0], 4) => (&[0], geometry.vector_dims.clone()),
                ([0], 3) => {
                    let moved = geometry.vector_dims.iter().map(|&d| if d == 2 { 3 } else { d });
                    (&[0], moved.chain([2]).collect())
                }
                ([1], 2) => (&[0], vec![1, 2, 3]),
                _ => return refuse("its compressed weights are in an order that integers do not take"),
            };
        geometry.filter_dims = filters.to_vec();
        geometry.vector_dims = vector;
        geometry.shape = shape.to_vec();
        let (integers, scales) = stored.rebuild().map_err(|e| Some(e.to_string()))?;
        Ok(Self {
            integers: integers
                .elements::<i8>()
                .map_err(|e| Some(e.to_string()))?
                .to_vec(),
            shape,
            scales: usable(&scales),
            stored: Some(stored),
        })
    }

    /// Filters so small beside their bias that it exceeds 30 bits in their steps get coarser steps: what they lose is nothing beside the
    /// bias. Such weights are plain integers then.
    fn under(mut self, bias: &[f64], input: f64) -> Self {
        let of = |m: usize| if bias.len() == 1 { bias[0] } else { bias[m] };
        let length = self.integers.len().checked_div(self.scales.len()).unwrap_or(0);
        let filters = self.integers.chunks_mut(length.max(1)).zip(&mut self.scales);
        for (m, (filter, scale)) in filters.enumerate() {
            let least = of(m).abs() / input / f64::from(1 << 30);
            if *scale < least {
                for w in filter {
                    *w = (f64::from(*w) * *scale / least).round_ties_even() as i8;
                }
                *scale = least;
                self.stored = None;
            }
        }
        self
    }

    /// As an operand: still compressed, if that is what they are.
    fn operand(&self, cx: &mut Converter<'_>, data: &NodeData) -> Result<Value, Refusal> {
        let fail = |e: &dyn std::fmt::Display| Some(e.to_string());
        if let Some(stored @ Stored::Sd(_)) = &self.stored {
            let packed = stored.pack().map_err(|e| fail(&e))?;
            let packed = Tensor::from_elements(vec![packed.len()], packed).map_err(|e| fail(&e))?;
            let packed = cx.rewrite.dst.add_constant(packed, data.origins.clone());
            let op = Rebuild {
                shape: self.shape.to_vec(),
                to: DType::I8,
            };
            return cx.add(op, &[packed], &data.origins);
        }
        let tensor =
            Tensor::from_elements(self.shape.to_vec(), self.integers.clone()).map_err(|e| fail(&e))?;
        Ok(cx.rewrite.dst.add_constant(tensor, data.origins.clone()))
    }
}

/// Scales of filters. One of zeros may have the scale 0; any other serves it as well.
fn usable(scales: &[f32]) -> Vec<f64> {
    let largest = scales.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let usable = scales.iter().map(|&s| if s.is_normal() { s } else { largest });
    usable.map(f64::from).collect()
}

/// Where a transposed convolution's weights `[C,M,kh,kw]` hold element `i` of filter `m` of the convolution that does the same on a
/// spread input: `[M,C,kh,kw]` with the window turned round.
fn turned([m_all, _, kh, kw]: [usize; 4], m: usize, i: usize) -> usize {
    let (c, tap) = (i / (kh * kw), i % (kh * kw));
    (c * m_all + m) * kh * kw + (kh * kw - 1 - tap)
}

/// Activation, whether there is a bias, and window of a layer.
fn parts(
    cx: &Converter<'_>,
    data: &NodeData,
    weights: &Weights,
) -> Result<(Activation, bool, Window), Refusal> {
    Ok(match &data.op {
        Op::Conv(conv) => {
            let window = Window {
                strides: conv.strides.clone(),
                pads: conv.pads.clone(),
                dilations: conv.dilations.clone(),
                group: conv.group,
            };
            (conv.act, conv.bias, window)
        }
        Op::MatMul(matmul) => {
            let window = Window {
                strides: vec![1, 1],
                pads: vec![0; 4],
                dilations: vec![1, 1],
                group: 1,
            };
            (matmul.act, matmul.bias, window)
        }
        Op::ConvTranspose(conv) => {
            let window = spread_window(
                conv,
                weights,
                cx.src().ty(data.outputs[0]).sizes(),
                data,
                cx.src(),
            )?;
            (conv.act, conv.bias, window)
        }
        _ => return Err(None),
    })
}

/// Emits the integer form of a convolution or matrix product.
pub(super) fn emit(
    cx: &mut Converter<'_>,
    n: Node,
    data: &NodeData,
    weights: Weights,
) -> Result<(), Refusal> {
    let (act, bias, window) = parts(cx, data, &weights)?;
    let own = match act {
        Activation::None => EVERYTHING,
        Activation::Relu => (0.0, f64::INFINITY),
        Activation::Clip { min, max } => (min.into(), max.into()),
        Activation::LeakyRelu { .. } => return refuse("LeakyRelu is not taken out"),
    };
    let bias = match bias.then(|| cx.src().constant(data.inputs[2])) {
        None => vec![0.0; weights.shape[0]],
        Some(Some(tensor)) => tensor.to_f64_vec(),
        Some(None) => return refuse("the bias is not constant"),
    };
    let x = cx.integers(data.inputs[0])?;
    let weights = weights.under(&bias, x.grid.scale.into());
    let steps: Vec<f64> = weights
        .scales
        .iter()
        .map(|s| s * f64::from(x.grid.scale))
        .collect();
    let bias = integer_bias(&bias, &steps)?;
    fits(&x, &weights, &bias)?;
    let target = cx.target(n, own)?;
    let real: Vec<f64> = steps.iter().map(|s| s / f64::from(target.grid.scale)).collect();
    let (multipliers, shift) = multipliers(&real)?;
    let op = QLinearConv {
        strides: square(window.strides, 1),
        pads: match window.pads[..] {
            [before, after] => vec![0, before, 0, after],
            _ => window.pads,
        },
        dilations: square(window.dilations, 1),
        group: window.group,
        x_zero: x.grid.zero,
        y_zero: target.grid.zero,
        min: target.bounds.0,
        max: target.bounds.1,
        to: target.grid.dtype,
        shift,
    };
    let operands = Operands {
        weights: weights.operand(cx, data)?,
        bias,
        multipliers: multipliers.iter().map(|&m| m as i32).collect(),
    };
    let value = match &data.op {
        Op::ConvTranspose(conv) => spread(cx, x, &conv.strides, &target.origins)?,
        _ => x.value,
    };
    let y = place(cx, data, op, value, operands, &target)?;
    cx.settle(&target, y);
    Ok(())
}

/// The convolution that a transposed one is on its input with zeros put between the elements, `strides - 1` after each.
fn spread_window(
    conv: &ConvTranspose,
    weights: &Weights,
    result: &[usize],
    data: &NodeData,
    graph: &Graph,
) -> Result<Window, Refusal> {
    if conv.group != 1 {
        return refuse("a transposed convolution of several groups has no integer form");
    }
    let x = graph.ty(data.inputs[0]).sizes();
    let mut pads = vec![0; 4];
    for d in 0..2 {
        let reach = ((weights.shape[2 + d] - 1) * conv.dilations[d]) as i64;
        let before = reach - conv.pads[d];
        let after = result[2 + d] as i64 + reach - before - (x[2 + d] * conv.strides[d]) as i64;
        let (Ok(before), Ok(after)) = (usize::try_from(before), usize::try_from(after)) else {
            return refuse(
                "a transposed convolution that is cropped by more than its window has no integer form",
            );
        };
        pads[d] = before;
        pads[d + 2] = after;
    }
    Ok(Window {
        strides: vec![1, 1],
        pads,
        dilations: conv.dilations.clone(),
        group: 1,
    })
}

/// Puts the zero point between the elements of both spatial dimensions, `strides - 1` times after each.
fn spread(
    cx: &mut Converter<'_>,
    x: Integers,
    strides: &[usize],
    origins: &[Origin],
) -> Result<Value, Refusal> {
    let &[n, c, h, w] = &cx.rewrite.dst.ty(x.value).sizes().to_vec()[..] else {
        return refuse("it has not two spatial dimensions");
    };
    if strides == [1, 1] {
        return Ok(x.value);
    }
    let apart = Reshape {
        shape: vec![n, c, h, 1, w, 1],
    };
    let apart = cx.add(apart, &[x.value], origins)?;
    let pad = Pad {
        mode: PadMode::Constant,
        before: vec![0; 6],
        after: vec![0, 0, 0, strides[0] - 1, 0, strides[1] - 1],
        value: x.grid.zero as f32,
    };
    let padded = cx.add(pad, &[apart], origins)?;
    let together = Reshape {
        shape: vec![n, c, h * strides[0], w * strides[1]],
    };
    cx.add(together, &[padded], origins)
}

/// One spatial dimension becomes the second of two.
fn square(one_or_two: Vec<usize>, first: usize) -> Vec<usize> {
    match one_or_two[..] {
        [only] => vec![first, only],
        _ => one_or_two,
    }
}

struct Operands {
    weights: Value,
    bias: Vec<i32>,
    multipliers: Vec<i32>,
}

/// The operator on an input of four dimensions, whatever the network's own has.
fn place(
    cx: &mut Converter<'_>,
    data: &NodeData,
    op: QLinearConv,
    x: Value,
    operands: Operands,
    target: &Target,
) -> Result<Value, Refusal> {
    let origins = &target.origins;
    let vector = |cx: &mut Converter<'_>, all: Vec<i32>| {
        let tensor = Tensor::from_elements(vec![all.len()], all).map_err(|e| Some(e.to_string()))?;
        Ok::<_, Refusal>(cx.rewrite.dst.add_constant(tensor, data.origins.clone()))
    };
    let bias = vector(cx, operands.bias)?;
    let multipliers = vector(cx, operands.multipliers)?;
    let shape = cx.rewrite.dst.ty(x).sizes().to_vec();
    let result = cx.src().ty(data.outputs[0]).sizes().to_vec();
    let reshape =
        |cx: &mut Converter<'_>, x: Value, shape: Vec<usize>| cx.add(Reshape { shape }, &[x], origins);
    let swap = |cx: &mut Converter<'_>, x: Value| cx.add(Transpose { perm: vec![1, 0] }, &[x], origins);
    match (&data.op, &shape[..]) {
        (Op::Conv(_) | Op::ConvTranspose(_), &[_, _, _, _]) => {
            cx.add(op, &[x, operands.weights, bias, multipliers], origins)
        }
        (Op::Conv(_), &[n, c, w]) => {
            let x = reshape(cx, x, vec![n, c, 1, w])?;
            let y = cx.add(op, &[x, operands.weights, bias, multipliers], origins)?;
            reshape(cx, y, result)
        }
        _ => {
            // Rows become pixels of one column, and depth becomes channels: the same bytes under other names.
            let depth = shape.last().copied().unwrap_or(1);
            let columns = result.last().copied().unwrap_or(1);
            let rows = result.iter().product::<usize>().checked_div(columns).unwrap_or(0);
            let x = reshape(cx, x, vec![rows, depth])?;
            let x = swap(cx, x)?;
            let x = reshape(cx, x, vec![1, depth, rows, 1])?;
            let y = cx.add(op, &[x, operands.weights, bias, multipliers], origins)?;
            let y = reshape(cx, y, vec![columns, rows])?;
            let y = swap(cx, y)?;
            reshape(cx, y, result)
        }
    }
}

/// Biases in the steps of the sums.
fn integer_bias(bias: &[f64], steps: &[f64]) -> Result<Vec<i32>, Refusal> {
    let of = |m: usize| if bias.len() == 1 { bias[0] } else { bias[m] };
    let rounded = steps
        .iter()
        .enumerate()
        .map(|(m, step)| (of(m) / step).round_ties_even());
    rounded
        .map(|b| {
            if b.abs() < f64::from(i32::MAX) {
                Ok(b as i32)
            } else {
                refuse("a bias exceeds 32 bits in the steps of the sums")
            }
        })
        .collect()
}

/// Proves that no sum of any input exceeds 32 bits.
fn fits(x: &Integers, weights: &Weights, bias: &[i32]) -> Result<(), Refusal> {
    let (low, high) = x.grid.range();
    let reach = (high - x.grid.zero).max(x.grid.zero - low);
    let length = weights.integers.len().checked_div(bias.len()).unwrap_or(0);
    for (filter, bias) in weights.integers.chunks(length.max(1)).zip(bias) {
        let size: i64 = filter.iter().map(|&w| i64::from(w).abs()).sum();
        if size * reach + i64::from(bias.unsigned_abs()) > i64::from(i32::MAX) {
            return refuse("sums could exceed 32 bits");
        }
    }
    Ok(())
}
