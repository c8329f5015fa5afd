//! Native kernels with an operand in the place of the result, wherever their body allows it: the same bytes as with memory for each.
//! Shapes are small and often of a single element along some dimension, where a body allows more than one would think.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;

use fastrand::Rng;
use sdc_ir::DType;
use sdc_ir::registry::map::{Source, Step, StepOp};
use sdc_ir::registry::{self, Role};
use sdc_ir::tile::overlay::Accesses;
use sdc_ir::tile::{Buffer, BufferData, BufferKind, Func, FuncBuilder, KernelCall, Module, View};
use support::memory::Aligned;
use support::{KernelFn, Loaded};

/// Bytes of every operand's memory, and where its view begins.
const BYTES: usize = 1 << 17;
const BASE: usize = 1 << 12;

/// What a random call chooses parameters from.
struct Chooser<'a> {
    random: &'a mut Rng,
    nr: i64,
    lanes: i64,
    chosen: BTreeMap<&'static str, i64>,
    /// Rows of output, pixels or blocks: the work range.
    range: (i64, i64),
}

impl Chooser<'_> {
    fn one_of(&mut self, values: &[i64]) -> i64 {
        values[self.random.usize(0..values.len())]
    }

    fn size(&mut self) -> i64 {
        let most = self.one_of(&[2, 2, 2, 6, 10, 20]);
        self.random.i64(1..most)
    }

    fn get(&self, name: &str) -> i64 {
        self.chosen.get(name).copied().unwrap_or(1)
    }

    /// Channels of input and output, whatever the kernel calls them.
    fn channels(&self, names: [&str; 2]) -> i64 {
        names
            .iter()
            .find_map(|n| self.chosen.get(n))
            .copied()
            .unwrap_or(1)
    }

    fn output(&self, [input, window, stride, dilation, pad]: [&str; 5]) -> i64 {
        let reach = (self.get(window) - 1) * self.get(dilation) + 1;
        (self.get(input) + 2 * self.get(pad) - reach) / self.get(stride) + 1
    }

    /// A parameter, given those before it.
    fn choose(&mut self, kernel: &str, name: &'static str) -> i64 {
        let window = |c: &mut Self| if c.random.bool() { 1 } else { 3 };
        let dense = |c: &mut Self, of: i64| of + c.one_of(&[0, 0, 0, 1]);
        match name {
            // Filled in when all others are known.
            "out_w" => 0,
            "in_h" | "in_w" => self.random.i64(1..7) + if kernel == "winograd_f32" { 2 } else { 0 },
            "kh" | "kw" => window(self).min(self.get(if name == "kh" { "in_h" } else { "in_w" })),
            "sh" | "sw" => self.one_of(&[1, 1, 2]),
            "pt" | "pl" if kernel == "winograd_f32" => self.random.i64(0..2),
            "pt" => self.random.i64(0..self.get("kh")),
            "pl" => self.random.i64(0..self.get("kw")),
            "xs_c" => 1,
            "as_k" => 1,
            "as_m" | "as_r" | "bs_r" | "cs_r" | "xs_r" | "ys_r" if kernel != "gemm_f32" => {
                let row = self.channels(["columns", "size"]);
                self.one_of(&[row, row, row, row + 1, 0])
            }
            "as_m" => self.one_of(&[self.get("k"), self.get("n")]),
            "cs_m" => self.get("n"),
            "rs_m" => self.get("n"),
            "nr" => self.nr,
            "lanes" => self.lanes,
            "tile" => self.one_of(&[2, 4]),
            "tiles" => self.random.i64(1..4),
            "row_lo" | "x_row0" | "y_row0" | "r_row0" => 0,
            "steps" => self.random.i64(1..4),
            "planes" => self.random.i64(1..3),
            "y_shift" => self.one_of(&[0, 12]),
            "y_min" => self.one_of(&[0, 3]),
            "y_max" => 100,
            "a_scale" | "b_scale" if self.get("fixed") == 1 => self.random.i64(1..100),
            "a_scale" | "b_scale" | "y_scale" | "epsilon" => 0.5f32.to_bits().into(),
            "scale" => self.random.i64(1..9),
            "act_a" => 0.25f32.to_bits().into(),
            "act_b" => 1.0f32.to_bits().into(),
            "act" => self.random.i64(0..4),
            "ct" | "cl" | "cb" | "cr" => 0,
            "log" | "mean" => self.random.i64(0..2),
            "dh" | "dw" => 1,
            name if name.starts_with("has_") || name.ends_with("_signed") => self.random.i64(0..2),
            name if name.ends_with("_zero") => self.random.i64(0..20),
            name if name.starts_with("step_") => self.step(name),
            "xs_w" => {
                let channels = self.channels(["in_c", "channels"]);
                dense(self, channels)
            }
            "ys_w" => {
                let channels = self.channels(["out_c", "channels"]);
                dense(self, channels)
            }
            "rs_w" => self.get("ys_w"),
            "xs_h" | "ys_h" | "rs_h" => 0,
            _ => self.size(),
        }
    }

    fn step(&mut self, name: &str) -> i64 {
        let k: i64 = name["step_".len()..].parse().unwrap();
        if k >= self.get("steps") {
            return 0;
        }
        let source = |c: &mut Self| match c.random.u32(0..4) {
            0 if k > 0 => Source::Step((k - 1) as u8),
            1 if c.get("has_b") == 1 => Source::Operand(1),
            2 if c.get("has_c") == 1 => Source::Operand(2),
            _ => Source::Operand(0),
        };
        let op = StepOp::ALL[self.random.usize(0..StepOp::ALL.len())];
        let (a, b) = (source(self), source(self));
        let b = op.is_binary().then_some(b);
        Step { op, a, b }.encode()
    }

    /// What depends on several others: sizes of the output, and rows without gaps.
    fn finish(&mut self, kernel: &str) {
        let (rows, columns) = match kernel {
            "winograd_f32" => (
                self.get("in_h") + 2 * self.get("pt") - 2,
                self.get("in_w") + 2 * self.get("pl") - 2,
            ),
            "gemm_f32" => ((self.get("n") + self.nr - 1) / self.nr, 0),
            _ if self.chosen.contains_key("out_w") => (
                self.output(["in_h", "kh", "sh", "dh", "pt"]),
                self.output(["in_w", "kw", "sw", "dw", "pl"]),
            ),
            _ => (self.random.i64(1..4), self.get("columns")),
        };
        let set = |c: &mut Self, name: &'static str, value: i64| {
            if c.chosen.contains_key(name) {
                c.chosen.insert(name, value);
            }
        };
        set(self, "out_w", columns);
        let in_w = if kernel == "quantize_f32" {
            columns
        } else {
            self.get("in_w")
        };
        set(self, "xs_h", in_w * self.get("xs_w"));
        set(self, "ys_h", columns * self.get("ys_w"));
        set(self, "rs_h", columns * self.get("rs_w"));
        set(self, "row_hi", rows);
        let units = match self.chosen.get("tile") {
            Some(tile) => (rows + tile - 1) / tile,
            None => rows,
        };
        self.range = (0, units);
    }
}

