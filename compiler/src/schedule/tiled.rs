//! Contractions: a register tile along the axis that fills the lanes and one more.

use super::bytes::{Bytes, innermost, runs, words};
use super::chains::Chains;
use super::cores::{Code, Unrolled, core, lookups, packs_densely};
use super::cost::{Operands, Tile, Tiling, best_tile};
use super::elementwise::woven_points;
use super::factors::{
    added_first, beside, drop_squares, factor_loads, four_bits, lane_factor, packed_for, walks,
};
use super::guards::decidable_guards;
use super::halves::{HALF_SUMS, half_factors, half_finish, half_lanes};
use super::instructions::couple_halves;
use super::linear::{Guard, Linear, Node};
use super::loads::{finish_length, loads, overlap};
use super::planes::Planes;
use super::reduction::reduction_steps;
use super::restored::Restored;
use super::vector::choose_vector;
use super::{ReduceStep, Schedule, Vector, asked, order};
use crate::base::affine::SIZE;
use crate::base::{Affine, DType};
use crate::target::{Arch, Feature, Target};

/// Operations on vectors in the finish of a tile from which on it is a loop.
const FINISHED: usize = 220;
/// Bytes of a filter of which a quarter would be zeros from which on these take more than the code that does without them
/// (Neoverse N1: some 80 bytes).
const FILTER: usize = 512;

/// What a contraction multiplies, seen from the axis that fills the lanes.
#[derive(Clone)]
struct Contraction<'a> {
    linear: &'a Linear,
    target: &'a Target,
    /// The axis that fills the lanes.
    var: u32,
    /// Its lanes.
    lanes: usize,
    /// The two factors of a product.
    product: Option<(&'a Node, &'a Node)>,
    /// The tile's other axis.
    rows: Option<u32>,
    /// All rows read the same vectors.
    shared: bool,
    /// A product of bytes.
    bytes: Option<Bytes<'a>>,
    /// The axis along which neighbouring products of bytes are summed at a time.
    dot: Option<u32>,
    /// How many.
    neighbours: usize,
    /// The chains of words that are multiplied in 16 bits.
    chains: Option<Chains>,
    /// The factor that is made of narrower constants.
    narrow: Option<Restored>,
    /// It is made once for all rows.
    restored: bool,
    /// Products of half floats are summed in half floats.
    half_sums: bool,
}

/// The schedule of a fold whose lanes are filled along `var`.
pub(super) fn tiled(linear: &Linear, target: &Target, var: u32, lanes: usize) -> (Schedule, Tiling) {
    let (of, operands, Tile { rows: m, vectors: v, cycles, .. }) = best(linear, target, var, lanes);
    let mut tile = vec![(var, v)];
    tile.extend(of.rows.map(|r| (r, m)));
    let ahead = of.is_widened() || of.chains.is_some();
    let order = match of.bytes.as_ref().filter(|_| ahead) {
        Some(bytes) => order::widened(linear, bytes, of.rows, var),
        None if let Some(narrow) = of.narrow.filter(|_| of.restored) => {
            order::restored(linear, narrow.factor, of.rows, var)
        }
        None => order::nearest(linear, target, of.product, of.rows, (var, v * of.lanes), m),
    };
    let pack = of.packed();
    let sums = m * v * (of.lanes * of.summed()).div_ceil(target.vector_bytes);
    let reduce = of.reduction(&pack, m, sums, operands.by_lane);
    let tested = !core(target).relists && of.edged(&reduce, m);
    let widening = of.in_couples().widening();
    let couples = match of.chains {
        Some(_) => best_tile(linear, target, of.rows, var, &of.in_couples().operands()).cycles,
        None => cycles,
    };
    let (cycles, couples) = (cycles + widening, couples + widening);
    let begun = core(target).begins
        && linear.fold.is_some_and(|f| f.1 == DType::F32)
        && added_first(linear).is_some();
    let served = linear.looks_up_inside() && lookups(target).beside > 1 && m * v > 1;
    let looped = !of.half_finish() && (finish_length(linear) * m * v > FINISHED || served || of.waits());
    let schedule = Schedule {
        vector: Vector::Axis { var, lanes: of.lanes },
        tile,
        order,
        reduce,
        pack,
        lane_loads: operands.by_lane,
        dot: of.neighbours,
        chains: of.chains.is_some(),
        wide: of.is_wide(),
        halves: of.in_halves(),
        long: of.is_long(),
        dense: of.is_dense(),
        half_sums: if of.half_sums { HALF_SUMS } else { 0 },
        half_parts: if of.half_sums { core(target).widened.parts } else { 0 },
        half_finish: of.half_finish(),
        begun,
        tested,
        restored: of.restored,
        woven: false,
        apart: if looped { woven_points(linear, target) } else { 0 },
        winograd: None,
        sparse: None,
        blocked: None,
    };
    (schedule, Tiling { cycles, couples, rows: of.rows })
}

