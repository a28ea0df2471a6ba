//! How an axis is cut into register tiles: full tiles in a loop, a smaller one at the end, and,
//! where a window reaches over the tensor's edge, tiles of their own at the borders (along lanes: single
//! points).

use crate::base::{Affine, Bound};
use crate::definition::ExprId;
use crate::scalar::{Fold, Op, Scalar, cast, eval};
use crate::schedule::linear::{Guard, Node};
use crate::schedule::{Linear, Schedule, safe_range};

/// Points of a window above which a border is computed point by point, the window in a loop: to
/// decide each of its points in each point of a tile would take too much code.
const WIDE_WINDOW: usize = 12;

/// Consecutive tiles of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first point.
    pub start: usize,
    /// Points of the axis in a tile.
    pub points: usize,
    /// Number of tiles; more than one run in a loop.
    pub count: usize,
    /// Whether their windows reach outside.
    pub edge: Edge,
}

/// Whether windows of consecutive tiles reach outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// None does.
    Inside,
    /// Some do: what lies there is left out, point by point.
    Border,
    /// Those of the first or the last tile do: all tiles run by the same code ([`super::border`]).
    Cut,
    /// Those of some tiles do: they begin and end by the same code ([`super::border`]).
    Parts,
    /// Those of some tiles do: all run by the same code, in which such points are tested.
    Tested,
}

/// Whether what lies outside leaves the fold unchanged, so that it need not be computed: the fill
/// is the fold's identity, or a factor of a sum is zero there.
pub fn outside_is_neutral(linear: &Linear) -> bool {
    let Some((fold, dtype, body)) = linear.fold else { return false };
    let fill = |e: ExprId| match &linear.nodes[e as usize] {
        Node::Load { fill, guards, .. } if !guards.is_empty() => Some((e, (*fill)?)),
        _ => None,
    };
    let mut padded = linear.reachable(body).into_iter().filter_map(fill);
    match &linear.nodes[body as usize] {
        Node::Op(Op::Mul, args) if fold == Fold::Sum => padded.all(|(load, fill)| {
            let zero = |s: Scalar| s.to_f64() == 0.0;
            args.iter().any(|&a| known_outside(linear, a, load, fill).is_some_and(zero))
        }),
        Node::Load { .. } => padded.all(|(_, fill)| fill == fold.identity(dtype)),
        _ => false,
    }
}

/// What an expression is where one load gives its fill; `None` where that depends on more.
fn known_outside(linear: &Linear, e: ExprId, load: ExprId, fill: Scalar) -> Option<Scalar> {
    match &linear.nodes[e as usize] {
        _ if e == load => Some(fill),
        Node::Const(scalar) => Some(*scalar),
        Node::Cast { to, saturate, arg } => {
            Some(cast(known_outside(linear, *arg, load, fill)?, *to, *saturate))
        }
        Node::Op(op, args) => {
            let args: Option<Vec<Scalar>> =
                args.iter().map(|&a| known_outside(linear, a, load, fill)).collect();
            Some(eval(*op, &args?))
        }
        _ => None,
    }
}

/// The points of a guard's reduction axis that lie inside, where the other index stands at `rest`.
pub fn inside(linear: &Linear, guard: &Guard, reduction: u32, rest: i64) -> (i64, i64) {
    let step = guard.form.coefficient(reduction);
    let lo = -(rest.div_euclid(step));
    let hi = (guard.extent as i64 - 1 - rest).div_euclid(step) + 1;
    (lo.max(0), hi.min(linear.extent(reduction) as i64))
}

/// A guard's reduction axis, if it has one.
pub fn reduction_of(linear: &Linear, guard: &Guard) -> Option<u32> {
    guard.form.terms.iter().map(|t| t.0).find(|&v| linear.vars[v as usize].reduce)
}

/// What part of the reduction axes lies inside at one point of an axis, for guards that loop
/// bounds cannot express: those of dilated windows, and those without a window.
fn window_at(linear: &Linear, guards: &[Guard], var: u32, at: i64) -> Vec<(i64, i64)> {
    let involved = guards.iter().filter(|g| g.form.coefficient(var) != 0);
    let windows = involved.filter_map(|guard| {
        let rest = guard.form.base + guard.form.coefficient(var) * at;
        match reduction_of(linear, guard) {
            Some(r) if guard.form.coefficient(r) == 1 => None,
            Some(r) => Some(inside(linear, guard, r, rest)),
            None => Some((0, i64::from((0..guard.extent as i64).contains(&rest)))),
        }
    });
    windows.collect()
}

/// Cuts an axis into tiles.
pub fn segments(linear: &Linear, schedule: &Schedule, guards: &[Guard], var: u32) -> Vec<Segment> {
    let extent = linear.extent(var);
    let points = (schedule.points(var) * schedule.axis_lanes(var)).min(extent.max(1));
    let (safe_lo, safe_hi) = safe_range(linear, guards, var);
    let mut list: Vec<Segment> = Vec::new();
    let window = |at: usize| window_at(linear, guards, var, at as i64);
    let push = |list: &mut Vec<Segment>, start: usize, tile: usize, border: bool| match list.last_mut() {
        Some(last)
            if !border
                && last.edge == Edge::Inside
                && last.points == tile
                && (tile > 1 || window(last.start) == window(start)) =>
        {
            last.count += 1;
        }
        _ => {
            let edge = if border { Edge::Border } else { Edge::Inside };
            list.push(Segment { start, points: tile, count: 1, edge });
        }
    };
    let wide = guards
        .iter()
        .filter(|g| g.form.coefficient(var) != 0)
        .any(|g| reduction_of(linear, g).is_some_and(|r| linear.extent(r) > WIDE_WINDOW));
    let lanes = schedule.axis_lanes(var) > 1;
    let mut start = 0;
    while start < extent {
        // Lanes are not decided one by one: vectors lie inside, between them and the edges single points.
        let (lo, hi) = (safe_lo.max(0) as usize, safe_hi.clamp(0, extent as i64) as usize);
        if lanes && !(lo..hi).contains(&start) {
            push(&mut list, start, 1, false);
            start += 1;
            continue;
        }
        let tile = points.min(if lanes { hi } else { extent } - start);
        let border = points > 1 && ((start as i64) < safe_lo || (start + tile) as i64 > safe_hi);
        match border && wide {
            true => (start..start + tile).for_each(|at| push(&mut list, at, 1, false)),
            false => push(&mut list, start, tile, border),
        }
        // Tiles in which no guard can fail are alike.
        let inside = tile == points && !border && start as i64 >= safe_lo;
        start += tile;
        let more = usize::try_from(safe_hi - start as i64).map_or(0, |rest| rest / points);
        if let Some(last) = list.last_mut().filter(|_| inside) {
            last.count += more;
            start += more * points;
        }
    }
    list
}

/// Joins the constant forms of a bound into one.
pub fn constant_of(bound: Bound, better: fn(i64, i64) -> i64) -> Bound {
    let (constants, mut rest): (Vec<Affine>, Vec<Affine>) =
        bound.0.into_iter().partition(Affine::is_constant);
    if let Some(c) = constants.iter().map(|c| c.base).reduce(better) {
        rest.insert(0, Affine::constant(c));
    }
    Bound(rest)
}
