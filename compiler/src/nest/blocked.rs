//! The nest of a product of bytes by weights of four bits in blocks ([`crate::schedule::blocked`]).
//!
//! ```text
//! for each tile of columns, of rows:
//!     sums = 0
//!     for each block:
//!         integers = 0
//!         for eight places of the block:
//!             words = load weights;  low, high = words & 15 in each byte, words >> 4 & 15
//!             integers += low . data[place ..], high . data[place + 4 ..]
//!         sums += (factor[row] * integers + share[row] * zero[column]) * scale[column]
//!     store finish(sums)
//! ```
//! Weights lie as `[tile of columns][block][eight places][lanes][four bytes]`, of which each holds those of two places,
//! four apart (with [`Words::Halves`] in the order of [`Dot::HalfPairs`]); scales and zero points as `[tile of columns][block][lanes]`.

mod columns;

pub use columns::Columns;

use super::emit::{Emitter, addr, param};
use super::finish::Finish;
use super::last::{smaller, tiles};
use super::registers::{memory_load, quad};
use super::{Nested, Packed};
use crate::base::{Affine, Bound};
use crate::error::{Error, Result};
use crate::schedule::blocked::{Place, Product, TOGETHER, UNROLLED, Words};
use crate::schedule::{Linear, Schedule, Vector};
use crate::tile::{Access, Bin, Convert, Dot, EACH, Lane, Reg, RegType, Value};
use columns::Region;

struct Nest<'a> {
    linear: &'a Linear,
    columns: Columns,
    rows: usize,
    place: Vec<Affine>,
    index_error: i32,
}

/// Builds the kernel.
pub fn nest(
    linear: &Linear,
    schedule: &Schedule,
    how: Words,
    fused: bool,
    index_error: i32,
) -> Result<Nested> {
    let product = Product::of(linear).ok_or_else(|| Error::bug("no product by blocks of four bits"))?;
    let lanes = match schedule.vector {
        Vector::Axis { lanes, .. } => lanes,
        _ => 1,
    };
    let width = lanes * schedule.points(columns_of(schedule));
    let columns = Columns::new(linear, (product, how), width, lanes);
    let mut params = super::operands(linear);
    for operand in columns.operands() {
        let param = &mut params[operand as usize];
        (param.dtype, param.elems) = columns.memory(operand, param.dtype);
    }
    params.push(param("out", linear.output.dtype, linear.output.elems, Access::Write));
    let rows = columns.product.rows.map_or(1, |r| schedule.points(r));
    let mut nest =
        Nest { linear, rows, place: vec![Affine::constant(0); linear.vars.len()], index_error, columns };
    let mut e = Emitter::new(&linear.name, params, fused);
    let around: Vec<u32> = linear
        .axes()
        .filter(|&v| v != nest.columns.product.outer && Some(v) != nest.columns.product.rows)
        .collect();
    nest.around(&mut e, &around);
    let (kernel, sizes) = e.finish();
    let packed = Some(Packed::Blocked(Box::new(nest.columns)));
    Ok(Nested { kernel, sizes, between: 0, packings: Vec::new(), chains: None, packed })
}

/// The axis that fills the lanes.
fn columns_of(schedule: &Schedule) -> u32 {
    match schedule.vector {
        Vector::Axis { var, .. } => var,
        _ => 0,
    }
}

