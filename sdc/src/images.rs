//! Images as a model wants them: their preprocessing.
//!
//! Images come as unsigned bytes `[N,H,W,C]` or `[N,H,W]`, or as floats in any order the model itself could take.

use crate::error::{Error, Result};
use sdc_artifact::interface::TensorSpec;
use sdc_ir::graph::types::shape_text;
use sdc_ir::{DType, Tensor};

/// How pixels become elements of an input: `(x * scale - mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// Pixels are multiplied by this first.
    pub scale: f32,
    /// Subtracted from the scaled pixels: nothing, one number, or one per channel in the model's order.
    pub mean: Vec<f32>,
    /// What that is divided by: nothing, one number, or one per channel.
    pub std: Vec<f32>,
    /// Order of the model's input dimensions; found out from its shape and the images' where it is not given.
    pub layout: Option<Layout>,
    /// The model wants blue, green, red; images hold red, green, blue.
    pub reverse_channels: bool,
}

/// Order of the dimensions of an input that takes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Batch, channels, rows, columns.
    Nchw,
    /// Batch, rows, columns, channels.
    Nhwc,
}

/// Channels, rows, columns: extents of one image.
type Extents = [usize; 3];

/// Where the element at channel, row, column lies: its index is the sum of the products with these.
type Strides = [usize; 3];

/// Labelled or unlabelled images, ready to be converted one by one.
#[derive(Debug)]
pub struct Images {
    pixels: Pixels,
    count: usize,
    extents: Extents,
    source: Strides,
    target: Strides,
    scale: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
    reverse: bool,
}

#[derive(Debug)]
enum Pixels {
    Bytes(bytes::Bytes),
    Floats(Vec<f32>),
}

/// Mean and standard deviation of the bytes of photographs, over all channels: about what ImageNet's are known to be.
const PHOTOGRAPH: (f64, f64) = (115.0, 68.0);

impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
            layout: None,
            reverse_channels: false,
        }
    }
}

impl Preprocessing {
    /// Mean and standard deviation of what a model gets when it is shown photographs; `None` if nothing says how they are preprocessed.
    pub fn statistics(&self) -> Option<(f64, f64)> {
        if self.scale == 1.0 && self.mean.is_empty() && self.std.is_empty() {
            return None;
        }
        let average = |values: &[f32], absent: f64| match values {
            [] => absent,
            _ => values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64,
        };
        let (scale, deviation) = (f64::from(self.scale), average(&self.std, 1.0));
        let mean = (PHOTOGRAPH.0 * scale - average(&self.mean, 0.0)) / deviation;
        Some((mean, (PHOTOGRAPH.1 * scale / deviation).abs()))
    }
}

impl Images {
    /// Images for a model's input. The first dimension of both is the batch.
    ///
    /// # Errors
    /// An input that is not of `f32`; sizes that do not fit; numbers of another count than the channels.
    pub fn new(args: &Preprocessing, images: &Tensor, input: &TensorSpec) -> Result<Self> {
        if input.dtype != DType::F32 {
            let message = format!(
                "input `{}` is of type {}; images can be given to f32 inputs only",
                input.name, input.dtype
            );
            return Err(Error::unsupported(message));
        }
        let (Some((&count, sample)), Some((_, wanted))) =
            (images.shape().split_first(), input.shape.split_first())
        else {
            return Err(Error::usage(
                "neither images nor the model's input may be a scalar",
            ));
        };
        let fit = fit(sample, images.dtype().is_float(), wanted, args.layout).ok_or_else(|| {
            let message = format!(
                "images of shape {} do not fit the model's input `{}` of shape {}",
                shape_text(images.shape()),
                input.name,
                shape_text(&input.shape)
            );
            Error::usage(message).help("images are [N,H,W,C] or [N,H,W], of the very size the model takes")
        })?;
        let channels = fit.extents[0];
        let per_channel = |what: &str, values: &[f32], default: f32| match values {
            [] => Ok(vec![default; channels]),
            [one] => Ok(vec![*one; channels]),
            all if all.len() == channels => Ok(all.to_vec()),
            all => Err(Error::usage(format!(
                "--{what} has {} numbers, the images have {channels} channels",
                all.len()
            ))),
        };
        let std = per_channel("std", &args.std, 1.0)?;
        if std.contains(&0.0) {
            return Err(Error::usage("--std divides, so it cannot be 0"));
        }
        let pixels = match images.dtype() {
            DType::U8 => Pixels::Bytes(images.bytes().clone()),
            _ => Pixels::Floats(images.to_f64_vec().into_iter().map(|x| x as f32).collect()),
        };
        Ok(Self {
            pixels,
            count,
            extents: fit.extents,
            source: fit.source,
            target: fit.target,
            scale: args.scale,
            mean: per_channel("mean", &args.mean, 0.0)?,
            std,
            reverse: args.reverse_channels,
        })
    }

