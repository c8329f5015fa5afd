//! The driver and the pipeline on a small residual network.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use sdc_ir::graph::op::*;
use sdc_ir::graph::{BinaryOp, Graph, Op, Origin, TensorType, UnaryOp, Value};
use sdc_ir::schedule::{Algorithm, Schedule, Tasks};
use sdc_ir::{DType, Tensor};
use sdc_passes::driver::{CheckInputs, Driver, DriverError, Observer};
use sdc_passes::pass::{Class, Ctx, Pass, PassError};
use sdc_passes::pipeline::{
    PipelineError, PipelineOptions, compile_pipeline, list_passes, run_passes, run_pipeline,
};
use sdc_passes::plan::{Plan, check::check};
use sdc_passes::tile::Lowered;

struct Net(Graph);

impl Net {
    fn node(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Value {
        let op = op.into();
        let index = self.0.nodes().len() as u32;
        let origin = Origin {
            name: format!("n{index}"),
            op: op.name().into(),
            index,
        };
        self.0.add1(op, inputs, vec![origin]).unwrap()
    }
    fn weights(&mut self, shape: &[usize], scale: f32) -> Value {
        let n: usize = shape.iter().product();
        let index = self.0.nodes().len();
        let values = (0..n)
            .map(|i| scale * (((i * 37 + index * 11) % 101) as f32 / 50.0 - 1.0))
            .collect();
        let origin = Origin {
            name: format!("w{index}"),
            op: "Initializer".into(),
            index: index as u32,
        };
        self.0.add_constant(
            Tensor::from_elements(shape.to_vec(), values).unwrap(),
            vec![origin],
        )
    }
    fn conv(&mut self, x: Value, filters: usize, kernel: usize, stride: usize) -> Value {
        let channels = self.0.ty(x).sizes()[1];
        let w = self.weights(&[filters, channels, kernel, kernel], 0.2);
        let conv = Conv {
            strides: vec![stride; 2],
            pads: vec![kernel / 2; 4],
            dilations: vec![1, 1],
            group: 1,
            bias: false,
            residual: false,
            act: Activation::None,
        };
        let y = self.node(conv, &[x, w]);
        let (scale, bias, mean) = (
            self.weights(&[filters], 1.0),
            self.weights(&[filters], 1.0),
            self.weights(&[filters], 1.0),
        );
        let var = self.node(Op::Unary(UnaryOp::Abs), &[scale]);
        self.node(BatchNormalization { epsilon: 0.1 }, &[y, scale, bias, mean, var])
    }
    fn relu(&mut self, x: Value) -> Value {
        self.node(Op::Unary(UnaryOp::Relu), &[x])
    }
}

/// Three residual blocks, global average, a matrix product.
fn network() -> Graph {
    let mut n = Net(Graph::new("residual"));
    let x =
        n.0.add_input("image", TensorType::new(DType::F32, [1, 3, 16, 16]));
    let padded = n.node(
        Pad {
            mode: PadMode::Constant,
            before: vec![0, 0, 1, 1],
            after: vec![0, 0, 1, 1],
            value: 0.0,
        },
        &[x],
    );
    let y = n.conv(padded, 8, 3, 1);
    let mut y = n.relu(y);
    for (filters, stride) in [(8, 1), (16, 2), (16, 1)] {
        let z = n.conv(y, filters, 3, stride);
        let z = n.relu(z);
        let z = n.conv(z, filters, 3, 1);
        let shortcut = if stride == 1 {
            y
        } else {
            n.conv(y, filters, 1, stride)
        };
        let sum = n.node(Op::Binary(BinaryOp::Add), &[z, shortcut]);
        y = n.relu(sum);
    }
    let y = n.node(
        Reduce {
            kind: ReduceKind::Mean,
            axes: vec![2, 3],
            keepdims: true,
        },
        &[y],
    );
    let y = n.node(Reshape { shape: vec![1, 16] }, &[y]);
    let w = n.weights(&[16, 10], 1.0);
    let y = n.node(
        MatMul {
            bias: false,
            residual: false,
            act: Activation::None,
        },
        &[y, w],
    );
    let b = n.weights(&[10], 1.0);
    let y = n.node(Op::Binary(BinaryOp::Add), &[y, b]);
    let y = n.node(Softmax { axis: 1, log: false }, &[y]);
    n.0.add_output("probabilities", y);
    n.0
}

fn operators(graph: &Graph) -> Vec<&'static str> {
    let names = graph.nodes().values().map(|n| n.op.name());
    names.filter(|&n| n != "Constant").collect()
}

fn checked() -> PipelineOptions {
    PipelineOptions {
        check_each_pass: Some(CheckInputs::Seeded(1)),
        ..PipelineOptions::default()
    }
}

