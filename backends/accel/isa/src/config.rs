//! The machine: sizes and switches, as keys with ranges.

use sdc_ir::Digest;
use std::fmt::Write;

/// How long the lanes of a slice wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// Lanes of a line step together.
    Line,
    /// Lanes meet at the end of an interval only.
    Lane,
    /// All lines of all slices step together.
    Array,
}

/// When weights are rebuilt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rebuild {
    /// Once a strip.
    Strip,
    /// For every pixel group, the published order.
    Pixel,
}

/// A configuration: every number that a program or its time depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Its name; says nothing to the machine.
    pub name: String,
    /// Slices: one filter each.
    pub slices: u32,
    /// Lines of a slice, and banks of a half of IB: input channels.
    pub lines: u32,
    /// Lanes of a line: pixels of one row.
    pub lanes: u32,
    /// Bytes of a bank of IB; there are two halves of `lines` banks.
    pub ib_bank: u32,
    /// Bytes of a bank of WB; there are two a slice.
    pub wb_bank: u32,
    /// Bytes of a bank of XB; there are two.
    pub xb_bank: u32,
    /// Filters whose parameters a bank of PB holds, 8 bytes each; there are two.
    pub pb_bank: u32,
    /// Tables of 256 bytes.
    pub tables: u32,
    /// Bytes of a slot of OB; there are two.
    pub ob_slot: u32,
    /// Pixels of a slice whose sums ACC holds.
    pub acc_pixels: u32,
    /// Bytes of a line file; each line has two.
    pub line_file: u32,
    /// Engines of a slice that rebuild codes; also bytes a cycle of plain weights.
    pub rebuild_engines: u32,
    /// Bytes a cycle that a line gets from its bank.
    pub fetch_bytes: u32,
    /// Elements a cycle of VE, and bytes a cycle of `sti`.
    pub ve_lanes: u32,
    /// Instructions that an engine's queue holds.
    pub queue: u32,
    /// Bytes a cycle between DRAM and the machine; 0 is unlimited.
    pub dram_bandwidth: u32,
    /// Cycles from the end of a transfer to the arrival of its last byte.
    pub dram_latency: u32,
    /// Bytes that DRAM gives or takes at once.
    pub dram_granule: u32,
    /// Lanes are bit-serial: a step takes as many cycles as its activation has digits. Off, programs that ask for it get 5 cycles a step.
    pub bser: bool,
    /// Steps of rows that are not stored are skipped, where a program asks for it.
    pub wskip: bool,
    /// Kernel rows without activations are skipped, where a program asks for it.
    pub askip: bool,
    /// How long lanes wait for each other.
    pub sync: Sync,
    /// When weights are rebuilt.
    pub rebuild: Rebuild,
}

impl Default for Config {
    /// `sda1-64x16x8`.
    fn default() -> Self {
        Self {
            name: "sda1-64x16x8".to_owned(),
            slices: 64,
            lines: 16,
            lanes: 8,
            ib_bank: 16 << 10,
            wb_bank: 2 << 10,
            xb_bank: 16 << 10,
            pb_bank: 512,
            tables: 16,
            ob_slot: 2 << 10,
            acc_pixels: 32,
            line_file: 64,
            rebuild_engines: 16,
            fetch_bytes: 16,
            ve_lanes: 64,
            queue: 64,
            dram_bandwidth: 64,
            dram_latency: 100,
            dram_granule: 16,
            bser: true,
            wskip: true,
            askip: true,
            sync: Sync::Line,
            rebuild: Rebuild::Strip,
        }
    }
}

/// A key of a configuration.
pub struct Key {
    /// Its name, as in `--set NAME=VALUE`; a dot separates a table's name in TOML.
    pub name: &'static str,
    /// What it may be.
    pub range: Range,
    /// `P` if published, `O` if our own choice.
    pub label: char,
    /// True if it may be changed when a program runs: results and the proofs made of the program stay what they are.
    pub at_run: bool,
    /// What it is.
    pub about: &'static str,
    number: fn(&mut Config) -> Slot<'_>,
}

/// Where a key's value is.
enum Slot<'a> {
    Number(&'a mut u32),
    Switch(&'a mut bool),
    Sync(&'a mut Sync),
    Rebuild(&'a mut Rebuild),
}

/// What a key may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// A number from the first to the second.
    Number(u32, u32),
    /// A power of two from the first to the second.
    Power(u32, u32),
    /// One of these words.
    Words(&'static [&'static str]),
}

const SWITCH: Range = Range::Words(&["0", "1"]);
const SYNC: Range = Range::Words(&["line", "lane", "array"]);
const REBUILD: Range = Range::Words(&["strip", "pixel"]);

macro_rules! keys {
    ($($name:literal $label:literal $at_run:literal $slot:ident $field:ident $range:expr, $about:literal;)*) => {
        /// Every key, in the order of texts.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            range: $range,
            label: $label,
            at_run: $at_run,
            about: $about,
            number: |c| Slot::$slot(&mut c.$field),
        }),*];
    };
}

