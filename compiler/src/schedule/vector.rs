//! What fills the lanes of a definition: an axis, a reduction, or nothing, by what loads, sums and stores cost there.

use super::Vector;
use super::blocked::columns;
use super::bytes::{Bytes, word_axis};
use super::elementwise::{apart, elementwise_vector};
use super::factors::factor_loads;
use super::guards::{decided, safe_range};
use super::linear::{Guard, Linear, Node};
use super::loads::{finish_length, follows, lanes, lanes_possible, loads, overlap_along};
use super::over_lanes::{finished_beside, lane_fold, words};
use super::reduction::unrolled_whole;
use crate::base::Affine;
use crate::target::Target;

/// What a tile's own edge adds to what a sliding window loads anew.
const SLID_TILE: f64 = 0.1;
/// What an element that is no neighbour of the one before costs, in loads.
const GATHERED: f64 = 2.0;
/// What a vector of every other element costs, in loads.
const EVERY_OTHER: f64 = 2.5;
/// What folding a vector costs, in loads.
const FOLDED: f64 = 0.5;
/// What joining the lanes of a fold costs, in loads.
const JOINED: f64 = 12.0;
/// What single numbers must be cheaper by than lanes.
const ALONE: f64 = 0.5;

/// What a window that slides along another axis loads anew for each point of it, of what it holds. In lanes along the
/// window itself its elements lie elsewhere at the next point.
fn slid(linear: &Linear, addr: &Affine, var: u32) -> f64 {
    let slides = |axis: u32| {
        let mut windows = linear.reductions().filter(|&r| r != var);
        let (step, extent) = windows.find_map(|r| overlap_along(linear, addr, axis, r))?;
        // No more points stay in registers until the next one.
        unrolled_whole(extent).then(|| step as f64 / extent as f64)
    };
    let anew = linear.axes().filter(|&axis| axis != var).filter_map(slides).fold(1.0, f64::min);
    (anew + SLID_TILE).min(1.0)
}

/// Cost of one load in a vector of `lanes` along `var`; `packs`: of what is folded.
fn load_cost(linear: &Linear, load: &Node, var: u32, lanes: usize, packs: bool) -> f64 {
    let Node::Load { operand, addr, dynamic, .. } = load else { return 0.0 };
    let cost = match addr.coefficient(var) {
        0 => 0.4,
        1 => 1.0,
        _ if packs && linear.buffers[*operand as usize].constant => 1.0,
        _ if packs && word_axis(linear, load, var).is_some() => 1.0,
        2 if lanes > 4 && linear.buffers[*operand as usize].dtype.size() == 4 => EVERY_OTHER,
        _ => GATHERED * lanes as f64 * slid(linear, addr, var),
    };
    // Once for all points of the reduction axes that it does not follow.
    let again = linear.reductions().filter(|&r| packs && dynamic.is_empty() && addr.coefficient(r) == 0);
    cost / again.map(|r| linear.extent(r) as f64).product::<f64>()
}

/// What fills the lanes of a definition on a target.
pub fn choose_vector(linear: &Linear, target: &Target) -> Vector {
    let lanes = lanes(linear, target);
    let possible = lanes_possible(linear, false);
    if linear.vars.is_empty() || !(possible || linear.fold.is_some() && lanes_possible(linear, true)) {
        return Vector::None;
    }
    if let Some(columns) = columns(linear, target) {
        return columns;
    }
    let Some(fold) = linear.fold else { return elementwise_vector(linear, target, lanes) };
    let fold = FoldCost {
        linear,
        target,
        lanes,
        points: linear.reductions().map(|v| linear.extent(v) as f64).product(),
        body: loads(linear, fold.2),
        finish: loads(linear, linear.finish),
        made: finish_length(linear) as f64,
        guards: decided(linear).unwrap_or_default(),
    };
    let axes = linear.axes().filter(|&v| possible && !linear.ends(v));
    let axes = axes.filter_map(|v| Some((fold.along(v)?, Vector::Axis { var: v, lanes })));
    let reductions = linear.reductions();
    let reductions = reductions.filter_map(|v| Some((fold.over(v)?, Vector::Reduction { var: v, lanes })));
    (axes.chain(reductions).chain([(fold.alone(), Vector::None)]))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(Vector::None, |best| best.1)
}

