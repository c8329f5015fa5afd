//! The assembler.

use super::lex::{Token, tokens};
use super::print::is_magnitude;
use crate::{
    Cfg, Code, Config, Data, Engine, EngineSet, Fault, Faults, Field, File, Fmt, Grid, HostStep, Instr, Key,
    Layer, Op, Place, Port, Program, Register, Tile, encode,
};
use sdc_ir::DType;
use std::str::FromStr;

/// Column and message of a fault in a line.
type Error = (usize, String);
type Result<T> = std::result::Result<T, Error>;

/// Dimensions a port may have, as a tensor of a model.
const RANK: usize = 32;

/// Reads a program's text. What it says is not checked beyond syntax and the ranges of fields.
///
/// # Errors
/// All faults of the text: A05 with line and column, A13 also with the instruction.
pub fn parse(text: &str) -> std::result::Result<Program, Faults> {
    let mut reader = Reader::default();
    for (number, line) in text.split('\n').enumerate() {
        let number = number + 1;
        if let Some(graph) = line.strip_prefix('|') {
            reader.graph_line(number, graph);
            continue;
        }
        let read = tokens(line).and_then(|tokens| match tokens.first() {
            None => Ok(()),
            Some(first) => reader.line(number, &mut Line::new(&tokens, line), first),
        });
        if let Err((column, message)) = read {
            reader.fault(Code::A05, number, column, message);
        }
    }
    if reader.isa.is_none() {
        reader.fault(Code::A05, 1, 1, "expected `.isa 1.0`".to_owned());
    }
    let Reader {
        mut program,
        mut faults,
        ..
    } = reader;
    faults.extend(program.normalise().err());
    faults.or(program)
}

#[derive(Default)]
struct Reader {
    program: Program,
    faults: Faults,
    isa: Option<()>,
    /// Lines of the graph that the last `.host` began.
    graph_lines: usize,
}

impl Reader {
    fn fault(&mut self, code: Code, line: usize, column: usize, message: String) {
        let place = Some((line, column));
        self.faults.push(Fault {
            place,
            ..Fault::new(code, message)
        });
    }

    fn graph_line(&mut self, number: usize, graph: &str) {
        let Some(step) = self.program.host.last_mut() else {
            return self.fault(Code::A05, number, 1, "a graph's line without `.host`".to_owned());
        };
        if self.graph_lines > 0 {
            step.text.push('\n');
        }
        step.text.push_str(graph);
        self.graph_lines += 1;
    }

    fn line(&mut self, number: usize, line: &mut Line<'_>, first: &Token) -> Result<()> {
        if self.isa.is_none() && first.text != ".isa" {
            // Said once, at the end.
            self.isa = Some(());
            self.fault(
                Code::A05,
                number,
                first.column,
                "expected `.isa 1.0` first".to_owned(),
            );
        }
        if first.text.starts_with('.') && !first.quoted {
            self.directive(line)
        } else {
            let instr = instruction(line)?;
            if let Err(error) = encode(&instr) {
                let fault = Fault::at(Code::A13, self.program.code.len(), error.to_string());
                self.faults.push(Fault {
                    place: Some((number, first.column)),
                    ..fault
                });
            }
            self.program.code.push(instr);
            Ok(())
        }
    }

    fn directive(&mut self, line: &mut Line<'_>) -> Result<()> {
        let (column, name) = line.word("a directive")?;
        let program = &mut self.program;
        match name.as_str() {
            ".isa" => {
                let (column, version) = line.word("`1.0`")?;
                if version != "1.0" {
                    return Err((column, format!("ISA {version}; this sdc knows 1.0")));
                }
                self.isa = Some(());
            }
            ".arch" => program.config = arch(line)?,
            ".dram" => program.dram = line.number("a number of bytes")?,
            ".data" => {
                let addr = line.number("an address")?;
                let bytes = line.hex()?;
                program.data.push(Data { addr, bytes });
            }
            ".input" => program.inputs.push(port(line)?),
            ".output" => program.outputs.push(port(line)?),
            ".map" => {
                let id = line.number("a layer's number")?;
                let layer = Layer {
                    op: line.word("an operator")?.1,
                    origin: line.string("an origin")?,
                    shape: line.pairs()?,
                };
                if program.layers.insert(id, layer).is_some() {
                    return Err((column, format!("layer {id} occurs twice")));
                }
            }
            ".tile" => {
                let id = line.number("a tile's number")?;
                let tile = Tile {
                    m0: line.named("m0")?,
                    y: line.named("y")?,
                    x: line.named("x")?,
                };
                if program.tiles.insert(id, tile).is_some() {
                    return Err((column, format!("tile {id} occurs twice")));
                }
            }
            ".host" => {
                program.host.push(host(line)?);
                self.graph_lines = 0;
            }
            ".weights" => match program.host.last_mut() {
                Some(step) => step.weights.extend(line.hex()?),
                None => return Err((column, "weights without `.host`".to_owned())),
            },
            other => return Err((column, format!("there is no directive `{other}`"))),
        }
        line.end()
    }
}