keys! {
    "slices" 'P' false Number slices Range::Power(4, 64), "slices: one filter each";
    "lines" 'P' false Number lines Range::Power(1, 64), "lines a slice: input channels; banks of a half of IB";
    "lanes" 'P' false Number lanes Range::Power(1, 64), "lanes a line: pixels of one row";
    "ib.bank" 'P' false Number ib_bank Range::Number(64, 1 << 20), "bytes of each of the 2 x lines banks";
    "wb.bank" 'P' false Number wb_bank Range::Number(64, 2048), "bytes of each of a slice's 2 banks of weights";
    "xb.bank" 'O' false Number xb_bank Range::Number(64, 16384), "bytes of each of the 2 banks of index bits";
    "pb.bank" 'O' false Number pb_bank Range::Number(4, 512), "filters of each of the 2 banks of parameters";
    "tables" 'O' false Number tables Range::Number(1, 16), "tables of 256 bytes";
    "ob.slot" 'P' false Number ob_slot Range::Number(64, 65536), "bytes of each of the 2 slots of results";
    "acc.pixels" 'O' false Number acc_pixels Range::Number(1, 4096), "pixels a slice whose sums are kept";
    "line_file" 'O' false Number line_file Range::Number(1, 4096), "bytes of each of a line's 2 weight files";
    "rebuild_engines" 'P' false Number rebuild_engines Range::Number(1, 1024), "rebuild engines a slice; bytes a cycle of plain weights";
    "fetch_bytes" 'O' false Number fetch_bytes Range::Number(1, 1024), "bytes a cycle a line gets from its bank";
    "ve.lanes" 'O' false Number ve_lanes Range::Number(1, 4096), "elements a cycle of VE, bytes a cycle of sti";
    "queue" 'O' false Number queue Range::Number(1, 4096), "instructions an engine's queue holds";
    "dram.bandwidth" 'O' true Number dram_bandwidth Range::Number(0, 1 << 16), "bytes a cycle; 0 is unlimited";
    "dram.latency" 'O' true Number dram_latency Range::Number(0, 1 << 16), "cycles from a transfer's end to its arrival";
    "dram.granule" 'O' false Number dram_granule Range::Power(1, 4096), "bytes transferred at once";
    "bser" 'P' true Switch bser SWITCH, "bit-serial lanes: a step costs the activation's digits";
    "wskip" 'P' true Switch wskip SWITCH, "rows that are not stored are skipped";
    "askip" 'P' true Switch askip SWITCH, "kernel rows without activations are skipped";
    "sync" 'O' true Sync sync SYNC, "how far lanes wait for each other";
    "rebuild" 'O' true Rebuild rebuild REBUILD, "weights are rebuilt once a strip, or for every pixel group";
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are named by their messages")]
pub enum ConfigError {
    #[error("there is no configuration key `{key}`; known: {}", names())]
    Unknown { key: String },
    #[error("`{key}` cannot be {value}; it may be {range}")]
    Range {
        key: &'static str,
        value: String,
        range: String,
    },
    #[error("`{0}` is not of the form KEY=VALUE")]
    Form(String),
    #[error(
        "`{key}` decides what a program may do, so it is set when the program is compiled; a run can set {}",
        at_run()
    )]
    CompileTime { key: &'static str },
    #[error("not a configuration file: {0}")]
    Toml(String),
    #[error("{0}")]
    Together(String),
}

fn names() -> String {
    list(KEYS.iter().map(|k| k.name))
}

fn at_run() -> String {
    list(KEYS.iter().filter(|k| k.at_run).map(|k| k.name))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl Range {
    /// The range in words.
    pub fn text(&self) -> String {
        match self {
            Self::Number(a, b) => format!("{a} to {b}"),
            Self::Power(a, b) => format!("a power of two from {a} to {b}"),
            Self::Words(words) => words.join(" or "),
        }
    }

    fn has(&self, value: u32) -> bool {
        match *self {
            Self::Number(a, b) => (a..=b).contains(&value),
            Self::Power(a, b) => (a..=b).contains(&value) && value.is_power_of_two(),
            Self::Words(_) => false,
        }
    }
}

impl Key {
    /// The key of this name.
    ///
    /// # Errors
    /// [`ConfigError::Unknown`].
    pub fn named(name: &str) -> Result<&'static Key, ConfigError> {
        let found = KEYS.iter().find(|k| k.name == name);
        found.ok_or_else(|| ConfigError::Unknown { key: name.to_owned() })
    }

    /// The key's value as text.
    pub fn get(&self, config: &Config) -> String {
        match (self.number)(&mut config.clone()) {
            Slot::Number(n) => n.to_string(),
            Slot::Switch(on) => u8::from(*on).to_string(),
            Slot::Sync(Sync::Line) => "line".to_owned(),
            Slot::Sync(Sync::Lane) => "lane".to_owned(),
            Slot::Sync(Sync::Array) => "array".to_owned(),
            Slot::Rebuild(Rebuild::Strip) => "strip".to_owned(),
            Slot::Rebuild(Rebuild::Pixel) => "pixel".to_owned(),
        }
    }

    /// Sets the key.
    ///
    /// # Errors
    /// [`ConfigError::Range`].
    pub fn set(&self, config: &mut Config, value: &str) -> Result<(), ConfigError> {
        let number = value.parse().ok().filter(|&n| self.range.has(n));
        match ((self.number)(config), number, value) {
            (Slot::Number(slot), Some(n), _) => *slot = n,
            (Slot::Switch(slot), _, "0" | "false") => *slot = false,
            (Slot::Switch(slot), _, "1" | "true") => *slot = true,
            (Slot::Sync(slot), _, "line") => *slot = Sync::Line,
            (Slot::Sync(slot), _, "lane") => *slot = Sync::Lane,
            (Slot::Sync(slot), _, "array") => *slot = Sync::Array,
            (Slot::Rebuild(slot), _, "strip") => *slot = Rebuild::Strip,
            (Slot::Rebuild(slot), _, "pixel") => *slot = Rebuild::Pixel,
            _ => {
                return Err(ConfigError::Range {
                    key: self.name,
                    value: value.to_owned(),
                    range: self.range.text(),
                });
            }
        }
        Ok(())
    }
}

