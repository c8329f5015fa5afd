//! Operators element by element, comparisons and conversions.

use super::super::net::{Known, float, int};
use super::{BOOL, F16, F32, I8, I32, I64, Maker, U8};

/// Element types in which whole numbers are computed.
fn whole(k: &Known) -> bool {
    [I64, I32, U8, I8].contains(&k.dtype)
}

impl Maker<'_> {
    pub(super) fn unary(&mut self) -> Option<()> {
        if self.chance(10) {
            let x = self.pick(|k| [I64, I32].contains(&k.dtype))?;
            let k = self.known(&x);
            let op = self.one(&["Abs", "Neg", "Identity", "Sign"]);
            return self.node(op, &[&x], vec![], k).map(drop);
        }
        let x = self.float(|_| true)?;
        let k = self.known(&x);
        let b = k.bound;
        let steady = ["Relu", "Abs", "Neg", "Identity", "Dropout"];
        let rounding = [
            "Floor",
            "Ceil",
            "Round",
            "Sign",
            "ThresholdedRelu",
            "Shrink",
            "IsNaN",
            "Not",
        ];
        let squash = ["Sigmoid", "Tanh", "Softsign", "HardSigmoid", "Erf"];
        let smooth = [
            "LeakyRelu",
            "Elu",
            "Selu",
            "Celu",
            "HardSwish",
            "Mish",
            "Gelu",
            "Softplus",
            "Clip",
            "PRelu",
        ];
        let special = ["Exp", "Sin", "Cos", "Sqrt", "Log", "Reciprocal", "Atan", "Sinh"];
        let group = self.random.u32(0..12);
        let with = |bound: f64, exact: bool| Known {
            bound,
            exact,
            ..k.clone()
        };
        match group {
            0..3 => {
                let op = self.one(&steady);
                self.node(op, &[&x], vec![], with(b, k.exact))
            }
            3 if k.exact => {
                let op = self.one(&rounding[..6]);
                let attributes = match op {
                    "ThresholdedRelu" => vec![float("alpha", 0.25)],
                    "Shrink" => vec![float("lambd", 0.25), float("bias", 0.125)],
                    _ => vec![],
                };
                self.node(op, &[&x], attributes, with(b.ceil(), true))
            }
            3..7 => {
                let op = self.one(&squash);
                self.node(op, &[&x], vec![], with(1.0, false))
            }
            7..10 => {
                let op = self.one(&smooth);
                match op {
                    "LeakyRelu" | "Elu" | "Celu" => {
                        let alpha = self.one(&[0.01, 0.3, 1.0]);
                        self.node(op, &[&x], vec![float("alpha", alpha)], with(b.max(1.0), false))
                    }
                    "Clip" => {
                        let (lo, hi) = (
                            self.floats(k.dtype, &[], -0.5, -0.4),
                            self.floats(k.dtype, &[], 0.3, 6.0),
                        );
                        self.node(op, &[&x, &lo, &hi], vec![], with(b, k.exact))
                    }
                    "PRelu" => {
                        let channels = k.shape.get(1).copied().unwrap_or(1);
                        let mut shape = vec![channels];
                        shape.extend(std::iter::repeat_n(1, k.rank().saturating_sub(2)));
                        if k.rank() < 2 {
                            shape = vec![1];
                        }
                        let slope = self.floats(k.dtype, &shape, 0.0, 0.5);
                        if k.rank() == 0 {
                            return None;
                        }
                        self.node(op, &[&x, &slope], vec![], with(b, false))
                    }
                    _ => self.node(op, &[&x], vec![], with(1.8 * b + 1.0, false)),
                }
            }
            _ => {
                let op = self.one(&special);
                match op {
                    "Exp" | "Sinh" if b <= 3.0 => self.node(op, &[&x], vec![], with(b.exp(), false)),
                    "Sin" | "Cos" if b < 100.0 => self.node(op, &[&x], vec![], with(1.0, false)),
                    "Atan" => self.node(op, &[&x], vec![], with(1.6, false)),
                    "Sqrt" | "Log" | "Reciprocal" => {
                        // Of what is not near zero.
                        let magnitude = self.node("Abs", &[&x], vec![], with(b, k.exact))?;
                        let half = self.floats(k.dtype, &[], 0.5, 1.0);
                        let y = self.node("Add", &[&magnitude, &half], vec![], with(b + 1.0, false))?;
                        let bound = if op == "Sqrt" {
                            (b + 1.0).sqrt()
                        } else {
                            b.max(2.0)
                        };
                        self.node(op, &[&y], vec![], with(bound, false))
                    }
                    _ => None,
                }
            }
        }
        .map(drop)
    }

    /// A shape that broadcasts with this one to it.
    fn partner(&mut self, shape: &[usize]) -> Vec<usize> {
        let from = if self.chance(70) {
            0
        } else {
            self.random.usize(0..shape.len() + 1)
        };
        shape[from..]
            .iter()
            .map(|&d| if self.chance(20) { 1 } else { d })
            .collect()
    }

    fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
        let rank = a.len().max(b.len());
        let at = |s: &[usize], d: usize| (d + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
        (0..rank)
            .map(|d| match (at(a, d), at(b, d)) {
                (x, y) if x == y => Some(x),
                (1, y) => Some(y),
                (x, 1) => Some(x),
                _ => None,
            })
            .collect()
    }

    pub(super) fn binary(&mut self) -> Option<()> {
        let x = match self.chance(15) {
            true => self.pick(whole)?,
            false => self.float(|_| true)?,
        };
        let k = self.known(&x);
        let shape = k.shape.clone();
        let dtype = k.dtype;
        let y =
            self.pick(|o| o.dtype == dtype && Self::broadcast(&o.shape, &shape).is_some() && o.shape != [1]);
        let y = match y {
            Some(y) if self.chance(75) => y,
            _ => {
                let partner = self.partner(&shape);
                let name = match whole(&k) {
                    true => self.integers(dtype, &partner, 1, 4),
                    false => self.floats(dtype, &partner, -1.0, 1.0),
                };
                self.net.known.get_mut(&name)?.bound = 3.0;
                name
            }
        };
        let o = self.known(&y);
        let shape = Self::broadcast(&shape, &o.shape)?;
        let known = |bound: f64, exact: bool| Known::new(dtype, &shape, bound, exact);
        let (a, b) = if self.chance(50) { (&x, &y) } else { (&y, &x) };
        let exact = k.exact && o.exact;
        let sum = k.bound + o.bound;
        let wraps = whole(&k) && (dtype == U8 || dtype == I8);
        match self.random.u32(0..20) {
            0..7 if !wraps => self.node("Add", &[a, b], vec![], known(sum, exact && whole(&k))),
            7..10 if !wraps => self.node(
                "Mul",
                &[a, b],
                vec![],
                known(k.bound * o.bound, exact && whole(&k)),
            ),
            10..12 if !wraps && x != y => self.node("Sub", &[a, b], vec![], known(sum, exact && whole(&k))),
            12..14 => {
                let op = self.one(&["Max", "Min"]);
                self.node(op, &[a, b], vec![], known(k.bound.max(o.bound), exact))
            }
            14 if !whole(&k) => {
                let op = self.one(&["Mean", "Sum"]);
                self.node(op, &[a, b, a], vec![], known(sum + k.bound.max(o.bound), false))
            }
            15 | 16 if exact && dtype != F16 => {
                let op = self.one(&["Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"]);
                if op == "Equal" && !whole(&k) && dtype != F32 {
                    return None;
                }
                let mut mask = self.node(op, &[a, b], vec![], Known::new(BOOL, &shape, 1.0, true))?;
                if self.chance(30) {
                    mask = self.node("Not", &[&mask], vec![], Known::new(BOOL, &shape, 1.0, true))?;
                }
                self.node(
                    "Where",
                    &[&mask, a, b],
                    vec![],
                    known(k.bound.max(o.bound), exact),
                )
            }
            17 if !whole(&k) => {
                let divisor = self.floats(dtype, &[], 1.5, 3.0);
                self.node(
                    "Div",
                    &[&x, &divisor],
                    vec![],
                    Known {
                        exact: false,
                        ..k.clone()
                    },
                )
            }
            18 if [I64, I32].contains(&dtype) => {
                let divisor = self.integers(dtype, &[], 2, 5);
                let op = self.one(&["Div", "Mod"]);
                self.node(op, &[&x, &divisor], vec![], k.clone())
            }
            19 if !whole(&k) && k.bound < 10.0 => {
                let two = self.floats(dtype, &[], 2.0, 2.0);
                self.node(
                    "Pow",
                    &[&x, &two],
                    vec![],
                    Known {
                        bound: k.bound * k.bound,
                        exact: false,
                        ..k.clone()
                    },
                )
            }
            _ => None,
        }
        .map(drop)
    }

    pub(super) fn cast(&mut self) -> Option<()> {
        let x = self.pick(|k| k.dtype != BOOL)?;
        let k = self.known(&x);
        let to = self.one(&[F32, F32, F16, I32, I64, U8, I8]);
        let to_whole = ![F32, F16].contains(&to);
        // What half precision has rounded is compared in half precision.
        if k.dtype == F16 && !k.exact {
            return None;
        }
        // Numbers out of range have no one right result, nor have computed ones that are truncated.
        if k.dtype == to || to_whole && (!k.exact || k.bound > 100.0 || to == U8 && k.dtype != U8) {
            return None;
        }
        let exact = k.exact && !(to == F16 && (k.dtype == F32 || k.bound > 2000.0));
        let known = Known {
            dtype: to,
            exact,
            bound: k.bound,
            shape: k.shape,
        };
        self.node("Cast", &[&x], vec![int("to", to.into())], known)
            .map(drop)
    }
}
