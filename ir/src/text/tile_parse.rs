//! Parsing tile modules.

use super::lexer::{Kind, Place, Token};
use super::parser::{Names, Parser, Result};
use super::weights::Section;
use super::{Level, TextError};
use crate::entity::EntityId;
use crate::graph::Weights;
use crate::registry;
use crate::tile::{
    Affine, Arith1, Arith2, Bound, Buffer, BufferData, BufferKind, Carried, CompareOp, FoldOp, For, Func,
    Index, Inst, KernelCall, Module, Stmt, Ty, Val, Var, View,
};
use crate::{DType, graph::Weight};
use std::collections::BTreeMap;

/// Loops nested deeper are refused: parser, verifier and backends recurse over them.
const MAX_DEPTH: usize = 64;

/// Parses a tile module; the data of its weights come from `store`. Buffers, values, loop variables and weights are
/// renumbered in order of definition. The module is well formed as text; whether it means anything is for
/// [`crate::tile::verify`] to say.
///
/// # Errors
/// [`TextError::Parse`] lists the faults of the text, [`TextError::MissingWeights`] what `store` lacks.
pub fn parse_module(text: &str, store: &Weights) -> std::result::Result<Module, TextError> {
    let mut p = Parser::new(text);
    let mut parse = ModuleParser::new();
    let section = match parse.parse(&mut p) {
        Ok(section) => section,
        Err(error) => return Err(p.fail(error).into()),
    };
    let ModuleParser {
        mut module, consts, ..
    } = parse;
    for (buffer, weight) in consts {
        module.buffers[buffer].kind = BufferKind::Const(section.get(&mut p, weight));
    }
    p.finish()?;
    module.weights = section.resolve(store)?;
    Ok(module)
}

struct ModuleParser<'a> {
    module: Module,
    buffers: Names<Buffer>,
    /// Constant buffers and the weights they name, which are listed only at the end of the text.
    consts: Vec<(Buffer, (u32, Token<'a>))>,
}

impl<'a> ModuleParser<'a> {
    fn new() -> Self {
        Self {
            module: Module::default(),
            buffers: Names::new(),
            consts: Vec::new(),
        }
    }

    fn parse(&mut self, p: &mut Parser<'a>) -> Result<Section> {
        p.header_of(Level::Tile)?;
        p.expect_word("module")?;
        self.module.name = p.string()?;
        p.expect("{")?;
        p.statements(|p| {
            if p.eat_word("func") {
                let func = FuncParser::new(&self.buffers).parse(p)?;
                self.module.funcs.push(func);
                return Ok(());
            }
            if p.eat_word("prepare") {
                let func = FuncParser::new(&self.buffers).parse(p)?;
                self.module.prepare.push(func);
                return Ok(());
            }
            self.buffer(p)
        })?;
        let section = Section::parse(p)?;
        p.expect_end()?;
        Ok(section)
    }

    /// `$3 = const @w1 f32[400] "conv1.weight"`
    fn buffer(&mut self, p: &mut Parser<'a>) -> Result<()> {
        let name = p.id(Kind::Buffer, "`func`, `prepare`, a buffer such as `$0`, or `}`")?;
        p.expect("=")?;
        let mut weight = None;
        let kind = p.word("`input`, `output`, `const`, `temp` or `prepared`")?;
        let kind = match kind.text {
            "input" => BufferKind::Input(p.unsigned("the input's position")?),
            "output" => BufferKind::Output(p.unsigned("the output's position")?),
            "temp" => BufferKind::Temp,
            "prepared" => BufferKind::Prepared,
            "const" => {
                weight = Some(p.id(Kind::Weight, "a weight such as `@w0`")?);
                BufferKind::Const(Weight::new(0))
            }
            _ => {
                return Err(p.error_at(
                    kind.place,
                    "expected `input`, `output`, `const`, `temp` or `prepared`",
                ));
            }
        };
        let dtype = p.dtype()?;
        let place = p.place();
        let shape = p.shape()?;
        let &[len] = shape.as_slice() else {
            return Err(p.error_at(place, "a buffer has one length"));
        };
        let text = p.string()?;
        let id = self.module.buffers.push(BufferData {
            dtype,
            len,
            kind,
            name: text,
        });
        self.buffers.define(p, name, id);
        self.consts.extend(weight.map(|w| (id, w)));
        Ok(())
    }
}

struct FuncParser<'m> {
    func: Func,
    buffers: &'m Names<Buffer>,
    vals: Names<Val>,
    vars: Names<Var>,
    depth: usize,
}

impl<'m> FuncParser<'m> {
    fn new(buffers: &'m Names<Buffer>) -> Self {
        Self {
            func: Func::default(),
            buffers,
            vals: Names::new(),
            vars: Names::new(),
            depth: 0,
        }
    }