/// The code of the tiles that a definition would be cut into, and what is known of its size; none where no
/// axis fills the lanes of a fold.
pub fn tile_code(linear: &Linear, target: &Target) -> Option<(Unrolled, &'static Code)> {
    let Vector::Axis { var, lanes } = choose_vector(linear, target) else { return None };
    linear.fold?;
    let (.., tile) = best(linear, target, var, lanes);
    Some((tile.code, &core(target).code))
}

/// A contraction and its register tile, by whichever products take fewer cycles.
fn best<'a>(
    linear: &'a Linear,
    target: &'a Target,
    var: u32,
    lanes: usize,
) -> (Contraction<'a>, Operands, Tile) {
    let with_tile = |of: Contraction<'a>| {
        let operands = of.operands();
        let tile = best_tile(linear, target, of.rows, var, &operands);
        (of, operands, tile)
    };
    let plain = Contraction::new(linear, target, var, lanes);
    // In registers of `f32` a half float that all lanes share takes three instructions.
    if let (Some(halved), Arch::X86_64) = (plain.in_half_sums(), target.arch) {
        return with_tile(halved);
    }
    let restored = || plain.restored().filter(|_| !linear.compact);
    let others = [plain.in_squares(), plain.in_chains(), restored(), plain.in_half_sums()];
    let all: Vec<Contraction> = [Some(plain)].into_iter().chain(others).flatten().collect();
    // Those that pack their constants as others do, if there are any.
    let like = linear.facts.like.filter(|like| like.filter.is_none());
    let alike = |c: &Contraction| {
        like.is_none_or(|like| (like.dot, like.chains) == (c.neighbours, c.chains.is_some()))
    };
    let some = all.iter().any(alike);
    let mut kept = all.into_iter().filter(|c| !some || alike(c)).map(with_tile);
    let faster = |one: (Contraction<'a>, Operands, Tile), other: (Contraction<'a>, Operands, Tile)| {
        if one.2.cycles <= other.2.cycles { one } else { other }
    };
    let first = kept.next().unwrap_or_else(|| with_tile(Contraction::new(linear, target, var, lanes)));
    kept.fold(first, faster)
}

