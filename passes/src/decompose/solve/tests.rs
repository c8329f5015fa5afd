use super::*;
use crate::decompose::synthetic::normal;
use sdc_ir::DType;
use sdc_ir::sd::{Index, Packing, dequantised, verify};

fn format(s: usize, r: usize, alphabet: &[u8], filters: usize) -> Format {
    Format {
        s,
        r,
        slice_rows: 64 * s,
        alphabet: alphabet.to_vec(),
        packing: Packing::Row,
        basis_bits: 8,
        basis_filters: filters,
        scale: DType::F16,
        index: Index::None,
    }
}

/// Enough for the figures below, and quick in unoptimised builds.
const EFFORT: Effort = Effort {
    starts: 6,
    alternations: 6,
    feedback: false,
    descents: 0,
    rounds: 1,
    seed: 0,
};

/// SQNR in dB on Gaussian filters under plain squared error.
fn plain(format: &Format, filters: usize) -> f64 {
    let mut random = fastrand::Rng::with_seed(3);
    let geometry = Geometry::conv(&[filters, 64, 3, 3], sdc_ir::sd::Axis::X);
    let dense: Vec<f64> = (0..filters * 576).map(|_| 0.05 * normal(&mut random)).collect();
    let rows = geometry.gather(&dense, format.s);
    let metric = Metric::identity(filters, rows.len() / filters);
    let problem = Problem {
        geometry: &geometry,
        rows: &rows,
        metric: &metric,
        kept: None,
    };
    let solved = solve(&problem, format, &EFFORT).unwrap();
    assert!(verify(&solved.weight).is_empty(), "{:?}", verify(&solved.weight));
    let rebuilt = dequantised(&solved.weight).unwrap().to_f64_vec();
    let noise: f64 = rebuilt.iter().zip(&dense).map(|(a, b)| (a - b).powi(2)).sum();
    assert!(
        (noise / solved.loss - 1.0).abs() < 1e-3,
        "{noise} {}",
        solved.loss
    );
    10.0 * (solved.energy / noise).log10()
}

/// The table of section 7.2 of the reference (SQNR of i.i.d. Gaussian rows, 192 with a basis of their own, real bases, many starts),
/// less what few starts and integers cost.
#[test]
fn quality_of_alphabets() {
    for (r, alphabet, listed) in [
        (3, &[1, 2, 4, 8][..], 15.1),
        (3, &[1, 2, 4], 14.3),
        (3, &[1, 2, 3, 4, 6, 8, 10], 20.4),
        (5, &[1, 2], 20.1),
    ] {
        let db = plain(&format(3, r, alphabet, 1), 1);
        println!("r = {r}, {alphabet:?}: {db:.2} dB");
        assert!(db > listed - 0.7, "r = {r}, {alphabet:?}: {db:.2} dB");
    }
}

#[test]
fn own_bases_beat_shared_ones() {
    let alphabet = &[1, 2, 4];
    let (own, shared) = (
        plain(&format(3, 3, alphabet, 1), 4),
        plain(&format(3, 3, alphabet, 4), 4),
    );
    println!("{own:.2} dB against {shared:.2} dB");
    assert!(own > shared + 0.1, "{own:.2} dB against {shared:.2} dB");
}
