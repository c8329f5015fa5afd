//! What a run did, as `sdc sim --report` writes it. Cycles are of the machine's clock, bytes are bytes.

use crate::account::{Account, LayerAccount};
use crate::counters::{Busy, Bytes, Counts};
use crate::sim::Mode;
use crate::time::clock::State;
use sdc_accel_isa::{Config, Engine, KEYS, Program};
use sdc_ir::graph::Graph;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// What the time does not know of.
pub const NOT_MODELLED: &[&str] = &[
    "conflicts between engines on a buffer's ports",
    "DRAM pages and refresh",
    "loading a basis into the rebuild engines",
    "latency of the index selector",
    "time of host steps",
];

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the configuration.
    pub arch: String,
    /// Hash of its canonical form.
    pub hash: String,
    /// Keys that a run may set.
    pub flags: BTreeMap<&'static str, String>,
    /// `func` or `cycle`; without cycles there are no counts that depend on activations.
    pub mode: &'static str,
    /// Multiplications asked for, borders included.
    pub macs: Macs,
    /// Sums over the layers.
    pub total: Total,
    /// States of each engine over the whole run; each sums to the cycles.
    pub engines: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// The layers, in the order of their numbers; what belongs to none comes last.
    pub layers: Vec<LayerReport>,
    /// Steps of the host.
    pub host: Vec<HostReport>,
    /// [`NOT_MODELLED`].
    pub not_modelled: &'static [&'static str],
}

/// Where multiplications happen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Macs {
    /// On the machine.
    pub machine: u64,
    /// On the host.
    pub host: u64,
}

/// Sums over the layers.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// Multiplications asked for.
    pub macs: u64,
    /// Multiplications executed.
    pub executed: u64,
    /// Multiplications skipped because weights are not stored.
    pub skipped_weight: u64,
    /// Multiplications skipped because activations are zero.
    pub skipped_activation: u64,
    /// The run's cycles.
    pub cycles: u64,
    /// Cycles by engine and kind.
    pub busy: Busy,
    /// Bytes.
    pub bytes: Bytes,
    /// Events.
    pub counts: Counts,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Its number in the program's map.
    pub id: Option<u32>,
    /// The user's node.
    pub origin: String,
    /// Operator.
    pub op: String,
    /// Numbers of its shape.
    #[serde(serialize_with = "pairs")]
    pub shape: Vec<(String, i64)>,
    /// How its weights are stored, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsReport>,
    /// `[m0, y, x, e, f, reuse]` of each strip.
    pub strips: Vec<[u32; 6]>,
    /// Multiplications asked for.
    pub macs: u64,
    /// Multiplications executed.
    pub executed: u64,
    /// Multiplications skipped because weights are not stored.
    pub skipped_weight: u64,
    /// Multiplications skipped because activations are zero.
    pub skipped_activation: u64,
    /// Its time.
    pub cycles: CyclesReport,
    /// Bytes.
    pub bytes: Bytes,
    /// Events.
    pub counts: Counts,
}

/// How weights are stored.
#[derive(Clone, Debug, Serialize)]
pub struct WeightsReport {
    /// `int8` or `sd`.
    pub kind: &'static str,
    /// Entries of a row.
    pub s: u32,
    /// Codes of a row.
    pub r: u32,
    /// Cycles a code takes: 2 if a magnitude is a sum of two powers of two.
    pub terms: u32,
    /// Bits of a stored row.
    pub row_bits: u32,
    /// Filters that share index bits; 0 without an index.
    pub index: u32,
}

/// The time of a layer. Its total is the time from the end of the layers before it to its own end; totals add up to the run.
#[derive(Clone, Debug, Serialize)]
pub struct CyclesReport {
    /// Cycles of its own instructions, by engine.
    #[serde(flatten)]
    pub busy: Busy,
    /// The time between the ends.
    pub total: u64,
    /// What the multiplying engine did in that time.
    pub classes: BTreeMap<String, u64>,
}

/// A step of the host.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// The part of the program that it runs before.
    pub part: u32,
    /// Operators of the user that it computes.
    pub origins: Vec<String>,
    /// Its multiplications.
    pub macs: u64,
    /// Bytes of its inputs and outputs.
    pub bytes: u64,
}

