//! Orders channels so that products by four weights of each fit 16 bits.
//!
//! Before: `y[o] = sum over c of w[o, c] * x[c]`, whose weights' magnitudes add up to more than [`FOUR_WEIGHTS`] in
//! some four channels `c` that are multiplied together. After: the channels of `x` have another order in memory, and
//! so have those of `w` and of all constants with which `x` is made, so that none do. It costs nothing: `x` lies
//! between layers of integers, and what is between keeps channels apart (activations, depthwise filters).
//!
//! The order: each four channels begin with the one with the largest weight; others join it, largest first, that
//! leave room for those still to come.

use crate::base::affine::as_size;
use crate::base::{Affine, DType};
use crate::definition::{Definition, Expr, Index, Lowering, Reduction, Stage, ValueId};
use crate::scalar::Fold;
use crate::schedule::FOUR_WEIGHTS;
use std::collections::{BTreeMap, HashMap};

/// Channels whose products are added in 16 bits.
const FOUR: usize = 4;
/// Channels that are multiplied at a time: four at even places, four at odd ones.
const TOGETHER: usize = 2 * FOUR;
/// What is left for each channel still to come, at first (means of weights' magnitudes are 20 to 50).
const ROOM: u32 = 40;
/// Channels that are tried at most for each place.
const TRIED: usize = 64;
/// Weights of a channel at most.
const WEIGHTS: usize = 1 << 12;

/// Orders the channels of all values that integer products with constants read, but of those in `fixed`.
pub fn order_channels(lowering: &mut Lowering, fixed: &[ValueId]) {
    for stage in 0..lowering.stages.len() {
        let Some(along) = factor(lowering, stage) else { continue };
        let Some(chain) = Chain::of(lowering, fixed, along) else { continue };
        let Some(weights) = chain.weights(lowering) else { continue };
        let given: Vec<usize> = (0..weights.len()).collect();
        if fits(&weights, &given) {
            continue;
        }
        if let Some(order) = order(&weights).filter(|order| fits(&weights, order)) {
            chain.reorder(lowering, &order);
        }
    }
}

fn definition(lowering: &Lowering, stage: usize) -> Option<&Definition> {
    if let Stage::Define(def) = &lowering.stages[stage] { Some(def) } else { None }
}

/// The dimension of a value along which a stage sums products of its bytes by constants.
fn factor(lowering: &Lowering, stage: usize) -> Option<(ValueId, usize)> {
    let def = definition(lowering, stage)?;
    let factors = def.factors()?.map(|f| def.behind_casts(f));
    let constant = |e: &&Expr| match e {
        Expr::Load { operand, .. } => {
            let operand = &def.operands[*operand as usize];
            operand.ty.dtype == DType::I8 && lowering.values[operand.value as usize].constant.is_some()
        }
        _ => false,
    };
    factors.iter().find(|e| constant(e))?;
    let Expr::Load { operand, index, .. } = factors.into_iter().find(|e| !constant(e))? else { return None };
    let operand = &def.operands[*operand as usize];
    let summed = |i: &Index| runs(def, i).is_some_and(|v| v as usize >= def.axes);
    let dim = index.iter().position(summed).filter(|_| operand.ty.dtype == DType::I8)?;
    Some((operand.value, dim))
}

/// The variable that an index is; others in it are always zero.
fn runs(def: &Definition, index: &Index) -> Option<u32> {
    let Index::Affine(form) = index else { return None };
    form_runs(def, form)
}

fn form_runs(def: &Definition, form: &Affine) -> Option<u32> {
    let moving = |t: &&(u32, i64)| as_size(t.0).is_some() || def.vars[t.0 as usize].extent > 1;
    let mut terms = form.terms.iter().filter(moving);
    let (&(var, step), None) = (terms.next()?, terms.next()) else { return None };
    let whole = as_size(var).is_none() && form.base == 0 && step == 1;
    (whole && def.vars[var as usize].size.is_none()).then_some(var)
}

/// Definitions that have the same channels: a variable of each runs over them.
struct Chain {
    stages: Vec<(usize, u32)>,
    /// Dimensions of values that are found.
    dims: Vec<(ValueId, usize)>,
    channels: usize,
}

impl Chain {
    /// All that has the channels of a value's dimension; `None` where their order matters.
    fn of(lowering: &Lowering, fixed: &[ValueId], along: (ValueId, usize)) -> Option<Chain> {
        let channels = *lowering.values[along.0 as usize].ty.shape.get(along.1)?;
        let mut chain = Chain { stages: Vec::new(), dims: vec![along], channels };
        let mut at = 0;
        while let Some(&(value, dim)) = chain.dims.get(at) {
            at += 1;
            if fixed.contains(&value) {
                return None;
            }
            for (i, stage) in lowering.stages.iter().enumerate() {
                if !stage.reads().contains(&value) && !stage.writes().contains(&value) {
                    continue;
                }
                let def = definition(lowering, i)?;
                for var in vars(def, value, dim) {
                    chain.join(lowering, i, var?)?;
                }
            }
        }
        Some(chain)
    }

