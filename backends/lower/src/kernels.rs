//! Which kernel calls stay calls.

use crate::LowerError;
use sdc_ir::registry;
use sdc_ir::tile::{Func, KernelCall, Stmt};
use std::borrow::Cow;

/// The function with each call of a kernel that is not `available` replaced by the kernel's body.
///
/// # Errors
/// A kernel that is not in the registry, or a call that does not match its entry there.
pub fn expand<'f>(func: &'f Func, available: impl Fn(&str) -> bool) -> Result<Cow<'f, Func>, LowerError> {
    let mut result = Ok(());
    let mut missing = false;
    visit(&func.body, &mut |call| {
        missing |= !available(&call.kernel);
        if result.is_ok() {
            result = check(call);
        }
    });
    result?;
    Ok(if missing {
        Cow::Owned(registry::expand(func, |call| !available(&call.kernel)))
    } else {
        Cow::Borrowed(func)
    })
}

/// The largest number of operands of any kernel call: the room a call's pointer array needs.
pub fn operand_slots(func: &Func) -> usize {
    let mut slots = 0;
    visit(&func.body, &mut |call| slots = slots.max(call.operands.len()));
    slots
}

fn check(call: &KernelCall) -> Result<(), LowerError> {
    let kernel =
        registry::find(&call.kernel).ok_or_else(|| LowerError::UnknownKernel(call.kernel.clone()))?;
    let arity = |what, expected, actual| {
        if expected == actual {
            return Ok(());
        }
        Err(LowerError::KernelArity {
            kernel: call.kernel.clone(),
            what,
            expected,
            actual,
        })
    };
    arity("operands", kernel.operands.len(), call.operands.len())?;
    arity("parameters", kernel.params.len(), call.params.len())
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
