//! Each law is checked.

use super::*;

fn broken(change: impl FnOnce(&mut Decomposed)) -> Vec<Fault> {
    let mut d = golden();
    change(&mut d);
    let faults = verify(&d);
    assert_eq!(pack(&d), Err(SdError::Invalid(faults.clone())));
    assert_eq!(rebuild(&d).unwrap_err(), SdError::Invalid(faults.clone()));
    faults
}

fn item(items: Items, first: usize, count: usize, law: &'static str) -> Vec<Fault> {
    vec![Fault::Item {
        items,
        first,
        count,
        law,
    }]
}

fn parameter(name: &'static str, value: usize, range: &'static str) -> Vec<Fault> {
    vec![Fault::Parameter { name, value, range }]
}

#[test]
fn golden_is_sound() {
    assert_eq!(verify(&golden()), []);
}

#[test]
fn geometry() {
    for shape in [
        vec![],
        vec![2, 0, 3, 3],
        vec![2; 9],
        vec![1 << 30, 1 << 30, 1 << 30, 1],
    ] {
        let faults = broken(|d| d.geometry = Geometry::leading(&shape, 1));
        assert_eq!(faults, [Fault::Shape(shape)]);
    }
    for (filter, vector) in [
        (vec![0], vec![1, 2]),
        (vec![0, 1], vec![1, 2, 3]),
        (vec![0], vec![1, 2, 4]),
    ] {
        let faults = broken(|d| {
            d.geometry.filter_dims = filter.clone();
            d.geometry.vector_dims = vector.clone();
        });
        assert_eq!(faults, [Fault::Dims { filter, vector }]);
    }
}

#[test]
fn parameters() {
    assert_eq!(broken(|d| d.format.r = 9), parameter("r", 9, "1 to 8"));
    assert_eq!(
        broken(|d| d.format.slice_rows = 193),
        parameter("slice_rows", 193, "1 to 64 * s")
    );
    assert_eq!(
        broken(|d| d.format.basis_bits = 7),
        parameter("basis_bits", 7, "6 or 8")
    );
    assert_eq!(
        broken(|d| d.format.basis_filters = 0),
        parameter("basis_filters", 0, "at least 1")
    );
    let faults = broken(|d| d.format.index = Index::Rows(0));
    assert_eq!(faults, parameter("filters of the index", 0, "at least 1"));
    let faults = broken(|d| d.format.s = 0);
    assert_eq!(faults.len(), 2, "also slice_rows: {faults:?}");
    assert_eq!(
        broken(|d| d.format.scale = DType::BF16),
        [Fault::ScaleType(DType::BF16)]
    );
}

#[test]
fn alphabet() {
    for bad in [vec![], vec![7], vec![2, 1], vec![1, 1], vec![0, 1]] {
        assert_eq!(
            broken(|d| d.format.alphabet = bad.clone()),
            [Fault::Alphabet(bad)]
        );
    }
    let eight = vec![1, 2, 3, 4, 6, 8, 10, 12];
    assert_eq!(broken(|d| d.format.alphabet = eight.clone()), [Fault::Nibble(8)]);
    let mut d = golden();
    d.format.alphabet = eight;
    d.format.packing = Packing::Row;
    assert_eq!(verify(&d), []);
}

#[test]
fn lengths() {
    let faults = broken(|d| {
        d.codes.pop();
        d.kept.push(true);
        d.bases.clear();
        d.shifts.pop();
        d.scales.pop();
    });
    let found: Vec<_> = faults.iter().map(Fault::to_string).collect();
    let expected = [
        "codes has 17 items, needs 18",
        "kept has 4 items, needs 3",
        "bases has 0 items, needs 18",
        "shifts has 1 items, needs 2",
        "scales has 1 items, needs 2",
    ];
    assert_eq!(found, expected);
}

#[test]
fn contents() {
    assert_eq!(
        broken(|d| d.codes[0] = -8),
        item(Items::Codes, 0, 1, "outside the alphabet")
    );
    assert_eq!(
        broken(|d| d.codes[0] = -128),
        item(Items::Codes, 0, 1, "outside the alphabet")
    );
    let faults = broken(|d| d.codes[12..14].fill(1));
    assert_eq!(faults, item(Items::Codes, 12, 2, "not zero in a dropped row"));
    let faults = broken(|d| {
        d.format.index = Index::None;
        d.kept = vec![true, false, true, true, false, true];
    });
    assert_eq!(
        faults,
        item(Items::Kept, 1, 2, "a row is dropped without an index")
    );
    let faults = broken(|d| d.format.basis_bits = 6);
    assert_eq!(
        faults,
        item(Items::Bases, 0, 6, "does not fit the bits of a basis entry")
    );
    assert_eq!(
        broken(|d| d.shifts[1] = 16),
        item(Items::Shifts, 1, 1, "more than 15")
    );
    let law = "not finite, negative, or not exact in the stored type";
    for bad in [f32::NAN, f32::INFINITY, -1.0, -0.0, 0.1, 65520.0] {
        assert_eq!(broken(|d| d.scales[1] = bad), item(Items::Scales, 1, 1, law));
    }
}

#[test]
fn all_but_empty_tensors_are_refused() {
    let faults = broken(|d| {
        d.geometry = Geometry::leading(&[1 << 10, 1 << 14], 1);
        d.format.s = 8;
        d.format.r = 1;
        d.format.basis_filters = 1 << 10;
        d.format.index = Index::Rows(1 << 10);
        d.codes = vec![0; 1 << 21];
        d.kept = vec![false; 1 << 11];
        d.bases = vec![0; 11 * 8];
        d.shifts = vec![0; 11];
        d.scales = vec![0.0; 1 << 10];
    });
    // 2,048 bytes of scales, 256 of index, 88 of bases, 6 of shifts, 27 of header.
    let (elements, bytes) = (1 << 24, 2425);
    assert_eq!(faults, [Fault::TooSparse { elements, bytes }]);
}
