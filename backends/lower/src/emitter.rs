//! What a backend implements.

use crate::{LowerError, Root};
use sdc_ir::tile::{Arith1, Arith2, CompareOp, FoldOp, KernelCall, Ty};

/// A memory operand: `base + displacement`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<V> {
    /// A pointer.
    pub base: V,
    /// Constant part.
    pub displacement: i32,
    /// The memory is not written while the model runs.
    pub readonly: bool,
}

/// The head of a counted loop over `i64`: `lo, lo+step, ..` while less than `hi`.
#[derive(Debug, Clone, Copy)]
pub struct LoopHead<V> {
    /// First value.
    pub lo: V,
    /// Limit, exclusive.
    pub hi: V,
    /// Increment, at least 1.
    pub step: i64,
    /// The body is known to run at least once.
    pub runs: bool,
}

/// Emits code for one tile function, driven by [`crate::lower`].
///
/// Values are SSA values of the backend: `i64` for everything that is an address, an index or a bound, else as the tile
/// type says. Instructions mean what [`sdc_ir::tile`] says of them; operands have been looked up, not type-checked (the
/// tile verifier does that).
pub trait Emitter {
    /// An SSA value.
    type Value: Copy;
    /// A failure: the walk's own, or something the target cannot do.
    type Error: From<LowerError>;

    /// A pointer from the frame. Called in the function's entry, once per root used.
    fn root(&mut self, root: Root) -> Result<Self::Value, Self::Error>;

    /// An `i64` constant.
    fn int(&mut self, x: i64) -> Self::Value;
    /// Sum of two `i64`.
    fn int_add(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// An `i64` times a constant.
    fn int_scale(&mut self, a: Self::Value, factor: i64) -> Self::Value;
    /// The smaller of two `i64`.
    fn int_min(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// The larger of two `i64`.
    fn int_max(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;

    /// Opens a loop; what follows is its body until [`Emitter::close_loop`]. Returns the loop variable and the carried
    /// values as the body sees them.
    fn open_loop(
        &mut self,
        head: LoopHead<Self::Value>,
        init: &[Self::Value],
    ) -> (Self::Value, Vec<Self::Value>);
    /// Closes the innermost open loop. Returns the carried values after the loop.
    fn close_loop(&mut self, next: &[Self::Value]) -> Vec<Self::Value>;

    /// All lanes from consecutive elements.
    fn load(&mut self, ty: Ty, at: Address<Self::Value>) -> Result<Self::Value, Self::Error>;
    /// All lanes from one element.
    fn load_splat(&mut self, ty: Ty, at: Address<Self::Value>) -> Result<Self::Value, Self::Error>;
    /// All lanes to consecutive elements.
    fn store(&mut self, ty: Ty, at: Address<Self::Value>, value: Self::Value) -> Result<(), Self::Error>;

    /// One element's bits in every lane.
    fn constant(&mut self, ty: Ty, bits: u64) -> Result<Self::Value, Self::Error>;
    /// A scalar in every lane of a `ty`.
    fn splat(&mut self, ty: Ty, x: Self::Value) -> Result<Self::Value, Self::Error>;
    /// Arithmetic of one operand.
    fn arith1(&mut self, op: Arith1, ty: Ty, x: Self::Value) -> Result<Self::Value, Self::Error>;
    /// Arithmetic of two operands.
    fn arith2(
        &mut self,
        op: Arith2,
        ty: Ty,
        a: Self::Value,
        b: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// `a * b + c`, rounded once or twice.
    fn fma(
        &mut self,
        ty: Ty,
        a: Self::Value,
        b: Self::Value,
        c: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// A mask, from operands of type `ty`.
    fn compare(
        &mut self,
        op: CompareOp,
        ty: Ty,
        a: Self::Value,
        b: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// `mask ? a : b`, both of type `ty`.
    fn select(
        &mut self,
        ty: Ty,
        mask: Self::Value,
        a: Self::Value,
        b: Self::Value,
    ) -> Result<Self::Value, Self::Error>;
    /// Conversion of the elements.
    fn convert(&mut self, from: Ty, to: Ty, x: Self::Value) -> Result<Self::Value, Self::Error>;
    /// The same bits under another type.
    fn bitcast(&mut self, from: Ty, to: Ty, x: Self::Value) -> Result<Self::Value, Self::Error>;
    /// Horizontal reduction of a vector of type `ty`.
    fn fold(&mut self, op: FoldOp, ty: Ty, x: Self::Value) -> Result<Self::Value, Self::Error>;
    /// One lane of a vector of type `ty`.
    fn lane(&mut self, ty: Ty, x: Self::Value, lane: u8) -> Result<Self::Value, Self::Error>;

    /// A call of a kernel that [`crate::expand`] left in place; absent operands are `None`.
    fn kernel(
        &mut self,
        call: &KernelCall,
        operands: &[Option<Address<Self::Value>>],
        begin: Self::Value,
        end: Self::Value,
    ) -> Result<(), Self::Error>;
}
