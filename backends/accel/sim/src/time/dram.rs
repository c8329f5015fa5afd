//! Transfers between DRAM and the machine: granules touched, bytes asked for.

use sdc_accel_isa::{Op, Registers};

/// What an instruction asks of DRAM.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Transfer {
    /// Bytes asked for.
    pub bytes: u64,
    /// Granules that hold them.
    pub granules: u64,
}

impl Transfer {
    /// One run of bytes after another.
    fn runs(runs: impl Iterator<Item = (u64, u64)>, granule: u64) -> Self {
        runs.fold(Self::default(), |sum, (at, bytes)| Self {
            bytes: sum.bytes + bytes,
            granules: sum.granules + granules(at, bytes, granule),
        })
    }

    /// Cycles on a channel of so many bytes a cycle; none if it is unlimited.
    pub fn cycles(&self, granule: u32, bandwidth: u32) -> u64 {
        match bandwidth {
            0 => 0,
            b => (self.granules * u64::from(granule)).div_ceil(u64::from(b)),
        }
    }
}

fn granules(at: u64, bytes: u64, granule: u64) -> u64 {
    match bytes {
        0 => 0,
        _ => (at + bytes - 1) / granule - at / granule + 1,
    }
}

/// The transfer of an instruction; `None` if it has none.
pub(crate) fn transfer(op: &Op, registers: &Registers, granule: u32) -> Option<Transfer> {
    let granule = u64::from(granule);
    let one = |at: u32, bytes: u64| Transfer::runs(std::iter::once((u64::from(at), bytes)), granule);
    let channels = |view: u32, dram: u32, cstride: u32, n: u32, rows: u32| {
        let run = u64::from(rows) * registers.view(view).map_or(0, |v| u64::from(v.pitch));
        let runs = (0..n).map(|k| (u64::from(dram) + u64::from(k) * u64::from(cstride), run));
        Transfer::runs(runs, granule)
    };
    Some(match op {
        Op::Ldw(i) => one(
            i.dram,
            u64::from(i.bytes) * u64::from(if i.bcast { 1 } else { i.slices }),
        ),
        Op::Ldx(i) => one(i.dram, i.bytes.into()),
        Op::Ldp(i) => one(i.dram, i.bytes.into()),
        Op::Ldt(i) => one(i.dram, 256),
        Op::Ldm(i) => channels(i.view, i.dram, i.cstride, i.n, i.rows),
        Op::Stv(i) => channels(i.view, i.dram, i.cstride, i.n, i.rows),
        Op::Std(i) => {
            let channel = |k: u32| u64::from(i.dram) + u64::from(k) * u64::from(i.cstride);
            let row = |k, j: u32| channel(k) + u64::from(j) * u64::from(i.pitch);
            let rows = || (0..i.m).flat_map(|k| (0..i.e).map(move |j| (k, j)));
            let (e, f) = (u64::from(i.e), u64::from(i.f));
            match (i.xstep, i.pitch == i.f) {
                (1, true) => Transfer::runs((0..i.m).map(|k| (channel(k), e * f)), granule),
                (1, false) => Transfer::runs(rows().map(|(k, j)| (row(k, j), f)), granule),
                // Each byte is a granule of its own.
                _ => {
                    let bytes = u64::from(i.m) * e * f;
                    Transfer {
                        bytes,
                        granules: bytes,
                    }
                }
            }
        }
        _ => return None,
    })
}
