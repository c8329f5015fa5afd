//! Windows and Fourier transforms, whose lengths are known at compile time: a transform is a product with a constant matrix.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use crate::tensor::dtype_of;
use sdc_ir::graph::op::{Activation, Gather, MatMul, Pad, PadMode};
use sdc_ir::graph::{BinaryOp, Value};
use sdc_ir::{DType, Tensor};
use std::f64::consts::PI;

/// Elements of a transform's matrix.
const MAX_MATRIX: usize = 1 << 22;

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// A length given as an operand.
fn length(c: &NodeCtx, i: usize, what: &str) -> Result<usize, Fault> {
    let values = c.const_i64s(i, what)?;
    let one = match values[..] {
        [n] => usize::try_from(n).ok(),
        _ => None,
    };
    one.filter(|&n| n <= MAX_MATRIX)
        .ok_or_else(|| bad(format!("operand {i} ({what}) is {values:?}")))
}

fn constant(c: &mut NodeCtx, shape: Vec<usize>, values: Vec<f64>, dtype: DType) -> Lowered {
    let values: Vec<f64> = values;
    let tensor = if dtype == DType::F64 {
        Tensor::from_elements(shape, values)
    } else {
        Tensor::from_elements(shape, values.iter().map(|&x| x as f32).collect::<Vec<f32>>())
    };
    let value = c.constant(tensor.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?)?;
    c.cast(value, dtype)
}

/// HannWindow, HammingWindow, BlackmanWindow.
pub(super) fn window(c: &mut NodeCtx) -> Lowered {
    let size = length(c, 0, "size")?;
    let dtype = dtype_of(i32::try_from(c.int("output_datatype", 1)?).unwrap_or(0))?;
    let period = if c.flag("periodic", true)? {
        size as f64
    } else {
        (size as f64 - 1.0).max(1.0)
    };
    let terms: &[f64] = match c.op_type() {
        "HannWindow" => &[0.5, -0.5],
        "HammingWindow" => &[25.0 / 46.0, -21.0 / 46.0],
        "BlackmanWindow" => &[0.42, -0.5, 0.08],
        _ => return Err(super::unknown(c)),
    };
    let value = |n: usize| {
        let angle = 2.0 * PI * n as f64 / period;
        let terms = terms.iter().enumerate();
        terms.map(|(k, factor)| factor * (k as f64 * angle).cos()).sum()
    };
    constant(c, vec![size], (0..size).map(value).collect(), dtype)
}

/// A transform of signals of `length` samples.
#[derive(Clone, Copy)]
struct Transform {
    length: usize,
    inverse: bool,
    onesided: bool,
}

impl Transform {
    /// Samples that go in, and come out; the number of components of these.
    fn sizes(self) -> (usize, usize, usize) {
        let half = self.length / 2 + 1;
        match (self.inverse, self.onesided) {
            (false, true) => (self.length, half, 2),
            (true, true) => (half, self.length, 1),
            (_, false) => (self.length, self.length, 2),
        }
    }

    /// `[.., n, 1 or 2]` to `[.., k, 2]` (or `[.., k, 1]` of a one-sided inverse).
    fn apply(self, c: &mut NodeCtx, x: Value) -> Lowered {
        let (taken, given, parts) = self.sizes();
        let mut shape = c.shape(x);
        let rank = shape.len();
        let (samples, components) = (shape[rank - 2], shape[rank - 1]);
        if self.length == 0 || !(1..=2).contains(&components) {
            return Err(bad("a signal needs samples of one or two components"));
        }
        let mut x = x;
        if samples > taken {
            x = c.narrow(x, rank - 2, 0, taken)?;
        } else if samples < taken {
            let mut after = vec![0; rank];
            after[rank - 2] = taken - samples;
            let op = Pad {
                mode: PadMode::Constant,
                before: vec![0; rank],
                after,
                value: 0.0,
            };
            x = c.emit(op, &[x])?;
        }
        let (rows, columns) = (taken * components, given * parts);
        if rows.checked_mul(columns).is_none_or(|n| n > MAX_MATRIX) {
            let text = format!(
                "a transform of {} samples exceeds the limit of {MAX_MATRIX} matrix elements",
                self.length
            );
            return Err(Fault::new(Code::FoldLimit, text));
        }
        let matrix = self.matrix(components);
        let matrix = constant(c, vec![rows, columns], matrix, c.dtype(x))?;
        shape.truncate(rank - 2);
        let outer: usize = shape.iter().product();
        let x = c.reshape(x, vec![outer, rows])?;
        let op = MatMul {
            bias: false,
            residual: false,
            act: Activation::None,
        };
        let y = c.emit(op, &[x, matrix])?;
        shape.extend([given, parts]);
        c.reshape(y, shape)
    }

