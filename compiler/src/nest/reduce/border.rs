//! Register tiles at the border of an axis, by the code of the tiles inside.
//!
//! Where a loop runs over the window, tiles differ only in what of the window lies inside:
//! ```text
//! for each tile:
//!     point 0 of the window, without the tile's first point       in the first tile only
//!     for each point of the window that lies inside for all of the tile
//!     point 2 of the window, without the tile's last point        in the last tile only
//! ```
//! Where the window is unrolled, points that may lie outside are tested ([`super::tested`]), or, where code is
//! listed anew and wants to be straight, its points are one piece, of which there is one per kind of tile; what
//! accumulators begin with and how they are finished is the same for all.

use super::half_sums::HalfSums;
use super::{Reduction, range_steps, steps};
use crate::base::{Affine, Bound};
use crate::nest::Nest;
use crate::nest::emit::Emitter;
use crate::nest::segments::{Edge, Segment, outside_is_neutral, reduction_of};
use crate::schedule::linear::Guard;
use crate::schedule::{Linear, Schedule};
use std::ops::Range;

/// The tiles that a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tiles {
    /// The only one.
    All,
    First,
    Last,
}

/// A point of the window that lies outside for some points of a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// The point of the window.
    at: i64,
    /// The tile's points for which it lies inside.
    points: Range<usize>,
    /// Where it does.
    tiles: Tiles,
}

/// What of a window lies inside, for consecutive tiles.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    /// What comes before the window's points that lie inside for all points of the tile, and after.
    before: Vec<Part>,
    after: Vec<Part>,
    /// The first point that lies inside for all, and the first behind them, in the axis' variable, where
    /// these are not the window's ends.
    lo: Option<Affine>,
    hi: Option<Affine>,
}

/// The guard over a window along an axis, where the schedule runs over it in a loop, with the window's
/// reduction axis.
fn looped<'a>(
    linear: &Linear,
    schedule: &Schedule,
    guards: &'a [Guard],
    axis: u32,
) -> Option<(&'a Guard, u32)> {
    let mut along = guards.iter().filter(|g| g.form.coefficient(axis) != 0);
    let (Some(guard), None) = (along.next(), along.next()) else { return None };
    let window = reduction_of(linear, guard)?;
    let step = schedule.reduce.iter().find(|r| r.var == window)?;
    let alone = guards.iter().filter(|g| g.form.coefficient(window) != 0).count() == 1;
    let whole = step.unroll < linear.extent(window) && !HalfSums::cut(linear, schedule, window);
    (alone && whole && guard.form.coefficient(window) == 1).then_some((guard, window))
}

