//! Functions of one tensor of eight bits, whatever they are made of, as tables of 256 results.

use super::Grid;
use super::convert::{Refusal, refuse};
use sdc_interp::eval_op;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::{BinaryOp, Graph, Node, Op, Value};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

/// Most operators that one table stands for.
const MOST: usize = 16;

/// True for operators that compute each element from the elements at its place.
pub fn is_elementwise(op: &Op) -> bool {
    match op {
        Op::Unary(_) | Op::Clip(_) | Op::LeakyRelu(_) | Op::Elu(_) | Op::HardSigmoid(_) => true,
        Op::Binary(b) => matches!(
            b,
            BinaryOp::Add
                | BinaryOp::Sub
                | BinaryOp::Mul
                | BinaryOp::Div
                | BinaryOp::Pow
                | BinaryOp::Max
                | BinaryOp::Min
        ),
        _ => false,
    }
}

/// A node that depends on one value only, by way of element-wise operators and constants of one element.
pub struct Cone {
    /// That value.
    pub source: Value,
    /// The operators in order, the node last.
    nodes: Vec<Node>,
}

impl Cone {
    /// The smallest cone of a node, if it has any.
    pub fn of(graph: &Graph, node: Node) -> Option<Self> {
        let mut nodes = vec![node];
        let mut open: Vec<Value> = Vec::new();
        let operands = |n: Node, open: &mut Vec<Value>| {
            for &v in &graph.nodes()[n].inputs {
                match graph.constant(v) {
                    Some(c) if c.len() == 1 => {}
                    Some(_) => return None,
                    None if open.contains(&v) => {}
                    None => open.push(v),
                }
            }
            Some(())
        };
        operands(node, &mut open)?;
        loop {
            if let [source] = open[..] {
                nodes.sort_by_key(|n| n.index());
                nodes.dedup();
                return (graph.ty(source).dtype == DType::F32).then_some(Self { source, nodes });
            }
            // The operand computed last, since it may depend on the others.
            let (at, n) = open
                .iter()
                .enumerate()
                .filter_map(|(i, &v)| Some((i, graph.def_node(v)?)))
                .max_by_key(|&(_, n)| n.index())?;
            if !is_elementwise(&graph.nodes()[n].op) || nodes.len() == MOST {
                return None;
            }
            open.swap_remove(at);
            nodes.push(n);
            operands(n, &mut open)?;
        }
    }

    /// The integers of the result for all integers of the source, in the order of their bits.
    pub fn table(&self, graph: &Graph, from: &Grid, to: &Grid) -> Result<Tensor, Refusal> {
        let fail = |e: &dyn std::fmt::Display| Some(e.to_string());
        let real: Vec<f32> = (0..=255u8)
            .map(|bits| {
                let integer = match from.dtype {
                    DType::U8 => i64::from(bits),
                    _ => i64::from(bits as i8),
                };
                from.real(integer) as f32
            })
            .collect();
        let real = Tensor::from_elements(vec![256], real).map_err(|e| fail(&e))?;
        let mut known = BTreeMap::from([(self.source, real)]);
        for &n in &self.nodes {
            let data = &graph.nodes()[n];
            let mut operands = Vec::new();
            for v in &data.inputs {
                let constant = || {
                    let tensor = graph.constant(*v)?;
                    tensor.reshaped(Vec::new()).ok()
                };
                match known.get(v).cloned().or_else(constant) {
                    Some(tensor) => operands.push(tensor),
                    None => return refuse("a part of its function is out of reach"),
                }
            }
            let operands: Vec<&Tensor> = operands.iter().collect();
            let result = eval_op(&data.op, &operands).map_err(|e| fail(&e))?.remove(0);
            known.insert(data.outputs[0], result);
        }
        let last = self.nodes.last().map(|&n| graph.nodes()[n].outputs[0]);
        let Some(results) = last.and_then(|v| known.get(&v)).filter(|t| t.len() == 256) else {
            return refuse("its function is constant");
        };
        let integers = results.to_f64_vec().into_iter().map(|y| to.quantise(y));
        match to.dtype {
            DType::U8 => Tensor::from_elements(vec![256], integers.map(|y| y as u8).collect::<Vec<_>>()),
            _ => Tensor::from_elements(vec![256], integers.map(|y| y as i8).collect::<Vec<_>>()),
        }
        .map_err(|e| fail(&e))
    }
}
