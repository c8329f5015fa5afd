//! Element-wise operators: one loop nest for a whole expression tree.

use super::nest::{self, Access, Ref};
use super::storage::Scene;
use super::{Lowering, TileError, map, math, quantised, quantised_elementwise};
use sdc_ir::DType;
use sdc_ir::graph::{BinaryOp, Graph, Node, NodeData, Op, Origin, UnaryOp, Value};
use sdc_ir::registry::map::StepOp;
use sdc_ir::schedule::{Algorithm, Tasks};
pub use sdc_ir::tile::math::constant;
use sdc_ir::tile::{Arith1, Arith2, Buffer, CompareOp, FuncBuilder, Ty, Val, build::mask_type};

/// A value read by the expression.
pub enum Leaf {
    /// Loaded; position among the nest's operands.
    Memory(Value, usize),
    /// A constant of one element.
    Scalar(Value, f64),
    /// A table, read by a Lookup, and its buffer.
    Table(Value, Buffer),
}

impl Leaf {
    pub(super) fn value(&self) -> Value {
        match *self {
            Leaf::Memory(v, _) | Leaf::Scalar(v, _) | Leaf::Table(v, _) => v,
        }
    }
}

/// A tree of element-wise operators: a node whose result is stored, and the inlined results it reads.
pub struct Tree<'s, 'g> {
    pub(super) scene: &'s Scene<'g>,
    /// The outermost operator.
    pub(super) node: Node,
    /// What is read and written, in the result's shape; the result first. Constants are in no buffer yet.
    pub(super) operands: Vec<Ref>,
    pub(super) leaves: Vec<Leaf>,
    /// The user's nodes, outermost operator first.
    pub origins: Vec<Origin>,
    nodes: Vec<Node>,
    vectorisable: bool,
}

impl<'s, 'g> Tree<'s, 'g> {
    /// The tree rooted at `node`.
    pub fn of(scene: &'s Scene<'g>, node: Node) -> Self {
        let out = scene.place(scene.graph.nodes()[node].outputs[0]);
        let mut tree = Self {
            scene,
            node,
            operands: vec![out],
            leaves: Vec::new(),
            origins: Vec::new(),
            nodes: Vec::new(),
            vectorisable: true,
        };
        tree.collect(node);
        // Outermost operator last in the walk, first in the list people read.
        tree.origins.reverse();
        tree
    }

    fn collect(&mut self, node: Node) {
        let graph = self.scene.graph;
        let data = &graph.nodes()[node];
        self.nodes.push(node);
        let scalar_only = matches!(data.op, Op::Unary(UnaryOp::Sin | UnaryOp::Cos));
        self.vectorisable &= !scalar_only && lanes_fit(graph, data);
        for &v in &data.inputs {
            if self.scene.is_inlined(v) {
                let inner = graph.def_node(v).expect("inlined values are results");
                self.collect(inner);
            } else if self.leaves.iter().all(|l| l.value() != v) {
                self.leaf(data, v);
            }
        }
        for origin in data.origins.iter().rev() {
            if !self.origins.contains(origin) {
                self.origins.push(origin.clone());
            }
        }
    }

    fn leaf(&mut self, data: &NodeData, v: Value) {
        if matches!(data.op, Op::Lookup(_)) && data.inputs.get(1) == Some(&v) && data.inputs[0] != v {
            self.leaves.push(Leaf::Table(v, self.scene.place(v).buffer));
            return;
        }
        if let Some(x) = scalar_constant(self.scene.graph, v) {
            self.leaves.push(Leaf::Scalar(v, x));
            return;
        }
        let mut place = self.scene.place(v);
        let shape = &self.operands[0].shape;
        if matches!(data.op, Op::BatchNormalization(_)) && v != data.inputs[0] {
            place = per_channel(&place, shape.len());
        }
        self.leaves.push(Leaf::Memory(v, self.operands.len()));
        self.operands.push(place.broadcast(shape));
    }

