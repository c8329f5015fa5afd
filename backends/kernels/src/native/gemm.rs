//! GEMM, as a convolution with a 1x1 window over one row of `m` pixels with `k` channels.

use super::conv2d::{self, Operands};
use super::params::{Conv2dParams, GemmParams};

/// The kernel `gemm_f32`; operands a, b, bias, residual, c; the range is column blocks of `NR`.
///
/// # Safety
/// The operands must be valid for all elements that the [`GemmParams`] at `params` say are touched, and `b` packed for
/// this instance.
#[inline(always)]
pub unsafe fn gemm_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe {
        let p = &*params.cast::<GemmParams>();
        let conv = Conv2dParams {
            in_h: 1,
            in_w: p.m,
            in_c: p.k,
            out_w: p.m,
            out_c: p.n,
            kh: 1,
            kw: 1,
            sh: 1,
            sw: 1,
            dh: 1,
            dw: 1,
            pt: 0,
            pl: 0,
            xs_h: 0,
            xs_w: p.as_m,
            xs_c: p.as_k,
            x_row0: 0,
            ys_h: 0,
            ys_w: p.cs_m,
            y_row0: 0,
            rs_h: 0,
            rs_w: p.rs_m,
            r_row0: 0,
            nr: p.nr,
            lanes: p.lanes,
            has_bias: p.has_bias,
            has_residual: p.has_residual,
            act: p.act,
            act_a: p.act_a,
            act_b: p.act_b,
        };
        let operands = Operands::read(operands, p.has_bias != 0, p.has_residual != 0);
        conv2d::blocks(
            &conv,
            &operands,
            (0, 1),
            (begin.max(0) as usize, end.max(0) as usize),
        );
    }
}