impl<'a> Contraction<'a> {
    fn new(linear: &'a Linear, target: &'a Target, var: u32, lanes: usize) -> Contraction<'a> {
        let product = factor_loads(linear);
        // The factor that follows the vector axis is loaded as vectors, the other one is broadcast.
        let shared = |m: u32| match product {
            Some((a, b)) => [a, b].iter().any(|f| walks(f, var) && !walks(f, m)),
            None => false,
        };
        let others: Vec<u32> = linear.axes().filter(|&v| v != var && !linear.ends(v)).collect();
        let best = |list: Vec<u32>| list.into_iter().max_by_key(|&v| (linear.extent(v) > 3, v));
        let reused = best(others.iter().copied().filter(|&m| shared(m)).collect());
        let bytes = Bytes::of(linear, var).filter(|b| b.along(linear, target, var).is_some());
        let dot = bytes.as_ref().and_then(|b| b.along(linear, target, var));
        let neighbours = bytes.as_ref().map_or(1, |b| b.neighbours(linear, target));
        let rows = reused.or_else(|| best(others));
        let shared = reused.is_some();
        Contraction {
            linear,
            target,
            var,
            lanes,
            product,
            rows,
            shared,
            bytes,
            dot,
            neighbours,
            chains: None,
            narrow: Restored::of(linear, var),
            restored: false,
            half_sums: false,
        }
    }

    /// The same with floats that are made once for all rows.
    fn restored(&self) -> Option<Contraction<'a>> {
        let possible = self.narrow.is_some() && self.rows.is_some() && self.shared;
        possible.then_some(Contraction { restored: true, ..self.clone() })
    }

    /// The same with words that are multiplied in 16 bits, where the constants allow it.
    fn in_chains(&self) -> Option<Contraction<'a>> {
        let fits = |c: &Chains| c.var == self.var && c.lanes == self.lanes;
        let chains = self.linear.facts.chains.filter(fits)?;
        self.is_widened().then_some(Contraction { neighbours: 4, chains: Some(chains), ..self.clone() })
    }

    /// The same with products that are summed in half floats, where the target multiplies them.
    fn in_half_sums(&self) -> Option<Contraction<'a>> {
        let possible = self.target.multiplies_halves() && half_factors(self.linear);
        let lanes = half_lanes(self.target);
        possible.then_some(Contraction { half_sums: true, narrow: None, lanes, ..self.clone() })
    }

    /// Bytes of a lane of the sums.
    fn summed(&self) -> usize {
        match self.linear.fold {
            _ if self.half_sums => 2,
            Some((_, DType::F64, _)) => 8,
            _ => 4,
        }
    }

    /// Whether sums lie in memory while short ones are made that are added to them.
    fn waits(&self) -> bool {
        self.half_sums && self.products() > HALF_SUMS && core(self.target).widened.registers == 1
    }

    /// Whether what is stored is computed in half floats.
    fn half_finish(&self) -> bool {
        self.half_sums && self.products() <= HALF_SUMS && half_finish(self.linear)
    }

    /// The same with couples in place of chains.
    fn in_couples(&self) -> Contraction<'a> {
        let neighbours = if self.chains.is_some() { 2 } else { self.neighbours };
        Contraction { neighbours, chains: None, ..self.clone() }
    }

    /// The same with products of two rows by two channels at a time, where they are possible.
    fn in_squares(&self) -> Option<Contraction<'a>> {
        let along = self.dot.filter(|_| self.target.has(Feature::I8mm) && self.rows.is_some())?;
        let possible = self.bytes.as_ref()?.in_squares(self.linear, self.var, along);
        possible.then_some(Contraction { neighbours: 8, ..self.clone() })
    }

    /// Whether the rows' factor is widened to couples ahead.
    fn is_widened(&self) -> bool {
        self.bytes.as_ref().is_some_and(|b| b.widened(self.neighbours))
    }

    /// Whether couples lie in memory as they are, in that of the rows.
    fn is_sixteen(&self) -> bool {
        self.dot.is_some() && self.bytes.as_ref().is_some_and(|b| b.sixteen)
    }

    /// Whether sums of products of bytes take several instructions.
    fn widens(&self) -> bool {
        self.dot.is_some() && !self.is_sixteen() && couple_halves(self.target)
    }

    /// Whether the words of the factor that fills lanes lie in halves.
    fn in_halves(&self) -> bool {
        let possible = self.bytes.as_ref().is_some_and(|b| b.in_halves(self.linear));
        self.widens() && possible && self.neighbours == 4
            || self.is_sixteen() && self.target.arch == Arch::Aarch64
    }

    /// Whether products of two words in halves are added in 16 bits.
    fn is_long(&self) -> bool {
        self.in_halves() && self.neighbours == 4 && self.linear.facts.long
    }

    /// Whether words of a filter are packed without zeros.
    fn is_dense(&self) -> bool {
        let vectors = self.bytes.as_ref().map(|b| b.vectors);
        let Some(Node::Load { operand, .. }) = vectors.filter(|_| self.woven()) else { return false };
        let spares = self.linear.compact && self.linear.buffers[*operand as usize].elems >= FILTER;
        self.neighbours == 4 && (spares || packs_densely(self.target))
    }

    /// Whether the couples of the constants are packed as 16 bits: where the first-level cache keeps them beside
    /// all else.
    fn is_wide(&self) -> bool {
        let packed = self.bytes.as_ref().filter(|b| b.in_place.is_none() && self.neighbours == 2);
        let Some(Node::Load { operand, .. }) = packed.map(|b| b.vectors) else { return false };
        packed.is_some_and(|b| b.nine)
            || (core(self.target).wide || self.is_sixteen())
                && !self.linear.compact
                && 2 * self.linear.buffers[*operand as usize].elems <= self.target.l1 / 2
    }

    /// How a tile reads its operands.
    fn operands(&self) -> Operands {
        let Contraction { linear, target, var, product, .. } = *self;
        let broadcast = product.is_some_and(|(a, b)| !walks(a, var) || !walks(b, var));
        let together = if self.half_sums { 8 } else { 4 };
        let by_lane = core(target).by_lane
            && broadcast
            && match self.dot {
                Some(along) => linear.extent(along) >= 16,
                None => {
                    linear.fold.is_some_and(|f| f.1 == DType::F32)
                        && lane_factor(linear, product, var, together)
                }
            };
        let size = |operand: u32| linear.buffers[operand as usize].dtype.size();
        let factor = |vectors: bool| {
            let found = product.and_then(|(a, b)| [a, b].into_iter().find(|f| walks(f, var) == vectors));
            match found? {
                Node::Load { operand, addr, .. } => Some((*operand, addr)),
                _ => None,
            }
        };
        let apart = |(o, addr): (u32, &Affine)| {
            addr.coefficient(self.rows.unwrap_or(SIZE)).unsigned_abs() as usize * size(o)
        };
        let woven = self.dot.filter(|_| self.woven());
        Operands {
            neighbours: self.neighbours,
            products: self.products(),
            chains: self.chains,
            shared: self.shared,
            broadcast,
            by_lane: if by_lane { together } else { 1 },
            half_sums: if self.half_sums { HALF_SUMS } else { 0 },
            summed: self.summed(),
            window: sliding(linear, self.rows, var),
            derived: self.bytes.as_ref().map_or(0, |b| b.derived(linear, target)),
            woven: woven.map(|along| words(linear, (along, self.neighbours))),
            wide: self.is_wide(),
            sixteen: self.is_sixteen(),
            halves: self.in_halves() && !self.is_sixteen(),
            long: self.is_long(),
            split: self.widens() && !self.in_halves(),
            lanes: self.lanes,
            beside: match product {
                Some((a, b)) if !self.restored => beside(linear, if walks(a, var) { a } else { b }),
                _ => 0,
            },
            element: factor(true).filter(|_| !self.restored).map_or(4, |f| size(f.0)),
            planes: self.rows.and_then(|rows| Planes::of(linear, target, var, rows)),
            operations: self.narrow.map_or(0, |n| n.operations),
            restored: self.restored.then(|| self.shared_rows()),
            astride: factor(true).is_some_and(|(o, addr)| astride(linear, target, (o, addr), var)),
            row_bytes: factor(false).map_or(0, apart),
        }
    }

    /// Runs of all rows that share their vectors.
    fn shared_rows(&self) -> f64 {
        let follows = |v: u32| self.narrow.is_some_and(|n| self.linear.depends(n.factor, v));
        let others = self.linear.axes().filter(|&v| v != self.var && Some(v) != self.rows && !follows(v));
        others.map(|v| self.linear.extent(v) as f64).product()
    }

    /// Products of a sum, with those that fill up couples.
    fn products(&self) -> usize {
        let points = self.linear.reductions().map(|r| self.linear.extent(r)).product();
        self.couples().map_or(points, |(runs, couples)| 2 * runs * couples)
    }

    /// The runs of what a sum reads that is widened ahead, and couples of each.
    fn couples(&self) -> Option<(usize, usize)> {
        let bytes = self.bytes.as_ref().filter(|b| b.widened(self.neighbours))?;
        let (runs, length) = runs(self.linear, bytes);
        Some((runs, length.div_ceil(2)))
    }

    /// Cycles in which that is done for all rows, by the model: a store for each vector, and for halves of one.
    fn widening(&self) -> f64 {
        let Some((runs, couples)) = self.couples() else { return 0.0 };
        let pieces = couples / self.lanes + (couples % self.lanes).count_ones() as usize;
        let rows = self.rows.map_or(1, |r| self.linear.extent(r));
        (rows * runs * pieces) as f64 / core(self.target).stores
    }

    /// Whether words of the rows' factor are put together from bytes.
    fn woven(&self) -> bool {
        self.bytes.as_ref().is_some_and(|b| b.woven)
    }

    /// Whether tiles of `m` rows, several of them, have windows that are unrolled and reach over an edge.
    fn edged(&self, reduce: &[ReduceStep], m: usize) -> bool {
        let Some(rows) = self.rows.filter(|&r| (2..self.linear.extent(r)).contains(&m)) else { return false };
        let whole = |r: &&ReduceStep| r.unroll >= self.linear.extent(r.var);
        let ties = |guard: &Guard| {
            let over = |r: &ReduceStep| guard.form.coefficient(r.var) != 0;
            guard.form.coefficient(rows) != 0 && reduce.iter().filter(whole).any(over)
        };
        decidable_guards(self.linear).iter().any(ties)
    }

    /// The constants that are packed.
    fn packed(&self) -> Vec<u32> {
        let factors = match self.linear.fold.map(|f| &self.linear.nodes[f.2 as usize]) {
            Some(Node::Op(_, args)) if self.product.is_some() => args.as_slice(),
            _ => &[],
        };
        let mut pack = factors.iter().flat_map(|&f| packed_for(self.linear, f, self.var)).collect();
        drop_squares(&mut pack);
        pack
    }

    /// How the reduction runs in a tile of `m` rows and so many sums.
    fn reduction(&self, pack: &[u32], m: usize, sums: usize, by_lane: usize) -> Vec<ReduceStep> {
        let Contraction { linear, target, var, .. } = *self;
        let repeated = match self.dot {
            None => asked::repeated(linear, target, pack, (self.rows, m)),
            Some(_) => core(target).repeated,
        };
        let limits = (by_lane, core(target).unrolled, repeated);
        let rows = self.rows.filter(|_| m > 1);
        let mut reduce = reduction_steps(linear, self.product, var, rows, sums, limits);
        if pack.iter().any(|&o| four_bits(linear, o)) {
            // Two of them lie in a byte.
            reduce
                .last_mut()
                .into_iter()
                .for_each(|r| r.unroll = whole_pairs(r.unroll, linear.extent(r.var)));
        }
        if let Some(along) = self.dot {
            let how = (by_lane > 1, self.woven(), self.is_sixteen());
            innermost(linear, target, &mut reduce, (along, self.neighbours), sums, how);
            if let Some(bytes) = &self.bytes {
                bytes.unroll_outside(linear, target, &mut reduce, (rows, m, sums));
            }
        }
        reduce
    }
}

/// An unrolling near another one by which a loop runs over pairs.
fn whole_pairs(unroll: usize, extent: usize) -> usize {
    if unroll >= extent { extent } else { unroll.next_multiple_of(2).min(extent) }
}

/// Whether vectors along an axis begin elsewhere than a multiple of their bytes: those of what is not packed,
/// of which neighbours along other axes are no such multiple apart.
fn astride(linear: &Linear, target: &Target, (operand, addr): (u32, &Affine), var: u32) -> bool {
    let buffer = &linear.buffers[operand as usize];
    let apart = |&(v, step): &(u32, i64)| {
        v != var && !(step.unsigned_abs() as usize * buffer.dtype.size()).is_multiple_of(target.vector_bytes)
    };
    !buffer.constant && addr.terms.iter().any(apart)
}

/// The window that slides along the rows: neighbours load the same vectors where its step, from
/// row to row, is shorter than the window.
fn sliding(linear: &Linear, rows: Option<u32>, var: u32) -> Option<(usize, usize)> {
    let (rows, body) = (rows?, linear.fold?.2);
    loads(linear, body).into_iter().find_map(|n| match n {
        Node::Load { addr, .. } if addr.coefficient(var) != 0 => overlap(linear, addr, rows),
        _ => None,
    })
}
