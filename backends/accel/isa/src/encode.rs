//! Instructions to and from words of 128 bits: opcode 5..0, engine 7..6, waits 10..8, signals 13..11, operands from bit 14 up.

use crate::field::{pack, unpack};
use crate::{Cfg, Code, Engine, EngineSet, Field, Fields, File, Fmt, Instr, Op, Register};

const ENGINE: u32 = 6;
const WAIT: u32 = 8;
const SIGNAL: u32 = 11;
const OPERANDS: u32 = 14;
/// Bits of the file and index in front of a register's value.
const CFG_HEAD: u32 = 6;
/// Bits of a register.
const REGISTER: u32 = 96;

/// Why a word is no instruction, or an instruction no word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum WordError {
    #[error("there is no opcode {0:#04x}")]
    Opcode(u8),
    #[error("`{op}` is not executed by engine {engine}")]
    Engine { op: &'static str, engine: Engine },
    #[error("bits that must be zero are not")]
    Reserved,
    #[error("{name} is {value}; it may be {least} to {greatest}")]
    Field {
        name: &'static str,
        value: i64,
        least: i64,
        greatest: i64,
    },
    #[error("engine {0} cannot wait for itself, nor signal itself")]
    Itself(Engine),
}

impl WordError {
    /// The code of the fault.
    pub fn code(&self) -> Code {
        match self {
            Self::Opcode(_) => Code::A10,
            Self::Engine { .. } => Code::A11,
            Self::Reserved => Code::A12,
            Self::Field { .. } | Self::Itself(_) => Code::A13,
        }
    }
}

impl From<(&'static Field, i64)> for WordError {
    fn from((field, value): (&'static Field, i64)) -> Self {
        let (least, greatest) = field.range();
        Self::Field {
            name: field.name,
            value,
            least,
            greatest,
        }
    }
}

/// Operations with operands of their own: one line an opcode.
macro_rules! opcodes {
    ($($code:literal $op:ident),* $(,)?) => {
        fn operands_of(op: &Op) -> Result<(u8, u128), WordError> {
            Ok(match op {
                Op::Nop => (0, 0),
                Op::Halt => (1, 0),
                Op::Cfg(cfg) => (2, cfg_operands(cfg)?),
                $(Op::$op(value) => ($code, pack(value)?),)*
            })
        }

        fn op_of(code: u8, operands: u128) -> Result<(Op, u128), WordError> {
            Ok(match code {
                0 => (Op::Nop, operands),
                1 => (Op::Halt, operands),
                2 => cfg_of(operands),
                $($code => {
                    let (value, rest) = unpack::<crate::$op>(operands);
                    (Op::$op(value), rest)
                })*
                _ => return Err(WordError::Opcode(code)),
            })
        }

        impl Op {
            /// Passes each operand's value on; those of `cfg` are its register's.
            pub fn each(&self, f: impl FnMut(&'static Field, i64)) {
                match self {
                    Op::Nop | Op::Halt => {}
                    Op::Cfg(cfg) => cfg.value.each(f),
                    $(Op::$op(value) => value.each(f),)*
                }
            }

            /// Makes the operation with operands of this name, of values asked for one by one; `None` if there is none, or it has none.
            ///
            /// # Errors
            /// The first that `f` gives.
            pub fn make<E>(name: &str, f: impl FnMut(&'static Field) -> Result<i64, E>) -> Option<Result<Self, E>> {
                $(if name == Op::$op(crate::$op::default()).name() {
                    return Some(Fields::make(f).map(Op::$op));
                })*
                None
            }
        }
    };
}

opcodes! {
    0x03 Mark, 0x08 Ldm, 0x09 Ldw, 0x0a Ldx, 0x0b Ldp, 0x0c Ldt, 0x10 Conv, 0x11 Dwcv,
    0x18 Add, 0x19 Mul, 0x1a Pool, 0x1b Lut, 0x1c Mov, 0x20 Std, 0x21 Sti, 0x22 Stv,
}

const INDEX: Field = Field {
    name: "index",
    bits: 4,
    kind: crate::FieldKind::Unsigned,
};

fn cfg_operands(cfg: &Cfg) -> Result<u128, WordError> {
    let index = INDEX
        .pack(i64::from(cfg.index))
        .ok_or((&INDEX, i64::from(cfg.index)))?;
    let value = match &cfg.value {
        Register::View(v) => pack(v)?,
        Register::Geom(v) => pack(v)?,
        Register::Fmt(v) if !unused_is_zero(v) => return Err(WordError::Reserved),
        Register::Fmt(v) => pack(v)?,
        Register::Quant(v) => pack(v)?,
    };
    Ok(cfg.value.file() as u128 | index << 2 | value << CFG_HEAD)
}

/// Magnitudes beyond `n`, or without `sd`, are bits left over.
fn unused_is_zero(fmt: &Fmt) -> bool {
    fmt.magnitudes()[fmt.alphabet().len()..].iter().all(|&a| a == 0)
}

fn cfg_of(operands: u128) -> (Op, u128) {
    let index = (operands >> 2 & 15) as u32;
    let bits = operands >> CFG_HEAD & ((1 << REGISTER) - 1);
    let (value, mut rest) = match File::ALL[(operands & 3) as usize] {
        File::View => wrap(Register::View, unpack(bits)),
        File::Geom => wrap(Register::Geom, unpack(bits)),
        File::Fmt => wrap(Register::Fmt, unpack(bits)),
        File::Quant => wrap(Register::Quant, unpack(bits)),
    };
    if let Register::Fmt(fmt) = &value
        && !unused_is_zero(fmt)
    {
        rest = 1;
    }
    (
        Op::Cfg(Cfg { index, value }),
        rest | operands >> (CFG_HEAD + REGISTER),
    )
}

fn wrap<T>(register: impl Fn(T) -> Register, (value, rest): (T, u128)) -> (Register, u128) {
    (register(value), rest)
}

/// The word of an instruction.
///
/// # Errors
/// A field that does not fit, an engine that does not execute the operation, or one that waits for itself.
pub fn encode(instr: &Instr) -> Result<u128, WordError> {
    let engine = instr.engine;
    if instr.op.engine().is_some_and(|only| only != engine) {
        let op = instr.op.name();
        return Err(WordError::Engine { op, engine });
    }
    let mask = |set: EngineSet| set.mask(engine).ok_or(WordError::Itself(engine));
    let (code, operands) = operands_of(&instr.op)?;
    Ok(u128::from(code)
        | (engine.index() as u128) << ENGINE
        | mask(instr.wait)? << WAIT
        | mask(instr.signal)? << SIGNAL
        | operands << OPERANDS)
}

/// The instruction of a word.
///
/// # Errors
/// [`WordError::Opcode`], [`WordError::Engine`], [`WordError::Reserved`].
pub fn decode(word: u128) -> Result<Instr, WordError> {
    let engine = Engine::ALL[(word >> ENGINE & 3) as usize];
    let (op, rest) = op_of((word & 63) as u8, word >> OPERANDS)?;
    if op.engine().is_some_and(|only| only != engine) {
        let op = op.name();
        return Err(WordError::Engine { op, engine });
    }
    if rest != 0 {
        return Err(WordError::Reserved);
    }
    Ok(Instr {
        engine,
        wait: EngineSet::of_mask(word >> WAIT & 7, engine),
        signal: EngineSet::of_mask(word >> SIGNAL & 7, engine),
        op,
    })
}
