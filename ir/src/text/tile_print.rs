//! Printing tile modules.

use super::graph_print::{origins, separated};
use super::quote::{Quoted, WordOrQuoted};
use super::{VERSION, weights};
use crate::DType;
use crate::registry;
use crate::tile::{Bound, BufferKind, For, Func, Index, Inst, KernelCall, Module, Stmt, Ty, Val, View};
use std::fmt::{self, Display, Formatter};

impl Display for Module {
    /// The module's text form, one statement per line; see `docs/ir.md`. Ids are printed as they are: renumber first
    /// for a stable text.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "sdir {VERSION} tile")?;
        writeln!(f, "module {} {{", Quoted(&self.name))?;
        for (id, buffer) in self.buffers.iter() {
            write!(f, "  {id} = ")?;
            match &buffer.kind {
                BufferKind::Input(n) => write!(f, "input {n}")?,
                BufferKind::Output(n) => write!(f, "output {n}")?,
                BufferKind::Const(w) => write!(f, "const {w}")?,
                BufferKind::Temp => f.write_str("temp")?,
                BufferKind::Prepared => f.write_str("prepared")?,
            }
            writeln!(f, " {}[{}] {}", buffer.dtype, buffer.len, Quoted(&buffer.name))?;
        }
        let prepare = self.prepare.iter().map(|f| ("prepare", f));
        for (word, func) in prepare.chain(self.funcs.iter().map(|f| ("func", f))) {
            write!(f, "  {word} {}", Quoted(&func.name))?;
            origins(&func.origins, f)?;
            writeln!(f, " {{")?;
            block(func, &func.body, 2, f)?;
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")?;
        weights::print(&self.weights, f)
    }
}

fn block(func: &Func, stmts: &[Stmt], depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
    for stmt in stmts {
        indent(depth, f)?;
        match stmt {
            Stmt::Let(val, inst) => {
                typed(func, *val, f)?;
                f.write_str(" = ")?;
                self::inst(func.vals.get(*val).copied(), inst, f)?;
            }
            Stmt::Store { buffer, index, value } => {
                write!(f, "store {buffer}[")?;
                self::index(index, f)?;
                write!(f, "], {value}")?;
            }
            Stmt::For(l) => {
                self::loop_(func, l, depth, f)?;
                indent(depth, f)?;
                f.write_str("}")?;
            }
            Stmt::Kernel(call) => kernel(call, f)?,
        }
        writeln!(f)?;
    }
    Ok(())
}

fn indent(depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{:1$}", "", 2 * depth)
}

/// `v5: f32x4`; the type is `?` if the value does not exist, since printing broken functions is how they are debugged.
fn typed(func: &Func, val: Val, f: &mut Formatter<'_>) -> fmt::Result {
    match func.vals.get(val) {
        Some(ty) => write!(f, "{val}: {ty}"),
        None => write!(f, "{val}: ?"),
    }
}

fn loop_(func: &Func, l: &For, depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
    separated(&l.carried, f, |c, f| typed(func, c.result, f))?;
    if !l.carried.is_empty() {
        f.write_str(" = ")?;
    }
    write!(f, "for {} in ", l.var)?;
    range(&l.lo, &l.hi, f)?;
    if l.step != 1 {
        write!(f, " step {}", l.step)?;
    }
    if l.parallel {
        f.write_str(" parallel")?;
    }
    if !l.carried.is_empty() {
        f.write_str(" carry (")?;
        separated(&l.carried, f, |c, f| {
            typed(func, c.arg, f)?;
            write!(f, " = {}", c.init)
        })?;
        f.write_str(")")?;
    }
    writeln!(f, " {{")?;
    block(func, &l.body, depth + 1, f)?;
    if !l.carried.is_empty() {
        indent(depth + 1, f)?;
        f.write_str("next ")?;
        separated(&l.carried, f, |c, f| c.next.fmt(f))?;
        writeln!(f)?;
    }
    Ok(())
}

/// `max(0, 1 - i0)..min(3, 24 - i0)`
fn range(lo: &Bound, hi: &Bound, f: &mut Formatter<'_>) -> fmt::Result {
    bound("max", lo, f)?;
    f.write_str("..")?;
    bound("min", hi, f)
}

