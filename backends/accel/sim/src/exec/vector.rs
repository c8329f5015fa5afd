//! The vector engine: sums, products, windows, tables, copies.

use super::Stop;
use crate::memory::Memory;
use sdc_accel_isa::{Add, Mul, Op, Part, Pool, Quant, Registers, Vector, View};
use sdc_ir::integer::{Requantise, average_multiplier};

const OUTSIDE: Stop = Stop::Outside;
/// Operands from this number on are slots.
const SLOTS: u32 = 16;

pub(super) fn run(op: &Op, registers: &Registers, memory: &mut Memory) -> Result<(), Stop> {
    let Some(Vector { dst, part, .. }) = op.vector() else {
        return Ok(());
    };
    let bytes = match op {
        Op::Add(i) => add(i, &part, registers, memory)?,
        Op::Mul(i) => mul(i, &part, registers, memory)?,
        Op::Pool(i) => pool(i, &part, registers, memory)?,
        Op::Mov(i) => fetch(i.a, &part, registers, memory)?,
        Op::Lut(i) => {
            let mut bytes = fetch(i.a, &part, registers, memory)?;
            let at = 256 * i.table as usize;
            let table = memory.tables.get(at..at + 256).ok_or(OUTSIDE)?;
            bytes.iter_mut().for_each(|b| *b = table[usize::from(*b)]);
            bytes
        }
        _ => return Ok(()),
    };
    if dst >= SLOTS {
        let slot = memory.slot(dst - SLOTS, bytes.len()).ok_or(OUTSIDE)?;
        slot.copy_from_slice(&bytes);
        return Ok(());
    }
    let view = registers.view(dst).ok_or(Stop::Register)?;
    put(&view, &part, &bytes, memory)
}

/// The operand's elements, `[n][e][f]`.
fn fetch(operand: u32, part: &Part, registers: &Registers, memory: &mut Memory) -> Result<Vec<u8>, Stop> {
    if operand >= SLOTS {
        return Ok(memory
            .slot(operand - SLOTS, part.elements() as usize)
            .ok_or(OUTSIDE)?
            .to_vec());
    }
    let view = registers.view(operand).ok_or(Stop::Register)?;
    let mut out = vec![view.fill as u8; part.elements() as usize];
    for (row, place) in out.chunks_exact_mut(part.f as usize).enumerate() {
        let (c, y) = place_of(&view, part, row);
        let Some(bytes) = memory.row(&view, c, y) else {
            continue;
        };
        let (ox, sx) = (part.ox as usize, view.sx as usize);
        if sx == 1 {
            let bytes = bytes.get(ox..).unwrap_or_default();
            let inside = bytes.len().min(place.len());
            place[..inside].copy_from_slice(&bytes[..inside]);
        } else {
            let columns = (ox..).map(|x| bytes.get(x * sx));
            place
                .iter_mut()
                .zip(columns)
                .for_each(|(p, b)| *p = b.copied().unwrap_or(*p));
        }
    }
    Ok(out)
}

/// Channel and row of the view that row number `row` of the box stands for.
fn place_of(view: &View, part: &Part, row: usize) -> (i64, i64) {
    let (k, j) = (row / part.e as usize, row % part.e as usize);
    let c = i64::from(part.oc) + k as i64 + i64::from(view.coff);
    (c, (i64::from(part.oy) + j as i64) * i64::from(view.sy))
}

/// Writes elements `[n][e][f]` into a view.
pub(super) fn put(view: &View, part: &Part, bytes: &[u8], memory: &mut Memory) -> Result<(), Stop> {
    let sx = view.sx as usize;
    for (row, bytes) in bytes.chunks_exact(part.f as usize).enumerate() {
        let (c, y) = place_of(view, part, row);
        let at = memory.row_at(view, c, y).ok_or(OUTSIDE)?;
        let last = (part.ox as usize + bytes.len() - 1) * sx;
        if last >= view.pitch as usize {
            return Err(OUTSIDE);
        }
        let first = at + part.ox as usize * sx;
        let place = memory.ib.get_mut(first..=at + last).ok_or(OUTSIDE)?;
        place
            .iter_mut()
            .step_by(sx.max(1))
            .zip(bytes)
            .for_each(|(p, &b)| *p = b);
    }
    Ok(())
}

