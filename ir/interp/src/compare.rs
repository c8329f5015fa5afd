//! Comparison classes: when a result counts as equal to the oracle's.

use crate::values::{Values, read};
use half::{bf16, f16};
use sdc_ir::graph::TensorType;
use sdc_ir::{DType, Tensor};
use std::fmt;

/// What two tensors must satisfy to count as equal. Whatever the class, element type and shape must be equal,
/// integers and `bool` must be equal, and NaN and infinities must be in the same places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Class {
    /// Equal numbers (`-0.0` equals `0.0`).
    Exact,
    /// `max|actual - expected| <= rel * max|expected|` over the tensor. For results of many roundings: one element may
    /// lose all its digits to cancellation, but not relative to the tensor's scale. For half-precision tensors the
    /// factor is at least the distance of 1 from the next larger number of their type, for `rel` may be finer than that.
    Rounding {
        /// The factor.
        rel: f64,
    },
    /// `|actual - expected| <= atol + rtol * |expected|` for each element.
    Elementwise {
        /// Relative part.
        rtol: f64,
        /// Absolute part.
        atol: f64,
    },
    /// For results dequantised from integers, which lie on a grid, and for such integers (whose step is 1): at least 99.5 % of the elements within one step of
    /// the grid, none beyond four. A thousandth of a step is granted for the rounding of `f32`.
    Quantised {
        /// Distance of grid points.
        step: f64,
    },
}

/// Part of a step by which a difference of whole steps may be off through rounding.
const STEP_SLACK: f64 = 1e-3;

impl Class {
    /// The default for float outputs.
    pub const ROUNDING: Class = Class::Rounding { rel: 1e-4 };
    /// The default for float outputs of networks with recurrent operators.
    pub const RECURRENT: Class = Class::Rounding { rel: 1e-3 };
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Exact => f.write_str("exact"),
            Class::Rounding { rel } => write!(f, "max|a-b| <= {rel:e} * max|b|"),
            Class::Elementwise { rtol, atol } => write!(f, "|a-b| <= {atol:e} + {rtol:e} * |b|"),
            Class::Quantised { step } => write!(f, "99.5 % within one step of {step:e}, all within four"),
        }
    }
}

/// Why two tensors are not equal under a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Element types differ.
    DType,
    /// Shapes differ.
    Shape,
    /// A NaN or an infinity is in one of the tensors only: see [`Report::worst`].
    NonFinite,
    /// Some element is too far off: see [`Report::worst`].
    TooFar,
}

/// One element of both tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Index in each dimension.
    pub index: Vec<usize>,
    /// In the tensor that was compared.
    pub actual: f64,
    /// In the oracle's.
    pub expected: f64,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The class asked for.
    pub class: Class,
    /// What failed; `None` if the tensors are equal under the class.
    pub failure: Option<Failure>,
    /// Type of the tensor that was compared.
    pub actual: TensorType,
    /// Type of the oracle's tensor.
    pub expected: TensorType,
    /// The element farthest from what the class allows; `None` if all are equal or none could be compared.
    pub worst: Option<Pair>,
    /// Number of elements beyond what the class allows on its own terms (for `Rounding`, the tensor's bound).
    pub beyond: usize,
    /// Largest `|actual - expected|` over finite elements.
    pub max_abs: f64,
    /// Largest `|actual - expected| / |expected|` over finite elements with `expected` not zero.
    pub max_rel: f64,
    /// Largest `|expected|` over finite elements.
    pub scale: f64,
    /// Largest distance in units of the last place of the element type; `None` for integers and `bool`.
    pub max_ulp: Option<u64>,
}

impl Report {
    /// True if the tensors are equal under the class.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            Some(Failure::DType | Failure::Shape) => {
                return write!(f, "differs: got {}, expected {}", self.actual, self.expected);
            }
            Some(Failure::NonFinite) => f.write_str("differs: NaN or infinity in one only")?,
            Some(Failure::TooFar) => write!(f, "differs: not {}", self.class)?,
            None if self.worst.is_none() => return f.write_str("equal"),
            None => write!(f, "agrees: {}", self.class)?,
        }
        if self.beyond > 0 {
            let total = self.actual.elements().unwrap_or(0);
            write!(f, "; {} of {total} elements beyond it", self.beyond)?;
        }
        if let Some(Pair {
            index,
            actual,
            expected,
        }) = &self.worst
        {
            write!(f, "; worst at {index:?}: got {actual}, expected {expected}")?;
        }
        write!(
            f,
            "; max|a-b| {:.3e}, max|b| {:.3e}, relative {:.3e}",
            self.max_abs, self.scale, self.max_rel
        )?;
        match self.max_ulp {
            Some(ulp) => write!(f, ", {ulp} ulp"),
            None => Ok(()),
        }
    }
}

