//! The kernel registry: which micro-kernels a tile function may call, and what each one means.
//!
//! An entry gives a kernel's name, operands, parameters and range, *and its body in plain tile IR*. The body is the
//! meaning: the interpreter runs it, targets without the kernel compile it ([`expand`]), and randomised tests hold the
//! native kernels against it. Native code lives in `backends/kernels`, which knows nothing of this crate.
//!
//! The body also says which operands may lie in the place of the result: those of which no element is read for another element of the
//! result than the one at its place, unless loops of their own separate the reading from the writing
//! ([`overlay`](crate::tile::overlay)). Native code may work in any order and in tiles of any size, but must be right in place there.

pub mod add_i8;
mod call;
mod conv2d;
pub mod conv2d_i8;
mod depthwise2d;
mod depthwise2d_i8;
mod gemm;
mod layer_norm;
pub mod map;
mod max_pool2d_i8;
mod pool2d;
mod quantize_f32;
pub mod requantise;
mod row;
mod sd_rebuild;
mod softmax;
pub mod sparse2d;
mod sparse2d_i8;
mod window;
pub mod winograd;

use crate::tile::{For, Func, FuncBuilder, KernelCall, Stmt};

/// How a kernel uses an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Read.
    Read,
    /// Read if present.
    ReadOptional,
    /// Written; may be read back by the kernel itself.
    Write,
}

/// One operand of a kernel: a view of an `f32` buffer unless its documentation says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// Name.
    pub name: &'static str,
    /// Use.
    pub role: Role,
}

impl Operand {
    const fn read(name: &'static str) -> Operand {
        let role = Role::Read;
        Operand { name, role }
    }

    const fn optional(name: &'static str) -> Operand {
        let role = Role::ReadOptional;
        Operand { name, role }
    }

    const fn write(name: &'static str) -> Operand {
        let role = Role::Write;
        Operand { name, role }
    }
}

/// A registry entry.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Name, as in [`KernelCall::kernel`].
    pub name: &'static str,
    /// Operands in order.
    pub operands: &'static [Operand],
    /// Parameter names in order.
    pub params: &'static [&'static str],
    /// What the work range counts.
    pub range: &'static str,
    /// Emits the kernel's body for one call.
    pub body: fn(&mut FuncBuilder, &KernelCall),
}

impl Kernel {
    /// The optional operand that the parameters of a call say is there (`has_NAME`), and that is absent.
    pub fn missing_operand(&self, call: &KernelCall) -> Option<&'static str> {
        let said = |name: &str| {
            let flag = self
                .params
                .iter()
                .position(|p| p.strip_prefix("has_") == Some(name));
            flag.and_then(|at| call.params.get(at))
                .is_some_and(|&has| has != 0)
        };
        let mut operands = self.operands.iter().zip(&call.operands);
        operands.find_map(|(o, view)| (view.is_none() && said(o.name)).then_some(o.name))
    }

    /// What is wrong with the parameters of a call, if anything: their number, steps and block sizes below 1, negative
    /// sizes, an unknown activation, a program that reads what is not there, or numbers so large that index arithmetic could overflow.
    pub fn bad_params(&self, params: &[i64]) -> Option<String> {
        /// Far above any tensor, and low enough that products of two stay in 64 bits.
        const LARGEST: i64 = 1 << 31;
        if params.len() != self.params.len() {
            return Some(format!(
                "has {} parameters, needs {}",
                params.len(),
                self.params.len()
            ));
        }
        let bad = self.params.iter().zip(params).find_map(|(&name, &value)| {
            let allowed = match name {
                "sh" | "sw" | "dh" | "dw" | "nr" | "lanes" => 1..=LARGEST,
                "act" => 0..=3,
                "steps" => 1..=map::STEPS as i64,
                // What they say is looked at below.
                name if name.starts_with("step_") => i64::MIN..=i64::MAX,
                "tile" => 2..=4,
                "bytes" => 1..=4,
                "tiles" | "band" | "copied" | "phases" | "width" => 1..=LARGEST,
                // Bodies are unrolled over these.
                "s" | "r" | "magnitudes" | "basis_bits" => 1..=8,
                "row_bits" => 1..=40,
                "slice_rows" | "basis_filters" | "n1" | "n2" => 1..=LARGEST,
                "half" | "nibbles" | "log" | "mean" => 0..=1,
                "index_filters" => 0..=LARGEST,
                name if name.starts_with("at_") => 0..=LARGEST,
                "alphabet_lo" | "alphabet_hi" | "act_a" | "act_b" | "epsilon" => 0..=i64::from(u32::MAX),
                "has_bias" | "has_residual" | "has_b" | "has_c" => 0..=1,
                "a_signed" | "b_signed" | "x_signed" | "y_signed" => 0..=1,
                "planes" => 1..=2,
                "y_shift" => 0..=62,
                "a_zero" | "b_zero" | "x_zero" | "y_zero" | "y_min" | "y_max" => -128..=255,
                name if name == "pt" || name == "pl" || name.contains('s') && name.contains('_') => {
                    -LARGEST..=LARGEST
                }
                _ => 0..=LARGEST,
            };
            (!allowed.contains(&value)).then(|| format!("parameter {name} = {value} is out of range"))
        });
        let of = |name| self.params.iter().position(|&n| n == name).map(|at| params[at]);
        let bad =
            bad.or_else(|| (of("tile") == Some(3)).then(|| "parameter tile = 3 is out of range".to_owned()));
        let bad = bad.or_else(|| of("steps").and_then(|_| map::bad_program(params)));
        bad.or_else(|| match (of("nr"), of("lanes")) {
            (Some(nr), Some(lanes)) if nr % lanes != 0 => {
                Some(format!("nr = {nr} is not a multiple of lanes = {lanes}"))
            }
            _ => None,
        })
    }
}

/// Every kernel, in name order.
pub const KERNELS: &[Kernel] = &[
    add_i8::KERNEL,
    conv2d::KERNEL,
    conv2d_i8::KERNEL,
    depthwise2d::KERNEL,
    depthwise2d_i8::KERNEL,
    gemm::KERNEL,
    layer_norm::KERNEL,
    map::KERNEL,
    max_pool2d_i8::KERNEL,
    add_i8::PRODUCT,
    pool2d::KERNEL,
    quantize_f32::KERNEL,
    sd_rebuild::KERNEL,
    sd_rebuild::INTEGERS,
    softmax::KERNEL,
    sparse2d::KERNEL,
    sparse2d_i8::KERNEL,
    winograd::KERNEL,
];

/// The kernel with this name.
pub fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|k| k.name == name)
}

/// The function with each kernel call for which `replace` holds replaced by the kernel's body. Calls of unknown kernels
/// and calls with bad parameters stay; the verifier names them.
pub fn expand(func: &Func, replace: impl Fn(&KernelCall) -> bool) -> Func {
    let mut b = FuncBuilder::extending(func);
    expand_block(&mut b, &func.body, &replace);
    b.finish(func.name.clone(), func.origins.clone())
}

fn expand_block(b: &mut FuncBuilder, stmts: &[Stmt], replace: &dyn Fn(&KernelCall) -> bool) {
    for stmt in stmts {
        match stmt {
            Stmt::Kernel(call) if replace(call) => match find(&call.kernel) {
                Some(kernel) if kernel.bad_params(&call.params).is_none() => (kernel.body)(b, call),
                _ => b.push(stmt.clone()),
            },
            Stmt::For(f) => {
                let body = b.block(|b| expand_block(b, &f.body, replace));
                b.push(Stmt::For(For { body, ..f.clone() }));
            }
            other => b.push(other.clone()),
        }
    }
}
