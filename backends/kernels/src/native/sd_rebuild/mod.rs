//! Weights from packed SmartDeal weights.
//!
//! Integer arithmetic as in the format's definition, so all instances give the same bits: a rebuilt weight is an i8, or this times the
//! filter's scale.
//!
//! Filters that lie side by side in the target are rebuilt together, one in each lane of a vector: some rows of each become a table of
//! bytes, entries by filters, which is then written where the product reads it.

mod decode;
mod packed;
mod target;
mod words;

use super::params::SdRebuildParams;
use core::mem::MaybeUninit;
use decode::{Aligned, Decoder};
use packed::Packed;
use target::{Target, Weight};
use words::LANES;

/// Bytes of a table of rebuilt entries.
const TABLE: usize = 12 << 10;

/// The kernel `sd_rebuild_f32`; operands packed, w; the range is blocks of `nr` filters, and `w` points at the first of them.
///
/// # Safety
/// The operands must be valid for what the [`SdRebuildParams`] at `params` say is touched, and these must describe the packed weights.
#[inline(always)]
pub unsafe fn sd_rebuild_f32(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { blocks::<f32>(operands, params, begin, end) }
}

/// The kernel `sd_rebuild_i8`: the integers, without their scales.
///
/// # Safety
/// As [`sd_rebuild_f32`].
#[inline(always)]
pub unsafe fn sd_rebuild_i8(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    // SAFETY: forwarded.
    unsafe { blocks::<i8>(operands, params, begin, end) }
}

/// # Safety
/// As [`sd_rebuild_f32`].
#[inline(always)]
unsafe fn blocks<W: Weight>(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
    let mut table = Aligned(MaybeUninit::<[i8; TABLE]>::uninit());
    // SAFETY: columns below `filters` exist, and `w` has room for their blocks.
    unsafe {
        let p = &*params.cast::<SdRebuildParams>();
        let packed = Packed::new(p, *operands);
        let mut decoder = Decoder::new(&packed);
        let last = (end * p.nr).min(p.filters);
        let mut column = begin * p.nr;
        let mut block = (*operands.add(1)).cast::<W>();
        let mut position = packed.position(column.min(p.filters));
        while column < last {
            let count = p.nr.min(p.filters - column);
            let over = count.checked_rem(p.lanes).unwrap_or(0);
            let width = if count == p.nr || over == 0 {
                count
            } else {
                count + p.lanes - over
            };
            let target = Target::new(p, block, width);
            let mut first = 0;
            while first < target.columns(count) {
                let lanes = (count - first).clamp(0, LANES as i64) as usize;
                position = decoder.begin(column + first, lanes, position);
                target.fill(&mut decoder, first, lanes, table.0.as_mut_ptr().cast());
                first += LANES as i64;
            }
            column += count;
            // The last block may be narrower than this step.
            block = block.wrapping_offset((p.nr * p.vector) as isize);
        }
    }
}
