//! The finish of a register tile, apart from its fold.
//!
//! A long finish (GELU is 60 operations) on each of 28 accumulators is code for each of them, while all
//! the others occupy registers. Here the folded values go to memory first, and a loop over the tile's
//! rows finishes them. So do numbers go there that folds over lanes have left, to be finished as vectors.

use super::emit::{Emitter, addr};
use super::expr::Point;
use super::expr::requantize::prepared;
use super::{Nest, TilePoint, pairs, requantize};
use crate::base::{Affine, DType};
use crate::schedule::Linear;
use crate::schedule::linear::Node;
use crate::tile::{Reg, RegType, Value};

/// Stores the folded values of a tile in `between`, a parameter, `lanes` apart, and finishes them.
pub fn finish(
    nest: &Nest,
    e: &mut Emitter,
    points: &[TilePoint],
    folded: &[Reg],
    (between, lanes): (u32, usize),
    index_error: i32,
) {
    let ty = |e: &Emitter, point: usize| e.ty(folded[point]);
    once(nest, e, points, index_error);
    for (i, &value) in folded.iter().enumerate() {
        e.store(addr(between, Affine::constant((i * lanes) as i64)), 1, value);
    }
    let chunks = points.iter().take_while(|p| p.offset == 0).count();
    let (var, rows) = rows(nest);
    let together = (nest.schedule.apart / chunks).clamp(1, rows);
    for first in (0..points.len()).step_by(rows * chunks) {
        let some = |e: &mut Emitter, r: Affine, count: usize| {
            e.woven(count * chunks, |e, i| {
                let (r, point) = (r.offset((i / chunks) as i64), first + i % chunks);
                let at = r.scaled((chunks * lanes) as i64).offset((point * lanes) as i64);
                let value = e.value(ty(e, point), Value::Load(addr(between, at), 1));
                let mut place = nest.place_of(&points[point]);
                if let Some(var) = var {
                    place[var as usize] = place[var as usize].plus(&r);
                }
                nest.store_at(e, &place, &points[point], Some(value), index_error);
            });
        };
        let full = rows / together * together;
        e.repeat("r", 0, full as i64, together as i64, |e, r| some(e, r, together));
        if full < rows {
            some(e, Affine::constant(full as i64), rows - full);
        }
    }
}

/// Finishes points whose folds have filled lanes, each a number then: neighbours along the axis of the tile become
/// vectors by way of memory.
pub fn side_by_side(nest: &Nest, e: &mut Emitter, points: &[TilePoint], folded: &[Reg], index_error: i32) {
    let (between, _) = nest.between();
    let vector = rows(nest).0;
    if vector.is_some() {
        for (i, &value) in folded.iter().enumerate() {
            e.store(addr(between, Affine::constant(i as i64)), 1, value);
        }
    }
    for first in (0..points.len()).step_by(nest.schedule.apart) {
        let lanes = nest.schedule.apart.min(points.len() - first);
        let acc = match vector {
            Some(_) => {
                let ty = RegType { lanes: lanes as u8, ..e.ty(folded[first]) };
                e.value(ty, Value::Load(addr(between, Affine::constant(first as i64)), 1))
            }
            None => folded[first],
        };
        let place = nest.place_of(&points[first]);
        let point = Point { vector, lanes, ..nest.point(&place, &points[first], Some(acc)) };
        nest.store_point(e, &point, index_error);
    }
}

/// Computes what is the same for all points before the loop, which finds it.
fn once(nest: &Nest, e: &mut Emitter, points: &[TilePoint], index_error: i32) {
    let mut lanes: Vec<usize> = Vec::new();
    for point in points {
        if !lanes.contains(&point.lanes) {
            lanes.push(point.lanes);
            let place = nest.place_of(point);
            let at = nest.point(&place, point, None);
            same(nest.linear, e, point.lanes, &|e, id| nest.eval(e, id, &at, index_error));
        }
    }
}

/// Computes what is the same for all points of a definition: `eval` gives the value of an expression.
pub(super) fn same(linear: &Linear, e: &mut Emitter, lanes: usize, eval: &dyn Fn(&mut Emitter, u32) -> Reg) {
    let depends = |id: u32| (0..linear.vars.len() as u32).any(|v| linear.depends(id, v));
    let same = pairs::needed(linear).into_iter().filter(|&id| {
        let vectors = linear.types[id as usize] != DType::I64;
        vectors && !matches!(linear.nodes[id as usize], Node::Const(_)) && !depends(id)
    });
    for id in same {
        let value = eval(e, id);
        if requantize::divides(linear, id) && e.fused() {
            prepared(e, value);
        }
        for integers in requantize::taken_back(linear, id, e.fused()) {
            integers.limits_less_zero(e, Some(value), lanes);
        }
        for integers in pairs::taken_back(linear, id) {
            integers.float_limits(e, Some(value), lanes);
        }
    }
}

/// The innermost axis beside the vector axis of which the tile has several points, and how many.
fn rows(nest: &Nest) -> (Option<u32>, usize) {
    let [first, second, ..] = nest.offsets.as_slice() else { return (None, 1) };
    let Some(at) = (0..first.len()).find(|&i| first[i] != second[i]) else { return (None, 1) };
    let rows = nest.offsets.iter().map(|o| o[at].1 + 1).max().unwrap_or(1);
    (Some(first[at].0), rows)
}
