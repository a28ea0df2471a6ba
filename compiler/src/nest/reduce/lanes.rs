//! The reduction axis that fills lanes, where it does.

use super::sized::sized_lanes;
use super::{Reduction, bodies};
use crate::base::Affine;
use crate::nest::Nest;
use crate::nest::emit::Emitter;

/// Points of the reduction axis that fill so many lanes: words have several.
pub(super) fn width(nest: &Nest, lanes: usize) -> usize {
    lanes * nest.schedule.dot
}

/// The reduction axis that fills lanes: full vectors in chains, then the rest.
pub(super) fn lane_steps(nest: &mut Nest, e: &mut Emitter, r: &mut Reduction, lanes: usize) {
    let var = nest.schedule.reduce[nest.schedule.reduce.len() - 1].var;
    let extent = nest.linear.extent(var) as i64;
    let name = nest.linear.vars[var as usize].name.clone();
    let (lanes, chains) = (lanes as i64, r.chains.len() as i64);
    if let Some(size) = nest.linear.vars[var as usize].size.clone() {
        return sized_lanes(nest, e, r, &size, (lanes, chains));
    }
    let width = width(nest, lanes as usize) as i64;
    let (vectors, step) = (extent / width, width * chains);
    let full = vectors / chains * step;
    e.repeat(&name, 0, full, step, |e, at| {
        for c in 0..chains {
            nest.place[var as usize] = at.offset(c * width);
            (r.chain, r.lanes) = (c as usize, lanes as usize);
            bodies(nest, e, r, None);
        }
    });
    for v in full / width..vectors {
        nest.place[var as usize] = Affine::constant(v * width);
        (r.chain, r.lanes) = ((v % chains) as usize, lanes as usize);
        bodies(nest, e, r, None);
    }
    if let Some((rest, _)) = r.rest {
        nest.place[var as usize] = Affine::constant(vectors * width);
        r.lanes = rest;
        bodies(nest, e, r, None);
    }
}
