//! How an axis is cut into register tiles: full tiles in a loop, a smaller one at the end, and,
//! where a window reaches over the tensor's edge, tiles of their own at the borders.

use crate::base::Affine;
use crate::schedule::linear::{Guard, Node};
use crate::schedule::{Linear, Schedule};

/// Consecutive tiles of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first point.
    pub start: usize,
    /// Points of the axis in a tile.
    pub points: usize,
    /// Number of tiles; more than one run in a loop.
    pub count: usize,
    /// Some of the tile's windows reach outside: what lies there is left out, point by point.
    pub border: bool,
}

/// The guards of a definition's fold whose fill leaves the fold unchanged, so that points outside
/// can be left out.
pub fn droppable_guards(linear: &Linear) -> Vec<Guard> {
    let Some((fold, dtype, body)) = linear.fold else { return Vec::new() };
    let identity = fold.identity(dtype);
    let is_zero = |n: &Node| matches!(n, Node::Load { fill: Some(f), .. } if f.bits == 0);
    let node = |e: u32| &linear.nodes[e as usize];
    let stripped = |mut e: u32| {
        while let Node::Cast { arg, .. } = node(e) {
            e = *arg;
        }
        node(e)
    };
    let guards_of = |n: &Node| match n {
        Node::Load { guards, dynamic, .. } if dynamic.is_empty() => guards.clone(),
        _ => Vec::new(),
    };
    match node(body) {
        n @ Node::Load { fill: Some(f), .. } if *f == identity => guards_of(n),
        // A sum of products: a factor that is zero drops the product.
        Node::Op(crate::scalar::Op::Mul, args) if fold == crate::scalar::Fold::Sum => {
            args.iter().map(|&a| stripped(a)).filter(|n| is_zero(n)).flat_map(guards_of).collect()
        }
        _ => Vec::new(),
    }
}

/// Cuts an axis into tiles.
pub fn segments(linear: &Linear, schedule: &Schedule, guards: &[Guard], var: u32) -> Vec<Segment> {
    let extent = linear.extent(var);
    let points = (schedule.points(var) * schedule.axis_lanes(var)).min(extent.max(1));
    let (safe_lo, safe_hi) = safe_range(linear, guards, var, extent);
    let mut list: Vec<Segment> = Vec::new();
    let mut start = 0;
    while start < extent {
        let tile = points.min(extent - start);
        let border = points > 1 && ((start as i64) < safe_lo || (start + tile) as i64 > safe_hi);
        match list.last_mut() {
            Some(last) if !border && !last.border && last.points == tile => last.count += 1,
            _ => list.push(Segment { start, points: tile, count: 1, border }),
        }
        start += tile;
    }
    list
}

/// The points of an axis at which no guard can fail, whatever the reduction axes are.
fn safe_range(linear: &Linear, guards: &[Guard], var: u32, extent: usize) -> (i64, i64) {
    let (mut lo, mut hi) = (0, extent as i64);
    for guard in guards {
        let step = guard.form.coefficient(var);
        if step <= 0 {
            continue;
        }
        let mut rest: Affine = guard.form.clone();
        rest.add_term(var, -step);
        let (least, most) = rest.range(|v| linear.extent(v));
        // step*o + least >= 0  and  step*o + most < extent of the dimension.
        lo = lo.max(-(least.div_euclid(step)));
        hi = hi.min((guard.extent as i64 - 1 - most).div_euclid(step) + 1);
    }
    (lo, hi)
}