    /// The operators, and the values that are read from memory.
    fn parts(self) -> (Vec<Node>, Vec<Value>) {
        let read = self
            .leaves
            .iter()
            .filter(|leaf| !matches!(leaf, Leaf::Scalar(..)));
        (self.nodes, read.map(Leaf::value).collect())
    }

    /// Whether any operator of the tree takes a polynomial.
    pub fn is_transcendental(&self) -> bool {
        let polynomial = |node: &Node| match &self.scene.graph.nodes()[*node].op {
            Op::Unary(op) => map::function(*op).is_some_and(StepOp::is_transcendental),
            Op::Elu(_) => true,
            _ => false,
        };
        self.nodes.iter().any(polynomial)
    }
}

/// Lowers the tree of element-wise operators rooted at `node` to one function.
pub fn lower(cx: &mut Lowering<'_>, node: Node, algorithm: Algorithm, tasks: Tasks) -> Result<(), TileError> {
    match algorithm {
        Algorithm::Kernel("map_f32") | Algorithm::Loops => {}
        _ => return quantised_elementwise::lower(cx, node, tasks),
    }
    let (nodes, read) = Tree::of(&cx.scene, node).parts();
    for inner in nodes {
        supported(cx, inner)?;
    }
    // From now on what is read is in buffers, constants too.
    for v in read {
        cx.place(v);
    }
    let tree = Tree::of(&cx.scene, node);
    let result = cx.graph.nodes()[node].outputs[0];
    let out = tree.operands[0].clone();
    let b = if algorithm == Algorithm::Loops {
        let lanes = if tree.vectorisable { cx.widths.lanes } else { 1 };
        let refs: Vec<&Ref> = tree.operands.iter().collect();
        let mut b = FuncBuilder::new();
        nest::emit(&mut b, &refs, lanes, tasks, &mut |b, lanes, access| {
            let loaded: Vec<Val> = tree
                .leaves
                .iter()
                .map(|leaf| tree.load(b, leaf, lanes, &refs, access))
                .collect();
            let x = tree.eval(b, node, &loaded);
            let x = to_storage(b, cx.graph.ty(result).dtype, x);
            b.store(out.buffer, access[0].index.clone(), x);
        });
        b
    } else {
        map::Program::of(&tree)
            .map(|program| program.call(&tree.operands, tasks))
            .map_err(|reason| cx.unsupported(node, reason))?
    };
    let origins = tree.origins.clone();
    cx.push_func(b, origins);
    Ok(())
}

/// True if vectors can hold what the node reads and writes: `f32`, and bytes on the way from or to them.
fn lanes_fit(graph: &Graph, data: &NodeData) -> bool {
    let dtype = |v: &Value| graph.ty(*v).dtype;
    let single = |v: &Value| dtype(v) == DType::F32;
    let byte = |v: &Value| matches!(dtype(v), DType::I8 | DType::U8);
    let (x, y) = (&data.inputs[0], &data.outputs[0]);
    match (&data.op, &data.inputs[..]) {
        (Op::DequantizeLinear(_), [x, scale, zero]) => byte(x) && single(scale) && byte(zero) && single(y),
        (Op::QuantizeLinear(_), [_, scale, zero]) => single(x) && single(scale) && byte(zero) && byte(y),
        _ => data.inputs.iter().all(single) && single(y),
    }
}

/// A `[C]` vector seen as `[C, 1, 1..]`, to broadcast along dimension 1 of a tensor of this rank.
fn per_channel(vector: &Ref, rank: usize) -> Ref {
    let trailing = rank.saturating_sub(2);
    let mut place = vector.clone();
    place.shape.extend(std::iter::repeat_n(1, trailing));
    place.strides.extend(std::iter::repeat_n(0, trailing));
    place
}

fn scalar_constant(graph: &Graph, v: Value) -> Option<f64> {
    let tensor = graph.constant(v)?;
    // Integers beyond 2^53 would not survive.
    let exact = tensor.dtype().is_float() || tensor.dtype().size() < 8;
    (tensor.len() == 1 && exact).then(|| tensor.to_f64_vec()[0])
}

