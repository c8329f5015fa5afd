//! `map_f32`: a short program of element-wise operators, run over rows of up to three operands.
//!
//! `y[r][i]` is the result of the last of `steps` steps on `a[r][i]`, `b[r][i]` and `c[r][i]`; rows have `columns` elements without
//! gaps and begin `as_r`, `bs_r`, `cs_r`, `ys_r` apart (0: the same row again). One kernel with a program rather than one per
//! function: networks spell GELU, SiLU, Mish and their like as chains, and a chain that is not one kernel goes through memory.
//!
//! A parameter `step_k` is a [`Step`] by [`Step::encode`]. Functions are those of [`tile::math`](crate::tile::math), with its
//! error bounds.

use super::call::Params;
use super::{Kernel, Operand};
use crate::DType;
use crate::tile::{Affine, Arith1, CompareOp, FuncBuilder, KernelCall, Ty, Val, View, math};

pub(super) const KERNEL: Kernel = Kernel {
    name: "map_f32",
    operands: &[
        Operand::read("a"),
        Operand::optional("b"),
        Operand::optional("c"),
        Operand::write("y"),
    ],
    params: &[
        "columns", "as_r", "bs_r", "cs_r", "ys_r", "has_b", "has_c", "steps", "step_0", "step_1", "step_2",
        "step_3", "step_4", "step_5", "step_6", "step_7", "step_8", "step_9", "step_10", "step_11",
        "step_12", "step_13", "step_14", "step_15",
    ],
    range: "rows",
    body,
};

/// Most steps of a program.
pub const STEPS: usize = 16;

/// Most operands of a program.
pub const OPERANDS: usize = 3;

/// Position of the first step among the parameters.
const FIRST: usize = KERNEL.params.len() - STEPS;

