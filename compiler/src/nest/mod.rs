//! Builds the loop nest of a definition under a schedule.
//!
//! ```text
//! for each axis, in the schedule's order, tile by tile:
//!     registers = identity of the fold, one per point of the tile
//!     for each reduction axis:  registers = fold(registers, body at each point)
//!     store finish(registers) at each point
//! ```
//! Equal loads of a tile's points are made once ([`emit`]), which is what makes it a register
//! tile. Goldens: `tests/golden/nest`.
//!
//! | files | what they do |
//! |---|---|
//! | `range`, `requantize`, `bounds`, `fixed`, `grid`, `fitted`, `scaled`, `joined`, `pairs`, `formed`, `placed` | what constants tell about an expression: how large it is, in how few operations it is exact |
//! | `segments`, `pack`, `panel`, `restored`, `chains` | the tiles of each axis; constants in the order in which they are read; what is widened ahead |
//! | [`emit`], `registers`, `ops`, `half`, `half_lanes`, `sixteen`, `expr` | registers, and the expressions of a point in them |
//! | `accumulate`, `reduce` | the fold inside a tile |
//! | `apart`, `last`, this file, `sizes` | the loops around, what is made of a folded tile, sizes known only at run time |
//! | `finish` | what is made of a value that the following have folded |
//! | `winograd` | the same for a convolution by minimal filtering, whose products are a nest of their own |
//! | `sparse` | the same for a product of which zeros are left out |

mod accumulate;
mod apart;
mod blocked;
mod bounds;
mod chains;
pub mod emit;
mod expr;
mod finish;
mod fitted;
mod fixed;
mod formed;
mod grid;
mod half;
mod half_lanes;
mod joined;
mod last;
mod ops;
mod pack;
mod pairs;
mod placed;
mod panel;
mod range;
mod reduce;
mod registers;
mod requantize;
mod restored;
mod scaled;
mod segments;
mod sixteen;
mod sizes;
mod sparse;
mod winograd;

pub use bounds::{bounded, small_sums};

pub use fixed::fix;
pub use formed::{Formed, chains};
pub use pack::PackedRows;
pub use pairs::pair;
pub use placed::place;
pub use range::{BOUND, Range, range};
pub use reduce::long::{bytes, long};
pub use registers::lane_of;
pub use scaled::scaled;
pub use sizes::bind as bind_sizes;
pub use sparse::{kept, thin};

use crate::base::{Affine, DType};
use crate::error::Result;
use crate::schedule::linear::{Buffer, Node};
use crate::schedule::{Linear, Schedule, Vector, decidable_guards, decided, word_axis};
use crate::tile::{Access, Kernel, Lane, Param, Reg, RegType, Stmt, Value};
use accumulate::Started;
use emit::{Emitter, param};
use expr::{Exprs, Guards, PackedAt, Point};
use pack::Packing;
use panel::Panel;
use registers::memory_store;
use restored::Floats;
use segments::{Segment, segments};

/// A kernel and how its constant operands are packed.
pub struct Nested {
    /// Parameters: the operands in the definition's order, then the output.
    pub kernel: Kernel,
    /// The sizes known only at run time whose places follow the parameters, by number.
    pub sizes: Vec<usize>,
    /// Elements (of 32 bits) of a parameter behind the output, for what the kernel keeps in between; 0: there
    /// is none.
    pub between: usize,
    packings: Vec<Packing>,
    chains: Option<chains::Packing>,
    packed: Option<Packed>,
}

/// Weights of which something else is made.
enum Packed {
    /// For a convolution by minimal filtering.
    Filtered(Box<winograd::weights::Weights>),
    /// Lists of those that are not zero.
    Sparse(Box<sparse::Lists>),
    /// Blocks of four bits.
    Blocked(Box<blocked::Columns>),
}

impl Nested {
    /// The bytes of a constant operand as the kernel reads them; `None` where it is not packed.
    pub fn packed(&self, linear: &Linear, operand: u32, data: &[u8]) -> Option<Vec<u8>> {
        match &self.packed {
            Some(Packed::Filtered(weights)) => return weights.packed(linear, operand, data),
            Some(Packed::Sparse(lists)) => return lists.packed(linear, operand, data),
            Some(Packed::Blocked(columns)) => return columns.packed(linear, operand, data),
            None => {}
        }
        let packing = self.packings.iter().find(|p| p.operand == operand)?;
        Some(packing.pack(linear, data, linear.buffers[operand as usize].dtype.size()))
    }