/// Element type of arithmetic on values of this type: half floats compute in `f32`.
pub(super) fn compute_dtype(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) {
        DType::F32
    } else {
        dtype
    }
}

/// Refuses what the tile arithmetic cannot express.
fn supported(cx: &Lowering<'_>, node: Node) -> Result<(), TileError> {
    let data = &cx.graph.nodes()[node];
    let dtype = compute_dtype(cx.graph.ty(data.inputs[0]).dtype);
    let float_only = match &data.op {
        Op::Unary(u) => {
            use UnaryOp::*;
            matches!(u, Exp | Log | Tanh | Sigmoid | Erf | Softplus | Sin | Cos | Atan)
        }
        Op::Binary(BinaryOp::Pow) | Op::Elu(_) => true,
        _ => false,
    };
    if float_only && !dtype.is_float() {
        return Err(cx.unsupported(node, format!("{dtype} elements; only floats are supported")));
    }
    Ok(())
}

impl Tree<'_, '_> {
    fn load(&self, b: &mut FuncBuilder, leaf: &Leaf, lanes: u8, refs: &[&Ref], access: &[Access]) -> Val {
        let stored = self.scene.graph.ty(leaf.value()).dtype;
        match leaf {
            Leaf::Scalar(_, x) => constant(b, Ty::vector(compute_dtype(stored), lanes), *x),
            // Read where it is looked up.
            Leaf::Table(..) => constant(b, Ty::scalar(stored), 0.0),
            Leaf::Memory(_, at) => {
                let (ty, access) = (Ty::vector(stored, lanes), &access[*at]);
                let x = if access.splat && lanes > 1 {
                    b.load_splat(ty, refs[*at].buffer, access.index.clone())
                } else {
                    b.load(ty, refs[*at].buffer, access.index.clone())
                };
                if compute_dtype(stored) == stored {
                    x
                } else {
                    b.convert(compute_dtype(stored), x)
                }
            }
        }
    }

    fn eval(&self, b: &mut FuncBuilder, node: Node, loaded: &[Val]) -> Val {
        let graph = self.scene.graph;
        let data = &graph.nodes()[node];
        let args: Vec<Val> = data
            .inputs
            .iter()
            .map(|&v| match self.leaves.iter().position(|l| l.value() == v) {
                Some(at) => loaded[at],
                None => {
                    let inner = graph.def_node(v).expect("inlined values are results");
                    self.eval(b, inner, loaded)
                }
            })
            .collect();
        if let (Op::Lookup(_), Some(&table)) = (&data.op, data.inputs.get(1)) {
            let at = quantised::bits(b, args[0]);
            let dtype = graph.ty(table).dtype;
            let leaf = self.leaves.iter().find(|l| l.value() == table);
            let Some(Leaf::Table(_, buffer)) = leaf else {
                unreachable!("tables are collected as such");
            };
            return b.load_at(Ty::scalar(dtype), *buffer, 0, at);
        }
        if let Op::BitCast(cast) = &data.op {
            // Of the value as it is stored.
            let stored = to_storage(b, graph.ty(data.inputs[0]).dtype, args[0]);
            let bits = b.bitcast(cast.to, stored);
            return to_storage(b, compute_dtype(cast.to), bits);
        }
        apply(b, &data.op, &args)
    }
}

