//! The text form.

use super::text::{parse, print};
use super::*;

pub(super) const GOLDEN: &str = "\
sd shape=2x1x3x3 filter_dims=0 vector_dims=1,2,3 s=3 r=3 slice_rows=192 alphabet=1,2,4,8,16,32,64 packing=nibble \
basis_bits=8 basis_filters=1 scale=f16 index=2
scales 0.5 0.0625
slice 0 filters 0..1 shift 6 basis 100 -20 3 | 5 90 -7 | 0 1 -128
filter 0
  +64 0 -1
  .
  +2 -4 0
slice 0 filters 1..2 shift 5 basis 127 0 0 | 1 64 2 | -3 -2 33
filter 1
  0 0 +16
  .
  -64 +1 +1
";

#[test]
fn golden_text() {
    assert_eq!(print(&golden()).unwrap(), GOLDEN);
    assert_eq!(parse(GOLDEN).unwrap(), golden());
    let loose = GOLDEN.replace('\n', "  // a remark\n\n");
    assert_eq!(parse(&loose).unwrap(), golden());
}

#[test]
fn faulty_text() {
    let error = |from: &str, to: &str| {
        assert!(GOLDEN.contains(from));
        parse(&GOLDEN.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let cases = [
        ("sd ", "se ", "line 1: expected `sd`, found `se`"),
        ("r=3", "q=3", "line 1: expected `r=`, found `q=3`"),
        ("=2x1", "=2xx1", "line 1: expected a number, found ``"),
        (
            "nibble",
            "byte",
            "line 1: expected `nibble` or `row`, found `byte`",
        ),
        ("f16", "half", "line 1: expected scale, found `half`"),
        ("+64", "64", "line 5: `64` is no signed magnitude of the alphabet"),
        (
            "+64",
            "++64",
            "line 5: `++64` is no signed magnitude of the alphabet",
        ),
        (
            "+64",
            "+064",
            "line 5: `+064` is no signed magnitude of the alphabet",
        ),
        ("+64", "+0", "line 5: `+0` is no signed magnitude of the alphabet"),
        ("+64", "+5", "line 5: `+5` is no signed magnitude of the alphabet"),
        (
            "+64 0",
            "+64 .",
            "line 5: `.` is no signed magnitude of the alphabet",
        ),
        (
            "  .\n",
            "  0 0 0\n",
            "line 11: row 1 is not kept alike in the filters that share its bit",
        ),
        (
            " 1 -128",
            " 1 -129",
            "line 3: expected a basis entry, found `-129`",
        ),
        ("0..1", "0..2", "line 3: expected `0..1`, found `0..2`"),
        ("-64 +1 +1", "-64 +1", "line 12: expected a code, found the end"),
        ("-64 +1 +1", "-64 +1 +1 0", "line 12: `0` behind the last row"),
        (
            "2x1x3x3",
            "2x1x3x3000",
            "line 1: the text is too short for 2 filters of 3000 rows",
        ),
        (
            "slice_rows=192",
            "slice_rows=193",
            "not a decomposed weight: slice_rows is 193, must be 1 to 64 * s",
        ),
        (
            "0.0625",
            "-1",
            "not a decomposed weight: 1 of scales are bad, the first is scales[1]: not finite, negative, or not exact \
             in the stored type",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(error(from, to), expected);
    }
}

proptest! {
    #[test]
    fn round_trip(d in any_decomposed()) {
        let text = print(&d).unwrap();
        prop_assert_eq!(&parse(&text).unwrap(), &d);
    }

    #[test]
    fn cut_text_is_refused(d in any_decomposed(), at in any::<proptest::sample::Index>()) {
        let text = print(&d).unwrap();
        let cut = &text[..at.index(text.len())];
        // All words may still be there, or their last one may be a shorter number that is as good.
        if let Ok(other) = parse(cut) {
            prop_assert_eq!(other.codes.len(), d.codes.len());
            prop_assert!(cut.lines().count() == text.lines().count());
        }
    }
}
