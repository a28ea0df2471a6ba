//! The outputs of a convolution by minimal filtering: products transformed back, finished, stored.
//!
//! A tile is transformed down, into memory, and across, row by row. Where bytes are stored, the vectors of
//! [`TOGETHER`] neighbours among the channels are done at a time, so that a point's bytes are stored at once.

use super::filter::{Numbers, transform};
use super::{Nest, each};
use crate::base::{Affine, Bound};
use crate::nest::apart::same;
use crate::nest::emit::Emitter;
use crate::nest::finish::Finish;
use crate::nest::segments::constant_of;
use crate::schedule::Linear;
use crate::schedule::winograd::Conv;
use crate::tile::{Bin, Reg, Value};

/// Vectors of channels whose bytes are stored together.
const TOGETHER: usize = 2;
/// The point of interpolation 1, which adds the same to each output of a row.
const UNIT: usize = 1;

/// Neighbouring vectors of the channels out.
pub(super) struct Vectors<'a> {
    /// The first channel.
    pub first: &'a Affine,
    /// How many vectors.
    pub count: usize,
    /// Lanes of each.
    pub lanes: usize,
}

/// Vectors of so many lanes of the channels that are done at a time.
pub(super) fn together(linear: &Linear, conv: &Conv, lanes: usize) -> usize {
    let vectors = linear.extent(conv.outer) / lanes;
    let narrow = conv.couples && linear.output.dtype.size() == 1;
    if narrow && vectors > 0 && vectors.is_multiple_of(TOGETHER) { TOGETHER } else { 1 }
}

