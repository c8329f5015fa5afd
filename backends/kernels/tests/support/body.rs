//! What the registry's body of a kernel says.

use sdc_interp::tile::run_tile;
use sdc_ir::graph::Origin;
use sdc_ir::tile::{BufferData, BufferKind, FuncBuilder, KernelCall, Module, View};
use sdc_ir::{DType, registry, tile};

/// An operand: its buffer's bytes, and the element that the view begins at. One without bytes is absent.
pub struct Operand<'a> {
    pub dtype: DType,
    pub bytes: &'a [u8],
    pub base: usize,
}

/// The bytes of the last operand's buffer after rows `0..rows`; zero where the body writes nothing.
pub fn result(kernel: &str, params: &[i64], operands: &[Operand<'_>], rows: i64) -> Vec<u8> {
    let entry = registry::find(kernel).unwrap();
    assert_eq!(entry.bad_params(params), None);
    let mut module = Module {
        name: "case".into(),
        ..Module::default()
    };
    let mut inputs: Vec<&[u8]> = Vec::new();
    let mut views = Vec::new();
    for (i, operand) in operands.iter().enumerate() {
        if operand.bytes.is_empty() {
            views.push(None);
            continue;
        }
        let kind = if i + 1 == operands.len() {
            BufferKind::Output(0)
        } else if entry.operands[i].role == registry::Role::Write {
            BufferKind::Temp
        } else {
            inputs.push(operand.bytes);
            BufferKind::Input(inputs.len() - 1)
        };
        let buffer = module.buffers.push(BufferData {
            dtype: operand.dtype,
            len: operand.bytes.len() / operand.dtype.size(),
            kind,
            name: "operand".into(),
        });
        let offset = (operand.base as i64).into();
        views.push(Some(View { buffer, offset }));
    }
    let mut b = FuncBuilder::new();
    b.kernel(KernelCall {
        kernel: kernel.into(),
        params: params.to_vec(),
        operands: views,
        begin: 0.into(),
        end: rows.into(),
    });
    let origin = Origin {
        name: "case".into(),
        op: "Case".into(),
        index: 0,
    };
    module.funcs.push(b.finish("f0", vec![origin]));
    assert_eq!(tile::verify::verify(&module), Vec::new());
    module.funcs[0] = registry::expand(&module.funcs[0], |_| true);
    assert_eq!(tile::verify::verify(&module), Vec::new());
    // What tables say cannot be proved.
    let unproven = tile::verify::unproven(&module).into_iter();
    let unproven: Vec<_> = unproven
        .filter(|f| !f.message.ends_with("a run-time offset"))
        .collect();
    assert_eq!(unproven, Vec::new());
    run_tile(&module, &inputs).unwrap().remove(0)
}
