//! Reading quantised operands: what a DequantizeLinear says of a value.

use crate::pass::merge_origins;
use sdc_ir::graph::op::Transpose;
use sdc_ir::graph::{Graph, NodeData, Op, Origin, Value};
use sdc_ir::{DType, Tensor};

/// One scale and zero point for a whole tensor.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grid {
    /// Distance of neighbours.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero: i64,
    /// Type of the integers.
    pub dtype: DType,
}

impl Grid {
    /// From the constant operands of a quantisation or dequantisation of integers of this type.
    pub fn of(graph: &Graph, dtype: DType, scale: Value, zero: Value) -> Result<Self, String> {
        let one = |v: Value| match graph.constant(v).map(Tensor::to_f64_vec).as_deref() {
            Some([x]) => Ok(*x),
            Some(_) => Err("activations have a scale per channel".to_owned()),
            None => Err("a scale or zero point is not constant".to_owned()),
        };
        let (scale, zero) = (one(scale)? as f32, one(zero)? as i64);
        // Subnormal and infinite scales would lose the quotients of scales that integer operators use.
        if !scale.is_normal() || scale < 0.0 {
            return Err(format!("the scale {scale} is not a positive normal number"));
        }
        Ok(Self { scale, zero, dtype })
    }

    /// Whether integers have eight bits.
    pub fn is_byte(&self) -> bool {
        matches!(self.dtype, DType::U8 | DType::I8)
    }

    /// Least and greatest integer.
    pub fn range(&self) -> (i64, i64) {
        let (low, high) = crate::tile::quantised_range(self.dtype);
        (low.into(), high.into())
    }

    /// The integer for a real number, as QuantizeLinear computes it.
    pub fn quantise(&self, x: f32) -> i64 {
        let (low, high) = self.range();
        ((x / self.scale).round_ties_even() + self.zero as f32).clamp(low as f32, high as f32) as i64
    }
}

/// A dequantised activation.
pub struct Activation {
    /// Its integers.
    pub value: Value,
    /// What they mean.
    pub grid: Grid,
    /// Where the dequantisation came from.
    pub origins: Vec<Origin>,
}

/// The producer of a value, if it is a DequantizeLinear.
pub fn dequantised(graph: &Graph, value: Value) -> Option<&NodeData> {
    let data = &graph.nodes()[graph.def_node(value)?];
    matches!(data.op, Op::DequantizeLinear(_)).then_some(data)
}

impl Activation {
    /// Reads a value as a dequantised activation.
    pub fn read(graph: &Graph, value: Value) -> Result<Self, String> {
        let data = dequantised(graph, value).ok_or("an operand is not dequantised")?;
        let dtype = graph.ty(data.inputs[0]).dtype;
        if graph.ty(value).dtype != DType::F32 {
            return Err(format!("it computes in {}", graph.ty(value).dtype));
        }
        Ok(Self {
            value: data.inputs[0],
            grid: Grid::of(graph, dtype, data.inputs[1], data.inputs[2])?,
            origins: data.origins.clone(),
        })
    }
}

/// Dequantised weights, output channels first.
pub struct Weights {
    /// Integers with their zero points taken off, each within -255..=255, row-major.
    pub values: Vec<i64>,
    /// Shape, output channels first.
    pub shape: Vec<usize>,
    /// One scale per output channel.
    pub scale: Vec<f32>,
    /// Where they came from.
    pub origins: Vec<Origin>,
}

