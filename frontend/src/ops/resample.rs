//! The forms of Resize that the canonical operator does not have: antialiasing, crops, and mappings of fractional lengths. Along one
//! dimension after the other, a sum of gathered samples with weights known at compile time.

use super::resize::Target;
use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::op::{Gather, NearestMode, Resize, ResizeMode, Where};
use sdc_ir::graph::{BinaryOp, Value};
use sdc_ir::{DType, Tensor};

/// Most samples that one element is the sum of, along one dimension.
const MAX_TAPS: usize = 256;

/// How an output position maps to an input position (ONNX `coordinate_transformation_mode`).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mapping {
    HalfPixel,
    HalfPixelSymmetric,
    HalfPixelForNearest,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    CropAndResize,
}

impl Mapping {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "half_pixel" => Self::HalfPixel,
            "half_pixel_symmetric" => Self::HalfPixelSymmetric,
            "tf_half_pixel_for_nn" => Self::HalfPixelForNearest,
            "pytorch_half_pixel" => Self::PytorchHalfPixel,
            "align_corners" => Self::AlignCorners,
            "asymmetric" => Self::Asymmetric,
            "tf_crop_and_resize" => Self::CropAndResize,
            _ => return None,
        })
    }
}

pub(super) struct Resampling {
    pub mapping: Mapping,
    pub antialias: bool,
    /// Of every dimension, as shares of its length; only crops have it.
    pub roi: Vec<(f64, f64)>,
    pub extrapolation: f64,
}

/// One dimension: its length, the result's, and the scale that the mapping uses.
struct Line {
    from: usize,
    to: usize,
    scale: f64,
    roi: (f64, f64),
}

impl Resampling {
    /// The position in the input of output position `o`, in `f32` as ONNX Runtime has it: on whole numbers and halves it decides what
    /// `nearest` takes.
    fn position(&self, line: &Line, o: usize) -> f64 {
        let (from, to, x, scale) = (line.from as f32, line.to as f32, o as f32, line.scale as f32);
        // The exact length, which need not be whole unless a size was given.
        let exact = line.scale * line.from as f64;
        let whole = (exact - line.to as f64).abs() < 1e-4;
        let length = if whole { to } else { exact as f32 };
        let half_pixel = (x + 0.5) / scale - 0.5;
        f64::from(match self.mapping {
            Mapping::HalfPixel => half_pixel,
            Mapping::HalfPixelSymmetric => from / 2.0 * (1.0 - to / length) + half_pixel,
            Mapping::HalfPixelForNearest => (x + 0.5) / scale,
            Mapping::PytorchHalfPixel if line.to == 1 => -0.5,
            Mapping::PytorchHalfPixel => half_pixel,
            // By the number of samples, as ONNX Runtime and the frameworks have it; ONNX's reference takes the exact length.
            Mapping::AlignCorners if line.to == 1 => 0.0,
            Mapping::AlignCorners => x * (from - 1.0) / (to - 1.0),
            Mapping::Asymmetric => x / scale,
            Mapping::CropAndResize => {
                let (start, end) = (line.roi.0 as f32, line.roi.1 as f32);
                let inside = if length == 1.0 {
                    (end - start) * (from - 1.0) / 2.0
                } else {
                    x * (end - start) * (from - 1.0) / (length - 1.0)
                };
                inside + start * (from - 1.0)
            }
        })
    }

    /// Positions and weights of the samples that make up output position `o`.
    fn samples(&self, op: &Resize, line: &Line, o: usize) -> Vec<(usize, f64)> {
        let at = self.position(line, o);
        let inside = |i: i64| (0..line.from as i64).contains(&i);
        let clamp = |i: i64| i.clamp(0, line.from as i64 - 1) as usize;
        if op.mode == ResizeMode::Nearest {
            let index = match op.nearest {
                NearestMode::RoundPreferFloor => (at - 0.5).ceil(),
                NearestMode::RoundPreferCeil => (at + 0.5).floor(),
                NearestMode::Floor => at.floor(),
                NearestMode::Ceil => at.ceil(),
            };
            return vec![(clamp(index as i64), 1.0)];
        }
        let a = f64::from(op.cubic_coeff_a);
        let (support, kernel): (f64, &dyn Fn(f64) -> f64) = match op.mode {
            ResizeMode::Linear => (1.0, &|d| 1.0 - d),
            _ => (2.0, &|d| match d {
                _ if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                _ => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
            }),
        };
        // Where the image shrinks, the kernel widens.
        let squeeze = if self.antialias { line.scale.min(1.0) } else { 1.0 };
        let reach = support / squeeze;
        let first = (at - reach).floor() as i64;
        let last = (at + reach).ceil() as i64;
        let near = (first..=last).filter(|&i| ((i as f64 - at) * squeeze).abs() < support);
        let all: Vec<(i64, f64)> = near
            .map(|i| (i, kernel(((i as f64 - at) * squeeze).abs())))
            .collect();
        let kept: Vec<(i64, f64)> = match op.exclude_outside {
            true => all.iter().copied().filter(|s| inside(s.0)).collect(),
            false => all,
        };
        let total: f64 = kept.iter().map(|s| s.1).sum();
        let normal = if self.antialias || op.exclude_outside {
            total
        } else {
            1.0
        };
        kept.into_iter().map(|(i, w)| (clamp(i), w / normal)).collect()
    }

