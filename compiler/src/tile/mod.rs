//! Tile kernels: loop nests over registers, the last form that is the same for all targets.
//!
//! A kernel reads and writes buffers (its parameters) through affine addresses, holds values in
//! virtual vector registers, and has loops with affine bounds. It is made for reading: see the
//! grammar in `docs/ir.md`. The encoders of code generation translate it, an interpreter is
//! its meaning and their oracle.
//!
//! Registers hold 32- and 64-bit lanes, and half floats where a target computes in them. Narrow types live in memory: loads extend (`i8`,
//! `i16`, `i4`, `i2` by sign, `u8`, `u16`, `u4`, `u2`, `bool` by zero, to `i32`; `f16`, `bf16` to
//! `f32`, or stay as they are in lanes of their own; the 8-bit floats give their byte as `i32`) and stores truncate
//! (integers wrap, floats round to nearest even; types under one byte fill a byte), and those of `i32` to `i64` extend
//! by sign. `u32`/`u64` are held as `i32`/`i64`.
//! Which NaN an operation gives is not specified.
//! A register may be assigned many times (accumulators); it has one type.

mod backwards;
mod count;
mod interpret;
mod lanes;
mod parse;
pub mod random;
mod range;
mod reach;
mod text;
mod turns;
mod typing;
mod verify;
pub mod visit;

pub use backwards::backwards;
pub use count::statements;
pub use interpret::{interpret, interpret_in};
pub use parse::{parse, read};
pub use reach::{Piece, hull, pieces};
pub use turns::interleaved;
pub use verify::{explain, verify};
pub use visit::{assignments, mentioned, moved};

use crate::base::{Affine, Bound, DType};
use crate::scalar::Fold;

/// A virtual register: an index into [`Kernel::regs`].
pub type Reg = u32;

/// A loop variable: an index into [`Kernel::vars`].
pub type LoopVar = u32;

/// What one lane of a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Lane {
    /// A half float as such, for targets that compute in them: arithmetic, no comparisons.
    F16,
    F32,
    F64,
    I32,
    I64,
    /// A truth value beside 32-bit lanes.
    M32,
    /// A truth value beside 64-bit lanes.
    M64,
}

impl Lane {
    /// The lane that holds an element of a type in memory (the small floats: their byte).
    pub fn of(dtype: DType) -> Lane {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Lane::F32,
            DType::F64 => Lane::F64,
            DType::I64 | DType::U64 => Lane::I64,
            _ => Lane::I32,
        }
    }

    /// Whether a register of this lane holds elements of a type as memory operations bring them.
    pub fn holds(self, dtype: DType) -> bool {
        self == Lane::of(dtype) || (self, dtype) == (Lane::F16, DType::F16)
    }

    /// The element type of a number lane; `None` for truth values.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Lane::F16 => Some(DType::F16),
            Lane::F32 => Some(DType::F32),
            Lane::F64 => Some(DType::F64),
            Lane::I32 => Some(DType::I32),
            Lane::I64 => Some(DType::I64),
            Lane::M32 | Lane::M64 => None,
        }
    }

    /// The truth value beside lanes of this width (half floats are not compared).
    pub fn mask(self) -> Lane {
        match self {
            Lane::F16 | Lane::F32 | Lane::I32 | Lane::M32 => Lane::M32,
            Lane::F64 | Lane::I64 | Lane::M64 => Lane::M64,
        }
    }
}

/// The type of a register: `lanes` elements, from 1 (a scalar) to the target's vector width;
/// any number in between is a partial vector at a tensor's edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct RegType {
    pub lane: Lane,
    pub lanes: u8,
}

/// Whether a kernel reads or writes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
    ReadWrite,
}

/// A buffer the kernel is called with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Name in text forms.
    pub name: String,
    /// Element type in memory.
    pub dtype: DType,
    /// Elements that may be accessed, from the pointer passed.
    pub elems: usize,
    /// Read or written.
    pub access: Access,
}

