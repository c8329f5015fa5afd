//! The tile interpreter on hand-built functions.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;
use sdc_interp::tile::TileError;
use sdc_interp::{EvalError, TileOptions, run_tile, run_tile_planned, run_tile_with};
use sdc_ir::entity::EntityId;
use sdc_ir::tile::*;
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

const F32: Ty = Ty::scalar(DType::F32);
const F32X4: Ty = Ty::vector(DType::F32, 4);
const I64: Ty = Ty::scalar(DType::I64);

/// A module with one buffer per `(dtype, len, kind)`.
fn module(buffers: &[(DType, usize, BufferKind)]) -> (Module, Vec<Buffer>) {
    let mut m = Module::default();
    let ids = buffers
        .iter()
        .enumerate()
        .map(|(i, (dtype, len, kind))| {
            m.buffers.push(BufferData {
                dtype: *dtype,
                len: *len,
                kind: kind.clone(),
                name: format!("b{i}"),
            })
        })
        .collect();
    (m, ids)
}

fn add(m: &mut Module, name: &str, body: impl FnOnce(&mut FuncBuilder)) {
    let mut b = FuncBuilder::new();
    body(&mut b);
    m.funcs.push(b.finish(name, Vec::new()));
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(x: &[u8]) -> Vec<f32> {
    x.chunks_exact(4)
        .map(|c| f32::from_le_bytes(c.try_into().unwrap()))
        .collect()
}

fn tile_error(result: Result<Vec<Vec<u8>>, EvalError>) -> TileError {
    match result.unwrap_err() {
        EvalError::Tile(e) => e,
        other => panic!("{other}"),
    }
}

/// One value of type `ty`, computed from nothing, as it is stored.
fn value(ty: Ty, body: impl FnOnce(&mut FuncBuilder) -> Val) -> Vec<u8> {
    let (mut m, b) = module(&[(ty.dtype, ty.lanes.into(), BufferKind::Output(0))]);
    add(&mut m, "f", |f| {
        let v = body(f);
        f.store(b[0], 0, v);
    });
    run_tile(&m, &[]).unwrap().remove(0)
}

/// A constant from the bits of one lane.
fn lane(f: &mut FuncBuilder, dtype: DType, bits: u64) -> Val {
    f.inst(Ty::scalar(dtype), Inst::Const(bits))
}

fn binary(op: Arith2, dtype: DType, a: u64, b: u64) -> u64 {
    let out = value(Ty::scalar(dtype), |f| {
        let (a, b) = (lane(f, dtype, a), lane(f, dtype, b));
        f.arith2(op, a, b)
    });
    let mut bits = [0; 8];
    bits[..out.len()].copy_from_slice(&out);
    u64::from_le_bytes(bits)
}

fn convert(from: DType, to: DType, bits: u64) -> Vec<u8> {
    value(Ty::scalar(to), |f| {
        let x = lane(f, from, bits);
        f.convert(to, x)
    })
}

#[test]
fn vectors_scale_and_add() {
    let (mut m, b) = module(&[
        (DType::F32, 8, BufferKind::Input(0)),
        (DType::F32, 1, BufferKind::Input(1)),
        (DType::F32, 8, BufferKind::Output(0)),
    ]);
    add(&mut m, "axpy", |f| {
        let scale = f.load_splat(F32X4, b[1], 0);
        let one = f.f32(4, 1.0);
        f.for_range(0, 8, 4, |f, i| {
            let x = f.load(F32X4, b[0], i.clone());
            let y = f.fma(x, scale, one);
            f.store(b[2], i, y);
        });
    });
    let x: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let y = run_tile(&m, &[&bytes(&x), &bytes(&[10.0])]).unwrap();
    assert_eq!(floats(&y[0]), [1.0, 11.0, 21.0, 31.0, 41.0, 51.0, 61.0, 71.0]);
}

#[test]
fn loops_carry_values_simultaneously() {
    // Fibonacci: (a, b) becomes (b, a + b).
    let (mut m, b) = module(&[(DType::I64, 2, BufferKind::Output(0))]);
    add(&mut m, "fibonacci", |f| {
        let (zero, one) = (f.int(I64, 0), f.int(I64, 1));
        let last = f.for_carried(0, 10, 1, &[zero, one], |f, _, c| vec![c[1], f.add(c[0], c[1])]);
        f.store(b[0], 0, last[0]);
        f.store(b[0], 1, last[1]);
    });
    let y = run_tile(&m, &[]).unwrap();
    assert_eq!(y[0], [55i64.to_le_bytes(), 89i64.to_le_bytes()].concat());
}

#[test]
fn a_loop_that_does_not_run_keeps_the_initial_value() {
    let out = value(F32, |f| {
        let init = f.f32(1, 7.0);
        f.for_carried(3, 3, 1, &[init], |f, _, c| vec![f.add(c[0], c[0])])[0]
    });
    assert_eq!(floats(&out), [7.0]);
}

#[test]
fn bounds_are_the_maximum_below_and_the_minimum_above() {
    // y[i] sums x[i-1..=i+1] inside the array: the border needs no branch.
    let (mut m, b) = module(&[
        (DType::F32, 4, BufferKind::Input(0)),
        (DType::F32, 4, BufferKind::Output(0)),
    ]);
    add(&mut m, "window", |f| {
        f.for_range(0, 4, 1, |f, i| {
            let lo = Bound::of(vec![0.into(), i.clone() - 1]);
            let hi = Bound::of(vec![4.into(), i.clone() + 2]);
            let zero = f.f32(1, 0.0);
            let sum = f.for_carried(lo, hi, 1, &[zero], |f, k, c| {
                let x = f.load(F32, b[0], k);
                vec![f.add(c[0], x)]
            });
            f.store(b[1], i, sum[0]);
        });
    });
    let y = run_tile(&m, &[&bytes(&[1.0, 2.0, 4.0, 8.0])]).unwrap();
    assert_eq!(floats(&y[0]), [3.0, 7.0, 14.0, 12.0]);
}

#[test]
fn gathers_use_run_time_offsets() {
    let (mut m, b) = module(&[
        (DType::U8, 3, BufferKind::Input(0)),
        (DType::F32, 4, BufferKind::Input(1)),
        (DType::F32, 3, BufferKind::Output(0)),
    ]);
    add(&mut m, "gather", |f| {
        f.for_range(0, 3, 1, |f, i| {
            let index = f.load(Ty::scalar(DType::U8), b[0], i.clone());
            let index = f.convert(DType::I64, index);
            let x = f.load_at(F32, b[1], 0, index);
            f.store(b[2], i, x);
        });
    });
    let table = bytes(&[10.0, 20.0, 30.0, 40.0]);
    assert_eq!(
        floats(&run_tile(&m, &[&[3, 0, 2], &table]).unwrap()[0]),
        [40.0, 10.0, 30.0]
    );
    let error = tile_error(run_tile(&m, &[&[3, 4, 2], &table]));
    let TileError::OutOfBounds {
        func,
        buffer,
        index,
        len,
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((func.as_str(), buffer, index, len), ("gather", b[1], 4, 4));
}

#[test]
fn float_extrema_pick_the_second_operand_for_nan() {
    let bits = |x: f32| u64::from(x.to_bits());
    let max = |a, b| f32::from_bits(binary(Arith2::Max, DType::F32, bits(a), bits(b)) as u32);
    assert_eq!(max(f32::NAN, 1.0), 1.0);
    assert!(max(1.0, f32::NAN).is_nan());
    assert_eq!(max(-2.0, 3.0), 3.0);
    let min = |a, b| f32::from_bits(binary(Arith2::Min, DType::F32, bits(a), bits(b)) as u32);
    assert_eq!(min(f32::NAN, 1.0), 1.0);
    // Not less, so the second.
    assert!(min(0.0, -0.0).is_sign_negative());
}

#[test]
fn integer_arithmetic_wraps_and_division_is_total() {
    use Arith2::*;
    assert_eq!(binary(Add, DType::I32, 0x7FFF_FFFF, 1), 0x8000_0000);
    assert_eq!(binary(Mul, DType::U8, 200, 2), 144);
    assert_eq!(binary(Div, DType::I32, 0xFFFF_FFF9, 2), 0xFFFF_FFFD);
    assert_eq!(binary(Div, DType::I64, 5, 0), 0);
    assert_eq!(binary(Div, DType::I8, 0x80, 0xFF), 0x80);
    assert_eq!(binary(Max, DType::I8, 0x80, 1), 1);
    assert_eq!(binary(Max, DType::U8, 0x80, 1), 0x80);
    assert_eq!(binary(Shl, DType::I32, 1, 33), 2);
    assert_eq!(binary(Shr, DType::I32, 0x8000_0000, 31), 0xFFFF_FFFF);
    assert_eq!(binary(Shr, DType::U32, 0x8000_0000, 31), 1);
    assert_eq!(binary(Xor, DType::Bool, 1, 1), 0);
}

#[test]
fn conversions() {
    let f = |x: f32| u64::from(x.to_bits());
    assert_eq!(convert(DType::F32, DType::I8, f(-200.7)), (-128i8).to_le_bytes());
    assert_eq!(convert(DType::F32, DType::I32, f(-1.9)), (-1i32).to_le_bytes());
    assert_eq!(convert(DType::F32, DType::U8, f(f32::NAN)), [0]);
    assert_eq!(convert(DType::F32, DType::Bool, f(0.5)), [1]);
    assert_eq!(convert(DType::F32, DType::Bool, f(-0.0)), [0]);
    assert_eq!(convert(DType::I32, DType::U8, 0x1FF), [0xFF]);
    assert_eq!(convert(DType::I8, DType::F32, 0xFF), (-1f32).to_le_bytes());
    assert_eq!(convert(DType::Bool, DType::I64, 1), 1i64.to_le_bytes());
    assert_eq!(convert(DType::F16, DType::F32, 0x3C00), 1f32.to_le_bytes());
    let bits = value(Ty::scalar(DType::I32), |b| {
        let x = b.f32(1, 1.0);
        b.bitcast(DType::I32, x)
    });
    assert_eq!(bits, 0x3F80_0000u32.to_le_bytes());
}

#[test]
fn masks_select_per_lane() {
    let (mut m, b) = module(&[
        (DType::F32, 4, BufferKind::Input(0)),
        (DType::F32, 4, BufferKind::Output(0)),
    ]);
    add(&mut m, "relu", |f| {
        let x = f.load(F32X4, b[0], 0);
        let zero = f.f32(4, 0.0);
        let mask = f.compare(CompareOp::Gt, x, zero);
        let y = f.select(mask, x, zero);
        f.store(b[1], 0, y);
    });
    let y = run_tile(&m, &[&bytes(&[-1.0, 2.0, f32::NAN, 0.5])]).unwrap();
    assert_eq!(floats(&y[0]), [0.0, 2.0, 0.0, 0.5]);
    let mask = value(Ty::scalar(DType::I32), |f| {
        let nan = f.f32(1, f32::NAN);
        f.compare(CompareOp::Ne, nan, nan)
    });
    assert_eq!(mask, [0xFF; 4]);
}

#[test]
fn folds_are_pairwise() {
    // (1e8 + -1e8) + (1 + 1) is 2; from left to right it would be 1.
    let (mut m, b) = module(&[
        (DType::F32, 4, BufferKind::Input(0)),
        (DType::F32, 2, BufferKind::Output(0)),
    ]);
    add(&mut m, "fold", |f| {
        let x = f.load(F32X4, b[0], 0);
        let sum = f.fold(FoldOp::Add, x);
        f.store(b[1], 0, sum);
        let third = f.inst(F32, Inst::Lane(x, 2));
        f.store(b[1], 1, third);
    });
    let y = run_tile(&m, &[&bytes(&[1e8, 1.0, -1e8, 1.0])]).unwrap();
    assert_eq!(floats(&y[0]), [2.0, -1e8]);
}

#[test]
fn unwritten_memory_reads_as_nan() {
    let (mut m, b) = module(&[
        (DType::F32, 1, BufferKind::Temp),
        (DType::F32, 2, BufferKind::Output(0)),
    ]);
    add(&mut m, "leak", |f| {
        let x = f.load(F32, b[0], 0);
        f.store(b[1], 0, x);
    });
    let y = floats(&run_tile(&m, &[]).unwrap()[0]);
    assert!(y[0].is_nan() && y[1].is_nan());
}

#[test]
fn constants_come_from_the_weights() {
    let mut m = Module::default();
    let w = m
        .weights
        .add(Tensor::from_elements(vec![2], vec![3.0f32, 4.0]).unwrap());
    let data = |kind, name: &str| BufferData {
        dtype: DType::F32,
        len: 2,
        kind,
        name: name.to_owned(),
    };
    let c = m.buffers.push(data(BufferKind::Const(w), "w"));
    let y = m.buffers.push(data(BufferKind::Output(0), "y"));
    add(&mut m, "copy", |f| {
        let x = f.load(Ty::vector(DType::F32, 2), c, 0);
        f.store(y, 0, x);
    });
    assert_eq!(floats(&run_tile(&m, &[]).unwrap()[0]), [3.0, 4.0]);
    let mut longer = m.clone();
    longer.buffers[c].len = 3;
    assert!(matches!(
        tile_error(run_tile(&longer, &[])),
        TileError::Buffer { .. }
    ));
    add(&mut m, "overwrite", |f| {
        let x = f.f32(1, 0.0);
        f.store(c, 0, x);
    });
    let error = tile_error(run_tile(&m, &[]));
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[test]
fn reverse_order_shows_dependent_iterations() {
    // A running sum wrongly marked parallel, beside an independent loop.
    let (mut m, b) = module(&[
        (DType::F32, 4, BufferKind::Output(0)),
        (DType::F32, 4, BufferKind::Output(1)),
    ]);
    add(&mut m, "independent", |f| {
        f.parallel_for(4, |f, i| {
            let v = f.affine(i.clone());
            let v = f.convert(DType::F32, v);
            f.store(b[0], i, v);
        });
    });
    add(&mut m, "dependent", |f| {
        let zero = f.f32(4, 0.0);
        f.store(b[1], 0, zero);
        f.parallel_for(3, |f, i| {
            let previous = f.load(F32, b[1], i.clone());
            let one = f.f32(1, 1.0);
            let v = f.add(previous, one);
            f.store(b[1], i + 1, v);
        });
    });
    let forward = run_tile(&m, &[]).unwrap();
    let backward = run_tile_with(
        &m,
        &[],
        TileOptions {
            reverse_parallel: true,
        },
    )
    .unwrap();
    assert_eq!(forward[0], backward[0]);
    assert_eq!(floats(&forward[1]), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(floats(&backward[1]), [0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn kernel_calls_run_the_kernels_body() {
    let (mut m, b) = module(&[
        (DType::F32, 4, BufferKind::Input(0)),
        (DType::F32, 8, BufferKind::Input(1)),
        (DType::F32, 6, BufferKind::Output(0)),
    ]);
    add(&mut m, "gemm", |f| {
        let view = |b| {
            Some(View {
                buffer: b,
                offset: 0.into(),
            })
        };
        f.kernel(KernelCall {
            kernel: "gemm_f32".into(),
            // m, n, k, as_m, as_k, cs_m, rs_m, nr, lanes, has_bias, has_residual, act, act_a, act_b
            params: vec![2, 3, 2, 2, 1, 3, 0, 4, 4, 0, 0, 0, 0, 0],
            operands: vec![view(b[0]), view(b[1]), None, None, view(b[2])],
            begin: 0.into(),
            end: 1.into(),
        });
    });
    // The second operand is packed: rows of nr columns, the last one padding.
    let a = bytes(&[1.0, 2.0, 3.0, 4.0]);
    let w = bytes(&[1.0, 2.0, 3.0, 0.0, 10.0, 20.0, 30.0, 0.0]);
    let y = run_tile(&m, &[&a, &w]).unwrap();
    assert_eq!(floats(&y[0]), [21.0, 42.0, 63.0, 43.0, 86.0, 129.0]);

    let Some(Stmt::Kernel(call)) = m.funcs[0].body.first_mut() else {
        panic!("a kernel call")
    };
    call.kernel = "no_such_kernel".into();
    let error = tile_error(run_tile(&m, &[&a, &w]));
    assert!(error.to_string().contains("no_such_kernel"), "{error}");
}

/// `temps` buffers of four elements; the first is filled with ones, each next one with the sum of its predecessor and 1,
/// and the output is the sum of the first and the last.
fn chain(temps: usize) -> (Module, Vec<Buffer>) {
    let mut buffers = vec![(DType::F32, 4, BufferKind::Temp); temps];
    buffers.push((DType::F32, 4, BufferKind::Output(0)));
    let (mut m, b) = module(&buffers);
    add(&mut m, "first", |f| {
        let one = f.f32(4, 1.0);
        f.store(b[0], 0, one);
    });
    for k in 1..temps {
        add(&mut m, &format!("step{k}"), |f| {
            let x = f.load(F32X4, b[k - 1], 0);
            let one = f.f32(4, 1.0);
            let y = f.add(x, one);
            f.store(b[k], 0, y);
        });
    }
    add(&mut m, "last", |f| {
        let (x, y) = (f.load(F32X4, b[0], 0), f.load(F32X4, b[temps - 1], 0));
        let sum = f.add(x, y);
        f.store(b[temps], 0, sum);
    });
    (m, b)
}

fn planned(m: &Module, b: &[Buffer], offsets: &[usize], size: usize) -> Result<Vec<Vec<u8>>, EvalError> {
    let offsets: BTreeMap<Buffer, usize> = b.iter().copied().zip(offsets.iter().copied()).collect();
    run_tile_planned(m, &[], &offsets, size, TileOptions::default())
}

#[test]
fn a_good_plan_changes_nothing_and_a_bad_one_shows() {
    let (m, b) = chain(3);
    let free = run_tile(&m, &[]).unwrap();
    assert_eq!(floats(&free[0]), [4.0; 4]);
    // The third buffer may take the place of the second (in place), but not of the first, which is still needed.
    assert_eq!(planned(&m, &b, &[0, 16, 16], 32).unwrap(), free);
    assert_eq!(floats(&planned(&m, &b, &[0, 16, 0], 32).unwrap()[0]), [6.0; 4]);
    let error = tile_error(planned(&m, &b, &[0, 16, 20], 32));
    assert!(error.to_string().contains("exceed the arena"), "{error}");
    // What no function touches needs no place.
    let mut more = m.clone();
    more.buffers.push(BufferData {
        dtype: DType::F32,
        len: 4,
        kind: BufferKind::Temp,
        name: "untouched".into(),
    });
    assert_eq!(planned(&more, &b[..3], &[0, 16, 16], 32).unwrap(), free);
    let error = tile_error(planned(&m, &b, &[0, 16], 32));
    assert!(error.to_string().contains("no offset"), "{error}");
}

#[test]
fn wrong_inputs_and_outputs_are_errors() {
    let (mut m, b) = module(&[
        (DType::F32, 2, BufferKind::Input(0)),
        (DType::F32, 2, BufferKind::Output(1)),
    ]);
    add(&mut m, "f", |f| {
        let x = f.load(F32, b[0], 0);
        f.store(b[1], 0, x);
    });
    assert!(matches!(
        tile_error(run_tile(&m, &[])),
        TileError::InputCount {
            expected: 1,
            actual: 0
        }
    ));
    let short = TileError::InputLength {
        position: 0,
        expected: 8,
        actual: 7,
    };
    assert_eq!(tile_error(run_tile(&m, &[&[0; 7]])), short);
    assert_eq!(tile_error(run_tile(&m, &[&[0; 8]])), TileError::Output(0));
}

type Body = Box<dyn Fn(&mut FuncBuilder, &[Buffer])>;

#[test]
fn malformed_functions_are_errors() {
    let cases: Vec<(&str, Body)> = vec![
        (
            "not f32x4",
            Box::new(|f, _| {
                let (a, b) = (f.f32(4, 1.0), f.f32(1, 1.0));
                f.add(a, b);
            }),
        ),
        (
            "before it is defined",
            Box::new(|f, b| {
                let v = f.fresh_val(F32);
                f.store(b[0], 0, v);
            }),
        ),
        (
            "holds f32",
            Box::new(|f, b| {
                f.load(I64, b[0], 0);
            }),
        ),
        (
            "sqrt is not defined for i64",
            Box::new(|f, _| {
                let x = f.int(I64, 4);
                f.arith1(Arith1::Sqrt, x);
            }),
        ),
        (
            "there is no buffer",
            Box::new(|f, _| {
                f.load(F32, Buffer::new(9), 0);
            }),
        ),
        (
            "does not exist",
            Box::new(|f, b| {
                f.load(F32, b[0], Affine::term(Var::new(5), 1));
            }),
        ),
        ("the step", Box::new(|f, _| f.for_range(0, 4, 0, |_, _| {}))),
        (
            "nested deeper",
            Box::new(|f, _| {
                fn nest(f: &mut FuncBuilder, depth: usize) {
                    if depth > 0 {
                        f.for_range(0, 1, 1, |f, _| nest(f, depth - 1));
                    }
                }
                nest(f, 200);
            }),
        ),
    ];
    for (what, body) in cases {
        let (mut m, b) = module(&[(DType::F32, 4, BufferKind::Output(0))]);
        add(&mut m, "bad", |f| body(f, &b));
        let error = tile_error(run_tile(&m, &[]));
        assert!(matches!(error, TileError::Malformed { .. }), "{error}");
        assert!(
            error.to_string().contains(what) && error.to_string().contains("bad"),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn strided_copies_touch_what_the_index_says(
        rows in 1usize..5, columns in 1usize..5, step in 1i64..4, offset in 0i64..3, reverse: bool,
    ) {
        // y[i*columns + j] = x[i*columns*step + j*step + offset], out of bounds exactly if the last index is.
        let len = 40usize;
        let (mut m, b) = module(&[
            (DType::F32, len, BufferKind::Input(0)),
            (DType::F32, rows * columns, BufferKind::Output(0)),
        ]);
        add(&mut m, "copy", |f| {
            f.parallel_for(rows, |f, i| {
                f.for_range(0, columns, 1, |f, j| {
                    let from = i.clone() * (columns as i64 * step) + j.clone() * step + offset;
                    let x = f.load(F32, b[0], from);
                    f.store(b[1], i.clone() * columns as i64 + j, x);
                });
            });
        });
        let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let result = run_tile_with(&m, &[&bytes(&x)], TileOptions { reverse_parallel: reverse });
        let index = |k: i64| k * step + offset;
        let total = (rows * columns) as i64;
        if index(total - 1) < len as i64 {
            let expected: Vec<f32> = (0..total).map(|k| index(k) as f32).collect();
            prop_assert_eq!(floats(&result.unwrap()[0]), expected);
        } else {
            let is_bounds = matches!(tile_error(result), TileError::OutOfBounds { .. });
            prop_assert!(is_bounds);
        }
    }
}
