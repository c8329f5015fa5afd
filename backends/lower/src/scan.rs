//! Looks ahead into a block: which affine expressions will be needed.

use crate::LowerError;
use sdc_ir::tile::{Affine, Buffer, Inst, Stmt};

/// Loops nested deeper than this are refused, so that a walk's recursion is bounded.
const MAX_DEPTH: usize = 64;

/// An affine expression a statement needs: an element's index, or a value of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use<'a> {
    Element(Buffer, &'a Affine),
    Value(&'a Affine),
}

/// Reports every use in a block and the loops within it, loop bounds excepted.
pub(crate) fn uses<'a>(stmts: &'a [Stmt], see: &mut impl FnMut(Use<'a>)) {
    for stmt in stmts {
        match stmt {
            Stmt::Let(_, Inst::Load { buffer, index } | Inst::LoadSplat { buffer, index })
            | Stmt::Store { buffer, index, .. } => see(Use::Element(*buffer, &index.affine)),
            Stmt::Let(_, Inst::AffineValue(affine)) => see(Use::Value(affine)),
            Stmt::Let(..) => {}
            Stmt::For(f) => uses(&f.body, see),
            Stmt::Kernel(call) => {
                for view in call.operands.iter().flatten() {
                    see(Use::Element(view.buffer, &view.offset));
                }
            }
        }
    }
}

/// True if a block contains a loop.
pub(crate) fn has_loop(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|s| matches!(s, Stmt::For(_)))
}

/// Refuses what the walk relies on not to meet.
pub(crate) fn check(stmts: &[Stmt], depth: usize) -> Result<(), LowerError> {
    if depth > MAX_DEPTH {
        return Err(LowerError::TooDeep(MAX_DEPTH));
    }
    for stmt in stmts {
        if let Stmt::For(f) = stmt {
            if f.step < 1 {
                return Err(LowerError::Step {
                    var: f.var,
                    step: f.step,
                });
            }
            check(&f.body, depth + 1)?;
        }
    }
    Ok(())
}
