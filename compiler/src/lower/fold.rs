//! Computes at compile time what depends on constants alone: factors of normalizations, sums of
//! weights, bias tables. Results much larger than what they are made of stay computed at run time
//! (weights that are dequantized, tensors that are broadcast).

use crate::definition::{Env, Lowering, Stage, ValueId, interpret};
use std::collections::HashMap;

/// Results of at most this many bytes are always worth keeping.
const SMALL: usize = 4096;

/// Replaces stages over constants by constants; those that write `outputs` stay.
pub fn fold(lowering: &mut Lowering, outputs: &[ValueId]) {
    let chosen = foldable(lowering, outputs);
    if !chosen.iter().any(|&c| c) {
        return;
    }
    let picked = lowering.stages.iter().zip(&chosen).filter(|(_, c)| **c).map(|(s, _)| s.clone());
    let constant =
        Lowering { values: lowering.values.clone(), stages: picked.collect(), ..Lowering::default() };
    let mut env = Env::new(&constant);
    if interpret(&constant, &mut env).is_err() {
        return; // An index is out of range: the model returns that error at run time.
    }
    for written in constant.stages.iter().flat_map(Stage::writes) {
        let value = &mut lowering.values[written as usize];
        value.constant = env.get(written, &value.ty);
    }
    let mut chosen = chosen.into_iter();
    lowering.stages.retain(|_| !chosen.next().unwrap_or(false));
}

/// For each stage, whether it is computed now.
fn foldable(lowering: &Lowering, outputs: &[ValueId]) -> Vec<bool> {
    let mut known: Vec<bool> = lowering.values.iter().map(|v| v.constant.is_some()).collect();
    let mut left: HashMap<ValueId, usize> = HashMap::new();
    lowering.stages.iter().flat_map(Stage::writes).for_each(|v| *left.entry(v).or_default() += 1);
    // A value written in parts is known once all of its writers are.
    let mut chosen = vec![false; lowering.stages.len()];
    let mut parts: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (i, stage) in lowering.stages.iter().enumerate() {
        let Some((reads, to)) = simple(stage) else { continue };
        if outputs.contains(&to) || !reads.iter().all(|&r| known[r as usize]) {
            continue;
        }
        // Elements of four bits are packed in pairs.
        let size = |v: ValueId| {
            let ty = &lowering.values[v as usize].ty;
            ty.elems().saturating_mul(ty.dtype.bits() as usize).div_ceil(8)
        };
        let from: usize = reads.iter().map(|&r| size(r)).sum();
        if size(to) > SMALL && size(to) > 2 * from {
            continue;
        }
        let done = parts.entry(to).or_default();
        done.push(i);
        if done.len() == left[&to] {
            known[to as usize] = true;
            done.iter().for_each(|&i| chosen[i] = true);
        }
    }
    chosen
}

/// What a definition or reshape reads and writes; `None` for other stages.
fn simple(stage: &Stage) -> Option<(Vec<ValueId>, ValueId)> {
    match stage {
        Stage::Define(d) if !d.has_sizes() => {
            Some((d.operands.iter().map(|o| o.value).collect(), d.output.value))
        }
        Stage::Reshape { from, to } => Some((vec![*from], *to)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Tensor, TensorType};
    use crate::definition::DefBuilder;
    use crate::scalar::Op;

    /// A definition over constants becomes a constant, and what depends on an input stays.
    #[test]
    fn constants_fold_and_inputs_do_not() {
        let mut low = Lowering::default();
        let ty = TensorType::new(DType::F32, [2]);
        let c = low.constant("c", Tensor::new([2], &[1f32, 2.0]));
        let (x, sum, out) = (
            low.temporary("x", ty.clone()),
            low.temporary("sum", ty.clone()),
            low.temporary("out", ty.clone()),
        );
        for (a, to) in [(c, sum), (x, out)] {
            let mut b = DefBuilder::new(&[2]);
            let (left, right) =
                (b.load_broadcast(a, &ty), b.load_broadcast(if to == out { sum } else { c }, &ty));
            let e = b.op(Op::Add, &[left, right]);
            low.define(b.finish("d", to, &ty, e));
        }
        fold(&mut low, &[out]);
        assert_eq!(low.stages.len(), 1);
        let sum = low.values[sum as usize].constant.as_ref().and_then(|t| t.to_vec::<f32>());
        assert_eq!(sum, Some(vec![2.0, 4.0]));
    }
}