/// A place in a buffer, in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// Index into [`Kernel::params`].
    pub param: u32,
    /// Affine in the loop variables.
    pub index: Affine,
    /// An `i64` scalar register added to it, for computed indices; its value lies in
    /// `0..=limit`, which a `Fail` or a clamp before has established, or the constants it comes from.
    pub dynamic: Option<(Reg, usize)>,
}

/// Operations on one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Un {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    Trunc,
    /// To nearest, halves to even.
    Round,
    /// Bitwise (integers) or logical (masks) complement.
    Not,
}

/// Operations on two registers of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Bin {
    Add,
    Sub,
    Mul,
    /// Floats only.
    Div,
    /// Integers, towards zero; by zero gives 0, the smallest by -1 wraps.
    DivS,
    DivU,
    RemS,
    RemU,
    /// Floats: `a < b ? a : b`; which NaN wins is not specified. Integers: signed.
    Min,
    /// Floats: `a > b ? a : b`; which NaN wins is not specified. Integers: signed.
    Max,
    /// Floats only: NaN if either is, else as `Min`.
    MinNan,
    /// Floats only: NaN if either is, else as `Max`.
    MaxNan,
    MinU,
    MaxU,
    /// Integers and masks.
    And,
    Or,
    Xor,
    /// Counts at or past the width give 0 (`ShrS`: the sign).
    Shl,
    ShrS,
    ShrU,
    /// 32 bits: the product over 2^31, rounded down; the smallest by itself gives the largest.
    MulHigh,
    /// 32 bits: signed, rounded to nearest, halves up; counts past the width give 0.
    ShrRound,
    /// Two numbers of 16 bits in each lane of 32, wrapping.
    AddCouples,
    /// Likewise.
    SubCouples,
    /// Four bytes in each lane of 32 bits, signed.
    MinBytes,
    MaxBytes,
    /// Likewise, without a sign.
    MinBytesU,
    MaxBytesU,
}

impl Bin {
    /// The operation that joins two numbers of a fold.
    pub fn of(fold: Fold) -> Bin {
        match fold {
            Fold::Sum => Bin::Add,
            Fold::Prod => Bin::Mul,
            Fold::Max => Bin::Max,
            Fold::Min => Bin::Min,
            Fold::And => Bin::And,
            Fold::Or => Bin::Or,
        }
    }
}

/// Comparisons; the result is a mask beside the operands' lanes. Floats: ordered, but `Ne`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    LtU,
    LeU,
}

/// Conversions between lane types; the number of lanes stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Convert {
    /// Float to signed integer of the destination's width, towards zero; saturates, NaN gives 0.
    FloatToInt,
    /// Float to unsigned integer, likewise.
    FloatToUint,
    /// f32 to i32, to nearest even, of numbers that are known to fit; others give any integer.
    Nearest,
    /// The same of numbers whose magnitude is known to be at most 2^14.
    NearestSmall,
    /// Signed integer to float, to nearest even.
    IntToFloat,
    /// Unsigned integer to float, to nearest even.
    UintToFloat,
    /// Between f32 and f64; from f16 to f32.
    Float,
    /// f32 to the nearest (even) that an f16 holds, as f32.
    RoundF16,
    /// f32 to the nearest (even) that a bf16 holds, as f32.
    RoundBf16,
    /// i32 to i64 by sign, or i64 to i32 by truncation; masks between widths.
    Int,
    /// i32 to i64 by zero.
    Zext,
    /// The same bits: f32 and i32, f64 and i64.
    Bits,
    /// Keeps the low bits and extends them by sign.
    SextLow(u8),
    /// Keeps the low bits and extends them by zero.
    ZextLow(u8),
}

