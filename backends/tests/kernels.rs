//! The registry's bodies, compiled in place of the kernels, against the interpreter; and how fast they are.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use crate::backend::VARIANTS;
use crate::common::{self, Maker, Native, Random, cpus, options};
use sdc_ir::DType;
use sdc_ir::registry;
use sdc_ir::tile::{Affine, KernelCall, View};

/// Small integers: their products and sums are exact, so fused and separate roundings agree.
fn numbers(count: usize, random: &mut Random) -> Vec<u8> {
    (0..count)
        .flat_map(|_| ((random.next() % 9) as f32 - 4.0).to_le_bytes())
        .collect()
}

/// A square convolution, channels-last, weights in blocks of 8.
struct Conv {
    size: usize,
    channels: (usize, usize),
    window: usize,
    stride: usize,
}

impl Conv {
    fn out(&self) -> usize {
        (self.size - 1) / self.stride + 1
    }

    fn flops(&self) -> f64 {
        let (c, k) = self.channels;
        2.0 * (self.out() * self.out() * self.window * self.window * c * k) as f64
    }

    fn build(&self, tasks: usize) -> (Maker, Vec<u8>) {
        let mut random = Random(11);
        let (c, k, out) = (self.channels.0, self.channels.1, self.out());
        let padded = k.next_multiple_of(4);
        let taps = self.window * self.window * c;
        let mut make = Maker::default();
        let x = make.input(DType::F32, self.size * self.size * c);
        let w = make.constant(DType::F32, numbers(taps * padded, &mut random));
        let bias = make.constant(DType::F32, numbers(padded, &mut random));
        let y = make.output(DType::F32, out * out * k);
        let value = |name: &str| -> usize {
            match name {
                "in_h" | "in_w" => self.size,
                "in_c" | "xs_w" => c,
                "out_w" => out,
                "out_c" | "ys_w" => k,
                "kh" | "kw" => self.window,
                "sh" | "sw" => self.stride,
                "pt" | "pl" => self.window / 2,
                "xs_h" => self.size * c,
                "ys_h" => out * k,
                "xs_c" | "dh" | "dw" | "has_bias" => 1,
                "nr" => 8,
                "lanes" => 4,
                _ => 0,
            }
        };
        let kernel = registry::find("conv2d_f32").unwrap();
        let params: Vec<i64> = kernel.params.iter().map(|p| value(p) as i64).collect();
        let view = |buffer| {
            Some(View {
                buffer,
                offset: 0.into(),
            })
        };
        let rows = out.div_ceil(tasks);
        make.func(|b| {
            b.parallel_for(tasks, |b, task| {
                b.kernel(KernelCall {
                    kernel: kernel.name.into(),
                    params,
                    operands: vec![view(x), view(w), view(bias), None, view(y)],
                    begin: (task.clone() * rows as i64).into(),
                    end: sdc_ir::tile::Bound::of(vec![(task + 1) * rows as i64, Affine::from(out)]),
                });
            });
        });
        (make, numbers(self.size * self.size * c, &mut random))
    }
}

#[test]
fn convolutions_are_the_interpreters() {
    for (size, channels, window, stride) in [
        (9, (3, 16), 3, 1),
        (12, (8, 13), 3, 2),
        (7, (16, 24), 1, 1),
        (11, (5, 4), 5, 1),
    ] {
        let conv = Conv {
            size,
            channels,
            window,
            stride,
        };
        let (make, input) = conv.build(3);
        for cpu in cpus() {
            for &variant in VARIANTS {
                let setting = (&options(&cpu), variant);
                common::assert_same(&make.module, &[&input], setting, &|_| {
                    format!("{size} {channels:?} {window}")
                });
            }
        }
    }
}

/// Time this thread has been on a CPU: other programs' load must not count.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Run with `--release -- --ignored --nocapture`. Variants take turns, and the median counts: the machine may be shared.
#[test]
#[ignore = "a measurement"]
fn speed() {
    const ROUNDS: usize = 31;
    for (size, channels, window) in [(28, (128, 128), 3), (28, (128, 128), 1), (56, (64, 64), 3)] {
        let conv = Conv {
            size,
            channels,
            window,
            stride: 1,
        };
        let (make, input) = conv.build(1);
        let mut variants = Vec::new();
        for cpu in cpus() {
            for &variant in VARIANTS {
                let native = Native::new(&make.module, &options(&cpu), variant);
                variants.push((format!("{} {variant:?}", cpu.name), native, Vec::new()));
            }
        }
        // The kernel counts in ticks of some milliseconds.
        let repeats = (3e8 / conv.flops()).ceil() as usize;
        for _ in 0..ROUNDS {
            for (_, native, times) in &mut variants {
                let start = cpu_seconds();
                for _ in 0..repeats {
                    native.run(&[&input], None);
                }
                times.push((cpu_seconds() - start) / repeats as f64);
            }
        }
        println!("{size}x{size}, {channels:?} channels, {window}x{window}, GFLOP/s:");
        for (name, _, times) in &mut variants {
            times.sort_by(f64::total_cmp);
            println!("  {name:16} {:.1}", conv.flops() / times[ROUNDS / 2] / 1e9);
        }
    }
}
