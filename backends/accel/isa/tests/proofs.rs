//! Every fault of a program, provoked by a change of one that is sound.
#![allow(clippy::unwrap_used, reason = "tests")]

use sdc_accel_isa::*;

/// A convolution of weights in codes, from DRAM to DRAM, in two strips.
const SOUND: &str = include_str!("../../../../bench/accel/micro/A10_x85.sdas");

fn sound() -> Program {
    let program = text::parse(SOUND).unwrap();
    program.verify().unwrap();
    program
}

/// The sound program's text with a change; what is found.
fn changed(from: &str, to: &str) -> Vec<(Code, Option<usize>, String)> {
    assert!(SOUND.contains(from), "{from}");
    let program = text::parse(&SOUND.replacen(from, to, 1)).unwrap();
    let faults = program.verify().unwrap_err();
    let list = faults.list().iter();
    list.map(|f| (f.code, f.instr, f.message.clone())).collect()
}

fn one(from: &str, to: &str, code: Code, message: &str) {
    let found = changed(from, to);
    let hit = found.iter().any(|(c, _, m)| *c == code && m.contains(message));
    assert!(hit, "{from} -> {to}: {found:?}");
}

#[test]
fn operands_are_checked_against_the_machine() {
    one(
        "fold=0 ty=1",
        "fold=1 ty=1",
        Code::A13,
        "m*2^fold is 128, more than 64",
    );
    one("kh=1 kw=1", "kh=9 kw=9", Code::A13, "kh*kw is 81, more than 64");
    one(
        "shift=28",
        "shift=63",
        Code::A13,
        "shift is 63; it may be 1 to 62",
    );
    one("lo=0 hi=255", "lo=9 hi=8", Code::A13, "results from 9 to 8");
    one(
        "quant0 z=0",
        "quant0 z=-1",
        Code::A13,
        "z is -1; it may be 0 to 255",
    );
    one(
        "n=7 slice=22 g=0 a=1,2,4,8,16,32,64",
        "n=3 slice=22 g=0 a=1,11,4",
        Code::A13,
        "do not ascend",
    );
    one(
        "m=64 oy=0 ox=0",
        "m=64 oy=0 ox=4",
        Code::A13,
        "ox is 4, no multiple of 8 lanes",
    );
    one(
        "e=4 f=8 slot=0",
        "e=5 f=8 slot=0",
        Code::A13,
        "m*e*f is 2560, more than 2048",
    );
    one(
        "cfg.pe quant0",
        "cfg.pe quant1",
        Code::A14,
        "quant0 was never written",
    );
    one(
        "fmt=0 quant=0",
        "fmt=3 quant=0",
        Code::A14,
        "fmt3 was never written",
    );
    one(
        "chans=64 rows=8 pitch=8",
        "chans=64 rows=999 pitch=8",
        Code::A20,
        "the view's end in a bank",
    );
    one(
        "ldm view=0 dram=64",
        "ldm view=0 dram=9999",
        Code::A20,
        "the end in DRAM is",
    );
    one(
        "sy=1 sx=1 fill=0\ncfg.pe geom",
        "sy=1 sx=2 fill=0\ncfg.pe geom",
        Code::A23,
        "the view's steps are 1 and 2",
    );
    one(
        "baddr=33",
        "baddr=2047",
        Code::A21,
        "bytes of WB that were never written",
    );
    one(".dram 10896", ".dram 4160", Code::A20, "data at");
}

#[test]
fn tokens_are_checked() {
    // The first convolution waits for a load that does not tell.
    let found = changed("bytes=512 dram=10384 >pe", "bytes=512 dram=10384");
    assert!(
        found.contains(&(
            Code::A30,
            Some(9),
            "deadlock: pe waits for a token of ld that never comes".to_owned()
        )),
        "{found:?}"
    );
    assert!(
        found.iter().any(|(c, i, _)| *c == Code::A30 && *i == Some(10)),
        "{found:?}"
    );
    one(
        "<pe\nhalt",
        "<pe >pe\nhalt",
        Code::A32,
        "1 tokens from st to pe are left",
    );
    one("halt.st\n", "", Code::A30, "does not end with `halt`");
    // More signals than a counter holds, before the one who waits for them can be asked to.
    let mut program = sound();
    let halt = program.code.pop().unwrap();
    program
        .code
        .extend(vec![Instr::on(Engine::Ld, Op::Nop).signal(Engine::Ve); 300]);
    program
        .code
        .extend(vec![Instr::on(Engine::Ve, Op::Nop).wait(Engine::Ld); 300]);
    program.code.push(halt);
    let faults = program.verify().unwrap_err();
    assert_eq!(faults.list()[0].code, Code::A31, "{faults}");
}

#[test]
fn races_name_both_instructions() {
    // The second convolution no longer waits for the store of the first one's slot.
    let unordered = SOUND.replacen("<pe >pe", "<pe", 1).replacen(
        "reuse=1 accin=0 keep=0 <st >st",
        "reuse=1 accin=0 keep=0 >st",
        1,
    );
    let faults = text::parse(&unordered).unwrap().verify().unwrap_err();
    let race = faults.list().iter().find(|f| f.code == Code::A33).unwrap();
    let (this, other) = (race.instr.unwrap(), if race.instr == Some(10) { 11 } else { 10 });
    assert!(this == 10 || this == 11, "{race}");
    assert!(race.message.contains(&format!("instruction {other} ")), "{race}");
    assert!(race.message.contains("over OB"), "{race}");
}

#[test]
fn reuse_needs_its_cause() {
    one(
        "slot=0 reuse=0",
        "slot=0 reuse=1",
        Code::A22,
        "the convolution before it has other weights",
    );
    // Something is loaded over the weights between the two.
    let over = "ldw bank=0 addr=0 slice=0 slices=64 bytes=33 copies=0 bcast=0 dram=8256";
    let changed = SOUND.replacen("<pe >pe\n", &format!("<pe >pe,ld\n{over} <st >pe\n"), 1);
    let changed = changed.replacen("reuse=1 accin=0 keep=0 <st", "reuse=1 accin=0 keep=0 <st,ld", 1);
    let faults = text::parse(&changed).unwrap().verify().unwrap_err();
    let fault = faults.list().iter().find(|f| f.code == Code::A22).unwrap();
    assert!(fault.message.contains("wrote over it"), "{fault}");
}

#[test]
fn faults_name_the_layer() {
    let marked = SOUND
        .replacen(
            "cfg.pe geom0",
            ".map 7 conv \"block/conv1\" c=64\nmark.pe kind=0 id=7\ncfg.pe geom0",
            1,
        )
        .replacen("shift=28", "shift=0", 1);
    let faults = text::parse(&marked).unwrap().verify().unwrap_err();
    let text = faults.list()[0].to_string();
    assert_eq!(
        text,
        "instruction 10 (conv of block/conv1): shift is 0; it may be 1 to 62"
    );
    // Both convolutions are faulty, and both are told.
    assert_eq!(faults.list().len(), 2);
}