    fn parse(mut self, p: &mut Parser<'_>) -> Result<Func> {
        self.func.name = p.string()?;
        self.func.origins = p.origins()?;
        p.expect("{")?;
        let (body, _) = self.block(p)?;
        self.func.body = body;
        Ok(self.func)
    }

    /// Statements up to and with `}`, and the values of the `next` that ends a loop's body, with its place.
    fn block(&mut self, p: &mut Parser<'_>) -> Result<(Vec<Stmt>, Option<Next>)> {
        let mut body = Vec::new();
        let mut next = None;
        p.statements(|p| {
            if next.is_some() {
                return Err(p.expected("`}` after `next`"));
            }
            let place = p.place();
            if self.depth > 0 && p.eat_word("next") {
                next = Some((place, self.operands(p)?));
            } else {
                body.push(self.statement(p)?);
            }
            Ok(())
        })?;
        Ok((body, next))
    }

    fn statement(&mut self, p: &mut Parser<'_>) -> Result<Stmt> {
        if p.eat_word("store") {
            let (buffer, index) = self.element(p)?;
            p.expect(",")?;
            let value = self.val(p)?;
            return Ok(Stmt::Store { buffer, index, value });
        }
        if p.eat_word("kernel") {
            return Ok(Stmt::Kernel(self.kernel(p)?));
        }
        if p.eat_word("for") {
            return Ok(Stmt::For(self.for_(p, Vec::new())?));
        }
        if p.peek_local("v").is_none() {
            return Err(p.expected("`for`, `kernel`, `store`, a value such as `v0`, or `}`"));
        }
        let place = p.place();
        let results = p.list("=", typed)?;
        if p.eat_word("for") {
            return Ok(Stmt::For(self.for_(p, results)?));
        }
        let &[(name, ty)] = results.as_slice() else {
            return Err(p.error_at(place, "an instruction has one result"));
        };
        let inst = self.inst(p, ty)?;
        let val = self.define(p, name, ty);
        Ok(Stmt::Let(val, inst))
    }

    /// The loop after the word `for`.
    fn for_(&mut self, p: &mut Parser<'_>, results: Vec<Typed<'_>>) -> Result<For> {
        let place = p.place();
        let var = p.local("i", "a loop variable such as `i0`")?;
        p.expect_word("in")?;
        let (lo, hi) = self.range(p)?;
        let step = if p.eat_word("step") {
            p.signed("the loop's step")?
        } else {
            1
        };
        let parallel = p.eat_word("parallel");
        let mut heads = Vec::new();
        if p.eat_word("carry") {
            p.expect("(")?;
            heads = p.list(")", |p| {
                let arg = typed(p)?;
                p.expect("=")?;
                Ok((arg, self.val(p)?))
            })?;
        }
        if heads.len() != results.len() {
            return Err(p.error_at(place, "a loop has one result per carried value"));
        }
        if self.depth == MAX_DEPTH {
            return Err(p.error_at(place, format!("loops are nested deeper than {MAX_DEPTH}")));
        }
        p.expect("{")?;
        let id = self.func.vars.push(());
        self.vars.define(p, var, id);
        let args: Vec<Val> = heads
            .iter()
            .map(|&((name, ty), _)| self.define(p, name, ty))
            .collect();
        self.depth += 1;
        let block = self.block(p);
        self.depth -= 1;
        let (body, end) = block?;
        let (next_place, mut next) = end.unwrap_or((place, Vec::new()));
        if next.len() != heads.len() {
            p.note(
                next_place,
                "a loop's body ends in `next` with one value per carried value",
            );
            next.resize(heads.len(), Val::new(0));
        }
        let carried = results
            .into_iter()
            .zip(heads)
            .zip(args)
            .zip(next)
            .map(|((((name, ty), (_, init)), arg), next)| Carried {
                result: self.define(p, name, ty),
                arg,
                init,
                next,
            })
            .collect();
        Ok(For {
            var: id,
            lo,
            hi,
            step,
            parallel,
            carried,
            body,
        })
    }

