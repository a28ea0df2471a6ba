//! Reduction axes that end at a size known only at run time.

use super::{Reduction, bodies, lane_group, steps};
use crate::base::{Affine, Bound};
use crate::nest::Nest;
use crate::nest::emit::Emitter;
use crate::schedule::linear::LinearVar;

/// Where a loop ends: at a size, at most at an extent.
struct End<'a> {
    name: String,
    extent: i64,
    size: &'a Affine,
}

impl<'a> End<'a> {
    fn of(nest: &Nest, var: u32, size: &'a Affine) -> Self {
        let LinearVar { name, extent, .. } = &nest.linear.vars[var as usize];
        End { name: name.clone(), extent: *extent as i64, size }
    }

    /// As many whole steps as there are.
    fn whole_steps(&self, e: &mut Emitter, step: i64, body: impl FnMut(&mut Emitter, Affine)) {
        let End { name, extent, size } = self;
        e.repeat_until(name, extent - step + 1, &size.offset(1 - step), step, body);
    }

    /// What loops by `done` leave before a size, by `step`. No bound can say where that begins, so all the
    /// places where a loop by `done` could have ended are tried: in `c..min(size, c + done + ...)` the
    /// second form lies at `c` or before it, but at the last of them.
    fn rest(&self, e: &mut Emitter, (done, step): (i64, i64), mut body: impl FnMut(&mut Emitter, Affine)) {
        let End { name, extent, size } = self;
        if done <= step {
            return;
        }
        e.repeat_until(&format!("{name}_done"), *extent, size, done, |e, at| {
            let last = at.scaled(done + 1).plus_scaled(size, -done).offset(done * done);
            let hi = Bound(vec![Affine::constant(extent - step + 1), size.offset(1 - step), last]);
            e.repeat_bounds(name, Bound(vec![at]), hi, step, &mut body);
        });
    }
}

/// A reduction axis that ends at a size known only at run time: `unroll` points at a time, then one.
pub(super) fn sized_steps(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    depth: usize,
    size: &Affine,
    unroll: i64,
) {
    let var = nest.schedule.reduce[depth].var;
    let end = End::of(nest, var, size);
    let unroll = unroll.clamp(1, 8);
    end.whole_steps(e, unroll, |e, at| {
        for u in 0..unroll {
            nest.place[var as usize] = at.offset(u);
            let group = match unroll % 4 {
                0 => lane_group(nest, r, depth, at.offset(u - u % 4), u % 4, end.extent),
                _ => None,
            };
            steps(nest, e, r, depth + 1, group);
        }
    });
    end.rest(e, (unroll, 1), |e, at| {
        nest.place[var as usize] = at;
        steps(nest, e, r, depth + 1, None);
    });
}

/// The reduction axis that fills lanes where it ends at a size known only at run time: chains of full
/// vectors, full vectors, then points.
pub(super) fn sized_lanes(
    nest: &mut Nest,
    e: &mut Emitter,
    r: &mut Reduction,
    size: &Affine,
    (lanes, chains): (i64, i64),
) {
    let var = nest.schedule.reduce[nest.schedule.reduce.len() - 1].var;
    let end = End::of(nest, var, size);
    let step = lanes * chains;
    end.whole_steps(e, step, |e, at| {
        for c in 0..chains {
            nest.place[var as usize] = at.offset(c * lanes);
            (r.chain, r.lanes) = (c as usize, lanes as usize);
            bodies(nest, e, r, None);
        }
    });
    (r.chain, r.lanes) = (0, lanes as usize);
    end.rest(e, (step, lanes), |e, at| {
        nest.place[var as usize] = at;
        bodies(nest, e, r, None);
    });
    r.lanes = 1;
    end.rest(e, (lanes, 1), |e, at| {
        nest.place[var as usize] = at;
        bodies(nest, e, r, None);
    });
}
