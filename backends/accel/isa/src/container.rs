//! `.sdap` files: a header, then six sections, each with its length and CRC-32. A program has exactly one such form.

use crate::{
    Code, Config, Data, Fault, Faults, Grid, HostStep, KEYS, Key, Layer, Place, Port, Program, Tile, decode,
    encode,
};
use sdc_ir::{DType, Digest};

const MAGIC: &[u8; 4] = b"SDAP";
/// Version of the container, then of the instruction set: major, minor.
const VERSION: [u8; 4] = [1, 1, 0, 0];
const SECTIONS: [&[u8; 4]; 6] = [b"arch", b"code", b"data", b"io  ", b"map ", b"host"];
/// Bytes of a container.
pub(crate) const MOST: usize = 1 << 30;
/// Bytes of an instruction.
pub const WORD: usize = 16;

/// Why reading stopped: the section is not what it should be.
type Broken = String;

impl Program {
    /// The container's bytes.
    ///
    /// # Errors
    /// A13 for each instruction whose fields do not fit.
    pub fn to_container(&self) -> Result<Vec<u8>, Faults> {
        let (mut code, mut faults) = (Vec::with_capacity(self.code.len() * WORD), Faults::default());
        for (i, instr) in self.code.iter().enumerate() {
            match encode(instr) {
                Ok(word) => code.extend(word.to_le_bytes()),
                Err(error) => faults.push(Fault::at(Code::A13, i, error.to_string())),
            }
        }
        let mut program = Program {
            data: self.data.clone(),
            ..Program::default()
        };
        faults.extend(program.normalise().err());
        if !faults.is_empty() {
            return Err(faults);
        }
        let sections = [
            arch(&self.config),
            code,
            data(self.dram, &program.data),
            io(self),
            map(self),
            host(&self.host),
        ];
        let mut out = Writer(Vec::new());
        out.0.extend(MAGIC);
        out.0.extend(VERSION);
        out.0.extend(self.config.hash().0);
        for (tag, body) in SECTIONS.iter().zip(&sections) {
            out.0.extend(*tag);
            out.0.extend((body.len() as u64).to_le_bytes());
            out.u32(crc32fast::hash(body));
            out.0.extend(body);
        }
        Ok(out.0)
    }

    /// Reads a container.
    ///
    /// # Errors
    /// A01 to A04, and A10 to A12 for each word that is no instruction; A60 for a file that is too large.
    pub fn from_container(file: &[u8]) -> Result<Self, Faults> {
        if file.len() > MOST {
            let message = format!("{} bytes, more than {MOST}", file.len());
            return Err(Fault::new(Code::A60, message).into());
        }
        let sections = sections(file)?;
        let [
            arch_bytes,
            code_bytes,
            data_bytes,
            io_bytes,
            map_bytes,
            host_bytes,
        ] = sections.bodies;
        let (mut program, mut faults) = (Program::default(), Faults::default());
        let mut note = |section: &str, result: Result<(), Broken>| {
            let message = |m| Fault::new(Code::A02, format!("section {section}: {m}"));
            faults.extend(result.err().map(message));
        };
        let config = read_all(arch_bytes, read_arch);
        note("arch", config.map(|c| program.config = c));
        note("data", read_all(data_bytes, |r| read_data(r, &mut program)));
        note("io", read_all(io_bytes, |r| read_io(r, &mut program)));
        note("map", read_all(map_bytes, |r| read_map(r, &mut program)));
        note("host", read_all(host_bytes, |r| read_host(r, &mut program)));
        if code_bytes.len() % WORD != 0 {
            note(
                "code",
                Err(format!("{} bytes are no whole number of words", code_bytes.len())),
            );
        }
        read_code(code_bytes, &mut program, &mut faults);
        if faults.is_empty() && program.config.hash() != sections.hash {
            let (own, said) = (program.config.hash(), sections.hash);
            let message = format!("its configuration has the hash {own}, its header says {said}");
            faults.push(Fault::new(Code::A03, message));
        }
        let written = program.data.clone();
        faults.extend(program.normalise().err());
        if written != program.data {
            faults.push(Fault::new(
                Code::A04,
                "data that are not ascending, or not as few as can be",
            ));
        }
        faults.or(program)
    }
}

struct Sections<'a> {
    hash: Digest,
    bodies: [&'a [u8]; 6],
}

