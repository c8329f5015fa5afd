//! Operators that move elements.

use super::super::net::{Known, float, int, ints, word};
use super::{F16, F32, Maker};

impl Maker<'_> {
    pub(super) fn movement(&mut self) -> Option<()> {
        let x = self.pick(|k| k.rank() >= 1)?;
        let k = self.known(&x);
        let rank = k.rank();
        let axis = self.random.usize(0..rank);
        let size = k.shape[axis];
        let with = |shape: Vec<usize>| Known { shape, ..k.clone() };
        match self.random.u32(0..20) {
            0..3 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                self.random.shuffle(&mut perm);
                let shape = perm.iter().map(|&d| k.shape[d]).collect();
                self.node("Transpose", &[&x], vec![ints("perm", &perm)], with(shape))
            }
            3 | 4 => {
                let shape = self.regrouped(&k.shape);
                let wanted = self.list(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
                self.node("Reshape", &[&x, &wanted], vec![], with(shape))
            }
            5 => {
                let parts = [k.shape[..axis].iter().product(), k.shape[axis..].iter().product()];
                self.node(
                    "Flatten",
                    &[&x],
                    vec![int("axis", axis as i64)],
                    with(parts.to_vec()),
                )
            }
            6 => {
                let at = self.list(&[axis as i64]);
                let mut shape = k.shape.clone();
                if size == 1 {
                    shape.remove(axis);
                    self.node("Squeeze", &[&x, &at], vec![], with(shape))
                } else if rank < 6 {
                    shape.insert(axis, 1);
                    self.node("Unsqueeze", &[&x, &at], vec![], with(shape))
                } else {
                    None
                }
            }
            7..10 => self.slice(&x, &k, axis),
            10..13 => {
                let other = self.pick(|o| {
                    o.dtype == k.dtype
                        && o.rank() == rank
                        && (0..rank).all(|d| d == axis || o.shape[d] == k.shape[d])
                })?;
                let o = self.known(&other);
                let mut shape = k.shape.clone();
                shape[axis] += o.shape[axis];
                let known = Known::new(k.dtype, &shape, k.bound.max(o.bound), k.exact && o.exact);
                self.node("Concat", &[&x, &other], vec![int("axis", axis as i64)], known)
            }
            13 if size >= 2 => {
                let first = self.random.usize(1..size);
                let sizes = self.list(&[first as i64, (size - first) as i64]);
                let part = |n: usize| {
                    let mut shape = k.shape.clone();
                    shape[axis] = n;
                    with(shape)
                };
                let known = vec![part(first), part(size - first)];
                let names = self.nodes("Split", &[&x, &sizes], vec![int("axis", axis as i64)], known);
                names.map(|n| n[0].clone())
            }
            14 => self.pad(&x, &k),
            15 => {
                let mut shape = k.shape.clone();
                if size == 1 {
                    shape[axis] = self.random.usize(2..5);
                    let wanted = self.list(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
                    return self.node("Expand", &[&x, &wanted], vec![], with(shape)).map(drop);
                }
                let mut times = vec![1; rank];
                times[axis] = 2;
                shape[axis] *= 2;
                let times = self.list(&times);
                self.node("Tile", &[&x, &times], vec![], with(shape))
            }
            16 => {
                let n = self.random.usize(1..6);
                let at: Vec<i64> = (0..n).map(|_| self.random.i64(0..size as i64)).collect();
                let at = self.list(&at);
                let mut shape = k.shape.clone();
                shape[axis] = n;
                self.node("Gather", &[&x, &at], vec![int("axis", axis as i64)], with(shape))
            }
            17 => {
                let block = self.one(&[2, 3]);
                if rank != 4 || k.dtype != F32 {
                    return None;
                }
                let s = &k.shape;
                if s[1].is_multiple_of(block * block) {
                    let shape = vec![s[0], s[1] / block / block, s[2] * block, s[3] * block];
                    let mode = self.one(&["DCR", "CRD"]);
                    let attributes = vec![int("blocksize", block as i64), word("mode", mode)];
                    self.node("DepthToSpace", &[&x], attributes, with(shape))
                } else if s[2].is_multiple_of(block) && s[3].is_multiple_of(block) {
                    let shape = vec![s[0], s[1] * block * block, s[2] / block, s[3] / block];
                    self.node(
                        "SpaceToDepth",
                        &[&x],
                        vec![int("blocksize", block as i64)],
                        with(shape),
                    )
                } else {
                    None
                }
            }
            18 => self.resize(&x, &k),
            _ => match self.random.u32(0..3) {
                0 if k.dtype == F32 => {
                    let at = self.integers(super::I64, &[], axis as i64, axis as i64 + 1);
                    let attributes = vec![
                        int("reverse", self.random.i64(0..2)),
                        int("exclusive", self.random.i64(0..2)),
                    ];
                    let known = Known {
                        bound: k.bound * size as f64,
                        exact: false,
                        ..k.clone()
                    };
                    self.node("CumSum", &[&x, &at], attributes, known)
                }
                1 if rank >= 2 => {
                    let upper = vec![int("upper", self.random.i64(0..2))];
                    self.node("Trilu", &[&x], upper, k.clone())
                }
                _ => {
                    let indices: Vec<usize> = k.shape.clone();
                    let at = self.integers(super::I64, &indices, 0, size as i64);
                    self.node(
                        "GatherElements",
                        &[&x, &at],
                        vec![int("axis", axis as i64)],
                        k.clone(),
                    )
                }
            },
        }
        .map(drop)
    }

    /// Another shape of as many elements: neighbours joined, or a dimension cut in two.
    fn regrouped(&mut self, shape: &[usize]) -> Vec<usize> {
        let mut out = shape.to_vec();
        if out.len() >= 2 && self.chance(50) {
            let at = self.random.usize(0..out.len() - 1);
            let joined = out.remove(at) * out[at];
            out[at] = joined;
        }
        if self.chance(60) && out.len() < 6 && !out.is_empty() {
            let at = self.random.usize(0..out.len());
            let divisors: Vec<usize> = (1..=out[at]).filter(|d| out[at].is_multiple_of(*d)).collect();
            let d = self.one(&divisors);
            out[at] /= d;
            out.insert(at, d);
        }
        out
    }

    fn slice(&mut self, x: &str, k: &Known, axis: usize) -> Option<String> {
        let size = k.shape[axis] as i64;
        let step = self.one(&[1, 1, 1, 2, -1, -2]);
        let (start, end) = match step > 0 {
            true => {
                let start = self.random.i64(0..size);
                (start, self.random.i64(start + 1..size + 2))
            }
            false => (size - 1, -size - 1),
        };
        let last = if step > 0 { end.min(size) } else { -1 };
        let count = if step > 0 {
            (last - start + step - 1) / step
        } else {
            (start - last - step - 1) / -step
        };
        let mut shape = k.shape.clone();
        shape[axis] = usize::try_from(count).ok()?;
        let [start, end, at, step] = [start, end, axis as i64, step].map(|v| self.list(&[v]));
        self.node(
            "Slice",
            &[x, &start, &end, &at, &step],
            vec![],
            Known { shape, ..k.clone() },
        )
    }

    fn pad(&mut self, x: &str, k: &Known) -> Option<String> {
        let mode = self.one(&["constant", "constant", "reflect", "edge", "wrap"]);
        let mut pads = vec![0i64; 2 * k.rank()];
        let mut shape = k.shape.clone();
        for d in 0..k.rank() {
            let n = k.shape[d] as i64;
            let most = if mode == "constant" {
                3
            } else {
                (n - 1).clamp(0, 2)
            };
            if self.chance(50) {
                let least = if mode == "constant" && n > 2 { -1 } else { 0 };
                (pads[d], pads[d + k.rank()]) = (self.random.i64(least..=most), self.random.i64(0..=most));
                shape[d] = usize::try_from(n + pads[d] + pads[d + k.rank()]).ok()?;
            }
        }
        let pads = self.list(&pads);
        let mut inputs = vec![x.to_owned(), pads];
        if mode == "constant" && [F32, F16].contains(&k.dtype) && self.chance(50) {
            inputs.push(self.floats(k.dtype, &[], 0.25, 0.5));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let known = Known {
            shape,
            bound: k.bound.max(0.5),
            ..k.clone()
        };
        self.node("Pad", &inputs, vec![word("mode", mode)], known)
    }

    fn resize(&mut self, x: &str, k: &Known) -> Option<String> {
        let mode = self.one(&["nearest", "nearest", "linear", "cubic"]);
        if k.dtype != F32 || k.rank() > 4 || mode == "cubic" && k.rank() != 4 {
            return None;
        }
        let first = k.rank().saturating_sub(2);
        let mut shape = k.shape.clone();
        for size in &mut shape[first..] {
            *size = self.random.usize(1..2 * *size + 2);
        }
        let coordinates = self.one(&["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]);
        let rounding = self.one(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]);
        let sizes = self.list(&shape.iter().map(|&d| d as i64).collect::<Vec<_>>());
        let mut attributes = vec![
            word("mode", mode),
            word("coordinate_transformation_mode", coordinates),
        ];
        match mode {
            "nearest" => attributes.push(word("nearest_mode", rounding)),
            "cubic" => attributes.push(float("cubic_coeff_a", -0.5)),
            _ => {}
        }
        let exact = k.exact && mode == "nearest";
        self.node(
            "Resize",
            &[x, "", "", &sizes],
            attributes,
            Known::new(k.dtype, &shape, k.bound * 2.0, exact),
        )
    }
}
