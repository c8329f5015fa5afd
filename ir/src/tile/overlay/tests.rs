use super::Accesses;
use crate::DType;
use crate::entity::EntityId;
use crate::registry;
use crate::tile::{Affine, Bound, Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Module, Ty, View};

/// Operands of a kernel call, or as many buffers as a test needs; the last is written.
fn module(buffers: usize, b: FuncBuilder) -> Module {
    let mut module = Module::default();
    for _ in 0..buffers {
        module.buffers.push(BufferData {
            dtype: DType::F32,
            len: 4096,
            kind: BufferKind::Temp,
            name: "b".to_owned(),
        });
    }
    module.funcs.push(b.finish("f", Vec::new()));
    module
}

/// Which buffers the last one may lie over.
fn allowed(module: &Module) -> Vec<bool> {
    let accesses = Accesses::of(module, &module.funcs[0], |_| true);
    let last = module.buffers.len() - 1;
    (0..last)
        .map(|i| accesses.may_lie_over(Buffer::new(last), Buffer::new(i)))
        .collect()
}

/// Chunks of vectors, and what remains: `B[i] = A[i + shift]`.
fn chunks(shift: i64) -> Module {
    let mut b = FuncBuilder::new();
    b.parallel_for(3, |b, c| {
        let lo = c * 16;
        let end = |limit: i64| Bound::of(vec![lo.clone() + 16, limit.into()]);
        let element = |b: &mut FuncBuilder, i: Affine, lanes: u8| {
            let x = b.load(Ty::vector(DType::F32, lanes), Buffer::new(0), i.clone() + shift);
            b.store(Buffer::new(1), i, x);
        };
        b.for_range(lo.clone(), end(40), 4, |b, i| element(b, i, 4));
        let rest = Bound::of(vec![lo.clone(), 40.into()]);
        b.for_range(rest, end(43), 1, |b, i| element(b, i, 1));
    });
    module(2, b)
}

#[test]
fn the_same_element_in_the_same_iteration_is_harmless() {
    assert_eq!(allowed(&chunks(0)), [true]);
    for shift in [1, 3, 4, 16] {
        assert_eq!(allowed(&chunks(shift)), [false], "{shift}");
    }
}

#[test]
fn an_address_known_at_run_time_only_is_anywhere() {
    let mut b = FuncBuilder::new();
    b.for_range(0, 8, 1, |b, i| {
        let offset = b.affine(0);
        let x = b.load_at(Ty::scalar(DType::F32), Buffer::new(0), i.clone(), offset);
        b.store(Buffer::new(1), i, x);
    });
    assert_eq!(allowed(&module(2, b)), [false]);
}

/// A call of a kernel on buffers in the order of its operands, all of them there.
fn call(kernel: &str, params: &[(&str, i64)], rows: i64) -> Module {
    let entry = registry::find(kernel).expect("a kernel of the registry");
    let of = |name: &&str| params.iter().find(|(n, _)| n == name).map_or(0, |(_, v)| *v);
    let mut b = FuncBuilder::new();
    let view = |i: usize| View {
        buffer: Buffer::new(i),
        offset: 0.into(),
    };
    b.kernel(KernelCall {
        kernel: kernel.to_owned(),
        params: entry.params.iter().map(of).collect(),
        operands: (0..entry.operands.len()).map(|i| Some(view(i))).collect(),
        begin: 0.into(),
        end: rows.into(),
    });
    module(entry.operands.len(), b)
}

/// A window of 3 by 3 over 8 by 8 pixels of 16 channels, with bias and residual.
const WINDOW: [(&str, i64); 22] = [
    ("in_h", 8),
    ("in_w", 8),
    ("out_w", 8),
    ("kh", 3),
    ("kw", 3),
    ("sh", 1),
    ("sw", 1),
    ("dh", 1),
    ("dw", 1),
    ("pt", 1),
    ("pl", 1),
    ("xs_h", 128),
    ("xs_w", 16),
    ("xs_c", 1),
    ("ys_h", 128),
    ("ys_w", 16),
    ("rs_h", 128),
    ("rs_w", 16),
    ("nr", 16),
    ("lanes", 8),
    ("has_bias", 1),
    ("has_residual", 1),
];

#[test]
fn what_a_window_reads_may_not_be_overwritten() {
    let conv = [&WINDOW[..], &[("in_c", 16), ("out_c", 16)]].concat();
    assert_eq!(allowed(&call("conv2d_f32", &conv, 8))[..3], [false; 3]);
    let depthwise = [&WINDOW[..], &[("channels", 16)]].concat();
    assert_eq!(allowed(&call("depthwise2d_f32", &depthwise, 8))[..3], [false; 3]);
}

/// A bias at the place of the first of four pixels: the body reads it before it writes any of them, but native code need not.
#[test]
fn what_other_elements_need_stays() {
    let row = [
        ("m", 4),
        ("n", 4),
        ("k", 1),
        ("as_m", 1),
        ("as_k", 1),
        ("cs_m", 4),
        ("rs_m", 4),
        ("nr", 4),
        ("lanes", 4),
        ("has_bias", 1),
        ("has_residual", 1),
    ];
    assert_eq!(allowed(&call("gemm_f32", &row, 1)), [false, false, false, true]);
}

#[test]
fn passes_over_a_row_may_work_in_place() {
    let rows = [("size", 36), ("xs_r", 36), ("ys_r", 36), ("epsilon", 0)];
    assert_eq!(allowed(&call("softmax_f32", &rows, 5)), [true]);
    assert_eq!(allowed(&call("layer_norm_f32", &rows, 5)), [true, false, false]);
    let wider = [("size", 36), ("xs_r", 36), ("ys_r", 37), ("epsilon", 0)];
    assert_eq!(allowed(&call("softmax_f32", &wider, 5)), [false]);
}
