//! How often the body of a loop is repeated.
//!
//! Only innermost loops that carry values gain: at the end of an iteration their values have to be moved to where
//! the next one expects them (the more so as the x86 instruction Cranelift multiplies and adds with overwrites a factor and
//! not the sum), and few iterations share that cost.

use crate::scan;
use sdc_ir::tile::For;

/// Statements that an unrolled body may have.
const MAX_STATEMENTS: usize = 96;
/// Iterations in an unrolled body.
const COPIES: [i64; 2] = [4, 2];

/// A loop with constant bounds: `rounds` times a body of `copies` iterations, then `left` single ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// First value of the variable.
    pub lo: i64,
    pub copies: i64,
    pub rounds: i64,
    /// Value of the variable after the rounds.
    pub rest: i64,
    pub left: i64,
}

impl Counted {
    /// The plan for a loop that runs from `ends.0` to below `ends.1`, if both are known and nothing overflows.
    pub fn new(f: &For, ends: (Option<i64>, Option<i64>)) -> Option<Self> {
        let (lo, hi) = (ends.0?, ends.1?);
        let count = (i128::from(hi) - i128::from(lo)).max(0) + i128::from(f.step) - 1;
        let count = i64::try_from(count / i128::from(f.step)).ok()?;
        let copies = if f.carried.is_empty() || scan::has_loop(&f.body) {
            1
        } else {
            let fits = |copies: &i64| f.body.len() * *copies as usize <= MAX_STATEMENTS;
            COPIES.into_iter().find(fits).unwrap_or(1)
        };
        let rounds = count / copies;
        let rest = rounds.checked_mul(copies.checked_mul(f.step)?)?.checked_add(lo)?;
        Some(Self {
            lo,
            copies,
            rounds,
            rest,
            left: count % copies,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdc_ir::DType;
    use sdc_ir::tile::{FuncBuilder, Stmt, Ty};

    fn loop_of(statements: usize, step: i64) -> For {
        let mut b = FuncBuilder::new();
        let ty = Ty::scalar(DType::I64);
        let zero = b.int(ty, 0);
        b.for_carried(0, 1, step, &[zero], |b, _, args| {
            (0..statements).for_each(|i| {
                b.int(ty, i as i64);
            });
            args.to_vec()
        });
        match b.finish("f", Vec::new()).body.pop() {
            Some(Stmt::For(f)) => f,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_iteration_is_run_once() {
        for statements in [1, 30, 60, 200] {
            for step in 1..5 {
                let f = loop_of(statements, step);
                for hi in -3..40 {
                    let plan = Counted::new(&f, (Some(-2), Some(hi))).unwrap();
                    let mut run = Vec::new();
                    for round in 0..plan.rounds {
                        let var = plan.lo + round * plan.copies * step;
                        run.extend((0..plan.copies).map(|at| var + at * step));
                    }
                    run.extend((0..plan.left).map(|at| plan.rest + at * step));
                    let expected: Vec<i64> = (-2..hi).step_by(step as usize).collect();
                    assert_eq!(run, expected);
                }
            }
        }
    }

    #[test]
    fn long_bodies_are_not_repeated() {
        let copies = |statements| {
            Counted::new(&loop_of(statements, 1), (Some(0), Some(9)))
                .unwrap()
                .copies
        };
        assert_eq!([5, 24, 48, 96, 97].map(copies), [4, 4, 2, 1, 1]);
    }

    #[test]
    fn unknown_and_absurd_bounds_are_not_planned() {
        let f = loop_of(1, 1);
        assert_eq!(Counted::new(&f, (None, Some(1))), None);
        assert_eq!(Counted::new(&f, (Some(i64::MIN), Some(i64::MAX))), None);
    }
}
