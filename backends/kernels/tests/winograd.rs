//! `winograd_f32` of every instance that this machine can run, and its body, against direct convolution in f64, within the
//! error that the registry states.
#![allow(unsafe_code, reason = "calls of kernels")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use sdc_interp::tile::run_tile;
use sdc_ir::DType;
use sdc_ir::registry;
use sdc_ir::registry::winograd::{ERROR, scratch_len, weights};
use sdc_ir::tile::{Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Module, View, verify};
use sdc_kernels::params::WinogradParams;
use sdc_kernels::portable;
use support::case::{self, BASE, Extras, Plane, guarded};
use support::memory::Operands;
use support::{KernelFn, Loaded};

/// A random call and what it must give. Operands are guarded; weights are `[3][3][in][out]`.
#[derive(Clone, Debug)]
struct Case {
    p: WinogradParams,
    x: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
    y: Vec<f32>,
    in_place: bool,
    /// Rows of tiles.
    range: (i64, i64),
    /// Output index, expected value and allowed difference.
    expected: Vec<(usize, f64, f64)>,
}

fn bound(tile: i64) -> f64 {
    ERROR.iter().find(|e| e.0 as i64 == tile).unwrap().1 / f64::from(1u32 << 24)
}

#[derive(Clone, Debug)]
struct Shape {
    size: (i64, i64),
    channels: (i64, i64),
    pads: [i64; 4],
    tile: i64,
    tiles: i64,
    gaps: (i64, i64),
    cut: (u8, u8),
    whole: bool,
}

fn build(s: Shape, extras: Extras) -> Case {
    let ((in_h, in_w), (in_c, out_c)) = (s.size, s.channels);
    let (out_h, out_w) = (in_h + s.pads[0] + s.pads[2] - 2, in_w + s.pads[1] + s.pads[3] - 2);
    let rows = if s.whole {
        (0, out_h)
    } else {
        case::part(out_h, s.cut)
    };
    let range = if rows.0 < rows.1 {
        (rows.0 / s.tile, (rows.1 + s.tile - 1) / s.tile)
    } else {
        (0, 0)
    };
    let (xs_h, xs_w) = case::strides(in_w, in_c, s.gaps);
    let (ys_h, ys_w) = case::strides(out_w, out_c, (s.gaps.1, s.gaps.0));
    let in_place = extras.residual == 2;
    let (rs_h, rs_w) = if in_place {
        (ys_h, ys_w)
    } else {
        case::strides(out_w, out_c, s.gaps)
    };
    let (act_a, act_b, act) = case::activation(extras);
    let p = WinogradParams {
        in_h,
        in_w,
        in_c,
        out_w,
        out_c,
        pt: s.pads[0],
        pl: s.pads[1],
        xs_h,
        xs_w,
        x_row0: 0,
        ys_h,
        ys_w,
        y_row0: rows.0,
        rs_h,
        rs_w,
        r_row0: rows.0,
        row_lo: rows.0,
        row_hi: rows.1,
        tile: s.tile,
        tiles: s.tiles,
        nr: 0,
        lanes: 0,
        has_bias: extras.bias.into(),
        has_residual: (extras.residual > 0).into(),
        act: extras.act,
        act_a,
        act_b,
    };
    let plane = |rows, columns, channels, strides: (i64, i64)| Plane {
        rows,
        columns,
        channels,
        strides: (strides.0, strides.1, 1),
    };
    let x = case::fill(extras.seed, plane((0, in_h), in_w, in_c, (xs_h, xs_w)).indices());
    let w: Vec<f32> = (0..(9 * in_c * out_c) as usize)
        .map(|i| case::noise(extras.seed ^ 1, i))
        .collect();
    let bias = case::fill(extras.seed ^ 2, 0..out_c);
    let y = case::fill(extras.seed ^ 3, plane(rows, out_w, out_c, (ys_h, ys_w)).indices());
    let residual = if in_place {
        y.clone()
    } else {
        case::fill(extras.seed ^ 4, plane(rows, out_w, out_c, (rs_h, rs_w)).indices())
    };
    let largest = x.iter().filter(|x| !x.is_nan()).fold(0f32, |a, x| a.max(x.abs()));
    let mut expected = Vec::new();
    for (oy, ox, oc) in case::grid(rows, out_w, out_c) {
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for (ky, kx, ic) in case::grid((0, 3), 3, in_c) {
            let weight = f64::from(w[(((ky * 3 + kx) * in_c + ic) * out_c + oc) as usize]);
            magnitude += weight.abs();
            let (iy, ix) = (oy - p.pt + ky, ox - p.pl + kx);
            if (0..in_h).contains(&iy) && (0..in_w).contains(&ix) {
                sum += weight * f64::from(x[BASE + (iy * xs_h + ix * xs_w + ic) as usize]);
            }
        }
        if extras.bias {
            sum += f64::from(bias[BASE + oc as usize]);
        }
        if extras.residual > 0 {
            sum += f64::from(residual[BASE + ((oy - rows.0) * rs_h + ox * rs_w + oc) as usize]);
        }
        // Bias and residual, at most 2 each, are added with roundings of their own.
        let tolerance = bound(s.tile) * (f64::from(largest) * magnitude + 8.0);
        let at = BASE + ((oy - rows.0) * ys_h + ox * ys_w + oc) as usize;
        expected.push((at, act(sum), tolerance));
    }
    Case {
        p,
        x,
        weights: w,
        bias,
        residual,
        y,
        in_place,
        range,
        expected,
    }
}