#[test]
fn a_network_down_to_its_plan() {
    let done = compile_pipeline(&network(), &checked(), &mut ()).unwrap_or_else(|e| panic!("{e}"));
    let times: Vec<&str> = done.timings.iter().map(|t| t.pass).collect();
    let all: Vec<&str> = list_passes().iter().map(|p| p.name).collect();
    assert_eq!(times, all);
    let convolutions = operators(&done.graph).iter().filter(|&&o| o == "Conv").count();
    assert_eq!(convolutions, 8);
    assert!(
        !operators(&done.graph)
            .iter()
            .any(|&o| ["Relu", "Add", "Pad", "BatchNormalization"].contains(&o))
    );
    assert!(done.remarks.iter().any(|r| r.rule == "pad_into_conv" && r.done));
    assert!(check(&done.lowered.module, &done.plan).is_empty());
    assert!(done.plan.waste_percent() <= 5.0, "{}", done.plan.waste_percent());
}

#[test]
fn two_compilations_are_equal() {
    let compile = || compile_pipeline(&network(), &PipelineOptions::default(), &mut ()).unwrap();
    let (a, b) = (compile(), compile());
    assert_eq!(
        (a.graph, a.lowered.module, a.plan),
        (b.graph, b.lowered.module, b.plan)
    );
    assert_eq!(a.remarks, b.remarks);
}

#[derive(Default)]
struct Seen {
    started: Vec<&'static str>,
    graphs: Vec<(&'static str, Graph)>,
    planned: usize,
}

impl Observer for Seen {
    fn started(&mut self, pass: &'static str) {
        self.started.push(pass);
    }
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        self.graphs.push((pass, graph.clone()));
    }
    fn planned(&mut self, _: &sdc_ir::tile::Module, _: &Plan) {
        self.planned += 1;
    }
}

#[test]
fn stopping_and_starting_again_gives_the_same() {
    let mut seen = Seen::default();
    let whole = compile_pipeline(&network(), &PipelineOptions::default(), &mut seen).unwrap();
    let names: Vec<&str> = seen.graphs.iter().map(|g| g.0).collect();
    assert_eq!(
        names,
        ["import", "legalise", "simplify", "fuse", "quantise", "layout"]
    );
    assert_eq!((seen.started.len(), seen.planned), (list_passes().len(), 1));

    for (at, (pass, graph)) in seen.graphs.iter().enumerate() {
        let stop = PipelineOptions {
            stop_after: Some((*pass).to_owned()),
            ..PipelineOptions::default()
        };
        let stopped = run_pipeline(&network(), &stop, &mut ()).unwrap();
        assert_eq!(&stopped.graph, graph);
        assert_eq!(stopped.timings.len(), at);
        assert!(stopped.lowered.is_none() && stopped.plan.is_none());

        let next = list_passes()[at].name;
        let start = PipelineOptions {
            start_from: Some(next.to_owned()),
            ..PipelineOptions::default()
        };
        let resumed = compile_pipeline(graph, &start, &mut ()).unwrap();
        assert_eq!(resumed.timings[0].pass, next);
        assert_eq!(
            (resumed.lowered.module, resumed.plan),
            (whole.lowered.module.clone(), whole.plan.clone())
        );
    }
}

/// A schedule may be given, as it is or edited; whatever it says, the network computes the same.
#[test]
fn a_given_schedule_is_what_is_lowered() {
    let whole = run_pipeline(&network(), &PipelineOptions::default(), &mut ()).unwrap();
    let given = |schedule: Option<Schedule>| PipelineOptions {
        start_from: Some("tile".to_owned()),
        given: schedule,
        ..checked()
    };
    let schedule = whole.schedule.unwrap();
    let again = run_pipeline(&whole.graph, &given(Some(schedule.clone())), &mut ()).unwrap();
    let module = |outcome: Option<Lowered>| outcome.unwrap().module;
    assert_eq!(module(again.lowered), module(whole.lowered));
    let times: Vec<&str> = again.timings.iter().map(|t| t.pass).collect();
    assert_eq!(times, ["tile", "plan"]);

    // One task each, direct summation, and nothing computed in its place in a Concat.
    let mut edited = schedule.clone();
    for run in &mut edited.runs {
        if let Algorithm::Winograd { .. } = run.algorithm {
            run.algorithm = Algorithm::Kernel("conv2d_f32");
        }
        for part in &mut run.parts {
            part.tasks = Tasks::One;
        }
    }
    run_pipeline(&whole.graph, &given(Some(edited)), &mut ()).unwrap_or_else(|e| panic!("{e}"));

    let none = run_pipeline(&whole.graph, &given(None), &mut ()).unwrap_err();
    assert!(matches!(none, PipelineError::NoSchedule) && !none.is_bug());
    let mut wider = schedule.clone();
    wider.widths.block *= 2;
    let wider = run_pipeline(&whole.graph, &given(Some(wider)), &mut ()).unwrap_err();
    assert!(
        matches!(wider, PipelineError::Widths { .. }) && !wider.is_bug(),
        "{wider}"
    );
    let mut broken = schedule;
    broken.runs.pop();
    let broken = run_pipeline(&whole.graph, &given(Some(broken)), &mut ()).unwrap_err();
    assert!(
        matches!(broken, PipelineError::Schedule(_)) && !broken.is_bug(),
        "{broken}"
    );
}

