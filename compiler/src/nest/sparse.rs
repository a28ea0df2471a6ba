//! The nest of a product whose zeros are left out ([`crate::schedule::sparse`]).
//!
//! ```text
//! for each block of points:
//!     data[c, p] = in[p, c]                         turned, in memory behind the output
//!     for each vector of channels out:
//!         for each channel o:                       its list of nonzero weights
//!             sums[o, p] = sum(i in start[o]..start[o + 1]) weight[i] * data[channel[i], p]
//!         for each point:  out[p, o] = finish(sums[o, p]), turned back
//! ```
//! What stands behind the last point of a block is zero, so that sums have whole vectors. Of a single point nothing is
//! turned: its sums are single numbers, `lanes` of which are finished together.
//!
//! | files | what they do |
//! |---|---|
//! | `lists` | the weights that are not zero, in memory |
//! | `points`, `windows` | blocks of points along an axis, and of rows that windows move over: turned, and finished |
//! | this file | sums |

mod lists;
mod points;
mod windows;

pub use lists::{Lists, kept, thin};

use super::emit::{Emitter, addr, param};
use super::finish::Finish;
use super::{Nested, Packed};
use crate::base::{Affine, Bound, DType};
use crate::error::{Error, Result};
use crate::schedule::sparse::{Along, Block, Product, Sparse};
use crate::schedule::{Linear, Schedule, Vector};
use crate::tile::{Access, Bin, Convert, Lane, Reg, RegType, Value};

/// Vectors that are turned together.
const TURNED: usize = 4;

struct Nest<'a> {
    linear: &'a Linear,
    product: Product,
    sparse: Sparse,
    lists: Lists,
    lanes: usize,
    /// The parameter for what lies between: the data of a block, and sums of a vector of channels behind it.
    between: u32,
    area: Block,
    place: Vec<Affine>,
    index_error: i32,
}

/// Builds the kernel. Its last parameter is memory for what lies between.
pub fn nest(
    linear: &Linear,
    schedule: &Schedule,
    sparse: Sparse,
    fused: bool,
    index_error: i32,
) -> Result<Nested> {
    let product =
        Product::of(linear).ok_or_else(|| Error::bug("no product whose zeros could be left out"))?;
    let kept = linear.facts.kept.ok_or_else(|| Error::bug("weights that are not known to be zeros"))?;
    let lanes = match schedule.vector {
        Vector::Axis { lanes, .. } => lanes,
        _ => 1,
    };
    let block = product.block(linear, sparse, lanes);
    let lists = Lists::new(linear, &product, kept, &block, sparse.rows);
    let mut params = super::operands(linear);
    let operand = &mut params[product.weights as usize];
    (operand.dtype, operand.elems) = (DType::I32, lists.elems());
    params.push(param("out", linear.output.dtype, linear.output.elems, Access::Write));
    params.push(param("between", DType::F32, block.elems(), Access::ReadWrite));
    let mut nest = Nest {
        linear,
        sparse,
        lanes,
        between: params.len() as u32 - 1,
        area: block,
        place: vec![Affine::constant(0); linear.vars.len()],
        index_error,
        lists,
        product,
    };
    let mut e = Emitter::new(&linear.name, params, fused);
    nest.around(&mut e, &nest.product.around(linear));
    let (kernel, sizes) = e.finish();
    let packed = Some(Packed::Sparse(Box::new(nest.lists)));
    Ok(Nested { kernel, sizes, between: block.elems(), packings: Vec::new(), chains: None, packed })
}

/// What `body` makes of so many numbers, as many at a time as are turned together: it gets the first one, and how many.
fn in_fours(e: &mut Emitter, name: &str, extent: usize, body: impl Fn(&mut Emitter, Affine, usize)) {
    let full = extent / TURNED * TURNED;
    e.repeat(name, 0, full as i64, TURNED as i64, |e, at| body(e, at, TURNED));
    if full < extent {
        body(e, Affine::constant(full as i64), extent - full);
    }
}

