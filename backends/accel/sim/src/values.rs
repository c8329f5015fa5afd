//! What layers compute, put together from strips and boxes.

use crate::exec::Machine;
use crate::exec::conv::Strip;
use bytes::Bytes;
use sdc_accel_isa::{Instr, Op, Program, Tile};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

/// A part of a layer's result, at its place in it.
struct Part {
    at: [usize; 3],
    size: [usize; 3],
    bytes: Vec<u8>,
}

/// Results of layers, by their ids.
#[derive(Default)]
pub(crate) struct Values {
    layers: BTreeMap<u32, (DType, Vec<Part>)>,
}

impl Values {
    /// Notes the results of an instruction that has run.
    pub fn see(
        &mut self,
        instr: &Instr,
        strip: Option<&Strip>,
        machine: &mut Machine,
        layer: u32,
        tile: Tile,
    ) {
        let registers = &machine.registers[instr.engine.index()];
        let signed = |quant: u32| registers.quant(quant).is_some_and(|q| q.yi8);
        let (dst, signed, [c, y, x], size) = match (&instr.op, strip) {
            (_, Some(s)) if !s.keep => {
                let size = [s.m as u32, s.e as u32, s.f as u32];
                (16 + s.slot, s.quant.yi8, [0, s.oy, s.ox], size)
            }
            (Op::Add(i), _) => (i.dst, signed(i.qa), [i.oc, i.oy, i.ox], [i.n, i.e, i.f]),
            (Op::Mul(i), _) => (i.dst, signed(i.qa), [i.oc, i.oy, i.ox], [i.n, i.e, i.f]),
            (Op::Pool(i), _) => {
                let quant = registers.quant(i.quant);
                let signed = quant.is_some_and(|q| if i.avg { q.yi8 } else { q.xi8 });
                (i.dst, signed, [i.oc, i.oy, i.ox], [i.n, i.e, i.f])
            }
            _ => return,
        };
        let size = size.map(|n| n as usize);
        let bytes = if dst >= 16 {
            machine
                .memory
                .slot(dst - 16, size.iter().product())
                .map(|b| b.to_vec())
        } else {
            let view = registers.view(dst);
            view.and_then(|v| crate::exec::read_back(&v, [c, y, x], size, &machine.memory))
        };
        let dtype = if signed { DType::I8 } else { DType::U8 };
        let at = [(tile.m0, c), (tile.y, y), (tile.x, x)].map(|(from, n)| from as usize + n as usize);
        if let Some(bytes) = bytes {
            let (_, parts) = self.layers.entry(layer).or_insert((dtype, Vec::new()));
            parts.push(Part { at, size, bytes });
        }
    }

    /// The results `[m, e, f]` of the layers whose parts make up all of it, each element once.
    pub fn tensors(&self, program: &Program) -> BTreeMap<u32, Tensor> {
        let found = self.layers.iter().filter_map(|(&id, (dtype, parts))| {
            let layer = program.layers.get(&id)?;
            let number = |name| {
                layer
                    .shape
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| *v as usize)
            };
            let shape = [number("m")?, number("e")?, number("f")?];
            Some((id, assemble(shape, *dtype, parts)?))
        });
        found.collect()
    }
}

fn assemble(shape: [usize; 3], dtype: DType, parts: &[Part]) -> Option<Tensor> {
    let covered: usize = parts.iter().map(|p| p.bytes.len()).sum();
    if sdc_ir::tensor::element_count(&shape)? != covered {
        return None;
    }
    let (mut out, mut seen) = (vec![0; covered], vec![false; covered]);
    for part in parts {
        for (i, &byte) in part.bytes.iter().enumerate() {
            let [_, e, f] = part.size;
            let place = [
                i / (e * f) + part.at[0],
                i / f % e + part.at[1],
                i % f + part.at[2],
            ];
            if place.iter().zip(shape).any(|(&p, n)| p >= n) {
                return None;
            }
            let at = (place[0] * shape[1] + place[1]) * shape[2] + place[2];
            if std::mem::replace(&mut seen[at], true) {
                return None;
            }
            out[at] = byte;
        }
    }
    Tensor::new(dtype, shape.to_vec(), Bytes::from(out)).ok()
}
