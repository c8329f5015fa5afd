//! Eight-bit integers, for layers that are better off with them.

use sdc_ir::DType;
use sdc_ir::sd::{Geometry, Int8};

/// Stored type of a tensor's scales: `f16`, unless some filter is so small that its scale would lose too much in it.
pub(super) fn scale_type(geometry: &Geometry, rows: &[f32]) -> DType {
    let filters = rows.chunks(geometry.vector_len());
    let peaks: Vec<f32> = filters
        .map(|w| w.iter().fold(0f32, |a, x| a.max(x.abs())))
        .collect();
    let largest = peaks.iter().fold(0f32, |a, &p| a.max(p));
    // Scales are about peak / 127; below 1e-5 an f16 has fewer than seven bits left. Filters of no weight do not matter.
    let fits = |p: f32| (127.0 * 1e-5..1e5).contains(&p) || p < 1e-4 * largest;
    if peaks.into_iter().all(fits) {
        DType::F16
    } else {
        DType::F32
    }
}

/// Eight-bit integers with a scale per filter.
pub(super) fn int8(geometry: &Geometry, rows: &[f32], dtype: DType) -> Int8 {
    let (mut values, mut scales) = (Vec::with_capacity(rows.len()), Vec::new());
    for w in rows.chunks(geometry.vector_len()) {
        let exact = w.iter().fold(0f32, |a, x| a.max(x.abs())) / 127.0;
        // A scale rounded down clips the peak by less than a step.
        let scale = if dtype == DType::F16 {
            half::f16::from_f32(exact).to_f32()
        } else {
            exact
        };
        scales.push(scale);
        values.extend(w.iter().map(|x| {
            if scale > 0.0 {
                (x / scale).round().clamp(-127.0, 127.0) as i8
            } else {
                0
            }
        }));
    }
    Int8 {
        geometry: geometry.clone(),
        values,
        scale: dtype,
        scales,
    }
}
