//! The sequential part of recurrent layers: one loop over time, which reads the state it wrote the step before. The product of state and
//! recurrent weights is a call of `gemm_f32` per step where the weights have a packed form, loops otherwise.

use super::conv::activation_params;
use super::matrix::Matrix;
use super::nest::Ref;
use super::storage::Scene;
use super::{Lowering, TileError, math};
use sdc_ir::DType;
use sdc_ir::graph::op::{Activation, Cell, Recurrent};
use sdc_ir::graph::{Node, UnaryOp, Value};
use sdc_ir::schedule::{Algorithm, Form, Run};
use sdc_ir::tile::{Affine, Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Ty, Val, View};

/// Operands and sizes of one layer.
struct Layer<'a> {
    op: &'a Recurrent,
    /// Input part of the gates, `[T,N,G*H]`.
    x: Ref,
    product: Product,
    bias: Ref,
    /// `[3,H]`.
    peephole: Option<Ref>,
    /// `[T,S,N,H]`.
    out: Ref,
    /// `[2,N,H]`: update gate and reset state of a GRU.
    scratch: Option<Buffer>,
    batch: usize,
    hidden: usize,
    dtype: DType,
    lanes: u8,
}

/// How the state is multiplied with the recurrent weights, `[H,G*H]`.
enum Product {
    /// With these weights, where an element is computed.
    Loops(Ref),
    /// Before a step's elements are: bias and products of all gates.
    Kernel {
        /// In blocks of columns.
        weights: Buffer,
        block: usize,
        lanes: usize,
        /// `[N,G*H]`.
        sums: Buffer,
    },
}

/// Where elements are computed: their step, batch position, first hidden position and type.
struct At {
    t: Affine,
    n: Affine,
    j: Affine,
    ty: Ty,
}

/// The state before a step, `[S,N,H]`, and the element its origin lies at.
struct Past<'a> {
    place: &'a Ref,
    origin: Affine,
}

/// Lowers a recurrent layer.
pub fn lower(cx: &mut Lowering<'_>, node: Node, op: &Recurrent, run: &Run) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = cx.dtype(data.inputs[0]);
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(cx.unsupported(node, "only f32 and f64 are supported"));
    }
    let [x, bias, initial] = [0, 2, 3].map(|i| cx.place(data.inputs[i]));
    let peephole = data.inputs.get(4).map(|&v| cx.place(v));
    let out = cx.place(data.outputs[0]);
    let (steps, batch, hidden) = (out.shape[0], out.shape[2], out.shape[3]);
    let product = match run.algorithm {
        Algorithm::Kernel(_) => Product::Kernel {
            weights: packed(cx, node, op, data.inputs[1], run.weights)?,
            block: cx.widths.block,
            lanes: cx.widths.kernel_lanes,
            sums: temp(
                cx,
                dtype,
                batch * bias.shape[0],
                format!("sums of {}", data.outputs[0]),
            ),
        },
        _ => Product::Loops(cx.place(data.inputs[1])),
    };
    let unit = |r: &Ref| r.strides.last() == Some(&1);
    let plain = match &product {
        Product::Loops(weights) => unit(weights),
        Product::Kernel { .. } => true,
    };
    // Functions of f64 are written for one lane.
    let vectors = dtype == DType::F32 && plain && [&x, &bias, &out].into_iter().all(unit);
    let gates = || format!("gates of {}", data.outputs[0]);
    let scratch = (op.cell == Cell::Gru).then(|| temp(cx, dtype, 2 * batch * hidden, gates()));
    let layer = Layer {
        op,
        x,
        product,
        bias,
        peephole,
        scratch,
        batch,
        hidden,
        dtype,
        lanes: if vectors { cx.widths.lanes } else { 1 },
        out: out.clone(),
    };
    let previous = Ref {
        strides: out.strides[1..].to_vec(),
        shape: out.shape[1..].to_vec(),
        ..out.clone()
    };
    let mut b = FuncBuilder::new();
    let first = Past {
        place: &initial,
        origin: Affine::constant(0),
    };
    layer.step(&mut b, &Affine::constant(0), &first);
    b.for_range(1, steps, 1, |b, t| {
        let past = Past {
            place: &previous,
            origin: (t.clone() + -1) * out.strides[0],
        };
        layer.step(b, &t, &past);
    });
    cx.push_func(b, data.origins.clone());
    Ok(())
}