/// The operator on values already in their computing type.
fn apply(b: &mut FuncBuilder, op: &Op, args: &[Val]) -> Val {
    let x = args[0];
    let ty = b.ty(x);
    match op {
        Op::Unary(u) => unary(b, *u, x),
        Op::Binary(f) => binary(b, *f, x, args[1]),
        Op::Clip(c) => {
            let (lo, hi) = (constant(b, ty, c.min.into()), constant(b, ty, c.max.into()));
            // In this order a NaN stays.
            let x = b.max(lo, x);
            b.min(hi, x)
        }
        Op::LeakyRelu(l) => {
            let alpha = constant(b, ty, l.alpha.into());
            let low = b.mul(x, alpha);
            where_negative(b, x, low)
        }
        Op::Elu(e) => {
            let (alpha, one) = (constant(b, ty, e.alpha.into()), constant(b, ty, 1.0));
            let low = math::exp(b, x);
            let low = b.sub(low, one);
            let low = b.mul(low, alpha);
            where_negative(b, x, low)
        }
        Op::HardSigmoid(h) => {
            let (alpha, beta) = (constant(b, ty, h.alpha.into()), constant(b, ty, h.beta.into()));
            let y = b.fma(x, alpha, beta);
            let (zero, one) = (constant(b, ty, 0.0), constant(b, ty, 1.0));
            let y = b.max(zero, y);
            b.min(one, y)
        }
        Op::Where(_) => {
            let ty = b.ty(args[1]);
            let mask = truth(b, x, ty);
            b.select(mask, args[1], args[2])
        }
        Op::Cast(c) => {
            let to = compute_dtype(c.to);
            let x = if to == ty.dtype { x } else { b.convert(to, x) };
            if to == c.to {
                return x;
            }
            // Round to the half type even if the value is used further in f32.
            let rounded = b.convert(c.to, x);
            b.convert(to, rounded)
        }
        Op::BatchNormalization(bn) => {
            let epsilon = constant(b, ty, bn.epsilon.into());
            let var = b.add(args[4], epsilon);
            let deviation = b.arith1(Arith1::Sqrt, var);
            let scale = b.div(args[1], deviation);
            let centred = b.sub(x, args[3]);
            b.fma(centred, scale, args[2])
        }
        Op::QuantizeLinear(_) => quantised::quantize(b, x, args[1], args[2]),
        Op::DequantizeLinear(_) => quantised::dequantize(b, x, args[1], args[2]),
        Op::QLinearAdd(op) => quantised::add(b, op, args),
        Op::QLinearMul(op) => quantised::mul(b, op, x, args[1]),
        _ => unreachable!("only element-wise operators are collected"),
    }
}

fn unary(b: &mut FuncBuilder, op: UnaryOp, x: Val) -> Val {
    let ty = b.ty(x);
    match op {
        UnaryOp::Abs if ty.dtype.is_float() || ty.dtype.is_signed_int() => b.arith1(Arith1::Abs, x),
        UnaryOp::Abs => x,
        UnaryOp::Neg => b.arith1(Arith1::Neg, x),
        UnaryOp::Exp => math::exp(b, x),
        UnaryOp::Log => math::log(b, x),
        UnaryOp::Sqrt => b.arith1(Arith1::Sqrt, x),
        UnaryOp::Reciprocal => {
            let one = constant(b, ty, 1.0);
            b.div(one, x)
        }
        UnaryOp::Floor => b.arith1(Arith1::Floor, x),
        UnaryOp::Ceil => b.arith1(Arith1::Ceil, x),
        UnaryOp::Round => b.arith1(Arith1::Nearest, x),
        UnaryOp::Sign => {
            let (zero, one) = (constant(b, ty, 0.0), constant(b, ty, 1.0));
            let above = b.compare(CompareOp::Gt, x, zero);
            // Zero and NaN are their own sign.
            let up = b.select(above, one, x);
            if !ty.dtype.is_float() && !ty.dtype.is_signed_int() {
                return up;
            }
            let minus = constant(b, ty, -1.0);
            let below = b.compare(CompareOp::Lt, x, zero);
            b.select(below, minus, up)
        }
        UnaryOp::Tanh => math::tanh(b, x),
        UnaryOp::Sigmoid => math::sigmoid(b, x),
        UnaryOp::Erf => math::erf(b, x),
        UnaryOp::Relu => {
            let zero = constant(b, ty, 0.0);
            b.max(zero, x)
        }
        UnaryOp::Softplus => math::softplus(b, x),
        UnaryOp::Sin => math::sin_cos(b, x, false),
        UnaryOp::Cos => math::sin_cos(b, x, true),
        UnaryOp::Atan => math::atan(b, x),
        UnaryOp::BitwiseNot => b.arith1(Arith1::Not, x),
        UnaryOp::Not => {
            let one = b.int(ty, 1);
            b.arith2(Arith2::Xor, x, one)
        }
    }
}

