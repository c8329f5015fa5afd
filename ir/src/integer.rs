//! sdc's own integer arithmetic (`docs/integer.md`, section 2), as far as more than one crate computes it: requantisation by a product and
//! a shift in 64 bits.

/// Where results lie, and how sums come there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requantise {
    /// What scaled sums are shifted by, 1..=62.
    pub shift: u32,
    /// Zero point of the result.
    pub zero: i64,
    /// Least result.
    pub min: i64,
    /// Greatest result, not below the least.
    pub max: i64,
}

impl Requantise {
    /// `clamp(zero + ((scaled + 2^(shift-1)) >> shift), min, max)`; the shift is arithmetic, so that halves go up. Sums beyond 64 bits wrap:
    /// the operators' bounds exclude them.
    ///
    /// # Panics
    /// If `min > max`.
    #[inline]
    pub fn of(&self, scaled: i64) -> i64 {
        let rounded = scaled.wrapping_add(1 << (self.shift - 1)) >> self.shift;
        rounded.wrapping_add(self.zero).clamp(self.min, self.max)
    }
}

/// Multiplier of an average of `divisor` elements, from that of one: `(multiplier + divisor/2) / divisor`, both divisions truncating. A window
/// without elements has 0, as a sum of nothing has.
pub fn average_multiplier(multiplier: i64, divisor: i64) -> i64 {
    (multiplier + divisor / 2).checked_div(divisor).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_up_and_results_are_clamped() {
        let byte = Requantise {
            shift: 2,
            zero: 10,
            min: 9,
            max: 12,
        };
        let of: Vec<i64> = [-100, -7, -6, -2, 0, 1, 2, 5, 6, 100]
            .map(|x| byte.of(x))
            .to_vec();
        assert_eq!(of, [9, 9, 9, 10, 10, 10, 11, 11, 12, 12]);
    }

    #[test]
    fn the_multiplier_of_an_average_is_rounded() {
        assert_eq!(
            [(7, 2), (6, 4), (5, 0)].map(|(m, c)| average_multiplier(m, c)),
            [4, 2, 0]
        );
    }
}
