//! Programs of random instructions. They mean nothing; they are only to be written and read.

use fastrand::Rng;
use sdc_accel_isa::*;
use sdc_ir::DType;
use std::collections::BTreeMap;
use std::convert::Infallible;

const NAMES: &[&str] = &[
    "mark", "ldm", "ldw", "ldx", "ldp", "ldt", "conv", "dwcv", "add", "mul", "pool", "lut", "mov", "std",
    "sti", "stv",
];

fn value(rng: &mut Rng, field: &Field) -> Result<i64, Infallible> {
    let (least, greatest) = field.range();
    Ok(match rng.u8(..4) {
        0 => least,
        1 => greatest,
        _ => rng.i64(least..=greatest),
    })
}

fn set(rng: &mut Rng, engine: Engine) -> EngineSet {
    engine.others().filter(|_| rng.u8(..4) == 0).collect()
}

fn instr(rng: &mut Rng) -> Instr {
    let kind = rng.usize(..NAMES.len() + 8);
    let op = match kind {
        0 => Op::Nop,
        1 => Op::Halt,
        2..8 => {
            let file = File::ALL[rng.usize(..4)];
            let Ok(mut register) = Register::make(file, |field| value(rng, field));
            if let Register::Fmt(fmt) = &mut register {
                // Magnitudes that are not used are zero.
                let used: Vec<u8> = fmt.alphabet();
                let n = fmt.n;
                *fmt = Fmt {
                    n,
                    ..fmt.with_magnitudes(&used)
                };
            }
            let index = rng.u32(..16);
            Op::Cfg(Cfg {
                index,
                value: register,
            })
        }
        _ => {
            let Ok(op) = Op::make(NAMES[kind - 8], |field| value(rng, field)).unwrap();
            op
        }
    };
    let engine = op.engine().unwrap_or(Engine::ALL[rng.usize(..4)]);
    Instr {
        engine,
        wait: set(rng, engine),
        signal: set(rng, engine),
        op,
    }
}

fn name(rng: &mut Rng) -> String {
    const CHARS: &[char] = &[
        'a', '/', '"', '\\', ' ', 'é', '\n', '\u{7f}', '|', '\u{202e}', '#', '.',
    ];
    (0..rng.usize(..6))
        .map(|_| CHARS[rng.usize(..CHARS.len())])
        .collect()
}

fn place(rng: &mut Rng) -> Place {
    if rng.bool() {
        Place::Dram(rng.u32(..))
    } else {
        Place::Host(name(rng))
    }
}

fn port(rng: &mut Rng) -> Port {
    Port {
        name: name(rng),
        place: place(rng),
        dtype: [DType::U8, DType::I8, DType::F32, DType::I64][rng.usize(..4)],
        shape: (0..rng.usize(..5)).map(|_| rng.usize(..100)).collect(),
        grid: rng.bool().then(|| Grid {
            scale: f32::from_bits(rng.u32(1..0x7f80_0000)),
            zero: rng.i32(..),
        }),
    }
}

fn layer(rng: &mut Rng) -> Layer {
    Layer {
        op: "conv".to_owned(),
        origin: name(rng),
        shape: vec![("c".to_owned(), rng.i64(..)), ("kh".to_owned(), 3)],
    }
}

fn host(rng: &mut Rng) -> HostStep {
    HostStep {
        part: rng.u32(..9),
        text: ["", "\n", "a\n| b\r\n  ", "sdir 1 graph\n"][rng.usize(..4)].to_owned(),
        weights: (0..rng.usize(..150)).map(|_| rng.u8(..)).collect(),
        inputs: (0..rng.usize(..3)).map(|_| place(rng)).collect(),
        outputs: (0..rng.usize(..3)).map(|_| place(rng)).collect(),
    }
}

pub fn program(seed: u64) -> Program {
    let rng = &mut Rng::with_seed(seed);
    let mut config = Config::default();
    for set in ["slices=32", "lines=4", "ib.bank=100", "sync=array", "bser=0"] {
        if rng.u8(..4) == 0 {
            config.set(set).unwrap();
        }
    }
    let mut builder = Builder::new(config);
    for _ in 0..rng.usize(..20) {
        builder.push(instr(rng));
    }
    for _ in 0..rng.usize(..4) {
        let bytes = (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect();
        builder.data(bytes, 1 << rng.u32(..8)).unwrap();
    }
    let mut program = builder.finish().unwrap();
    program.inputs = (0..rng.usize(..3)).map(|_| port(rng)).collect();
    program.outputs = (0..rng.usize(..3)).map(|_| port(rng)).collect();
    program.layers = (0..rng.u32(..3))
        .map(|_| (rng.u32(..), layer(rng)))
        .collect::<BTreeMap<_, _>>();
    let tile = |rng: &mut Rng| Tile {
        m0: rng.u32(..),
        y: rng.u32(..),
        x: rng.u32(..),
    };
    program.tiles = (0..rng.u32(..3))
        .map(|_| (rng.u32(..), tile(rng)))
        .collect::<BTreeMap<_, _>>();
    program.host = (0..rng.usize(..3)).map(|_| host(rng)).collect();
    program
}
