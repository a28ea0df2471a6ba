//! Folds whose lanes are filled along a reduction axis: each lane holds a part of the sum, joined at the end.
//!
//! So are sums whose results stand apart in memory, or are too few to fill lanes (a convolution that makes one
//! channel). Products of bytes are summed four neighbours at a time, as along any other axis.

use super::bytes::UNROLLED;
use super::factors::{drop_squares, factors};
use super::guards::decided;
use super::instructions::multiplies_words;
use super::linear::{Linear, Node};
use super::loads::{finish_length, follows, lanes_possible, loads};
use super::{ReduceStep, Schedule, Vector};
use crate::base::DType;
use crate::target::Target;

/// Sums over lanes have so many chains at most, and so many points share a factor.
const CHAINS: usize = 4;
const SHARING: usize = 4;
/// Chains of words at most: points that share a factor are chains as well.
const CHAINS_OF_WORDS: usize = 2;
/// Operations from which on points are finished side by side.
const LONG_FINISH: usize = 4;
/// Bytes that a lane multiplies at a time.
const WORD: usize = 4;

/// What products of a word cost without an instruction for them, in those of one: bytes are widened first, and in the
/// lanes of an axis they could be couples.
const WIDENED: usize = 3;

/// The words along a reduction axis.
pub(super) struct Words {
    /// How many there are.
    pub count: usize,
    /// Those that a vector holds.
    pub lanes: usize,
    /// What a vector of them costs, in products of one.
    pub cost: usize,
}

/// The words of a sum of products of bytes along a reduction axis; `None` where it has none.
pub(super) fn words(linear: &Linear, target: &Target, var: u32) -> Option<Words> {
    let count = linear.extent(var) / WORD;
    let lanes = 1 << target.lanes().min(count).checked_ilog2()?;
    let cost = if multiplies_words(target) { 1 } else { WIDENED };
    (lanes > 1 && lie_along(linear, var).is_some()).then_some(Words { count, lanes, cost })
}

/// The operands that have to be packed for the bytes of both factors to lie along a reduction axis, word by word;
/// `None` where they cannot.
pub(super) fn lie_along(linear: &Linear, var: u32) -> Option<Vec<u32>> {
    let (a, b) = factors(linear).filter(|_| linear.fold.is_some_and(|f| f.1 == DType::I32))?;
    let whole = linear.vars[var as usize].size.is_none() && linear.extent(var).is_multiple_of(WORD);
    let mut packed = Vec::new();
    for factor in [a, b] {
        let Node::Load { operand, addr, guards, dynamic, .. } = factor else { return None };
        let buffer = &linear.buffers[*operand as usize];
        let padded = |g: &super::linear::Guard| g.form.coefficient(var) != 0 || decided(linear).is_none();
        let plain = dynamic.is_empty() && !guards.iter().any(padded);
        if !plain || !matches!(buffer.dtype, DType::I8 | DType::U8) {
            return None;
        }
        match addr.coefficient(var) {
            1 => {}
            0 => return None,
            _ if buffer.constant && guards.is_empty() && loaded_once(linear, *operand) => {
                packed.push(*operand)
            }
            _ => return None,
        }
    }
    whole.then_some(packed)
}

fn loaded_once(linear: &Linear, operand: u32) -> bool {
    let loads = |n: &&Node| matches!(n, Node::Load { operand: o, .. } if *o == operand);
    linear.nodes.iter().filter(loads).count() == 1
}

/// Folds over truth values and narrow types are not done over lanes.
pub(super) fn lane_fold(linear: &Linear) -> bool {
    linear
        .fold
        .is_some_and(|(_, dtype, _)| matches!(dtype, DType::F32 | DType::I32 | DType::F16 | DType::BF16))
}

/// The axis along which points of a tile are finished side by side: that of its neighbours, where all that is made of
/// a sum can be made of a vector of them.
pub(super) fn finish_along(linear: &Linear, tile: &[(u32, usize)]) -> Option<u32> {
    let mut several = tile.iter().filter(|t| t.1 > 1);
    let (Some(&(var, _)), None) = (several.next(), several.next()) else { return None };
    let along = loads(linear, linear.finish).iter().all(|l| follows(linear, l, var));
    (along && lanes_possible(linear, false)).then_some(var)
}

