//! Streams of bits: bit `i` is bit `i % 8` of byte `i / 8`, and a field's lowest bit comes first.

/// Collects fields into bytes.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the low `width` bits of `field`, whose other bits are zero. `width` is at most 56.
    pub fn put(&mut self, field: u64, width: usize) {
        self.pending |= field << self.filled;
        self.filled += width as u32;
        while self.filled >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    /// Fills the last byte with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Takes fields out of bytes.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    pending: u64,
    filled: u32,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            pending: 0,
            filled: 0,
        }
    }

    /// The next `width` bits, at most 56; zeros behind the end.
    pub fn take(&mut self, width: usize) -> u64 {
        let width = width as u32;
        while self.filled < width {
            self.pending |= u64::from(self.bytes.next().copied().unwrap_or(0)) << self.filled;
            self.filled += 8;
        }
        let field = self.pending & ((1 << width) - 1);
        self.pending >>= width;
        self.filled -= width;
        field
    }

    /// True if only zeros are left.
    pub fn rest_is_zero(self) -> bool {
        self.pending == 0 && self.bytes.into_iter().all(|&b| b == 0)
    }
}
