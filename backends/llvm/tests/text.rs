//! A handful of small functions as the text that LLVM's passes start from.
#![cfg(feature = "llvm")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use sdc_ir::DType;
use sdc_ir::tile::{
    Affine, Arith2, Bound, Buffer, BufferData, BufferKind, FoldOp, FuncBuilder, Inst, KernelCall, Module, Ty,
    View,
};
use sdc_lower::{Options, Placement};

const F32X4: Ty = Ty::vector(DType::F32, 4);

/// A module of one function over an input and an output of 64 elements each.
fn text(dtypes: [DType; 2], cpu: &str, build: impl FnOnce(&mut FuncBuilder, [Buffer; 2])) -> String {
    let mut module = Module::default();
    let mut buffer = |dtype, kind| {
        module.buffers.push(BufferData {
            dtype,
            len: 64,
            kind,
            name: "b".into(),
        })
    };
    let buffers = [
        buffer(dtypes[0], BufferKind::Input(0)),
        buffer(dtypes[1], BufferKind::Output(0)),
    ];
    let mut b = FuncBuilder::new();
    build(&mut b, buffers);
    let func = b.finish("f", Vec::new());
    let placement = Placement {
        temps: vec![None; 2],
        consts: vec![None; 2],
        prepared: vec![None; 2],
        ..Placement::default()
    };
    let options = Options {
        name: "m".into(),
        cpu: sdc_lower::cpu::find(cpu).unwrap(),
        required_features: 0,
        weights_header: [0; 48],
        kernels: [("gemm_f32".to_owned(), "sdc_k_test".to_owned())].into(),
        prepare: None,
        profile: false,
    };
    sdc_llvm::text(&module, &func, &placement, &options).unwrap()
}

/// Compares without the numbers of attributes and of metadata, which say nothing.
fn assert_text(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r" #\d+", "");
    settings.add_filter(r" !\d+", "");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_product_summed_in_a_carried_vector() {
    let text = text([DType::F32; 2], "x86-64-v3", |b, [x, y]| {
        let zero = b.f32(4, 0.0);
        let sums = b.for_carried(0, 64, 4, &[zero], |b, i, sums| {
            let v = b.load(F32X4, x, i);
            vec![b.fma(v, v, sums[0])]
        });
        let sum = b.inst(Ty::scalar(DType::F32), Inst::Fold(FoldOp::Add, sums[0]));
        b.store(y, 0, sum);
    });
    assert_text("product", &text);
}

#[test]
fn bounds_are_maxima_and_minima() {
    let text = text([DType::I32; 2], "x86-64-v3", |b, [x, y]| {
        b.parallel_for(8, |b, row| {
            let lo = Bound::of(vec![Affine::from(0), row.clone() * -1 + 3]);
            let hi = Bound::of(vec![Affine::from(5), row.clone() * -1 + 9]);
            b.for_range(lo, hi, 1, |b, tap| {
                let v = b.load(Ty::scalar(DType::I32), x, row.clone() * 7 + tap.clone());
                b.store(y, row.clone() * 7 + tap, v);
            });
        });
    });
    assert_text("bounds", &text);
}

#[test]
fn integers_divide_shift_and_saturate() {
    let text = text([DType::F32, DType::I8], "x86-64", |b, [x, y]| {
        let v = b.load(Ty::scalar(DType::F32), x, 0);
        let v = b.convert(DType::I32, v);
        let seven = b.int(Ty::scalar(DType::I32), 7);
        let v = b.arith2(Arith2::Shr, v, seven);
        let v = b.arith2(Arith2::Div, seven, v);
        let v = b.arith2(Arith2::Max, v, seven);
        let v = b.convert(DType::I8, v);
        b.store(y, 3, v);
    });
    assert_text("integers", &text);
}

#[test]
fn half_floats_are_bits() {
    let text = text([DType::BF16; 2], "x86-64-v3", |b, [x, y]| {
        let ty = Ty::scalar(DType::BF16);
        let (v, w) = (b.load(ty, x, 0), b.load(ty, x, 1));
        let sum = b.add(v, w);
        b.store(y, 0, sum);
    });
    assert_text("half", &text);
}

#[test]
fn kernels_get_pointers_parameters_and_range() {
    let text = text([DType::F32; 2], "x86-64-v3", |b, [x, y]| {
        let view = |buffer, offset: i64| {
            Some(View {
                buffer,
                offset: offset.into(),
            })
        };
        b.kernel(KernelCall {
            kernel: "gemm_f32".into(),
            params: (0..14).collect(),
            operands: vec![view(x, 0), view(x, 8), None, None, view(y, 4)],
            begin: 0.into(),
            end: 3.into(),
        });
    });
    assert_text("kernel", &text);
}