    /// Follows a variable of a stage.
    fn join(&mut self, lowering: &Lowering, stage: usize, var: u32) -> Option<()> {
        if let Some(known) = self.stages.iter().find(|s| s.0 == stage) {
            return (known.1 == var).then_some(());
        }
        self.stages.push((stage, var));
        let def = definition(lowering, stage)?;
        let summed = var as usize >= def.axes;
        let counts = def.exprs.iter().any(|e| matches!(e, Expr::Index(form) if form.coefficient(var) != 0));
        let any_order = |f: &Reduction| f.dtype.is_int() || matches!(f.op, Fold::Max | Fold::Min);
        let exact = !summed || def.fold.as_ref().is_some_and(any_order);
        if counts || !exact || def.vars[var as usize].extent != self.channels {
            return None;
        }
        let mut found: BTreeMap<ValueId, Option<usize>> = BTreeMap::new();
        for expr in &def.exprs {
            let Expr::Load { operand, index, .. } = expr else { continue };
            let value = def.operands[*operand as usize].value;
            let dim = self.dim(def, var, index.iter().map(Index::affine))?;
            if *found.entry(value).or_insert(dim) != dim {
                return None;
            }
        }
        if !summed {
            found.insert(def.output.value, Some(self.dim(def, var, def.store.iter().map(Some))??));
        }
        for (value, dim) in found {
            let values = &lowering.values[value as usize];
            let Some(dim) = dim else { continue };
            if values.ty.shape[dim] != self.channels {
                return None;
            }
            if values.constant.is_none() && !self.dims.contains(&(value, dim)) {
                self.dims.push((value, dim));
            }
        }
        Some(())
    }

    /// The one dimension that a variable runs over, if it does; `None` where it is part of an index.
    fn dim<'a>(
        &self,
        def: &Definition,
        var: u32,
        forms: impl Iterator<Item = Option<&'a Affine>>,
    ) -> Option<Option<usize>> {
        let mut found = None;
        for (dim, form) in forms.enumerate() {
            let Some(form) = form.filter(|f| f.coefficient(var) != 0) else { continue };
            if found.is_some() || form_runs(def, form) != Some(var) {
                return None;
            }
            found = Some(dim);
        }
        Some(found)
    }

    /// The constants with a dimension of the channels: which stage's operand, and the dimension.
    fn constants(&self, lowering: &Lowering) -> Vec<(usize, usize, usize)> {
        let mut found = Vec::new();
        for &(stage, var) in &self.stages {
            let Some(def) = definition(lowering, stage) else { continue };
            for expr in &def.exprs {
                let Expr::Load { operand, index, .. } = expr else { continue };
                let dim = index.iter().position(|i| i.affine().is_some_and(|f| f.coefficient(var) != 0));
                let value = def.operands[*operand as usize].value;
                let constant = lowering.values[value as usize].constant.is_some();
                let Some(dim) = dim.filter(|_| constant) else { continue };
                if !found.contains(&(stage, *operand as usize, dim)) {
                    found.push((stage, *operand as usize, dim));
                }
            }
        }
        found
    }

    /// The magnitudes of the weights by which each channel is multiplied, of all sums over channels.
    fn weights(&self, lowering: &Lowering) -> Option<Vec<Vec<u8>>> {
        let mut weights = vec![Vec::new(); self.channels];
        for (stage, operand, dim) in self.constants(lowering) {
            let def = definition(lowering, stage)?;
            let summed = self.stages.iter().any(|s| s.0 == stage && s.1 as usize >= def.axes);
            let operand = &def.operands[operand];
            if !summed || operand.ty.dtype != DType::I8 {
                continue;
            }
            let tensor = lowering.values[operand.value as usize].constant.as_ref()?;
            let inner: usize = tensor.ty.shape[dim + 1..].iter().product();
            for (i, &byte) in tensor.data.iter().enumerate() {
                weights[i / inner % self.channels].push((byte as i8).unsigned_abs());
            }
        }
        let count = weights.first()?.len();
        (1..=WEIGHTS).contains(&count).then_some(weights)
    }

    /// Puts channel `order[i]` in place `i`.
    fn reorder(&self, lowering: &mut Lowering, order: &[usize]) {
        let mut known: HashMap<(ValueId, usize), ValueId> = HashMap::new();
        for (stage, operand, dim) in self.constants(lowering) {
            let Some(def) = definition(lowering, stage) else { continue };
            let value = def.operands[operand].value;
            let lowered = &lowering.values[value as usize];
            let Some(tensor) = &lowered.constant else { continue };
            let ordered = match known.get(&(value, dim)) {
                Some(&ordered) => ordered,
                None => {
                    let name = format!("{}.ordered{}", lowered.name, lowering.values.len());
                    let tensor = tensor.picked(dim, order);
                    lowering.constant(name, tensor)
                }
            };
            known.insert((value, dim), ordered);
            if let Stage::Define(def) = &mut lowering.stages[stage] {
                def.operands[operand].value = ordered;
            }
        }
    }
}

