//! Accumulators of a fold: what they begin with, how an element or another accumulator joins them.

use super::emit::Emitter;
use super::ops::of_quads;
use super::registers::{lane_of, quad};
use super::{Nest, TilePoint};
use crate::base::DType;
use crate::scalar::{Fold, cast};
use crate::schedule::{Linear, Schedule, Vector, added_first};
use crate::tile::{Bin, Lane, Reg, RegType, Value};

/// A sum to which the finish adds something first (a bias): accumulators begin with it.
#[derive(Clone, Copy)]
pub struct Started {
    /// The expression that the folded value is then.
    pub sum: u32,
    /// What accumulators begin with.
    pub addend: u32,
}

impl Started {
    /// Where integers are summed, or the schedule says so.
    pub fn of(linear: &Linear, schedule: &Schedule) -> Option<Started> {
        let begins = linear.fold?.1 == DType::I32 || schedule.begun;
        if !begins || matches!(schedule.vector, Vector::Reduction { .. }) {
            return None;
        }
        let (sum, addend) = added_first(linear)?;
        Some(Started { sum, addend })
    }

    /// An accumulator at a point of the tile.
    pub(super) fn begun(self, nest: &Nest, e: &mut Emitter, point: &TilePoint, index_error: i32) -> Reg {
        let value = self.addend(nest, e, point, index_error);
        let acc = e.fresh(e.ty(value));
        e.assign(acc, Value::Copy(value));
        acc
    }

    /// What the finish adds at a point of the tile.
    pub(super) fn addend(self, nest: &Nest, e: &mut Emitter, point: &TilePoint, index_error: i32) -> Reg {
        let place = nest.place_of(point);
        let at = nest.point(&place, point, None);
        nest.eval(e, self.addend, &at, index_error)
    }
}

/// The kind of accumulator: the fold and its element type.
#[derive(Clone, Copy)]
pub struct Accumulator {
    pub fold: Fold,
    pub dtype: DType,
    /// Four numbers of one byte in each lane.
    pub quads: bool,
}

impl Accumulator {
    /// A register that holds the fold's identity.
    pub fn start(self, e: &mut Emitter, lanes: usize) -> Reg {
        let reg = e.fresh(RegType { lane: lane_of(self.dtype), lanes: lanes as u8 });
        e.assign(reg, Value::Const(if self.quads { quad(self.identity()) } else { self.identity() }));
        reg
    }

    /// The identity as the accumulator's lane holds it.
    fn identity(self) -> u64 {
        let identity = self.fold.identity(self.dtype);
        match (lane_of(self.dtype), self.dtype) {
            (Lane::F32, _) => cast(identity, DType::F32, true).bits,
            (Lane::I32, _) if self.dtype.is_signed_int() => cast(identity, DType::I32, true).bits,
            _ => identity.bits,
        }
    }

    fn bin(self) -> Bin {
        match (self.fold, self.dtype.is_unsigned_int()) {
            (Fold::Max | Fold::Min, unsigned) if self.quads => of_quads(self.fold == Fold::Max, unsigned),
            (Fold::Sum, _) => Bin::Add,
            (Fold::Prod, _) => Bin::Mul,
            (Fold::Max, true) => Bin::MaxU,
            (Fold::Min, true) => Bin::MinU,
            (Fold::Max, false) => Bin::Max,
            (Fold::Min, false) => Bin::Min,
            (Fold::And, _) => Bin::And,
            (Fold::Or, _) => Bin::Or,
        }
    }

    /// The accumulator with one more element.
    pub fn with(self, acc: Reg, value: Reg) -> Value {
        match self.fold {
            Fold::Max | Fold::Min => Value::Bin(self.bin(), value, acc),
            _ => Value::Bin(self.bin(), acc, value),
        }
    }

    /// Two accumulators as one.
    pub fn joined(self, e: &mut Emitter, ty: RegType, a: Reg, b: Reg) -> Reg {
        e.value(ty, Value::Bin(self.bin(), b, a))
    }

    /// The folded value: sums and products of narrow integers wrap at the end.
    pub fn finished(self, e: &mut Emitter, value: Reg) -> Reg {
        match self.dtype {
            _ if self.quads => value,
            DType::I8 | DType::I16 | DType::U8 | DType::U16 => {
                super::ops::cast(e, value, DType::I32, self.dtype, true)
            }
            _ => value,
        }
    }
}
