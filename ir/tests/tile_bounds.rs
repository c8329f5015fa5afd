//! The bounds that the tile verifier claims hold when the loops are run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::Origin;
use sdc_ir::tile::verify::{unproven, verify};
use sdc_ir::tile::{
    Affine, Bound, Buffer, BufferData, BufferKind, Func, FuncBuilder, Inst, Module, Stmt, Ty, Var,
};

const LEN: usize = 24;

/// Coefficients per enclosing loop, and a constant.
type Expr = ([i64; 3], i64);

#[derive(Clone, Debug)]
struct Nest {
    loops: Vec<(Vec<Expr>, Vec<Expr>, i64)>,
    access: Expr,
    lanes: u8,
}

fn expr(constants: std::ops::Range<i64>) -> impl Strategy<Value = Expr> {
    let coefficient = prop_oneof![3 => Just(0i64), 1 => Just(1), 1 => Just(-1), 1 => -4..5i64];
    (proptest::array::uniform3(coefficient), constants)
}

fn nest() -> impl Strategy<Value = Nest> {
    let lo = proptest::collection::vec(expr(-4..5), 1..3);
    let hi = proptest::collection::vec(expr(0..13), 1..3);
    let loops = proptest::collection::vec((lo, hi, 1..6i64), 0..=3);
    (loops, expr(-2..20), 1..5u8).prop_map(|(loops, access, lanes)| Nest { loops, access, lanes })
}

fn affine((coefficients, constant): Expr, vars: &[Affine]) -> Affine {
    vars.iter()
        .zip(coefficients)
        .fold(Affine::constant(constant), |sum, (v, c)| sum + v.clone() * c)
}

fn build(b: &mut FuncBuilder, nest: &Nest, vars: &mut Vec<Affine>) {
    let Some((lo, hi, step)) = nest.loops.get(vars.len()) else {
        let index = affine(nest.access, vars);
        b.load(Ty::vector(DType::F32, nest.lanes), Buffer::new(0), index);
        return;
    };
    let bound = |exprs: &[Expr]| Bound::of(exprs.iter().map(|&e| affine(e, vars)).collect());
    b.for_range(bound(lo), bound(hi), *step, |b, var| {
        vars.push(var);
        build(b, nest, vars);
    });
}

/// First and last element of every access that is made.
fn run(stmts: &[Stmt], func: &Func, env: &mut Vec<i64>, made: &mut Vec<(i64, i64)>) {
    for stmt in stmts {
        match stmt {
            Stmt::Let(v, Inst::Load { index, .. }) => {
                let first = index.affine.eval(|v: Var| env[v.index()]);
                made.push((first, first + i64::from(func.vals[*v].lanes) - 1));
            }
            Stmt::For(l) => {
                let value = |v: Var| env[v.index()];
                let (mut i, hi) = (l.lo.max(value), l.hi.min(value));
                while i < hi {
                    env[l.var.index()] = i;
                    run(&l.body, func, env, made);
                    i += l.step;
                }
            }
            _ => unreachable!("no other statement is built"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn claims_hold(nest in nest()) {
        let mut b = FuncBuilder::new();
        build(&mut b, &nest, &mut Vec::new());
        let func = b.finish("f", vec![Origin { name: "x".into(), op: "X".into(), index: 0 }]);
        let mut made = Vec::new();
        run(&func.body, &func, &mut vec![0; 3], &mut made);
        let mut module = Module::default();
        module.buffers.push(BufferData {
            dtype: DType::F32,
            len: LEN,
            kind: BufferKind::Temp,
            name: String::new(),
        });
        module.funcs.push(func);
        let outside = made.iter().any(|&(first, last)| first < 0 || last >= LEN as i64);
        let (faults, open) = (verify(&module), unproven(&module));
        prop_assert!(faults.len() + open.len() <= 1);
        if !faults.is_empty() {
            prop_assert!(outside, "{}\n{}", faults[0], module);
        } else if open.is_empty() {
            prop_assert!(!outside, "{module}");
        }
    }
}

/// The analysis is of use only if it proves what lowerings write.
#[test]
fn most_sound_nests_are_proved() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut sound, mut proved) = (0, 0);
    for _ in 0..2000 {
        let nest = nest().new_tree(&mut runner).unwrap().current();
        let mut b = FuncBuilder::new();
        build(&mut b, &nest, &mut Vec::new());
        let func = b.finish("f", Vec::new());
        let mut made = Vec::new();
        run(&func.body, &func, &mut vec![0; 3], &mut made);
        if made.is_empty() || made.iter().any(|&(first, last)| first < 0 || last >= LEN as i64) {
            continue;
        }
        let mut module = Module::default();
        module.buffers.push(BufferData {
            dtype: DType::F32,
            len: LEN,
            kind: BufferKind::Temp,
            name: String::new(),
        });
        module.funcs.push(func);
        sound += 1;
        proved += usize::from(unproven(&module).is_empty());
    }
    assert!(sound > 300, "{sound}");
    assert!(proved * 100 > sound * 70, "{proved} of {sound}");
}
