//! Arithmetic on single lanes. A lane is the little-endian bits of one element, zero-extended to 64.

use half::{bf16, f16};
use sdc_ir::DType;
use sdc_ir::tile::{Arith1, Arith2, CompareOp};

pub(super) type Fn1 = fn(u64) -> u64;
pub(super) type Fn2 = fn(u64, u64) -> u64;
pub(super) type Fn3 = fn(u64, u64, u64) -> u64;

/// An element type as a lane: its bits, and the type its arithmetic is done in.
trait Lane {
    type Wide;
    fn get(bits: u64) -> Self::Wide;
    fn put(x: Self::Wide) -> u64;
}

macro_rules! lanes {
    ($($t:ty, $wide:ty, $get:expr, $put:expr;)*) => {$(
        impl Lane for $t {
            type Wide = $wide;
            fn get(bits: u64) -> $wide {
                let get: fn(u64) -> $wide = $get;
                get(bits)
            }
            fn put(x: $wide) -> u64 {
                let put: fn($wide) -> u64 = $put;
                put(x)
            }
        }
    )*};
}
lanes! {
    f64, f64, f64::from_bits, f64::to_bits;
    f32, f32, |b| f32::from_bits(b as u32), |x| x.to_bits().into();
    f16, f32, |b| f16::from_bits(b as u16).to_f32(), |x| f16::from_f32(x).to_bits().into();
    bf16, f32, |b| bf16::from_bits(b as u16).to_f32(), |x| bf16::from_f32(x).to_bits().into();
    i64, i64, |b| b as i64, |x| x as u64;
    i32, i32, |b| b as i32, |x| (x as u32).into();
    i16, i16, |b| b as i16, |x| (x as u16).into();
    i8, i8, |b| b as i8, |x| (x as u8).into();
    u64, u64, |b| b, |x| x;
    u32, u32, |b| b as u32, u64::from;
    u16, u16, |b| b as u16, u64::from;
    u8, u8, |b| b as u8, u64::from;
}

fn get<T: Lane>(bits: u64) -> T::Wide {
    T::get(bits)
}

fn put<T: Lane>(x: T::Wide) -> u64 {
    T::put(x)
}

/// Chooses a macro's instance by element type: float types with one macro, integer types with another, then `bool`.
macro_rules! by_dtype {
    ($dtype:expr, $op:expr, $float:ident, $int:ident, $bool:expr) => {
        match $dtype {
            DType::F64 => $float!(f64, $op),
            DType::F32 => $float!(f32, $op),
            DType::F16 => $float!(f16, $op),
            DType::BF16 => $float!(bf16, $op),
            DType::I64 => $int!(i64, $op),
            DType::I32 => $int!(i32, $op),
            DType::I16 => $int!(i16, $op),
            DType::I8 => $int!(i8, $op),
            DType::U64 => $int!(u64, $op),
            DType::U32 => $int!(u32, $op),
            DType::U16 => $int!(u16, $op),
            DType::U8 => $int!(u8, $op),
            DType::Bool => $bool,
        }
    };
}

/// The function of one operand, if the type has it.
pub(super) fn arith1(op: Arith1, dtype: DType) -> Option<Fn1> {
    macro_rules! float {
        ($t:ty, $op:expr) => {
            Some(match $op {
                Arith1::Neg => |a| put::<$t>(-get::<$t>(a)),
                Arith1::Abs => |a| put::<$t>(get::<$t>(a).abs()),
                Arith1::Sqrt => |a| put::<$t>(get::<$t>(a).sqrt()),
                Arith1::Floor => |a| put::<$t>(get::<$t>(a).floor()),
                Arith1::Ceil => |a| put::<$t>(get::<$t>(a).ceil()),
                Arith1::Nearest => |a| put::<$t>(get::<$t>(a).round_ties_even()),
                Arith1::Not => return None,
            })
        };
    }
    macro_rules! int {
        ($t:ty, $op:expr) => {
            Some(match $op {
                Arith1::Neg => |a| put::<$t>(get::<$t>(a).wrapping_neg()),
                Arith1::Abs => |a| {
                    let x = get::<$t>(a);
                    // An unsigned number is never below zero, and the smallest signed one stays.
                    #[allow(unused_comparisons, reason = "one text for signed and unsigned types")]
                    put::<$t>(if x < 0 { x.wrapping_neg() } else { x })
                },
                Arith1::Not => |a| put::<$t>(!get::<$t>(a)),
                Arith1::Sqrt | Arith1::Floor | Arith1::Ceil | Arith1::Nearest => return None,
            })
        };
    }
    by_dtype!(
        dtype,
        op,
        float,
        int,
        (op == Arith1::Not).then_some(|a| u64::from(a == 0))
    )
}

