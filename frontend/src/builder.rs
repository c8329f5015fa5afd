//! The graph under construction: inference, limits, and constant folding as nodes are added.

use crate::Remark;
use crate::error::{Code, Fault};
use crate::narrow::Narrow;
use crate::options::Limits;
use sdc_interp::eval_op;
use sdc_ir::graph::infer::addressable;
use sdc_ir::graph::op::Rebuild;
use sdc_ir::graph::{Graph, Op, Origin, TensorType, Value};
use sdc_ir::sd::{Stored, relabel};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

pub(crate) struct Builder<'a> {
    pub graph: Graph,
    pub limits: &'a Limits,
    pub remarks: Vec<Remark>,
    /// Bytes computed so far, under `limits.max_folded_bytes`.
    folded_bytes: usize,
    /// Bytes of weights that may still be rearranged: each weight grants twice its size, so that rearranging is linear
    /// in the model whatever its nodes ask for.
    movable_bytes: usize,
    /// Values that carry elements of a narrow type.
    narrow: BTreeMap<Value, Narrow>,
    /// Some constant expression was left in the graph because it is too large.
    pub left_unfolded: bool,
}

impl<'a> Builder<'a> {
    pub fn new(name: &str, limits: &'a Limits) -> Self {
        Self {
            graph: Graph::new(name),
            limits,
            remarks: Vec::new(),
            folded_bytes: 0,
            movable_bytes: 0,
            narrow: BTreeMap::new(),
            left_unfolded: false,
        }
    }

    /// Fails if a value of this type exceeds the limits, as far as its size is known.
    pub fn check_size(&self, ty: &TensorType) -> Result<(), Fault> {
        let limits = self.limits;
        if ty.rank() > limits.max_rank {
            let text = format!(
                "a tensor of rank {} exceeds the limit of {}",
                ty.rank(),
                limits.max_rank
            );
            return Err(Fault::new(Code::TooLarge, text));
        }
        let open = ty.shape.constant().is_none();
        if !open && (!addressable(ty) || ty.elements().is_none_or(|n| n > limits.max_elements)) {
            let text = format!(
                "a tensor of type {ty} exceeds the limit of {} elements",
                limits.max_elements
            );
            return Err(Fault::new(Code::TooLarge, text));
        }
        Ok(())
    }

    /// A constant of the model.
    pub fn weight(&mut self, tensor: Tensor, origin: &Origin) -> Result<Value, Fault> {
        self.movable_bytes = self
            .movable_bytes
            .saturating_add(tensor.bytes().len().saturating_mul(2));
        self.constant(tensor, origin)
    }

    /// A constant made by a lowering.
    pub fn constant(&mut self, tensor: Tensor, origin: &Origin) -> Result<Value, Fault> {
        self.check_size(&TensorType::new(tensor.dtype(), tensor.shape()))?;
        self.check_nodes()?;
        Ok(self.graph.add_constant(tensor, vec![origin.clone()]))
    }

    /// A compressed weight of the model.
    pub fn stored_weight(&mut self, stored: &Stored, origin: &Origin) -> Result<Value, Fault> {
        self.movable_bytes = self
            .movable_bytes
            .saturating_add(stored.packed_len().saturating_mul(2));
        self.stored(stored, origin)
    }

    /// The rebuilding of a compressed weight from its packed bytes.
    fn stored(&mut self, stored: &Stored, origin: &Origin) -> Result<Value, Fault> {
        let bad = |e: &dyn std::fmt::Display| Fault::new(Code::BadPayload, e.to_string());
        let packed = stored.pack().map_err(|e| bad(&e))?;
        let bytes = Tensor::from_elements(vec![packed.len()], packed).map_err(|e| bad(&e))?;
        let packed = self.constant(bytes, origin)?;
        let shape = stored.geometry().shape.clone();
        self.emit(
            Op::Rebuild(Rebuild {
                shape,
                to: DType::F32,
            }),
            &[packed],
            origin,
        )
    }

