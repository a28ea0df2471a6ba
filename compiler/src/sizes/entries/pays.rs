//! Whether entries are better computed one by one.
//!
//! One by one they have the schedules, strips and memory of a single one, and what passes from stage to stage stays in
//! the caches. Together they share the weights that are read: that counts where each weight is used for a few points
//! of an entry only, as in networks of dense layers, which take the time that reading takes.

use crate::definition::{Definition, Expr, Lowering, Stage};
use crate::scalar::{Fold, Op};

/// Points of an entry that make the time for reading a weight small beside that of multiplying by it.
const FEW: u64 = 8;
/// How many times as long a multiplication takes whose weight serves fewer.
const THIN: u64 = 10;
/// Steps of an entry that make the time for its calls small.
const WORK: u64 = 1 << 14;

/// Whether computing single entries, each by these stages, takes no longer than computing all together.
pub(super) fn pays(low: &Lowering) -> bool {
    let (thin, all) = work(low, &low.stages);
    all >= WORK && thin.saturating_mul(THIN) <= all
}

/// The multiplications by weights that serve few points, and all steps.
fn work(low: &Lowering, stages: &[Stage]) -> (u64, u64) {
    let add = |(a, b): (u64, u64), (c, d): (u64, u64)| (a.saturating_add(c), b.saturating_add(d));
    stages.iter().fold((0, 0), |sum, stage| match stage {
        Stage::Define(def) => {
            let steps = def.volume();
            add(sum, (if is_thin(low, def) { steps } else { 0 }, steps))
        }
        Stage::Repeat(repeat) => {
            let (thin, all) = work(low, &repeat.body);
            let times = |n: u64| n.saturating_mul(repeat.count as u64);
            add(sum, (times(thin), times(all)))
        }
        _ => sum,
    })
}

/// Whether a sum of products has a constant factor each of whose elements serves few points.
fn is_thin(low: &Lowering, def: &Definition) -> bool {
    let Some(fold) = def.fold.as_ref().filter(|f| f.op == Fold::Sum) else { return false };
    let Expr::Op(Op::Mul, _) = &def.exprs[fold.body as usize] else { return false };
    def.operands.iter().any(|operand| {
        let constant = low.values[operand.value as usize].constant.is_some();
        constant && def.volume() < FEW.saturating_mul(operand.ty.elems() as u64)
    })
}
