//! The loops of a tile's reduction: their order, and how much of them is unrolled.

use super::ReduceStep;
use super::choose::overlap_along;
use super::factors::walks;
use super::linear::{Guard, Linear, Node};
use crate::base::affine::SIZE;

/// Multiply-adds of a window that slides along a tile's rows unrolled in one block at most.
pub(super) const SLIDING: usize = 96;
/// Accumulators up to which a loop's own instructions are done while the core waits for their sums.
const FEW: usize = 2;
/// Points of a reduction from which its loop's own instructions are worth halving, and vectors of
/// a tile up to which that leaves registers for the loads.
const LONG: usize = 48;
const SMALL_TILE: usize = 12;

/// The reduction axes inside the tile: windows outside, the axis the operands walk by 1 inside.
/// `by_lane`: elements of it that are loaded together.
pub(super) fn reduction_steps(
    linear: &Linear,
    product: Option<(&Node, &Node)>,
    var: u32,
    rows: Option<u32>,
    tile: usize,
    (by_lane, most): (usize, usize),
) -> Vec<ReduceStep> {
    let guards: Vec<&Guard> = (linear.nodes.iter())
        .flat_map(|n| match n {
            Node::Load { guards, .. } => guards.as_slice(),
            _ => &[],
        })
        .collect();
    // A window that moves with a loop has bounds that move with it, and so is a loop itself; it
    // goes outside of the windows that the tile's rows hold still.
    let moving = |r: u32| {
        let axis = |v: u32| v < SIZE && !linear.vars[v as usize].reduce && Some(v) != rows && v != var;
        guards.iter().any(|g| g.form.coefficient(r) != 0 && g.form.terms.iter().any(|t| axis(t.0)))
    };
    let guarded = |r: u32| guards.iter().any(|g| g.form.coefficient(r) != 0);
    let stride = |r: u32| -> i64 {
        let walk = |n: &Node| match n {
            Node::Load { addr, .. } if !walks(n, var) || product.is_none() => addr.coefficient(r).abs(),
            _ => 0,
        };
        match product {
            Some((a, b)) => walk(a).max(walk(b)),
            None => linear.nodes.iter().map(walk).max().unwrap_or(0),
        }
    };
    // What rows share of a window that slides along them is loaded once where the window is unrolled.
    let slides = |r: u32| {
        rows.is_some_and(|rows| {
            linear.nodes.iter().any(|n| match n {
                Node::Load { addr, .. } => [var, rows, r].iter().all(|&v| addr.coefficient(v) != 0),
                _ => false,
            })
        })
    };
    let mut order: Vec<u32> = linear.reductions().collect();
    // The window along the rows is innermost, so that what they share of it is loaded once.
    let shares = |rows: u32, r: u32| {
        let window = |n: &Node| match n {
            Node::Load { addr, .. } => overlap_along(linear, addr, rows, r).is_some(),
            _ => false,
        };
        linear.nodes.iter().any(window)
    };
    let along = |r: u32| slides(r) && rows.is_some_and(|rows| shares(rows, r));
    order.sort_by_key(|&r| (!moving(r), along(r), !guarded(r), -stride(r)));
    // A body that is more than a multiply-add counts for as many.
    let operations = linear.nodes.iter().filter(|n| matches!(n, Node::Op(..))).count();
    let mut unrolled = tile * if product.is_none() { (operations / 4).max(1) } else { 1 };
    let mut steps: Vec<ReduceStep> = Vec::new();
    for (depth, &r) in order.iter().rev().enumerate() {
        let extent = linear.extent(r).max(1);
        let most = if slides(r) { SLIDING } else { most };
        let unroll = if moving(r) {
            1
        } else if extent * unrolled <= if depth == 0 && unrolled <= FEW { most / 4 } else { most } {
            extent
        } else if depth > 0 {
            1
        } else if by_lane > 1 && extent >= LONG && extent.is_multiple_of(8) && tile <= SMALL_TILE {
            8
        } else if by_lane > 1 && extent >= by_lane {
            by_lane
        } else {
            whole_steps((most / 2 / unrolled).clamp(1, extent).min(8), extent)
        };
        // Outside a loop nothing is unrolled.
        let looped = steps.last().is_some_and(|s| s.unroll < linear.extent(s.var));
        steps.push(ReduceStep { var: r, unroll: if looped { 1 } else { unroll } });
        unrolled *= unroll;
    }
    steps.reverse();
    steps
}

/// The most iterations, up to `most` and more than half of them, that leave none of `extent` for a body of
/// their own; `most` where there are no such.
pub(super) fn whole_steps(most: usize, extent: usize) -> usize {
    (most / 2 + 1..=most).rev().find(|&steps| extent.is_multiple_of(steps)).unwrap_or(most)
}
