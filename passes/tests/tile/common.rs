//! Small graphs, random data, and the comparison of the tile level with the graph level.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

use sdc_interp::compare;
use sdc_ir::graph::{Graph, Op, Origin, TensorType, Value};
use sdc_ir::{DType, Tensor};
use sdc_passes::layout::AssignLayouts;
use sdc_passes::pass::Remark;
use sdc_passes::pass::{Ctx, Pass};
use sdc_passes::schedule::{ScheduleOptions, schedule_cut};
use sdc_passes::tile::{Lowered, TileError};

/// A small generator of reproducible numbers.
pub struct Lcg(u64);

impl Lcg {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n.max(1)
    }
    pub fn f32(&mut self) -> f32 {
        (self.next() % 4001) as f32 / 1000.0 - 2.0
    }
}

pub fn origin(name: &str) -> Vec<Origin> {
    vec![Origin {
        name: name.to_owned(),
        op: "Test".to_owned(),
        index: 0,
    }]
}

pub fn input(g: &mut Graph, name: &str, shape: &[usize]) -> Value {
    g.add_input(name, TensorType::new(DType::F32, shape))
}

pub fn constant(g: &mut Graph, rng: &mut Lcg, shape: &[usize]) -> Value {
    let elements = (0..shape.iter().product()).map(|_| rng.f32()).collect();
    g.add_constant(
        Tensor::from_elements::<f32>(shape.to_vec(), elements).unwrap(),
        origin("c"),
    )
}

pub fn one(g: &mut Graph, op: Op, inputs: &[Value]) -> Value {
    let name = op.name();
    g.add1(op, inputs, origin(name)).unwrap()
}

pub fn inputs(g: &Graph, seed: u64) -> Vec<Tensor> {
    let mut rng = Lcg::new(seed);
    g.inputs
        .iter()
        .map(|p| {
            let shape = g.ty(p.value).sizes().to_vec();
            let elements = (0..shape.iter().product()).map(|_| rng.f32()).collect();
            Tensor::from_elements::<f32>(shape, elements).unwrap()
        })
        .collect()
}

pub fn run(module: &sdc_ir::tile::Module, g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let faults = sdc_ir::tile::verify::verify(module);
    assert!(faults.is_empty(), "{faults:#?}");
    let bytes: Vec<&[u8]> = inputs.iter().map(|t| &t.bytes()[..]).collect();
    let outputs = sdc_interp::run_tile(module, &bytes).unwrap();
    g.outputs
        .iter()
        .zip(outputs)
        .map(|(p, bytes)| {
            let ty = g.ty(p.value);
            Tensor::new(ty.dtype, ty.sizes().to_vec(), bytes.into()).unwrap()
        })
        .collect()
}

pub fn laid_out(g: &Graph) -> Graph {
    let laid = AssignLayouts.run(g, &mut Ctx::new("layout")).unwrap();
    let faults = sdc_ir::graph::verify::verify(&laid);
    assert!(faults.is_empty(), "{faults:#?}");
    laid
}

/// Lowers a graph with its layouts; its schedule verifies, and reads back from its text.
pub fn lower(g: &Graph, options: &ScheduleOptions) -> Result<Lowered, Vec<TileError>> {
    lower_cut(g, options, &|_| Vec::new())
}

/// As [`lower`], spatial nodes in intervals of rows.
pub fn lower_cut(
    g: &Graph,
    options: &ScheduleOptions,
    cuts: &dyn Fn(sdc_ir::graph::Node) -> Vec<usize>,
) -> Result<Lowered, Vec<TileError>> {
    lower_with_remarks(g, options, cuts).map(|(lowered, _)| lowered)
}

/// As [`lower_cut`], with what was chosen and what not.
pub fn lower_with_remarks(
    g: &Graph,
    options: &ScheduleOptions,
    cuts: &dyn Fn(sdc_ir::graph::Node) -> Vec<usize>,
) -> Result<(Lowered, Vec<Remark>), Vec<TileError>> {
    let (schedule, remarks) = schedule_cut(g, options, cuts);
    let faults = sdc_ir::schedule::verify::verify(g, &schedule);
    assert!(faults.is_empty(), "{faults:#?}");
    let scheduled = sdc_ir::text::Scheduled {
        graph: g,
        schedule: &schedule,
    };
    let text = scheduled.to_string();
    let (_, parsed) =
        sdc_ir::text::parse_schedule(&text, &g.weights).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(parsed, schedule, "{text}");
    Ok((sdc_passes::tile::lower(g, &schedule)?, remarks))
}

/// Several targets: block sizes of the packed weights.
const TARGETS: [ScheduleOptions; 2] = [
    ScheduleOptions {
        lanes: 4,
        block: 8,
        kernel_lanes: 4,
        streamed: false,
        winograd: false,
        sparse: false,
    },
    ScheduleOptions {
        lanes: 4,
        block: 16,
        kernel_lanes: 8,
        streamed: false,
        winograd: false,
        sparse: false,
    },
];

/// The results of the lowered graph.
pub fn lowered(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let lowered = lower(&laid_out(g), &TARGETS[0]).unwrap_or_else(|e| panic!("{e:?}"));
    run(&lowered.module, g, inputs)
}

