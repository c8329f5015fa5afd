//! Element types of fewer than eight bits, and floats of eight: what they are, and how they are carried.
//!
//! Graph IR has no such types. A tensor of one of them is carried one element per byte, integers as `i8` or `u8` of the same value,
//! floats as the `u8` of their code; the importer keeps note of which values these are ([`crate::builder::Builder::narrow`]). They can
//! be moved; to compute, a lowering casts.

use crate::proto::data_type;
use sdc_ir::DType;

/// A narrow element type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Narrow {
    /// Two's complement or unsigned, of this many bits.
    Int { bits: u32, signed: bool },
    /// A sign, an exponent and a mantissa.
    Float(Small),
    /// FLOAT8E8M0: an exponent alone, so a power of two.
    Scale,
}

/// A small float with a sign bit, as its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Small {
    /// Bits of an element.
    pub bits: u32,
    pub mantissa: u32,
    pub bias: i32,
    /// Code of the largest finite value.
    pub max: u8,
    /// What becomes of larger values unless they saturate; `None` if they always do.
    pub beyond: Option<u8>,
    /// Code of a (positive) NaN.
    pub nan: u8,
    /// Neither a negative zero nor a NaN with a sign (the types called FNUZ).
    pub unsigned_zero: bool,
}

const E4M3FN: Small = Small {
    bits: 8,
    mantissa: 3,
    bias: 7,
    max: 0x7e,
    beyond: Some(0x7f),
    nan: 0x7f,
    unsigned_zero: false,
};
const E4M3FNUZ: Small = Small {
    bias: 8,
    max: 0x7f,
    beyond: Some(0x80),
    nan: 0x80,
    unsigned_zero: true,
    ..E4M3FN
};
const E5M2: Small = Small {
    mantissa: 2,
    bias: 15,
    max: 0x7b,
    beyond: Some(0x7c),
    nan: 0x7e,
    ..E4M3FN
};
const E5M2FNUZ: Small = Small {
    mantissa: 2,
    bias: 16,
    ..E4M3FNUZ
};
/// Without NaN: ONNX makes it a negative zero.
const E2M1: Small = Small {
    bits: 4,
    mantissa: 1,
    bias: 1,
    max: 0x7,
    beyond: None,
    nan: 0x8,
    unsigned_zero: false,
};

impl Narrow {
    const ALL: [(i32, Narrow); 10] = {
        const fn int(bits: u32, signed: bool) -> Narrow {
            Narrow::Int { bits, signed }
        }
        [
            (data_type::UINT4, int(4, false)),
            (data_type::INT4, int(4, true)),
            (data_type::UINT2, int(2, false)),
            (data_type::INT2, int(2, true)),
            (data_type::FLOAT8E4M3FN, Narrow::Float(E4M3FN)),
            (data_type::FLOAT8E4M3FNUZ, Narrow::Float(E4M3FNUZ)),
            (data_type::FLOAT8E5M2, Narrow::Float(E5M2)),
            (data_type::FLOAT8E5M2FNUZ, Narrow::Float(E5M2FNUZ)),
            (data_type::FLOAT4E2M1, Narrow::Float(E2M1)),
            (data_type::FLOAT8E8M0, Narrow::Scale),
        ]
    };

    /// The type with ONNX's number.
    pub fn of(onnx: i32) -> Option<Self> {
        let found = Self::ALL.iter().find(|(number, _)| *number == onnx);
        found.map(|&(_, narrow)| narrow)
    }

    /// ONNX's number.
    pub fn onnx(self) -> i32 {
        let found = Self::ALL.iter().find(|(_, narrow)| *narrow == self);
        found.map_or(0, |&(number, _)| number)
    }

    /// ONNX's name.
    pub fn name(self) -> String {
        data_type::name(self.onnx())
    }

    /// Element type of the tensors that carry it.
    pub fn carrier(self) -> DType {
        match self {
            Narrow::Int { signed: true, .. } => DType::I8,
            _ => DType::U8,
        }
    }

    /// Bits of an element in ONNX's packed data.
    pub fn bits(self) -> u32 {
        match self {
            Narrow::Int { bits, .. } | Narrow::Float(Small { bits, .. }) => bits,
            Narrow::Scale => 8,
        }
    }

