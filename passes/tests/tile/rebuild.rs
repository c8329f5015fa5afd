//! Compressed weights, resident and streamed, against the same network with dense constants: equal bits.

#![allow(clippy::unwrap_used, reason = "a test's failure")]

use crate::common::{Lcg, bits_of_ways, constant, input, inputs, laid_out, lower, one, origin, run};
use proptest::prelude::*;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{Graph, Value};
use sdc_ir::sd::{Axis, Decomposed, Format, Geometry, Index, Int8, Packing, Stored};
use sdc_ir::tile::Module;
use sdc_ir::{DType, Tensor};
use sdc_passes::schedule::ScheduleOptions;

/// Random weights in a random form.
fn stored(rng: &mut Lcg, geometry: Geometry) -> Stored {
    let filters = geometry.filters();
    let scale = if rng.below(2) == 0 { DType::F16 } else { DType::F32 };
    let scales = (0..filters).map(|_| rng.below(16) as f32 / 64.0).collect();
    if rng.below(4) == 0 {
        let values = (0..filters * geometry.vector_len())
            .map(|_| rng.next() as i8)
            .collect();
        return Int8 {
            geometry,
            values,
            scale,
            scales,
        }
        .into();
    }
    let s = 1 + rng.below(8);
    let r = 1 + rng.below(8);
    let nibble = rng.below(2) == 0;
    let magnitudes = 1 + rng.below(if nibble { 7 } else { 8 });
    let format = Format {
        s,
        r,
        slice_rows: 1 + rng.below(7).min(64 * s - 1),
        alphabet: [1, 2, 3, 4, 8, 12, 64, 128][..magnitudes].to_vec(),
        packing: if nibble { Packing::Nibble } else { Packing::Row },
        basis_bits: [6, 8][rng.below(2)],
        basis_filters: 1 + rng.below(filters + 2),
        scale,
        index: [Index::None, Index::Rows(1), Index::Rows(1 + rng.below(5))][rng.below(3)],
    };
    let rows = geometry.rows(s);
    let indexed = format.index != Index::None;
    let kept: Vec<bool> = (0..geometry.index_groups(&format) * rows)
        .map(|_| !indexed || rng.below(3) > 0)
        .collect();
    let shared = format.index_filters();
    let mut codes = Vec::new();
    for filter in 0..filters {
        for row in 0..rows {
            for _ in 0..r {
                let code = rng.below(2 * magnitudes + 1) as i8 - magnitudes as i8;
                codes.push(if kept[filter / shared * rows + row] {
                    code
                } else {
                    0
                });
            }
        }
    }
    let bases = geometry.basis_groups(&format) * geometry.slices(&format);
    let limit = 1usize << format.basis_bits;
    Decomposed {
        codes,
        kept,
        bases: (0..bases * r * s)
            .map(|_| (rng.below(limit) as i16 - (limit / 2) as i16) as i8)
            .collect(),
        shifts: (0..bases).map(|_| rng.below(16) as u8).collect(),
        scales,
        geometry,
        format,
    }
    .into()
}

