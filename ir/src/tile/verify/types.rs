//! Types of instructions.

use super::{Law, Verifier};
use crate::DType;
use crate::tile::build::mask_type;
use crate::tile::{Arith1, Arith2, Inst, Ty, Val};

impl Verifier<'_> {
    /// Verifies the instruction that defines `val`, which is not yet in scope.
    pub(super) fn inst(&mut self, val: Val, inst: &Inst) {
        let what = val.to_string();
        let Some(ty) = self.ty(val) else {
            // Its definition reports that it does not exist.
            return;
        };
        match inst {
            Inst::Load { buffer, index } => return self.access(&what, *buffer, index, ty, ty.lanes),
            Inst::LoadSplat { buffer, index } => return self.access(&what, *buffer, index, ty, 1),
            Inst::AffineValue(a) => {
                self.affine(&what, a);
            }
            _ => {}
        }
        // All operands first, so that each one's faults are reported.
        let operands: Vec<Option<Ty>> = operands(inst).into_iter().map(|v| self.used(&what, v)).collect();
        let Some(operands) = operands.into_iter().collect::<Option<Vec<Ty>>>() else {
            return;
        };
        if let Err(reason) = check(inst, ty, &operands) {
            let types: Vec<String> = operands.iter().map(ToString::to_string).collect();
            let message = format!("{what}: {ty}: {reason}; operands: {}", types.join(", "));
            self.fault(Law::Type, message);
        }
    }
}

fn operands(inst: &Inst) -> Vec<Val> {
    match *inst {
        Inst::Load { .. } | Inst::LoadSplat { .. } | Inst::Const(_) | Inst::AffineValue(_) => Vec::new(),
        Inst::Splat(x)
        | Inst::Arith1(_, x)
        | Inst::Convert(x)
        | Inst::Bitcast(x)
        | Inst::Fold(_, x)
        | Inst::Lane(x, _) => vec![x],
        Inst::Arith2(_, a, b) | Inst::Compare(_, a, b) => vec![a, b],
        Inst::Fma(a, b, c) | Inst::Select(a, b, c) => vec![a, b, c],
    }
}

/// Holds an instruction's types against its documentation.
fn check(inst: &Inst, ty: Ty, operands: &[Ty]) -> Result<(), &'static str> {
    let must = |holds: bool, reason| if holds { Ok(()) } else { Err(reason) };
    let same = || must(operands.iter().all(|&o| o == ty), "the types differ");
    let scalar_of = |x: Ty| Ty::scalar(x.dtype);
    match (inst, operands) {
        (Inst::Const(bits), _) => {
            let unused = 64 - 8 * ty.dtype.size() as u32;
            must(
                bits.leading_zeros() >= unused,
                "the constant has more bits than the type",
            )?;
            must(ty.dtype != DType::Bool || *bits <= 1, "a bool is 0 or 1")
        }
        (Inst::AffineValue(_), _) => must(ty == Ty::scalar(DType::I64), "an affine value is an i64"),
        (Inst::Splat(_), &[x]) => must(
            x == scalar_of(ty),
            "splat takes a scalar of the result's element type",
        ),
        (Inst::Arith1(op, _), _) => {
            same()?;
            match op {
                Arith1::Neg | Arith1::Abs => must(ty.dtype != DType::Bool, "not defined on bool"),
                Arith1::Sqrt | Arith1::Floor | Arith1::Ceil | Arith1::Nearest => {
                    must(ty.dtype.is_float(), "defined on floats only")
                }
                Arith1::Not => must(!ty.dtype.is_float(), "not defined on floats"),
            }
        }
        (Inst::Arith2(op, ..), _) => {
            same()?;
            match op {
                Arith2::Add | Arith2::Sub | Arith2::Mul | Arith2::Div | Arith2::Min | Arith2::Max => {
                    must(ty.dtype != DType::Bool, "not defined on bool")
                }
                Arith2::And | Arith2::Or | Arith2::Xor => must(!ty.dtype.is_float(), "not defined on floats"),
                Arith2::Shl | Arith2::Shr => must(ty.dtype.is_int(), "defined on integers only"),
            }
        }
        (Inst::Fma(..), _) => {
            same()?;
            must(ty.dtype != DType::Bool, "not defined on bool")
        }
        (Inst::Compare(..), &[a, b]) => {
            must(a == b, "the operands' types differ")?;
            must(
                ty == mask_type(a),
                "a comparison gives the mask type of its operands",
            )
        }
        (Inst::Select(..), &[mask, a, b]) => {
            must(a == ty && b == ty, "the types differ")?;
            must(
                mask == mask_type(ty),
                "the mask has another type than the result's mask type",
            )
        }
        (Inst::Convert(_), &[x]) => must(x.lanes == ty.lanes, "the numbers of lanes differ"),
        (Inst::Bitcast(_), &[x]) => {
            must(x.lanes == ty.lanes, "the numbers of lanes differ")?;
            must(x.dtype.size() == ty.dtype.size(), "the widths differ")
        }
        (Inst::Fold(..), &[x]) => {
            must(x.dtype != DType::Bool, "not defined on bool")?;
            must(
                ty == scalar_of(x),
                "the result is a scalar of the operand's element type",
            )
        }
        (Inst::Lane(_, lane), &[x]) => {
            must(*lane < x.lanes, "there is no such lane")?;
            must(
                ty == scalar_of(x),
                "the result is a scalar of the operand's element type",
            )
        }
        // Loads are checked as accesses; the other shapes of `operands` do not occur.
        _ => Ok(()),
    }
}
