//! Element-wise definitions over padded values, cut where the padding begins, so that no part
//! tests an index.
//!
//! Before: `y[c] = x[c - 2] or 0`. After: `y[c] = 0` for the first two, `y[c + 2] = x[c]`, and so
//! on: the middle is a plain copy, which vanishes where its source can be written in place.

use super::rewrite::{Var, rebuild};
use crate::base::Affine;
use crate::definition::{DefBuilder, Definition, Expr, Index};

/// Parts of one definition at most.
const MAX_PARTS: usize = 9;

/// The parts of a definition without a fold; `None` where no padding ties a load to one axis, or
/// the parts would be too many.
pub fn split(def: &Definition) -> Option<Vec<Definition>> {
    if def.fold.is_some() || def.has_sizes() {
        return None;
    }
    let mut parts = vec![def.clone()];
    let mut at = 0;
    while at < parts.len() {
        match boundary(&parts[at]) {
            None => at += 1,
            Some((axis, cuts)) => {
                let part = parts.remove(at);
                for range in cuts.windows(2).filter(|r| r[0] < r[1]) {
                    parts.push(restricted(&part, axis, range[0], range[1])?);
                }
                if parts.len() > MAX_PARTS {
                    return None;
                }
            }
        }
    }
    (parts.len() > 1).then_some(parts)
}

/// An axis whose padded loads leave their tensor, and the points to cut it at, ends included.
fn boundary(def: &Definition) -> Option<(usize, Vec<usize>)> {
    for expr in &def.exprs {
        let Expr::Load { operand, index, fill: Some(_) } = expr else { continue };
        for (i, &extent) in index.iter().zip(&def.operands[*operand as usize].ty.shape) {
            let Index::Affine(form) = i else { continue };
            let [(axis, step)] = form.terms.as_slice() else { continue };
            let points = def.vars[*axis as usize].extent as i64;
            let (lo, hi) = form.range(|v| def.vars[v as usize].extent);
            if *step < 1 || (lo >= 0 && hi < extent as i64) {
                continue;
            }
            let first = (-(form.base.div_euclid(*step))).clamp(0, points);
            let end = ((extent as i64 - 1 - form.base).div_euclid(*step) + 1).clamp(first, points);
            if first > 0 || end < points {
                return Some((*axis as usize, vec![0, first as usize, end as usize, points as usize]));
            }
        }
    }
    None
}

/// The definition for `axis` in `from..to` only: its variable begins at 0 again.
fn restricted(def: &Definition, axis: usize, from: usize, to: usize) -> Option<Definition> {
    let mut extents: Vec<usize> = def.vars.iter().map(|v| v.extent).collect();
    extents[axis] = to - from;
    let place = |v: u32| match v as usize == axis {
        true => Affine::var(v).offset(from as i64),
        false => Affine::var(v),
    };
    let vars: Vec<Var> = (0..extents.len() as u32).map(|v| Var::Affine(place(v))).collect();
    let store = def.store.iter().map(|f| f.map_vars(place)).collect();
    let range = |form: &Affine| form.range(|v| extents[v as usize]);
    rebuild(
        def,
        DefBuilder::new(&extents),
        &vars,
        &mut |b, operand, index, fill| {
            let operand = &def.operands[operand as usize];
            let fill = fill?;
            let mut inside = true;
            for (i, &extent) in index.iter().zip(&operand.ty.shape) {
                let Index::Affine(form) = i else {
                    inside = false;
                    continue;
                };
                let (lo, hi) = range(form);
                if hi < 0 || lo >= extent as i64 {
                    return Some(b.constant(fill));
                }
                inside &= lo >= 0 && hi < extent as i64;
            }
            inside.then(|| b.load_at(operand.value, &operand.ty, index.to_vec(), None))
        },
        store,
    )
}
