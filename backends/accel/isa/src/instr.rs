//! Instructions as structs of named fields, with true values: `m = 16`, not 15.

use crate::field::fields;
use crate::{Engine, EngineSet, Register};

/// Kinds of [`Mark`].
pub mod mark {
    /// A layer begins in this engine.
    pub const BEGIN: u32 = 0;
    /// It ends.
    pub const END: u32 = 1;
    /// A tile of the layer begins.
    pub const TILE: u32 = 2;
    /// Whatever the user wants to see in a trace.
    pub const USER: u32 = 3;
}

/// Writes a register of the instruction's engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cfg {
    /// Which of the file's sixteen.
    pub index: u32,
    /// What it is to hold.
    pub value: Register,
}

fields! {
    /// A place in the program, for reports.
    Mark {
        /// What begins or ends: see [`mark`].
        kind: u32, Unsigned 4;
        /// Number in the map.
        id: u32, Unsigned 32;
    }
}

fields! {
    /// Loads channels of a map from DRAM into rows of a view; a channel's rows are one run of `rows*pitch` bytes.
    Ldm {
        /// View register.
        view: u32, Unsigned 4;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
        /// Bytes from channel to channel in DRAM.
        cstride: u32, Unsigned 24;
        /// First channel.
        c0: u32, Unsigned 16;
        /// Channels.
        n: u32, MinusOne 12;
        /// First row.
        y0: u32, Unsigned 12;
        /// Rows.
        rows: u32, MinusOne 12;
    }
}

fields! {
    /// Loads the next `bytes` bytes into each of `slices` slices of WB, and repeats the whole for `2^copies` groups of slices.
    Ldw {
        /// Bank.
        bank: u32, Unsigned 1;
        /// First byte in the bank.
        addr: u32, Unsigned 11;
        /// First slice.
        slice: u32, Unsigned 6;
        /// Slices.
        slices: u32, MinusOne 6;
        /// Bytes.
        bytes: u32, Unsigned 12;
        /// Copies, as a power of two.
        copies: u32, Unsigned 2;
        /// All slices get the same bytes.
        bcast: bool, Unsigned 1;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
    }
}

fields! {
    /// Loads index bits into XB.
    Ldx {
        /// Bank.
        bank: u32, Unsigned 1;
        /// First byte in the bank.
        addr: u32, Unsigned 14;
        /// Bytes.
        bytes: u32, Unsigned 15;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
    }
}

fields! {
    /// Loads biases and multipliers, 8 bytes a filter, into PB.
    Ldp {
        /// Bank.
        bank: u32, Unsigned 1;
        /// First byte in the bank.
        addr: u32, Unsigned 12;
        /// Bytes.
        bytes: u32, Unsigned 13;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
    }
}

fields! {
    /// Loads a table of 256 bytes.
    Ldt {
        /// Table.
        table: u32, Unsigned 4;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
    }
}

fields! {
    /// A strip of a convolution over `geom.c` channels.
    Conv {
        /// View register.
        view: u32, Unsigned 4;
        /// Geometry register.
        geom: u32, Unsigned 4;
        /// Format register.
        fmt: u32, Unsigned 4;
        /// Quantisation register.
        quant: u32, Unsigned 4;
        /// Bank of WB where the weights begin.
        wbank: u32, Unsigned 1;
        /// First byte of the weights, or of the codes.
        waddr: u32, Unsigned 11;
        /// First byte of the bases, in the same bank.
        baddr: u32, Unsigned 11;
        /// Bank of XB.
        xbank: u32, Unsigned 1;
        /// First byte of the index bits.
        xaddr: u32, Unsigned 14;
        /// First parameter in PB.
        prm: u32, Unsigned 10;
        /// Filters.
        m: u32, MinusOne 6;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Rows of the result.
        e: u32, MinusOne 7;
        /// Columns of the result.
        f: u32, MinusOne 8;
        /// Slot of OB.
        slot: u32, Unsigned 1;
        /// The line files hold these weights still.
        reuse: bool, Unsigned 1;
        /// Sums go on from ACC.
        accin: bool, Unsigned 1;
        /// Sums stay in ACC.
        keep: bool, Unsigned 1;
    }
}

fields! {
    /// A strip of a depthwise convolution: filter k reads channel `c0 + k`.
    Dwcv {
        /// View register.
        view: u32, Unsigned 4;
        /// Geometry register.
        geom: u32, Unsigned 4;
        /// Format register.
        fmt: u32, Unsigned 4;
        /// Quantisation register.
        quant: u32, Unsigned 4;
        /// Bank of WB where the weights begin.
        wbank: u32, Unsigned 1;
        /// First byte of the weights, or of the codes.
        waddr: u32, Unsigned 11;
        /// First byte of the bases, in the same bank.
        baddr: u32, Unsigned 11;
        /// First channel.
        c0: u32, Unsigned 15;
        /// First parameter in PB.
        prm: u32, Unsigned 10;
        /// Filters.
        m: u32, MinusOne 6;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Rows of the result.
        e: u32, MinusOne 7;
        /// Columns of the result.
        f: u32, MinusOne 8;
        /// Slot of OB.
        slot: u32, Unsigned 1;
        /// The line files hold these weights still.
        reuse: bool, Unsigned 1;
    }
}