    /// The bytes of a constant operand whose words lie in chains.
    pub fn packed_chains(&self, operand: u32, formed: &mut Option<Formed>) -> Option<Vec<u8>> {
        let chains = self.chains.as_ref().filter(|c| c.operand == operand)?;
        formed.take().map(|formed| chains.pack(formed))
    }
}

/// One vector of the register tile.
#[derive(Clone, Copy)]
struct TilePoint {
    /// Elements past the tile's start along the vector axis.
    chunk: usize,
    /// Lanes.
    lanes: usize,
    /// Index into [`Nest::offsets`]: where the point is along the other tiled axes.
    offset: usize,
}

/// The nest under construction.
struct Nest<'a> {
    linear: &'a Linear,
    schedule: &'a Schedule,
    /// The tiles of each axis, and the loops over them.
    tiles: Vec<Vec<Segment>>,
    segments: Vec<Vec<Segment>>,
    /// Place of each variable at the tile's start.
    place: Vec<Affine>,
    /// The segment each axis is in.
    current: Vec<Option<Segment>>,
    packings: Vec<Packing>,
    /// Offsets of the tile's points along the tiled axes other than the vector axis.
    offsets: Vec<Vec<(u32, usize)>>,
    /// Whether every guard is decided by the schedule, none tested.
    decided: bool,
    /// What accumulators begin with.
    started: Option<Started>,
    /// The broadcast factor of a tile as couples or words.
    panel: Option<Panel>,
    /// Floats that are made of narrower constants once for all rows.
    floats: Option<Floats>,
    /// The constants whose words are multiplied in chains.
    chains: Option<chains::Packing>,
    /// Couples are woven from two rows.
    weaves: bool,
    /// Couples of the broadcast factor lie in memory as they are.
    sixteen: bool,
    /// Within a tile that is the last along an axis, with fewer points.
    last: bool,
}

/// Builds the kernel. `fused` says whether the target fuses multiply-add; `index_error` is the
/// code a failed index check returns.
pub fn nest(linear: &Linear, schedule: &Schedule, fused: bool, index_error: i32) -> Result<Nested> {
    if let Some(winograd) = &schedule.winograd {
        return winograd::nest(linear, schedule, winograd, fused, index_error);
    }
    if let Some(sparse) = schedule.sparse {
        return sparse::nest(linear, schedule, sparse, fused, index_error);
    }
    if let Some(words) = schedule.blocked {
        return blocked::nest(linear, schedule, words, fused, index_error);
    }
    let mut nest = Nest::new(linear, schedule);
    let (params, between) = nest.params();
    let mut emitter = Emitter::new(&linear.name, params, fused);
    emitter.quads = linear.facts.quads;
    nest.axes(&mut emitter, 0, index_error);
    let (kernel, sizes) = emitter.finish();
    let Nest { packings, chains, .. } = nest;
    Ok(Nested { kernel, sizes, between, packings, chains, packed: None })
}

/// Folded values of a tile that are kept in memory until they are finished.
fn apart_elements(schedule: &Schedule) -> usize {
    match schedule.apart > 0 {
        true => schedule.tile.iter().map(|&(v, points)| points * schedule.axis_lanes(v)).product(),
        false => 0,
    }
}

/// A parameter per operand.
fn operands(linear: &Linear) -> Vec<Param> {
    let read = |(i, b): (usize, &Buffer)| param(&format!("in{i}"), b.dtype, b.elems, Access::Read);
    linear.buffers.iter().enumerate().map(read).collect()
}

