//! Words that the independent encoder (`bench/accel/isa.py`) made.
#![allow(clippy::unwrap_used, reason = "tests")]

use sdc_accel_isa::*;

fn is(word: &str, instr: Instr) {
    let word = u128::from_str_radix(word, 16).unwrap();
    assert_eq!(
        format!("{:032x}", encode(&instr).unwrap()),
        format!("{word:032x}"),
        "{instr:?}"
    );
    assert_eq!(decode(word).unwrap(), instr);
}

#[test]
fn instructions() {
    is("00000000000000000000000000000001", Instr::new(Op::Halt));
    let ldm = Ldm {
        dram: 4096,
        cstride: 64,
        n: 16,
        rows: 8,
        ..Ldm::default()
    };
    is("001c00003c0000000100000040000008", Instr::new(ldm));
    let ldw = Ldw {
        slices: 16,
        bytes: 72,
        dram: 8192,
        ..Ldw::default()
    };
    is(
        "00000000000000040000120f00000809",
        Instr::new(ldw).signal(Engine::Pe),
    );
    let conv = Conv {
        baddr: 72,
        m: 16,
        e: 8,
        f: 8,
        ..Conv::default()
    };
    is(
        "003870000003c0000001200000002150",
        Instr::new(conv).wait(Engine::Ld).signal(Engine::St),
    );
    let dwcv = Dwcv {
        geom: 1,
        c0: 64,
        m: 64,
        e: 4,
        f: 8,
        slot: 1,
        ..Dwcv::default()
    };
    is(
        "08383000000fc0000800000000041051",
        Instr::new(dwcv).signal(Engine::Ve),
    );
    let add = Add {
        dst: 16,
        a: 16,
        b: 2,
        two: true,
        qa: 1,
        qb: 2,
        n: 16,
        e: 8,
        f: 8,
        ..Add::default()
    };
    is(
        "000001c01c03c0000000000862842298",
        Instr::new(add).wait(Engine::Pe).signal(Engine::St),
    );
    let pool = Pool {
        dst: 3,
        a: 2,
        geom: 2,
        n: 64,
        e: 27,
        f: 27,
        ..Pool::default()
    };
    is("000000680680fc00000000000810c09a", Instr::new(pool));
    let std = Std {
        dram: 12288,
        cstride: 64,
        pitch: 8,
        xstep: 1,
        m: 16,
        e: 8,
        f: 8,
        ..Std::default()
    };
    is(
        "00000070e788040000200000180002e0",
        Instr::new(std).wait(Engine::Pe),
    );
    let sti = Sti {
        view: 4,
        m: 16,
        e: 8,
        f: 8,
        ..Sti::default()
    };
    is(
        "000000000000070e78000000000214e1",
        Instr::new(sti).wait(Engine::Ve).signal(Engine::Pe),
    );
    is(
        "000000000000000000000000001c0043",
        Instr::on(Engine::Pe, Mark { kind: 0, id: 7 }),
    );
}

#[test]
fn registers() {
    let cfg = |value| Instr::on(Engine::Pe, Cfg { index: 0, value });
    let view = View {
        chans: 16,
        rows: 8,
        pitch: 8,
        sy: 1,
        sx: 1,
        ..View::default()
    };
    is("00000008800000e00e001e0000000042", cfg(Register::View(view)));
    let geom = Geom {
        kh: 3,
        kw: 3,
        pt: 1,
        pl: 1,
        c: 16,
        wskip: true,
        bser: true,
        dwmap: true,
        ..Geom::default()
    };
    is("0000001a000003c02010000008204042", cfg(Register::Geom(geom)));
    let fmt = Fmt {
        sd: true,
        s: 4,
        r: 6,
        row: true,
        slice: 36,
        ..Fmt::default()
    }
    .with_magnitudes(&[1, 2]);
    is("0000000000000000020100121d708042", cfg(Register::Fmt(fmt)));
    let quant = Quant {
        shift: 39,
        hi: 255,
        ..Quant::default()
    };
    is("000000001fe00004e00000000000c042", cfg(Register::Quant(quant)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let too_many = Instr::new(Conv {
        m: 65,
        ..Conv::default()
    });
    assert_eq!(
        encode(&too_many).unwrap_err().to_string(),
        "m is 65; it may be 1 to 64"
    );
    let itself = Instr::new(Conv::default()).wait(Engine::Pe);
    assert_eq!(encode(&itself), Err(WordError::Itself(Engine::Pe)));
    assert_eq!(decode(63), Err(WordError::Opcode(63)));
    assert_eq!(decode(1 << 127 | 1), Err(WordError::Reserved));
    assert_eq!(
        decode(0x10),
        Err(WordError::Engine {
            op: "conv",
            engine: Engine::Ld
        })
    );
    // A magnitude beyond `n`.
    let fmt = Fmt {
        sd: true,
        n: 1,
        a0: 1,
        a1: 2,
        ..Fmt::default()
    };
    let cfg = Instr::on(
        Engine::Pe,
        Cfg {
            index: 0,
            value: Register::Fmt(fmt),
        },
    );
    assert_eq!(encode(&cfg), Err(WordError::Reserved));
}

#[test]
fn configuration_files_are_read_back() {
    let mut config = Config::default();
    for set in ["slices=32", "lines=8", "sync=lane", "dram.bandwidth=0"] {
        config.set(set).unwrap();
    }
    assert_eq!(Config::from_toml(&config.to_toml()).unwrap(), config);
    assert_eq!(
        config.differences(),
        ["slices=32", "lines=8", "dram.bandwidth=0", "sync=lane"]
    );
    assert_ne!(config.hash(), Config::default().hash());
    let mut faster = Config::default();
    faster.set_at_run("dram.bandwidth=128").unwrap();
    assert_eq!(faster.hash(), Config::default().hash());
    assert!(faster.set_at_run("slices=32").is_err());
    assert!(faster.set("nonsense=1").is_err());
    let faults = Config::from_toml("slices = 3\nnonsense = 1\n[dram]\nbandwidth = -1").unwrap_err();
    assert_eq!(faults.len(), 3);
}