    fn inst(&mut self, p: &mut Parser<'_>, ty: Ty) -> Result<Inst> {
        let token = p.word("an instruction")?;
        Ok(match token.text {
            "load" => {
                let (buffer, index) = self.element(p)?;
                Inst::Load { buffer, index }
            }
            "load_splat" => {
                let (buffer, index) = self.element(p)?;
                Inst::LoadSplat { buffer, index }
            }
            "const" => Inst::Const(constant(p, ty.dtype)?),
            "affine" => Inst::AffineValue(self.affine(p)?),
            "splat" => Inst::Splat(self.val(p)?),
            "fma" => {
                let [a, b, c] = self.operands_of(p)?;
                Inst::Fma(a, b, c)
            }
            "compare" => {
                let op = p.word("a comparison")?;
                let op = CompareOp::from_name(op.text)
                    .ok_or_else(|| p.error_at(op.place, format!("unknown comparison `{}`", op.text)))?;
                let [a, b] = self.operands_of(p)?;
                Inst::Compare(op, a, b)
            }
            "select" => {
                let [mask, a, b] = self.operands_of(p)?;
                Inst::Select(mask, a, b)
            }
            "convert" => Inst::Convert(self.val(p)?),
            "bitcast" => Inst::Bitcast(self.val(p)?),
            "fold" => {
                let op = p.word("a reduction")?;
                let op = FoldOp::from_name(op.text)
                    .ok_or_else(|| p.error_at(op.place, format!("unknown reduction `{}`", op.text)))?;
                Inst::Fold(op, self.val(p)?)
            }
            "lane" => {
                let x = self.val(p)?;
                p.expect(",")?;
                Inst::Lane(x, p.unsigned("a lane's position")?)
            }
            word => {
                if let Some(op) = Arith1::from_name(word) {
                    Inst::Arith1(op, self.val(p)?)
                } else if let Some(op) = Arith2::from_name(word) {
                    let [a, b] = self.operands_of(p)?;
                    Inst::Arith2(op, a, b)
                } else {
                    return Err(p.error_at(token.place, format!("unknown instruction `{word}`")));
                }
            }
        })
    }

    /// The call after the word `kernel`.
    fn kernel(&mut self, p: &mut Parser<'_>) -> Result<KernelCall> {
        let kernel = p.name()?;
        let known = registry::find(&kernel);
        p.expect("(")?;
        let mut position = 0;
        let operands = p.list(")", |p| {
            if p.peek().kind == Kind::Word && !p.at_word("none") {
                named(p, known.and_then(|k| k.operands.get(position)).map(|o| o.name))?;
            }
            position += 1;
            if p.eat_word("none") {
                return Ok(None);
            }
            let buffer = self.buffer(p)?;
            p.expect("[")?;
            let offset = self.affine(p)?;
            p.expect("]")?;
            Ok(Some(View { buffer, offset }))
        })?;
        p.expect_word("range")?;
        let (begin, end) = self.range(p)?;
        let mut params = Vec::new();
        if p.eat("{") {
            let mut position = 0;
            params = p.list("}", |p| {
                if p.peek().kind == Kind::Word {
                    named(p, known.and_then(|k| k.params.get(position).copied()))?;
                }
                position += 1;
                p.signed("a parameter")
            })?;
        }
        Ok(KernelCall {
            kernel,
            params,
            operands,
            begin,
            end,
        })
    }

    fn define(&mut self, p: &mut Parser<'_>, name: (u32, Token<'_>), ty: Ty) -> Val {
        let val = self.func.vals.push(ty);
        self.vals.define(p, name, val);
        val
    }

    fn val(&mut self, p: &mut Parser<'_>) -> Result<Val> {
        let name = p.local("v", "a value such as `v0`")?;
        Ok(self.vals.get(p, name))
    }

    fn operands(&mut self, p: &mut Parser<'_>) -> Result<Vec<Val>> {
        let mut vals = vec![self.val(p)?];
        while p.eat(",") {
            vals.push(self.val(p)?);
        }
        Ok(vals)
    }

    fn operands_of<const N: usize>(&mut self, p: &mut Parser<'_>) -> Result<[Val; N]> {
        let place = p.place();
        self.operands(p)?
            .try_into()
            .map_err(|_| p.error_at(place, format!("expected {N} operands")))
    }

    fn buffer(&mut self, p: &mut Parser<'_>) -> Result<Buffer> {
        let name = p.id(Kind::Buffer, "a buffer such as `$0`")?;
        Ok(self.buffers.get(p, name))
    }

    /// `$0[28*i0 + 3 + v7]`
    fn element(&mut self, p: &mut Parser<'_>) -> Result<(Buffer, Index)> {
        let buffer = self.buffer(p)?;
        p.expect("[")?;
        let mut offset = None;
        let affine = self.sum(p, Some(&mut offset))?;
        p.expect("]")?;
        Ok((buffer, Index { affine, offset }))
    }

    fn affine(&mut self, p: &mut Parser<'_>) -> Result<Affine> {
        self.sum(p, None)
    }

    /// A sum of integers, loop variables and their multiples, and, where `offset` is given, at most one value.
    fn sum(&mut self, p: &mut Parser<'_>, mut offset: Option<&mut Option<Val>>) -> Result<Affine> {
        let place = p.place();
        // 64-bit terms cannot overflow 128 bits: a text has fewer than 2^63 of them.
        let mut terms: BTreeMap<Var, i128> = BTreeMap::new();
        let mut constant = 0i128;
        let mut sign = if p.eat("-") { -1 } else { 1 };
        loop {
            if let Some(slot) = offset.as_deref_mut()
                && p.peek_local("v").is_some()
            {
                if sign < 0 || slot.is_some() {
                    return Err(p.error_at(p.place(), "an index has at most one run-time offset, added"));
                }
                *slot = Some(self.val(p)?);
            } else if p.peek_local("i").is_some() {
                *terms.entry(self.var(p)?).or_default() += sign;
            } else {
                let number: u64 = p.unsigned("an integer or a loop variable such as `i0`")?;
                let number = sign * i128::from(number);
                if p.eat("*") {
                    *terms.entry(self.var(p)?).or_default() += number;
                } else {
                    constant += number;
                }
            }
            sign = if p.eat("+") {
                1
            } else if p.eat("-") {
                -1
            } else {
                break;
            };
        }
        let fits =
            |x: i128| i64::try_from(x).map_err(|_| p.error_at(place, format!("`{x}` does not fit 64 bits")));
        let mut affine = Affine::constant(fits(constant)?);
        for (var, coefficient) in terms {
            affine += &Affine::term(var, fits(coefficient)?);
        }
        Ok(affine)
    }

    fn var(&mut self, p: &mut Parser<'_>) -> Result<Var> {
        let name = p.local("i", "a loop variable such as `i0`")?;
        Ok(self.vars.get(p, name))
    }

    /// `max(0, 1 - i0)..min(3, 24 - i0)`
    fn range(&mut self, p: &mut Parser<'_>) -> Result<(Bound, Bound)> {
        let lo = self.bound(p, "max")?;
        p.expect("..")?;
        Ok((lo, self.bound(p, "min")?))
    }

    fn bound(&mut self, p: &mut Parser<'_>, of_several: &str) -> Result<Bound> {
        if !p.eat_word(of_several) {
            return Ok(self.affine(p)?.into());
        }
        p.expect("(")?;
        let place = p.place();
        let exprs = p.list(")", |p| self.affine(p))?;
        if exprs.is_empty() {
            return Err(p.error_at(place, "a bound has at least one expression"));
        }
        Ok(Bound::of(exprs))
    }
}

