//! Which function of the sizes a number is: the first that holds in every sample.
//!
//! Affine functions of one size or two; products, limits and quotients. Where two quotients hold in all samples
//! but differ elsewhere ([`super::quotients`]), the sizes at which they do are noted, so that those become samples too.

use super::derived::Derived;
use super::fit::{Facts, too_large};
use super::quotients::Family;
use super::unlike;
use crate::base::{Affine, gcd};
use crate::error::Result;
use crate::scalar::Op;

/// In so many samples a size must lie on the other side of a limit.
const MIN_SHOWN: usize = 5;

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

    /// A product or a limit that holds in all samples.
    pub(super) fn rule(&self, numbers: &[i64]) -> Option<Derived> {
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
                Some(Derived::Product { a, b, factor, offset, by: (1, 0) })
            })
        });
        let pairs = usable.iter().enumerate().flat_map(|(i, &b)| usable[..i].iter().map(move |&a| (a, b)));
        let apart = pairs.filter_map(|(a, b)| self.product_of_forms(a, b, numbers));
        limited.chain(products).chain(apart).find(|d| holds(d))
    }

    /// Whether numbers can be a size: what computes one keeps it from 0 to what it is at the bounds.
    pub(super) fn is_size(&self, numbers: &[i64]) -> bool {
        let roots = || self.sizes.iter().filter(|s| s.rule.is_none() && s.factors.is_empty());
        let within = |k: &usize| roots().all(|root| root.values[*k] <= root.values[0]);
        !too_large(numbers)
            && (0..self.samples).filter(within).all(|k| (0..=numbers[0]).contains(&numbers[k]))
    }

    /// The rule that holds in all samples.
    pub(super) fn rule_found(&self, numbers: &[i64]) -> Option<Derived> {
        let rule = || self.rule(numbers).or_else(|| Family::plainest(&self.quotients(numbers)));
        self.is_size(numbers).then(rule).flatten()
    }

    /// The same, with what it leaves open noted; an error where nothing may be left.
    pub(super) fn derived(&mut self, numbers: &[i64]) -> Result<Option<Derived>> {
        if !self.is_size(numbers) {
            return Ok(None);
        }
        let Some(rule) = self.rule(numbers) else { return self.divided(numbers) };
        if let Derived::Limited { limit, .. } = rule
            && numbers.iter().filter(|n| **n != limit).count() < MIN_SHOWN
        {
            self.limits.extend(usize::try_from(limit));
        }
        Ok(Some(rule))
    }

    fn divided(&mut self, numbers: &[i64]) -> Result<Option<Derived>> {
        let families = self.quotients(numbers);
        let differing = self.differing(&families);
        if let Some(point) = differing.first().filter(|_| self.last) {
            let sizes: Vec<String> = point.iter().map(|(_, value)| value.to_string()).collect();
            return Err(unlike(&format!(
                "several quotients fit a number that depends on the sizes, and differ where they are {}",
                sizes.join(" and ")
            )));
        }
        self.open.extend(differing);
        Ok(Family::plainest(&families))
    }

    /// Factor and offset in `(factor * a + offset) * b`.
    fn quotient(&self, a: usize, b: usize, numbers: &[i64]) -> Option<(i64, i64)> {
        let by = &self.sizes[b].values;
        let whole = by.iter().zip(numbers).all(|(b, n)| *b != 0 && n % b == 0);
        let quotients: Vec<i64> = by.iter().zip(numbers).filter(|_| whole).map(|(b, n)| n / b).collect();
        let form = if whole { self.line(a, &quotients)? } else { return None };
        Some((form.terms.first()?.1, form.base))
    }

    /// A product of forms of two sizes: `p * a * b + q * a + r * b + s`, solved in floats; whether it holds is for the
    /// caller to see.
    fn product_of_forms(&self, a: usize, b: usize, numbers: &[i64]) -> Option<Derived> {
        let sizes = self.sizes[a].values.iter().zip(&self.sizes[b].values).zip(numbers);
        let mut rows: Vec<[f64; 5]> =
            sizes.map(|((&x, &y), &n)| [x * y, x, y, 1, n].map(|v| v as f64)).collect();
        for i in 0..4 {
            let largest = (i..rows.len()).max_by(|&k, &l| rows[k][i].abs().total_cmp(&rows[l][i].abs()))?;
            rows.swap(i, largest);
            let pivot = rows[i];
            if pivot[i].abs() < 1e-6 {
                return None;
            }
            for (_, row) in rows.iter_mut().enumerate().filter(|(k, _)| *k != i) {
                let by = row[i] / pivot[i];
                row.iter_mut().zip(pivot).for_each(|(v, p)| *v -= by * p);
            }
        }
        let [both, x, y, _] = [0, 1, 2, 3].map(|i| (rows[i][4] / rows[i][i]).round() as i64);
        if both == 0 || [both, x, y].iter().any(|n| n.abs() > i64::from(i32::MAX)) {
            return None;
        }
        let times = gcd(both, y).abs();
        let (factor, offset) = (both / times, y / times);
        Some(Derived::Product { a, b, factor, offset, by: (times, x / factor) })
    }

    fn value(&self, derived: &Derived, sample: usize) -> i64 {
        derived.of(|size| self.sizes[size].values[sample])
    }
}
