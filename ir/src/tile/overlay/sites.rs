//! The places of a function, kernel bodies included, that touch buffers.

use crate::registry;
use crate::tile::verify::linear::Linear;
use crate::tile::{
    Affine, Bound, Buffer, Func, FuncBuilder, Index, Inst, KernelCall, Module, Stmt, Val, Var,
};

/// A load or store.
pub(super) struct Site {
    pub buffer: Buffer,
    pub write: bool,
    /// Its first byte; none if that is not known at compile time.
    pub at: Option<Linear>,
    /// How many it touches.
    pub bytes: i128,
    /// The loops around it, outermost first.
    pub loops: Vec<usize>,
    /// The kernel call it belongs to.
    pub call: Option<usize>,
    /// Position in the text: statements count before what they contain.
    pub order: usize,
}

pub(super) struct Loop {
    pub var: Var,
    pub lo: Vec<Linear>,
    pub hi: Vec<Linear>,
    pub step: i128,
}

/// The body of a kernel call, and the position of its first statement.
pub(super) struct Call {
    pub body: Vec<Stmt>,
    pub first: usize,
}

/// All accesses to the wanted buffers.
#[derive(Default)]
pub(super) struct Sites {
    pub all: Vec<Site>,
    /// Numbered in the order of the text, so that loops inside have greater numbers.
    pub loops: Vec<Loop>,
    pub calls: Vec<Call>,
}

impl Sites {
    pub fn of(module: &Module, func: &Func, wanted: &dyn Fn(Buffer) -> bool) -> Self {
        let mut walk = Walk {
            module,
            wanted,
            builder: FuncBuilder::extending(func),
            found: Sites::default(),
            around: Vec::new(),
            call: None,
            position: 0,
        };
        walk.block(&func.body);
        walk.found
    }

    /// The access at this position, if it is one to a wanted buffer.
    pub fn find(&self, order: usize) -> Option<&Site> {
        let at = self.all.binary_search_by_key(&order, |s| s.order).ok()?;
        self.all.get(at)
    }

    /// The access at this position.
    pub fn at(&self, order: usize) -> &Site {
        self.find(order).expect("a position that this list gave")
    }
}

/// The loops around both accesses.
pub(super) fn common<'a>(a: &'a Site, b: &Site) -> &'a [usize] {
    let equal = a.loops.iter().zip(&b.loops).take_while(|(x, y)| x == y);
    &a.loops[..equal.count()]
}

struct Walk<'a> {
    module: &'a Module,
    wanted: &'a dyn Fn(Buffer) -> bool,
    /// Gives the bodies of kernels values and variables of their own.
    builder: FuncBuilder,
    found: Sites,
    around: Vec<usize>,
    call: Option<usize>,
    position: usize,
}

impl Walk<'_> {
    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.position += 1;
            match stmt {
                Stmt::Let(val, Inst::Load { buffer, index }) => {
                    self.access(*buffer, false, index, self.lanes(*val))
                }
                Stmt::Let(_, Inst::LoadSplat { buffer, index }) => self.access(*buffer, false, index, 1),
                Stmt::Let(..) => {}
                Stmt::Store { buffer, index, value } => self.access(*buffer, true, index, self.lanes(*value)),
                Stmt::For(l) => {
                    let linear = |b: &Bound| b.exprs().iter().map(Linear::of).collect();
                    self.around.push(self.found.loops.len());
                    self.found.loops.push(Loop {
                        var: l.var,
                        lo: linear(&l.lo),
                        hi: linear(&l.hi),
                        step: l.step.max(1).into(),
                    });
                    self.block(&l.body);
                    self.around.pop();
                }
                Stmt::Kernel(call) => self.kernel(call),
            }
        }
    }

    fn lanes(&self, val: Val) -> i128 {
        self.builder.ty(val).lanes.into()
    }

    fn kernel(&mut self, call: &KernelCall) {
        let touched = call.operands.iter().flatten().any(|v| (self.wanted)(v.buffer));
        if !touched {
            return;
        }
        match registry::find(&call.kernel) {
            Some(kernel) if kernel.bad_params(&call.params).is_none() => {
                let body = self.builder.block(|b| (kernel.body)(b, call));
                self.call = Some(self.found.calls.len());
                let (first, known) = (self.position, self.found.all.len());
                self.block(&body);
                self.found.calls.push(Call { body, first });
                // What the body does without native code may have a use for.
                for view in call.operands.iter().flatten() {
                    if self.found.all[known..].iter().all(|s| s.buffer != view.buffer) {
                        self.position += 1;
                        self.push(view.buffer, false, None, 1);
                    }
                }
                self.call = None;
            }
            // The verifier refuses it; until then it may do anything.
            _ => {
                for view in call.operands.iter().flatten() {
                    for write in [true, false] {
                        self.position += 1;
                        self.push(view.buffer, write, None, 1);
                    }
                }
            }
        }
    }

    fn access(&mut self, buffer: Buffer, write: bool, index: &Index, lanes: i128) {
        let at = index.offset.is_none().then_some(&index.affine);
        self.push(buffer, write, at, lanes);
    }

    fn push(&mut self, buffer: Buffer, write: bool, at: Option<&Affine>, lanes: i128) {
        if !(self.wanted)(buffer) {
            return;
        }
        let size = self.module.buffers[buffer].dtype.size() as i128;
        self.found.all.push(Site {
            buffer,
            write,
            at: at.and_then(|at| Linear::constant(0).plus(size, &Linear::of(at))),
            bytes: lanes * size,
            loops: self.around.clone(),
            call: self.call,
            order: self.position,
        });
    }
}