fields! {
    /// `rq(sum of (x_i - z_i)*M_i)` of one or two operands.
    Add {
        /// Result: a view, or 16 and 17 for the slots.
        dst: u32, Unsigned 5;
        /// First operand, likewise.
        a: u32, Unsigned 5;
        /// Second operand, likewise.
        b: u32, Unsigned 5;
        /// There is a second operand.
        two: bool, Unsigned 1;
        /// The first operand's quantisation register, and the result's.
        qa: u32, Unsigned 4;
        /// The second operand's.
        qb: u32, Unsigned 4;
        /// First channel of the box.
        oc: u32, Unsigned 16;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Channels.
        n: u32, MinusOne 12;
        /// Rows of the result.
        e: u32, MinusOne 12;
        /// Columns of the result.
        f: u32, MinusOne 12;
    }
}

fields! {
    /// `rq((a - z_a)*(b - z_b)*M_a)`.
    Mul {
        /// Result: a view, or 16 and 17 for the slots.
        dst: u32, Unsigned 5;
        /// First operand, likewise.
        a: u32, Unsigned 5;
        /// Second operand, likewise.
        b: u32, Unsigned 5;
        /// The first operand's quantisation register, and the result's.
        qa: u32, Unsigned 4;
        /// The second operand's.
        qb: u32, Unsigned 4;
        /// First channel of the box.
        oc: u32, Unsigned 16;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Channels.
        n: u32, MinusOne 12;
        /// Rows of the result.
        e: u32, MinusOne 12;
        /// Columns of the result.
        f: u32, MinusOne 12;
    }
}

fields! {
    /// Maximum or average of windows.
    Pool {
        /// Result: a view, or 16 and 17 for the slots.
        dst: u32, Unsigned 5;
        /// First operand, likewise.
        a: u32, Unsigned 5;
        /// Average instead of maximum.
        avg: bool, Unsigned 1;
        /// Padding counts for the divisor.
        counted: bool, Unsigned 1;
        /// Geometry register.
        geom: u32, Unsigned 4;
        /// Quantisation register.
        quant: u32, Unsigned 4;
        /// First channel of the box.
        oc: u32, Unsigned 16;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Channels.
        n: u32, MinusOne 12;
        /// Rows of the result.
        e: u32, MinusOne 12;
        /// Columns of the result.
        f: u32, MinusOne 12;
    }
}

fields! {
    /// A table looked up.
    Lut {
        /// Result: a view, or 16 and 17 for the slots.
        dst: u32, Unsigned 5;
        /// First operand, likewise.
        a: u32, Unsigned 5;
        /// Table.
        table: u32, Unsigned 4;
        /// First channel of the box.
        oc: u32, Unsigned 16;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Channels.
        n: u32, MinusOne 12;
        /// Rows of the result.
        e: u32, MinusOne 12;
        /// Columns of the result.
        f: u32, MinusOne 12;
    }
}

fields! {
    /// A copy.
    Mov {
        /// Result: a view, or 16 and 17 for the slots.
        dst: u32, Unsigned 5;
        /// First operand, likewise.
        a: u32, Unsigned 5;
        /// First channel of the box.
        oc: u32, Unsigned 16;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Channels.
        n: u32, MinusOne 12;
        /// Rows of the result.
        e: u32, MinusOne 12;
        /// Columns of the result.
        f: u32, MinusOne 12;
    }
}

fields! {
    /// Stores a slot to DRAM: element (k,j,i) to `dram + k*cstride + j*pitch + i*xstep`.
    Std {
        /// Slot of OB.
        slot: u32, Unsigned 1;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
        /// Bytes from channel to channel in DRAM.
        cstride: u32, Unsigned 24;
        /// Bytes from row to row in DRAM.
        pitch: u32, Unsigned 12;
        /// Bytes from column to column in DRAM.
        xstep: u32, Unsigned 4;
        /// Filters.
        m: u32, MinusOne 6;
        /// Rows of the result.
        e: u32, MinusOne 7;
        /// Columns of the result.
        f: u32, MinusOne 8;
    }
}