fn cases(large: bool) -> impl Strategy<Value = Case> {
    let (sizes, channels) = if large {
        (
            6..=10i64,
            prop_oneof![(100..=600i64, 1..=5i64), (1..=5i64, 60..=140i64)].boxed(),
        )
    } else {
        (1..=14i64, (1..=20i64, 1..=20i64).boxed())
    };
    let shape = (
        (sizes.clone(), sizes),
        channels,
        [0..=3i64, 0..=3i64, 0..=3i64, 0..=3i64],
        any::<bool>(),
        1..=20i64,
        (0..4i64, 0..9i64),
        any::<(u8, u8)>(),
        any::<bool>(),
    )
        .prop_filter_map(
            "an output exists",
            |(size, channels, pads, large, tiles, gaps, cut, whole)| {
                let exists = size.0 + pads[0] + pads[2] > 2 && size.1 + pads[1] + pads[3] > 2;
                exists.then_some(Shape {
                    size,
                    channels,
                    pads,
                    tile: if large { 4 } else { 2 },
                    tiles,
                    gaps,
                    cut,
                    whole,
                })
            },
        );
    (shape, case::extras()).prop_map(|(shape, extras)| build(shape, extras))
}

impl Case {
    /// Operands and parameters for weights packed in blocks of `nr`, of vectors of `lanes`.
    fn packed(&self, nr: usize, lanes: usize) -> ([Vec<f32>; 6], Vec<i64>) {
        let p = WinogradParams {
            nr: nr as i64,
            lanes: lanes as i64,
            ..self.p
        };
        let (in_c, out_c, tile) = (p.in_c as usize, p.out_c as usize, p.tile as usize);
        let points = (tile + 2).pow(2);
        // [in][out] windows, each as its points.
        let transformed: Vec<Vec<f32>> = (0..in_c * out_c)
            .map(|i| {
                weights(
                    tile,
                    &std::array::from_fn(|tap| self.weights[tap * in_c * out_c + i]),
                )
            })
            .collect();
        let w = support::pack(points * in_c, out_c, nr, lanes, |row, c| {
            transformed[row % in_c * out_c + c][row / in_c]
        });
        let scratch = vec![f32::NAN; scratch_len(tile, p.tiles as usize, in_c, nr)];
        let operands = [
            self.x.clone(),
            guarded(w),
            self.bias.clone(),
            self.residual.clone(),
            guarded(scratch),
            self.y.clone(),
        ];
        (operands, case::words(&p))
    }

    fn check(&self, y: &[f32]) -> Result<(), TestCaseError> {
        let mut untouched = self.y.clone();
        for &(at, want, tolerance) in &self.expected {
            let got = f64::from(y[at]);
            prop_assert!(
                (got - want).abs() <= tolerance,
                "element {at}: {got} for {want} +- {tolerance}"
            );
            untouched[at] = y[at];
        }
        prop_assert!(bits(&untouched) == bits(y), "wrote outside the output");
        Ok(())
    }
}

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

/// Name, block, lanes.
static SETS: LazyLock<Vec<(&'static str, usize, usize, KernelFn)>> = LazyLock::new(|| {
    unsafe extern "C" fn linked(operands: *const *mut u8, params: *const i64, begin: i64, end: i64) {
        // SAFETY: forwarded.
        unsafe { portable::winograd_f32(operands, params, begin, end) }
    }
    let loaded = Loaded::all().into_iter().map(|l| {
        (
            l.instance.name,
            l.instance.nr,
            l.instance.lanes,
            l.kernel("winograd_f32"),
        )
    });
    std::iter::once(("linked", portable::NR, portable::LANES, linked as KernelFn))
        .chain(loaded)
        .collect()
});

fn run(
    case: &Case,
    (name, nr, lanes, kernel): (&str, usize, usize, KernelFn),
    ranges: &[(i64, i64)],
) -> Vec<f32> {
    let (operands, params) = case.packed(nr, lanes);
    let scratch = operands[4].clone();
    let mut operands = Operands::new(operands, name);
    let mut pointers = operands.pointers();
    if case.in_place {
        pointers[3] = pointers[5];
    }
    for &(begin, end) in ranges {
        // SAFETY: the case describes its operands.
        unsafe { kernel(pointers.as_ptr(), params.as_ptr(), begin, end) };
    }
    let guards = |s: &[f32]| [bits(&s[..BASE]), bits(&s[s.len() - BASE..])];
    assert_eq!(
        guards(&operands.guarded(4)),
        guards(&scratch),
        "wrote outside the scratch buffer"
    );
    operands.guarded(5)
}

