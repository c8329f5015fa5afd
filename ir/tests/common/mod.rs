//! Random graphs and modules: well formed as text, but without meaning (types and scopes are arbitrary).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its part")]

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::attr::AttrMap;
use sdc_ir::graph::{
    Attr, AttrError, BinaryOp, Dim, Graph, Layout, Op, Origin, Shape, TensorType, UnaryOp, Value, Weight,
    Weights,
};
use sdc_ir::tile::{
    Affine, Arith1, Arith2, Bound, Buffer, BufferData, BufferKind, CompareOp, FoldOp, FuncBuilder, Index,
    Inst, KernelCall, Module, Stmt, Ty, Val, View,
};
use sdc_ir::{DType, Tensor};

pub fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_/.:0-9]{0,12}",
        any::<String>(),
        Just("\"\\\n\r\t\0\u{7f}\u{202e}\u{feff}\u{10ffff}//{}".to_owned()),
    ]
}

pub fn dtype() -> impl Strategy<Value = DType> {
    proptest::sample::select(DType::ALL.to_vec())
}

pub fn origins() -> impl Strategy<Value = Vec<Origin>> {
    let op = prop_oneof!["[A-Z][a-zA-Z0-9_]{0,8}", name()];
    let origin = (name(), op, any::<u32>()).prop_map(|(name, op, index)| Origin { name, op, index });
    proptest::collection::vec(origin, 0..3)
}

fn float() -> impl Strategy<Value = f32> {
    let special = vec![0.0, -0.0, 1e-45, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
    // NaN is not equal to itself, so graphs with it cannot be compared; it has a test of its own.
    prop_oneof![
        any::<f32>().prop_filter("not NaN", |x| !x.is_nan()),
        proptest::sample::select(special),
    ]
}

fn sizes() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(prop_oneof![0..9i64, 0..=i64::MAX], 0..5)
}

pub fn tensor() -> impl Strategy<Value = Tensor> {
    (dtype(), proptest::collection::vec(0..4usize, 0..4), any::<u8>()).prop_map(|(dtype, shape, fill)| {
        let len = shape.iter().product::<usize>() * dtype.size();
        Tensor::new(dtype, shape, vec![fill; len].into()).unwrap()
    })
}

pub fn weights() -> impl Strategy<Value = Weights> {
    proptest::collection::vec(tensor(), 1..5).prop_map(|tensors| {
        let mut weights = Weights::new();
        for t in tensors {
            weights.add(t);
        }
        weights
    })
}

fn tensor_type() -> impl Strategy<Value = TensorType> {
    let dim = prop_oneof![
        4 => (0..300usize).prop_map(Dim::Constant),
        1 => prop_oneof![name(), Just("batch".to_owned())].prop_map(Dim::Symbol),
    ];
    let shape = proptest::collection::vec(dim, 0..5).prop_map(Shape::from_iter);
    (dtype(), shape).prop_flat_map(|(dtype, shape)| {
        let order: Vec<usize> = (0..shape.rank()).collect();
        Just(order).prop_shuffle().prop_map(move |order| {
            let layout = Layout::from_order(order).unwrap();
            TensorType::new(dtype, shape.clone()).with_layout(layout)
        })
    })
}

/// Attribute values of every kind that any operator may ask for, in random order.
fn attr_pool() -> impl Strategy<Value = Vec<Attr>> {
    let floats = proptest::collection::vec(float(), 1..4);
    let numbers = (0..=i64::MAX, i64::MIN..0, sizes(), float(), float(), floats);
    numbers
        .prop_map(|(positive, negative, sizes, x, y, floats)| {
            let words = "none relu true false set add lstm gru gru_linear rnn Relu Tanh Sigmoid constant reflect edge wrap nearest linear cubic half_pixel \
                         align_corners asymmetric floor round_prefer_ceil sum mean max prod f32 bf16 i8 bool";
            let mut pool = vec![
                Attr::Int(positive),
                Attr::Int(negative),
                Attr::Ints(sizes.iter().map(|i| -i).collect()),
                Attr::Ints(vec![i64::MIN, i64::MAX]),
                Attr::Ints(sizes),
                Attr::Float(x),
                Attr::Floats(floats),
                Attr::Call("clip".into(), vec![x, y]),
                Attr::Call("leaky_relu".into(), vec![x]),
            ];
            pool.extend(words.split_whitespace().map(|w| Attr::Word(w.to_owned())));
            pool
        })
        .prop_shuffle()
}

