//! Reduction axes that end at a size known only at run time.

use super::{Reduction, bodies, lane_group, steps};
use crate::base::{Affine, Bound};
use crate::nest::Nest;
use crate::nest::emit::Emitter;

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
    let extent = nest.linear.extent(var) as i64;
    let name = nest.linear.vars[var as usize].name.clone();
    let unroll = unroll.clamp(1, 8);
    e.repeat_until(&name, (0, extent - unroll + 1), &size.offset(1 - unroll), unroll, |e, at| {
        for u in 0..unroll {
            nest.place[var as usize] = at.offset(u);
            let group = match unroll % 4 {
                0 => lane_group(nest, r, depth, at.offset(u - u % 4), u % 4, extent),
                _ => None,
            };
            steps(nest, e, r, depth + 1, group);
        }
    });
    rest_steps(e, &name, extent, size, unroll, 1, &mut |e, at| {
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
    let extent = nest.linear.extent(var) as i64;
    let name = nest.linear.vars[var as usize].name.clone();
    let step = lanes * chains;
    e.repeat_until(&name, (0, extent - step + 1), &size.offset(1 - step), step, |e, at| {
        for c in 0..chains {
            nest.place[var as usize] = at.offset(c * lanes);
            (r.chain, r.lanes) = (c as usize, lanes as usize);
            bodies(nest, e, r, None);
        }
    });
    (r.chain, r.lanes) = (0, lanes as usize);
    rest_steps(e, &name, extent, size, step, lanes, &mut |e, at| {
        nest.place[var as usize] = at;
        bodies(nest, e, r, None);
    });
    r.lanes = 1;
    rest_steps(e, &name, extent, size, lanes, 1, &mut |e, at| {
        nest.place[var as usize] = at;
        bodies(nest, e, r, None);
    });
}

/// What loops by `done` leave before a size, by `step`. No bound can say where that begins, so all the
/// places where a loop by `done` could have ended are tried: in `c..min(size, c + done + ...)` the
/// second form lies at `c` or before it, but at the last of them.
fn rest_steps(
    e: &mut Emitter,
    name: &str,
    extent: i64,
    size: &Affine,
    done: i64,
    step: i64,
    body: &mut dyn FnMut(&mut Emitter, Affine),
) {
    if done <= step {
        return;
    }
    e.repeat_until(&format!("{name}_done"), (0, extent), size, done, |e, at| {
        let last = at.scaled(done + 1).plus_scaled(size, -done).offset(done * done);
        let hi = Bound(vec![Affine::constant(extent - step + 1), size.offset(1 - step), last]);
        e.repeat_bounds(name, Bound(vec![at]), hi, step, |e, at| body(e, at));
    });
}
