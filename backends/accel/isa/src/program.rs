//! A program: code, the image of DRAM, what goes in and comes out, and what reports and the host need to know.

use crate::{Code, Config, Engine, Fault, Instr};
use sdc_ir::DType;
use sdc_ir::graph::{Graph, Weights};
use sdc_ir::text::{parse_graph, weights_file};
use std::collections::BTreeMap;

/// A program for one configuration.
///
/// The code is a sequence of *parts*, each ended by its one `halt`. Host steps run between the parts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// The machine it was made for.
    pub config: Config,
    /// All parts, one after another.
    pub code: Vec<Instr>,
    /// Bytes of DRAM it uses. DRAM is zero where no data say otherwise.
    pub dram: u32,
    /// Initial contents of DRAM, ascending, without overlaps.
    pub data: Vec<Data>,
    /// What the caller gives.
    pub inputs: Vec<Port>,
    /// What the caller gets.
    pub outputs: Vec<Port>,
    /// Layers, by the id of their marks.
    pub layers: BTreeMap<u32, Layer>,
    /// Tiles, by the id of their marks.
    pub tiles: BTreeMap<u32, Tile>,
    /// What the host does, in its order; the parts do not descend.
    pub host: Vec<HostStep>,
}

/// Bytes of the DRAM image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data {
    /// Address of the first.
    pub addr: u32,
    /// The bytes, at least one.
    pub bytes: Vec<u8>,
}

/// Where a tensor is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In DRAM from this address on, row-major.
    Dram(u32),
    /// With the host, under this name: an input or output of the program, or what one host step leaves for another.
    Host(String),
}

/// An input or output of the program.
#[derive(Clone, PartialEq, Debug)]
pub struct Port {
    /// Its name for the caller.
    pub name: String,
    /// Where it is. With the host it goes under its own name.
    pub place: Place,
    /// Element type there.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// What its integers stand for: with it the caller may give and get real numbers (`docs/integer.md`, section 1).
    pub grid: Option<Grid>,
}

/// A real number is `(integer - zero) * scale`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Grid {
    /// Finite and positive.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero: i32,
}

/// A layer as reports name it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layer {
    /// Operator: `conv`, `dwconv`, `add`, `pool` ...
    pub op: String,
    /// The user's node.
    pub origin: String,
    /// Numbers of its shape, by name and in the order of reports: `c h w m e f kh kw stride dilation pad_top pad_left` and what else there is.
    pub shape: Vec<(String, i64)>,
}

/// Where a tile lies in its layer: what an instruction's `oy`, `ox` and filter 0 stand for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tile {
    /// Its first filter.
    pub m0: u32,
    /// Row of the layer's result that is row 0 of the tile.
    pub y: u32,
    /// Column of the layer's result that is column 0 of the tile.
    pub x: u32,
}

/// Part of the network that the host computes, on the interpreter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostStep {
    /// It runs before the part of this number, or at the end if there are no more.
    pub part: u32,
    /// The graph's text (`docs/ir.md`).
    pub text: String,
    /// The graph's weights file (`docs/weights-file.md`); empty if it has none.
    pub weights: Vec<u8>,
    /// Where the graph's inputs come from, in their order.
    pub inputs: Vec<Place>,
    /// Where its outputs go, in their order.
    pub outputs: Vec<Place>,
}

impl HostStep {
    /// The step that computes a graph.
    pub fn new(part: u32, graph: &Graph, inputs: Vec<Place>, outputs: Vec<Place>) -> Self {
        let mut weights = Vec::new();
        if !graph.weights.is_empty() {
            // Writing to a vector does not fail.
            let _ = weights_file::write(&graph.weights, &mut weights);
        }
        Self {
            part,
            text: graph.to_string(),
            weights,
            inputs,
            outputs,
        }
    }

    /// The graph.
    ///
    /// # Errors
    /// A message, if text or weights are malformed, the graph breaks a law, or places are not as many as inputs and outputs.
    pub fn graph(&self) -> Result<Graph, String> {
        let store = match self.weights.as_slice() {
            [] => Weights::default(),
            bytes => weights_file::read(bytes.to_vec().into()).map_err(|e| e.to_string())?,
        };
        let graph = parse_graph(&self.text, &store).map_err(|e| e.to_string())?;
        if let Some(fault) = sdc_ir::graph::verify::verify(&graph).first() {
            return Err(fault.to_string());
        }
        let (ins, outs) = (graph.inputs.len(), graph.outputs.len());
        if (ins, outs) != (self.inputs.len(), self.outputs.len()) {
            return Err(format!(
                "the graph has {ins} inputs and {outs} outputs, the step binds {} and {}",
                self.inputs.len(),
                self.outputs.len()
            ));
        }
        Ok(graph)
    }
}

