//! Digits of activations.

/// Digits of a radix-4 modified Booth code of an operand.
pub(super) const DIGITS: u32 = 5;

/// Non-zero digits of the radix-4 modified Booth code of `d` in ten bits: digit i is `-2 b[2i+1] + b[2i] + b[2i-1]`.
pub(super) fn booth(d: i32) -> u8 {
    let bits = (d << 1) as u32;
    (0..DIGITS)
        .filter(|i| !matches!(bits >> (2 * i) & 7, 0 | 7))
        .count() as u8
}

/// For each byte the digits of what it stands for, less the zero point.
pub(super) fn table(signed: bool, z: i32) -> [u8; 256] {
    std::array::from_fn(|b| {
        let x = if signed {
            i32::from(b as u8 as i8)
        } else {
            b as i32
        };
        booth(x - z)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts of section H of `bench/accel/golden.txt`.
    #[test]
    fn counts_are_the_normative_ones() {
        let counts = |range: std::ops::RangeInclusive<i32>| {
            let mut counts = [0; 6];
            range.for_each(|d| counts[usize::from(booth(d))] += 1);
            counts
        };
        assert_eq!(counts(0..=255), [1, 4, 38, 76, 97, 40]);
        assert_eq!(counts(-128..=127), [1, 12, 54, 108, 81, 0]);
        assert_eq!(counts(-255..=255), [1, 12, 66, 162, 189, 81]);
        let samples = [0, 1, 3, 85, 127, 128, 170, 255, -1, -128, -86, -255];
        assert_eq!(samples.map(booth), [0, 1, 2, 4, 2, 2, 5, 2, 1, 1, 4, 2]);
        assert_eq!(table(true, 3)[0x80], booth(-131));
    }
}
