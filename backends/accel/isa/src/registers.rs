//! The registers of one engine.

use crate::{Cfg, Fmt, Geom, Quant, Register, View};

/// Sixteen registers of each file; those not written yet are `None`.
#[derive(Clone, Default, Debug)]
pub struct Registers {
    view: [Option<View>; 16],
    geom: [Option<Geom>; 16],
    fmt: [Option<Fmt>; 16],
    quant: [Option<Quant>; 16],
}

macro_rules! file {
    ($($name:ident $t:ty, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub fn $name(&self, index: u32) -> Option<$t> {
            self.$name.get(index as usize).copied().flatten()
        }
    )*};
}

impl Registers {
    /// Executes a `cfg`.
    pub fn write(&mut self, cfg: &Cfg) {
        let at = (cfg.index & 15) as usize;
        match cfg.value {
            Register::View(v) => self.view[at] = Some(v),
            Register::Geom(v) => self.geom[at] = Some(v),
            Register::Fmt(v) => self.fmt[at] = Some(v),
            Register::Quant(v) => self.quant[at] = Some(v),
        }
    }

    file! {
        view View, "A view.";
        geom Geom, "A geometry.";
        fmt Fmt, "A format of weights.";
        quant Quant, "A requantisation.";
    }
}
