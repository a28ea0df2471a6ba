//! The loops over tiles of an axis that ends at a size known only at run time.
//!
//! A tile that begins inside is computed as a whole: the bound has room for it. Of eight points where one is left, as of
//! the batch of a network of dense layers, seven would be computed for nothing; so the last tile is one of half the
//! points, or of a single one, where these reach to the end.

use super::Nest;
use super::emit::Emitter;
use super::segments::Segment;
use crate::base::{Affine, Bound};
use crate::scalar::Fold;
use crate::schedule::{Linear, Vector};

/// Points of a tile from which on half of them are a tile as well.
const HALVED: usize = 4;
/// Weights from which on a tile of half the points is worth its code.
const WEIGHTS: usize = 1 << 14;

/// Points of the smaller tiles that the last one of so many points may be, the larger first. `long`: what is made of a
/// sum is too long for a single point to be worth its code.
pub(super) fn smaller(linear: &Linear, points: usize, long: bool) -> Vec<usize> {
    let weights = linear.buffers.iter().filter(|b| b.constant).map(|b| b.elems).max().unwrap_or(0);
    let halved = points >= HALVED && weights >= WEIGHTS && !linear.compact;
    halved.then_some(points.div_ceil(2)).into_iter().chain((points > 1 && !long).then_some(1)).collect()
}

impl Nest<'_> {
    /// The tiles of a segment of axis `var` that begin inside of `size`; `body` is given the segment and the place of
    /// each.
    pub(super) fn until(
        &mut self,
        e: &mut Emitter,
        (var, segment): (u32, Segment),
        size: &Affine,
        mut body: impl FnMut(&mut Self, &mut Emitter, Segment, Affine),
    ) {
        let name = self.linear.vars[var as usize].name.clone();
        let (lo, step) = (segment.start as i64, segment.points as i64);
        let hi = lo + step * segment.count as i64;
        let smaller = match self.splits(var) {
            true => smaller(self.linear, segment.points, self.schedule.apart > 0),
            false => Vec::new(),
        };
        tiles(e, &name, (lo, hi, step), (size, &smaller), &mut |e, at, points| {
            let (within, last) = (self.last, points < segment.points);
            self.last |= last;
            let count = if last { 1 } else { segment.count };
            body(self, e, Segment { points, count, ..segment }, at);
            self.last = within;
        });
    }

    /// Whether the last tile may be smaller: those of sums, of nothing but points side by side.
    fn splits(&self, var: u32) -> bool {
        let lanes = matches!(self.schedule.vector, Vector::Axis { var: v, .. } if v == var);
        let between = self.panel.is_some() || self.floats.is_some();
        let others = self.chains.is_some() || self.schedule.woven || self.schedule.dot == 8;
        let sums = self.linear.fold.is_some_and(|f| f.0 == Fold::Sum);
        sums && !lanes && !between && !others && !self.last
    }
}

/// The tiles of so many points between two places that begin inside of a size; the last of them has the fewest of
/// `smaller` that reach to the end, if any do. `body` is given the place of each, and its points.
pub(super) fn tiles(
    e: &mut Emitter,
    name: &str,
    (lo, hi, step): (i64, i64, i64),
    (size, smaller): (&Affine, &[usize]),
    body: &mut dyn FnMut(&mut Emitter, Affine, usize),
) {
    // As many points are left behind a whole tile's start as the next smaller one does not have.
    let whole = size.offset(-smaller.first().map_or(0, |&points| points as i64));
    let ends = Bound(vec![Affine::constant(hi), whole]);
    e.repeat_bounds(name, Bound::constant(lo), ends, step, |e, at| body(e, at, step as usize));
    for (i, &points) in smaller.iter().enumerate() {
        let fewer = smaller.get(i + 1).map_or(0, |&fewer| fewer as i64);
        let ends = Bound(vec![Affine::constant(hi), size.clone()]);
        e.repeat_bounds(&format!("{name}_at"), Bound::constant(lo), ends, step, |e, at| {
            let reaches = Bound(vec![at.clone(), size.offset(-(points as i64))]);
            let just = Bound(vec![at.offset(1), size.offset(-fewer)]);
            e.repeat_bounds(&format!("{name}_last"), reaches, just, 1, |e, _| body(e, at.clone(), points));
        });
    }
}
