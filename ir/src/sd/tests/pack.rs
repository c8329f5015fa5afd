//! Packed bytes: exact round trip, exact sizes, and the bytes themselves.

use super::*;

#[test]
fn bytes_are_as_documented() {
    #[rustfmt::skip]
    let expected = [
        b'S', b'D', b'P', 1,
        // s - 1 = 2, r - 1 = 2; f16, indexed, seven magnitudes, rank 4.
        0b0001_0010, 0b0111_1011,
        1, 2, 4, 8, 16, 32, 64,
        // One filter dimension, the permutation, the shape.
        1, 0, 1, 2, 3, 2, 1, 3, 3,
        // 192 rows a slice, bases of one filter, index of two.
        0xc0, 0x01, 1, 2,
        0b101,
        0x07, 0x29, 0x0b, 0x00, 0xf5, 0x11,
        100, 236, 3, 5, 90, 249, 0, 1, 128, 127, 0, 0, 1, 64, 2, 253, 254, 33,
        0x56,
        0x00, 0x38, 0x00, 0x2c,
    ];
    assert_eq!(pack(&golden()).unwrap(), expected);
    let (geometry, format, header) = read_header(&expected).unwrap();
    assert_eq!((geometry, format), (golden().geometry, golden().format));
    assert_eq!(header, 26);
}

#[test]
fn row_words_are_mixed_radix_with_the_first_code_on_top() {
    let mut d = golden();
    d.format.packing = Packing::Row;
    d.format.index = Index::None;
    d.kept = vec![true; 6];
    let bytes = pack(&d).unwrap();
    let at = sizes(&d.geometry, &d.format, 6).sections();
    // 15^3 words: 12 bits; digits are codes plus seven.
    let word = |c: [i32; 3]| ((c[0] + 7) * 15 + c[1] + 7) * 15 + c[2] + 7;
    let first = word([7, 0, -1]) | word([0, 0, 0]) << 12;
    assert_eq!(bytes[at.codes][..3], first.to_le_bytes()[..3]);
    assert_eq!(d.format.row_bits(), 12);
}

#[test]
fn row_bits_are_the_logarithm_rounded_up() {
    let mut format = golden().format;
    format.packing = Packing::Row;
    for magnitudes in 1..=8 {
        for r in 1..=8 {
            format.alphabet = super::magnitudes()[..magnitudes].to_vec();
            format.r = r;
            let exact = (format.levels() as f64).log2() * r as f64;
            assert_eq!(format.row_bits(), exact.ceil() as usize);
        }
    }
}

#[test]
fn unused_bits_must_be_zero() {
    let bytes = pack(&golden()).unwrap();
    let mut index = bytes.clone();
    index[26] |= 0x80;
    assert_eq!(unpack(&index), Err(SdError::Padding("row index")));

    let mut odd = golden();
    odd.format.r = 1;
    odd.format.basis_bits = 6;
    odd.codes = vec![1, 0, -7, 2, 0, 0];
    odd.bases = vec![31, -32, 0, 1, -1, 5];
    odd.geometry = Geometry::leading(&[2, 9], 1);
    let bytes = pack(&odd).unwrap();
    assert_eq!(unpack(&bytes).unwrap(), odd);
    let at = sizes(&odd.geometry, &odd.format, 4).sections();
    // 36 bits of bases in five bytes.
    let mut bases = bytes.clone();
    bases[at.bases.end - 1] |= 0x10;
    assert_eq!(unpack(&bases), Err(SdError::Padding("bases")));
}

#[test]
fn codes_that_mean_nothing_are_refused() {
    let mut bytes = pack(&golden()).unwrap();
    bytes[27] = 0x08;
    assert_eq!(unpack(&bytes), Err(SdError::Code(0)));
}

#[test]
fn absurd_headers_are_refused_before_memory_is_taken() {
    // A million filters of a million entries, none kept, in 2.3 MB: 10^12 weights.
    let format = Format {
        slice_rows: 192,
        basis_filters: 1 << 20,
        index: Index::Rows(1 << 20),
        ..golden().format
    };
    let geometry = Geometry::leading(&[1 << 20, 1 << 17], 1);
    assert_eq!(faults_of_format(&geometry, &format), []);
    let total = sizes(&geometry, &format, 0).total;
    let mut bytes = super::super::header::header_bytes(&geometry, &format);
    bytes.resize(total, 0);
    assert!(
        matches!(unpack(&bytes), Err(SdError::Invalid(faults)) if matches!(faults[..], [Fault::TooSparse { .. }]))
    );
    // The same, all kept, claimed by a header alone.
    bytes.truncate(64);
    assert!(matches!(unpack(&bytes), Err(SdError::Length { actual: 64, .. })));
}

#[test]
fn long_numbers_are_refused() {
    let bytes = pack(&golden()).unwrap();
    // 192 with a needless third byte.
    let mut long = bytes[..23].to_vec();
    long.extend([0x81, 0x00]);
    long.extend(&bytes[24..]);
    assert_eq!(unpack(&long), Err(SdError::Number(22)));
    let mut huge = bytes[..22].to_vec();
    huge.extend([0xff; 10]);
    assert_eq!(unpack(&huge), Err(SdError::Number(22)));
}

proptest! {
    #[test]
    fn round_trip(d in any_decomposed()) {
        let bytes = pack(&d).unwrap();
        let again = unpack(&bytes).unwrap();
        prop_assert_eq!(&again, &d);
        prop_assert_eq!(pack(&again).unwrap(), bytes);
    }

    #[test]
    fn sizes_are_exact(d in any_decomposed()) {
        let bytes = pack(&d).unwrap();
        let sizes = sizes(&d.geometry, &d.format, stored_rows(&d));
        prop_assert_eq!(sizes.total, bytes.len());
        let sum = sizes.header + sizes.index + sizes.codes + sizes.bases + sizes.shifts + sizes.scales;
        prop_assert_eq!(sum + sizes.padding, 8 * sizes.total);
        prop_assert!(sizes.padding < 8 * 4);
        prop_assert_eq!(read_header(&bytes).unwrap().2 * 8, sizes.header);
    }

    #[test]
    fn cut_or_longer_bytes_are_refused(d in any_decomposed(), at in any::<proptest::sample::Index>()) {
        let mut bytes = pack(&d).unwrap();
        prop_assert!(unpack(&bytes[..at.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(unpack(&bytes).is_err());
    }
}