impl Nest<'_> {
    /// What `body` makes of the tiles of a block, of a row of tiles and one of them on: it gets a tile's row, its place
    /// there, the columns that it has, and its number in the block.
    pub(super) fn rows_out(
        &mut self,
        e: &mut Emitter,
        (row, first): (&Affine, &Affine),
        body: &mut dyn FnMut(&mut Self, &mut Emitter, (&Affine, &Affine, usize), &Affine),
    ) {
        let (outputs, width) = (self.outputs[1], self.conv.outs(self.linear)[1]);
        let (full, rest) = (width / outputs, width % outputs);
        let (across, parts) = (self.across as i64, self.parts as i64);
        e.repeat("r", 0, self.rows as i64, 1, |e, r| {
            let row = row.plus(&r);
            if self.linear.extent(self.conv.outer) >= self.lanes {
                same(self.linear, e, self.lanes, &|e, id| {
                    self.ending().eval(e, id, &self.place, (None, self.lanes))
                });
            }
            let mut tile = |e: &mut Emitter, t: Affine, columns: usize| {
                let number = t.plus_scaled(&r, across);
                body(self, e, (&row, &first.plus(&t), columns), &number);
            };
            if parts == 1 || full as i64 == parts * across {
                e.repeat("t", 0, across.min(full as i64), 1, |e, t| tile(e, t, outputs));
                if rest > 0 {
                    tile(e, Affine::constant(full as i64), rest);
                }
                return;
            }
            // Those of a part that are there, and whole.
            let left = first.scaled(-1).offset(full as i64);
            let [none, all] = [0, across].map(Affine::constant);
            let end = constant_of(Bound(vec![all.clone(), left.clone()]), i64::min);
            each(e, "t", Bound::constant(0), end, |e, t| tile(e, t, outputs));
            if rest > 0 {
                let begin = constant_of(Bound(vec![none, left.clone()]), i64::max);
                let end = constant_of(Bound(vec![all, left.offset(1)]), i64::min);
                each(e, "t", begin, end, |e, t| tile(e, t, rest));
            }
        });
    }

    /// The outputs of a tile, whose products begin `at` some number of them, in some channels.
    pub(super) fn tile_out(
        &self,
        e: &mut Emitter,
        of: (&Affine, &Affine, usize),
        at: &Affine,
        vectors: &Vectors,
    ) {
        if self.is_halved() {
            self.half(e, at, vectors);
        }
        self.finish(e, of, at, vectors);
    }

    /// Whether a tile is transformed down into memory of its own: what columns of points were multiplied to already is,
    /// and single rows are not.
    fn is_halved(&self) -> bool {
        self.at_once == 0 && self.conv.rows.slide().is_some()
    }

    /// Where a vector of a tile half transformed is.
    fn place_in_tile(&self, vector: usize, row: &Affine, column: &Affine) -> Affine {
        let n = self.block.inputs[1] as i64;
        let start = (vector * self.outputs[0]) as i64 * n;
        let at = column.plus_scaled(row, n).offset(start);
        at.scaled(self.lanes as i64).offset(self.scratch.tile as i64)
    }

    /// Where a tile's products of a point begin, or of a row of half transformed ones.
    pub(super) fn product_at(&self, row: &Affine, column: &Affine, tile: &Affine) -> Affine {
        let point = self.point(row, column, self.outputs[0]);
        point.scaled(self.block.products as i64).plus(tile).offset(self.scratch.products as i64)
    }

    /// A tile of products transformed down: `outputs` rows of `inputs` vectors.
    fn half(&self, e: &mut Emitter, at: &Affine, vectors: &Vectors) {
        let [n, columns] = self.block.inputs;
        e.repeat("j", 0, columns as i64, 1, |e, j| {
            for v in 0..vectors.count {
                let channel = at.offset((v * self.lanes) as i64);
                let row = |i: usize| self.product_at(&Affine::constant(i as i64), &j, &channel);
                let loaded: Vec<Option<Reg>> =
                    (0..n).map(|i| Some(self.load(e, row(i), vectors.lanes))).collect();
                let made = transform(e, self.sums(vectors.lanes), &[self.filters[0].outputs], &loaded);
                for (a, value) in made.into_iter().enumerate() {
                    self.keep(e, self.place_in_tile(v, &Affine::constant(a as i64), &j), value);
                }
            }
        });
    }

    /// The rows of a tile's outputs that exist: transformed across, finished, stored.
    fn finish(
        &self,
        e: &mut Emitter,
        (row, t, columns): (&Affine, &Affine, usize),
        at: &Affine,
        vectors: &Vectors,
    ) {
        let [rows, m] = self.outputs.map(|outputs| outputs as i64);
        let height = self.conv.outs(self.linear)[0] as i64;
        let top = row.scaled(rows);
        let left = top.scaled(-1).offset(height);
        let hi = match height % rows {
            0 => Bound::constant(rows),
            _ => constant_of(Bound(vec![Affine::constant(rows), left]), i64::min),
        };
        each(e, "a", Bound::constant(0), hi, |e, a| {
            let place = |v: usize, b: usize| {
                let mut place = self.place.clone();
                self.conv.put(&mut place, &top.plus(&a), &t.scaled(m).offset(b as i64));
                place[self.conv.outer as usize] = vectors.first.offset((v * self.lanes) as i64);
                place
            };
            let made: Vec<Vec<Reg>> = (0..vectors.count)
                .map(|v| {
                    let tile = at.offset((v * self.lanes) as i64);
                    let from = |j: usize| match self.is_halved() {
                        true => self.place_in_tile(v, &a, &Affine::constant(j as i64)),
                        false => self.product_at(&a, &Affine::constant(j as i64), &tile),
                    };
                    self.across_back(e, &from, columns, &place(v, 0), vectors.lanes)
                })
                .collect();
            for b in 0..columns {
                for (v, made) in made.iter().enumerate() {
                    let acc = if self.conv.couples { self.divided(e, made[b]) } else { made[b] };
                    self.ending().store(e, self.linear.finish, &place(v, b), (acc, vectors.lanes));
                }
            }
        });
    }

    /// A row of outputs, or of their multiples.
    fn across_back(
        &self,
        e: &mut Emitter,
        from: &dyn Fn(usize) -> Affine,
        columns: usize,
        place: &[Affine],
        lanes: usize,
    ) -> Vec<Reg> {
        let mut loaded: Vec<Reg> = (0..self.block.inputs[1]).map(|j| self.load(e, from(j), lanes)).collect();
        let Numbers { ty, add, .. } = self.sums(lanes);
        if let Some(bias) = self.constants.bias {
            let bias = self.ending().eval(e, bias.load, place, (None, lanes));
            loaded[UNIT] = e.value(ty, Value::Bin(add, loaded[UNIT], bias));
        }
        let loaded: Vec<Option<Reg>> = loaded.into_iter().map(Some).collect();
        transform(e, self.sums(lanes), &[&self.filters[1].outputs[..columns]], &loaded)
    }

    /// An output from its multiple; where the constants leave it, still times a power of two.
    fn divided(&self, e: &mut Emitter, multiple: Reg) -> Reg {
        let (ty, (inverse, powers)) = (e.ty(multiple), self.constants.quotient);
        let odd = match inverse {
            1 => multiple,
            _ => {
                let inverse = e.hoisted(ty, u64::from(inverse));
                e.value(ty, Value::Bin(Bin::Mul, multiple, inverse))
            }
        };
        if self.constants.scale.is_some() {
            return odd;
        }
        let powers = e.value(ty, Value::Const(u64::from(powers)));
        e.value(ty, Value::Bin(Bin::ShrS, odd, powers))
    }

    /// What is made of sums.
    fn ending(&self) -> Finish<'_> {
        let started = self.constants.bias.map(|b| b.sum);
        Finish { linear: self.linear, vector: self.conv.outer, started, index_error: self.index_error }
    }
}