impl Nest<'_> {
    fn around(&mut self, e: &mut Emitter, vars: &[u32]) {
        let linear = self.linear;
        if let Some((&var, rest)) = vars.split_first() {
            return e.over(&linear.vars[var as usize], |e, at| {
                self.place[var as usize] = at;
                self.around(e, rest);
            });
        }
        let outer = self.columns.product.outer;
        let name = &linear.vars[outer as usize].name;
        for region in self.columns.regions.clone() {
            let (first, step) = (region.first as i64, region.columns as i64);
            e.repeat(name, first, first + step * region.count as i64, step, |e, n| {
                self.place[outer as usize] = n;
                self.rows(e, region);
            });
        }
    }

    /// All rows of a tile of columns.
    fn rows(&mut self, e: &mut Emitter, region: Region) {
        let Some(var) = self.columns.product.rows else { return self.tile(e, region, 1) };
        let axis = &self.linear.vars[var as usize];
        let (name, rows, extent) = (axis.name.as_str(), self.rows as i64, axis.extent as i64);
        let (full, smaller) = (extent / rows * rows, smaller(self.linear, self.rows, false));
        let mut some = |e: &mut Emitter, at: Affine, rows: i64| {
            self.place[var as usize] = at;
            self.tile(e, region, rows as usize);
        };
        let Some(size) = axis.size.clone() else {
            e.repeat(name, 0, full, rows, |e, at| some(e, at, rows));
            if full < extent {
                some(e, Affine::constant(full), extent - full);
            }
            return;
        };
        // A single row, as of a decoder's step, is none of several that are computed for nothing.
        tiles(e, name, (0, full, rows), (&size, &smaller), &mut |e, at, rows| some(e, at, rows as i64));
        if full < extent {
            let to = Bound(vec![Affine::constant(extent), size]);
            e.repeat_bounds(name, Bound::constant(full), to, 1, |e, at| some(e, at, 1));
        }
    }

    fn tile(&self, e: &mut Emitter, region: Region, rows: usize) {
        let vectors = region.vectors(self.columns.lanes);
        let places: Vec<Vec<Affine>> = (0..rows as i64).map(|row| self.row(row)).collect();
        e.scoped(|e| {
            let sums: Vec<Vec<Reg>> = places.iter().map(|_| zeros(e, Lane::F32, &vectors)).collect();
            let name = self.columns.product.block.map(|b| self.linear.vars[b as usize].name.as_str());
            e.repeat(name.unwrap_or("block"), 0, self.columns.blocks as i64, 1, |e, block| {
                self.block(e, region, &places, &sums, &block);
            });
            for (place, sums) in places.iter().zip(&sums) {
                for (v, (&sum, &lanes)) in sums.iter().zip(&vectors).enumerate() {
                    self.finish(e, place, v, (sum, lanes));
                }
            }
        });
    }

    /// The places of all variables in a row of the tile.
    fn row(&self, row: i64) -> Vec<Affine> {
        let mut place = self.place.clone();
        if let Some(var) = self.columns.product.rows {
            place[var as usize] = place[var as usize].offset(row);
        }
        place
    }

    fn finish(&self, e: &mut Emitter, place: &[Affine], vector: usize, (sum, lanes): (Reg, usize)) {
        let (outer, mut place) = (self.columns.product.outer, place.to_vec());
        place[outer as usize] = place[outer as usize].offset((vector * self.columns.lanes) as i64);
        let finish =
            Finish { linear: self.linear, vector: outer, started: None, index_error: self.index_error };
        finish.store(e, self.linear.stored(), &place, (sum, lanes));
    }

    /// Where an element of the rows is, at a place of a block.
    fn at(&self, of: &Place, place: &[Affine], (block, within): (&Affine, &Affine)) -> Affine {
        let product = &self.columns.product;
        of.addr.map_vars(|v| match v {
            _ if v == product.place => within.clone(),
            _ if Some(v) == product.block => block.clone(),
            _ => place[v as usize].clone(),
        })
    }

    /// Registers that hold zero, for each byte of the data: `[byte][row][vector]`.
    fn zeros(&self, e: &mut Emitter, rows: usize, vectors: &[usize]) -> Vec<Vec<Vec<Reg>>> {
        let bytes = self.columns.product.data.len();
        (0..bytes).map(|_| (0..rows).map(|_| zeros(e, Lane::I32, vectors)).collect()).collect()
    }

    /// The sum of the integers of all bytes, as a float.
    fn integer(&self, e: &mut Emitter, integers: &[Reg], ty: RegType) -> Reg {
        let float = |e: &mut Emitter, integer: Reg| e.value(ty, Value::Convert(Convert::IntToFloat, integer));
        let &[high, middle, low] = integers else { return float(e, integers[0]) };
        let int = RegType { lane: Lane::I32, ..ty };
        let eight = e.value(int, Value::Const(8));
        let high = e.value(int, Value::Bin(Bin::Shl, high, eight));
        let high = e.value(int, Value::Bin(Bin::Add, high, middle));
        let (high, low) = (float(e, high), float(e, low));
        let byte = e.value(ty, Value::Const(u64::from(256f32.to_bits())));
        e.value(ty, Value::Mla(low, high, byte))
    }

    /// Adds the products of a block to the sums `[row][vector]`.
    fn block(
        &self,
        e: &mut Emitter,
        region: Region,
        places: &[Vec<Affine>],
        sums: &[Vec<Reg>],
        block: &Affine,
    ) {
        let vectors = region.vectors(self.columns.lanes);
        let integers = self.zeros(e, places.len(), &vectors);
        let step = (UNROLLED / TOGETHER).min(self.columns.words) as i64;
        let full = self.columns.words as i64 / step * step;
        e.repeat("place", 0, full, step, |e, at| {
            self.words(e, region, places, &integers, (block, &at), step);
        });
        if full < self.columns.words as i64 {
            let at = Affine::constant(full);
            self.words(e, region, places, &integers, (block, &at), self.columns.words as i64 - full);
        }
        let columns: Vec<[Option<Reg>; 2]> =
            (0..vectors.len()).map(|v| self.of_columns(e, region, (v, vectors[v]), block)).collect();
        for (row, (place, sums)) in places.iter().zip(sums).enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let ty = RegType { lane: Lane::F32, lanes: vectors[v] as u8 };
                let [scale, zero] = columns[v];
                let [factor, share] = self.of_row(e, place, block, ty);
                let share = zero.map_or(share, |z| e.value(ty, Value::Bin(Bin::Mul, share, z)));
                let bytes: Vec<Reg> = integers.iter().map(|byte| byte[row][v]).collect();
                let integer = self.integer(e, &bytes, ty);
                let scaled = e.value(ty, Value::Mla(share, factor, integer));
                e.assign(sum, Value::Mla(sum, scaled, scale.unwrap_or(scaled)));
            }
        }
    }

    /// The scale and the zero point of a vector of columns, in a block.
    fn of_columns(
        &self,
        e: &mut Emitter,
        region: Region,
        (vector, lanes): (usize, usize),
        block: &Affine,
    ) -> [Option<Reg>; 2] {
        let product = &self.columns.product;
        let n = &self.place[product.outer as usize];
        let ty = RegType { lane: Lane::F32, lanes: lanes as u8 };
        [Some(&product.scale), product.zeros.as_ref()].map(|place| {
            let operand = place?.operand;
            let at = (block, &Affine::constant(0));
            let index = self.columns.index(region, (operand, n, vector), at);
            let (dtype, _) = self.columns.memory(operand, self.linear.buffers[operand as usize].dtype);
            let loaded = memory_load(e, addr(operand, index), dtype, 1, lanes);
            match dtype.is_float() {
                true => Some(loaded),
                false => Some(e.value(ty, Value::Convert(Convert::IntToFloat, loaded))),
            }
        })
    }

    /// The factor of a row's integers in a block, and its share in zero points.
    fn of_row(&self, e: &mut Emitter, place: &[Affine], block: &Affine, ty: RegType) -> [Reg; 2] {
        let product = &self.columns.product;
        let within = Affine::constant(0);
        let [factor, share] = [&product.factor, &product.share].map(|of| {
            let index = self.at(of, place, (block, &within));
            e.value(ty, Value::Load(addr(of.operand, index), 0))
        });
        let length = (self.columns.words * TOGETHER) as f32;
        let length = e.value(ty, Value::Const(u64::from(length.to_bits())));
        [factor, e.value(ty, Value::Bin(Bin::Mul, share, length))]
    }

    /// Adds the products of so many rows of words to the integers `[byte][row][vector]`.
    fn words(
        &self,
        e: &mut Emitter,
        region: Region,
        places: &[Vec<Affine>],
        integers: &[Vec<Vec<Reg>>],
        (block, from): (&Affine, &Affine),
        rows: i64,
    ) {
        let (vectors, how) = (region.vectors(self.columns.lanes), self.columns.how);
        let pairs = |lanes: usize| how == Words::Pairs || self.columns.halved(lanes);
        let short = match how {
            Words::Pairs | Words::Halves => self.zeros(e, places.len(), &vectors),
            Words::Unsigned | Words::Signed => Vec::new(),
        };
        for row in 0..rows {
            for (v, &lanes) in vectors.iter().enumerate() {
                let halves = self.halves(e, region, (v, lanes), (block, &from.offset(row)));
                let sums = if pairs(lanes) { &short } else { integers };
                for (half, &weights) in halves.iter().enumerate() {
                    let word = (2 * row + half as i64, 2 * rows);
                    for (byte, sums) in self.columns.product.data.iter().zip(sums) {
                        for (place, sums) in places.iter().zip(sums) {
                            let data = self.data(e, (byte, place), (block, from), word, lanes);
                            e.assign(sums[v], self.dot(sums[v], weights, data, lanes));
                        }
                    }
                }
            }
        }
        for (sums, short) in integers.iter().flatten().zip(short.iter().flatten()) {
            for ((&sum, &short), &lanes) in sums.iter().zip(short).zip(&vectors).filter(|s| pairs(*s.1)) {
                let each = e.hoisted(RegType { lane: Lane::I32, lanes: lanes as u8 }, u64::from(EACH));
                e.assign(sum, Value::Dot(Dot::Couples, sum, short, each));
            }
        }
    }

    /// The weights of eight places of a vector of columns: those of the first four, and of the others.
    fn halves(
        &self,
        e: &mut Emitter,
        region: Region,
        (vector, lanes): (usize, usize),
        (block, row): (&Affine, &Affine),
    ) -> [Reg; 2] {
        let product = &self.columns.product;
        let ty = RegType { lane: Lane::I32, lanes: lanes as u8 };
        let (operand, n) = (product.weights.operand, &self.place[product.outer as usize]);
        let index = self.columns.index(region, (operand, n, vector), (block, row));
        let word = e.value(ty, Value::Load(addr(operand, index), 1));
        let (mask, four) = (e.hoisted(ty, quad(15)), e.value(ty, Value::Const(4)));
        let high = e.value(ty, Value::Bin(Bin::ShrU, word, four));
        [word, high].map(|half| e.value(ty, Value::Bin(Bin::And, half, mask)))
    }

    /// Four bytes of a row in all lanes: a word of so many that follow a row of words. Where a lane can be multiplied by
    /// itself, four words are loaded at once.
    fn data(
        &self,
        e: &mut Emitter,
        (data, place): (&Place, &[Affine]),
        (block, from): (&Affine, &Affine),
        (word, words): (i64, i64),
        lanes: usize,
    ) -> Reg {
        let ty = RegType { lane: Lane::I32, lanes: lanes as u8 };
        let mut load = |lanes: usize, word: i64, apart: i64| {
            let within = from.scaled(TOGETHER as i64).offset(4 * word);
            let index = self.at(data, place, (block, &within));
            e.value(RegType { lanes: lanes as u8, ..ty }, Value::LoadWords(addr(data.operand, index), apart))
        };
        let by_lane = matches!(self.columns.how, Words::Signed | Words::Halves);
        let first = word - word % 4;
        if !by_lane || first + 4 > words {
            return load(lanes, word, 0);
        }
        let loaded = load(4, first, 4);
        e.value(ty, Value::Broadcast(loaded, (word % 4) as u8))
    }

    fn dot(&self, sum: Reg, weights: Reg, data: Reg, lanes: usize) -> Value {
        match self.columns.how {
            Words::Unsigned => Value::Dot(Dot::Us, sum, weights, data),
            Words::Pairs => Value::Dot(Dot::Pairs, sum, weights, data),
            Words::Halves if self.columns.halved(lanes) => Value::Dot(Dot::HalfPairs, sum, data, weights),
            Words::Signed | Words::Halves => Value::Dot(Dot::Sn, sum, data, weights),
        }
    }
}

/// Registers that hold zero, with so many lanes each.
fn zeros(e: &mut Emitter, lane: Lane, vectors: &[usize]) -> Vec<Reg> {
    let zero = |&lanes: &usize| {
        let reg = e.fresh(RegType { lane, lanes: lanes as u8 });
        e.assign(reg, Value::Const(0));
        reg
    };
    vectors.iter().map(zero).collect()
}
