//! Where values are known to be zero: margins around what is computed, as padding writes them.
//!
//! A window over such a value multiplies zeros wherever it lies in a margin. The plan knows who writes what of
//! each value; schedules then leave out what no point of a tile needs ([`crate::nest`]).

use crate::base::Affine;
use crate::definition::{Definition, Expr, Stage, ValueId};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Of values that only definitions write, and whose margins are zeros: per dimension, where they may be something
/// else.
pub(super) fn margins(stages: &[Stage]) -> BTreeMap<ValueId, Vec<Range<i64>>> {
    let mut found: HashMap<ValueId, Option<Vec<Range<i64>>>> = HashMap::new();
    let mut zeros: Vec<ValueId> = Vec::new();
    for stage in stages {
        match stage {
            Stage::Define(def) if is_zero(def) => zeros.push(def.output.value),
            Stage::Define(def) => {
                let own = written(def);
                let entry = found.entry(def.output.value).or_insert_with(|| own.clone());
                *entry = entry.take().zip(own).map(|(a, b)| a.into_iter().zip(b).map(joined).collect());
            }
            other => other.writes().into_iter().for_each(|v| _ = found.insert(v, None)),
        }
    }
    zeros.into_iter().filter_map(|value| Some((value, found.remove(&value)??))).collect()
}

fn joined((a, b): (Range<i64>, Range<i64>)) -> Range<i64> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// Whether all that a definition writes are zeros.
fn is_zero(def: &Definition) -> bool {
    matches!(def.exprs[def.finish as usize], Expr::Const(s) if s.bits == 0)
}

/// The part of its output that a definition writes; none where that depends on sizes.
fn written(def: &Definition) -> Option<Vec<Range<i64>>> {
    let range = |form: &Affine| {
        let (lo, hi) = form.range(|v| def.vars[v as usize].extent);
        lo..hi + 1
    };
    (!def.has_sizes()).then(|| def.store.iter().map(range).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DType, TensorType};
    use crate::definition::{DefBuilder, Lowering};

    /// Writes `rows` rows of `y` from row `first` on: elements of `from`, or zeros.
    fn rows(from: Option<ValueId>, (to, y): (ValueId, &TensorType), first: i64, rows: usize) -> Definition {
        let part = TensorType::new(y.dtype, [rows, y.shape[1]]);
        let mut b = DefBuilder::new(&part.shape);
        let element = match from {
            Some(value) => b.load_broadcast(value, &part),
            None => b.number(y.dtype, 0.0),
        };
        let store = vec![b.var(0).offset(first), b.var(1)];
        b.finish_at("rows", to, y, store, element)
    }

    #[test]
    fn what_only_zeros_are_written_to_is_a_margin() {
        let (x, y) = (TensorType::new(DType::F32, [6, 4]), TensorType::new(DType::F32, [10, 4]));
        let mut low = Lowering::default();
        let (from, to, other) =
            (low.temporary("x", x), low.temporary("y", y.clone()), low.temporary("z", y.clone()));
        for (value, first, count) in [(None, 0, 3), (Some(from), 3, 6), (None, 9, 1)] {
            low.define(rows(value, (to, &y), first, count));
        }
        low.define(rows(None, (other, &y), 0, 2));
        low.stages.push(Stage::Reshape { from, to: other });
        assert_eq!(margins(&low.stages), BTreeMap::from([(to, vec![3..9, 0..4])]));
    }
}
