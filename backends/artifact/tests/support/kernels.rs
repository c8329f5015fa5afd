//! Kernels for the tests: compiled by `rustc --emit obj`, the way the real ones are.
#![no_std]
#![no_builtins]
#![crate_type = "lib"]

use core::ffi::c_void;

static BIAS: [f32; 8] = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5];

/// Addresses in constants: needs a relocation when loaded.
static OPERATIONS: [unsafe extern "C" fn(f32) -> f32; 2] = [sdc_k_test_double, negate];

#[inline(never)]
unsafe extern "C" fn negate(x: f32) -> f32 {
    -x
}

/// Global, so that calls to it go through the global offset table.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn sdc_k_test_double(x: f32) -> f32 {
    x + x
}

/// operands: input, weights, output, scratch.
/// scratch[i] = input[i] * weights[i]; output[i] = operation[i % 2](scratch[i]) + bias[i % 8]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdc_k_test_scale(operands: *const *mut u8, _params: *const i64, begin: i64, end: i64) {
    unsafe {
        let input = *operands as *const f32;
        let weights = *operands.add(1) as *const f32;
        let output = *operands.add(2) as *mut f32;
        let scratch = *operands.add(3) as *mut f32;
        let mut i = begin as usize;
        while i < end as usize {
            core::ptr::write_volatile(scratch.add(i), *input.add(i) * *weights.add(i));
            let operation = core::ptr::read_volatile((&raw const OPERATIONS).cast::<unsafe extern "C" fn(f32) -> f32>().add(i % 2));
            *output.add(i) = operation(core::ptr::read_volatile(scratch.add(i)))
                + *(&raw const BIAS).cast::<f32>().add(i % 8);
            i += 1;
        }
    }
}

#[repr(C)]
pub struct ParallelFor {
    call: unsafe extern "C" fn(*const ParallelFor, usize, unsafe extern "C" fn(*mut c_void, usize), *mut c_void),
}

struct Frame {
    operands: *const *mut u8,
    chunk: i64,
    end: i64,
}

unsafe extern "C" fn part(frame: *mut c_void, index: usize) {
    unsafe {
        let frame = &*(frame as *const Frame);
        let begin = frame.chunk * index as i64;
        let end = if begin + frame.chunk < frame.end { begin + frame.chunk } else { frame.end };
        sdc_k_test_scale(frame.operands, core::ptr::null(), begin, end);
    }
}

/// As `scale`, in parts of 3 when there is a `parallel_for` (passed as `params`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdc_k_test_parallel(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    unsafe {
        let parallel_for = params as *const ParallelFor;
        if parallel_for.is_null() {
            sdc_k_test_scale(operands, params, begin, end);
        } else {
            let mut frame = Frame { operands, chunk: 3, end };
            let count = ((end + 2) / 3) as usize;
            ((*parallel_for).call)(parallel_for, count, part, (&raw mut frame).cast());
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdc_k_test_unused() -> i32 {
    0x5dc
}

unsafe extern "C" {
    fn not_there(x: i32) -> i32;
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdc_k_test_needy() -> i32 {
    unsafe { not_there(1) }
}

static mut COUNTER: i32 = 5;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdc_k_test_stateful() -> i32 {
    unsafe {
        let counter = &raw mut COUNTER;
        *counter += 1;
        *counter
    }
}
