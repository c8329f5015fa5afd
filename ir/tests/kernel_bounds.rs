//! The kernels' bodies are sound tile IR, and every access of theirs is proved, for any geometry.

use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::graph::Origin;
use sdc_ir::registry::map::{Source, Step, StepOp};
use sdc_ir::registry::{Kernel, Role, expand, find};
use sdc_ir::tile::verify::{unproven, verify};
use sdc_ir::tile::{Affine, Bound, Buffer, BufferData, BufferKind, FuncBuilder, KernelCall, Module, View};

/// A module that calls `kernel` with these parameters on a buffer of its own per operand, expanded.
fn module(
    kernel: &Kernel,
    params: &[(&str, usize)],
    lens: &[(&str, usize)],
    range: (Bound, Bound),
    rows: Option<usize>,
) -> Module {
    let value = |names: &[(&str, usize)], name: &str| names.iter().find(|p| p.0 == name).map(|p| p.1);
    for (name, _) in params {
        assert!(
            kernel.params.contains(name),
            "{} has no parameter {name}",
            kernel.name
        );
    }
    let mut module = Module::default();
    let mut operands = Vec::new();
    for operand in kernel.operands {
        let Some(len) = value(lens, operand.name) else {
            assert_eq!(operand.role, Role::ReadOptional, "{}", operand.name);
            operands.push(None);
            continue;
        };
        let buffer: Buffer = module.buffers.push(BufferData {
            dtype: DType::F32,
            len,
            kind: BufferKind::Temp,
            name: operand.name.to_owned(),
        });
        let offset = Affine::constant(0);
        operands.push(Some(View { buffer, offset }));
    }
    let params = kernel
        .params
        .iter()
        .map(|p| value(params, p).unwrap_or(0) as i64)
        .collect();
    let mut b = FuncBuilder::new();
    let call = |begin, end| KernelCall {
        kernel: kernel.name.to_owned(),
        params,
        operands,
        begin,
        end,
    };
    match rows {
        // As a backend cuts work: each iteration a few rows, the last one fewer.
        Some(rows) => {
            let count = range.1.as_constant().unwrap_or(0) as usize;
            b.parallel_for(count.div_ceil(rows), |b, i| {
                let begin = i * rows as i64;
                let end = Bound::of(vec![begin.clone() + rows, count.into()]);
                b.kernel(call(begin.into(), end));
            });
        }
        None => b.kernel(call(range.0, range.1)),
    }
    let origins = vec![Origin {
        name: "conv".into(),
        op: "Conv".into(),
        index: 0,
    }];
    module.funcs.push(expand(&b.finish("f", origins), |_| true));
    module
}

fn proved(module: &Module) -> Result<(), TestCaseError> {
    let texts: Vec<String> = verify(module)
        .iter()
        .chain(&unproven(module))
        .map(ToString::to_string)
        .collect();
    prop_assert!(texts.is_empty(), "{}\n{module}", texts.join("\n"));
    // One element less of the output, and it must show.
    let mut short = module.clone();
    let output = short.buffers.values_mut().next_back();
    output.into_iter().for_each(|b| b.len -= 1);
    prop_assert!(
        !verify(&short).is_empty() || !unproven(&short).is_empty(),
        "{short}"
    );
    // The bodies are long and varied: good material for the text form, too.
    let module = module.renumbered();
    let text = module.to_string();
    prop_assert_eq!(
        sdc_ir::text::parse_module(&text, &module.weights).ok(),
        Some(module)
    );
    Ok(())
}

/// `(input, window, stride, dilation, pad before, output)` of one axis; the output is not empty.
type Axis = (usize, usize, usize, usize, usize, usize);

