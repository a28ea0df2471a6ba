//! How many statements a kernel runs: an estimate of its time, before it is run.

use super::{Kernel, LoopVar, Stmt};
use crate::base::{Affine, Bound};

/// Statements that a kernel runs at most, of an `If` the longer list; a `Loop` counts as if it ran once, since data
/// decide how often it does.
pub fn statements(kernel: &Kernel) -> u64 {
    Counter { ranges: vec![(0, 0); kernel.vars.len()] }.count(&kernel.body)
}

struct Counter {
    /// The smallest and the largest value of each variable.
    ranges: Vec<(i128, i128)>,
}

impl Counter {
    fn count(&mut self, body: &[Stmt]) -> u64 {
        body.iter().fold(0, |sum, stmt| sum.saturating_add(self.one(stmt)))
    }

    fn one(&mut self, stmt: &Stmt) -> u64 {
        match stmt {
            Stmt::Let(..) | Stmt::Store { .. } | Stmt::Break { .. } | Stmt::Fail { .. } => 1,
            Stmt::Loop { body } => self.count(body),
            Stmt::If { then, otherwise, .. } => self.count(then).max(self.count(otherwise)),
            Stmt::Size { var, max, body, .. } => {
                self.set(*var, (0, i128::from(*max)));
                self.count(body)
            }
            Stmt::For { var, lo, hi, step, body } => {
                let first = self.least(lo);
                let end = self.most(hi).max(first);
                self.set(*var, (first, (end - 1).max(first)));
                let step = i128::from((*step).max(1));
                let trips = (end - first + step - 1) / step;
                u64::try_from(trips).unwrap_or(u64::MAX).saturating_mul(self.count(body))
            }
        }
    }

    fn set(&mut self, var: LoopVar, range: (i128, i128)) {
        if let Some(place) = self.ranges.get_mut(var as usize) {
            *place = range;
        }
    }

    /// The smallest value of a lower bound.
    fn least(&self, bound: &Bound) -> i128 {
        bound.0.iter().map(|form| self.range(form).0).max().unwrap_or(0)
    }

    /// The largest value of an upper bound.
    fn most(&self, bound: &Bound) -> i128 {
        bound.0.iter().map(|form| self.range(form).1).min().unwrap_or(0)
    }

    fn range(&self, form: &Affine) -> (i128, i128) {
        let base = i128::from(form.base);
        form.terms.iter().fold((base, base), |(lo, hi), &(var, factor)| {
            let (from, to) = self.ranges.get(var as usize).copied().unwrap_or((0, 0));
            let ends = [from, to].map(|end| end.saturating_mul(i128::from(factor)));
            (lo.saturating_add(ends[0].min(ends[1])), hi.saturating_add(ends[0].max(ends[1])))
        })
    }
}
