//! The machine's memories. Every access is checked: what the loader proved is not relied upon for safety.

use sdc_accel_isa::{Config, Op, View};

/// All bytes that instructions read and write. IB is `[half][bank][byte]`, WB `[slice][byte]`, OB `[slot][byte]`; XB and PB are one run of
/// two banks.
pub(crate) struct Memory {
    pub dram: Vec<u8>,
    pub ib: Vec<u8>,
    pub wb: Vec<u8>,
    pub xb: Vec<u8>,
    pub pb: Vec<u8>,
    pub tables: Vec<u8>,
    pub ob: Vec<u8>,
    /// Sums of the last strip that kept them, `[m][e*f]`.
    pub acc: Vec<i32>,
    /// How often the banks of WB, and XB, were written.
    pub writes: [u64; 3],
    lines: i64,
    bank: usize,
    wb_bank: usize,
    slot: usize,
}

/// An access that no memory has.
#[derive(Debug)]
pub(crate) struct Outside;

impl Memory {
    pub fn new(config: &Config, dram: usize) -> Self {
        let (lines, bank) = (config.lines as usize, config.ib_bank as usize);
        Self {
            dram: vec![0; dram],
            ib: vec![0; 2 * lines * bank],
            wb: vec![0; config.slices as usize * 2 * config.wb_bank as usize],
            xb: vec![0; 2 * config.xb_bank as usize],
            pb: vec![0; 2 * 8 * config.pb_bank as usize],
            tables: vec![0; config.tables as usize * 256],
            ob: vec![0; 2 * config.ob_slot as usize],
            acc: Vec::new(),
            writes: [0; 3],
            lines: lines as i64,
            bank,
            wb_bank: config.wb_bank as usize,
            slot: config.ob_slot as usize,
        }
    }

    /// Where the bytes of row `y` of channel `c` (with `coff` added already) begin in IB; `None` outside the view.
    pub fn row_at(&self, view: &View, c: i64, y: i64) -> Option<usize> {
        if c < 0 || c >= i64::from(view.chans) || y < 0 || y >= i64::from(view.rows) {
            return None;
        }
        let (bank, group) = ((c % self.lines) as usize, (c / self.lines) as usize);
        let half = view.half as usize * self.lines as usize;
        let row = group * view.rows as usize + y as usize;
        Some((half + bank) * self.bank + view.base as usize + row * view.pitch as usize)
    }

    /// The bytes of a row, as far as there are any; `None` outside the view.
    pub fn row(&self, view: &View, c: i64, y: i64) -> Option<&[u8]> {
        let at = self.row_at(view, c, y)?;
        self.ib.get(at..(at + view.pitch as usize).min(self.ib.len()))
    }

    /// The bytes of slice `slice` of WB from a 12-bit address on.
    pub fn weights(&self, slice: usize, bank: u32, addr: u32) -> Option<&[u8]> {
        let file = self
            .wb
            .get(slice * 2 * self.wb_bank..(slice + 1) * 2 * self.wb_bank)?;
        file.get(bank as usize * self.wb_bank + addr as usize..)
    }

    /// Likewise, to be written.
    pub fn weights_mut(&mut self, slice: usize, bank: u32, addr: u32, bytes: usize) -> Option<&mut [u8]> {
        self.writes[bank as usize & 1] += 1;
        self.writes[1] += u64::from(addr as usize + bytes > self.wb_bank);
        let file = self
            .wb
            .get_mut(slice * 2 * self.wb_bank..(slice + 1) * 2 * self.wb_bank)?;
        let at = bank as usize * self.wb_bank + addr as usize;
        file.get_mut(at..at + bytes)
    }

    /// The first bytes of a slot.
    pub fn slot(&mut self, slot: u32, bytes: usize) -> Option<&mut [u8]> {
        let at = slot as usize * self.slot;
        (bytes <= self.slot)
            .then(|| self.ob.get_mut(at..at + bytes))
            .flatten()
    }

    /// Bias and multiplier of a filter.
    pub fn parameters(&self, filter: usize) -> Option<(i32, i32)> {
        let bytes: &[u8; 8] = self.pb.get(8 * filter..8 * filter + 8)?.try_into().ok()?;
        let word = u64::from_le_bytes(*bytes);
        Some((word as i32, (word >> 32) as i32))
    }
}

/// True for what moves bytes between DRAM and the machine.
pub(crate) fn uses_dram(op: &Op) -> bool {
    matches!(
        op,
        Op::Ldm(_) | Op::Ldw(_) | Op::Ldx(_) | Op::Ldp(_) | Op::Ldt(_) | Op::Std(_) | Op::Stv(_)
    )
}
