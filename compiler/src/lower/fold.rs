//! Computes at compile time what depends on constants alone: factors of normalizations, sums of
//! weights, bias tables. Results much larger than what they are made of stay computed at run time
//! (weights that are dequantized, tensors that are broadcast), unless they take longer to compute than
//! to read (filters made of sines), or nothing reads them but what is computed here too: a table of
//! positions that is broadcast, then indexed, a small network over constants.

use super::lift::{lift, simple};
use crate::definition::{Env, Expr, LoweredValue, Lowering, Stage, ValueId, interpret};
use crate::scalar::math::primitives;

/// Results of at most this many bytes are always worth keeping.
const SMALL: usize = 4096;
/// Operations per byte of a result from which on it takes longer to compute than to read.
const COSTLY: u64 = 8;
/// Bytes of all that is computed here: a small file can describe any number of large tables.
const MOST: usize = 1 << 33;

/// Replaces stages over constants by constants, those within loops too; those that write `outputs` stay.
pub fn fold(lowering: &mut Lowering, outputs: &[ValueId]) {
    lift(lowering);
    let plan = foldable(lowering, outputs);
    if plan.iter().all(|&p| p == Plan::Stays) {
        return;
    }
    let picked = lowering.stages.iter().zip(&plan).filter(|(_, p)| **p != Plan::Stays);
    let constant = Lowering {
        values: lowering.values.clone(),
        stages: picked.map(|(s, _)| s.clone()).collect(),
        ..Lowering::default()
    };
    let written = constant.stages.iter().flat_map(Stage::writes).map(|v| size(&lowering.values[v as usize]));
    if written.fold(0, usize::saturating_add) > MOST {
        return;
    }
    let mut env = Env::new(&constant);
    if interpret(&constant, &mut env).is_err() {
        return; // An index is out of range: the model returns that error at run time.
    }
    let kept = lowering.stages.iter().zip(&plan).filter(|(_, p)| **p == Plan::Kept);
    for written in kept.flat_map(|(s, _)| s.writes()) {
        let value = &mut lowering.values[written as usize];
        value.constant = env.get(written, &value.ty);
    }
    let mut plan = plan.into_iter();
    lowering.stages.retain(|_| matches!(plan.next(), Some(Plan::Stays | Plan::Both)));
}

/// What becomes of a stage.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// It is computed at run time.
    Stays,
    /// It is computed here, and its result is a constant.
    Kept,
    /// It is computed here, for others that are.
    Passed,
    /// It is computed here for others that are, and at run time.
    Both,
}

/// What becomes of each stage.
fn foldable(lowering: &Lowering, outputs: &[ValueId]) -> Vec<Plan> {
    let stages = &lowering.stages;
    let (mut writers, mut readers) =
        (vec![Vec::new(); lowering.values.len()], vec![Vec::new(); lowering.values.len()]);
    for (i, stage) in stages.iter().enumerate() {
        stage.writes().into_iter().for_each(|v| writers[v as usize].push(i));
        stage.reads().into_iter().for_each(|v| readers[v as usize].push(i));
    }
    // What it takes at least to have a value at run time: its own bytes, or those it is made of.
    let mut bytes: Vec<Option<usize>> =
        lowering.values.iter().map(|v| v.constant.as_ref().map(|_| size(v))).collect();
    let mut sources: Vec<Option<usize>> = vec![None; stages.len()];
    for (i, stage) in stages.iter().enumerate() {
        let Some((reads, to)) = simple(stage).filter(|s| !outputs.contains(&s.1)) else { continue };
        sources[i] = reads.iter().map(|&r| bytes[r as usize]).sum();
        // A value written in parts is known once all of its writers are, and read after them.
        let (parts, early) = (&writers[to as usize], readers[to as usize].iter().any(|&r| r <= i));
        if parts.last() == Some(&i) && !early {
            let from: Option<usize> = parts.iter().map(|&p| sources[p]).sum();
            bytes[to as usize] = from.map(|f| f.min(size(&lowering.values[to as usize])));
        }
    }
    let mut plan = vec![Plan::Stays; stages.len()];
    for i in (0..stages.len()).rev() {
        let Some((_, to)) = simple(&stages[i]).filter(|s| bytes[s.1 as usize].is_some()) else { continue };
        if lowering.values[to as usize].constant.is_some() {
            continue;
        }
        // All parts of a value are decided on alike.
        let from: usize = writers[to as usize].iter().filter_map(|&p| sources[p]).sum();
        let read = |plans: &[Plan]| readers[to as usize].iter().any(|&r| plans.contains(&plan[r]));
        plan[i] = match (read(&[Plan::Stays, Plan::Both]), read(&[Plan::Kept, Plan::Passed, Plan::Both])) {
            (true, _) if size(&lowering.values[to as usize]) <= SMALL.max(2 * from) => Plan::Kept,
            (true, _) if costly(lowering, &writers, to) => Plan::Kept,
            (true, true) => Plan::Both,
            (true, false) => Plan::Stays,
            (false, _) => Plan::Passed,
        };
    }
    plan
}

/// Whether a value over constants takes longer to compute than to read. What it is made of counts where that has as
/// many elements: of a table that is broadcast the table is kept.
fn costly(lowering: &Lowering, writers: &[Vec<usize>], to: ValueId) -> bool {
    let (mut open, mut seen, mut work) = (vec![to], vec![false; lowering.values.len()], 0u64);
    let elems = |v: ValueId| lowering.values[v as usize].ty.elems();
    while let Some(value) = open.pop() {
        if std::mem::replace(&mut seen[value as usize], true) || elems(value) < elems(to) {
            continue;
        }
        for &writer in &writers[value as usize] {
            work = work.saturating_add(operations(&lowering.stages[writer]));
            open.extend(lowering.stages[writer].reads());
        }
    }
    work >= COSTLY.saturating_mul(size(&lowering.values[to as usize]) as u64)
}

