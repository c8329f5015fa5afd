//! Float networks to integer ones: near the original, the same bits at both levels of the IR, and nothing but integers between the
//! boundaries.
#![allow(clippy::unwrap_used, reason = "a test's failure")]

use proptest::prelude::*;
use sdc_interp::{run_graph, run_tile};
use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, Origin, TensorType, UnaryOp, Value};
use sdc_ir::{DType, Tensor, text};
use sdc_passes::decompose::{self, Solver, Wish};
use sdc_passes::integer::listing::{Arithmetic, listing};
use sdc_passes::integer::{self, Grid, Histogram, Options};
use sdc_passes::pipeline::{PipelineOptions, compile_pipeline};
use sdc_passes::schedule::ScheduleOptions;

fn origin(name: &str) -> Vec<Origin> {
    vec![Origin {
        name: name.to_owned(),
        op: "Test".to_owned(),
        index: 0,
    }]
}

struct Net {
    graph: Graph,
    random: fastrand::Rng,
}

impl Net {
    fn new(seed: u64, shape: &[usize]) -> (Self, Value) {
        let mut graph = Graph::new("net");
        let x = graph.add_input("x", TensorType::new(DType::F32, shape));
        let random = fastrand::Rng::with_seed(seed);
        (Self { graph, random }, x)
    }

    fn constant(&mut self, shape: &[usize], size: f32) -> Value {
        let count = shape.iter().product();
        let all: Vec<f32> = (0..count)
            .map(|_| (self.random.f32() * 2.0 - 1.0) * size)
            .collect();
        let tensor = Tensor::from_elements(shape.to_vec(), all).unwrap();
        self.graph.add_constant(tensor, origin("constant"))
    }