fn arch(line: &mut Line<'_>) -> Result<Config> {
    let mut config = Config::default();
    let (column, name) = line.word("a configuration's name")?;
    config.rename(&name).map_err(|e| (column, e.to_string()))?;
    while let Some(token) = line.take() {
        let set = token.text.split_once('=').unwrap_or((&token.text, ""));
        Key::named(set.0)
            .and_then(|key| key.set(&mut config, set.1))
            .map_err(|e| (token.column, e.to_string()))?;
    }
    config.check().map_err(|e| (column, e.to_string()))?;
    Ok(config)
}

fn place(line: &mut Line<'_>) -> Result<Place> {
    match line.peek() {
        Some(token) if token.quoted => line.string("").map(Place::Host),
        _ => line.number("an address or a name in quotes").map(Place::Dram),
    }
}

fn port(line: &mut Line<'_>) -> Result<Port> {
    let name = line.string("a name in quotes")?;
    let place = place(line)?;
    let dtype = line.parsed::<DType>("an element type")?;
    let (column, text) = line.word("a shape such as 3x32x32")?;
    let shape = match text.as_str() {
        "scalar" => Vec::new(),
        _ => {
            let dims: std::result::Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
            dims.ok().filter(|d| d.len() <= RANK).ok_or((
                column,
                format!("expected a shape such as 3x32x32, found `{text}`"),
            ))?
        }
    };
    let grid = match line.peek() {
        None => None,
        Some(_) => Some(Grid {
            scale: line.parsed("a scale")?,
            zero: line.parsed("a zero point")?,
        }),
    };
    Ok(Port {
        name,
        place,
        dtype,
        shape,
        grid,
    })
}

fn host(line: &mut Line<'_>) -> Result<HostStep> {
    let part = line.number("the number of a part")?;
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    line.exactly("in")?;
    while line.peek().is_some_and(|t| t.quoted || t.text != "out") {
        inputs.push(place(line)?);
    }
    line.exactly("out")?;
    while line.peek().is_some() {
        outputs.push(place(line)?);
    }
    Ok(HostStep {
        part,
        text: String::new(),
        weights: Vec::new(),
        inputs,
        outputs,
    })
}

fn instruction(line: &mut Line<'_>) -> Result<Instr> {
    let (column, word) = line.word("an instruction")?;
    let (name, suffix) = match word.split_once('.') {
        Some((name, engine)) => (name, Some(engine)),
        None => (word.as_str(), None),
    };
    let op = match name {
        "nop" => Op::Nop,
        "halt" => Op::Halt,
        "cfg" => Op::Cfg(cfg(line)?),
        _ => match Op::make(name, |field| line.field(field)) {
            Some(op) => op?,
            None => return Err((column, format!("there is no instruction `{name}`"))),
        },
    };
    let engine = match (op.engine(), suffix) {
        (Some(engine), None) => engine,
        (Some(_), Some(_)) => {
            return Err((
                column,
                format!("`{name}` has one engine only, which is not written"),
            ));
        }
        (None, suffix) => suffix
            .and_then(Engine::named)
            .ok_or((column, format!("expected an engine, as in `{name}.pe`")))?,
    };
    let wait = line.engines('<')?;
    let signal = line.engines('>')?;
    line.end()?;
    Ok(Instr {
        engine,
        wait,
        signal,
        op,
    })
}

fn cfg(line: &mut Line<'_>) -> Result<Cfg> {
    let (column, word) = line.word("a register")?;
    let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let file = File::ALL
        .into_iter()
        .find(|f| f.name() == &word[..word.len() - digits.len()]);
    let (Some(file), Ok(index)) = (file, digits.parse()) else {
        return Err((
            column,
            format!("expected a register such as view0, found `{word}`"),
        ));
    };
    let value = match file {
        File::Fmt => Register::Fmt(format(line)?),
        _ => Register::make(file, |field| line.field(field))?,
    };
    Ok(Cfg { index, value })
}

