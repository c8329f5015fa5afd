//! Small networks for the tests of passes, run under the driver with every check on.

use crate::driver::{CheckInputs, Driver};
use crate::pass::{Pass, Remark};
use sdc_ir::graph::op::{Activation, Conv};
use sdc_ir::graph::{Graph, Op, Origin, TensorType, Value};
use sdc_ir::{DType, Tensor};

/// A network under construction; node `k` comes from the made-up ONNX node `node{k}`.
pub struct Net(pub Graph);

impl Net {
    pub fn new() -> Self {
        Self(Graph::new("test"))
    }
    fn origin(&self, op: &str) -> Vec<Origin> {
        let index = self.0.nodes().len() as u32;
        vec![Origin {
            name: format!("node{index}"),
            op: op.into(),
            index,
        }]
    }
    pub fn input(&mut self, shape: &[usize]) -> Value {
        let name = format!("x{}", self.0.inputs.len());
        self.0.add_input(name, TensorType::new(DType::F32, shape))
    }
    pub fn input_of(&mut self, dtype: DType, shape: &[usize]) -> Value {
        let name = format!("x{}", self.0.inputs.len());
        self.0.add_input(name, TensorType::new(dtype, shape))
    }
    pub fn constant(&mut self, tensor: Tensor) -> Value {
        let origin = self.origin("Initializer");
        self.0.add_constant(tensor, origin)
    }
    /// A constant of distinct values, about half of them negative.
    pub fn weights(&mut self, shape: &[usize]) -> Value {
        let n: usize = shape.iter().product();
        let seed = self.0.nodes().len();
        let values = (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0 + 1e-3);
        self.constant(Tensor::from_elements(shape.to_vec(), values.collect()).unwrap())
    }
    pub fn full(&mut self, shape: &[usize], value: f32) -> Value {
        let n: usize = shape.iter().product();
        self.constant(Tensor::from_elements(shape.to_vec(), vec![value; n]).unwrap())
    }
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Value {
        let op = op.into();
        let origin = self.origin(op.name());
        self.0.add1(op, inputs, origin).unwrap()
    }
    /// A 3x3 convolution of padding 1, without bias.
    pub fn conv(&mut self, x: Value, filters: usize) -> Value {
        let w = self.weights(&[filters, self.0.ty(x).sizes()[1], 3, 3]);
        self.node(conv3(), &[x, w])
    }
    pub fn output(&mut self, value: Value) {
        let name = format!("y{}", self.0.outputs.len());
        self.0.add_output(name, value);
    }
}

/// 3x3, padding 1, nothing fused.
pub fn conv3() -> Conv {
    Conv {
        strides: vec![1, 1],
        pads: vec![1; 4],
        dilations: vec![1, 1],
        group: 1,
        bias: false,
        residual: false,
        act: Activation::None,
    }
}

/// What a pass left, and its remarks. Panics unless it keeps its class on made-up inputs.
pub fn run(pass: &dyn Pass, net: &Net) -> (Graph, Vec<Remark>) {
    let mut observer = ();
    let mut driver = Driver::new(&net.0, Some(&CheckInputs::Seeded(7)), &mut observer).unwrap();
    let graph = driver.run(pass, &net.0).unwrap_or_else(|e| panic!("{e}"));
    (graph, driver.remarks)
}

/// Operators in order, constants left out.
pub fn ops(graph: &Graph) -> Vec<&'static str> {
    let names = graph.nodes().values().map(|n| n.op.name());
    names.filter(|&n| n != "Constant").collect()
}

/// The reason a rule gave for not acting.
pub fn reason<'r>(remarks: &'r [Remark], rule: &str) -> &'r str {
    let found = remarks.iter().find(|r| r.rule == rule && !r.done);
    found.map_or_else(
        || panic!("{rule} acted or was not asked: {remarks:#?}"),
        |r| &r.reason,
    )
}

pub fn acted(remarks: &[Remark], rule: &str) -> bool {
    remarks.iter().any(|r| r.rule == rule && r.done)
}