impl<'a> Nest<'a> {
    fn new(linear: &'a Linear, schedule: &'a Schedule) -> Nest<'a> {
        let guards = decidable_guards(linear);
        let decided = decided(linear).is_some();
        let vars = || 0..linear.vars.len() as u32;
        let tiles: Vec<Vec<Segment>> = vars().map(|v| segments(linear, schedule, &guards, v)).collect();
        let joined = |v: u32| match decided {
            true => reduce::border::joined(linear, schedule, &guards, v, &tiles[v as usize]),
            false => tiles[v as usize].clone(),
        };
        let segments: Vec<Vec<Segment>> = vars().map(joined).collect();
        let vector_segments = match schedule.vector {
            Vector::Axis { var, .. } => segments[var as usize].clone(),
            _ => Vec::new(),
        };
        let chains = chains::Packing::of(linear, schedule);
        let packings = (schedule.pack.iter())
            .filter(|&&operand| chains.as_ref().is_none_or(|c| c.operand != operand))
            .filter_map(|&operand| Packing::new(linear, schedule, operand, &vector_segments))
            .collect();
        let apart = apart_elements(schedule);
        Nest {
            linear,
            schedule,
            tiles,
            segments,
            place: vec![Affine::constant(0); linear.vars.len()],
            current: vec![None; linear.vars.len()],
            packings,
            offsets: Vec::new(),
            decided,
            started: Started::of(linear, schedule),
            panel: Panel::of(linear, schedule, apart),
            floats: Floats::of(linear, schedule, apart),
            chains,
            weaves: reduce::woven::weaves(linear, schedule),
            sixteen: sixteen::multiplies(linear, schedule),
            last: false,
        }
    }

    /// The kernel's parameters: operands as they are packed, the output, and memory for what lies between, with the
    /// elements of that.
    fn params(&self) -> (Vec<Param>, usize) {
        let linear = self.linear;
        let mut params = operands(linear);
        for packing in &self.packings {
            let param = &mut params[packing.operand as usize];
            (param.dtype, param.elems) = packing.memory(param.dtype);
        }
        if let Some(chains) = &self.chains {
            let param = &mut params[chains.operand as usize];
            (param.dtype, param.elems) = (DType::I32, chains.elems());
        }
        params.push(param("out", linear.output.dtype, linear.output.elems, Access::Write));
        let ends = [self.panel.as_ref().map(Panel::end), self.floats.as_ref().map(Floats::end)];
        let between = ends.into_iter().flatten().fold(apart_elements(self.schedule), usize::max);
        if between > 0 {
            let dtype = linear.fold.map_or(DType::F32, |f| f.1);
            params.push(param("between", dtype, between, Access::ReadWrite));
        }
        (params, between)
    }

    /// The loops over the axes from `depth` on, and the tile inside them.
    fn axes(&mut self, e: &mut Emitter, depth: usize, index_error: i32) {
        if let Some(panel) = self.panel.as_ref().filter(|p| p.depth == depth) {
            panel.fill(self, e);
        }
        if let Some(floats) = self.floats.take_if(|f| f.depth == depth) {
            floats.fill(self, e, index_error);
            self.floats = Some(floats);
        }
        let Some(&var) = self.schedule.order.get(depth) else {
            return self.tile(e, index_error);
        };
        let name = self.linear.vars[var as usize].name.clone();
        for segment in self.segments[var as usize].clone() {
            self.current[var as usize] = Some(segment);
            let (lo, step) = (segment.start as i64, segment.points as i64);
            let hi = lo + step * segment.count as i64;
            let size = self.linear.vars[var as usize].size.clone();
            let counted = self.linear.margins.iter().any(|g| g.form.coefficient(var) != 0);
            let mut body = |e: &mut Emitter, at| {
                self.place[var as usize] = at;
                self.axes(e, depth + 1, index_error);
            };
            match size {
                Some(size) => self.until(e, (var, segment), &size, |nest, e, segment, at| {
                    nest.current[var as usize] = Some(segment);
                    nest.place[var as usize] = at;
                    nest.axes(e, depth + 1, index_error);
                }),
                // The ends of loops inside are affine in the number of tiles.
                None if counted => {
                    let place = |tile: Affine| tile.scaled(step).offset(lo);
                    e.repeat(&name, 0, segment.count as i64, 1, |e, tile| body(e, place(tile)));
                }
                None => e.repeat(&name, lo, hi, step, body),
            }
        }
    }

    fn tile(&mut self, e: &mut Emitter, index_error: i32) {
        e.open();
        let points = self.points();
        let accumulators = match self.linear.fold {
            Some(_) => reduce::reduction(self, e, &points, index_error),
            None => vec![None; points.len()],
        };
        match accumulators.iter().copied().collect::<Option<Vec<Reg>>>() {
            Some(folded) if self.schedule.apart > 0 => match self.vector_axis() {
                Some(_) => apart::finish(self, e, &points, &folded, self.between(), index_error),
                None => apart::side_by_side(self, e, &points, &folded, index_error),
            },
            _ => {
                let store = |e: &mut Emitter, i: usize| {
                    self.store_at(e, &self.place_of(&points[i]), &points[i], accumulators[i], index_error);
                };
                match self.schedule.woven {
                    true => e.woven(points.len(), store),
                    false => (0..points.len()).for_each(|i| store(e, i)),
                }
            }
        }
        e.close().into_iter().for_each(|s: Stmt| e.push(s));
    }

    /// The vectors of the tile: the vector axis innermost.
    fn points(&mut self) -> Vec<TilePoint> {
        let mut offsets: Vec<Vec<(u32, usize)>> = vec![Vec::new()];
        let mut chunks = vec![(0, 1)];
        for &var in &self.schedule.order {
            let Some(segment) = self.current[var as usize] else { continue };
            match self.schedule.vector {
                Vector::Axis { var: v, lanes } if v == var => {
                    let starts = (0..segment.points).step_by(lanes);
                    chunks = starts.map(|c| (c, lanes.min(segment.points - c))).collect();
                }
                _ => {
                    let with = |o: &Vec<(u32, usize)>, i: usize| [o.clone(), vec![(var, i)]].concat();
                    offsets =
                        offsets.iter().flat_map(|o| (0..segment.points).map(move |i| with(o, i))).collect();
                }
            }
        }
        self.offsets = offsets;
        let chunks = &chunks;
        (0..self.offsets.len())
            .flat_map(|offset| chunks.iter().map(move |&(chunk, lanes)| TilePoint { chunk, lanes, offset }))
            .collect()
    }

    /// Places of all variables at a point of the tile.
    fn place_of(&self, point: &TilePoint) -> Vec<Affine> {
        let mut place = self.place.clone();
        for &(var, by) in &self.offsets[point.offset] {
            place[var as usize] = place[var as usize].offset(by as i64);
        }
        if let Vector::Axis { var, .. } = self.schedule.vector {
            place[var as usize] = place[var as usize].offset(point.chunk as i64);
        }
        place
    }

    /// The vector variable as expressions see it: none in scalar code and in what follows a
    /// reduction over lanes.
    fn vector_axis(&self) -> Option<u32> {
        match self.schedule.vector {
            Vector::Axis { var, .. } => Some(var),
            _ => None,
        }
    }

    fn packed_address(&self, operand: u32, point: &Point) -> Option<PackedAt> {
        let packing = self.packings.iter().find(|p| p.operand == operand)?;
        let whole = (Affine::constant(0), packing.whole());
        let (base, segment) = match self.vector_axis() {
            Some(v) => (self.place[v as usize].clone(), self.current[v as usize]?),
            None => whole,
        };
        Some(packing.address(point.place, &base, &segment, point.chunk))
    }

    /// Evaluates an expression at a point.
    fn eval(&self, e: &mut Emitter, id: u32, point: &Point, index_error: i32) -> Reg {
        let packed = |operand: u32, point: &Point| self.packed_address(operand, point);
        let started = self.started.map(|s| s.sum);
        Exprs { linear: self.linear, packed: &packed, index_error, started }.eval(e, id, point)
    }

    /// Evaluates an expression at a point as half floats.
    fn half(&self, e: &mut Emitter, id: u32, point: &Point) -> Reg {
        let packed = |operand: u32, point: &Point| self.packed_address(operand, point);
        let started = self.started.map(|s| s.sum);
        Exprs { linear: self.linear, packed: &packed, index_error: 0, started }.half(e, id, point)
    }

    /// Evaluates a factor of a product.
    fn factor(&self, e: &mut Emitter, id: u32, point: &Point, index_error: i32) -> Reg {
        match self.floats.as_ref().filter(|f| f.factor == id) {
            Some(floats) => floats.at(self, e, point.place, (point.chunk, point.lanes)),
            None => self.eval(e, id, point, index_error),
        }
    }

    /// Four neighbours of a factor of bytes, `left` of them inside the reduction axis `along`.
    fn words(&self, e: &mut Emitter, id: u32, point: &Point, left: usize, along: u32) -> Option<Reg> {
        let packed = |operand: u32, point: &Point| self.packed_address(operand, point);
        let exprs = Exprs { linear: self.linear, packed: &packed, index_error: 0, started: None };
        exprs.words(e, id, point, left, along)
    }

    /// Two neighbours of a factor as the halves of words, `left` of them inside the reduction axis.
    fn couple(&self, e: &mut Emitter, id: u32, point: &Point, left: usize) -> Option<Reg> {
        let load = &self.linear.nodes[self.linear.without_casts(id) as usize];
        let Node::Load { operand, addr, .. } = load else { return None };
        let ty = RegType { lane: Lane::I32, lanes: point.lanes as u8 };
        let words = self.vector_axis().and_then(|var| word_axis(self.linear, load, var));
        let value = match (self.packed_address(*operand, point), words) {
            (Some(at), _) if self.schedule.wide => {
                Value::Load(emit::addr(*operand, panel::halved(&at.index)), 1)
            }
            (Some(at), _) => Value::LoadCouples(emit::addr(*operand, at.index)),
            _ if self.weaves => return reduce::woven::couple(self, e, load, point, left),
            _ if self.sixteen => return sixteen::couple(self, e, load, point, left),
            (_, Some(half)) => Value::LoadCouples(emit::addr(*operand, self.couple_place(addr, half, point))),
            _ => {
                let index = self.panel.as_ref()?.index(&self.place, point.place);
                Value::Load(emit::addr(self.between().0, index), 0)
            }
        };
        Some(e.value(ty, value))
    }

    /// Where a couple lies that is one in memory: the axis around its halves counts couples of the run.
    fn couple_place(&self, form: &Affine, half: u32, point: &Point) -> Affine {
        let run = panel::run(self.linear, self.schedule);
        let around = run.iter().rev().nth(1).copied();
        form.map_vars(|v| match v {
            _ if v == half => Affine::constant(0),
            _ if Some(v) == around => panel::halved(&point.place[half as usize]),
            _ => point.place[v as usize].clone(),
        })
    }

    /// The parameter that folded values are kept in before they are finished, and a vector's lanes.
    fn between(&self) -> (u32, usize) {
        let lanes = self.vector_axis().map_or(1, |v| self.schedule.axis_lanes(v));
        (self.linear.buffers.len() as u32 + 1, lanes)
    }

    /// A point of the tile that lies at `place`, after the fold.
    fn point<'p>(&self, place: &'p [Affine], tile_point: &TilePoint, acc: Option<Reg>) -> Point<'p> {
        Point {
            place,
            vector: self.vector_axis(),
            lanes: tile_point.lanes,
            acc,
            guards: Guards::Tested,
            group: None,
            chunk: tile_point.chunk as i64,
        }
    }

    /// Finishes and stores a point of the tile that lies at `place`.
    fn store_at(
        &self,
        e: &mut Emitter,
        place: &[Affine],
        tile_point: &TilePoint,
        acc: Option<Reg>,
        index_error: i32,
    ) {
        self.store_point(e, &self.point(place, tile_point, acc), index_error);
    }

    /// Finishes and stores a point, whose lanes are those that it has.
    fn store_point(&self, e: &mut Emitter, point: &Point, index_error: i32) {
        let value = match self.schedule.half_finish {
            true => self.half(e, self.linear.finish, point),
            false => self.eval(e, self.linear.stored(), point, index_error),
        };
        let out = self.linear.buffers.len() as u32;
        let index = self.linear.store.map_vars(|v| point.place[v as usize].clone());
        let stride = point.vector.map_or(1, |v| self.linear.store.coefficient(v));
        memory_store(e, emit::addr(out, index), self.linear.output.dtype, stride, value);
    }
}

#[cfg(test)]
mod tests;