impl Weights {
    /// Reads a value as weights whose dimension `output` counts output channels. A matrix may be transposed.
    pub fn read(graph: &Graph, value: Value, output: usize) -> Result<Self, String> {
        let transposed = graph.def_node(value).map(|n| &graph.nodes()[n]);
        if let Some(data) = transposed
            && matches!(&data.op, Op::Transpose(Transpose { perm }) if perm[..] == [1, 0])
        {
            let mut weights = Self::read(graph, data.inputs[0], 1 - output)?;
            weights.origins = merge_origins(&weights.origins, &data.origins);
            return Ok(weights);
        }
        let data = dequantised(graph, value).ok_or("the weights are not dequantised")?;
        let get = |i: usize| {
            graph
                .constant(data.inputs[i])
                .ok_or("the weights are not constant")
        };
        let (x, scale, zero) = (get(0)?, get(1)?, get(2)?);
        if !matches!(x.dtype(), DType::U8 | DType::I8) {
            return Err(format!("weights of type {}", x.dtype()));
        }
        let shape = x.shape().to_vec();
        let channels = shape[output];
        let per_channel = |t: &Tensor| -> Result<Vec<f64>, String> {
            let all = t.to_f64_vec();
            let axis = output + t.shape().len();
            match (all.len(), axis.checked_sub(shape.len())) {
                (1, _) => Ok(vec![all[0]; channels]),
                (n, Some(axis)) if n == channels && t.shape()[axis] == n => Ok(all),
                _ => Err("the weights' scales are not per output channel".to_owned()),
            }
        };
        let (scale, zero) = (per_channel(scale)?, per_channel(zero)?);
        let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
        if scale.iter().any(|s| !s.is_normal() || *s < 0.0) {
            return Err("a scale of the weights is not a positive normal number".to_owned());
        }
        let all = x.to_i64_vec().unwrap_or_default();
        let inner: usize = shape[output + 1..].iter().product();
        let at = |i: usize| all[i] - zero[i / inner % channels] as i64;
        let mut weights = Self {
            values: (0..all.len()).map(at).collect(),
            shape,
            scale,
            origins: data.origins.clone(),
        };
        if output == 1 {
            let [rows, columns] = weights.shape[..] else {
                return Err("the weights are not a matrix".to_owned());
            };
            let old = &weights.values;
            weights.values = (0..old.len())
                .map(|i| old[i % rows * columns + i / rows])
                .collect();
            weights.shape = vec![columns, rows];
        }
        Ok(weights)
    }

    /// As a constant of the narrowest type.
    pub fn tensor(&self, shape: Vec<usize>) -> Result<Tensor, String> {
        let narrow = self.values.iter().all(|w| (-128..=127).contains(w));
        let tensor = if narrow {
            Tensor::from_elements(shape, self.values.iter().map(|&w| w as i8).collect::<Vec<_>>())
        } else {
            Tensor::from_elements(shape, self.values.iter().map(|&w| w as i16).collect::<Vec<_>>())
        };
        tensor.map_err(|e| e.to_string())
    }
}

/// The bias of a product with accumulators in steps of `steps[m]`: an integer per output channel.
///
/// A bias quantised in those very steps is taken as it is; any other is rounded to them.
pub fn bias(graph: &Graph, value: Option<Value>, steps: &[f64]) -> Result<Vec<i32>, String> {
    let Some(value) = value else {
        return Ok(vec![0; steps.len()]);
    };
    let constant = |v: Value| {
        graph
            .constant(v)
            .map(Tensor::to_f64_vec)
            .ok_or("the bias is not constant")
    };
    let at = |all: &[f64], m: usize| if all.len() == 1 { all[0] } else { all[m] };
    let real: Vec<f64> = match dequantised(graph, value) {
        Some(data) => {
            let [x, scale, zero] = [
                constant(data.inputs[0])?,
                constant(data.inputs[1])?,
                constant(data.inputs[2])?,
            ];
            (0..steps.len())
                .map(|m| (at(&x, m) - at(&zero, m)) * at(&scale, m))
                .collect()
        }
        None => constant(value)?,
    };
    // The model's own scale is the rounded product of two: dividing gives its integers back.
    let rounded = steps
        .iter()
        .enumerate()
        .map(|(m, step)| (at(&real, m) / step).round_ties_even());
    rounded
        .map(|b| {
            if b.abs() < f64::from(i32::MAX) {
                Ok(b as i32)
            } else {
                Err("a bias exceeds 32 bits in the steps of the sums".to_owned())
            }
        })
        .collect()
}
