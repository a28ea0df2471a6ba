//! Results stored as planes: lanes that lie apart in memory, of rows that are neighbours there.
//!
//! Encoders turn them in registers (`codegen/planes.rs`), as far as a tile has enough rows.

use super::cores::{core, kept_lines};
use super::linear::Linear;
use crate::target::Target;

/// Rows that are turned together, and shuffles that this takes.
const TURNED: usize = 4;
const SHUFFLES: f64 = 8.0;
/// Rows and lanes of a line of the caches, which are turned and stored as a whole, and the shuffles of that.
const WHOLE: usize = 16;
const WHOLE_SHUFFLES: f64 = 64.0;
/// Cycles of a lane that is stored by itself, and of a store to a line that the first-level cache has not kept from the
/// last row on (measured on Golden Cove).
const ALONE: f64 = 4.0;
const MISSED: f64 = 7.0;

/// Rows that are turned together, of so many with such vectors; all of them where they are too few for that.
pub fn together(rows: usize, lanes: usize) -> usize {
    match rows {
        WHOLE.. if lanes >= WHOLE => WHOLE,
        TURNED.. => TURNED,
        _ => rows,
    }
}

/// Where results lie.
#[derive(Clone, Copy)]
pub struct Planes {
    /// Bytes from one lane to the next.
    apart: usize,
}

impl Planes {
    /// Those of a definition whose lanes are filled along one axis, where an encoder turns them.
    pub fn of(linear: &Linear, target: &Target, var: u32, rows: u32) -> Option<Planes> {
        let (step, size) =
            (linear.store.coefficient(var).unsigned_abs() as usize, linear.output.dtype.size());
        let planes = size == 4 && step >= TURNED && linear.store.coefficient(rows) == 1;
        (planes && core(target).apart.is_none()).then_some(Planes { apart: step * size })
    }

    /// Cycles in which a tile of so many rows and lanes is stored.
    pub fn cycles(&self, target: &Target, rows: usize, lanes: usize) -> f64 {
        let whole = if target.lanes() >= WHOLE { rows / WHOLE } else { 0 };
        let left = rows - WHOLE * whole;
        let (turned, alone) = (left / TURNED, left % TURNED);
        let vectors = lanes as f64 / target.lanes() as f64;
        let shuffles = vectors * (whole as f64 * WHOLE_SHUFFLES + turned as f64 * SHUFFLES);
        let stores = lanes as f64 * (whole + turned) as f64;
        let alone = (lanes * alone) as f64;
        let missed = if lanes > kept_lines(target, self.apart) { MISSED } else { 0.0 };
        shuffles + stores * (1.0 + missed) + alone * (ALONE + missed)
    }
}
