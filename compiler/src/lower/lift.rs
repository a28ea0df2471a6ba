//! What a loop would compute anew each time from constants alone is computed before it: sums of the weights of
//! quantized products, bias tables.

use crate::definition::{LoweredValue, Lowering, Repeat, Stage, ValueId};
use std::collections::HashSet;

/// Points of a definition that are computed ahead at most: more would only lengthen compilation.
const WORK: u64 = 1 << 28;

/// Moves such stages in front of their loops.
pub fn lift(lowering: &mut Lowering) {
    let Lowering { values, stages, .. } = lowering;
    lift_from(stages, values);
}

fn lift_from(stages: &mut Vec<Stage>, values: &[LoweredValue]) {
    let mut lifted = Vec::with_capacity(stages.len());
    for mut stage in stages.drain(..) {
        if let Stage::Repeat(repeat) = &mut stage {
            lift_from(&mut repeat.body, values);
            lifted.extend(constant_stages(repeat, values));
        }
        lifted.push(stage);
    }
    *stages = lifted;
}

/// Takes the stages out of a loop's body that depend on constants alone.
fn constant_stages(repeat: &mut Repeat, values: &[LoweredValue]) -> Vec<Stage> {
    let mut bound: HashSet<ValueId> = repeat.condition.into_iter().collect();
    bound.extend(repeat.slices.iter().map(|s| s.part));
    bound.extend(repeat.carries.iter().flat_map(|c| [c.state, c.next]));
    let mut known: HashSet<ValueId> = HashSet::new();
    let writers: Vec<ValueId> = repeat.body.iter().flat_map(Stage::writes).collect();
    let once = |v: ValueId| writers.iter().filter(|&&w| w == v).count() == 1;
    let mut out = Vec::new();
    let mut kept = Vec::with_capacity(repeat.body.len());
    for stage in repeat.body.drain(..) {
        let constant = |v: &ValueId| known.contains(v) || values[*v as usize].constant.is_some();
        let moves = simple(&stage)
            .filter(|(reads, to)| reads.iter().all(constant) && once(*to) && !bound.contains(to));
        match moves {
            Some((_, to)) => {
                known.insert(to);
                out.push(stage);
            }
            None => kept.push(stage),
        }
    }
    repeat.body = kept;
    out
}

/// What a definition or reshape reads and writes; `None` for other stages.
pub(super) fn simple(stage: &Stage) -> Option<(Vec<ValueId>, ValueId)> {
    match stage {
        Stage::Define(d) if !d.has_sizes() && d.volume() <= WORK => {
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
    use crate::definition::{Carry, DefBuilder};
    use crate::scalar::Op;

    /// `state + (c + c)`, three times: the sum of constants stands before the loop, the other one stays.
    #[test]
    fn constants_leave_loops() {
        let mut low = Lowering::default();
        let ty = TensorType::new(DType::F32, [2]);
        let c = low.constant("c", Tensor::new([2], &[1f32, 2.0]));
        let [x, state, twice, next, last] =
            ["x", "state", "twice", "next", "last"].map(|name| low.temporary(name, ty.clone()));
        for (left, right, to) in [(c, c, twice), (state, twice, next)] {
            let mut b = DefBuilder::new(&[2]);
            let (left, right) = (b.load_broadcast(left, &ty), b.load_broadcast(right, &ty));
            let sum = b.op(Op::Add, &[left, right]);
            low.define(b.finish("sum", to, &ty, sum));
        }
        let body = std::mem::take(&mut low.stages);
        let carries = vec![Carry { initial: x, state, next, last }];
        let repeat = Repeat { count: 3, size: None, condition: None, slices: vec![], carries, body };
        low.stages = vec![Stage::Repeat(repeat)];
        lift(&mut low);
        let [Stage::Define(before), Stage::Repeat(repeat)] = &low.stages[..] else {
            panic!("{:?}", low.stages)
        };
        assert_eq!(before.output.value, twice);
        assert_eq!(repeat.body.iter().flat_map(Stage::writes).collect::<Vec<_>>(), [next]);
    }
}
