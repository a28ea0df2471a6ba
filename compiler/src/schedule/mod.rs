//! Schedules: how a definition's loops run, as data.
//!
//! A schedule names the axis that fills vector lanes, how many points of which axes are held in
//! registers at once (the register tile), the order of the loops around the tile, and how the
//! reduction runs inside it. It never changes what is computed; where it sums floats in another
//! order than the definition says, or sums half floats as such, [`Schedule::reorders`] tells.
//!
//! In the order in which they use each other:
//!
//! | files | what they answer |
//! |---|---|
//! | `nodes`, `margins`, [`linear`], `starts`, `guards`, `quads` | the definition with places in memory: what is chosen for |
//! | `instructions`, `cores`, [`chains`] | what a target does with narrow numbers, and per cycle |
//! | `loads`, `factors`, `bytes`, `halves`, [`restored`] | what a definition reads and multiplies, seen from an axis |
//! | `planes`, `cost`, `reduction`, `order`, `elementwise`, `over_lanes` | what a register tile takes; orders of loops |
//! | [`vector`], [`chained`] | what fills the lanes |
//! | `like` | constants that others read as well |
//! | `tiled`, `direct`, [`winograd`], `filtering`, `phases`, [`slides`], [`sparse`], `pruned`, [`blocked`], [`choose`] | the schedule |
//! | `text`, `verify`, `file`, `neighbours` | schedules as text, checked, in files, and varied by a search |

pub mod asked;
pub mod blocked;
mod bytes;
pub mod chained;
pub mod chains;
pub mod choose;
mod cores;
mod cost;
mod direct;
mod factors;
mod filtering;
mod guards;
mod halves;
mod elementwise;
mod file;
mod instructions;
mod like;
pub mod linear;
mod loads;
mod margins;
mod neighbours;
mod nodes;
mod order;
mod over_lanes;
mod phases;
mod planes;
mod pruned;
mod quads;
mod reduction;
pub mod restored;
mod runs;
pub mod slides;
pub mod sparse;
mod starts;
mod text;
mod tiled;
pub mod vector;
mod verify;
pub mod winograd;

use blocked::Words;
pub use bytes::{Bytes, FOUR_WEIGHTS, word_axis};
pub use cores::{Code, Lookups, Throughput, Unrolled, lookups, requantizes_fixed, throughput};
pub use factors::added_first;
pub use file::{Schedules, key};
pub use filtering::spared;
pub use guards::{decidable_guards, decided, safe_range};
pub use instructions::{couple_halves, leaves_padding, word};
pub use like::{Filter, Like};
pub use linear::Linear;
pub use margins::reached;
pub use neighbours::{neighbours, openings};
pub use phases::in_phases;
pub use quads::{QUAD, in_quads};
pub use runs::in_runs;
use sparse::Sparse;
pub use starts::Starts;
pub use text::parse;
pub use tiled::tile_code;
pub use verify::{explain, verify};
use winograd::Winograd;

use crate::base::DType;
use crate::scalar::Fold;

/// What counts where speed and memory cannot both be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Time; but where that exceeds a budget, what fits.
    #[default]
    Speed,
    /// Bytes: convolutions are not filtered (Winograd), since that multiplies their constants, weights that are
    /// kept narrow have no copies in floats, tiles have less code, and strips may cost time.
    Size,
}

/// How one reduction axis runs inside the register tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReduceStep {
    /// The reduction axis.
    pub var: u32,
    /// Iterations unrolled per step of its loop; the extent itself: no loop.
    pub unroll: usize,
}

/// What fills the lanes of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vector {
    /// Nothing: scalar code.
    None,
    /// Neighbours along an axis, `lanes` of them.
    Axis {
        /// The axis.
        var: u32,
        /// Lanes of a full vector.
        lanes: usize,
    },
    /// Partial results along a reduction axis, joined at the end.
    Reduction {
        /// The reduction axis.
        var: u32,
        /// Lanes of a full vector.
        lanes: usize,
    },
}