/// Scratch memory of so many elements.
fn temp(cx: &mut Lowering<'_>, dtype: DType, len: usize, name: String) -> Buffer {
    cx.module.buffers.push(BufferData {
        dtype,
        len,
        kind: BufferKind::Temp,
        name,
    })
}

/// Whether the recurrent weights are of `f32` and multiplied with the state alone, all gates at once.
pub fn fits(scene: &Scene<'_>, node: Node, op: &Recurrent) -> bool {
    let inputs = &scene.graph.nodes()[node].inputs;
    let weights = scene.graph.ty(inputs[1]);
    op.cell != Cell::Gru
        && weights.dtype == DType::F32
        && weights.rank() == 2
        && scene.place(inputs[2]).strides == [1]
}

/// The recurrent weights for `gemm_f32`.
fn packed(
    cx: &mut Lowering<'_>,
    node: Node,
    op: &Recurrent,
    r: Value,
    form: Option<Form>,
) -> Result<Buffer, TileError> {
    let mut buffer = None;
    if fits(&cx.scene, node, op) {
        let place = cx.scene.place(r);
        let [rows, columns] = [0, 1].map(|d| (place.shape[d], place.strides[d]));
        let matrix = Matrix {
            groups: (1, 0),
            first: place.offset,
            rows: vec![rows],
            columns,
            block: cx.widths.block,
            lanes: cx.widths.kernel_lanes,
        };
        buffer = matrix.buffer(cx, (node, [0, 0]), r, form, format!("{r} packed"))?;
    }
    buffer.ok_or_else(|| cx.unsupported(node, "the kernel does not fit its recurrent weights"))
}