/// Products summed into each 32-bit lane: four of bytes, operands hold four bytes a lane, or two of
/// numbers of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dot {
    /// First unsigned, second signed (`vpdpbusd`, `usdot`).
    Us,
    /// Both signed (`sdot`).
    Ss,
    /// Both signed, and no byte of the second is -128: products of two of its bytes fit 16 bits.
    Sn,
    /// Both unsigned (`udot`).
    Uu,
    /// Two products of signed numbers of 16 bits (`vpmaddwd`).
    Couples,
    /// First unsigned, second signed; two products each are summed in 16 bits, where they saturate, and added to
    /// two numbers of 16 bits, wrapping (`vpmaddubsw`).
    Pairs,
    /// As [`Dot::Sn`], of words whose halves lie apart: of each eight lanes of the second operand four hold the
    /// lower halves of all eight words, the others the upper ones.
    Halves,
    /// Of words whose halves lie apart as those of [`Dot::Halves`]: products of the first and the third of a word's
    /// signed bytes are added to the lower of two numbers of 16 bits, those of the others to the upper one, wrapping.
    HalfPairs,
    /// As [`Dot::Couples`], of words whose halves lie apart as those of [`Dot::Halves`].
    CoupleHalves,
    /// One product of two signed bytes, each extended to its lane, of which the second is not -128: two such
    /// products fit 16 bits.
    Bytes,
    /// In each four lanes, two rows by two columns: lane `2i + j` gets eight products of bytes, those of
    /// the first operand's lanes `2i` and `2i + 1` by the second's `2j` and `2j + 1` (`smmla`).
    Squares(Signs),
}

/// The signs of two factors of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signs {
    /// First unsigned, second signed.
    Us,
    /// Both signed.
    Ss,
    /// Both unsigned.
    Uu,
}

impl Signs {
    /// The products of four bytes by four others.
    pub fn of_words(self) -> Dot {
        match self {
            Signs::Us => Dot::Us,
            Signs::Ss => Dot::Ss,
            Signs::Uu => Dot::Uu,
        }
    }
}

/// Whether a store of lanes extends them by sign to the elements of a type in memory.
pub fn extends(dtype: DType, lane: Lane) -> bool {
    (dtype, lane) == (DType::I64, Lane::I32)
}

/// Entries of a table that maps bytes.
pub const TABLE: usize = 256;

/// One in each half of a word: products of couples by it are their sums.
pub const EACH: u32 = 0x0001_0001;

/// Elements of so many bytes from one word to the next, of words that lie so many bytes apart, and those from the
/// last one on.
pub fn words_span(lanes: usize, stride: i64, size: usize) -> (i64, i64) {
    let lanes = lanes as i64;
    let span = if (1..4).contains(&stride) { 4 * lanes - stride * (lanes - 1) } else { 4 };
    (stride / size as i64, span / size as i64)
}

/// Whether words of elements of so many bytes can lie so many bytes apart.
pub fn has_words(size: usize, stride: i64) -> bool {
    matches!((size, stride), (1, 0..=4) | (2, 0 | 4))
}