/// The decisions for one definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// What fills the lanes.
    pub vector: Vector,
    /// `(axis, points)` held in registers at once; for the vector axis, the number of vectors.
    pub tile: Vec<(u32, usize)>,
    /// All axes, outermost loop first.
    pub order: Vec<u32>,
    /// All reduction axes, outermost first.
    pub reduce: Vec<ReduceStep>,
    /// Constant operands packed in the order in which the tile reads them.
    pub pack: Vec<u32>,
    /// Elements along the innermost reduction axis that are loaded as one vector and broadcast by
    /// lane, for targets that multiply by a lane: four, or eight half floats; 1: each is broadcast from memory.
    pub lane_loads: usize,
    /// Neighbours of the innermost reduction axis whose products are summed at a time. Eight: products of
    /// bytes, of two rows by two channels at once. Four: products of bytes. Two: of 16 bits, to which a tile's part of a
    /// broadcast factor of bytes is widened ahead of its vectors. One: products are not summed in groups.
    pub dot: usize,
    /// Words of four neighbours are multiplied in 16 bits, in the chains that the constants allow
    /// ([`linear::Facts::chains`]).
    pub chains: bool,
    /// The constants' couples are packed as 16 bits, not widened each time they are loaded.
    pub wide: bool,
    /// The constants' words lie in halves, for targets that multiply them so (see [`crate::tile::Dot::Halves`]
    /// and, for couples, [`crate::tile::Dot::CoupleHalves`]).
    pub halves: bool,
    /// Products of two such words are added in 16 bits, which the constants allow ([`linear::Facts::long`]).
    pub long: bool,
    /// Words of filters of single channels are packed without the zeros behind their axis.
    pub dense: bool,
    /// Products of half floats are summed in half floats, so many at most, and these sums in `f32`: for targets that
    /// multiply half floats. 0: all are summed in `f32`.
    pub half_sums: usize,
    /// Such a sum is made of parts of so many products at most, which are added up in half floats. As many as it has
    /// itself: it has no parts.
    pub half_parts: usize,
    /// What is stored is computed in half floats, which gives the same: no float is summed, or products of half
    /// floats in one short sum.
    pub half_finish: bool,
    /// Accumulators of floats begin with what the finish adds to their sum first, a bias: those of integers
    /// always do.
    pub begun: bool,
    /// Tiles whose windows reach outside of a padded tensor run by the code of the others: where a window is
    /// unrolled, what lies outside is tested point by point. Otherwise they have code of their own.
    pub tested: bool,
    /// Weights that are kept narrow become floats in memory first, once for all rows ([`restored`]).
    pub restored: bool,
    /// The points of a tile are finished together, operation by operation: for a long finish, of which
    /// a core would not see the next point while it waits for this one.
    pub woven: bool,
    /// The folded values of a tile go to memory, and a loop finishes so many at a time, woven: for a
    /// finish so long that unrolled it would be much code and hold many registers. 0: it does not.
    pub apart: usize,
    /// Minimal filtering: of all else only the vector axis counts then.
    pub winograd: Option<Winograd>,
    /// Zeros among the weights are left out: of all else only the vector axis counts then, too.
    pub sparse: Option<Sparse>,
    /// Integers of blocks are summed as such, and scaled once: of all else only the vector axis and the tile count then.
    pub blocked: Option<Words>,
}

impl Schedule {
    /// The naive loops: scalar, in the definition's order.
    pub fn naive(linear: &Linear) -> Schedule {
        Schedule {
            vector: Vector::None,
            tile: Vec::new(),
            order: linear.axes().collect(),
            reduce: linear.reductions().map(|var| ReduceStep { var, unroll: 1 }).collect(),
            pack: Vec::new(),
            lane_loads: 1,
            dot: 1,
            chains: false,
            wide: false,
            halves: false,
            long: false,
            dense: false,
            half_sums: 0,
            half_parts: 0,
            half_finish: false,
            begun: false,
            tested: false,
            restored: false,
            woven: false,
            apart: 0,
            winograd: None,
            sparse: None,
            blocked: None,
        }
    }

    /// Points of an axis in the register tile (vectors, for the vector axis).
    pub fn points(&self, var: u32) -> usize {
        self.tile.iter().find(|t| t.0 == var).map_or(1, |t| t.1)
    }

    /// Lanes of a full vector along an axis: 1 unless it is the vector axis.
    pub fn axis_lanes(&self, var: u32) -> usize {
        match self.vector {
            Vector::Axis { var: v, lanes } if v == var => lanes,
            _ => 1,
        }
    }

    /// How it packs weights; `None` where they are no tiles of vectors.
    pub fn packs(&self) -> Option<Like> {
        if let Some(winograd) = &self.winograd {
            let (tiles, columns) = (winograd.tiles, winograd.columns > 0);
            let filter = Some(Filter { size: (tiles.outputs, tiles.part), columns });
            return winograd.product.packs().map(|like| Like { filter, ..like });
        }
        let Vector::Axis { var, .. } = self.vector else { return None };
        let packs = !self.pack.is_empty() && self.sparse.is_none() && self.blocked.is_none();
        let Schedule { dot, chains, .. } = *self;
        packs.then(|| Like { filter: None, vectors: self.points(var), dot, chains, most: 100 })
    }

    /// Whether the result may differ from the definition's: floats are summed in another order.
    pub fn reorders(&self, linear: &Linear) -> bool {
        let in_order = self.reduce.windows(2).all(|w| w[0].var < w[1].var);
        let lanes = matches!(self.vector, Vector::Reduction { .. });
        let other = lanes || !in_order || self.begun || self.half_sums > 0;
        let other = other || self.winograd.is_some() || self.sparse.is_some() || self.blocked.is_some();
        let rounds =
            |(fold, dtype, _): (Fold, DType, u32)| dtype.is_float() && matches!(fold, Fold::Sum | Fold::Prod);
        other && linear.fold.is_some_and(rounds)
    }
}
