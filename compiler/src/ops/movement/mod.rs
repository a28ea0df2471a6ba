//! Operators that move elements: shapes, copies, selections.
//!
//! Where the way from an output index to an input index is affine, the definition is a copy that
//! later stages turn into a view; [`runs`] splits a map that is affine in pieces.

mod assemble;
mod gather;
mod generate;
mod pad;
mod shape;
mod slice;

use super::emit::{Emit, Val};
use super::{DefineFn, InferFn, Lower, Operator};
use crate::base::Affine;

/// The families.
pub const FAMILIES: &[&[Operator]] =
    &[assemble::ROWS, gather::ROWS, generate::ROWS, pad::ROWS, shape::ROWS, slice::ROWS];

/// A row of this family.
const fn row(
    name: &'static str,
    versions: &'static [i64],
    infer: InferFn,
    lower: DefineFn,
    note: &'static str,
) -> Operator {
    Operator { domain: "", name, versions, infer, lower: Lower::Define(lower), note }
}

/// A stretch of a map of indices: `map[first + i] = start + i * step` for `i < count`.
#[derive(Debug, PartialEq)]
struct Run {
    first: usize,
    count: usize,
    start: i64,
    step: i64,
}

/// The fewest affine stretches that a greedy walk finds.
fn runs(map: &[i64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, &value) in map.iter().enumerate() {
        if let Some(run) = runs.last_mut() {
            if run.count == 1 {
                run.step = value - run.start;
            }
            if value == run.start + run.step * run.count as i64 {
                run.count += 1;
                continue;
            }
        }
        runs.push(Run { first: i, count: 1, start: value, step: 0 });
    }
    // A single element that was paired with a far one by chance is a run of its own anyway.
    runs
}

/// Defines `out` as `x` with the indices along `axis` mapped: one copy per stretch of the map.
fn copy_mapped(e: &mut Emit, x: &Val, out: &Val, axis: usize, map: &[i64]) {
    for run in runs(map) {
        let mut extents = out.shape().to_vec();
        extents[axis] = run.count;
        let along = |i: usize, a: Affine| if i == axis { a } else { Affine::var(i as u32) };
        let rank = out.rank();
        let store: Vec<Affine> =
            (0..rank).map(|i| along(i, Affine::var(i as u32).offset(run.first as i64))).collect();
        let from: Vec<Affine> =
            (0..rank).map(|i| along(i, Affine::var(i as u32).scaled(run.step).offset(run.start))).collect();
        e.define_at("", out, &extents, store, |b| b.load(x.id, &x.ty, from));
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, runs};

    #[test]
    fn a_reflection_has_three_runs() {
        let map = [2, 1, 0, 1, 2, 3, 2, 1];
        let found: Vec<_> = runs(&map).iter().map(|r| (r.first, r.count, r.start, r.step)).collect();
        assert_eq!(found, [(0, 3, 2, -1), (3, 3, 1, 1), (6, 2, 2, -1)]);
        assert_eq!(runs(&[5]), [Run { first: 0, count: 1, start: 5, step: 0 }]);
        assert!(runs(&[]).is_empty());
    }
}