/// The weights as a value: rebuilt, or as the dense constant.
fn weights(g: &mut Graph, stored: &Stored, dense: bool) -> Value {
    if dense {
        return g.add_constant(stored.dequantised().unwrap(), origin("w"));
    }
    let packed = stored.pack().unwrap();
    assert_eq!(packed.len(), stored.packed_len());
    let packed = Tensor::from_elements::<u8>(vec![packed.len()], packed).unwrap();
    let packed = g.add_constant(packed, origin("w"));
    let shape = stored.geometry().shape.clone();
    one(
        g,
        Rebuild {
            shape,
            to: DType::F32,
        }
        .into(),
        &[packed],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn conv(
        kind in 0..3usize, c in 1..5usize, m in 1..40usize, kernel in [1..4usize, 1..4usize], images in 1..3usize,
        along_y: bool, residual: bool, seed: u64,
    ) {
        let (group, in_c, out_c, w_c) = match kind {
            0 => (1, c, m, c),
            1 => (2, 2 * c, 2 * m, c),
            _ => (m + 1, m + 1, m + 1, 1),
        };
        let mut rng = Lcg::new(seed);
        let axis = if along_y { Axis::Y } else { Axis::X };
        let stored = stored(&mut rng, Geometry::conv(&[out_c, w_c, kernel[0], kernel[1]], axis));
        prop_assert!(stored.verify().is_empty());
        let graph = |dense: bool| {
            let mut rng = Lcg::new(seed);
            let mut g = Graph::new("conv");
            let x = input(&mut g, "x", &[images, in_c, 5, 6]);
            let w = weights(&mut g, &stored, dense);
            let b = constant(&mut g, &mut rng, &[out_c]);
            let mut op = Conv {
                strides: vec![1, 1], pads: vec![kernel[0] - 1, kernel[1] - 1, 0, 0], dilations: vec![1, 1], group,
                bias: true, residual: false, act: Activation::Relu,
            };
            let mut y = one(&mut g, op.clone().into(), &[x, w, b]);
            if residual {
                // The result of the first is the addend of the second, which has the same weights.
                op.residual = true;
                y = one(&mut g, op.into(), &[x, w, b, y]);
            }
            g.add_output("y", y);
            g
        };
        bits_of_ways(&graph(true), &graph(false), seed, stored.packed_len());
    }

    #[test]
    fn matmul(k in 1..30usize, n in 1..40usize, rows in 1..4usize, transposed: bool, seed: u64) {
        let mut rng = Lcg::new(seed);
        let geometry = if transposed { Geometry::leading(&[n, k], 1) } else { Geometry::matmul(&[k, n]) };
        let stored = stored(&mut rng, geometry);
        let graph = |dense: bool| {
            let mut rng = Lcg::new(seed);
            let mut g = Graph::new("matmul");
            let x = input(&mut g, "x", &[rows, k]);
            let mut w = weights(&mut g, &stored, dense);
            if transposed {
                w = match dense {
                    true => {
                        let t = sdc_interp::eval_op(&Transpose { perm: vec![1, 0] }.into(), &[&stored.dequantised().unwrap()]);
                        g.add_constant(t.unwrap().remove(0), origin("w"))
                    }
                    false => one(&mut g, Transpose { perm: vec![1, 0] }.into(), &[w]),
                };
            }
            let b = constant(&mut g, &mut rng, &[n]);
            let op = MatMul { bias: true, residual: false, act: Activation::None };
            let y = one(&mut g, op.into(), &[x, w, b]);
            g.add_output("y", y);
            g
        };
        bits_of_ways(&graph(true), &graph(false), seed, stored.packed_len());
    }

    /// Phases get their taps from the dense tensor.
    #[test]
    fn conv_transpose(
        c in 1..5usize, m in 1..40usize, kernel in [1..5usize, 1..5usize], strides in [1..4usize, 1..4usize], group in 1..3usize, seed: u64,
    ) {
        let mut rng = Lcg::new(seed);
        let geometry = Geometry { shape: vec![group * c, m, kernel[0], kernel[1]], filter_dims: vec![1], vector_dims: vec![0, 2, 3] };
        let stored = stored(&mut rng, geometry);
        let graph = |dense: bool| {
            let mut rng = Lcg::new(seed);
            let mut g = Graph::new("conv_transpose");
            let x = input(&mut g, "x", &[1, group * c, 3, 4]);
            let w = weights(&mut g, &stored, dense);
            let b = constant(&mut g, &mut rng, &[group * m]);
            let op = ConvTranspose {
                strides: strides.into(), pads: vec![0; 4], dilations: vec![1, 1], output_padding: vec![0, 0], group, bias: true,
                act: Activation::None,
            };
            let y = one(&mut g, op.into(), &[x, w, b]);
            g.add_output("y", y);
            g
        };
        bits_of_ways(&graph(true), &graph(false), seed, 0);
    }

    /// What has no kernel of its own reads the dense tensor; here also an output shows it.
    #[test]
    fn anything_else(b in 1..4usize, k in 1..9usize, n in 1..9usize, seed: u64) {
        let mut rng = Lcg::new(seed);
        let stored = stored(&mut rng, Geometry::matmul(&[b, k, n]));
        let graph = |dense: bool| {
            let mut g = Graph::new("other");
            let x = input(&mut g, "x", &[b, k, n]);
            let w = weights(&mut g, &stored, dense);
            let y = one(&mut g, sdc_ir::graph::BinaryOp::Mul.into(), &[x, w]);
            g.add_output("y", y);
            g.add_output("w", w);
            g
        };
        bits_of_ways(&graph(true), &graph(false), seed, 0);
    }
}

/// Blocks that would leave the core's own cache are rebuilt and multiplied in parts, to the same bits; what is left over is not a whole part.
#[test]
fn streamed_blocks_stay_in_the_cache() {
    for convolution in [false, true] {
        let (k, n) = (2880, 72);
        let (shape, geometry) = match convolution {
            true => (vec![1, k / 9, 3, 3], Geometry::conv(&[n, k / 9, 3, 3], Axis::X)),
            false => (vec![2, k], Geometry::leading(&[n, k], 1)),
        };
        let stored = stored(&mut Lcg::new(5), geometry);
        let graph = |dense: bool| {
            let mut g = Graph::new("wide");
            let x = input(&mut g, "x", &shape);
            let mut w = weights(&mut g, &stored, dense);
            let b = constant(&mut g, &mut Lcg::new(5), &[n]);
            let op = match convolution {
                true => Conv {
                    strides: vec![1, 1],
                    pads: vec![0; 4],
                    dilations: vec![1, 1],
                    group: 1,
                    bias: true,
                    residual: false,
                    act: Activation::None,
                }
                .into(),
                false => {
                    w = match dense {
                        true => {
                            let transpose = Transpose { perm: vec![1, 0] }.into();
                            let t = sdc_interp::eval_op(&transpose, &[&stored.dequantised().unwrap()]);
                            g.add_constant(t.unwrap().remove(0), origin("w"))
                        }
                        false => one(&mut g, Transpose { perm: vec![1, 0] }.into(), &[w]),
                    };
                    MatMul {
                        bias: true,
                        residual: false,
                        act: Activation::None,
                    }
                    .into()
                }
            };
            let y = one(&mut g, op, &[x, w, b]);
            g.add_output("y", y);
            g
        };
        let wide = |streamed| ScheduleOptions {
            lanes: 16,
            block: 64,
            kernel_lanes: 16,
            streamed,
            ..ScheduleOptions::default()
        };
        let module = |dense, streamed| lower(&laid_out(&graph(dense)), &wide(streamed)).unwrap().module;
        let inputs = inputs(&graph(true), 5);
        let bits = |module: &Module| run(module, &graph(true), &inputs);
        let streamed = module(false, true);
        assert_eq!(bits(&streamed), bits(&module(true, false)));
        let rebuilt = streamed.buffers.values().find(|b| b.name.ends_with("rebuilt"));
        assert_eq!(rebuilt.unwrap().len, 32 * k);
    }
}

/// A payload that is no weight is an error with the node's name, not a wrong answer.
#[test]
fn a_broken_payload_is_refused() {
    let mut g = Graph::new("broken");
    let packed = Tensor::from_elements::<u8>(vec![4], vec![1, 2, 3, 4]).unwrap();
    let packed = g.add_constant(packed, origin("w"));
    let w = one(
        &mut g,
        Rebuild {
            shape: vec![2, 2],
            to: DType::F32,
        }
        .into(),
        &[packed],
    );
    g.add_output("w", w);
    assert!(sdc_interp::run_graph(&g, &[]).is_err());
    let errors = lower(&g, &Default::default()).unwrap_err();
    assert_eq!(errors[0].op, "Rebuild");
    assert_eq!(errors[0].origins[0].name, "Rebuild");
}
