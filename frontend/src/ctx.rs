//! What a lowering sees of its node: operands, attributes, and the means to emit canonical operators.

use crate::builder::Builder;
use crate::error::{Code, Fault};
use crate::narrow::Narrow;
use crate::proto::{AttributeProto, NodeProto, TensorProto, attribute_type as at};
use crate::tensor::to_carrier;
use sdc_ir::Tensor;
pub(crate) use sdc_ir::graph::Emit;
use sdc_ir::graph::op::{Concat, Reshape};
use sdc_ir::graph::{Graph, Op, Origin, TensorType, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Result of a lowering with one output.
pub(crate) type Lowered = Result<Value, Fault>;

pub(crate) struct NodeCtx<'c, 'a> {
    pub builder: &'c mut Builder<'a>,
    pub node: &'c NodeProto,
    pub origin: Origin,
    /// Version of the node's operator set.
    pub opset: i64,
    /// Operands; `None` where the model leaves one out.
    inputs: Vec<Option<Value>>,
    /// For each output of the node: does anything read it?
    read: Vec<bool>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'c, 'a> NodeCtx<'c, 'a> {
    pub fn new(
        builder: &'c mut Builder<'a>,
        node: &'c NodeProto,
        origin: Origin,
        opset: i64,
        inputs: Vec<Option<Value>>,
        read: Vec<bool>,
    ) -> Self {
        Self {
            builder,
            node,
            origin,
            opset,
            inputs,
            read,
            asked: RefCell::default(),
        }
    }

    /// ONNX's name of the operator.
    pub fn op_type(&self) -> &'c str {
        self.node.op_type.as_deref().unwrap_or("")
    }

    // Operands.

    /// The operands, `None` where one is left out.
    pub fn into_inputs(self) -> Vec<Option<Value>> {
        self.inputs
    }
    /// Operand `i`, which the operator requires.
    pub fn input(&self, i: usize) -> Lowered {
        self.opt_input(i)
            .ok_or_else(|| Fault::new(Code::BadOperands, format!("operand {i} is missing")))
    }
    /// Operand `i`, if the node has it.
    pub fn opt_input(&self, i: usize) -> Option<Value> {
        self.inputs.get(i).copied().flatten()
    }
    /// All operands of a variadic operator, which cannot be left out.
    pub fn all_inputs(&self) -> Result<Vec<Value>, Fault> {
        (0..self.inputs.len()).map(|i| self.input(i)).collect()
    }
    /// True if something reads output `i`.
    pub fn output_read(&self, i: usize) -> bool {
        self.read.get(i).copied().unwrap_or(false)
    }
    /// Number of outputs the node declares.
    pub fn output_count(&self) -> usize {
        self.node.output.len()
    }
    pub fn ty(&self, value: Value) -> TensorType {
        self.builder.graph.ty(value).clone()
    }

    /// The operands of the concatenation along the first dimension that makes a value.
    pub fn joined(&self, value: Value) -> Option<Vec<Value>> {
        let graph = &self.builder.graph;
        let node = &graph.nodes()[graph.def_node(value)?];
        matches!(node.op, Op::Concat(Concat { axis: 0 })).then(|| node.inputs.clone())
    }

    // Constant operands.

    /// The data of a value, if it is known at compile time and of a type of graph IR.
    pub fn known(&self, value: Value) -> Option<&Tensor> {
        let constant = self.builder.graph.constant(value);
        constant.filter(|_| self.builder.narrow(value).is_none())
    }
    /// The data of operand `i`, which must be known at compile time. `what` names the operand in messages.
    pub fn const_tensor(&self, i: usize, what: &str) -> Result<Tensor, Fault> {
        let value = self.input(i)?;
        self.known(value).cloned().ok_or_else(|| {
            if let Some(narrow) = self.builder.narrow(value) {
                let text = format!("operand {i} ({what}) is {}", narrow.name());
                return Fault::new(Code::ElementType, text);
            }
            if self.builder.left_unfolded {
                let text =
                    format!("operand {i} ({what}) could not be computed at compile time within the limits");
                return Fault::new(Code::FoldLimit, text);
            }
            let text = format!(
                "operand {i} ({what}) must be known at compile time, but depends on the model's inputs"
            );
            Fault::new(Code::DataDependent, text).of(value)
        })
    }
    /// As [`Self::const_tensor`], as integers.
    pub fn const_i64s(&self, i: usize, what: &str) -> Result<Vec<i64>, Fault> {
        let tensor = self.const_tensor(i, what)?;
        tensor.to_i64_vec().ok_or_else(|| {
            Fault::new(
                Code::BadOperands,
                format!("operand {i} ({what}) is {}, not an integer", tensor.dtype()),
            )
        })
    }
    /// As [`Self::const_i64s`], `None` if the operand is left out.
    pub fn opt_const_i64s(&self, i: usize, what: &str) -> Result<Option<Vec<i64>>, Fault> {
        match self.opt_input(i) {
            Some(_) => self.const_i64s(i, what).map(Some),
            None => Ok(None),
        }
    }
    /// The single element of operand `i`, known at compile time.
    pub fn const_scalar(&self, i: usize, what: &str) -> Result<f64, Fault> {
        let tensor = self.const_tensor(i, what)?;
        match tensor.to_f64_vec()[..] {
            [x] => Ok(x),
            _ => Err(Fault::new(
                Code::BadOperands,
                format!("operand {i} ({what}) is not a scalar"),
            )),
        }
    }

    // Attributes. Whatever a lowering does not ask for is reported as unknown.

    fn attr(
        &self,
        name: &'static str,
        kind: i32,
        present: fn(&AttributeProto) -> bool,
    ) -> Result<Option<&'c AttributeProto>, Fault> {
        self.asked.borrow_mut().insert(name);
        let found = self
            .node
            .attribute
            .iter()
            .find(|a| a.name.as_deref() == Some(name));
        let Some(attr) = found else { return Ok(None) };
        if attr.ref_attr_name.as_deref().is_some_and(|r| !r.is_empty()) {
            let text = format!("attribute `{name}` refers to a function's attribute");
            return Err(Fault::new(Code::Attribute, text));
        }
        let declared = attr.r#type.unwrap_or(at::UNDEFINED);
        // Old exporters leave the type out; then the field in use tells.
        if declared == kind || (declared == at::UNDEFINED && present(attr)) {
            return Ok(Some(attr));
        }
        Err(self.bad_attr(name, "has the wrong type"))
    }
    /// A fault about the value of an attribute.
    pub fn bad_attr(&self, name: &str, problem: impl AsRef<str>) -> Fault {
        Fault::new(
            Code::BadAttribute,
            format!("attribute `{name}` {}", problem.as_ref()),
        )
    }
    /// A fault about an attribute value that ONNX permits and sdc does not.
    pub fn unsupported_attr(&self, name: &str, value: impl std::fmt::Display) -> Fault {
        Fault::new(
            Code::Attribute,
            format!("attribute `{name}` = {value} is not supported"),
        )
    }
    pub fn opt_int(&self, name: &'static str) -> Result<Option<i64>, Fault> {
        let attr = self.attr(name, at::INT, |a| a.i.is_some())?;
        Ok(attr.map(|a| a.i.unwrap_or(0)))
    }
    pub fn int(&self, name: &'static str, default: i64) -> Result<i64, Fault> {
        Ok(self.opt_int(name)?.unwrap_or(default))
    }
    /// An integer attribute that is 0 or 1.
    pub fn flag(&self, name: &'static str, default: bool) -> Result<bool, Fault> {
        match self.opt_int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(x) => Err(self.bad_attr(name, format!("is {x}, not 0 or 1"))),
        }
    }
    pub fn opt_float(&self, name: &'static str) -> Result<Option<f32>, Fault> {
        let attr = self.attr(name, at::FLOAT, |a| a.f.is_some())?;
        Ok(attr.map(|a| a.f.unwrap_or(0.0)))
    }
    /// A float attribute, which must not be NaN.
    pub fn float(&self, name: &'static str, default: f32) -> Result<f32, Fault> {
        let x = self.opt_float(name)?.unwrap_or(default);
        if x.is_nan() {
            return Err(self.bad_attr(name, "is not a number"));
        }
        Ok(x)
    }
    pub fn ints(&self, name: &'static str) -> Result<Option<Vec<i64>>, Fault> {
        Ok(self
            .attr(name, at::INTS, |a| !a.ints.is_empty())?
            .map(|a| a.ints.clone()))
    }
    pub fn floats(&self, name: &'static str) -> Result<Option<Vec<f32>>, Fault> {
        Ok(self
            .attr(name, at::FLOATS, |a| !a.floats.is_empty())?
            .map(|a| a.floats.clone()))
    }
    pub fn string(&self, name: &'static str, default: &'c str) -> Result<&'c str, Fault> {
        let Some(attr) = self.attr(name, at::STRING, |a| a.s.is_some())? else {
            return Ok(default);
        };
        let bytes = attr.s.as_deref().unwrap_or(b"");
        std::str::from_utf8(bytes).map_err(|_| self.bad_attr(name, "is not text"))
    }
    /// A list of texts.
    pub fn strings(&self, name: &'static str) -> Result<Option<Vec<String>>, Fault> {
        let Some(attr) = self.attr(name, at::STRINGS, |a| !a.strings.is_empty())? else {
            return Ok(None);
        };
        let texts = attr
            .strings
            .iter()
            .map(|s| std::str::from_utf8(s).map(str::to_owned));
        let texts: Result<Vec<String>, _> = texts.collect();
        texts.map(Some).map_err(|_| self.bad_attr(name, "is not text"))
    }
    /// A tensor, and the narrow type whose elements it carries.
    pub fn tensor(&self, name: &'static str) -> Result<Option<(Tensor, Option<Narrow>)>, Fault> {
        let Some(attr) = self.attr(name, at::TENSOR, |a| a.t.is_some())? else {
            return Ok(None);
        };
        let pb: TensorProto = attr.t.as_deref().cloned().unwrap_or_default();
        to_carrier(pb, None).map(Some)
    }
    /// Declares attributes that change nothing in inference.
    pub fn ignore(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
    }
    /// Attributes of the node that no one asked for.
    pub fn unknown_attributes(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let names = self
            .node
            .attribute
            .iter()
            .map(|a| a.name.as_deref().unwrap_or(""));
        names.filter(|n| !asked.contains(n)).map(str::to_owned).collect()
    }

    /// A dimension number from an attribute, negative ones counted from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, Fault> {
        let r = rank as i64;
        if (-r..r).contains(&axis) {
            Ok(axis.rem_euclid(r) as usize)
        } else {
            Err(Fault::new(
                Code::BadAttribute,
                format!("axis {axis} is out of range for rank {rank}"),
            ))
        }
    }
    /// Distinct dimension numbers, sorted.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
        let mut all = axes
            .iter()
            .map(|&a| self.axis(a, rank))
            .collect::<Result<Vec<_>, _>>()?;
        all.sort_unstable();
        if all.windows(2).any(|w| w[0] == w[1]) {
            return Err(Fault::new(
                Code::BadAttribute,
                format!("axes {axes:?} repeat a dimension"),
            ));
        }
        Ok(all)
    }
    /// A list of sizes from signed numbers.
    pub fn sizes(&self, name: &str, values: &[i64]) -> Result<Vec<usize>, Fault> {
        let all: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
        all.ok_or_else(|| self.bad_attr(name, format!("{values:?} has a negative entry")))
    }

    // Narrow element types.

    /// The bytes that carry a narrow type's elements, as what they are in graph IR.
    pub fn carried(&mut self, x: Value) -> Lowered {
        let shape = self.shape(x);
        let op = Op::Reshape(Reshape { shape });
        self.builder.emit_carried(op, &[x], &self.origin)
    }
    /// A value of a carrier's type, taken for elements of a narrow type.
    pub fn carrying(&mut self, x: Value, narrow: Narrow) -> Lowered {
        let copy = self.carried(x)?;
        self.builder.set_narrow(copy, Some(narrow));
        Ok(copy)
    }
}

impl Emit for NodeCtx<'_, '_> {
    type Error = Fault;

    fn graph(&self) -> &Graph {
        &self.builder.graph
    }
    fn emit(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Lowered {
        self.builder.emit(op.into(), inputs, &self.origin)
    }
    fn constant(&mut self, tensor: Tensor) -> Lowered {
        self.builder.constant(tensor, &self.origin)
    }
}