/// Compares a tensor with the oracle's.
pub fn compare(actual: &Tensor, expected: &Tensor, class: Class) -> Report {
    let mut report = Report {
        class,
        failure: None,
        actual: TensorType::new(actual.dtype(), actual.shape()),
        expected: TensorType::new(expected.dtype(), expected.shape()),
        worst: None,
        beyond: 0,
        max_abs: 0.0,
        max_rel: 0.0,
        scale: 0.0,
        max_ulp: None,
    };
    if actual.dtype() != expected.dtype() {
        report.failure = Some(Failure::DType);
    } else if actual.shape() != expected.shape() {
        report.failure = Some(Failure::Shape);
    } else {
        match (read(actual), read(expected)) {
            (Values::Float(a), Values::Float(b)) => report.floats(&a, &b),
            (Values::Int(a), Values::Int(b)) if matches!(class, Class::Quantised { .. }) => {
                let [a, b] = [a, b].map(|v| v.iter().map(|&x| x as f64).collect::<Vec<_>>());
                report.floats(&a, &b);
            }
            (Values::Int(a), Values::Int(b)) => report.exactly(&a, &b, |&x| x as f64),
            (Values::Bool(a), Values::Bool(b)) => report.exactly(&a, &b, |&x| f64::from(u8::from(x))),
            // Equal element types are read as the same kind.
            _ => report.failure = Some(Failure::DType),
        }
    }
    report
}

impl Report {
    fn pair(&self, at: usize, actual: f64, expected: f64) -> Pair {
        let mut rest = at;
        let mut index = vec![0; self.actual.rank()];
        for (i, &n) in index.iter_mut().zip(self.actual.sizes()).rev() {
            (*i, rest) = (rest % n, rest / n);
        }
        Pair {
            index,
            actual,
            expected,
        }
    }

    fn exactly<T: PartialEq>(&mut self, a: &[T], b: &[T], number: impl Fn(&T) -> f64) {
        let mut worst = None;
        for (at, (a, b)) in a.iter().zip(b).enumerate() {
            let (x, y) = (number(a), number(b));
            self.note(x, y);
            if a != b {
                self.beyond += 1;
                if worst.is_none_or(|(_, w, v): (usize, f64, f64)| (x - y).abs() > (w - v).abs()) {
                    worst = Some((at, x, y));
                }
            }
        }
        self.worst = worst.map(|(at, x, y)| self.pair(at, x, y));
        self.failure = self.worst.is_some().then_some(Failure::TooFar);
    }

    fn floats(&mut self, a: &[f64], b: &[f64]) {
        // Equal infinities are equal, and so are any two NaN.
        let agree = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan());
        for (&x, &y) in a.iter().zip(b) {
            if x.is_finite() && y.is_finite() {
                self.note(x, y);
                let ulp = ulp_distance(self.actual.dtype, x, y);
                self.max_ulp = self.max_ulp.max(Some(ulp));
            }
        }
        let bound = |y: f64| match self.class {
            Class::Exact => 0.0,
            Class::Rounding { rel } => rel.max(granted(self.actual.dtype)) * self.scale,
            Class::Elementwise { rtol, atol } => atol + rtol * y.abs(),
            Class::Quantised { step } => step * (1.0 + STEP_SLACK),
        };
        let mut worst: Option<(usize, f64)> = None;
        let (mut beyond, mut non_finite) = (0, false);
        for (at, (&x, &y)) in a.iter().zip(b).enumerate() {
            if agree(x, y) {
                continue;
            }
            let finite = x.is_finite() && y.is_finite();
            let excess = if finite {
                (x - y).abs() - bound(y)
            } else {
                f64::INFINITY
            };
            non_finite |= !finite;
            // A bound that is NaN allows nothing.
            if excess > 0.0 || excess.is_nan() {
                beyond += 1;
            }
            if worst.is_none_or(|(_, e)| excess > e) {
                worst = Some((at, excess));
            }
        }
        self.beyond = beyond;
        self.worst = worst.map(|(at, _)| self.pair(at, a[at], b[at]));
        // Of the elements, one in two hundred may be beyond one step, but not beyond four.
        let few = match self.class {
            Class::Quantised { step } => {
                beyond <= a.len() / 200 && self.max_abs <= 4.0 * step * (1.0 + STEP_SLACK)
            }
            _ => beyond == 0,
        };
        self.failure = match (few, non_finite) {
            (_, true) => Some(Failure::NonFinite),
            (true, false) => None,
            (false, false) => Some(Failure::TooFar),
        };
    }

    fn note(&mut self, x: f64, y: f64) {
        let off = (x - y).abs();
        self.max_abs = self.max_abs.max(off);
        self.scale = self.scale.max(y.abs());
        if y != 0.0 {
            self.max_rel = self.max_rel.max(off / y.abs());
        }
    }
}

/// The least factor of [`Class::Rounding`] for results of a half-precision type: code computes chains of element-wise operators in
/// `f32` and rounds once where the interpreter rounds after each, so results may lie this far apart. 0 for the other types.
pub fn granted(dtype: DType) -> f64 {
    /// In distances of 1 from the next larger number.
    const UNITS: f64 = 4.0;
    UNITS
        * match dtype {
            DType::F16 => f16::EPSILON.to_f64(),
            DType::BF16 => bf16::EPSILON.to_f64(),
            _ => 0.0,
        }
}

/// How many numbers of the type lie between two of them, one end counted.
fn ulp_distance(dtype: DType, x: f64, y: f64) -> u64 {
    // Sign and magnitude to a line of integers on which neighbours differ by one.
    let place = |x: f64| -> i128 {
        let magnitude: i128 = match dtype {
            DType::F16 => f16::from_f64(x.abs()).to_bits().into(),
            DType::BF16 => bf16::from_f64(x.abs()).to_bits().into(),
            DType::F32 => (x.abs() as f32).to_bits().into(),
            _ => x.abs().to_bits().into(),
        };
        if x < 0.0 { -magnitude } else { magnitude }
    };
    u64::try_from((place(x) - place(y)).unsigned_abs()).unwrap_or(u64::MAX)
}