fn sections(file: &[u8]) -> Result<Sections<'_>, Faults> {
    let fail = |code, message: String| Faults::from(Fault::new(code, message));
    let mut rest = Reader(file);
    let head = rest
        .take(8)
        .ok_or_else(|| fail(Code::A01, "no SDAP container".to_owned()))?;
    if &head[..4] != MAGIC {
        return Err(fail(Code::A01, "no SDAP container".to_owned()));
    }
    if head[4..] != VERSION {
        let message = format!(
            "container version {}, ISA {}.{}; this sdc reads container version 1, ISA 1.0",
            head[4], head[5], head[6]
        );
        return Err(fail(Code::A01, message));
    }
    let ends = |what: &str| fail(Code::A02, format!("the file ends in {what}"));
    let mut hash = [0; 32];
    hash.copy_from_slice(rest.take(32).ok_or_else(|| ends("the header"))?);
    let (mut bodies, mut faults) = ([&[][..]; 6], Faults::default());
    for (tag, body) in SECTIONS.iter().zip(&mut bodies) {
        let name = String::from_utf8_lossy(&tag[..]).trim().to_owned();
        let head = rest
            .take(16)
            .ok_or_else(|| ends(&format!("front of section {name}")))?;
        if head[..4] != tag[..] {
            return Err(fail(Code::A02, format!("expected section {name}")));
        }
        let mut numbers = Reader(&head[4..]);
        let length = numbers.u64().unwrap_or(u64::MAX);
        let crc = numbers.u32();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        *body = rest
            .take(length)
            .ok_or_else(|| ends(&format!("section {name}")))?;
        if crc != Ok(crc32fast::hash(body)) {
            faults.push(Fault::new(
                Code::A02,
                format!("section {name} does not have its checksum"),
            ));
        }
    }
    if !rest.0.is_empty() {
        faults.push(Fault::new(
            Code::A02,
            format!("{} bytes behind the last section", rest.0.len()),
        ));
    }
    faults.or(Sections {
        hash: Digest(hash),
        bodies,
    })
}

fn read_code(bytes: &[u8], program: &mut Program, faults: &mut Faults) {
    let (words, _) = bytes.as_chunks::<WORD>();
    program.code.reserve_exact(words.len());
    for (i, word) in words.iter().enumerate() {
        match decode(u128::from_le_bytes(*word)) {
            Ok(instr) => program.code.push(instr),
            Err(error) => faults.push(Fault::at(error.code(), i, error.to_string())),
        }
    }
}

fn arch(config: &Config) -> Vec<u8> {
    let keys = KEYS.iter().map(|k| format!("{}={}\n", k.name, k.get(config)));
    format!("{}\n{}", config.name, keys.collect::<String>()).into_bytes()
}

fn read_arch(r: &mut Reader<'_>) -> Result<Config, Broken> {
    let bytes = std::mem::take(&mut r.0);
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let mut config = Config::default();
    let mut lines = text.lines();
    config
        .rename(lines.next().unwrap_or(""))
        .map_err(|e| e.to_string())?;
    for line in lines {
        let (name, value) = line.split_once('=').ok_or("expected KEY=VALUE")?;
        Key::named(name)
            .and_then(|key| key.set(&mut config, value))
            .map_err(|e| e.to_string())?;
    }
    config.check().map_err(|e| e.to_string())?;
    if arch(&config) != bytes {
        return Err("not in its canonical form".to_owned());
    }
    Ok(config)
}

fn data(dram: u32, data: &[Data]) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.u32(dram);
    out.u32(data.len() as u32);
    for d in data {
        out.u32(d.addr);
        out.bytes(&d.bytes);
    }
    out.0
}

fn read_data(r: &mut Reader<'_>, program: &mut Program) -> Result<(), Broken> {
    program.dram = r.u32()?;
    for _ in 0..r.u32()? {
        let addr = r.u32()?;
        let bytes = r.bytes()?.to_vec();
        program.data.push(Data { addr, bytes });
    }
    Ok(())
}

fn io(program: &Program) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    for ports in [&program.inputs, &program.outputs] {
        out.u32(ports.len() as u32);
        for port in ports {
            out.bytes(port.name.as_bytes());
            out.place(&port.place);
            out.bytes(port.dtype.to_string().as_bytes());
            out.u32(port.shape.len() as u32);
            port.shape
                .iter()
                .for_each(|&d| out.0.extend((d as u64).to_le_bytes()));
            out.0.push(u8::from(port.grid.is_some()));
            if let Some(Grid { scale, zero }) = port.grid {
                out.0.extend(scale.to_le_bytes());
                out.0.extend(zero.to_le_bytes());
            }
        }
    }
    out.0
}

fn read_io(r: &mut Reader<'_>, program: &mut Program) -> Result<(), Broken> {
    program.inputs = read_ports(r)?;
    program.outputs = read_ports(r)?;
    Ok(())
}

