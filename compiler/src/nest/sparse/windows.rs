//! Blocks of rows that windows move over.
//!
//! The rows of data that a block reads lie one after the other with their padding, so that its points do, too: what a
//! weight is multiplied by begins for all of them at its place in the window. Where windows move more than one element
//! on, the data of each remainder lie together ([`crate::schedule::sparse::Rows`]).

use super::{Nest, in_fours};
use crate::base::{Affine, Bound};
use crate::nest::emit::{Emitter, addr};
use crate::nest::segments::constant_of;
use crate::schedule::slides::Slide;
use crate::schedule::sparse::{Rows, Slides};
use crate::tile::Value;

/// `a / b`, rounded up.
fn ceil(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}

impl Nest<'_> {
    /// All blocks of rows.
    pub(super) fn windows(&self, e: &mut Emitter, slides: &Slides) {
        let rows = slides.down.as_ref().map_or(1, |s| self.linear.extent(s.axis));
        let block = self.sparse.rows;
        let full = rows / block * block;
        let some = |e: &mut Emitter, first: Affine, rows: usize| self.rows(e, slides, &first, rows);
        e.repeat("block", 0, full as i64, block as i64, |e, first| some(e, first, block));
        if full < rows {
            some(e, Affine::constant(full as i64), rows - full);
        }
    }

    /// So many rows of outputs from the first one on.
    fn rows(&self, e: &mut Emitter, slides: &Slides, first: &Affine, rows: usize) {
        let lies = slides.rows(self.linear, self.sparse.rows);
        if slides.padded(self.linear) {
            e.repeat("z", 0, self.area.data as i64, self.lanes as i64, |e, z| {
                let zero = e.value(self.floats(self.lanes), Value::Const(0));
                e.store(addr(self.between, z), 1, zero);
            });
        }
        let down = slides.down.as_ref();
        for y in 0..down.map_or(1, |s| s.remainders(self.linear)) {
            for x in 0..slides.across.remainders(self.linear) {
                self.fill(e, slides, (first, rows), (y, x), &lies);
            }
        }
        let columns = self.linear.extent(slides.across.axis);
        let points = (rows - 1) * lies.row + columns;
        self.channels(e, points, &|e, o, lanes| {
            e.repeat("r", 0, rows as i64, 1, |e, r| {
                let some = |e: &mut Emitter, p: Affine, count: usize| {
                    let point = |i: usize| {
                        let column = p.offset(i as i64);
                        let mut set = vec![(slides.across.axis, column.clone())];
                        set.extend(down.map(|s| (s.axis, first.plus(&r))));
                        (set, column.plus_scaled(&r, lies.row as i64))
                    };
                    self.finish(e, &(0..count).map(point).collect::<Vec<_>>(), o, lanes);
                };
                in_fours(e, "p", columns, some);
            });
        });
    }

    /// Turns the rows and columns of data with one remainder each.
    fn fill(
        &self,
        e: &mut Emitter,
        slides: &Slides,
        (first, rows): (&Affine, usize),
        (y, x): (usize, usize),
        lies: &Rows,
    ) {
        let held = |s: &Slide, remainder: usize| {
            let (stride, at) = (s.stride, s.before - remainder as i64);
            (ceil(at, stride), ceil(s.extent as i64 + at, stride))
        };
        let across = &slides.across;
        let (left, right) = held(across, x);
        let most = self.linear.extent(across.axis)
            + (self.linear.extent(across.window) - 1 - x) / across.stride as usize;
        let (left, right) = (left.max(0), right.min(most as i64));
        let begin = lies.place(y, x) as i64 + left;
        let row = |e: &mut Emitter, r: Affine| {
            let mut set =
                vec![(across.axis, Affine::constant(left)), (across.window, Affine::constant(x as i64))];
            if let Some(s) = &slides.down {
                set.extend([(s.axis, first.plus(&r)), (s.window, Affine::constant(y as i64))]);
            }
            let from = (self.given(&set), across.stride * across.step);
            let to = r.scaled(lies.row as i64).offset(begin);
            self.turn(e, (&from.0, from.1), &to, (right - left).max(0) as usize);
        };
        let Some(down) = &slides.down else { return row(e, Affine::constant(0)) };
        let (top, bottom) = held(down, y);
        let most = rows + (self.linear.extent(down.window) - 1 - y) / down.stride as usize;
        let inside = |edge: i64| first.scaled(-1).offset(edge);
        let lo = constant_of(Bound(vec![Affine::constant(0), inside(top)]), i64::max);
        let hi = constant_of(Bound(vec![Affine::constant(most as i64), inside(bottom)]), i64::min);
        match (lo.as_constant(), hi.as_constant()) {
            (Some(lo), Some(hi)) => e.repeat("y", lo, hi, 1, row),
            _ => e.repeat_bounds("y", lo, hi, 1, row),
        }
    }
}
