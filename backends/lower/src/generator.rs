//! What a code generator offers beyond an [`crate::Emitter`]: functions and tables of an object, and the few operations that entry
//! points are made of.

use crate::{Error, FuncError, Placement};
use object::write::Object;
use sdc_ir::Digest;
use sdc_ir::tile::{Func, Module};

/// What kind of argument or result a function has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An address.
    Pointer,
    /// 64 bits.
    Int,
    /// 32 bits: the C type `int`.
    Status,
}

/// The functions there are, by their C type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signature {
    /// `void (frame, index)`: a tile function, and a task of `parallel_for`.
    Task,
    /// `void (self, count, task, frame)`, as in `struct sdc_parallel_for`.
    ParallelFor,
    /// `int (inputs, outputs, arena, weights, prepared, parallel_for)`.
    Run,
    /// `int (weights, prepared)`.
    Prepare,
    /// `int (weights, expected header, required features)`.
    Check,
    /// `size (void)`.
    Size,
    /// `void (operands, params, begin, end)`: a kernel.
    Kernel,
}

impl Signature {
    /// Kinds of the arguments.
    pub const fn params(self) -> &'static [Kind] {
        use Kind::{Int, Pointer};
        match self {
            Self::Task => &[Pointer, Int],
            Self::ParallelFor => &[Pointer, Int, Pointer, Pointer],
            Self::Run => &[Pointer; 6],
            Self::Prepare => &[Pointer; 2],
            Self::Check => &[Pointer, Pointer, Int],
            Self::Size => &[],
            Self::Kernel => &[Pointer, Pointer, Int, Int],
        }
    }

    /// Kind of the result, if there is one.
    pub const fn result(self) -> Option<Kind> {
        match self {
            Self::Task | Self::ParallelFor | Self::Kernel => None,
            Self::Run | Self::Prepare | Self::Check => Some(Kind::Status),
            Self::Size => Some(Kind::Int),
        }
    }
}

/// Where a function's symbol is defined, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linkage {
    /// In this object, for itself.
    Local,
    /// In this object, for all.
    Global,
    /// A kernel, which will be merged into this object.
    Kernel,
}

/// A function that failed: its number as [`Generator::define`] was given it, none for an entry point.
#[derive(Debug)]
pub struct Failure {
    /// Number of the tile function.
    pub position: Option<usize>,
    /// What is wrong with it.
    pub source: FuncError,
}

/// A finished object.
pub struct Finished {
    /// Code and constants, each kernel an undefined symbol.
    pub object: Object<'static>,
    /// The undefined symbols, sorted.
    pub kernels: Vec<String>,
    /// Bytes of code of the functions asked for.
    pub sizes: Vec<usize>,
}

/// An object under construction by one code generator.
pub trait Generator: Sized {
    /// A function of the object.
    type Func: Copy;
    /// Constant bytes of the object.
    type Table: Copy;
    /// A tile function that has been built and has no symbol yet.
    type Body;
    /// An SSA value of an entry point.
    type Value: Copy;
    /// Builds the body of an entry point.
    type Code<'a>: Code<Value = Self::Value, Func = Self::Func, Table = Self::Table>
    where
        Self: 'a;

    /// Builds a tile function whose remaining kernel calls are those of `kernels`. The digest is that of its code: functions with one
    /// digest need but one symbol.
    ///
    /// # Errors
    /// The walk's, or a construct that the target lacks.
    fn build(
        &mut self,
        module: &Module,
        func: &Func,
        placement: &Placement,
    ) -> Result<(Self::Body, Digest), FuncError>;

    /// Gives a tile function a symbol and takes it into the object.
    ///
    /// # Errors
    /// What this function or an earlier one fails with.
    fn define(&mut self, symbol: &str, body: Self::Body, position: usize) -> Result<Self::Func, Failure>;

    /// Forgets a tile function: an equal one is there.
    fn discard(&mut self, body: Self::Body);

    /// Names a function that is defined elsewhere, or will be by [`Generator::entry`].
    ///
    /// # Errors
    /// A symbol that has another type.
    fn declare(
        &mut self,
        symbol: &str,
        linkage: Linkage,
        signature: Signature,
    ) -> Result<Self::Func, FuncError>;

    /// Read-only bytes, aligned for `i64`.
    ///
    /// # Errors
    /// An object that cannot be written.
    fn table(&mut self, bytes: &[u8]) -> Result<Self::Table, FuncError>;

    /// Defines a declared function; `body` gets its arguments.
    ///
    /// # Errors
    /// What this function or an earlier one fails with.
    fn entry(
        &mut self,
        func: Self::Func,
        signature: Signature,
        body: impl FnOnce(&mut Self::Code<'_>, &[Self::Value]),
    ) -> Result<(), Failure>;

    /// The object, and how large these functions are.
    ///
    /// # Errors
    /// What a function fails with; an object that cannot be written.
    fn finish(self, funcs: &[Self::Func]) -> Result<Finished, Finish>;
}

/// Why an object could not be finished.
#[derive(Debug)]
pub enum Finish {
    /// A function failed.
    Func(Failure),
    /// Something else did.
    Other(Error),
}

/// The operations that entry points are made of.
pub trait Code {
    /// An SSA value.
    type Value: Copy;
    /// A function of the object.
    type Func: Copy;
    /// Constant bytes of the object.
    type Table: Copy;

    /// A constant of 64 bits.
    fn int(&mut self, x: u64) -> Self::Value;
    /// A constant of 32 bits.
    fn status(&mut self, x: u32) -> Self::Value;
    /// No address.
    fn null(&mut self) -> Self::Value;
    /// Memory on the stack, in bytes, aligned for pointers.
    fn stack(&mut self, size: u32) -> Self::Value;
    /// Writes a pointer at a place and a displacement in bytes.
    fn store(&mut self, base: Self::Value, displacement: i32, value: Self::Value);
    /// Reads 64 bits at a place and a displacement in bytes.
    fn load(&mut self, base: Self::Value, displacement: i32) -> Self::Value;
    /// Exclusive or.
    fn xor(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// Bitwise or.
    fn or(&mut self, a: Self::Value, b: Self::Value) -> Self::Value;
    /// 1 of 32 bits unless `x`, of 64, is 0; else 0.
    fn is_not_zero(&mut self, x: Self::Value) -> Self::Value;
    /// A function's address.
    fn address(&mut self, func: Self::Func) -> Self::Value;
    /// A table's address.
    fn table(&mut self, table: Self::Table) -> Self::Value;
    /// The pointer that lies at `place`, or `otherwise` where `place` is null.
    fn load_or(&mut self, place: Self::Value, otherwise: Self::Value) -> Self::Value;
    /// Calls a function that gives nothing.
    fn call(&mut self, func: Self::Func, signature: Signature, args: &[Self::Value]);
    /// Calls a function that gives a value.
    fn call_for(&mut self, func: Self::Func, signature: Signature, args: &[Self::Value]) -> Self::Value;
    /// Calls a function by its address that gives nothing.
    fn call_at(&mut self, func: Self::Value, signature: Signature, args: &[Self::Value]);
    /// Repeats `body` with 0, 1, .. while less than `count`, unsigned.
    fn times(&mut self, count: Self::Value, body: impl FnOnce(&mut Self, Self::Value));
    /// Returns `status` unless it is 0.
    fn return_unless_zero(&mut self, status: Self::Value);
    /// Returns.
    fn return_(&mut self, value: Option<Self::Value>);
}