/// Element types of the operands.
fn types(kernel: &str, chosen: &BTreeMap<&'static str, i64>) -> Vec<DType> {
    let byte = |name: &str| match chosen.get(name) {
        Some(0) => DType::U8,
        _ => DType::I8,
    };
    let multiplier = match chosen.get("y_shift") {
        Some(0) => DType::F32,
        _ => DType::I32,
    };
    match kernel {
        "add_i8" | "mul_i8" => vec![byte("a_signed"), byte("b_signed"), byte("y_signed")],
        "conv2d_i8" => vec![
            byte("x_signed"),
            DType::I8,
            DType::I32,
            DType::I32,
            multiplier,
            byte("y_signed"),
        ],
        "depthwise2d_i8" => vec![
            byte("x_signed"),
            DType::I16,
            DType::I32,
            multiplier,
            byte("y_signed"),
        ],
        "max_pool2d_i8" => vec![byte("x_signed"); 2],
        "quantize_f32" => vec![DType::F32, byte("y_signed")],
        _ => vec![DType::F32; 6],
    }
}

/// A call with every operand in a buffer of its own, in operand order.
fn call(
    kernel: &'static registry::Kernel,
    random: &mut Rng,
    nr: usize,
    lanes: usize,
) -> (Module, Vec<i64>, (i64, i64)) {
    let mut chooser = Chooser {
        random,
        nr: nr as i64,
        lanes: lanes as i64,
        chosen: BTreeMap::new(),
        range: (0, 1),
    };
    if kernel.name == "add_i8" {
        let fixed = chooser.random.i64(0..2);
        chooser.chosen.insert("fixed", fixed);
    }
    for &name in kernel.params {
        let value = chooser.choose(kernel.name, name);
        chooser.chosen.insert(name, value);
    }
    if kernel.name == "add_i8" {
        let shift = chooser.get("fixed") * 12;
        chooser.chosen.insert("y_shift", shift);
    }
    chooser.finish(kernel.name);
    let params: Vec<i64> = kernel.params.iter().map(|n| chooser.chosen[n]).collect();
    assert_eq!(kernel.bad_params(&params), None, "{}", kernel.name);
    let types = types(kernel.name, &chooser.chosen);
    let mut module = Module::default();
    let mut operands = Vec::new();
    for (i, operand) in kernel.operands.iter().enumerate() {
        let dtype = types[i];
        let buffer = module.buffers.push(BufferData {
            dtype,
            len: BYTES / dtype.size(),
            kind: BufferKind::Temp,
            name: operand.name.to_owned(),
        });
        let absent = operand.role == Role::ReadOptional
            && chooser
                .chosen
                .iter()
                .any(|(n, v)| n.strip_prefix("has_") == Some(operand.name) && *v == 0);
        let offset = (BASE / dtype.size()).into();
        operands.push((!absent).then_some(View { buffer, offset }));
    }
    let mut b = FuncBuilder::new();
    b.kernel(KernelCall {
        kernel: kernel.name.to_owned(),
        params: params.clone(),
        operands,
        begin: chooser.range.0.into(),
        end: chooser.range.1.into(),
    });
    let func: Func = b.finish("f", Vec::new());
    module.funcs.push(func);
    (module, params, chooser.range)
}

