//! Loads.

use super::{Emitter, Placed, place};
use crate::error::AccelError;
use crate::net::MapId;
use crate::schedule::{Load, LoadId, What};
use crate::tokens::{Access, Space};
use sdc_accel_isa::{Engine, Ldm, Ldp, Ldt, Ldw, Ldx, Register, View};
use std::ops::Range;

impl Emitter<'_> {
    /// Emits a load; false if there is no room yet.
    pub(super) fn load(&mut self, id: LoadId, load: &Load) -> Result<bool, AccelError> {
        match &load.what {
            What::Weights { layer, tile, piece } => self.weights(id, load, (*layer, *tile, *piece)),
            What::Parameters { layer, tile } => self.parameters(id, load, (*layer, *tile)),
            What::Table(table) => self.table(id, load, &table[..]),
            What::Rows {
                map,
                view,
                first,
                channels,
                rows,
            } => {
                self.enter(Engine::Ld, load.layer);
                self.rows(load.layer, *map, *view, *first, channels, rows);
                Ok(true)
            }
        }
    }

    /// Why a load that is due has no room.
    pub(super) fn no_room(&self, load: &Load) -> AccelError {
        let layer = self.net.layers[load.layer].origin.clone();
        let (buffer, need, size) = match &load.what {
            What::Weights { layer, tile, piece } => {
                let image = &self.plans[*layer].tiles[*tile].images[*piece];
                (
                    "a slice's weight buffer",
                    image.room(),
                    2 * self.config.wb_bank as usize,
                )
            }
            What::Parameters { layer, tile } => (
                "the parameter buffer",
                self.plans[*layer].tiles[*tile].filters.len() * 8,
                2 * 8 * self.config.pb_bank as usize,
            ),
            _ => ("the tables", 256, 256 * self.config.tables as usize),
        };
        AccelError::TooLarge {
            layer,
            buffer,
            need,
            size,
        }
    }

    fn weights(&mut self, id: LoadId, load: &Load, key: (usize, usize, usize)) -> Result<bool, AccelError> {
        let tile = &self.plans[key.0].tiles[key.1];
        let image = &tile.images[key.2];
        let (bank, base) = (self.config.wb_bank as usize, image.base_bytes);
        // Bases lie in the bank where the stream begins.
        let adjust = |start: usize| {
            let apart = base > 0 && start / bank != (start + base) / bank;
            if apart {
                start.next_multiple_of(bank)
            } else {
                start
            }
        };
        let Some(at) = self.wb.take(image.room(), load.last, adjust) else {
            return Ok(false);
        };
        let xbank = self.config.xb_bank as usize;
        let bits = image.index.len();
        let whole = |start: usize| {
            let apart = bits > 0 && start / xbank != (start + bits - 1) / xbank;
            if apart {
                start.next_multiple_of(xbank)
            } else {
                start
            }
        };
        let Some(index) = self.xb.take(bits, load.last, whole) else {
            self.wb.give_back(at);
            return Ok(false);
        };
        self.placed[id] = Placed { at, index };
        let (stream, bases, xs) = self.image(key)?;
        self.enter(Engine::Ld, load.layer);
        let slices = tile.filters.len() as u32;
        let access = |start: usize, len: usize| Access {
            space: Space::Wb,
            range: start as u32..(start + len) as u32,
            write: true,
        };
        let place = |at: usize| ((at / bank) as u32, (at % bank) as u32);
        if base > 0 {
            let (bank, addr) = place(at);
            let all = Ldw {
                bank,
                addr,
                slice: 0,
                slices: if image.shared { self.config.slices } else { slices },
                bytes: base as u32,
                copies: if image.shared { 0 } else { tile.fold },
                bcast: image.shared,
                dram: bases,
            };
            self.tokens.push(Engine::Ld, all, &[access(at, base)]);
        }
        let (wbank, addr) = place(at + base);
        let codes = Ldw {
            bank: wbank,
            addr,
            slice: 0,
            slices,
            bytes: image.bytes as u32,
            copies: tile.fold,
            bcast: false,
            dram: stream,
        };
        self.tokens
            .push(Engine::Ld, codes, &[access(at + base, image.bytes)]);
        if bits > 0 {
            let op = Ldx {
                bank: (index / xbank) as u32,
                addr: (index % xbank) as u32,
                bytes: bits as u32,
                dram: xs,
            };
            let written = Access {
                space: Space::Xb,
                range: index as u32..(index + bits) as u32,
                write: true,
            };
            self.tokens.push(Engine::Ld, op, &[written]);
        }
        let traffic = &mut self.traffic[load.layer];
        traffic.stream += image.stream.len() as u64;
        traffic.basis += image.bases.len() as u64;
        traffic.index += bits as u64;
        Ok(true)
    }

    /// Addresses of a tile's stream, bases and index bits.
    fn image(&mut self, key: (usize, usize, usize)) -> Result<(u32, u32, u32), AccelError> {
        if let Some(at) = self.images.get(&key) {
            return Ok(*at);
        }
        let image = &self.plans[key.0].tiles[key.1].images[key.2];
        let stream = self.data(image.stream.clone())?;
        let bases = self.data(image.bases.clone())?;
        let index = self.data(image.index.clone())?;
        self.images.insert(key, (stream, bases, index));
        Ok((stream, bases, index))
    }

    fn data(&mut self, bytes: Vec<u8>) -> Result<u32, AccelError> {
        let granule = self.config.dram_granule;
        self.tokens.builder().data(bytes, granule).ok_or(AccelError::Dram)
    }

    fn parameters(&mut self, id: LoadId, load: &Load, key: (usize, usize)) -> Result<bool, AccelError> {
        let tile = &self.plans[key.0].tiles[key.1];
        let crate::net::Body::Conv(conv) = &self.net.layers[key.0].body else {
            return Ok(true);
        };
        let (m, bank) = (tile.filters.len(), self.config.pb_bank as usize);
        let whole = |start: usize| {
            let apart = start / bank != (start + m - 1) / bank;
            if apart {
                start.next_multiple_of(bank)
            } else {
                start
            }
        };
        let Some(at) = self.pb.take(m, load.last, whole) else {
            return Ok(false);
        };
        self.placed[id] = Placed { at, index: 0 };
        let dram = match self.parameters.get(&key) {
            Some(dram) => *dram,
            None => {
                let of = |k: usize| {
                    let (bias, multiplier) = (conv.bias[k].to_le_bytes(), conv.multiplier[k].to_le_bytes());
                    [bias, multiplier].concat()
                };
                let bytes = tile.filters.clone().flat_map(of).collect();
                let dram = self.data(bytes)?;
                self.parameters.insert(key, dram);
                dram
            }
        };
        self.enter(Engine::Ld, load.layer);
        let op = Ldp {
            bank: (at / bank) as u32,
            addr: (at % bank * 8) as u32,
            bytes: (m * 8) as u32,
            dram,
        };
        let written = Access {
            space: Space::Pb,
            range: at as u32..(at + m) as u32,
            write: true,
        };
        self.tokens.push(Engine::Ld, op, &[written]);
        self.traffic[load.layer].parameters += m as u64 * 8;
        Ok(true)
    }

    fn table(&mut self, id: LoadId, load: &Load, table: &[u8]) -> Result<bool, AccelError> {
        let Some(at) = self.tt.take(1, load.last, |start| start) else {
            return Ok(false);
        };
        self.placed[id] = Placed { at, index: 0 };
        let dram = match self.tables.get(table) {
            Some(dram) => *dram,
            None => {
                let dram = self.data(table.to_vec())?;
                self.tables.insert(table.to_vec(), dram);
                dram
            }
        };
        self.enter(Engine::Ld, load.layer);
        let written = Access {
            space: Space::Tables,
            range: at as u32..at as u32 + 1,
            write: true,
        };
        let op = Ldt {
            table: at as u32,
            dram,
        };
        self.tokens.push(Engine::Ld, op, &[written]);
        self.traffic[load.layer].table += 256;
        Ok(true)
    }

    fn rows(
        &mut self,
        layer: usize,
        map: MapId,
        view: View,
        first: usize,
        channels: &Range<usize>,
        rows: &Range<usize>,
    ) {
        let m = &self.net.maps[map];
        let address = self.address(map);
        let inside = rows.start - first..rows.end - first;
        // An instruction takes so many channels.
        const MOST: usize = 4096;
        let v = self
            .registers
            .get(&mut self.tokens, Engine::Ld, Register::View(view));
        for c in channels.clone().step_by(MOST) {
            let n = MOST.min(channels.end - c);
            let op = Ldm {
                view: v,
                dram: address + ((c * m.h + rows.start) * m.w) as u32,
                cstride: (m.h * m.w) as u32,
                c0: (c - channels.start) as u32,
                n: n as u32,
                y0: inside.start as u32,
                rows: inside.len() as u32,
            };
            let there = c - channels.start..c - channels.start + n;
            let mut accesses = place::view(&view, self.config.lines, there, inside.clone(), true);
            accesses.extend(place::map(self.net, map, c..c + n, rows.clone(), false));
            self.tokens.push(Engine::Ld, op, &accesses);
            self.traffic[layer].read += (n * rows.len() * m.w) as u64;
        }
    }

    /// The address of a map in DRAM.
    pub(super) fn address(&self, map: MapId) -> u32 {
        self.addresses[self.net.root(map)].expect("maps that are not kept have addresses")
    }
}
