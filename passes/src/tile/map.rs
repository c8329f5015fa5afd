//! Element-wise trees as programs of the kernel `map_f32`: which can be, and their steps.
//!
//! The kernel goes over strips with the target's widest vectors, where a loop nest has 128 bits, but each of its operators loads and
//! stores: cheap arithmetic alone stays a loop. Not here: trees whose operands broadcast within a row.

use super::elementwise::{Leaf, Tree};
use super::nest::{Ref, Rows};
use sdc_ir::DType;
use sdc_ir::graph::{BinaryOp, Node, Op, UnaryOp, Value};
use sdc_ir::registry::map::{OPERANDS, STEPS, Source, Step, StepOp};
use sdc_ir::schedule::Tasks;
use sdc_ir::tile::{FuncBuilder, KernelCall};

/// Fewest elements of a row for which the kernel is called: below, choosing the steps takes longer than they do.
const COLUMNS: i64 = 32;

/// The step for a function of one operand, if there is one.
pub fn function(op: UnaryOp) -> Option<StepOp> {
    Some(match op {
        UnaryOp::Abs => StepOp::Abs,
        UnaryOp::Neg => StepOp::Neg,
        UnaryOp::Exp => StepOp::Exp,
        UnaryOp::Log => StepOp::Log,
        UnaryOp::Sqrt => StepOp::Sqrt,
        UnaryOp::Tanh => StepOp::Tanh,
        UnaryOp::Sigmoid => StepOp::Sigmoid,
        UnaryOp::Erf => StepOp::Erf,
        UnaryOp::Softplus => StepOp::Softplus,
        _ => return None,
    })
}

/// A tree as a program of the kernel.
pub struct Program<'t, 's, 'g> {
    tree: &'t Tree<'s, 'g>,
    /// The rows it goes over.
    pub rows: Rows,
    steps: Vec<Step>,
    /// Results of operators so far.
    known: Vec<(Value, Source)>,
}