fields! {
    /// Stores a slot into a view: element (k,j,i) to (oc+k, oy+j, ox+i).
    Sti {
        /// Slot of OB.
        slot: u32, Unsigned 1;
        /// View register.
        view: u32, Unsigned 4;
        /// First channel of the box.
        oc: u32, Unsigned 16;
        /// First row of the result.
        oy: u32, Unsigned 12;
        /// First column of the result.
        ox: u32, Unsigned 12;
        /// Filters.
        m: u32, MinusOne 6;
        /// Rows of the result.
        e: u32, MinusOne 7;
        /// Columns of the result.
        f: u32, MinusOne 8;
    }
}

fields! {
    /// Stores channels of a view to DRAM: [`Ldm`] the other way round.
    Stv {
        /// View register.
        view: u32, Unsigned 4;
        /// First address in DRAM.
        dram: u32, Unsigned 32;
        /// Bytes from channel to channel in DRAM.
        cstride: u32, Unsigned 24;
        /// First channel.
        c0: u32, Unsigned 16;
        /// Channels.
        n: u32, MinusOne 12;
        /// First row.
        y0: u32, Unsigned 12;
        /// Rows.
        rows: u32, MinusOne 12;
    }
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each holds the struct of its name")]
pub enum Op {
    /// Nothing.
    Nop,
    /// The end of a part of the program; it runs until every engine is done.
    Halt,
    Cfg(Cfg),
    Mark(Mark),
    Ldm(Ldm),
    Ldw(Ldw),
    Ldx(Ldx),
    Ldp(Ldp),
    Ldt(Ldt),
    Conv(Conv),
    Dwcv(Dwcv),
    Add(Add),
    Mul(Mul),
    Pool(Pool),
    Lut(Lut),
    Mov(Mov),
    Std(Std),
    Sti(Sti),
    Stv(Stv),
}

impl Op {
    /// The name in texts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nop => "nop",
            Self::Halt => "halt",
            Self::Cfg(_) => "cfg",
            Self::Mark(_) => "mark",
            Self::Ldm(_) => "ldm",
            Self::Ldw(_) => "ldw",
            Self::Ldx(_) => "ldx",
            Self::Ldp(_) => "ldp",
            Self::Ldt(_) => "ldt",
            Self::Conv(_) => "conv",
            Self::Dwcv(_) => "dwcv",
            Self::Add(_) => "add",
            Self::Mul(_) => "mul",
            Self::Pool(_) => "pool",
            Self::Lut(_) => "lut",
            Self::Mov(_) => "mov",
            Self::Std(_) => "std",
            Self::Sti(_) => "sti",
            Self::Stv(_) => "stv",
        }
    }

    /// The engine that executes it; `None` if any can.
    pub fn engine(&self) -> Option<Engine> {
        Some(match self {
            Self::Nop | Self::Halt | Self::Cfg(_) | Self::Mark(_) => return None,
            Self::Ldm(_) | Self::Ldw(_) | Self::Ldx(_) | Self::Ldp(_) | Self::Ldt(_) => Engine::Ld,
            Self::Conv(_) | Self::Dwcv(_) => Engine::Pe,
            Self::Add(_) | Self::Mul(_) | Self::Pool(_) | Self::Lut(_) | Self::Mov(_) => Engine::Ve,
            Self::Std(_) | Self::Sti(_) | Self::Stv(_) => Engine::St,
        })
    }
}

macro_rules! ops {
    ($($op:ident),*) => {$(
        impl From<$op> for Op {
            fn from(value: $op) -> Self {
                Self::$op(value)
            }
        }
    )*};
}
ops!(
    Cfg, Mark, Ldm, Ldw, Ldx, Ldp, Ldt, Conv, Dwcv, Add, Mul, Pool, Lut, Mov, Std, Sti, Stv
);

/// An instruction: what it does, where, and the tokens it takes and gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instr {
    /// The engine that executes it.
    pub engine: Engine,
    /// Engines that it waits for: it takes a token of each.
    pub wait: EngineSet,
    /// Engines that it signals when it completes: it gives a token to each.
    pub signal: EngineSet,
    /// What it does.
    pub op: Op,
}

impl Instr {
    /// An instruction of the one engine that can execute it; LD for one that any can.
    pub fn new(op: impl Into<Op>) -> Self {
        let op = op.into();
        Self::on(op.engine().unwrap_or(Engine::Ld), op)
    }

    /// An instruction of an engine.
    pub fn on(engine: Engine, op: impl Into<Op>) -> Self {
        Self {
            engine,
            wait: EngineSet::EMPTY,
            signal: EngineSet::EMPTY,
            op: op.into(),
        }
    }

    /// The same, waiting for an engine too.
    #[must_use]
    pub fn wait(self, engine: Engine) -> Self {
        Self {
            wait: self.wait.with(engine),
            ..self
        }
    }

    /// The same, signalling an engine too.
    #[must_use]
    pub fn signal(self, engine: Engine) -> Self {
        Self {
            signal: self.signal.with(engine),
            ..self
        }
    }
}
