//! Fields of instructions and registers: their names, widths and how their values are stored.

/// How a field's value is stored in its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldKind {
    /// As it is.
    Unsigned,
    /// Minus one: 1 to 2^bits.
    MinusOne,
    /// As two's complement.
    Signed,
}

/// A field; fields lie one after another, the first in the lowest bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name in texts.
    pub name: &'static str,
    /// Its width.
    pub bits: u32,
    /// How its value is stored.
    pub kind: FieldKind,
}

impl Field {
    /// The least and the greatest value that fits.
    pub fn range(&self) -> (i64, i64) {
        let all = 1i64 << self.bits;
        match self.kind {
            FieldKind::Unsigned => (0, all - 1),
            FieldKind::MinusOne => (1, all),
            FieldKind::Signed => (-all / 2, all / 2 - 1),
        }
    }

    /// The stored bits of a value; `None` if it does not fit.
    pub(crate) fn pack(&self, value: i64) -> Option<u128> {
        let (least, greatest) = self.range();
        let stored = match self.kind {
            FieldKind::MinusOne => value.wrapping_sub(1),
            FieldKind::Unsigned | FieldKind::Signed => value,
        };
        (least..=greatest)
            .contains(&value)
            .then_some(u128::from(stored as u64) & ((1 << self.bits) - 1))
    }

    /// The value of stored bits.
    pub(crate) fn unpack(&self, bits: u128) -> i64 {
        let value = bits as i64;
        match self.kind {
            FieldKind::Unsigned => value,
            FieldKind::MinusOne => value + 1,
            FieldKind::Signed if value >> (self.bits - 1) & 1 == 1 => value - (1 << self.bits),
            FieldKind::Signed => value,
        }
    }
}

/// A struct whose fields are stored one after another.
pub trait Fields: Sized {
    /// The fields, in their order.
    const FIELDS: &'static [Field];

    /// Passes each field's value on.
    fn each(&self, f: impl FnMut(&'static Field, i64));

    /// Makes the struct of values asked for one by one.
    ///
    /// # Errors
    /// The first that `f` gives.
    fn make<E>(f: impl FnMut(&'static Field) -> Result<i64, E>) -> Result<Self, E>;
}

/// A type of a field in Rust. The conversions are exact for values within the field's range.
pub(crate) trait Scalar {
    fn get(self) -> i64;
    fn of(value: i64) -> Self;
}

macro_rules! scalar {
    ($($t:ty: $of:expr),*) => {$(
        impl Scalar for $t {
            fn get(self) -> i64 {
                i64::from(self)
            }
            fn of(value: i64) -> Self {
                $of(value)
            }
        }
    )*};
}
scalar!(u32: |v| v as u32, i32: |v| v as i32, bool: |v| v != 0);

/// Defines a struct with [`Fields`]: `name: type, kind bits;`.
macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $t:ty, $kind:ident $bits:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: $t,)*
        }

        impl $crate::field::Fields for $name {
            const FIELDS: &'static [$crate::field::Field] = &[$($crate::field::Field {
                name: stringify!($field),
                bits: $bits,
                kind: $crate::field::FieldKind::$kind,
            }),*];

            fn each(&self, mut f: impl FnMut(&'static $crate::field::Field, i64)) {
                let mut fields = Self::FIELDS.iter();
                $(if let Some(field) = fields.next() {
                    f(field, $crate::field::Scalar::get(self.$field));
                })*
            }

            fn make<E>(mut f: impl FnMut(&'static $crate::field::Field) -> Result<i64, E>) -> Result<Self, E> {
                let mut at = 0;
                let mut next = || {
                    at += 1;
                    f(&Self::FIELDS[at - 1])
                };
                Ok(Self { $($field: $crate::field::Scalar::of(next()?),)* })
            }
        }

        /// Zeros, and ones where a field is stored minus one.
        impl Default for $name {
            fn default() -> Self {
                let least = |field: &'static $crate::field::Field| {
                    Ok::<i64, std::convert::Infallible>(field.range().0.max(0))
                };
                match <Self as $crate::field::Fields>::make(least) {
                    Ok(value) => value,
                    Err(never) => match never {},
                }
            }
        }
    };
}
pub(crate) use fields;

/// Packs all fields; the error is the first that does not fit.
pub(crate) fn pack<T: Fields>(value: &T) -> Result<u128, (&'static Field, i64)> {
    let (mut word, mut at, mut fault) = (0u128, 0, None);
    value.each(|field, v| {
        match field.pack(v) {
            Some(bits) => word |= bits << at,
            None => fault = fault.or(Some((field, v))),
        }
        at += field.bits;
    });
    fault.map_or(Ok(word), Err)
}

/// The inverse of [`pack`]; the second value is the bits left over.
pub(crate) fn unpack<T: Fields>(mut word: u128) -> (T, u128) {
    let read = T::make(|field| {
        let bits = word & ((1 << field.bits) - 1);
        word >>= field.bits;
        Ok::<i64, std::convert::Infallible>(field.unpack(bits))
    });
    match read {
        Ok(value) => (value, word),
        Err(never) => match never {},
    }
}
