//! Windows along one dimension: `input = output * stride - padding + tap * dilation`.

use std::ops::Range;

/// A window along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Elements.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Distance between elements.
    pub dilation: usize,
    /// Padding before.
    pub before: usize,
}

impl Window {
    /// Input indices that outputs `out` need, clipped to `0..size`. Empty if all of them lie in the padding.
    pub fn demand(&self, out: Range<usize>, size: usize) -> Range<usize> {
        if out.is_empty() || self.kernel == 0 {
            return 0..0;
        }
        let first = (out.start * self.stride).saturating_sub(self.before);
        let last = (out.end - 1) * self.stride + (self.kernel - 1) * self.dilation;
        let end = (last + 1).saturating_sub(self.before).min(size);
        first.min(end)..end
    }
}
