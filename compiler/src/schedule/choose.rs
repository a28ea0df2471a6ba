//! Chooses schedules: by the structure of a definition and a small cost model, never by operator.
//!
//! Three shapes matter. A *contraction* sums products of two loads: it wants a register tile with
//! both operands reused. Another *fold* (pooling, means) wants independent accumulators. A
//! *pointwise* definition wants long vectors. Goldens of the decisions: `tests/golden/schedule`.

use super::bytes::{Bytes, word_axis};
use super::elementwise::{POINTWISE_VECTORS, alone, apart, elementwise_vector, pointwise};
use super::factors::factor_loads;
use super::guards::{decided, safe_range};
use super::linear::{Guard, Linear, Node};
use super::over_lanes::{lane_fold, over_lanes, words};
use super::tiled::tiled;
use super::{Schedule, Vector};
use crate::base::{Affine, DType};
use crate::scalar::Op;
use crate::scalar::math::primitives;
use crate::target::{Arch, Target};

/// What a tile's own edge adds to what a sliding window loads anew.
const SLID_TILE: f64 = 0.1;
/// What an element that is no neighbour of the one before costs, in loads.
const GATHERED: f64 = 2.0;
/// What a vector of every other element costs, in loads.
const EVERY_OTHER: f64 = 2.5;
/// Operations on vectors in the finish of a tile from which on it is a loop.
pub(super) const FINISHED: usize = 250;

/// The schedule of a definition for a target.
pub fn choose(linear: &Linear, target: &Target) -> Schedule {
    with_vector(linear, target, choose_vector(linear, target))
}

/// The same where bytes count before time: nothing is filtered, and no copy of weights is made.
pub fn choose_small(linear: &Linear, target: &Target) -> Schedule {
    let linear = &Linear { chains: None, compact: true, ..linear.clone() };
    Schedule { winograd: None, ..choose(linear, target) }
}

/// The schedule of a definition where what fills the lanes is given.
pub(super) fn with_vector(linear: &Linear, target: &Target, vector: Vector) -> Schedule {
    match vector {
        Vector::None => alone(linear),
        Vector::Reduction { var, lanes } => over_lanes(linear, target, var, lanes),
        vector @ Vector::Axis { var, .. } if linear.fold.is_some() => tiled(linear, target, vector, var),
        Vector::Axis { var, lanes } => pointwise(linear, target, var, lanes),
    }
}

/// Lanes of a vector: those of a register, or, on aarch64, of as many registers as one register of
/// the narrowest elements read or written fills; the encoder loads, widens and narrows them at once.
pub(super) fn lanes(linear: &Linear, target: &Target) -> usize {
    let roots = roots(linear).flat_map(|r| loads(linear, r));
    let read = roots.filter_map(|n| match n {
        Node::Load { operand, .. } => Some(linear.buffers[*operand as usize].dtype.size()),
        _ => None,
    });
    let narrowest = read.chain([linear.output.dtype.size()]).min().unwrap_or(4);
    match target.arch {
        Arch::Aarch64 => target.lanes() * 4 / narrowest.clamp(1, 4),
        Arch::X86_64 => target.lanes(),
    }
}

/// The load nodes an expression is computed from, without those inside indices.
pub(super) fn loads(linear: &Linear, root: u32) -> Vec<&Node> {
    value_nodes(linear, root)
        .into_iter()
        .map(|e| &linear.nodes[e as usize])
        .filter(|n| matches!(n, Node::Load { .. }))
        .collect()
}

/// The expressions that are computed in lanes: those of indices are scalars.
pub(super) fn value_nodes(linear: &Linear, root: u32) -> Vec<u32> {
    let (mut seen, mut stack) = (vec![false; linear.nodes.len()], vec![root]);
    while let Some(e) = stack.pop() {
        if std::mem::replace(&mut seen[e as usize], true) {
            continue;
        }
        if !matches!(linear.nodes[e as usize], Node::Load { .. }) && linear.narrow_index(e).is_none() {
            stack.extend(linear.nodes[e as usize].args());
        }
    }
    (0..linear.nodes.len() as u32).filter(|&e| seen[e as usize]).collect()
}

fn roots(linear: &Linear) -> impl Iterator<Item = u32> {
    linear.fold.map(|f| f.2).into_iter().chain([linear.finish])
}

/// Whether every value can be held in 32-bit lanes, and every operation done on vectors. What follows a
/// reduction over lanes is done on single numbers.
pub(super) fn lanes_possible(linear: &Linear, over_lanes: bool) -> bool {
    let finish = (!over_lanes).then_some(linear.stored());
    let roots = linear.fold.map(|f| f.2).into_iter().chain(finish);
    roots.flat_map(|r| value_nodes(linear, r)).all(|e| {
        let dtype = linear.types[e as usize];
        let narrow = !matches!(dtype, DType::F64 | DType::I64 | DType::U64);
        let divides = match &linear.nodes[e as usize] {
            Node::Op(Op::Div | Op::Rem | Op::Mod | Op::Pow, args) => {
                !linear.types[args[0] as usize].is_float()
            }
            _ => false,
        };
        narrow && !divides
    })
}

/// Whether a load can run along a variable in lanes: nothing it computes per element depends on it. What
/// lies outside along an axis may be decided for single points beside the vectors.
pub(super) fn follows(linear: &Linear, load: &Node, var: u32) -> bool {
    let Node::Load { dynamic, guards, .. } = load else { return true };
    let guarded = guards.iter().any(|g| g.form.coefficient(var) != 0)
        && (linear.vars[var as usize].reduce || decided(linear).is_none());
    let computed = dynamic.iter().any(|d| linear.depends(d.value, var));
    !guarded && !computed
}