/// For each access of a definition to a value, the variable that runs over its dimension.
fn vars(def: &Definition, value: ValueId, dim: usize) -> Vec<Option<u32>> {
    let read = def.exprs.iter().filter_map(|expr| match expr {
        Expr::Load { operand, index, .. } if def.operands[*operand as usize].value == value => {
            Some(runs(def, &index[dim]))
        }
        _ => None,
    });
    let written = (def.output.value == value).then(|| form_runs(def, &def.store[dim]));
    read.chain(written).collect()
}

/// Whether the weights of each four channels that are multiplied together fit, in an order.
fn fits(weights: &[Vec<u8>], order: &[usize]) -> bool {
    let four = |channels: [usize; FOUR]| {
        let sum = |i: usize| channels.iter().map(|&c| u32::from(weights[c][i])).sum::<u32>();
        (0..weights[0].len()).all(|i| sum(i) <= FOUR_WEIGHTS)
    };
    let both = |at: &[usize]| [0, 1].into_iter().all(|odd| four(std::array::from_fn(|i| at[2 * i + odd])));
    order.chunks_exact(TOGETHER).all(both)
}

/// An order in which all fit, where one is found.
fn order(weights: &[Vec<u8>]) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = (0..weights.len()).collect();
    let size = |c: &usize| {
        let squares = weights[*c].iter().map(|&w| u64::from(w) * u64::from(w)).sum::<u64>();
        (weights[*c].iter().max(), squares)
    };
    left.sort_by_cached_key(|c| std::cmp::Reverse(size(c)));
    let mut fours = Vec::new();
    for _ in 0..weights.len() / TOGETHER * 2 {
        fours.push(four(weights, &mut left)?);
    }
    let both = |two: &[Vec<usize>]| (0..TOGETHER).map(|i| two[i % 2][i / 2]).collect::<Vec<_>>();
    Some(fours.chunks_exact(2).flat_map(both).chain(left).collect())
}