fn format(line: &mut Line<'_>) -> Result<Fmt> {
    let fmt = <Fmt as crate::Fields>::make(|field| {
        if is_magnitude(field.name) {
            Ok(0)
        } else {
            line.field(field)
        }
    })?;
    if !fmt.sd {
        return Ok(fmt);
    }
    let (column, text) = line.value("a")?;
    let magnitudes: std::result::Result<Vec<u8>, _> = text.split(',').map(str::parse).collect();
    match magnitudes {
        Ok(list) if list.len() == fmt.n as usize => Ok(fmt.with_magnitudes(&list)),
        _ => Err((column, format!("expected {} magnitudes, as in a=1,2", fmt.n))),
    }
}

/// The tokens of a line that are not read yet.
struct Line<'a> {
    tokens: &'a [Token],
    /// Column behind the last token.
    end: usize,
}

impl<'a> Line<'a> {
    fn new(tokens: &'a [Token], line: &str) -> Self {
        let end = line.chars().count() + 1;
        Self { tokens, end }
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.first()
    }

    fn take(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn next(&mut self, what: &str) -> Result<&'a Token> {
        let end = self.end;
        self.take().ok_or_else(|| (end, format!("expected {what}")))
    }

    fn word(&mut self, what: &str) -> Result<(usize, String)> {
        let token = self.next(what)?;
        if token.quoted {
            return Err((token.column, format!("expected {what}, found a string")));
        }
        Ok((token.column, token.text.clone()))
    }

    fn string(&mut self, what: &str) -> Result<String> {
        let token = self.next(what)?;
        if !token.quoted {
            return Err((token.column, format!("expected {what}, found `{}`", token.text)));
        }
        Ok(token.text.clone())
    }

    fn parsed<T: FromStr>(&mut self, what: &str) -> Result<T> {
        let (column, text) = self.word(what)?;
        text.parse()
            .map_err(|_| (column, format!("expected {what}, found `{text}`")))
    }

    fn number(&mut self, what: &str) -> Result<u32> {
        self.parsed(what)
    }

    fn exactly(&mut self, word: &str) -> Result<()> {
        let (column, text) = self.word(&format!("`{word}`"))?;
        if text == word {
            Ok(())
        } else {
            Err((column, format!("expected `{word}`, found `{text}`")))
        }
    }

    /// The value of `name=value`.
    fn value(&mut self, name: &str) -> Result<(usize, &'a str)> {
        let token = self.next(&format!("`{name}=`"))?;
        match token.text.split_once('=') {
            Some((found, value)) if found == name && !token.quoted => Ok((token.column, value)),
            _ => Err((
                token.column,
                format!("expected `{name}=`, found `{}`", token.text),
            )),
        }
    }

    fn named(&mut self, name: &str) -> Result<u32> {
        let (column, value) = self.value(name)?;
        value
            .parse()
            .map_err(|_| (column, format!("{name} is `{value}`, expected a number")))
    }

    fn field(&mut self, field: &'static Field) -> Result<i64> {
        let (column, value) = self.value(field.name)?;
        let (least, greatest) = field.range();
        let number = value.parse().ok().filter(|v| (least..=greatest).contains(v));
        let wrong = || format!("{} is `{value}`, expected {least} to {greatest}", field.name);
        number.ok_or_else(|| (column, wrong()))
    }

    fn pairs(&mut self) -> Result<Vec<(String, i64)>> {
        let mut pairs = Vec::new();
        while let Some(token) = self.take() {
            let pair = token.text.split_once('=');
            let pair = pair.and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
            pairs.push(pair.ok_or((token.column, "expected NAME=NUMBER".to_owned()))?);
        }
        Ok(pairs)
    }

    fn engines(&mut self, mark: char) -> Result<EngineSet> {
        let Some(names) = self.peek().and_then(|t| t.text.strip_prefix(mark)) else {
            return Ok(EngineSet::EMPTY);
        };
        let (column, _) = self.word("engines")?;
        let set: Option<EngineSet> = names.split(',').map(Engine::named).collect();
        set.ok_or((column, format!("expected engines, as in `{mark}ld,st`")))
    }

    fn hex(&mut self) -> Result<Vec<u8>> {
        let (column, text) = self.word("bytes in hexadecimal")?;
        let digit = |b: &u8| (*b as char).to_digit(16).map(|d| d as u8);
        let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.ok_or((column, "expected an even number of hexadecimal digits".to_owned()))
    }

    fn end(&self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(token) => Err((
                token.column,
                format!("expected the end of the line, found `{}`", token.text),
            )),
        }
    }
}
