//! Every form of an operator that the verifier lets through compiles, and computes what the interpreter says: run-time and constant
//! weights, one to four spatial dimensions, every floating element type.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sdc_ir::graph::op::*;
use sdc_ir::graph::{Graph, Op, Origin, TensorType, UnaryOp, Value};
use sdc_ir::{DType, Tensor};
use sdc_passes::driver::CheckInputs;
use sdc_passes::pipeline::{PipelineOptions, compile_pipeline};

/// Random forms, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }
    fn list(&mut self, len: usize, from: usize, to: usize) -> Vec<usize> {
        (0..len).map(|_| from + self.below(to - from + 1)).collect()
    }
    fn dtype(&mut self) -> DType {
        [DType::F32, DType::F32, DType::F64, DType::F16, DType::BF16][self.below(5)]
    }
    fn act(&mut self) -> Activation {
        [
            Activation::None,
            Activation::Relu,
            Activation::Clip { min: -1.0, max: 1.5 },
            Activation::LeakyRelu { alpha: 0.25 },
        ][self.below(4)]
    }
}

/// A graph of one operator.
struct One {
    graph: Graph,
    dtype: DType,
    operands: Vec<Value>,
}

fn origin(name: String) -> Vec<Origin> {
    let op = "Test".to_owned();
    vec![Origin { name, op, index: 0 }]
}

impl One {
    fn new(dtype: DType) -> Self {
        Self {
            graph: Graph::new("one"),
            dtype,
            operands: Vec::new(),
        }
    }
    fn input(&mut self, shape: &[usize]) -> &mut Self {
        let name = format!("x{}", self.operands.len());
        self.operands
            .push(self.graph.add_input(name, TensorType::new(self.dtype, shape)));
        self
    }
    /// A constant of small numbers, or an input.
    fn weights(&mut self, constant: bool, shape: &[usize]) -> &mut Self {
        if !constant {
            return self.input(shape);
        }
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n)
            .map(|i| ((i * 37 + 11) % 101) as f32 / 64.0 - 0.75)
            .collect();
        let tensor = Tensor::from_elements(shape.to_vec(), values).unwrap();
        let cast = Op::Cast(Cast { to: self.dtype });
        let tensor = sdc_interp::eval_op(&cast, &[&tensor]).unwrap().remove(0);
        self.operands
            .push(self.graph.add_constant(tensor, origin("w".into())));
        self
    }
    /// Compiles the operator with every check on; forms that inference refuses are left out.
    fn check(mut self, op: impl Into<Op>) -> bool {
        let op = op.into();
        let Ok(y) = self.graph.add1(op.clone(), &self.operands, origin("y".into())) else {
            return false;
        };
        self.graph.add_output("y", y);
        let options = PipelineOptions {
            check_each_pass: Some(CheckInputs::Seeded(3)),
            ..Default::default()
        };
        if let Err(error) = compile_pipeline(&self.graph, &options, &mut ()) {
            panic!("{error}\n{}", self.graph);
        }
        true
    }
}

fn image(d: &mut Dice, channels: usize, spatial: usize) -> Vec<usize> {
    let largest = if spatial > 2 { 5 } else { 9 };
    [vec![1 + d.below(2), channels], d.list(spatial, 3, largest)].concat()
}

#[test]
fn convolutions() {
    let mut d = Dice(1);
    let mut checked = 0;
    while checked < 160 {
        let (spatial, group) = (1 + d.below(4), 1 + d.below(2));
        let (channels, filters) = (group * (1 + d.below(3)), group * (1 + d.below(3)));
        let x = image(&mut d, channels, spatial);
        let kernel = d.list(spatial, 1, 3);
        let op = Conv {
            strides: d.list(spatial, 1, 2),
            pads: d.list(2 * spatial, 0, 2),
            dilations: d.list(spatial, 1, 2),
            group,
            bias: d.flag(),
            residual: d.flag(),
            act: d.act(),
        };
        let mut one = One::new(d.dtype());
        one.input(&x)
            .weights(d.flag(), &[&[filters, channels / group], &kernel[..]].concat());
        if op.bias {
            one.weights(d.flag(), &[filters]);
        }
        if op.residual {
            let mut y = vec![x[0], filters];
            for i in 0..spatial {
                let free = (x[2 + i] + op.pads[i] + op.pads[spatial + i])
                    .checked_sub((kernel[i] - 1) * op.dilations[i] + 1);
                y.push(free.map_or(1, |n| n / op.strides[i] + 1));
            }
            one.input(&y);
        }
        checked += usize::from(one.check(op));
    }
}