    fn add(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Value {
        let op = op.into();
        let name = op.name();
        self.graph.add1(op, inputs, origin(name)).unwrap()
    }

    fn channels(&self, x: Value) -> usize {
        self.graph.ty(x).sizes()[1]
    }

    fn conv(&mut self, x: Value, filters: usize, kernel: usize, act: Activation) -> Value {
        let c = self.channels(x);
        let w = self.constant(&[filters, c, kernel, kernel], 0.5);
        let b = self.constant(&[filters], 0.5);
        let pad = kernel / 2;
        let op = Conv {
            strides: vec![1, 1],
            pads: vec![pad; 4],
            dilations: vec![1, 1],
            group: 1,
            bias: true,
            residual: false,
            act,
        };
        self.add(op, &[x, w, b])
    }

    /// One of the things that networks do.
    fn step(&mut self, x: Value, kind: usize) -> Value {
        let c = self.channels(x);
        match kind {
            0 => self.conv(x, c + 3, 3, Activation::Relu),
            1 => self.conv(x, 17, 1, Activation::LeakyRelu { alpha: 0.1 }),
            2 => {
                let y = self.conv(x, c, 3, Activation::None);
                let sum = self.add(BinaryOp::Add, &[y, x]);
                self.add(UnaryOp::Relu, &[sum])
            }
            3 => {
                // SiLU, from its parts.
                let y = self.conv(x, c, 1, Activation::None);
                let gate = self.add(UnaryOp::Sigmoid, &[y]);
                self.add(BinaryOp::Mul, &[y, gate])
            }
            4 => {
                // A gate per channel.
                let mean = Reduce {
                    kind: ReduceKind::Mean,
                    axes: vec![2, 3],
                    keepdims: true,
                };
                let mean = self.add(mean, &[x]);
                let gate = self.conv(mean, c, 1, Activation::None);
                let gate = self.add(UnaryOp::Sigmoid, &[gate]);
                self.add(BinaryOp::Mul, &[x, gate])
            }
            5 => {
                let y = self.conv(x, 5, 1, Activation::Clip { min: 0.0, max: 6.0 });
                self.add(Concat { axis: 1 }, &[x, y])
            }
            6 => {
                let pool = AveragePool {
                    kernel: vec![3, 3],
                    strides: vec![1, 1],
                    pads: vec![1; 4],
                    counted: vec![self.random.usize(0..2); 4],
                    dilations: vec![1, 1],
                };
                self.add(pool, &[x])
            }
            7 => {
                let pool = MaxPool {
                    kernel: vec![3, 3],
                    strides: vec![1, 1],
                    pads: vec![1; 4],
                    dilations: vec![1, 1],
                };
                self.add(pool, &[x])
            }
            8 => {
                let (scale, bias) = (self.constant(&[c], 1.5), self.constant(&[c], 0.5));
                self.add(InstanceNormalization { epsilon: 1e-5 }, &[x, scale, bias])
            }
            9 => {
                let w = self.constant(&[c, 6, 3, 3], 0.5);
                let b = self.constant(&[6], 0.5);
                let op = ConvTranspose {
                    strides: vec![2, 2],
                    pads: vec![1; 4],
                    dilations: vec![1, 1],
                    output_padding: vec![1, 1],
                    group: 1,
                    bias: true,
                    act: Activation::None,
                };
                let y = self.add(op, &[x, w, b]);
                let back = MaxPool {
                    kernel: vec![2, 2],
                    strides: vec![2, 2],
                    pads: vec![0; 4],
                    dilations: vec![1, 1],
                };
                self.add(back, &[y])
            }
            10 => {
                let (scale, shift) = (self.constant(&[c, 1, 1], 1.0), self.constant(&[c, 1, 1], 1.0));
                let scaled = self.add(BinaryOp::Mul, &[x, scale]);
                self.add(BinaryOp::Sub, &[scaled, shift])
            }
            _ => {
                let w = self.constant(&[c, 1, 3, 3], 0.7);
                let b = self.constant(&[c], 0.5);
                let op = Conv {
                    strides: vec![1, 1],
                    pads: vec![1; 4],
                    dilations: vec![1, 1],
                    group: c,
                    bias: true,
                    residual: false,
                    act: Activation::None,
                };
                self.add(op, &[x, w, b])
            }
        }
    }

    /// A classifier's end: mean, matrix, softmax.
    fn finish(mut self, x: Value) -> Graph {
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![2, 3],
            keepdims: false,
        };
        let c = self.channels(x);
        let pooled = self.add(mean, &[x]);
        let (w, b) = (self.constant(&[c, 7], 0.5), self.constant(&[7], 0.5));
        let matmul = MatMul {
            bias: true,
            residual: false,
            act: Activation::None,
        };
        let scores = self.add(matmul, &[pooled, w, b]);
        let shares = self.add(Softmax { axis: 1, log: false }, &[scores]);
        self.graph.add_output("map", x);
        self.graph.add_output("shares", shares);
        self.graph
    }
}

/// Pictures of a kind: sums of two waves, of any offset.
fn samples(shape: &[usize], count: usize, seed: u64) -> Vec<Vec<Tensor>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut one = || {
        let offset = random.f32() - 0.5;
        let elements: Vec<f32> = (0..shape.iter().product())
            .map(|i| (i as f32 * 0.37).sin() * random.f32() + offset)
            .collect();
        vec![Tensor::from_elements(shape.to_vec(), elements).unwrap()]
    };
    (0..count).map(|_| one()).collect()
}

fn converted(graph: &Graph, samples: &Vec<Vec<Tensor>>) -> integer::Integer {
    let options = Options {
        samples,
        limit: 100,
        machine: None,
    };
    integer::run(graph, &options, &mut |_| true).unwrap()
}

/// Ratio of the sums of squares of a value and its error, in dB.
fn sqnr(real: &Tensor, other: &Tensor) -> f64 {
    let (a, b) = (real.to_f64_vec(), other.to_f64_vec());
    let power = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>();
    let error = power(&mut a.iter().zip(&b).map(|(a, b)| a - b));
    10.0 * (power(&mut a.iter().copied()) / error.max(1e-30)).log10()
}

