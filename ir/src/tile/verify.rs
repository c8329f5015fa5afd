//! The tile verifier: every fault of a module, in order, and the accesses it cannot prove.
//!
//! The laws, by [`Law`]:
//! - **Buffer**: buffers and weights exist; a constant has its weight's element type and length; inputs have distinct
//!   positions, and so have outputs; sizes do not overflow.
//! - **Name**: function names, also those that prepare, are not empty and differ from each other.
//! - **Origin**: every function has at least one origin.
//! - **Scope**: values and loop variables are defined once, before use, and used only inside the loop that defines them.
//! - **Type**: instructions, stores and carried values have the types their documentation asks for; lanes are at least
//!   one; constants fit their type.
//! - **Write**: inputs and constants are never written, nor passed to a kernel to be written; nor are prepared buffers, except by the
//!   functions that prepare, which touch only those and constants.
//! - **Loop**: steps are at least 1; only a loop that is the whole body of its function is `parallel`, and it carries
//!   nothing.
//! - **Kernel**: the registry knows the kernel, with this number of operands and fitting parameters; required operands are there, and those that parameters promise.
//! - **Bounds**: no access is outside its buffer. An access is a fault if it is certain to happen and to be outside in
//!   some iteration. One that is proved neither inside nor outside is legal, and listed by [`unproven`]; a lowering
//!   should leave none there but those with a run-time offset.
//!
//! Not checked: that iterations of a `parallel` loop are independent; what a kernel touches beyond the start of its views
//! and the meaning of its parameters (verify the [expanded](crate::registry::expand) functions for that); that buffers are
//! written before they are read; digests of weights.

mod bounds;
pub(super) mod linear;
mod types;

use super::{Affine, Bound, Buffer, BufferKind, For, Func, Index, KernelCall, Module, Stmt, Ty, Val};
use crate::DType;
use crate::entity::EntityId;
use crate::graph::Origin;
use crate::registry::{self, Role};
use bounds::{Loops, Proof};
use std::collections::BTreeSet;
use std::fmt;

/// What a fault violates; see the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "described in the module's documentation")]
pub enum Law {
    Buffer,
    Name,
    Origin,
    Scope,
    Type,
    Write,
    Loop,
    Kernel,
    Bounds,
}

/// One violation, or one access that could not be proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What is violated, or not proved.
    pub law: Law,
    /// The function at fault; `None` if it is a buffer.
    pub func: Option<String>,
    /// Origins of that function.
    pub origins: Vec<Origin>,
    /// What is wrong, with the ids concerned.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(func) = &self.func {
            write!(f, "func {func:?}: ")?;
        }
        f.write_str(&self.message)?;
        for (i, origin) in self.origins.iter().enumerate() {
            write!(f, "{}{origin}", if i == 0 { ", from " } else { ", " })?;
        }
        Ok(())
    }
}

/// Every violation of the laws, functions in order; empty for a sound module.
pub fn verify(module: &Module) -> Vec<Fault> {
    Verifier::run(module).faults
}

/// Every access, in order, that is neither proved to stay inside its buffer nor certain to leave it.
pub fn unproven(module: &Module) -> Vec<Fault> {
    Verifier::run(module).unproven
}

struct Verifier<'m> {
    module: &'m Module,
    func: Option<&'m Func>,
    /// The function is one that prepares.
    preparing: bool,
    /// Values of the function in scope, and those that ever were, by id.
    vals: Vec<Seen>,
    vars: Vec<Seen>,
    loops: Loops,
    faults: Vec<Fault>,
    unproven: Vec<Fault>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    InScope,
    OutOfScope,
}

