//! What selection keeps between statements: where breaks go, what has been derived from registers, and stores and loads
//! that are done with others.

use super::inst::{Mem, VReg};
use crate::codegen::loops::Pointer;
use crate::tile::Reg;

/// Where a `Break` goes.
pub struct Exit {
    pub(super) label: i64,
    pub(super) pointers: Vec<Pointer>,
    /// Counted loops around, outside included.
    pub(super) around: usize,
}

/// What is derived from a register of bytes, see [`Select::derived`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Derived {
    /// The lower half of each lane, beside zero.
    Low,
    /// Its even bytes as 16-bit numbers, by sign or by zero.
    Even(bool),
    /// Its odd bytes, likewise.
    Odd(bool),
    /// Each byte with its top bit flipped: signed bytes plus 128, or unsigned ones minus 128.
    Flipped,
    /// The size of each signed byte, unsigned.
    Size,
    /// 128 times the sum of the signed bytes of each lane.
    SignedSum,
    /// 128 times the sum of the unsigned bytes of each lane.
    UnsignedSum,
    /// Its first lane in a general register.
    Index,
}

/// What a vector of 32-bit lanes is narrowed from: it saturates.
#[derive(Clone, Copy, PartialEq)]
pub struct Narrowed {
    /// The number before the clamp and the zero point.
    pub(super) value: Reg,
    pub(super) zero: i64,
    /// Of the value's lanes only the lower halves count, which have a sign.
    pub(super) low: bool,
    pub(super) signed: bool,
}

impl Narrowed {
    /// Whether it is narrowed as another one is.
    pub(super) fn is_like(&self, other: &Narrowed) -> bool {
        *self == Narrowed { value: self.value, ..*other }
    }
}

/// A vector of 32-bit lanes on its way to bytes, or to numbers of 16 bits.
#[derive(Clone, Copy)]
pub struct Waiting {
    /// What is narrowed, clamped.
    pub(super) src: Reg,
    /// Bytes of an element.
    pub(super) size: usize,
    pub(super) from: Narrowed,
    /// The table that the bytes are looked up in.
    pub(super) table: Option<Mem>,
    pub(super) mem: Mem,
    pub(super) param: u32,
    pub(super) lanes: usize,
    pub(super) width: usize,
    /// Elements from one lane to the next.
    pub(super) stride: usize,
}

/// Eight bytes of two rows that have been woven.
pub(super) struct Eights {
    pub(super) rows: [Mem; 2],
    /// What they are loaded into, by two instructions from here on.
    pub(super) loaded: [VReg; 2],
    pub(super) at: usize,
}