fn check_kernels(case: &Case) -> Result<(), TestCaseError> {
    for &set in SETS.iter() {
        let (begin, end) = case.range;
        let whole = run(case, set, &[(begin, end)]);
        case.check(&whole)
            .map_err(|e| TestCaseError::fail(format!("{}: {e}", set.0)))?;
        let pieces: Vec<(i64, i64)> = (begin..end).rev().map(|i| (i, i + 1)).collect();
        prop_assert!(
            bits(&whole) == bits(&run(case, set, &pieces)),
            "{}: the cut of the range shows",
            set.0
        );
        let one = Case {
            p: WinogradParams { tiles: 1, ..case.p },
            ..case.clone()
        };
        prop_assert!(
            bits(&whole) == bits(&run(&one, set, &[(begin, end)])),
            "{}: the band shows",
            set.0
        );
    }
    Ok(())
}

/// The body, as a call and expanded.
fn check_body(case: &Case, (nr, lanes): (usize, usize)) -> Result<(), TestCaseError> {
    let (operands, params) = case.packed(nr, lanes);
    let mut module = Module::default();
    let mut buffer = |len: usize, kind| {
        module.buffers.push(BufferData {
            dtype: DType::F32,
            len,
            kind,
            name: "operand".into(),
        })
    };
    let inputs: Vec<Buffer> = [0, 1, 2, 3, 5]
        .iter()
        .enumerate()
        .map(|(i, &o)| buffer(operands[o].len(), BufferKind::Input(i)))
        .collect();
    let scratch = buffer(operands[4].len(), BufferKind::Temp);
    let y = buffer(operands[5].len(), BufferKind::Output(0));
    let mut b = FuncBuilder::new();
    b.for_range(0, operands[5].len(), 1, |b, i| {
        let value = b.load(sdc_ir::tile::Ty::scalar(DType::F32), inputs[4], i.clone());
        b.store(y, i, value);
    });
    let view = |buffer| {
        Some(View {
            buffer,
            offset: BASE.into(),
        })
    };
    let residual = if case.in_place { y } else { inputs[3] };
    b.kernel(KernelCall {
        kernel: "winograd_f32".into(),
        operands: vec![
            view(inputs[0]),
            view(inputs[1]),
            view(inputs[2]).filter(|_| case.p.has_bias != 0),
            view(residual).filter(|_| case.p.has_residual != 0),
            view(scratch),
            view(y),
        ],
        params,
        begin: case.range.0.into(),
        end: case.range.1.into(),
    });
    let origin = sdc_ir::graph::Origin {
        name: "node".into(),
        op: "Conv".into(),
        index: 0,
    };
    module.funcs.push(b.finish("f", vec![origin]));
    let bytes: Vec<Vec<u8>> = [0, 1, 2, 3, 5]
        .iter()
        .map(|&o| operands[o].iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let inputs: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    for expand in [false, true] {
        if expand {
            module.funcs[0] = registry::expand(&module.funcs[0], |_| true);
        }
        let faults = verify::verify(&module);
        prop_assert!(faults.is_empty(), "{faults:?}");
        let out = run_tile(&module, &inputs).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let y: Vec<f32> = out[0]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        case.check(&y)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(support::cases(150))]

    #[test]
    fn kernels(case in cases(false)) {
        check_kernels(&case)?;
    }

    #[test]
    fn body(
        case in cases(false),
        packing in prop_oneof![Just((64, 16)), Just((16, 8)), Just((8, 4)), Just((6, 2))],
    ) {
        check_body(&case, packing)?;
    }
}

proptest! {
    #![proptest_config(support::cases(30))]

    #[test]
    fn kernels_with_many_channels(case in cases(true)) {
        check_kernels(&case)?;
    }
}

/// The largest error over many outputs, in the units of the stated bound, is within it and not far below.
#[test]
fn the_stated_error_is_the_right_size() {
    for tile in [2, 4] {
        let mut largest = 0f64;
        for (seed, in_c) in [(1u64, 16), (2, 64), (3, 300)] {
            let shape = Shape {
                size: (13, 13),
                channels: (in_c, 24),
                pads: [1; 4],
                tile,
                tiles: 12,
                gaps: (0, 0),
                cut: (0, 0),
                whole: true,
            };
            let extras = Extras {
                seed,
                bias: false,
                residual: 0,
                act: 0,
            };
            let case = build(shape, extras);
            for &set in SETS.iter() {
                let y = run(&case, set, &[case.range]);
                for &(at, want, tolerance) in &case.expected {
                    largest = largest.max((f64::from(y[at]) - want).abs() / tolerance);
                }
            }
        }
        assert!(
            largest < 1.0 && largest > 0.02,
            "F({tile}x{tile}): {largest} of the bound"
        );
    }
}