/// A byte as the number it stands for, less the zero point.
fn number(quant: &Quant) -> impl Fn(u8) -> i64 {
    let (signed, z) = (quant.xi8, i64::from(quant.z));
    move |b| if signed { i64::from(b as i8) } else { i64::from(b) } - z
}

pub(super) fn requantise(quant: &Quant) -> Requantise {
    Requantise {
        shift: quant.shift.max(1),
        zero: i64::from(quant.yz),
        min: i64::from(quant.lo),
        max: i64::from(quant.hi.max(quant.lo)),
    }
}

fn add(i: &Add, part: &Part, registers: &Registers, memory: &mut Memory) -> Result<Vec<u8>, Stop> {
    let qa = registers.quant(i.qa).ok_or(Stop::Register)?;
    let mut a = fetch(i.a, part, registers, memory)?;
    let (of_a, ma, to) = (number(&qa), i64::from(qa.mul), requantise(&qa));
    if !i.two {
        a.iter_mut().for_each(|a| *a = to.of(of_a(*a) * ma) as u8);
        return Ok(a);
    }
    let qb = registers.quant(i.qb).ok_or(Stop::Register)?;
    let b = fetch(i.b, part, registers, memory)?;
    let (of_b, mb) = (number(&qb), i64::from(qb.mul));
    for (a, b) in a.iter_mut().zip(b) {
        *a = to.of(of_a(*a) * ma + of_b(b) * mb) as u8;
    }
    Ok(a)
}

fn mul(i: &Mul, part: &Part, registers: &Registers, memory: &mut Memory) -> Result<Vec<u8>, Stop> {
    let qa = registers.quant(i.qa).ok_or(Stop::Register)?;
    let qb = registers.quant(i.qb).ok_or(Stop::Register)?;
    let mut a = fetch(i.a, part, registers, memory)?;
    let b = fetch(i.b, part, registers, memory)?;
    let (of_a, of_b, m, to) = (number(&qa), number(&qb), i64::from(qa.mul), requantise(&qa));
    for (a, b) in a.iter_mut().zip(b) {
        *a = to.of(of_a(*a) * of_b(b) * m) as u8;
    }
    Ok(a)
}

fn pool(i: &Pool, part: &Part, registers: &Registers, memory: &Memory) -> Result<Vec<u8>, Stop> {
    let geom = registers.geom(i.geom).ok_or(Stop::Register)?;
    let quant = registers.quant(i.quant).ok_or(Stop::Register)?;
    let view = registers.view(i.a).ok_or(Stop::Register)?;
    let (of, to) = (number(&quant), requantise(&quant));
    let mut out = Vec::with_capacity(part.elements() as usize);
    let taps = i64::from(geom.kh * geom.kw);
    for k in 0..part.n {
        let c = i64::from(part.oc + k) + i64::from(view.coff);
        for y in part.oy..part.oy + part.e {
            let first = i64::from(y * geom.uy) - i64::from(geom.pt);
            let rows = (0..geom.kh).map(|r| first + i64::from(r * geom.dy));
            let rows: Vec<&[u8]> = rows.filter_map(|y| memory.row(&view, c, y)).collect();
            for x in part.ox..part.ox + part.f {
                let first = i64::from(x * geom.ux) - i64::from(geom.pl);
                let columns = |t| usize::try_from(first + i64::from(t * geom.dx)).ok();
                let columns = (0..geom.kw).filter_map(columns);
                let inside = columns.flat_map(|x| rows.iter().filter_map(move |r| r.get(x)));
                let byte = if i.avg {
                    let (sum, n) = inside.fold((0, 0), |(s, n), &b| (s + of(b), n + 1));
                    let divisor = if i.counted { taps } else { n };
                    to.of(sum * average_multiplier(i64::from(quant.mul), divisor)) as u8
                } else {
                    inside.copied().max_by_key(|&b| of(b)).unwrap_or(view.fill as u8)
                };
                out.push(byte);
            }
        }
    }
    Ok(out)
}