/// What computes a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Every lane these bits (masks: 0 or 1).
    Const(u64),
    /// Integer lanes `index + lane * step`.
    Index(Affine, i64),
    /// Another register of the same type.
    Copy(Reg),
    /// Lane `i` from `addr + i * stride`: 1 contiguous, 0 the same for all, else strided.
    Load(Addr, i64),
    /// Lane `i` is the four bytes `i * stride` bytes behind `addr` of a buffer of bytes, or of numbers of 16 bits, as
    /// one `i32` (stride 0: the same four for all). Where they overlap (strides of 1 to 3, of bytes), the buffer has as
    /// many bytes from `addr` on as if they did not.
    LoadWords(Addr, i64),
    /// Lane `i` is the bytes at `addr + 2 * i` and behind it of a byte buffer, each extended to 16 bits
    /// as its element type says, the first in the lower half.
    LoadCouples(Addr),
    /// Lane `i` is the byte at `addr + b` of a byte buffer, extended as its element type says; `b` is the lowest
    /// byte of the register's lane, without a sign. The [`TABLE`] bytes from `addr` on are a function of bytes.
    Lookup(Addr, Reg),
    /// One operand.
    Un(Un, Reg),
    /// Two operands.
    Bin(Bin, Reg, Reg),
    /// `acc + a * b`, rounded once where [`Kernel::fused`], twice otherwise; `(acc, a, b)`.
    Mla(Reg, Reg, Reg),
    /// `acc + dot(a, b)` per lane, wrapping.
    Dot(Dot, Reg, Reg, Reg),
    /// A mask.
    Cmp(Cmp, Reg, Reg),
    /// `mask ? a : b` per lane.
    Select(Reg, Reg, Reg),
    /// Another lane type.
    Convert(Convert, Reg),
    /// A scalar in every lane.
    Splat(Reg),
    /// Lane `.1` of a register in every lane of this one.
    Broadcast(Reg, u8),
    /// Pairs of lanes side by side: lane `.1`, an even number, of each register and the one behind it.
    Pairs(Vec<(Reg, u8)>),
    /// All lanes folded to a scalar, by halves: lane `i` with lane `i + n/2`, and so on, where
    /// `n` is the next power of two and missing lanes are the fold's identity.
    Reduce(Fold, Reg),
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// Assigns a register.
    Let(Reg, Value),
    /// Writes every lane: lane `i` at `addr + i * stride`.
    Store {
        /// Where lane 0 goes.
        addr: Addr,
        /// Elements between lanes; 1 is contiguous.
        stride: i64,
        /// What is written.
        src: Reg,
    },
    /// `for var in (largest of lo)..(smallest of hi) step step`; not entered where empty.
    For {
        /// The loop variable.
        var: LoopVar,
        /// First value.
        lo: Bound,
        /// First value not reached.
        hi: Bound,
        /// Positive increment.
        step: i64,
        /// The statements repeated.
        body: Vec<Stmt>,
    },
    /// The statements with a variable that stands for a number known at run time: an element of an `i64` or
    /// `i32` parameter. Who fills that has made sure that it lies in `0..=max`.
    Size {
        /// The variable.
        var: LoopVar,
        /// Where the number is.
        from: Addr,
        /// The largest value.
        max: i64,
        /// The statements.
        body: Vec<Stmt>,
    },
    /// Runs one of two lists, by a scalar mask.
    If {
        /// A mask with one lane.
        cond: Reg,
        /// Run where true.
        then: Vec<Stmt>,
        /// Run where false.
        otherwise: Vec<Stmt>,
    },
    /// Repeats until a `Break`.
    Loop {
        /// The statements repeated.
        body: Vec<Stmt>,
    },
    /// Leaves the innermost `Loop` where the scalar mask is true.
    Break {
        /// A mask with one lane.
        cond: Reg,
    },
    /// Returns an error code from the kernel where the scalar mask is true.
    Fail {
        /// A mask with one lane.
        cond: Reg,
        /// An `LMC_ERR_*` number.
        code: i32,
    },
}

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Name; a symbol is made from it.
    pub name: String,
    /// The buffers.
    pub params: Vec<Param>,
    /// Names of the loop variables.
    pub vars: Vec<String>,
    /// Types of the registers.
    pub regs: Vec<RegType>,
    /// Whether `Mla` rounds once: the target has fused multiply-add.
    pub fused: bool,
    /// The statements.
    pub body: Vec<Stmt>,
}

impl Kernel {
    /// Whether it may return an error code.
    pub fn can_fail(&self) -> bool {
        fn fails(body: &[Stmt]) -> bool {
            body.iter().any(|stmt| match stmt {
                Stmt::Fail { .. } => true,
                Stmt::For { body, .. } | Stmt::Size { body, .. } | Stmt::Loop { body } => fails(body),
                Stmt::If { then, otherwise, .. } => fails(then) || fails(otherwise),
                Stmt::Let(..) | Stmt::Store { .. } | Stmt::Break { .. } => false,
            })
        }
        fails(&self.body)
    }
}