/// Whether so many points, a vector, are finished side by side.
pub(super) fn finished_beside(linear: &Linear, target: &Target, lanes: usize) -> bool {
    neighbours(linear).is_some_and(|along| finishes_beside(linear, target, along, lanes))
}

/// Whether so many neighbours along an axis, a vector, are finished side by side.
fn finishes_beside(linear: &Linear, target: &Target, along: u32, lanes: usize) -> bool {
    finish_length(linear) >= LONG_FINISH
        && finish_along(linear, &points(linear, target, along, 1, lanes)).is_some()
}

/// The axis whose points are neighbours in order and share a factor.
fn neighbours(linear: &Linear) -> Option<u32> {
    let body = linear.fold.map(|f| loads(linear, f.2)).unwrap_or_default();
    let shared =
        |v: u32| body.iter().any(|l| matches!(l, Node::Load { addr, .. } if addr.coefficient(v) == 0));
    let last = Schedule::naive(linear).order.last().copied();
    last.filter(|&v| !linear.compact && !linear.ends(v) && shared(v))
}

/// The points along an axis of which registers hold so many chains each, `most` of them at most.
fn points(linear: &Linear, target: &Target, v: u32, chains: usize, most: usize) -> Vec<(u32, usize)> {
    let held = (v, linear.extent(v).min(target.vector_regs / 2 / chains).min(most));
    Some(held).filter(|t| t.1 > 1).into_iter().collect()
}

/// A fold over lanes: several chains, and several points that share a factor.
pub(super) fn over_lanes(linear: &Linear, target: &Target, var: u32, lanes: usize) -> Schedule {
    let (words, filled) = (words(linear, target, var), lanes);
    let (lanes, dot) = words.as_ref().map_or((lanes, 1), |w| (w.lanes, WORD));
    let vectors = linear.extent(var) / dot / lanes;
    let naive = Schedule::naive(linear);
    let along = neighbours(linear);
    let points = |v: u32, chains: usize, most: usize| points(linear, target, v, chains, most);
    // A tile that is finished as a vector has as many chains as points.
    let beside = along.is_some_and(|v| finishes_beside(linear, target, v, filled));
    let apart = if beside { filled } else { 0 };
    let chains = match apart {
        0 => vectors.clamp(1, if dot > 1 { CHAINS_OF_WORDS } else { CHAINS }),
        _ => 1,
    };
    let tile = along.map_or(Vec::new(), |v| points(v, chains, apart.max(SHARING)));
    let mut reduce: Vec<ReduceStep> =
        linear.reductions().filter(|&v| v != var).map(|var| ReduceStep { var, unroll: 1 }).collect();
    if words.is_some_and(|w| w.count <= w.lanes * chains) && !linear.compact {
        unroll_windows(linear, &mut reduce, chains * tile.iter().map(|t| t.1).product::<usize>());
    }
    reduce.push(ReduceStep { var, unroll: chains });
    let scattered = |n: &Node| match n {
        Node::Load { operand, addr, .. } if addr.coefficient(var) > 1 => Some(*operand),
        _ => None,
    };
    let factors = factors(linear).map(|(a, b)| [scattered(a), scattered(b)]).into_iter().flatten().flatten();
    let mut pack: Vec<u32> = factors.filter(|&o| linear.buffers[o as usize].constant).collect();
    drop_squares(&mut pack);
    let pack = lie_along(linear, var).filter(|_| dot > 1).unwrap_or(pack);
    Schedule { vector: Vector::Reduction { var, lanes }, tile, reduce, pack, dot, apart, ..naive }
}

/// Unrolls the axes around words, the inner ones first: what neighbours share of a window is loaded once then.
fn unroll_windows(linear: &Linear, reduce: &mut [ReduceStep], products: usize) {
    let guarded = linear.nodes.iter().any(|n| matches!(n, Node::Load { guards, .. } if !guards.is_empty()));
    let mut unrolled = products;
    for step in reduce.iter_mut().rev().take_while(|_| !guarded) {
        unrolled *= linear.extent(step.var);
        if unrolled > UNROLLED || linear.vars[step.var as usize].size.is_some() {
            return;
        }
        step.unroll = linear.extent(step.var);
    }
}
