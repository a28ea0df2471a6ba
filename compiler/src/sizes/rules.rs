//! Which function of the sizes a number is: the first that holds in every sample.
//!
//! Affine functions of one size or two; quotients, products and limits. Where two quotients hold in all samples
//! but differ elsewhere, the sizes at which they do are noted, so that those become samples too.

use super::derived::Derived;
use super::fit::{Facts, too_large};
use crate::base::Affine;
use crate::scalar::Op;

/// Divisors that are tried.
const MAX_DIVISOR: i64 = 64;

/// In so many samples a size must lie on the other side of a limit.
const MIN_SHOWN: usize = 5;

/// Values of a size up to which rules are compared.
const MAX_COMPARED: i64 = 1 << 14;

impl Facts {
    pub(super) fn line_or_same(&self, numbers: &[i64]) -> Option<Affine> {
        let same = self.usable().find(|&s| self.sizes[s].values == numbers);
        same.map(|same| self.form(same, 1, 0)).or_else(|| self.usable().find_map(|s| self.line(s, numbers)))
    }

    /// Forms of two sizes: the first one in which both grow, and the first other one.
    pub(super) fn planes(&self, numbers: &[i64]) -> (Option<Affine>, Option<Affine>) {
        let usable: Vec<usize> = self.usable().collect();
        let pairs = usable.iter().enumerate().flat_map(|(i, &s)| usable[..i].iter().map(move |&t| (t, s)));
        let mut other = None;
        for form in pairs.filter_map(|(s, t)| self.plane(s, t, numbers)) {
            if form.terms.iter().all(|t| t.1 > 0) {
                return (Some(form), None);
            }
            other = other.or(Some(form));
        }
        (None, other)
    }

    /// `a * size + b`.
    fn line(&self, size: usize, numbers: &[i64]) -> Option<Affine> {
        let s = &self.sizes[size].values;
        let other = s.iter().position(|v| *v != s[0])?;
        let (dx, ds) = (numbers[other] - numbers[0], s[other] - s[0]);
        if dx % ds != 0 {
            return None;
        }
        let (a, b) = (dx / ds, numbers[0] - dx / ds * s[0]);
        s.iter().zip(numbers).all(|(s, n)| a * s + b == *n).then(|| self.form(size, a, b))
    }

    /// `a * s + b * t + c`.
    fn plane(&self, s: usize, t: usize, numbers: &[i64]) -> Option<Affine> {
        let (x, y) = (&self.sizes[s].values, &self.sizes[t].values);
        let row = |k: usize| (x[k] - x[0], y[k] - y[0], numbers[k] - numbers[0]);
        for k in 1..self.samples {
            for l in k + 1..self.samples {
                let ((x1, y1, n1), (x2, y2, n2)) = (row(k), row(l));
                let det = x1 * y2 - x2 * y1;
                if det == 0 {
                    continue;
                }
                let (a, b) = (n1 * y2 - n2 * y1, x1 * n2 - x2 * n1);
                if a % det != 0 || b % det != 0 {
                    return None;
                }
                let (a, b) = (a / det, b / det);
                let c = numbers[0] - a * x[0] - b * y[0];
                let holds = (0..self.samples).all(|k| a * x[k] + b * y[k] + c == numbers[k]);
                return holds.then(|| self.form(s, a, c).plus(&self.form(t, b, 0)));
            }
        }
        None
    }

    fn rule(&self, numbers: &[i64]) -> Option<(Derived, Option<(usize, i64)>)> {
        if too_large(numbers) {
            return None;
        }
        let usable: Vec<usize> = self.usable().collect();
        let holds = |d: &Derived| (0..self.samples).all(|k| self.value(d, k) == numbers[k]);
        let limited = usable.iter().flat_map(|&size| {
            let s = &self.sizes[size].values;
            [(Op::Min, numbers.iter().max()), (Op::Max, numbers.iter().min())].into_iter().flat_map(
                move |(op, limit)| {
                    let limit = limit.copied().unwrap_or(0);
                    let free = numbers.iter().zip(s).find(|(n, _)| **n != limit);
                    free.map(|(n, s)| Derived::Limited { size, offset: n - s, limit, op })
                },
            )
        });
        let products = usable.iter().flat_map(|&a| {
            usable.iter().filter_map(move |&b| {
                let (factor, offset) = self.quotient(a, b, numbers)?;
                Some(Derived::Product { a, b, factor, offset })
            })
        });
        if let Some(found) = limited.chain(products).find(|d| holds(d)) {
            return Some((found, None));
        }
        usable.iter().find_map(|&size| self.quotients(size, numbers))
    }

