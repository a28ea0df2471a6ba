//! Chooses schedules: by the structure of a definition and a small cost model, never by operator.
//!
//! Three shapes matter. A *contraction* sums products of two loads: it wants a register tile with
//! both operands reused. Another *fold* (pooling, means) wants independent accumulators. A
//! *pointwise* definition wants long vectors. First is chosen what fills the lanes (`vector`), then the
//! schedule that does what the definition says (`direct`; `blocked` where blocks of integers have scales), then whether
//! a convolution takes fewer multiplications (`filtering`, `pruned`). Goldens of the decisions: `tests/golden/schedule`.

use super::blocked::blocked;
use super::cores::requantizes_placed;
use super::direct::direct;
use super::filtering::filtered;
use super::linear::{Facts, Linear};
use super::pruned::sparse;
use super::vector::choose_vector;
use super::{Schedule, Vector};
use crate::target::Target;

/// The schedule of a definition for a target.
pub fn choose(linear: &Linear, target: &Target) -> Schedule {
    with_vector(linear, target, choose_vector(linear, target))
}

/// The same where time counts, whatever counts for the whole plan.
pub fn choose_fast(linear: &Linear, target: &Target) -> Schedule {
    match linear.compact {
        true => choose(&Linear { compact: false, ..linear.clone() }, target),
        false => choose(linear, target),
    }
}

/// The same where bytes count before time: nothing is filtered, no copy of weights is made, and tiles have little code.
pub fn choose_small(linear: &Linear, target: &Target) -> Schedule {
    let facts = Facts { chains: None, ..linear.facts };
    let linear = &Linear { facts, compact: true, ..linear.clone() };
    Schedule { winograd: None, ..choose(linear, target) }
}

/// The schedule of a definition where what fills the lanes is given.
pub(super) fn with_vector(linear: &Linear, target: &Target, vector: Vector) -> Schedule {
    if let Some(blocked) = blocked(linear, target, vector) {
        return blocked;
    }
    let (schedule, tiling) = direct(linear, target, vector);
    let Some(tiling) = tiling else { return schedule };
    let (schedule, cycles) = match (filtered(linear, target, &schedule, &tiling), vector) {
        (Some((filtered, cycles)), _) => (filtered, cycles),
        (None, Vector::Axis { var, .. }) => (schedule, tiling.all(tiling.couples, linear, var)),
        (None, _) => return schedule,
    };
    sparse(linear, target, &schedule, cycles).unwrap_or(schedule)
}

/// Whether multiply-adds requantize a definition: not where filters change the same constants.
pub fn places(linear: &Linear, target: &Target) -> bool {
    requantizes_placed(target) && !linear.compact && choose(linear, target).winograd.is_none()
}
