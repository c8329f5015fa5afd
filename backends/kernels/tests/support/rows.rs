//! Calls of kernels on `f32` operands at any alignment, natively and as their bodies say.

use sdc_interp::tile::run_tile;
use sdc_ir::tile::{BufferData, BufferKind, FuncBuilder, KernelCall, Module, View};
use sdc_ir::{DType, registry, tile};

use super::KernelFn;

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
        let entry = registry::find(self.kernel).unwrap();
        assert_eq!(entry.bad_params(&self.params), None);
        let mut module = Module {
            name: "case".into(),
            ..Module::default()
        };
        let mut buffer = |len, kind| {
            module.buffers.push(BufferData {
                dtype: DType::F32,
                len,
                kind,
                name: "operand".into(),
            })
        };
        let mut views = Vec::new();
        let mut inputs: Vec<Vec<u8>> = Vec::new();
        for (contents, base) in &self.operands {
            views.push((!contents.is_empty()).then(|| {
                inputs.push(contents.iter().flat_map(|x| x.to_le_bytes()).collect());
                View {
                    buffer: buffer(contents.len(), BufferKind::Input(inputs.len() - 1)),
                    offset: (*base as i64).into(),
                }
            }));
        }
        views.push(Some(View {
            buffer: buffer(self.result.0 + self.result.1, BufferKind::Output(0)),
            offset: (self.result.1 as i64).into(),
        }));
        let mut b = FuncBuilder::new();
        b.kernel(KernelCall {
            kernel: self.kernel.into(),
            params: self.params.clone(),
            operands: views,
            begin: 0.into(),
            end: self.rows.into(),
        });
        let origin = sdc_ir::graph::Origin {
            name: "case".into(),
            op: "Case".into(),
            index: 0,
        };
        module.funcs.push(b.finish("f0", vec![origin]));
        assert_eq!(tile::verify::verify(&module), Vec::new());
        module.funcs[0] = registry::expand(&module.funcs[0], |_| true);
        assert_eq!(tile::verify::verify(&module), Vec::new());
        assert_eq!(tile::verify::unproven(&module), Vec::new());
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        let out = run_tile(&module, &inputs).unwrap().remove(0);
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