#[test]
fn transposed_convolutions() {
    let mut d = Dice(2);
    let mut checked = 0;
    while checked < 120 {
        let (spatial, group) = (1 + d.below(3), 1 + d.below(2));
        let (channels, part) = (group * (1 + d.below(3)), 1 + d.below(3));
        let x = image(&mut d, channels, spatial);
        let op = ConvTranspose {
            strides: d.list(spatial, 1, 3),
            pads: d
                .list(2 * spatial, 0, 3)
                .into_iter()
                .map(|p| p as i64 - 1)
                .collect(),
            dilations: d.list(spatial, 1, 2),
            output_padding: d.list(spatial, 0, 1),
            group,
            bias: d.flag(),
            act: d.act(),
        };
        let mut one = One::new(d.dtype());
        one.input(&x);
        let kernel = d.list(spatial, 1, 3);
        one.weights(d.flag(), &[&[channels, part], &kernel[..]].concat());
        if op.bias {
            one.weights(d.flag(), &[group * part]);
        }
        checked += usize::from(one.check(op));
    }
}

#[test]
fn pools() {
    let mut d = Dice(3);
    let mut checked = 0;
    while checked < 100 {
        let spatial = 1 + d.below(4);
        let x = image(&mut d, 2, spatial);
        let (kernel, strides) = (d.list(spatial, 1, 3), d.list(spatial, 1, 2));
        let (pads, dilations) = (d.list(2 * spatial, 0, 1), d.list(spatial, 1, 2));
        let mut one = One::new(d.dtype());
        one.input(&x);
        checked += usize::from(if d.flag() {
            one.check(MaxPool {
                kernel,
                strides,
                pads,
                dilations,
            })
        } else {
            let counted = pads.iter().map(|&p| d.below(p + 1)).collect();
            one.check(AveragePool {
                kernel,
                strides,
                pads,
                counted,
                dilations,
            })
        });
    }
}

#[test]
fn normalisations_and_sums() {
    let mut d = Dice(4);
    for round in 0..60 {
        let spatial = 1 + d.below(3);
        let shape = [vec![2, 3], d.list(spatial, 2, 5)].concat();
        let (epsilon, dtype) = (1e-2, d.dtype());
        let mut one = One::new(dtype);
        one.input(&shape);
        let checked = match round % 6 {
            0 => {
                one.weights(d.flag(), &[3]).weights(d.flag(), &[3]);
                one.check(InstanceNormalization { epsilon })
            }
            1 => {
                let axis = 1 + d.below(shape.len() - 1);
                one.weights(d.flag(), &shape[axis..])
                    .weights(d.flag(), &shape[axis..]);
                one.check(LayerNormalization { axis, epsilon })
            }
            2 => {
                let (axis, log) = (d.below(shape.len()), d.flag());
                one.check(Softmax { axis, log })
            }
            3 => {
                let kind = [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max][d.below(3)];
                one.check(Reduce {
                    kind,
                    axes: vec![d.below(shape.len())],
                    keepdims: d.flag(),
                })
            }
            4 => {
                let columns = 1 + d.below(6);
                one.weights(d.flag(), &[*shape.last().unwrap(), columns]);
                one.check(MatMul {
                    bias: false,
                    residual: false,
                    act: d.act(),
                })
            }
            _ => {
                for _ in 0..3 {
                    one.weights(true, &[3]);
                }
                let variance = Tensor::from_elements(vec![3], vec![0.5f32, 1.0, 2.0]).unwrap();
                let cast = Op::Cast(Cast { to: dtype });
                let variance = sdc_interp::eval_op(&cast, &[&variance]).unwrap().remove(0);
                let variance = one.graph.add_constant(variance, origin("v".into()));
                one.operands.push(variance);
                one.check(BatchNormalization { epsilon })
            }
        };
        assert!(checked, "{round}");
    }
}

#[test]
fn recurrent_layers() {
    let mut d = Dice(5);
    for round in 0..40 {
        let cell = [Cell::Lstm, Cell::Gru, Cell::GruLinear, Cell::Rnn][round % 4];
        let (steps, batch, hidden) = (1 + d.below(4), 1 + d.below(3), 1 + d.below(9));
        let wide = cell.gates() * hidden;
        let op = Recurrent {
            cell,
            f: UnaryOp::Sigmoid,
            g: UnaryOp::Tanh,
            h: [UnaryOp::Tanh, UnaryOp::Relu][d.below(2)],
            peephole: cell == Cell::Lstm && d.flag(),
        };
        let mut one = One::new(d.dtype());
        one.input(&[steps, batch, wide])
            .weights(d.flag(), &[hidden, wide]);
        one.weights(d.flag(), &[wide])
            .weights(d.flag(), &[cell.states(), batch, hidden]);
        if op.peephole {
            one.weights(d.flag(), &[3, hidden]);
        }
        assert!(one.check(op), "{round}");
    }
}
