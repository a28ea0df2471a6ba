//! Products of half floats that are summed in half floats, a few at a time, for targets that multiply them so:
//! twice as many in a vector as of `f32`.
//!
//! A half float keeps eleven bits, so a long sum of them would lose as much as it adds. Sums of at most
//! [`Schedule::half_sums`] products are added to sums in `f32`; what is lost grows faster than their length, so they
//! may be made of parts, which are shorter sums in half floats ([`Schedule::half_parts`]):
//! ```text
//! for block in blocks:
//!     short = 0
//!     for part in block:  begun = 0;  for k in part: begun += a[k] * b[k];  short += begun
//!     sum += f32(short)
//! ```
//! XNNPACK's kernels for half floats sum all products so; theirs have no sum beside it.

use super::{Reduction, bounds, lane_group, moving, nest_borders, part, steps};
use crate::base::Affine;
use crate::nest::emit::Emitter;
use crate::nest::expr::Point;
use crate::nest::{Nest, TilePoint};
use crate::scalar::Op;
use crate::schedule::linear::Node;
use crate::schedule::{Linear, Schedule};
use crate::tile::{Bin, Convert, Lane, Reg, RegType, Value};

/// Sums of half floats in a reduction, that are added to others.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct HalfSums {
    /// The reduction step whose loop is one such sum, or several.
    depth: usize,
    /// Its points in a sum.
    block: usize,
}

impl HalfSums {
    /// The sums that a schedule asks for, the outermost last: short ones, and the parts of these.
    pub(super) fn of(linear: &Linear, schedule: &Schedule) -> Vec<HalfSums> {
        let most = [schedule.half_parts, schedule.half_sums].into_iter().filter(|&most| most > 0);
        let mut sums: Vec<HalfSums> =
            most.filter_map(|most| HalfSums::most(linear, schedule, most)).collect();
        sums.dedup();
        sums
    }

    /// Sums of so many products at most.
    fn most(linear: &Linear, schedule: &Schedule, most: usize) -> Option<HalfSums> {
        let extents: Vec<usize> = schedule.reduce.iter().map(|s| linear.extent(s.var)).collect();
        let last = schedule.reduce.len().checked_sub(1)?;
        let products = |depth: usize| extents[depth..].iter().product::<usize>();
        let depth = (0..last).find(|&depth| products(depth) <= most).unwrap_or(last);
        let block = match products(depth) > most {
            true => block(extents[depth], schedule.reduce[depth].unroll, most),
            false => extents[depth],
        };
        Some(HalfSums { depth, block })
    }

    /// Whether some schedule's sums end within a reduction axis.
    pub(super) fn cut(linear: &Linear, schedule: &Schedule, var: u32) -> bool {
        let cuts = |s: &HalfSums| schedule.reduce[s.depth].var == var && s.block < linear.extent(var);
        HalfSums::of(linear, schedule).iter().any(cuts)
    }

    /// Whether all products are one short sum.
    pub(super) fn is_whole(self, nest: &Nest) -> bool {
        self.depth == 0 && self.block == nest.linear.extent(nest.schedule.reduce[0].var)
    }
}

/// Points of a block of a reduction, a multiple of `unroll`: blocks of one length, where those are not much shorter than
/// `most`, or else of about one length.
fn block(extent: usize, unroll: usize, most: usize) -> usize {
    let whole = |block: &usize| block.is_multiple_of(unroll) && extent.is_multiple_of(*block);
    let equal = (most / 2..=most).rev().find(whole);
    equal.unwrap_or_else(|| extent.div_ceil(extent.div_ceil(most)).next_multiple_of(unroll).min(extent))
}

/// A short sum that is empty yet.
fn start(e: &mut Emitter, point: &TilePoint) -> Reg {
    let reg = e.fresh(RegType { lane: Lane::F16, lanes: point.lanes as u8 });
    e.assign(reg, Value::Const(0));
    reg
}

/// A short sum of all products of a point; what is finished in half floats begins with what is added first.
pub(super) fn begun(nest: &Nest, e: &mut Emitter, point: &TilePoint) -> Reg {
    let Some(started) = nest.started.filter(|_| nest.schedule.half_finish) else { return start(e, point) };
    let place = nest.place_of(point);
    let addend = nest.half(e, started.addend, &nest.point(&place, point, None));
    let sum = e.fresh(e.ty(addend));
    e.assign(sum, Value::Copy(addend));
    sum
}

/// A short sum as `f32`.
fn widened(e: &mut Emitter, short: Reg) -> Reg {
    let ty = RegType { lane: Lane::F32, ..e.ty(short) };
    e.value(ty, Value::Convert(Convert::Float, short))
}

