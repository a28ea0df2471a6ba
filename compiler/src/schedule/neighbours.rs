//! Schedules near another one: what a search tries.
//!
//! Steps change one decision each: the size of the register tile along an axis, an axis more in the
//! tile, the order of two loops, how far a reduction is unrolled, what is packed. [`openings`] are
//! other choices of what fills lanes, each completed by the cost model. All are verified.

use super::choose::with_vector;
use super::linear::Linear;
use super::sparse::Sparse;
use super::winograd::{Conv, Tiles, Winograd, product};
use super::{ReduceStep, Schedule, Vector, verify};
use crate::target::Target;

/// Multiply-adds that one pass through the innermost body may be unrolled to.
const UNROLLED: usize = 512;

/// The schedules of all ways to fill lanes, full vectors and half ones.
pub fn openings(linear: &Linear, target: &Target) -> Vec<Schedule> {
    let mut found: Vec<Schedule> = Vec::new();
    for bytes in [target.vector_bytes, target.vector_bytes / 2].into_iter().filter(|&b| b >= 16) {
        let target = Target { vector_bytes: bytes, ..target.clone() };
        let lanes = super::loads::lanes(linear, &target);
        let axes = linear.axes().map(|var| Vector::Axis { var, lanes });
        let folds = linear.reductions().map(|var| Vector::Reduction { var, lanes });
        for vector in axes.chain(folds) {
            found.push(with_vector(linear, &target, vector));
        }
    }
    valid(found, linear, target)
}

/// The schedules one step away.
pub fn neighbours(schedule: &Schedule, linear: &Linear, target: &Target) -> Vec<Schedule> {
    if let Some(winograd) = &schedule.winograd {
        let mut found = filterings(schedule, winograd, linear, target);
        found.push(Schedule { winograd: None, ..schedule.clone() });
        return valid(found, linear, target);
    }
    if let Some(sparse @ Sparse { vectors, rows }) = schedule.sparse {
        let vectors = [vectors.saturating_sub(1), vectors + 1, 2 * vectors];
        let rows =
            [rows / 2, rows.saturating_sub(1), rows + 1, 2 * rows].map(|rows| Sparse { rows, ..sparse });
        let others = vectors.map(|vectors| Sparse { vectors, ..sparse }).into_iter().chain(rows).map(Some);
        let found = others.chain([None]).map(|sparse| Schedule { sparse, ..schedule.clone() });
        return valid(found.collect(), linear, target);
    }
    if schedule.blocked.is_some() {
        return valid(tiles(schedule, linear), linear, target);
    }
    let mut found = tiles(schedule, linear);
    found.extend(orders(schedule));
    found.extend(reductions(schedule, linear));
    for &operand in &schedule.pack {
        let pack = schedule.pack.iter().copied().filter(|&p| p != operand).collect();
        found.push(Schedule { pack, ..schedule.clone() });
    }
    found.push(Schedule { lane_loads: 5 - schedule.lane_loads, ..schedule.clone() });
    found.push(Schedule { restored: !schedule.restored, ..schedule.clone() });
    valid(found, linear, target)
}

fn valid(found: Vec<Schedule>, linear: &Linear, target: &Target) -> Vec<Schedule> {
    let mut list: Vec<Schedule> = Vec::new();
    for schedule in found {
        let points: usize = schedule.tile.iter().map(|t| t.1).product();
        let unrolled: usize = schedule.reduce.iter().map(|r| r.unroll).product();
        let fits = points <= target.vector_regs.max(8) && points * unrolled <= UNROLLED;
        if fits && verify(&schedule, linear).is_ok() && !list.contains(&schedule) {
            list.push(schedule);
        }
    }
    list
}

/// Other schedules of the products of a filtering.
fn filterings(schedule: &Schedule, winograd: &Winograd, linear: &Linear, target: &Target) -> Vec<Schedule> {
    let Some(conv) = Conv::of(linear) else { return Vec::new() };
    let products = product(&conv, linear, winograd.tiles);
    let near = neighbours(&winograd.product, &products, target).into_iter();
    let near = near.map(|product| Winograd {
        product: Box::new(product),
        columns: 0,
        each: false,
        ..winograd.clone()
    });
    let columns = [winograd.columns.saturating_sub(1), winograd.columns + 1];
    let columns = columns
        .into_iter()
        .flat_map(|columns| [false, true].map(|each| Winograd { columns, each, ..winograd.clone() }));
    let all = conv.tiles(linear, 1, winograd.tiles.outputs);
    // Products of columns alone have a schedule whatever their block is.
    let parts = (1..=all).filter(|_| winograd.columns > 0);
    let parts =
        parts.map(|across| Winograd { tiles: Tiles { across, ..winograd.tiles }, ..winograd.clone() });
    near.chain(columns).chain(parts).map(|w| Schedule { winograd: Some(w), ..schedule.clone() }).collect()
}

/// Other sizes of the tile along its axes, two axes at once, and along one axis more.
fn tiles(schedule: &Schedule, linear: &Linear) -> Vec<Schedule> {
    let sizes = |points: usize| [points / 2, points.saturating_sub(1), points + 1, points + 2, points * 2];
    let with = |tile: Vec<(u32, usize)>| Schedule { tile, ..schedule.clone() };
    let mut found = Vec::new();
    let tile = &schedule.tile;
    for i in 0..tile.len() {
        for size in sizes(tile[i].1) {
            let mut changed = tile.clone();
            changed[i].1 = size;
            found.push(with(changed.clone()));
            for j in (0..tile.len()).filter(|&j| j != i) {
                for other in sizes(tile[j].1) {
                    let mut both = changed.clone();
                    both[j].1 = other;
                    found.push(with(both));
                }
            }
        }
    }
    for var in linear.axes().filter(|v| tile.iter().all(|t| t.0 != *v)) {
        for size in [2, 4] {
            let mut more = tile.clone();
            more.push((var, size));
            found.push(with(more));
        }
    }
    found
}

/// Each axis moved to each other place.
fn orders(schedule: &Schedule) -> Vec<Schedule> {
    let count = schedule.order.len();
    let places = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    let moved = places.filter(|(from, to)| from != to).map(|(from, to)| {
        let mut order = schedule.order.clone();
        let var = order.remove(from);
        order.insert(to, var);
        Schedule { order, ..schedule.clone() }
    });
    moved.collect()
}

/// Other steps of each reduction axis, and neighbours in their order swapped.
fn reductions(schedule: &Schedule, linear: &Linear) -> Vec<Schedule> {
    let with = |reduce: Vec<ReduceStep>| Schedule { reduce, ..schedule.clone() };
    let mut found = Vec::new();
    for (i, step) in schedule.reduce.iter().enumerate() {
        for unroll in [1, 2, 3, 4, 6, 8, 12, 16, linear.extent(step.var)] {
            let mut reduce = schedule.reduce.clone();
            reduce[i].unroll = unroll;
            found.push(with(reduce));
        }
    }
    for i in 1..schedule.reduce.len() {
        let mut reduce = schedule.reduce.clone();
        reduce.swap(i - 1, i);
        found.push(with(reduce));
    }
    found
}
