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
        let mut ends = vec![Affine::constant(hi), size.clone()];
        let alone = self.splits(var, &segment);
        if alone {
            // None where the size is 1.
            ends.push(size.offset(-1).scaled(hi));
        }
        e.repeat_bounds(&name, Bound::constant(lo), Bound(ends), step, |e, at| body(self, e, segment, at));
        if alone {
            self.alone = true;
            let (first, end) = (Affine::constant(0), Affine::constant(1));
            let (first, end) = (Bound(vec![first, size.offset(-1)]), Bound(vec![end, size.clone()]));
            let one = Segment { points: 1, count: 1, ..segment };
            e.repeat_bounds(&format!("{name}_alone"), first, end, 1, |e, _| {
                body(self, e, one, Affine::constant(0));
            });
            self.alone = false;
        }
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
