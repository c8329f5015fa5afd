//! Weights kept as plain `i8`.

use super::*;

pub(super) fn any_int8() -> impl Strategy<Value = Int8> {
    (any_geometry(), any::<bool>()).prop_flat_map(|(geometry, half)| {
        let (filters, weights) = (geometry.filters(), geometry.shape.iter().product::<usize>());
        let scale = if half { DType::F16 } else { DType::F32 };
        let scales = vec((0..0x7c00u16).prop_map(|b| f16::from_bits(b).to_f32()), filters);
        (Just(geometry), vec(any::<i8>(), weights), scales).prop_map(move |(geometry, values, scales)| Int8 {
            geometry,
            values,
            scale,
            scales: scales.iter().map(|x| if half { *x } else { x * 1.1 }).collect(),
        })
    })
}

#[test]
fn bytes_are_as_documented() {
    let q = Int8 {
        geometry: Geometry::matmul(&[3, 2]),
        values: vec![1, 2, 3, -1, -2, -3],
        scale: DType::F16,
        scales: vec![0.5, 2.0],
    };
    #[rustfmt::skip]
    let expected = [
        b'S', b'D', b'Q', 1,
        0b11, 1, 1, 0, 3, 2,
        1, 2, 3, 255, 254, 253,
        0x00, 0x38, 0x00, 0x40,
    ];
    let stored = Stored::from(q);
    assert_eq!(stored.pack().unwrap(), expected);
    let (weights, scales) = stored.rebuild().unwrap();
    assert_eq!(weights.elements::<i8>().unwrap()[..], [1, -1, 2, -2, 3, -3]);
    assert_eq!((weights.shape(), &scales[..]), (&[3, 2][..], &[0.5, 2.0][..]));
    let real = stored.dequantised().unwrap();
    assert_eq!(
        real.elements::<f32>().unwrap()[..],
        [0.5, -2.0, 1.0, -4.0, 1.5, -6.0]
    );
}

#[test]
fn laws() {
    let good = Int8 {
        geometry: Geometry::leading(&[2, 2], 1),
        values: vec![0; 4],
        scale: DType::F16,
        scales: vec![1.0; 2],
    };
    let broken = |change: &dyn Fn(&mut Int8)| {
        let mut q = good.clone();
        change(&mut q);
        let stored = Stored::Int8(q);
        let faults = stored.verify();
        assert_eq!(stored.pack(), Err(SdError::Invalid(faults.clone())));
        assert_eq!(stored.dequantised(), Err(SdError::Invalid(faults.clone())));
        let texts: Vec<_> = faults.iter().map(Fault::to_string).collect();
        texts.join("; ")
    };
    assert_eq!(broken(&|q| q.values.push(1)), "values has 5 items, needs 4");
    assert_eq!(broken(&|q| q.scales.push(1.0)), "scales has 3 items, needs 2");
    assert_eq!(broken(&|q| q.scale = DType::I8), "scales cannot be stored as i8");
    assert!(broken(&|q| q.scales[1] = 0.1).contains("scales[1]"));
    assert!(broken(&|q| q.geometry.shape[0] = 0).contains("[0, 2]"));
}

proptest! {
    #[test]
    fn round_trip(q in any_int8()) {
        let stored = Stored::Int8(q);
        let bytes = stored.pack().unwrap();
        prop_assert_eq!(stored.packed_len(), bytes.len());
        prop_assert_eq!(Stored::unpack(&bytes).unwrap(), stored);
    }

    #[test]
    fn both_kinds_are_told_apart(d in any_decomposed()) {
        let stored = Stored::Sd(d);
        let bytes = stored.pack().unwrap();
        prop_assert_eq!(stored.packed_len(), bytes.len());
        prop_assert_eq!(Stored::unpack(&bytes).unwrap(), stored);
    }
}