impl<'m> Verifier<'m> {
    fn run(module: &'m Module) -> Self {
        let mut v = Self {
            module,
            func: None,
            preparing: false,
            vals: Vec::new(),
            vars: Vec::new(),
            loops: Loops::default(),
            faults: Vec::new(),
            unproven: Vec::new(),
        };
        v.buffers();
        let mut names = BTreeSet::new();
        let prepare = module.prepare.iter().map(|f| (f, true));
        for (func, preparing) in prepare.chain(module.funcs.iter().map(|f| (f, false))) {
            v.func = Some(func);
            v.preparing = preparing;
            v.vals = vec![Seen::Never; func.vals.len()];
            v.vars = vec![Seen::Never; func.vars.len()];
            if func.name.is_empty() {
                v.fault(Law::Name, "the name is empty".into());
            }
            if !names.insert(&func.name) {
                v.fault(Law::Name, "another function has this name".into());
            }
            if func.origins.is_empty() {
                v.fault(Law::Origin, "no origin".into());
            }
            let whole = func.body.len() == 1;
            v.block(&func.body, whole);
        }
        v
    }

    fn make(&self, law: Law, message: String) -> Fault {
        Fault {
            law,
            func: self.func.map(|f| f.name.clone()),
            origins: self.func.map_or(Vec::new(), |f| f.origins.clone()),
            message,
        }
    }

    fn fault(&mut self, law: Law, message: String) {
        let fault = self.make(law, message);
        self.faults.push(fault);
    }

    fn buffers(&mut self) {
        let (mut inputs, mut outputs) = (BTreeSet::new(), BTreeSet::new());
        let module = self.module;
        for (id, buffer) in module.buffers.iter() {
            if !crate::tensor::is_addressable(&[buffer.len]) {
                self.fault(Law::Buffer, format!("{id} has too many elements"));
            }
            match &buffer.kind {
                BufferKind::Input(n) if !inputs.insert(*n) => {
                    self.fault(Law::Buffer, format!("{id} is a second buffer for input {n}"));
                }
                BufferKind::Output(n) if !outputs.insert(*n) => {
                    self.fault(Law::Buffer, format!("{id} is a second buffer for output {n}"));
                }
                BufferKind::Const(w) => match module.weights.get(*w) {
                    None => self.fault(Law::Buffer, format!("{id}: {w} does not exist")),
                    Some(t) if (t.dtype(), t.len()) != (buffer.dtype, buffer.len) => {
                        let have = format!("{}[{}]", buffer.dtype, buffer.len);
                        self.fault(
                            Law::Buffer,
                            format!("{id} is {have}, its weight {w} {}[{}]", t.dtype(), t.len()),
                        );
                    }
                    Some(_) => {}
                },
                _ => {}
            }
        }
    }