impl Layer<'_> {
    fn step(&self, b: &mut FuncBuilder, t: &Affine, past: &Past<'_>) {
        self.products(b, past);
        b.for_range(0, self.batch, 1, |b, n| {
            if self.op.cell == Cell::Gru {
                self.columns(b, t, &n, &mut |b, at| self.gru_gates(b, at, past));
            }
            self.columns(b, t, &n, &mut |b, at| self.state(b, at, past));
        });
    }

    /// All hidden positions, as many at a time as there are lanes.
    fn columns(
        &self,
        b: &mut FuncBuilder,
        t: &Affine,
        n: &Affine,
        body: &mut dyn FnMut(&mut FuncBuilder, &At),
    ) {
        let main = self.hidden - self.hidden % usize::from(self.lanes);
        for (lo, hi, lanes) in [(0, main, self.lanes), (main, self.hidden, 1)] {
            if lo < hi {
                b.for_range(lo, hi, lanes.into(), |b, j| {
                    let (t, n) = (t.clone(), n.clone());
                    let ty = Ty::vector(self.dtype, lanes);
                    body(b, &At { t, n, j, ty });
                });
            }
        }
    }

    fn state(&self, b: &mut FuncBuilder, at: &At, past: &Past<'_>) {
        let hidden = |b: &mut FuncBuilder, k: Affine| past.splat(b, at, k);
        match self.op.cell {
            Cell::Rnn => {
                let sum = self.sums(b, at, &[0], &hidden)[0];
                let x = self.input(b, at, 0);
                let sum = b.add(sum, x);
                let h = activate(b, self.op.f, sum);
                self.store(b, at, 0, h);
            }
            Cell::Lstm => self.lstm(b, at, past),
            Cell::GruLinear => {
                let sums = self.sums(b, at, &[0, 1, 2], &hidden);
                let [z, r] = [0, 1].map(|g| {
                    let x = self.input(b, at, g);
                    let sum = b.add(sums[g], x);
                    activate(b, self.op.f, sum)
                });
                let part = b.mul(r, sums[2]);
                self.gru(b, at, past, z, part);
            }
            Cell::Gru => {
                let reset = |b: &mut FuncBuilder, k: Affine| self.scratch_splat(b, at, k);
                let part = self.sums(b, at, &[2], &reset)[0];
                let (buffer, index) = self.scratch_at(0, at);
                let z = b.load(at.ty, buffer, index);
                self.gru(b, at, past, z, part);
            }
        }
    }

    /// `(1 - z) * g(x + part) + z * h`.
    fn gru(&self, b: &mut FuncBuilder, at: &At, past: &Past<'_>, z: Val, part: Val) {
        let x = self.input(b, at, 2);
        let sum = b.add(x, part);
        let candidate = activate(b, self.op.g, sum);
        let h = past.load(b, at, 0);
        let one = math::constant(b, at.ty, 1.0);
        let rest = b.sub(one, z);
        let kept = b.mul(z, h);
        let h = b.fma(rest, candidate, kept);
        self.store(b, at, 0, h);
    }

    /// The gates of a GRU that resets the state before the product.
    fn gru_gates(&self, b: &mut FuncBuilder, at: &At, past: &Past<'_>) {
        let sums = self.sums(b, at, &[0, 1], &|b, k| past.splat(b, at, k));
        let [z, r] = [0, 1].map(|g| {
            let x = self.input(b, at, g);
            let sum = b.add(sums[g], x);
            activate(b, self.op.f, sum)
        });
        let h = past.load(b, at, 0);
        let reset = b.mul(r, h);
        for (plane, value) in [(0, z), (1, reset)] {
            let (buffer, index) = self.scratch_at(plane, at);
            b.store(buffer, index, value);
        }
    }

    fn lstm(&self, b: &mut FuncBuilder, at: &At, past: &Past<'_>) {
        let sums = self.sums(b, at, &[0, 1, 2, 3], &|b, k| past.splat(b, at, k));
        let sums: Vec<Val> = (0..4)
            .map(|g| {
                let x = self.input(b, at, g);
                b.add(sums[g], x)
            })
            .collect();
        let before = past.load(b, at, 1);
        let sum = self.peep(b, at, 0, sums[0], before);
        let i = activate(b, self.op.f, sum);
        let sum = self.peep(b, at, 2, sums[2], before);
        let forget = activate(b, self.op.f, sum);
        let candidate = activate(b, self.op.g, sums[3]);
        let kept = b.mul(forget, before);
        let c = b.fma(i, candidate, kept);
        let sum = self.peep(b, at, 1, sums[1], c);
        let o = activate(b, self.op.f, sum);
        let shown = activate(b, self.op.h, c);
        let h = b.mul(o, shown);
        self.store(b, at, 0, h);
        self.store(b, at, 1, c);
    }

    /// The sum with a peephole's part, if there are any.
    fn peep(&self, b: &mut FuncBuilder, at: &At, gate: i64, sum: Val, cell: Val) -> Val {
        let Some(p) = &self.peephole else { return sum };
        let index = p.at(&[gate.into(), at.j.clone()]);
        let weight = b.load(at.ty, p.buffer, index);
        b.fma(weight, cell, sum)
    }

    /// Bias and products of all gates, by the kernel if there is one for it.
    fn products(&self, b: &mut FuncBuilder, past: &Past<'_>) {
        let &Product::Kernel {
            weights,
            block,
            lanes,
            sums,
        } = &self.product
        else {
            return;
        };
        let columns = self.bias.shape[0];
        let strides = &past.place.strides;
        let mut params: Vec<i64> = [self.batch, columns, self.hidden].map(|n| n as i64).to_vec();
        params.extend([strides[1], strides[2], columns as i64, 0]);
        params.extend([block as i64, lanes as i64, 1, 0]);
        params.extend(activation_params(Activation::None));
        let view = |buffer, offset| Some(View { buffer, offset });
        b.kernel(KernelCall {
            kernel: "gemm_f32".to_owned(),
            params,
            operands: vec![
                view(past.place.buffer, past.index(0, &0.into(), 0.into())),
                view(weights, 0.into()),
                view(self.bias.buffer, self.bias.offset.into()),
                None,
                view(sums, 0.into()),
            ],
            begin: 0.into(),
            end: columns.div_ceil(block).into(),
        });
    }

    /// Bias and recurrent product of some gates; `vector(k)` is the vector's element in every lane.
    fn sums(
        &self,
        b: &mut FuncBuilder,
        at: &At,
        gates: &[usize],
        vector: &dyn Fn(&mut FuncBuilder, Affine) -> Val,
    ) -> Vec<Val> {
        let ty = at.ty;
        let column = |g: usize| at.j.clone() + Affine::from(g * self.hidden);
        let r = match &self.product {
            Product::Loops(weights) => weights,
            &Product::Kernel { sums, .. } => {
                let row = at.n.clone() * self.bias.shape[0] as i64;
                let load = |&g: &usize| b.load(ty, sums, row.clone() + column(g));
                return gates.iter().map(load).collect();
            }
        };
        let biases: Vec<Val> = gates
            .iter()
            .map(|&g| b.load(ty, self.bias.buffer, self.bias.at(&[column(g)])))
            .collect();
        b.for_carried(0, self.hidden, 1, &biases, |b, k, sums| {
            let element = vector(b, k.clone());
            let weights = gates.iter().map(|&g| r.at(&[k.clone(), column(g)]));
            weights
                .zip(sums)
                .map(|(index, &sum)| {
                    let weight = b.load(ty, r.buffer, index);
                    b.fma(element, weight, sum)
                })
                .collect()
        })
    }

    fn input(&self, b: &mut FuncBuilder, at: &At, gate: usize) -> Val {
        let column = at.j.clone() + Affine::from(gate * self.hidden);
        let index = self.x.at(&[at.t.clone(), at.n.clone(), column]);
        b.load(at.ty, self.x.buffer, index)
    }

    fn store(&self, b: &mut FuncBuilder, at: &At, state: i64, value: Val) {
        let index = [at.t.clone(), state.into(), at.n.clone(), at.j.clone()];
        b.store(self.out.buffer, self.out.at(&index), value);
    }

    fn scratch_index(&self, plane: usize, n: &Affine, j: Affine) -> (Buffer, Affine) {
        let buffer = self.scratch.expect("a GRU has scratch memory");
        let base = Affine::from(plane * self.batch * self.hidden);
        (buffer, base + n.clone() * self.hidden as i64 + j)
    }

    fn scratch_at(&self, plane: usize, at: &At) -> (Buffer, Affine) {
        self.scratch_index(plane, &at.n, at.j.clone())
    }

    fn scratch_splat(&self, b: &mut FuncBuilder, at: &At, k: Affine) -> Val {
        let (buffer, index) = self.scratch_index(1, &at.n, k);
        splat(b, buffer, index, at.ty)
    }
}