    /// The result of a movement of a compressed weight, as a compressed weight; `None` if it would have to be rebuilt.
    fn moved_weight(&mut self, op: &Op, inputs: &[Value], origin: &Origin) -> Option<Result<Value, Fault>> {
        let (Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_), &[input]) = (op, inputs) else {
            return None;
        };
        let rebuild = &self.graph.nodes()[self.graph.def_node(input)?];
        let Op::Rebuild(_) = rebuild.op else { return None };
        if let Op::Slice(slice) = op {
            // The only direction of several that could be.
            let whole = slice.sizes == self.graph.ty(input).sizes() && slice.steps.iter().all(|&s| s == 1);
            return whole.then_some(Ok(input));
        }
        let packed = self.graph.constant(rebuild.inputs[0])?;
        // As everywhere: moving weights is linear in the model.
        self.movable_bytes = self.movable_bytes.checked_sub(packed.len())?;
        let stored = Stored::unpack(packed.bytes()).ok()?;
        let geometry = match op {
            Op::Reshape(r) => relabel::reshaped(stored.geometry(), &r.shape)?,
            Op::Transpose(t) => relabel::transposed(stored.geometry(), &t.perm),
            _ => return None,
        };
        Some(self.stored(&relabel::with_geometry(stored, geometry), origin))
    }

    fn check_nodes(&self) -> Result<(), Fault> {
        if self.graph.nodes().len() < self.limits.max_nodes {
            return Ok(());
        }
        let text = format!(
            "the imported graph exceeds the limit of {} nodes",
            self.limits.max_nodes
        );
        Err(Fault::new(Code::TooManyNodes, text))
    }

    /// The narrow type whose elements a value carries.
    pub fn narrow(&self, value: Value) -> Option<Narrow> {
        self.narrow.get(&value).copied()
    }

    /// Notes that a value carries elements of a narrow type. Nothing else may use the value as what it is in graph IR.
    pub fn set_narrow(&mut self, value: Value, narrow: Option<Narrow>) {
        if let Some(narrow) = narrow {
            self.narrow.insert(value, narrow);
        }
    }

    /// Appends a node of one result, or the constant it amounts to. Elements of narrow types are moved, nothing else.
    pub fn emit(&mut self, op: Op, inputs: &[Value], origin: &Origin) -> Result<Value, Fault> {
        if inputs.iter().all(|v| !self.narrow.contains_key(v)) {
            return self.emit_carried(op, inputs, origin);
        }
        let types: Vec<Option<Narrow>> = inputs.iter().map(|&v| self.narrow(v)).collect();
        let (moved, rest) = match (&op, &types[..]) {
            (
                Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Expand(_) | Op::Gather(_),
                [x, rest @ ..],
            ) => (std::slice::from_ref(x), rest),
            (Op::Concat(_), all) => (all, &[][..]),
            (Op::Where(_), [condition, rest @ ..]) => (rest, std::slice::from_ref(condition)),
            _ => (&[][..], &types[..]),
        };
        let one = moved.first().copied().flatten();
        if moved.iter().any(|&t| t != one) || rest.iter().any(Option::is_some) {
            let name = types
                .iter()
                .flatten()
                .next()
                .map(|t| t.name())
                .unwrap_or_default();
            let text = format!("elements of type {name} are not supported here");
            return Err(Fault::new(Code::ElementType, text)
                .help("such elements can be moved, cast, quantised and dequantised; cast them first"));
        }
        let y = self.emit_carried(op, inputs, origin)?;
        self.set_narrow(y, one);
        Ok(y)
    }

    /// As [`Self::emit`], with what carries narrow elements taken for the bytes it is.
    pub fn emit_carried(&mut self, op: Op, inputs: &[Value], origin: &Origin) -> Result<Value, Fault> {
        let ty = {
            let operands: Vec<&TensorType> = inputs.iter().map(|&v| self.graph.ty(v)).collect();
            let types = sdc_ir::graph::infer::infer(&op, &operands);
            let mut types = types.map_err(|e| {
                // The caller adds the ONNX node and its operands.
                let lowered = if origin.op == e.op {
                    String::new()
                } else {
                    format!("as {}: ", e.op)
                };
                let code = if e.overflow {
                    Code::TooLarge
                } else {
                    Code::BadOperands
                };
                Fault::new(code, lowered + &e.reason)
            })?;
            types.swap_remove(0)
        };
        self.check_size(&ty)?;
        self.check_nodes()?;
        if let Some(moved) = self.moved_weight(&op, inputs, origin) {
            return moved;
        }
        // Compressed weights stay so.
        if !matches!(op, Op::Rebuild(_))
            && let Some(tensor) = self.fold(&op, inputs, &ty)
        {
            return self.constant(tensor, origin);
        }
        Ok(self
            .graph
            .push_node(op, inputs.to_vec(), vec![ty], vec![origin.clone()])[0])
    }

    /// The result if all operands are constant and it is cheap.
    fn fold(&mut self, op: &Op, inputs: &[Value], ty: &TensorType) -> Option<Tensor> {
        let operands: Vec<&Tensor> = inputs
            .iter()
            .map(|&v| self.graph.constant(v))
            .collect::<Option<_>>()?;
        // Weights stay in eight bits; whether anybody wants them in floating point is for the passes to say.
        if matches!(op, Op::DequantizeLinear(_)) && ty.rank() > 0 {
            return None;
        }
        let bytes = ty.bytes()?;
        if bytes <= self.movable_bytes
            && let Some(moved) = rearranged(op, &operands)
        {
            self.movable_bytes -= bytes;
            return Some(moved);
        }
        let read = operands.iter().try_fold(0usize, |n, t| n.checked_add(t.len()))?;
        let small = ty.elements()? <= self.limits.max_folded_elements
            && work(op, &operands, ty)? <= self.limits.max_folded_elements.saturating_mul(16)
            && read <= self.limits.max_folded_elements.saturating_mul(16)
            && self.folded_bytes.checked_add(bytes)? <= self.limits.max_folded_bytes;
        // An operator the interpreter refuses (an integer division by zero) stays in the graph.
        let folded = small.then(|| eval_op(op, &operands).ok()?.pop()).flatten();
        match &folded {
            Some(_) => self.folded_bytes += bytes,
            None => self.left_unfolded = true,
        }
        folded
    }
}