    /// Number of images.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Elements of one image.
    pub fn elements(&self) -> usize {
        self.extents.iter().product()
    }

    /// Writes one image, preprocessed, in the model's order.
    pub fn fill(&self, image: usize, out: &mut [f32]) {
        let start = image * self.elements();
        let at = |strides: &Strides, c: usize, h: usize, w: usize| {
            c * strides[0] + h * strides[1] + w * strides[2]
        };
        let [channels, rows, columns] = self.extents;
        for c in 0..channels {
            let from = if self.reverse { channels - 1 - c } else { c };
            let (mean, std) = (self.mean[c], self.std[c]);
            for h in 0..rows {
                for w in 0..columns {
                    let source = start + at(&self.source, from, h, w);
                    let pixel = match &self.pixels {
                        Pixels::Bytes(bytes) => f32::from(bytes[source]),
                        Pixels::Floats(floats) => floats[source],
                    };
                    out[at(&self.target, c, h, w)] = (pixel * self.scale - mean) / std;
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Fit {
    extents: Extents,
    source: Strides,
    target: Strides,
}

/// How images of shape `sample` become inputs of shape `wanted` (both without batch); `None` if they do not.
///
/// Bytes are rows, columns, channels where that is possible. Floats are in the model's own order where that is possible.
fn fit(sample: &[usize], floats: bool, wanted: &[usize], layout: Option<Layout>) -> Option<Fit> {
    let planar = |[c, h, w]: Extents| (vec![c, h, w], [h * w, w, 1]);
    let interleaved = |[c, h, w]: Extents| (vec![h, w, c], [1, w * c, c]);
    let layouts = match layout {
        Some(one) => vec![one],
        None => vec![Layout::Nchw, Layout::Nhwc],
    };
    let targets: Vec<(Extents, Strides)> = match *wanted {
        [a, b, c] => layouts
            .iter()
            .map(|layout| match layout {
                Layout::Nchw => ([a, b, c], planar([a, b, c]).1),
                Layout::Nhwc => ([c, a, b], interleaved([c, a, b]).1),
            })
            .collect(),
        [h, w] => vec![([1, h, w], planar([1, h, w]).1)],
        // A flat vector: the images' elements in their own order.
        [n] => match *sample {
            [h, w, c] if h * w * c == n => vec![([c, h, w], interleaved([c, h, w]).1)],
            [h, w] if h * w == n => vec![([1, h, w], planar([1, h, w]).1)],
            [m] if m == n => vec![([1, 1, n], planar([1, 1, n]).1)],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let sources = |extents: Extents| {
        let mut forms = vec![interleaved(extents), planar(extents)];
        if floats && wanted == planar(extents).0 {
            forms.reverse();
        }
        if extents[0] == 1 {
            forms.push((extents[1..].to_vec(), planar(extents).1));
            forms.push((vec![extents[1] * extents[2]], planar(extents).1));
        }
        forms
    };
    targets.into_iter().find_map(|(extents, target)| {
        let (_, source) = sources(extents).into_iter().find(|(shape, _)| shape == sample)?;
        Some(Fit {
            extents,
            source,
            target,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: "x".into(),
            c_name: "x".into(),
            dtype: DType::F32,
            shape: shape.to_vec(),
        }
    }

    fn args() -> Preprocessing {
        Preprocessing::default()
    }

    fn image(args: &Preprocessing, images: &Tensor, input: &[usize], at: usize) -> Vec<f32> {
        let images = Images::new(args, images, &spec(input)).unwrap();
        let mut out = vec![0.0; images.elements()];
        images.fill(at, &mut out);
        out
    }

    /// Two 2x2 images of three channels, interleaved: elements 0, 1, 2 ...
    fn bytes() -> Tensor {
        Tensor::from_elements(vec![2, 2, 2, 3], (0..24u8).collect()).unwrap()
    }

    #[test]
    fn interleaved_bytes_become_planes() {
        let x = image(&args(), &bytes(), &[1, 3, 2, 2], 1);
        assert_eq!(x, [12., 15., 18., 21., 13., 16., 19., 22., 14., 17., 20., 23.]);
        let x = image(&args(), &bytes(), &[1, 2, 2, 3], 0);
        assert_eq!(x, (0..12).map(|i| i as f32).collect::<Vec<_>>());
    }

    #[test]
    fn scale_then_mean_then_std_per_channel() {
        let args = Preprocessing {
            scale: 0.5,
            mean: vec![1.0, 2.0, 3.0],
            std: vec![1.0, 2.0, 4.0],
            ..args()
        };
        let x = image(&args, &bytes(), &[1, 3, 2, 2], 0);
        assert_eq!(x[0], -1.0);
        assert_eq!(x[4], (0.5 - 2.0) / 2.0);
        assert_eq!(x[8], (1.0 - 3.0) / 4.0);
    }

    #[test]
    fn channels_can_be_reversed() {
        let args = Preprocessing {
            reverse_channels: true,
            mean: vec![2.0, 1.0, 0.0],
            ..args()
        };
        let x = image(&args, &bytes(), &[1, 3, 2, 2], 0);
        // The mean is in the model's order: 2 belongs to blue.
        assert_eq!([x[0], x[4], x[8]], [0.0, 0.0, 0.0]);
    }

    #[test]
    fn grey_and_flat_and_float_images() {
        let grey = Tensor::from_elements(vec![1, 2, 3], (0..6u8).collect()).unwrap();
        let all: Vec<f32> = (0..6).map(|i| i as f32).collect();
        for input in [vec![1, 1, 2, 3], vec![1, 2, 3, 1], vec![1, 2, 3], vec![1, 6]] {
            assert_eq!(image(&args(), &grey, &input, 0), all, "{input:?}");
        }
        let planar = Tensor::from_elements(vec![1, 3, 2, 2], (0..12).map(|i| i as f32).collect()).unwrap();
        let all: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(image(&args(), &planar, &[1, 3, 2, 2], 0), all);
        // All extents equal: floats stay as they are, bytes are interleaved.
        let floats = Tensor::from_elements(vec![1, 3, 3, 3], (0..27).map(|i| i as f32).collect()).unwrap();
        assert_eq!(image(&args(), &floats, &[1, 3, 3, 3], 0)[1], 1.0);
        let bytes = Tensor::from_elements(vec![1, 3, 3, 3], (0..27u8).collect()).unwrap();
        assert_eq!(image(&args(), &bytes, &[1, 3, 3, 3], 0)[1], 3.0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refuse =
            |args: &Preprocessing, input: &[usize]| Images::new(args, &bytes(), &spec(input)).unwrap_err();
        refuse(&args(), &[1, 1, 2, 2]);
        refuse(&args(), &[1, 3, 4, 4]);
        refuse(
            &Preprocessing {
                layout: Some(Layout::Nhwc),
                ..args()
            },
            &[1, 3, 2, 2],
        );
        refuse(
            &Preprocessing {
                mean: vec![1.0, 2.0],
                ..args()
            },
            &[1, 3, 2, 2],
        );
        refuse(
            &Preprocessing {
                std: vec![0.0],
                ..args()
            },
            &[1, 3, 2, 2],
        );
    }
}
