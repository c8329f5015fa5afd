//! What every native backend must do, done by Cranelift; and what only Cranelift cannot.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

/// The code generator under test.
mod backend {
    pub use sdc_cranelift::{OptLevel as Variant, compile};

    pub const VARIANTS: &[Variant] = &[Variant::None, Variant::Speed];
}

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/entry.rs"]
mod entry;
#[path = "../../tests/instructions.rs"]
mod instructions;
#[path = "../../tests/kernels.rs"]
mod kernels;
#[path = "../../tests/loops.rs"]
mod loops;

use common::{Maker, options, place};
use sdc_ir::DType;
use sdc_lower::{Error, FuncError};

#[test]
fn vectors_of_more_than_128_bits_are_refused() {
    let mut wide = Maker::default();
    let y = wide.output(DType::F32, 8);
    wide.func(|b| {
        let v = b.f32(8, 1.0);
        b.store(y, 0, v);
    });
    let options = options(&sdc_lower::cpu::supported()[0]);
    match backend::compile(&wide.module, &place(&wide.module), &options, backend::VARIANTS[0]) {
        Err(Error::Func {
            source: FuncError::Unsupported { what },
            ..
        }) => {
            assert_eq!(what, "a value of type f32x8");
        }
        other => panic!("{:?}", other.err()),
    }
}
