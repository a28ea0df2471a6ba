//! The order of memory of every value.
//!
//! A contraction with constant weights wants the dimension its outputs are numbered by (channels)
//! innermost in the output, and the dimension it sums over innermost in the input. Element-wise
//! definitions pass the wish on to their neighbours, and so do those that treat each channel by itself
//! (pooling, depthwise convolutions): they run along channels as well as along rows. Inputs
//! and outputs of the model, and what routines touch, keep their order. So convolutions exchange
//! channels-last tensors, and nothing is converted but at the model's border. Rows of padded tensors
//! share their rims.

use super::frames::frames;
use super::points::WORD;
use crate::base::{Affine, TensorType};
use crate::definition::{Definition, Expr, Index, Lowering, Stage, ValueId, definitions};
use crate::scalar::{Fold, Op};
use crate::schedule::linear::Layout;

/// Channels that fill lanes at least.
const FEW: usize = 8;

/// The layout of each value; `fixed` values stay row-major.
pub fn layouts(lowering: &Lowering, fixed: &[ValueId]) -> Vec<Layout> {
    let mut free = vec![true; lowering.values.len()];
    fixed.iter().for_each(|&v| free[v as usize] = false);
    for (v, value) in lowering.values.iter().enumerate() {
        free[v] &= value.constant.is_none() && value.ty.rank() > 2;
    }
    fix(&lowering.stages, &mut free);
    let mut votes = votes(lowering);
    grow(lowering, &free, &mut votes);
    spread(lowering, &mut votes);
    let frames = frames(&lowering.stages);
    let layout = |v: usize| {
        let shape = &lowering.values[v].ty.shape;
        let mut order: Vec<usize> = (0..shape.len()).collect();
        if !free[v] {
            return Layout::dense(shape);
        }
        if let Some((inner, _)) = wish(&votes[v]) {
            order.retain(|&d| d != inner);
            order.push(inner);
        }
        match frames.get(&(v as ValueId)) {
            Some(frame) => frame.layout(shape, &order),
            None => Layout::permuted(shape, &order),
        }
    };
    (0..lowering.values.len()).map(layout).collect()
}

/// Of each dimension of each value, how many products want it innermost.
fn votes(lowering: &Lowering) -> Vec<Vec<u64>> {
    let mut votes: Vec<Vec<u64>> = lowering.values.iter().map(|v| vec![0; v.ty.rank()]).collect();
    for def in definitions(&lowering.stages) {
        vote(lowering, def, &mut votes);
    }
    votes
}

/// The dimension that most products want innermost.
fn wish(votes: &[u64]) -> Option<(usize, u64)> {
    votes.iter().copied().enumerate().filter(|v| v.1 > 0).max_by_key(|v| v.1)
}

/// For some values the dimension that most products want innermost, and how many do.
pub(super) fn wished(lowering: &Lowering, values: &[ValueId]) -> Vec<(ValueId, Option<(usize, u64)>)> {
    let votes = votes(lowering);
    values.iter().map(|&v| (v, wish(&votes[v as usize]))).collect()
}

/// What routines, reshapes of dense memory and loops touch keeps its order.
fn fix(stages: &[Stage], free: &mut [bool]) {
    for stage in stages {
        let mut touched = stage.reads();
        touched.extend(stage.writes());
        match stage {
            Stage::Define(_) => continue,
            Stage::Repeat(r) => {
                touched.extend(r.entry().into_iter().chain(r.exit()));
                fix(&r.body, free);
            }
            _ => {}
        }
        touched.into_iter().for_each(|v| free[v as usize] = false);
    }
}

/// The loads in a definition's fold: value and index.
fn folded_loads(def: &Definition) -> Vec<(ValueId, &Vec<Index>)> {
    let Some(fold) = &def.fold else { return Vec::new() };
    let (mut stack, mut found) = (vec![fold.body], Vec::new());
    let mut seen = vec![false; def.exprs.len()];
    while let Some(e) = stack.pop() {
        if std::mem::replace(&mut seen[e as usize], true) {
            continue;
        }
        match &def.exprs[e as usize] {
            Expr::Load { operand, index, .. } => found.push((def.operands[*operand as usize].value, index)),
            Expr::Op(_, args) => stack.extend(args),
            Expr::Cast { arg, .. } | Expr::Bitcast { arg, .. } => stack.push(*arg),
            _ => {}
        }
    }
    found
}

fn uses(index: &Index, var: u32) -> bool {
    matches!(index, Index::Affine(form) if form.coefficient(var) != 0)
}

/// The variable whose neighbours lie nearest along a dimension: of heads side by side, the one within a head.
fn nearest(form: &Affine) -> Option<u32> {
    form.terms.iter().min_by_key(|t| t.1.abs()).map(|t| t.0)
}