/// The values that a loop's body ends with, and where the text says so.
type Next = (Place, Vec<Val>);

/// A value's name in the text, with its type.
type Typed<'a> = ((u32, Token<'a>), Ty);

/// `v5: f32x4`
fn typed<'a>(p: &mut Parser<'a>) -> Result<Typed<'a>> {
    let name = p.local("v", "a value such as `v0`")?;
    p.expect(":")?;
    let token = p.word("a type such as `f32x4`")?;
    let (dtype, lanes) = match token.text.split_once('x') {
        Some((dtype, lanes)) => (dtype, lanes.parse().ok()),
        None => (token.text, Some(1)),
    };
    match (dtype.parse(), lanes) {
        (Ok(dtype), Some(lanes)) => Ok((name, Ty { dtype, lanes })),
        _ => Err(p.error_at(token.place, format!("`{}` is not a type", token.text))),
    }
}

/// The name and `=` before an operand or parameter; it must be the registry's at this position.
fn named(p: &mut Parser<'_>, registered: Option<&str>) -> Result<()> {
    let token = p.word("a name")?;
    match registered {
        Some(name) if name == token.text => p.expect("="),
        Some(name) => Err(p.error_at(
            token.place,
            format!("expected `{name}` here, found `{}`", token.text),
        )),
        None => Err(p.error_at(token.place, format!("the registry has no `{}` here", token.text))),
    }
}

/// The bits of a constant: a number of the type, or `0x` bits.
fn constant(p: &mut Parser<'_>, dtype: DType) -> Result<u64> {
    let token = p.peek();
    if let (Kind::Number, Some(hex)) = (token.kind, token.text.strip_prefix("0x")) {
        p.next();
        return u64::from_str_radix(hex, 16)
            .map_err(|_| p.error_at(token.place, format!("`{}` is not 64 bits", token.text)));
    }
    match dtype {
        DType::F32 => return Ok(p.float::<f32>()?.to_bits().into()),
        DType::F64 => return Ok(p.float::<f64>()?.to_bits()),
        DType::F16 | DType::BF16 => return Err(p.expected("bits such as `0x3c00`")),
        _ => {}
    }
    let bits = 8 * dtype.size() as u32;
    let negative = p.at_punct("-");
    let value = if negative {
        p.signed("an integer")? as u64
    } else {
        p.unsigned("an integer")?
    };
    let unused = 64 - bits;
    let fits = if dtype.is_signed_int() {
        // A positive number must leave the sign bit free, a negative one must be its own sign extension.
        ((value << unused) as i64 >> unused) as u64 == value && (negative || value >> 63 == 0)
    } else {
        !negative && value.leading_zeros() >= unused
    };
    if !fits {
        return Err(p.error_at(token.place, format!("the constant does not fit {dtype}")));
    }
    Ok(value & (u64::MAX >> unused))
}
