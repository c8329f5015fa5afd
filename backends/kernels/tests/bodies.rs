//! The registry's kernel bodies, run by the tile interpreter, against plain loops; and the registry's entries against
//! the kernels' own description.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use proptest::prelude::*;
use sdc_interp::tile::run_tile;
use sdc_ir::registry;
use sdc_ir::tile::{Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Module, Ty, View};
use sdc_ir::{DType, tile};
use support::case::{self, BASE, Case};

/// A module that copies input 4 to the output and calls the kernel on it.
fn module(case: &Case, nr: usize, operands: &[Vec<f32>; 5], params: Vec<i64>) -> Module {
    let mut module = Module {
        name: "case".into(),
        ..Module::default()
    };
    let mut buffer = |name: &str, len: usize, kind| {
        module.buffers.push(BufferData {
            dtype: DType::F32,
            len,
            kind,
            name: name.into(),
        })
    };
    let inputs: Vec<Buffer> = operands
        .iter()
        .enumerate()
        .map(|(i, o)| buffer("operand", o.len(), BufferKind::Input(i)))
        .collect();
    let y = buffer("y", operands[4].len(), BufferKind::Output(0));

    let mut b = FuncBuilder::new();
    b.for_range(0, operands[4].len(), 1, |b, i| {
        let value = b.load(Ty::scalar(DType::F32), inputs[4], i.clone());
        b.store(y, i, value);
    });
    let view = |buffer| {
        Some(View {
            buffer,
            offset: BASE.into(),
        })
    };
    let residual = if case.in_place { y } else { inputs[3] };
    let flag = |name: &str| {
        let kernel = registry::find(case.kernel).unwrap();
        params[kernel.params.iter().position(|&n| n == name).unwrap()] != 0
    };
    let (begin, end) = case.range_for(nr);
    let call = KernelCall {
        kernel: case.kernel.into(),
        operands: vec![
            view(inputs[0]),
            view(inputs[1]),
            view(inputs[2]).filter(|_| flag("has_bias")),
            view(residual).filter(|_| flag("has_residual")),
            view(y),
        ],
        params,
        begin: begin.into(),
        end: end.into(),
    };
    b.kernel(call);
    let origin = sdc_ir::graph::Origin {
        name: "node".into(),
        op: "Conv".into(),
        index: 0,
    };
    module.funcs.push(b.finish("f", vec![origin]));
    module
}

fn check(case: &Case, (nr, lanes): (usize, usize)) -> Result<(), TestCaseError> {
    let (operands, params) = case.packed(nr, lanes);
    let mut module = module(case, nr, &operands, params);
    let bytes: Vec<Vec<u8>> = operands
        .iter()
        .map(|o| o.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let inputs: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    // Once as a call and once expanded: the expansion is what backends compile.
    for expand in [false, true] {
        if expand {
            module.funcs[0] = registry::expand(&module.funcs[0], |_| true);
            prop_assert!(
                !module.funcs[0]
                    .body
                    .iter()
                    .any(|s| matches!(s, tile::Stmt::Kernel(_)))
            );
        }
        let faults: Vec<String> = tile::verify::verify(&module)
            .iter()
            .chain(&tile::verify::unproven(&module))
            .map(ToString::to_string)
            .collect();
        prop_assert!(faults.is_empty(), "{faults:?}");
        let out = run_tile(&module, &inputs).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let y: Vec<f32> = out[0]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        case.check(&y)?;
    }
    Ok(())
}

/// Packings: each instance's, and one whose vectors are narrower than the bodies'.
fn packing() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![Just((64, 16)), Just((16, 8)), Just((8, 4)), Just((6, 2))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn conv2d(case in case::conv2d(), packing in packing()) {
        check(&case, packing)?;
    }

    #[test]
    fn gemm(case in case::gemm(), packing in packing()) {
        check(&case, packing)?;
    }

    #[test]
    fn depthwise2d(case in case::depthwise2d()) {
        check(&case, (8, 4))?;
    }
}

#[test]
fn the_registry_and_the_kernels_agree_on_names() {
    for ours in sdc_kernels::KERNELS {
        let theirs = registry::find(ours.name).unwrap();
        assert_eq!(theirs.params, ours.params, "{}", ours.name);
        assert_eq!(
            theirs.operands.iter().map(|o| o.name).collect::<Vec<_>>(),
            ours.operands,
            "{}",
            ours.name
        );
    }
    let names: Vec<&str> = sdc_kernels::KERNELS.iter().map(|k| k.name).collect();
    assert_eq!(
        names,
        registry::KERNELS.iter().map(|k| k.name).collect::<Vec<_>>()
    );
}
