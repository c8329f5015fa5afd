//! Conv, ConvTranspose and MatMul seen as one thing: a linear map with bias, residual and activation.

use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::graph::op::Activation;
use sdc_ir::graph::{Graph, Op, Origin, TensorType, Value};
use sdc_ir::{DType, Tensor};

/// A copy of a linear node, to be changed and emitted in the place of its reader.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Conv, ConvTranspose or MatMul; its flags follow the fields below only in [`Linear::fused`].
    op: Op,
    x: Value,
    weights: Value,
    pub bias: Option<Value>,
    pub residual: Option<Value>,
    pub act: Activation,
    /// Type of the result.
    pub ty: TensorType,
    origins: Vec<Origin>,
}

impl Linear {
    /// The linear node that computes operand `i` of a node, for fusing that node into it. `None` if it is not linear,
    /// the reason if its result is needed for itself too.
    pub fn before(site: &Site<'_>, i: usize) -> Option<Result<Self, String>> {
        let node = site.producer(i)?;
        let (has_bias, has_residual, act) = match &node.op {
            Op::Conv(c) => (c.bias, c.residual, c.act),
            Op::ConvTranspose(c) => (c.bias, false, c.act),
            Op::MatMul(m) => (m.bias, m.residual, m.act),
            _ => return None,
        };
        if site.uses(site.inputs[i]) != 1 {
            let reason = format!("the result of {} has another reader", node.op.name());
            return Some(Err(reason));
        }
        let mut rest = node.inputs[2..].iter().copied();
        let bias = has_bias.then(|| rest.next()).flatten();
        let residual = has_residual.then(|| rest.next()).flatten();
        Some(Ok(Self {
            op: node.op.clone(),
            x: node.inputs[0],
            weights: node.inputs[1],
            bias,
            residual,
            act,
            ty: site.operand(i).clone(),
            origins: node.origins.clone(),
        }))
    }

    /// Operator, for messages.
    pub fn name(&self) -> &'static str {
        self.op.name()
    }

    /// True if the operator can add a residual.
    pub fn takes_residual(&self) -> bool {
        !matches!(self.op, Op::ConvTranspose(_))
    }

    /// The dimension of the result that counts filters.
    pub fn channel_axis(&self) -> usize {
        match self.op {
            Op::MatMul(_) => self.ty.rank() - 1,
            _ => 1,
        }
    }

    /// Fails unless nothing was applied to the result yet that a scale or bias would have to come before.
    ///
    /// # Errors
    /// The reason.
    pub fn expect_open(&self) -> Result<(), String> {
        if self.act == Activation::None {
            Ok(())
        } else {
            Err(format!("{} already ends in an activation", self.name()))
        }
    }

    /// Multiplies each filter by its factor.
    ///
    /// # Errors
    /// Why that is not possible; then nothing has changed.
    pub fn scale(&mut self, site: &mut Site<'_>, factors: &[f64]) -> Result<(), String> {
        self.expect_open()?;
        if self.residual.is_some() {
            return Err(format!("{} already adds a residual", self.name()));
        }
        if site.uses(self.weights) > 1 {
            return Err("the weights are shared with another node".into());
        }
        let elements = site.graph.ty(self.weights).elements().unwrap_or(usize::MAX);
        site.spend(elements.saturating_mul(4), elements)?;
        let weights = self.constant(site.graph, self.weights, "weights")?;
        let scaled = map(weights, |i, w| {
            w * factors[self.filter(weights.shape(), factors.len(), i)]
        })?;
        let bias = match self.bias {
            Some(bias) => Some(map(self.constant(site.graph, bias, "bias")?, |i, b| {
                b * factors[i]
            })?),
            None => None,
        };
        self.weights = replace(site.graph, self.weights, scaled);
        if let (Some(old), Some(new)) = (self.bias, bias) {
            self.bias = Some(replace(site.graph, old, new));
        }
        Ok(())
    }

    /// Adds a number to each filter's results.
    ///
    /// # Errors
    /// Why that is not possible; then nothing has changed.
    pub fn shift(&mut self, site: &mut Site<'_>, terms: &[f64], origins: &[Origin]) -> Result<(), String> {
        self.expect_open()?;
        site.spend(terms.len().saturating_mul(4), terms.len())?;
        let bias = match self.bias {
            Some(bias) => map(self.constant(site.graph, bias, "bias")?, |i, b| b + terms[i])?,
            None => {
                let zeros = Tensor::from_elements(vec![terms.len()], vec![0f32; terms.len()]);
                map(&zeros.map_err(|e| e.to_string())?, |i, _| terms[i])?
            }
        };
        self.bias = Some(match self.bias {
            Some(old) => replace(site.graph, old, bias),
            None => site.graph.add_constant(bias, origins.to_vec()),
        });
        Ok(())
    }

    /// The node, in the place of one of the given origins.
    pub fn fused(self, origins: &[Origin]) -> Outcome {
        let mut op = self.op;
        match &mut op {
            Op::Conv(c) => {
                (c.bias, c.residual, c.act) = (self.bias.is_some(), self.residual.is_some(), self.act)
            }
            Op::ConvTranspose(c) => (c.bias, c.act) = (self.bias.is_some(), self.act),
            Op::MatMul(m) => {
                (m.bias, m.residual, m.act) = (self.bias.is_some(), self.residual.is_some(), self.act)
            }
            _ => return Outcome::NoMatch,
        }
        let operands: Vec<Value> = [Some(self.x), Some(self.weights), self.bias, self.residual]
            .into_iter()
            .flatten()
            .collect();
        Outcome::node(op, &operands, merge_origins(&self.origins, origins))
    }

    fn constant<'a>(&self, graph: &'a Graph, value: Value, what: &str) -> Result<&'a Tensor, String> {
        let tensor = graph
            .constant(value)
            .ok_or_else(|| format!("the {what} of {} are not constant", self.name()))?;
        if tensor.dtype() == DType::F32 {
            Ok(tensor)
        } else {
            Err(format!(
                "the {what} of {} are {}, not f32",
                self.name(),
                tensor.dtype()
            ))
        }
    }

    /// The filter that element `i` of the weights belongs to.
    fn filter(&self, shape: &[usize], filters: usize, i: usize) -> usize {
        match &self.op {
            Op::ConvTranspose(c) => {
                // [C, M/group, kernel..]: each group of input channels has its own M/group filters.
                let kernel: usize = shape[2..].iter().product();
                let (channel, filter) = (i / (kernel * shape[1]), i / kernel % shape[1]);
                channel / (shape[0] / c.group) * shape[1] + filter
            }
            Op::MatMul(_) => i % filters,
            _ => i / shape[1..].iter().product::<usize>(),
        }
    }
}

/// A tensor of `f(index, element)`, rounded to f32.
fn map(t: &Tensor, f: impl Fn(usize, f64) -> f64) -> Result<Tensor, String> {
    let old = t.elements::<f32>().map_err(|e| e.to_string())?;
    let new: Vec<f32> = old
        .iter()
        .enumerate()
        .map(|(i, &x)| f(i, x.into()) as f32)
        .collect();
    if new.iter().all(|x| x.is_finite()) {
        Tensor::from_elements(t.shape().to_vec(), new).map_err(|e| e.to_string())
    } else {
        Err("the fused constants are not finite".into())
    }
}

/// Adds a constant derived from another, with its origins.
fn replace(graph: &mut Graph, old: Value, new: Tensor) -> Value {
    let origins = graph
        .def_node(old)
        .map_or_else(Vec::new, |n| graph.nodes()[n].origins.clone());
    graph.add_constant(new, origins)
}