/// What a window that slides along another axis loads anew for each point of it, of what it holds.
fn slid(linear: &Linear, addr: &Affine, var: u32) -> f64 {
    let slides = |axis: u32| overlap(linear, addr, axis).map(|(step, extent)| step as f64 / extent as f64);
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
    if linear.fold.is_none() {
        return elementwise_vector(linear, lanes);
    }
    let folded: f64 = linear.reductions().map(|v| linear.extent(v) as f64).product();
    let body = linear.fold.map(|f| loads(linear, f.2)).unwrap_or_default();
    let finish = loads(linear, linear.finish);
    // What is made of a sum is made of a vector of them, or of each.
    let made = finish_length(linear) as f64;
    let guards = decided(linear).unwrap_or_default();
    let cost = |var: u32| -> Option<f64> {
        if !body.iter().all(|l| follows(linear, l, var)) || !finish.iter().all(|l| follows(linear, l, var)) {
            return None;
        }
        // Single points at the edges pay where rows are read or written whole.
        let padded: Vec<&Guard> = guards.iter().filter(|g| g.form.coefficient(var) != 0).collect();
        let row = |r: u32| r == var || padded.iter().any(|g| g.form.coefficient(r) != 0);
        let whole = |n: &&Node| match n {
            Node::Load { addr, guards, .. } if !guards.is_empty() => {
                addr.terms.iter().any(|&(v, step)| step == 1 && row(v))
            }
            _ => false,
        };
        if !padded.is_empty() && linear.store.coefficient(var) != 1 && !body.iter().any(whole) {
            return None;
        }
        let (lo, hi) = safe_range(linear, &guards, var);
        let inside = (hi.min(linear.extent(var) as i64) - lo).max(0) as usize;
        let steps = inside.div_ceil(lanes) + linear.extent(var) - inside;
        let filled = (linear.extent(var) as f64 / steps as f64).max(1.0);
        let inner: f64 = body.iter().map(|l| load_cost(linear, l, var, lanes, true)).sum::<f64>() + 0.5;
        let outer: f64 = finish.iter().map(|l| load_cost(linear, l, var, lanes, false)).sum();
        let along = linear.store.coefficient(var) == 1;
        let store = if along { 1.0 } else { apart(lanes).store * lanes as f64 };
        // Products of bytes are summed several at a time.
        let bytes = Bytes::of(linear, var).filter(|b| b.along(linear, target, var).is_some());
        let folded = folded / bytes.map_or(1, |b| b.neighbours(linear, target)) as f64;
        Some((folded * inner * f64::from(linear.fold.is_some()) + outer + store + made) / filled)
    };
    let axes = linear.axes().filter(|&v| possible && !linear.ends(v));
    let axes = axes.filter_map(|v| Some((cost(v)?, Vector::Axis { var: v, lanes })));
    let product = factor_loads(linear).is_some();
    let reductions = linear.reductions().filter_map(|v| {
        let fits = body.iter().all(|l| follows(linear, l, v)) && linear.extent(v) >= 4 && lane_fold(linear);
        let vectors = match words(linear, target, v) {
            Some(words) => words.count.div_ceil(words.lanes) * words.cost,
            None => linear.extent(v).div_ceil(lanes),
        };
        let filled = linear.extent(v) as f64 / vectors as f64;
        let inner: f64 = body.iter().map(|l| load_cost(linear, l, v, lanes, product)).sum::<f64>() + 0.5;
        fits.then_some((folded * inner / filled + 12.0 + made, Vector::Reduction { var: v, lanes }))
    });
    let scalar = folded * (body.len() as f64 + 0.5) * f64::from(linear.fold.is_some())
        + finish.len() as f64
        + made
        + 1.0;
    (axes.chain(reductions).chain([(scalar + 0.5, Vector::None)]))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(Vector::None, |best| best.1)
}

/// Vectors that are computed in turn: long expressions hold more registers each (measured: exp 4, erf 5
/// to 6), and few of them fill the core.
pub(super) fn woven_points(linear: &Linear, target: &Target) -> usize {
    match target.vector_regs / (3 + finish_length(linear) / 20) {
        ..2 => 1,
        2..4 => 2,
        _ => POINTWISE_VECTORS,
    }
}

/// Primitive operations of a finish on 32-bit numbers; conversions count where integers are folded.
pub(super) fn finish_length(linear: &Linear) -> usize {
    let integers = match linear.fold.map(|f| f.1) {
        None | Some(DType::F32) => false,
        Some(DType::I32) => true,
        Some(_) => return 0,
    };
    let steps = |e: u32| match &linear.nodes[e as usize] {
        Node::Op(op, args) => primitives(*op, linear.types[args[args.len() - 1] as usize]),
        Node::Cast { .. } | Node::Lookup { .. } => usize::from(integers),
        _ => 0,
    };
    value_nodes(linear, linear.finish).into_iter().map(steps).sum()
}

/// The step and the extent of a window that slides along an axis, where the first is the shorter one.
pub(super) fn overlap(linear: &Linear, addr: &Affine, axis: u32) -> Option<(usize, usize)> {
    linear.reductions().find_map(|r| overlap_along(linear, addr, axis, r))
}

/// The same of the window along one reduction axis.
pub(super) fn overlap_along(linear: &Linear, addr: &Affine, axis: u32, r: u32) -> Option<(usize, usize)> {
    let (step, one) = (addr.coefficient(axis), addr.coefficient(r));
    let fits = step > 0 && one > 0 && step % one == 0 && ((step / one) as usize) < linear.extent(r);
    fits.then(|| ((step / one) as usize, linear.extent(r)))
}