    fn matrix(self, components: usize) -> Vec<f64> {
        let (taken, given, parts) = self.sizes();
        let n = self.length;
        let scale = if self.inverse { 1.0 / n as f64 } else { 1.0 };
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let mut matrix = Vec::with_capacity(taken * components * given * parts);
        for t in 0..taken {
            // Of a one-sided spectrum all but the ends stand for two frequencies.
            let twice = self.inverse && self.onesided && t != 0 && 2 * t != n;
            let scale = if twice { 2.0 * scale } else { scale };
            for component in 0..components {
                for k in 0..given {
                    let (sin, cos) = (sign * 2.0 * PI * ((t * k) % n) as f64 / n as f64).sin_cos();
                    // (re + i im) * (cos + i sin)
                    let product = if component == 0 { [cos, sin] } else { [-sin, cos] };
                    matrix.extend(product[..parts].iter().map(|x| x * scale));
                }
            }
        }
        matrix
    }
}

/// DFT, its inverse, and both for real signals.
pub(super) fn dft(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let (inverse, onesided) = (c.flag("inverse", false)?, c.flag("onesided", false)?);
    let rank = c.rank(x);
    let axis = if c.opset < 20 {
        c.int("axis", 1)?
    } else {
        c.opt_const_i64s(2, "axis")?
            .and_then(|a| a.first().copied())
            .unwrap_or(-2)
    };
    if rank < 2 {
        return Err(bad("the signal needs a dimension for its components"));
    }
    let axis = c.axis(axis, rank)?;
    if axis == rank - 1 {
        return Err(bad("the last dimension holds the components"));
    }
    let samples = c.shape(x)[axis];
    let length = match c.opt_input(1) {
        Some(_) => length(c, 1, "dft_length")?,
        None if inverse && onesided => 2 * samples.saturating_sub(1),
        None => samples,
    };
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 2);
    let x = c.transpose(x, perm.clone())?;
    let transform = Transform {
        length,
        inverse,
        onesided,
    };
    let y = transform.apply(c, x)?;
    c.transpose(y, perm)
}

/// STFT: transforms of windowed parts of a signal.
pub(super) fn stft(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let onesided = c.flag("onesided", true)?;
    let step = length(c, 1, "frame_step")?;
    let window = c.opt_input(2);
    let frame = match (c.opt_input(3), window) {
        (Some(_), _) => length(c, 3, "frame_length")?,
        (None, Some(w)) => c.shape(w).first().copied().unwrap_or(0),
        (None, None) => return Err(bad("neither a window nor a frame length is given")),
    };
    let x = if c.rank(x) == 2 {
        let shape = [c.shape(x), vec![1]].concat();
        c.reshape(x, shape)?
    } else {
        x
    };
    let &[_, samples, components] = &c.shape(x)[..] else {
        return Err(bad("the signal needs the shape [batch, samples, components]"));
    };
    if frame == 0 || step == 0 || frame > samples || (onesided && components == 2) {
        return Err(bad(format!(
            "frames of {frame} samples, {step} apart, of a signal of {samples}"
        )));
    }
    let frames = 1 + (samples - frame) / step;
    if frames.checked_mul(frame).is_none_or(|n| n > MAX_MATRIX) {
        let text = format!("{frames} frames of {frame} samples exceed the limit of {MAX_MATRIX} positions");
        return Err(Fault::new(Code::FoldLimit, text));
    }
    let at = (0..frames * frame).map(|i| (i / frame * step + i % frame) as i64);
    let at = Tensor::from_elements(vec![frames, frame], at.collect::<Vec<i64>>());
    let at = c.constant(at.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?)?;
    let mut parts = c.emit(Gather { axis: 1 }, &[x, at])?;
    if let Some(window) = window {
        if c.shape(window) != [frame] {
            return Err(bad("the window has not the frame's length"));
        }
        let window = c.reshape(window, vec![frame, 1])?;
        parts = c.binary(BinaryOp::Mul, parts, window)?;
    }
    let transform = Transform {
        length: frame,
        inverse: false,
        onesided,
    };
    transform.apply(c, parts)
}
