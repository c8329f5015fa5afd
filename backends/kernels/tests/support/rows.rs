//! Calls of kernels on `f32` operands at any alignment, natively and as their bodies say.

use sdc_ir::DType;

use super::KernelFn;
use super::body::{self, Operand};

/// What no kernel may write holds.
pub const UNTOUCHED: f32 = -12345.678;

/// A call of a kernel whose last operand is its only result and whose range is rows.
#[derive(Debug, Clone)]
pub struct Call {
    pub kernel: &'static str,
    pub params: Vec<i64>,
    /// Contents, and the element that the view begins at; empty ones are absent.
    pub operands: Vec<(Vec<f32>, usize)>,
    /// Elements from the beginning of its view on, and that beginning.
    pub result: (usize, usize),
    pub rows: i64,
}

impl Call {
    /// The whole result buffer after the kernel has run on the ranges.
    pub fn run(&self, kernel: KernelFn, ranges: &[(i64, i64)]) -> Vec<f32> {
        let mut operands = self.operands.clone();
        let mut y = vec![UNTOUCHED; self.result.0 + self.result.1];
        let mut pointers: Vec<*mut u8> = operands.iter_mut().map(|(o, base)| pointer(o, *base)).collect();
        pointers.push(pointer(&mut y, self.result.1));
        for &(begin, end) in ranges {
            // SAFETY: the call describes its operands.
            unsafe { kernel(pointers.as_ptr(), self.params.as_ptr(), begin, end) };
        }
        y
    }

    /// The first operand from its base on, after the kernel has written its result there.
    pub fn run_in_place(&self, kernel: KernelFn) -> Vec<f32> {
        let mut operands = self.operands.clone();
        let mut pointers: Vec<*mut u8> = operands.iter_mut().map(|(o, base)| pointer(o, *base)).collect();
        pointers.push(pointers[0]);
        // SAFETY: the call describes its operands; the first one has the result's form.
        unsafe { kernel(pointers.as_ptr(), self.params.as_ptr(), 0, self.rows) };
        operands[0].0[operands[0].1..].to_vec()
    }

    /// The result buffer as the body says; zero where it writes nothing.
    pub fn expected(&self) -> Vec<f32> {
        let bytes = |contents: &[f32]| contents.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let mut contents: Vec<(Vec<u8>, usize)> =
            self.operands.iter().map(|(o, base)| (bytes(o), *base)).collect();
        contents.push((vec![0; 4 * (self.result.0 + self.result.1)], self.result.1));
        let operands: Vec<Operand<'_>> = contents
            .iter()
            .map(|(bytes, base)| Operand {
                dtype: DType::F32,
                bytes,
                base: *base,
            })
            .collect();
        let out = body::result(self.kernel, &self.params, &operands, self.rows);
        out.chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }
}

/// Null for an absent operand.
fn pointer(contents: &mut [f32], base: usize) -> *mut u8 {
    match contents.is_empty() {
        true => std::ptr::null_mut(),
        false => contents[base..].as_mut_ptr().cast(),
    }
}