/// The reduction steps from `depth` on where sums of half floats begin there. Whether they do.
pub(super) fn summed(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize) -> bool {
    let begins = r.half_sums.last().is_some_and(|sums| sums.depth == depth);
    if begins {
        let extent = nest.linear.extent(nest.schedule.reduce[depth].var) as i64;
        range(nest, e, r, depth, (Affine::constant(0), extent));
    }
    begins
}

/// So many points of a reduction axis from one on: as the sums that begin there.
fn range(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize, (start, count): (Affine, i64)) {
    let step = nest.schedule.reduce[depth];
    let Some(sums) = r.half_sums.pop_if(|sums| sums.depth == depth) else {
        return match count == nest.linear.extent(step.var) as i64 {
            true => steps(nest, e, r, depth, None),
            false => points(nest, e, r, depth, (start, count)),
        };
    };
    let block = sums.block as i64;
    let full = count / block * block;
    if count <= block {
        short(nest, e, r, |nest, e, r| range(nest, e, r, depth, (start, count)));
    } else {
        let name = nest.linear.vars[step.var as usize].name.clone();
        // Points that are decided one by one stand at numbers.
        let numbers = nest_borders(nest, r, step.var);
        let mut some = |e: &mut Emitter, at: Affine| {
            let at = start.plus(&at);
            short(nest, e, r, |nest, e, r| range(nest, e, r, depth, (at, block)));
        };
        match numbers {
            true => (0..full).step_by(sums.block).for_each(|at| some(e, Affine::constant(at))),
            false => e.repeat(&name, 0, full, block, some),
        }
        if full < count {
            let rest = (start.offset(full), count - full);
            short(nest, e, r, |nest, e, r| range(nest, e, r, depth, rest));
        }
    }
    r.half_sums.push(sums);
}

/// One sum of half floats of each point of the tile, added to what the point has.
fn short(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    products: impl FnOnce(&mut Nest, &mut Emitter, &mut Reduction),
) {
    let sums = r.points.iter().map(|p| start(e, p)).collect();
    let whole = std::mem::replace(&mut r.chains[0], sums);
    products(nest, e, r);
    let sums = std::mem::replace(&mut r.chains[0], whole);
    for (&sum, short) in r.chains[0].iter().zip(sums) {
        let short = if e.ty(sum).lane == Lane::F16 { short } else { widened(e, short) };
        e.assign(sum, Value::Bin(Bin::Add, sum, short));
    }
}

/// The folded value of a point whose products are one short sum.
pub(super) fn finished(nest: &Nest, e: &mut Emitter, point: &TilePoint, short: Reg) -> Reg {
    if nest.schedule.half_finish {
        return short;
    }
    let sum = widened(e, short);
    let Some(started) = nest.started else { return sum };
    let addend = started.addend(nest, e, point, 0);
    e.value(e.ty(sum), Value::Bin(Bin::Add, addend, sum))
}

/// The sum with one more product at a point; `None` where the body is no product of plain loads.
pub(super) fn product(nest: &Nest, e: &mut Emitter, body: u32, sum: Reg, point: &Point) -> Option<Value> {
    let Node::Op(Op::Mul, args) = &nest.linear.nodes[body as usize] else { return None };
    let [a, b] = [args[0], args[1]].map(|factor| nest.half(e, factor, point));
    Some(Value::Mla(sum, a, b))
}

/// So many points of an innermost reduction axis from one on.
fn points(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, depth: usize, (start, count): (Affine, i64)) {
    let step = nest.schedule.reduce[depth];
    if nest_borders(nest, r, step.var) || !moving(&bounds(nest, r, step.var).0).is_empty() {
        let end = start.offset(count);
        return part(nest, e, r, depth, (start, end), step.unroll);
    }
    let (name, unroll) = (nest.linear.vars[step.var as usize].name.clone(), step.unroll as i64);
    let full = count / unroll * unroll;
    let extent = nest.linear.extent(step.var) as i64;
    let lanes = nest.schedule.lane_loads as i64;
    e.repeat(&name, 0, full, unroll, |e, at| {
        let first = start.plus(&at);
        for u in 0..unroll {
            nest.place[step.var as usize] = first.offset(u);
            let group = (unroll % lanes == 0)
                .then(|| lane_group(nest, r, depth, first.offset(u - u % lanes), u % lanes, extent));
            steps(nest, e, r, depth + 1, group.flatten());
        }
    });
    for k in full..count {
        nest.place[step.var as usize] = start.offset(k);
        steps(nest, e, r, depth + 1, None);
    }
}
