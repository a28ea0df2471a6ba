//! The innermost reduction axes of a product of bytes, some words or couples at a time.

use super::{Reduction, bodies, long};
use crate::base::Affine;
use crate::nest::Nest;
use crate::nest::emit::Emitter;
use crate::nest::expr::Group;
use crate::nest::panel::run;
use crate::schedule::ReduceStep;

/// Sums of couples of a whole run up to which it is no loop.
const WHOLE: i64 = 96;

/// The innermost reduction axis of a product of bytes, four or eight points at a time.
pub(super) fn word_steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, step: ReduceStep) {
    let extent = nest.linear.extent(step.var) as i64;
    let name = nest.linear.vars[step.var as usize].name.clone();
    let neighbours = nest.schedule.dot;
    // Words that are multiplied at a time.
    let together = if nest.schedule.long { long::WORDS } else { 1 };
    let points = neighbours * together;
    let unroll = step.unroll.next_multiple_of(points) as i64;
    let full = extent / unroll * unroll;
    // Points in four words.
    let loaded = if nest.sixteen { 8 } else { 16 };
    r.words = neighbours;
    e.repeat(&name, 0, full, unroll, |e, at| {
        for u in (0..unroll).step_by(points) {
            let group = |u: i64| {
                (nest.schedule.lane_loads == 4 && unroll % loaded == 0).then(|| Group {
                    var: step.var,
                    start: at.offset(u - u % loaded),
                    lanes: 4,
                    lane: (4 * (u % loaded) / loaded) as u8,
                })
            };
            if nest.schedule.long {
                let groups = [group(u), group(u + neighbours as i64)];
                long::bodies(nest, e, r, step.var, &at.offset(u), groups);
                continue;
            }
            let group = group(u);
            nest.place[step.var as usize] = at.offset(u);
            bodies(nest, e, r, group.as_ref());
        }
    });
    let whole =
        if nest.schedule.long { full + (extent - full) / points as i64 * points as i64 } else { full };
    for k in (full..whole).step_by(points) {
        long::bodies(nest, e, r, step.var, &Affine::constant(k), [None, None]);
    }
    for k in (whole..extent).step_by(neighbours) {
        nest.place[step.var as usize] = Affine::constant(k);
        r.words = neighbours.min((extent - k) as usize);
        bodies(nest, e, r, None);
    }
}

/// The innermost reduction axes of a product of words, two points at a time: the loop counts couples.
pub(super) fn couple_steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction) {
    let run = run(nest.linear, nest.schedule);
    let Some(&step) = nest.schedule.reduce.last() else { return };
    let couples = run.iter().map(|&v| nest.linear.extent(v)).product::<usize>().div_ceil(2) as i64;
    let name = nest.linear.vars[step.var as usize].name.clone();
    let whole = couples * r.points.len() as i64 <= WHOLE;
    let unrolled = match nest.linear.extent(step.var) {
        // Couples that lie in memory as they are: the axis around them is the one that is unrolled.
        2 => run.iter().map(|&v| unroll_of(nest, v)).product(),
        _ => step.unroll,
    };
    let unroll = if whole { couples } else { unrolled.div_ceil(2) as i64 };
    let full = couples / unroll * unroll;
    run.iter().for_each(|&v| nest.place[v as usize] = Affine::constant(0));
    let mut body = |e: &mut Emitter, couple: Affine| {
        nest.place[step.var as usize] = couple.scaled(2);
        bodies(nest, e, r, None);
    };
    e.repeat(&name, 0, full, unroll, |e, at| (0..unroll).for_each(|u| body(e, at.offset(u))));
    (full..couples).for_each(|couple| body(e, Affine::constant(couple)));
}

fn unroll_of(nest: &Nest, var: u32) -> usize {
    nest.schedule.reduce.iter().find(|s| s.var == var).map_or(1, |s| s.unroll)
}
