//! Blocks of points along an axis.

use super::{Nest, in_fours};
use crate::base::{Affine, Bound};
use crate::nest::emit::{Emitter, addr};
use crate::tile::Value;

impl Nest<'_> {
    /// All blocks: where the number of points is known only at run time, those that begin before it.
    pub(super) fn points(&self, e: &mut Emitter, axis: u32) {
        let (points, block) = (self.linear.extent(axis), self.sparse.vectors * self.lanes);
        let full = points / block * block;
        let (step, rest) = (block as i64, points - full);
        let all = |e: &mut Emitter, first: Affine| self.block(e, axis, &first, block);
        let last = |e: &mut Emitter, first: Affine| self.block(e, axis, &first, rest);
        match &self.linear.vars[axis as usize].size {
            Some(size) => {
                e.repeat_until("block", full as i64, size, step, all);
                let ends = Bound(vec![Affine::constant(points as i64), size.clone()]);
                if rest > 0 {
                    e.repeat_bounds("last", Bound::constant(full as i64), ends, step, last);
                }
            }
            None => {
                e.repeat("block", 0, full as i64, step, all);
                e.repeat("last", full as i64, points as i64, step, last);
            }
        }
    }

    /// So many points from the first one on.
    fn block(&self, e: &mut Emitter, axis: u32, first: &Affine, points: usize) {
        let whole = points / self.lanes * self.lanes;
        if whole < points {
            let inner = self.linear.extent(self.product.inner) as i64;
            e.repeat("c", 0, inner, 1, |e, c| {
                let zero = e.value(self.floats(self.lanes), Value::Const(0));
                let at = c.scaled(self.area.channel as i64).offset(whole as i64);
                e.store(addr(self.between, at), 1, zero);
            });
        }
        let step = self.product.addr.coefficient(axis);
        let from = self.given(&[(axis, first.clone())]);
        self.turn(e, (&from, step), &Affine::constant(0), points);
        self.channels(e, points, &|e, o, lanes| {
            let some = |e: &mut Emitter, p: Affine, count: usize| {
                let point = |i: usize| {
                    let at = p.offset(i as i64);
                    (vec![(axis, first.plus(&at))], at)
                };
                self.finish(e, &(0..count).map(point).collect::<Vec<_>>(), o, lanes);
            };
            in_fours(e, "p", points, some);
        });
    }
}
