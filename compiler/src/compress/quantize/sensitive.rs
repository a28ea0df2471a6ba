//! Layers left in float until the outputs are as close as asked.
//!
//! Activations are computed in float first, which costs no weights their integers. Then layers are ranked by
//! the error that each makes by itself. The fewest of the worst that suffice are found by doubling and halving
//! their number, each time measuring the whole model; then those of them whose quantization does no harm after
//! all are taken back.

use super::{Candidate, Work};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// So many layers are tried one by one at the end.
const TAKEN_BACK: usize = 16;

impl Work<'_> {
    /// A candidate whose outputs have at least the given cosine.
    pub(super) fn relax(
        &self,
        mut from: Candidate,
        excluded: &BTreeSet<usize>,
        least: f64,
    ) -> Result<Candidate> {
        if self.options.tables {
            from = self.with_float(&from, excluded)?;
            if from.cosine >= least {
                return Ok(from);
            }
        }
        let mut ranked = self.own_errors("relaxing", &from)?;
        ranked.sort_by(|a, b| b.error.total_cmp(&a.error));
        let mut order: Vec<usize> = ranked.iter().map(|o| o.node).collect();
        order.extend(&from.plan.tables);
        order.extend(&from.plan.stored);
        let without = |count: usize| excluded.iter().copied().chain(order[..count].iter().copied()).collect();
        let (mut low, mut high) = (0, 1);
        let mut best = loop {
            self.observer.progress("relaxing", high.min(order.len()), order.len());
            let found = self.with_float(&from, &without(high))?;
            if found.cosine >= least {
                break found;
            }
            if high == order.len() {
                return Err(Error::options(format!(
                    "no choice of layers reaches a cosine of {least}: with all in float it is {}",
                    found.cosine
                ))
                .advise("Ask for less")
                .at("--min-cosine"));
            }
            (low, high) = (high, (2 * high).min(order.len()));
        };
        while high - low > 1 {
            let middle = (low + high) / 2;
            self.observer.progress("relaxing", middle, order.len());
            let found = self.with_float(&from, &without(middle))?;
            if found.cosine >= least {
                (high, best) = (middle, found);
            } else {
                low = middle;
            }
        }
        let mut float: BTreeSet<usize> = without(high);
        for &node in order[..high].iter().rev().take(TAKEN_BACK) {
            float.remove(&node);
            let found = self.with_float(&from, &float)?;
            if found.cosine >= least {
                best = found;
            } else {
                float.insert(node);
            }
        }
        Ok(best)
    }

    /// The candidate with nodes, and all activations, in float.
    fn with_float(&self, from: &Candidate, float: &BTreeSet<usize>) -> Result<Candidate> {
        self.candidate(&self.plan(float, false), from.method, &from.changes)
    }
}
