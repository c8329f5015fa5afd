//! Which kernel calls stay calls.

use sdc_ir::registry;
use sdc_ir::tile::{Func, KernelCall, Stmt};
use std::borrow::Cow;

/// The function with each call of a kernel that is not `available` replaced by the kernel's body.
pub fn expand<'f>(func: &'f Func, available: impl Fn(&str) -> bool) -> Cow<'f, Func> {
    let mut missing = false;
    visit(&func.body, &mut |call| missing |= !available(&call.kernel));
    if missing {
        Cow::Owned(registry::expand(func, |call| !available(&call.kernel)))
    } else {
        Cow::Borrowed(func)
    }
}

/// The largest number of operands of any kernel call: the room a call's pointer array needs.
pub fn operand_slots(func: &Func) -> usize {
    let mut slots = 0;
    visit(&func.body, &mut |call| slots = slots.max(call.operands.len()));
    slots
}

fn visit(stmts: &[Stmt], see: &mut impl FnMut(&KernelCall)) {
    for stmt in stmts {
        match stmt {
            Stmt::Kernel(call) => see(call),
            Stmt::For(f) => visit(&f.body, see),
            Stmt::Let(..) | Stmt::Store { .. } => {}
        }
    }
}
