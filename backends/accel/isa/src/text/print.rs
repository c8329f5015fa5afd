//! The disassembler.

use crate::{EngineSet, Grid, HostStep, Instr, Op, Place, Port, Program, Register};
use std::fmt::{self, Display, Write};

/// Bytes of a `.data` line.
const DATA: usize = 64;

/// Prints a string in double quotes, on one line.
pub(super) struct Quoted<'a>(pub &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

struct Hex<'a>(&'a [u8]);

impl Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dram(addr) => write!(f, "{addr}"),
            Self::Host(name) => Quoted(name).fmt(f),
        }
    }
}

/// The instruction's line, without an end.
impl Display for Instr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op.name())?;
        if self.op.engine().is_none() {
            write!(f, ".{}", self.engine)?;
        }
        match &self.op {
            Op::Cfg(cfg) => {
                write!(f, " {}{}", cfg.value.file().name(), cfg.index)?;
                register(f, &cfg.value)?;
            }
            op => fields(f, |g| op.each(g))?,
        }
        engines(f, " <", self.wait)?;
        engines(f, " >", self.signal)
    }
}

fn fields(
    f: &mut fmt::Formatter<'_>,
    each: impl FnOnce(&mut dyn FnMut(&'static crate::Field, i64)),
) -> fmt::Result {
    let mut result = Ok(());
    each(&mut |field, value| result = result.and_then(|()| write!(f, " {}={value}", field.name)));
    result
}

fn register(f: &mut fmt::Formatter<'_>, value: &Register) -> fmt::Result {
    let Register::Fmt(fmt) = value else {
        return fields(f, |g| value.each(g));
    };
    let mut result = Ok(());
    value.each(|field, v| {
        if !is_magnitude(field.name) {
            result = result.and_then(|()| write!(f, " {}={v}", field.name));
        }
    });
    result?;
    for (i, a) in fmt.alphabet().iter().enumerate() {
        write!(f, "{}{a}", if i == 0 { " a=" } else { "," })?;
    }
    Ok(())
}

/// Fields of `fmt` that are printed together.
pub(super) fn is_magnitude(name: &str) -> bool {
    name.len() == 2 && name.starts_with('a')
}

fn engines(f: &mut fmt::Formatter<'_>, head: &str, set: EngineSet) -> fmt::Result {
    for (i, engine) in set.iter().enumerate() {
        write!(f, "{}{engine}", if i == 0 { head } else { "," })?;
    }
    Ok(())
}

/// The whole program's text; [`parse`](super::parse) reads it back.
impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, ".isa 1.0")?;
        write!(f, ".arch {}", self.config.name)?;
        for key in self.config.differences() {
            write!(f, " {key}")?;
        }
        writeln!(f, "\n.dram {}", self.dram)?;
        self.inputs.iter().try_for_each(|p| port(f, ".input", p))?;
        self.outputs.iter().try_for_each(|p| port(f, ".output", p))?;
        for (id, layer) in &self.layers {
            write!(f, ".map {id} {} {}", layer.op, Quoted(&layer.origin))?;
            for (name, value) in &layer.shape {
                write!(f, " {name}={value}")?;
            }
            f.write_char('\n')?;
        }
        for (id, tile) in &self.tiles {
            writeln!(f, ".tile {id} m0={} y={} x={}", tile.m0, tile.y, tile.x)?;
        }
        for data in &self.data {
            for (i, bytes) in data.bytes.chunks(DATA).enumerate() {
                writeln!(f, ".data {} {}", data.addr as usize + i * DATA, Hex(bytes))?;
            }
        }
        self.host.iter().try_for_each(|step| host(f, step))?;
        self.code.iter().try_for_each(|instr| writeln!(f, "{instr}"))
    }
}

fn port(f: &mut fmt::Formatter<'_>, head: &str, port: &Port) -> fmt::Result {
    write!(f, "{head} {} {} {} ", Quoted(&port.name), port.place, port.dtype)?;
    for (i, dim) in port.shape.iter().enumerate() {
        write!(f, "{}{dim}", if i == 0 { "" } else { "x" })?;
    }
    if port.shape.is_empty() {
        f.write_str("scalar")?;
    }
    if let Some(Grid { scale, zero }) = port.grid {
        write!(f, " {scale:?} {zero}")?;
    }
    f.write_char('\n')
}

fn host(f: &mut fmt::Formatter<'_>, step: &HostStep) -> fmt::Result {
    write!(f, ".host {} in", step.part)?;
    step.inputs.iter().try_for_each(|p| write!(f, " {p}"))?;
    f.write_str(" out")?;
    step.outputs.iter().try_for_each(|p| write!(f, " {p}"))?;
    f.write_char('\n')?;
    // The bar keeps the graph's lines apart from ours, whatever they hold.
    for line in step.text.split('\n') {
        writeln!(f, "|{line}")?;
    }
    for bytes in step.weights.chunks(DATA) {
        writeln!(f, ".weights {}", Hex(bytes))?;
    }
    Ok(())
}
