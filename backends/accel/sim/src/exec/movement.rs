//! Loads and stores.

use super::Stop;
use super::vector::put;
use crate::memory::Memory;
use sdc_accel_isa::{Config, Ldm, Ldw, Op, Part, Registers, Std, Sti, Stv};

const OUTSIDE: Stop = Stop::Outside;

pub(super) fn load(op: &Op, registers: &Registers, memory: &mut Memory, config: &Config) -> Result<(), Stop> {
    memory.writes[2] += u64::from(matches!(op, Op::Ldx(_)));
    let Memory {
        dram, xb, pb, tables, ..
    } = memory;
    match op {
        Op::Ldm(i) => ldm(i, registers, memory),
        Op::Ldw(i) => ldw(i, memory, config),
        Op::Ldx(i) => copy(
            dram,
            i.dram,
            xb,
            i.bank as usize * config.xb_bank as usize + i.addr as usize,
            i.bytes,
        ),
        Op::Ldp(i) => copy(
            dram,
            i.dram,
            pb,
            i.bank as usize * 8 * config.pb_bank as usize + i.addr as usize,
            i.bytes,
        ),
        Op::Ldt(i) => copy(dram, i.dram, tables, i.table as usize * 256, 256),
        _ => Ok(()),
    }
}

fn copy(dram: &[u8], from: u32, to: &mut [u8], at: usize, bytes: u32) -> Result<(), Stop> {
    let (from, bytes) = (from as usize, bytes as usize);
    let source = dram.get(from..from + bytes).ok_or(OUTSIDE)?;
    to.get_mut(at..at + bytes).ok_or(OUTSIDE)?.copy_from_slice(source);
    Ok(())
}

/// Where `rows` rows of a channel are in IB: one run, as a view's rows lie together.
fn run(
    memory: &Memory,
    view: &sdc_accel_isa::View,
    c: i64,
    y0: u32,
    rows: u32,
) -> Option<std::ops::Range<usize>> {
    memory.row_at(view, c, i64::from(y0 + rows) - 1)?;
    let at = memory.row_at(view, c, i64::from(y0))?;
    Some(at..at + (rows * view.pitch) as usize)
}

fn ldm(i: &Ldm, registers: &Registers, memory: &mut Memory) -> Result<(), Stop> {
    let view = registers.view(i.view).ok_or(Stop::Register)?;
    for k in 0..i.n {
        let c = i64::from(i.c0 + k) + i64::from(view.coff);
        let to = run(memory, &view, c, i.y0, i.rows).ok_or(OUTSIDE)?;
        let from = i.dram as usize + k as usize * i.cstride as usize;
        let source = memory.dram.get(from..from + to.len()).ok_or(OUTSIDE)?;
        memory.ib.get_mut(to).ok_or(OUTSIDE)?.copy_from_slice(source);
    }
    Ok(())
}

pub(super) fn store(op: &Op, registers: &Registers, memory: &mut Memory) -> Result<(), Stop> {
    match op {
        Op::Std(i) => std(i, memory),
        Op::Sti(i) => sti(i, registers, memory),
        Op::Stv(i) => stv(i, registers, memory),
        _ => Ok(()),
    }
}

fn stv(i: &Stv, registers: &Registers, memory: &mut Memory) -> Result<(), Stop> {
    let view = registers.view(i.view).ok_or(Stop::Register)?;
    for k in 0..i.n {
        let c = i64::from(i.c0 + k) + i64::from(view.coff);
        let from = run(memory, &view, c, i.y0, i.rows).ok_or(OUTSIDE)?;
        let to = i.dram as usize + k as usize * i.cstride as usize;
        let place = memory.dram.get_mut(to..to + from.len()).ok_or(OUTSIDE)?;
        place.copy_from_slice(memory.ib.get(from).ok_or(OUTSIDE)?);
    }
    Ok(())
}

fn ldw(i: &Ldw, memory: &mut Memory, config: &Config) -> Result<(), Stop> {
    let bytes = i.bytes as usize;
    let apart = config.slices as usize >> i.copies;
    for k in 0..i.slices as usize {
        let from = i.dram as usize + if i.bcast { 0 } else { k * bytes };
        for copy in 0..1 << i.copies {
            let slice = i.slice as usize + k + copy * apart;
            // The two are different fields, which the borrow checker sees only if the source is taken out for the while.
            let dram = std::mem::take(&mut memory.dram);
            let source = dram.get(from..from + bytes);
            let done = memory
                .weights_mut(slice, i.bank, i.addr, bytes)
                .zip(source)
                .map(|(to, source)| to.copy_from_slice(source));
            memory.dram = dram;
            done.ok_or(OUTSIDE)?;
        }
    }
    Ok(())
}

fn std(i: &Std, memory: &mut Memory) -> Result<(), Stop> {
    let (m, e, f) = (i.m as usize, i.e as usize, i.f as usize);
    let dram = std::mem::take(&mut memory.dram);
    let done = memory
        .slot(i.slot, m * e * f)
        .and_then(|slot| scatter(i, slot, dram));
    memory.dram = done.ok_or(OUTSIDE)?;
    Ok(())
}

/// The DRAM with the slot's elements in it.
fn scatter(i: &Std, slot: &[u8], mut dram: Vec<u8>) -> Option<Vec<u8>> {
    let (e, f, xstep) = (i.e as usize, i.f as usize, i.xstep as usize);
    for (row, bytes) in slot.chunks_exact(f).enumerate() {
        let to = i.dram as usize + row / e * i.cstride as usize + row % e * i.pitch as usize;
        let place = dram.get_mut(to..to + (f - 1) * xstep + 1)?;
        if xstep == 1 {
            place.copy_from_slice(bytes);
        } else {
            place
                .iter_mut()
                .step_by(xstep.max(1))
                .zip(bytes)
                .for_each(|(p, &b)| *p = b);
        }
    }
    Some(dram)
}

fn sti(i: &Sti, registers: &Registers, memory: &mut Memory) -> Result<(), Stop> {
    let view = registers.view(i.view).ok_or(Stop::Register)?;
    let part = Part::new([i.oc, i.oy, i.ox], [i.m, i.e, i.f]);
    let bytes = memory
        .slot(i.slot, part.elements() as usize)
        .ok_or(OUTSIDE)?
        .to_vec();
    put(&view, &part, &bytes, memory)
}
