//! From when to when a buffer is needed.

use super::by_buffer;
use sdc_ir::entity::Arena;
use sdc_ir::tile::{Buffer, Inst, Module, Stmt};
use serde::Serialize;

/// First and last function (by index, both included) that touches a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Lifetime {
    /// First.
    pub first: usize,
    /// Last.
    pub last: usize,
}

/// The lifetime of every buffer of a module, whatever its kind; `None` for those no function touches.
pub fn lifetimes(module: &Module) -> Arena<Buffer, Option<Lifetime>> {
    let mut lives: Arena<Buffer, Option<Lifetime>> = by_buffer(module, None);
    for (time, func) in module.funcs.iter().enumerate() {
        touched(&func.body, &mut |buffer| {
            let life = lives[buffer].get_or_insert(Lifetime {
                first: time,
                last: time,
            });
            life.last = time;
        });
    }
    lives
}

fn touched(stmts: &[Stmt], visit: &mut impl FnMut(Buffer)) {
    for stmt in stmts {
        match stmt {
            Stmt::Let(_, Inst::Load { buffer, .. } | Inst::LoadSplat { buffer, .. }) => visit(*buffer),
            Stmt::Let(..) => {}
            Stmt::Store { buffer, .. } => visit(*buffer),
            Stmt::For(f) => touched(&f.body, visit),
            Stmt::Kernel(call) => call.operands.iter().flatten().for_each(|view| visit(view.buffer)),
        }
    }
}
