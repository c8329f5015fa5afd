//! Convolutions by Winograd's filtering: that they are chosen, compute what the graph computes, and do not depend on cuts.

use crate::common::{Lcg, constant, input, inputs, laid_out, lower, lower_cut, lower_with_remarks, one, run};
use proptest::prelude::*;
use sdc_interp::compare::{self, Class};
use sdc_ir::graph::op::{Activation, Conv};
use sdc_ir::graph::{Graph, Node};
use sdc_passes::schedule::ScheduleOptions;
use sdc_passes::tile::Lowered;

const TARGET: ScheduleOptions = ScheduleOptions {
    lanes: 4,
    block: 16,
    kernel_lanes: 8,
    streamed: false,
    winograd: true,
    sparse: false,
};

fn conv(kernel: usize, pads: [usize; 4], residual: bool, act: Activation) -> Conv {
    Conv {
        strides: vec![1, 1],
        pads: pads.to_vec(),
        dilations: vec![1, 1],
        group: 1,
        bias: kernel == 3,
        residual,
        act,
    }
}

/// A 1x1 convolution, whose result is channels-last, and a 3x3 one after it.
fn graph(
    images: usize,
    size: [usize; 2],
    channels: (usize, usize),
    pads: [usize; 4],
    residual: bool,
    seed: u64,
) -> Graph {
    let mut rng = Lcg::new(seed);
    let (in_c, out_c) = channels;
    let mut g = Graph::new("conv");
    let x = input(&mut g, "x", &[images, 3, size[0], size[1]]);
    let w = constant(&mut g, &mut rng, &[in_c, 3, 1, 1]);
    let first = conv(1, [0; 4], false, Activation::Relu);
    let x = one(&mut g, first.into(), &[x, w]);
    let w = constant(&mut g, &mut rng, &[out_c, in_c, 3, 3]);
    let b = constant(&mut g, &mut rng, &[out_c]);
    let mut operands = vec![x, w, b];
    let residual = residual && in_c == out_c && pads == [1; 4];
    if residual {
        operands.push(x);
    }
    let op = conv(3, pads, residual, Activation::Relu);
    let y = one(&mut g, op.into(), &operands);
    g.add_output("y", y);
    g
}

fn calls(lowered: &Lowered) -> usize {
    lowered.module.to_string().matches("kernel winograd_f32").count()
}

prop_compose! {
    fn any()(
        images in 1..20usize, size in [6..20usize, 6..20usize], channels in [16..50usize, 16..50usize], square: bool,
        pads in [0..3usize, 0..3usize, 0..3usize, 0..3usize], plain: bool, residual: bool, seed: u64,
    ) -> Graph {
        let pads = if plain { [1; 4] } else { pads };
        let channels = (channels[0], if square { channels[0] } else { channels[1] });
        // The plain loops of the interpreter are slow.
        let images = if size[0] * size[1] > 100 { 1 } else { images };
        graph(images, size, channels, pads, residual, seed)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_computes_what_the_graph_computes_and_any_cut_does(g in any(), seed: u64) {
        let inputs = inputs(&g, seed);
        let expected = sdc_interp::run_graph(&g, &inputs).unwrap();
        let laid = laid_out(&g);
        let lowered = lower(&laid, &TARGET).unwrap();
        let whole = run(&lowered.module, &g, &inputs);
        let report = compare::compare(&whole[0], &expected[0], Class::Rounding { rel: 2e-5 });
        prop_assert!(report.passed(), "{}", report);
        let cuts = |_: Node| vec![seed as usize % 7, 3 + seed as usize % 5];
        let cut = lower_cut(&laid, &TARGET, &cuts).unwrap();
        prop_assert_eq!(calls(&cut) > 0, calls(&lowered) > 0);
        prop_assert_eq!(run(&cut.module, &g, &inputs), whole);
    }
}

#[test]
fn it_is_chosen_where_it_pays_and_forbidden_where_the_user_says_so() {
    let pays = laid_out(&graph(1, [16, 16], (32, 32), [1; 4], true, 1));
    let whole = |_: Node| Vec::new();
    let (lowered, remarks) = lower_with_remarks(&pays, &TARGET, &whole).unwrap();
    assert_eq!(calls(&lowered), 1);
    let remark = &remarks[0];
    assert!(remark.done && remark.reason.contains("tiles of 4x4"), "{remark}");
    let forbidden = ScheduleOptions {
        winograd: false,
        ..TARGET
    };
    let (direct, remarks) = lower_with_remarks(&pays, &forbidden, &whole).unwrap();
    assert_eq!((calls(&direct), remarks.len()), (0, 0));

    let small = laid_out(&graph(1, [2, 2], (64, 64), [1; 4], false, 1));
    let (small, remarks) = lower_with_remarks(&small, &TARGET, &whole).unwrap();
    assert_eq!(calls(&small), 0);
    assert!(!remarks[0].done, "{}", remarks[0]);
}

/// Several images share at most so many scratch buffers.
#[test]
fn scratch_does_not_grow_with_every_image() {
    let scratch = |images: usize| -> usize {
        let lowered = lower(
            &laid_out(&graph(images, [8, 8], (32, 32), [1; 4], false, 1)),
            &TARGET,
        )
        .unwrap();
        assert_eq!(calls(&lowered), 1);
        let buffers = lowered.module.buffers.values();
        buffers
            .filter(|b| b.name.ends_with("scratch"))
            .map(|b| b.bytes())
            .sum()
    };
    assert_eq!(scratch(16), scratch(64));
}
