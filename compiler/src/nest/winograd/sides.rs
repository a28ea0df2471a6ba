//! What a row of tiles has beside its data: columns of zeros, in the strips of its first and its last part.

use super::{Nest, each};
use crate::base::{Affine, Bound};
use crate::nest::emit::Emitter;
use crate::nest::segments::constant_of;
use crate::schedule::winograd::Conv;
use crate::tile::Value;

/// Columns of a row of tiles with its rim that hold data: the rest is zero.
pub(super) fn inside(conv: &Conv, columns: usize) -> (usize, usize) {
    let across = &conv.across;
    let end = (across.before + across.extent as i64).max(0) as usize;
    (across.before.max(0) as usize, end.min(columns))
}

impl Nest<'_> {
    /// Zeroes the columns of a strip from `left` on that lie on both sides of the data.
    pub(super) fn rim(&mut self, e: &mut Emitter, left: &Affine) {
        let (columns, channels) = (self.scratch.columns, self.channels());
        let (first, end) = self.sides(left);
        let [none, all] = [0, columns as i64].map(Affine::constant);
        let (holds_first, holds_last) = self.whole_sides();
        let before = (Bound(vec![none.clone()]), Bound(vec![all.clone(), first]));
        let behind = (Bound(vec![none, end]), Bound(vec![all]));
        let before = (!holds_first).then_some(before);
        let behind = (!holds_last).then_some(behind);
        for (lo, hi) in before.into_iter().chain(behind) {
            let (lo, hi) = (constant_of(lo, i64::max), constant_of(hi, i64::min));
            each(e, "x", lo, hi, |e, x| {
                let column = x.scaled(channels as i64).offset(self.scratch.strip as i64);
                e.repeat("i", 0, self.block.inputs[0] as i64, 1, |e, i| {
                    let row = column.plus_scaled(&i, (columns * channels) as i64);
                    self.vectors(e, channels, &mut |nest, e, at, lanes| {
                        let zero = e.value(nest.ty(lanes), Value::Const(0));
                        nest.keep(e, row.plus(at), zero);
                    });
                });
            });
        }
    }

    /// The columns of a strip from `left` on that hold data.
    pub(super) fn held(&self, left: &Affine) -> (Bound, Bound) {
        let (first, end) = self.sides(left);
        let (holds_first, holds_last) = self.whole_sides();
        let [none, all] = [0, self.scratch.columns as i64].map(Affine::constant);
        let lo = if holds_first { vec![none] } else { vec![none, first] };
        let hi = if holds_last { vec![all] } else { vec![all, end] };
        (constant_of(Bound(lo), i64::max), constant_of(Bound(hi), i64::min))
    }

    /// Whether the first and the last columns of a row of tiles hold data: then there is no rim.
    fn whole_sides(&self) -> (bool, bool) {
        let columns = self.parts * self.across * self.outputs[1] + self.windows[1] * self.part - 1;
        (self.scratch.inside.0 == 0, self.scratch.inside.1 == columns)
    }

    /// The first column with data of a strip from `left` on, and the first one behind it, if they are in the strip.
    fn sides(&self, left: &Affine) -> (Affine, Affine) {
        let (first, end) = self.scratch.inside;
        (left.scaled(-1).offset(first as i64), left.scaled(-1).offset(end as i64))
    }
}
