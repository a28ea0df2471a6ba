//! The nest of a convolution by minimal filtering ([`crate::schedule::winograd`]).
//!
//! ```text
//! for each block of rows of tiles, or of a part of a row:
//!     for each of its rows:  strip = B x, down;  data = strip B^T, across
//!     products = data * weights, a matrix product per point
//!     for each tile:  outputs = A products A^T, finished and stored
//! ```
//! Transforms go down and across in turn, so that few registers are needed. What lies between is in a
//! parameter of its own, behind the output ([`scratch`]). Each part of a row writes what its strips have of the rim.
//!
//! Bytes are couples of 16 bits from the first transform to the products, which are sums of 32 bits. All
//! matrices are whole, and the multiple of the outputs that they give is divided at the end, or by constants
//! ([`constants`]): nothing is rounded.

pub(super) mod columns;
mod constants;
pub(super) mod filter;
mod outputs;
mod products;
mod scratch;
mod sides;
pub(super) mod weights;

use self::constants::Constants;
use self::filter::{Filter, Numbers, SINGLE, filter, transform};
use self::outputs::{Vectors, together};
use self::products::multiply_couples;
use self::scratch::Scratch;
use self::weights::Weights;
use super::emit::{Emitter, addr, param};
use super::segments::constant_of;
use super::{Nested, Packed};
use crate::base::{Affine, Bound};
use crate::error::{Error, Result};
use crate::schedule::winograd::{Block, Conv, HALVES, Tiles, Winograd, product};
use crate::schedule::{Linear, Schedule, Vector};
use crate::tile::{Access, Bin, Dot, Lane, Param, Reg, RegType, Value};

struct Nest<'a> {
    linear: &'a Linear,
    conv: Conv,
    /// Down and across.
    filters: [&'static Filter; 2],
    block: Block,
    /// Outputs of a tile down and across, rows of tiles in a block, and tiles of each.
    outputs: [usize; 2],
    rows: usize,
    across: usize,
    /// Tiles whose products of a column are transformed before they are stored; 0: none are.
    at_once: usize,
    /// Each vector of channels out is finished before the next one is multiplied.
    each: bool,
    /// Points of a part of the window, and its parts down and across.
    part: usize,
    windows: [usize; 2],
    /// Rows of tiles, and the parts of each.
    row_count: usize,
    parts: usize,
    lanes: usize,
    scratch: Scratch,
    place: Vec<Affine>,
    index_error: i32,
    constants: Constants,
}

/// Builds the kernel. Its last parameter is memory for what lies between.
pub fn nest(
    linear: &Linear,
    schedule: &Schedule,
    winograd: &Winograd,
    fused: bool,
    index_error: i32,
) -> Result<Nested> {
    let conv = Conv::of(linear).ok_or_else(|| Error::bug("no convolution for minimal filtering"))?;
    let lanes = match schedule.vector {
        Vector::Axis { lanes, .. } if winograd.halves => lanes.min(HALVES),
        Vector::Axis { lanes, .. } => lanes,
        _ => 1,
    };
    let (products, inner) = products_nest(linear, &conv, winograd, (fused, index_error))?;
    let Tiles { outputs, rows, across, part } = winograd.tiles;
    let block = Block::of(&conv, linear, winograd.tiles);
    let block = if winograd.each { block.with(lanes.min(linear.extent(conv.outer))) } else { block };
    let filters = filters(&conv, (outputs, part));
    let constants = Constants::of(linear, &conv, filters);
    let mut nest = Nest {
        linear,
        conv: conv.clone(),
        filters,
        block,
        outputs: conv.shape(outputs),
        rows,
        across,
        at_once: winograd.columns,
        each: winograd.each,
        part,
        windows: conv.parts(linear, part),
        row_count: conv.tiles(linear, 0, outputs),
        parts: conv.times(linear, winograd.tiles),
        lanes,
        scratch: Scratch::of(linear, &conv, &block, winograd, lanes),
        place: vec![Affine::constant(0); linear.vars.len()],
        index_error,
        constants,
    };
    let points = winograd.columns == 0;
    let weights = if points { inner.kernel.params[1].elems } else { products.buffers[1].elems };
    let params = params(linear, &conv, weights, nest.scratch.elems);
    let mut e = Emitter::new(&linear.name, params, fused);
    if nest.parts == 1 {
        nest.rim(&mut e, &Affine::constant(0));
    }
    nest.around(&mut e, &conv.around(linear), &inner);
    let columns = (winograd.columns > 0).then_some(lanes);
    let weights =
        Weights { conv, tiles: winograd.tiles, halves: winograd.halves, columns, products, inner, constants };
    let (kernel, sizes) = e.finish();
    Ok(Nested {
        kernel,
        sizes,
        between: nest.scratch.elems,
        packings: Vec::new(),
        chains: None,
        packed: Some(Packed::Filtered(Box::new(weights))),
    })
}