/// Takes four channels out of those that are left.
fn four(weights: &[Vec<u8>], left: &mut Vec<usize>) -> Option<Vec<usize>> {
    let first = left.remove(0);
    let mut sums: Vec<u32> = weights[first].iter().map(|&w| u32::from(w)).collect();
    let mut four = vec![first];
    while four.len() < FOUR {
        let room = FOUR_WEIGHTS - ROOM * (FOUR - 1 - four.len()) as u32;
        // How far a channel's sums exceed what leaves room for the others; none where they do not fit.
        let over = |c: usize| {
            let mut over = 0;
            for (&sum, &w) in sums.iter().zip(&weights[c]) {
                let sum = sum + u32::from(w);
                if sum > FOUR_WEIGHTS {
                    return None;
                }
                over += sum.saturating_sub(room);
            }
            Some(over)
        };
        let mut best: Option<(u32, usize)> = None;
        let (largest, smallest) = (0..left.len().min(TRIED), (TRIED..left.len()).rev().take(TRIED));
        for at in largest.chain(smallest) {
            let Some(over) = over(left[at]).filter(|&over| best.is_none_or(|b| over < b.0)) else { continue };
            best = Some((over, at));
            if over == 0 {
                break;
            }
        }
        let next = left.remove(best?.1);
        sums.iter_mut().zip(&weights[next]).for_each(|(sum, &w)| *sum += u32::from(w));
        four.push(next);
    }
    Some(four)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Tensor, TensorType};
    use crate::definition::DefBuilder;
    use crate::group::tests::result;
    use crate::scalar::Op;

    const CHANNELS: usize = 28;

    /// Bytes made of numbers.
    fn constant(low: &mut Lowering, name: &str, shape: [usize; 2], byte: impl Fn(usize) -> i8) -> ValueId {
        let bytes: Vec<u8> = (0..shape[0] * shape[1]).map(|i| byte(i) as u8).collect();
        let tensor = Tensor::from_bytes(TensorType::new(DType::I8, shape), bytes);
        low.constant(name, tensor.unwrap_or_else(|| panic!("{name} has other bytes")))
    }

    /// Sums over the last dimensions of two values, with a number for each result's channel where there is one.
    fn product(low: &mut Lowering, (x, w, y): (ValueId, ValueId, ValueId), bias: Option<ValueId>) {
        let ty = |v: ValueId| low.values[v as usize].ty.clone();
        let mut b = DefBuilder::new(&ty(y).shape);
        let c = b.reduce("c", ty(x).shape[1]);
        let at = [vec![b.var(0), c.clone()], vec![b.var(1), c]];
        let factors = [x, w].into_iter().zip(at).map(|(v, at)| {
            let loaded = b.load(v, &ty(v), at);
            b.cast(DType::I32, loaded)
        });
        let factors: Vec<_> = factors.collect();
        let product = b.op(Op::Mul, &factors);
        let mut sum = b.fold(Fold::Sum, product);
        if let Some(bias) = bias {
            let at = vec![b.var(1)];
            let bias = b.load(bias, &ty(bias), at);
            sum = b.op(Op::Add, &[sum, bias]);
        }
        let stored = b.cast(ty(y).dtype, sum);
        let def = b.finish("product", y, &ty(y), stored);
        low.define(def);
    }

    /// Two products, of which the second one's weights are `weight` of each channel.
    fn two(weight: impl Fn(usize) -> i8) -> Lowering {
        let mut low = Lowering::default();
        let x = constant(&mut low, "x", [5, 6], |i| (i * 37 % 251) as u8 as i8);
        let hidden = low.temporary("hidden", TensorType::new(DType::I8, [5, CHANNELS]));
        let y = low.temporary("y", TensorType::new(DType::I32, [5, 3]));
        let first = constant(&mut low, "first", [CHANNELS, 6], |i| (i * 29 % 97) as i8);
        let second = constant(&mut low, "second", [3, CHANNELS], |i| weight(i % CHANNELS));
        let bias: Vec<i32> = (0..CHANNELS as i32).collect();
        let bias = low.constant("bias", Tensor::new([CHANNELS], &bias));
        product(&mut low, (x, first, hidden), Some(bias));
        product(&mut low, (hidden, second, y), None);
        low
    }

    /// The weights that the second product reads, by channel.
    fn read(low: &Lowering) -> Vec<Vec<u8>> {
        let Chain { stages, .. } = &Chain::of(low, &[], (1, 1)).expect("the channels are found");
        assert_eq!(stages.len(), 2);
        let chain = Chain::of(low, &[], (1, 1)).and_then(|chain| chain.weights(low));
        chain.expect("there are weights")
    }

    fn given() -> Vec<usize> {
        (0..CHANNELS).collect()
    }

    #[test]
    fn channels_are_ordered_so_that_four_fit() {
        let mut low = two(|c| if c.is_multiple_of(2) { 100 } else { -10 });
        let before = result(&low);
        assert!(!fits(&read(&low), &given()));
        order_channels(&mut low, &[]);
        assert!(fits(&read(&low), &given()));
        assert_eq!(before, result(&low));
        // First weights, bias, second weights.
        assert_eq!(low.values.iter().filter(|v| v.name.contains("ordered")).count(), 3);
    }

    #[test]
    fn what_others_see_keeps_its_order() {
        let heavy = |c: usize| if c.is_multiple_of(2) { 100 } else { -10 };
        let unchanged = |mut low: Lowering, fixed: &[ValueId]| {
            let before = low.clone();
            order_channels(&mut low, fixed);
            assert!(low == before);
        };
        unchanged(two(heavy), &[1]);
        let mut low = two(heavy);
        let to = low.temporary("flat", TensorType::new(DType::I8, [5 * CHANNELS]));
        low.stages.push(Stage::Reshape { from: 1, to });
        unchanged(low, &[]);
        // No order helps, or none is needed.
        unchanged(two(|_| 100), &[]);
        unchanged(two(|_| -60), &[]);
    }

    #[test]
    fn four_add_up_to_255_at_most() {
        let column = |w: u8| vec![w, 1];
        let weights =
            |most: u8| -> Vec<Vec<u8>> { [64, 64, 64, 64, 64, 64, most, most].map(column).to_vec() };
        assert!(fits(&weights(63), &[0, 1, 2, 3, 4, 5, 6, 7]));
        assert!(!fits(&weights(64), &[0, 1, 2, 3, 4, 5, 6, 7]));
        assert!(!fits(&weights(63), &[0, 1, 2, 3, 4, 6, 5, 7]));
    }
}
