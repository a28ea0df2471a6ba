//! A function of sizes that is not affine.

use crate::scalar::Op;

/// A function that is not affine.
#[derive(Clone, Copy)]
pub(super) enum Derived {
    /// `floor((factor * size + offset) / divisor)`.
    Divided { size: usize, factor: i64, offset: i64, divisor: i64 },
    /// `(factor * a + offset) * (by.0 * b + by.1)`.
    Product { a: usize, b: usize, factor: i64, offset: i64, by: (i64, i64) },
    /// `floor((factors.0 * a + factors.1 * b + offset) / 2)`.
    Half { a: usize, b: usize, factors: (i64, i64), offset: i64 },
    /// The smaller or larger of `size + offset` and a number.
    Limited { size: usize, offset: i64, limit: i64, op: Op },
}

impl Derived {
    /// The number, where sizes have the given values.
    pub(super) fn of(self, at: impl Fn(usize) -> i64) -> i64 {
        match self {
            Derived::Divided { size, factor, offset, divisor } => {
                (factor * at(size) + offset).div_euclid(divisor)
            }
            Derived::Product { a, b, factor, offset, by } => {
                (factor * at(a) + offset) * (by.0 * at(b) + by.1)
            }
            Derived::Half { a, b, factors, offset } => {
                (factors.0 * at(a) + factors.1 * at(b) + offset).div_euclid(2)
            }
            Derived::Limited { size, offset, limit, op: Op::Min } => (at(size) + offset).min(limit),
            Derived::Limited { size, offset, limit, .. } => (at(size) + offset).max(limit),
        }
    }
}