/// Small numbers of a type; some thousand, over and over.
fn contents(random: &mut Rng, dtype: DType) -> Vec<u8> {
    let some: Vec<u8> = match dtype {
        DType::F32 => (0..1021)
            .flat_map(|_| (random.f32() * 4.0 - 2.0).to_le_bytes())
            .collect(),
        DType::I32 => (0..1021).flat_map(|_| random.i32(0..50).to_le_bytes()).collect(),
        _ => (0..1021 * 4).map(|_| random.u8(0..60)).collect(),
    };
    some.iter().copied().cycle().take(BYTES).collect()
}

/// The bytes of the result, with operand `over` in its place if there is one.
fn run(
    kernel: KernelFn,
    operands: &[Option<Vec<u8>>],
    params: &[i64],
    range: (i64, i64),
    over: Option<usize>,
) -> Vec<u8> {
    let mut memory: Vec<Aligned> = operands
        .iter()
        .map(|o| Aligned::new(o.as_deref().unwrap_or(&[])))
        .collect();
    let mut pointers: Vec<*mut u8> = memory
        .iter_mut()
        .map(|m| match m.pointer() {
            p if p.is_null() => p,
            p => p.wrapping_add(BASE),
        })
        .collect();
    let result = pointers.len() - 1;
    let place = over.unwrap_or(result);
    pointers[result] = pointers[place];
    // SAFETY: the parameters describe elements well within the operands.
    unsafe { kernel(pointers.as_ptr(), params.as_ptr(), range.0, range.1) };
    memory[place].bytes()
}