impl Nest<'_> {
    fn floats(&self, lanes: usize) -> RegType {
        RegType { lane: Lane::F32, lanes: lanes as u8 }
    }

    fn around(&mut self, e: &mut Emitter, vars: &[u32]) {
        let Some((&var, rest)) = vars.split_first() else {
            return match self.product.along.clone() {
                Along::One => self.channels(e, 1, &|e, o, lanes| {
                    self.finish(e, &[(Vec::new(), Affine::constant(0))], o, lanes);
                }),
                Along::Points(axis) => self.points(e, axis),
                Along::Windows(slides) => self.windows(e, &slides),
            };
        };
        let linear = self.linear;
        e.over(&linear.vars[var as usize], |e, at| {
            self.place[var as usize] = at;
            self.around(e, rest);
        });
    }

    /// Where the data is, with variables at these places.
    fn given(&self, set: &[(u32, Affine)]) -> Affine {
        let place = self.placed(set);
        self.product.addr.map_vars(|v| place[v as usize].clone())
    }

    fn placed(&self, set: &[(u32, Affine)]) -> Vec<Affine> {
        let mut place = self.place.clone();
        set.iter().for_each(|(var, at)| place[*var as usize] = at.clone());
        place
    }

    /// All channels of so many points, `from` the address of the first one on and `step` elements apart, become those
    /// from `to` on.
    fn turn(&self, e: &mut Emitter, (from, step): (&Affine, i64), to: &Affine, points: usize) {
        let vector = |e: &mut Emitter, p: &Affine, lanes: usize| {
            self.turn_vector(e, (&from.plus_scaled(p, step), step), &to.plus(p), lanes);
        };
        let full = points / self.lanes * self.lanes;
        e.repeat("p", 0, full as i64, self.lanes as i64, |e, p| vector(e, &p, self.lanes));
        let (mut at, mut lanes) = (full, self.lanes / 2);
        while at < points {
            if at + lanes <= points {
                vector(e, &Affine::constant(at as i64), lanes);
                at += lanes;
            } else {
                lanes /= 2;
            }
        }
    }

    fn turn_vector(&self, e: &mut Emitter, (from, step): (&Affine, i64), to: &Affine, lanes: usize) {
        let inner = self.linear.extent(self.product.inner);
        let some = |e: &mut Emitter, c: Affine, count: usize| {
            let channels = (0..count).map(|i| c.offset(i as i64));
            let values: Vec<(Affine, Reg)> = channels
                .map(|c| {
                    let from = addr(self.product.data, from.plus(&c));
                    (c, e.value(self.floats(lanes), Value::Load(from, step)))
                })
                .collect();
            for (c, value) in values {
                let to = to.plus_scaled(&c, self.area.channel as i64);
                e.store(addr(self.between, to), 1, value);
            }
        };
        in_fours(e, "c", inner, some);
    }

    /// The sums of so many points of a block, a vector of channels at a time: then `finish` gets the first channel and
    /// how many they are.
    fn channels(&self, e: &mut Emitter, points: usize, finish: &dyn Fn(&mut Emitter, &Affine, usize)) {
        let (outer, lanes) = (self.linear.extent(self.product.outer), self.lanes);
        let full = outer / lanes * lanes;
        let some = |e: &mut Emitter, o: &Affine, lanes: usize| {
            e.scoped(|e| {
                e.repeat("i", 0, lanes as i64, 1, |e, i| self.list(e, &o.plus(&i), &i, points));
                finish(e, o, lanes);
            });
        };
        e.repeat("o", 0, full as i64, lanes as i64, |e, o| some(e, &o, lanes));
        if full < outer {
            some(e, &Affine::constant(full as i64), outer - full);
        }
    }

    /// The sums of a channel, `row` of those that are kept: its nonzero weights times the data of their channels.
    fn list(&self, e: &mut Emitter, channel: &Affine, row: &Affine, points: usize) {
        let (weights, most) = (self.product.weights, self.lists.kept as i64);
        let (vectors, chunk) = (points.div_ceil(self.area.across), self.sparse.vectors);
        let to = row.scaled(self.area.row as i64).offset(self.area.data as i64);
        let full = (vectors / chunk * chunk * self.area.across) as i64;
        let all = |e: &mut Emitter, from: &Affine, end: &Affine| {
            let some = |e: &mut Emitter, at: &Affine, vectors: usize| {
                self.sums(e, (from, end), (at, &to.plus(at)), vectors);
            };
            e.repeat("chunk", 0, full, (chunk * self.area.across) as i64, |e, at| some(e, &at, chunk));
            if !vectors.is_multiple_of(chunk) {
                some(e, &Affine::constant(full), vectors % chunk);
            }
        };
        e.size("from", addr(weights, channel.clone()), most, |e, from| {
            e.size("to", addr(weights, channel.offset(1)), most, |e, end| all(e, &from, &end));
        });
    }

    /// The sums over a list of so many vectors of points, from `at` on in the data of each channel.
    fn sums(
        &self,
        e: &mut Emitter,
        (from, end): (&Affine, &Affine),
        (at, to): (&Affine, &Affine),
        vectors: usize,
    ) {
        let (ty, together) = (self.floats(self.area.across), self.lists.together);
        let sums: Vec<Reg> = (0..together * vectors).map(|_| e.fresh(ty)).collect();
        sums.iter().for_each(|&sum| e.assign(sum, Value::Const(0)));
        e.repeat_bounds("k", Bound(vec![from.clone()]), Bound(vec![end.clone()]), 1, |e, k| {
            for (i, sums) in sums.chunks_exact(vectors).enumerate() {
                self.multiply(e, &self.lists.entry(&k, i), at, sums);
            }
        });
        for v in 0..vectors {
            let others = (1..together).map(|i| sums[i * vectors + v]);
            let sum = others.fold(sums[v], |a, b| e.value(ty, Value::Bin(Bin::Add, a, b)));
            e.store(addr(self.between, to.offset((v * self.area.across) as i64)), 1, sum);
        }
    }

    /// Adds the products of an entry of a list to the sums.
    fn multiply(&self, e: &mut Emitter, entry: &Affine, at: &Affine, sums: &[Reg]) {
        let (ty, weights) = (self.floats(self.area.across), self.product.weights);
        let step = if self.area.across > 1 { 0 } else { 1 };
        let bits =
            e.value(RegType { lane: Lane::I32, ..ty }, Value::Load(addr(weights, entry.offset(1)), step));
        let weight = e.value(ty, Value::Convert(Convert::Bits, bits));
        let (param, first) = match self.product.along {
            Along::One => (self.product.data, self.given(&[])),
            _ => (self.between, at.clone()),
        };
        let last = self.lists.last();
        e.size("at", addr(weights, entry.clone()), last, |e, place| {
            for (v, &sum) in sums.iter().enumerate() {
                let from = addr(param, first.plus(&place).offset((v * self.area.across) as i64));
                let data = e.value(ty, Value::Load(from, 1));
                e.assign(sum, Value::Mla(sum, weight, data));
            }
        });
    }

    /// Finishes the sums of some points, each with the places of its axes and how far its sums stand behind the first
    /// one's, in so many channels from `o` on: they are loaded together.
    fn finish(&self, e: &mut Emitter, points: &[(Vec<(u32, Affine)>, Affine)], o: &Affine, lanes: usize) {
        let load = |(_, at): &(Vec<(u32, Affine)>, Affine)| {
            let from = addr(self.between, at.offset(self.area.data as i64));
            e.value(self.floats(lanes), Value::Load(from, self.area.row as i64))
        };
        let sums: Vec<Reg> = points.iter().map(load).collect();
        for ((set, _), sum) in points.iter().zip(sums) {
            let mut place = self.placed(set);
            place[self.product.outer as usize] = o.clone();
            let (outer, index_error) = (self.product.outer, self.index_error);
            let finish = Finish { linear: self.linear, vector: outer, started: None, index_error };
            finish.store(e, self.linear.stored(), &place, (sum, lanes));
        }
    }
}
