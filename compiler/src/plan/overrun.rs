//! Which definitions may write past the ends of their axes, where these are sizes known only at run time.
//!
//! A tile that begins inside is computed as a whole: what lies behind the actual size is memory that nothing reads,
//! unless another stage has written to the same value there. What is written later may be touched before.

use crate::base::Affine;
use crate::definition::{Definition, Expr, Stage, ValueId};
use std::collections::HashMap;

/// The definitions that write each value, in order; `None` for what else does, and for all in loops, where none comes
/// first.
pub(super) type Writers<'a> = HashMap<ValueId, Vec<Option<&'a Definition>>>;

/// The writers of each value.
pub(super) fn writers<'a>(stages: &'a [Stage], ordered: bool, found: &mut Writers<'a>) {
    for stage in stages {
        let def = match stage {
            Stage::Define(def) if ordered => Some(def),
            _ => None,
        };
        stage.writes().into_iter().for_each(|v| found.entry(v).or_default().push(def));
        if let Stage::Repeat(repeat) = stage {
            writers(&repeat.body, false, found);
        }
    }
}

/// Whether a definition must end exactly: past its end lies what another one has written.
pub(super) fn ends_exactly(def: &Definition, writers: &Writers) -> bool {
    let all = writers.get(&def.output.value).map_or(&[][..], Vec::as_slice);
    let known: Option<Vec<&Definition>> = all.iter().copied().collect();
    match known {
        Some(known) if known.contains(&def) => {
            known.into_iter().take_while(|&earlier| earlier != def).any(|earlier| touches(def, earlier))
        }
        _ => all.len() > 1 || def.store.iter().any(Affine::has_size),
    }
}

/// Whether a definition may change what an earlier one has written.
fn touches(def: &Definition, earlier: &Definition) -> bool {
    let fill = |d: &Definition| match d.exprs.get(d.finish as usize) {
        Some(Expr::Const(fill)) => Some(*fill),
        _ => None,
    };
    let same = fill(def).is_some() && fill(def) == fill(earlier);
    !same && !(0..def.store.len()).any(|dim| apart(def, earlier, dim))
}

/// Whether all that a definition writes, past its end as well, lies before or behind what an earlier one wrote.
fn apart(def: &Definition, earlier: &Definition, dim: usize) -> bool {
    let (first, _) = def.ends(&def.store[dim]);
    let (low, high) = earlier.ends(&earlier.store[dim]);
    let reach = def.store[dim].range(|v| def.vars[v as usize].extent).1;
    let above = |a: &Affine, b: &Affine| a.plus_scaled(b, -1).range(|_| 1).0 > 0;
    above(&first, &high) || above(&low, &Affine::constant(reach))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::affine::size_var;
    use crate::base::{DType, TensorType};
    use crate::definition::{DefBuilder, Var};

    fn size(number: usize) -> Affine {
        size_var(number, 8).map(Affine::var).unwrap_or_default()
    }

    /// Writes `y[first + i, j]` for `i < rows` and `j < 4`: elements of the value, or zeros.
    fn rows(from: Option<ValueId>, first: Affine, rows: Affine) -> Definition {
        let y = TensorType::new(DType::F32, [32, 4]);
        let bound = rows.range(|_| 1).1 as usize;
        let size = Some(rows).filter(Affine::has_size);
        let axes = vec![
            Var { name: "i0".into(), extent: bound, size },
            Var { name: "i1".into(), extent: 4, size: None },
        ];
        let mut b = DefBuilder::with_vars(axes, 2);
        let element = match from {
            Some(value) => b.load(value, &y, vec![b.var(0), b.var(1)]),
            None => b.number(DType::F32, 0.0),
        };
        let store = vec![b.var(0).plus(&first), b.var(1)];
        b.finish_at("rows", 9, &y, store, element)
    }

    /// Which of some definitions in order must end exactly.
    fn exact(defs: &[&Definition]) -> Vec<bool> {
        let stages: Vec<Stage> = defs.iter().map(|d| Stage::Define((*d).clone())).collect();
        let mut found = Writers::new();
        writers(&stages, true, &mut found);
        defs.iter().map(|d| ends_exactly(d, &found)).collect()
    }

    #[test]
    fn what_was_written_before_is_not_touched() {
        let middle = rows(Some(1), Affine::constant(1), size(0));
        let behind = rows(None, size(0).offset(1), Affine::constant(2));
        let second = rows(Some(2), size(0).offset(1), size(1));
        assert_eq!(exact(&[&middle, &behind]), [false, false]);
        assert_eq!(exact(&[&middle, &second]), [false, false]);
        // The first part may end in the middle of the second.
        assert_eq!(exact(&[&second, &middle]), [false, true]);
    }

    #[test]
    fn a_rim_that_reaches_into_a_rim_changes_nothing() {
        let [one, other] = [0, 1].map(|n| rows(None, Affine::constant(n), size(n as usize)));
        assert_eq!(exact(&[&one, &other]), [false, false]);
    }
}
