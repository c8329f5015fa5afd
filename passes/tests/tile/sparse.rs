//! Convolutions and products that leave out rows of compressed weights that are not stored, against the graph
//! interpreter: equal bytes of integers, floats within rounding.

#![allow(clippy::unwrap_used, reason = "a test's failure")]

use crate::common::{Lcg, constant, input, inputs, laid_out, lower, one, origin, run};
use proptest::prelude::*;
use sdc_ir::graph::op::*;
use sdc_ir::graph::{Graph, Value};
use sdc_ir::sd::{Axis, Decomposed, Format, Geometry, Index, Packing, Stored};
use sdc_ir::{DType, Tensor};
use sdc_passes::schedule::ScheduleOptions;

/// Random weights, of which a row in `one_of` is kept.
fn stored(rng: &mut Lcg, geometry: Geometry, s: usize, group: usize, one_of: usize) -> Stored {
    let (filters, rows) = (geometry.filters(), geometry.rows(s));
    let format = Format {
        s,
        r: 2,
        slice_rows: 7.min(64 * s - 1),
        alphabet: vec![1, 2, 4],
        packing: Packing::Nibble,
        basis_bits: 8,
        basis_filters: 1 + rng.below(filters),
        scale: DType::F32,
        index: Index::Rows(group),
    };
    let kept: Vec<bool> = (0..geometry.index_groups(&format) * rows)
        .map(|_| rng.below(one_of) == 0)
        .collect();
    let shared = format.index_filters();
    let codes = (0..filters * rows * 2).map(|i| {
        let (filter, row) = (i / 2 / rows, i / 2 % rows);
        let code = rng.below(7) as i8 - 3;
        if kept[filter / shared * rows + row] {
            code
        } else {
            0
        }
    });
    let codes = codes.collect();
    let bases = geometry.basis_groups(&format) * geometry.slices(&format);
    Decomposed {
        codes,
        kept,
        bases: (0..bases * 2 * s).map(|_| rng.next() as i8).collect(),
        shifts: (0..bases).map(|_| rng.below(4) as u8).collect(),
        scales: (0..filters).map(|_| rng.below(16) as f32 / 1024.0).collect(),
        geometry,
        format,
    }
    .into()
}

fn rebuilt(g: &mut Graph, stored: &Stored, to: DType) -> Value {
    let packed = stored.pack().unwrap();
    let packed = Tensor::from_elements::<u8>(vec![packed.len()], packed).unwrap();
    let packed = g.add_constant(packed, origin("w"));
    let shape = stored.geometry().shape.clone();
    one(g, Rebuild { shape, to }.into(), &[packed])
}

/// Checks that the lowered graph computes what the graph does, with rows left out and with all weights rebuilt, at once or as they are used.
fn check(g: &Graph, inputs: &[Tensor]) {
    let expected = sdc_interp::run_graph(g, inputs).unwrap();
    for (sparse, streamed) in [(true, false), (false, false), (true, true)] {
        let options = ScheduleOptions {
            streamed,
            sparse,
            ..ScheduleOptions::default()
        };
        let module = lower(&laid_out(g), &options)
            .unwrap_or_else(|e| panic!("{e:?}"))
            .module;
        for (a, b) in run(&module, g, inputs).iter().zip(&expected) {
            let (found, wanted) = (a.to_f64_vec(), b.to_f64_vec());
            let mut pairs = found.iter().zip(&wanted);
            let near = pairs.all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + b.abs()));
            assert!(
                a == b || (a.dtype() == DType::F32 && near),
                "sparse {sparse}, streamed {streamed}\n{module}"
            );
        }
    }
}

