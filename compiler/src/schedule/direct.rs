//! Schedules that do what a definition says, multiplication by multiplication, where it is given what fills the lanes.

use super::cost::Tiling;
use super::elementwise::{alone, pointwise};
use super::linear::Linear;
use super::over_lanes::over_lanes;
use super::tiled::tiled;
use super::{Schedule, Vector};
use crate::target::Target;

/// The schedule, and of a fold along an axis what its register tile takes.
pub(super) fn direct(linear: &Linear, target: &Target, vector: Vector) -> (Schedule, Option<Tiling>) {
    match vector {
        Vector::None => (alone(linear), None),
        Vector::Reduction { var, lanes } => (over_lanes(linear, target, var, lanes), None),
        Vector::Axis { var, lanes } if linear.fold.is_some() => {
            let (schedule, tiling) = tiled(linear, target, var, lanes);
            (schedule, Some(tiling))
        }
        Vector::Axis { var, lanes } => (pointwise(linear, target, var, lanes), None),
    }
}