/// The transforms down and across: nothing is transformed along rows over which no window moves.
fn filters(conv: &Conv, size: (usize, usize)) -> [&'static Filter; 2] {
    let across = filter(size, conv.couples);
    [conv.rows.slide().map_or(&SINGLE, |_| across), across]
}

/// The parameters, with so many elements of transformed weights and in between.
fn params(linear: &Linear, conv: &Conv, weights: usize, between: usize) -> Vec<Param> {
    let mut params = super::operands(linear);
    let operand = &mut params[conv.weights as usize];
    (operand.dtype, operand.elems) = (conv.dtype(), weights);
    params.push(param("out", linear.output.dtype, linear.output.elems, Access::Write));
    params.push(param("between", conv.dtype(), between, Access::ReadWrite));
    params
}

/// The products of the transformed data and weights, point by point: as a definition, and their nest.
fn products_nest(
    linear: &Linear,
    conv: &Conv,
    winograd: &Winograd,
    (fused, index_error): (bool, i32),
) -> Result<(Linear, Nested)> {
    let products = product(conv, linear, winograd.tiles);
    let mut inner = super::nest(&products, &winograd.product, fused, index_error)?;
    if conv.couples {
        let kind = if winograd.halves { Dot::CoupleHalves } else { Dot::Couples };
        multiply_couples(&mut inner.kernel, kind);
    }
    Ok((products, inner))
}

