//! GFLOP/s of each kernel instance on the layers of well-known networks, one thread, thread CPU time.
//!
//! `cargo bench -p sdc-kernels [-- FILTER]`; a filter matches part of a layer's name or of an instance's.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::print_stdout, reason = "the table is the product")]

#[path = "../tests/support/mod.rs"]
mod support;

use support::Loaded;
use support::clock::thread_seconds;

/// Name, input height = width, input channels, output channels, window, stride, padding; `d` in the name: depthwise;
/// `nchw`: the input is planar; `cold`: the weights come from memory, as they do in a network whose weights fill the caches.
type Layer = (&'static str, i64, i64, i64, i64, i64, i64);

const LAYERS: &[Layer] = &[
    ("resnet50 conv1 nchw", 224, 3, 64, 7, 2, 3),
    ("resnet50 1x1 56 64-64", 56, 64, 64, 1, 1, 0),
    ("resnet50 3x3 56 64-64", 56, 64, 64, 3, 1, 1),
    ("resnet50 1x1 56 64-256", 56, 64, 256, 1, 1, 0),
    ("resnet50 1x1 56 256-64", 56, 256, 64, 1, 1, 0),
    ("resnet50 3x3 28 128-128", 28, 128, 128, 3, 1, 1),
    ("resnet50 1x1 28 512-128", 28, 512, 128, 1, 1, 0),
    ("resnet50 1x1/2 56 256-512", 56, 256, 512, 1, 2, 0),
    ("resnet50 3x3 14 256-256", 14, 256, 256, 3, 1, 1),
    ("resnet50 1x1 14 1024-256", 14, 1024, 256, 1, 1, 0),
    ("resnet50 1x1 14 256-1024", 14, 256, 1024, 1, 1, 0),
    ("resnet50 3x3 7 512-512", 7, 512, 512, 3, 1, 1),
    ("resnet50 1x1 7 2048-512", 7, 2048, 512, 1, 1, 0),
    ("resnet50 1x1 7 512-2048", 7, 512, 2048, 1, 1, 0),
    ("fc 2048-1000", 1, 2048, 1000, 1, 1, 0),
    ("fc 25088-4096", 1, 25088, 4096, 1, 1, 0),
    ("fc 512-512", 1, 512, 512, 1, 1, 0),
    ("vgg 3x3 32 3-64 nchw", 32, 3, 64, 3, 1, 1),
    ("vgg 3x3 224 64-64", 224, 64, 64, 3, 1, 1),
    ("vgg 3x3 2 512-512", 2, 512, 512, 3, 1, 1),
    ("vgg 3x3 2 512-512 cold", 2, 512, 512, 3, 1, 1),
    ("near 3x3 4 128-128", 4, 128, 128, 3, 1, 1),
    ("near 3x3 2 128-128", 2, 128, 128, 3, 1, 1),
    ("near 1x1 4 256-512", 4, 256, 512, 1, 1, 0),
    ("near fc 512-512", 1, 512, 512, 1, 1, 0),
    ("vgg 3x3 4 512-512 cold", 4, 512, 512, 3, 1, 1),
    ("vgg 3x3 4 256-512 cold", 4, 256, 512, 3, 1, 1),
    ("vgg 3x3 8 256-256 cold", 8, 256, 256, 3, 1, 1),
    ("resnet50 1x1 7 512-2048 cold", 7, 512, 2048, 1, 1, 0),
    ("fc 4096-4096 cold", 1, 4096, 4096, 1, 1, 0),
    ("fc 512-512 cold", 1, 512, 512, 1, 1, 0),
    ("resnet20 3x3 32 16-16", 32, 16, 16, 3, 1, 1),
    ("resnet20 3x3 16 32-32", 16, 32, 32, 3, 1, 1),
    ("resnet20 3x3 8 64-64", 8, 64, 64, 3, 1, 1),
    ("lenet 5x5 14 6-16", 14, 6, 16, 5, 1, 0),
    ("mobilenet conv1 nchw", 224, 3, 32, 3, 2, 1),
    ("mobilenet 1x1 112 16-96", 112, 16, 96, 1, 1, 0),
    ("mobilenet 1x1 56 144-24", 56, 144, 24, 1, 1, 0),
    ("mobilenet 1x1 14 384-64", 14, 384, 64, 1, 1, 0),
    ("mobilenet 1x1 7 160-960", 7, 160, 960, 1, 1, 0),
    ("mobilenet 1x1 7 960-160", 7, 960, 160, 1, 1, 0),
    ("mobilenet d3x3 112 32", 112, 32, 32, 3, 1, 1),
    ("mobilenet d3x3/2 112 96", 112, 96, 96, 3, 2, 1),
    ("mobilenet d3x3 56 144", 56, 144, 144, 3, 1, 1),
    ("mobilenet d3x3 14 384", 14, 384, 384, 3, 1, 1),
    ("mobilenet d3x3 7 960", 7, 960, 960, 3, 1, 1),
];

fn main() {
    let filter: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for loaded in Loaded::all() {
        let name = loaded.instance.name;
        for layer in LAYERS {
            if filter.iter().all(|f| layer.0.contains(f.as_str()) || name == f) {
                println!("{name} {:28} {:7.1} GFLOP/s", layer.0, measure(&loaded, layer));
            }
        }
    }
}

fn measure(loaded: &Loaded, &(name, size, in_c, out_c, window, stride, pad): &Layer) -> f64 {
    let depthwise = name.contains(" d");
    let out = (size + 2 * pad - window) / stride + 1;
    let (nr, lanes) = (loaded.instance.nr as i64, loaded.instance.lanes as i64);
    let (xs_h, xs_w, xs_c) = if name.contains("nchw") {
        (size, 1, size * size)
    } else {
        (size * in_c, in_c, 1)
    };
    let fill = |n: i64| {
        (0..n)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0)
            .collect::<Vec<f32>>()
    };
    let mut x = fill(size * size * in_c);
    let each = window * window * in_c * (out_c + nr);
    // So many sets of weights in turns that none is in a cache when its turn comes.
    let sets = if name.contains("cold") {
        1 + (18 << 20) / each
    } else {
        1
    };
    let mut weights = fill(each * sets + 16);
    // As in a weights file.
    let aligned = weights.as_mut_ptr().map_addr(|a| a.next_multiple_of(64));
    let mut bias = fill(out_c);
    let mut y = vec![0.0f32; (out * out * out_c) as usize];
    let (kernel, params, end, macs) = if depthwise {
        let p = sdc_kernels::params::Depthwise2dParams {
            in_h: size,
            in_w: size,
            channels: out_c,
            out_w: out,
            kh: window,
            kw: window,
            sh: stride,
            sw: stride,
            dh: 1,
            dw: 1,
            pt: pad,
            pl: pad,
            xs_h,
            xs_w,
            ys_h: out * out_c,
            ys_w: out_c,
            has_bias: 1,
            act: 1,
            ..Default::default()
        };
        // SAFETY: a record of i64.
        let params =
            unsafe { std::slice::from_raw_parts((&raw const p).cast::<i64>(), size_of_val(&p) / 8) }.to_vec();
        (
            loaded.kernel("depthwise2d_f32"),
            params,
            out,
            out * out * out_c * window * window,
        )
    } else if name.starts_with("fc") {
        let p = sdc_kernels::params::GemmParams {
            m: 1,
            n: out_c,
            k: in_c,
            as_m: in_c,
            as_k: 1,
            cs_m: out_c,
            nr,
            lanes,
            has_bias: 1,
            act: 1,
            ..Default::default()
        };
        // SAFETY: a record of i64.
        let params =
            unsafe { std::slice::from_raw_parts((&raw const p).cast::<i64>(), size_of_val(&p) / 8) }.to_vec();
        (
            loaded.kernel("gemm_f32"),
            params,
            (out_c + nr - 1) / nr,
            in_c * out_c,
        )
    } else {
        let p = sdc_kernels::params::Conv2dParams {
            in_h: size,
            in_w: size,
            in_c,
            out_w: out,
            out_c,
            kh: window,
            kw: window,
            sh: stride,
            sw: stride,
            dh: 1,
            dw: 1,
            pt: pad,
            pl: pad,
            xs_h,
            xs_w,
            xs_c,
            ys_h: out * out_c,
            ys_w: out_c,
            nr,
            lanes,
            has_bias: 1,
            act: 1,
            ..Default::default()
        };
        // SAFETY: a record of i64.
        let params =
            unsafe { std::slice::from_raw_parts((&raw const p).cast::<i64>(), size_of_val(&p) / 8) }.to_vec();
        (
            loaded.kernel("conv2d_f32"),
            params,
            out,
            out * out * out_c * window * window * in_c,
        )
    };
    let operands = [
        x.as_mut_ptr(),
        aligned,
        bias.as_mut_ptr(),
        y.as_mut_ptr(),
        y.as_mut_ptr(),
    ]
    .map(|p| p.cast::<u8>());
    let repeat = (50_000_000 / macs).max(sets);
    let mut best = f64::INFINITY;
    let start = thread_seconds();
    while thread_seconds() - start < 0.15 {
        let from = thread_seconds();
        for turn in 0..repeat {
            let mut operands = operands;
            // SAFETY: operands of the sizes the parameters say, the weights those of one set.
            unsafe {
                operands[1] = operands[1]
                    .cast::<f32>()
                    .add((turn % sets * each) as usize)
                    .cast();
                kernel(operands.as_ptr(), params.as_ptr(), 0, end);
            }
        }
        best = best.min((thread_seconds() - from) / repeat as f64);
    }
    2.0 * macs as f64 / best * 1e-9
}