fn read_ports(r: &mut Reader<'_>) -> Result<Vec<Port>, Broken> {
    let mut ports = Vec::new();
    for _ in 0..r.u32()? {
        let name = r.string()?;
        let place = r.place()?;
        let dtype = r.string()?;
        let dtype: DType = dtype.parse().map_err(|_| format!("element type `{dtype}`"))?;
        let mut shape = Vec::new();
        for _ in 0..r.u32()? {
            shape.push(usize::try_from(r.u64()?).map_err(|e| e.to_string())?);
        }
        let grid = match r.u8()? {
            0 => None,
            1 => Some(Grid {
                scale: f32::from_bits(r.u32()?),
                zero: r.u32()? as i32,
            }),
            _ => return Err("a flag that is neither 0 nor 1".to_owned()),
        };
        ports.push(Port {
            name,
            place,
            dtype,
            shape,
            grid,
        });
    }
    Ok(ports)
}

fn map(program: &Program) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.u32(program.layers.len() as u32);
    for (&id, layer) in &program.layers {
        out.u32(id);
        out.bytes(layer.op.as_bytes());
        out.bytes(layer.origin.as_bytes());
        out.u32(layer.shape.len() as u32);
        for (name, value) in &layer.shape {
            out.bytes(name.as_bytes());
            out.0.extend(value.to_le_bytes());
        }
    }
    out.u32(program.tiles.len() as u32);
    for (&id, tile) in &program.tiles {
        [id, tile.m0, tile.y, tile.x].into_iter().for_each(|v| out.u32(v));
    }
    out.0
}

fn read_map(r: &mut Reader<'_>, program: &mut Program) -> Result<(), Broken> {
    let ascending = |last: Option<u32>, id| match last {
        Some(last) if last >= id => Err("numbers that do not ascend".to_owned()),
        _ => Ok(()),
    };
    for _ in 0..r.u32()? {
        let id = r.u32()?;
        ascending(program.layers.last_key_value().map(|(&k, _)| k), id)?;
        let (op, origin) = (r.string()?, r.string()?);
        let mut shape = Vec::new();
        for _ in 0..r.u32()? {
            shape.push((r.string()?, r.u64()? as i64));
        }
        program.layers.insert(id, Layer { op, origin, shape });
    }
    for _ in 0..r.u32()? {
        let id = r.u32()?;
        ascending(program.tiles.last_key_value().map(|(&k, _)| k), id)?;
        let (m0, y, x) = (r.u32()?, r.u32()?, r.u32()?);
        program.tiles.insert(id, Tile { m0, y, x });
    }
    Ok(())
}

fn host(steps: &[HostStep]) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.u32(steps.len() as u32);
    for step in steps {
        out.u32(step.part);
        out.bytes(step.text.as_bytes());
        out.bytes(&step.weights);
        for places in [&step.inputs, &step.outputs] {
            out.u32(places.len() as u32);
            places.iter().for_each(|p| out.place(p));
        }
    }
    out.0
}

fn read_host(r: &mut Reader<'_>, program: &mut Program) -> Result<(), Broken> {
    for _ in 0..r.u32()? {
        let part = r.u32()?;
        let text = r.string()?;
        let weights = r.bytes()?.to_vec();
        let inputs = r.places()?;
        let outputs = r.places()?;
        program.host.push(HostStep {
            part,
            text,
            weights,
            inputs,
            outputs,
        });
    }
    Ok(())
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
    }

    fn place(&mut self, place: &Place) {
        match place {
            Place::Dram(addr) => {
                self.0.push(0);
                self.u32(*addr);
            }
            Place::Host(name) => {
                self.0.push(1);
                self.bytes(name.as_bytes());
            }
        }
    }
}

/// What is left of a section. Nothing is allocated before its bytes are there.
struct Reader<'a>(&'a [u8]);

fn read_all<T>(bytes: &[u8], read: impl FnOnce(&mut Reader<'_>) -> Result<T, Broken>) -> Result<T, Broken> {
    let mut reader = Reader(bytes);
    let value = read(&mut reader)?;
    match reader.0 {
        [] => Ok(value),
        rest => Err(format!("{} bytes too many", rest.len())),
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let bytes = self.take(N).and_then(|b| b.try_into().ok());
        bytes.ok_or_else(|| "it ends too early".to_owned())
    }

    fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Broken> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Broken> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.u32()? as usize;
        self.take(length).ok_or_else(|| "it ends too early".to_owned())
    }

    fn string(&mut self) -> Result<String, Broken> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())
    }

    fn place(&mut self) -> Result<Place, Broken> {
        match self.u8()? {
            0 => Ok(Place::Dram(self.u32()?)),
            1 => Ok(Place::Host(self.string()?)),
            _ => Err("a place that is neither DRAM nor the host".to_owned()),
        }
    }

    fn places(&mut self) -> Result<Vec<Place>, Broken> {
        let mut places = Vec::new();
        for _ in 0..self.u32()? {
            places.push(self.place()?);
        }
        Ok(places)
    }
}
