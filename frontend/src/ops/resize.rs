//! Resize and its predecessor Upsample.

use super::resample::{Mapping, Resampling, region};
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::DType;
use sdc_ir::graph::Value;
use sdc_ir::graph::op::{CoordinateMode, NearestMode, Resize, ResizeMode};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

fn mode(c: &NodeCtx) -> Result<ResizeMode, Fault> {
    let word = c.string("mode", "nearest")?;
    // Upsample before opset 9 says `bilinear` for what became `linear`.
    let word = if word == "bilinear" { "linear" } else { word };
    ResizeMode::from_name(word).ok_or_else(|| c.bad_attr("mode", format!("is `{word}`")))
}

/// Size under a scale; rounded down in f32, as the exporters' runtimes do.
fn scaled(dim: usize, scale: f32) -> Result<usize, Fault> {
    let size = (dim as f32 * scale).floor();
    if scale.is_finite() && scale > 0.0 && size < usize::MAX as f32 {
        return Ok(size as usize);
    }
    Err(bad(format!("scale {scale} is not usable")))
}

/// The result's shape and the scales of the coordinate mapping, every dimension listed.
pub(super) type Target = (Vec<usize>, Vec<f32>);

fn from_scales(shape: &[usize], axes: &[usize], given: &[f32]) -> Result<Target, Fault> {
    if given.len() != axes.len() {
        return Err(bad(format!(
            "{} scales for {} dimensions",
            given.len(),
            axes.len()
        )));
    }
    let (mut sizes, mut scales) = (shape.to_vec(), vec![1.0; shape.len()]);
    for (&axis, &scale) in axes.iter().zip(given) {
        sizes[axis] = scaled(shape[axis], scale)?;
        scales[axis] = scale;
    }
    Ok((sizes, scales))
}

fn from_sizes(c: &NodeCtx, shape: &[usize], axes: &[usize], given: &[i64]) -> Result<Target, Fault> {
    let given = c.sizes("sizes", given)?;
    if given.len() != axes.len() {
        return Err(bad(format!(
            "{} sizes for {} dimensions",
            given.len(),
            axes.len()
        )));
    }
    let (mut sizes, mut scales) = (shape.to_vec(), vec![1.0f32; shape.len()]);
    let mut ratios = Vec::with_capacity(axes.len());
    for (&axis, &size) in axes.iter().zip(&given) {
        if shape[axis] == 0 || size == 0 {
            return Err(bad("an empty dimension cannot be resized"));
        }
        ratios.push(size as f32 / shape[axis] as f32);
    }
    let common = match c.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => ratios.iter().copied().reduce(f32::min),
        "not_smaller" => ratios.iter().copied().reduce(f32::max),
        other => return Err(c.bad_attr("keep_aspect_ratio_policy", format!("is `{other}`"))),
    };
    for ((&axis, &size), &ratio) in axes.iter().zip(&given).zip(&ratios) {
        (sizes[axis], scales[axis]) = match common {
            None => (size, ratio),
            // Halves go up.
            Some(scale) => (scaled(1, (shape[axis] as f32 * scale + 0.5).floor())?, scale),
        };
    }
    Ok((sizes, scales))
}

fn emit(c: &mut NodeCtx, x: Value, (sizes, scales): Target, op: Resize) -> Lowered {
    // Where nothing changes size, every mode maps each element to itself.
    if sizes == c.shape(x) && scales.iter().all(|&s| s == 1.0) {
        return Ok(x);
    }
    c.emit(Resize { sizes, scales, ..op }, &[x])
}

/// Settings of the operators before Resize-11: asymmetric mapping, nearest rounds down.
fn plain(mode: ResizeMode) -> Resize {
    Resize {
        sizes: Vec::new(),
        scales: Vec::new(),
        mode,
        coordinates: CoordinateMode::Asymmetric,
        nearest: NearestMode::Floor,
        cubic_coeff_a: -0.75,
        exclude_outside: false,
    }
}

fn scales_operand(c: &NodeCtx, i: usize) -> Result<Vec<f32>, Fault> {
    let tensor = c.const_tensor(i, "scales")?;
    let all = tensor
        .elements::<f32>()
        .map_err(|e| bad(format!("scales: {e}")))?;
    Ok(all.into_owned())
}

pub(super) fn upsample(c: &mut NodeCtx) -> Lowered {
    let x = c.input(0)?;
    let mode = mode(c)?;
    let scales = if c.opset < 9 {
        c.floats("scales")?
            .ok_or_else(|| c.bad_attr("scales", "is missing"))?
    } else {
        scales_operand(c, 1)?
    };
    let shape = c.shape(x);
    let axes: Vec<usize> = (0..shape.len()).collect();
    let target = from_scales(&shape, &axes, &scales)?;
    let mut op = plain(mode);
    // Resize-10 leaves the rounding open; ONNX Runtime, which exporters test with, rounds up where it shrinks.
    if mode == ResizeMode::Nearest && scales.iter().any(|&s| s < 1.0) {
        if scales.iter().any(|&s| s > 1.0) {
            return Err(Fault::new(
                Code::Form,
                "enlarging and shrinking in one node is not supported before opset 11",
            ));
        }
        op.nearest = NearestMode::Ceil;
    }
    emit(c, x, target, op)
}

