//! The range of an affine form inside loops: the proof that addresses lie inside their parameters.
//!
//! Loop bounds are affine in the variables further out, so the largest value of a form is found by
//! putting, from the innermost variable outwards, its last value (or its first, where the
//! coefficient is negative) in its place. Where a bound has two forms, each of them bounds the
//! variable: all choices are tried, the best proves most. Overflow proves nothing.

use crate::base::{Affine, Bound};

/// A loop around a statement.
pub struct Loop {
    /// Its variable.
    pub var: u32,
    /// First value.
    pub lo: Bound,
    /// First value not reached.
    pub hi: Bound,
    /// Increment.
    pub step: i64,
}

/// Upper limits of the smallest and the largest value of `form` inside `loops` (outermost first):
/// the values lie in the range. `None` where none is found.
pub fn range(form: &Affine, loops: &[Loop]) -> Option<(i64, i64)> {
    let negated = Form::of(form)?.scaled(-1)?;
    let low = largest(&negated, loops)?.checked_neg()?;
    let high = largest(&Form::of(form)?, loops)?;
    Some((i64::try_from(low).ok()?, i64::try_from(high).ok()?))
}

/// True where a loop's bounds show that it is never entered.
pub fn is_empty(l: &Loop) -> bool {
    let pairs = l.lo.0.iter().flat_map(|lo| l.hi.0.iter().map(move |hi| (lo, hi)));
    let trips = pairs.filter_map(|(lo, hi)| Form::of(hi)?.plus_scaled(&Form::of(lo)?, -1));
    let mut constant = trips.filter(|t| t.terms.iter().all(|t| t.1 == 0));
    constant.any(|trip| trip.base <= 0)
}

/// An affine form with room: `base + sum(coefficient * variable)`.
#[derive(Clone)]
struct Form {
    base: i128,
    terms: Vec<(u32, i128)>,
}

impl Form {
    fn of(form: &Affine) -> Option<Form> {
        let terms = form.terms.iter().map(|&(v, c)| (v, i128::from(c))).collect();
        Some(Form { base: i128::from(form.base), terms })
    }

    fn scaled(&self, factor: i128) -> Option<Form> {
        Form { base: 0, terms: Vec::new() }.plus_scaled(self, factor)
    }

    fn plus_scaled(mut self, other: &Form, factor: i128) -> Option<Form> {
        self.base = self.base.checked_add(other.base.checked_mul(factor)?)?;
        for &(var, c) in &other.terms {
            let c = c.checked_mul(factor)?;
            match self.terms.iter_mut().find(|t| t.0 == var) {
                Some(term) => term.1 = term.1.checked_add(c)?,
                None => self.terms.push((var, c)),
            }
        }
        Some(self)
    }

    /// The coefficient of a variable, which is taken out of the form.
    fn take(&mut self, var: u32) -> i128 {
        let at = self.terms.iter().position(|t| t.0 == var);
        at.map_or(0, |i| self.terms.swap_remove(i).1)
    }
}

/// The least upper limit found.
fn largest(form: &Form, loops: &[Loop]) -> Option<i128> {
    let Some((inner, outer)) = loops.split_last() else {
        return form.terms.iter().all(|t| t.1 == 0).then_some(form.base);
    };
    let mut rest = form.clone();
    let factor = rest.take(inner.var);
    let put = |limit: Form| largest(&rest.clone().plus_scaled(&limit, factor)?, outer);
    match factor {
        0 => largest(&rest, outer),
        1.. => last_values(inner).into_iter().filter_map(put).min(),
        _ => inner.lo.0.iter().filter_map(Form::of).filter_map(put).min(),
    }
}

/// Forms that the last value of a loop's variable does not exceed.
fn last_values(l: &Loop) -> Vec<Form> {
    let step = i128::from(l.step.max(1));
    let mut limits = Vec::new();
    for hi in l.hi.0.iter().filter_map(Form::of) {
        if let [lo] = l.lo.0.as_slice()
            && let Some(lo) = Form::of(lo)
            && let Some(trip) = hi.clone().plus_scaled(&lo, -1)
            && trip.terms.iter().all(|t| t.1 == 0)
        {
            // The number of values is constant, so the last one is known exactly.
            let last = (trip.base - 1).max(0) / step * step;
            limits.push(Form { base: lo.base + last, ..lo });
            continue;
        }
        limits.push(Form { base: hi.base - 1, ..hi });
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn affine(base: i64, terms: &[(u32, i64)]) -> Affine {
        terms.iter().fold(Affine::constant(base), |mut sum, &(v, c)| {
            sum.add_term(v, c);
            sum
        })
    }

    #[test]
    fn the_last_step_counts() {
        let (lo, hi) = (Bound::constant(0), Bound::constant(100));
        let loops = [Loop { var: 0, lo, hi, step: 8 }];
        assert_eq!(range(&affine(3, &[(0, 2)]), &loops), Some((3, 195)));
        assert_eq!(range(&affine(3, &[(0, -2)]), &loops), Some((-189, 3)));
    }

    /// A 3-wide reduction over a padded row of 14: `x[oh + kh - 1]` stays inside.
    #[test]
    fn padded_borders() {
        let (lo, hi) = (Bound::constant(0), Bound::constant(14));
        let inner_lo = Bound(vec![affine(0, &[]), affine(1, &[(0, -1)])]);
        let inner_hi = Bound(vec![affine(3, &[]), affine(15, &[(0, -1)])]);
        let loops = [Loop { var: 0, lo, hi, step: 1 }, Loop { var: 1, lo: inner_lo, hi: inner_hi, step: 1 }];
        assert_eq!(range(&affine(-1, &[(0, 1), (1, 1)]), &loops), Some((0, 13)));
        assert_eq!(range(&affine(0, &[(1, 1)]), &loops), Some((0, 2)));
        assert_eq!(range(&affine(0, &[(7, 1)]), &loops), None);
    }
}
