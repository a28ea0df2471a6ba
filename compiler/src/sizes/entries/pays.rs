//! Whether entries are better computed one by one.
//!
//! One by one they have the schedules, strips and memory of a single one, and what passes from stage to stage stays in
//! the caches. Together they share the weights that are read: that counts where each weight is used for few points
//! of an entry, as in networks of dense layers or of short sequences, which take the time that reading takes.

use crate::definition::{Definition, Expr, Lowering, Stage};
use crate::scalar::{Fold, Op};

/// What reading a weight takes, in halves of a multiplication's time.
struct Reading {
    /// The time in which it arrives, beside multiplications by it.
    arrives: u64,
    /// What it takes though others hide it.
    unhidden: u64,
}

/// Of weights that stay in a cache: so that dense layers share them, and the states of small loops need not.
const NEAR: Reading = Reading { arrives: 8, unhidden: 0 };
/// Of others (measured on Zen 3: MiniLM in batches of 8 takes 1.75, 1.15, 1.06 and .98 of the time with 8, 16, 32 and 64
/// words; MobileNetV2, whose last product's weights serve one point each, .99).
const FAR: Reading = Reading { arrives: 36, unhidden: 3 };
/// Bytes of weights that stay in a cache.
const KEPT: usize = 128 << 10;
/// Percent of the time of all multiplications that reading may take of a batch of fixed size: what stays in the caches
/// makes up for it (thirteen networks in batches of 4 and 8 take .97 of the time, .91 to 1.04).
pub(super) const MADE_UP: u64 = 10;
/// The same where the batch may have a single entry as well, which is the faster for it, or where memory counts first.
pub(super) const BORNE: u64 = 200;
/// Steps of an entry that make the time for its calls small.
const WORK: u64 = 1 << 14;

/// Whether single entries, each computed by these stages, have work enough, of which reading takes so many percent at
/// most.
pub(super) fn pays(low: &Lowering, percent: u64) -> bool {
    let constants = low.values.iter().filter_map(|v| v.constant.as_ref());
    let weight = if constants.map(|t| t.ty.bytes()).sum::<usize>() > KEPT { FAR } else { NEAR };
    let reads = sum(&low.stages, &|def| weight.of(low, def));
    let all = steps(low);
    all >= WORK && reads.saturating_mul(50) <= all.saturating_mul(percent)
}

/// Whether stages that compute so many entries have steps enough for each of them to be worth its own.
pub fn has_work_for(low: &Lowering, entries: usize) -> bool {
    steps(low) >= WORK.saturating_mul(entries as u64)
}

fn steps(low: &Lowering) -> u64 {
    sum(&low.stages, &|def| def.volume())
}

/// A number of each definition, as often as it is computed.
fn sum(stages: &[Stage], of: &dyn Fn(&Definition) -> u64) -> u64 {
    let each = stages.iter().map(|stage| match stage {
        Stage::Define(def) => of(def),
        Stage::Repeat(repeat) => sum(&repeat.body, of).saturating_mul(repeat.count as u64),
        _ => 0,
    });
    each.fold(0, u64::saturating_add)
}

impl Reading {
    /// What reading the constant factors of a sum of products takes beside the multiplications by them.
    fn of(&self, low: &Lowering, def: &Definition) -> u64 {
        let Some(fold) = def.fold.as_ref().filter(|f| f.op == Fold::Sum) else { return 0 };
        let Expr::Op(Op::Mul, _) = &def.exprs[fold.body as usize] else { return 0 };
        let constant = def.operands.iter().filter(|o| low.values[o.value as usize].constant.is_some());
        // Of some it reads a part.
        let weights = constant.map(|o| o.ty.elems() as u64).max().unwrap_or(0).min(def.volume());
        let points = def.volume() / weights.max(1);
        weights.saturating_mul(self.arrives.saturating_sub(points.saturating_mul(2)) + self.unhidden)
    }
}