impl Past<'_> {
    fn index(&self, state: i64, n: &Affine, j: Affine) -> Affine {
        self.origin.clone() + self.place.at(&[state.into(), n.clone(), j])
    }
    fn load(&self, b: &mut FuncBuilder, at: &At, state: i64) -> Val {
        let index = self.index(state, &at.n, at.j.clone());
        b.load(at.ty, self.place.buffer, index)
    }
    /// Element `k` of the hidden state in every lane.
    fn splat(&self, b: &mut FuncBuilder, at: &At, k: Affine) -> Val {
        splat(b, self.place.buffer, self.index(0, &at.n, k), at.ty)
    }
}

fn splat(b: &mut FuncBuilder, buffer: Buffer, index: Affine, ty: Ty) -> Val {
    if ty.lanes > 1 {
        b.load_splat(ty, buffer, index)
    } else {
        b.load(ty, buffer, index)
    }
}

fn activate(b: &mut FuncBuilder, op: UnaryOp, x: Val) -> Val {
    match op {
        UnaryOp::Sigmoid => math::sigmoid(b, x),
        UnaryOp::Tanh => math::tanh(b, x),
        UnaryOp::Relu => {
            let zero = math::constant(b, b.ty(x), 0.0);
            // In this order a NaN stays.
            b.max(zero, x)
        }
        _ => unreachable!("shape inference admits three activations"),
    }
}
