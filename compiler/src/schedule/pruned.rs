//! Whether leaving out zeros pays, how many points at a time.
//!
//! Turning data takes as much for each channel as some multiply-adds, so it pays where channels are many and few
//! weights are left; single numbers where all weights would come from far away.

use super::cores::core;
use super::linear::Linear;
use super::sparse::{Along, Product, Sparse};
use super::{Schedule, Vector};
use crate::target::Target;

/// Cycles of a product of single numbers.
const SINGLE: f64 = 1.3;
/// Elements in between at most.
const MOST: usize = 1 << 18;
/// Bytes of constants that a byte in between has to spare where bytes count before time.
const SPARED: usize = 4;
/// Bytes of a weight and its place.
const ENTRY: usize = 8;
/// Vectors of points that are done at a time at most: their sums, two each, stay in registers.
const VECTORS: usize = 6;
/// It is chosen where it takes less than this part of the dense product's time: it takes memory.
const GAIN: f64 = 0.9;
/// ... or this, where that is filtered: constants are up to four times as many then.
const FILTERED: f64 = 1.0;
/// Cycles in which an output's list begins and ends (this and what follows: fitted on Golden Cove, over 15 products of
/// 24 to 960 channels, to half a cycle for each vector that is loaded).
const LISTED: f64 = 12.0;
/// The share of the first-level cache that the data of the points may fill.
const NEAR: f64 = 0.7;
/// The share of loads that are made where it is in the second-level cache.
const FAR: f64 = 0.65;
/// How much slower it may be for as much less in between as the second-level cache holds, but for this at most.
const MEMORY: f64 = 0.4;
/// As above.
const COUNTED: usize = 1 << 20;

/// The schedule that leaves out the zeros, made of the dense one, which takes so many cycles; `None` where that is
/// faster.
pub(super) fn sparse(linear: &Linear, target: &Target, dense: &Schedule, cycles: f64) -> Option<Schedule> {
    let kept = linear.facts.kept?;
    let product = Product::of(linear)?;
    let Vector::Axis { var, lanes } = dense.vector else { return None };
    if var != product.outer || lanes * 4 != target.vector_bytes {
        return None;
    }
    let taps: usize = linear.reductions().map(|v| linear.extent(v)).product();
    let all = 4 * linear.extent(product.outer) * taps;
    let blocks = self::blocks(&product, linear, lanes);
    let (taken, sparse) = match linear.compact {
        true => {
            let between = |&sparse: &Sparse| product.block(linear, sparse, lanes).elems();
            let least = blocks.into_iter().min_by_key(between)?;
            let lists = ENTRY * product.together() * kept;
            (all.saturating_sub(lists) > SPARED * 4 * between(&least), least)
        }
        false => {
            let cost = |sparse: Sparse| self::cycles(&product, linear, target, (kept, sparse));
            let costs = blocks.into_iter().map(|sparse| (cost(sparse), sparse));
            let (cost, sparse) = costs.min_by(|a, b| a.0.total_cmp(&b.0))?;
            let gain = if dense.winograd.is_some() { FILTERED } else { GAIN };
            (cost < gain * cycles.max(read(all, target)), sparse)
        }
    };
    taken.then(|| Schedule {
        begun: false,
        apart: 0,
        pack: vec![product.weights],
        winograd: None,
        sparse: Some(sparse),
        ..dense.clone()
    })
}

/// The blocks that there are to choose from: whose sums fit registers, and whose data some cache.
fn blocks(product: &Product, linear: &Linear, lanes: usize) -> Vec<Sparse> {
    let rows = match &product.along {
        Along::One => return vec![Sparse { vectors: 1, rows: 1 }],
        Along::Points(_) => 1,
        Along::Windows(slides) => slides.down.as_ref().map_or(1, |s| linear.extent(s.axis)),
    };
    let of_rows = |rows: usize| (1..=VECTORS).map(move |vectors| Sparse { vectors, rows });
    let fits = |&sparse: &Sparse| product.block(linear, sparse, lanes).elems() <= MOST;
    (1..=rows).flat_map(of_rows).filter(fits).collect()
}

/// Cycles in which so many bytes of constants are read.
fn read(bytes: usize, target: &Target) -> f64 {
    let core = core(target);
    bytes as f64 / if bytes > target.l2 { core.far } else { core.near }
}

/// Cycles of all points, so many of them at a time, with so many groups of nonzero weights.
fn cycles(product: &Product, linear: &Linear, target: &Target, (kept, sparse): (usize, Sparse)) -> f64 {
    let (core, lanes) = (core(target), target.lanes());
    let [inner, outer] = [product.inner, product.outer].map(|v| linear.extent(v));
    let around = product.around(linear).iter().map(|&v| linear.extent(v) as f64).product::<f64>();
    let weights = kept * product.together();
    let block = product.block(linear, sparse, lanes);
    let near = 4.0 * block.data as f64 <= NEAR * target.l1 as f64;
    let astride = if matches!(product.along, Along::Windows(_)) { core.astride } else { 1.0 };
    let loads = core.loads * if near { 1.0 } else { FAR };
    // Vectors of points, those that are finished, and those of data that are turned.
    let cost = |points: usize, finished: usize, turned: f64| {
        let vectors = points.div_ceil(lanes);
        let chunks = vectors.div_ceil(sparse.vectors);
        let products = weights as f64
            * (vectors as f64 / core.fma).max((astride * vectors as f64 + chunks as f64) / loads);
        let lists = outer as f64 * (LISTED * chunks as f64 + 2.0 * vectors as f64 / core.stores);
        let channels = (outer.div_ceil(lanes) * finished) as f64;
        products + lists + core.turned * (channels + turned * inner as f64)
    };
    let vectors = |points: usize| points.div_ceil(lanes) as f64;
    let sums = match &product.along {
        Along::One => {
            let sums = weights as f64 * SINGLE + outer as f64 * LISTED;
            sums.max(read(ENTRY * weights, target))
        }
        Along::Points(axis) => {
            let (points, most) = (linear.extent(*axis), sparse.vectors * lanes);
            let part = |points: usize| cost(points, points, vectors(points));
            let rest = points % most;
            (points / most) as f64 * part(most) + if rest > 0 { part(rest) } else { 0.0 }
        }
        Along::Windows(slides) => {
            let rows = slides.down.as_ref().map_or(1, |s| linear.extent(s.axis));
            let columns = linear.extent(slides.across.axis);
            let lies = slides.rows(linear, sparse.rows);
            let reads = (block.channel / lies.row) as f64 * vectors(columns);
            let zeros =
                if slides.padded(linear) { block.channel as f64 / lanes as f64 / core.turned } else { 0.0 };
            let points = (sparse.rows - 1) * lies.row + columns;
            rows.div_ceil(sparse.rows) as f64 * cost(points, sparse.rows * columns, reads + zeros)
        }
    };
    around * sums * (1.0 + MEMORY * 4.0 * block.elems() as f64 / target.l2.min(COUNTED) as f64)
}