pub(super) fn resize(c: &mut NodeCtx) -> Lowered {
    if c.opset < 11 {
        return upsample(c);
    }
    let extrapolation = c.float("extrapolation_value", 0.0)?.into();
    let x = c.input(0)?;
    let shape = c.shape(x);
    let mut op = plain(mode(c)?);
    let coordinates = c.string("coordinate_transformation_mode", "half_pixel")?;
    op.exclude_outside = c.flag("exclude_outside", false)?;
    op.cubic_coeff_a = c.float("cubic_coeff_a", -0.75)?;
    let nearest = c.string("nearest_mode", "round_prefer_floor")?;
    op.nearest = NearestMode::from_name(nearest)
        .ok_or_else(|| c.bad_attr("nearest_mode", format!("is `{nearest}`")))?;
    let antialias = c.opset >= 18 && c.flag("antialias", false)?;
    let axes = match c.ints("axes")? {
        // The order of axes is the order of scales and sizes, so they are not sorted.
        Some(axes) => {
            c.axes(&axes, shape.len())?;
            axes.iter()
                .map(|&a| c.axis(a, shape.len()))
                .collect::<Result<Vec<_>, _>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let policy = c.string("keep_aspect_ratio_policy", "stretch")?;
    let sizes = c.opt_const_i64s(3, "sizes")?.filter(|s| !s.is_empty());
    let scales = match c.opt_input(2) {
        Some(_) => Some(scales_operand(c, 2)?).filter(|s| !s.is_empty()),
        None => None,
    };
    let target = match (scales, sizes) {
        (Some(scales), None) if policy == "stretch" => from_scales(&shape, &axes, &scales)?,
        (Some(_), None) => return Err(c.bad_attr("keep_aspect_ratio_policy", "needs `sizes`")),
        (None, Some(sizes)) => from_sizes(c, &shape, &axes, &sizes)?,
        // Opset 11 exporters may give both; then sizes are meant.
        (Some(_), Some(sizes)) if c.opset < 13 => from_sizes(c, &shape, &axes, &sizes)?,
        (Some(_), Some(_)) => return Err(bad("both scales and sizes are given")),
        (None, None) => return Err(bad("neither scales nor sizes are given")),
    };
    // Integers are interpolated in f32 and cut off, as ONNX Runtime does it.
    let stored = c.dtype(x);
    if op.mode != ResizeMode::Nearest && !stored.is_float() {
        let wide = c.cast(x, DType::F32)?;
        let y = interpolated(
            c,
            wide,
            target,
            op,
            coordinates,
            Filter {
                axes,
                antialias,
                extrapolation,
            },
        )?;
        return c.cast(y, stored);
    }
    interpolated(
        c,
        x,
        target,
        op,
        coordinates,
        Filter {
            axes,
            antialias,
            extrapolation,
        },
    )
}

/// What a resampling needs besides the canonical operator's attributes.
struct Filter {
    axes: Vec<usize>,
    antialias: bool,
    extrapolation: f64,
}

fn interpolated(
    c: &mut NodeCtx,
    x: Value,
    target: Target,
    mut op: Resize,
    coordinates: &str,
    filter: Filter,
) -> Lowered {
    let shape = c.shape(x);
    let Filter {
        axes,
        antialias,
        extrapolation,
    } = filter;
    let mapping = Mapping::from_name(coordinates)
        .ok_or_else(|| c.bad_attr("coordinate_transformation_mode", format!("is `{coordinates}`")))?;
    if let Some(plain) = canonical(mapping, coordinates, &shape, &target)
        && (op.mode == ResizeMode::Nearest
            || c.dtype(x) != DType::F64 && !(antialias && target.1.iter().any(|&s| s < 1.0)))
    {
        op.coordinates = plain;
        return emit(c, x, target, op);
    }
    let roi = match mapping {
        Mapping::CropAndResize => region(c, &axes, shape.len())?,
        _ => Vec::new(),
    };
    let resampling = Resampling {
        mapping,
        antialias,
        roi,
        extrapolation,
    };
    resampling.resample(c, x, &target, &op)
}

/// The canonical operator's mapping that gives the same positions, if there is one.
fn canonical(
    mapping: Mapping,
    name: &str,
    shape: &[usize],
    (sizes, scales): &Target,
) -> Option<CoordinateMode> {
    let lines = || (0..shape.len()).map(|i| (shape[i] as f64 * f64::from(scales[i]), sizes[i]));
    match mapping {
        // The two differ only where a scale does not give a whole size.
        Mapping::HalfPixelSymmetric if lines().all(|(exact, size)| exact == size as f64) => {
            Some(CoordinateMode::HalfPixel)
        }
        _ => CoordinateMode::from_name(name),
    }
}