/// A fold, as it costs for each result: in loads of a vector.
struct FoldCost<'a> {
    linear: &'a Linear,
    target: &'a Target,
    lanes: usize,
    /// Points that are folded.
    points: f64,
    /// The loads of what is folded, and of what is made of a result.
    body: Vec<&'a Node>,
    finish: Vec<&'a Node>,
    /// What is made of a sum is made of a vector of them, or of each.
    made: f64,
    guards: Vec<Guard>,
}

impl FoldCost<'_> {
    /// Cost of a result where lanes hold results along an axis; `None` where loads do not run along it.
    fn along(&self, var: u32) -> Option<f64> {
        let FoldCost { linear, target, lanes, .. } = *self;
        if !self.body.iter().chain(&self.finish).all(|l| follows(linear, l, var)) {
            return None;
        }
        // Single points at the edges pay where rows are read or written whole.
        let padded: Vec<&Guard> = self.guards.iter().filter(|g| g.form.coefficient(var) != 0).collect();
        let row = |r: u32| r == var || padded.iter().any(|g| g.form.coefficient(r) != 0);
        let whole = |n: &&Node| match n {
            Node::Load { addr, guards, .. } if !guards.is_empty() => {
                addr.terms.iter().any(|&(v, step)| step == 1 && row(v))
            }
            _ => false,
        };
        if !padded.is_empty() && linear.store.coefficient(var) != 1 && !self.body.iter().any(whole) {
            return None;
        }
        let (lo, hi) = safe_range(linear, &self.guards, var);
        let inside = (hi.min(linear.extent(var) as i64) - lo).max(0) as usize;
        let steps = inside.div_ceil(lanes) + linear.extent(var) - inside;
        let filled = (linear.extent(var) as f64 / steps as f64).max(1.0);
        let outer: f64 = self.finish.iter().map(|l| load_cost(linear, l, var, lanes, false)).sum();
        let dense = linear.store.coefficient(var) == 1;
        let store = if dense { 1.0 } else { apart(lanes).store * lanes as f64 };
        // Products of bytes are summed several at a time.
        let bytes = Bytes::of(linear, var).filter(|b| b.along(linear, target, var).is_some());
        let points = self.points / bytes.map_or(1, |b| b.neighbours(linear, target)) as f64;
        Some((points * self.point(var, true) + outer + store + self.made) / filled)
    }

    /// Cost of a result where lanes hold parts of it, each of some points along a reduction axis.
    fn over(&self, var: u32) -> Option<f64> {
        let linear = self.linear;
        let extent = linear.extent(var);
        if extent < 4 || !lane_fold(linear) || !self.body.iter().all(|l| follows(linear, l, var)) {
            return None;
        }
        let words = words(linear, self.target, var);
        let vectors = match &words {
            Some(words) => words.count.div_ceil(words.lanes) * words.cost,
            None => extent.div_ceil(self.lanes),
        };
        let filled = extent as f64 / vectors as f64;
        let packs = factor_loads(linear).is_some();
        // Sums of one channel of words are finished as vectors; those of more channels, or of longer products, cost
        // more than what is made of them.
        let single = linear.axes().filter(|&v| linear.extent(v) > 1).count() == 1;
        let words = words.is_some_and(|w| w.cost == 1);
        let beside = single && words && finished_beside(linear, self.target, self.lanes);
        let made = self.made / if beside { self.lanes as f64 } else { 1.0 };
        Some(self.points * self.point(var, packs) / filled + JOINED + made)
    }

    /// Cost of a result by single numbers.
    fn alone(&self) -> f64 {
        let body = self.points * (self.body.len() as f64 + FOLDED);
        body + self.finish.len() as f64 + self.made + 1.0 + ALONE
    }

    /// Cost of a vector of what is folded.
    fn point(&self, var: u32, packs: bool) -> f64 {
        self.body.iter().map(|l| load_cost(self.linear, l, var, self.lanes, packs)).sum::<f64>() + FOLDED
    }
}