fn axis() -> impl Strategy<Value = Axis> {
    (1..20usize, 1..6usize, 1..4usize, 1..3usize, 0..3usize, 0..3usize).prop_filter_map(
        "the window fits",
        |(input, window, stride, dilation, before, after)| {
            let room = (input + before + after).checked_sub((window - 1) * dilation + 1)?;
            (before < window * dilation).then_some((
                input,
                window,
                stride,
                dilation,
                before,
                room / stride + 1,
            ))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn conv2d(
        h in axis(), w in axis(), in_c in 1..5usize, out_c in 1..70usize, nr in 1..3usize, optional in 0..2usize,
        rows in proptest::option::of(1..4usize),
    ) {
        let (nr, lanes) = (16 * nr, 8);
        let packed = out_c / nr * nr + (out_c % nr).next_multiple_of(lanes);
        let (oh, ow) = (h.5, w.5);
        let params = [
            ("in_h", h.0), ("in_w", w.0), ("in_c", in_c), ("out_w", ow), ("out_c", out_c), ("kh", h.1), ("kw", w.1),
            ("sh", h.2), ("sw", w.2), ("dh", h.3), ("dw", w.3), ("pt", h.4), ("pl", w.4),
            ("xs_h", w.0 * in_c), ("xs_w", in_c), ("xs_c", 1), ("ys_h", ow * out_c), ("ys_w", out_c),
            ("rs_h", ow * out_c), ("rs_w", out_c), ("nr", nr), ("lanes", lanes), ("has_bias", optional),
            ("has_residual", optional), ("act", 1),
        ];
        let mut lens = vec![
            ("x", h.0 * w.0 * in_c), ("w", h.1 * w.1 * in_c * packed), ("y", oh * ow * out_c),
        ];
        if optional == 1 {
            lens.extend([("bias", out_c), ("residual", oh * ow * out_c)]);
        }
        proved(&module(find("conv2d_f32").unwrap(), &params, &lens, (0.into(), oh.into()), rows))?;
    }

    #[test]
    fn depthwise2d(h in axis(), w in axis(), channels in 1..40usize, rows in proptest::option::of(1..4usize)) {
        let (oh, ow) = (h.5, w.5);
        let params = [
            ("in_h", h.0), ("in_w", w.0), ("channels", channels), ("out_w", ow), ("kh", h.1), ("kw", w.1),
            ("sh", h.2), ("sw", w.2), ("dh", h.3), ("dw", w.3), ("pt", h.4), ("pl", w.4),
            ("xs_h", w.0 * channels), ("xs_w", channels), ("ys_h", ow * channels), ("ys_w", channels),
            ("has_bias", 1), ("act", 2),
        ];
        let lens = [
            ("x", h.0 * w.0 * channels), ("w", h.1 * w.1 * channels), ("y", oh * ow * channels), ("bias", channels),
        ];
        proved(&module(find("depthwise2d_f32").unwrap(), &params, &lens, (0.into(), oh.into()), rows))?;
    }

    #[test]
    fn winograd(
        (in_h, in_w) in (1..12usize, 1..12usize), pads in [0..3usize, 0..3usize, 0..3usize, 0..3usize], in_c in 1..6usize,
        out_c in 1..40usize, large: bool, optional in 0..2usize, rows in proptest::option::of(1..4usize),
    ) {
        let tile = if large { 4 } else { 2 };
        let (nr, lanes) = (16, 8);
        let packed = out_c / nr * nr + (out_c % nr).next_multiple_of(lanes);
        let size = |n: usize, before: usize, after: usize| (n + before + after).saturating_sub(2);
        let (oh, ow) = (size(in_h, pads[0], pads[2]), size(in_w, pads[1], pads[3]));
        prop_assume!(oh > 0 && ow > 0);
        let params = [
            ("in_h", in_h), ("in_w", in_w), ("in_c", in_c), ("out_w", ow), ("out_c", out_c), ("pt", pads[0]), ("pl", pads[1]),
            ("xs_h", in_w * in_c), ("xs_w", in_c), ("ys_h", ow * out_c), ("ys_w", out_c), ("rs_h", ow * out_c),
            ("rs_w", out_c), ("row_hi", oh), ("tile", tile), ("tiles", 1), ("nr", nr), ("lanes", lanes),
            ("has_bias", optional), ("has_residual", optional), ("act", 1),
        ];
        let scratch = sdc_ir::registry::winograd::scratch_len(tile, 1, in_c, nr);
        let mut lens = vec![
            ("x", in_h * in_w * in_c), ("w", (tile + 2) * (tile + 2) * in_c * packed), ("scratch", scratch),
            ("y", oh * ow * out_c),
        ];
        if optional == 1 {
            lens.extend([("bias", out_c), ("residual", oh * ow * out_c)]);
        }
        let end = oh.div_ceil(tile);
        proved(&module(find("winograd_f32").unwrap(), &params, &lens, (0.into(), end.into()), rows))?;
    }

    #[test]
    fn gemm(m in 1..20usize, n in 1..70usize, k in 1..30usize, nr in 1..3usize, cut in proptest::option::of(1..3usize)) {
        let (nr, lanes) = (16 * nr, 8);
        let packed = n / nr * nr + (n % nr).next_multiple_of(lanes);
        let params = [
            ("m", m), ("n", n), ("k", k), ("as_m", k), ("as_k", 1), ("cs_m", n), ("nr", nr), ("lanes", lanes),
            ("act", 0),
        ];
        let lens = [("a", m * k), ("b", k * packed), ("c", m * n)];
        proved(&module(find("gemm_f32").unwrap(), &params, &lens, (0.into(), n.div_ceil(nr).into()), cut))?;
    }

    #[test]
    fn map(
        (rows, columns) in (1..9usize, 1..40usize), still in 0..2usize, gap in 0..3usize, optional in 0..2usize,
        cut in proptest::option::of(1..3usize),
    ) {
        let b = if optional == 1 { Source::Operand(1) } else { Source::Operand(0) };
        let steps = [
            Step { op: StepOp::Erf, a: Source::Operand(0), b: None }.encode() as usize,
            Step { op: StepOp::Mul, a: Source::Step(0), b: Some(b) }.encode() as usize,
        ];
        let pitch = columns + gap;
        let params = [
            ("columns", columns), ("as_r", pitch), ("bs_r", still * columns), ("ys_r", pitch), ("has_b", optional),
            ("steps", 2), ("step_0", steps[0]), ("step_1", steps[1]),
        ];
        let len = (rows - 1) * pitch + columns;
        let mut lens = vec![("a", len), ("y", len)];
        if optional == 1 {
            lens.push(("b", still * columns * (rows - 1) + columns));
        }
        proved(&module(find("map_f32").unwrap(), &params, &lens, (0.into(), rows.into()), cut))?;
    }

    #[test]
    fn rows(
        (rows, size) in (1..9usize, 1..40usize), gap in 0..3usize, log in 0..2usize, cut in proptest::option::of(1..3usize),
    ) {
        let pitch = size + gap;
        let len = (rows - 1) * pitch + size;
        let params = [("size", size), ("xs_r", pitch), ("ys_r", pitch)];
        let range = || (0.into(), rows.into());
        let softmax = [&params[..], &[("log", log)]].concat();
        proved(&module(find("softmax_f32").unwrap(), &softmax, &[("x", len), ("y", len)], range(), cut))?;
        let lens = [("x", len), ("scale", size), ("bias", size), ("y", len)];
        proved(&module(find("layer_norm_f32").unwrap(), &params, &lens, range(), cut))?;
    }
}