    /// Verifies statements; what they define goes out of scope with the returned lists, which the caller closes.
    fn block(&mut self, stmts: &'m [Stmt], whole_body: bool) -> Vec<Val> {
        let mut defined = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::Let(val, inst) => {
                    self.inst(*val, inst);
                    self.define(*val, &mut defined);
                }
                Stmt::Store { buffer, index, value } => {
                    let what = format!("store {value}");
                    let ty = self.used(&what, *value);
                    self.writable(&what, *buffer);
                    if let Some(ty) = ty {
                        self.access(&what, *buffer, index, ty, ty.lanes);
                    }
                }
                Stmt::For(l) => self.for_(l, whole_body, &mut defined),
                Stmt::Kernel(call) => self.kernel(call),
            }
        }
        defined
    }

    fn close(&mut self, vals: Vec<Val>) {
        for val in vals {
            self.vals[val.index()] = Seen::OutOfScope;
        }
    }

    fn define(&mut self, val: Val, defined: &mut Vec<Val>) {
        match self.vals.get(val.index()) {
            None => self.fault(Law::Scope, format!("{val} does not exist")),
            Some(Seen::Never) => {
                self.vals[val.index()] = Seen::InScope;
                defined.push(val);
                let ty = self.ty(val);
                if ty.is_some_and(|ty| ty.lanes == 0) {
                    self.fault(Law::Type, format!("{val} has no lanes"));
                }
            }
            Some(_) => self.fault(Law::Scope, format!("{val} is defined twice")),
        }
    }

    fn ty(&self, val: Val) -> Option<Ty> {
        self.func?.vals.get(val).copied()
    }

    /// The type of a value that `what` uses; `None`, and a fault, if it is not in scope.
    fn used(&mut self, what: &str, val: Val) -> Option<Ty> {
        let problem = match self.vals.get(val.index()) {
            Some(Seen::InScope) => return self.ty(val),
            Some(Seen::OutOfScope) => "is out of scope",
            Some(Seen::Never) => "is not yet defined",
            None => "does not exist",
        };
        self.fault(Law::Scope, format!("{what}: {val} {problem}"));
        None
    }

    /// Faults for the loop variables of an expression that are not in scope; true if there are none.
    fn affine(&mut self, what: &str, affine: &Affine) -> bool {
        let mut sound = true;
        for &(var, _) in affine.terms() {
            if self.vars.get(var.index()) != Some(&Seen::InScope) {
                self.fault(Law::Scope, format!("{what}: {var} is not in scope"));
                sound = false;
            }
        }
        sound
    }

    fn bound(&mut self, what: &str, bound: &Bound) -> bool {
        let mut sound = true;
        for expr in bound.exprs() {
            sound &= self.affine(what, expr);
        }
        sound
    }

    fn for_(&mut self, l: &'m For, whole_body: bool, defined: &mut Vec<Val>) {
        let what = format!("for {}", l.var);
        // Not `&&`: each bound's faults are wanted.
        let sound = self.bound(&what, &l.lo) & self.bound(&what, &l.hi);
        if l.step < 1 {
            self.fault(Law::Loop, format!("{what}: the step is {}", l.step));
        }
        if l.parallel && !whole_body {
            let message = format!("{what} is parallel, but not the whole body of its function");
            self.fault(Law::Loop, message);
        }
        if l.parallel && !l.carried.is_empty() {
            self.fault(Law::Loop, format!("{what} is parallel and carries values"));
        }
        for c in &l.carried {
            self.used(&what, c.init);
        }
        let fresh = match self.vars.get(l.var.index()) {
            Some(Seen::Never) => true,
            Some(_) => {
                self.fault(Law::Scope, format!("{what}: the variable is defined twice"));
                false
            }
            None => {
                self.fault(Law::Scope, format!("{what}: the variable does not exist"));
                false
            }
        };
        if fresh {
            self.vars[l.var.index()] = Seen::InScope;
        }
        let mut args = Vec::new();
        for c in &l.carried {
            self.define(c.arg, &mut args);
        }
        self.loops.enter(l, sound && fresh && l.step >= 1);
        let body = self.block(&l.body, false);
        self.loops.leave();
        for c in &l.carried {
            self.used(&format!("{what}, next"), c.next);
            let types = [c.result, c.arg, c.init, c.next].map(|v| self.ty(v));
            if types.iter().any(|t| *t != types[0]) {
                let message = format!(
                    "{what}: {}, {}, {} and {} differ in type",
                    c.result, c.arg, c.init, c.next
                );
                self.fault(Law::Type, message);
            }
        }
        self.close(body);
        self.close(args);
        if fresh {
            self.vars[l.var.index()] = Seen::OutOfScope;
        }
        for c in &l.carried {
            self.define(c.result, defined);
        }
    }

    fn writable(&mut self, what: &str, buffer: Buffer) {
        let read_only = match self.module.buffers.get(buffer).map(|b| &b.kind) {
            Some(BufferKind::Input(_) | BufferKind::Const(_)) => true,
            Some(BufferKind::Prepared) => !self.preparing,
            Some(BufferKind::Output(_) | BufferKind::Temp) | None => false,
        };
        if read_only {
            self.fault(Law::Write, format!("{what}: {buffer} is read only"));
        }
    }

    /// A function that prepares has neither inputs nor an arena.
    fn reachable(&mut self, what: &str, kind: &BufferKind) {
        if self.preparing && !matches!(kind, BufferKind::Const(_) | BufferKind::Prepared) {
            self.fault(
                Law::Write,
                format!("{what} is out of reach of a function that prepares"),
            );
        }
    }

    /// An access of `count` elements of type `ty` from an index on.
    fn access(&mut self, what: &str, buffer: Buffer, index: &Index, ty: Ty, count: u8) {
        let what = format!("{what}, {buffer}");
        let sound = self.affine(&what, &index.affine);
        let offset = index.offset.and_then(|v| Some((v, self.used(&what, v)?)));
        if let Some((v, ty)) = offset
            && ty != Ty::scalar(DType::I64)
        {
            self.fault(
                Law::Type,
                format!("{what}: the offset {v} is {ty}, should be i64"),
            );
        }
        let Some(data) = self.module.buffers.get(buffer) else {
            return self.fault(Law::Buffer, format!("{what} does not exist"));
        };
        self.reachable(&what, &data.kind);
        if data.dtype != ty.dtype {
            self.fault(
                Law::Type,
                format!("{what} holds {}, accessed as {ty}", data.dtype),
            );
        }
        if index.offset.is_some() {
            let message = format!("{what}: [{}] has a run-time offset", index.affine);
            let unproven = self.make(Law::Bounds, message);
            self.unproven.push(unproven);
        } else if sound {
            self.in_bounds(&what, &index.affine, data.len, count.into());
        }
    }

    /// `count` elements from `at` on lie in an array of `len`.
    fn in_bounds(&mut self, what: &str, at: &Affine, len: usize, count: usize) {
        let proof = self.loops.inside(at, len, count);
        let elements = if count == 1 { "element" } else { "elements" };
        let range = |lo: Option<i64>, hi: Option<i64>| {
            let text = |x: Option<i64>| x.map_or_else(|| "?".to_owned(), |x| x.to_string());
            format!("[{at}] reaches from {} to {}", text(lo), text(hi))
        };
        match proof {
            Proof::Inside => {}
            Proof::Outside(lo, hi) => {
                let message = format!("{what}: {} of {len}, {count} {elements} each", range(lo, hi));
                self.fault(Law::Bounds, message);
            }
            Proof::Unknown(lo, hi) => {
                let message = format!(
                    "{what}: at most {} of {len}, {count} {elements} each",
                    range(lo, hi)
                );
                let unproven = self.make(Law::Bounds, message);
                self.unproven.push(unproven);
            }
        }
    }

    fn kernel(&mut self, call: &KernelCall) {
        let what = format!("kernel {}", call.kernel);
        self.bound(&what, &call.begin);
        self.bound(&what, &call.end);
        let known = registry::find(&call.kernel);
        match known {
            None => self.fault(Law::Kernel, format!("{what} is not in the registry")),
            Some(k) => {
                let (want, have) = (k.operands.len(), call.operands.len());
                if want != have {
                    self.fault(
                        Law::Kernel,
                        format!("{what} has {have} operands, should have {want}"),
                    );
                }
                if let Some(wrong) = k.bad_params(&call.params) {
                    self.fault(Law::Kernel, format!("{what}: {wrong}"));
                }
                if let Some(missing) = k.missing_operand(call) {
                    self.fault(
                        Law::Kernel,
                        format!("{what} has no {missing}, which its parameters promise"),
                    );
                }
            }
        }
        for (i, operand) in call.operands.iter().enumerate() {
            let registered = known.and_then(|k| k.operands.get(i));
            let name = registered.map_or_else(|| i.to_string(), |o| o.name.to_owned());
            let what = format!("{what}, operand {name}");
            let Some(view) = operand else {
                if registered.is_some_and(|o| o.role != Role::ReadOptional) {
                    self.fault(Law::Kernel, format!("{what} is required"));
                }
                continue;
            };
            let what = format!("{what}, {}", view.buffer);
            if registered.is_some_and(|o| o.role == Role::Write) {
                self.writable(&what, view.buffer);
            }
            let sound = self.affine(&what, &view.offset);
            if let Some(data) = self.module.buffers.get(view.buffer) {
                self.reachable(&what, &data.kind);
            }
            match self.module.buffers.get(view.buffer) {
                None => self.fault(Law::Buffer, format!("{what} does not exist")),
                Some(data) if sound => self.in_bounds(&what, &view.offset, data.len, 0),
                Some(_) => {}
            }
        }
    }
}
