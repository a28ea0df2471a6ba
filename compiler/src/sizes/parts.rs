//! Dimensions that are sums of any number of sizes: those of what is written part by part
//! (Concat, the indices that NonMaxSuppression gives for each class).
//!
//! `fit` finds sums of two sizes by comparing numbers; with more sizes that would find sums by chance.
//! Here the parts say which sizes are added.

use super::{Merger, unlike};
use crate::base::Affine;
use crate::definition::{Definition, Stage, ValueId};
use crate::error::Result;

/// Forms with more terms become a size of their own.
const MAX_TERMS: usize = 3;

impl Merger<'_> {
    /// The extent of a value along a dimension as the sum of the extents of its parts, which lie one after
    /// the other; `None` where it does not have such parts. Where each part begins is known from here on.
    pub(super) fn by_parts(&mut self, value: ValueId, dim: usize, extents: &[i64]) -> Result<Option<Affine>> {
        let parts: Vec<Vec<(i64, i64)>> =
            self.samples.iter().map(|s| parts(&s.lowering.stages, value, dim)).collect();
        let count = parts[0].len();
        if count < 2 || parts.iter().any(|p| p.len() != count) {
            return Ok(None);
        }
        let mut end = Affine::constant(0);
        let mut ends = vec![0; extents.len()];
        for i in 0..count {
            if (0..ends.len()).any(|k| parts[k][i].0 != ends[k]) {
                return Ok(None);
            }
            let lengths: Vec<i64> = parts.iter().map(|p| p[i].1).collect();
            end = end.plus(&self.fit(&lengths)?);
            ends.iter_mut().zip(&lengths).for_each(|(end, length)| *end += length);
            if end.terms.len() > MAX_TERMS {
                end = self.facts.plain(&end, &mut self.low, &mut self.before)?;
            }
            self.facts.remember(ends.clone(), end.clone());
        }
        match ends == extents {
            true => Ok(Some(end)),
            false => Err(unlike("its parts do not fill it for all sizes")),
        }
    }
}

/// Where the parts of a value begin along a dimension, and how long they are; in order.
fn parts(stages: &[Stage], value: ValueId, dim: usize) -> Vec<(i64, i64)> {
    let part = |d: &Definition| {
        let (first, last) = d.store[dim].range(|v| d.vars[v as usize].extent);
        (first, last + 1 - first)
    };
    let written = stages.iter().filter_map(|s| match s {
        Stage::Define(d) if d.output.value == value => Some(part(d)),
        _ => None,
    });
    written.collect()
}