/// Primitive operations of a stage.
fn operations(stage: &Stage) -> u64 {
    let Stage::Define(def) = stage else { return 0 };
    let types = def.expr_types();
    let each = |e: &Expr| match e {
        Expr::Op(op, args) => primitives(*op, types[args[args.len() - 1] as usize]) as u64,
        _ => 0,
    };
    def.volume().saturating_mul(def.exprs.iter().map(each).sum())
}

/// Bytes of a value; elements of four bits are packed in pairs.
fn size(value: &LoweredValue) -> usize {
    value.ty.elems().saturating_mul(value.ty.dtype.bits() as usize).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, Tensor, TensorType};
    use crate::definition::DefBuilder;
    use crate::scalar::{Fold, Op};

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

    /// `c` broadcast and summed, where the broadcast is read by the sum alone or by another too.
    fn broadcast_and_summed(read: bool) -> Lowering {
        let (mut low, wide) = (Lowering::default(), TensorType::new(DType::F32, [2048, 2]));
        let ty = TensorType::new(DType::F32, [2]);
        let c = low.constant("c", Tensor::new([2], &[1f32, 2.0]));
        let [x, many, sum, shown, out] =
            [("x", &ty), ("many", &wide), ("sum", &ty), ("shown", &wide), ("out", &ty)]
                .map(|(name, ty)| low.temporary(name, ty.clone()));
        let mut b = DefBuilder::new(&wide.shape);
        let e = b.load_broadcast(c, &ty);
        low.define(b.finish("many", many, &wide, e));
        let mut b = DefBuilder::new(&[2]);
        let (axis, k) = (b.var(0), b.reduce("k", 2048));
        let e = b.load(many, &wide, vec![k, axis]);
        let e = b.fold(Fold::Sum, e);
        low.define(b.finish("sum", sum, &ty, e));
        let mut b = DefBuilder::new(&[2]);
        let (left, right) = (b.load_broadcast(x, &ty), b.load_broadcast(sum, &ty));
        let e = b.op(Op::Add, &[left, right]);
        low.define(b.finish("out", out, &ty, e));
        if read {
            let mut b = DefBuilder::new(&wide.shape);
            let (left, right) = (b.load_broadcast(x, &ty), b.load_broadcast(many, &wide));
            let e = b.op(Op::Add, &[left, right]);
            low.define(b.finish("shown", shown, &wide, e));
        }
        fold(&mut low, &[out, shown]);
        assert!(low.values[many as usize].constant.is_none());
        low
    }

    /// What is large is computed on the way to what is small, and not kept.
    #[test]
    fn large_values_between_constants_fold() {
        let low = broadcast_and_summed(false);
        assert_eq!(low.stages.len(), 1);
        let sum = low.values.iter().find(|v| v.name == "sum").and_then(|v| v.constant.as_ref());
        assert_eq!(sum.and_then(|t| t.to_vec::<f32>()), Some(vec![2048.0, 4096.0]));
    }

    /// Where it is needed at run time it is computed there; what is small is a constant all the same.
    #[test]
    fn large_values_that_are_read_stay() {
        let low = broadcast_and_summed(true);
        assert!(low.stages.iter().flat_map(Stage::writes).all(|v| low.values[v as usize].name != "sum"));
    }

    /// Which values are constants where rows times columns, `op` and another sum with a row meet an input.
    fn constants_behind(op: Op) -> Vec<bool> {
        let (mut low, wide) = (Lowering::default(), TensorType::new(DType::F32, [2048, 8]));
        let column = TensorType::new(DType::F32, [2048, 1]);
        let row = TensorType::new(DType::F32, [8]);
        let c = low.constant("c", Tensor::new([8], &[1f32; 8]));
        let d = low.constant("d", Tensor::new([2048, 1], &[0.5f32; 2048]));
        let [x, product, made, many, out] =
            [("x", &wide), ("product", &wide), ("made", &wide), ("many", &wide), ("out", &wide)]
                .map(|(name, ty)| low.temporary(name, ty.clone()));
        let parts = [(Op::Mul, (c, &row), Some((d, &column)), product), (op, (product, &wide), None, made)];
        let sums = [
            (Op::Add, (made, &wide), Some((c, &row)), many),
            (Op::Add, (many, &wide), Some((x, &wide)), out),
        ];
        for (op, (left, ty), right, to) in parts.into_iter().chain(sums) {
            let mut b = DefBuilder::new(&wide.shape);
            let mut args = vec![b.load_broadcast(left, ty)];
            args.extend(right.map(|(value, ty)| b.load_broadcast(value, ty)));
            let e = b.op(op, &args);
            low.define(b.finish("d", to, &wide, e));
        }
        fold(&mut low, &[out]);
        [product, made, many].map(|v| low.values[v as usize].constant.is_some()).to_vec()
    }

    /// A large result of sines is kept, one of absolute values is not.
    #[test]
    fn what_takes_long_to_compute_is_kept() {
        assert_eq!(constants_behind(Op::Sin), [false, false, true]);
        assert_eq!(constants_behind(Op::Abs), [false, false, false]);
    }
}
