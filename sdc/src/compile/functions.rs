//! What each function of a compiled model computes and touches, for profiles.

use sdc_ir::analysis::macs;
use sdc_ir::graph::Origin;
use sdc_ir::tile::{Buffer, Inst, Stmt};
use sdc_passes::pass::Remark;
use sdc_passes::pipeline::{Compiled, SCHEDULE};
use std::collections::{BTreeMap, BTreeSet};

/// One function of the compiled model.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name in the tile IR.
    pub name: String,
    /// The user's nodes it comes from.
    pub origins: Vec<Origin>,
    /// Kernels it calls; none if it is made of loops.
    pub kernels: Vec<String>,
    /// Multiply-accumulates by ONNX's definition of its operators.
    pub macs: u64,
    /// Bytes of the buffers it touches, each counted once.
    pub bytes: u64,
    /// Tasks that may run concurrently.
    pub tasks: u64,
    /// What the schedule pass weighed for its nodes, and why it decided so.
    pub remarks: Vec<String>,
}

/// The functions of a model, in the order they run.
pub fn of(compiled: &Compiled) -> Vec<Function> {
    let module = &compiled.lowered.module;
    // Work of the node each function was made from: the one with the same origins.
    let mut work: BTreeMap<&[Origin], u64> = BTreeMap::new();
    for node in compiled.graph.nodes().values() {
        let most = work.entry(&node.origins).or_default();
        *most = macs::of(&compiled.graph, node).max(*most);
    }
    module
        .funcs
        .iter()
        .map(|func| {
            let (mut buffers, mut kernels) = (BTreeSet::new(), BTreeSet::new());
            touched(&func.body, &mut buffers, &mut kernels);
            let bytes = buffers.iter().map(|&b: &Buffer| {
                let data = &module.buffers[b];
                (data.len * data.dtype.size()) as u64
            });
            Function {
                name: func.name.clone(),
                origins: func.origins.clone(),
                kernels: kernels.into_iter().collect(),
                macs: work.get(&func.origins[..]).copied().unwrap_or(0),
                bytes: bytes.sum(),
                tasks: sdc_lower::tasks(func).unwrap_or(1),
                remarks: decisions(&compiled.remarks, &func.origins, |_| true),
            }
        })
        .collect()
}

/// The schedule pass's remarks by such rules on a node with these origins.
pub fn decisions(remarks: &[Remark], origins: &[Origin], rules: impl Fn(&str) -> bool) -> Vec<String> {
    let Some(first) = origins.first().map(ToString::to_string) else {
        return Vec::new();
    };
    let of_node = |r: &&Remark| r.pass == SCHEDULE && rules(r.rule) && r.origins.first() == Some(&first);
    let text = |r: &Remark| format!("{}{}: {}", if r.done { "" } else { "no " }, r.rule, r.reason);
    remarks.iter().filter(of_node).map(text).collect()
}

fn touched(stmts: &[Stmt], buffers: &mut BTreeSet<Buffer>, kernels: &mut BTreeSet<String>) {
    for stmt in stmts {
        match stmt {
            Stmt::Let(_, Inst::Load { buffer, .. } | Inst::LoadSplat { buffer, .. })
            | Stmt::Store { buffer, .. } => {
                buffers.insert(*buffer);
            }
            Stmt::Let(..) => {}
            Stmt::For(f) => touched(&f.body, buffers, kernels),
            Stmt::Kernel(call) => {
                kernels.insert(call.kernel.clone());
                buffers.extend(call.operands.iter().flatten().map(|view| view.buffer));
            }
        }
    }
}
