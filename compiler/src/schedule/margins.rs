//! Windows over zeros: where memory holds a margin of them around what a fold of products reads.
//!
//! Points of a window that lie in the margin for all points of a tile need not be summed. Unlike padding, nothing
//! breaks where they are: so only loops over windows end earlier, and no tile is split.

use super::nodes::Guard;
use crate::base::Affine;
use crate::definition::{Definition, Expr, Index};
use std::ops::Range;

/// Points of a margin from which on it is worth to be known: tiles are not much longer.
const DEEP: i64 = 12;

/// The indices of a factor outside of which it is zero, for dimensions along which one window slides over a deep
/// margin. `nonzero` says of each operand, per dimension, where elements may be other than zero.
pub(super) fn margins(def: &Definition, nonzero: &[Vec<Range<i64>>]) -> Vec<Guard> {
    let known = |factor: u32| {
        let Expr::Load { operand, index, fill: None } = def.behind_casts(factor) else { return None };
        let ranges = nonzero.get(*operand as usize).filter(|r| !r.is_empty())?;
        let shape = &def.operands[*operand as usize].ty.shape;
        let dims = index.iter().zip(ranges).zip(shape);
        let guards = dims.filter_map(|((index, range), &extent)| margin(def, index, range, extent as i64));
        Some(guards.collect())
    };
    def.factors().and_then(|factors| factors.into_iter().find_map(known)).unwrap_or_default()
}

/// The guard of an index that slides, where the margin before or behind `range` is deep.
fn margin(def: &Definition, index: &Index, range: &Range<i64>, extent: i64) -> Option<Guard> {
    let Index::Affine(form) = index else { return None };
    let windows = form.terms.iter().filter(|t| t.0 as usize >= def.axes).count();
    let slides = windows == 1 && form.terms.len() == 2 && form.terms.iter().all(|t| t.1 > 0);
    let deep = range.start >= DEEP || extent - range.end >= DEEP;
    let extent = usize::try_from(range.end - range.start).ok()?;
    (slides && deep && !form.has_size()).then(|| Guard {
        form: form.offset(-range.start),
        extent,
        size: None,
    })
}

/// The part of the window `var` that lies in the margin at no point of a tile of so many `points`, which begins
/// where `place` says: its first point, and the one behind it. None where no affine form says it.
pub fn reached(
    margin: &Guard,
    var: u32,
    points: impl Fn(u32) -> usize,
    place: impl Fn(u32) -> Affine,
) -> Option<(Affine, Affine)> {
    let step = margin.form.coefficient(var);
    let mut rest = margin.form.clone();
    rest.add_term(var, -step);
    let across: i64 = rest.terms.iter().map(|&(v, c)| c * (points(v) as i64 - 1)).sum();
    let at = rest.map_vars(place);
    // step * k + at + across >= 0  and  step * k + at < extent
    let last = divided(&at.offset(across), step)?;
    let end = divided(&at.offset(-(margin.extent as i64)), step)?;
    Some((last.scaled(-1), end.scaled(-1)))
}

/// The quotient rounded down, where only the constant leaves a rest.
fn divided(form: &Affine, by: i64) -> Option<Affine> {
    let whole = by > 0 && form.terms.iter().all(|t| t.1 % by == 0);
    whole.then(|| Affine {
        base: form.base.div_euclid(by),
        terms: form.terms.iter().map(|&(v, c)| (v, c / by)).collect(),
    })
}