/// The lowered graph computes what the graph computes.
pub fn check(g: &Graph, seed: u64) {
    let inputs = inputs(g, seed);
    let expected = sdc_interp::run_graph(g, &inputs).unwrap();
    let laid = laid_out(g);
    for target in &TARGETS {
        let lowered = lower(&laid, target).unwrap_or_else(|e| panic!("{e:?}"));
        for ((port, a), b) in g
            .outputs
            .iter()
            .zip(run(&lowered.module, g, &inputs))
            .zip(&expected)
        {
            let report = compare::compare(&a, b, compare::Class::Rounding { rel: 2e-5 });
            assert!(report.passed(), "{}: {report}", port.name);
        }
    }
}

/// Any cut of the rows gives the bits of the whole.
pub fn check_cuts(g: &Graph, seed: u64) {
    let inputs = inputs(g, seed);
    let laid = laid_out(g);
    let whole = lower(&laid, &TARGETS[0]).unwrap();
    let expected = run(&whole.module, g, &inputs);
    let cuts = |node: sdc_ir::graph::Node| {
        use sdc_ir::entity::EntityId;
        let mut rng = Lcg::new(seed.wrapping_add(node.index() as u64));
        (0..rng.below(4)).map(|_| rng.below(12)).collect::<Vec<_>>()
    };
    let cut = lower_cut(&laid, &TARGETS[0], &cuts).unwrap();
    assert_eq!(run(&cut.module, g, &inputs), expected);
}

/// An interval of the last node's output rows does not change when the rows of its operand that the interval does not
/// demand hold NaN.
pub fn check_demand(g: &Graph, seed: u64) {
    let node = g.def_node(g.outputs[0].value).unwrap();
    let operand = g.nodes()[node].inputs[0];
    let mut rng = Lcg::new(seed);
    let height = g.ty(g.outputs[0].value).sizes()[2];
    let first = rng.below(height);
    let rows = first..first + 1 + rng.below(height - first);
    let needed = sdc_passes::tile::rows::demand(g, node, rows.clone()).unwrap();
    // The node alone, its operand an input.
    let mut alone = Graph::new("alone");
    let x = alone.add_input("x", g.ty(operand).clone());
    let mut operands = vec![x];
    for &v in &g.nodes()[node].inputs[1..] {
        operands.push(alone.add_constant(g.constant(v).unwrap().clone(), origin("c")));
    }
    let y = one(&mut alone, g.nodes()[node].op.clone(), &operands);
    alone.add_output("y", y);
    let clean = inputs(&alone, seed).remove(0);
    let shape = clean.shape().to_vec();
    let row_of = |i: usize, shape: &[usize]| i / shape[3] % shape[2];
    let poisoned: Vec<f32> = clean
        .elements::<f32>()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            if needed.contains(&row_of(i, &shape)) {
                v
            } else {
                f32::NAN
            }
        })
        .collect();
    let poisoned = Tensor::from_elements(shape, poisoned).unwrap();
    let laid = laid_out(&alone);
    let lowered = lower(&laid, &TARGETS[0]).unwrap();
    let whole = run(&lowered.module, &alone, &[clean]).remove(0);
    let part = run(&lowered.module, &alone, &[poisoned]).remove(0);
    let (whole_rows, part_rows) = (whole.elements::<f32>().unwrap(), part.elements::<f32>().unwrap());
    for (i, (a, b)) in whole_rows.iter().zip(part_rows.iter()).enumerate() {
        if rows.contains(&row_of(i, whole.shape())) {
            assert_eq!(
                a.to_bits(),
                b.to_bits(),
                "row {} of {rows:?} needs more than {needed:?}",
                row_of(i, whole.shape())
            );
        }
    }
}

/// A graph whose weights are compressed computes, resident and streamed, the bits of the one with the dense constants; its constants are
/// the `packed` bytes and whatever else both have.
pub fn bits_of_ways(dense: &Graph, compressed: &Graph, seed: u64, packed: usize) {
    let inputs = inputs(dense, seed);
    let expected = sdc_interp::run_graph(dense, &inputs).unwrap();
    let reference = sdc_interp::run_graph(compressed, &inputs).unwrap();
    assert_eq!(expected, reference, "the graph interpreter");
    for target in &TARGETS {
        let lowered = lower(&laid_out(dense), target).unwrap_or_else(|e| panic!("{e:?}"));
        let bits = run(&lowered.module, dense, &inputs);
        for streamed in [false, true] {
            let target = ScheduleOptions { streamed, ..*target };
            let lowered = lower(&laid_out(compressed), &target).unwrap_or_else(|e| panic!("{e:?}"));
            let module = lowered.module;
            assert_eq!(
                run(&module, compressed, &inputs),
                bits,
                "streamed: {streamed}\n{module}"
            );
            let text = module.renumbered();
            assert_eq!(
                sdc_ir::text::parse_module(&text.to_string(), &module.weights).unwrap(),
                text
            );
            let bytes = |kind: fn(&sdc_ir::tile::BufferKind) -> bool| -> usize {
                module
                    .buffers
                    .values()
                    .filter(|b| kind(&b.kind))
                    .map(|b| b.bytes())
                    .sum()
            };
            if packed > 0 {
                let bias = dense.outputs.iter().map(|p| dense.ty(p.value).sizes());
                let biases: usize = bias.map(|s| 4 * s[1]).sum();
                assert_eq!(
                    bytes(|k| matches!(k, sdc_ir::tile::BufferKind::Const(_))),
                    packed + biases
                );
                let prepared = bytes(|k| *k == sdc_ir::tile::BufferKind::Prepared);
                assert_eq!(prepared == 0, streamed);
            }
        }
    }
}
