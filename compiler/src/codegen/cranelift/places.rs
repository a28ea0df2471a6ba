//! Places in memory as the encoder sees them: pointers to groups of accesses, and what an access touches from there.

use crate::tile::LoopVar;
use cranelift_codegen::ir::Value;
use cranelift_frontend::Variable;
use std::collections::HashMap;

/// A group of accesses: the pointer to a parameter plus some terms, in bytes, plus a constant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Group {
    pub(super) param: u32,
    /// `(loop variable, bytes per step of it)`, the outermost loop first.
    pub terms: Vec<(LoopVar, i64)>,
    pub(super) bias: i64,
}

/// The pointers that exist at this point of the function.
#[derive(Default)]
pub(super) struct Pointers {
    pub(super) live: HashMap<Group, Variable>,
}

/// An address in machine terms.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub pointer: Value,
    pub offset: i64,
}

impl Place {
    pub fn plus(self, bytes: i64) -> Place {
        Place { offset: self.offset + bytes, ..self }
    }
}

/// What an access touches, beside its address: `count` elements of `size` bytes, `stride` bytes
/// apart.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub count: usize,
    pub size: usize,
    pub stride: i64,
}

impl Extent {
    pub fn new(lanes: usize, size: i64, stride: i64) -> Extent {
        match stride {
            0 => Extent { count: 1, size: size as usize, stride: size },
            _ => Extent { count: lanes, size: size as usize, stride: stride * size },
        }
    }

    /// Words of four bytes, so many bytes apart.
    pub fn words(lanes: usize, stride: i64) -> Extent {
        match stride {
            0 => Extent::new(1, 4, 0),
            _ => Extent { count: lanes, size: 4, stride },
        }
    }

    /// An entry of a table: its place is added to the pointer.
    pub fn entry() -> Extent {
        Extent { count: 1, size: 1, stride: 1 }
    }

    /// The displacements and sizes of the machine accesses.
    pub fn accesses(self) -> Vec<(i64, usize)> {
        if self.stride == self.size as i64 {
            return pieces(self.count * self.size).map(|(at, bytes)| (at as i64, bytes)).collect();
        }
        (0..self.count as i64).map(|i| (i * self.stride, self.size)).collect()
    }
}

/// Splits bytes into machine accesses: `(first byte, 16, 8, 4, 2 or 1)`.
pub(super) fn pieces(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let size = [16, 8, 4, 2, 1].into_iter().find(|&size| size <= bytes - at)?;
        at += size;
        Some((at - size, size))
    })
}
