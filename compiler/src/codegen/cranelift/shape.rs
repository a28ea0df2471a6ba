//! How a register of the tile language is laid out in machine registers.

use crate::tile::{Lane, RegType};
use cranelift_codegen::ir::{Type, types};

/// A register is a scalar (one lane), or as many 128-bit vectors ("parts") as its lanes need; the
/// lanes past the last one of a partial vector hold anything. A truth value is 0 or 1 in 8 bits as
/// a scalar, all ones or zeros as a lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub lane: Lane,
    pub lanes: usize,
}

impl Shape {
    pub fn of(ty: RegType) -> Self {
        Shape { lane: ty.lane, lanes: usize::from(ty.lanes) }
    }

    pub fn is_scalar(self) -> bool {
        self.lanes == 1
    }

    /// Lanes of a whole vector.
    pub fn per_part(self) -> usize {
        if self.lane.mask() == Lane::M32 { 4 } else { 2 }
    }

    pub fn parts(self) -> usize {
        self.lanes.div_ceil(self.per_part())
    }

    /// The machine type of a scalar.
    pub fn scalar(self) -> Type {
        match self.lane {
            Lane::F16 => types::F16,
            Lane::F32 => types::F32,
            Lane::F64 => types::F64,
            Lane::I32 => types::I32,
            Lane::I64 => types::I64,
            Lane::M32 | Lane::M64 => types::I8,
        }
    }

    /// The machine type of a vector.
    pub fn vector(self) -> Type {
        match self.lane {
            Lane::F16 => types::F16X8,
            Lane::F32 => types::F32X4,
            Lane::F64 => types::F64X2,
            Lane::I32 | Lane::M32 => types::I32X4,
            Lane::I64 | Lane::M64 => types::I64X2,
        }
    }

    /// The machine type of each part.
    pub fn part(self) -> Type {
        if self.is_scalar() { self.scalar() } else { self.vector() }
    }

    pub fn is_float(self) -> bool {
        matches!(self.lane, Lane::F32 | Lane::F64)
    }

    pub fn is_mask(self) -> bool {
        matches!(self.lane, Lane::M32 | Lane::M64)
    }

    /// Bits of a lane in a vector.
    pub fn bits(self) -> u32 {
        if self.lane.mask() == Lane::M32 { 32 } else { 64 }
    }

    /// The integer vector with lanes of the same width.
    pub fn int_vector(self) -> Type {
        if self.bits() == 32 { types::I32X4 } else { types::I64X2 }
    }
}
