//! The loops of a tile's reduction: their order, and how much of them is unrolled.

use super::ReduceStep;
use super::factors::walks;
use super::linear::{Guard, Linear, Node};
use super::loads::overlap_along;
use crate::base::Affine;
use crate::base::affine::SIZE;

/// Multiply-adds of a window that slides along a tile's rows unrolled in one block at most.
pub(super) const SLIDING: usize = 96;
/// Sums that fill the time until a multiply-add's result can be added to, where two begin each cycle.
pub(super) const FILLING: usize = 8;
/// Points of a reduction in each iteration of its loop at most.
pub(super) const MOST_POINTS: usize = 8;
/// Accumulators up to which a loop's own instructions are done while the core waits for their sums.
const FEW: usize = 2;
/// Points of a reduction from which its loop's own instructions are worth halving, and vectors of
/// a tile up to which that leaves registers for the loads.
const LONG: usize = 48;
const SMALL_TILE: usize = 12;

/// Whether windows of so many points along the rows are unrolled whole, with enough sums.
pub(super) fn unrolled_whole(extent: usize) -> bool {
    extent * FILLING <= SLIDING
}

/// The reduction axes inside the tile: windows outside, the axis the operands walk by 1 inside.
/// `by_lane`: elements of it that are loaded together; `most` multiply-adds are unrolled, and `repeated` in each
/// iteration of a loop that goes on.
pub(super) fn reduction_steps(
    linear: &Linear,
    product: Option<(&Node, &Node)>,
    var: u32,
    rows: Option<u32>,
    tile: usize,
    (by_lane, most, repeated): (usize, usize, usize),
) -> Vec<ReduceStep> {
    let axes = Axes { linear, product, var, rows };
    let mut order: Vec<u32> = linear.reductions().collect();
    order.sort_by_key(|&r| (!axes.moves(r), axes.is_shared(r), !axes.is_guarded(r), -axes.stride(r)));
    // A body that is more than a multiply-add counts for as many.
    let operations = linear.nodes.iter().filter(|n| matches!(n, Node::Op(..))).count();
    let mut unrolled = tile * if product.is_none() { (operations / 4).max(1) } else { 1 };
    let mut steps: Vec<ReduceStep> = Vec::new();
    for (depth, &r) in order.iter().rev().enumerate() {
        let extent = linear.extent(r).max(1);
        let (most, repeated) = match axes.slides(r) {
            true => (SLIDING, repeated.max(SLIDING / 2)),
            false => (most, repeated),
        };
        let unroll = if axes.moves(r) {
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
            whole_steps((repeated / unrolled).clamp(1, extent).min(MOST_POINTS), extent)
        };
        // Outside a loop nothing is unrolled.
        let looped = steps.last().is_some_and(|s| s.unroll < linear.extent(s.var));
        steps.push(ReduceStep { var: r, unroll: if looped { 1 } else { unroll } });
        unrolled *= unroll;
    }
    steps.reverse();
    steps
}

/// The reduction axes of a fold, as seen from its tile: the axis that fills lanes, and that of the rows.
struct Axes<'a> {
    linear: &'a Linear,
    product: Option<(&'a Node, &'a Node)>,
    var: u32,
    rows: Option<u32>,
}

impl Axes<'_> {
    fn any_guard(&self, holds: impl Fn(&Guard) -> bool) -> bool {
        let of = |n: &Node| matches!(n, Node::Load { guards, .. } if guards.iter().any(&holds));
        self.linear.nodes.iter().any(of)
    }

    fn any_load(&self, holds: impl Fn(&Affine) -> bool) -> bool {
        let of = |n: &Node| matches!(n, Node::Load { addr, .. } if holds(addr));
        self.linear.nodes.iter().any(of)
    }

    /// A window that moves with a loop has bounds that move with it, and so is a loop itself; it
    /// goes outside of the windows that the tile's rows hold still.
    fn moves(&self, r: u32) -> bool {
        let reduce = |v: u32| self.linear.vars[v as usize].reduce;
        let axis = |v: u32| v < SIZE && !reduce(v) && Some(v) != self.rows && v != self.var;
        self.any_guard(|g| g.form.coefficient(r) != 0 && g.form.terms.iter().any(|t| axis(t.0)))
    }

    fn is_guarded(&self, r: u32) -> bool {
        self.any_guard(|g| g.form.coefficient(r) != 0)
    }

    /// Elements between neighbours along an axis, in what is not loaded as vectors.
    fn stride(&self, r: u32) -> i64 {
        let walk = |n: &Node| match n {
            Node::Load { addr, .. } if !walks(n, self.var) || self.product.is_none() => {
                addr.coefficient(r).abs()
            }
            _ => 0,
        };
        match self.product {
            Some((a, b)) => walk(a).max(walk(b)),
            None => self.linear.nodes.iter().map(walk).max().unwrap_or(0),
        }
    }

    /// Whether a window slides along the rows: what they share of it is loaded once where it is unrolled.
    fn slides(&self, r: u32) -> bool {
        self.rows.is_some_and(|rows| {
            self.any_load(|addr| [self.var, rows, r].iter().all(|&v| addr.coefficient(v) != 0))
        })
    }

    /// Whether rows share points of the window along this axis, which is innermost then, so that these are loaded
    /// once.
    fn is_shared(&self, r: u32) -> bool {
        let along = |rows: u32| self.any_load(|addr| overlap_along(self.linear, addr, rows, r).is_some());
        self.slides(r) && self.rows.is_some_and(along)
    }
}

/// The most iterations, up to `most` and more than half of them, that leave none of `extent` for a body of
/// their own; `most` where there are no such.
pub(super) fn whole_steps(most: usize, extent: usize) -> usize {
    (most / 2 + 1..=most).rev().find(|&steps| extent.is_multiple_of(steps)).unwrap_or(most)
}