/// The function of two operands, if the type has it.
pub(super) fn arith2(op: Arith2, dtype: DType) -> Option<Fn2> {
    macro_rules! float {
        ($t:ty, $op:expr) => {
            Some(match $op {
                Arith2::Add => |a, b| put::<$t>(get::<$t>(a) + get::<$t>(b)),
                Arith2::Sub => |a, b| put::<$t>(get::<$t>(a) - get::<$t>(b)),
                Arith2::Mul => |a, b| put::<$t>(get::<$t>(a) * get::<$t>(b)),
                Arith2::Div => |a, b| put::<$t>(get::<$t>(a) / get::<$t>(b)),
                Arith2::Min => |a, b| if get::<$t>(a) < get::<$t>(b) { a } else { b },
                Arith2::Max => |a, b| if get::<$t>(a) > get::<$t>(b) { a } else { b },
                Arith2::And | Arith2::Or | Arith2::Xor | Arith2::Shl | Arith2::Shr => return None,
            })
        };
    }
    macro_rules! int {
        ($t:ty, $op:expr) => {
            Some(match $op {
                Arith2::Add => |a, b| put::<$t>(get::<$t>(a).wrapping_add(get::<$t>(b))),
                Arith2::Sub => |a, b| put::<$t>(get::<$t>(a).wrapping_sub(get::<$t>(b))),
                Arith2::Mul => |a, b| put::<$t>(get::<$t>(a).wrapping_mul(get::<$t>(b))),
                Arith2::Div => |a, b| match get::<$t>(b) {
                    0 => 0,
                    b => put::<$t>(get::<$t>(a).wrapping_div(b)),
                },
                Arith2::Min => |a, b| put::<$t>(get::<$t>(a).min(get::<$t>(b))),
                Arith2::Max => |a, b| put::<$t>(get::<$t>(a).max(get::<$t>(b))),
                Arith2::And => |a, b| a & b,
                Arith2::Or => |a, b| a | b,
                Arith2::Xor => |a, b| a ^ b,
                Arith2::Shl => |a, b| put::<$t>(get::<$t>(a).wrapping_shl(b as u32)),
                Arith2::Shr => |a, b| put::<$t>(get::<$t>(a).wrapping_shr(b as u32)),
            })
        };
    }
    let bool: Option<Fn2> = match op {
        Arith2::And | Arith2::Min => Some(|a, b| a & b),
        Arith2::Or | Arith2::Max => Some(|a, b| a | b),
        Arith2::Xor => Some(|a, b| a ^ b),
        _ => None,
    };
    by_dtype!(dtype, op, float, int, bool)
}

/// `a * b + c`, in floats with one rounding.
pub(super) fn fma(dtype: DType) -> Option<Fn3> {
    macro_rules! float {
        ($t:ty, $op:expr) => {
            Some(|a, b, c| put::<$t>(get::<$t>(a).mul_add(get::<$t>(b), get::<$t>(c))))
        };
    }
    macro_rules! int {
        ($t:ty, $op:expr) => {
            Some(|a, b, c| {
                put::<$t>(
                    get::<$t>(a)
                        .wrapping_mul(get::<$t>(b))
                        .wrapping_add(get::<$t>(c)),
                )
            })
        };
    }
    by_dtype!(dtype, (), float, int, None)
}

/// A comparison; its result is 1 or 0, not yet a mask.
pub(super) fn compare(op: CompareOp, dtype: DType) -> Fn2 {
    macro_rules! any {
        ($t:ty, $op:expr) => {
            match $op {
                CompareOp::Eq => |a, b| (get::<$t>(a) == get::<$t>(b)).into(),
                CompareOp::Ne => |a, b| (get::<$t>(a) != get::<$t>(b)).into(),
                CompareOp::Lt => |a, b| (get::<$t>(a) < get::<$t>(b)).into(),
                CompareOp::Le => |a, b| (get::<$t>(a) <= get::<$t>(b)).into(),
                CompareOp::Gt => |a, b| (get::<$t>(a) > get::<$t>(b)).into(),
                CompareOp::Ge => |a, b| (get::<$t>(a) >= get::<$t>(b)).into(),
            }
        };
    }
    by_dtype!(dtype, op, any, any, any!(u8, op))
}

/// All ones in the bits of one element.
pub(super) fn ones(dtype: DType) -> u64 {
    u64::MAX >> (64 - 8 * dtype.size() as u32)
}

/// The lane under another element type.
pub(super) fn convert(from: DType, to: DType, lane: u64) -> u64 {
    macro_rules! encode {
        ($x:expr) => {
            match to {
                DType::F64 => put::<f64>($x as f64),
                DType::F32 => put::<f32>($x as f32),
                DType::F16 => put::<f16>($x as f32),
                DType::BF16 => put::<bf16>($x as f32),
                DType::I64 => put::<i64>($x as i64),
                DType::I32 => put::<i32>($x as i32),
                DType::I16 => put::<i16>($x as i16),
                DType::I8 => put::<i8>($x as i8),
                DType::U64 => put::<u64>($x as u64),
                DType::U32 => put::<u32>($x as u32),
                DType::U16 => put::<u16>($x as u16),
                DType::U8 => put::<u8>($x as u8),
                DType::Bool => u64::from($x != (0 as _)),
            }
        };
    }
    match from {
        DType::F64 => encode!(get::<f64>(lane)),
        DType::F32 => encode!(get::<f32>(lane)),
        DType::F16 => encode!(get::<f16>(lane)),
        DType::BF16 => encode!(get::<bf16>(lane)),
        DType::I64 => encode!(get::<i64>(lane)),
        DType::I32 => encode!(get::<i32>(lane)),
        DType::I16 => encode!(get::<i16>(lane)),
        DType::I8 => encode!(get::<i8>(lane)),
        DType::U64 => encode!(get::<u64>(lane)),
        DType::U32 => encode!(get::<u32>(lane)),
        DType::U16 => encode!(get::<u16>(lane)),
        DType::U8 | DType::Bool => encode!(get::<u8>(lane)),
    }
}