impl Program {
    /// Puts the data in order and joins what touches, so that equal programs are equal values.
    ///
    /// # Errors
    /// A04 for data that overlap or end beyond 32 bits, A02 for names and numbers that no text could hold.
    pub(crate) fn normalise(&mut self) -> Result<(), Fault> {
        self.data.retain(|d| !d.bytes.is_empty());
        self.data.sort_by_key(|d| d.addr);
        let mut joined: Vec<Data> = Vec::with_capacity(self.data.len());
        for data in std::mem::take(&mut self.data) {
            let end = |d: &Data| u64::from(d.addr) + d.bytes.len() as u64;
            if end(&data) > 1 << 32 {
                let message = format!("data at {} end beyond 32 bits", data.addr);
                return Err(Fault::new(Code::A04, message));
            }
            match joined.last_mut() {
                Some(last) if end(last) > u64::from(data.addr) => {
                    let message = format!("data at {} overlap those at {}", data.addr, last.addr);
                    return Err(Fault::new(Code::A04, message));
                }
                Some(last) if end(last) == u64::from(data.addr) => last.bytes.extend(data.bytes),
                _ => joined.push(data),
            }
        }
        self.data = joined;
        let ports = self.inputs.iter().chain(&self.outputs);
        for port in ports {
            if port.grid.is_some_and(|g| !(g.scale.is_finite() && g.scale > 0.0)) {
                let message = format!("the scale of `{}` is not a positive number", port.name);
                return Err(Fault::new(Code::A02, message));
            }
        }
        let names = |l: &Layer| {
            std::iter::once(&l.op)
                .chain(l.shape.iter().map(|(n, _)| n))
                .all(|n| is_word(n))
        };
        if let Some((id, _)) = self.layers.iter().find(|(_, l)| !names(l)) {
            return Err(Fault::new(
                Code::A02,
                format!("layer {id} has a name that is no word"),
            ));
        }
        Ok(())
    }

    /// The ranges of the parts: each ends with the `halt` in it, the last perhaps without.
    pub fn parts(&self) -> Vec<std::ops::Range<usize>> {
        let (mut parts, mut start) = (Vec::new(), 0);
        for (i, instr) in self.code.iter().enumerate() {
            if instr.op == crate::Op::Halt {
                parts.push(start..i + 1);
                start = i + 1;
            }
        }
        if start < self.code.len() {
            parts.push(start..self.code.len());
        }
        parts
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Collects a program.
#[derive(Debug, Default)]
pub struct Builder {
    program: Program,
}

impl Builder {
    /// A program without code.
    pub fn new(config: Config) -> Self {
        Self {
            program: Program {
                config,
                ..Program::default()
            },
        }
    }

    /// The machine.
    pub fn config(&self) -> &Config {
        &self.program.config
    }

    /// Appends an instruction; its number.
    pub fn push(&mut self, instr: Instr) -> usize {
        self.program.code.push(instr);
        self.program.code.len() - 1
    }

    /// An instruction appended before.
    pub fn instr_mut(&mut self, number: usize) -> &mut Instr {
        &mut self.program.code[number]
    }

    /// Number of instructions so far.
    pub fn len(&self) -> usize {
        self.program.code.len()
    }

    /// True if there is no instruction.
    pub fn is_empty(&self) -> bool {
        self.program.code.is_empty()
    }

    /// Ends a part; its number.
    pub fn halt(&mut self, engine: Engine) -> u32 {
        self.push(Instr::on(engine, crate::Op::Halt));
        let halts = self.program.code.iter().filter(|i| i.op == crate::Op::Halt);
        (halts.count() - 1) as u32
    }

    /// Takes the next `bytes` bytes of DRAM from a multiple of `align` on; their address. `None` if 32 bits do not hold it.
    pub fn reserve(&mut self, bytes: usize, align: u32) -> Option<u32> {
        let addr = self.program.dram.checked_next_multiple_of(align.max(1))?;
        self.program.dram = addr.checked_add(u32::try_from(bytes).ok()?)?;
        Some(addr)
    }

    /// Likewise, with contents.
    pub fn data(&mut self, bytes: Vec<u8>, align: u32) -> Option<u32> {
        let addr = self.reserve(bytes.len(), align)?;
        if !bytes.is_empty() {
            self.program.data.push(Data { addr, bytes });
        }
        Some(addr)
    }

    /// An input of the program.
    pub fn input(&mut self, port: Port) {
        self.program.inputs.push(port);
    }

    /// An output of the program.
    pub fn output(&mut self, port: Port) {
        self.program.outputs.push(port);
    }

    /// A layer; the id for its marks.
    pub fn layer(&mut self, layer: Layer) -> u32 {
        let id = self.program.layers.len() as u32;
        self.program.layers.insert(id, layer);
        id
    }

    /// A tile; the id for its mark.
    pub fn tile(&mut self, tile: Tile) -> u32 {
        let id = self.program.tiles.len() as u32;
        self.program.tiles.insert(id, tile);
        id
    }

    /// A step of the host.
    pub fn host(&mut self, step: HostStep) {
        self.program.host.push(step);
    }

    /// The program.
    ///
    /// # Errors
    /// As for texts: data that overlap, names that are no words.
    pub fn finish(mut self) -> Result<Program, Fault> {
        self.program.normalise()?;
        Ok(self.program)
    }
}
