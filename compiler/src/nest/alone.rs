//! The loop over tiles of an axis that ends at a size known only at run time.
//!
//! A tile that begins inside is computed as a whole: the bound has room for it. But where the size is 1, as the batch
//! of a network of dense layers often is, all but one of its points would be computed for nothing: then the first
//! tile has but one.

use super::Nest;
use super::emit::Emitter;
use super::segments::Segment;
use crate::base::{Affine, Bound};
use crate::scalar::Fold;
use crate::schedule::Vector;

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
        let alone = self.splits(var, &segment);
        tiles(e, &name, (lo, hi, step), (size, alone), &mut |e, at, single| {
            self.alone |= single;
            let one = Segment { points: 1, count: 1, ..segment };
            body(self, e, if single { one } else { segment }, at);
            self.alone &= !single;
        });
    }

    /// Whether a size of 1 has a tile of its own: sums whose tiles are nothing but points side by side.
    fn splits(&self, var: u32, segment: &Segment) -> bool {
        let lanes = matches!(self.schedule.vector, Vector::Axis { var: v, .. } if v == var);
        let between = self.panel.is_some() || self.floats.is_some() || self.schedule.apart > 0;
        let others = self.chains.is_some() || self.schedule.woven || self.schedule.dot == 8;
        let sums = self.linear.fold.is_some_and(|f| f.0 == Fold::Sum);
        let first = segment.start == 0 && segment.points > 1;
        first && sums && !lanes && !between && !others && !self.alone
    }
}

/// The tiles of so many points between two places that begin inside of a size; where that is 1, a single point in
/// place of the first of them, if that is to stand `alone`. `body` is given the place of each, and whether it is that.
pub(super) fn tiles(
    e: &mut Emitter,
    name: &str,
    (lo, hi, step): (i64, i64, i64),
    (size, alone): (&Affine, bool),
    body: &mut dyn FnMut(&mut Emitter, Affine, bool),
) {
    let one = size.offset(-1);
    let mut ends = vec![Affine::constant(hi), size.clone()];
    if alone {
        // None where the size is 1.
        ends.push(one.scaled(hi));
    }
    e.repeat_bounds(name, Bound::constant(lo), Bound(ends), step, |e, at| body(e, at, false));
    if alone {
        let (first, end) =
            (Bound(vec![Affine::constant(0), one]), Bound(vec![Affine::constant(1), size.clone()]));
        e.repeat_bounds(&format!("{name}_alone"), first, end, 1, |e, _| body(e, Affine::constant(0), true));
    }
}
