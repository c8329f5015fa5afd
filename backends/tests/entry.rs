//! The entry points: sizes, prepare, parallel tasks, kernel calls, errors.
#![allow(unsafe_code, reason = "stands in for kernels and callers")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use crate::backend::{self, VARIANTS};
use crate::common::{self, Maker, Native, ParallelFor, define, options, place};
use sdc_ir::DType;
use sdc_ir::tile::{Affine, Arith2, Bound, KernelCall, Module, Ty, View};
use sdc_lower::cpu::{self, supported};
use sdc_lower::{CompiledObject, Error, Options, Placement};
use std::ffi::c_void;
use std::sync::Mutex;

const F32X4: Ty = Ty::vector(DType::F32, 4);

fn compile(module: &Module, placement: &Placement, options: &Options) -> Result<CompiledObject, Error> {
    backend::compile(module, placement, options, VARIANTS[0])
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// `y = (x + c) * c` in two functions, the second parallel.
fn model() -> Maker {
    let mut make = Maker::default();
    let (x, y) = (make.input(DType::F32, 64), make.output(DType::F32, 64));
    let c = make.constant(DType::F32, floats((0..64).map(|i| i as f32)));
    let t = make.temp(DType::F32, 64);
    make.func(|b| {
        b.for_range(0, 64, 4, |b, i| {
            let (p, q) = (b.load(F32X4, x, i.clone()), b.load(F32X4, c, i.clone()));
            let sum = b.add(p, q);
            b.store(t, i, sum);
        });
    });
    make.func(|b| {
        b.parallel_for(16, |b, i| {
            let (p, q) = (b.load(F32X4, t, i.clone() * 4), b.load(F32X4, c, i.clone() * 4));
            let product = b.arith2(Arith2::Mul, p, q);
            b.store(y, i * 4, product);
        });
    });
    make
}

extern "C" fn backwards(
    this: *const ParallelFor,
    count: usize,
    task: extern "C" fn(*mut c_void, usize),
    frame: *mut c_void,
) {
    assert!(!this.is_null());
    assert_eq!(count, 16);
    for index in (0..count).rev() {
        task(frame, index);
    }
}

#[test]
fn a_model_runs_serially_and_in_parallel() {
    let make = model();
    for cpu in common::cpus() {
        let native = Native::new(&make.module, &options(&cpu), VARIANTS[0]);
        let input = floats((0..64).map(|i| 0.5 * i as f32));
        let expected = vec![floats((0..64).map(|i| 1.5 * i as f32 * i as f32))];
        assert_eq!(native.run(&[&input], None), expected);
        let parallel_for = ParallelFor { call: backwards };
        assert_eq!(native.run(&[&input], Some(&parallel_for)), expected);
    }
}

#[test]
fn sizes_and_prepare() {
    let native = Native::new(&model().module, &options(&supported()[0]), VARIANTS[0]);
    let sizes = [
        "arena_size",
        "arena_align",
        "weights_size",
        "prepared_size",
        "input_count",
        "output_count",
    ];
    assert_eq!(sizes.map(|s| native.size(s)), [256, 64, 64 + 256, 0, 1, 1]);
    // The stub has seen the header, and returns the features asked for.
    assert_eq!(native.prepare(), 5);
}

#[test]
fn compilation_is_deterministic() {
    let make = model();
    let bytes = || {
        let compiled = compile(&make.module, &place(&make.module), &options(&supported()[2])).unwrap();
        compiled.object.write().unwrap()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn only_kernels_are_undefined() {
    let compiled = compile(
        &model().module,
        &place(&model().module),
        &options(&supported()[0]),
    )
    .unwrap();
    assert_eq!(compiled.kernels, ["sdc_k_v1_prepare"]);
    assert_eq!(
        compiled.functions.iter().map(|f| f.tasks).collect::<Vec<_>>(),
        [1, 16]
    );
    assert!(compiled.functions.iter().all(|f| f.code_size > 0));
}

#[test]
fn equal_functions_are_compiled_once() {
    let mut twice = model().module;
    let mut again = twice.funcs.clone();
    again.iter_mut().for_each(|f| f.name += "_again");
    twice.funcs.extend(again);
    let compiled = compile(&twice, &place(&twice), &options(&supported()[0])).unwrap();
    let symbols: Vec<&str> = compiled.functions.iter().map(|f| &f.symbol[..]).collect();
    let [first, second, ..] = symbols[..] else {
        panic!("{symbols:?}");
    };
    assert_eq!(symbols, [first, second, first, second]);
    assert_ne!(first, second);
}

/// What a kernel was called with: operands read at their first element, and everything else.
type Seen = (Vec<Option<f32>>, Vec<i64>, i64, i64);
static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

unsafe extern "C" fn kernel(operands: *const *const f32, params: *const i64, begin: i64, end: i64) {
    let mut seen = SEEN.lock().unwrap();
    // SAFETY: `gemm_f32` has 5 operands and 14 parameters.
    let (operands, params) = unsafe {
        let operands = std::slice::from_raw_parts(operands, 5);
        let operands = operands.iter().map(|p| (!p.is_null()).then(|| **p)).collect();
        (operands, std::slice::from_raw_parts(params, 14).to_vec())
    };
    seen.push((operands, params, begin, end));
}

#[test]
fn kernels_are_called_with_pointers_parameters_and_range() {
    let mut make = Maker::default();
    let a = make.input(DType::F32, 64);
    let w = make.constant(DType::F32, floats((0..64).map(|i| 100.0 + i as f32)));
    let y = make.output(DType::F32, 64);
    let view = |buffer, offset| Some(View { buffer, offset });
    // Each in its range, and no two alike: sizes, strides, blocks, flags, activation, bits of floats.
    let params: Vec<i64> = vec![
        5,
        6,
        7,
        -0x7fff_fff1,
        11,
        -13,
        0x7fff_fff2,
        64,
        16,
        1,
        0,
        3,
        0xffff_fffe,
        0x8000_0001,
    ];
    let call = |row: Affine| KernelCall {
        kernel: "gemm_f32".into(),
        params: params.clone(),
        operands: vec![
            view(a, row.clone() * 3 + 1),
            view(w, row.clone()),
            view(w, row.clone() + 7),
            None,
            view(y, 0.into()),
        ],
        begin: Bound::of(vec![row.clone(), 1.into()]),
        end: Bound::of(vec![row + 2, 3.into()]),
    };
    make.func(|b| b.for_range(0, 3, 1, |b, i| b.kernel(call(i))));
    let mut options = options(&supported()[0]);
    options.kernels.insert("gemm_f32".into(), "sdc_k_test".into());
    let placement = place(&make.module);
    let mut compiled = compile(&make.module, &placement, &options).unwrap();
    assert_eq!(compiled.kernels, ["sdc_k_test", "sdc_k_v1_prepare"]);
    define(&mut compiled.object, "sdc_k_test", kernel as *const () as usize);
    let native = Native::load(&make.module, &placement, compiled);
    let input = floats((0..64).map(|i| i as f32));
    native.run(&[&input], None);

    let call = |i: i64| {
        let row = i as f32;
        // The output's memory is filled with ones: a NaN, so only its presence is compared.
        let operands = vec![Some(3.0 * row + 1.0), Some(100.0 + row), Some(107.0 + row), None];
        (operands, params.clone(), i.max(1), (i + 2).min(3))
    };
    let mut seen = SEEN.lock().unwrap().clone();
    for (operands, ..) in &mut seen {
        assert!(operands.pop().unwrap().unwrap().is_nan());
    }
    assert_eq!(seen, (0..3).map(call).collect::<Vec<_>>());
}

#[test]
fn offsets_beyond_a_displacement_are_added() {
    // 5 GiB into the weights: checked on the code, since nobody wants to map that much here.
    let mut make = Maker::default();
    let c = make.constant(DType::F32, floats([1.0; 4]));
    let y = make.output(DType::F32, 4);
    make.func(|b| {
        let v = b.load(F32X4, c, 0);
        b.store(y, 0, v);
    });
    let mut placement = place(&make.module);
    placement.consts[0] = Some(5 << 30);
    placement.weights_size = 64 + (5 << 30) + 64;
    let compiled = compile(&make.module, &placement, &options(&supported()[0])).unwrap();
    let object = compiled.object.write().unwrap();
    // A generator may add what is left of the offset.
    let near = (5i64 << 30)..=(5 << 30) + 64;
    let immediate = |w: &[u8]| near.contains(&i64::from_le_bytes(w.try_into().unwrap()));
    assert!(
        object.windows(8).any(immediate),
        "the page is not an immediate of the code"
    );
}

#[test]
fn faults_are_errors() {
    let mut options = options(&supported()[0]);
    options.name = "no name".into();
    let make = model();
    let error =
        |placement: &Placement, options: &Options| compile(&make.module, placement, options).err().unwrap();
    assert!(matches!(error(&place(&make.module), &options), Error::Name(_)));
    options.name = "m".into();

    let mut unplaced = place(&make.module);
    unplaced.temps.clear();
    let message = error(&unplaced, &options).to_string();
    assert_eq!(
        message,
        "in `f0`, from node (Op #0): buffer $3 has no place in the plan"
    );

    let mut outside = place(&make.module);
    outside.arena_size -= 1;
    assert!(matches!(error(&outside, &options), Error::Func { .. }));

    let mut unsound = model();
    unsound.module.funcs[0].vals = Default::default();
    assert!(matches!(
        compile(&unsound.module, &place(&unsound.module), &options),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(cpu::find("z80"), Err(Error::UnknownCpu { .. })));
}

#[test]
fn errors_leave_the_compiler_usable() {
    // One faulty function among sound ones: the next compilation starts afresh.
    let make = model();
    let mut bad = place(&make.module);
    bad.consts.clear();
    let options = options(&supported()[0]);
    assert!(compile(&make.module, &bad, &options).is_err());
    assert!(compile(&make.module, &place(&make.module), &options).is_ok());
}
