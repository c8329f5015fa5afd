//! Memory that kernels under test work on, in allocations of just the elements where that can be: a sanitizer or Miri sees
//! the smallest overrun then.

use std::alloc::{Layout, alloc, dealloc};

use super::case::{BASE, guarded};

/// Bytes where any type of element may lie, as in an artifact's buffers.
pub struct Aligned {
    start: *mut u8,
    layout: Layout,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Self {
        let layout = Layout::from_size_align(bytes.len(), 8).unwrap();
        if bytes.is_empty() {
            let start = std::ptr::null_mut();
            return Self { start, layout };
        }
        // SAFETY: the layout has a size.
        let start = unsafe { alloc(layout) };
        assert!(!start.is_null());
        // SAFETY: as many bytes were allocated.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Self { start, layout }
    }

    /// Where they begin; null if there are none, which means an absent operand.
    pub fn pointer(&mut self) -> *mut u8 {
        self.start
    }

    pub fn bytes(&self) -> Vec<u8> {
        if self.start.is_null() {
            return Vec::new();
        }
        // SAFETY: all of them were written when they were allocated.
        unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) }.to_vec()
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        if !self.start.is_null() {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start, self.layout) };
        }
    }
}

/// Operands of a call, from guarded ones.
pub struct Operands<const N: usize> {
    operands: [Vec<f32>; N],
    bare: bool,
}

impl<const N: usize> Operands<N> {
    /// The linked instance, which tools can watch, gets them without their guards; of the others only guards tell.
    pub fn new(guarded: [Vec<f32>; N], instance: &str) -> Self {
        let bare = instance == "linked";
        let operands = match bare {
            true => guarded.map(|o| o[BASE..o.len() - BASE].to_vec()),
            false => guarded,
        };
        Self { operands, bare }
    }

    /// Where their first elements are.
    pub fn pointers(&mut self) -> [*mut u8; N] {
        let first = if self.bare { 0 } else { BASE };
        self.operands.each_mut().map(|o| o[first..].as_mut_ptr().cast())
    }

    /// An operand with its guards.
    pub fn guarded(&self, operand: usize) -> Vec<f32> {
        let operand = self.operands[operand].clone();
        if self.bare { guarded(operand) } else { operand }
    }
}