/// Holds a kernel to its body; counts the operands found in the result's place.
fn check(kernel: &'static registry::Kernel, native: KernelFn, nr: usize, lanes: usize, seed: u64) -> usize {
    let random = &mut Rng::with_seed(seed);
    let (module, params, range) = call(kernel, random, nr, lanes);
    let result = Buffer::from_operand(kernel.operands.len() - 1);
    let accesses = Accesses::of(&module, &module.funcs[0], |_| true);
    let Some(registry_call) = module.funcs[0].body.iter().find_map(|s| match s {
        sdc_ir::tile::Stmt::Kernel(call) => Some(call),
        _ => None,
    }) else {
        unreachable!("the function is a call");
    };
    let views = &registry_call.operands;
    let allowed: Vec<usize> = (0..views.len() - 1)
        .filter(|&i| views[i].is_some() && kernel.operands[i].role != Role::Write)
        .filter(|&i| accesses.may_lie_over(result, Buffer::from_operand(i)))
        .collect();
    if allowed.is_empty() {
        return 0;
    }
    let operands: Vec<Option<Vec<u8>>> = views
        .iter()
        .map(|o| {
            o.as_ref()
                .map(|v| contents(random, module.buffers[v.buffer].dtype))
        })
        .collect();
    let with = |fill: u8| {
        let mut operands = operands.clone();
        *operands.last_mut().unwrap() = Some(vec![fill; BYTES]);
        run(native, &operands, &params, range, None)
    };
    let (apart, other) = (with(0xAA), with(0x55));
    for &over in &allowed {
        let together = run(native, &operands, &params, range, Some(over));
        let wrong = (0..BYTES).find(|&i| apart[i] == other[i] && together[i] != apart[i]);
        assert_eq!(
            wrong,
            None,
            "{} with {} in place, seed {seed}: {:?}",
            kernel.name,
            kernel.operands[over].name,
            kernel.params.iter().zip(&params).collect::<Vec<_>>()
        );
    }
    allowed.len()
}

trait Operand {
    fn from_operand(i: usize) -> Self;
}

impl Operand for Buffer {
    fn from_operand(i: usize) -> Self {
        sdc_ir::entity::EntityId::new(i)
    }
}

#[test]
fn natives_are_right_in_place_wherever_their_bodies_are() {
    let seeds = if cfg!(miri) { 0 } else { 50 };
    let sets = Loaded::all();
    for kernel in registry::KERNELS {
        // Compressed weights are constants, which nothing is written over; tests/sparse.rs has tables that mean something.
        if kernel.name.starts_with("sd_") || kernel.name.starts_with("sparse") {
            continue;
        }
        let (mut found, mut seed) = (0, 0);
        for loaded in &sets {
            let own = loaded.instance.symbol(kernel.name);
            let best = loaded
                .instance
                .best_symbol(kernel.name, sdc_kernels::host_features());
            let symbols: std::collections::BTreeSet<String> = own.into_iter().chain(best).collect();
            for symbol in symbols {
                // Its body is long.
                let few = if kernel.name == "winograd_f32" { 10 } else { 1 };
                for _ in 0..seeds / few {
                    seed += 1;
                    let native = loaded.symbol(&symbol);
                    found += check(kernel, native, loaded.instance.nr, loaded.instance.lanes, seed);
                }
            }
        }
        println!("{}: {found}", kernel.name);
        // Of bytes made from floats there is none at the floats' place.
        let none = kernel.name == "quantize_f32";
        assert!(none || found > 3 || seeds == 0, "{}: {found}", kernel.name);
    }
}