/// The operator of this name with attributes from the pool, found by trying which ones fit.
fn op_from_pool(name: &str, pool: &[Attr], weight: Weight) -> Op {
    let mut attrs = AttrMap::new();
    let mut tried = 0;
    loop {
        let wanted = match Op::from_parts(name, attrs.clone()) {
            Ok(op) => return op,
            Err(AttrError::Missing { name, .. }) => {
                tried = 0;
                name
            }
            Err(AttrError::Bad { name, .. }) => name,
            Err(e) => panic!("{e}"),
        };
        let value = pool.get(tried).cloned().unwrap_or(Attr::Weight(weight));
        assert!(tried <= pool.len(), "no value fits {name}.{wanted}");
        attrs.insert(wanted.to_owned(), value);
        tried += 1;
    }
}

fn op_name() -> impl Strategy<Value = &'static str> {
    let mut names = Op::NAMES.to_vec();
    names.extend(UnaryOp::ALL.iter().map(|u| u.name()));
    names.extend(BinaryOp::ALL.iter().map(|b| b.name()));
    proptest::sample::select(names)
}

#[derive(Clone, Debug)]
enum Step {
    Input(String, TensorType),
    Node {
        op: &'static str,
        pool: Vec<Attr>,
        weight: Pick,
        inputs: Vec<Pick>,
        types: Vec<TensorType>,
        origins: Vec<Origin>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let picks = proptest::collection::vec(any::<Pick>(), 0..4);
    let types = proptest::collection::vec(tensor_type(), 0..3);
    let node = (op_name(), attr_pool(), any::<Pick>(), picks, types, origins());
    prop_oneof![
        1 => (name(), tensor_type()).prop_map(|(name, ty)| Step::Input(name, ty)),
        4 => node.prop_map(|(op, pool, weight, inputs, types, origins)| Step::Node {
            op, pool, weight, inputs, types, origins
        }),
    ]
}

/// A graph whose nodes use earlier values at random.
pub fn graph() -> impl Strategy<Value = Graph> {
    let outputs = proptest::collection::vec((name(), any::<Pick>()), 0..3);
    let steps = proptest::collection::vec(step(), 0..10);
    (name(), weights(), steps, outputs).prop_map(|(name, weights, steps, outputs)| {
        let mut graph = Graph::new(name);
        graph.weights = weights;
        for step in steps {
            let values: Vec<Value> = graph.values().ids().collect();
            match step {
                Step::Input(name, ty) => {
                    graph.add_input(name, ty);
                }
                Step::Node {
                    op,
                    pool,
                    weight,
                    inputs,
                    types,
                    origins,
                } => {
                    let op = op_from_pool(op, &pool, Weight::new(weight.index(graph.weights.len())));
                    let inputs = inputs.iter().filter(|_| !values.is_empty());
                    let inputs = inputs.map(|pick| *pick.get(&values)).collect();
                    graph.push_node(op, inputs, types, origins);
                }
            }
        }
        let values: Vec<Value> = graph.values().ids().collect();
        for (name, pick) in outputs.iter().filter(|_| !values.is_empty()) {
            graph.add_output(name.clone(), *pick.get(&values));
        }
        graph
    })
}

/// A module of one to three functions whose statements use earlier values, variables and buffers at random.
pub fn module() -> impl Strategy<Value = Module> {
    let buffers = proptest::collection::vec((0..4u8, any::<Pick>(), dtype(), 0..100_000usize, name()), 1..6);
    let funcs = proptest::collection::vec((name(), origins(), block()), 1..4);
    (name(), weights(), buffers, funcs).prop_map(|(name, weights, buffers, funcs)| {
        let mut module = Module {
            name,
            weights,
            ..Module::default()
        };
        for (kind, pick, dtype, len, name) in buffers {
            let kind = match kind {
                0 => BufferKind::Input(pick.index(9)),
                1 => BufferKind::Output(pick.index(9)),
                2 => BufferKind::Const(Weight::new(pick.index(module.weights.len()))),
                _ => BufferKind::Temp,
            };
            module.buffers.push(BufferData {
                dtype,
                len,
                kind,
                name,
            });
        }
        for (name, origins, steps) in funcs {
            let mut b = FuncBuilder::new();
            let mut scope = Scope {
                buffers: module.buffers.len(),
                ..Scope::default()
            };
            emit(&mut b, &steps, &mut scope);
            module.funcs.push(b.finish(name, origins));
        }
        module
    })
}

/// A random statement: what it is, with more randomness than any kind needs.
#[derive(Clone, Debug)]
enum TileStep {
    Let(u8, Ty, Noise),
    Store(Noise),
    For {
        noise: Noise,
        step: i64,
        parallel: bool,
        carried: usize,
        body: Vec<TileStep>,
    },
    Kernel(String, Vec<i64>, usize, Noise),
}

#[derive(Clone, Debug)]
struct Noise {
    picks: [Pick; 6],
    numbers: [i64; 6],
    bits: u64,
}

fn noise() -> impl Strategy<Value = Noise> {
    // Half of all, so that sums of several stay in range.
    let number = prop_oneof![-9..9i64, (i64::MIN / 8)..(i64::MAX / 8)];
    let bits = prop_oneof![any::<u64>(), any::<u32>().prop_map(u64::from), 0..300u64];
    (any::<[Pick; 6]>(), proptest::array::uniform6(number), bits).prop_map(|(picks, numbers, bits)| Noise {
        picks,
        numbers,
        bits,
    })
}

fn block() -> impl Strategy<Value = Vec<TileStep>> {
    let kernels: Vec<String> = sdc_ir::registry::KERNELS
        .iter()
        .map(|k| k.name.to_owned())
        .collect();
    let kernel = prop_oneof![
        name(),
        proptest::sample::select([kernels, vec!["none".to_owned()]].concat())
    ];
    let params = proptest::collection::vec(any::<i64>(), 0..12);
    let ty = (dtype(), any::<u8>()).prop_map(|(dtype, lanes)| Ty { dtype, lanes });
    let leaf = prop_oneof![
        6 => (any::<u8>(), ty, noise()).prop_map(|(kind, ty, noise)| TileStep::Let(kind, ty, noise)),
        1 => noise().prop_map(TileStep::Store),
        1 => (kernel, params, 0..8usize, noise()).prop_map(|(k, p, n, noise)| TileStep::Kernel(k, p, n, noise)),
    ];
    let step = leaf.prop_recursive(3, 12, 4, |step| {
        let body = proptest::collection::vec(step, 0..4);
        (noise(), any::<i64>(), any::<bool>(), 0..3usize, body).prop_map(
            |(noise, step, parallel, carried, body)| TileStep::For {
                noise,
                step,
                parallel,
                carried,
                body,
            },
        )
    });
    proptest::collection::vec(step, 0..5)
}

/// What a statement may mention.
#[derive(Clone, Default)]
struct Scope {
    buffers: usize,
    vals: Vec<Val>,
    vars: Vec<Affine>,
}

impl Scope {
    fn buffer(&self, noise: &Noise) -> Buffer {
        Buffer::new(noise.picks[0].index(self.buffers))
    }
    fn val(&self, noise: &Noise, i: usize) -> Val {
        *noise.picks[i].get(&self.vals)
    }
    fn affine(&self, noise: &Noise, i: usize) -> Affine {
        let mut sum = Affine::constant(noise.numbers[i]);
        for k in 0..i.min(self.vars.len()) {
            let var = noise.picks[k].get(&self.vars).clone();
            sum = sum + var * (noise.numbers[k] / 8);
        }
        sum
    }
    fn bound(&self, noise: &Noise, i: usize) -> Bound {
        let several = usize::from(noise.bits as u8 % 3);
        Bound::of((0..=several).map(|k| self.affine(noise, i + k)).collect())
    }
    fn index(&self, noise: &Noise) -> Index {
        let offset = (noise.bits.is_multiple_of(2) && !self.vals.is_empty()).then(|| self.val(noise, 1));
        Index {
            affine: self.affine(noise, 2),
            offset,
        }
    }
}

fn emit(b: &mut FuncBuilder, steps: &[TileStep], scope: &mut Scope) {
    for step in steps {
        match step {
            TileStep::Let(kind, ty, noise) => {
                let inst = inst(*kind, noise, scope);
                scope.vals.push(b.inst(*ty, inst));
            }
            TileStep::Store(noise) if !scope.vals.is_empty() => b.push(Stmt::Store {
                buffer: scope.buffer(noise),
                index: scope.index(noise),
                value: scope.val(noise, 3),
            }),
            TileStep::Store(_) => {}
            TileStep::Kernel(kernel, params, operands, noise) => b.kernel(KernelCall {
                kernel: kernel.clone(),
                params: params.clone(),
                operands: (0..*operands)
                    .map(|i| {
                        (noise.numbers[i % 6] % 3 != 0).then(|| View {
                            buffer: scope.buffer(noise),
                            offset: scope.affine(noise, i % 6),
                        })
                    })
                    .collect(),
                begin: scope.bound(noise, 0),
                end: scope.bound(noise, 3),
            }),
            TileStep::For {
                noise,
                step,
                parallel,
                carried,
                body,
            } => {
                let n = if scope.vals.is_empty() { 0 } else { *carried };
                let init: Vec<Val> = (0..n).map(|i| scope.val(noise, i)).collect();
                let (lo, hi) = (scope.bound(noise, 0), scope.bound(noise, 3));
                let mut loop_ = None;
                let stmts = b.block(|b| {
                    let results = b.for_carried(lo, hi, *step, &init, |b, var, args| {
                        let mut scope = scope.clone();
                        scope.vars.push(var);
                        scope.vals.extend(args);
                        emit(b, body, &mut scope);
                        (0..n).map(|i| scope.val(noise, 3 + i)).collect()
                    });
                    loop_ = Some(results);
                });
                for mut stmt in stmts {
                    if let Stmt::For(f) = &mut stmt {
                        f.parallel = *parallel;
                    }
                    b.push(stmt);
                }
                scope.vals.extend(loop_.unwrap());
            }
        }
    }
}

fn inst(kind: u8, noise: &Noise, scope: &Scope) -> Inst {
    let one = |of: usize| noise.bits as usize % of;
    let val = |i| scope.val(noise, i);
    let (buffer, index) = (scope.buffer(noise), scope.index(noise));
    match kind % 14 {
        _ if scope.vals.is_empty() => Inst::Const(noise.bits),
        0 => Inst::Load { buffer, index },
        1 => Inst::LoadSplat { buffer, index },
        2 => Inst::AffineValue(scope.affine(noise, 5)),
        3 => Inst::Splat(val(0)),
        4 => Inst::Arith1(Arith1::ALL[one(Arith1::ALL.len())], val(0)),
        5 => Inst::Arith2(Arith2::ALL[one(Arith2::ALL.len())], val(0), val(1)),
        6 => Inst::Fma(val(0), val(1), val(2)),
        7 => Inst::Compare(CompareOp::ALL[one(CompareOp::ALL.len())], val(0), val(1)),
        8 => Inst::Select(val(0), val(1), val(2)),
        9 => Inst::Convert(val(0)),
        10 => Inst::Bitcast(val(0)),
        11 => Inst::Fold(FoldOp::ALL[one(FoldOp::ALL.len())], val(0)),
        12 => Inst::Lane(val(0), noise.bits as u8),
        _ => Inst::Const(noise.bits),
    }
}

/// The text with pieces deleted, doubled, swapped with others, or characters replaced.
pub fn mutate(text: &str, edits: &[(Pick, Pick, u8)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, other, kind) in edits {
        if chars.is_empty() {
            break;
        }
        let (at, other) = (at.index(chars.len()), other.index(chars.len()));
        let piece: Vec<char> = chars[other..].iter().copied().take(1 + at % 12).collect();
        match kind {
            0 => chars[at] = chars[other],
            1 => drop(chars.drain(at..(at + 1 + other % 9).min(chars.len()))),
            2 => drop(chars.splice(at..at, piece)),
            _ => chars.truncate(at),
        }
    }
    chars.into_iter().collect()
}