impl Config {
    /// Sets `KEY=VALUE`.
    ///
    /// # Errors
    /// An unknown key, a value out of range, or keys that do not go together.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let (key, value) = split(assignment)?;
        Key::named(key)?.set(self, value)?;
        self.check()
    }

    /// Sets `KEY=VALUE` of a program that is compiled.
    ///
    /// # Errors
    /// As [`Self::set`], and [`ConfigError::CompileTime`].
    pub fn set_at_run(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let (name, value) = split(assignment)?;
        let key = Key::named(name)?;
        if !key.at_run {
            return Err(ConfigError::CompileTime { key: key.name });
        }
        key.set(self, value)
    }

    /// A configuration file: keys that it does not name have their defaults.
    ///
    /// # Errors
    /// All faults of the file.
    pub fn from_toml(text: &str) -> Result<Self, Vec<ConfigError>> {
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| vec![ConfigError::Toml(e.to_string())])?;
        let (mut config, mut faults) = (Self::default(), Vec::new());
        for (name, value) in flat(&table) {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(on) => u8::from(*on).to_string(),
                _ => "neither a number nor a word".to_owned(),
            };
            if name == "name" {
                faults.extend(config.rename(&text).err());
                continue;
            }
            let set = Key::named(&name).and_then(|key| key.set(&mut config, &text));
            faults.extend(set.err());
        }
        if faults.is_empty() {
            faults.extend(config.check().err());
        }
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(faults)
        }
    }

    /// The whole configuration as a file; [`Self::from_toml`] reads it back.
    pub fn to_toml(&self) -> String {
        let mut text = format!("name = \"{}\"\n", self.name);
        for key in KEYS {
            let value = match key.range {
                Range::Words(words) if words != ["0", "1"] => format!("\"{}\"", key.get(self)),
                _ => key.get(self),
            };
            let _ = writeln!(text, "{} = {value} # {}: {}", key.name, key.label, key.about);
        }
        text
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// A name of other characters than letters, digits, `.`, `_` and `-`, or of more than 64.
    pub fn rename(&mut self, name: &str) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(ConfigError::Range {
                key: "name",
                value: name.to_owned(),
                range: "1 to 64 letters, digits, `.`, `_` and `-`".to_owned(),
            });
        }
        name.clone_into(&mut self.name);
        Ok(())
    }

    /// `KEY=VALUE` of every key that is not as in the default.
    pub fn differences(&self) -> Vec<String> {
        let default = Self::default();
        let differ = KEYS.iter().filter(|k| k.get(self) != k.get(&default));
        differ.map(|k| format!("{}={}", k.name, k.get(self))).collect()
    }

    /// SHA-256 of the canonical form: a line `KEY=VALUE` for each key, in their order, that cannot be changed when a program runs. Neither the
    /// name nor what a run may set belongs to it.
    pub fn hash(&self) -> Digest {
        let fixed = KEYS.iter().filter(|k| !k.at_run);
        let text: String = fixed.map(|k| format!("{}={}\n", k.name, k.get(self))).collect();
        Digest::of(&[text.as_bytes()])
    }

    /// Faults of keys taken together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.ob_slot < self.lanes {
            return Err(ConfigError::Together(format!(
                "`ob.slot` is {}, less than one pixel group of {} lanes",
                self.ob_slot, self.lanes
            )));
        }
        Ok(())
    }
}

fn split(assignment: &str) -> Result<(&str, &str), ConfigError> {
    let parts = assignment.split_once('=').map(|(k, v)| (k.trim(), v.trim()));
    parts.ok_or_else(|| ConfigError::Form(assignment.to_owned()))
}

/// The values of nested tables under dotted names.
fn flat(table: &toml::Table) -> Vec<(String, &toml::Value)> {
    let entries = table.iter().flat_map(|(name, value)| match value {
        toml::Value::Table(inner) => {
            let inner = inner.iter();
            inner
                .map(|(key, value)| (format!("{name}.{key}"), value))
                .collect()
        }
        _ => vec![(name.clone(), value)],
    });
    entries.collect()
}