/// How the window is cut in the tiles of a segment; `None` where they differ in more than their ends.
fn cut(linear: &Linear, (guard, window): (&Guard, u32), axis: u32, segment: &Segment) -> Option<Cut> {
    let (extent, points) = (linear.extent(window) as i64, segment.points as i64);
    let step = guard.form.coefficient(axis);
    let last = segment.count as i64 - 1;
    // The tile's points for which a point of the window lies inside.
    let inside = |tile: i64, at: i64| {
        let first = guard.form.base + step * (segment.start as i64 + tile * points) + at;
        let from = (-first.div_euclid(step)).clamp(0, points);
        let to = ((guard.extent as i64 - 1 - first).div_euclid(step) + 1).clamp(0, points);
        from as usize..to as usize
    };
    let whole = |range: &Range<usize>| range.start == 0 && range.end == segment.points;
    let window_points = || 0..extent;
    // The neighbours of both ends bound all tiles between them.
    let between = [1, last - 1].into_iter().filter(|&t| 0 < t && t < last);
    if between.flat_map(|t| window_points().map(move |at| (t, at))).any(|(t, at)| !whole(&inside(t, at))) {
        return None;
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let (mut cut_before, mut cut_after) = (false, false);
    let ends = if last == 0 { vec![(0, Tiles::All)] } else { vec![(0, Tiles::First), (last, Tiles::Last)] };
    for (tile, tiles) in ends {
        for at in window_points() {
            let range = inside(tile, at);
            let (left, right) = (range.start > 0, range.end < segment.points);
            (cut_before, cut_after) = (cut_before | left, cut_after | right);
            let one_end = match tiles {
                Tiles::All => !(left && right),
                Tiles::First => !right,
                Tiles::Last => !left,
            };
            if !one_end {
                return None;
            }
            if (left || right) && !range.is_empty() {
                // The code is in the loop over all tiles: its addresses have to exist in all of them.
                let elsewhere = inside(last - tile, at);
                if range.start < elsewhere.start || range.end > elsewhere.end {
                    return None;
                }
                let list = if left { &mut before } else { &mut after };
                list.push(Part { at, points: range, tiles });
            }
        }
    }
    let mut rest = guard.form.clone();
    rest.add_term(window, -1);
    let lo = cut_before.then(|| rest.scaled(-1));
    let hi = cut_after.then(|| rest.scaled(-1).offset(guard.extent as i64 - step * (points - 1)));
    Some(Cut { before, after, lo, hi })
}

/// Puts tiles of one size together where they share code.
pub fn joined(
    linear: &Linear,
    schedule: &Schedule,
    guards: &[Guard],
    axis: u32,
    tiles: &[Segment],
) -> Vec<Segment> {
    let mut found: Vec<Segment> = Vec::new();
    for tile in tiles {
        match found.last_mut() {
            Some(last) if last.points == tile.points && tile.points > 1 => {
                last.count += tile.count;
                last.edge = if last.edge == tile.edge { last.edge } else { Edge::Parts };
            }
            _ => found.push(*tile),
        }
    }
    let window = looped(linear, schedule, guards, axis).filter(|_| outside_is_neutral(linear));
    for segment in found.iter_mut().filter(|s| s.edge != Edge::Inside) {
        match window {
            Some(guard) if cut(linear, guard, axis, segment).is_some() => segment.edge = Edge::Cut,
            _ if segment.count > 1 => {
                let tested = schedule.tested && unrolled(linear, schedule, guards, axis);
                segment.edge = if tested { Edge::Tested } else { Edge::Parts };
            }
            _ => {}
        }
    }
    found
}

/// Whether all windows along an axis are unrolled, and what lies outside is left out.
fn unrolled(linear: &Linear, schedule: &Schedule, guards: &[Guard], axis: u32) -> bool {
    let mut along = guards.iter().filter(|g| g.form.coefficient(axis) != 0);
    let whole = |window: u32| {
        let step = schedule.reduce.iter().find(|r| r.var == window);
        linear.vars[window as usize].size.is_none() && step.is_some_and(|s| s.unroll >= linear.extent(window))
    };
    outside_is_neutral(linear) && along.all(|g| reduction_of(linear, g).is_some_and(whole))
}

/// The reduction of a tile: where tiles differ, the part for each kind of them, of which one runs.
pub(super) fn parted(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction) {
    let is_parted = |&v: &u32| nest.current[v as usize].is_some_and(|s| s.edge == Edge::Parts);
    let Some(axis) = nest.linear.axes().find(is_parted) else { return steps(nest, e, r, 0, None) };
    let (whole, at) = (nest.current[axis as usize], nest.place[axis as usize].clone());
    let name = nest.linear.vars[axis as usize].name.clone();
    let parts = parts_of(nest, axis);
    for (i, part) in parts.iter().enumerate() {
        let last = (part.start + (part.count - 1) * part.points) as i64;
        let first = (i > 0).then(|| Affine::constant(part.start as i64));
        let behind = (i + 1 < parts.len()).then(|| Affine::constant(last + 1));
        let lo = Bound(first.into_iter().chain([at.clone()]).collect());
        let hi = Bound(behind.into_iter().chain([at.offset(1)]).collect());
        e.repeat_bounds(&name, lo, hi, 1, |e, own| {
            nest.place[axis as usize] = own;
            nest.current[axis as usize] = Some(*part);
            parted(nest, e, r);
        });
    }
    (nest.current[axis as usize], nest.place[axis as usize]) = (whole, at);
}

/// What the tiles of an axis were before they were put together.
pub(super) fn parts_of(nest: &Nest, axis: u32) -> Vec<Segment> {
    let Some(whole) = nest.current[axis as usize] else { return Vec::new() };
    let range = whole.start..whole.start + whole.count * whole.points;
    nest.tiles[axis as usize].iter().filter(|t| range.contains(&t.start)).copied().collect()
}

/// The axis whose tiles share code though the window of a reduction axis reaches outside in some.
pub(super) fn cut_along(nest: &Nest, r: &Reduction, var: u32) -> Option<u32> {
    let guard = r.guards.iter().find(|g| g.form.coefficient(var) != 0)?;
    let axis = guard.form.terms.iter().map(|t| t.0).find(|&v| v != var)?;
    (nest.current[axis as usize]?.edge == Edge::Cut).then_some(axis)
}

/// A window of which a part lies outside in the first and the last tiles of `axis`.
pub(super) fn cut_steps(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    depth: usize,
    axis: u32,
    (mut lo, mut hi): (Bound, Bound),
) {
    let unroll = nest.schedule.reduce[depth].unroll;
    let found = nest.current[axis as usize].and_then(|segment| {
        let guard = looped(nest.linear, nest.schedule, &r.guards, axis)?;
        cut(nest.linear, guard, axis, &segment)
    });
    let Some(found) = found else { return range_steps(nest, e, r, depth, (lo, hi), unroll) };
    found.before.iter().for_each(|part| part_steps(nest, e, r, depth, axis, part));
    let placed = |form: Affine| form.map_vars(|v| nest.place[v as usize].clone());
    lo.0.extend(found.lo.map(placed));
    hi.0.extend(found.hi.map(placed));
    range_steps(nest, e, r, depth, (lo, hi), unroll);
    found.after.iter().for_each(|part| part_steps(nest, e, r, depth, axis, part));
}

/// A point of the window for the points of a tile for which it lies inside.
fn part_steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize, axis: u32, part: &Part) {
    let Some(segment) = nest.current[axis as usize] else { return };
    let (first, at) = (segment.start as i64, nest.place[axis as usize].clone());
    let last = first + ((segment.count - 1) * segment.points) as i64;
    let bounds = match part.tiles {
        Tiles::All => None,
        Tiles::First => {
            let end = Bound(vec![Affine::constant(first + 1), at.offset(1)]);
            Some((Bound(vec![at]), end))
        }
        Tiles::Last => {
            let end = Bound(vec![at.offset(1)]);
            Some((Bound(vec![Affine::constant(last), at]), end))
        }
    };
    let var = nest.schedule.reduce[depth].var;
    let mut body = |e: &mut Emitter| {
        nest.place[var as usize] = Affine::constant(part.at);
        r.kept.push((axis, part.points.clone()));
        steps(nest, e, r, depth + 1, None);
        r.kept.pop();
    };
    match bounds {
        None => body(e),
        Some((lo, hi)) => e.repeat_bounds("edge", lo, hi, 1, |e, _| body(e)),
    }
}