    /// Elements from packed data, the first in the lowest bits, one per byte; `None` unless the length fits.
    pub fn unpack(self, packed: &[u8], count: usize) -> Option<Vec<u8>> {
        let bits = self.bits();
        let each = (8 / bits) as usize;
        if packed.len() != count.div_ceil(each) {
            return None;
        }
        let mask = (0xff_u32 >> (8 - bits)) as u8;
        let element = |i: usize| {
            let code = packed[i / each] >> (bits as usize * (i % each)) & mask;
            match self {
                Narrow::Int { signed: true, .. } => {
                    let sign = 1u8 << (bits - 1);
                    (code ^ sign).wrapping_sub(sign)
                }
                _ => code,
            }
        };
        Some((0..count).map(element).collect())
    }

    /// The values of all codes of a float type, in the order of the codes.
    pub fn values(self) -> Vec<f32> {
        let code = |c: u32| match self {
            Narrow::Scale if c == 255 => f32::NAN,
            Narrow::Scale => (f64::from(c as i32 - 127)).exp2() as f32,
            Narrow::Float(small) => small.value(c),
            Narrow::Int { .. } => c as f32,
        };
        (0..1u32 << self.bits()).map(code).collect()
    }
}

impl Small {
    fn value(self, code: u32) -> f32 {
        let sign_bit = 1 << (self.bits - 1);
        let (negative, magnitude) = (code & sign_bit != 0, code & (sign_bit - 1));
        let special = match self.unsigned_zero {
            true => code == u32::from(self.nan),
            false => magnitude > u32::from(self.max),
        };
        let fraction = f64::from(magnitude & ((1 << self.mantissa) - 1));
        let field = (magnitude >> self.mantissa) as i32;
        let one = f64::from(1 << self.mantissa);
        let value = match field {
            _ if special && self.beyond == Some(magnitude as u8) && self.beyond != Some(self.nan) => {
                f64::INFINITY
            }
            _ if special => f64::NAN,
            0 => fraction / one * f64::from(1 - self.bias).exp2(),
            _ => (1.0 + fraction / one) * f64::from(field - self.bias).exp2(),
        };
        (if negative { -value } else { value }) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_values_of_the_specification() {
        let table = |onnx| Narrow::of(onnx).unwrap().values();
        let e4m3 = table(data_type::FLOAT8E4M3FN);
        assert_eq!(
            (e4m3[0x7e], e4m3[0x01], e4m3[0x08]),
            (448.0, 0.001953125, 0.015625)
        );
        assert!(e4m3[0x7f].is_nan() && e4m3[0xff].is_nan() && e4m3[0x80].is_sign_negative());
        let e5m2 = table(data_type::FLOAT8E5M2);
        assert_eq!(
            (e5m2[0x7b], e5m2[0x7c], e5m2[0xfc]),
            (57344.0, f32::INFINITY, f32::NEG_INFINITY)
        );
        assert!(e5m2[0x7d].is_nan() && e5m2[0x7f].is_nan());
        let uz = table(data_type::FLOAT8E4M3FNUZ);
        assert_eq!((uz[0x7f], uz[0xff]), (240.0, -240.0));
        assert!(uz[0x80].is_nan());
        assert_eq!(table(data_type::FLOAT8E5M2FNUZ)[0x7f], 57344.0);
        let e2m1: Vec<f32> = vec![0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        assert_eq!(table(data_type::FLOAT4E2M1)[..8], e2m1);
        let scale = table(data_type::FLOAT8E8M0);
        assert_eq!((scale[127], scale[130], scale[0]), (1.0, 8.0, 2f32.powi(-127)));
    }

    #[test]
    fn packed_elements_come_lowest_first_and_with_their_sign() {
        let unpack = |onnx, bytes: &[u8], n| Narrow::of(onnx).unwrap().unpack(bytes, n);
        assert_eq!(
            unpack(data_type::INT4, &[0x8f, 0x07], 3),
            Some(vec![0xff, 0xf8, 7])
        );
        assert_eq!(unpack(data_type::UINT4, &[0x8f], 2), Some(vec![15, 8]));
        assert_eq!(
            unpack(data_type::INT2, &[0b1110_0100], 4),
            Some(vec![0, 1, 0xfe, 0xff])
        );
        assert_eq!(unpack(data_type::UINT2, &[0b1110_0100, 1], 4), None);
        assert_eq!(unpack(data_type::FLOAT8E5M2, &[1, 2], 1), None);
    }
}
