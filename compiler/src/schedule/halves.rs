//! What is computed in half floats as such, on targets that do: sums of their products, and what a single operation
//! on them gives.
//!
//! An operation on half floats rounds as the same one in `f32` whose result is rounded to a half float: `f32` has
//! more than twice their bits (S. Figueroa, "When is double rounding innocuous?", 1995). Sums do not.

use super::guards::decided;
use super::linear::{Linear, Node};
use crate::base::DType;
use crate::scalar::{Fold, Op, cast};
use crate::target::Target;

/// Products of half floats that are summed as such at most. By a random walk such a sum has six times the error of
/// its own rounding to a half float, which 32 products have four times and 960, the longest sum of MobileNetV2,
/// 22 times; sums of these sums in `f32` add none. The shorter, the more of them are converted and added.
pub const HALF_SUMS: usize = 64;

/// Half floats in a vector.
pub(super) fn half_lanes(target: &Target) -> usize {
    target.vector_bytes / size_of::<u16>()
}

/// Whether a fold sums products of two half floats, plain loads. What lies outside of a padded tensor is zero,
/// and decided before a kernel is built. The sum is a half float itself, so that what overflows does so in the model.
pub(super) fn half_factors(linear: &Linear) -> bool {
    let Some((Fold::Sum, DType::F32, body)) = linear.fold else { return false };
    let Node::Op(Op::Mul, args) = &linear.nodes[body as usize] else { return false };
    let half = |&factor: &u32| {
        let Node::Cast { to: DType::F32, arg, .. } = &linear.nodes[factor as usize] else { return false };
        let Node::Load { dynamic, fill, .. } = &linear.nodes[*arg as usize] else { return false };
        let zero = fill.is_none_or(|fill| fill.to_f64() == 0.0);
        linear.types[*arg as usize] == DType::F16 && dynamic.is_empty() && zero
    };
    let sized = linear.reductions().any(|r| linear.vars[r as usize].size.is_some());
    args.iter().all(half) && !sized && rounds_first(linear) && decided(linear).is_some()
}

/// Whether a folded value, or its sum with what is added first, is rounded to a half float before all else.
fn rounds_first(linear: &Linear) -> bool {
    let finish = linear.reachable(linear.finish);
    let users =
        |e: u32| finish.iter().copied().filter(move |&n| linear.nodes[n as usize].args().contains(&e));
    let rounds = |e: u32| e != linear.finish && users(e).all(|n| linear.types[n as usize] == DType::F16);
    let is_acc = |&e: &u32| matches!(linear.nodes[e as usize], Node::Acc);
    finish.iter().copied().filter(is_acc).all(|acc| {
        let adds = |n: u32| matches!(linear.nodes[n as usize], Node::Op(Op::Add, _)) && rounds(n);
        acc != linear.finish && users(acc).all(|n| linear.types[n as usize] == DType::F16 || adds(n))
    })
}

/// Whether what a definition stores is computed in half floats: operations each of which rounds to one, of loads
/// and constants, and of the folded value where that is a short sum.
pub(super) fn half_finish(linear: &Linear) -> bool {
    let folds = matches!(linear.nodes[linear.finish as usize], Node::Load { .. });
    !folds && linear.output.dtype == DType::F16 && is_half(linear, linear.finish)
}

/// Whether an expression of half floats, or of `f32` that hold what half floats do, is computed in these.
fn is_half(linear: &Linear, e: u32) -> bool {
    let all = |args: &[u32]| args.iter().all(|&a| is_half(linear, a));
    match (&linear.nodes[e as usize], linear.types[e as usize]) {
        (Node::Load { dynamic, guards, .. }, DType::F16) => dynamic.is_empty() && guards.is_empty(),
        (Node::Const(_), DType::F16) | (Node::Acc, DType::F32) => true,
        (Node::Const(s), DType::F32) => cast(cast(*s, DType::F16, true), DType::F32, true).bits == s.bits,
        (Node::Cast { arg, .. }, DType::F32) => {
            linear.types[*arg as usize] == DType::F16 && is_half(linear, *arg)
        }
        (Node::Cast { arg, .. }, DType::F16) => {
            match (&linear.nodes[*arg as usize], linear.types[*arg as usize]) {
                (Node::Op(Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Sqrt, args), DType::F32) => all(args),
                (_, DType::F32) => is_half(linear, *arg),
                _ => false,
            }
        }
        (Node::Op(Op::Max | Op::Min | Op::Neg | Op::Abs, args), DType::F32) => all(args),
        _ => false,
    }
}