fn bound(of_several: &str, bound: &Bound, f: &mut Formatter<'_>) -> fmt::Result {
    if let [one] = bound.exprs() {
        return one.fmt(f);
    }
    write!(f, "{of_several}(")?;
    separated(bound.exprs(), f, |a, f| a.fmt(f))?;
    f.write_str(")")
}

fn index(index: &Index, f: &mut Formatter<'_>) -> fmt::Result {
    index.affine.fmt(f)?;
    match index.offset {
        Some(val) => write!(f, " + {val}"),
        None => Ok(()),
    }
}

fn inst(ty: Option<Ty>, inst: &Inst, f: &mut Formatter<'_>) -> fmt::Result {
    match inst {
        Inst::Load { buffer, index } => {
            write!(f, "load {buffer}[")?;
            self::index(index, f)?;
            f.write_str("]")
        }
        Inst::LoadSplat { buffer, index } => {
            write!(f, "load_splat {buffer}[")?;
            self::index(index, f)?;
            f.write_str("]")
        }
        Inst::Const(bits) => {
            f.write_str("const ")?;
            constant(ty.map(|t| t.dtype), *bits, f)
        }
        Inst::AffineValue(a) => write!(f, "affine {a}"),
        Inst::Splat(x) => write!(f, "splat {x}"),
        Inst::Arith1(op, x) => write!(f, "{} {x}", op.name()),
        Inst::Arith2(op, a, b) => write!(f, "{} {a}, {b}", op.name()),
        Inst::Fma(a, b, c) => write!(f, "fma {a}, {b}, {c}"),
        Inst::Compare(op, a, b) => write!(f, "compare {} {a}, {b}", op.name()),
        Inst::Select(mask, a, b) => write!(f, "select {mask}, {a}, {b}"),
        Inst::Convert(x) => write!(f, "convert {x}"),
        Inst::Bitcast(x) => write!(f, "bitcast {x}"),
        Inst::Fold(op, x) => write!(f, "fold {} {x}", op.name()),
        Inst::Lane(x, lane) => write!(f, "lane {x}, {lane}"),
    }
}

/// A number where the type has an exact one, else the bits: `1.0`, `-3`, `0x7fc00001`.
fn constant(dtype: Option<DType>, bits: u64, f: &mut Formatter<'_>) -> fmt::Result {
    let Some(dtype) = dtype else {
        return write!(f, "0x{bits:x}");
    };
    let unused = 64 - 8 * dtype.size() as u32;
    if bits.leading_zeros() < unused {
        return write!(f, "0x{bits:x}");
    }
    match dtype {
        DType::F32 if !f32::from_bits(bits as u32).is_nan() => write!(f, "{:?}", f32::from_bits(bits as u32)),
        DType::F64 if !f64::from_bits(bits).is_nan() => write!(f, "{:?}", f64::from_bits(bits)),
        _ if dtype.is_float() => write!(f, "0x{bits:x}"),
        _ if dtype.is_signed_int() => write!(f, "{}", (bits << unused) as i64 >> unused),
        _ => write!(f, "{bits}"),
    }
}

/// `kernel NAME(x=$0[0], .., residual=none) range 0..24 {in_h=28, ..}`; names only where the registry knows them.
fn kernel(call: &KernelCall, f: &mut Formatter<'_>) -> fmt::Result {
    let known = registry::find(&call.kernel);
    write!(f, "kernel {}(", WordOrQuoted(&call.kernel))?;
    let names = known.filter(|k| k.operands.len() == call.operands.len());
    let operands: Vec<_> = call.operands.iter().enumerate().collect();
    separated(&operands, f, |(i, operand), f| {
        if let Some(k) = names {
            write!(f, "{}=", k.operands[*i].name)?;
        }
        match operand {
            Some(View { buffer, offset }) => write!(f, "{buffer}[{offset}]"),
            None => f.write_str("none"),
        }
    })?;
    f.write_str(") range ")?;
    range(&call.begin, &call.end, f)?;
    if call.params.is_empty() {
        return Ok(());
    }
    f.write_str(" {")?;
    let names = known.filter(|k| k.params.len() == call.params.len());
    let params: Vec<_> = call.params.iter().enumerate().collect();
    separated(&params, f, |(i, param), f| {
        if let Some(k) = names {
            write!(f, "{}=", k.params[*i])?;
        }
        param.fmt(f)
    })?;
    f.write_str("}")
}
