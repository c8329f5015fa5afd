//! Det, and MelWeightMatrix.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::Tensor;
use sdc_ir::graph::{BinaryOp, UnaryOp, Value};
use std::collections::BTreeMap;

/// Largest matrix whose determinant is expanded.
const MAX_SIZE: usize = 6;

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// Det by expansion: the minors of the first rows for every choice of columns, each computed once.
pub(super) fn det(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let shape = c.shape(x);
    let (outer, n) = match &shape[..] {
        [outer @ .., rows, columns] if rows == columns && *rows > 0 => (outer, *rows),
        _ => return Err(bad("the operand is not made of square matrices")),
    };
    if n > MAX_SIZE {
        let text = format!("determinants of matrices larger than {MAX_SIZE} by {MAX_SIZE} are not supported");
        return Err(Fault::new(Code::Form, text));
    }
    let rank = shape.len();
    // By the columns used, as bits.
    let mut minors: BTreeMap<u32, Value> = BTreeMap::new();
    for row in 0..n {
        let mut elements = Vec::new();
        for column in 0..n {
            let part = c.narrow(x, rank - 2, row, row + 1)?;
            let part = c.narrow(part, rank - 1, column, column + 1)?;
            elements.push(c.reshape(part, outer.to_vec())?);
        }
        let mut next: BTreeMap<u32, Value> = BTreeMap::new();
        for columns in (0..1u32 << n).filter(|c| c.count_ones() as usize == row + 1) {
            let mut sum = None;
            for column in (0..n).filter(|&column| columns >> column & 1 == 1) {
                let term = match minors.get(&(columns & !(1 << column))) {
                    Some(&minor) => c.binary(BinaryOp::Mul, minor, elements[column])?,
                    None => elements[column],
                };
                // The sign of the element's place in the last row of this minor.
                let after = (columns >> column).count_ones() - 1;
                sum = Some(match (sum, after % 2) {
                    (None, 0) => term,
                    (None, _) => c.unary(UnaryOp::Neg, term)?,
                    (Some(sum), 0) => c.binary(BinaryOp::Add, sum, term)?,
                    (Some(sum), _) => c.binary(BinaryOp::Sub, sum, term)?,
                });
            }
            next.extend(sum.map(|sum| (columns, sum)));
        }
        minors = next;
    }
    let all = (1u32 << n) - 1;
    minors
        .get(&all)
        .copied()
        .ok_or_else(|| bad("the matrix is empty"))
}

/// MelWeightMatrix: triangles on the mel scale, of numbers known at compile time.
pub(super) fn mel_weights(c: &mut NodeCtx) -> Lowered {
    let number = |i: usize, what| c.const_scalar(i, what);
    let (bands, length) = (
        number(0, "number of bands")?,
        number(1, "length of the transform")?,
    );
    let rate = number(2, "sample rate")?;
    let (low, high) = (number(3, "lower edge")?, number(4, "upper edge")?);
    let onnx = c.int("output_datatype", 1)?;
    let dtype = crate::tensor::dtype_of(i32::try_from(onnx).unwrap_or(0))?;
    let limit = c.builder.limits.max_folded_elements as f64;
    let size = (length / 2.0).floor() + 1.0;
    let sensible =
        bands >= 1.0 && length >= 1.0 && rate > 0.0 && low > -700.0 && low <= high && high.is_finite();
    if !sensible || size * bands > limit {
        return Err(bad(
            "the numbers do not make a matrix that can be computed at compile time",
        ));
    }
    let (bands, size) = (bands as usize, size as usize);
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let step = (mel(high) - mel(low)) / (bands + 2) as f64;
    let bin = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
        ((length + 1.0) * hertz / rate).floor().clamp(0.0, limit) as usize
    };
    let mut weights = vec![0.0f64; size * bands];
    for band in 0..bands {
        let (lower, centre, higher) = (bin(band), bin(band + 1), bin(band + 2));
        let mut set = |row: usize, weight: f64| match row < size {
            true => {
                weights[row * bands + band] = weight;
                Ok(())
            }
            false => Err(bad("a band lies beyond the spectrum")),
        };
        if centre == lower {
            set(centre, 1.0)?;
        }
        for row in lower..centre + usize::from(centre > lower) {
            set(row, (row - lower) as f64 / (centre - lower) as f64)?;
        }
        for row in centre..higher {
            set(row, (higher - row) as f64 / (higher - centre) as f64)?;
        }
    }
    let tensor = Tensor::from_elements(vec![size, bands], weights);
    let value = c.constant(tensor.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?)?;
    c.cast(value, dtype)
}
