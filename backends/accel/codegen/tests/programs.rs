//! Programs of made-up networks that once came out wrong, or whose form matters.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use fastrand::Rng;
use sdc_accel::{Compiled, compile};
use sdc_accel_isa::{Cfg, Config, Instr, Op, Register};
use sdc_accel_sim::{Options, Simulator};
use sdc_ir::graph::op::{DequantizeLinear, MaxPool, QLinearAdd, QLinearConv, QuantizeLinear};
use sdc_ir::graph::{Graph, TensorType, Value};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeSet;

/// Appends a convolution of `m` filters with a kernel of 3 rows and columns, strided over columns.
fn convolution(g: &mut Graph, x: Value, m: usize, step: usize) -> Value {
    let mut rng = Rng::with_seed(m as u64);
    let c = g.ty(x).sizes()[1];
    let all = (0..m * c * 9).map(|_| rng.i8(..)).collect::<Vec<i8>>();
    let w = support::constant(g, vec![m, c, 3, 3], all);
    let bias = support::constant(g, vec![m], (0..m).map(|_| rng.i32(-20000..20000)).collect());
    let multiplier = support::constant(g, vec![m], vec![1 << 30; m]);
    let op = QLinearConv {
        strides: vec![1, step],
        pads: vec![1; 4],
        dilations: vec![1, 1],
        group: 1,
        x_zero: 3,
        y_zero: 3,
        min: -128,
        max: 127,
        to: DType::I8,
        shift: 40,
    };
    g.add1(op, &[x, w, bias, multiplier], support::origin("conv"))
        .unwrap()
}

fn compiled(g: &Graph, set: &[&str]) -> (Compiled, Simulator) {
    let mut config = Config::default();
    set.iter().for_each(|s| config.set(s).unwrap());
    let compiled = compile(g, &config).unwrap();
    let simulator = Simulator::new(compiled.program.clone(), config).unwrap();
    (compiled, simulator)
}

fn equal(g: &Graph, simulator: &Simulator, inputs: &[Tensor]) {
    let want = sdc_interp::run_graph(g, inputs).unwrap();
    let got = simulator.run(inputs, &Options::default()).unwrap().outputs;
    assert!(got == want);
}

/// The rows come in bands, and the views of the later ones begin amid the result's map.
#[test]
fn a_map_may_end_where_its_bank_does() {
    let mut g = Graph::new("net");
    let x = g.add_input("x", TensorType::new(DType::I8, vec![1, 16, 65, 64]));
    let y = convolution(&mut g, x, 32, 4);
    let z = convolution(&mut g, y, 16, 1);
    g.add_output("z", z);
    let (compiled, simulator) = compiled(&g, &["ib.bank=2080"]);
    assert!(compiled.layers[0].stays);
    let beyond = |instr: &Instr| match &instr.op {
        Op::Cfg(Cfg {
            value: Register::View(v),
            ..
        }) => v.base + v.chans.div_ceil(16) * v.rows * v.pitch > 2080,
        _ => false,
    };
    assert!(compiled.program.code.iter().any(beyond));
    equal(&g, &simulator, &support::inputs(&g, 1));
}

/// What the host hands to the machine, to a later step and to the caller has one name in its graph, and no two values share one.
#[test]
fn values_of_the_host_have_names_of_their_own() {
    let mut g = Graph::new("net");
    let real = g.add_input("%2", TensorType::new(DType::F32, vec![1, 4, 6, 6]));
    let scale = support::constant(&mut g, vec![], vec![0.1f32]);
    let zero = support::constant(&mut g, vec![], vec![3i8]);
    let x = g
        .add1(QuantizeLinear {}, &[real, scale, zero], support::origin("q"))
        .unwrap();
    let y = convolution(&mut g, x, 8, 1);
    let back = |g: &mut Graph, x: Value| {
        let zero = support::constant(g, vec![], vec![3i8]);
        g.add1(DequantizeLinear {}, &[x, scale, zero], support::origin("d"))
            .unwrap()
    };
    let (a, b) = (back(&mut g, x), back(&mut g, y));
    for (name, value) in [("q", x), ("again", x), ("%2", a), ("b", b), ("y", y)] {
        g.add_output(name, value);
    }
    let (compiled, simulator) = compiled(&g, &[]);
    for step in &compiled.program.host {
        let graph = step.graph().unwrap();
        let names: BTreeSet<&str> = graph.outputs.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), graph.outputs.len());
    }
    let input = (0..144).map(|i| (i * 37 % 100) as f32 / 10.0 - 5.0).collect();
    equal(
        &g,
        &simulator,
        &[Tensor::from_elements(vec![1, 4, 6, 6], input).unwrap()],
    );
}

/// Three rows of all channels take three times a bank; tiles of columns read overlapping parts of them, and what follows in the slot too.
#[test]
fn rows_that_do_not_fit_are_cut_by_columns() {
    for (step, bank) in [(1, "ib.bank=1024"), (3, "ib.bank=700")] {
        let mut g = Graph::new("net");
        let x = g.add_input("x", TensorType::new(DType::I8, vec![1, 40, 7, 300]));
        let y = convolution(&mut g, x, 20, step);
        let z = convolution(&mut g, y, 20, 1);
        let op = QLinearAdd {
            zeros: vec![3, 3],
            multipliers: vec![3 << 28, 5 << 27],
            shift: 30,
            y_zero: 3,
            min: -128,
            max: 127,
            to: DType::I8,
        };
        let sum = g.add1(op, &[z, y], support::origin("add")).unwrap();
        let pool = MaxPool {
            kernel: vec![5, 4],
            strides: vec![1, 3],
            pads: vec![2, 1, 2, 1],
            dilations: vec![1, 1],
        };
        let p = g.add1(pool, &[sum], support::origin("pool")).unwrap();
        g.add_output("p", p);
        let (compiled, simulator) = compiled(&g, &[bank]);
        assert!(compiled.layers.len() > 8 && compiled.host.is_empty());
        equal(&g, &simulator, &support::inputs(&g, 2));
    }
}