/// What it costs to store a contraction's output lane by lane, in multiply-adds: little beside a
/// reader that would load it lane by lane over and over.
fn scattered(def: &Definition) -> u64 {
    16 * def.vars[..def.axes].iter().map(|v| v.extent as u64).product::<u64>()
}

/// The dimension whose index takes in a variable.
fn dim_of(index: &[Index], var: u32) -> Option<usize> {
    index.iter().position(|i| uses(i, var))
}

fn vote(lowering: &Lowering, def: &Definition, votes: &mut [Vec<u64>]) {
    let loads = folded_loads(def);
    let weight: u64 = def.volume();
    let stored = |var: u32| def.store.iter().position(|f| f.coefficient(var) != 0);
    let is_constant = |v: ValueId| lowering.values[v as usize].constant.is_some();
    let product = def
        .fold
        .as_ref()
        .is_some_and(|f| f.op == Fold::Sum && matches!(def.exprs[f.body as usize], Expr::Op(Op::Mul, _)));
    let weights = loads.iter().find(|l| product && is_constant(l.0));
    let data = loads.iter().find(|l| !is_constant(l.0));
    match (weights, data) {
        (Some((_, weights)), Some((value, index))) => {
            let walks = |index: &[Index], v: u32| index.iter().any(|i| uses(i, v));
            // Channels out: the largest axis that the weights follow and the data does not.
            let axes = (0..def.axes as u32).filter(|&v| walks(weights, v));
            let out = axes.max_by_key(|&v| (!walks(index, v), def.vars[v as usize].extent));
            let Some(out) = out.filter(|&v| !walks(index, v)) else {
                return vote_alone(lowering, def, (weights, *value, index), votes);
            };
            if let Some(d) = stored(out) {
                votes[def.output.value as usize][d] += scattered(def);
            }
            // Channels in: the reduction axis alone in its dimension.
            let alone = |v: &u32| index.iter().any(|i| matches!(i, Index::Affine(f) if f.terms == [(*v, 1)]));
            let sum = (def.axes as u32..def.vars.len() as u32)
                .filter(alone)
                .max_by_key(|&v| def.vars[v as usize].extent);
            let channels = sum.filter(|&v| def.vars[v as usize].extent > 1);
            let window = || longest(def, index, &lowering.values[*value as usize].ty);
            let sum = channels.or_else(window).or(sum);
            if let Some(d) = sum.and_then(|v| dim_of(index, v)) {
                votes[*value as usize][d] += weight;
            }
        }
        (None, Some(_)) if product => {
            // The factor that follows the innermost axis of the output is loaded as vectors if it lies so. One that
            // does not is turned for that alone (`group/turn.rs`), not wherever it is made, copied and read.
            let last = def.store.iter().rev().find_map(nearest);
            for (value, index) in &loads {
                let inner = last.and_then(|v| dim_of(index, v)).filter(|d| d + 1 == index.len());
                if let Some(d) = inner {
                    votes[*value as usize][d] += weight;
                }
            }
        }
        _ => {}
    }
}

/// The variable of a window over one channel of bytes along which its points make the fewest words of neighbours, where
/// these are fewer than those along the innermost dimension: a window in time over the axes of a sensor.
fn longest(def: &Definition, index: &[Index], ty: &TensorType) -> Option<u32> {
    let points = |v: u32| def.vars[v as usize].extent;
    let slides = |i: &Index, v: u32| matches!(i, Index::Affine(form) if form.coefficient(v) == 1 && form.terms.len() > 1);
    let window = def.axes as u32..def.vars.len() as u32;
    let all: usize = window.clone().map(points).product();
    let words = |v: u32| all / points(v).max(1) * points(v).div_ceil(WORD);
    let last = (0..index.len()).rfind(|&d| ty.shape[d] > 1)?;
    let there = window.clone().find(|&v| slides(&index[last], v)).map_or(all, words);
    let best = window.filter(|&v| index.iter().any(|i| slides(i, v))).min_by_key(|&v| words(v))?;
    (ty.dtype.size() == 1 && words(best) < there).then_some(best)
}

/// The vote of filters of single channels: those of floats run along rows as fast, but bytes are multiplied several at a
/// time only where the channels fill lanes.
fn vote_alone(
    lowering: &Lowering,
    def: &Definition,
    (weights, value, index): (&[Index], ValueId, &[Index]),
    votes: &mut [Vec<u64>],
) {
    let follows = |v: u32| [weights, index].iter().all(|at| dim_of(at, v).is_some());
    let channel = (0..def.axes as u32).filter(|&v| follows(v)).max_by_key(|&v| def.vars[v as usize].extent);
    let bytes = lowering.values[value as usize].ty.dtype.size() == 1;
    let Some(channel) = channel.filter(|&v| bytes && def.vars[v as usize].extent >= FEW) else { return };
    if let Some(d) = dim_of(index, channel) {
        votes[value as usize][d] += def.volume();
    }
    if let Some(d) = def.store.iter().position(|f| f.coefficient(channel) != 0) {
        votes[def.output.value as usize][d] += scattered(def);
    }
}