/// What the tile program computes, weights prepared or streamed.
fn tile_bits(graph: &Graph, inputs: &[Tensor], streamed: bool) -> Vec<Vec<u8>> {
    let options = PipelineOptions {
        schedule: ScheduleOptions {
            streamed,
            ..ScheduleOptions::default()
        },
        ..PipelineOptions::default()
    };
    let compiled = compile_pipeline(graph, &options, &mut ()).unwrap();
    let bytes: Vec<&[u8]> = inputs.iter().map(|t| &t.bytes()[..]).collect();
    run_tile(&compiled.lowered.module, &bytes).unwrap()
}

fn check(graph: &Graph, least_db: f64, seed: u64) {
    let shape = graph.ty(graph.inputs[0].value).sizes().to_vec();
    let samples = samples(&shape, 6, seed);
    let result = converted(graph, &samples);
    let faults = sdc_ir::graph::verify::verify(&result.graph);
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(result.left, [], "{}", result.graph);
    for line in listing(&result.graph) {
        assert_ne!(line.arithmetic, Arithmetic::Float, "{line:?}");
    }
    assert_eq!(
        text::parse_graph(&result.graph.to_string(), &result.graph.weights).unwrap(),
        result.graph
    );
    for inputs in &samples[..2] {
        let real = run_graph(graph, inputs).unwrap();
        let integers = run_graph(&result.graph, inputs).unwrap();
        for (real, integers) in real.iter().zip(&integers) {
            let db = sqnr(real, integers);
            assert!(db > least_db, "{db:.1} dB\n{}", result.graph);
        }
        for streamed in [false, true] {
            let tile = tile_bits(&result.graph, inputs, streamed);
            for (integers, tile) in integers.iter().zip(&tile) {
                assert!(integers.bytes()[..] == tile[..], "{}", result.graph);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn networks_become_integers(kinds in prop::collection::vec(0..12usize, 1..5), c in 1..6usize, seed: u64) {
        let (mut net, mut x) = Net::new(seed, &[1, c, 6, 5]);
        for kind in kinds {
            x = net.step(x, kind);
        }
        // No bound on the error: a normalisation of what hardly varies shows nothing but it.
        check(&net.finish(x), f64::NEG_INFINITY, seed);
    }

    #[test]
    fn histograms_do_not_depend_on_the_order(values in prop::collection::vec(-1e4f32..1e4, 1..200), cut in 0..200usize) {
        let mut whole = Histogram::default();
        whole.add(&values);
        let cut = cut.min(values.len());
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(&values[cut..]);
        b.add(&values[..cut]);
        a.merge(&b);
        prop_assert_eq!(a, whole);
    }

    #[test]
    fn grids_lose_at_most_half_a_step_inside(values in prop::collection::vec(-9f32..40.0, 2..300)) {
        let mut histogram = Histogram::default();
        histogram.add(&values);
        let grid = Grid::best(&histogram).unwrap();
        let (low, high) = grid.range();
        prop_assert_eq!(grid.real(grid.zero), 0.0);
        for &x in &values {
            let integer = grid.quantise(x.into());
            let error = (grid.real(integer) - f64::from(x)).abs();
            let clipped = integer == low || integer == high;
            prop_assert!(clipped || error <= f64::from(grid.scale) * 0.500_001, "{} {:?}", x, grid);
        }
    }
}

/// Every step alone, so that none hides in the chance of the others.
#[test]
fn every_step_becomes_integers() {
    for kind in 0..12 {
        let (mut net, x) = Net::new(kind as u64, &[2, 8, 6, 5]);
        let x = net.conv(x, 8, 3, Activation::Relu);
        let x = net.step(x, kind);
        check(&net.finish(x), 20.0, 3);
    }
}

/// Compressed weights stay compressed, and give the bits of their dense integers.
#[test]
fn compressed_weights_stay_compressed() {
    let (mut net, x) = Net::new(5, &[1, 4, 6, 5]);
    let x = net.conv(x, 20, 3, Activation::Relu);
    let x = net.step(x, 2);
    let graph = net.finish(x);
    let shape = graph.ty(graph.inputs[0].value).sizes().to_vec();
    let samples = samples(&shape, 4, 1);
    let options = decompose::Options {
        solver: Solver::RowSearch,
        wish: Wish::Ratio(5.0),
        calibration: Some(&samples),
        ..decompose::Options::default()
    };
    let plan = decompose::run(&graph, &options, &mut |_| true).unwrap();
    let compressed = decompose::install(&graph, &plan).unwrap();
    check(&compressed, 20.0, 1);
    let result = converted(&compressed, &samples);
    let rebuilt = result
        .graph
        .nodes()
        .values()
        .filter(|n| matches!(n.op, Op::Rebuild(_)));
    assert!(rebuilt.count() > 0, "{}", result.graph);
}

/// The interpreter as a machine, which may break down.
struct Interpreted {
    graph: Graph,
    works: bool,
}

impl integer::Machine for Interpreted {
    fn run(&self, inputs: &[Tensor], show: &mut dyn FnMut(usize, &[u8])) -> Result<(), String> {
        if !self.works {
            return Err("out of order".to_owned());
        }
        let outputs = run_graph(&self.graph, inputs).map_err(|e| e.to_string())?;
        let elements = outputs.iter().map(|t| t.elements::<f32>().unwrap().into_owned());
        for (at, elements) in elements.enumerate() {
            show(at, bytemuck::cast_slice(&elements));
        }
        Ok(())
    }
}

/// A machine that shows the same values leads to the same network, from compressed weights too.
#[test]
fn a_machine_shows_what_the_interpreter_sees() {
    let (mut net, x) = Net::new(9, &[1, 4, 6, 5]);
    let x = net.conv(x, 20, 3, Activation::Relu);
    let x = net.step(x, 2);
    let graph = net.finish(x);
    let samples = samples(&[1, 4, 6, 5], 5, 1);
    let observed = integer::observed(&graph).unwrap();
    assert!(observed.outputs.len() > graph.outputs.len());
    let run = |works| {
        let machine = Interpreted {
            graph: observed.clone(),
            works,
        };
        let options = Options {
            samples: &samples,
            limit: 100,
            machine: Some(&machine),
        };
        integer::run(&graph, &options, &mut |_| true)
    };
    let (by_machine, by_itself) = (run(true).unwrap(), converted(&graph, &samples));
    assert!((by_machine.drift - by_itself.drift).abs() < 1e-5);
    assert_eq!(listing(&by_machine.graph), listing(&by_itself.graph));
    for inputs in &samples {
        let [a, b] = [&by_machine, &by_itself].map(|net| run_graph(&net.graph, inputs).unwrap().remove(0));
        assert!(sqnr(&a, &b) > 40.0);
    }
    assert!(matches!(run(false), Err(integer::IntegerError::Machine(why)) if why == "out of order"));
}

/// What is quantised already, and what has no finite range, is told.
#[test]
fn what_cannot_be_is_told() {
    let (mut net, x) = Net::new(1, &[1, 3, 4, 4]);
    let y = net.step(x, 0);
    let norm = net.add(Softmax { axis: 1, log: true }, &[y]);
    let mut graph = net.graph.clone();
    graph.add_output("y", norm);
    let result = converted(&graph, &samples(&[1, 3, 4, 4], 2, 1));
    assert_eq!(result.left.len(), 1);
    assert!(
        result.left[0].reason.contains("no integer form"),
        "{:?}",
        result.left
    );
    let samples: Vec<Vec<Tensor>> = samples(&[1, 3, 4, 4], 1, 1);
    let options = Options {
        samples: &samples,
        limit: 1,
        machine: None,
    };
    let again = integer::run(&result.graph, &options, &mut |_| true);
    assert!(matches!(again, Err(integer::IntegerError::Quantised(_))));
}
