//! Unrolled windows at the border of an axis, by the code of the tiles inside, in which a test stands before
//! what lies outside in some tiles.
//!
//! ```text
//! for each tile:
//!     point 0 of the window, without the tile's first point
//!     unless this is the first tile:  point 0 of the window for the tile's first point
//!     point 1 of the window
//!     ...
//! ```

use super::border::parts_of;
use super::{Reduction, steps};
use crate::base::{Affine, Bound};
use crate::nest::Nest;
use crate::nest::emit::Emitter;
use crate::nest::segments::{Edge, Segment};
use crate::schedule::linear::Guard;
use std::ops::Range;

/// Neighbouring points of a tile, and in which parts of the axis they lie inside.
type Group = (Range<usize>, Vec<bool>);

/// The axis whose tiles share code in which the points of a window are tested.
pub fn tested_along(nest: &Nest, r: &Reduction, var: u32) -> Option<u32> {
    let guards = r.guards.iter().filter(|g| g.form.coefficient(var) != 0);
    let mut axes = guards.flat_map(|g| g.form.terms.iter().map(|t| t.0)).filter(|&v| v != var);
    axes.find(|&v| nest.current[v as usize].is_some_and(|s| s.edge == Edge::Tested))
}

/// The point of a window at which its axis stands, for the points of a tile that lie inside there: first for
/// those that do in all tiles along `axis`, then, after a test, for the others.
pub fn tested_steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize, axis: u32) {
    let parts = parts_of(nest, axis);
    let (name, at) = (nest.linear.vars[axis as usize].name.clone(), nest.place[axis as usize].clone());
    for (points, inside) in groups(nest, r, depth, axis, &parts) {
        r.kept.push((axis, points));
        for run in runs(&inside) {
            let last = &parts[run.end - 1];
            let first = (run.start > 0).then(|| Affine::constant(parts[run.start].start as i64));
            let behind = last.start + (last.count - 1) * last.points + 1;
            let behind = (run.end < parts.len()).then(|| Affine::constant(behind as i64));
            if first.is_none() && behind.is_none() {
                steps(nest, e, r, depth + 1, None);
                continue;
            }
            let lo = Bound(first.into_iter().chain([at.clone()]).collect());
            let hi = Bound(behind.into_iter().chain([at.offset(1)]).collect());
            e.repeat_bounds(&name, lo, hi, 1, |e, own| {
                nest.place[axis as usize] = own;
                steps(nest, e, r, depth + 1, None);
            });
            nest.place[axis as usize] = at.clone();
        }
        r.kept.pop();
    }
}

/// The tile's points by where they lie inside, those that do everywhere first.
fn groups(nest: &Nest, r: &Reduction, depth: usize, axis: u32, parts: &[Segment]) -> Vec<Group> {
    let var = nest.schedule.reduce[depth].var;
    let window = nest.place[var as usize].base;
    let ties = |g: &&Guard| g.form.coefficient(var) != 0 && g.form.coefficient(axis) != 0;
    let guards: Vec<&Guard> = r.guards.iter().filter(ties).collect();
    let inside = |part: &Segment, point: usize| {
        let place = |v| if v == var { window } else { (part.start + point) as i64 };
        part.edge == Edge::Inside || guards.iter().all(|g| (0..g.extent as i64).contains(&g.form.eval(place)))
    };
    let mut groups: Vec<Group> = Vec::new();
    for point in 0..parts.first().map_or(0, |p| p.points) {
        let own: Vec<bool> = parts.iter().map(|part| inside(part, point)).collect();
        match groups.last_mut() {
            Some((range, same)) if *same == own => range.end = point + 1,
            _ => groups.push((point..point + 1, own)),
        }
    }
    groups.sort_by_key(|(_, inside)| inside.contains(&false));
    groups
}

/// The ranges in which flags are set.
fn runs(flags: &[bool]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for i in (0..flags.len()).filter(|&i| flags[i]) {
        match found.last_mut() {
            Some(last) if last.end == i => last.end = i + 1,
            _ => found.push(i..i + 1),
        }
    }
    found
}
