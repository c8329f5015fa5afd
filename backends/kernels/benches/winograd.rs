//! Microseconds of the direct kernel and of Winograd's on 3x3 layers, one thread, thread CPU time: what the cost model of the
//! tile pass is fitted to.
//!
//! Weights come from far, as they do in a network: each call takes another copy. `cargo bench -p sdc-kernels --bench
//! winograd [-- FILTER]`; a filter is part of an instance's name or of `SIZE CHANNELS-CHANNELS`.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::print_stdout, reason = "the table is the product")]

#[path = "../tests/support/mod.rs"]
mod support;

use sdc_kernels::params::{Conv2dParams, WinogradParams};
use support::Loaded;
use support::clock::thread_seconds;

/// Size of the image, channels in and out.
const LAYERS: &[(i64, i64, i64)] = &[
    (32, 16, 16),
    (16, 32, 32),
    (8, 64, 64),
    (56, 64, 64),
    (28, 128, 128),
    (14, 256, 256),
    (7, 512, 512),
    (224, 64, 64),
    (112, 128, 128),
    (56, 256, 256),
    (28, 512, 512),
    (14, 512, 512),
    (32, 64, 64),
    (16, 64, 128),
    (16, 128, 128),
    (8, 128, 256),
    (8, 256, 256),
    (4, 512, 512),
    (256, 32, 32),
    (256, 16, 16),
    (64, 256, 128),
    (104, 32, 64),
    (26, 256, 256),
    (13, 512, 1024),
];

/// Bytes over which the copies of the weights extend.
const FAR: i64 = 32 << 20;

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for loaded in Loaded::all() {
        let instance = loaded.instance.name;
        for &(size, in_c, out_c) in LAYERS {
            let layer = format!("{size} {in_c}-{out_c}");
            if !filter.iter().all(|f| layer.contains(f.as_str()) || instance == f) {
                continue;
            }
            let macs = (9 * size * size * in_c * out_c) as f64;
            let direct = Bench::direct(&loaded, size, in_c, out_c).measure();
            let mut line = format!(
                "{instance} {layer:>12} direct {:9.1} us {:6.1} GF/s |",
                direct,
                macs * 2e-3 / direct
            );
            for tile in [2, 4] {
                let all = ((size + tile - 1) / tile).pow(2);
                let mut tried = Vec::new();
                for tiles in [12, 24, 48, 96] {
                    let tiles = tiles.min(all);
                    if tried.contains(&tiles) {
                        continue;
                    }
                    tried.push(tiles);
                    let time = Bench::winograd(&loaded, size, in_c, out_c, (tile, tiles)).measure();
                    line += &format!(" {tile}x{tiles}: {time:.1} ({:.2})", time / direct);
                }
            }
            println!("{line}");
        }
    }
}

/// A call to time.
struct Bench {
    kernel: support::KernelFn,
    operands: Vec<Vec<f32>>,
    /// Elements of one copy of the weights, and their number.
    weights: (usize, usize),
    params: Vec<i64>,
    end: i64,
}

fn words<P: Copy>(p: P) -> Vec<i64> {
    // SAFETY: a record of i64.
    unsafe { std::slice::from_raw_parts((&raw const p).cast::<i64>(), size_of::<P>() / 8) }.to_vec()
}

fn fill(n: i64) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect()
}

impl Bench {
    fn direct(loaded: &Loaded, size: i64, in_c: i64, out_c: i64) -> Bench {
        let (nr, lanes) = (loaded.instance.nr as i64, loaded.instance.lanes as i64);
        let params = words(Conv2dParams {
            in_h: size,
            in_w: size,
            in_c,
            out_w: size,
            out_c,
            kh: 3,
            kw: 3,
            sh: 1,
            sw: 1,
            dh: 1,
            dw: 1,
            pt: 1,
            pl: 1,
            xs_h: size * in_c,
            xs_w: in_c,
            xs_c: 1,
            ys_h: size * out_c,
            ys_w: out_c,
            nr,
            lanes,
            has_bias: 1,
            act: 1,
            ..Default::default()
        });
        let weights = 9 * in_c * ((out_c + lanes - 1) / lanes * lanes);
        let copies = FAR / (4 * weights) + 1;
        Bench {
            kernel: loaded.kernel("conv2d_f32"),
            operands: vec![
                fill(size * size * in_c),
                fill(weights * copies),
                fill(out_c),
                vec![],
                fill(size * size * out_c),
            ],
            weights: (weights as usize, copies as usize),
            params,
            end: size,
        }
    }

    fn winograd(loaded: &Loaded, size: i64, in_c: i64, out_c: i64, (tile, tiles): (i64, i64)) -> Bench {
        let (nr, lanes) = (loaded.instance.nr as i64, loaded.instance.lanes as i64);
        let params = words(WinogradParams {
            in_h: size,
            in_w: size,
            in_c,
            out_w: size,
            out_c,
            pt: 1,
            pl: 1,
            xs_h: size * in_c,
            xs_w: in_c,
            ys_h: size * out_c,
            ys_w: out_c,
            row_hi: size,
            tile,
            tiles,
            nr,
            lanes,
            has_bias: 1,
            act: 1,
            ..Default::default()
        });
        let points = (tile + 2) * (tile + 2);
        let weights = points * in_c * ((out_c + lanes - 1) / lanes * lanes);
        let copies = FAR / (4 * weights) + 1;
        Bench {
            kernel: loaded.kernel("winograd_f32"),
            operands: vec![
                fill(size * size * in_c),
                fill(weights * copies),
                fill(out_c),
                vec![],
                vec![0.0; (points * (tiles * (in_c + nr) + 32)) as usize],
                fill(size * size * out_c),
            ],
            weights: (weights as usize, copies as usize),
            params,
            end: (size + tile - 1) / tile,
        }
    }

    /// Microseconds of a call.
    fn measure(mut self) -> f64 {
        let mut operands: Vec<*mut u8> = self.operands.iter_mut().map(|o| o.as_mut_ptr().cast()).collect();
        let weights = self.operands[1].as_mut_ptr();
        let mut best = f64::INFINITY;
        let start = thread_seconds();
        while thread_seconds() - start < 0.25 {
            let from = thread_seconds();
            for copy in 0..self.weights.1 {
                operands[1] = weights.wrapping_add(copy * self.weights.0).cast();
                // SAFETY: operands of the sizes the parameters say.
                unsafe { (self.kernel)(operands.as_ptr(), self.params.as_ptr(), 0, self.end) };
                if copy > 8 && thread_seconds() - from > 0.01 {
                    best = best.min((thread_seconds() - from) / (copy + 1) as f64);
                    break;
                }
                if copy + 1 == self.weights.1 {
                    best = best.min((thread_seconds() - from) / (copy + 1) as f64);
                }
            }
        }
        best * 1e6
    }
}