/// Which values are made of smaller ones, element by element: resized images.
fn grown(lowering: &Lowering) -> Vec<bool> {
    let mut grown = vec![false; lowering.values.len()];
    for def in definitions(&lowering.stages) {
        let from = def.operands.iter().map(|o| o.value as usize);
        let mut from = from.filter(|&v| lowering.values[v].constant.is_none()).peekable();
        let larger = |v: usize| grown[v] || 2 * lowering.values[v].ty.elems() as u64 <= def.volume();
        grown[def.output.value as usize] = def.fold.is_none() && from.peek().is_some() && from.all(larger);
    }
    grown
}

/// What grows into a value of fixed order, as the last axis of a resized image does, is read in that order: it is
/// smaller to turn around than the result. What has grown before it is folded along another axis lies in that order, too.
fn grow(lowering: &Lowering, free: &[bool], votes: &mut [Vec<u64>]) {
    let grown = grown(lowering);
    let mut ordered: Vec<bool> = free.iter().map(|free| !free).collect();
    for def in definitions(&lowering.stages).into_iter().rev() {
        let last = def.store.last().and_then(nearest).filter(|_| ordered[def.output.value as usize]);
        for expr in &def.exprs {
            let Expr::Load { operand, index, .. } = expr else { continue };
            let value = def.operands[*operand as usize].value as usize;
            let small = def.fold.is_none() && 2 * lowering.values[value].ty.elems() as u64 <= def.volume();
            let inner = index.len().checked_sub(1).filter(|&d| last.is_some_and(|v| uses(&index[d], v)));
            let voted = votes[value].iter().any(|&v| v > 0);
            if let Some(inner) = inner.filter(|_| (small || grown[value]) && free[value] && !voted) {
                votes[value][inner] += 1;
                ordered[value] = !small;
            }
        }
    }
}

/// Passes wishes along element-wise reads until nothing changes: a value without a wish of its own
/// takes that of the largest neighbour.
fn spread(lowering: &Lowering, votes: &mut [Vec<u64>]) {
    loop {
        let mut changed = false;
        for def in definitions(&lowering.stages) {
            for expr in &def.exprs {
                let Expr::Load { operand, index, .. } = expr else { continue };
                let value = def.operands[*operand as usize].value as usize;
                changed |= pass(def, value, index, votes);
            }
        }
        if !changed {
            return;
        }
    }
}

/// The dimension of an index that runs as a stored dimension does: along the variable whose neighbours lie
/// nearest there, or, as channels of groups do, along a farther one with others beside it.
fn alike(stored: &Affine, index: &[Index]) -> Option<usize> {
    let merged = |d: &usize| matches!(&index[*d], Index::Affine(form) if form.terms.len() > 1);
    let near = nearest(stored)?;
    let groups = || stored.terms.iter().find_map(|t| dim_of(index, t.0).filter(merged));
    dim_of(index, near).or_else(groups)
}

fn pass(def: &Definition, value: usize, index: &[Index], votes: &mut [Vec<u64>]) -> bool {
    let output = def.output.value as usize;
    match (wish(&votes[output]), wish(&votes[value])) {
        (Some((d, _)), None) => {
            let Some(dim) = alike(&def.store[d], index) else { return false };
            votes[value][dim] += 1;
            true
        }
        (None, Some((d, _))) => {
            let Index::Affine(form) = &index[d] else { return false };
            let &[(var, 1)] = form.terms.as_slice() else { return false };
            let Some(dim) = def.store.iter().position(|f| f.coefficient(var) != 0) else { return false };
            votes[output][dim] += 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_side_by_side_are_no_rows() {
        // y[16 h + d] of x[h, k]: no dimension of x runs as those of y do.
        let [head, within, k] = [0, 1, 2].map(Affine::var);
        let stored = head.scaled(16).plus(&within);
        assert_eq!(alike(&stored, &[head.clone(), k.clone()].map(Index::Affine)), None);
        // y[16 g + o] of x[8 g + c]: channels of groups.
        let channels = head.scaled(8).plus(&k);
        assert_eq!(alike(&stored, &[Affine::constant(0), channels].map(Index::Affine)), Some(1));
        // y[16 h + d] of x[h, d].
        assert_eq!(alike(&stored, &[head, within].map(Index::Affine)), Some(1));
    }
}