impl Nest<'_> {
    fn ty(&self, lanes: usize) -> RegType {
        let lane = if self.conv.couples { Lane::I32 } else { Lane::F32 };
        RegType { lane, lanes: lanes as u8 }
    }

    /// What products and outputs are.
    fn sums(&self, lanes: usize) -> Numbers {
        Numbers { ty: self.ty(lanes), add: Bin::Add, sub: Bin::Sub }
    }

    /// What the data is up to the products.
    fn inputs(&self, lanes: usize) -> Numbers {
        match self.conv.couples {
            true => Numbers { ty: self.ty(lanes), add: Bin::AddCouples, sub: Bin::SubCouples },
            false => self.sums(lanes),
        }
    }

    /// The vectors along an extent: `body` gets the first element and the lanes.
    fn vectors(
        &mut self,
        e: &mut Emitter,
        extent: usize,
        body: &mut dyn FnMut(&mut Self, &mut Emitter, &Affine, usize),
    ) {
        self.vectors_of(e, extent, 1, &mut |nest, e, at, (_, lanes)| body(nest, e, at, lanes));
    }

    /// The same, so many vectors at a time, which divide those there are: `body` gets their number as well.
    fn vectors_of(
        &mut self,
        e: &mut Emitter,
        extent: usize,
        together: usize,
        body: &mut dyn FnMut(&mut Self, &mut Emitter, &Affine, (usize, usize)),
    ) {
        let (lanes, rest) = (self.lanes, extent % self.lanes);
        let (full, step) = ((extent - rest) as i64, (together * lanes) as i64);
        e.repeat("v", 0, full, step, |e, at| e.scoped(|e| body(self, e, &at, (together, lanes))));
        if rest > 0 {
            e.scoped(|e| body(self, e, &Affine::constant(full), (1, rest)));
        }
    }

    fn load(&self, e: &mut Emitter, at: Affine, lanes: usize) -> Reg {
        e.value(self.ty(lanes), Value::Load(addr(self.scratch.param, at), 1))
    }

    fn keep(&self, e: &mut Emitter, at: Affine, value: Reg) {
        e.store(addr(self.scratch.param, at), 1, value);
    }

    fn channels(&self) -> usize {
        self.conv.channels(self.linear)
    }

    /// Numbers that are summed for each point of a tile.
    fn summed(&self) -> usize {
        self.conv.summed(self.linear, self.part)
    }

    fn around(&mut self, e: &mut Emitter, vars: &[u32], inner: &Nested) {
        let Some((&var, rest)) = vars.split_first() else { return self.blocks(e, inner) };
        let linear = self.linear;
        e.over(&linear.vars[var as usize], |e, at| {
            self.place[var as usize] = at;
            self.around(e, rest, inner);
        });
    }

    fn blocks(&mut self, e: &mut Emitter, inner: &Nested) {
        let (count, across) = ((self.row_count / self.rows) as i64, self.across as i64);
        e.repeat("block", 0, count, 1, |e, block| {
            let row = block.scaled(self.rows as i64);
            e.repeat("part", 0, self.parts as i64, 1, |e, part| {
                let tile = part.scaled(across);
                match self.begins(&row, &tile) {
                    inside if inside.is_empty() => self.block(e, &row, &tile, inner),
                    mut inside => {
                        inside.insert(0, Affine::constant(1));
                        let once = Bound(inside);
                        e.repeat_bounds("inside", Bound::constant(0), once, 1, |e, _| {
                            self.block(e, &row, &tile, inner);
                        });
                    }
                }
            });
        });
    }

    /// How far before the ends of axes that end at sizes known only at run time a block begins.
    fn begins(&self, row: &Affine, tile: &Affine) -> Vec<Affine> {
        let rows = self.conv.rows.axis().map(|axis| (axis, row, self.outputs[0]));
        let axes = rows.into_iter().chain([(self.conv.across.axis, tile, self.outputs[1])]);
        let left = |(axis, first, outputs): (u32, &Affine, usize)| {
            let size = self.linear.vars[axis as usize].size.as_ref()?;
            Some(size.plus_scaled(first, -(outputs as i64)))
        };
        axes.filter_map(left).collect()
    }

    /// The block from a row of tiles and one of them on.
    fn block(&mut self, e: &mut Emitter, row: &Affine, tile: &Affine, inner: &Nested) {
        let strips = self.across / self.scratch.tiles;
        e.repeat("r", 0, self.rows as i64, 1, |e, r| {
            e.repeat("s", 0, strips as i64, 1, |e, s| {
                let first = s.scaled(self.scratch.tiles as i64);
                let left = tile.plus(&first).scaled(self.outputs[1] as i64);
                if self.parts > 1 {
                    self.rim(e, &left);
                }
                for part in 0..self.windows[0] {
                    self.strip(e, (&row.plus(&r), &left), part);
                    self.across(e, &first.plus_scaled(&r, self.across as i64), part);
                }
            });
        });
        let (data, products) = (self.scratch.data as i64, self.scratch.products as i64);
        let (between, weights) = (self.scratch.param, self.conv.weights);
        let outer = self.linear.extent(self.conv.outer);
        if self.each {
            return self.vectors_of(e, outer, 1, &mut |nest, e, first, (count, lanes)| {
                let vectors = Vectors { first, count, lanes };
                nest.columns(e, (first, lanes));
                nest.rows_out(e, (row, tile), &mut |nest, e, at, t| {
                    nest.tile_out(e, at, &t.scaled(lanes as i64), &vectors);
                });
            });
        }
        match self.at_once {
            0 => e.splice(&inner.kernel, &[(between, data), (weights, 0), (between, products)]),
            _ => self.columns(e, (&Affine::constant(0), outer)),
        }
        let together = together(self.linear, &self.conv, self.lanes);
        self.rows_out(e, (row, tile), &mut |nest, e, at, t| {
            nest.vectors_of(e, outer, together, &mut |nest, e, first, (count, lanes)| {
                nest.tile_out(e, at, &t.scaled(outer as i64).plus(first), &Vectors { first, count, lanes });
            });
        });
    }

    /// The strip of a row of tiles from a column on, for a part of the window: a piece for each way in which its rows of
    /// data can lie inside, of which one runs.
    fn strip(&mut self, e: &mut Emitter, (row, left): (&Affine, &Affine), part: usize) {
        let alike = self.alike(part);
        let last = self.row_count;
        for &(start, end) in &alike {
            let bound = |edge: usize, form: Affine, join| {
                constant_of(Bound(vec![Affine::constant(edge as i64), form]), join)
            };
            let lo = if start == 0 { Bound(vec![row.clone()]) } else { bound(start, row.clone(), i64::max) };
            let hi =
                if end == last { Bound(vec![row.offset(1)]) } else { bound(end, row.offset(1), i64::min) };
            match alike.len() {
                1 => self.down(e, (row, left), (start, part)),
                _ => each(e, "row", lo, hi, |e, row| self.down(e, (&row, left), (start, part))),
            }
        }
    }

    /// The rows of the data inside of it, among those that a part of the window reads for a row of tiles.
    fn valid(&self, row: usize, part: usize) -> (usize, usize) {
        let Some(down) = self.conv.rows.slide() else { return (0, 1) };
        let start = (row * self.outputs[0] + part * self.part) as i64 - down.before;
        let n = self.block.inputs[0] as i64;
        ((-start).clamp(0, n) as usize, (down.extent as i64 - start).clamp(0, n) as usize)
    }

    /// Rows of tiles in order, those together whose rows of data lie alike inside.
    fn alike(&self, part: usize) -> Vec<(usize, usize)> {
        let mut list: Vec<(usize, usize)> = Vec::new();
        for row in 0..self.row_count {
            match list.last_mut() {
                Some(last) if self.valid(last.0, part) == self.valid(row, part) => last.1 = row + 1,
                _ => list.push((row, row + 1)),
            }
        }
        list
    }

    /// The address of the data at a row and column of the padded data.
    fn data(&self, row: &Affine, column: &Affine, channel: &Affine) -> Affine {
        let mut place = self.place.clone();
        self.conv.put(&mut place, row, column);
        place[self.conv.inner as usize] = if self.conv.couples { channel.scaled(2) } else { channel.clone() };
        self.conv.addr.map_vars(|v| place[v as usize].clone())
    }

    /// Where the transformed data of a point begins.
    fn data_at(&self, row: &Affine, column: &Affine) -> Affine {
        self.point(row, column, self.block.inputs[0])
            .scaled(self.block.data as i64)
            .offset(self.scratch.data as i64)
    }

    /// The number of a point: of one in `rows` where columns lie one after the other.
    fn point(&self, row: &Affine, column: &Affine, rows: usize) -> Affine {
        match self.at_once {
            0 => row.scaled(self.block.inputs[1] as i64).plus(column),
            _ => column.scaled(rows as i64).plus(row),
        }
    }

    /// The strip of a row of tiles, for a part of the window: each column of data, transformed.
    fn down(&mut self, e: &mut Emitter, (row, left): (&Affine, &Affine), (like, part): (usize, usize)) {
        let (n, channels, columns) = (self.block.inputs[0], self.channels(), self.scratch.columns);
        let (lo, hi) = self.valid(like, part);
        let top = row.scaled(self.outputs[0] as i64).offset((part * self.part) as i64);
        let (first, end) = self.held(left);
        each(e, "x", first, end, |e, x| {
            self.vectors(e, channels, &mut |nest, e, c, lanes| {
                let ty = nest.ty(lanes);
                let loaded: Vec<Option<Reg>> = (0..n)
                    .map(|i| {
                        let at = addr(nest.conv.data, nest.data(&top.offset(i as i64), &left.plus(&x), c));
                        let value = match nest.conv.couples {
                            true => Value::LoadCouples(at),
                            false => Value::Load(at, 1),
                        };
                        (lo..hi).contains(&i).then(|| e.value(ty, value))
                    })
                    .collect();
                let made = transform(e, nest.inputs(lanes), nest.filters[0].inputs, &loaded);
                for (i, value) in made.into_iter().enumerate() {
                    let row = (nest.scratch.strip + i * columns * channels) as i64;
                    let at = x.scaled(channels as i64).plus(c).offset(row);
                    nest.keep(e, at, value);
                }
            });
        });
    }

    /// The transformed data of a strip, whose first tile has this number in the block, for a part of the window down and
    /// all parts across.
    fn across(&mut self, e: &mut Emitter, first: &Affine, part: usize) {
        let (channels, columns) = (self.channels(), self.scratch.columns);
        let (parts, summed) = (self.windows[1], self.summed() as i64);
        e.repeat("t", 0, self.scratch.tiles as i64, 1, |e, t| {
            e.repeat("part", 0, parts as i64, 1, |e, across| {
                let number = across.offset((part * parts) as i64);
                let tile = first.plus(&t).scaled(summed).plus_scaled(&number, channels as i64);
                let left = t.scaled(self.outputs[1] as i64).plus_scaled(&across, self.part as i64);
                let left = left.scaled(channels as i64);
                e.repeat("i", 0, self.block.inputs[0] as i64, 1, |e, i| {
                    let strip = left.plus_scaled(&i, (columns * channels) as i64);
                    self.row_in(e, &strip.offset(self.scratch.strip as i64), &tile, &i);
                });
            });
        });
    }

    /// A row of a tile's data, from a place in the strip to that of a tile, and of a part of the window, in the block.
    fn row_in(&mut self, e: &mut Emitter, strip: &Affine, tile: &Affine, row: &Affine) {
        let (n, channels) = (self.block.inputs[1], self.channels());
        self.vectors(e, channels, &mut |nest, e, c, lanes| {
            let at = |j: usize| strip.plus(c).offset((j * channels) as i64);
            let loaded: Vec<Option<Reg>> = (0..n).map(|j| Some(nest.load(e, at(j), lanes))).collect();
            let made = transform(e, nest.inputs(lanes), nest.filters[1].inputs, &loaded);
            for (j, value) in made.into_iter().enumerate() {
                let point = nest.data_at(row, &Affine::constant(j as i64));
                nest.keep(e, point.plus(tile).plus(c), value);
            }
        });
    }
}

/// A loop; none for constant bounds with one iteration or none.
fn each(e: &mut Emitter, name: &str, lo: Bound, hi: Bound, body: impl FnMut(&mut Emitter, Affine)) {
    match (lo.as_constant(), hi.as_constant()) {
        (Some(lo), Some(hi)) => e.repeat(name, lo, hi, 1, body),
        _ => e.repeat_bounds(name, lo, hi, 1, body),
    }
}
