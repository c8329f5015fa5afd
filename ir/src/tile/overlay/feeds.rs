//! What is computed from a loaded value.

use super::sites::Call;
use crate::tile::{For, Inst, Stmt, Val};
use std::collections::BTreeMap;

/// A store of something that depends on the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fed {
    /// Its position in the text.
    pub order: usize,
    /// Whether lanes of the value may have come into other lanes.
    pub mixed: bool,
}

/// The stores of a kernel's body that depend on what the load at `read` found.
pub(super) fn stores(call: &Call, read: usize) -> Vec<Fed> {
    let mut flow = Flow {
        read,
        position: call.first,
        mixed: BTreeMap::new(),
        fed: Vec::new(),
    };
    flow.block(&call.body);
    flow.fed
}

struct Flow {
    read: usize,
    position: usize,
    /// Per value that depends on it, whether lanes may be mixed.
    mixed: BTreeMap<Val, bool>,
    fed: Vec<Fed>,
}

impl Flow {
    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            self.position += 1;
            match stmt {
                Stmt::Let(val, _) if self.position == self.read => {
                    self.mixed.insert(*val, false);
                }
                Stmt::Let(val, inst) => self.compute(*val, inst),
                Stmt::Store { value, index, .. } => {
                    // Where it goes is no matter of lanes.
                    if index.offset.is_some_and(|o| self.mixed.contains_key(&o)) {
                        self.store(true);
                    }
                    if let Some(&mixed) = self.mixed.get(value) {
                        self.store(mixed);
                    }
                }
                Stmt::For(l) => self.iterate(l),
                // Kernels do not call kernels.
                Stmt::Kernel(_) => {}
            }
        }
    }

    fn store(&mut self, mixed: bool) {
        let order = self.position;
        match self.fed.iter_mut().find(|f| f.order == order) {
            Some(known) => known.mixed |= mixed,
            None => self.fed.push(Fed { order, mixed }),
        }
    }

    fn compute(&mut self, val: Val, inst: &Inst) {
        let (operands, mixes): (Vec<Val>, bool) = match inst {
            // What is loaded by a computed offset depends on it in every lane.
            Inst::Load { index, .. } | Inst::LoadSplat { index, .. } => {
                (index.offset.into_iter().collect(), true)
            }
            Inst::Const(_) | Inst::AffineValue(_) => (Vec::new(), false),
            Inst::Arith1(_, x) | Inst::Convert(x) | Inst::Bitcast(x) => (vec![*x], false),
            Inst::Splat(x) | Inst::Fold(_, x) | Inst::Lane(x, _) => (vec![*x], true),
            Inst::Arith2(_, x, y) | Inst::Compare(_, x, y) => (vec![*x, *y], false),
            Inst::Fma(x, y, z) | Inst::Select(x, y, z) => (vec![*x, *y, *z], false),
        };
        let found: Vec<bool> = operands
            .iter()
            .filter_map(|v| self.mixed.get(v).copied())
            .collect();
        if !found.is_empty() {
            self.mark(val, mixes || found.contains(&true));
        }
    }

    fn mark(&mut self, val: Val, mixed: bool) -> bool {
        let before = self.mixed.get(&val).copied();
        let now = mixed || before == Some(true);
        self.mixed.insert(val, now);
        before != Some(now)
    }

    /// A loop's values until nothing new depends on the load.
    fn iterate(&mut self, l: &For) {
        let start = self.position;
        loop {
            let mut changed = false;
            for c in &l.carried {
                for from in [c.init, c.next] {
                    if let Some(&mixed) = self.mixed.get(&from) {
                        changed |= self.mark(c.arg, mixed) | self.mark(c.result, mixed);
                    }
                }
            }
            self.position = start;
            self.block(&l.body);
            let settled = l.carried.iter().all(|c| {
                self.mixed
                    .get(&c.next)
                    .is_none_or(|&m| self.mixed.get(&c.arg).is_some_and(|&a| a || !m))
            });
            if !changed && settled {
                return;
            }
        }
    }
}