impl<'t, 's, 'g> Program<'t, 's, 'g> {
    /// The program of a tree.
    ///
    /// # Errors
    /// Why the kernel cannot compute it.
    pub fn of(tree: &'t Tree<'s, 'g>) -> Result<Self, String> {
        let operands = &tree.operands;
        if operands.len() > OPERANDS + 1 {
            return Err(format!(
                "{} operands, the kernel has {OPERANDS}",
                operands.len() - 1
            ));
        }
        let refs: Vec<&Ref> = operands.iter().collect();
        let rows = Rows::of(&refs)
            .filter(|r| r.columns >= COLUMNS)
            .ok_or("its operands have no long rows in common")?;
        let mut program = Self {
            tree,
            rows,
            steps: Vec::new(),
            known: Vec::new(),
        };
        program.node(tree.node)?;
        if program.steps.len() > STEPS {
            return Err(format!("{} steps, the kernel does {STEPS}", program.steps.len()));
        }
        Ok(program)
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The calls of the kernel.
    pub fn call(&self, operands: &[Ref], tasks: Tasks) -> FuncBuilder {
        let (rows, steps) = (&self.rows, &self.steps);
        let has = |i: usize| i64::from(i < operands.len());
        let stride = |i: usize| rows.strides.get(i).copied().unwrap_or(0);
        let mut params = vec![rows.columns];
        params.extend([stride(1), stride(2), stride(3), stride(0), has(2), has(3)]);
        params.push(steps.len() as i64);
        params.extend((0..STEPS).map(|k| steps.get(k).map_or(0, Step::encode)));
        let mut b = FuncBuilder::new();
        rows.emit(&mut b, tasks, |b, first, (begin, end)| {
            let view = |i: usize| operands.get(i).map(|r| rows.view(i, r, &first));
            b.kernel(KernelCall {
                kernel: "map_f32".to_owned(),
                params: params.clone(),
                operands: vec![view(1), view(2), view(3), view(0)],
                begin,
                end,
            });
        });
        b
    }

    fn value(&mut self, v: Value) -> Result<Source, String> {
        let graph = self.tree.scene.graph;
        let dtype = graph.ty(v).dtype;
        if dtype != DType::F32 {
            return Err(format!("{dtype} elements"));
        }
        if let Some(&(_, source)) = self.known.iter().find(|k| k.0 == v) {
            return Ok(source);
        }
        if let Some(leaf) = self.tree.leaves.iter().find(|l| l.value() == v) {
            return match leaf {
                // Operand 0 of the nest is the result.
                Leaf::Memory(_, at) => Ok(Source::Operand((at - 1) as u8)),
                Leaf::Scalar(_, x) => Ok(constant(*x as f32)),
                Leaf::Table(..) => Err("a table".to_owned()),
            };
        }
        let inner = graph.def_node(v).expect("what is no leaf is an inlined result");
        let source = self.node(inner)?;
        self.known.push((v, source));
        Ok(source)
    }

    fn push(&mut self, op: StepOp, a: Source, b: Option<Source>) -> Result<Source, String> {
        if let (Source::Constant(_), Some(Source::Constant(_))) = (a, b) {
            return Err("arithmetic of constants".to_owned());
        }
        // One too many is enough to refuse, and its number still fits.
        if self.steps.len() > STEPS {
            return Err(format!("more than {STEPS} steps"));
        }
        self.steps.push(Step { op, a, b });
        Ok(Source::Step((self.steps.len() - 1) as u8))
    }

    fn one(&mut self, op: StepOp, a: Source) -> Result<Source, String> {
        self.push(op, a, None)
    }

    fn two(&mut self, op: StepOp, a: Source, b: Source) -> Result<Source, String> {
        self.push(op, a, Some(b))
    }

    /// `x / by`, as a product with the reciprocal, which costs at most one unit in the last place and a quarter of the time.
    fn quotient(&mut self, x: Source, by: f32) -> Result<Source, String> {
        if (1e-30..1e30).contains(&by.abs()) {
            self.two(StepOp::Mul, x, constant(1.0 / by))
        } else {
            self.two(StepOp::Div, x, constant(by))
        }
    }

    /// `min(hi, max(lo, x))`
    fn clip(&mut self, x: Source, lo: f32, hi: f32) -> Result<Source, String> {
        if lo.is_nan() || hi.is_nan() {
            return Err("a bound that is no number".to_owned());
        }
        let x = self.two(StepOp::Max, constant(lo), x)?;
        self.two(StepOp::Min, constant(hi), x)
    }

    /// The steps of an operator and of what is inlined into it.
    fn node(&mut self, node: Node) -> Result<Source, String> {
        let graph = self.tree.scene.graph;
        let data = &graph.nodes()[node];
        let refused = || Err(format!("{} is no step", data.op.name()));
        if graph.ty(data.outputs[0]).dtype != DType::F32 {
            return refused();
        }
        let mut args = Vec::new();
        // Constant exponents are looked at below.
        let power = matches!(data.op, Op::Binary(BinaryOp::Pow));
        for &v in data.inputs.iter().take(if power { 1 } else { usize::MAX }) {
            args.push(self.value(v)?);
        }
        let x = args[0];
        match &data.op {
            Op::Unary(UnaryOp::Relu) => self.two(StepOp::Max, constant(0.0), x),
            Op::Unary(UnaryOp::Reciprocal) => self.two(StepOp::Div, constant(1.0), x),
            Op::Unary(op) => match function(*op) {
                Some(op) => self.one(op, x),
                None => Err(format!("{op:?} is no step")),
            },
            Op::Binary(BinaryOp::Pow) => {
                let exponent = self.tree.leaves.iter().find(|l| l.value() == data.inputs[1]);
                match exponent {
                    Some(Leaf::Scalar(_, 2.0)) => self.two(StepOp::Mul, x, x),
                    Some(Leaf::Scalar(_, 3.0)) => {
                        let square = self.two(StepOp::Mul, x, x)?;
                        self.two(StepOp::Mul, square, x)
                    }
                    _ => Err("a power other than the square and the cube".to_owned()),
                }
            }
            Op::Binary(op) => {
                let op = match op {
                    BinaryOp::Add => StepOp::Add,
                    BinaryOp::Sub => StepOp::Sub,
                    BinaryOp::Mul => StepOp::Mul,
                    BinaryOp::Div => StepOp::Div,
                    BinaryOp::Max => StepOp::Max,
                    BinaryOp::Min => StepOp::Min,
                    other => return Err(format!("{other:?} is no step")),
                };
                match (op, args[1]) {
                    (StepOp::Div, Source::Constant(bits)) => self.quotient(x, f32::from_bits(bits)),
                    (op, y) => self.two(op, x, y),
                }
            }
            Op::Clip(c) => self.clip(x, c.min, c.max),
            Op::LeakyRelu(l) => {
                let low = self.two(StepOp::Mul, x, constant(l.alpha))?;
                self.two(StepOp::IfNegative, x, low)
            }
            Op::Elu(e) => {
                let low = self.one(StepOp::Exp, x)?;
                let low = self.two(StepOp::Sub, low, constant(1.0))?;
                let low = self.two(StepOp::Mul, low, constant(e.alpha))?;
                self.two(StepOp::IfNegative, x, low)
            }
            Op::HardSigmoid(h) => {
                let y = self.two(StepOp::Mul, x, constant(h.alpha))?;
                let y = self.two(StepOp::Add, y, constant(h.beta))?;
                self.clip(y, 0.0, 1.0)
            }
            _ => refused(),
        }
    }
}

fn constant(x: f32) -> Source {
    Source::Constant(x.to_bits())
}
