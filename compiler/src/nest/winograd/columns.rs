//! Products of a filtered convolution by columns of points: the sums of a column stay in registers until they are
//! transformed down.
//!
//! ```text
//! for each column of points, each vector of channels out, some tiles at a time:
//!     sums[i][t] = data[i][t] * weights[i], over the channels in, for each point i of the column
//!     for each tile:  half = A sums[.][t], down
//! ```
//! Neither the products of single points nor what the transform reads again go through memory, and the additions
//! run beside the multiplications of the next sums. Weights lie in the order in which they are read.

use super::Nest;
use super::filter::transform;
use crate::base::Affine;
use crate::nest::emit::{Emitter, addr};
use crate::tile::{Dot, Reg, RegType, Value};

impl Nest<'_> {
    /// The products of a block for some channels out, transformed down.
    pub(super) fn columns(&mut self, e: &mut Emitter, (first, count): (&Affine, usize)) {
        let (tiles, at_once) = (self.block.tiles, self.at_once);
        let full = tiles - tiles % at_once;
        e.repeat("j", 0, self.block.inputs[1] as i64, 1, |e, j| {
            self.vectors(e, count, &mut |nest, e, o, lanes| {
                let vector = (first, count, o, lanes);
                e.repeat("t", 0, full as i64, at_once as i64, |e, t| {
                    e.scoped(|e| nest.column(e, (&j, &t, at_once), vector));
                });
                if full < tiles {
                    nest.column(e, (&j, &Affine::constant(full as i64), tiles - full), vector);
                }
            });
        });
    }

    /// A column's products of some tiles, for a vector of some channels: the first one and their count, where the
    /// vector begins among them, and its lanes.
    fn column(
        &self,
        e: &mut Emitter,
        (j, t, tiles): (&Affine, &Affine, usize),
        (first, count, o, lanes): (&Affine, usize, &Affine, usize),
    ) {
        let (n, channels) = (self.block.inputs[0], self.summed());
        let numbers = self.sums(lanes);
        let sums: Vec<Vec<Reg>> = (0..n).map(|_| (0..tiles).map(|_| zero(e, numbers.ty)).collect()).collect();
        e.repeat("c", 0, channels as i64, 1, |e, c| {
            for (i, sums) in sums.iter().enumerate() {
                let weights = self.weights_at(j, &first.plus(o), &c, (i, lanes));
                let weights = e.value(numbers.ty, Value::Load(addr(self.conv.weights, weights), 1));
                let point = self.data_at(&Affine::constant(i as i64), j).plus(&c);
                for (k, &sum) in sums.iter().enumerate() {
                    let at = point.plus_scaled(&t.offset(k as i64), channels as i64);
                    let data = e.value(numbers.ty, Value::Load(addr(self.scratch.param, at), 0));
                    let value = match self.conv.couples {
                        true => Value::Dot(Dot::Couples, sum, weights, data),
                        false => Value::Mla(sum, data, weights),
                    };
                    e.assign(sum, value);
                }
            }
        });
        for k in 0..tiles {
            let column: Vec<Option<Reg>> = sums.iter().map(|row| Some(row[k])).collect();
            let made = transform(e, numbers, &[self.filters[0].outputs], &column);
            let tile = t.offset(k as i64).scaled(count as i64).plus(o);
            for (a, value) in made.into_iter().enumerate() {
                self.keep(e, self.product_at(&Affine::constant(a as i64), j, &tile), value);
            }
        }
    }

    /// Where the weights of a column's `i`-th point are, from a channel out on.
    fn weights_at(&self, j: &Affine, o: &Affine, c: &Affine, (i, lanes): (usize, usize)) -> Affine {
        let (n, channels) = (self.block.inputs[0], self.summed());
        let column = (n * channels * self.linear.extent(self.conv.outer)) as i64;
        let vector = o.scaled((n * channels) as i64).plus_scaled(j, column);
        vector.plus_scaled(c, (n * lanes) as i64).offset((i * lanes) as i64)
    }
}

/// A sum of nothing.
fn zero(e: &mut Emitter, ty: RegType) -> Reg {
    let sum = e.fresh(ty);
    e.assign(sum, Value::Const(0));
    sum
}