    /// The rule that holds in all samples.
    pub(super) fn rule_found(&self, numbers: &[i64]) -> Option<Derived> {
        self.rule(numbers).map(|(rule, _)| rule)
    }

    pub(super) fn derived(&mut self, numbers: &[i64]) -> Option<Derived> {
        let (rule, open) = self.rule(numbers)?;
        self.open.extend(open);
        if let Derived::Limited { limit, .. } = rule
            && numbers.iter().filter(|n| **n != limit).count() < MIN_SHOWN
        {
            self.limits.extend(usize::try_from(limit));
        }
        Some(rule)
    }

    /// The first quotient of a size that holds in all samples; and a value of the size for which another
    /// one that holds too gives something else.
    fn quotients(&self, size: usize, numbers: &[i64]) -> Option<(Derived, Option<(usize, i64)>)> {
        let values = &self.sizes[size].values;
        let candidates = (2..=MAX_DIVISOR).flat_map(|divisor| {
            (1..=3).flat_map(move |factor| {
                (0..divisor).map(move |rest| {
                    let first = (factor * values[0] + rest).div_euclid(divisor);
                    (factor, rest + divisor * (numbers[0] - first), divisor)
                })
            })
        });
        let at =
            |(factor, offset, divisor): (i64, i64, i64), v: i64| (factor * v + offset).div_euclid(divisor);
        let mut holding = candidates.filter(|&c| values.iter().zip(numbers).all(|(&v, &n)| at(c, v) == n));
        let first = holding.next()?;
        let most = values.iter().copied().max().unwrap_or(0).min(MAX_COMPARED);
        let differ = |c| (1..=most).find(|&v| self.sizes[size].may_be(v) && at(c, v) != at(first, v));
        let open = holding.find_map(differ);
        let (factor, offset, divisor) = first;
        Some((Derived::Divided { size, factor, offset, divisor }, open.map(|v| (size, v))))
    }

    /// Values of sizes that must be looked at: what they make of the numbers is not decided yet. For each
    /// the size that the caller chooses, and its value, the other sizes being at their bounds.
    pub fn undecided(&self) -> Vec<(usize, usize)> {
        let chosen = |open: &(usize, i64)| {
            let roots = (0..self.sizes.len()).filter(|&s| self.sizes[s].rule.is_none());
            roots.into_iter().find_map(|root| {
                let most = self.sizes[root].values[0].min(MAX_COMPARED);
                let may_be = |v: &i64| self.sizes[root].may_be(*v) && self.with(open.0, root, *v) == open.1;
                let value = (1..=most).find(may_be)?;
                Some((root, value as usize))
            })
        };
        let mut all: Vec<_> = self.open.iter().filter_map(chosen).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The value of a size where another has the given one, and all others are at their bounds.
    fn with(&self, size: usize, root: usize, value: i64) -> i64 {
        match (size == root, self.sizes[size].rule) {
            (true, _) => value,
            (_, None) => self.sizes[size].values[0],
            (_, Some(rule)) => rule.of(|s| self.with(s, root, value)),
        }
    }

    /// Factor and offset in `(factor * a + offset) * b`.
    fn quotient(&self, a: usize, b: usize, numbers: &[i64]) -> Option<(i64, i64)> {
        let by = &self.sizes[b].values;
        let whole = by.iter().zip(numbers).all(|(b, n)| *b != 0 && n % b == 0);
        let quotients: Vec<i64> = by.iter().zip(numbers).filter(|_| whole).map(|(b, n)| n / b).collect();
        let form = if whole { self.line(a, &quotients)? } else { return None };
        Some((form.terms.first()?.1, form.base))
    }

    fn value(&self, derived: &Derived, sample: usize) -> i64 {
        derived.of(|size| self.sizes[size].values[sample])
    }
}
