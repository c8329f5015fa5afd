//! Convolutions, pooling, products, reductions, normalisations and recurrent layers.

use super::super::net::{Known, float, int, ints, word};
use super::{F16, F32, I64, Maker};
use sdc_frontend::proto::AttributeProto;

impl Maker<'_> {
    pub(super) fn linear(&mut self) -> Option<()> {
        match self.random.u32(0..20) {
            0..7 => self.convolution(),
            7..10 => self.pooling(),
            10..13 => self.product(),
            13..16 => self.reduction(),
            16..19 => self.normalisation(),
            _ => self.recurrent(),
        }
    }

    /// A plane of any number of dimensions.
    fn plane(&mut self, dtypes: &[i32]) -> Option<String> {
        let dtypes = dtypes.to_vec();
        self.pick(|k| dtypes.contains(&k.dtype) && (3..=5).contains(&k.rank()) && k.bound < 100.0)
    }

    /// Window, strides, dilations, pads of a spatial operator, and the size that comes of it.
    fn window(
        &mut self,
        sizes: &[usize],
        pooling: bool,
    ) -> Option<(Vec<AttributeProto>, Vec<usize>, Vec<usize>)> {
        let (mut kernel, mut strides, mut dilations, mut before, mut after, mut out) =
            (vec![], vec![], vec![], vec![], vec![], vec![]);
        for &n in sizes {
            let k = self.one(&[1, 2, 3, 3, 5]).min(n);
            let d = if k > 1 && (k - 1) * 2 < n && self.chance(15) {
                2
            } else {
                1
            };
            let s = self.one(&[1, 1, 1, 2, 3]);
            let most = if pooling { (k - 1) * d } else { 2 }.min(2);
            let (b, a) = (self.random.usize(0..=most), self.random.usize(0..=most));
            let reach = (k - 1) * d + 1;
            let size = (n + a + b).checked_sub(reach)? / s + 1;
            // The last window has an element inside.
            if pooling && ((size - 1) * s >= n + b || b >= reach) {
                return None;
            }
            kernel.push(k);
            strides.push(s);
            dilations.push(d);
            before.push(b);
            after.push(a);
            out.push(size);
        }
        let mut attributes = vec![ints("kernel_shape", &kernel), ints("strides", &strides)];
        if dilations.iter().any(|&d| d > 1) {
            attributes.push(ints("dilations", &dilations));
        }
        before.extend(after);
        attributes.push(ints("pads", &before));
        Some((attributes, kernel, out))
    }

    fn convolution(&mut self) -> Option<()> {
        let dtypes = if self.chance(8) { [F16] } else { [F32] };
        let x = self.plane(&dtypes)?;
        let k = self.known(&x);
        let channels = k.shape[1];
        let transposed = self.chance(15);
        let groups: Vec<usize> = (1..=channels).filter(|g| channels.is_multiple_of(*g)).collect();
        let group = if self.chance(60) { 1 } else { self.one(&groups) };
        let each = if group == channels {
            self.one(&[1, 1, 1, 2])
        } else {
            self.random.usize(1..9)
        };
        // Often as many as there were, so that sums with the input are made.
        let filters = if group == 1 && self.chance(50) {
            channels
        } else {
            each * group
        };
        let same = self.chance(40);
        let (attributes, kernel, out) = match same && !transposed {
            true => {
                let kernel: Vec<usize> = k.shape[2..].iter().map(|_| self.one(&[1, 3, 3, 5])).collect();
                let pads: Vec<usize> = kernel.iter().chain(&kernel).map(|k| k / 2).collect();
                (
                    vec![ints("kernel_shape", &kernel), ints("pads", &pads)],
                    kernel,
                    k.shape[2..].to_vec(),
                )
            }
            false if transposed => {
                let kernel: Vec<usize> = k.shape[2..].iter().map(|_| self.random.usize(1..4)).collect();
                let stride = self.random.usize(1..3);
                let strides = vec![stride; kernel.len()];
                let out = k.shape[2..]
                    .iter()
                    .zip(&kernel)
                    .map(|(n, k)| (n - 1) * stride + k)
                    .collect();
                (
                    vec![ints("kernel_shape", &kernel), ints("strides", &strides)],
                    kernel,
                    out,
                )
            }
            false => self.window(&k.shape[2..], false)?,
        };
        let mut shape = match transposed {
            true => vec![channels, filters / group],
            false => vec![filters, channels / group],
        };
        let fan = channels / group * kernel.iter().product::<usize>();
        shape.extend(&kernel);
        let wide = (3.0 / fan as f32).sqrt();
        let dtype = k.dtype;
        // Weights known at run time, now and then.
        let w = match self.chance(10) {
            true => self.pick(|o| o.dtype == dtype && o.shape == shape),
            false => None,
        };
        let w = match w {
            Some(w) => w,
            None => self.floats(dtype, &shape, -wide, wide),
        };
        let mut inputs = vec![x.clone(), w];
        if self.chance(60) {
            inputs.push(self.floats(dtype, &[filters], -0.5, 0.5));
        }
        let mut attributes = attributes;
        attributes.push(int("group", group as i64));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut result = vec![k.shape[0], filters];
        result.extend(out);
        let bound = k.bound * (3.0 * fan as f64).sqrt() + 0.5;
        let op = if transposed { "ConvTranspose" } else { "Conv" };
        let y = self.node(op, &inputs, attributes, Known::new(dtype, &result, bound, false))?;
        // What follows a convolution in most networks.
        let known = self.known(&y);
        match self.random.u32(0..6) {
            0 if known.shape == k.shape => {
                let (a, b) = if self.chance(50) { (&x, &y) } else { (&y, &x) };
                self.node(
                    "Add",
                    &[a, b],
                    vec![],
                    Known {
                        bound: k.bound + bound,
                        ..known
                    },
                )
                .map(drop)
            }
            1 => self.node("Relu", &[&y], vec![], known).map(drop),
            _ => Some(()),
        }
    }

    fn pooling(&mut self) -> Option<()> {
        let dtypes = if self.chance(8) { [F16] } else { [F32] };
        let x = self.plane(&dtypes)?;
        let k = self.known(&x);
        let mut result = k.shape[..2].to_vec();
        if self.chance(25) {
            result.extend(k.shape[2..].iter().map(|_| 1));
            let op = self.one(&["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]);
            let bound = if op == "GlobalLpPool" {
                k.bound * (k.elements() as f64).sqrt()
            } else {
                k.bound
            };
            let exact = k.exact && op == "GlobalMaxPool";
            return self
                .node(op, &[&x], vec![], Known::new(k.dtype, &result, bound, exact))
                .map(drop);
        }
        let (mut attributes, kernel, out) = self.window(&k.shape[2..], true)?;
        result.extend(out);
        let op = self.one(&["MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"]);
        let bound = match op {
            "LpPool" => k.bound * (kernel.iter().product::<usize>() as f64).sqrt(),
            _ => k.bound,
        };
        if op == "AveragePool" {
            attributes.push(int("count_include_pad", self.random.i64(0..2)));
        }
        let exact = k.exact && op == "MaxPool";
        self.node(op, &[&x], attributes, Known::new(k.dtype, &result, bound, exact))
            .map(drop)
    }

    fn product(&mut self) -> Option<()> {
        let a = self.float(|k| k.rank() >= 1 && k.bound < 50.0)?;
        let k = self.known(&a);
        let inner = k.shape[k.rank() - 1];
        let dtype = k.dtype;
        let bound = k.bound * (3.0 * inner as f64).sqrt() + 1.0;
        let wide = (3.0 / inner as f32).sqrt();
        let columns = self.one(&[1, 2, 3, 5, 8, 16, 17, 33]);
        if k.rank() == 2 && self.chance(40) {
            let transposed = self.chance(50);
            let shape = if transposed {
                [columns, inner]
            } else {
                [inner, columns]
            };
            let w = self.floats(dtype, &shape, -wide, wide);
            let out = [k.shape[0], columns];
            let bias = self.one(&[vec![columns], vec![1, columns], vec![k.shape[0], columns], vec![]]);
            let bias = self.floats(dtype, &bias, -0.5, 0.5);
            let attributes = vec![
                int("transB", transposed.into()),
                float("alpha", 0.75),
                float("beta", 0.5),
            ];
            return self
                .node(
                    "Gemm",
                    &[&a, &w, &bias],
                    attributes,
                    Known::new(dtype, &out, bound, false),
                )
                .map(drop);
        }
        // With another value, if one fits; with its own transpose; or with weights.
        let batch = k.shape[..k.rank().saturating_sub(2)].to_vec();
        let other = self.pick(|o| {
            let r = o.rank();
            o.dtype == dtype
                && r >= 2
                && k.rank() >= 2
                && o.shape[r - 2] == inner
                && o.shape[..r - 2] == batch
                && o.bound < 50.0
        });
        if let Some(b) = other.filter(|_| self.chance(60)) {
            let o = self.known(&b);
            let mut shape = k.shape.clone();
            *shape.last_mut()? = o.shape[o.rank() - 1];
            let bound = k.bound * o.bound * inner as f64;
            return self
                .node(
                    "MatMul",
                    &[&a, &b],
                    vec![],
                    Known::new(dtype, &shape, bound, false),
                )
                .map(drop);
        }
        let mut shape = match self.random.u32(0..4) {
            0 if k.rank() > 2 => batch.clone(),
            _ => vec![],
        };
        shape.extend([inner, columns]);
        let w = self.floats(dtype, &shape, -wide, wide);
        let mut shape = k.shape.clone();
        *shape.last_mut()? = columns;
        self.node(
            "MatMul",
            &[&a, &w],
            vec![],
            Known::new(dtype, &shape, bound, false),
        )
        .map(drop)
    }

    fn reduction(&mut self) -> Option<()> {
        let x = self.float(|k| k.rank() >= 1 && k.bound < 30.0)?;
        let k = self.known(&x);
        let axis = self.random.usize(0..k.rank());
        if k.exact && k.dtype == F32 && self.chance(20) {
            let op = self.one(&["ArgMax", "ArgMin"]);
            let mut shape = k.shape.clone();
            shape[axis] = 1;
            let attributes = vec![int("axis", axis as i64), int("keepdims", 1)];
            return self
                .node(op, &[&x], attributes, Known::new(I64, &shape, 10.0, true))
                .map(drop);
        }
        if k.exact && k.dtype == F32 && self.chance(20) {
            let n = self.random.usize(1..=k.shape[axis]);
            let count = self.list(&[n as i64]);
            let mut shape = k.shape.clone();
            shape[axis] = n;
            let attributes = vec![int("axis", axis as i64), int("largest", self.random.i64(0..2))];
            let known = vec![
                Known {
                    shape: shape.clone(),
                    ..k.clone()
                },
                Known::new(I64, &shape, 10.0, true),
            ];
            return self.nodes("TopK", &[&x, &count], attributes, known).map(drop);
        }
        let axes: Vec<usize> = (0..k.rank()).filter(|&d| d == axis || self.chance(30)).collect();
        let keep = self.chance(50);
        let shape: Vec<usize> = (0..k.rank())
            .filter(|d| keep || !axes.contains(d))
            .map(|d| if axes.contains(&d) { 1 } else { k.shape[d] })
            .collect();
        let count: usize = axes.iter().map(|&d| k.shape[d]).product();
        let n = count as f64;
        let (op, bound) = self.one(&[
            ("ReduceSum", k.bound * n),
            ("ReduceMean", k.bound),
            ("ReduceMean", k.bound),
            ("ReduceMax", k.bound),
            ("ReduceMin", k.bound),
            ("ReduceL1", k.bound * n),
            ("ReduceL2", k.bound * n.sqrt()),
            ("ReduceSumSquare", k.bound * k.bound * n),
            ("ReduceLogSumExp", k.bound + 10.0),
        ]);
        let exact = k.exact && matches!(op, "ReduceMax" | "ReduceMin");
        let axes: Vec<i64> = axes
            .iter()
            .map(|&a| {
                if self.chance(30) {
                    a as i64 - k.rank() as i64
                } else {
                    a as i64
                }
            })
            .collect();
        let axes = self.list(&axes);
        let attributes = vec![int("keepdims", keep.into())];
        self.node(
            op,
            &[&x, &axes],
            attributes,
            Known::new(k.dtype, &shape, bound, exact),
        )
        .map(drop)
    }

    fn normalisation(&mut self) -> Option<()> {
        let x = self.float(|k| k.rank() >= 1)?;
        let k = self.known(&x);
        let dtype = k.dtype;
        let known = |bound: f64| Known::new(dtype, &k.shape, bound, false);
        let axis = self.random.usize(0..k.rank());
        let last = *k.shape.last()?;
        let channels = k.shape.get(1).copied().unwrap_or(1);
        let spatial: usize = k.shape.iter().skip(2).product();
        let epsilon = float("epsilon", 0.1);
        match self.random.u32(0..10) {
            0..3 => self.node("Softmax", &[&x], vec![int("axis", axis as i64)], known(1.0)),
            3 => self.node(
                "LogSoftmax",
                &[&x],
                vec![int("axis", axis as i64)],
                known(k.bound * 2.0 + 9.0),
            ),
            4 | 5 if last >= 4 => {
                let (scale, bias) = (
                    self.floats(dtype, &[last], 0.5, 1.5),
                    self.floats(dtype, &[last], 0.5, 1.5),
                );
                self.node(
                    "LayerNormalization",
                    &[&x, &scale, &bias],
                    vec![int("axis", -1), epsilon],
                    known(10.0),
                )
            }
            6 if k.rank() >= 3 && spatial >= 4 => {
                let (scale, bias) = (
                    self.floats(dtype, &[channels], 0.5, 1.5),
                    self.floats(dtype, &[channels], 0.5, 1.5),
                );
                self.node(
                    "InstanceNormalization",
                    &[&x, &scale, &bias],
                    vec![epsilon],
                    known(10.0),
                )
            }
            7 | 8 if k.rank() >= 2 => {
                let mut inputs = vec![x.clone()];
                for (lo, hi) in [(0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.5, 1.5)] {
                    inputs.push(self.floats(dtype, &[channels], lo, hi));
                }
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                self.node("BatchNormalization", &inputs, vec![], known(k.bound * 3.0 + 2.0))
            }
            9 if k.rank() == 4 && dtype == F32 => {
                let size = self.one(&[1, 3, 5]);
                self.node(
                    "LRN",
                    &[&x],
                    vec![int("size", size), float("alpha", 0.1)],
                    known(k.bound),
                )
            }
            _ => None,
        }
        .map(drop)
    }

    fn recurrent(&mut self) -> Option<()> {
        let x = self.pick(|k| k.dtype == F32 && k.rank() == 3 && k.bound < 20.0)?;
        let k = self.known(&x);
        let (length, batch, input) = (k.shape[0], k.shape[1], k.shape[2]);
        let hidden = self.random.usize(1..9);
        let (op, gates) = self.one(&[("LSTM", 4), ("GRU", 3), ("RNN", 1)]);
        let (directions, direction) = self.one(&[(1, "forward"), (1, "reverse"), (2, "bidirectional")]);
        let w = self.floats(F32, &[directions, gates * hidden, input], -0.4, 0.4);
        let r = self.floats(F32, &[directions, gates * hidden, hidden], -0.4, 0.4);
        let b = self.floats(F32, &[directions, 2 * gates * hidden], -0.4, 0.4);
        let mut attributes = vec![int("hidden_size", hidden as i64), word("direction", direction)];
        if op == "GRU" {
            attributes.push(int("linear_before_reset", self.random.i64(0..2)));
        }
        let known = vec![
            Known::new(F32, &[length, directions, batch, hidden], 1.0, false),
            Known::new(F32, &[directions, batch, hidden], 1.0, false),
        ];
        self.nodes(op, &[&x, &w, &r, &b], attributes, known).map(drop)
    }
}