/// What a step does with its sources.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StepOp {
    /// `a + b`
    Add = 1,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
    /// `b` where `a` is negative, else `a`.
    IfNegative,
    /// `-a`
    Neg,
    /// `|a|`
    Abs,
    /// Square root.
    Sqrt,
    /// `e^a`
    Exp,
    /// Natural logarithm.
    Log,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-a)`
    Sigmoid,
    /// Gauss error function.
    Erf,
    /// `ln(1 + e^a)`
    Softplus,
}

impl StepOp {
    /// All, by number.
    pub const ALL: [StepOp; 16] = [
        StepOp::Add,
        StepOp::Sub,
        StepOp::Mul,
        StepOp::Div,
        StepOp::Max,
        StepOp::Min,
        StepOp::IfNegative,
        StepOp::Neg,
        StepOp::Abs,
        StepOp::Sqrt,
        StepOp::Exp,
        StepOp::Log,
        StepOp::Tanh,
        StepOp::Sigmoid,
        StepOp::Erf,
        StepOp::Softplus,
    ];

    /// Whether it has a second source.
    pub fn is_binary(self) -> bool {
        self <= StepOp::IfNegative
    }

    /// Whether it takes a polynomial: what makes a chain worth the kernel.
    pub fn is_transcendental(self) -> bool {
        self >= StepOp::Exp
    }
}

/// Where a step reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Operand 0 to 2.
    Operand(u8),
    /// The result of an earlier step.
    Step(u8),
    /// The constant of the step, as its bits.
    Constant(u32),
}

/// One step of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// What it computes.
    pub op: StepOp,
    /// First source.
    pub a: Source,
    /// Second source of binary ones. At most one of the two is a constant.
    pub b: Option<Source>,
}

/// Code of the constant among sources, and of no source.
const CONSTANT: u8 = 254;
const NONE: u8 = 255;

impl Step {
    /// As a parameter: from bit 48 on the operation, from 40 and 32 on the sources (0 to 2 operands, 3 and more steps, 254
    /// the constant, 255 none), below these the bits of the constant.
    pub fn encode(&self) -> i64 {
        let mut constant = 0;
        let mut code = |source: Source| match source {
            Source::Operand(i) => i,
            Source::Step(i) => i + OPERANDS as u8,
            Source::Constant(bits) => {
                constant = bits;
                CONSTANT
            }
        };
        let (a, b) = (code(self.a), self.b.map_or(NONE, &mut code));
        (self.op as i64) << 48 | i64::from(a) << 40 | i64::from(b) << 32 | i64::from(constant)
    }

    /// The step that a parameter says, if it says one.
    pub fn decode(param: i64) -> Option<Step> {
        let byte = |shift: u32| (param >> shift) as u8;
        let source = |code: u8| match code {
            CONSTANT => Some(Source::Constant(param as u32)),
            code if usize::from(code) < OPERANDS => Some(Source::Operand(code)),
            code if usize::from(code) < OPERANDS + STEPS => Some(Source::Step(code - OPERANDS as u8)),
            _ => None,
        };
        let op = *StepOp::ALL.get(usize::from(byte(48)).checked_sub(1)?)?;
        let step = Step {
            op,
            a: source(byte(40))?,
            b: source(byte(32)),
        };
        let constants = [Some(step.a), step.b].into_iter().flatten();
        let one = constants.filter(|s| matches!(s, Source::Constant(_))).count() <= 1;
        (one && step.b.is_some() == op.is_binary() && step.encode() == param).then_some(step)
    }
}

/// What is wrong with the program in these parameters of a call, if anything: what is no step, or reads what is not there.
pub(super) fn bad_program(params: &[i64]) -> Option<String> {
    let of = |name| KERNEL.params.iter().position(|&n| n == name).map(|at| params[at]);
    let count = of("steps").and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    params[FIRST..].iter().enumerate().find_map(|(k, &param)| {
        let bad = || Some(format!("parameter step_{k} = {param} is no step of a program"));
        if k >= count {
            return if param == 0 { None } else { bad() };
        }
        let readable = |source: Source| match source {
            Source::Operand(0) | Source::Constant(_) => true,
            Source::Operand(i) => of(if i == 1 { "has_b" } else { "has_c" }) == Some(1),
            Source::Step(i) => usize::from(i) < k,
        };
        match Step::decode(param) {
            Some(step) if readable(step.a) && step.b.is_none_or(readable) => None,
            _ => bad(),
        }
    })
}

fn body(b: &mut FuncBuilder, call: &KernelCall) {
    let p = Params::of(&KERNEL, call);
    let (Some(Some(a)), Some(Some(y))) = (call.operands.first(), call.operands.get(3)) else {
        return;
    };
    let operands = [Some(a.clone()), p.optional(1, "has_b"), p.optional(2, "has_c")];
    let strides = ["as_r", "bs_r", "cs_r"].map(|name| p.get(name));
    let count = usize::try_from(p.get("steps")).unwrap_or(0);
    let steps: Vec<Step> = call.params[FIRST..]
        .iter()
        .take(count)
        .filter_map(|&s| Step::decode(s))
        .collect();
    let at = |view: &View, stride: i64, row: &Affine, i: &Affine| {
        view.offset.clone() + row.clone() * stride + i.clone()
    };
    let element = |b: &mut FuncBuilder, lanes: u8, row: &Affine, i: Affine| {
        let ty = Ty::vector(DType::F32, lanes);
        let loaded: Vec<Option<Val>> = operands
            .iter()
            .zip(strides)
            .map(|(o, stride)| {
                let o = o.as_ref()?;
                Some(b.load(ty, o.buffer, at(o, stride, row, &i)))
            })
            .collect();
        if let Some(result) = run(b, ty, &steps, &loaded) {
            b.store(y.buffer, at(y, p.get("ys_r"), row, &i), result);
        }
    };
    const LANES: i64 = 4;
    let columns = p.get("columns");
    let main = columns - columns % LANES;
    b.for_range(call.begin.clone(), call.end.clone(), 1, |b, row| {
        b.for_range(0, main, LANES, |b, i| element(b, LANES as u8, &row, i));
        b.for_range(main, columns, 1, |b, i| element(b, 1, &row, i));
    });
}

/// Emits a program on values of its operands; the result of its last step.
fn run(b: &mut FuncBuilder, ty: Ty, steps: &[Step], operands: &[Option<Val>]) -> Option<Val> {
    let mut results: Vec<Val> = Vec::new();
    for step in steps {
        let value = |b: &mut FuncBuilder, source| match source {
            Source::Operand(i) => operands.get(usize::from(i)).copied().flatten(),
            Source::Step(i) => results.get(usize::from(i)).copied(),
            Source::Constant(bits) => Some(b.f32(ty.lanes, f32::from_bits(bits))),
        };
        let x = value(b, step.a)?;
        let y = match step.b {
            Some(source) => value(b, source)?,
            None => x,
        };
        results.push(apply(b, step.op, x, y));
    }
    results.last().copied()
}

fn apply(b: &mut FuncBuilder, op: StepOp, x: Val, y: Val) -> Val {
    match op {
        StepOp::Add => b.add(x, y),
        StepOp::Sub => b.sub(x, y),
        StepOp::Mul => b.mul(x, y),
        StepOp::Div => b.div(x, y),
        StepOp::Max => {
            let larger = b.max(x, y);
            keep_nan(b, x, larger)
        }
        StepOp::Min => {
            let smaller = b.min(x, y);
            keep_nan(b, x, smaller)
        }
        StepOp::IfNegative => {
            let zero = b.f32(b.ty(x).lanes, 0.0);
            let negative = b.compare(CompareOp::Lt, x, zero);
            b.select(negative, y, x)
        }
        StepOp::Neg => b.arith1(Arith1::Neg, x),
        StepOp::Abs => b.arith1(Arith1::Abs, x),
        StepOp::Sqrt => b.arith1(Arith1::Sqrt, x),
        StepOp::Exp => math::exp(b, x),
        StepOp::Log => math::log(b, x),
        StepOp::Tanh => math::tanh(b, x),
        StepOp::Sigmoid => math::sigmoid(b, x),
        StepOp::Erf => math::erf(b, x),
        StepOp::Softplus => math::softplus(b, x),
    }
}

/// `x` if it is NaN, else `otherwise`, which is NaN if the other operand is.
fn keep_nan(b: &mut FuncBuilder, x: Val, otherwise: Val) -> Val {
    let is_nan = b.compare(CompareOp::Ne, x, x);
    b.select(is_nan, x, otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(steps: &[i64]) -> Vec<i64> {
        let mut params = vec![0; KERNEL.params.len()];
        params[7] = steps.len() as i64;
        params[FIRST..FIRST + steps.len()].copy_from_slice(steps);
        params
    }

    #[test]
    fn steps_survive_being_parameters() {
        let sources = [Source::Operand(2), Source::Step(15), Source::Constant(u32::MAX)];
        for op in StepOp::ALL {
            for a in sources {
                let b = op.is_binary().then_some(Source::Operand(0));
                let step = Step { op, a, b };
                assert_eq!(Step::decode(step.encode()), Some(step));
            }
        }
    }

    #[test]
    fn a_program_reads_only_what_is_there() {
        let step = |op, a, b| Step { op, a, b }.encode();
        let exp = step(StepOp::Exp, Source::Operand(0), None);
        let of = |k| step(StepOp::Abs, Source::Step(k), None);
        assert_eq!(KERNEL.bad_params(&call(&[exp, of(0), of(1)])), None);
        let absent = step(StepOp::Add, Source::Operand(0), Some(Source::Operand(1)));
        let constants = step(StepOp::Add, Source::Constant(1), Some(Source::Constant(2)));
        let lonely = step(StepOp::Add, Source::Operand(0), None);
        let crowded = step(StepOp::Exp, Source::Operand(0), Some(Source::Operand(0)));
        for bad in [
            absent,
            constants,
            lonely,
            crowded,
            of(0),
            of(15),
            0,
            -1,
            17 << 48,
            exp | 1,
            exp | 200 << 40,
        ] {
            let reason = KERNEL.bad_params(&call(&[bad])).expect("refused");
            assert!(reason.contains("step_0"), "{reason}");
        }
        let mut params = call(&[exp]);
        params[FIRST + 3] = exp;
        assert!(KERNEL.bad_params(&params).is_some());
        assert!(KERNEL.bad_params(&call(&[])).is_some());
    }
}