/// Elementary steps of an operator, in rough terms.
fn work(op: &Op, operands: &[&Tensor], ty: &TensorType) -> Option<usize> {
    let out = ty.elements()?;
    match op {
        Op::MatMul(_) => out.checked_mul(*operands[0].shape().last()?),
        // Windows multiply the work, and no shape computation needs them.
        Op::Conv(_) | Op::ConvTranspose(_) | Op::MaxPool(_) | Op::AveragePool(_) | Op::Resize(_) => None,
        _ => Some(out),
    }
}

/// Rearrangements worth doing on weights of any size: another shape, and the transposition of a matrix.
fn rearranged(op: &Op, operands: &[&Tensor]) -> Option<Tensor> {
    match (op, operands) {
        (Op::Reshape(r), [x]) => x.reshaped(r.shape.clone()).ok(),
        (Op::Transpose(t), [x]) if t.perm == [1, 0] => transposed(x),
        _ => None,
    }
}

/// The transposed matrix, copied in square blocks so that both sides stay in cache.
fn transposed(x: &Tensor) -> Option<Tensor> {
    const BLOCK: usize = 32;
    let &[rows, columns] = x.shape() else { return None };
    let size = x.dtype().size();
    let from = x.bytes();
    let mut to = vec![0u8; from.len()];
    for r0 in (0..rows).step_by(BLOCK) {
        for c0 in (0..columns).step_by(BLOCK) {
            for r in r0..(r0 + BLOCK).min(rows) {
                for c in c0..(c0 + BLOCK).min(columns) {
                    let (src, dst) = ((r * columns + c) * size, (c * rows + r) * size);
                    to[dst..dst + size].copy_from_slice(&from[src..src + size]);
                }
            }
        }
    }
    Tensor::new(x.dtype(), vec![columns, rows], to.into()).ok()
}
