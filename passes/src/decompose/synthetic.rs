//! Made-up inputs, for when there are none: pictures of overlapping shapes in the manner of dead leaves, whose statistics are near those
//! of photographs; noise for whatever is not a picture.

use super::DecomposeError;
use super::calibrate::Samples;
use sdc_ir::graph::{Graph, TensorType};
use sdc_ir::tensor::element_count;
use sdc_ir::{DType, Tensor};

/// Sets of made-up inputs: floats of mean `mean` and standard deviation `deviation`.
#[derive(Clone, Debug)]
pub struct Synthetic {
    types: Vec<TensorType>,
    /// Number of sets.
    pub count: usize,
    /// Mean of the elements of an input.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Seed.
    pub seed: u64,
}

/// Inputs larger than this are not made up.
const MAX_ELEMENTS: usize = 1 << 26;
/// Shapes drawn into a picture.
const SHAPES: usize = 120;

impl Synthetic {
    /// Inputs for a graph; mean and deviation describe inputs after preprocessing.
    pub fn new(graph: &Graph, count: usize, mean: f64, deviation: f64, seed: u64) -> Self {
        let types = graph.inputs.iter().map(|p| graph.ty(p.value).clone()).collect();
        Self {
            types,
            count,
            mean,
            deviation,
            seed,
        }
    }
}

impl Samples for Synthetic {
    fn count(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Result<Vec<Tensor>, DecomposeError> {
        let mut random =
            fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9E37_79B9).wrapping_add(index as u64));
        self.types.iter().map(|ty| self.tensor(ty, &mut random)).collect()
    }
}

impl Synthetic {
    fn tensor(&self, ty: &TensorType, random: &mut fastrand::Rng) -> Result<Tensor, DecomposeError> {
        let fail = |reason: String| DecomposeError::Samples(reason);
        let count = element_count(ty.sizes()).filter(|&n| n <= MAX_ELEMENTS);
        let count = count.ok_or_else(|| fail(format!("an input of type {ty} is too large to make up")))?;
        if ty.dtype != DType::F32 {
            let zeros = vec![0u8; count * ty.dtype.size()];
            return Tensor::new(ty.dtype, ty.sizes().to_vec(), zeros.into()).map_err(|e| fail(e.to_string()));
        }
        let picture = match ty.sizes()[..] {
            [_, c @ (1 | 3), h, w] if h > 4 && w > 4 => Some((c, h, w, false)),
            [_, h, w, c @ (1 | 3)] if h > 4 && w > 4 => Some((c, h, w, true)),
            _ => None,
        };
        let mut data: Vec<f64> = match picture {
            Some((c, h, w, last)) => {
                let images = count / (c * h * w).max(1);
                (0..images).flat_map(|_| leaves(c, h, w, last, random)).collect()
            }
            None => (0..count).map(|_| normal(random)).collect(),
        };
        data.iter_mut().for_each(|x| *x = *x * self.deviation + self.mean);
        let data: Vec<f32> = data.into_iter().map(|x| x as f32).collect();
        Tensor::from_elements(ty.sizes().to_vec(), data).map_err(|e| fail(e.to_string()))
    }
}

/// A standard normal number.
pub fn normal(random: &mut fastrand::Rng) -> f64 {
    let (u, v) = (1.0 - random.f64(), random.f64());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A picture of discs and boxes that hide one another, sizes by a power law, each with a colour, a gradient and grain: about mean 0 and
/// variance 1 over many pictures.
fn leaves(c: usize, h: usize, w: usize, last: bool, random: &mut fastrand::Rng) -> Vec<f64> {
    let mut image = vec![0f64; c * h * w];
    let size = h.max(w) as f64;
    let (smallest, largest) = (0.02 * size, 0.7 * size);
    for shape in 0..=SHAPES {
        let u = random.f64();
        // Radius with density r^-3.
        let radius = if shape == 0 {
            4.0 * size
        } else {
            (smallest.powi(-2) + u * (largest.powi(-2) - smallest.powi(-2))).powf(-0.5)
        };
        let (cy, cx) = (random.f64() * h as f64, random.f64() * w as f64);
        let (angle, aspect, round) = (random.f64() * 3.2, 0.4 + 0.6 * random.f64(), random.bool());
        let light = 0.95 * normal(random);
        let colour: Vec<f64> = (0..c).map(|_| light + 0.35 * normal(random)).collect();
        let (slope_y, slope_x) = (0.5 * normal(random) / size, 0.5 * normal(random) / size);
        let grain = 0.12 * normal(random).abs();
        let (sin, cos) = angle.sin_cos();
        let rows = ((cy - radius).max(0.0) as usize)..((cy + radius).max(0.0).ceil() as usize).min(h);
        for y in rows {
            let columns = ((cx - radius).max(0.0) as usize)..((cx + radius).max(0.0).ceil() as usize).min(w);
            for x in columns {
                let (dy, dx) = (y as f64 - cy, x as f64 - cx);
                let (a, b) = (
                    (dx * cos + dy * sin) / radius,
                    (dy * cos - dx * sin) / (radius * aspect),
                );
                let inside = if round {
                    a * a + b * b <= 1.0
                } else {
                    a.abs().max(b.abs()) <= 0.7
                };
                if !inside && shape > 0 {
                    continue;
                }
                let shade = slope_y * dy + slope_x * dx + grain * normal(random);
                for (k, colour) in colour.iter().enumerate() {
                    let at = if last {
                        (y * w + x) * c + k
                    } else {
                        (k * h + y) * w + x
                    };
                    image[at] = colour + shade;
                }
            }
        }
    }
    image
}