/// A geometry of convolution weights and the length of its rows.
fn geometry(kind: usize, [m, c]: [usize; 2]) -> (Geometry, usize) {
    match kind {
        0 => (Geometry::conv(&[m, c, 3, 3], Axis::X), 3),
        1 => (Geometry::conv(&[m, c, 3, 2], Axis::Y), 3),
        2 => (Geometry::conv(&[m, c, 1, 1], Axis::X), 3),
        _ => (Geometry::conv(&[m, c, 5, 4], Axis::X), 4),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn conv(
        kind in 0..4usize, sizes in [1..40usize, 1..40usize], group in prop::sample::select(vec![1usize, 8, 16, 32]), one_of in 2..12usize,
        stride in [1..3usize, 1..3usize], dilation in [1..3usize, 1..3usize], images in 1..3usize, residual: bool, seed: u64,
    ) {
        let mut rng = Lcg::new(seed);
        let (geometry, s) = geometry(kind, sizes);
        let window = [geometry.shape[2], geometry.shape[3]];
        let stored = stored(&mut rng, geometry, s, group, one_of);
        prop_assert!(stored.verify().is_empty());
        let mut g = Graph::new("conv");
        let x = input(&mut g, "x", &[images, sizes[1], 11, 10]);
        let w = rebuilt(&mut g, &stored, DType::F32);
        let b = constant(&mut g, &mut rng, &[sizes[0]]);
        let pad = if window == [1, 1] { 0 } else { 1 };
        let mut op = Conv {
            strides: stride.to_vec(), pads: vec![pad; 4], dilations: dilation.to_vec(), group: 1, bias: true, residual: false,
            act: Activation::Relu,
        };
        let mut y = one(&mut g, op.clone().into(), &[x, w, b]);
        if residual {
            op.residual = true;
            y = one(&mut g, op.into(), &[x, w, b, y]);
        }
        g.add_output("y", y);
        check(&g, &inputs(&g, seed));
    }

    #[test]
    fn integers(
        kind in 0..4usize, sizes in [1..40usize, 1..70usize], group in prop::sample::select(vec![1usize, 8, 16, 32]), one_of in 2..12usize,
        stride in [1..3usize, 1..3usize], dilation in [1..3usize, 1..3usize], images in 1..3usize, x_zero in -9..9i64, seed: u64,
    ) {
        let mut rng = Lcg::new(seed);
        let (geometry, s) = geometry(kind, sizes);
        let window = [geometry.shape[2], geometry.shape[3]];
        let stored = stored(&mut rng, geometry, s, group, one_of);
        let mut g = Graph::new("integers");
        let x = g.add_input("x", sdc_ir::graph::TensorType::new(DType::I8, vec![images, sizes[1], 11, 10]));
        let w = rebuilt(&mut g, &stored, DType::I8);
        let bias = (0..sizes[0]).map(|_| rng.below(2000) as i32 - 1000).collect();
        let bias = g.add_constant(Tensor::from_elements::<i32>(vec![sizes[0]], bias).unwrap(), origin("b"));
        let scale = (0..sizes[0]).map(|_| rng.f32().abs() * 1e-2).collect();
        let scale = g.add_constant(Tensor::from_elements::<f32>(vec![sizes[0]], scale).unwrap(), origin("s"));
        let pad = if window == [1, 1] { 0 } else { 1 };
        let op = QLinearConv {
            strides: stride.to_vec(), pads: vec![pad; 4], dilations: dilation.to_vec(), group: 1, x_zero, y_zero: 3, to: DType::I8, min: -128, max: 127,
            shift: 0,
        };
        let y = one(&mut g, op.into(), &[x, w, bias, scale]);
        g.add_output("y", y);
        let x = (0..images * sizes[1] * 110).map(|_| rng.next() as i8).collect();
        let x = Tensor::from_elements::<i8>(vec![images, sizes[1], 11, 10], x).unwrap();
        check(&g, &[x]);
    }

    #[test]
    fn product(
        k in 1..60usize, n in 1..60usize, rows in 1..4usize, s in 1..5usize, one_of in 2..12usize, transposed: bool, seed: u64,
    ) {
        let mut rng = Lcg::new(seed);
        let geometry = if transposed { Geometry::leading(&[n, k], 1) } else { Geometry::matmul(&[k, n]) };
        let stored = stored(&mut rng, geometry, s, 16, one_of);
        let mut g = Graph::new("product");
        let x = input(&mut g, "x", &[rows, k]);
        let mut w = rebuilt(&mut g, &stored, DType::F32);
        if transposed {
            w = one(&mut g, Transpose { perm: vec![1, 0] }.into(), &[w]);
        }
        let b = constant(&mut g, &mut rng, &[n]);
        let y = one(&mut g, MatMul { bias: true, residual: false, act: Activation::None }.into(), &[x, w, b]);
        g.add_output("y", y);
        check(&g, &inputs(&g, seed));
    }
}

/// Where few rows are kept by 16 filters together they are left out, and not where each filter keeps others.
#[test]
fn the_choice_follows_the_density() {
    for (group, one_of, used) in [(16, 4, true), (16, 1, false), (1, 2, false)] {
        let mut rng = Lcg::new(7);
        let stored = stored(
            &mut rng,
            Geometry::conv(&[32, 32, 3, 3], Axis::X),
            3,
            group,
            one_of,
        );
        let mut g = Graph::new("conv");
        let x = input(&mut g, "x", &[1, 32, 9, 9]);
        let w = rebuilt(&mut g, &stored, DType::F32);
        let op = Conv {
            strides: vec![1, 1],
            pads: vec![1; 4],
            dilations: vec![1, 1],
            group: 1,
            bias: false,
            residual: false,
            act: Activation::None,
        };
        let y = one(&mut g, op.into(), &[x, w]);
        g.add_output("y", y);
        let options = ScheduleOptions {
            sparse: true,
            ..ScheduleOptions::default()
        };
        let module = lower(&laid_out(&g), &options).unwrap().module.to_string();
        assert_eq!(module.contains("sparse2d_f32"), used, "{group} {one_of}");
        check(&g, &inputs(&g, 1));
    }
}