    /// The result of a Resize whose canonical attributes (sizes and scales excepted) are those of `op`.
    pub fn resample(&self, c: &mut NodeCtx, x: Value, target: &Target, op: &Resize) -> Lowered {
        let dtype = c.dtype(x);
        if !dtype.is_float() && (op.mode != ResizeMode::Nearest || self.mapping == Mapping::CropAndResize) {
            let text = format!("interpolation of {dtype} elements is not supported");
            return Err(Fault::new(Code::ElementType, text));
        }
        let (sizes, scales) = target;
        let mut y = match dtype {
            DType::F16 | DType::BF16 => c.cast(x, DType::F32)?,
            _ => x,
        };
        let shape = c.shape(x);
        let mut outside = None;
        for d in 0..shape.len() {
            let line = Line {
                from: shape[d],
                to: sizes[d],
                scale: f64::from(scales[d]),
                roi: self.roi.get(d).copied().unwrap_or((0.0, 1.0)),
            };
            let crops = self.mapping == Mapping::CropAndResize && line.roi != (0.0, 1.0);
            if sizes[d] == shape[d] && scales[d] == 1.0 && !crops {
                continue;
            }
            y = self.along(c, y, d, &line, op)?;
            if self.mapping == Mapping::CropAndResize {
                let beyond = |o: usize| {
                    let at = self.position(&line, o);
                    u8::from(at < 0.0 || at > line.from as f64 - 1.0)
                };
                let flags: Vec<u8> = (0..line.to).map(beyond).collect();
                if flags.contains(&1) {
                    let mut shape = vec![1; shape.len()];
                    shape[d] = line.to;
                    let flags = Tensor::new(DType::Bool, shape, flags.into());
                    let flags = c.constant(flags.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?)?;
                    outside = Some(match outside {
                        None => flags,
                        Some(before) => c.binary(BinaryOp::Or, before, flags)?,
                    });
                }
            }
        }
        if let Some(outside) = outside {
            let shape = c.shape(y);
            let outside = c.expand(outside, shape)?;
            let value = c.scalar(c.dtype(y), self.extrapolation)?;
            y = c.emit(Where {}, &[outside, value, y])?;
        }
        c.cast(y, dtype)
    }

    fn along(&self, c: &mut NodeCtx, x: Value, d: usize, line: &Line, op: &Resize) -> Lowered {
        let reach = if self.antialias {
            4.0 / line.scale.min(1.0)
        } else {
            4.0
        };
        if reach > MAX_TAPS as f64 {
            let text = format!("antialiasing over more than {MAX_TAPS} samples is not supported");
            return Err(Fault::new(Code::Form, text));
        }
        let limit = 16 * c.builder.limits.max_folded_elements;
        if line.to as f64 * reach > limit as f64 {
            let text = format!("more than {limit} weights would be computed at compile time");
            return Err(Fault::new(Code::FoldLimit, text));
        }
        let samples: Vec<Vec<(usize, f64)>> = (0..line.to).map(|o| self.samples(op, line, o)).collect();
        let count = samples.iter().map(Vec::len).max().unwrap_or(0);
        let rank = c.rank(x);
        let constant = |c: &mut NodeCtx, tensor: Result<Tensor, sdc_ir::tensor::TensorError>| {
            c.constant(tensor.map_err(|e| Fault::new(Code::TooLarge, e.to_string()))?)
        };
        let mut sum = None;
        for k in 0..count {
            let tap = |s: &Vec<(usize, f64)>| s.get(k).or(s.last()).map_or(0, |t| t.0 as i64);
            let places = samples.iter().map(tap).collect();
            let places = constant(c, Tensor::from_elements(vec![line.to], places))?;
            let part = c.emit(Gather { axis: d }, &[x, places])?;
            if op.mode == ResizeMode::Nearest {
                return Ok(part);
            }
            let weights: Vec<f64> = samples.iter().map(|s| s.get(k).map_or(0.0, |t| t.1)).collect();
            let mut shape = vec![1; rank - d];
            shape[0] = line.to;
            let weights = constant(c, Tensor::from_elements(shape, weights))?;
            let weights = c.cast(weights, c.dtype(part))?;
            let part = c.binary(BinaryOp::Mul, part, weights)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => c.binary(BinaryOp::Add, sum, part)?,
            });
        }
        sum.ok_or_else(|| Fault::new(Code::BadOperands, "an empty dimension cannot be resized"))
    }
}

/// The region of interest, for every dimension.
pub(super) fn region(c: &NodeCtx, axes: &[usize], rank: usize) -> Result<Vec<(f64, f64)>, Fault> {
    let roi = c.const_tensor(1, "region of interest")?;
    let all = roi.to_f64_vec();
    if !roi.dtype().is_float() || all.len() != 2 * axes.len() || all.iter().any(|x| !x.is_finite()) {
        let text = format!("the region of interest needs {} finite numbers", 2 * axes.len());
        return Err(Fault::new(Code::BadOperands, text));
    }
    let mut region = vec![(0.0, 1.0); rank];
    for (i, &axis) in axes.iter().enumerate() {
        region[axis] = (all[i], all[axes.len() + i]);
    }
    Ok(region)
}