fn binary(b: &mut FuncBuilder, op: BinaryOp, x: Val, y: Val) -> Val {
    let compare = |b: &mut FuncBuilder, op| {
        let mask = b.compare(op, x, y);
        b.convert(DType::Bool, mask)
    };
    match op {
        BinaryOp::Add => b.add(x, y),
        BinaryOp::Sub => b.sub(x, y),
        BinaryOp::Mul => b.mul(x, y),
        BinaryOp::Div => b.div(x, y),
        BinaryOp::Pow => math::pow(b, x, y),
        BinaryOp::Max => {
            let larger = b.max(x, y);
            keep_nan(b, x, larger)
        }
        BinaryOp::Min => {
            let smaller = b.min(x, y);
            keep_nan(b, x, smaller)
        }
        BinaryOp::Equal => compare(b, CompareOp::Eq),
        BinaryOp::Less => compare(b, CompareOp::Lt),
        BinaryOp::LessOrEqual => compare(b, CompareOp::Le),
        BinaryOp::Greater => compare(b, CompareOp::Gt),
        BinaryOp::GreaterOrEqual => compare(b, CompareOp::Ge),
        BinaryOp::And => b.arith2(Arith2::And, x, y),
        BinaryOp::Or => b.arith2(Arith2::Or, x, y),
        BinaryOp::Xor => b.arith2(Arith2::Xor, x, y),
        BinaryOp::BitwiseAnd => b.arith2(Arith2::And, x, y),
        BinaryOp::BitwiseOr => b.arith2(Arith2::Or, x, y),
        BinaryOp::BitwiseXor => b.arith2(Arith2::Xor, x, y),
        BinaryOp::ShiftLeft => shift(b, Arith2::Shl, x, y),
        BinaryOp::ShiftRight => shift(b, Arith2::Shr, x, y),
    }
}

/// A shift; by less than 0 or by the width or more, what the sign bit alone leaves.
fn shift(b: &mut FuncBuilder, op: Arith2, x: Val, y: Val) -> Val {
    let ty = b.ty(x);
    let bits = 8 * ty.dtype.size() as i64;
    let (width, zero) = (b.int(ty, bits), b.int(ty, 0));
    let shifted = b.arith2(op, x, y);
    let within = b.compare(CompareOp::Lt, y, width);
    if !ty.dtype.is_signed_int() {
        return b.select(within, shifted, zero);
    }
    let rest = if op == Arith2::Shr {
        let most = b.int(ty, bits - 1);
        b.arith2(Arith2::Shr, x, most)
    } else {
        zero
    };
    let backwards = b.compare(CompareOp::Lt, y, zero);
    let forwards = b.select(within, shifted, rest);
    b.select(backwards, rest, forwards)
}

/// `x` if it is NaN, else `otherwise`.
fn keep_nan(b: &mut FuncBuilder, x: Val, otherwise: Val) -> Val {
    if !b.ty(x).dtype.is_float() {
        return otherwise;
    }
    let is_nan = b.compare(CompareOp::Ne, x, x);
    b.select(is_nan, x, otherwise)
}

/// `low` where `x` is negative, else `x` (so NaN stays).
fn where_negative(b: &mut FuncBuilder, x: Val, low: Val) -> Val {
    let zero = constant(b, b.ty(x), 0.0);
    let negative = b.compare(CompareOp::Lt, x, zero);
    b.select(negative, low, x)
}

/// A `bool` as a mask for selecting values of type `of`.
fn truth(b: &mut FuncBuilder, x: Val, of: Ty) -> Val {
    let mask = mask_type(of);
    let wide = b.convert(mask.dtype, x);
    let zero = b.int(mask, 0);
    b.compare(CompareOp::Ne, wide, zero)
}

/// From the computing type back to the type in memory.
pub fn to_storage(b: &mut FuncBuilder, dtype: DType, x: Val) -> Val {
    if b.ty(x).dtype == dtype {
        x
    } else {
        b.convert(dtype, x)
    }
}
