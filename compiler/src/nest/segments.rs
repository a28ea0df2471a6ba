//! How an axis is cut into register tiles: full tiles in a loop, a smaller one at the end, and,
//! where a window reaches over the tensor's edge, tiles of their own at the borders.

use super::border::joined;
use crate::base::{Affine, Bound};
use crate::scalar::{Fold, Op};
use crate::schedule::linear::{Guard, Node};
use crate::schedule::{Linear, Schedule};

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
    /// Some of the tile's windows reach outside: what lies there is left out, point by point.
    pub border: bool,
    /// Windows of the first or the last tile reach outside: all tiles run by the same code
    /// ([`super::border`]).
    pub cut: bool,
}

/// The guards of the one padded load of a definition's fold, where each ties at most one axis to
/// one reduction axis: then the schedule decides, tile by tile, what lies outside.
pub fn decidable_guards(linear: &Linear) -> Vec<Guard> {
    let Some((_, _, body)) = linear.fold else { return Vec::new() };
    let padded: Vec<&Node> = (linear.reachable(body).into_iter().map(|e| &linear.nodes[e as usize]))
        .filter(|n| matches!(n, Node::Load { guards, .. } if !guards.is_empty()))
        .collect();
    let found = match padded.as_slice() {
        [Node::Load { guards, dynamic, .. }] if dynamic.is_empty() => guards.clone(),
        _ => return Vec::new(),
    };
    let simple = |g: &Guard| {
        if g.size.is_some() || g.form.has_size() {
            return false;
        }
        let reduce = g.form.terms.iter().filter(|t| linear.vars[t.0 as usize].reduce).count();
        reduce <= 1 && g.form.terms.len() - reduce <= 1 && g.form.terms.iter().all(|t| t.1 > 0)
    };
    if found.iter().all(simple) { found } else { Vec::new() }
}

/// Whether what lies outside leaves the fold unchanged, so that it need not be computed: the fill
/// is the fold's identity, or a zero factor of a sum.
pub fn outside_is_neutral(linear: &Linear) -> bool {
    let Some((fold, dtype, body)) = linear.fold else { return false };
    let node = |mut e: u32| {
        while let Node::Cast { arg, .. } = &linear.nodes[e as usize] {
            e = *arg;
        }
        &linear.nodes[e as usize]
    };
    let padding = |n: &Node| match n {
        Node::Load { fill, guards, .. } if !guards.is_empty() => *fill,
        _ => None,
    };
    match &linear.nodes[body as usize] {
        Node::Op(Op::Mul, args) if fold == Fold::Sum => {
            args.iter().filter_map(|&a| padding(node(a))).all(|f| f.bits == 0)
        }
        n @ Node::Load { .. } => padding(n).is_none_or(|f| f == fold.identity(dtype)),
        _ => false,
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

/// Cuts an axis into tiles. `decided` says whether the schedule decides all that lies outside.
pub fn segments(
    linear: &Linear,
    schedule: &Schedule,
    (guards, decided): (&[Guard], bool),
    var: u32,
) -> Vec<Segment> {
    let extent = linear.extent(var);
    let points = (schedule.points(var) * schedule.axis_lanes(var)).min(extent.max(1));
    let (safe_lo, safe_hi) = safe_range(linear, guards, var, extent);
    let mut list: Vec<Segment> = Vec::new();
    let window = |at: usize| window_at(linear, guards, var, at as i64);
    let push = |list: &mut Vec<Segment>, start: usize, tile: usize, border: bool| match list.last_mut() {
        Some(last)
            if !border
                && !last.border
                && last.points == tile
                && (tile > 1 || window(last.start) == window(start)) =>
        {
            last.count += 1;
        }
        _ => list.push(Segment { start, points: tile, count: 1, border, cut: false }),
    };
    let wide = guards
        .iter()
        .filter(|g| g.form.coefficient(var) != 0)
        .any(|g| reduction_of(linear, g).is_some_and(|r| linear.extent(r) > WIDE_WINDOW));
    let mut start = 0;
    while start < extent {
        let tile = points.min(extent - start);
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
    match decided && !wide && outside_is_neutral(linear) {
        true => joined(linear, schedule, guards, var, list),
        false => list,
    }
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

/// Joins the constant forms of a bound into one.
pub fn constant_of(bound: Bound, better: fn(i64, i64) -> i64) -> Bound {
    let (constants, mut rest): (Vec<Affine>, Vec<Affine>) =
        bound.0.into_iter().partition(Affine::is_constant);
    if let Some(c) = constants.iter().map(|c| c.base).reduce(better) {
        rest.insert(0, Affine::constant(c));
    }
    Bound(rest)
}
