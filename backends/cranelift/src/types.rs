//! Cranelift's types for tile types.

use cranelift_codegen::ir::{Type, types};
use sdc_ir::DType;
use sdc_ir::tile::Ty;
use sdc_lower::FuncError;

/// The only vector width there is.
const VECTOR_BYTES: usize = 16;

/// The type of one element. Half floats are bits in integers, `bool` is a byte.
pub fn element(dtype: DType) -> Type {
    match dtype {
        DType::F64 => types::F64,
        DType::F32 => types::F32,
        DType::I64 | DType::U64 => types::I64,
        DType::I32 | DType::U32 => types::I32,
        DType::F16 | DType::BF16 | DType::I16 | DType::U16 => types::I16,
        DType::I8 | DType::U8 | DType::Bool => types::I8,
    }
}

/// The type of a value.
pub fn value(ty: Ty) -> Result<Type, FuncError> {
    let element = element(ty.dtype);
    match ty.lanes {
        1 => Ok(element),
        lanes if usize::from(lanes) * ty.dtype.size() == VECTOR_BYTES => {
            element.by(lanes.into()).ok_or_else(|| unsupported(ty))
        }
        // Four bytes travel in one word: they are only loaded, stored and converted.
        4 if is_bytes(ty) => Ok(types::I32),
        _ => Err(unsupported(ty)),
    }
}

/// True for the vectors narrower than a register that there are: four bytes.
pub fn is_bytes(ty: Ty) -> bool {
    ty.lanes == 4 && matches!(ty.dtype, DType::I8 | DType::U8)
}

fn unsupported(ty: Ty) -> FuncError {
    FuncError::Unsupported {
        what: format!("a value of type {ty}"),
    }
}
