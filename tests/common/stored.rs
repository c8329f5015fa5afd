//! Random compressed weights: any valid value serves to test how they travel.

use fastrand::Rng;
use sdc_frontend::proto::ModelProto;
use sdc_frontend::{ImportOptions, import_model};
use sdc_ir::graph::build::Rewrite;
use sdc_ir::graph::op::Rebuild;
use sdc_ir::graph::{Graph, Op, Value};
use sdc_ir::sd::{Axis, Decomposed, Format, Geometry, Index, Int8, Packing, Stored};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

/// The graph with the constant weights of all layers but one replaced by random compressed ones, of both kinds.
pub fn compress(graph: &Graph, seed: u64, but: Option<usize>) -> Graph {
    let mut rng = Rng::with_seed(seed);
    let mut chosen: BTreeMap<Value, Stored> = BTreeMap::new();
    let linear = |op: &Op| {
        matches!(
            op,
            Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) | Op::Recurrent(_)
        )
    };
    for (i, node) in graph.nodes().values().filter(|n| linear(&n.op)).enumerate() {
        let constant = node.inputs.get(1).filter(|&&v| graph.constant(v).is_some());
        let Some(&weight) = constant.filter(|_| but != Some(i)) else {
            continue;
        };
        let shape = graph.ty(weight).sizes();
        let geometry = match &node.op {
            Op::Conv(_) => Geometry::conv(shape, if rng.bool() { Axis::X } else { Axis::Y }),
            Op::ConvTranspose(_) => Geometry {
                shape: shape.to_vec(),
                filter_dims: vec![1],
                vector_dims: std::iter::once(0).chain(2..shape.len()).collect(),
            },
            Op::MatMul(_) | Op::Recurrent(_) => Geometry::matmul(shape),
            _ => continue,
        };
        let stored = if chosen.len() % 3 == 2 {
            int8(geometry, &mut rng)
        } else {
            sd(geometry, &mut rng)
        };
        chosen.insert(weight, stored);
    }
    let mut rewrite = Rewrite::new(graph);
    for (n, data) in graph.nodes().iter() {
        let Some(stored) = data.outputs.first().and_then(|v| chosen.remove(v)) else {
            rewrite.copy(n);
            continue;
        };
        let packed = stored.pack().unwrap();
        let packed = Tensor::from_elements(vec![packed.len()], packed).unwrap();
        let packed = rewrite.dst.add_constant(packed, data.origins.clone());
        let shape = stored.geometry().shape.clone();
        let value = rewrite.dst.add1(
            Op::Rebuild(Rebuild {
                shape,
                to: DType::F32,
            }),
            &[packed],
            data.origins.clone(),
        );
        rewrite.set(data.outputs[0], value.unwrap());
    }
    rewrite.finish()
}

fn scales(count: usize, rng: &mut Rng) -> Vec<f32> {
    // Powers of two are exact in either type.
    (0..count).map(|_| 2f32.powi(-rng.i32(7..10))).collect()
}

fn sd(geometry: Geometry, rng: &mut Rng) -> Stored {
    let format = Format {
        s: 3,
        r: 3,
        slice_rows: 8,
        alphabet: vec![1, 2, 4],
        packing: Packing::Nibble,
        basis_bits: 8,
        basis_filters: 1,
        scale: DType::F16,
        index: Index::None,
    };
    let (filters, rows) = (geometry.filters(), geometry.rows(format.s));
    let bases = geometry.basis_groups(&format) * geometry.slices(&format);
    Stored::Sd(Decomposed {
        codes: (0..filters * rows * format.r).map(|_| rng.i8(-3..=3)).collect(),
        kept: vec![true; filters * rows],
        bases: (0..bases * format.r * format.s).map(|_| rng.i8(..)).collect(),
        shifts: (0..bases).map(|_| rng.u8(2..5)).collect(),
        scales: scales(filters, rng),
        geometry,
        format,
    })
}

fn int8(geometry: Geometry, rng: &mut Rng) -> Stored {
    let filters = geometry.filters();
    Stored::Int8(Int8 {
        values: (0..filters * geometry.vector_len())
            .map(|_| rng.i8(-127..))
            .collect(),
        scale: DType::F32,
        scales: scales(filters, rng),
        geometry,
    })
}

/// The rebuilt weights of an imported graph.
pub fn dense(graph: &Graph) -> Vec<Vec<f32>> {
    let nodes = graph.nodes().values().filter(|n| matches!(n.op, Op::Rebuild(_)));
    nodes
        .map(|n| {
            let packed = graph.constant(n.inputs[0]).unwrap();
            let dense = Stored::unpack(packed.bytes()).unwrap().dequantised().unwrap();
            dense.elements::<f32>().unwrap().into_owned()
        })
        .collect()
}

/// The weights of a model, as [`dense`] gives them.
pub fn expected(model: &ModelProto) -> Vec<Vec<f32>> {
    dense(
        &import_model(model.clone(), &ImportOptions::default())
            .unwrap()
            .graph,
    )
}

/// An input for each of a graph's inputs.
pub fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut rng = Rng::with_seed(seed);
    let mut tensor = |shape: &[usize]| {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| rng.f32() - 0.5).collect();
        Tensor::from_elements(shape.to_vec(), values).unwrap()
    };
    graph
        .inputs
        .iter()
        .map(|p| tensor(graph.ty(p.value).sizes()))
        .collect()
}