#[test]
fn passes_by_name() {
    let done = run_passes(&network(), &["fuse", "simplify"], None, &mut ()).unwrap();
    let order: Vec<&str> = done.timings.iter().map(|t| t.pass).collect();
    assert_eq!(order, ["fuse", "simplify"]);
    let error = run_passes(&network(), &["fold"], None, &mut ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no pass `fold` here (there are: legalise, simplify, fuse, quantise, layout)"
    );
    assert!(!error.is_bug());
    for options in [
        PipelineOptions {
            stop_after: Some("x".into()),
            ..Default::default()
        },
        PipelineOptions {
            start_from: Some("x".into()),
            ..Default::default()
        },
        PipelineOptions {
            start_from: Some("plan".into()),
            ..Default::default()
        },
    ] {
        let error = run_pipeline(&network(), &options, &mut ()).unwrap_err();
        assert!(matches!(error, PipelineError::UnknownPass { .. }), "{error}");
    }
}

/// A pass that does what its function does, whatever it says of itself.
struct Rogue(Class, fn(&Graph) -> Graph);

impl Pass for Rogue {
    fn name(&self) -> &'static str {
        "rogue"
    }
    fn summary(&self) -> &'static str {
        ""
    }
    fn class(&self) -> Class {
        self.0
    }
    fn run(&self, graph: &Graph, _: &mut Ctx) -> Result<Graph, PassError> {
        Ok((self.1)(graph))
    }
}

/// `(x + 1, x)`, the constant given.
fn offset(by: f32) -> Graph {
    let mut n = Net(Graph::new("offset"));
    let x = n.0.add_input("x", TensorType::new(DType::F32, [100]));
    let c = n.0.add_constant(
        Tensor::scalar(by),
        vec![Origin {
            name: "c".into(),
            op: "Initializer".into(),
            index: 0,
        }],
    );
    let y = n.node(Op::Binary(BinaryOp::Add), &[x, c]);
    n.0.add_output("same", x);
    n.0.add_output("moved", y);
    n.0
}

#[test]
fn the_pass_that_breaks_its_class_is_named() {
    let attempt = |class, to: fn(&Graph) -> Graph| {
        let graph = offset(1.0);
        let mut observer = ();
        let mut driver = Driver::new(&graph, Some(&CheckInputs::Seeded(3)), &mut observer).unwrap();
        driver.run(&Rogue(class, to), &graph).map(|_| ())
    };
    for class in [
        Class::Exact,
        Class::Rounding,
        Class::Approximating { budget: 0.01 },
    ] {
        let error = attempt(class, |_| offset(1.1)).unwrap_err();
        assert!(error.is_bug());
        let DriverError::BrokenClass { pass, output, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((pass, output.as_str()), ("rogue", "moved"));
        assert!(attempt(class, |_| offset(1.0)).is_ok());
    }
    // Within the class it may.
    assert!(attempt(Class::Exact, |_| offset(1.000001)).is_err());
    assert!(attempt(Class::Rounding, |_| offset(1.000001)).is_ok());
    assert!(attempt(Class::Rounding, |_| offset(1.001)).is_err());
    assert!(attempt(Class::Approximating { budget: 0.01 }, |_| offset(1.001)).is_ok());
}

#[test]
fn a_malformed_result_is_an_error_of_the_pass() {
    let graph = offset(1.0);
    let mut observer = ();
    let mut driver = Driver::new(&graph, None, &mut observer).unwrap();
    let without_origin = |_: &Graph| {
        let mut g = Graph::new("bad");
        let x = g.add_input("x", TensorType::new(DType::F32, [100]));
        let y = g.add1(Op::Unary(UnaryOp::Neg), &[x], Vec::new()).unwrap();
        g.add_output("y", y);
        g
    };
    let error = driver
        .run(&Rogue(Class::Exact, without_origin), &graph)
        .unwrap_err();
    assert!(
        matches!(&error, DriverError::Unverified { pass: "rogue", faults } if !faults.is_empty()),
        "{error}"
    );
    assert!(error.is_bug());
    // The same graph from outside is the caller's fault.
    let error = Driver::new(&without_origin(&graph), None, &mut ()).unwrap_err();
    assert!(!error.is_bug());
}