fn pairs<S: Serializer>(pairs: &[(String, i64)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_map(pairs.iter().map(|(k, v)| (k, v)))
}

impl Report {
    pub(crate) fn new(
        program: &Program,
        config: &Config,
        graphs: &[Graph],
        account: &Account<'_>,
        mode: Mode,
    ) -> Self {
        let host = host(program, graphs);
        let layers = layers(program, account);
        let (mut bytes, mut counts, mut busy) = (Bytes::default(), Counts::default(), Busy::default());
        for layer in &account.layers {
            bytes += &layer.bytes;
            counts += &layer.counts;
            busy += &layer.busy;
        }
        let flags = KEYS.iter().filter(|k| k.at_run);
        Self {
            arch: config.name.clone(),
            hash: config.hash().to_string(),
            flags: flags.map(|k| (k.name, k.get(config))).collect(),
            mode: if mode == Mode::Cycle { "cycle" } else { "func" },
            macs: Macs {
                machine: counts.macs,
                host: host.iter().map(|h| h.macs).sum(),
            },
            total: Total {
                macs: counts.macs,
                executed: counts.executed,
                skipped_weight: counts.skipped_weight,
                skipped_activation: counts.skipped_activation,
                cycles: account.base,
                busy,
                bytes,
                counts,
            },
            engines: engines(account),
            layers,
            host,
            not_modelled: NOT_MODELLED,
        }
    }

    /// A line a layer, fields separated by commas: names and numbers of the report.
    pub fn to_csv(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let mut out = String::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let busy = layer.cycles.busy.entries();
            let bytes = layer.bytes.entries();
            let bytes: Vec<(String, u64)> = bytes
                .into_iter()
                .map(|(n, v)| (format!("bytes_{n}"), v))
                .collect();
            let numbers = busy.into_iter().map(|(n, v)| (n.to_owned(), v));
            let numbers = std::iter::once(("cycles".to_owned(), layer.cycles.total)).chain(numbers);
            let counts = layer.counts.entries().into_iter().map(|(n, v)| (n.to_owned(), v));
            let numbers: Vec<(String, u64)> = numbers.chain(bytes).chain(counts).collect();
            if i == 0 {
                let names = numbers.iter().map(|(n, _)| n.as_str());
                let names: Vec<&str> = ["origin", "op"].into_iter().chain(names).collect();
                out.push_str(&names.join(","));
                out.push('\n');
            }
            let values = numbers.iter().map(|(_, v)| v.to_string());
            let values: Vec<String> = [quoted(&layer.origin), quoted(&layer.op)]
                .into_iter()
                .chain(values)
                .collect();
            out.push_str(&values.join(","));
            out.push('\n');
        }
        out
    }
}

/// A state's name in reports.
fn class(state: State) -> String {
    match state {
        State::Busy => "busy".to_owned(),
        State::Wait(engine) => format!("wait.{engine}"),
        State::Channel => "channel".to_owned(),
        State::Idle => "idle".to_owned(),
    }
}

fn engines(account: &Account<'_>) -> BTreeMap<&'static str, BTreeMap<String, u64>> {
    let mut engines: BTreeMap<&'static str, BTreeMap<String, u64>> = BTreeMap::new();
    for &(engine, state, from, to) in &account.told {
        *engines
            .entry(engine.name())
            .or_default()
            .entry(class(state))
            .or_default() += to - from;
    }
    engines
}

fn layers(program: &Program, account: &Account<'_>) -> Vec<LayerReport> {
    let ids = program.layers.keys().map(|&id| Some(id)).chain([None]);
    let told = account.told.iter().filter(|(engine, ..)| *engine == Engine::Pe);
    let mut told = told.copied().peekable();
    let (mut reports, mut start) = (Vec::new(), 0);
    for (id, layer) in ids.zip(&account.layers) {
        let map = id.and_then(|id| program.layers.get(&id));
        // What belongs to no layer closes the run.
        let end = if id.is_none() {
            account.base
        } else {
            layer.end.max(start)
        };
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(&(_, state, from, to)) = told.peek().filter(|(_, _, from, _)| *from < end) {
            *classes.entry(class(state)).or_default() += to.min(end) - from.max(start);
            if to > end {
                break;
            }
            told.next();
        }
        if id.is_some() || layer.counts.instructions > 0 || end > start {
            reports.push(report(id, map, layer, end - start, classes));
        }
        start = end;
    }
    reports
}

fn report(
    id: Option<u32>,
    map: Option<&sdc_accel_isa::Layer>,
    layer: &LayerAccount,
    total: u64,
    classes: BTreeMap<String, u64>,
) -> LayerReport {
    let mut shape = map.map(|l| l.shape.clone()).unwrap_or_default();
    if layer.fmt.is_some() && !shape.iter().any(|(name, _)| name == "fold") {
        shape.push(("fold".to_owned(), i64::from(layer.fold)));
    }
    LayerReport {
        id,
        origin: map.map_or_else(String::new, |l| l.origin.clone()),
        op: map.map_or_else(|| "none".to_owned(), |l| l.op.clone()),
        shape,
        weights: layer.fmt.map(|fmt| WeightsReport {
            kind: if fmt.sd { "sd" } else { "int8" },
            s: fmt.s,
            r: fmt.r,
            terms: fmt.terms(),
            row_bits: if fmt.sd { fmt.row_bits() } else { 8 },
            index: if fmt.sd { fmt.g } else { 0 },
        }),
        strips: layer.strips.clone(),
        macs: layer.counts.macs,
        executed: layer.counts.executed,
        skipped_weight: layer.counts.skipped_weight,
        skipped_activation: layer.counts.skipped_activation,
        cycles: CyclesReport {
            busy: layer.busy,
            total,
            classes,
        },
        bytes: layer.bytes,
        counts: layer.counts,
    }
}

fn host(program: &Program, graphs: &[Graph]) -> Vec<HostReport> {
    let steps = program.host.iter().zip(graphs);
    steps
        .map(|(step, graph)| {
            let nodes = graph.nodes().iter();
            let origins = nodes.flat_map(|(_, n)| n.origins.iter().map(ToString::to_string));
            let ports = graph
                .inputs
                .iter()
                .map(|p| p.value)
                .chain(graph.outputs.iter().map(|p| p.value));
            let bytes = ports.map(|v| {
                let ty = graph.ty(v);
                (ty.sizes().iter().product::<usize>() * ty.dtype.size()) as u64
            });
            HostReport {
                part: step.part,
                origins: origins.collect(),
                macs: graph
                    .nodes()
                    .iter()
                    .map(|(_, n)| sdc_ir::analysis::macs::of(graph, n))
                    .sum(),
                bytes: bytes.sum(),
            }
        })
        .collect()
}
